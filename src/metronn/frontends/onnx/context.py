"""One ONNX node with its operands: what every operator's function reads.

An operand is the name of a computed value or a constant. A computed tensor either has the batch alone on axis 0, which
is no axis of the event, or all its axes belong to the event: in a model read with `batched=False`, and for operators on
tensors whose batch is elsewhere (`batch`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx

from metronn.frontends.common.builder import LayerBuilder, LayerProblem
from metronn.frontends.onnx.batch import FRONT, Elsewhere, Place
from metronn.frontends.onnx.evaluate import Array
from metronn.model.graph import Floats


class BatchProblem(LayerProblem):
    """An operator meets the batch axis 0 in a way that need not mix events; `onnx` tries then whether it does."""


@dataclass(frozen=True, slots=True)
class Constant:
    """A constant array; `from_batch` when it was computed from the size of the batch axis.

    `step`, of the shape of the values, when these were quantized: each value is a whole multiple of its step.
    """

    name: str
    values: Array
    from_batch: bool = False
    step: Floats | None = None


Operand = str | Constant
"""The name of a computed value, or a constant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codes:
    """The whole numbers in [lo, hi] of a quantized tensor, which no op makes unless a reader needs them.

    Most readers need only what they mean: `value` = (codes - zero) * scale. Both arrays broadcast to an event. With
    another `place` than `FRONT` the value has all axes of the tensor, as in `Elsewhere`.
    """

    value: str
    scale: Floats
    zero: Floats
    lo: int
    hi: int
    place: Place = FRONT

    def same_grid(self, other: Codes) -> bool:
        """Whether equal codes mean equal values in both."""
        return np.array_equal(self.scale, other.scale) and np.array_equal(self.zero, other.zero)


@dataclass(frozen=True, slots=True)
class NodeContext:
    """One node with its operands; None stands for an omitted optional input.

    `batch` is the number of events on axis 0 of computed tensors, None when they have no batch axis. `codes` has an
    entry for every operand that is a quantized tensor, which operators of `READ_CODES` see; the operand itself is then
    the value of the codes' meaning. `quantized` tells that the framework quantized the network. `places` has an entry
    for every operand of an operator that moves elements: where the batch of its tensor is.
    """

    builder: LayerBuilder
    node: onnx.NodeProto
    opset: int
    batch: int | None
    operands: tuple[Operand | None, ...]
    codes: tuple[Codes | None, ...] = ()
    quantized: bool = False
    places: tuple[Place, ...] = ()

    @property
    def events(self) -> int:
        """Number of events in a batch, 1 without a batch axis."""
        return 1 if self.batch is None else self.batch

    @property
    def lead(self) -> int:
        """Number of batch axes, 1 or 0."""
        return 0 if self.batch is None else 1

    def reading(self, *operands: Operand | None) -> NodeContext:
        """Return the same node with other operands, none of them quantized tensors."""
        return replace(self, operands=operands, codes=())

    def attribute(self, name: str, default: Any = None) -> Any:  # noqa: ANN401 - attributes have any type
        """Return an attribute's value (text decoded), or the default."""
        for attribute in self.node.attribute:
            if attribute.name == name:
                value = onnx.helper.get_attribute_value(attribute)
                return value.decode() if isinstance(value, bytes) else value
        return default

    def operand(self, position: int) -> Operand | None:
        """Return an operand, None when omitted."""
        return self.operands[position] if position < len(self.operands) else None

    def given(self, position: int) -> Operand:
        """Return an operand that must be there."""
        operand = self.operand(position)
        if operand is None:
            raise LayerProblem(f"input {position} is missing")
        return operand

    def value(self, position: int) -> str:
        """Return a computed operand."""
        operand = self.given(position)
        if isinstance(operand, Constant):
            raise LayerProblem(f"input {position} ({operand.name}) must not be constant")
        return operand

    def constant(self, position: int) -> Constant:
        """Return a constant operand."""
        operand = self.given(position)
        if isinstance(operand, str):
            raise LayerProblem(f"input {position} must be constant, here it is computed")
        return operand

    def integers(self, position: int) -> list[int]:
        """Return a constant operand as a list of integers."""
        return [int(n) for n in self.constant(position).values.ravel()]

    def floats(self, position: int) -> Floats:
        """Return a constant operand as float64, checked for NaN and infinities."""
        constant = self.constant(position)
        if constant.values.dtype.kind not in "fiubV":
            raise LayerProblem(f"{constant.name} holds no numbers but {constant.values.dtype}")
        return self.builder.checked(constant.values, constant.name)

    def steps(self, position: int) -> Floats | None:
        """Return the steps of a constant operand, None when it has none."""
        return self.constant(position).step

    def shape(self, position: int) -> tuple[int, ...]:
        """Return the shape of a computed operand without its batch axis."""
        return self.builder.shape(self.value(position))

    def rank(self, position: int) -> int:
        """Return the rank of an operand, batch axis included."""
        operand = self.given(position)
        return self.lead + len(self.builder.shape(operand)) if isinstance(operand, str) else operand.values.ndim

    def event_axis(self, axis: int, rank: int) -> int:
        """Turn an ONNX axis into an axis of the event; raises LayerProblem for the batch axis."""
        positive = axis + rank if axis < 0 else axis
        if not 0 <= positive < rank:
            raise LayerProblem(f"axis {axis} of a tensor with {rank} axes")
        if positive < self.lead:
            raise BatchProblem("works along the batch axis 0; events must stay independent")
        return positive - self.lead

    def event_axes(self, position: int, *, input_since: int) -> list[int]:
        """Return the event axes named by attribute `axes` or, since an opset, by an input; all axes when none is."""
        axes = self.attribute("axes")
        if axes is None and self.opset >= input_since and self.operand(position) is not None:
            axes = self.integers(position)
        if axes:
            return [self.event_axis(int(axis), self.rank(0)) for axis in axes]
        if self.attribute("noop_with_empty_axes", 0):
            return []
        if self.lead:
            raise BatchProblem("no axes given, so it works along the batch axis 0; events must stay independent")
        return list(range(self.rank(0)))

    def event(self, position: int, rank: int) -> str:
        """Return an operand as a value that broadcasts with events of `rank` axes (batch included)."""
        operand = self.given(position)
        if isinstance(operand, str):
            if self.lead and self.rank(position) != rank:
                raise BatchProblem(f"inputs with {self.rank(position)} and {rank} axes would mix events")
            return operand
        return self.builder.constant(self.event_floats(position, rank), "constant")

    def event_floats(self, position: int, rank: int) -> Floats:
        """Return a constant without its batch axis, so that it broadcasts with the shape of an event."""
        values, axis = self.floats(position), self.attribute("axis")
        if self.opset < 7 and axis is not None and position == 1:
            values = values.reshape(values.shape + (1,) * (rank - int(axis) - values.ndim))
        return self.without_batch(values, rank, self.constant(position).name)

    def without_batch(self, values: Floats, rank: int, name: str) -> Floats:
        """Remove the batch axis of a constant that broadcasts with `rank` axes (batch included)."""
        if not self.lead:
            return values
        if values.ndim > rank:
            raise LayerProblem(f"{name} of shape {values.shape} has more axes than the other input ({rank})")
        if values.ndim == rank and values.shape[0] != 1 and not (values == values[:1]).all():
            raise LayerProblem(f"{name} of shape {values.shape} has one entry per event of a batch")
        return values[0] if values.ndim == rank else values

    def broadcast_rank(self) -> int:
        """Return the largest rank of the operands, batch included; with a batch, of the computed ones."""
        counted = [k for k, x in enumerate(self.operands) if isinstance(x, str) or (x is not None and not self.lead)]
        return max(self.rank(k) for k in counted)


Result = str | Constant | Codes | tuple[str | Elsewhere, ...]
"""What an operator's function returns: one result, or the values of all of them."""

Layer = Callable[[NodeContext], str | tuple[str, ...]]
"""What an operator becomes: the value of its result, or one for each result."""
