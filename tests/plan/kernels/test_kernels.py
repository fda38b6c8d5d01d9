"""The ladder of kernels: emitted RTL is lint clean and gives the NumPy emulator's bits, each beat in its cycle."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from fold_strategies import fold_batches, sparse_batches
from harness import check_cases
from hypothesis import given
from hypothesis import strategies as st
from strategies import batches
from stream_strategies import serial_batches, stream_batches
from window_strategies import buffer_batches

from metronn.emit.rtl.kernels.waiting.delay import emit_delay
from metronn.ir.arrays import IntArray
from metronn.ir.graph import GraphBuilder
from metronn.ir.ops import Input, Lookup
from metronn.ir.types import Range
from metronn.plan.hardware.boards import load_device
from metronn.plan.kernels.kernels import planned
from metronn.plan.kernels.spec import Delay, Gather, Table
from metronn.plan.layout import Layout
from metronn.verify import kernel_bench
from metronn.verify.kernel_bench import Case, write_bench
from random_tests import builds
from simulators import need
from timings import ADDITION_PS, level_timing

FABRIC = load_device("vu13p").fabric


@dataclass(frozen=True, slots=True)
class Rung:
    """So many batches, of so many kernels of each kind, in a simulator; the bits that each batch compares at least."""

    simulator: str
    batches: int
    kernels: int
    bits: int = 100


@dataclass(frozen=True, slots=True)
class Family:
    """Kernels that are drawn alike, by the number of each kind, with a quick rung and slow ones."""

    drawn: Callable[[int], st.SearchStrategy[list[Case]]]
    quick: Rung
    slow: tuple[Rung, ...]


FAMILIES = {
    "kernels": Family(batches, Rung("icarus", 2, 2), (Rung("icarus", 6, 8), Rung("verilator", 3, 6))),
    "buffers": Family(
        buffer_batches, Rung("icarus", 2, 1, 20), (Rung("icarus", 5, 3, 20), Rung("verilator", 2, 3, 20))
    ),
    "folds": Family(fold_batches, Rung("icarus", 2, 5), (Rung("icarus", 2, 8, 250), Rung("verilator", 3, 8, 250))),
    "sparse folds": Family(sparse_batches, Rung("icarus", 1, 8), (Rung("verilator", 1, 25, 500),)),
    "streams": Family(stream_batches, Rung("icarus", 2, 2), (Rung("icarus", 2, 4), Rung("verilator", 3, 4))),
    "collected streams": Family(serial_batches, Rung("icarus", 2, 5), (Rung("icarus", 3, 5), Rung("verilator", 3, 6))),
}
"""How every kernel climbs the ladder. A kernel is added to the strategy of its family, or a family here."""


def climb(family: Family, rung: Rung, check: Callable[[list[Case]], None]) -> None:
    """Draw the batches of a rung and check each."""

    @builds(rung.batches)
    @given(cases=family.drawn(rung.kernels))
    def batch(cases: list[Case]) -> None:
        check(cases)

    batch()


@pytest.mark.random
@pytest.mark.parametrize("family", FAMILIES)
def test_kernels(family: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    found = FAMILIES[family]
    rung = found.quick
    need(rung.simulator)

    def check(cases: list[Case]) -> None:
        assert check_cases(cases, rung.simulator, tmp_path_factory.mktemp("quick")) > rung.bits

    climb(found, rung, check)


@pytest.mark.slow
@pytest.mark.random
@pytest.mark.parametrize(
    ("family", "rung"),
    [
        pytest.param(family, rung, id=f"{name}-{rung.simulator}")
        for name, family in FAMILIES.items()
        for rung in family.slow
    ],
)
def test_kernels_widely(family: Family, rung: Rung, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Values and cycles of every beat, with other stimuli than above, and nothing for Verilator's lint to say."""
    need(rung.simulator)

    def check(cases: list[Case]) -> None:
        directory = tmp_path_factory.mktemp(rung.simulator)
        assert check_cases(cases, rung.simulator, directory, seed=7, lints=True) > rung.bits

    climb(family, rung, check)


def table_case(bits: int, levels: int) -> Case:
    """A table of 2**bits random entries, twice."""
    graph = GraphBuilder()
    x = graph.add(Input(shape=(2,), range=Range.fixed(bits, 4)), "x")
    source = random.Random(bits)
    table = IntArray.of([source.randint(-90, 400) for _ in range(1 << bits)])
    graph.output("y", graph.add(Lookup(x=x, table=table, frac=3), "tanh"))
    timing = level_timing(FABRIC, levels, net_ps=ADDITION_PS * levels // (levels + 1))  # so many LUTs in a row
    name = f"mnn_table_{bits}_{levels}"
    return Case(name=name, spec=Table(lookup="tanh"), graph=graph.build(), timing=timing, ii_cycles=1)


@pytest.mark.slow
@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
def test_large_tables_take_a_cycle_more(simulator: str, tmp_path: Path) -> None:
    cases = [table_case(9, 1), table_case(10, 1), table_case(10, 2), table_case(11, 2)]
    assert [planned(c.spec, c.graph, c.timing).latency_cycles for c in cases] == [1, 2, 1, 2]
    assert check_cases(cases, simulator, tmp_path, lints=True) == 4 * 24 * 20


def test_the_bench_sees_a_beat_one_cycle_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = GraphBuilder()
    graph.output("y", graph.add(Input(shape=(2,), range=Range.fixed(6, 0)), "x"))
    spec = Delay(value="x", layout=Layout(((0,), (1,))), cycles=2)
    case = Case(name="mnn_late", spec=spec, graph=graph.build(), timing=level_timing(FABRIC), ii_cycles=2)
    late = emit_delay(planned(replace(spec, cycles=3), case.graph, case.timing), "mnn_late")
    monkeypatch.setattr(kernel_bench, "emit_kernel", lambda *_: late)
    with pytest.raises(AssertionError, match="mnn_late: event 0, cycle 0: found"):
        check_cases([case], "icarus", tmp_path)


def test_an_ii_the_kernel_cannot_keep_is_refused(tmp_path: Path) -> None:
    graph = GraphBuilder()
    graph.output("y", graph.add(Input(shape=(2,), range=Range.fixed(6, 0)), "x"))
    spec = Gather(value="x", layout=Layout(((0,), (1,))))
    case = Case(name="mnn_fast", spec=spec, graph=graph.build(), timing=level_timing(FABRIC), ii_cycles=1)
    with pytest.raises(ValueError, match="mnn_fast: II 1, at least 2 is needed"):
        write_bench([case], tmp_path)
