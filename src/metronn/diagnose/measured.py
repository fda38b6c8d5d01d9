"""Sizes of trained values, the formats chosen for them, and how the ones fill the others."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from metronn.diagnose.words import format_words, share_words
from metronn.model.graph import Floats

HIGH_PERCENTILE = 99.9
COLUMNS = (
    "tensor", "layer", "kind", "values", "min", "25 %", "median", "75 %", "99.9 %", "max", "zeros", "format", "step",
    "reach", "beyond", "rounds to 0",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Absolute values that are not 0: least, quartiles, a high percentile, largest. All 0 where there is none."""

    count: int
    zeros: int
    least: float
    quartiles: tuple[float, float, float]
    high: float
    largest: float

    @staticmethod
    def of(values: Floats) -> Sizes:
        """Measure values."""
        sizes = np.abs(values.ravel())
        sizes = sizes[sizes > 0]
        if not sizes.size:
            return Sizes(count=values.size, zeros=values.size, least=0, quartiles=(0, 0, 0), high=0, largest=0)
        least, low, middle, high, top, largest = np.percentile(sizes, (0, 25, 50, 75, HIGH_PERCENTILE, 100)).tolist()
        return Sizes(
            count=values.size,
            zeros=values.size - sizes.size,
            least=least,
            quartiles=(low, middle, high),
            high=top,
            largest=largest,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """The formats of a tensor, in the network's units: from the finest to the coarsest step, least to largest reach.

    A step is what one code is worth, the reach the largest absolute value that there is a code for; both differ
    between elements where channels have formats, or scales, of their own.
    """

    names: tuple[str, ...]
    steps: tuple[float, float]
    reaches: tuple[float, float]

    @staticmethod
    def of(names: tuple[str, ...], step: Floats, low: Floats, high: Floats) -> Format:
        """Describe formats of elements by their steps and bounds; elements that hold 0 alone say nothing."""
        reach = np.maximum(np.abs(low), np.abs(high)) * step
        some = reach > 0
        steps, reaches = (step[some], reach[some]) if some.any() else (step.ravel(), reach.ravel())
        return Format(
            names=names,
            steps=(float(steps.min()), float(steps.max())),
            reaches=(float(reaches.min()), float(reaches.max())),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfiledTensor:
    """Weights or activations of a layer, `kind`.

    `beyond` is the share of the trained values that no code of their format is within half a step of, `vanishing` that
    of those that are not 0 and nearer to 0 than half a step.
    """

    name: str
    layer: str
    kind: str
    sizes: Sizes
    format: Format
    beyond: float
    vanishing: float

    def row(self) -> tuple[str, ...]:
        """Return the cells of a table row, in the order of COLUMNS."""
        sizes = self.sizes
        numbers = (sizes.least, *sizes.quartiles, sizes.high, sizes.largest)
        return (
            self.name,
            self.layer,
            self.kind,
            f"{sizes.count:,}",
            *(f"{number:.3g}" for number in numbers),
            share_words(sizes.zeros / sizes.count if sizes.count else 0.0),
            format_words(self.format.names),
            _span(self.format.steps),
            _span(self.format.reaches),
            share_words(self.beyond),
            share_words(self.vanishing),
        )

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        sizes, found = self.sizes, self.format
        return {
            "name": self.name,
            "layer": self.layer,
            "kind": self.kind,
            "values": sizes.count,
            "zeros": sizes.zeros,
            "min": sizes.least,
            "quartiles": list(sizes.quartiles),
            f"percentile_{HIGH_PERCENTILE:g}": sizes.high,
            "max": sizes.largest,
            "formats": list(found.names),
            "steps": list(found.steps),
            "reaches": list(found.reaches),
            "beyond": self.beyond,
            "rounds_to_zero": self.vanishing,
        }


def _span(numbers: tuple[float, float]) -> str:
    low, high = numbers
    return f"{low:.3g}" if math.isclose(low, high) else f"{low:.3g} to {high:.3g}"
