"""Integer ops for chains: what brings a value to a pure scale or to none (`closing`: to a quantizer's codes).

Chains are carried along in forms (`forms`) until something needs the numbers. What is rounded then becomes a
reason of the form that is returned.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from metronn.ir.arrays import IntArray, object_array
from metronn.ir.ops import (
    Add,
    Constant,
    Multiply,
    Overflow,
    Requantize,
    Rewire,
    Rounding,
)
from metronn.ir.types import Range, TensorType
from metronn.model.graph import RealNode
from metronn.quantize.calibrated.emitter import Emitter
from metronn.quantize.exact.chains import ONE, ZERO, Affine, Chain, Chains, fraction_bits, nearest, power_of_two
from metronn.quantize.exact.forms import Form, Reason
from metronn.quantize.widths import MAX_ALIGNED_BITS, MAX_PRODUCT_BITS


@dataclass(frozen=True, slots=True)
class Emission:
    """Adds ops for forms to the graph of an emitter."""

    emitter: Emitter
    limit: int = MAX_PRODUCT_BITS

    def type_of(self, form: Form) -> TensorType:
        """Type of the form's IR value."""
        return self.emitter.type_of(form.value)

    def constant(self, codes: Sequence[int], shape: Sequence[int], frac: int, name: str, source: str) -> str:
        """Add a constant unless the same is there. Low bits that are 0 in all codes are left out."""
        common = math.gcd(*codes)
        if common:
            zeros = (common & -common).bit_length() - 1
            codes, frac = [code >> zeros for code in codes], frac - zeros
        values = IntArray.of(object_array(codes, tuple(shape)))
        first = values.array.ravel()[0]
        if (values.array == first).all():
            values = IntArray.of(object_array([int(first)], ()))
        else:
            values = _compressed(values)
        key = (values, frac)
        if key not in self.emitter.constants:
            self.emitter.constants[key] = self.emitter.add(Constant(values=values, frac=frac), name, source)
        return self.emitter.constants[key]

    def broadcast(self, form: Form, shape: tuple[int, ...], node: RealNode) -> Form:
        """Repeat elements until the value has a shape."""
        have = form.chains.shape
        if have == shape:
            return form
        index = np.broadcast_to(np.arange(math.prod(have)).reshape(have), shape)
        op = Rewire(xs=(form.value,), index=IntArray.of(index), shape=shape)
        value = self.emitter.add(op, f"{node.name}.repeat", node.source)
        return replace(form, value=value, chains=form.chains.broadcast(shape))

    def rescaled(self, form: Form, factors: Sequence[Fraction], node: RealNode) -> str:
        """Return the value multiplied by dyadic factors, one for each element; nothing is added for ones."""
        if all(factor == 1 for factor in factors):
            return form.value
        frac = max(
            (bits for factor in set(factors) if factor and (bits := fraction_bits(factor)) is not None), default=0
        )
        codes = [int(factor * Fraction(2) ** frac) for factor in factors]
        constant = self.constant(codes, form.chains.shape, frac, f"{node.name}.scale", node.source)
        return self.emitter.add(Multiply(x=form.value, y=constant), f"{node.name}.scaled", node.source)

    def shifted(self, value: str, shape: Sequence[int], offsets: Sequence[Fraction], node: RealNode) -> str:
        """Return the value plus dyadic offsets, one for each element; nothing is added for zeros."""
        if not any(offsets):
            return value
        frac = max(bits for offset in set(offsets) if offset and (bits := fraction_bits(offset)) is not None)
        codes = [int(offset * Fraction(2) ** frac) for offset in offsets]
        constant = self.constant(codes, shape, frac, f"{node.name}.offset", node.source)
        return self.emitter.add(Add(x=value, y=constant), f"{node.name}.shifted", node.source)

    def settles(self, form: Form) -> bool:
        """Whether offsets and bounds are on a grid of the value that is not too fine."""
        finest = self._finest(form)
        for kind in form.chains.kinds:
            scale = kind.affine.scale or ONE
            for number in (kind.affine.offset, kind.affine.low, kind.affine.high):
                bits = None if number is None else fraction_bits(number / scale)
                if number is not None and (bits is None or bits > finest):
                    return False
        return True

    def _finest(self, form: Form) -> int:
        """Return the fraction bits that a value may get for the sake of its constants."""
        kind = self.type_of(form)
        return kind.range.max_frac + max(4, MAX_ALIGNED_BITS - kind.range.width_bits)

    def settled(self, form: Form, node: RealNode) -> Form:
        """Return the value with nothing left to do but multiplying: offsets added, bounds applied.

        Exact where the numbers are on a grid of the value within MAX_ALIGNED_BITS, or the product with the scales has
        no more than `limit` bits; else rounded.
        """
        if form.chains.pure:
            return form
        if any(kind.calls for kind in form.chains.kinds):
            raise AssertionError(f"{node.name}: a function without a table")
        if not self.settles(form):
            product = self.multiplied(form, node)
            if product is not None:
                return product
        affines = [chain.affine for chain in form.chains.each()]
        kind = self.type_of(form)
        shape = form.chains.shape
        finest = self._finest(form)
        reasons: list[Reason] = []

        def in_codes(number: Fraction | None, scale: Fraction) -> Fraction | None:
            if number is None:
                return None
            exact = number / (scale or ONE)
            bits = fraction_bits(exact)
            if bits is not None and bits <= finest:
                return exact
            frac = kind.range.max_frac + 8
            reasons.append(Reason.at(node, f"constants beside a value are rounded to 2**{-frac} of its scale"))
            return Fraction(nearest(exact * Fraction(2) ** frac)) / Fraction(2) ** frac

        offsets, lows, highs, scales = [], [], [], []
        cache: dict[Affine, tuple[Fraction, Fraction | None, Fraction | None, Fraction]] = {}
        for affine in affines:
            if affine not in cache:
                scale = affine.scale or ONE
                low, high = in_codes(affine.low, scale), in_codes(affine.high, scale)
                if scale < 0:
                    low, high = high, low
                cache[affine] = (in_codes(affine.offset, scale) or ZERO, low, high, scale)
            offset, low, high, scale = cache[affine]
            offsets.append(offset)
            lows.append(low)
            highs.append(high)
            scales.append(scale)
        value = form.value
        if any(affine.scale == 0 for affine in affines):
            value = self.rescaled(form, [ZERO if affine.scale == 0 else ONE for affine in affines], node)
        value = self.shifted(value, shape, offsets, node)
        value = self._bounded(value, lows, highs, node)
        return replace(form, value=value, chains=Chains.scales(object_fractions(scales, shape), shape)).because(
            *reasons
        )

    def multiplied(self, form: Form, node: RealNode) -> Form | None:
        """Return the value with its scales multiplied out, all elements in one unit; None when that is too wide.

        Scales, offsets and bounds become integer constants: real = code * 2**-frac * unit, with unit 1 unless the
        constants are fractions that no float is.
        """
        kinds = [kind.affine for kind in form.chains.kinds]
        if any(kind.calls for kind in form.chains.kinds):
            return None
        numbers = [n for a in kinds for n in (a.scale, a.offset, a.low, a.high) if n is not None]
        bottom = math.lcm(*(number.denominator for number in numbers))
        unit = Fraction(1, bottom // (bottom & -bottom))
        plain = [affine.times(1 / unit) for affine in kinds]
        which = form.chains.index.ravel().tolist()
        codes = self.type_of(form).range
        fracs = [
            max(0, _bits(plain[k].scale) + frac, *(_bits(n) for n in (plain[k].offset, plain[k].low, plain[k].high)))
            for k, frac in zip(which, codes.fracs(len(which)), strict=True)
        ]
        reach = max(
            abs(plain[k].scale) * max(abs(lo), abs(hi)) / Fraction(2) ** frac + abs(plain[k].offset)
            for k, lo, hi, frac in zip(
                which, codes.los(len(which)), codes.his(len(which)), codes.fracs(len(which)), strict=True
            )
        )
        if math.ceil(reach * Fraction(2) ** max(fracs)).bit_length() + 1 > self.limit:
            return None
        shape = form.chains.shape
        value = self.rescaled(form, [plain[k].scale for k in which], node)
        value = self.shifted(value, shape, [plain[k].offset for k in which], node)
        value = self._bounded(value, [plain[k].low for k in which], [plain[k].high for k in which], node)
        value = self._without_idle_bits(value, fracs, node)
        return replace(form, value=value, chains=Chains.uniform(shape, Chain(Affine(unit))))

    def _without_idle_bits(self, value: str, fracs: Sequence[int], node: RealNode) -> str:
        """Drop low bits that are always 0: the elements have these fraction bits and no more."""
        kind = self.emitter.type_of(value)
        have = kind.range.fracs(kind.size)
        if all(new >= old for old, new in zip(have, fracs, strict=True)):
            return value
        kept = [min(old, new) for old, new in zip(have, fracs, strict=True)]
        drops = [old - new for old, new in zip(have, kept, strict=True)]
        los = [lo >> drop for lo, drop in zip(kind.range.los(kind.size), drops, strict=True)]
        his = [hi >> drop for hi, drop in zip(kind.range.his(kind.size), drops, strict=True)]
        out = Range(tuple(los), tuple(his), tuple(kept))
        op = Requantize(x=value, out=out, rounding=Rounding.TRN, overflow=Overflow.SAT)
        return self.emitter.add(op, f"{node.name}.trimmed", node.source)

    def _bounded(
        self, value: str, lows: Sequence[Fraction | None], highs: Sequence[Fraction | None], node: RealNode
    ) -> str:
        """Saturate at bounds, in the IR's units, with a grid fine enough for the bounds."""
        if all(bound is None for bound in (*lows, *highs)):
            return value
        kind = self.emitter.type_of(value)
        fracs = []
        for low, high, frac in zip(lows, highs, kind.range.fracs(kind.size), strict=True):
            needed = [bits for bound in (low, high) if bound is not None and (bits := fraction_bits(bound)) is not None]
            fracs.append(max(frac, *needed) if needed else frac)
        los, his = [], []
        fields = (lows, highs, kind.range.los(kind.size), kind.range.his(kind.size), kind.range.fracs(kind.size), fracs)
        for low, high, lo, hi, old, new in zip(*fields, strict=True):
            least, most = lo << (new - old), hi << (new - old)
            bottom = least if low is None else int(low * Fraction(2) ** new)
            top = most if high is None else int(high * Fraction(2) ** new)
            los.append(bottom if high is None else min(bottom, top))
            his.append(top if high is not None else max(bottom, top))
        out = Range(tuple(los), tuple(his), tuple(fracs))
        op = Requantize(x=value, out=out, rounding=Rounding.TRN, overflow=Overflow.SAT)
        return self.emitter.add(op, f"{node.name}.bounded", node.source)

    def plain(self, form: Form, node: RealNode, *, max_bits: int = MAX_ALIGNED_BITS) -> Form | None:
        """Return a settled form with its scales multiplied out; None when that takes more than `max_bits`."""
        factors = form.chains.fractions().ravel().tolist()
        if any(fraction_bits(factor) is None for factor in set(factors)):
            return None
        if any(power_of_two(factor) is None for factor in set(factors)):
            kind = self.type_of(form)
            widest = max(_significant_bits(factor) for factor in set(factors))
            if kind.range.width_bits + widest > max_bits:
                return None
        return replace(form, value=self.rescaled(form, factors, node), chains=Chains.uniform(form.chains.shape))


def _bits(value: Fraction | None) -> int:
    """Return the fraction bits of a dyadic number; few for zero and for none."""
    bits = None if value is None else fraction_bits(value)
    return -(1 << 20) if bits is None else bits


def _significant_bits(value: Fraction) -> int:
    top = abs(value.numerator)
    return 0 if not top else (top // (top & -top)).bit_length()


def _compressed(values: IntArray) -> IntArray:
    """Drop axes along which a constant does not change: they broadcast."""
    array = values.array
    while array.ndim and (array == array[:1]).all():
        array = array[0]
    for axis in range(array.ndim):
        first = array.take([0], axis=axis)
        if (array == first).all():
            array = first
    return IntArray.of(array)


def object_fractions(values: Sequence[Fraction], shape: Sequence[int]) -> npt.NDArray[np.object_]:
    """Return fractions as an object array."""
    array = np.empty(len(values), dtype=object)
    array[:] = values
    return array.reshape(tuple(shape))
