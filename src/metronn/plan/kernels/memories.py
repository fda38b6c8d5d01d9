"""What memories cost: LUTs as RAM, and block RAM."""

from __future__ import annotations

from metronn.plan.hardware.fabric import Fabric
from metronn.plan.hardware.resources import Resources

BLOCK_FROM_WORDS = 33
LUT_UP_TO_WORDS = 1024


def takes_block(words: int, width: int) -> tuple[bool, ...]:
    """Which memories may hold so many words: of LUTs (False), of block RAM (True), or either."""
    if words < BLOCK_FROM_WORDS:
        return (False,)
    return (True,) if words > LUT_UP_TO_WORDS else (False, True)


def block_parts(words: int, width: int, fabric: Fabric) -> int:
    """Parts of block RAM that hold so many words, all in the shape that takes the fewest."""
    return min(-(-words // deep) * -(-width // wide) for deep, wide in fabric.block_shapes)


def memory_resources(words: int, width: int, fabric: Fabric, *, block: bool, one_address: bool = False) -> Resources:
    """A memory with a port to write, one to read, and an output register; with `one_address` both at the same word.

    Where LUTs are no memories the words are in flip-flops.
    """
    if block:
        return Resources(bram36=block_parts(words, width, fabric) / 2)
    kinds = (one_address and fabric.one_port_lut_memories) or fabric.lut_memories
    if not kinds:
        return Resources(lut=width * fabric.mux_luts(words) + words, ff=(words + 1) * width)
    for deep, wide, luts in kinds:
        if words <= deep:
            return Resources(lut=luts * -(-width // wide), ff=width)
    deep, wide, luts = kinds[-1]
    parts = -(-words // deep)
    return Resources(lut=parts * luts * -(-width // wide) + width * fabric.mux_luts(parts) + parts, ff=width)
