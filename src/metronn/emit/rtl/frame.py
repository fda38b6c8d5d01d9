"""SystemVerilog of a frame's two ends: signals into words on one FPGA, words into signals on the next, or at the edge.

Both are paths: some bits of a source go to some bits of a target in some cycles, straight or after a wait. What only
one path leads to is a wire; where several meet, each is let through in its own cycles.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from metronn.emit.rtl.pulse_trains import train_text
from metronn.emit.rtl.text import comment
from metronn.emit.tops import module_name
from metronn.plan.design import Design, FpgaDesign
from metronn.plan.frames.paths import WORDS, Path, Storage, receiver_paths, ring_block, sender_paths
from metronn.plan.frames.signals import AnyFrame, PortFrame
from metronn.plan.layout import wire_format


@dataclass(frozen=True, slots=True)
class FramePort:
    """A vector of the module: its name in paths, its name as a port, its bits."""

    key: str
    name: str
    width: int


@dataclass(slots=True)
class _Pulses:
    """Pulse trains of the module, each made once, and the event pulses they start from."""

    taps: list[int]
    names: dict[tuple[int, ...], str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def name(self, cycles: Sequence[int]) -> str:
        """Return the wire that is high in these local cycles of an event."""
        key = tuple(cycles)
        if key not in self.names:
            start = f"at_i[{self.taps.index(key[0])}]"
            if len(key) == 1:
                self.names[key] = start
            else:
                name = f"train_{len(self.names)}"
                self.lines += train_text(name, start, [cycle - key[0] for cycle in key])
                self.names[key] = name
        return self.names[key]


def frame_out_taps(fpga: FpgaDesign, frame: AnyFrame) -> list[int]:
    """Local cycles whose event pulses `emit_frame_out` needs, in the order of its port `at_i`."""
    return _taps(sender_paths(frame, fpga.signal), gated=True)


def frame_in_taps(frame: AnyFrame) -> list[int]:
    """Local cycles whose event pulses `emit_frame_in` needs, in the order of its port `at_i`."""
    return _taps(receiver_paths(frame), gated=False)


def _taps(paths: Sequence[Path], *, gated: bool) -> list[int]:
    alone = _alone(paths)
    found = set()
    for path in paths:
        if path.storage is not Storage.WIRE:
            found.add(path.arrive[0])
        if path.storage is Storage.RING:
            found.add(_ring_reads(path)[0])
        if gated or path not in alone:
            found.add(path.leave[0])
    return sorted(found)


def _alone(paths: Iterable[Path]) -> set[Path]:
    """Paths none of whose target bits another path leads to."""
    by_target: dict[str, list[Path]] = {}
    for path in paths:
        by_target.setdefault(path.target, []).append(path)
    found: set[Path] = set()
    for same in by_target.values():
        same.sort(key=lambda path: path.target_bit)
        end = 0
        for k, path in enumerate(same):
            own_end = path.target_bit + path.width
            following = same[k + 1].target_bit if k + 1 < len(same) else own_end
            if path.target_bit >= end and following >= own_end:
                found.add(path)
            end = max(end, own_end)
    return found


def emit_frame_out(design: Design, fpga: FpgaDesign, frame: AnyFrame) -> str:
    """Return the module that makes the words of a frame. Bits of the words that carry nothing are 0."""
    sources = [FramePort(f.source, f"s_{f.source}_i", _width(design, f.value, frame)) for f in frame.fields]
    what = (
        f"Words of the results of {fpga.name}"
        if isinstance(frame, PortFrame)
        else f"Words of the frame {fpga.name} sends"
    )
    contract = [f"{what}: {frame.words} words on {frame.lanes} lanes, word 0 in local cycle {frame.send_cycle}."]
    return _module(
        module_name(design.prefix, fpga.name, "frame_out"),
        contract,
        sources,
        [FramePort(WORDS, "word_o", frame.form.bits * frame.lanes)],
        sender_paths(frame, fpga.signal),
        gated=True,
    )


def emit_frame_in(design: Design, fpga: FpgaDesign, frame: AnyFrame) -> str:
    """Return the module that makes signals of the words of a frame."""
    targets = [FramePort(f.target, f"s_{f.target}_o", _width(design, f.value, frame)) for f in frame.fields]
    what = f"Inputs of {fpga.name}" if isinstance(frame, PortFrame) else f"Signals of the frame {fpga.name} receives"
    contract = [f"{what}: word k is on word_i in local cycle k."]
    return _module(
        module_name(design.prefix, fpga.name, "frame_in"),
        contract,
        [FramePort(WORDS, "word_i", frame.form.bits * frame.lanes)],
        targets,
        receiver_paths(frame),
        gated=False,
    )


def _width(design: Design, value: str, frame: AnyFrame) -> int:
    (layout,) = (f.layout for f in frame.fields if f.value == value)
    return wire_format(design.graph.type_of(value), layout).width


def _module(
    name: str,
    contract: list[str],
    sources: list[FramePort],
    targets: list[FramePort],
    paths: Sequence[Path],
    *,
    gated: bool,
) -> str:
    """Return a module. `gated`: target bits are 0 in all cycles in which no path leads to them."""
    taps = _taps(paths, gated=gated)
    pulses = _Pulses(taps)
    source = {port.key: port for port in sources}
    kept: list[str] = []
    ends = []
    for number, path in enumerate(paths):
        port = source[path.source]
        bits = port.name if path.width == port.width else f"{port.name}[{path.source_bit} +: {path.width}]"
        waiting, text = _kept(f"path_{number}_q", path, bits, pulses)
        kept += waiting
        ends.append((path, text))
    body: list[str] = []
    for target in targets:
        body += _target(target, [end for end in ends if end[0].target == target.key], pulses, gated=gated)
    lines = [f"  input  wire [{max(1, len(taps)) - 1}:0] at_i,  // event pulses of local cycles: {_listed(taps)}"]
    lines += [f"  input  wire [{port.width - 1}:0] {port.name}," for port in sources]
    lines += [f"  output logic [{port.width - 1}:0] {port.name}," for port in targets]
    lines[-1] = lines[-1].rstrip(",")
    unused = ["clk_i", "rst_i", "at_i", *(port.name for port in sources)]
    head = ["  input  wire clk_i,", "  input  wire rst_i,"]
    tail = ["", "  logic unused_inputs;", f"  assign unused_inputs = ^{{{', '.join(unused)}}};"]
    inside = [*pulses.lines, *kept, "", *body, *tail]
    text = "\n".join([f"module {name} (", *head, *lines, ");", "", *inside, "", "endmodule"])
    return comment(contract) + f"`default_nettype none\n\n{text}\n\n`default_nettype wire\n"


def _listed(taps: Sequence[int]) -> str:
    shown = ", ".join(map(str, taps[:12]))
    return f"{shown}, ... {taps[-1]}" if len(taps) > 12 else shown or "none"


def _kept(name: str, path: Path, bits: str, pulses: _Pulses) -> tuple[list[str], str]:
    """Return what keeps a path's bits, and the name under which they leave."""
    match path.storage:
        case Storage.WIRE:
            return [], bits
        case Storage.REGISTER:
            return [
                f"  logic [{path.width - 1}:0] {name};",
                f"  always_ff @(posedge clk_i) if ({pulses.name(path.arrive)}) {name} <= {bits};",
            ], name
        case Storage.RING:
            return [
                f"  wire [{path.width - 1}:0] {name};  // {path.leave[0] - path.arrive[0]} cycles",
                "  mnn_ring #(",
                f"    .Width({path.width}),",
                f"    .Depth({path.depth}),",
                f"    .Block({int(ring_block(path.width, path.depth))})",
                f"  ) u_{name.removesuffix('_q')} (",
                "    .clk_i,",
                "    .rst_i,",
                f"    .write_i({pulses.name(path.arrive)}),",
                f"    .data_i({bits}),",
                f"    .read_i({pulses.name(_ring_reads(path))}),",
                f"    .data_o({name})",
                "  );",
            ], name


def _ring_reads(path: Path) -> list[int]:
    """Local cycles in which a path's ring is read: block RAM has one register more."""
    ahead = 2 if ring_block(path.width, path.depth) else 1
    return [cycle - ahead for cycle in path.leave]


def _target(port: FramePort, ends: Sequence[tuple[Path, str]], pulses: _Pulses, *, gated: bool) -> list[str]:
    """Join the paths that lead to a port."""
    alone = set() if gated else _alone([path for path, _ in ends])
    lines = ["  always_comb begin", f"    {port.name} = {port.width}'d0;"]
    for path, text in ends:
        bits = port.name if path.width == port.width else f"{port.name}[{path.target_bit} +: {path.width}]"
        if path in alone:
            lines.append(f"    {bits} = {text};")
        else:
            lines.append(f"    {bits} = {bits} | ({{{path.width}{{{pulses.name(path.leave)}}}}} & {text});")
    return [*lines, "  end", ""]
