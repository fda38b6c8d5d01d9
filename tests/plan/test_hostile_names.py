"""Names of layers, inputs and outputs are any text: none becomes code, none makes two things one."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from design_builds import check_all, written
from hypothesis import example, given
from hypothesis import strategies as st
from stream_networks import Net

from metronn.emit.build import emit_build
from metronn.ir.graph import Graph
from metronn.ir.names import LONGEST_COMMENT, LONGEST_IDENTIFIER, comment_name, encodable, sanitized, toml_string
from metronn.ir.text import from_text, to_text
from metronn.plan.hardware.system import load_system
from metronn.plan.options import PlanOptions
from metronn.plan.planner import plan
from metronn.verify.run import verify_build
from random_tests import examples
from simulators import need

PIECES = (
    "\\", "\n", "\r", "*/", "/*", "//", '"', "'", '"""', "?" + "?/", "`include", "$(shell x)", "\v", "\f", "\x1b[2J",
    "é", "\x85", "\u2028", "\u202e", "\ud800", "\0", "</pre><script>", "{x}", "%s", "#", "verilator", "lint_off ",
    "synopsys", "translate_off", "dense", " ", "_", "x" * 300, "0",
)  # fmt: skip
NAMES = st.lists(st.sampled_from(PIECES) | st.text(min_size=1, max_size=4), min_size=1, max_size=6).map("".join)
HOSTILE = ["ends in \\", 'new\nline `include "x" "', "*/ é \u2028" + "x" * 300, "verilator lint_off ALL", "?" + "?/"]
LINE_ENDS = re.compile("[\n\r\v\f\x85\u2028\u2029]")


def network(names: list[str]) -> Graph:
    """A network of many kinds of op whose layers, inputs and outputs have these names in the framework."""
    net = Net(3)
    image = net.max_pool(net.conv(net.input("image", (4, 4, 1)), "conv", 2), "pool")
    x = net.concat(net.reshape(image, "flat", (8,)), net.input("x", (2,)), "both")
    net.builder.output("y", net.dense(x, "last", 3), names[0])
    graph = net.builder.build()
    sources = {source: names[k % len(names)] for k, source in enumerate({n.source: 0 for n in graph.nodes})}
    for position, node in enumerate(net.builder.nodes):
        net.builder.nodes[position] = type(node)(
            name=node.name, op=node.op, type=node.type, source=encodable(sources[node.source])
        )
    return net.builder.build()


def emitted(names: list[str]) -> dict[str, bytes]:
    """Return the files of a streamed build on one FPGA."""
    design = plan(network(names), load_system("one-serenity").with_overrides(ii=16), PlanOptions())
    real = {node.name: np.zeros((1, *node.type.shape), dtype=np.int64) for node in design.graph.inputs}
    return emit_build(design, real, events=1, rtl_events=1)


def code(text: str) -> list[str]:
    """Return the lines of C++ or SystemVerilog without `//` comments but orders to tools, as a preprocessor reads them.

    Comments hold no character that any tool takes for the end of a line; a line is spliced after a backslash or its
    trigraph.
    """
    lines = []
    for line in text.replace("?" + "?/\n", "").replace("\\\n", "").split("\n"):
        before, mark, note = re.sub(r'"(\\.|[^"\\])*"', '""', line).partition("//")
        assert not LINE_ENDS.search(line)
        assert note.isascii()
        order = re.match(r"/?\s*(verilator|synopsys|synthesis|pragma)", note)
        lines.append(line if order else before.rstrip() if mark else before)
    return lines


@given(names=st.lists(NAMES, min_size=1, max_size=3))
@example(names=HOSTILE)
@examples(5)
def test_no_name_becomes_code(names: list[str]) -> None:
    """The build differs from that of identifiers in comments, in string literals and in the graph's hash only."""
    files, usual = emitted(names), emitted([sanitized(encodable(name)) for name in names])
    assert set(files) == set(usual)
    for name, content in files.items():
        if name.endswith((".cpp", ".hpp", ".sv", ".h")):
            found, plain = code(content.decode()), code(usual[name].decode())
            assert [re.sub("[0-9a-f]{8,}", "#", a) for a in found] == [re.sub("[0-9a-f]{8,}", "#", a) for a in plain]
        elif name.endswith(".py"):
            shapes = [re.sub("Constant\\([^)]*\\)", "", ast.dump(ast.parse(text))) for text in (content, usual[name])]
            assert len({re.sub("'.*?'", "", shape) for shape in shapes}) == 1
        elif name.endswith("json"):
            json.loads(content)
    graph = network(names)
    assert from_text(to_text(graph)) == graph


@given(names=st.lists(NAMES, min_size=2, max_size=12))
@examples(200)
def test_identifiers_are_short_and_distinct(names: list[str]) -> None:
    net = Net(0)
    found = [net.input(name, (1,)) for name in [*names, *names]]
    assert len(set(found)) == len(found)
    for name in found:
        assert re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", name)
        assert len(name) <= LONGEST_IDENTIFIER
        assert sanitized(name) == name
    net.builder.output(names[0], found[0], names[0])
    assert from_text(to_text(net.builder.build())) == net.builder.build()


@given(name=NAMES)
@examples(300)
def test_a_name_in_a_comment_is_one_line_of_ascii(name: str) -> None:
    shown = comment_name(name)
    assert shown.isascii()
    assert shown.isprintable()
    assert not shown.endswith(("\\", "?" + "?/"))
    assert "*/" not in shown
    if len(name) <= LONGEST_COMMENT and not shown.startswith('"'):
        assert shown == name
    if shown.startswith('"') and len(name) <= LONGEST_COMMENT:
        assert json.loads(shown) == name


@given(name=NAMES | st.sampled_from(["\x7f", "\U0001f600"]))
def test_a_name_in_toml(name: str) -> None:
    line = f"{toml_string(name)} = {toml_string(name)}"
    assert tomllib.loads(line) == {encodable(name): encodable(name)}


@pytest.mark.slow
def test_hostile_names_up_the_ladder(tmp_path: Path) -> None:
    need("verilator")
    pytest.importorskip("hls4ml")
    design = plan(network(HOSTILE), load_system("one-serenity").with_overrides(ii=16), PlanOptions())
    written(design, tmp_path, events=40, rtl_events=40)
    check_all(verify_build(tmp_path, rungs=(2, 3, 4)), {2, 3, 4})
