"""What was asked of a plan and had no effect, each with the reason in a line.

A request may be void: an II, though every layer is unrolled; a fold, though none is left; a stream of an input that has
no pixels. The lines are about a finished design and do not change it.
"""

from __future__ import annotations

from collections.abc import Iterator

from metronn.plan.design import Design
from metronn.plan.figures import unrolled_part
from metronn.plan.hardware.resources import Resources, lut_equivalents
from metronn.plan.kernels.adders.matvec import PlannedAdders
from metronn.plan.kernels.folds.fold import fold_outputs_spec
from metronn.plan.kernels.kernels import AnyKernel, planned
from metronn.plan.kernels.spec import FoldInputs, FoldOutputs
from metronn.plan.options import Fold, InputForm, Objective, OutputForm, PlanOptions


def remarks(design: Design, options: PlanOptions) -> tuple[str, ...]:
    """Return the lines; none where everything that was asked shows in the design."""
    return (*_unrolled(design, options), *_folds(design, options), *_streams(design, options), *_words(design, options))


def _unrolled(design: Design, options: PlanOptions) -> Iterator[str]:
    """Unrolled layers at an II that would let them fold: the dearest, and how many more."""
    if design.ii_cycles == 1 or options.objective is Objective.RESOURCES:
        return
    found = []
    for kernel in (kernel for fpga in design.fpgas for kernel in fpga.kernels):
        plan = design.planned(kernel)
        part = unrolled_part(plan)
        if part is None or options.reuse_of(_source(part, design)) is not None:
            continue
        folded = _folded(plan, part, design.ii_cycles)
        if folded is not None and lut_equivalents(folded[2]) < lut_equivalents(kernel.resources):
            found.append((lut_equivalents(kernel.resources) - lut_equivalents(folded[2]), kernel, part, folded))
    if not found:
        return
    _, kernel, part, (beats, cycles, cost) = max(found, key=lambda entry: entry[0])
    more = f" (so with {len(found) - 1} more of its layers)" if len(found) > 1 else ""
    yield (
        f"II {design.ii_cycles}: {_source(part, design)} is unrolled: {_amount(kernel.resources)} at "
        f"{kernel.latency_cycles} cycles; folding over {beats} cycles would take {_amount(cost)} at {cycles} "
        f'cycles{more}: plan.objective = "resources" takes it'
    )


def _folded(kernel: AnyKernel, part: PlannedAdders, ii_cycles: int) -> tuple[int, int, Resources] | None:
    """Return cycles, latency and cost of the longest fold in the place of an unrolled kernel; None where none fits."""
    spec, own, beats = part.spec, part.graph, ii_cycles
    if part is not kernel:
        layout = kernel.inputs[0][1]
        beats = min(layout.spacing or beats, beats - layout.cycles[-1])
    elif len(own.type_of(spec.linear).shape) > 1:
        return None
    if beats < 2:
        return None
    fold = planned(fold_outputs_spec(own, spec.linear, spec.epilogue, beats, kernel.timing), own, kernel.timing)
    last, cost = fold.latency_cycles + fold.output.span - 1, fold.resources
    return beats, last, cost.scaled(kernel.copies)


def _folds(design: Design, options: PlanOptions) -> Iterator[str]:
    parts = [design.planned(kernel).part.spec for fpga in design.fpgas for kernel in fpga.kernels]
    if options.fold is Fold.LATENCY and not any(isinstance(spec, FoldOutputs | FoldInputs) for spec in parts):
        why = "at II 1 nothing can be folded" if design.ii_cycles == 1 else "no layer of this plan is folded"
        yield f'plan.fold = "latency" has no effect: {why}'


def _streams(design: Design, options: PlanOptions) -> Iterator[str]:
    if options.inputs is not InputForm.STREAM:
        return
    for name, signal in design.inputs.items():
        if signal.layout.beat_count > 1:
            continue
        shape = design.graph.type_of(name).shape
        if len(shape) < 2:
            why = "it has one axis; only inputs of two axes or more come pixel by pixel"
        elif design.ii_cycles == 1:
            why = "at II 1 there is one cycle for it"
        else:
            why = f"the II of {design.ii_cycles} cycles is too short for its {shape} elements, row by row"
        yield f'plan.inputs = "stream" has no effect on input {name}: {why}'


def _words(design: Design, options: PlanOptions) -> Iterator[str]:
    first, last = design.fpgas[0].enters, design.fpgas[-1].leaves
    for side, frame, asked in (("input", first, options.input_lanes), ("output", last, options.output_lanes)):
        if frame is not None and asked is not None and frame.lanes < asked:
            yield f"plan.{side}_lanes = {asked}: {frame.lanes} carry an event as soon, no more are used"
    if last is not None and options.outputs is OutputForm.STREAM:
        yield 'plan.outputs = "stream" has no effect: results leave as words, packed as they are made'


def _source(part: PlannedAdders, design: Design) -> str:
    return design.graph.by_name[part.spec.linear].source


def _amount(cost: Resources) -> str:
    return f"{cost.dsp:,} DSP and {cost.lut:,} LUT" if cost.dsp else f"{cost.lut:,} LUT"
