"""FPGAs may be called anything a system file allows: targets of make, words of a language, files of a build."""

from __future__ import annotations

import json
import re
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from design_builds import check_all, written
from hypothesis import example, given
from hypothesis import strategies as st
from plan_networks import stack

from metronn.emit.rtl.port_names import port_names
from metronn.emit.tops import module_name, top_name
from metronn.errors import ModelError
from metronn.plan.design import Design
from metronn.plan.hardware.system import load_system
from metronn.plan.options import PlanOptions
from metronn.plan.planner import plan
from metronn.verify.run import verify_build
from random_tests import examples
from simulators import need

WORDS = (
    "all", "clean", "system", "library", "module", "always", "input", "logic", "begin", "int", "class", "std", "main",
    "union", "types", "config", "bridge", "testbench", "weights", "y0", "linux", "mnn_delay", "mnn_link_rx", "vectors",
    "a", "a_b", "a_b_c", "b", "frame_in", "a_frame_in", "fpga", "fpga_a", "fpga_all", "fpga_fpga0", "fpga0", "fpga1",
    "fpga01", "fpga0_frame_out", "metronn_bench", "sim_build", "phony", "run", "x",
)  # fmt: skip
NAMES = st.sampled_from(WORDS) | st.from_regex(r"[a-z][a-z0-9]{0,9}(_[a-z0-9]{1,9}){0,2}", fullmatch=True)
THREE = st.lists(NAMES, min_size=3, max_size=3, unique=True)


def system_file(names: Sequence[str], folder: Path) -> Path:
    """Write a chain of Serenity boards with these names."""
    text = 'name = "named"\ntitle = "Named"\nclock_mhz = 360.0\nii = 4\nsource = "test"\n'
    text += "".join(f'[[boards]]\nname = "{name}"\nboard = "serenity"\n' for name in names)
    for one, other in zip(names, names[1:], strict=False):
        text += f'[[links]]\nfrom = "{one}"\nto = "{other}"\nlanes = 4\nline_rate_gbps = 25.78125\n'
        text += "latency_min_ns = 60.0\nlatency_max_ns = 100.0\n"
    path = folder / "named.toml"
    path.write_text(text)
    return path


def designed(names: Sequence[str], folder: Path) -> Design:
    system = load_system(system_file(names, folder))
    return plan(stack((4, 5, *[4] * (len(names) - 2), 3)), system, PlanOptions(fpgas=len(names)))


@given(names=THREE)
@example(names=["all", "clean", "system"])
@example(names=["a", "a_b", "a_b_frame"])
@examples(8)
def test_every_fpga_has_files_modules_and_targets_of_its_own(names: list[str]) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        written(designed(names, folder), folder, events=1, rtl_events=1)
        modules = []
        for path in sorted((folder / "rtl").rglob("*.sv")):
            found = re.findall(r"^module (\w+)", path.read_text(), re.MULTILINE)
            assert found == [path.stem]
            modules += found
        assert len(set(modules)) == len(modules)
        tops = [top_name(name) for name in names]
        assert sorted(p.name for p in (folder / "rtl").iterdir() if p.is_dir()) == sorted([*tops, "library"])
        for top in tops:
            assert {f"{top}.cpp", f"{top}.hpp", "types.hpp", "bridge.cpp"} <= {
                path.name for path in (folder / "hls" / top).iterdir()
            }
        for target, wanted in (("all", [*tops, "system"]), *((top, [top]) for top in tops)):
            done = subprocess.run(
                ["make", "-n", target], cwd=folder / "sim", capture_output=True, text=True, check=False
            )
            assert (done.returncode, done.stderr) == (0, "")
            assert re.findall(r"run\.py (\S+) verilator", done.stdout) == wanted


@given(first=NAMES, second=NAMES, parts=st.tuples(NAMES, NAMES))
@examples(500)
@example(first="a", second="a_b", parts=("b_x", "x"))
def test_modules_of_two_fpgas_are_two(first: str, second: str, parts: tuple[str, str]) -> None:
    if first == second:
        one, other = (module_name("", first, part) for part in parts)
        assert (one == other) == (parts[0] == parts[1])
    else:
        assert module_name("", first, parts[0]) not in {
            module_name("", second, parts[1]),
            top_name(first),
            top_name(second),
        }
        assert top_name(first) != top_name(second)


def test_an_fpga_that_has_the_name_of_a_port(tmp_path: Path) -> None:
    design = designed(["fpga0", "scores"], tmp_path)
    assert port_names(design).outputs == {"scores": "scores_o"}
    assert [top_name(fpga.name) for fpga in design.fpgas] == ["fpga0", "fpga_scores"]


@pytest.mark.parametrize("name", ["a__b", "a_", "_a", "A", "0a", "a-b", "", "a" * 32, "é", "a\n"])
def test_names_that_no_fpga_has(name: str, tmp_path: Path) -> None:
    path = system_file(["fpga0"], tmp_path)
    path.write_text(path.read_text().replace('"fpga0"', json.dumps(name)))
    with pytest.raises(
        ModelError, match="1 to 31 lower-case letters, digits and single _ between them, a letter first"
    ):
        load_system(path)


def test_a_chain_grows_by_names_that_are_free(tmp_path: Path) -> None:
    system = load_system(system_file(["x2", "x"], tmp_path))
    assert [fpga.name for fpga in system.extended().extended().fpgas] == ["x2", "x", "x3", "x4"]


@pytest.mark.slow
def test_taken_names_of_fpgas_up_the_ladder(tmp_path: Path) -> None:
    """A target of make, the system's module, words of both languages, and a name that begins like another."""
    need("verilator")
    pytest.importorskip("hls4ml")
    written(designed(["all", "system", "module", "int", "a", "a_b"], tmp_path), tmp_path)
    check_all(verify_build(tmp_path, rungs=(2, 3, 4, 5)), {2, 3, 4, 5})
