"""What an integrator connects by, as constants: latency, II, widths, where every element is, parameters of links.

One description for each FPGA and one for the system; SystemVerilog, VHDL and C say the same names and numbers. Numbers
of one thing for each of its elements are a function of the element in SystemVerilog (Icarus has no unpacked constants),
an array in VHDL and C.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from metronn.emit.rtl.fpga import buffer_words, last_input_cycle, orbit_cycles, spread_cycles
from metronn.emit.rtl.port_names import port_names
from metronn.emit.tops import system_module, top_module
from metronn.ir.types import TensorType
from metronn.plan.design import Design, FpgaDesign, Frame, PortFrame, Segment, Signal
from metronn.plan.frames.packing import LANE_BITS
from metronn.plan.layout import Layout, Slot, wire_format


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant:
    """A whole number, or one for each element of a tensor: its name in capitals, and what it is."""

    name: str
    value: int | tuple[int, ...]
    meaning: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """The constants of one top module."""

    name: str
    about: str
    constants: tuple[Constant, ...]


def fpga_package(design: Design, fpga: FpgaDesign) -> Package:
    """Describe an FPGA: promises, ports, link ends."""
    found = _promises(design)
    found.append(_number("OFFSET_CYCLES", fpga.offset_cycles, "from valid_i of the first FPGA to local cycle 0 here"))
    if fpga.index == 0:
        found.append(_number("INPUT_CYCLES", last_input_cycle(design) + 1, "in which inputs are taken, valid_i on"))
    tensors: list[tuple[str, str, TensorType, Signal, int]] = []
    names = port_names(design)
    if fpga.index == 0:
        for node in design.graph.inputs:
            port = names.inputs[node.name]
            tensors.append((port, "valid_i", node.type, design.inputs[node.name], 0))
    if fpga is design.fpgas[-1]:
        valid = design.answer_cycle
        found.append(_number("VALID_CYCLES", fpga.offset_cycles + valid, "from valid_i of the first FPGA to valid_o"))
        for output in design.outputs:
            signal = fpga.signal[output.signal]
            port = names.outputs[output.name]
            tensors.append((port, "valid_o", design.graph.type_of(signal.value), signal, valid))
    words = _words([port for port, *_ in tensors])
    for port, start, tensor, signal, zero in tensors:
        frame = fpga.enters if start == "valid_i" else fpga.leaves
        if frame is None:
            found += _tensor(words[port], port, start, tensor, signal, zero)
        else:
            found += _in_words(words[port], port, start, tensor, signal, frame)
    for word, frame, start in (("WORDS_I", fpga.enters, "valid_i"), ("WORDS_O", fpga.leaves, "valid_o")):
        if frame is not None:
            found.append(
                _number(f"{word}_LANES", frame.lanes, f"of 64 bits, lane k on bits [64 k +: 64] of {word.lower()}")
            )
            found.append(
                _number(f"{word}_COUNT", frame.words, f"words of an event on each lane, the first with {start}")
            )
    if fpga.receives is not None or fpga.sends is not None:
        found.append(_number("ORBIT_CYCLES", orbit_cycles(design.system.clock_mhz), "of an orbit of the LHC"))
    if fpga.receives is not None:
        found += _link(design, fpga.receives, "RX")
    if fpga.sends is not None:
        found += _link(design, fpga.sends, "TX")
        found.append(_number("TX_SEND_CYCLE", fpga.sends.send_cycle, "local cycle in which word 0 enters the sender"))
    name = f"{top_module(design.prefix, fpga.name)}_pkg"
    about = f"{fpga.name}, FPGA {fpga.index + 1} of {len(design.fpgas)}"
    return Package(name=name, about=about, constants=tuple(found))


def system_package(design: Design) -> Package:
    """Describe the system: promises, and each link."""
    found = _promises(design)
    found.append(_number("FPGAS", len(design.fpgas), "in the chain"))
    sending = [fpga.sends for fpga in design.fpgas if fpga.sends is not None]
    if sending:
        found.append(_number("ORBIT_CYCLES", orbit_cycles(design.system.clock_mhz), "of an orbit of the LHC"))
    for frame in sending:
        found += _link(design, frame, f"LINK_{frame.link}")
    name = f"{system_module(design.prefix)}_pkg"
    return Package(name=name, about=f"the system of {len(design.fpgas)} FPGAs", constants=tuple(found))


def _words(ports: Iterable[str]) -> dict[str, str]:
    """Return capitals for each port that VHDL tells apart: no two underscores in a row, none at either end."""
    found: dict[str, str] = {}
    for port in ports:
        plain = "_".join(part for part in port.upper().split("_") if part)
        word, number = plain, 1
        while word in found.values():
            number += 1
            word = f"{plain}_{number}"
        found[port] = word
    return found


def _number(name: str, value: int, meaning: str) -> Constant:
    return Constant(name=name, value=value, meaning=meaning)


def _promises(design: Design) -> list[Constant]:
    end = "beat of all outputs" if design.fpgas[-1].leaves is None else "word of the results"
    return [
        _number("LATENCY_CYCLES", design.latency_cycles, f"from valid_i to the last {end}"),
        _number("II_CYCLES", design.ii_cycles, "least distance of two events"),
        _number("CLOCK_KHZ", round(1000 * design.system.clock_mhz), "of clk_i"),
    ]


def _tensor(word: str, port: str, start: str, tensor: TensorType, signal: Signal, zero: int) -> list[Constant]:
    """Describe a port: element k is on bits [LOW +: BITS] of it, CYCLE cycles after `start`; value = code / 2**FRAC."""
    layout, slots = signal.layout, wire_format(tensor, signal.layout).slots
    size = tensor.size
    cycle, low, bits, signed = [0] * size, [0] * size, [0] * size, [0] * size
    for beat, after in zip(layout.beats, layout.cycles, strict=True):
        for element, slot in zip(beat, slots, strict=False):
            cycle[element] = signal.first_cycle - zero + after
            low[element], bits[element], signed[element] = slot.offset, slot.width, int(slot.signed)
    each = f"of element k of {port}, in the order of its shape"
    return [
        _number(f"{word}_WIDTH", wire_format(tensor, layout).width, f"bits of {port}"),
        _number(f"{word}_ELEMENTS", size, f"of {port}"),
        _number(f"{word}_BEATS", layout.beat_count, f"of {port}"),
        Constant(name=f"{word}_CYCLE", value=tuple(cycle), meaning=f"cycles after {start} {each}"),
        Constant(name=f"{word}_LOW", value=tuple(low), meaning=f"lowest bit on the port {each}"),
        Constant(name=f"{word}_BITS", value=tuple(bits), meaning=f"bits on the port, extended to them, {each}"),
        Constant(name=f"{word}_SIGNED", value=tuple(signed), meaning=f"1: two's complement, 0: unsigned, {each}"),
        Constant(name=f"{word}_FRAC", value=_fracs(tensor), meaning=f"value = code / 2**FRAC, {each}"),
    ]


PART = (
    ("ELEMENT", "element"),
    ("LOW", "lowest bit of the element"),
    ("BITS", "bits"),
    ("WORD", "word, which is there so many cycles after {start},"),
    ("LANE", "lane"),
    ("BIT", "lowest bit of the lane's word"),
)
"""What is said of each part of an element that travels in words."""


def _in_words(word: str, name: str, start: str, tensor: TensorType, signal: Signal, frame: PortFrame) -> list[Constant]:
    """Describe what words carry of a tensor: elements in parts, each on neighbouring bits of one lane's word."""
    slots = wire_format(tensor, signal.layout).slots
    bits, signed = [0] * tensor.size, [0] * tensor.size
    for beat in signal.layout.beats:
        for element, slot in zip(beat, slots, strict=False):
            bits[element], signed[element] = slot.width, int(slot.signed)
    parts = sorted(part for s in frame.segments if s.value == signal.value for part in _parts(s, signal.layout, slots))
    each = f"of element k of {name}, in the order of its shape"
    return [
        _number(f"{word}_ELEMENTS", tensor.size, f"of {name}, which travels in words"),
        Constant(name=f"{word}_BITS", value=tuple(bits), meaning=f"bits in the words, extended to them, {each}"),
        Constant(name=f"{word}_SIGNED", value=tuple(signed), meaning=f"1: two's complement, 0: unsigned, {each}"),
        Constant(name=f"{word}_FRAC", value=_fracs(tensor), meaning=f"value = code / 2**FRAC, {each}"),
        _number(f"{word}_PARTS", len(parts), f"of elements of {name}: one each, more where words or lanes part them"),
        *(
            Constant(name=f"{word}_PART_{key}", value=value, meaning=f"{what.format(start=start)} of part k of {name}")
            for (key, what), value in zip(PART, zip(*parts, strict=True), strict=True)
        ),
    ]


def _parts(segment: Segment, layout: Layout, slots: Sequence[Slot]) -> Iterator[tuple[int, ...]]:
    """Yield the parts of elements in a segment of a word, as PART has them."""
    beat, end = layout.beats[segment.beat], segment.offset + segment.width
    first = bisect_right(slots, segment.offset, hi=len(beat), key=lambda slot: slot.offset) - 1
    for element, slot in zip(beat[first:], slots[first:], strict=False):
        low, high = max(slot.offset, segment.offset), min(slot.offset + slot.width, end)
        if low >= high:
            return
        at = segment.bit + low - segment.offset
        yield element, low - slot.offset, high - low, segment.word, segment.lane, at


def _fracs(tensor: TensorType) -> tuple[int, ...]:
    frac = tensor.range.frac
    return (frac,) * tensor.size if isinstance(frac, int) else tuple(frac)


def _link(design: Design, frame: Frame, word: str) -> list[Constant]:
    link = design.system.links[frame.link]
    return [
        _number(f"{word}_LANES", frame.lanes, f"of link {frame.link}"),
        _number(f"{word}_LANE_BITS", LANE_BITS, "bits of a lane's word: marker, valid, 64 of data"),
        _number(f"{word}_FRAME_WORDS", frame.words, "words of a frame on each lane"),
        _number(f"{word}_LATENCY_CYCLES", frame.latency_cycles, "from a word at the sender to the receiver's output"),
        _number(f"{word}_RAW_MIN_CYCLES", link.latency_min_cycles, "least raw latency from lane_o to lane_i"),
        _number(f"{word}_RAW_MAX_CYCLES", link.latency_max_cycles, "greatest raw latency from lane_o to lane_i"),
        _number(f"{word}_SPREAD_CYCLES", spread_cycles(link), "how far the arrival of a word varies, with the margin"),
        _number(f"{word}_BUFFER_WORDS", buffer_words(link), "depth of a lane's elastic buffer"),
    ]


def systemverilog(package: Package) -> str:
    """Return a SystemVerilog package."""
    lines = [f"/// Constants of {package.about}.", f"package {package.name};", ""]
    for constant in package.constants:
        lines.append(f"  // {constant.meaning}")
        if isinstance(constant.value, int):
            lines += [f"  localparam int {constant.name} = {constant.value};", ""]
            continue
        count, function = len(constant.value), constant.name.lower()
        literals = [f"-32'sd{-value}" if value < 0 else f"32'd{value}" for value in reversed(constant.value)]
        lines += [
            f"  localparam logic [{32 * count - 1}:0] {constant.name} = {{",
            *_rows(literals, "    "),
            "  };",
            f"  function automatic int {function}(input int element);",
            f"    {function} = {constant.name}[32*element +: 32];",
            "  endfunction",
            "",
        ]
    return "\n".join([*lines, "endpackage", ""])


def vhdl(package: Package) -> str:
    """Return a VHDL package."""
    lines = [f"-- Constants of {package.about}.", f"package {package.name} is", ""]
    lines += ["  type integers is array (natural range <>) of integer;", ""]
    for constant in package.constants:
        lines.append(f"  -- {constant.meaning}")
        if isinstance(constant.value, int):
            lines += [f"  constant {constant.name} : integer := {constant.value};", ""]
            continue
        count = len(constant.value)
        values = [f"0 => {constant.value[0]}"] if count == 1 else [str(value) for value in constant.value]
        lines += [f"  constant {constant.name} : integers(0 to {count - 1}) := (", *_rows(values, "    "), "  );", ""]
    return "\n".join([*lines, f"end package {package.name};", ""])


def header(package: Package) -> str:
    """Return a header for C and C++; all its names begin with that of the top."""
    guard = package.name.upper()
    prefix = guard.removesuffix("PKG")
    lines = [f"// Constants of {package.about}.", f"#ifndef {guard}_H", f"#define {guard}_H", ""]
    for constant in package.constants:
        lines.append(f"// {constant.meaning}")
        if isinstance(constant.value, int):
            lines += [f"enum {{ {prefix}{constant.name} = {constant.value} }};", ""]
            continue
        values = [str(value) for value in constant.value]
        lines += [f"static const int {prefix}{constant.name}[{len(values)}] = {{", *_rows(values, "    "), "};", ""]
    return "\n".join([*lines, f"#endif  // {guard}_H", ""])


def _rows(values: Sequence[str], indent: str) -> Iterable[str]:
    """Return values with commas between them, some a line."""
    for first in range(0, len(values), 12):
        row = ", ".join(values[first : first + 12])
        yield f"{indent}{row}{',' if first + 12 < len(values) else ''}"


def emit_constants(package: Package) -> dict[str, str]:
    """Return the three files by name."""
    return {
        f"{package.name}.sv": systemverilog(package),
        f"{package.name}.vhd": vhdl(package),
        f"{package.name}.h": header(package),
    }
