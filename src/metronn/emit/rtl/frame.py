"""SystemVerilog of a frame's two ends: signals into lane words on one FPGA, lane words into signals on the next."""

from __future__ import annotations

from metronn.emit.rtl.text import comment, identifier
from metronn.plan.design import Design, FpgaDesign, Frame, Segment
from metronn.plan.frames import WORD_BITS, beat_bits
from metronn.plan.layout import WireFormat, wire_format


def _kept_beats(fpga: FpgaDesign, frame: Frame) -> list[tuple[str, int]]:
    """Beats (source signal, beat) of which some bits are sent later than they are there: they are kept in registers."""
    source = {field.value: field.source for field in frame.fields}
    kept = dict.fromkeys(
        (source[s.value], s.beat)
        for s in frame.segments
        if fpga.signal[source[s.value]].first_cycle + s.beat < frame.send_cycle + s.word
    )
    return list(kept)


def frame_out_taps(fpga: FpgaDesign, frame: Frame) -> list[int]:
    """Local cycles whose event pulses the frame needs: the sending cycle, then one per kept beat."""
    return [frame.send_cycle, *(fpga.signal[name].first_cycle + beat for name, beat in _kept_beats(fpga, frame))]


def frame_in_taps(fpga: FpgaDesign, frame: Frame) -> list[int]:
    """Local cycles whose event pulses the frame needs: one per word, then the first beat of every field."""
    del fpga
    return [*range(frame.words), *(field.target_first_cycle for field in frame.fields)]


def _wires(design: Design, frame: Frame) -> dict[str, WireFormat]:
    return {f.value: wire_format(design.graph.type_of(f.value), f.layout) for f in frame.fields}


def _phase(prefix: str, pulse: str, count: int) -> list[str]:
    """Return a counter that is 0 in the cycle of the pulse and rests at its last value."""
    bits = max(1, (count - 1).bit_length())
    last = f"{bits}'d{count - 1}"
    return [
        f"  logic [{bits - 1}:0] {prefix}_q;",
        f"  wire  [{bits - 1}:0] {prefix} = {pulse} ? {bits}'d0 : {prefix}_q;",
        "  always_ff @(posedge clk_i) begin",
        f"    {prefix}_q <= rst_i ? {last} : ({prefix} == {last}) ? {last} : {prefix} + {bits}'d1;",
        "  end",
        "",
    ]


def emit_frame_out(design: Design, fpga: FpgaDesign, frame: Frame) -> str:
    """Return the module that makes the words of a frame."""
    source = {field.value: field.source for field in frame.fields}
    wires = _wires(design, frame)
    kept = _kept_beats(fpga, frame)
    taps = frame_out_taps(fpga, frame)
    lines = [f"  input  wire [{len(taps) - 1}:0] at_i,  // event pulses of local cycles {', '.join(map(str, taps))}"]
    lines += [f"  input  wire [{wires[f.value].width - 1}:0] s_{f.source}_i," for f in frame.fields]
    lines.append(f"  output logic [{WORD_BITS * frame.lanes - 1}:0] word_o")
    body: list[str] = []
    layout = {field.source: (field.layout, wires[field.value]) for field in frame.fields}
    for k, (name, beat) in enumerate(kept):
        beats, wire = layout[name]
        bits = beat_bits(wire, len(beats.beats[beat]))
        body += [
            f"  logic [{bits - 1}:0] {name}_beat_{beat}_q;",
            f"  always_ff @(posedge clk_i) if (at_i[{k + 1}]) {name}_beat_{beat}_q <= s_{name}_i[{bits - 1}:0];",
        ]
    body += ["", *_phase("word", "at_i[0]", frame.words)]
    words = []
    for word in range(frame.words):
        parts = []
        for segment in sorted((s for s in frame.segments if s.word == word), key=lambda s: (s.lane, s.bit)):
            name = source[segment.value]
            live = fpga.signal[name].first_cycle + segment.beat == frame.send_cycle + word
            vector = f"s_{name}_i" if live else f"{name}_beat_{segment.beat}_q"
            parts.append((segment, f"{vector}[{segment.offset} +: {segment.width}]"))
        words.append(_concatenation(parts, WORD_BITS * frame.lanes))
    bits = max(1, (frame.words - 1).bit_length())
    body += ["  always_comb begin", "    unique case (word)"]
    body += [f"      {bits}'d{k}: word_o = {text};" for k, text in enumerate(words[:-1])]
    body += [f"      default: word_o = {words[-1]};", "    endcase", "  end"]
    unused = [f"s_{field.source}_i" for field in frame.fields]
    name = f"{identifier(fpga.name)}_frame_out"
    contract = [
        f"Words of the frame {fpga.name} sends: {frame.words} words on {frame.lanes} lanes, word 0 with at_i[0]."
    ]
    return _module(name, contract, lines, body, ["at_i", *unused])


def _concatenation(parts: list[tuple[Segment, str]], width: int) -> str:
    """Return the bits of one word of all lanes, gaps filled with zeros."""
    texts: list[str] = []
    position = 0
    for segment, text in parts:
        start = segment.lane * WORD_BITS + segment.bit
        if start > position:
            texts.append(f"{start - position}'d0")
        texts.append(text)
        position = start + segment.width
    if position < width:
        texts.append(f"{width - position}'d0")
    return "{" + ", ".join(reversed(texts)) + "}"


def emit_frame_in(design: Design, fpga: FpgaDesign, frame: Frame) -> str:
    """Return the module that makes signals of the words of a frame."""
    wires = _wires(design, frame)
    taps = frame_in_taps(fpga, frame)
    width = WORD_BITS * frame.lanes
    first = {field.value: field.target_first_cycle for field in frame.fields}
    kept = sorted({s.word for s in frame.segments if first[s.value] + s.beat > s.word})
    lines = [
        f"  input  wire [{len(taps) - 1}:0] at_i,  // event pulses of local cycles {', '.join(map(str, taps))}",
        f"  input  wire [{width - 1}:0] word_i,",
    ]
    lines += [f"  output logic [{wires[f.value].width - 1}:0] s_{f.target}_o," for f in frame.fields]
    lines[-1] = lines[-1].rstrip(",")
    body: list[str] = []
    for word in kept:
        body += [
            f"  logic [{width - 1}:0] word_{word}_q;",
            f"  always_ff @(posedge clk_i) if (at_i[{word}]) word_{word}_q <= word_i;",
        ]
    body.append("")
    for k, field in enumerate(frame.fields):
        count = field.layout.beat_count
        beats = []
        for beat in range(count):
            parts = []
            own = [s for s in frame.segments if s.value == field.value and s.beat == beat]
            for segment in sorted(own, key=lambda s: s.offset):
                live = first[field.value] + beat == segment.word
                start = segment.lane * WORD_BITS + segment.bit
                parts.append(f"{'word_i' if live else f'word_{segment.word}_q'}[{start} +: {segment.width}]")
            missing = wires[field.value].width - sum(s.width for s in own)
            text = ", ".join(reversed(parts))
            beats.append(f"{{{missing}'d0, {text}}}" if missing else f"{{{text}}}")
        if count == 1:
            body += [f"  assign s_{field.target}_o = {beats[0]};", ""]
            continue
        bits = max(1, (count - 1).bit_length())
        body += _phase(f"beat_{k}", f"at_i[{frame.words + k}]", count)
        body += ["  always_comb begin", f"    unique case (beat_{k})"]
        body += [f"      {bits}'d{b}: s_{field.target}_o = {text};" for b, text in enumerate(beats[:-1])]
        body += [f"      default: s_{field.target}_o = {beats[-1]};", "    endcase", "  end", ""]
    unused = ["at_i", "word_i", "rst_i", *(f"word_{word}_q" for word in kept)]
    contract = [f"Signals of the frame {fpga.name} receives: word k is on word_i with at_i[k]."]
    return _module(f"{identifier(fpga.name)}_frame_in", contract, lines, body, unused)


def _module(name: str, contract: list[str], ports: list[str], body: list[str], unused: list[str]) -> str:
    head = ["  input  wire clk_i,", "  input  wire rst_i,"]
    tail = ["", "  logic unused_inputs;", f"  assign unused_inputs = ^{{{', '.join(unused)}}};"]
    text = [f"module {name} (", *head, *ports, ");", "", *body, *tail, "", "endmodule"]
    return comment(contract) + "`default_nettype none\n\n" + "\n".join(text) + "\n\n`default_nettype wire\n"
