"""The text form of a real graph, as that of the integer graph: every float64 parses back to the same bits.

Floats are written with the fewest decimal digits that no other float64 is nearest to. Shapes are not read back but
inferred again; the comment at the end of each line shows them.
"""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import Field
from typing import Any, get_args

import numpy as np

from metronn.ir.arrays import IntArray
from metronn.ir.lines import INT_ARRAY, ArrayForm, Form, LineReader, LineWriter, TextError, Words
from metronn.ir.ops import operands
from metronn.ir.text import OUTPUT
from metronn.model.graph import FloatArray, RealGraph, RealNode, RealOp, real_shape

HEADER = "metronn real graph 1"


def _float_word(value: float) -> str:
    """Return a float64 as a word; one that is no number with all its bits."""
    return f"nan:{struct.pack('>d', value).hex()}" if math.isnan(value) else repr(float(value))


def _float_of(word: str) -> float:
    if not word.startswith("nan:"):
        return float(word)
    bits = bytes.fromhex(word[4:])
    if len(bits) != 8:
        raise ValueError(f"{word}: 16 hex digits needed")
    return float(struct.unpack(">d", bits)[0])


FLOATS = Words(write=_float_word, read=_float_of)


def _optional(op: type[Any], item: Field[Any]) -> bool:
    return item.default is None


FORM = Form(
    header=HEADER,
    ops={cls.__name__.removeprefix("Real").lower(): cls for cls in get_args(RealOp)},
    optional=_optional,
    arrays={
        IntArray: INT_ARRAY,
        FloatArray: ArrayForm(
            words=FLOATS,
            values=lambda array: array.array.ravel().tolist(),
            make=lambda values, shape: FloatArray.of(np.array(values, dtype=np.float64).reshape(shape)),
        ),
    },
    words={"parameters": FLOATS},
)
_TENSOR = re.compile(r"tensor (?P<name>\".*\") = %(?P<value>[\w.]+)\Z")


def real_to_text(graph: RealGraph) -> str:
    """Return the text form. Same graph, same text."""
    writer = LineWriter(FORM)
    lines = [
        writer.node(node.name, node.op, node.source, "x".join(str(n) for n in node.shape) or "scalar")
        for node in graph.nodes
    ]
    sources = [f" from {json.dumps(source)}" for source in graph.output_sources] or [""] * len(graph.outputs)
    lines += [f"output {name} = %{value}{source}" for (name, value), source in zip(graph.outputs, sources, strict=True)]
    lines += [f"tensor {json.dumps(tensor)} = %{value}" for tensor, value in graph.tensors]
    return "\n".join([HEADER, *lines, *writer.arrays]) + "\n"


def real_from_text(text: str) -> RealGraph:
    """Parse the text form. Raises TextError naming the line that cannot be read."""
    reader = LineReader(FORM, text)
    nodes: dict[str, RealNode] = {}
    outputs: list[tuple[str, str]] = []
    tensors: list[tuple[str, str]] = []
    sources: list[str] = []

    def line_of(line: str) -> bool:
        if node := reader.node(line):
            if node.name in nodes:
                raise TextError(f"the name {node.name} is used twice")
            shape = real_shape(node.op, [nodes[_known(x)].shape for x in operands(node.op)])
            nodes[node.name] = RealNode(name=node.name, op=node.op, shape=shape, source=node.source)
        elif match := OUTPUT.match(line):
            outputs.append((match["name"], _known(match["value"])))
            if match["source"]:
                sources.append(json.loads(match["source"]))
            if len(sources) not in (0, len(outputs)):
                raise TextError("some outputs have a source, others have none")
        elif match := _TENSOR.match(line):
            tensors.append((json.loads(match["name"]), _known(match["value"])))
        else:
            return False
        return True

    def _known(value: str) -> str:
        if value not in nodes:
            raise TextError(f"no node above is called {value}")
        return value

    reader.read(line_of)
    return RealGraph(
        nodes=tuple(nodes.values()), outputs=tuple(outputs), tensors=tuple(tensors), output_sources=tuple(sources)
    )
