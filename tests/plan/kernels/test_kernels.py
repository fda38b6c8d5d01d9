"""The ladder of kernels: emitted RTL gives the NumPy emulator's bits, each beat in the promised cycle."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
from harness import check_cases, check_lint
from hypothesis import HealthCheck, Phase, given, settings
from strategies import batches

from metronn.emit.rtl.kernels.waiting.delay import emit_delay
from metronn.ir.arrays import IntArray
from metronn.ir.graph import GraphBuilder
from metronn.ir.ops import Input, Lookup
from metronn.ir.types import Range
from metronn.plan.hardware.boards import load_device
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.kernels import planned
from metronn.plan.kernels.spec import Delay, Gather, Table
from metronn.plan.layout import Layout
from metronn.verify import kernel_bench
from metronn.verify.kernel_bench import Case, write_bench

FABRIC = load_device("vu13p").fabric

GENERATED = settings(
    derandomize=True,
    deadline=None,
    database=None,
    phases=[Phase.generate],  # a failing batch names its kernels; shrinking would build hundreds of simulations
    suppress_health_check=list(HealthCheck),
)


@settings(GENERATED, max_examples=2)
@given(cases=batches(2))
def test_kernels_in_icarus(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> None:
    assert check_cases(cases, "icarus", tmp_path_factory.mktemp("icarus")) > 100


@pytest.mark.slow
@settings(GENERATED, max_examples=6)
@given(cases=batches(8))
def test_kernels_in_icarus_widely(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> None:
    assert check_cases(cases, "icarus", tmp_path_factory.mktemp("icarus"), seed=7) > 100


@pytest.mark.slow
@settings(GENERATED, max_examples=3)
@given(cases=batches(6))
def test_kernels_in_verilator(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> None:
    assert check_cases(cases, "verilator", tmp_path_factory.mktemp("verilator")) > 100


@pytest.mark.slow
@settings(GENERATED, max_examples=4)
@given(cases=batches(8))
def test_kernels_are_lint_clean(cases: list[Case], tmp_path_factory: pytest.TempPathFactory) -> None:
    check_lint(cases, tmp_path_factory.mktemp("lint"))


def table_case(bits: int, levels: int) -> Case:
    """A table of 2**bits random entries, twice."""
    graph = GraphBuilder()
    x = graph.add(Input(shape=(2,), range=Range.fixed(bits, 4)), "x")
    source = random.Random(bits)
    table = IntArray.of([source.randint(-90, 400) for _ in range(1 << bits)])
    graph.output("y", graph.add(Lookup(x=x, table=table, frac=3), "tanh"))
    timing = Timing(levels_per_stage=levels, fabric=FABRIC)
    name = f"mnn_table_{bits}_{levels}"
    return Case(name=name, spec=Table(lookup="tanh"), graph=graph.build(), timing=timing, ii_cycles=1)


@pytest.mark.slow
@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
def test_large_tables_take_a_cycle_more(simulator: str, tmp_path: Path) -> None:
    cases = [table_case(9, 1), table_case(10, 1), table_case(10, 2), table_case(11, 2)]
    assert [planned(c.spec, c.graph, c.timing).latency_cycles for c in cases] == [1, 2, 1, 2]
    assert check_cases(cases, simulator, tmp_path) == 4 * 24 * 20
    if simulator == "verilator":
        check_lint(cases, tmp_path)


def test_the_bench_sees_a_beat_one_cycle_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = GraphBuilder()
    graph.output("y", graph.add(Input(shape=(2,), range=Range.fixed(6, 0)), "x"))
    spec = Delay(value="x", layout=Layout(((0,), (1,))), cycles=2)
    case = Case(name="mnn_late", spec=spec, graph=graph.build(), timing=Timing(fabric=FABRIC), ii_cycles=2)
    late = emit_delay(planned(replace(spec, cycles=3), case.graph, case.timing), "mnn_late")
    monkeypatch.setattr(kernel_bench, "emit_kernel", lambda *_: late)
    with pytest.raises(AssertionError, match="mnn_late: event 0, cycle 0: found"):
        check_cases([case], "icarus", tmp_path)


def test_an_ii_the_kernel_cannot_keep_is_refused(tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.output("y", graph.add(Input(shape=(2,), range=Range.fixed(6, 0)), "x"))
    spec = Gather(value="x", layout=Layout(((0,), (1,))))
    case = Case(name="mnn_fast", spec=spec, graph=graph.build(), timing=Timing(fabric=FABRIC), ii_cycles=1)
    with pytest.raises(ValueError, match="mnn_fast: II 1, at least 2 is needed"):
        write_bench([case], tmp_path)
