"""Streamed kernels: what stands around the inner kernel, which is planned as a kernel of the slice.

The starts of the inner folds come from a pulse train. `copies` instances stand side by side: copy i takes slots
[i * n_in, (i + 1) * n_in) of the input beats; an output beat carries the slots of copy 0 first, then those of copy 1.
"""

from __future__ import annotations

from metronn.ir.graph import Graph
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.pulse_trains import train_resources
from metronn.plan.kernels.slices import slice_of
from metronn.plan.kernels.spec import FoldInputs, FoldOutputs, Streamed
from metronn.plan.layout import Layout


def counts_phases(spec: Streamed) -> bool:
    """Whether the inner kernel works over several cycles and needs to know when a group starts."""
    return isinstance(spec.inner, FoldOutputs | FoldInputs)


def slots_by_beat(spec: Streamed, inner: Layout) -> tuple[tuple[tuple[int, int], ...], ...]:
    """(copy, slot of that copy) of every output slot, for each beat of the inner kernel's output layout."""
    return tuple(tuple((copy, k) for copy in range(spec.copies) for k in range(len(beat))) for beat in inner.beats)


def wrapper_resources(spec: Streamed, graph: Graph, timing: Timing) -> Resources:
    """Cost of the pulse train; widths are adapted by wires."""
    if not counts_phases(spec):
        return Resources()
    return train_resources(slice_of(spec, graph).starts, timing.fabric)
