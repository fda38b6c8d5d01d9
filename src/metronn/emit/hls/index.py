"""Functions of small integers as C++: an expression where the values follow one, else a table.

Which element travels in which slot of which beat is regular for images: the text must not grow with the pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from metronn.emit.hls.values import stored_array
from metronn.plan.layout import Layout

Matrix = npt.NDArray[np.int64]

LONGEST_PERIOD = 1024


@dataclass(slots=True)
class Members:
    """Text of a configuration struct, and the tables its functions read. `name` begins the tables' names."""

    name: str
    lines: list[str] = field(default_factory=list)
    stored: list[str] = field(default_factory=list)

    def constant(self, name: str, value: int) -> None:
        """Add an integer."""
        self.lines.append(f"static const int {name} = {value};")

    def vector(self, name: str, values: Sequence[int], variable: str = "b") -> None:
        """Add `static int name(int b)`."""
        text = self._vector_text(name, np.asarray(values, dtype=np.int64), variable)
        parameter = f"int {variable}" if variable in _words(text) else "int"
        self.lines.append(f"static int {name}({parameter}) {{ return {text}; }}")

    def choice(self, name: str, values: Sequence[Sequence[int]], variable: str = "") -> None:
        """Add `static int name(int p, int b)`, or without b where each of `values` is one: a vector for each p."""
        found = [
            self._vector_text(f"{name}_{p}", np.asarray(v, dtype=np.int64), variable) for p, v in enumerate(values)
        ]
        text = found[-1]
        for p in range(len(found) - 2, -1, -1):
            text = f"p == {p} ? {found[p]} : {text}" if len(set(found)) > 1 else text
        words = _words(text)
        letters = ["p", *([variable] if variable else [])]
        parameters = ", ".join(f"int {letter}" if letter in words else "int" for letter in letters)
        self.lines.append(f"static int {name}({parameters}) {{ return {text}; }}")

    def flag(self, name: str, row: npt.NDArray[np.bool_], variable: str) -> None:
        """Add `static bool name(int variable)`."""
        text = self._flag_text(name, row, variable)
        parameter = f"int {variable}" if variable in _words(text) else "int"
        self.lines.append(f"static bool {name}({parameter}) {{ return {text}; }}")

    def flags(self, name: str, rows: Sequence[npt.NDArray[np.bool_]], variable: str) -> None:
        """Add `static bool name(int p, int variable)`: a flag for each p."""
        texts = [self._flag_text(f"{name}_{p}", row, variable) for p, row in enumerate(rows)]
        text = texts[-1]
        for p in range(len(texts) - 2, -1, -1):
            text = f"p == {p} ? {texts[p]} : {text}" if len(set(texts)) > 1 else text
        words = _words(text)
        parameters = ", ".join(f"int {letter}" if letter in words else "int" for letter in ("p", variable))
        self.lines.append(f"static bool {name}({parameters}) {{ return {text}; }}")

    def _flag_text(self, name: str, row: npt.NDArray[np.bool_], variable: str) -> str:
        """Text of a condition that holds where `row` does: true, one interval, or a table."""
        places = np.flatnonzero(row)
        if len(places) == len(row):
            return "true"
        if len(places) and len(places) == places[-1] - places[0] + 1:
            bounds = [f"{variable} >= {places[0]}"] if places[0] else []
            bounds += [f"{variable} <= {places[-1]}"] if places[-1] + 1 < len(row) else []
            return f"({' && '.join(bounds)})"
        return f"({self._vector_text(name, row.astype(np.int64), variable)}) != 0"

    def matrix(self, name: str, values: Matrix, known: npt.NDArray[np.bool_]) -> None:
        """Add `static int name(int b, int s)`; where not `known`, any value will do."""
        text = self._matrix_text(name, _completed(values, known))
        words = _words(text)
        parameters = ", ".join(f"int {letter}" if letter in words else "int" for letter in "bs")
        self.lines.append(f"static int {name}({parameters}) {{ return {text}; }}")

    def layout(self, layout: Layout) -> None:
        """Add how many slots of each beat are filled."""
        self.vector("filled", [len(beat) for beat in layout.beats])

    def _table(self, name: str, values: Matrix) -> str:
        array = f"{self.name}_{name}"
        self.stored.append(stored_array(array, values.ravel().tolist()))
        return array

    def _vector_text(self, name: str, values: Matrix, variable: str) -> str:
        text = affine(values, variable)
        if text is not None:
            return text
        period = _period(values[:, None])
        if period is not None:
            return f"{self._table(name, values[:period])}[{variable} % {period}]"
        return f"{self._table(name, values)}[{variable}]"

    def _matrix_text(self, name: str, values: Matrix) -> str:
        steps, row = values[:, 0] - values[0, 0], values[0]
        regular = affine(steps, "b")
        if regular is not None and (values == steps[:, None] + row).all():
            across = affine(row, "s") or f"{self._table(name, row)}[s]"
            return " + ".join(part for part in (regular, across) if part != "0") or "0"
        slots = values.shape[1]
        period = _period(values)
        if period is not None:
            return f"{self._table(name, values[:period])}[b % {period} * {slots} + s]"
        # few kinds of beats: which one, and the slots of each
        different, kind = np.unique(values, axis=0, return_inverse=True)
        if 2 * (different.size + len(values)) < values.size:
            which = self._vector_text(f"{name}_kind", kind.ravel(), "b")
            return f"{self._table(name, different)}[({which}) * {slots} + s]"
        return f"{self._table(name, values)}[b * {slots} + s]"


def _words(text: str) -> set[str]:
    return set("".join(c if c.isalnum() or c == "_" else " " for c in text).split())


def _completed(values: Matrix, known: npt.NDArray[np.bool_]) -> Matrix:
    """Fill unknown entries with what makes the rows alike."""
    if known.all():
        return values
    counts = known.sum(axis=1)
    full = values[int(np.argmax(counts))]
    return np.where(known, values, values[:, :1] + full - full[0])


def _period(values: Matrix) -> int | None:
    """Smallest number of rows that repeat, or None."""
    count = len(values)
    for period in range(1, min(LONGEST_PERIOD, count // 2) + 1):
        if (values == values[np.arange(count) % period]).all():
            return period
    return None


def affine(values: Matrix, variable: str) -> str | None:
    """Return an expression c + a * (k % n) + b * (k / n % m) + ... that gives the values, or None."""
    first = int(values[0])
    terms = _terms(values - first, variable)
    if terms is None:
        return None
    parts = [str(first)] if first or not terms else []
    return " + ".join([*parts, *terms]).replace("+ -", "- ")


def _terms(values: Matrix, variable: str) -> list[str] | None:
    if not values.any():
        return []
    count = len(values)
    step = int(values[1])
    k = np.arange(count)
    wrong = np.flatnonzero(values != step * k)
    if not wrong.size:
        return [_scaled(variable, step)]
    run = int(wrong[0])
    if run < 2 and step == 0:
        return None
    slow = values[::run]
    if (values != slow[k // run] + step * (k % run)).any():
        return None
    outer = _terms(slow, f"{variable} / {run}")
    if outer is None:
        return None
    inner = [_scaled(f"{variable} % {run}", step)] if step else []
    return [*outer, *inner]


def _scaled(text: str, factor: int) -> str:
    if factor == 1:
        return text
    return f"{text} * {factor}" if "%" in text or "/" in text or factor < 0 else f"{factor} * {text}"
