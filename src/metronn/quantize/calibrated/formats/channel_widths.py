"""Rounding a weight matrix with a width of its own for each output channel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from metronn.errors import ModelError
from metronn.ir.arrays import Array
from metronn.model.graph import Floats
from metronn.quantize.calibrated.fixed import CLIPPED_BITS, Rounded, covering_frac, feedback_order, round_weights
from metronn.quantize.options import Calibration


def check_channels(layer: str, found: Sequence[int], outputs: int) -> None:
    """Raise ModelError unless there is one width for each output channel."""
    if len(found) != outputs:
        raise ModelError(
            f"[quantize] layers.{layer}.channel_bits: found {len(found)} widths, the layer has {outputs} output "
            "channels; give one for each"
        )


def round_channels(weight: Floats, gram: Floats, bits: Sequence[int], frac: int | None, method: Calibration) -> Rounded:
    """Round a matrix [n_in, n_out] to signed codes, column o to `bits[o]` bits at an exponent of its own.

    No column has a finer step than the whole matrix has when it is rounded with the largest of the widths (or than
    `frac`), nor reaches farther than that matrix, so all codes, brought to that step, have at most that width. A
    column's exponent is the one of the smallest
    squared error of its result, saturation included where `method` is MSE; errors are fed forward as in
    `fixed.round_weights`.
    """
    widths = np.asarray(bits, dtype=np.int64)
    finest = round_weights(weight, gram, int(widths.max()), frac, method).frac
    order, spread = feedback_order(gram)
    reaching = np.array(
        [
            covering_frac(float(column.min()), float(column.max()), int(width), signed=True)
            for column, width in zip(weight.T, widths, strict=True)
        ]
    )
    covering = np.clip(reaching, finest - (widths.max() - widths), finest)
    above = CLIPPED_BITS if method is Calibration.MSE else 0
    best = np.zeros(weight.shape, dtype=np.int64)
    least = np.full(weight.shape[1], np.inf)
    saturated = np.zeros(weight.shape[1], dtype=np.int64)
    for candidate in range(int(covering.min()), finest + 1):
        tried = (covering <= candidate) & (candidate <= covering + above)
        if not tried.any():
            continue
        low, high = -(1 << (widths[tried] - 1)), (1 << (widths[tried] - 1)) - 1
        part = weight[:, tried]
        scaled = np.floor(np.ldexp(part, candidate) + 0.5)
        nearest = np.clip(scaled, low, high)
        for codes in (nearest, _fed_forward(part, order, spread, candidate, low, high)):
            difference = np.ldexp(codes, -candidate) - part
            error = (difference * (gram @ difference)).sum(axis=0)
            better = error < least[tried] * (1 - 1e-9)
            columns = np.flatnonzero(tried)[better]
            least[columns] = error[better]
            best[:, columns] = codes[:, better].astype(np.int64) << (finest - candidate)
            saturated[columns] = (scaled != nearest)[:, better].sum(axis=0)
    return Rounded(codes=best, frac=finest, saturated=int(saturated.sum()))


def _fed_forward(weight: Floats, order: Array, spread: Floats, frac: int, low: Array, high: Array) -> Floats:
    """`fixed.fed_forward` with bounds of codes by column; the codes as floats."""
    left = np.ldexp(weight[order], frac)
    codes = np.empty(weight.shape)
    for position in range(len(order)):
        row = np.clip(np.floor(left[position] + 0.5), low, high)
        codes[order[position]] = row
        error = (left[position] - row) / spread[position, position]
        left[position + 1 :] -= spread[position, position + 1 :, np.newaxis] * error
    return codes
