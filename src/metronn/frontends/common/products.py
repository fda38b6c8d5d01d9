"""Einstein sums, and normalization by the values themselves, shared by the frontends.

Labels are one letter per axis of the event (no batch axis). A sum with constant weights is one matrix; a sum of two
computed values is `Multiply` and `Reduce`.
"""

from __future__ import annotations

import math
import string
from collections.abc import Iterable

import numpy as np

from metronn.frontends.common.builder import LayerBuilder, LayerProblem
from metronn.ir.ops import ReduceKind
from metronn.model.graph import Floats, FunctionKind


def constant_product(
    builder: LayerBuilder, x: str, weight: Floats, labels: tuple[str, str, str], bias: tuple[Floats, str] | None = None
) -> str:
    """Return einsum(x, weight), `labels` being those of x, the weight and the result; then add (bias, its labels).

    Axes of x that the weight shares with the result become blocks of the matrix, zero elsewhere. Raises LayerProblem
    when labels and shapes do not fit.
    """
    ours, theirs, out = labels
    sizes = _sizes([(ours, builder.shape(x)), (theirs, weight.shape)], out)
    lonely = "".join(label for label in theirs if label not in ours and label not in out)
    weight = weight.sum(axis=tuple(theirs.index(label) for label in lonely))
    theirs = "".join(label for label in theirs if label not in lonely)
    free = [label for label in ours if label in out and label not in theirs]
    rows = [label for label in ours if label not in free]
    columns = [label for label in out if label not in free]
    shared = [label for label in rows if label in columns]
    factors = [(weight, list(theirs)), *((np.eye(sizes[label]), [label, f"{label}'"]) for label in shared)]
    factors += [(np.ones(sizes[label]), [label]) for label in rows if label not in theirs]
    matrix = _einsum(factors, [*rows, *(f"{label}'" if label in shared else label for label in columns)])
    matrix = matrix.reshape(math.prod(sizes[r] for r in rows), math.prod(sizes[c] for c in columns))
    x = builder.transpose(x, [ours.index(label) for label in (*free, *rows)])
    x = builder.reshape(x, [*(sizes[f] for f in free), matrix.shape[0]])
    inside = bias is not None and all(label in columns for label in bias[1])
    y = builder.linear(x, matrix, _spread(bias, columns, sizes).ravel() if bias is not None and inside else None)
    y = builder.reshape(y, [sizes[label] for label in (*free, *columns)])
    y = builder.transpose(y, [[*free, *columns].index(label) for label in out])
    if bias is None or inside:
        return y
    return builder.plus(y, builder.constant(_spread(bias, list(out), sizes), "bias"))


def product(builder: LayerBuilder, x: str, y: str, labels: tuple[str, str, str]) -> str:
    """Return einsum(x, y) of two computed values; `labels` are those of x, y and the result. Raises LayerProblem."""
    ours, theirs, out = labels
    sizes = _sizes([(ours, builder.shape(x)), (theirs, builder.shape(y))], out)
    both = [label for label in ours if label in theirs]
    order = [*out, *(label for label in both if label not in out)]

    def aligned(value: str, own: str) -> str:
        gone = [own.index(label) for label in own if label not in order]
        if gone:
            value = builder.reduced(value, gone, ReduceKind.SUM, keep=False)
            own = "".join(label for label in own if label in order)
        value = builder.transpose(value, [own.index(label) for label in order if label in own])
        return builder.reshape(value, [sizes[label] if label in own else 1 for label in order])

    z = builder.times(aligned(x, ours), aligned(y, theirs))
    return builder.reduced(z, range(len(out), len(order)), ReduceKind.SUM, keep=False) if order[len(out) :] else z


def unit_normalized(builder: LayerBuilder, x: str, axes: Iterable[int], epsilon: float) -> str:
    """Return x / sqrt(max(sum of x**2 along axes, epsilon))."""
    power = builder.reduced(builder.times(x, x), axes, ReduceKind.SUM, keep=True)
    floor = builder.maximum(power, builder.constant(epsilon, "epsilon"))
    return builder.times(x, builder.function(floor, FunctionKind.RSQRT))


def layer_normalized(
    builder: LayerBuilder, x: str, axes: Iterable[int], epsilon: float, *, centred: bool = True
) -> str:
    """Return (x - mean) / sqrt(variance + epsilon) along axes; x / sqrt(variance + epsilon) unless `centred`."""
    axes = tuple(axes)
    below = builder.minus(x, builder.mean(x, axes, keep=True))
    variance = builder.mean(builder.times(below, below), axes, keep=True)
    raised = builder.plus(variance, builder.constant(epsilon, "epsilon"))
    return builder.times(below if centred else x, builder.function(raised, FunctionKind.RSQRT))


def log_softmax(builder: LayerBuilder, x: str, axis: int) -> str:
    """Return x - max - log(sum of exp(x - max)) along an axis."""
    below = builder.minus(x, builder.reduced(x, [axis], ReduceKind.MAX, keep=True))
    total = builder.reduced(builder.function(below, FunctionKind.EXP), [axis], ReduceKind.SUM, keep=True)
    return builder.minus(below, builder.function(total, FunctionKind.LOG))


def _sizes(operands: Iterable[tuple[str, tuple[int, ...]]], out: str) -> dict[str, int]:
    """Return the size of every label; raises LayerProblem."""
    sizes: dict[str, int] = {}
    for labels, shape in operands:
        if len(labels) != len(shape) or len(set(labels)) != len(labels):
            raise LayerProblem(f"labels {labels!r} do not name the axes of shape {shape}, each once")
        for label, size in zip(labels, shape, strict=True):
            if sizes.setdefault(label, size) != size:
                raise LayerProblem(f"label {label} has sizes {sizes[label]} and {size}")
    if len(set(out)) != len(out) or not set(out) <= set(sizes):
        raise LayerProblem(f"result {out!r} is not made of the labels {', '.join(sizes)}, each once")
    return sizes


def _einsum(factors: list[tuple[Floats, list[str]]], out: list[str]) -> Floats:
    """numpy.einsum with any names for labels."""
    letters: dict[str, str] = {}
    for name in (*(name for _, names in factors for name in names), *out):
        letters.setdefault(name, string.ascii_letters[len(letters)])
    terms = ["".join(letters[name] for name in names) for names in (*(names for _, names in factors), out)]
    arrays = [array for array, _ in factors]
    return np.asarray(np.einsum(f"{','.join(terms[:-1])}->{terms[-1]}", *arrays), dtype=np.float64)


def _spread(bias: tuple[Floats, str], order: list[str], sizes: dict[str, int]) -> Floats:
    """Return the bias over all axes of `order`."""
    values, own = bias
    moved = values.transpose([own.index(label) for label in order if label in own])
    shaped = moved.reshape([sizes[label] if label in own else 1 for label in order])
    return np.broadcast_to(shaped, [sizes[label] for label in order])
