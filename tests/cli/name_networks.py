"""Chains of small dense layers whose layers, inputs and outputs have names that were drawn, as ONNX files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from metronn.emit.build import npz
from metronn.ir.names import encodable

PIECES = (
    "\\", "\n", "\r", "\t", "\v", "\f", "\0", "\x1b[2J", "\x7f", "*/", "/*", "//", '"', "'", '"""', "'''", "`", "``",
    "`include ", "`define x", "${HOME}", "$(shell touch x)", "$x", "%s", "%n", "%", "{x}", "{{", "}", "#", "@", "!",
    ";", ":", ":0", "/", "../", "?" + "?/", "<script>", "</pre>", "<!--", "&amp;", "[", "]", "=", "|", "~", "^", ",",
    "(",
    ")", " ", ".", "..", "-", "_", "__", "0", "1", "x" * 300, "A", "a", "é", "e\u0301", "\x85", "\u2028", "\u2029",
    "\u202e", "\u200b", "\ufeff", "\U0001f600", "\U0001f469\u200d\U0001f52c", "ß", "İ", "ﬁ", "字", "\u0660",
    "verilator lint_off ALL", "synopsys translate_off", "pragma", "s_", "_i", "_o", "_t", "_cfg", "gen_", "u_", "mnn_",
)  # fmt: skip
"""What could end, begin or escape something in C++, SystemVerilog, Python, Tcl, Make, TOML, JSON, HTML or a path."""
WORDS = (
    "module", "endmodule", "always", "always_ff", "begin", "end", "input", "output", "wire", "logic", "reg", "initial",
    "function", "class", "int", "union", "template", "namespace", "std", "main", "using", "auto", "and", "operator",
    "NULL", "EOF", "None", "def", "lambda", "import", "self", "proc", "set", "puts", "exit", "if", "include", "all",
    "clean", "system", "SIM", "PYTHON", "MAKE", "clk", "clk_i", "rst", "rst_i", "valid", "valid_i", "valid_o", "error",
    "error_o", "lane", "start", "start_i", "bc0", "clear", "event_0", "event_start", "event", "flag", "word_in",
    "frame_in", "frame_out", "link_rx", "orbit", "guard", "u_fpga0", "fpga0", "fpga1", "fpga_0", "top", "network",
    "metronn", "stream", "weights", "types", "config", "bridge", "testbench", "library", "file", "x", "y", "x0_i",
    "y_o",
    "s_x", "net_x", "unused_inputs", "label", "in.x", "out.x", "x__int", "args", "kwds", "script", "html", "body",
    "con",
)  # fmt: skip
"""Words of those languages, and names that emitters give themselves."""
LETTERS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8)
PIECED = st.lists(st.sampled_from(PIECES) | st.sampled_from(WORDS) | LETTERS, min_size=1, max_size=5).map("".join)
NAMES = st.sampled_from(WORDS) | PIECED | st.sampled_from(WORDS).map(str.upper) | st.sampled_from(PIECES)


def alike(name: str) -> list[str]:
    """Return other names that are easily taken for this one."""
    return [name.swapcase(), f"{name}_", name.replace("_", "."), name.replace(" ", "_"), f"{name}\n", f"{name}:0"]


@st.composite
def named(draw: st.DrawFn, count: int) -> list[str]:
    """Draw `count` different names, some of them alike; none is empty, as tensors of ONNX must not be."""
    found: dict[str, None] = {}
    while len(found) < count:
        name = draw(NAMES)
        found[name] = None
        if len(found) < count and draw(st.booleans()):
            found[draw(st.sampled_from(alike(name)))] = None
    return list(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How many inputs, outputs and dense layers a network has; each layer has a ReLU with a name of its own."""

    inputs: int = 3
    outputs: int = 3
    layers: int = 12

    @property
    def names(self) -> int:
        """How many names it takes."""
        return self.inputs + self.outputs + 2 * self.layers + 1


def write_named(names: Sequence[str], shape: Shape, folder: Path, seed: int = 5) -> tuple[Path, Path]:
    """Write a network whose names are all of `names`, and events for it; return both files."""
    rng = np.random.default_rng(seed)
    left = iter(names)
    inputs = [next(left) for _ in range(shape.inputs)]
    outputs = [next(left) for _ in range(shape.outputs)]
    used = {*inputs, *outputs}
    arrays: dict[str, np.ndarray] = {}

    def tensor(stem: str) -> str:
        while stem in used:
            stem += "'"
        used.add(stem)
        return stem

    def weights(values: np.ndarray) -> str:
        name = tensor(f"tensor {len(used)}")
        arrays[name] = (values / 16).astype(np.float32)
        return name

    nodes = [helper.make_node("Concat", inputs, [tensor("joined")], name=next(left), axis=1)]
    width, made = 2 * shape.inputs, nodes[0].output[0]
    for number in range(shape.layers):
        matrix = weights(rng.integers(-3, 4, (width, 3)) + 14 * np.eye(width, 3, dtype=np.int64))  # no signal dies
        dense = tensor(f"dense {number}")
        nodes.append(helper.make_node("Gemm", [made, matrix, weights(rng.integers(0, 9, 3))], [dense], name=next(left)))
        last = number - (shape.layers - shape.outputs)
        out = outputs[last] if last >= 0 else tensor(f"relu {number}")
        nodes.append(helper.make_node("Relu", [dense], [out], name=next(left)))
        width, made = 3, out
    graph = helper.make_graph(
        nodes,
        "names",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in outputs],
        [numpy_helper.from_array(values, name) for name, values in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(folder / "names.onnx"))
    events = {encodable(name): rng.integers(-64, 64, (40, 2)) / 32 for name in inputs}
    (folder / "events.npz").write_bytes(npz(events))
    return folder / "names.onnx", folder / "events.npz"
