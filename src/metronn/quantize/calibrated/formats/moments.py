"""What calibration says about a matrix: means and second moments of its inputs, and what its results lack."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from metronn.model.graph import Floats, RealLinear
from metronn.quantize.calibrated.calibration import RealValues
from metronn.quantize.calibrated.emitter import Emitter

EVENTS_FOR_BIAS = 32
"""Fewer calibration events say too little about a mean to correct a bias by."""
REGRESSION_DAMPING = 0.01
"""Weights are changed to make up for noisy inputs, held back by this part of the inputs' mean variance."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moments:
    """Inputs x of a matrix, and the results y they should give, over all rows of all calibration events.

    `mean` and `target` are the means of x and y, `gram` holds the second moments of x, `missing` the covariance of x
    with what the float weights, applied to x, lack of y. When biases are `corrected`, `gram` is about the mean; else
    `missing` says nothing.
    """

    count: int
    mean: Floats
    target: Floats
    gram: Floats
    missing: Floats
    corrected: bool

    @property
    def power(self) -> Floats:
        """Mean square of each input."""
        own = np.diag(self.gram)
        return np.asarray(own + np.square(self.mean) if self.corrected else own)

    def regression(self) -> Floats:
        """Return the change of weights that makes up best for what is missing in a matrix' result.

        What is missing is the effect of rounding in the layers before; inputs are noisy now, and the weights of least
        mean squared error are not those of the float network. Ridge regression around the float weights, so that few
        events change little.
        """
        inputs = len(self.gram)
        damping = (REGRESSION_DAMPING + inputs / self.count) * float(np.diag(self.gram).mean()) or 1.0
        return np.asarray(np.linalg.solve(self.gram + damping * np.eye(inputs), self.missing), dtype=np.float64)


def gather(emitter: Emitter, reference: RealValues, x: str, result: str, op: RealLinear, *, corrected: bool) -> Moments:
    """Gather the moments of the integer value `x` and the float value `result`, some events at a time."""
    inputs, outputs = op.weight.shape
    count, total, target = 0, np.zeros(inputs), np.zeros(outputs)
    for events, values in emitter.real_parts(x):
        rows = values.reshape(-1, inputs)
        count += len(rows)
        total += rows.sum(axis=0)
        target += reference.part(result, events).reshape(-1, outputs).sum(axis=0)
    corrected = corrected and count >= EVENTS_FOR_BIAS
    mean = total / count
    shift = target / count - mean @ op.weight.array
    gram, missing = np.zeros((inputs, inputs)), np.zeros((inputs, outputs))
    for events, values in emitter.real_parts(x):
        rows = values.reshape(-1, inputs)
        spread = rows - mean if corrected else rows
        gram += spread.T @ spread
        if corrected:
            expected = reference.part(result, events).reshape(-1, outputs)
            missing += spread.T @ (expected - rows @ op.weight.array - shift)
    return Moments(
        count=count,
        mean=mean,
        target=target / count,
        gram=gram / count,
        missing=missing / count,
        corrected=corrected,
    )
