"""Emitted SystemVerilog reads no name above its declaration: XSim, Questa and slang refuse what Verilator lets pass."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hand_designs import chain
from plan_networks import everything

from metronn.emit.rtl.fpga import emit_fpga
from metronn.emit.rtl.system import emit_system
from metronn.ir.graph import Graph
from metronn.plan.design import Design
from metronn.plan.hardware.system import load_system
from metronn.plan.layout import Layout
from metronn.plan.options import OutputForm, PlanOptions
from metronn.plan.planner import plan

FIRMWARE = Path(__file__).resolve().parents[2] / "firmware"
DECLARATION = re.compile(r"\b(?:wire|logic|genvar|localparam|parameter|bit|int)\b([^;]*)")
PREFIX = re.compile(r"(?:\s*(?:signed|unsigned|logic|int|bit)\b)*(?:\s*\[[^\]]*\])*\s*(?=[A-Za-z_])")


def read_too_early(text: str) -> list[str]:
    """Names of a module that stand above the place where they are declared."""
    code = re.sub(r"//[^\n]*|\"[^\"]*\"|\(\*.*?\*\)", lambda found: " " * len(found[0]), text)
    declared: dict[str, int] = {}
    for found in DECLARATION.finditer(code):
        for start in _names(found[1]):
            place = found.start(1) + start
            name = re.match(r"\w+", code[place:])
            assert name is not None
            declared[name[0]] = min(place, declared.get(name[0], place))
    first: dict[str, int] = {}
    for found in re.finditer(r"(?<![\w'.$])[A-Za-z_]\w*|(?<=\.)[A-Za-z_]\w*(?=\s*[,\n])", code):
        first.setdefault(found[0], found.start())
    return [name for name, place in declared.items() if first[name] < place]


def _names(text: str) -> list[int]:
    """Places of the names in what follows a declaration's keyword, up to the end of the list."""
    places, depth, start = [], 0, 0
    for end, character in enumerate(text + ","):
        depth += (character in "([{") - (character in ")]}")
        if depth < 0 or (character == "," and depth == 0) or end == len(text):
            prefix = PREFIX.match(text, start, end)
            if prefix is None or re.match(r"(?:input|output|parameter|localparam)\b", text[prefix.end() :]):
                break
            places.append(prefix.end())
            start = end + 1
        if depth < 0:
            break
    return places


def test_the_check_sees_late_declarations() -> None:
    text = "module m (input wire a, output wire [1:0] y);\n  assign y = {b, c};\n  wire [$clog2(4)-1:0] q, b = 1;\n"
    assert read_too_early(text + "  logic signed [3:0] c;\nendmodule\n") == ["b", "c"]
    assert read_too_early("module m (input wire a);\n  wire b = a, c = b;\n  u u_b (.b, .c(c));\nendmodule\n") == []
    assert read_too_early("module m (input wire a);\n  u u_b (.b, .c(a));\n  wire b;\nendmodule\n") == ["b"]


ROWS = [(8, Layout.rows(64, 4, 5)), (3, Layout.rows(8, 4))]
DESIGNS: dict[str, Callable[[], Design]] = {
    "three FPGAs": lambda: planned(everything(), "four-serenity", 5, PlanOptions(fpgas=3)),
    "streamed": lambda: planned(everything(), "one-serenity", 9, PlanOptions(outputs=OutputForm.STREAM)),
    "streams": lambda: chain([*ROWS, (5, Layout.parallel(30))], 80, (0, 300, 45), 3, 14),
    "one FPGA, an answer that begins early": lambda: chain(ROWS, 80, (20, 100), 1),
}


def planned(graph: Graph, system: str, ii: int, options: PlanOptions) -> Design:
    return plan(graph, load_system(system).with_overrides(ii=ii), options)


@pytest.mark.parametrize("name", DESIGNS)
def test_emitted_modules_declare_first(name: str) -> None:
    design = DESIGNS[name]()
    files = {"system.sv": emit_system(design)}
    for fpga in design.fpgas:
        files |= emit_fpga(design, fpga)
    assert {file: read_too_early(text) for file, text in files.items() if read_too_early(text)} == {}


@pytest.mark.parametrize("path", sorted(FIRMWARE.glob("*/*.sv")), ids=lambda path: path.stem)
def test_library_modules_declare_first(path: Path) -> None:
    assert read_too_early(path.read_text()) == []
