"""What the text forms of graphs share: a line for a node, its op with all fields, and one for each array at the end."""

from __future__ import annotations

import enum
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from typing import Any, get_args, get_type_hints

from metronn.ir.arrays import IntArray, exact_array, object_array
from metronn.ir.names import LONGEST_IDENTIFIER
from metronn.ir.types import Ints, Range


class TextError(ValueError):
    """The text is not a graph; the message names the line."""


@dataclass(frozen=True, slots=True)
class Words:
    """How values stand in a text: one word for each, with no blank, comma, bracket or asterisk in it."""

    write: Callable[[Any], str]
    read: Callable[[str], Any]


@dataclass(frozen=True, slots=True)
class ArrayForm:
    """How a kind of array stands in a text: the words of its values, and how it is made of them."""

    words: Words
    values: Callable[[Any], Sequence[Any]]
    make: Callable[[list[Any], tuple[int, ...]], Any]


INTEGERS = Words(write=str, read=int)
INT_ARRAY = ArrayForm(
    words=INTEGERS,
    values=IntArray.ints,
    make=lambda values, shape: IntArray.of(exact_array(object_array(values, shape))),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """One kind of graph: its first line, its ops by name, the kinds of its arrays, and the words of other numbers.

    `optional` tells for an op and a field whether the field is left out of the text where it has its default.
    """

    header: str
    ops: Mapping[str, type[Any]]
    optional: Callable[[type[Any], Field[Any]], bool]
    arrays: Mapping[type[Any], ArrayForm]
    words: Mapping[str, Words]

    def left_out(self, op: type[Any], item: Field[Any]) -> bool:
        """Whether a field with its default is left out of the text."""
        return item.default is not MISSING and self.optional(op, item)


class LineWriter:
    """Writes nodes of a form; keeps their arrays, whose lines come last."""

    def __init__(self, form: Form) -> None:
        """Start without arrays."""
        self.form = form
        self.names = {op: name for name, op in form.ops.items()}
        self.arrays: list[str] = []

    def node(self, name: str, op: object, source: str, comment: str) -> str:
        """Return the line of a node."""
        parts = []
        for item in fields(op):  # type: ignore[arg-type]
            value = getattr(op, item.name)
            if self.form.left_out(type(op), item) and value == item.default:
                continue
            kind = self.form.arrays.get(type(value))
            if kind is None:
                parts.append(f"{item.name}={self._field(item.name, value)}")
            else:
                shape = "x".join(str(n) for n in value.shape)
                values = run_lengths([kind.words.write(x) for x in kind.values(value)])
                self.arrays.append(f"@{name}:{item.name} = [{shape}] {values}")
                parts.append(f"{item.name}=@{name}:{item.name}")
        return f"%{name} = {self.names[type(op)]}({', '.join(parts)}) from {json.dumps(source)}  # {comment}"

    def _field(self, name: str, value: object) -> str:
        if name in ("x", "y"):
            return f"%{value}"
        if name == "xs" and isinstance(value, tuple):
            return "(" + " ".join(f"%{x}" for x in value) + ")"
        if isinstance(value, Range):
            return f"range[{_ints_text(value.lo)} : {_ints_text(value.hi)} : {_ints_text(value.frac)}]"
        if isinstance(value, enum.Enum):
            return str(value.value)
        if isinstance(value, tuple) and name in self.form.words:
            return "(" + run_lengths([self.form.words[name].write(x) for x in value]) + ")"
        if isinstance(value, tuple):
            return "(" + " ".join(str(v) for v in value) + ")"
        return str(value)


def _ints_text(value: Ints) -> str:
    return str(value) if isinstance(value, int) else "(" + run_lengths([str(x) for x in value]) + ")"


def run_lengths(words: Sequence[str]) -> str:
    """Return words separated by blanks; a run of three or more is written word*count."""
    shorter: list[str] = []
    for word, run in itertools.groupby(words):
        count = sum(1 for _ in run)
        shorter.extend([f"{word}*{count}"] if count > 2 else [word] * count)
    return " ".join(shorter)


def _parse_runs(text: str, read: Callable[[str], Any] = int) -> list[Any]:
    values: list[Any] = []
    for word in text.split():
        value, _, count = word.partition("*")
        values.extend([read(value)] * (int(count) if count else 1))
    return values


@dataclass(frozen=True, slots=True)
class ReadNode:
    """A line of a node, read."""

    name: str
    op: Any
    source: str


_NODE = re.compile(r"%(?P<name>[\w.]+) = (?P<op>\w+)\((?P<fields>.*)\) from (?P<source>\".*\")  # .*\Z")
_ARRAY = re.compile(r"@(?P<name>[\w.:]+) = \[(?P<shape>[\dx]*)\] ?(?P<values>.*)\Z")
_FIELD = re.compile(r"(\w+)=(range\[[^\]]*\]|\([^)]*\)|[^,]*)(?:, |\Z)")
_RANGE = re.compile(r"range\[(.*) : (.*) : (.*)\]\Z")


class LineReader:
    """Reads the lines of a text of a form. Every method raises ValueError or KeyError saying what is wrong."""

    def __init__(self, form: Form, text: str) -> None:
        """Check the first line and find the arrays; raises TextError naming the line."""
        self.form = form
        self.lines = text.splitlines()
        if not self.lines or self.lines[0] != form.header:
            found = self.lines[0] if self.lines else "nothing"
            raise TextError(f"line 1: found {found!r}, a graph starts with {form.header!r}")
        self._arrays: dict[str, tuple[int, tuple[int, ...], str]] = {}
        self._read: set[str] = set()
        for number, line in enumerate(self.lines, start=1):
            if line.startswith("@"):
                match = _ARRAY.match(line)
                if not match:
                    raise TextError(f"line {number}: not a constant: {line[:120]}")
                shape = tuple(int(n) for n in match["shape"].split("x") if n)
                self._arrays[match["name"]] = (number, shape, match["values"])

    def read(self, line_of: Callable[[str], bool]) -> None:
        """Give every line but arrays and empty ones to a function that tells whether it could read it.

        Raises TextError naming the line.
        """
        for number, line in enumerate(self.lines[1:], start=2):
            if not line.strip() or line.startswith("@"):
                continue
            try:
                if not line_of(line):
                    raise TextError("neither a node, an output nor a constant")
            except _ArrayError as error:
                raise TextError(str(error)) from error
            except (ValueError, KeyError) as error:
                raise TextError(f"line {number}: {error}: {line[:120]}") from error
        for name in [name for name in self._arrays if name not in self._read]:  # read, if only to say what is wrong
            self._array(name, next(iter(self.form.arrays.values())))

    def node(self, line: str) -> ReadNode | None:
        """Return the node of a line, None for another line."""
        match = _NODE.match(line)
        if match is None:
            return None
        if len(match["name"]) > LONGEST_IDENTIFIER:
            raise TextError(f"the name has {len(match['name'])} letters, allowed are {LONGEST_IDENTIFIER}")
        return ReadNode(match["name"], self._op(match["op"], match["fields"]), json.loads(match["source"]))

    def _op(self, name: str, text: str) -> object:
        cls = self.form.ops.get(name)
        if cls is None:
            raise TextError(f"unknown op {name!r}; known are {', '.join(sorted(self.form.ops))}")
        hints = get_type_hints(cls)
        values: dict[str, object] = {}
        for field_name, value in _FIELD.findall(text):
            if field_name not in hints:
                raise TextError(f"{name} has no field {field_name!r}")
            values[field_name] = self._field(field_name, value, hints[field_name])
        missing = [item.name for item in fields(cls) if item.name not in values and not self.form.left_out(cls, item)]
        if missing:
            raise TextError(f"{name} lacks {', '.join(missing)}")
        op: object = cls(**values)
        return op

    def _field(self, name: str, text: str, hint: object) -> object:
        if text.startswith("@"):
            kinds = [self.form.arrays[kind] for kind in (hint, *get_args(hint)) if kind in self.form.arrays]
            return self._array(text[1:], kinds[0])
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
        if name in self.form.words and text.startswith("("):
            return tuple(_parse_runs(text[1:-1], self.form.words[name].read))
        return _read_ints(text)

    def _array(self, name: str, kind: ArrayForm) -> object:
        number, shape, text = self._arrays[name]
        self._read.add(name)
        try:
            return kind.make(_parse_runs(text, kind.words.read), shape)
        except ValueError as error:
            raise _ArrayError(f"line {number}: {error}") from error


class _ArrayError(TextError):
    """An array cannot be read; the message names its line already."""


def _read_ints(text: str) -> Ints:
    return tuple(_parse_runs(text[1:-1])) if text.startswith("(") else int(text)
