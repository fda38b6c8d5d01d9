"""SystemVerilog of any kernel: the one place where emission takes the union of specifications apart."""

from __future__ import annotations

from typing import assert_never

from metronn.emit.rtl.kernels.adders import emit_adders
from metronn.emit.rtl.kernels.elementwise import emit_elementwise
from metronn.emit.rtl.kernels.folds.inputs import emit_fold_inputs
from metronn.emit.rtl.kernels.folds.outputs import emit_fold_outputs
from metronn.emit.rtl.kernels.reduce import emit_reduce
from metronn.emit.rtl.kernels.reduce_serial import emit_reduce_serial
from metronn.emit.rtl.kernels.streamed import emit_streamed
from metronn.emit.rtl.kernels.table import emit_table
from metronn.emit.rtl.kernels.waiting.delay import emit_delay
from metronn.emit.rtl.kernels.waiting.gather import emit_gather
from metronn.emit.rtl.kernels.waiting.window_buffer import emit_window_buffer
from metronn.emit.rtl.kernels.wiring import emit_wiring
from metronn.ir.graph import Graph
from metronn.plan.hardware.timing import Timing
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


def emit_kernel(spec: KernelSpec, name: str, graph: Graph, timing: Timing) -> str:
    """Return the module of a kernel."""
    match spec:
        case MatvecAdders():
            return emit_adders(spec, name, graph, timing)
        case FoldOutputs():
            return emit_fold_outputs(spec, name, graph, timing)
        case FoldInputs():
            return emit_fold_inputs(spec, name, graph, timing)
        case Elementwise():
            return emit_elementwise(spec, name, graph, timing)
        case Table():
            return emit_table(spec, name, graph, timing)
        case ReduceTree():
            return emit_reduce(spec, name, graph, timing)
        case Wiring():
            return emit_wiring(spec, name, graph, timing)
        case Gather():
            return emit_gather(spec, name, graph, timing)
        case Delay():
            return emit_delay(spec, name, graph, timing)
        case Streamed():
            return emit_streamed(spec, name, graph, timing, emit_kernel)
        case ReduceSerial():
            return emit_reduce_serial(spec, name, graph, timing)
        case WindowBuffer() | Reorder():
            return emit_window_buffer(spec, name, graph, timing)
        case _:
            assert_never(spec)
