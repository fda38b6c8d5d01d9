"""Random changes of TOML files: metronn.toml, systems, boards and devices that are right, and what is left of them."""

from __future__ import annotations

import datetime
import math
import tomllib
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from metronn.ir.names import toml_key, toml_string

HARDWARE = Path(__file__).parents[2] / "boards"
CONFIGURATION = """
[model]
file = "small.onnx"
name = "small"
[data]
calibrate = "events.npz"
label = "label"
columns = {x = ["x"]}
[quantize]
weight_bits = 8
activation_bits = 8
output_bits = 16
rounding = "RND"
overflow = "SAT"
calibration = "mse"
percentile = 99.9
calibration_events = 100
metric = "accuracy"
tolerance = 0.5
min_sqnr_db = 5.0
table_bits = 8
layers.hidden = {weight_bits = 6, activation_bits = 7, rounding = "TRN"}
inputs.x = {bits = 10, frac = 6}
[plan]
system = "mine.toml"
ii = 4
clock_mhz = 200.0
objective = "latency"
fold = "full"
fpgas = 1
inputs = "auto"
outputs = "parallel"
input_lanes = 1
output_lanes = 1
max_latency_ns = 5000.0
layers.hidden = {reuse = 2}
[verify]
data = "events.npz"
events = 20
rtl_events = 4
require = [1]
[build]
directory = "made"
[report]
pictures = ["plot.png"]
"""
NAMES = {"metronn.toml": CONFIGURATION}
NAMES |= {
    "mine.toml": (HARDWARE / "systems" / "two-serenity.toml").read_text(),
    "boards/serenity.toml": (HARDWARE / "boards" / "serenity.toml").read_text(),
    "devices/vu13p.toml": (HARDWARE / "devices" / "vu13p.toml").read_text(),
    "widths.toml": (
        '[quantize]\nrescale = true\nlayers."hidden" = {weight_bits = 6}\nlayers."last" = {activation_bits = 9}\n'
    ),
}
"""The files by name. Boards and devices lie beside the system, so they are found before those of metronn."""
FILES = tuple(NAMES)

TEXTS = ("", " ", "x", "small.onnx", "events.npz", "mine.toml", ".", "/", "..", "\0", "a\0b", "x" * 300, "\x1b[2J",
    "a\nb",
         "é", "\u202e", "*", "[", "auto", "none", "accuracy", "auc", "full", "fpga0", "fpga1", "serenity", "vu13p",
    "8b10b",
         "good.py:metric", "nan", "metronn.toml", "../x", "~")  # fmt: skip
NUMBERS = (0, -1, 1, 2, 3, 32, 33, 64, 65, 1024, 65_536, 65_537, 10**9, 10**18, 2**63, 10**30, -(10**30), 0.0, -0.0,
    0.5,
           1.5, 1e-300, 1e300, -1e300, math.nan, math.inf, -math.inf)  # fmt: skip
OTHER = (True, False, [], {}, [[]], [{}], {"x": 1}, [1, "x"], {"": ""}, datetime.date(2026, 1, 1), datetime.time(1, 2),
         datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC))  # fmt: skip
VALUES = st.sampled_from(TEXTS) | st.sampled_from(NUMBERS) | st.sampled_from(OTHER) | st.text(max_size=5)
KEYS = st.sampled_from(
    (*TEXTS, "name", "file", "bits", "layers", "inputs", "board", "boards", "links", "chain", "count", "a.b")
)
PASTED = (
    "x", "= 1", "[x", "[[x]]\n[x]\n", "a.b.c = 1\na.b = 2\n", '"', '"""', "\\", "\0", "\ufeff", "name = 'twice'\n",
    "[model]\n",
    "[plan]\n", "x = " + "[" * 2000, "x = 1" + "0" * 5000, "x = 0x_", "\udcff", "[model.file]\n",
    "[quantize.layers.hidden.x]\n",
    "[[boards]]\n", "[[links]]\n", "[chain]\n", 'quantize.widths = "widths.toml"\n',
    "[[boards]]\nname = 'fpga0'\nboard = 'serenity'\n",
    "[[links]]\nfrom = 'fpga1'\nto = 'fpga0'\nlanes = 1\nline_rate_gbps = 1.0\n"
    "latency_min_ns = 1.0\nlatency_max_ns = 1.0\n",
)  # fmt: skip
"""Text put between two lines: wrong syntax, keys twice, dotted keys, tables of one name."""


def places(node: Any) -> Iterator[tuple[Any, Any]]:
    """Yield every (table or list, key) inside a document."""
    for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
        yield node, key
        yield from places(node[key])


def toml_value(value: Any) -> str:
    """Write a value as TOML, tables in one line."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            return toml_string(value).replace("\\\\0", "\\u0000")
        case int():
            return str(value)
        case float():
            return (
                repr(value) if math.isfinite(value) else "nan" if math.isnan(value) else "inf" if value > 0 else "-inf"
            )
        case list() | tuple():
            return "[" + ", ".join(map(toml_value, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{toml_key(k)} = {toml_value(v)}" for k, v in value.items()) + "}"
        case _:
            return str(value.isoformat())


def toml_text(data: dict[str, Any]) -> str:
    """Write a document, one key a line."""
    return "".join(f"{toml_key(key)} = {toml_value(value)}\n" for key, value in data.items())


@st.composite
def changed(draw: st.DrawFn, text: str) -> str:
    """Draw what becomes of a file: keys dropped, added, renamed, moved, values of other kinds, text cut or put in."""
    data = tomllib.loads(text)
    for _ in range(draw(st.integers(0, 3))):
        found = list(places(data))
        if not found:
            break
        node, key = draw(st.sampled_from(found))
        match draw(st.sampled_from(("drop", "value", "value", "value", "add", "rename", "list", "twice", "move"))):
            case "drop":
                del node[key]
            case "value":
                node[key] = deepcopy(draw(VALUES))
            case "add" if isinstance(node, dict):
                node[draw(KEYS)] = deepcopy(draw(VALUES))
            case "rename" if isinstance(node, dict):
                node[draw(KEYS)] = node.pop(key)
            case "list":
                node[key] = [node[key], deepcopy(node[key])]
            case "twice" if isinstance(node[key], list) and node[key]:
                node[key] += deepcopy(node[key])
            case "move":
                other, there = draw(st.sampled_from(found))
                other[there] = deepcopy(node[key])
    made = toml_text(data)
    lines = made.split("\n")
    at = draw(st.integers(0, len(lines)))
    match draw(st.sampled_from(("keep",) * 6 + ("paste", "paste", "cut", "line"))):
        case "paste":
            made = "\n".join([*lines[:at], draw(st.sampled_from(PASTED)), *lines[at:]])
        case "cut":
            made = made[: draw(st.integers(0, len(made)))]
        case "line":
            made = "\n".join([*lines[:at], *lines[at + 1 :]])
    return made


@st.composite
def documents(draw: st.DrawFn) -> dict[str, str]:
    """Draw one changed file, at times two; the others are right."""
    found = dict(NAMES)
    for name in draw(st.lists(st.sampled_from(FILES), min_size=1, max_size=2, unique=True)):
        found[name] = draw(changed(NAMES[name]))
    return found
