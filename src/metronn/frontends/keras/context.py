"""What a function that reads a Keras layer is given: configuration, weights and the values the layer reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from metronn.frontends.common.builder import LayerBuilder, LayerProblem
from metronn.frontends.keras.weights import LayerPlace, MissingWeightsError, WeightStore
from metronn.model.graph import Floats

Config = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerContext:
    """One call of a layer: its configuration, its weights and the values it reads.

    The first `lead` axes of the event are those that a TimeDistributed layer repeats the layer along. `node` is the
    call as saved by Keras 3, which names the arguments; None inside a sequential model.
    """

    builder: LayerBuilder
    kind: str
    config: Config
    path: tuple[LayerPlace, ...]
    store: WeightStore
    xs: tuple[str, ...]
    major_version: int
    lead: int = 0
    node: object = None

    @property
    def x(self) -> str:
        """The only input; raises LayerProblem when there are more."""
        if len(self.xs) != 1:
            raise LayerProblem(f"reads {len(self.xs)} tensors, one is allowed")
        return self.xs[0]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the only input, without the batch axis."""
        return self.builder.shape(self.x)

    def number(self, key: str, default: float | None = None) -> float:
        """Return a number from the configuration; raises LayerProblem when it is none."""
        value = self.optional_number(key, default)
        if value is None:
            raise LayerProblem(f"{key} is missing in the configuration")
        return value

    def optional_number(self, key: str, default: float | None = None) -> float | None:
        """Return a number from the configuration, or None."""
        value = self.config.get(key, default)
        if isinstance(value, dict) and "config" in value and isinstance(value["config"], dict):
            value = value["config"].get("value")
        elif isinstance(value, dict):
            value = value.get("value")
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool)):
            return value
        raise LayerProblem(f"{key} is {value!r} in the configuration, a number is needed")

    def integers(self, key: str) -> list[int]:
        """Return integers from the configuration; raises LayerProblem when there are none."""
        value = self.config.get(key)
        values = value if isinstance(value, list | tuple) else [value]
        if not all(isinstance(v, int) and not isinstance(v, bool) for v in values):
            raise LayerProblem(f"{key} is {value!r} in the configuration, integers are needed")
        return list(values)

    def event_axis(self, axis: int) -> int:
        """Turn a Keras axis into an axis of the event; raises LayerProblem for the batch axis."""
        rank = len(self.builder.shape(self.xs[0])) + 1 - self.lead
        positive = axis + rank if axis < 0 else axis
        if not 0 < positive < rank:
            raise LayerProblem(f"axis {axis} is the batch axis or outside a tensor with {rank} axes")
        return positive - 1 + self.lead

    def event_axes(self, default: int = -1) -> list[int]:
        """Return the axes named by `axis`, one or several, in increasing order; raises LayerProblem."""
        listed = self.integers("axis") if self.config.get("axis") is not None else [default]
        axes = sorted(self.event_axis(axis) for axis in listed)
        if len(set(axes)) != len(axes):
            raise LayerProblem(f"axis is {listed} in the configuration: an axis is named twice")
        return axes

    def sizes(self, key: str, count: int, default: int = 1) -> tuple[int, ...]:
        """Return one positive integer per spatial axis; one number serves all. Raises LayerProblem."""
        values = self.integers(key) if self.config.get(key) is not None else [default]
        values = values * count if len(values) == 1 else values
        if len(values) != count or min(values) < 1:
            raise LayerProblem(f"{key} is {self.config.get(key)!r} in the configuration, {count} sizes are needed")
        return tuple(values)

    def weights(self, shapes: Mapping[str, tuple[int, ...]]) -> list[Floats]:
        """Return the layer's arrays, checked for shape, NaN and infinities.

        What is wrong is noted as a problem, and ones stand for the arrays, so that the layers behind are read too.
        """
        stand_ins = [np.ones(shape) for shape in shapes.values()]
        try:
            arrays = self.store.arrays(self.path, tuple(shapes))
        except MissingWeightsError as error:
            self.builder.note(f"{self.builder.layer} ({self.kind}): {error}")
            return stand_ins
        wrong = [
            f"{name} has shape {array.shape} in the weights, the configuration gives {shape}"
            for (name, shape), array in zip(shapes.items(), arrays, strict=True)
            if array.shape != shape
        ]
        if wrong:
            self.builder.note(f"{self.builder.layer} ({self.kind}): {'; '.join(wrong)}")
            return stand_ins
        return [self.builder.checked(array, name) for name, array in zip(shapes, arrays, strict=True)]
