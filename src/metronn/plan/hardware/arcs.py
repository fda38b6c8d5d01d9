"""What the steps of a path take on a device of one speed grade, in picoseconds. Read from `timings/`, never assumed.

A path goes from register to register. It begins with a net, whose time includes the register that drives it; every LUT
is followed by another net; what the slice joins by itself is no net: a LUT and the carry chain behind it, carry to
carry, carry to the register beside it. Planner (`timing`) and measurement (`verify.paths`) add up the same steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

CARRY_BITS = 8
"""Bits of an addition that `carry_ps` is for."""

LOCAL_LOADS, WIDE_LOADS = 64, 512
"""Loads up to which a net takes `net_ps`, and up to which it takes `wide_net_ps` more; above, it takes twice that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Arcs:
    """Steps of paths.

    `net_ps`: a net and the LUT or register that drives it; `wide_net_ps`: what one of more than LOCAL_LOADS loads takes
    beyond. `carry_entry_ps`: the LUT in front of a carry chain, into the chain and out of it; `carry_ps`: CARRY_BITS
    bits of it. `dsp_ps`: from the clock to the output of a DSP block with its output register, beyond what `net_ps` has
    of a register; `dsp_bare_ps`: without that register, or through the block's multiplier; `dsp_period_ps`: shortest
    clock period of a block that uses all registers. `block_ram_ps`, `block_ram_bare_ps`: from the clock to the output
    of block RAM, with and without its output register. `overhead_ps`: setup, skew and uncertainty of the clock.
    """

    net_ps: int
    wide_net_ps: int
    carry_entry_ps: int
    carry_ps: int
    dsp_ps: int
    dsp_bare_ps: int
    dsp_period_ps: int
    block_ram_ps: int
    block_ram_bare_ps: int
    overhead_ps: int

    def wide_ps(self, loads: int) -> int:
        """Return what a net takes beyond `net_ps` for its number of loads."""
        return self.wide_net_ps * ((loads > LOCAL_LOADS) + (loads > WIDE_LOADS))

    def chain_ps(self, width_bits: int) -> int:
        """Return what a carry chain of so many bits takes, with the LUT in front of it."""
        return self.carry_entry_ps + -(-width_bits // CARRY_BITS) * self.carry_ps

    def sum_ps(self, width_bits: int) -> int:
        """Return what adding two numbers takes, from the driver of the operands to a sum of so many bits."""
        return self.net_ps + self.chain_ps(width_bits)


def slowest(arcs: Iterable[Arcs]) -> Arcs:
    """Return the arcs that a design on several devices plans by: of each step the longest."""
    found = tuple(arcs)
    return Arcs(**{item.name: max(getattr(some, item.name) for some in found) for item in fields(Arcs)})
