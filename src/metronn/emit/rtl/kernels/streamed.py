"""Streamed kernels in SystemVerilog: the inner kernel's module once, and a wrapper that feeds its instances."""

from __future__ import annotations

from collections.abc import Callable

from metronn.emit.rtl.pulse_trains import train_text
from metronn.emit.rtl.slots import part
from metronn.emit.rtl.text import module_text
from metronn.plan.kernels.spec import Streamed
from metronn.plan.kernels.streamed import InnerKernel, PlannedStreamed, counts_phases, slots_by_beat
from metronn.plan.layout import Layout, Slot, WireFormat, wire_format

EmitKernel = Callable[[InnerKernel, str], str]


def emit_streamed(kernel: PlannedStreamed, module_name: str, emit_inner: EmitKernel) -> str:
    """Return the wrapper, module `module_name`, and behind it the inner kernel's module `<module_name>_core`.

    The wrapper's ports are clk_i, rst_i, start_i, x0_i, ..., y_o as those of every kernel. `emit_inner` writes the
    module of the inner kernel.
    """
    spec, graph, own, core = kernel.spec, kernel.graph, kernel.slice, f"{module_name}_core"
    result = kernel.result
    y_wires = wire_format(graph.type_of(result), own.output)
    inner_layout = kernel.inner.output
    inner_wires = wire_format(own.graph.type_of(result), inner_layout)
    body: list[str] = []
    if counts_phases(spec):
        body += train_text("go", "start_i", own.starts)
    ports: list[tuple[str, int]] = []
    feeds: list[list[str]] = [[] for _ in range(spec.copies)]
    inner_inputs = dict(kernel.inner.inputs)
    for number, (name, layout) in enumerate(kernel.inputs):
        outer = wire_format(graph.type_of(name), layout)
        inner = wire_format(own.graph.type_of(name), inner_inputs[name])
        ports.append((f"x{number}_i", outer.width))
        place = list(inner_inputs).index(name)
        count = len(inner.slots)
        if len(outer.slots) != count * spec.copies:
            raise ValueError(f"{name}: {len(outer.slots)} slots for {spec.copies} copies of {count}")
        for copy, feed in enumerate(feeds):
            mine = outer.slots[copy * count : (copy + 1) * count]
            wire = f"x{place}_{copy}"
            taken = _adapted(f"x{number}_i", outer, mine, inner)
            body.append(f"  wire [{inner.width - 1}:0] {wire} = {taken};")
            feed.append(f".x{place}_i({wire})")
    idle = ["clk_i", "rst_i", "start_i"]
    for copy, feed in enumerate(feeds):
        body += [
            f"  wire [{inner_wires.width - 1}:0] y_{copy};",
            f"  {core} u_core_{copy} (",
            "    .clk_i(clk_i),",
            "    .rst_i(rst_i),",
            f"    .start_i({'go' if counts_phases(spec) else 'start_i'}),",
            *(f"    {text}," for text in feed),
            f"    .y_o(y_{copy})",
            "  );",
            "",
        ]
        idle.append(f"y_{copy}")
    body += _output(spec, inner_layout, inner_wires, y_wires, kernel.inner.latency_cycles)
    wrapper = module_text(
        name=module_name,
        contract=[
            f"{result} ({graph.by_name[result].comment}): {len(own.starts)} groups of beats one after the other, each "
            f"through {spec.copies} equal kernel{'s side by side' if spec.copies > 1 else ''}.",
            f"Latency {kernel.latency_cycles} cycles; {own.output.describe()}.",
        ],
        ports=ports,
        output=("y_o", y_wires.width),
        body=body,
        unused=idle,
    )
    return wrapper + "\n" + emit_inner(kernel.inner, core)


def _adapted(port: str, outer: WireFormat, mine: tuple[Slot, ...], inner: WireFormat) -> str:
    """Text of one copy's input: its slots of the outer port, each extended to the width of the inner slot."""
    pairs = list(zip(mine, inner.slots, strict=True))
    if all(slot.width == wide.width for slot, wide in pairs):
        return part(port, outer.width, mine[0].offset, inner.width)
    parts = [_extended(port, outer.width, slot, wide.width) for slot, wide in reversed(pairs)]
    return f"{{{', '.join(parts)}}}" if len(parts) > 1 else parts[0]


def _extended(vector: str, total: int, slot: Slot, width: int) -> str:
    """Text of a slot at another width: extended by its sign, or its low bits."""
    if width <= slot.width:
        return part(vector, total, slot.offset, width)
    bits = part(vector, total, slot.offset, slot.width)
    top = part(vector, total, slot.offset + slot.width - 1, 1) if slot.signed else "1'b0"
    return f"{{{{{width - slot.width}{{{top}}}}}, {bits}}}"


def _output(spec: Streamed, layout: Layout, inner: WireFormat, outer: WireFormat, latency: int) -> list[str]:
    """Join the copies' outputs. Where the last beat of a group has more slots than the others, it is told apart."""
    by_beat = slots_by_beat(spec, layout)
    lines: list[str] = []
    selector = ""
    for slot, target in enumerate(outer.slots):
        sources = list(dict.fromkeys(places[slot] for places in by_beat if slot < len(places)))
        texts = []
        for copy, k in sources:
            texts.append(_extended(f"y_{copy}", inner.width, inner.slots[k], target.width))
        value = texts[0]
        if len(texts) > 1:
            selector = "last_beat"
            value = f"{selector} ? {texts[1]} : {texts[0]}"
        lines.append(f"  assign {part('y_o', outer.width, target.offset, target.width)} = {value};")
    if not selector:
        return lines
    depth = latency + layout.beat_count - 1
    moved = "go" if depth == 1 else f"{{go_q[{depth - 2}:0], go}}"
    return [
        "  // The last beat of a group carries more slots of each copy than those before.",
        f"  logic [{depth - 1}:0] go_q;",
        f"  always_ff @(posedge clk_i) go_q <= rst_i ? {depth}'d0 : {moved};",
        f"  wire last_beat = go_q[{depth - 1}];",
        "",
        *lines,
    ]
