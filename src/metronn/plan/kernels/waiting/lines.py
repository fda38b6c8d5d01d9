"""Delay lines: rows of registers and memories in which elements wait from the beat they come in to the one they leave.

Each cell takes what it holds from the wires or from the cell before it, so that no element is kept twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from metronn.plan.hardware.fabric import Fabric
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.timing import Span, StagePath, Timing
from metronn.plan.kernels.memories import memory_resources
from metronn.plan.kernels.waiting.pulses import Pulse

WIRE = -1
"""Number of the cell that is the input itself."""

LUT_SHIFT_FROM_CYCLES = 3
"""Shorter delays are flip-flops, also where LUTs are shift registers: as Yosys maps them."""

BRAM_LUTS = 300.0
"""LUTs one block RAM is worth where either would do: about what a device has of the one for each of the other."""


def word_cycles(*, block: bool) -> int:
    """Cycles from the pulse that takes a word out of a memory until its cell holds it.

    A word of block RAM is late in its cycle: it goes through the memory's output register, which costs nothing else.
    """
    return 2 if block else 1


@dataclass(frozen=True, slots=True)
class Register:
    """Takes `source` when `enable` pulses; without it in every cycle."""

    source: int
    enable: Pulse | None


@dataclass(frozen=True, slots=True)
class Shift:
    """What `source` was `cycles` ago: a shift register."""

    source: int
    cycles: int


@dataclass(frozen=True, slots=True)
class Ring:
    """A memory written in turn when `push` pulses; `pop` takes out the oldest, which is there `word_cycles` later.

    Both at once take the old word where they meet. Without pulses both happen in every cycle: what `source` was
    `depth + word_cycles` cycles ago.
    """

    source: int
    push: Pulse | None
    pop: Pulse | None
    depth: int
    block: bool


@dataclass(frozen=True, slots=True)
class Store:
    """A memory of `banks` events: push k of an event writes word k; pop k takes out word `words[k]`, as of a Ring."""

    push: Pulse
    pop: Pulse
    words: tuple[int, ...]
    banks: int
    block: bool

    @property
    def entries(self) -> int:
        """Words of one bank: a power of two."""
        return 1 << (len(self.push.at) - 1).bit_length()


Cell = Register | Shift | Ring | Store


def line_resources(cells: Sequence[Cell], width: int, fabric: Fabric) -> Resources:
    """Estimate the cells of a line of `width` bits, without pulses."""
    total = Resources()
    for cell in cells:
        match cell:
            case Register():
                total += Resources(ff=width)
            case Shift(cycles=cycles):
                total += shift_resources(cycles, width, fabric)
            case Ring(push=push, depth=depth, block=block):
                total += memory_resources(depth, width, fabric, block=block, one_address=push is None)
                pointer = (depth - 1).bit_length()
                spare = 0 if depth == 1 << pointer else 1
                pointers = 2 if push else 1
                total += Resources(ff=pointers * pointer, lut=pointers * (pointer + spare))
            case Store():
                total += memory_resources(cell.banks * cell.entries, width, fabric, block=cell.block)
                bits = (cell.entries - 1).bit_length()
                identity = cell.words == tuple(range(len(cell.words)))
                total += Resources(lut=0 if identity else bits * fabric.rom_luts(len(cell.words)))
                total += Resources(ff=2 * (cell.banks - 1).bit_length(), lut=2 * cell.banks)
    return total


def line_path(cells: Iterable[Cell], timing: Timing, choice: Span | None = None) -> StagePath:
    """Return the slowest path from the cells of lines on: through `choice`, or over a net to a register."""
    block = any(isinstance(cell, Ring | Store) and cell.block for cell in cells)
    behind = timing.arcs.net_ps if choice is None else choice.whole_ps
    what = "word of block RAM" if block else "register"
    return StagePath(
        what=f"{what} to register" if choice is None else f"{what} and choice",
        ps=(timing.arcs.block_ram_ps if block else 0) + behind,
    )


def shift_resources(cycles: int, width: int, fabric: Fabric) -> Resources:
    """A LUT per bit and what it delays, or part of it; flip-flops for a short rest, and where LUTs delay nothing."""
    if not fabric.lut_shift_cycles:
        return Resources(ff=width * cycles)
    full, rest = divmod(cycles, fabric.lut_shift_cycles)
    if rest < LUT_SHIFT_FROM_CYCLES:
        return Resources(lut=width * full, ff=width * rest)
    return Resources(lut=width * (full + 1))


def kept_bits(cells: Sequence[Cell], width: int) -> int:
    """Bits a line of `width` bits keeps: registers, shift registers, words of memories and their output registers."""
    bits = 0
    for cell in cells:
        match cell:
            case Register():
                bits += width
            case Shift(cycles=cycles):
                bits += cycles * width
            case Ring(depth=depth, block=block):
                bits += (depth + word_cycles(block=block)) * width
            case Store(block=block):
                bits += (cell.banks * len(cell.push.at) + word_cycles(block=block)) * width
    return bits


def cell_pulses(cells: Sequence[Cell]) -> tuple[list[Pulse], list[tuple[int, ...]]]:
    """Pulses the cells need, and the trains of which they need the numbers."""
    pulses: list[Pulse] = []
    counted: list[tuple[int, ...]] = []
    for cell in cells:
        match cell:
            case Register(enable=enable):
                pulses += [enable] if enable else []
            case Shift():
                pass
            case Ring(push=push, pop=pop):
                pulses += [pulse for pulse in (push, pop) if pulse]
            case Store():
                pulses += [cell.push, cell.pop]
                counted += [cell.push.at, cell.pop.at]
    return pulses, counted


def value(resources: Resources) -> float:
    """LUTs as good as these resources, to compare ways of building the same."""
    return resources.lut + resources.ff / 2 + BRAM_LUTS * resources.bram36
