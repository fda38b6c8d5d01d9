"""A reader of emitted HLS projects: what static checks need of C++, and nothing else.

It knows the form that is emitted and that the library is written in: a function ends at the brace of its own, a loop is
`for (int k = FIRST; k < LAST; ...)`, a pragma stands on a line of its own. Integer expressions are evaluated with the
constants of the configuration that a template is called with.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

NATIVE = re.compile(r"(?:std::int(\d+)_t|metronn::limbs<(\d+)>)")
INTEGER = re.compile(r"typedef (?:metronn::)?(?:[su]int)<(\d+)> (\w+);")
BEATS = re.compile(r"typedef metronn::(?:beat|part)<(\w+), (\d+)(?:, (\d+))?> (\w+);")
STORED = re.compile(r"constexpr (std::int\d+_t|metronn::limbs<\d+>) (\w+)((?:\[\d+\])+) =")
STRUCT = re.compile(r"^struct (\w+)(?: : \w+)? \{\n(.*?)^\};", re.MULTILINE | re.DOTALL)
FUNCTION = re.compile(r"^(?:static |inline )*[\w:<>]+ (\w+)\(((?:[^()]|\([^()]*\))*)\) \{$", re.MULTILINE)
CALL = re.compile(r"^  (?:metronn::)?(\w+)(?:<([^;()]*)>)?\(([^;]*)\);", re.MULTILINE)
MEMBER = re.compile(r"static (?:int|bool) (\w+)\(([^)]*)\) \{ return (.*); \}")
TOKEN = re.compile(r"\s*(\d+|\w+(?:::\w+)*|<=|>=|==|!=|&&|\|\||[-+*/%<>?:(),!\[\]])")
LEVELS = (("||",), ("&&",), ("==", "!="), ("<", ">", "<=", ">="), ("+", "-"), ("*", "/", "%"))

CALLABLE: Mapping[str, Callable[..., int]] = {
    "bits_of": lambda largest: max(1, largest.bit_length()),
    "floor_divided": lambda a, b: a // b,
    "larger": max,
}
"""Functions of the library that constants are computed with."""


class UnknownNameError(Exception):
    """An expression has a name without a value."""


def evaluate(text: str, values: Mapping[str, int], tables: Mapping[str, Sequence[int]] | None = None) -> int:
    """Return the value of an integer expression of C++. Raises UnknownNameError when a name has none.

    `tables`: constant arrays that it may read.
    """
    tokens = TOKEN.findall(text)
    position = 0

    def take(*wanted: str) -> str:
        nonlocal position
        if position < len(tokens) and (not wanted or tokens[position] in wanted):
            position += 1
            return str(tokens[position - 1])
        return ""

    def chosen() -> int:
        condition = level(0)
        if not take("?"):
            return condition
        first = chosen()
        take(":")
        second = chosen()
        return first if condition else second

    def level(number: int) -> int:
        if number == len(LEVELS):
            return unary()
        value = level(number + 1)
        while sign := take(*LEVELS[number]):
            value = _applied(sign, value, level(number + 1))
        return value

    def unary() -> int:
        if take("-"):
            return -unary()
        if take("("):
            value = chosen()
            take(")")
            return value
        name = take()
        if name.isdigit():
            return int(name)
        if name in CALLABLE and take("("):
            arguments = [chosen()]
            while take(","):
                arguments.append(chosen())
            take(")")
            return CALLABLE[name](*arguments)
        if tables is not None and name in tables and take("["):
            place = chosen()
            take("]")
            return tables[name][place]
        if name in values:
            return values[name]
        raise UnknownNameError(name or text)

    value = chosen()
    if position != len(tokens):
        raise UnknownNameError(text)
    return value


def _applied(sign: str, a: int, b: int) -> int:
    """Apply a binary operator as C++ does; nothing is divided by 0."""
    if sign in "/%":
        quotient = abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1) if b else 0
        return quotient if sign == "/" else a - b * quotient
    results = {
        "||": int(bool(a or b)), "&&": int(bool(a and b)), "==": int(a == b), "!=": int(a != b), "<": int(a < b),
        ">": int(a > b), "<=": int(a <= b), ">=": int(a >= b), "+": a + b, "-": a - b, "*": a * b,
    }  # fmt: skip
    return results[sign]


@dataclass(frozen=True, slots=True)
class Pragma:
    """A pragma: its line in the file, its name, and its options; a flag has an empty value."""

    line: int
    name: str
    options: Mapping[str, str]


def read_pragma(text: str, line: int) -> Pragma:
    """Read what stands behind `#pragma HLS`."""
    spaced = re.sub(r"\s*=\s*", "=", text.strip())
    spaced = re.sub(r"\s*([-+*/<>?]|&&|==)\s*(?=[^=])", r"\1", spaced)
    words = spaced.split()
    options = [word.partition("=") for word in words[1:]]
    return Pragma(line, words[0] if words else "", {key.lower(): value for key, _, value in options})


@dataclass(frozen=True, slots=True)
class Function:
    """A function: where it begins, its parameters by name with their type and dimensions, and the lines of its body."""

    path: str
    name: str
    line: int
    parameters: Mapping[str, str]
    body: tuple[str, ...]

    @property
    def pragmas(self) -> list[Pragma]:
        """Its pragmas in order."""
        return [
            read_pragma(text.strip().removeprefix("#pragma HLS"), self.line + 1 + number)
            for number, text in enumerate(self.body)
            if text.strip().startswith("#pragma HLS")
        ]


def functions(path: str, text: str) -> list[Function]:
    """Return all functions of a file, members of structs included."""
    plain = re.sub(r"//[^\n]*", "", text)
    flat = "\n".join(line if not line.startswith("  static") else line[2:] for line in plain.split("\n"))
    found = []
    for match in FUNCTION.finditer(flat):
        depth, end = 1, match.end()
        while depth and end < len(flat):
            depth += {"{": 1, "}": -1}.get(flat[end], 0)
            end += 1
        line = flat.count("\n", 0, match.end()) + 1
        body = flat[match.end() + 1 : end - 1].split("\n")
        found.append(Function(path, match[1], line, _parameters(match[2]), tuple(body)))
    return found


def _parameters(text: str) -> dict[str, str]:
    """Names of parameters with what stands around them."""
    found, depth, start = {}, 0, 0
    for place, c in enumerate([*text, ","]):
        depth += {"<": 1, "(": 1, "[": 1, ">": -1, ")": -1, "]": -1}.get(c, 0)
        if c == "," and depth == 0:
            part = text[start:place]
            start = place + 1
            name = re.search(r"(\w+)\)?((?:\[[^\]]*\])*)\s*$", part)
            if name:
                found[name[1]] = part.strip()
    return found


@dataclass(frozen=True, slots=True)
class StoredArray:
    """A constant array: bits of an element, and its dimensions."""

    bits: int
    dims: tuple[int, ...]


@dataclass(slots=True)
class Source:
    """What the files of a project say. Configurations: constants, and widths of types, by struct."""

    files: Mapping[str, str]
    top: str = ""
    widths: dict[str, int] = field(default_factory=dict)
    beats: dict[str, tuple[int, int, int]] = field(default_factory=dict)
    stored: dict[str, StoredArray] = field(default_factory=dict)
    constants: dict[str, dict[str, int]] = field(default_factory=dict)
    functions: dict[str, Function] = field(default_factory=dict)
    members: dict[str, dict[str, tuple[tuple[str, ...], str]]] = field(default_factory=dict)
    tables: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def value_of(self, struct: str, member: str, arguments: Sequence[int]) -> int:
        """Return what a function of a configuration, which is one expression of integers, gives."""
        parameters, text = self.members[struct][member]
        names = {"true": 1, "false": 0}
        names |= {name: value for name, value in zip(parameters, arguments, strict=True) if name}
        return evaluate(text, names, self.tables)


def read_source(files: Mapping[str, str]) -> Source:
    """Read the files of a project by their path."""
    source = Source(files)
    for path, text in files.items():
        if not path.endswith((".hpp", ".cpp")) or path in ("bridge.cpp", "testbench.cpp", "metronn/bridge.hpp"):
            continue
        source.widths |= {name: int(bits) for bits, name in INTEGER.findall(text)}
        for element, slots, words, name in BEATS.findall(text):
            source.beats[name] = (source.widths.get(element, 0), int(slots), int(words or 1))
        for kind, name, dims in STORED.findall(text):
            number = NATIVE.match(kind)
            assert number, kind
            bits = int(number[1]) if number[1] else 64 * int(number[2])
            if len(re.findall(r"\[", dims)) == 1 and number[1]:
                source.tables[name] = _table(text, name)
            source.stored[name] = StoredArray(bits, tuple(int(n) for n in re.findall(r"\d+", dims)))
        for name, body in STRUCT.findall(text):
            source.constants[name] = {
                key: int(value) for key, value in re.findall(r"static const int (\w+) = (-?\d+);", body)
            }
            source.members[name] = {
                member: (tuple(part.partition("int ")[2] for part in parameters.split(", ")), text)
                for member, parameters, text in MEMBER.findall(body)
            }
        if not path.startswith("metronn/"):
            source.top = path.removesuffix(".cpp") if path.endswith(".cpp") else source.top
        for function in functions(path, text):
            taken = function.name in source.functions  # members of different structs may have one name
            source.functions[f"{path}:{function.line}" if taken else function.name] = function
    return source


def _table(text: str, name: str) -> tuple[int, ...]:
    """Return the entries of a constant array of one dimension; none where they are no plain integers."""
    body = text[text.index(f" {name}[") :]
    entries = body[body.index("{") + 1 : body.index("}")].split(",")
    plain = [entry.strip() for entry in entries]
    return tuple(map(int, plain)) if all(re.fullmatch(r"-?\d+", entry) for entry in plain) else ()


@dataclass(frozen=True, slots=True)
class Call:
    """A call of the top: the library's function, its template arguments, and the C++ names it is given."""

    function: str
    template: tuple[str, ...]
    arguments: tuple[str, ...]


def calls(function: Function) -> list[Call]:
    """Return the calls that are statements of a function's own block."""
    text = "\n".join(function.body)
    return [
        Call(match[1], tuple(part.strip() for part in (match[2] or "").split(",")),
             tuple(part.strip() for part in match[3].split(",")))
        for match in CALL.finditer(text)
    ]  # fmt: skip
