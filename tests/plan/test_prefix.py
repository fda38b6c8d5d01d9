"""Builds with prefixes of their own: no module of one is a module of the other, but those of the library."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from design_builds import check_all, written
from hypothesis import example, given
from hypothesis import strategies as st
from plan_networks import stack

from metronn.emit.tops import prefix_of
from metronn.plan.hardware.system import load_system
from metronn.plan.options import PlanOptions
from metronn.plan.planner import plan
from metronn.verify import simulator
from metronn.verify.run import read_build, rtl_sources, verify_build
from random_tests import examples
from simulators import need

MODULE = re.compile(r"^module (\w+)", re.MULTILINE)


def two_builds(folder: Path) -> list[Path]:
    design = plan(stack((4, 5, 4, 3)), load_system("two-serenity").with_overrides(ii=4), PlanOptions(fpgas=2))
    return [written(replace(design, prefix=name), folder / name, events=8, rtl_events=8) for name in ("jets", "muons")]


@pytest.mark.slow
def test_two_builds_in_one_project(tmp_path: Path) -> None:
    need("verilator")
    places = two_builds(tmp_path)
    files: dict[str, Path] = {}
    for place in places:
        found = rtl_sources(read_build(place), read_build(place).design.fpgas) + sorted((place / "rtl").glob("*.sv"))
        for path in found:
            shared = files.setdefault(path.name, path)
            assert shared == path or (
                path.name.startswith(("mnn_", "lint")) and shared.read_bytes() == path.read_bytes()
            )
    modules = [name for path in files.values() for name in MODULE.findall(path.read_text())]
    assert len(modules) == len(set(modules))
    assert {name.partition("_")[0] for name in modules} == {"mnn", "jets", "muons"}
    both = tmp_path / "both.sv"
    ports = {}
    for name in ("jets", "muons"):
        header = (tmp_path / name / "rtl" / f"{name}_system.sv").read_text().split(");\n\n", 1)[0]
        ports[name] = re.findall(r"(input  wire|output logic) (?:\[(\d+):0\] )?(\w+)", header)
    lines = ["`default_nettype none", "", "module both ("]
    lines.append(
        ",\n".join(
            f"  {way} [{high or 0}:0] {name}_{port}" for name, found in ports.items() for way, high, port in found
        )
    )
    lines.append(");")
    for name, found in ports.items():
        joined = ", ".join(f".{port}({name}_{port})" for _, _, port in found)
        lines.append(f"  {name}_system u_{name} ({joined});")
    both.write_text("\n".join([*lines, "endmodule", "", "`default_nettype wire", ""]))
    assert simulator.lint([*files.values(), both], "both") == ""


@pytest.mark.slow
def test_a_prefix_up_the_ladder(tmp_path: Path) -> None:
    need("verilator")
    pytest.importorskip("hls4ml")
    design = plan(stack((4, 5, 4, 3)), load_system("two-serenity").with_overrides(ii=4), PlanOptions(fpgas=2))
    written(replace(design, prefix="muons"), tmp_path)
    assert (tmp_path / "hls" / "fpga1" / "muons_fpga1.cpp").is_file()
    check_all(verify_build(tmp_path, rungs=(2, 3, 4, 5)), {2, 3, 4, 5})


@given(name=st.text(max_size=40))
@example(name="3layers")
@example(name="Jet Tagger v1.2")
@example(name="ÜÖ")
@example(name="")
@examples(200)
def test_every_name_makes_a_prefix(name: str) -> None:
    prefix = prefix_of(name)
    assert re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", prefix)
    assert len(prefix) <= 31
    assert prefix_of(prefix) == prefix


def test_prefixes_of_names_that_people_give() -> None:
    names = ("jets", "Jet Tagger v1.2", "3layers", "a__b_")
    assert [prefix_of(name) for name in names] == ["jets", "jet_tagger_v1_2", "net_3layers", "a_b"]
