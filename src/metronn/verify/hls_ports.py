"""Static check of memories in emitted HLS: what an iteration of a process reads and writes, against what an array has.

An array that is partitioned completely is registers, and any number of them is read at a time, at places that are known
when the tool runs: a place known only at run time is a multiplexer over all of them. In other dimensions an array is a
memory with two ports. Unrolled loops make as many accesses as they have turns. What an inlined function accesses by the
name counts as if it stood there; an array handed on in another way is read and written everywhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from metronn.verify.hls_source import Function, Source, StoredArray, UnknownNameError, evaluate

PORTS = 2
"""Ports of a memory."""

LOOP = re.compile(r"\s*for \(int (\w+) = ([^;]*); \w+ [<>]=? ([^;]*); \w+(?:(\+\+)|(--)| \+= ([^)]*))\) \{$")
DECLARED = re.compile(r"^\s*(?:const )?(?:typename )?[\w:]+(?:<[^;=]*>)? (\w+)((?:\[[^\]]+\])*)(?:;| = .*;)")
CONSTANT = re.compile(r"^\s*const (?:int|bool) (\w+) = (.*);")
KNOWN_CALLS = ("floor_divided", "larger", "bits_of")
TYPE_SLOTS = re.compile(r"^\s*(?:const )?(\w+_t) (\w+)\b")


@dataclass(frozen=True, slots=True)
class _Loop:
    """An open loop: its variable, its turns, whether it is unrolled, and the depth of braces in it."""

    variable: str
    turns: int
    unrolled: bool
    depth: int


@dataclass(frozen=True, slots=True)
class _Access:
    """An access in the text: index expressions, and the loops around it."""

    indices: tuple[str, ...]
    loops: tuple[_Loop, ...]


def memory_problems(
    source: Source, name: str, called: Function, function: Function, values: Mapping[str, int],
    stored: Mapping[str, StoredArray],
) -> Iterator[str]:  # fmt: skip
    """Return what is wrong with the arrays of a function of the library that a process is, or that it inlines.

    `name`: the process. `called`: what the top calls, if it is another function; pragmas of parameters stand there.
    `values`: those of names in the function. `stored`: constants that come as its parameters.
    """
    interval = _interval(function, values)
    shared = {} if function is called else dict(_arrays(called, values))
    handed = {name: sizes for name, sizes in shared.items() if name in function.parameters}
    arrays = {**handed, **dict(_arrays(function, values)), **{name: array.dims for name, array in stored.items()}}
    outside = handed.keys() | stored.keys()
    parted = {**_partitions(function), **{a: d for a, d in _partitions(called).items() if a in outside}}
    reads = _Reader(function, values, arrays)
    for array, sizes in arrays.items():
        banks = parted.get(array, frozenset())
        for access in reads.found[array]:
            for dim, index in enumerate(access.indices, start=1):
                if (0 in banks or dim in banks) and not reads.is_fixed(index):
                    yield f"{name}: {array} is registers, and is accessed at {index}, which is known at run time only"
        if 0 in banks or len(banks) >= len(sizes):
            continue
        count = reads.most(array, banks)
        inlined = _inlined(source, reads.passed.get(array, ()), array)
        if inlined and array not in stored:
            count += sum(_Reader(callee, values, {array: sizes}).most(array, banks) for callee in inlined)
        elif array in reads.passed:
            used = _used_by(source, reads.passed[array]) if array in stored else (True,) * len(sizes)
            sides = [size for dim, size in enumerate(sizes, start=1) if dim not in banks and used[dim - 1]]
            count = max(count, math.prod(sides))
        if count > PORTS * interval:
            yield (
                f"{name}: {array} is accessed {count} times every {interval} cycle{'s' if interval > 1 else ''}, a "
                f"memory has {PORTS} ports; partition it"
            )


def _inlined(source: Source, callees: Sequence[tuple[str, int]], array: str) -> list[Function]:
    """Return the functions an array is handed to, if all are inlined and know it by its name; else none."""
    found: list[Function] = []
    for name in dict.fromkeys(callee for callee, _ in callees):
        forms = [one for one in source.functions.values() if one.name == name]  # templates end a recursion in another
        known = [one for one in forms if array in one.parameters]
        if not known or not all(any(p.name == "INLINE" for p in one.pragmas) for one in forms):
            return []
        found += known
    return found


def _used_by(source: Source, callees: Sequence[tuple[str, int]]) -> tuple[bool, ...]:
    """Whether a function that an array is handed to goes along each of its dimensions within an iteration."""
    for callee, place in callees:
        function = source.functions.get(callee)
        if function is None or place >= len(function.parameters):
            continue
        parameter = list(function.parameters)[place]
        reads = _Reader(function, {}, {parameter: ()})
        found = [access.indices for access in reads.found[parameter]]
        if found:
            return tuple(reads.is_fixed(index) or not reads.at_run_time(index) for index in found[0])
    return (True,) * 9


class _Reader:
    """Reads the accesses of a function. `passed`: functions to which arrays are handed, and as which argument."""

    def __init__(self, function: Function, values: Mapping[str, int], arrays: Mapping[str, Sequence[int]]) -> None:
        """Read all lines."""
        self.found: dict[str, list[_Access]] = {array: [] for array in arrays}
        self.passed: dict[str, list[tuple[str, int]]] = {}
        self.scalars = {name for name, text in function.parameters.items() if text.startswith("int ")}
        self._origin: dict[str, frozenset[str]] = dict.fromkeys([*values, *KNOWN_CALLS], frozenset())
        for text, loops in _lines(function, values):
            self._origin |= {loop.variable: frozenset({loop.variable}) for loop in loops if loop.unrolled}
            constant = CONSTANT.match(text)
            if constant and self.is_fixed(constant[2]):
                self._origin[constant[1]] = self._variables(constant[2])
            for array in arrays:
                self._line(text, array, loops)

    def _line(self, text: str, array: str, loops: tuple[_Loop, ...]) -> None:
        for indices in _indices(text, array):
            if indices:
                self.found[array].append(_Access(indices, loops))
            else:
                self.passed.setdefault(array, []).extend(_argument(text, array))
        whole = array.removesuffix(".slot")
        if whole != array and any(True for _ in _indices(text, whole)):
            self.passed.setdefault(array, [])  # all slots at once

    def is_fixed(self, text: str) -> bool:
        """Whether an expression is known when the tool runs: of constants, unrolled loops and functions of these."""
        return all(
            name in self._origin or name.startswith(("cfg::", "which::")) or "::" in name for name in _names(text)
        )

    def at_run_time(self, text: str) -> bool:
        """Whether an expression is a number that the function is given."""
        return any(name in self.scalars and name != "pair" for name in _names(text))

    def _variables(self, text: str) -> frozenset[str]:
        return frozenset().union(*(self._origin.get(name, frozenset()) for name in _names(text)))

    def most(self, array: str, banks: frozenset[int]) -> int:
        """Accesses of the bank that is accessed most in an iteration; banks written differently are different ones."""
        by_bank: dict[tuple[str, ...], int] = {}
        for access in self.found[array]:
            bank = tuple(index for dim, index in enumerate(access.indices, start=1) if dim in banks)
            by_bank[bank] = by_bank.get(bank, 0) + self.count(access, banks)
        return max(by_bank.values(), default=0)

    def count(self, access: _Access, banks: frozenset[int]) -> int:
        """Accesses of one bank in an iteration: the turns of the unrolled loops that move along the memory.

        A loop whose variable is itself the number of the bank reaches each bank once.
        """
        along = [index for dim, index in enumerate(access.indices, start=1) if dim not in banks]
        numbers = {index.strip() for dim, index in enumerate(access.indices, start=1) if dim in banks}
        variables = frozenset().union(*map(self._variables, along)) - numbers
        return math.prod(loop.turns for loop in access.loops if loop.unrolled and loop.variable in variables)


def _names(text: str) -> list[str]:
    return [name for name in re.findall(r"[A-Za-z_][\w:.]*", text) if name not in ("template",)]


def _argument(text: str, array: str) -> Iterator[tuple[str, int]]:
    """Return the function that is called with an array alone, and which argument it is."""
    match = re.search(r"(\w+)(?:<[^;()]*>)?\(([^;]*)\);", text)
    if match:
        arguments = [part.strip() for part in match[2].split(",")]
        if array in arguments:
            yield match[1], arguments.index(array)


def _lines(function: Function, values: Mapping[str, int]) -> Iterator[tuple[str, tuple[_Loop, ...]]]:
    """Return every line with the loops that are open there."""
    loops: list[_Loop] = []
    depth = 0
    for number, text in enumerate(function.body):
        if text.lstrip().startswith("#"):
            continue
        match = LOOP.match(text)
        if match:
            following = function.body[number + 1] if number + 1 < len(function.body) else ""
            loops.append(_Loop(match[1], _turns(match, values), "UNROLL" in following, depth + 1))
        depth += text.count("{") - text.count("}")
        loops = [loop for loop in loops if loop.depth <= depth]
        yield text, tuple(loops)


def _turns(match: re.Match[str], values: Mapping[str, int]) -> int:
    """Turns of a loop, 1 where its bounds are not known."""
    try:
        first, last = evaluate(match[2], values), evaluate(match[3], values)
        step = evaluate(match[6], values) if match[6] else 1
    except UnknownNameError:
        return 1
    return max(0, -(-abs(last - first) // max(1, step)))


def _arrays(function: Function, values: Mapping[str, int]) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Return arrays that a function declares, with their sizes, and the slots of beats that it holds."""
    for text in function.body:
        match = DECLARED.match(text)
        if match is None or text.lstrip().startswith(("return", "typedef", "static_assert")):
            continue
        if match[2]:
            try:
                sizes = tuple(evaluate(part, values) for part in re.findall(r"\[([^\]]+)\]", match[2]))
            except UnknownNameError:
                continue
            yield match[1], sizes
            continue
        kind = TYPE_SLOTS.match(text)
        slots = values.get(f"{kind[1]}::slots") if kind and kind[2] == match[1] else None
        if slots is not None:
            yield f"{match[1]}.slot", (slots,)


def _partitions(function: Function) -> dict[str, frozenset[int]]:
    """Dimensions of each array that are partitioned completely or one word, 0 for all."""
    found: dict[str, frozenset[int]] = {}
    for pragma in function.pragmas:
        whole = pragma.name in ("ARRAY_PARTITION", "ARRAY_RESHAPE") and pragma.options.get("type") == "complete"
        if whole:
            array = pragma.options["variable"]
            found[array] = found.get(array, frozenset()) | {int(pragma.options.get("dim", "1"))}
    return found


def _interval(function: Function, values: Mapping[str, int]) -> int:
    for pragma in function.pragmas:
        if pragma.name == "PIPELINE":
            try:
                return max(1, evaluate(pragma.options.get("ii", "1"), values))
            except UnknownNameError:
                return 1
    return 1


def _indices(text: str, array: str) -> Iterator[tuple[str, ...]]:
    """Return the index expressions of each place in a line where an array is named; none where it is named alone."""
    for match in re.finditer(rf"(?<![\w.]){re.escape(array)}(?![\w.])", text):
        place, indices = match.end(), []
        while place < len(text) and text[place] == "[":
            depth, start = 0, place + 1
            while place < len(text):
                depth += {"[": 1, "]": -1}.get(text[place], 0)
                place += 1
                if depth == 0:
                    break
            indices.append(text[start : place - 1])
        if not DECLARED.match(text) or " = " in text.split(array)[0]:
            yield tuple(indices)
