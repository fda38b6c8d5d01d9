"""What memories cost: LUTs as RAM, and block RAM."""

from __future__ import annotations

from metronn.plan.resources import Resources

LUT_RAM = ((32, 14, 8), (64, 7, 8), (128, 1, 4), (256, 1, 8))
"""Words, bits and LUTs of distributed RAMs: RAM32M16, RAM64M8, RAM128X1D, RAM256X1D (AMD UG574)."""

LUT_RAM_ONE_ADDRESS = ((64, 1, 1), (128, 1, 2), (256, 1, 4), (512, 1, 8))
"""The same where the word that is written is the one that is read: RAM64X1S to RAM512X1S."""

BLOCK_SHAPES = ((512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1))
"""Words and bits of half a block RAM (AMD UG573)."""

BLOCK_FROM_WORDS = 33
LUT_UP_TO_WORDS = 1024


def takes_block(words: int, width: int) -> tuple[bool, ...]:
    """Which memories may hold so many words: of LUTs (False), of block RAM (True), or either."""
    if words < BLOCK_FROM_WORDS:
        return (False,)
    return (True,) if words > LUT_UP_TO_WORDS else (False, True)


def memory_resources(words: int, width: int, *, block: bool, one_address: bool = False) -> Resources:
    """A memory with a port to write, one to read, and an output register; with `one_address` both at the same word."""
    if block:
        halves = min(-(-words // deep) * -(-width // wide) for deep, wide in BLOCK_SHAPES)
        return Resources(bram36=halves / 2)
    kinds = LUT_RAM_ONE_ADDRESS if one_address else LUT_RAM
    for deep, wide, luts in kinds:
        if words <= deep:
            return Resources(lut=luts * -(-width // wide), ff=width)
    deep, wide, luts = kinds[-1]
    parts = -(-words // deep)
    return Resources(lut=parts * luts * -(-width // wide) + width * mux_luts(parts) + parts, ff=width)


def mux_luts(choices: int) -> int:
    """LUTs per bit of a choice: four inputs and their number in each, joined by the multiplexers F7 to F9."""
    return 0 if choices <= 1 else -(-choices // 4)
