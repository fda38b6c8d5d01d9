"""Sequences of integers in few JSON numbers, readable: runs, repetitions, and parts one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

SHORT = 8
"""Sequences of at most so many integers are written as they are."""

LONGEST_PATTERN = 64
"""Longest pattern that is looked for at every place; patterns that repeat to the end may be longer."""

Ints = npt.NDArray[np.int64]


def encode_ints(values: Sequence[int]) -> object:
    """Return integers as JSON: a list, `{start, count, step}`, `{repeat, step, of}` or `{parts}`; may nest.

    `repeat` copies of what `of` says follow each other, each copy `step` more than the one before.
    """
    return _encode(np.asarray(values, dtype=np.int64))


def _encode(values: Ints) -> object:
    if len(values) <= SHORT:
        return values.tolist()
    size = len(values)
    for period in range(1, size // 2 + 1):
        if size % period == 0 and _copies(values, period) == size // period:
            return _repeated(values, period, size // period)
    parts: list[object] = []
    literal: list[int] = []
    at = 0
    while at < size:
        rest = values[at:]
        counts = [(_copies(rest, period) * period, -period) for period in range(1, min(LONGEST_PATTERN, len(rest)) + 1)]
        covered, negative = max(counts)
        if covered <= max(SHORT // 2, -negative):
            literal.append(int(rest[0]))
            at += 1
            continue
        if literal:
            parts.append(literal)
            literal = []
        parts.append(_repeated(rest[:covered], -negative, covered // -negative))
        at += covered
    if literal:
        parts.append(literal)
    return parts[0] if len(parts) == 1 else {"parts": parts}


def _copies(values: Ints, period: int) -> int:
    """How many copies of the first `period` values stand at the beginning, each the same step from the last."""
    whole = len(values) // period
    if whole < 2:
        return whole
    steps = values[period : whole * period] - values[: (whole - 1) * period]
    wrong = np.flatnonzero(steps != steps[0])
    return 1 + (int(wrong[0]) // period if len(wrong) else whole - 1)


def _repeated(values: Ints, period: int, count: int) -> object:
    step = int(values[period] - values[0])
    if period == 1:
        return {"start": int(values[0]), "count": count, "step": step}
    return {"repeat": count, "step": step, "of": _encode(values[:period])}


def decode_ints(record: Any) -> tuple[int, ...]:  # noqa: ANN401 - the shape of JSON
    """Return the integers of `encode_ints`. Raises KeyError, TypeError or ValueError for anything else."""
    return tuple(_decode(record).tolist())


def _decode(record: Any) -> Ints:  # noqa: ANN401 - the shape of JSON
    if isinstance(record, list):
        return np.asarray(record, dtype=np.int64)
    if "parts" in record:
        return np.concatenate([_decode(part) for part in record["parts"]])
    if "repeat" in record:
        one = _decode(record["of"])
        return np.asarray(np.arange(record["repeat"])[:, None] * record["step"] + one).ravel()
    return np.asarray(record["start"] + np.arange(record["count"], dtype=np.int64) * record["step"])
