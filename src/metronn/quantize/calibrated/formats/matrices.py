"""Rounding a float matrix: one binary exponent for all weights, or one for each output and each input.

Exponents of outputs and inputs are labels of the integers (`Linear.weight_frac`, `Linear.input_frac`): they cost no
logic. They are taken where they leave much less noise in the matrix' results.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from metronn.ir.arrays import Array
from metronn.ir.types import TensorType
from metronn.model.graph import Floats
from metronn.quantize.calibrated.fixed import CLIPPED_BITS, fed_forward, feedback_order, round_weights, rounded_codes
from metronn.quantize.calibrated.formats.channel_widths import round_channels
from metronn.quantize.calibrated.formats.moments import Moments
from metronn.quantize.calibrated.formats.per_channel import GAIN, Fracs, covering_fracs
from metronn.quantize.options import Calibration, Settings

UNLIKE_BITS = 2
"""Inputs whose powers differ by no more than this, in bits, share an exponent without being looked at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundedMatrix:
    """Codes [n_in, n_out]; weight [i, o] is worth code * 2**-(input_frac[i] + weight_frac[o])."""

    codes: Array
    weight_frac: Fracs
    input_frac: Fracs
    saturated: int

    @property
    def values(self) -> Floats:
        """What the codes are worth."""
        return np.asarray(np.ldexp(self.codes.astype(np.float64), -(self.input_frac[:, np.newaxis] + self.weight_frac)))


def round_matrix(aim: Floats, moments: Moments, x: TensorType, settings: Settings) -> RoundedMatrix:
    """Round the weights that a matrix should have, for operands of type `x`.

    With exponents of their own, inputs of unlike scale have weights of like scale. Columns get their own where one
    common step is too coarse for some. Widths and exponents that the settings give are kept.
    """
    candidates = [_rounded(aim, moments, exponents, settings) for exponents in _input_exponents(moments, x, settings)]
    best, noise = candidates[0]
    for other, less in candidates[1:]:
        if GAIN * less < noise:
            best, noise = other, less
    return best


def _input_exponents(moments: Moments, x: TensorType, settings: Settings) -> Iterator[Fracs]:
    """Yield exponents of the inputs that are worth a try, those that cost the least logic first."""
    inputs = len(moments.gram)
    fracs = x.range.frac_array(x.shape).reshape(-1, inputs)
    alike = bool((fracs == fracs.flat[0]).all())
    first: Fracs = np.zeros(inputs, dtype=np.int64) if alike else (fracs.max() - fracs.max(axis=0)).astype(np.int64)
    yield first
    if settings.weight_frac is not None or settings.channel_bits is not None:
        return
    power = moments.power
    live = power > 0
    if not live.any():
        return
    reached = np.array([math.frexp(math.sqrt(float(p)))[1] for p in np.where(live, power, 1.0)], dtype=np.int64)
    reached = np.where(live, reached, reached[live].max())
    own: Fracs = reached - reached.max()
    # What counts is how the powers differ beyond the exponents that the inputs' codes have already.
    beyond = (own - first)[live]
    if int(beyond.max() - beyond.min()) > UNLIKE_BITS:
        yield own


def _rounded(aim: Floats, moments: Moments, exponents: Fracs, settings: Settings) -> tuple[RoundedMatrix, float]:
    """Round with these exponents of the inputs; also return the noise, relative to each result's power."""
    scale = np.ldexp(1.0, exponents)
    scaled, gram = aim * scale[:, np.newaxis], moments.gram / (scale * scale[:, np.newaxis])
    power = (scaled * (gram @ scaled)).sum(axis=0)
    worth = np.where(power > 0, 1 / np.where(power > 0, power, 1.0), 0.0)
    bits, method = settings.weight_bits, settings.calibration
    if settings.channel_bits is not None:
        common = round_channels(scaled, gram, settings.channel_bits, settings.weight_frac, method)
    else:
        common = round_weights(scaled, gram, bits, settings.weight_frac, method)
    outputs = aim.shape[1]
    matrix = RoundedMatrix(
        codes=common.codes,
        weight_frac=np.full(outputs, common.frac, dtype=np.int64),
        input_frac=exponents,
        saturated=common.saturated,
    )
    noise = float(worth @ _noise(common.values - scaled, gram))
    if settings.weight_frac is not None or settings.channel_bits is not None:
        return matrix, noise
    firsts = covering_fracs(scaled.min(axis=0), scaled.max(axis=0), bits, signed=True)
    if int(firsts.max() - firsts.min()) < 2:
        return matrix, noise
    codes, fracs, saturated = _by_column(scaled, gram, firsts, bits, method)
    less = float(worth @ _noise(np.ldexp(codes.astype(np.float64), -fracs) - scaled, gram))
    if GAIN * less >= noise:
        return matrix, noise
    return RoundedMatrix(codes=codes, weight_frac=fracs, input_frac=exponents, saturated=saturated), less


def _noise(difference: Floats, gram: Floats) -> Floats:
    """Return the mean squared error of each result that a change of the weights makes."""
    return np.asarray((difference * (gram @ difference)).sum(axis=0))


def _by_column(weight: Floats, gram: Floats, firsts: Fracs, bits: int, method: Calibration) -> tuple[Array, Fracs, int]:
    """Round every column at the exponent of its least error; returns codes, exponents, and how many saturated."""
    order, spread = feedback_order(gram)
    codes = np.zeros(weight.shape, dtype=np.int64)
    fracs, least = firsts.copy(), np.full(weight.shape[1], np.inf)
    saturated = np.zeros(weight.shape[1], dtype=np.int64)
    for more in range(CLIPPED_BITS + 1 if method is Calibration.MSE else 1):
        tried = firsts + more
        nearest, _ = rounded_codes(weight, tried, bits)
        beyond = (nearest != np.floor(np.ldexp(weight, tried) + 0.5)).sum(axis=0)
        for found in (nearest, fed_forward(weight, order, spread, tried, bits)):
            noise = _noise(np.ldexp(found.astype(np.float64), -tried) - weight, gram)
            better = noise < least * (1 - 1e-9)
            codes[:, better], fracs[better], least[better] = found[:, better], tried[better], noise[better]
            saturated[better] = beyond[better]
    return codes, fracs, int(saturated.sum())
