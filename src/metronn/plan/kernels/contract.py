"""Timing, layout and cost of every kernel: the one place where the union of specifications is taken apart."""

from __future__ import annotations

from typing import assert_never

from metronn.ir.graph import Graph
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels import elementwise, reduce, reduce_serial, streamed, table, wiring
from metronn.plan.kernels import slices as stream
from metronn.plan.kernels.adders import matvec as adders
from metronn.plan.kernels.folds import cost as fold_cost
from metronn.plan.kernels.folds import fold
from metronn.plan.kernels.spec import (
    Delay,
    Elementwise,
    FoldInputs,
    FoldOutputs,
    Gather,
    KernelSpec,
    MatvecAdders,
    ReduceSerial,
    ReduceTree,
    Reorder,
    Streamed,
    Table,
    WindowBuffer,
    Wiring,
)
from metronn.plan.kernels.waiting import delay, gather, window_buffer
from metronn.plan.layout import Layout


def latency_cycles(spec: KernelSpec, graph: Graph, timing: Timing) -> int:
    """Cycles from start_i (the first input beat) to the first output beat."""
    match spec:
        case MatvecAdders():
            return adders.latency_cycles(spec, graph, timing)
        case FoldOutputs():
            return fold.outputs_latency(spec, graph, timing)
        case FoldInputs():
            return fold.inputs_latency(spec, graph, timing)
        case Elementwise():
            return elementwise.latency_cycles(spec, graph, timing)
        case Table():
            return table.latency_cycles(spec, graph, timing)
        case ReduceTree():
            return reduce.latency_cycles(spec, graph, timing)
        case Wiring():
            return wiring.latency_cycles(spec, graph, timing)
        case Gather():
            return gather.latency_cycles(spec, graph, timing)
        case Delay():
            return delay.latency_cycles(spec, graph, timing)
        case Streamed():
            return latency_cycles(spec.inner, stream.slice_of(spec, graph).graph, timing)
        case ReduceSerial():
            return reduce_serial.latency_cycles(spec, graph, timing)
        case WindowBuffer() | Reorder():
            return window_buffer.latency_cycles(spec, graph, timing)
        case _:
            assert_never(spec)


def resources(spec: KernelSpec, graph: Graph, timing: Timing) -> Resources:
    """Estimated resources of the kernel."""
    match spec:
        case MatvecAdders():
            return adders.resources(spec, graph, timing)
        case FoldOutputs():
            return fold_cost.outputs_resources(spec, graph, timing)
        case FoldInputs():
            return fold_cost.inputs_resources(spec, graph, timing)
        case Elementwise():
            return elementwise.resources(spec, graph, timing)
        case Table():
            return table.resources(spec, graph, timing)
        case ReduceTree():
            return reduce.resources(spec, graph, timing)
        case Wiring():
            return wiring.resources(spec, graph, timing)
        case Gather():
            return gather.resources(spec, graph, timing)
        case Delay():
            return delay.resources(spec, graph, timing)
        case Streamed():
            inner = resources(spec.inner, stream.slice_of(spec, graph).graph, timing)
            return inner.scaled(spec.copies) + streamed.wrapper_resources(spec, graph, timing)
        case ReduceSerial():
            return reduce_serial.resources(spec, graph, timing)
        case WindowBuffer() | Reorder():
            return window_buffer.resources(spec, graph, timing)
        case _:
            assert_never(spec)


def input_layouts(spec: KernelSpec, graph: Graph) -> tuple[tuple[str, Layout], ...]:
    """Values the kernel reads, in port order, and the layout it wants each in."""
    match spec:
        case MatvecAdders():
            return adders.input_layouts(spec, graph)
        case FoldOutputs():
            value = fold.linear_of(graph, spec.linear).x
            return ((value, Layout.parallel(graph.type_of(value).size)),)
        case FoldInputs():
            return ((fold.linear_of(graph, spec.linear).x, spec.layout),)
        case Elementwise():
            return elementwise.input_layouts(spec, graph)
        case Table():
            return table.input_layouts(spec, graph)
        case ReduceTree():
            return reduce.input_layouts(spec, graph)
        case Wiring():
            return wiring.input_layouts(spec, graph)
        case Gather():
            return gather.input_layouts(spec, graph)
        case Delay():
            return delay.input_layouts(spec, graph)
        case Streamed():
            return tuple(zip(stream.stream_inputs(spec, graph), spec.layouts, strict=True))
        case ReduceSerial():
            return reduce_serial.input_layouts(spec, graph)
        case WindowBuffer() | Reorder():
            return window_buffer.input_layouts(spec, graph)
        case _:
            assert_never(spec)


def output_layout(spec: KernelSpec, graph: Graph) -> Layout:
    """Layout of the value the kernel makes."""
    match spec:
        case MatvecAdders():
            return adders.output_layout(spec, graph)
        case FoldOutputs():
            return fold.outputs_layout(spec)
        case FoldInputs():
            return Layout.parallel(graph.type_of(spec.linear).size)
        case Elementwise():
            return elementwise.output_layout(spec, graph)
        case Table():
            return table.output_layout(spec, graph)
        case ReduceTree():
            return reduce.output_layout(spec, graph)
        case Wiring():
            return wiring.output_layout(spec, graph)
        case Gather():
            return gather.output_layout(spec, graph)
        case Delay():
            return delay.output_layout(spec, graph)
        case Streamed():
            return stream.slice_of(spec, graph).output
        case ReduceSerial():
            return reduce_serial.output_layout(spec, graph)
        case WindowBuffer() | Reorder():
            return window_buffer.output_layout(spec, graph)
        case _:
            assert_never(spec)


def cycles_per_event(spec: KernelSpec, graph: Graph) -> int:
    """Cycles the kernel is busy with one event: the smallest II it can keep."""
    match spec:
        case FoldOutputs():
            return spec.beats
        case FoldInputs() | Gather() | ReduceSerial():
            return spec.layout.span
        case Delay():
            return max(spec.period, spec.layout.span)
        case WindowBuffer():
            return max(spec.period, spec.output.span, *(layout.span for layout in spec.layouts))
        case Reorder():
            return max(spec.period, spec.output.span, spec.layout.span)
        case Streamed():
            return max(stream.busy_cycles(spec, graph), *(layout.span for layout in spec.layouts))
        case MatvecAdders() | Elementwise() | Table() | ReduceTree() | Wiring():
            return 1
        case _:
            assert_never(spec)
