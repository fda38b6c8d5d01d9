"""What a device is built of, as kernels see it: LUTs, multipliers and memories. Read from `devices/`, never assumed.

A kernel's structure and its cost come from the same `Fabric`: how many weights share a multiplier, which table is block
RAM, how many LUTs choose one of many.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

LutMemory = tuple[int, int, int]
"""Words, bits and LUTs of a memory of LUTs."""

BlockShape = tuple[int, int]
"""Words and bits of a part of a block RAM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Multiplier:
    """A signed multiplier that a DSP block may be: bits of its ports, the wider one first, and how many a block has."""

    wide: int
    narrow: int
    per_block: int

    def holds(self, long: int, short: int) -> bool:
        """Whether one takes a signed `long`-bit number at the wide port and a `short`-bit one at the other."""
        return long <= self.wide and short <= self.narrow

    def parts(self, x_bits: int, y_bits: int) -> int:
        """Multipliers of a product of two signed numbers: a wider one is cut, and every part but one needs a sign."""
        long, short = max(x_bits, y_bits), min(x_bits, y_bits)
        return max(1, -(-(long - 1) // (self.wide - 1))) * max(1, -(-(short - 1) // (self.narrow - 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Fabric:
    """What kernels are built of.

    `lut_inputs`: inputs of a LUT; `joined_lut_inputs`: of the widest function that LUTs make with the multiplexers
    beside them, in one level. `adder_takes_logic`: the LUT of a bit of an addition is also that of the logic before it;
    else that logic, and the addition of a constant, take LUTs of their own. `lut_shift_cycles`: cycles a LUT delays one
    bit as a shift register, 0 where none does. `lut_memories`: memories of LUTs that are written at one word and read
    at another, the fewest words first; `one_port_lut_memories`: those read where they are written. `multipliers`: what
    a DSP block may be, one at a time. `least_product_bits`: narrower products are LUTs. `block_shapes`: what the
    smallest part of block RAM that is used by itself may be; two of them are a unit of `Resources.bram36`.
    """

    lut_inputs: int
    joined_lut_inputs: int
    adder_takes_logic: bool
    lut_shift_cycles: int
    lut_memories: tuple[LutMemory, ...]
    one_port_lut_memories: tuple[LutMemory, ...]
    multipliers: tuple[Multiplier, ...]
    least_product_bits: int
    block_shapes: tuple[BlockShape, ...]

    @property
    def select_bits(self) -> int:
        """Bits that choose among the inputs of the largest multiplexer in one LUT: 1 for LUTs of 4, 2 of 6 inputs."""
        return max(bits for bits in range(1, self.lut_inputs) if (1 << bits) + bits <= self.lut_inputs)

    @property
    def mux_inputs(self) -> int:
        """Inputs of the largest multiplexer in one LUT."""
        return 1 << self.select_bits

    def mux_luts(self, choices: int) -> int:
        """LUTs per bit of a choice: those of the first level where multiplexers beside the LUTs join them, else all."""
        if choices <= 1:
            return 0
        if self.joined_lut_inputs > self.lut_inputs:
            return -(-choices // self.mux_inputs)
        return -(-(choices - 1) // (self.mux_inputs - 1))

    def rom_luts(self, entries: int) -> int:
        """LUTs of one bit chosen by a number below `entries`; multiplexers beside them join several."""
        return -(-entries >> self.lut_inputs)

    def lut_memory(self, words: int, kinds: tuple[LutMemory, ...]) -> LutMemory:
        """Return the memory of LUTs that holds so many words: the smallest of the kinds, or several of the largest."""
        for kind in kinds:
            if words <= kind[0]:
                return kind
        deep, wide, luts = kinds[-1]
        parts = -(-words // deep)
        return parts * deep, wide, parts * luts + wide * self.mux_luts(parts) + parts

    def packed_share(self, weight_bits: int, x_bits: int) -> Fraction | None:
        """DSP blocks of a product that is one multiplier, the weight at its wide port; None where none is so wide."""
        shares = [Fraction(1, kind.per_block) for kind in self.multipliers if kind.holds(weight_bits, x_bits)]
        return min(shares, default=None)

    def share(self, x_bits: int, y_bits: int) -> Fraction:
        """DSP blocks of one of many equal products."""
        return min(Fraction(kind.parts(x_bits, y_bits), kind.per_block) for kind in self.multipliers)

    def dsp_blocks(self, products: int, x_bits: int, y_bits: int) -> int:
        """DSP blocks of so many products of signed numbers of these widths."""
        return -(-products * self.share(x_bits, y_bits) // 1)


def common(fabrics: Iterable[Fabric]) -> Fabric:
    """Return what every one of the fabrics can be, for designs on several: nothing costs less than on any of them."""
    found = tuple(dict.fromkeys(fabrics))
    if len(found) == 1:
        return found[0]
    return Fabric(
        lut_inputs=min(fabric.lut_inputs for fabric in found),
        joined_lut_inputs=min(fabric.joined_lut_inputs for fabric in found),
        adder_takes_logic=all(fabric.adder_takes_logic for fabric in found),
        lut_shift_cycles=min(fabric.lut_shift_cycles for fabric in found),
        lut_memories=_common_memories([(fabric, fabric.lut_memories) for fabric in found]),
        one_port_lut_memories=_common_memories([(fabric, fabric.one_port_lut_memories) for fabric in found]),
        multipliers=_common_multipliers([fabric.multipliers for fabric in found]),
        least_product_bits=min(fabric.least_product_bits for fabric in found),
        block_shapes=_common_blocks([fabric.block_shapes for fabric in found]),
    )


def _common_memories(kinds_of: list[tuple[Fabric, tuple[LutMemory, ...]]]) -> tuple[LutMemory, ...]:
    """For every number of words: the fewest bits and the most LUTs of what holds them; none where one has none."""
    if not all(kinds for _, kinds in kinds_of):
        return ()
    made = []
    for words in sorted({words for _, kinds in kinds_of for words, _, _ in kinds}):
        taken = [fabric.lut_memory(words, kinds) for fabric, kinds in kinds_of]
        made.append((words, min(bits for _, bits, _ in taken), max(luts for _, _, luts in taken)))
    return tuple(made)


def _common_multipliers(all_kinds: list[tuple[Multiplier, ...]]) -> tuple[Multiplier, ...]:
    """For one kind of each: the narrowest ports, and the fewest in a block."""
    made = [
        Multiplier(
            wide=min(kind.wide for kind in chosen),
            narrow=min(kind.narrow for kind in chosen),
            per_block=min(kind.per_block for kind in chosen),
        )
        for chosen in product(*all_kinds)
    ]
    return tuple(dict.fromkeys(made))


def _common_blocks(all_shapes: list[tuple[BlockShape, ...]]) -> tuple[BlockShape, ...]:
    """For every number of words: the fewest bits of what holds them."""
    made = []
    for words in sorted({words for shapes in all_shapes for words, _ in shapes}):
        widest = [max((bits for deep, bits in shapes if deep >= words), default=0) for shapes in all_shapes]
        if min(widest):
            made.append((words, min(widest)))
    return tuple(made)
