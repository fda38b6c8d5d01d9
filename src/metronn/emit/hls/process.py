"""From one kernel of the plan to one process of a streamed HLS design: a template of the library and its configuration.

A process reads beats from queues and writes beats into one. What a kernel computes of a group of beats is written with
the same calls as in a design without streams, on the slice of the graph that `metronn.plan.kernels.slices` defines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_never

import numpy as np

from metronn.emit.hls.adders import adders_call
from metronn.emit.hls.chain import chain_of
from metronn.emit.hls.flow import Flow
from metronn.emit.hls.index import Members
from metronn.emit.hls.multipliers import Multipliers
from metronn.emit.hls.names import Names
from metronn.emit.hls.ops import LibraryCall
from metronn.emit.hls.reorder import element_matrix, fill_code, reorder_form
from metronn.emit.hls.top import call
from metronn.emit.hls.values import integer_type, literal, stored_matrix, type_line
from metronn.emit.hls.window import WindowForm, window_form
from metronn.ir.graph import Graph, Node
from metronn.ir.infer import reduce_shifts, shifted_bounds
from metronn.ir.ops import Linear, Reduce, ReduceKind, Window
from metronn.plan.design import KernelInstance
from metronn.plan.kernels.adders.matvec import PlannedAdders
from metronn.plan.kernels.folds import fold
from metronn.plan.kernels.folds.fold import effective_weight
from metronn.plan.kernels.folds.planned import PlannedFoldInputs, PlannedFoldOutputs
from metronn.plan.kernels.kernels import AnyKernel
from metronn.plan.kernels.slices import NotStreamableError, slice_of
from metronn.plan.kernels.spec import (
    Crossing,
    Delay,
    Elementwise,
    FoldInputs,
    FoldOutputs,
    Gather,
    MatvecAdders,
    ReduceSerial,
    ReduceTree,
    Reorder,
    Streamed,
    Table,
    WindowBuffer,
    Wiring,
    covered_nodes,
)
from metronn.plan.kernels.uniform import function_inputs
from metronn.plan.layout import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Handed:
    """A queue between the two processes of a kernel: its depth, and elements in a beat, of the C++ type `element`."""

    name: str
    element: str
    slots: int
    width_bits: int
    depth: int


@dataclass(slots=True)
class Process:
    """One call in the dataflow region, or two.

    `function`: template of the library, whose first argument is the configuration `struct`. `constants`: names of
    stored arrays between input and output. `result_first`: the output is the first argument. `inner`: the calls made
    for each beat, by C++ name. `types`: definitions of the types of values that never leave the process, by C++ name.
    `names`: library function by node. `cycles`: those from one event to the next. `tail`: those at the end of an event
    in which it reads nothing, though the next event may have begun. `before`: a process that reads in place of this
    one, and hands on in the queues `handed`, in the order of both processes' arguments.
    """

    struct: str
    function: str
    headers: set[str]
    members: Members
    cycles: int
    tail: int = 0
    constants: tuple[str, ...] = ()
    result_first: bool = False
    functions: list[str] = field(default_factory=list)
    inner: dict[str, tuple[Node, LibraryCall]] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    before: Process | None = None
    handed: tuple[Handed, ...] = ()

    @property
    def calls(self) -> tuple[Process, ...]:
        """The processes in their order."""
        return (self,) if self.before is None else (*self.before.calls, self)


def _adders(planned: AnyKernel) -> PlannedAdders | None:
    """Return a planned kernel that is an unrolled matrix."""
    return planned if isinstance(planned, PlannedAdders) else None


class Processes:
    """Makes the processes of one flow; hands out the names of what they need."""

    def __init__(self, flow: Flow, names: Names) -> None:
        """Names of values are claimed in `names` already."""
        self.flow, self.names, self.graph = flow, names, flow.graph

    def make(self, kernel: KernelInstance) -> Process:
        """Return the process of a kernel, which is none that `Flow.only_waits` says to be a queue."""
        spec = kernel.spec
        match spec:
            case Delay() | Crossing():
                raise AssertionError(f"{kernel.name}: what only waits is a queue, not a process")
            case Gather():
                return self._gather(kernel, spec.layout, Layout.parallel(spec.layout.size))
            case Reorder():
                if spec.output.beat_count == 1:
                    return self._gather(kernel, spec.layout, spec.output)
                return self._reorder(kernel, spec)
            case WindowBuffer():
                return self._window(kernel, spec)
            case ReduceSerial():
                return self._reduce(kernel, spec)
            case Streamed():
                return self._streamed(kernel, spec)
            case FoldOutputs() | FoldInputs():
                return self._fold(kernel, self.flow.plans.of(spec), 1, 1)
            case MatvecAdders() | Elementwise() | Table() | ReduceTree() | Wiring():
                return self._map(kernel, covered_nodes(spec), self.graph, _adders(self.flow.plans.of(spec)))
            case _:
                assert_never(spec)

    def _new(self, kernel: KernelInstance, function: str, header: str, cycles: int, suffix: str = "") -> Process:
        struct = self.names.claim(f"process{suffix}:{kernel.name}", f"{kernel.name}{suffix}_process")
        return Process(struct=struct, function=function, headers={header}, members=Members(struct), cycles=cycles)

    def _interval(self, iterations: int, spacing: int) -> int:
        """Cycles from one iteration of a loop to the next: the spacing of beats, as far as the II leaves room."""
        return max(1, min(spacing, self.flow.ii_cycles // iterations))

    # Kernels on groups of beats

    def _streamed(self, kernel: KernelInstance, spec: Streamed) -> Process:
        planned = self.flow.plans.of(spec)
        own, inner = planned.slice, spec.inner
        match inner:
            case FoldOutputs() | FoldInputs():
                return self._fold(kernel, planned.inner, len(own.starts), spec.copies)
            case MatvecAdders() | Elementwise() | Table() | ReduceTree():
                beats = spec.layouts[0]
                return self._map(
                    kernel, covered_nodes(inner), own.graph, _adders(planned.inner), beats.beat_count, beats.spacing,
                    spec.copies,
                )  # fmt: skip
            case _:
                assert_never(inner)

    def _map(
        self,
        kernel: KernelInstance,
        nodes: Sequence[str],
        graph: Graph,
        planned: PlannedAdders | None = None,
        beats: int = 1,
        spacing: int = 1,
        copies: int = 1,
    ) -> Process:
        interval = self._interval(beats, spacing)
        function = ("map_row" if copies > 1 else "map_beat") + ("s" if beats > 1 else "")
        process = self._new(kernel, function, "stream", beats * interval)
        process.result_first = True
        process.members.constant("beats", beats)
        process.members.constant("interval", interval)
        if copies > 1:
            process.members.constant("copies", copies)
        inputs = function_inputs(graph, nodes)
        self._body(process, "apply", kernel, graph, nodes, inputs, result_first=True, planned=planned)
        return process

    def _body(
        self,
        process: Process,
        function: str,
        kernel: KernelInstance,
        graph: Graph,
        nodes: Sequence[str],
        inputs: Sequence[str],
        *,
        result_first: bool,
        before: str = "",
        planned: PlannedAdders | None = None,
    ) -> None:
        """Add the static function that makes the last node's elements of a group from those of the inputs.

        `planned`: an unrolled matrix, with its adder graph.
        """
        result, name = nodes[-1], self.names[nodes[-1]]
        if planned is not None:
            made = adders_call(planned, self.names)
            lines = [call(made.called, [*(self.names[x] for x in inputs), name])]
            process.inner[name] = (graph.by_name[result], made)
        else:
            arrays = {value: self.names[value] for value in (*inputs, result)}
            chain = chain_of(graph, nodes, arrays, self.names, kernel.name)
            lines = chain.lines
            process.headers |= chain.headers
            process.inner |= chain.inner
            process.types |= chain.types
            process.names |= chain.names
        made_here = f"{name}_t {name}[{graph.type_of(result).size}]"
        parts = [f"const {self.names[x]}_t {self.names[x]}[{graph.type_of(x).size}]" for x in inputs]
        parts = [made_here, *parts] if result_first else [*([before] if before else []), *parts, made_here]
        process.functions += [
            f"static void {function}({', '.join(parts)}) {{",
            "#pragma HLS INLINE",
            *(line if line.startswith("#") else f"  {line.strip()}" for line in lines),
            "}",
        ]

    # Folded matrix products

    def _fold(self, kernel: KernelInstance, planned: AnyKernel, groups: int, copies: int) -> Process:
        """Return the process of a folded matrix that is planned, run `groups` times for each event."""
        if isinstance(planned, PlannedFoldOutputs):
            return self._fold_outputs(kernel, planned, groups, copies)
        assert isinstance(planned, PlannedFoldInputs), f"{kernel.name}: {planned.kind_name} is no fold"
        return self._fold_inputs(kernel, planned, groups)

    def _sums(self, process: Process, graph: Graph, linear: str) -> None:
        """Say the types of sums."""
        node = graph.by_name[linear]
        op = node.op
        assert isinstance(op, Linear)
        weight = effective_weight(graph, linear).astype(object)
        x = graph.type_of(op.x)
        width = weight.shape[0]
        lo = np.asarray(x.range.los(x.size), dtype=object).reshape(-1, width).min(axis=0)
        hi = np.asarray(x.range.his(x.size), dtype=object).reshape(-1, width).max(axis=0)
        bias = op.bias.array.astype(object)
        grow, shrink = np.maximum(weight, 0), np.maximum(-weight, 0)
        most = np.maximum(hi, 0) @ grow + np.maximum(-lo, 0) @ shrink + np.maximum(bias, 0)
        least = np.minimum(lo, 0) @ grow + np.minimum(-hi, 0) @ shrink + np.minimum(bias, 0)
        acc = integer_type(int(least.min()), int(most.max()), node.source)
        process.members.lines += [f"typedef {acc} acc_t;", f"typedef {self.names[linear]}_t sum_t;"]

    def _store(self, process: Process, multipliers: Multipliers, bias: Sequence[Sequence[int]], source: str) -> None:
        """Store weights and biases."""
        multipliers.describe(process.members, source)
        process.members.stored.append(stored_matrix(f"{process.struct}_bias", bias))
        process.headers.add("constant")
        process.constants = (f"{process.struct}_weight", f"{process.struct}_bias")

    def _finish(
        self, process: Process, kernel: KernelInstance, epilogue: Sequence[str], graph: Graph, linear: str, width: int
    ) -> None:
        """Add the function from sums to results."""
        name = self.names[linear]
        if epilogue:
            process.types[name] = type_line(name, graph.type_of(linear), self.graph.by_name[linear].source)
            self._body(process, "finish", kernel, graph, epilogue, (linear,), result_first=False, before="int")
            return
        process.functions += [
            f"static void finish(int, const {name}_t sums[{width}], {name}_t results[{width}]) {{",
            "#pragma HLS INLINE",
            f"  metronn::copy<{width}>(sums, results);",
            "}",
        ]
        process.headers.add("rewire")

    def _finish_part(self, process: Process, kernel: KernelInstance, spec: FoldOutputs, graph: Graph) -> None:
        """Add the function from the sums of a beat to results where outputs differ in more than their weights."""
        result, width, count = spec.epilogue[-1], spec.lanes + spec.remainder, graph.type_of(spec.linear).size
        self._body(process, "finish_row", kernel, graph, spec.epilogue, (spec.linear,), result_first=False)
        source, made = self.names[spec.linear], self.names[result]
        process.types[source] = type_line(source, graph.type_of(spec.linear), self.graph.by_name[spec.linear].source)
        lines = [f"  for (int k = 0; k < {count}; k++) row[k] = 0;"]
        done = []
        made_in = fold.outputs_layout(spec).beats
        for beat, leaving in enumerate(made_in if spec.lanes else [()] * (spec.beats - 1) + [made_in[0]]):
            outputs = list(enumerate(leaving))
            lines.append(f"  if (beat == {beat}) {{")
            lines += [f"    row[{output}] = sums[{k}];" for k, output in outputs]
            lines.append("  }")
            done += [f"  if (beat == {beat}) {{", *(f"    results[{k}] = done[{o}];" for k, o in outputs), "  }"]
        process.functions += [
            f"static void finish(int beat, const {source}_t sums[{width}], {made}_t results[{width}]) {{",
            "#pragma HLS INLINE",
            f"  {source}_t row[{count}];",
            "#pragma HLS ARRAY_PARTITION variable = row type = complete",
            f"  {made}_t done[{count}];",
            "#pragma HLS ARRAY_PARTITION variable = done type = complete",
            *lines,
            "  finish_row(row, done);",
            f"  for (int k = 0; k < {width}; k++) results[k] = 0;",
            *done,
            "}",
        ]

    def _fold_outputs(self, kernel: KernelInstance, planned: PlannedFoldOutputs, groups: int, copies: int) -> Process:
        spec, graph = planned.spec, planned.graph
        process = self._new(kernel, "fold_outputs_beats", "dense_stream", groups * spec.beats)
        n_in, n_out = effective_weight(graph, spec.linear).shape
        values = {
            "groups": groups, "n_in": n_in, "n_out": n_out, "beats": spec.beats, "parallel": spec.lanes,
            "remainder": spec.remainder, "copies": copies,
        }  # fmt: skip
        for name, value in values.items():
            process.members.constant(name, value)
        bias = fold.linear_of(graph, spec.linear).bias.ints()
        main = [list(bias[lane : spec.lanes * spec.beats : spec.lanes]) for lane in range(spec.lanes)]
        rest = [[b] * spec.beats for b in bias[spec.lanes * spec.beats :]]
        multipliers = Multipliers(planned.packing, spec.beats, copies)
        length = fold.slice_inputs(spec, graph)
        multipliers.add("", planned.main_sites, range(n_in), n_in)
        multipliers.add("rest_", planned.remainder_sites, range(length), length)
        self._store(process, multipliers, [*main, *rest], kernel.name)
        self._sums(process, graph, spec.linear)
        width = spec.lanes + spec.remainder
        if not spec.epilogue:
            self._finish(process, kernel, (), graph, spec.linear, width)
            return process
        lanes = Streamed(inner=Elementwise(nodes=spec.epilogue), layouts=(fold.outputs_layout(spec),))
        try:
            inner = slice_of(lanes, graph).graph
        except NotStreamableError:
            self._finish_part(process, kernel, spec, graph)
        else:
            self._finish(process, kernel, spec.epilogue, inner, spec.linear, width)
        return process

    def _fold_inputs(self, kernel: KernelInstance, planned: PlannedFoldInputs, groups: int) -> Process:
        spec, graph = planned.spec, planned.graph
        layout, slots = spec.layout, planned.slots
        stored = fold.weights_in_block_ram(spec)
        function = "fold_inputs_stored_beats" if stored else "fold_inputs_beats"
        process = self._new(kernel, function, "dense_stream", groups * layout.beat_count)
        weight = effective_weight(graph, spec.linear)
        n_in, n_out = weight.shape
        values = {
            "groups": groups, "n_in": n_in, "n_out": n_out, "beats": layout.beat_count, "lanes": layout.slot_count,
        }  # fmt: skip
        for name, value in values.items():
            process.members.constant(name, value)
        beats = {slot: b for slot in slots.constant for b, beat in enumerate(layout.beats) if slot < len(beat)}
        process.members.constant("once", len(slots.constant))
        process.members.vector("once_slot", slots.constant or (0,), "k")
        process.members.vector("once_beat", [beats[slot] for slot in slots.constant] or (0,), "k")
        inputs = [layout.beats[beats[slot]][slot] for slot in slots.constant]
        self._once(process, [[int(weight[i, o]) for i in inputs] or [0] for o in range(n_out)], kernel.name)
        multipliers = Multipliers(planned.packing, layout.beat_count, 1)
        multipliers.add("", planned.sites if slots.multiplied else None, slots.multiplied, layout.slot_count)
        self._store(process, multipliers, [[b] for b in fold.linear_of(graph, spec.linear).bias.ints()], kernel.name)
        self._sums(process, graph, spec.linear)
        self._finish(process, kernel, spec.epilogue, graph, spec.linear, n_out)
        return process

    def _once(self, process: Process, rows: list[list[int]], source: str) -> None:
        """Add the weights of slots that carry something in one beat only, [output, slot]."""
        name = f"{process.struct}_once"
        if not any(map(any, rows)):
            process.members.lines.append("static int once_weight(int, int) { return 0; }")
            return
        low, high = min(map(min, rows)), max(map(max, rows))
        kind = integer_type(min(low, -1), max(high, 0), source)
        process.members.stored.append(stored_matrix(name, rows))
        process.members.lines += [
            f"typedef {kind} once_t;",
            f"static once_t once_weight(int o, int k) {{ return metronn::constant<once_t>({name}[o][k]); }}",
        ]

    # Elements that wait

    def _gather(self, kernel: KernelInstance, layout: Layout, output: Layout) -> Process:
        interval = self._interval(layout.beat_count, layout.spacing)
        process = self._new(kernel, "gather_beats", "reorder", layout.beat_count * interval)
        process.members.constant("beats", layout.beat_count)
        process.members.constant("interval", interval)
        process.members.layout(layout)
        where = np.empty(output.size, dtype=np.int64)
        where[np.asarray(output.beats[0])] = np.arange(output.size)
        elements, known = element_matrix(layout)
        process.members.matrix("place", np.where(known, where[elements], 0), known)
        return process

    def _window(self, kernel: KernelInstance, spec: WindowBuffer) -> Process:
        op = self.graph.by_name[spec.node].op
        if spec.output.is_parallel and all(layout.is_parallel for layout in spec.layouts):
            return self._map(kernel, (spec.node,), self.graph)
        form = window_form(spec, self.graph)
        if form is None:
            return self._reorder(kernel, spec)
        assert isinstance(op, Window)
        spacing, late = spec.layouts[0].spacing, form.steps - form.pixel_steps
        if not form.is_split(self.flow.ii_cycles):
            process = self._window_loop(kernel, form, "window_beats", form.steps, late, spacing)
            self._fill(process, spec)
            return process
        process = self._window_loop(kernel, form, "column_beats", form.window_steps, late, spacing)
        self._fill(process, spec)
        process.before = self._window_loop(kernel, form, "line_beats", form.pixel_steps, 0, spacing, "_lines")
        carried = self.flow.signals[self.flow.origin(kernel.inputs[0])[0]].value
        # columns wait while the padding leaves, but for those steps in which the next event's do not come yet
        depth = max(0, late - form.values["first_step"]) + self.flow.process_slack_cycles + 2
        width = self.graph.type_of(carried).range.width_bits
        sizes = {"begin": (form.values["first_block"] + 1) * form.column_slots, "columns": form.column_slots}
        process.handed = tuple(
            Handed(
                name=self.names.claim(f"{what}:{kernel.name}", f"{kernel.name}_{what}"),
                element=self.names[carried],
                slots=slots,
                width_bits=width,
                depth=depth,
            )
            for what, slots in sizes.items()
        )
        return process

    def _window_loop(
        self, kernel: KernelInstance, form: WindowForm, function: str, steps: int, late: int, spacing: int,
        suffix: str = "",
    ) -> Process:  # fmt: skip
        """Return a process of a window that takes so many steps, the `late` last ones without reading."""
        interval = self._interval(steps, spacing)
        process = self._new(kernel, function, "window_buffer", steps * interval, suffix)
        process.tail = late * interval
        for name, value in form.values.items():
            process.members.constant(name, value)
        process.members.constant("interval", interval)
        return process

    def _fill(self, process: Process, spec: WindowBuffer | Reorder) -> None:
        low = fill_code(spec, self.graph)
        kind = integer_type(low, low, process.struct)
        process.members.lines += [
            f"typedef {kind} fill_t;",
            f"static fill_t fill() {{ return metronn::constant<fill_t>({literal(low)}); }}",
        ]

    def _reorder(self, kernel: KernelInstance, spec: WindowBuffer | Reorder) -> Process:
        form = reorder_form(spec, self.graph)
        process = self._new(kernel, form.function, "reorder", form.steps)
        process.result_first = True
        process.tail = form.tail
        form.describe(process.members)
        self._fill(process, spec)
        return process

    # Reductions over beats

    def _reduce(self, kernel: KernelInstance, spec: ReduceSerial) -> Process:
        node = self.graph.by_name[spec.reduce]
        op = node.op
        assert isinstance(op, Reduce)
        x = self.graph.type_of(op.x)
        layout = spec.layout
        interval = self._interval(layout.beat_count, layout.spacing)
        process = self._new(kernel, f"reduce_{op.kind.value}_beats", "reduce_stream", layout.beat_count * interval)
        process.members.constant("beats", layout.beat_count)
        process.members.constant("interval", interval)
        process.members.layout(layout)
        kept = [axis for axis in range(len(x.shape)) if axis not in op.axes]
        result = np.arange(node.type.size).reshape(
            [x.shape[axis] if axis in kept else 1 for axis in range(len(x.shape))]
        )
        result = np.broadcast_to(result, x.shape).ravel()
        elements, known = element_matrix(layout)
        process.members.matrix("result", np.where(known, result[elements], 0), known)
        shift = reduce_shifts(op, x)
        process.members.matrix("x_shift", np.where(known, shift.ravel()[elements], 0), known)
        lo, hi = shifted_bounds(x, shift.astype(object))
        least, most = lo.ravel().astype(object), hi.ravel().astype(object)
        match op.kind:
            case ReduceKind.SUM:
                first, bounds = 0, (int(np.minimum(least, 0).sum()), int(np.maximum(most, 0).sum()))
            case ReduceKind.MAX:
                first = int(least.min())
                bounds = first, int(most.max())
            case ReduceKind.MIN:
                first = int(most.max())
                bounds = int(least.min()), first
            case _:
                assert_never(op.kind)
        process.headers.add("constant")
        process.members.lines += [
            f"typedef {integer_type(*bounds, node.source)} acc_t;",
            f"static acc_t initial() {{ return metronn::constant<acc_t>({literal(first)}); }}",
        ]
        return process
