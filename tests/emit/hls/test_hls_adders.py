"""Unrolled matrices as straight-line C++: the plan's additions, in functions of bounded size, equal in every bit."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest
from hls_projects import assert_equal, build_together, project_of, unrolled
from native_graphs import random_codes, random_ints, random_range

from metronn.emit.hls import adders
from metronn.emit.hls.netlist import Ports, needed, rows_of, straight_line
from metronn.emit.hls.project import emit_hls
from metronn.ir.arrays import IntArray
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Constant, Extremum, Input, Linear, Overflow, Requantize, Rounding
from metronn.ir.types import Range
from metronn.plan.kernels.adders.matvec import PlannedAdders
from metronn.plan.kernels.netlist import Source, Sum, cell_reads


def layer(rng: random.Random, bits: int, rows: int) -> Graph:
    """Return a matrix with, at random, a ReLU and fewer bits behind it: wrapped, or saturated for some outputs."""
    builder = GraphBuilder()
    n_in, n_out = rng.randint(1, 9), rng.randint(1, 9)
    shape = (n_in,) if rows == 1 else (rows, n_in)
    alike = rows > 1 and rng.random() < 0.6  # every row of the same ranges, or each element of its own
    bounds = Range.fixed(rng.randint(2, bits), 2) if alike else random_range(rng, rows * n_in, bits)
    x = builder.add(Input(shape=shape, range=bounds), "x")
    weight, bias = random_ints(rng, (n_in, n_out), rng.choice((4, 9))), random_ints(rng, (n_out,), bits)
    if rng.random() < 0.3:
        weight = IntArray.of(np.where(np.arange(n_out) % 2, 0, weight.array))
    x = builder.add(Linear(x=x, weight=weight, bias=bias, weight_frac=3), "linear")
    if rng.random() < 0.5:
        zero = builder.add(Constant(values=IntArray.of([0])), "zero")
        x = builder.add(Extremum(x=x, y=zero), "relu")
    if rng.random() < 0.8:
        kind = builder.types[x].range
        # bounds that some outputs reach and others do not
        high = max(1, int(np.median(np.abs(np.asarray(kind.his(builder.types[x].size), dtype=object)).astype(float))))
        frac = max(kind.fracs(builder.types[x].size)) - rng.randint(0, 3)
        low = -high if rng.random() < 0.5 else 0
        overflow = rng.choice((Overflow.SAT, Overflow.SAT, Overflow.SAT_ZERO))
        x = builder.add(
            Requantize(x=x, out=Range(low, high, frac), rounding=rng.choice(list(Rounding)), overflow=overflow), "out"
        )
    builder.output("y", x)
    return builder.build()


def samples(count: int) -> list[Graph]:
    """Return matrices of narrow and wide codes, of one row and of several."""
    rng = random.Random(4)
    return [layer(rng, rng.choice((6, 20, 40, 70)), rng.choice((1, 1, 3))) for _ in range(count)]


@pytest.mark.slow
@pytest.mark.usefixtures("hls_compiler")
@pytest.mark.parametrize("cells", [5, 500])
def test_random_matrices_equal_numpy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cells: int) -> None:
    """With functions so small that most sums go from one to another, and with those that are emitted."""

    def short(*arguments: object) -> object:
        return straight_line(*arguments, part_cells=cells)  # type: ignore[arg-type]

    monkeypatch.setattr(adders, "straight_line", short)
    found = samples(30)
    flows = [unrolled(graph) for graph in found]
    simulations = build_together(found, tmp_path, flows=flows)
    text = "".join(path.read_text() for path in tmp_path.glob("g*/adders/*.hpp"))
    for piece in ("sum_[", "made_", "Rows:", "metronn::long_t", "metronn::sint<7", "signed_bits", "(void)x_"):
        assert piece in text, piece
    for number, (simulation, graph) in enumerate(zip(simulations, found, strict=True)):
        assert_equal(simulation, graph, random_codes(graph, 40, number))


def dense() -> tuple[Graph, PlannedAdders]:
    """Return a matrix of one row, and its plan."""
    rng = np.random.default_rng(2)
    builder = GraphBuilder()
    x = builder.add(Input(shape=(12,), range=Range.fixed(8, 2)), "x")
    weight, bias = IntArray.of(rng.integers(-90, 90, (12, 10))), IntArray.of(rng.integers(-90, 90, 10))
    builder.output("y", builder.add(Linear(x=x, weight=weight, bias=bias, weight_frac=3), "linear"))
    graph = builder.build()
    flow = unrolled(graph)
    planned = flow.plans.of(flow.kernels[0].spec)
    assert isinstance(planned, PlannedAdders)
    return graph, planned


def test_each_addition_of_the_plan_is_one_statement() -> None:
    """What the tool is given are the shared sums of the plan, each once, and no product."""
    graph, planned = dense()
    files = emit_hls(graph, project_of(graph, "muon", 1), unrolled(graph))
    text = str(files["adders/linear_adders.hpp"])
    netlist, _ = planned.structure
    sums = [cell for cell in netlist.cells if isinstance(cell.op, Sum)]
    assert len(sums) > 20
    for cell in sums:
        (statement,) = re.findall(rf"const \S+ {cell.name} = (.*);", text)
        assert statement.startswith(f"metronn::{'signed' if cell.lo < 0 else 'unsigned'}_bits<{cell.width}>(")
        assert all(netlist.cells[read].name in statement for read in cell_reads(cell.op))
    assert "*" not in re.sub(r"//.*", "", text)
    assert "metronn::dense<" not in str(files["muon.cpp"])
    assert "metronn/dense.hpp" not in files


def test_functions_are_bounded() -> None:
    """No function makes more cells than allowed, each cell is made once, and what is read elsewhere has an array."""
    _, planned = dense()
    netlist, _ = planned.structure
    code = straight_line(netlist, "linear", Ports("x_t", "s_t", "y_t"), part_cells=10)
    made = [re.match(r"const \S+ (\w+) =", line) for part in code.parts for line in part.statements]
    names = [match[1] for match in made if match]
    wanted = [cell.name for cell in netlist.cells if not isinstance(cell.op, Source)]
    assert all(names.count(name) >= 1 for name in wanted)
    cells = [[line for line in part.statements if "_bits<" in line and "x_[" not in line] for part in code.parts]
    assert max(map(len, cells)) <= 10
    assert len(code.parts) == -(-len(wanted) // 10)
    for array, (_, size) in code.arrays.items():
        text = [line for part in code.parts for line in part.statements]
        assert sum(line.startswith(f"{array}[") for line in text) == size
        assert any(f"= {array}[" in line for line in text)


def test_rows_that_are_alike_share_their_functions() -> None:
    """The same matrix on four rows is one row's functions, called for each."""
    rng = np.random.default_rng(2)
    builder = GraphBuilder()
    x = builder.add(Input(shape=(4, 5), range=Range.fixed(8, 2)), "x")
    weight, bias = IntArray.of(rng.integers(-9, 9, (5, 3))), IntArray.of([1, 2, 3])
    builder.output("y", builder.add(Linear(x=x, weight=weight, bias=bias, weight_frac=3), "linear"))
    graph = builder.build()
    flow = unrolled(graph)
    planned = flow.plans.of(flow.kernels[0].spec)
    assert isinstance(planned, PlannedAdders)
    netlist, _ = planned.structure
    one, copies = rows_of(netlist, 4, 5)
    assert copies == 4
    assert 4 * len(one.cells) == len(netlist.cells)
    assert sorted(needed(netlist, netlist.results)) == list(range(len(netlist.cells)))
    text = str(emit_hls(graph, project_of(graph, "muon", 1), flow)["adders/linear_adders.hpp"])
    assert "for (int row_ = 0; row_ < 4; row_++)" in text
    assert text.count("linear_part_0(") == 2
