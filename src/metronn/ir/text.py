"""The text form of a graph: one line per node, constants at the end; it parses back to an equal graph.

Types are not read back but inferred again; the comment at the end of each line shows them.
"""

from __future__ import annotations

import enum
import hashlib
import itertools
import json
import re
from dataclasses import MISSING, Field, fields
from typing import Any, get_args, get_type_hints

from metronn.ir.arrays import IntArray, exact_array, object_array
from metronn.ir.graph import Graph, GraphBuilder, Node
from metronn.ir.names import LONGEST_IDENTIFIER
from metronn.ir.ops import Input, Linear, Op, op_name
from metronn.ir.types import Ints, Range

OPS: dict[str, type[Any]] = {cls.__name__.lower(): cls for cls in get_args(Op)}
HEADER = "metronn graph 1"
_HASH = "_text_hash"
"""Where a graph, which never changes, keeps the hash of its text."""


class TextError(ValueError):
    """The text is not a graph; the message names the line."""


def to_text(graph: Graph) -> str:
    """Return the text form. Same graph, same text."""
    arrays: dict[str, IntArray] = {}
    lines = [HEADER]
    for node in graph.nodes:
        lines.append(_node_line(node, arrays))
    for output in graph.outputs:
        source = f" from {json.dumps(output.source)}" if output.source else ""
        lines.append(f"output {output.name} = %{output.value}{source}")
    for name, array in arrays.items():
        shape = "x".join(str(n) for n in array.shape)
        lines.append(f"@{name} = [{shape}] {_run_lengths(array.ints())}")
    return "\n".join(lines) + "\n"


def graph_hash(graph: Graph) -> str:
    """First 16 hex digits of the SHA-256 of the text form, which is made once for each graph."""
    known = graph.__dict__.get(_HASH)
    if known is None:
        known = hashlib.sha256(to_text(graph).encode()).hexdigest()[:16]
        graph.__dict__[_HASH] = known
    return str(known)


def _node_line(node: Node, arrays: dict[str, IntArray]) -> str:
    parts = []
    for item in fields(node.op):
        value = getattr(node.op, item.name)
        if _optional(type(node.op), item) and value == item.default:
            continue
        if isinstance(value, IntArray):
            arrays[f"{node.name}:{item.name}"] = value
            parts.append(f"{item.name}=@{node.name}:{item.name}")
        else:
            parts.append(f"{item.name}={_field_text(item.name, value)}")
    call = f"{op_name(node.op)}({', '.join(parts)})"
    return f"%{node.name} = {call} from {json.dumps(node.source)}  # {node.type.describe()}"


def _optional(op: type[Any], item: Field[Any]) -> bool:
    """Whether a field is left out of the text where it has its default."""
    return item.default is not MISSING and (op is Input or (op is Linear and item.name == "input_frac"))


def _field_text(name: str, value: object) -> str:
    if name in ("x", "y"):
        return f"%{value}"
    if name == "xs" and isinstance(value, tuple):
        return "(" + " ".join(f"%{x}" for x in value) + ")"
    if isinstance(value, Range):
        return f"range[{_ints_text(value.lo)} : {_ints_text(value.hi)} : {_ints_text(value.frac)}]"
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, tuple) and name in ("weight_frac", "input_frac"):
        return _ints_text(value)
    if isinstance(value, tuple):
        return "(" + " ".join(str(v) for v in value) + ")"
    return str(value)


def _ints_text(value: Ints) -> str:
    return str(value) if isinstance(value, int) else "(" + _run_lengths(list(value)) + ")"


def _run_lengths(values: list[int]) -> str:
    """Integers separated by blanks; a run of three or more is written value*count."""
    words: list[str] = []
    for value, run in itertools.groupby(values):
        count = sum(1 for _ in run)
        words.extend([f"{value}*{count}"] if count > 2 else [str(value)] * count)
    return " ".join(words)


def _parse_runs(text: str) -> list[int]:
    values: list[int] = []
    for word in text.split():
        value, _, count = word.partition("*")
        values.extend([int(value)] * (int(count) if count else 1))
    return values


_NODE = re.compile(r"%(?P<name>[\w.]+) = (?P<op>\w+)\((?P<fields>.*)\) from (?P<source>\".*\")  # .*\Z")
_ARRAY = re.compile(r"@(?P<name>[\w.:]+) = \[(?P<shape>[\dx]*)\] ?(?P<values>.*)\Z")
_OUTPUT = re.compile(r"output (?P<name>[\w.]+) = %(?P<value>[\w.]+)(?: from (?P<source>\".*\"))?\Z")
_FIELD = re.compile(r"(\w+)=(range\[[^\]]*\]|\([^)]*\)|[^,]*)(?:, |\Z)")
_RANGE = re.compile(r"range\[(.*) : (.*) : (.*)\]\Z")


def from_text(text: str) -> Graph:
    """Parse the text form. Raises TextError naming the line that cannot be read."""
    lines = text.splitlines()
    if not lines or lines[0] != HEADER:
        raise TextError(f"line 1: found {lines[0] if lines else 'nothing'!r}, a graph starts with {HEADER!r}")
    arrays = _read_arrays(lines)
    builder = GraphBuilder()
    for number, line in enumerate(lines[1:], start=2):
        try:
            if match := _NODE.match(line):
                name = builder.add(
                    _read_op(match["op"], match["fields"], arrays), match["name"], json.loads(match["source"])
                )
                if len(match["name"]) > LONGEST_IDENTIFIER:
                    raise TextError(f"the name has {len(match['name'])} letters, allowed are {LONGEST_IDENTIFIER}")
                if name != match["name"]:
                    raise TextError(f"the name {match['name']} is used twice")
            elif match := _OUTPUT.match(line):
                if match["value"] not in builder.types:
                    raise TextError(f"no node above is called {match['value']}")
                builder.output(match["name"], match["value"], json.loads(match["source"] or '""'))
            elif line.strip() and not line.startswith("@"):
                raise TextError("neither a node, an output nor a constant")
        except (ValueError, KeyError) as error:
            raise TextError(f"line {number}: {error}: {line[:120]}") from error
    return builder.build()


def _read_arrays(lines: list[str]) -> dict[str, IntArray]:
    arrays = {}
    for number, line in enumerate(lines, start=1):
        if not line.startswith("@"):
            continue
        match = _ARRAY.match(line)
        if not match:
            raise TextError(f"line {number}: not a constant: {line[:120]}")
        shape = tuple(int(n) for n in match["shape"].split("x") if n)
        try:
            values = exact_array(object_array(_parse_runs(match["values"]), shape))
        except ValueError as error:
            raise TextError(f"line {number}: {error}") from error
        arrays[match["name"]] = IntArray.of(values)
    return arrays


def _read_op(name: str, text: str, arrays: dict[str, IntArray]) -> Op:
    cls = OPS.get(name)
    if cls is None:
        raise TextError(f"unknown op {name!r}; known are {', '.join(sorted(OPS))}")
    hints = get_type_hints(cls)
    values: dict[str, object] = {}
    for field_name, value in _FIELD.findall(text):
        if field_name not in hints:
            raise TextError(f"{name} has no field {field_name!r}")
        values[field_name] = _read_field(field_name, value, hints[field_name], arrays)
    missing = [item.name for item in fields(cls) if item.name not in values and not _optional(cls, item)]
    if missing:
        raise TextError(f"{name} lacks {', '.join(missing)}")
    op: Op = cls(**values)
    return op


def _read_field(name: str, text: str, hint: object, arrays: dict[str, IntArray]) -> object:
    if text.startswith("@"):
        return arrays[text[1:]]
    if text.startswith("%"):
        return text[1:]
    if name == "xs":
        return tuple(word[1:] for word in text[1:-1].split())
    if match := _RANGE.match(text):
        return Range(*(_read_ints(part) for part in match.groups()))
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(text)
    if text in ("True", "False"):
        return text == "True"
    return _read_ints(text)


def _read_ints(text: str) -> Ints:
    return tuple(_parse_runs(text[1:-1])) if text.startswith("(") else int(text)
