"""How values of unlike scales meet: in a scale of which all are whole multiples, or one of 24 bits and more."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from metronn.ir.ops import Add
from metronn.model.graph import RealNode
from metronn.quantize.exact.chains import ONE, Affine, Chain, Chains, fraction_bits, nearest, power_of_two
from metronn.quantize.exact.emission import Emission, object_fractions
from metronn.quantize.exact.forms import Form, Reason, Second, together
from metronn.quantize.exact.numbers import Numbers
from metronn.quantize.widths import FLOAT32_BITS, MAX_ALIGNED_BITS


@dataclass(frozen=True, slots=True)
class Scales:
    """Adds what brings values, or elements of one, to a common scale."""

    numbers: Numbers

    @property
    def emission(self) -> Emission:
        """What adds ops."""
        return self.numbers.emission

    def common(self, x: Form, y: Form, node: RealNode) -> tuple[Form, Form]:
        """Bring two values to one scale, element by element, broadcast."""
        x, y = self.numbers.settled(x, node), self.numbers.settled(y, node)
        shape = node.shape
        mine = np.broadcast_to(x.chains.fractions(), shape).ravel().tolist()
        its = np.broadcast_to(y.chains.fractions(), shape).ravel().tolist()
        if mine == its and (len(set(mine)) == 1 or x.chains.shape == y.chains.shape == shape) and _one_sign(mine):
            return x, y
        x, y = self.emission.broadcast(x, shape, node), self.emission.broadcast(y, shape, node)
        x_factors, y_factors, scales = [], [], []
        budget = max(self.emission.limit, MAX_ALIGNED_BITS) - max(
            self.emission.type_of(form).range.width_bits for form in (x, y)
        )
        known: dict[tuple[Fraction, Fraction], _Meeting] = {}
        for pair in zip(mine, its, strict=True):
            if pair not in known:
                known[pair] = _meeting(*pair, budget)
            x_factor, y_factor, scale = known[pair].factors
            x_factors.append(x_factor)
            y_factors.append(y_factor)
            scales.append(scale)
        chains = Chains.scales(object_fractions(scales, shape), shape)
        fracs = dict.fromkeys(meeting.rounded for meeting in known.values() if meeting.rounded is not None)
        reasons = [
            Reason.at(node, f"the ratio of the scales of two operands is rounded to 2**{-frac}") for frac in fracs
        ]
        return (
            replace(x, value=self.emission.rescaled(x, x_factors, node), chains=chains).because(*reasons),
            replace(y, value=self.emission.rescaled(y, y_factors, node), chains=chains).because(*reasons),
        )

    def same_scale(self, form: Form, node: RealNode, axes: tuple[int, ...] | None) -> Form:
        """Give all elements along `axes` (None: all) one positive scale (or the one they share)."""
        factors = form.chains.fractions()
        rank = factors.ndim
        axes = tuple(range(rank)) if axes is None else axes
        kept = tuple(a for a in range(rank) if a not in axes)
        moved = factors.transpose(*kept, *axes).reshape(math.prod(factors.shape[a] for a in kept), -1)
        budget = max(self.emission.limit, MAX_ALIGNED_BITS) - self.emission.type_of(form).range.width_bits
        scales = np.empty(moved.shape, dtype=object)
        changes = np.empty(moved.shape, dtype=object)
        changed = False
        known: dict[tuple[Fraction, ...], _Divisor] = {}
        for row in range(len(moved)):
            key = tuple(moved[row].tolist())
            if key not in known:
                known[key] = _divisor(key, budget)
            scales[row], changes[row] = known[key].scale, known[key].ratios
            changed = changed or any(ratio != 1 for ratio in known[key].ratios)
        fracs = dict.fromkeys(divisor.rounded for divisor in known.values() if divisor.rounded is not None)
        if not changed and not fracs:
            return form
        back = np.argsort((*kept, *axes))
        full = tuple(factors.shape[a] for a in (*kept, *axes))
        shape = form.chains.shape
        return replace(
            form,
            value=self.emission.rescaled(form, changes.reshape(full).transpose(back).ravel().tolist(), node),
            chains=Chains.scales(scales.reshape(full).transpose(back), shape),
        ).because(
            *(Reason.at(node, f"the ratios of the scales of elements are rounded to 2**{-frac}") for frac in fracs)
        )

    def one_frac(self, form: Form, node: RealNode) -> Form:
        """Bring all elements to the finest frac among them, exactly."""
        return replace(form, value=self.emission.emitter.one_frac(form.value, node.name, node.source))

    def summed(self, form: Form, second: Second, node: RealNode) -> Form:
        """Make a sum that was left to a quantizer, for what is none; its chain stays."""
        shape = form.chains.shape
        x = Form(form.value, Chains.uniform(shape), form.inexact)
        y = Form(second.value, Chains.scales(second.ratios, shape), form.inexact)
        x, y = self.common(x, y, node)
        value = self.emission.emitter.add(Add(x=x.value, y=y.value), f"{node.name}.sum", node.source)
        return Form(value, x.chains.paired(form.chains, _followed), together(x.inexact, y.inexact))


@dataclass(frozen=True, slots=True)
class _Meeting:
    """Dyadic factors for two scales and the scale behind; `rounded`: to so many fraction bits, None where exact."""

    factors: tuple[Fraction, Fraction, Fraction]
    rounded: int | None = None


def _meeting(x: Fraction, y: Fraction, budget: int) -> _Meeting:
    """Return dyadic factors for two scales and the positive scale behind: x = factor * scale.

    The scale is one of the two wherever their ratio is a power of two; else a common divisor of both, or, where
    that takes too many bits, the larger, and the other's factor is rounded.
    """
    if fraction_bits(x / y) is not None and power_of_two(x / y) is not None:
        scale = abs(y)
        return _Meeting((x / scale, y / scale, scale))
    ratio = x / y
    top, bottom = ratio.numerator, ratio.denominator
    if max(top.bit_length(), bottom.bit_length()) <= budget:
        sign = 1 if y > 0 else -1
        return _Meeting((Fraction(top * sign), Fraction(bottom * sign), abs(y) / bottom))
    scale = max(abs(x), abs(y))
    frac = max(FLOAT32_BITS, budget)
    fine = Fraction(2) ** frac
    first, second = (Fraction(nearest(value / scale * fine)) / fine for value in (x, y))
    return _Meeting((first, second, scale), frac)


@dataclass(frozen=True, slots=True)
class _Divisor:
    """One scale for several and their dyadic ratios to it; `rounded`: to so many fraction bits, None where exact."""

    scale: Fraction
    ratios: list[Fraction]
    rounded: int | None = None


def _divisor(factors: tuple[Fraction, ...], budget: int) -> _Divisor:
    """Return one scale for several."""
    if len(set(factors)) == 1:
        return _Divisor(factors[0], [ONE] * len(factors))
    largest = max(abs(factor) for factor in factors)
    if all(power_of_two(factor / largest) is not None for factor in set(factors)):
        return _Divisor(largest, [factor / largest for factor in factors])
    numbers = [factor / largest for factor in factors]
    common = math.lcm(*(number.denominator for number in set(numbers)))
    if common.bit_length() <= budget:
        return _Divisor(largest / common, [number * common for number in numbers])
    frac = max(FLOAT32_BITS, budget)
    return _Divisor(largest, [Fraction(nearest(number * 2**frac)) / 2**frac for number in numbers], frac)


def _followed(first: Chain, then: Chain) -> Chain:
    """Return a chain that multiplies, then does another."""
    affine = then.affine
    return Chain(Affine(first.affine.scale * affine.scale, affine.offset, affine.low, affine.high), then.calls)


def _one_sign(factors: list[Fraction]) -> bool:
    return len({factor > 0 for factor in factors}) == 1
