"""Static checks: silent about what is emitted, and each finds the fault it is there for."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from hls_projects import project_of, two_layers, unrolled
from test_hls_neighbours import two_boards
from test_hls_window_buffers import one_kernel, square

from metronn.emit.build import hls_project
from metronn.emit.hls.flow import Flow, flow_of
from metronn.emit.hls.project import emit_hls
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Input, Overflow, Requantize, Window
from metronn.ir.types import Range
from metronn.plan.layout import Layout
from metronn.plan.subgraph import subgraph
from metronn.verify.hls import ap_types_directory, write_files
from metronn.verify.hls_source import evaluate, read_source
from metronn.verify.hls_static import check_build, check_neighbours, check_project


def text_of(graph: Graph, flow: Flow | None) -> dict[str, str]:
    """Return the files of a project."""
    ii_cycles = 9 if flow is None else flow.ii_cycles
    return {path: str(text) for path, text in emit_hls(graph, project_of(graph, "muon", ii_cycles), flow).items()}


def folded() -> dict[str, str]:
    """Return a project with two folds."""
    return text_of(*two_layers())


def windows(channels: int = 2) -> dict[str, str]:
    """Return a project with line buffers whose padding leaves while the next image comes."""
    flow = square(10, 3, channels, 100)
    return text_of(flow.graph, flow)


def test_what_is_emitted_passes() -> None:
    graph, _ = two_layers()
    for files in (folded(), windows(), text_of(graph, None), unrolled_matrix()):
        assert check_project(files) == []


def unrolled_matrix() -> dict[str, str]:
    """Return a project with an adder graph."""
    graph, _ = two_layers()
    return text_of(graph, unrolled(graph))


FAULTS = [
    ("muon.cpp", "#pragma HLS DATAFLOW", "#pragma HLS DATAFLOWS", "pragma DATAFLOWS is not known"),
    ("muon.cpp", "queue depth = 2", "queue depths = 2", "STREAM has no option depths"),
    ("muon.cpp", "impl = srl", "impl = shift", "BIND_STORAGE impl is shift, allowed are"),
    ("muon.cpp", "STREAM variable = dense", "STREAM variable = danse", "which is not declared above it"),
    ("metronn/dense_stream.hpp", "variable = held.slot", "variable = hold.slot", "which is not declared above it"),
    ("types.hpp", "sint<13> pt_t", "sint<5000> pt_t", "pt_t: 5000 bits, allowed are 4096"),
    ("types.hpp", "<dense_1_out_t, 2>", "<dense_1_out_t, 513>", "a queue of 4104 bits, allowed are 4096"),
    ("muon.cpp", "  // dense_2: linear", "  int k = 0;\n  // dense_2: linear", "more than declarations and calls: int"),
    ("muon.cpp", "  metronn::fold_inputs_beats<dense_2_acc_fold_process>(\n      dense_1_out_beats_queue,",
     "  metronn::fold_inputs_beats<dense_2_acc_fold_process>(\n      hits,", "has 1 writers and 0 readers"),
    ("metronn/dense_stream.hpp", "II = 1 rewind style", "II = 1 style", "does not rewind"),
    ("metronn/dense_stream.hpp", "rewind style = frp", "rewind", "has no style"),
    ("metronn/dense_stream.hpp", "  in_t held;", "  in_t held;\n  int beat = 0;",
     "something before its loop: int beat = 0"),
    ("muon.cpp", "static const int beats = 2;", "static const int beats = 1;", "has 1 iteration"),
    ("muon.cpp", "static const int groups = 1;", "static const int groups = 9;",
     "takes 18 cycles an event, one comes every 9"),
    ("muon.cpp", "| II 9", "| II 8", "the header says II 8, script 9"),
    ("check.tcl", "ii_cycles 9", "ii_cycles 33", "the header says II 9, script 33"),
    ("interface.json", '"ii_cycles": 9', '"ii_cycles": 33', "the header says II 9, interface.json 33"),
    ("muon.cpp", "multipliers = 6;", "multipliers = 20000;", "20000 products in one function, allowed are 16384"),
    ("weights/dense_1_acc_fold_process.hpp", "weight[1][2][6]", "weight[1][2][3000]",
     "a word of 96000 bits, allowed are 65536"),
    ("weights/dense_1_acc_fold_process.hpp", "weight[1][2][6]", "weight[5000][2][6]", "5000 parts, allowed are 4096"),
    ("muon.cpp", "static const int n_out = 3;", "static const int n_out = 5000;",
     "of acc: 5000 parts, allowed are 4096"),
    ("metronn/dense_stream.hpp", "#pragma HLS ARRAY_RESHAPE variable = weight type = complete dim = 3",
     "#pragma HLS ARRAY_RESHAPE variable = weight type = cyclic factor = cfg::remainder dim = 3", "the factor is 0"),
    ("metronn/dense_stream.hpp", "#pragma HLS ARRAY_PARTITION variable = held.slot type = complete\n", "",
     "dense_1_acc_fold_process: held.slot is accessed 6 times every 1 cycle, a memory has 2 ports; partition it"),
    ("metronn/dense_stream.hpp", "#pragma HLS ARRAY_PARTITION variable = acc type = complete\n", "",
     "dense_2_acc_fold_process: acc is accessed"),
    ("metronn/dense_stream.hpp", "#pragma HLS ARRAY_PARTITION variable = bias type = complete dim = 1\n", "",
     "bias is accessed"),
    ("metronn/dense_stream.hpp", "held.slot[row + b * slice + k]", "held.slot[row + beat * slice + k]",
     "held.slot is registers, and is accessed at row + beat * slice + k, which is known at run time only"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "old", "new", "says"), FAULTS, ids=[says[:40] for *_, says in FAULTS])
def test_faults_are_found(path: str, old: str, new: str, says: str) -> None:
    files = folded()
    assert old in files[path]
    files[path] = (
        files[path].replace(old, new, 1) if path != "metronn/dense_stream.hpp" else files[path].replace(old, new)
    )
    found = check_project(files)
    assert any(says in problem for problem in found), found


def test_registers_of_a_line_buffer_are_counted() -> None:
    """Three rows of three pixels of 500 channels are more registers than the tool makes of an array."""
    files = windows()
    files["muon.cpp"] = files["muon.cpp"].replace("int slots = 2;", "int slots = 500;")
    (found,) = check_project(files)
    assert "ARRAY_PARTITION of past: 4500 parts, allowed are 4096; a larger II (--ii)" in found


def test_a_tensor_that_is_too_wide_for_one_cycle_is_named() -> None:
    """Ports of one pipeline are one word each, what is between them registers: the value, and what to change."""
    builder = GraphBuilder()
    x = builder.add(Input(shape=(5000,), range=Range.fixed(20, 0)), "hits")
    small = builder.add(Requantize(x=x, out=Range.fixed(12, 0), overflow=Overflow.SAT), "small")
    builder.output("y", builder.add(Requantize(x=small, out=Range.fixed(10, 0), overflow=Overflow.SAT), "y"))
    word, registers = check_project(text_of(builder.build(), None))
    change = "a larger II (--ii) lets fewer elements of the layer travel and be made at a time"
    assert sorted((word, registers)) == [
        f"muon.cpp: ARRAY_PARTITION of small: 5000 parts, allowed are 4096; {change}",
        f"muon.cpp: ARRAY_RESHAPE of hits: a word of 100000 bits, allowed are 65536; {change}",
    ]


@pytest.mark.parametrize(
    ("array", "says"),
    [
        ("line type = complete dim = 1", "line is accessed 4 times every 1 cycle"),
        ("past type = complete dim = 0", "past is accessed"),
        ("column type = complete", "column is accessed"),
        ("out.slot type = complete", "out.slot is accessed"),
        ("newest.slot type = complete", "newest.slot is accessed"),
    ],
)
def test_a_line_buffer_without_its_parts_is_named(array: str, says: str) -> None:
    """Each pragma of the window buffer is needed for the II."""
    files = windows(4)
    pragma = f"#pragma HLS ARRAY_PARTITION variable = {array}\n"
    assert check_project(files) == []
    assert pragma in files["metronn/window_buffer.hpp"]
    files["metronn/window_buffer.hpp"] = files["metronn/window_buffer.hpp"].replace(pragma, "")
    found = check_project(files)
    assert any(says in problem and problem.startswith("window") for problem in found), found


def test_a_slower_ii_has_to_be_told() -> None:
    """Two pixels are too few for two processes: the header says so, and without it the check does not pass."""
    builder = GraphBuilder()
    x = builder.add(Input(shape=(2, 1), range=Range.fixed(8, 0)), "x")
    op = Window(x=x, kernel=(3,), strides=(1,), dilations=(2,), before=(2,), after=(2,))
    builder.output("y", builder.add(op, "windows"))
    flow = one_kernel(builder.build(), Layout.rows(2, 1))
    assert flow is not None
    files = text_of(flow.graph, flow)
    late = "// HLS takes an event every 4 cycles: padding leaves after the last pixel of an image.\n"
    assert late in files["muon.cpp"]
    assert json.loads(files["interface.json"])["expected"]["ii_cycles"] == 4
    assert check_project(files) == []
    files["muon.cpp"] = files["muon.cpp"].replace(late, "")
    assert check_project(files) == [f"muon: the header says II 2, {what} 4" for what in ("script", "interface.json")]


def test_wide_beats_are_spread_over_queues() -> None:
    """A beat of 500 elements of 20 bits is more than a queue takes."""
    builder = GraphBuilder()
    x = builder.add(Input(shape=(2, 500), range=Range.fixed(20, 0)), "x")
    small = builder.add(Requantize(x=x, out=Range.fixed(19, 0), overflow=Overflow.SAT), "small")
    builder.output("y", small)
    graph = builder.build()
    flow = wide_flow(graph, {"x": Layout.rows(1000, 500)})
    files = text_of(graph, flow)
    assert "typedef metronn::part<x_t, 500, 3> x_beats_t;" in files["types.hpp"]
    assert "metronn::stream<x_beats_t> (&x)[3]" in files["muon.hpp"]
    assert check_project(files) == []
    files["types.hpp"] = files["types.hpp"].replace("part<x_t, 500, 3>", "part<x_t, 500, 2>")
    assert check_project(files) == ["x_beats_t: a queue of 5000 bits, allowed are 4096"]


def wide_flow(graph: Graph, inputs: dict[str, Layout]) -> Flow:
    """Return a flow of random kernels."""
    from hls_flows import flow_with

    return flow_with(graph, 1, 9, inputs)


def test_neighbours_are_compared(tmp_path: Path) -> None:
    design = two_boards(9)
    folder = tmp_path / "hls"
    interfaces = []
    for fpga in design.fpgas:
        files = emit_hls(subgraph(design, fpga), hls_project(design, fpga), flow_of(design, fpga))
        write_files(files, folder / fpga.name)
        interfaces.append(json.loads(files["interface.json"]))
    assert check_build(tmp_path) == []
    name = interfaces[0]["outputs"][0]["name"]
    (port,) = interfaces[1]["inputs"]
    for broken in ({**port, "width_bits": 7}, {key: value for key, value in port.items() if key != "beats"}):
        (found,) = check_neighbours([interfaces[0], {**interfaces[1], "inputs": [broken]}])
        assert f"fpga 1 to 2: {name} leaves as" in found
    missing = check_neighbours([interfaces[0], {**interfaces[1], "inputs": []}])
    assert missing == [f"fpga 1 to 2: {name} is on one side only"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(7 + 2 - 1) / 2", 4),
        ("a == 1 ? 5 : b::c * 3", 12),
        ("-7 / 2", -3),
        ("1 + 2 * 3 < 8 && 1", 1),
        ("9 % 4 - 2", -1),
    ],
)
def test_expressions(text: str, value: int) -> None:
    assert evaluate(text, {"a": 2, "b::c": 4}) == value


def test_the_reader_sees_the_library() -> None:
    """Every process that the emitter can call is read, with its pragmas."""
    source = read_source(folded())
    for name in ("fold_outputs_beats", "fold_inputs_beats", "fold_inputs", "map_beats", "fork_beat"):
        assert any(pragma.name in ("PIPELINE", "ALLOCATION") for pragma in source.functions[name].pragmas), name


@pytest.mark.slow
def test_a_second_compiler_reads_it(tmp_path: Path) -> None:
    """The vendor's front end is clang: what g++ takes may not be enough."""
    clang = shutil.which("clang++")
    if clang is None:
        pytest.skip("clang++ is not installed")
    for number, files in enumerate((folded(), windows(), unrolled_matrix())):
        folder = tmp_path / str(number)
        write_files(dict(files), folder)
        flags = ["-std=c++14", "-fsyntax-only", "-Wno-unknown-pragmas", "-isystem", str(ap_types_directory())]
        done = subprocess.run([clang, *flags, str(folder / "muon.cpp")], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
