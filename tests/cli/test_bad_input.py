"""Bad input: each a message of its own, the exit status of its class, no traceback, nothing already written harmed."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from command_line import Ran, Run
from small_network import write_events, write_network


def compile_arguments(network: Path, events: Path, folder: Path) -> list[object]:
    """Return a compilation that works."""
    return ["compile", network, "--calibrate", events, "--system", "one-serenity", "-o", folder, "--no-verify"]


def refused(ran: Ran, folder: Path, *texts: str, status: int = 2) -> None:
    """Check status, message, an empty stdout, and that nothing was made."""
    for text in texts:
        assert text in ran.err
    assert ran.err.strip().splitlines()[-1].startswith(("error: ", "  "))
    assert ran.status == status
    assert ran.out == ""
    assert not folder.exists()
    assert not list(folder.parent.glob(".build*"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder that does not exist."""
    return tmp_path / "build"


def test_missing_model(metronn: Run, events: Path, folder: Path, tmp_path: Path) -> None:
    ran = metronn(*compile_arguments(tmp_path / "nothing.onnx", events, folder))
    refused(ran, folder, "nothing.onnx: no such file")


def test_missing_files_of_a_toml_file(metronn: Run, network: Path, folder: Path) -> None:
    """The key is named, or the option and the key that give the data."""
    options = network.parent / "metronn.toml"
    options.write_text('model.file = "none.onnx"\ndata.calibrate = "x"\nplan.system = "one-vcu118"\n')
    ran = metronn("compile", options, "-o", folder)
    refused(ran, folder, "metronn.toml: model.file: ", "none.onnx: no such file")
    options.write_text(f'model.file = "{network.name}"\ndata.calibrate = "x"\nplan.system = "one-vcu118"\n')
    ran = metronn("compile", options, "-o", folder)
    refused(ran, folder, "x: unknown kind of event file", "x: the calibration data, --calibrate or data.calibrate")


def test_corrupt_model(metronn: Run, network: Path, events: Path, folder: Path) -> None:
    network.write_bytes(network.read_bytes()[:90])
    refused(metronn(*compile_arguments(network, events, folder)), folder, "small.onnx: ")


def test_empty_model(metronn: Run, network: Path, events: Path, folder: Path) -> None:
    network.write_bytes(b"")
    refused(metronn(*compile_arguments(network, events, folder)), folder, "small.onnx: the file is empty")


def test_wrong_format(metronn: Run, network: Path, events: Path, folder: Path) -> None:
    renamed = network.rename(network.with_suffix(".keras"))
    refused(metronn(*compile_arguments(renamed, events, folder)), folder, "small.keras: not ", "damaged or misnamed")


def test_unknown_suffix(metronn: Run, network: Path, events: Path, folder: Path) -> None:
    renamed = network.rename(network.with_suffix(".net"))
    refused(metronn(*compile_arguments(renamed, events, folder)), folder, "suffix .net; metronn reads .onnx, .keras")


def test_every_unsupported_layer_is_listed(metronn: Run, events: Path, folder: Path, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("NonZero", ["x"], ["a"], name="first_odd"),
        helper.make_node("Relu", ["a"], ["b"], name="supported_one"),
        helper.make_node("Det", ["b"], ["y"], name="second_odd"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 6]) for name in ("x", "y")]
    model = helper.make_model(helper.make_graph(nodes, "odd", ends[:1], ends[1:]))
    onnx.save(model, str(tmp_path / "odd.onnx"))
    ran = metronn(*compile_arguments(tmp_path / "odd.onnx", events, folder))
    refused(ran, folder, "first_odd", "NonZero", "second_odd", "Det")
    assert "supported_one" not in ran.err


def test_shape_mismatch(metronn: Run, network: Path, folder: Path, tmp_path: Path) -> None:
    events = write_events(tmp_path / "wide.npz", inputs=7)
    ran = metronn(*compile_arguments(network, events, folder))
    refused(ran, folder, "x: shape per event is (7,), allowed is (6,) or (6,)")


def test_dtype_mismatch(metronn: Run, network: Path, folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "text.npz", x=np.full((5, 6), "a"))
    ran = metronn(*compile_arguments(network, tmp_path / "text.npz", folder))
    refused(ran, folder, "x: values are <U1, allowed are numbers")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers(metronn: Run, network: Path, events: Path, folder: Path, value: float) -> None:
    model = onnx.load(str(network))
    weights = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weights[0, 0] = value
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w1"))
    onnx.save(model, str(network))
    refused(metronn(*compile_arguments(network, events, folder)), folder, "NaN or infinite", "hidden")


@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_data_that_are_no_numbers(metronn: Run, network: Path, folder: Path, tmp_path: Path, value: float) -> None:
    data = np.zeros((4, 6))
    data[2, 3] = value
    np.savez(tmp_path / "bad.npz", x=data)
    ran = metronn(*compile_arguments(network, tmp_path / "bad.npz", folder))
    refused(ran, folder, "bad.npz: x: 1 values are NaN or infinite, the first in event 2")


def test_no_calibration_events(metronn: Run, network: Path, folder: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "none.npz", x=np.zeros((0, 6)))
    ran = metronn(*compile_arguments(network, tmp_path / "none.npz", folder))
    refused(ran, folder, "x: no events; at least one is needed")


def test_missing_calibration_file(metronn: Run, network: Path, folder: Path, tmp_path: Path) -> None:
    refused(metronn(*compile_arguments(network, tmp_path / "no.npz", folder)), folder, "no.npz", "no such file")


def test_no_calibration_given(metronn: Run, network: Path, folder: Path) -> None:
    ran = metronn("compile", network, "--system", "one-serenity", "-o", folder, "--no-verify")
    refused(ran, folder, "no calibration data: quantization needs events.", "Give --calibrate FILE")


def test_no_calibration_given_for_an_input_without_a_quantizer(metronn: Run, folder: Path, tmp_path: Path) -> None:
    """Of two inputs of a quantized network one goes to its sum as it is: that one is named."""
    node, value = helper.make_node, helper.make_tensor_value_info
    nodes = [
        node("QuantizeLinear", ["a", "step", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "step", "zero"], ["d"]),
        node("Add", ["d", "b:0"], ["s"]),
        node("QuantizeLinear", ["s", "step", "zero"], ["t"]),
        node("DequantizeLinear", ["t", "step", "zero"], ["y"]),
        node("Exp", ["b:0"], ["z"]),
    ]
    step, zero = np.array(0.25, dtype=np.float32), np.array(0, dtype=np.int8)
    constants = [numpy_helper.from_array(step, "step"), numpy_helper.from_array(zero, "zero")]
    inputs = [value(name, TensorProto.FLOAT, ["N", 4]) for name in ("a", "b:0")]
    outputs = [value(name, TensorProto.FLOAT, ["N", 4]) for name in ("y", "z")]
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "two.onnx")
    ran = metronn("compile", tmp_path / "two.onnx", "--system", "one-serenity", "-o", folder, "--no-verify")
    refused(ran, folder, "no calibration data: nothing tells the range of input b:0: ", "Give --calibrate FILE")


def test_no_system_given(metronn: Run, network: Path, events: Path, folder: Path) -> None:
    ran = metronn("compile", network, "--calibrate", events, "-o", folder, "--no-verify")
    refused(ran, folder, "no system: ", "Give --system NAME", "two-serenity")


@pytest.mark.parametrize("ii", [0, -3])
def test_ii_below_one(metronn: Run, network: Path, events: Path, folder: Path, ii: int) -> None:
    ran = metronn(*compile_arguments(network, events, folder), "--ii", ii)
    refused(ran, folder, f"error: --ii: must be a whole number from 1 to 65536, found {ii}")


def test_clock_that_is_no_clock(metronn: Run, network: Path, events: Path, folder: Path) -> None:
    ran = metronn(*compile_arguments(network, events, folder), "--clock-mhz", -1)
    refused(ran, folder, "error: --clock-mhz: must be a number from 0.001")


def test_ii_that_is_no_number(metronn: Run, network: Path, events: Path, folder: Path) -> None:
    ran = metronn(*compile_arguments(network, events, folder), "--ii", "often")
    assert (ran.status, ran.out) == (2, "")
    assert "Invalid value for '--ii'" in ran.err
    assert not folder.exists()


def test_unknown_system(metronn: Run, network: Path, events: Path, folder: Path) -> None:
    ran = metronn("compile", network, "--calibrate", events, "--system", "two-serenety", "-o", folder)
    refused(ran, folder, "unknown system 'two-serenety'; did you mean 'two-serenity'?")


def test_unknown_board(metronn: Run, network: Path, events: Path, folder: Path, tmp_path: Path) -> None:
    system = tmp_path / "mine.toml"
    system.write_text(
        'name = "mine"\ntitle = "Mine"\nclock_mhz = 360.0\nsource = "test"\n'
        '[[boards]]\nname = "fpga0"\nboard = "serenitty"\n'
    )
    ran = metronn("compile", network, "--calibrate", events, "--system", system, "-o", folder)
    refused(ran, folder, "unknown board 'serenitty'; did you mean 'serenity'?")


def test_a_clock_that_no_plan_keeps(metronn: Run, folder: Path, tmp_path: Path) -> None:
    """Exit 1; the message says which layer, which path, and a clock, at which there is a plan."""
    network = write_network(tmp_path / "fast.onnx")
    given = ("compile", network, "--calibrate", write_events(tmp_path / "fast.npz"), "-o", folder, "--no-verify")
    ran = metronn(*given, "--system", "one-pynq-z2", "--clock-mhz", 460)
    refused(
        ran,
        folder,
        "no plan for system one-pynq-z2 at 460 MHz on xc7z020, speed grade -1:",
        " ns of 1.87.",
        " MHz would do (--clock-mhz), or a faster speed grade.",
        status=1,
    )
    assert re.search(r"^  \S+: sum of \d\d bits: 1\.89 ns of 1\.87\.$", ran.err, re.MULTILINE)
    found = re.search(r"A clock of (\d+) MHz would do", ran.err)
    assert found is not None
    assert metronn(*given, "--system", "one-pynq-z2", "--clock-mhz", found[1]).status == 0


def test_impossible_budget(metronn: Run, folder: Path, tmp_path: Path) -> None:
    """Exit 1: the request is understood; the message says what binds and what would help."""
    network = write_network(tmp_path / "large.onnx", inputs=64, hidden=128, outputs=64)
    events = write_events(tmp_path / "large.npz", inputs=64, labels=False)
    ran = metronn("compile", network, "--calibrate", events, "--system", "one-ulx3s", "-o", folder, "--no-verify")
    refused(ran, folder, "no plan for system", "needs ", "Raise the II to ", status=1)


def test_impossible_latency(metronn: Run, network: Path, events: Path, folder: Path) -> None:
    ran = metronn(*compile_arguments(network, events, folder), "--max-latency-ns", 3)
    refused(ran, folder, "plan.max_latency_ns", status=1)


def test_more_fpgas_than_there_are(metronn: Run, network: Path, events: Path, folder: Path) -> None:
    ran = metronn(*compile_arguments(network, events, folder), "--fpgas", 2)
    refused(ran, folder, "plan.fpgas is 2, system one-serenity has 1 FPGA")


def test_too_few_lanes(metronn: Run, folder: Path, tmp_path: Path) -> None:
    """Exit 2, with the fewest lanes that do; and they do."""
    network = write_network(tmp_path / "wide.onnx", inputs=20)
    given = compile_arguments(network, write_events(tmp_path / "wide.npz", inputs=20), folder)
    ran = metronn(*given, "--ii", 1, "--input-lanes", 1, "--output-lanes", 1)
    found = re.search(
        r"input_lanes is 1: an event has (\d+) bits .* carries 64 in the II of 1\.\n.* to (\d+) or", ran.err
    )
    assert found is not None, ran.err
    refused(ran, folder, found[0])
    assert int(found[2]) == -(-int(found[1]) // 64) > 1
    assert metronn(*given, "--ii", 1, "--input-lanes", found[2]).status == 0


def test_lanes_out_of_bounds(metronn: Run, network: Path, events: Path, folder: Path) -> None:
    refused(metronn(*compile_arguments(network, events, folder), "--input-lanes", 0), folder, "input-lanes")


def test_folder_that_cannot_be_made(metronn: Run, network: Path, events: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    ran = metronn(*compile_arguments(network, events, tmp_path / "file" / "build"))
    assert (ran.status, ran.out) == (2, "")
    assert f"file/build: the output folder cannot be written: {tmp_path / 'file'} is not a folder" in ran.err


def test_folder_where_nothing_can_be_written(metronn: Run, network: Path, events: Path) -> None:
    """Nobody, not even root, can make a folder there."""
    ran = metronn(*compile_arguments(network, events, Path("/proc/build")))
    assert (ran.status, ran.out) == (2, "")
    assert "error: /proc/build: the output folder cannot be written: " in ran.err


def test_folder_that_is_a_file(metronn: Run, network: Path, events: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    ran = metronn(*compile_arguments(network, events, tmp_path / "file"), "--force")
    assert ran.status == 2
    assert "file: is not a folder; name a new folder with -o" in ran.err
    assert (tmp_path / "file").read_text() == "text"


@pytest.mark.parametrize("force", [False, True])
def test_folder_with_other_things(metronn: Run, network: Path, events: Path, folder: Path, force: bool) -> None:
    folder.mkdir()
    (folder / "thesis.tex").write_text("years of work")
    ran = metronn(*compile_arguments(network, events, folder), *(["--force"] if force else []))
    assert ran.status == 2
    expected = "--force replaces only folders that metronn made" if force else "the output folder is not empty."
    assert expected in ran.err
    assert (folder / "thesis.tex").read_text() == "years of work"


def test_wrong_widths(metronn: Run, network: Path, events: Path, folder: Path) -> None:
    ran = metronn(*compile_arguments(network, events, folder), "--weight-bits", 1)
    refused(ran, folder, "error: --weight-bits: must be a whole number from 2 to 32, found 1")


def test_nothing_to_compile(metronn: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ran = metronn("compile")
    assert ran.status == 2
    assert "no metronn.toml in this folder, and no model named" in ran.err


def test_folder_that_is_no_build(metronn: Run, tmp_path: Path, events: Path) -> None:
    for arguments in (["verify", tmp_path], ["report", tmp_path], ["emulate", tmp_path, events, "-o", "out.npz"]):
        ran = metronn(*arguments)
        assert (ran.status, ran.out) == (2, "")
        assert "is no build of metronn: manifest.json is missing or damaged" in ran.err


def test_graph_that_is_none(metronn: Run, tmp_path: Path) -> None:
    (tmp_path / "graph.txt").write_text("hello\n")
    ran = metronn("plan", tmp_path / "graph.txt", "--system", "one-serenity", "-o", tmp_path / "plan.json")
    assert ran.status == 2
    assert "is no graph of metronn: line 1" in ran.err
    assert not (tmp_path / "plan.json").exists()


def test_picture_that_is_none(metronn: Run, network: Path, events: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "plot.png").write_text("no picture")
    ran = metronn(
        *compile_arguments(network, events, folder),
        "--picture", tmp_path / "plot.png",
        "--picture", tmp_path / "plot.pdf",
    )  # fmt: skip
    refused(ran, folder, "plot.png: its content is not that of a .png file", "plot.pdf: the suffix is .pdf")


TOML_PROBLEMS = """
[model]
fiel = "small.onnx"
[quantize]
weight_bits = 1
metric = "beauty"
[plan]
ii = "nine"
fold = "sometimes"
layers.hidden = {reuse = 2, resue = 3}
layers.file = {reuse = 0}
[verify]
events = 0
[extra]
"""


def test_every_problem_of_the_file_is_listed(metronn: Run, tmp_path: Path) -> None:
    (tmp_path / "metronn.toml").write_text(TOML_PROBLEMS)
    ran = metronn("compile", tmp_path)
    assert (ran.status, ran.out) == (2, "")
    for text in (
        "unknown key 'model.fiel'; did you mean 'file'? allowed here: file, name",
        "key 'quantize.weight_bits' must be a whole number from 2 to 32, found 1",
        "key 'quantize.metric' must be one of auto, none, accuracy, auc, or file.py:function, found 'beauty'",
        "key 'plan.ii' must be a whole number from 1 to 65536, found 'nine'",
        "key 'plan.fold' should be 'full' or 'latency', found 'sometimes'",
        "unknown key 'plan.layers.hidden.resue'; did you mean 'reuse'? allowed here: reuse",
        "key 'plan.layers.file.reuse' must be a whole number from 1 to 65536, found 0",
        "key 'verify.events' must be a whole number from 1 to ",
        "unknown key 'extra'; allowed here: model, data, quantize, search, plan, verify",
    ):
        assert text in ran.err
    assert all(line.startswith("error: ") for line in ran.err.splitlines())


def test_file_that_is_no_toml(metronn: Run, tmp_path: Path) -> None:
    (tmp_path / "metronn.toml").write_text("[model\n")
    ran = metronn("compile", tmp_path / "metronn.toml")
    assert ran.status == 2
    assert "metronn.toml: not valid TOML: " in ran.err


LONG = "x" * 300


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("import", f"{LONG}.onnx"), f"{LONG}.onnx: cannot be read: File name too long"),
        (("report", LONG), f"{LONG}: File name too long"),
        (("compile", "small.onnx", "--system", f"{LONG}.toml"), f"error: {LONG}.toml: File name too long"),
        (("compile", "small.onnx", "--system", "one-serenity", "-o", LONG), f"{LONG}: File name too long"),
        (("import", "a\nb\t\x1b[2J\udcff.onnx"), "error: a\\nb\\t\\x1b[2J\\udcff.onnx: no such file\n"),
        (("quantize", "small.onnx", "-o", ""), "error: .: is a folder; name a file with -o"),
        (("quantize", "small.onnx", "--search", "-o", "."), ".: is a folder; name a file with -o"),
        (("quantize", "small.onnx", "--report", ".."), "error: ..: is a folder; name a file with --report"),
        (("pareto", "small.onnx", "--no-plot", "--bits", "²"), "--bits: found '²', allowed are whole numbers"),
        (("pareto", "small.onnx", "--no-plot", "--ii", "1" * 5000), "--ii: found '1111"),
        (("quantize", "small.onnx", "--search", "--jobs", "1" + "0" * 30), "allowed are 1 to 4096"),
    ],
)  # fmt: skip
def test_values_that_no_system_takes(
    metronn: Run, network: Path, events: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...], text: str
) -> None:
    monkeypatch.chdir(network.parent)
    more = ("--calibrate", "events.npz") if words[0] in ("compile", "quantize", "pareto") else ()
    more += ("--system", "one-serenity") if {"--search", "pareto"} & {*words} else ()
    ran = metronn(*words, *more)
    assert ran.status == 2
    assert ran.out == ""
    assert text in ran.err


def test_a_folder_whose_name_is_no_text(metronn: Run, network: Path, events: Path, tmp_path: Path) -> None:
    """A name of bytes that are not UTF-8, as file systems may hold."""
    ran = metronn(*compile_arguments(network, events, tmp_path / "b\udcff"))
    assert ran.status == 0, ran.err
    assert "b\\udcff/report.html" in ran.out


@pytest.mark.parametrize("text", ["x = 1" + "0" * 5000, "x = " + "[" * 5000])
def test_toml_beyond_its_reader(metronn: Run, tmp_path: Path, text: str) -> None:
    (tmp_path / "metronn.toml").write_text(text)
    ran = metronn("compile", tmp_path)
    assert (ran.status, ran.out) == (2, "")
    assert "metronn.toml: not valid TOML: " in ran.err


@pytest.mark.parametrize("line", ['[model]\nfile = "a\\u0000b.onnx"', '[build]\ndirectory = "a\\u0000"'])
def test_names_with_nul(metronn: Run, tmp_path: Path, line: str) -> None:
    (tmp_path / "metronn.toml").write_text(line + "\n")
    ran = metronn("compile", tmp_path)
    assert (ran.status, ran.out) == (2, "")
    assert "must be a text without NUL, found 'a\\x00" in ran.err


def test_graph_whose_output_nothing_makes(metronn: Run, network: Path, events: Path, tmp_path: Path) -> None:
    graph = tmp_path / "graph.txt"
    assert metronn("quantize", network, "--calibrate", events, "-o", graph).status == 0
    lines = graph.read_text().split("\n")
    value = next(line for line in lines if line.startswith("output scores")).partition("%")[2].split()[0]
    graph.write_text("\n".join(line for line in lines if not line.startswith(f"%{value} = ")))
    ran = metronn("plan", graph, "--system", "one-serenity", "-o", tmp_path / "plan.json")
    assert (ran.status, ran.out) == (2, "")
    assert "graph.txt: is no graph of metronn: line " in ran.err
    assert f"no node above is called {value}" in ran.err


@pytest.mark.parametrize("prefix", ["Jets", "3jets", "jets_", "a__b", "a-b", "x" * 32, ""])
def test_a_prefix_that_no_module_can_have(metronn: Run, network: Path, events: Path, folder: Path, prefix: str) -> None:
    ran = metronn(*compile_arguments(network, events, folder), "--prefix", prefix)
    refused(ran, folder, "--prefix: must be a name of 1 to 31 lower-case letters, digits and single _ between them")
