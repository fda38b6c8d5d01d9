"""Planned kernels: every kind of kernel has one, each is planned once, and they answer what they are asked."""

from __future__ import annotations

import typing

import pytest

from metronn.ir.arrays import IntArray
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Input, Linear, Reduce, ReduceKind, Requantize
from metronn.ir.types import Range
from metronn.plan.hardware.boards import load_device
from metronn.plan.hardware.system import load_system
from metronn.plan.kernels.kernels import AnyKernel, Kernels, planned
from metronn.plan.kernels.spec import (
    Crossing,
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
from metronn.plan.kernels.streamed import InnerKernel, PlannedStreamed
from metronn.plan.layout import Layout
from metronn.plan.options import PlanOptions
from metronn.plan.placing import placed, problem_of
from timings import level_timing

TIMING = level_timing(load_device("vu13p").fabric, 2)
ROWS, WHOLE = Layout.rows(12, 3), Layout.parallel(12)
FOLD = FoldOutputs(linear="dense", lanes=2, beats=2, remainder=0)
SPECS: tuple[KernelSpec, ...] = (
    MatvecAdders(linear="dense"),
    FOLD,
    FoldInputs(linear="dense", layout=Layout.rows(3, 1)),
    Elementwise(nodes=("q",)),
    Table(lookup="table"),
    ReduceTree(reduce="sum"),
    Wiring(rewire="moved"),
    Gather(value="x", layout=ROWS),
    Delay(value="x", layout=ROWS, cycles=3),
    Crossing(value="x", layout=ROWS, registers=3),
    Streamed(inner=Elementwise(nodes=("q",)), layouts=(ROWS,)),
    WindowBuffer(node="moved", layouts=(ROWS,), output=WHOLE, offset=4),
    Reorder(value="x", layout=ROWS, output=Layout.rows(12, 6), offset=3),
    ReduceSerial(reduce="sum", layout=ROWS),
)


def network() -> Graph:
    """Four rows of three elements, rounded, through one matrix and, all of them, into one sum."""
    builder = GraphBuilder()
    x = builder.add(Input(shape=(4, 3), range=Range.fixed(8, 4)), "x")
    q = builder.add(Requantize(x=x, out=Range.fixed(6, 4)), "q")
    weight = IntArray.of([[3, -5, 77, 9], [1, 22, 0, -6], [0, 4, 13, 101]])
    builder.output("y", builder.add(Linear(x=q, weight=weight, bias=IntArray.of([1, 2, 3, 4]), weight_frac=0), "dense"))
    builder.output("total", builder.add(Reduce(x=q, axes=(0, 1), kind=ReduceKind.SUM), "sum"))
    return builder.build()


def test_every_specification_is_planned_by_a_class_of_its_own() -> None:
    kernels = Kernels(network(), TIMING)
    made = {type(spec): type(kernels.of(spec)) for spec in SPECS}
    assert set(made) == set(typing.get_args(KernelSpec))
    assert set(made.values()) == set(typing.get_args(AnyKernel))
    for spec, kernel in made.items():
        (base,) = kernel.__orig_bases__
        assert typing.get_args(base) == (spec,)
    inner = typing.get_args(typing.get_type_hints(Streamed)["inner"])
    assert {made[spec] for spec in inner} == set(typing.get_args(InnerKernel))


def test_kinds_are_named_as_in_reports() -> None:
    kernels = Kernels(network(), TIMING)
    assert [kernels.of(spec).kind_name for spec in SPECS] == [
        "matvec_adders",
        "matvec_fold_outputs",
        "matvec_fold_inputs",
        "elementwise",
        "table",
        "reduce",
        "wiring",
        "reorder",
        "delay",
        "crossing",
        "elementwise",
        "window_buffer",
        "reorder",
        "reduce",
    ]


def test_a_kernel_is_planned_once() -> None:
    graph, spec = network(), Delay(value="x", layout=ROWS, cycles=3)
    kernels = Kernels(graph, TIMING)
    kernel = kernels.of(spec)
    assert kernels.of(Delay(value="x", layout=ROWS, cycles=3)) is kernel
    assert planned(spec, graph, TIMING) is not kernel


def test_kernels_are_those_of_a_graph_and_a_timing() -> None:
    kernels = Kernels(network(), TIMING)
    kernels.of(Delay(value="x", layout=ROWS, cycles=3))
    assert kernels == Kernels(network(), TIMING)
    assert kernels != Kernels(network(), level_timing(TIMING.fabric, 1))
    assert kernels.of(FOLD).graph is kernels.graph


def test_a_problem_goes_on_with_kernels_of_its_graph_and_clock() -> None:
    graph, system = network(), load_system("one-large-virtual")
    first = problem_of(graph, system, PlanOptions())
    again = problem_of(graph, system.with_overrides(ii=4), PlanOptions(), known=first.kernels)
    assert again.kernels is first.kernels
    assert problem_of(network(), system, PlanOptions(), known=first.kernels).kernels is not first.kernels
    slower = system.with_overrides(clock_mhz=system.clock_mhz / 4)
    assert slower.timing != system.timing
    assert problem_of(graph, slower, PlanOptions(), known=first.kernels).kernels is not first.kernels
    design = placed(first)
    assert design is not None and design.kernels is first.kernels


def test_what_was_not_asked_for_longest_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Kernels, "KEPT", 2)
    kernels = Kernels(network(), TIMING)
    delays = [Delay(value="x", layout=ROWS, cycles=k) for k in (1, 2, 3)]
    first, second = (kernels.of(spec) for spec in delays[:2])
    assert kernels.of(delays[0]) is first
    kernels.of(delays[2])
    assert kernels.of(delays[0]) is first
    assert kernels.of(delays[1]) is not second


def test_a_streamed_kernel_answers_for_all_its_groups() -> None:
    graph = network()
    beats = Layout.rows(12, 6, 4)  # two rows a beat, a beat every four cycles
    kernel = planned(Streamed(inner=FOLD, layouts=(beats,), copies=2), graph, TIMING)
    assert kernel.nodes == ("dense",)
    assert kernel.result == "dense"
    assert kernel.inputs == (("q", beats),)
    assert kernel.output.cycles == (0, 1, 4, 5)
    assert kernel.output.beats[0] == (0, 1, 4, 5)
    assert kernel.cycles_per_event == 4 + 2
    inner = planned(FOLD, kernel.slice.graph, TIMING) if isinstance(kernel, PlannedStreamed) else None
    assert inner is not None
    assert kernel.latency_cycles == inner.latency_cycles
    assert (kernel.part, kernel.copies) == (kernel.inner, 2)
    assert (inner.part, inner.copies) == (inner, 1)
    assert kernel.multipliers == 2 * inner.multipliers
    assert kernel.resources.dsp == 2 * inner.resources.dsp > 0
