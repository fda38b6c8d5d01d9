"""Where the events of a tensor are, when they are not alone on axis 0.

Exporters move the batch: to another axis (attention of PyTorch works on (token, batch, channel)) or into one axis with
its neighbours (dense layers over particles work on (batch * particles, channel)). The elements of different events stay
apart all the while. A tensor is then read as one event with as many axes as the tensor, and a `Place` says where the
batch was taken out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx

from metronn.frontends.common.builder import LayerProblem
from metronn.frontends.onnx.evaluate import Array, evaluate


@dataclass(frozen=True, slots=True)
class Place:
    """The batch of a tensor: axis `axis` has outer * events * inner elements, the events between the two."""

    axis: int
    outer: int = 1
    inner: int = 1

    def shape(self, event: Sequence[int], events: int) -> tuple[int, ...]:
        """Return the shape of the tensor, given that of one event with the same axes."""
        return tuple(size * events if axis == self.axis else size for axis, size in enumerate(event))

    def joined(self, rows: Array) -> Array:
        """Return the tensor of events [event, *axes]."""
        events, *shape = rows.shape
        parted = rows.reshape(events, *shape[: self.axis], self.outer, self.inner, *shape[self.axis + 1 :])
        return np.moveaxis(parted, 0, self.axis + 1).reshape(self.shape(shape, events))

    def parted(self, tensor: Array, events: int) -> Array:
        """Return the events [event, *axes] of a tensor, the inverse of `joined`."""
        shape = list(tensor.shape)
        shape[self.axis] //= events
        spread = tensor.reshape(*shape[: self.axis], self.outer, events, self.inner, *shape[self.axis + 1 :])
        return np.moveaxis(spread, self.axis + 1, 0).reshape(events, *shape)


FRONT = Place(0)
"""The batch alone on axis 0."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A computed tensor whose batch is not at `FRONT`: the value of one event, which has all axes of the tensor."""

    value: str
    place: Place


def places(shape: Sequence[int], events: int) -> Iterator[Place]:
    """Yield where the batch of a tensor can be, the likeliest first."""
    if events == 1:  # nothing can be mixed, so that one answer is right
        pure = [axis for axis, size in enumerate(shape) if size == 1]
        if shape:
            yield Place(pure[0]) if pure else Place(0, 1, shape[0])
        return
    fitting = [(axis, size // events) for axis, size in enumerate(shape) if size and size % events == 0]
    for axis, count in sorted(fitting, key=lambda entry: entry[1] > 1):
        yield from (Place(axis, outer, count // outer) for outer in range(1, count + 1) if count % outer == 0)


def unplaced(shape: Sequence[int], events: int) -> LayerProblem:
    """Return the problem of a result in which no place of the batch keeps the events apart."""
    return LayerProblem(
        f"mixes the elements of different events: no axis of the result {tuple(shape)}, computed for {events} events, "
        "is the batch"
    )


@dataclass(frozen=True, slots=True)
class Trial:
    """One operand of an operator that is tried on random numbers.

    `event` is the shape of one event with all axes, `bounds` those of a quantized tensor's codes.
    """

    event: tuple[int, ...]
    place: Place
    bounds: tuple[int, int] | None = None

    def drawn(self, random: np.random.Generator, events: int) -> Array:
        """Return random events."""
        if self.bounds is None:
            return random.uniform(0.5, 1.5, size=(events, *self.event))
        lo, hi = self.bounds
        kinds: list[npt.DTypeLike] = [np.uint8, np.int8, np.uint16, np.int16, np.int32]
        kind = next(k for k in kinds if np.iinfo(k).min <= lo and hi <= np.iinfo(k).max)
        return random.integers(lo, hi + 1, size=(events, *self.event)).astype(kind)


def probed(
    node: onnx.NodeProto, opset: int, trials: Mapping[str, Trial], constants: Mapping[str, Array], events: int
) -> list[Place]:
    """Return where each result of a node has the batch, found by computing events together and one by one.

    Raises LayerProblem when the events do not stay apart.
    """
    random = np.random.default_rng(0)
    rows = {name: trial.drawn(random, events) for name, trial in trials.items()}
    together = evaluate(node, {**constants, **{name: trials[name].place.joined(x) for name, x in rows.items()}}, opset)
    shown = sorted({0, 1, events - 1} & set(range(events)))
    apart = [evaluate(node, {**constants, **{name: x[event] for name, x in rows.items()}}, opset) for event in shown]
    return [_place(tensor, [results[k] for results in apart], shown, events) for k, tensor in enumerate(together)]


def _place(tensor: Array, apart: list[Array], shown: list[int], events: int) -> Place:
    for place in places(tensor.shape, events):
        rows = place.parted(tensor, events)
        if all(_same(rows[event], alone) for event, alone in zip(shown, apart, strict=True)):
            return place
    raise unplaced(tensor.shape, events)


def _same(left: Array, right: Array) -> bool:
    return left.shape == right.shape and np.allclose(left, right, rtol=1e-4, atol=1e-6, equal_nan=True)


def aligned(tensors: Sequence[tuple[int, Place]]) -> Place:
    """Return where the batch is in the result of an elementwise operator on tensors of these (rank, place).

    Raises LayerProblem when broadcasting sets the batch of one against another axis of the other.
    """
    rank = max(rank for rank, _ in tensors)
    found = {Place(place.axis + rank - own, place.outer, place.inner) for own, place in tensors}
    if len(found) > 1:
        axes = " and ".join(str(place.axis) for place in sorted(found, key=lambda place: place.axis))
        raise LayerProblem(f"mixes the elements of different events: the batch of its inputs is on axes {axes}")
    return found.pop()


def without_batch(values: Array, place: Place, event: Sequence[int], events: int) -> Array:
    """Return a constant that broadcasts with a tensor as one that broadcasts with one of its events.

    The batch of the tensor is at `place`, and its event has the shape `event`. Raises LayerProblem when the constant
    differs from event to event.
    """
    axis = place.axis - len(event) + values.ndim
    if axis < 0 or values.shape[axis] != event[place.axis] * events or events == 1:
        return values
    rows = Place(axis, place.outer, place.inner).parted(values, events)
    if not (rows == rows[:1]).all():
        raise LayerProblem(f"a constant of shape {values.shape} has one entry per event of a batch")
    return np.asarray(rows[0])
