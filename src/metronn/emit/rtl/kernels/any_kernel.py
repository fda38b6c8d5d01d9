"""SystemVerilog of any kernel: the one place where emission tells the kinds of planned kernels apart."""

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
from metronn.emit.rtl.kernels.waiting.crossing import emit_crossing
from metronn.emit.rtl.kernels.waiting.delay import emit_delay
from metronn.emit.rtl.kernels.waiting.gather import emit_gather
from metronn.emit.rtl.kernels.waiting.window_buffer import emit_window_buffer
from metronn.emit.rtl.kernels.wiring import emit_wiring
from metronn.plan.kernels.adders.matvec import PlannedAdders
from metronn.plan.kernels.elementwise import PlannedElementwise
from metronn.plan.kernels.folds.planned import PlannedFoldInputs, PlannedFoldOutputs
from metronn.plan.kernels.kernels import AnyKernel
from metronn.plan.kernels.reduce import PlannedReduceTree
from metronn.plan.kernels.reduce_serial import PlannedReduceSerial
from metronn.plan.kernels.streamed import PlannedStreamed
from metronn.plan.kernels.table import PlannedTable
from metronn.plan.kernels.waiting.crossing import PlannedCrossing
from metronn.plan.kernels.waiting.delay import PlannedDelay
from metronn.plan.kernels.waiting.gather import PlannedGather
from metronn.plan.kernels.waiting.window_buffer import PlannedReorder, PlannedWindowBuffer
from metronn.plan.kernels.wiring import PlannedWiring


def emit_kernel(kernel: AnyKernel, name: str) -> str:
    """Return the module of a planned kernel."""
    match kernel:
        case PlannedAdders():
            return emit_adders(kernel, name)
        case PlannedFoldOutputs():
            return emit_fold_outputs(kernel, name)
        case PlannedFoldInputs():
            return emit_fold_inputs(kernel, name)
        case PlannedElementwise():
            return emit_elementwise(kernel, name)
        case PlannedTable():
            return emit_table(kernel, name)
        case PlannedReduceTree():
            return emit_reduce(kernel, name)
        case PlannedWiring():
            return emit_wiring(kernel, name)
        case PlannedGather():
            return emit_gather(kernel, name)
        case PlannedDelay():
            return emit_delay(kernel, name)
        case PlannedCrossing():
            return emit_crossing(kernel, name)
        case PlannedStreamed():
            return emit_streamed(kernel, name, emit_kernel)
        case PlannedReduceSerial():
            return emit_reduce_serial(kernel, name)
        case PlannedWindowBuffer() | PlannedReorder():
            return emit_window_buffer(kernel, name)
        case _:
            assert_never(kernel)
