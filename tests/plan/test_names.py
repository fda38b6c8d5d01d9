"""Inputs and outputs with names that tops, simulators, C++ and NumPy use themselves."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from design_builds import build, check_all
from stream_networks import Net

from metronn.emit.build import emit_build
from metronn.emit.rtl.fpga import ports
from metronn.emit.rtl.port_names import port_names
from metronn.ir.graph import Graph
from metronn.plan.hardware.system import load_system
from metronn.plan.options import PlanOptions
from metronn.plan.planner import plan
from metronn.verify.run import verify_build
from simulators import need

INPUTS = (
    "valid", "clk", "rst", "lane", "start", "bc0", "clear", "s_x_i", "file", "int", "_x", "a__b", "a.b", "a_b",
    "register", "flip_0", "ap_clk", "u_fpga0", "module", "system", "event_start", "ap_int", "stream", "net_valid",
)  # fmt: skip
OUTPUTS = (
    "error", "valid", "clk", "aligned", "aligned_0", "crc_errors_0", "class", "while", "file", "y", "_y", "y_o", "rst",
    "a.b", "a_b", "std", "main", "fpga0", "network", "metronn", "net_error",
)  # fmt: skip


def network(inputs: tuple[str, ...], outputs: tuple[str, ...]) -> Graph:
    """Vectors and an image, joined, with one dense layer for every output."""
    net = Net(7)
    found = [net.input(name, (2,)) for name in inputs]
    image = net.max_pool(net.conv(net.input("error", (4, 4, 1)), "lane", 2), "valid")
    x = net.reshape(image, "x_i", (8,))
    for number, other in enumerate(found):
        x = net.concat(x, other, ("start", "word_in", "frame_in")[number % 3])
    x = net.dense(x, "y_o", 9)
    for name in outputs:
        net.builder.output(name, net.dense(x, name, 2))
    return net.builder.build()


@pytest.mark.parametrize("fpgas", [1, 2])
def test_ports_are_distinct_and_plain_where_they_can_be(fpgas: int) -> None:
    system = load_system("two-serenity").with_overrides(ii=16)
    design = plan(network(INPUTS, OUTPUTS), system, PlanOptions(fpgas=fpgas))
    for fpga in design.fpgas:
        names = ["clk_i", "rst_i", *(name for _, name, _ in ports(design, fpga))]
        assert len(set(names)) == len(names)
        assert not {f"s_{signal.name}" for signal in fpga.signals} & set(names)
        assert all(re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) for name in names)
    found = port_names(design)
    assert found.inputs["start"] == "start_i"
    assert found.inputs["valid"] == "net_net_valid_i"
    assert found.inputs["net_valid"] == "net_valid_i"
    assert found.outputs["error"] == "net_net_error_o"
    assert found.outputs["y"] == "y_o"
    assert found.outputs["aligned_0"] == "net_aligned_0_o"
    assert found.inputs["_x"] == "net_x_i"


def test_ports_do_not_depend_on_the_number_of_fpgas() -> None:
    graph = network(("valid", "x"), ("error", "y"))
    one, two = (
        plan(graph, load_system("two-serenity").with_overrides(ii=16), PlanOptions(fpgas=count)) for count in (1, 2)
    )
    assert port_names(one) == port_names(two)
    assert port_names(one).outputs == {"error": "net_error_o", "y": "y_o"}


STRONG = ("always", "eventually", "nexttime", "until", "until_with")


def emitted(names: tuple[str, ...]) -> dict[str, str]:
    """Return the texts of a build whose layers and inputs have these names."""
    net = Net(3)
    x = net.input(names[0], (2,))
    for name in names[1:]:
        x = net.dense(net.concat(x, net.input(f"{name}_in", (1,)), f"{name}.both"), name, 2)
    design = plan(net.finish(x), load_system("one-serenity"), PlanOptions())
    real = {node.name: np.zeros((1, *node.type.shape), dtype=np.int64) for node in design.graph.inputs}
    files = emit_build(design, real, events=1, rtl_events=1)
    return {name: text.decode() for name, text in files.items() if name.endswith((".sv", ".hpp", ".cpp"))}


@pytest.mark.parametrize("first", STRONG)
def test_no_signal_is_a_word_of_systemverilog(first: str) -> None:
    """`s_` before a name makes words of the language of five: `s_always`, `s_until`."""
    for text in emitted((first, *(name for name in STRONG if name != first))).values():
        assert not re.search(r"\bs_(always|eventually|nexttime|until|until_with)\b", text)


def test_names_that_differ_by_case_are_two_in_every_file_system() -> None:
    files = emitted(("x", "Lambda", "LAMBDA", "lambda", "lambda_", "Lambda_weight"))
    headers = [name for name in files if "/weights/" in name or "/adders/" in name]
    assert len(headers) == 5
    assert len({name.lower() for name in files}) == len(files)
    guards = [re.findall(r"^#ifndef (\w+)", files[name], re.MULTILINE)[0] for name in headers]
    assert len(set(guards)) == 5


@pytest.mark.slow
def test_taken_names_up_the_ladder(tmp_path: Path) -> None:
    need("verilator")
    pytest.importorskip("hls4ml")
    graph = network(INPUTS[:12], OUTPUTS[:8])
    folder = build(graph, tmp_path / "build", "two-serenity", 16, PlanOptions(fpgas=2), events=10, rtl_events=10)
    check_all(verify_build(folder, rungs=(2, 3, 4, 5)), {2, 3, 4, 5})
