"""Emitted HLS C++ compiled with g++ against the NumPy emulator: equal in every bit, for every op, at every width."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hls_projects import assert_equal, build_together, project_of, two_layers
from native_graphs import collected, graphs, random_codes

from metronn.emit.hls.project import emit_hls
from metronn.errors import ModelError, ToolError
from metronn.ir.arrays import IntArray
from metronn.ir.graph import GraphBuilder
from metronn.ir.ops import Constant, Input, Linear, Lookup, Overflow, Reduce, Requantize, Rewire, Rounding
from metronn.ir.types import Range
from metronn.verify.hls import HlsSimulation


@pytest.mark.usefixtures("hls_compiler")
def test_network_equals_numpy(tmp_path: Path) -> None:
    """A small folded network, with events spread over threads."""
    graph, flow = two_layers()
    project = emit_hls(graph, project_of(graph, "muon_fpga0"), flow)
    simulation = HlsSimulation.build(project, tmp_path, optimize="-O0", strict=True)
    codes = random_codes(graph, 700, 1)
    assert_equal(simulation, graph, codes)
    alone, spread = simulation.run(codes, threads=1), simulation.run(codes, threads=3)
    assert all((alone[name] == spread[name]).all() for name in alone)


@pytest.mark.random
@pytest.mark.slow
@pytest.mark.usefixtures("hls_compiler")
@pytest.mark.parametrize("part", range(3))
def test_random_graphs_equal_numpy(tmp_path: Path, part: int) -> None:
    """Every op over random shapes, ranges, fracs and widths up to 200 bits."""
    found = collected(graphs(), 90)[part * 30 : part * 30 + 30]
    for number, (simulation, graph) in enumerate(zip(build_together(found, tmp_path), found, strict=True)):
        assert_equal(simulation, graph, random_codes(graph, 60, number))


@pytest.mark.slow
@pytest.mark.usefixtures("hls_compiler")
def test_requantize_all_modes(tmp_path: Path) -> None:
    """Seven roundings by four overflows, several shifts at once, every code of an 8-bit input, at 8 and at 80 bits."""
    found = []
    for rounding in Rounding:
        for overflow in Overflow:
            builder = GraphBuilder()
            x = builder.add(Input(shape=(6,), range=Range(-128, 127, (4, 5, 6, 1, 0, 12))), "x")
            out = Range(-3 if overflow is Overflow.SAT_SYM else -4, 3, 2)
            narrow = Requantize(x=x, out=out, rounding=rounding, overflow=overflow)
            builder.output("narrow", builder.add(narrow, "narrow"))
            wide = builder.add(Linear(x=x, weight=IntArray.of(np.eye(6, dtype=np.int64) * 3 * 2**55),
                                      bias=IntArray.of([2**60] * 6), weight_frac=50), "wide")  # fmt: skip
            high = Range(-(2**30) + (overflow is Overflow.SAT_SYM), 2**30 - 1, 9)
            shown = builder.add(Requantize(x=wide, out=high, rounding=rounding, overflow=overflow), "shown")
            builder.output("wide", shown)
            found.append(builder.build())
    codes = {"x": np.repeat(np.arange(-128, 128)[:, np.newaxis], 6, axis=1)}
    for simulation, graph in zip(build_together(found, tmp_path), found, strict=True):
        assert_equal(simulation, graph, codes)


@pytest.mark.slow
@pytest.mark.usefixtures("hls_compiler")
def test_hostile_names(tmp_path: Path) -> None:
    """Values named like C++ words, types of the standard library, or each other's derived names."""
    words = ("int", "int8", "time", "x_t", "x", "x_cfg", "class", "metronn", "namespace", "a.b", "a_b", "_q__r", "main",
             "copy", "std", "long", "g0", "events", "inputs", "outputs", "event", "to_0", "from_0")  # fmt: skip
    builder = GraphBuilder()
    first = builder.add(Input(shape=(2,), range=Range.fixed(6, 2)), words[0])
    for word in words[1:]:
        last = builder.add(Requantize(x=first, out=Range(-2, 1, 1), rounding=Rounding.RND, overflow=Overflow.SAT), word)
        builder.output(word, last)
    builder.output("signed", first)
    graph = builder.build()
    (simulation,) = build_together([graph], tmp_path)
    assert_equal(simulation, graph, random_codes(graph, 20, 3))


@pytest.mark.slow
@pytest.mark.usefixtures("hls_compiler")
def test_edges_of_the_ops(tmp_path: Path) -> None:
    """Unused input, constant as output, table over wide codes, reduction over a middle axis, 64-bit unsigned ports."""
    builder = GraphBuilder()
    builder.add(Input(shape=(2,), range=Range.fixed(6, 2)), "unused")
    big = builder.add(Input(shape=(2, 3, 2), range=Range(0, 2**64 - 1, 0)), "big")
    far = builder.add(Input(shape=(3,), range=Range(2**80, 2**80 + 4, 0)), "far")
    builder.output("far_table", builder.add(Lookup(x=far, table=IntArray.of([3, -1, 4, 2**90, -(2**63)])), "table"))
    builder.output("constant", builder.add(Constant(values=IntArray.of([-(2**63), 2**63 - 1, 2**70])), "constant"))
    builder.output("middle", builder.add(Reduce(x=big, axes=(1,)), "middle"))
    builder.output("outer", builder.add(Reduce(x=big, axes=(0, 2)), "outer"))
    builder.output("same", big)
    index = IntArray.of(np.array([14, -1, 0, 5]))
    builder.output("mixed", builder.add(Rewire(xs=(big, far), index=index, shape=(4,)), "mixed"))
    graph = builder.build()
    (simulation,) = build_together([graph], tmp_path)
    assert_equal(simulation, graph, random_codes(graph, 20, 3))


@pytest.mark.parametrize("name", ["", "a b", "1st", "a__b", "../x"])
def test_bad_project_name(name: str) -> None:
    """The project's name becomes a function and a file."""
    graph, _ = two_layers()
    with pytest.raises(ModelError, match="name is"):
        project_of(graph, name)


@pytest.mark.usefixtures("hls_compiler")
def test_bad_codes_and_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes that do not fit a port, missing inputs, a folder that is no project, a missing compiler."""
    graph, _ = two_layers()
    folder = tmp_path / "project"
    for path, content in emit_hls(graph, project_of(graph, "muon")).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(str(content))
    simulation = HlsSimulation.load(folder, folder / "libmuon.so")
    with pytest.raises(ModelError, match="no data; found x"):
        simulation.run({"x": np.zeros((1, 6), dtype=np.int64)})
    with pytest.raises(ModelError, match="shape per event is \\(5,\\), allowed is \\(6,\\)"):
        simulation.run({"hits": np.zeros((1, 5), dtype=np.int64)})
    with pytest.raises(ModelError, match="codes go from 200 to 200, allowed is -128 to 127"):
        simulation.run({"hits": np.full((1, 6), 200)})
    with pytest.raises(ModelError, match="codes are float64"):
        simulation.run({"hits": np.zeros((1, 6))})
    with pytest.raises(ModelError, match="no interface.json"):
        HlsSimulation.build(tmp_path, tmp_path / "build")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ToolError, match="no-such-compiler, which is not on PATH"):
        HlsSimulation.build(folder, tmp_path / "build")
