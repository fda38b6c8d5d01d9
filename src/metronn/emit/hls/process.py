"""From one kernel of the plan to one process of a streamed HLS design: a template of the library and its configuration.

A process reads beats from queues and writes beats into one. What a kernel computes of a group of beats is written with
the same calls as in a design without streams, on the slice of the graph that `metronn.plan.kernels.slices` defines.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_never

import numpy as np

from metronn.emit.hls.calls import TopCalls as Calls
from metronn.emit.hls.flow import Flow
from metronn.emit.hls.index import Members
from metronn.emit.hls.live import add_live, inputs_live, outputs_live
from metronn.emit.hls.names import Names
from metronn.emit.hls.ops import LibraryCall, kernel_of
from metronn.emit.hls.reorder import describe_reorder, element_matrix, fill_code
from metronn.emit.hls.top import kernel_call
from metronn.emit.hls.values import integer_type, literal, stored_array, stored_matrix, type_line
from metronn.emit.hls.window import window_form
from metronn.ir.graph import Graph, Node
from metronn.ir.infer import reduce_shifts, shifted_bounds
from metronn.ir.ops import Constant, Linear, Reduce, ReduceKind, Window
from metronn.plan.design import KernelInstance
from metronn.plan.kernels.folds import fold
from metronn.plan.kernels.folds.fold import effective_weight
from metronn.plan.kernels.slices import NotStreamableError, slice_of
from metronn.plan.kernels.spec import (
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


@dataclass(slots=True)
class Process:
    """One call in the dataflow region.

    `function`: template of the library, whose first argument is the configuration `struct`. `constants`: names of
    stored arrays between input and output. `result_first`: the output is the first argument. `inner`: the calls made
    for each beat, by C++ name. `types`: definitions of the types of values that never leave the process, by C++ name.
    `names`: library function by node. `steps`: cycles that the loop takes per event.
    """

    struct: str
    function: str
    headers: set[str]
    members: Members
    steps: int
    constants: tuple[str, ...] = ()
    result_first: bool = False
    functions: list[str] = field(default_factory=list)
    inner: dict[str, tuple[Node, LibraryCall]] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)


class Processes:
    """Makes the processes of one flow; hands out the names of what they need."""

    def __init__(self, flow: Flow, names: Names) -> None:
        """Names of values are claimed in `names` already."""
        self.flow, self.names, self.graph = flow, names, flow.graph

    def make(self, kernel: KernelInstance) -> Process:
        """Return the process of a kernel, which is none that `Flow.only_waits` says to be a queue."""
        spec = kernel.spec
        match spec:
            case Delay():
                raise AssertionError(f"{kernel.name}: a delay is a queue, not a process")
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
            case FoldOutputs():
                return self._fold_outputs(kernel, spec, self.graph, 1, 1)
            case FoldInputs():
                return self._fold_inputs(kernel, spec, self.graph, 1)
            case MatvecAdders() | Elementwise() | Table() | ReduceTree() | Wiring():
                return self._map(kernel, covered_nodes(spec), self.graph, 1, 1, 1)
            case _:
                assert_never(spec)

    def _new(self, kernel: KernelInstance, function: str, header: str, steps: int) -> Process:
        struct = self.names.claim(f"process:{kernel.name}", f"{kernel.name}_process")
        return Process(struct=struct, function=function, headers={header}, members=Members(struct), steps=steps)

    # Kernels on groups of beats

    def _streamed(self, kernel: KernelInstance, spec: Streamed) -> Process:
        own = self.flow.plans.of(spec).slice
        inner = spec.inner
        match inner:
            case FoldOutputs():
                return self._fold_outputs(kernel, inner, own.graph, len(own.starts), spec.copies)
            case FoldInputs():
                return self._fold_inputs(kernel, inner, own.graph, len(own.starts))
            case MatvecAdders() | Elementwise() | Table() | ReduceTree():
                beats = spec.layouts[0]
                interval = max(1, beats.spacing)
                return self._map(kernel, covered_nodes(inner), own.graph, beats.beat_count, interval, spec.copies)
            case _:
                assert_never(inner)

    def _map(
        self, kernel: KernelInstance, nodes: Sequence[str], graph: Graph, beats: int, interval: int, copies: int
    ) -> Process:
        process = self._new(kernel, "map_rows" if copies > 1 else "map_beats", "stream", beats * interval)
        process.result_first = True
        process.members.constant("beats", beats)
        process.members.constant("interval", interval)
        if copies > 1:
            process.members.constant("copies", copies)
        inputs = function_inputs(graph, nodes)
        self._body(process, "apply", kernel, graph, nodes, inputs, result_first=True)
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
    ) -> None:
        """Add the static function that makes the last node's elements of a group from those of the inputs."""
        result = nodes[-1]
        local = Names()
        for value in (*inputs, *nodes):
            local.alias(value, self.names[value])
        kernels: dict[str, LibraryCall] = {}
        lines: list[str] = []
        for node in nodes:
            made = kernel_of(graph, graph.by_name[node], local[node])
            assert made is not None
            for source in made.sources:
                if isinstance(graph.by_name[source].op, Constant) and source not in kernels:
                    local.alias(source, self.names.claim(f"{kernel.name}:{source}", source))
                    load = kernel_of(graph, graph.by_name[source], local[source])
                    assert load is not None
                    kernels[source] = load
            kernels[node] = made
        calls = Calls(names=local, kernels=kernels, inputs=(), outputs=(), direct={})
        arrays = {value: local[value] for value in (*inputs, *kernels)}
        for value, made in kernels.items():
            name = local[value]
            if value != result:
                lines.append(f"  {name}_t {name}[{graph.type_of(value).size}];")
                lines.append(f"#pragma HLS ARRAY_PARTITION variable = {name} type = complete")
            lines += kernel_call(graph, calls, value, arrays)
            process.headers.add(made.header)
            process.inner[name] = (graph.by_name[value], made)
            process.names[value] = made.function
            if value != result:
                process.types[name] = type_line(name, graph.type_of(value), graph.by_name[value].source)
            if made.aligned_type:
                process.types[f"{name}_aligned"] = f"typedef {made.aligned_type} {name}_aligned_t;\n"
        made_here = f"{local[result]}_t {local[result]}[{graph.type_of(result).size}]"
        parts = [f"const {local[x]}_t {local[x]}[{graph.type_of(x).size}]" for x in inputs]
        parts = [made_here, *parts] if result_first else [*([before] if before else []), *parts, made_here]
        process.functions += [
            f"static void {function}({', '.join(parts)}) {{",
            "#pragma HLS INLINE",
            *(line if line.startswith("#") else f"  {line.strip()}" for line in lines),
            "}",
        ]

    # Folded matrix products

    def _matrix(self, process: Process, graph: Graph, linear: str, by_output: list[list[int]]) -> None:
        """Store weights and biases and say their types."""
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
        kind = integer_type(min(0, int(weight.min())), max(0, int(weight.max())), node.source)
        process.members.lines += [
            f"typedef {kind} weight_t;",
            f"typedef {acc} acc_t;",
            f"typedef {self.names[linear]}_t sum_t;",
        ]
        process.members.stored += [
            stored_matrix(f"{process.struct}_weight", by_output),
            stored_array(f"{process.struct}_bias", op.bias.ints()),
        ]
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
        place = f"k < {spec.lanes} ? beat * {spec.lanes} + k : k + {spec.lanes * (spec.beats - 1)}"
        process.functions += [
            f"static void finish(int beat, const {source}_t sums[{width}], {made}_t results[{width}]) {{",
            "#pragma HLS INLINE",
            f"  {source}_t row[{count}];",
            f"  {made}_t done[{count}];",
            f"  for (int k = 0; k < {count}; k++) row[k] = 0;",
            f"  for (int k = 0; k < {width}; k++) row[{place}] = sums[k];",
            "  finish_row(row, done);",
            f"  for (int k = 0; k < {width}; k++) results[k] = done[{place}];",
            "}",
        ]

    def _fold_outputs(
        self, kernel: KernelInstance, spec: FoldOutputs, graph: Graph, groups: int, copies: int
    ) -> Process:
        process = self._new(kernel, "fold_outputs_beats", "dense_stream", groups * spec.beats)
        n_in, n_out = effective_weight(graph, spec.linear).shape
        values = {
            "groups": groups, "n_in": n_in, "n_out": n_out, "beats": spec.beats, "parallel": spec.lanes,
            "remainder": spec.remainder, "copies": copies,
        }  # fmt: skip
        for name, value in values.items():
            process.members.constant(name, value)
        by_output = effective_weight(graph, spec.linear).T
        add_live(process.members, copies, *outputs_live(by_output, spec.lanes, spec.beats, spec.remainder))
        self._matrix(process, graph, spec.linear, [[int(v) for v in column] for column in by_output])
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

    def _fold_inputs(self, kernel: KernelInstance, spec: FoldInputs, graph: Graph, groups: int) -> Process:
        layout = spec.layout
        lanes, beats = layout.slot_count, layout.beat_count
        process = self._new(kernel, "fold_inputs_beats", "dense_stream", groups * beats)
        weight = effective_weight(graph, spec.linear)
        n_in, n_out = weight.shape
        for name, value in {"groups": groups, "n_in": n_in, "n_out": n_out, "beats": beats, "lanes": lanes}.items():
            process.members.constant(name, value)
        ordered = np.zeros((beats * lanes, n_out), dtype=object)
        for number, beat in enumerate(layout.beats):
            ordered[number * lanes : number * lanes + len(beat)] = weight[np.asarray(beat)]
        add_live(process.members, 1, inputs_live(ordered.T, lanes, beats))
        self._matrix(process, graph, spec.linear, [[int(v) for v in column] for column in ordered.T])
        self._finish(process, kernel, spec.epilogue, graph, spec.linear, n_out)
        return process

    # Elements that wait

    def _gather(self, kernel: KernelInstance, layout: Layout, output: Layout) -> Process:
        process = self._new(kernel, "gather_beats", "reorder", layout.beat_count)
        process.members.constant("beats", layout.beat_count)
        process.members.constant("interval", 1)
        process.members.layout(layout)
        where = np.empty(output.size, dtype=np.int64)
        where[np.asarray(output.beats[0])] = np.arange(output.size)
        elements, known = element_matrix(layout)
        process.members.matrix("place", np.where(known, where[elements], 0), known)
        return process

    def _window(self, kernel: KernelInstance, spec: WindowBuffer) -> Process:
        op = self.graph.by_name[spec.node].op
        if spec.output.is_parallel and all(layout.is_parallel for layout in spec.layouts):
            return self._map(kernel, (spec.node,), self.graph, 1, 1, 1)
        form = window_form(spec, self.graph)
        if form is None:
            return self._reorder(kernel, spec)
        assert isinstance(op, Window)
        interval = max(1, spec.layouts[0].spacing)
        process = self._new(kernel, "window_beats", "window_buffer", form.steps * interval)
        for name, value in form.values.items():
            process.members.constant(name, value)
        process.members.constant("interval", interval)
        self._fill(process, spec)
        return process

    def _fill(self, process: Process, spec: WindowBuffer | Reorder) -> None:
        low = fill_code(spec, self.graph)
        kind = integer_type(low, low, process.struct)
        process.members.lines += [
            f"typedef {kind} fill_t;",
            f"static fill_t fill() {{ return metronn::constant<fill_t>({literal(low)}); }}",
        ]

    def _reorder(self, kernel: KernelInstance, spec: WindowBuffer | Reorder) -> Process:
        process = self._new(kernel, "reorder_beats", "reorder", 0)
        process.result_first = True
        process.steps = describe_reorder(process.members, spec, self.graph)
        self._fill(process, spec)
        return process

    # Reductions over beats

    def _reduce(self, kernel: KernelInstance, spec: ReduceSerial) -> Process:
        node = self.graph.by_name[spec.reduce]
        op = node.op
        assert isinstance(op, Reduce)
        x = self.graph.type_of(op.x)
        layout = spec.layout
        interval = max(1, layout.spacing)
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
