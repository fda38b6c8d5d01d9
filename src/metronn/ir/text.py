"""The text form of a graph: one line per node, constants at the end; it parses back to an equal graph.

Types are not read back but inferred again; the comment at the end of each line shows them.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import Field
from typing import Any, get_args

from metronn.ir.arrays import IntArray
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.lines import INT_ARRAY, INTEGERS, Form, LineReader, LineWriter, TextError
from metronn.ir.ops import Input, Linear, Op

__all__ = ["HEADER", "OPS", "TextError", "from_text", "graph_hash", "to_text"]

OPS: dict[str, type[Any]] = {cls.__name__.lower(): cls for cls in get_args(Op)}
HEADER = "metronn graph 1"
_HASH = "_text_hash"
"""Where a graph, which never changes, keeps the hash of its text."""


def _optional(op: type[Any], item: Field[Any]) -> bool:
    return op is Input or (op is Linear and item.name == "input_frac")


FORM = Form(
    header=HEADER,
    ops=OPS,
    optional=_optional,
    arrays={IntArray: INT_ARRAY},
    words={"weight_frac": INTEGERS, "input_frac": INTEGERS},
)


def to_text(graph: Graph) -> str:
    """Return the text form. Same graph, same text."""
    writer = LineWriter(FORM)
    lines = [writer.node(node.name, node.op, node.source, node.type.describe()) for node in graph.nodes]
    for output in graph.outputs:
        source = f" from {json.dumps(output.source)}" if output.source else ""
        lines.append(f"output {output.name} = %{output.value}{source}")
    return "\n".join([HEADER, *lines, *writer.arrays]) + "\n"


def graph_hash(graph: Graph) -> str:
    """First 16 hex digits of the SHA-256 of the text form, which is made once for each graph."""
    known = graph.__dict__.get(_HASH)
    if known is None:
        known = hashlib.sha256(to_text(graph).encode()).hexdigest()[:16]
        graph.__dict__[_HASH] = known
    return str(known)


OUTPUT = re.compile(r"output (?P<name>[\w.]+) = %(?P<value>[\w.]+)(?: from (?P<source>\".*\"))?\Z")


def from_text(text: str) -> Graph:
    """Parse the text form. Raises TextError naming the line that cannot be read."""
    reader = LineReader(FORM, text)
    builder = GraphBuilder()

    def line_of(line: str) -> bool:
        if node := reader.node(line):
            if builder.add(node.op, node.name, node.source) != node.name:
                raise TextError(f"the name {node.name} is used twice")
        elif match := OUTPUT.match(line):
            if match["value"] not in builder.types:
                raise TextError(f"no node above is called {match['value']}")
            builder.output(match["name"], match["value"], json.loads(match["source"] or '""'))
        else:
            return False
        return True

    reader.read(line_of)
    return builder.build()
