"""Integer ops for chains: what closes a chain at a quantizer, and what brings a value to a pure scale or to none.

A `Form` is how a real value stands in the integer graph: an IR value and a chain for each element, so that
real = chain(code * 2**-frac). Chains are carried along until something needs the numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import assert_never

import numpy as np
import numpy.typing as npt

from metronn.ir.arrays import IntArray, object_array
from metronn.ir.ops import (
    Add,
    Constant,
    Lookup,
    Multiply,
    Overflow,
    Reduce,
    ReduceKind,
    Requantize,
    Rewire,
    Rounding,
)
from metronn.ir.types import Range, TensorType
from metronn.model.graph import RealNode, RealQuantize
from metronn.quantize.emitter import Emitter
from metronn.quantize.exact_chain import ONE, ZERO, Affine, Chain, Chains, fraction_bits, nearest, power_of_two
from metronn.quantize.exact_close import (
    Plain,
    Refused,
    Scaled,
    Source,
    Stepped,
    Tabled,
    Target,
    Way,
    merged_bounds,
    quantized_codes,
    way,
)
from metronn.quantize.exact_pair import Pair, exact_pair

MAX_EXACT_BITS = 48
"""Widest value that is made for the sake of exactness; what would be wider is requantized, and told."""
APPROXIMATE_BITS = 24
"""Fraction bits kept below one step of a result where no exact integers are found."""


@dataclass(frozen=True, slots=True, eq=False)
class Second:
    """The second operand of a sum that is still to be made: its IR value, and the ratio of its scale to the first's."""

    value: str
    ratios: npt.NDArray[np.object_]


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """A real value as an IR value and what is still to be done to its elements.

    With a `second` the chains begin with the sum of value and ratio * second.
    """

    value: str
    chains: Chains
    second: Second | None = None


@dataclass(slots=True)
class Emission:
    """Adds ops for forms to the graph of an emitter; `notes` tells of each op that is not exact."""

    emitter: Emitter
    notes: list[str] = field(default_factory=list)

    def type_of(self, form: Form) -> TensorType:
        """Type of the form's IR value."""
        return self.emitter.type_of(form.value)

    def constant(self, codes: Sequence[int], shape: Sequence[int], frac: int, name: str, source: str) -> str:
        """Add a constant unless the same is there."""
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
        return Form(self.emitter.add(op, f"{node.name}.repeat", node.source), form.chains.broadcast(shape))

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

    # Closing at a quantizer

    def close(self, form: Form, node: RealNode, op: RealQuantize) -> Form:
        """Return the codes of a quantizer, exact for every code the value can take."""
        targets = _targets(op, node.shape)
        kind = self.type_of(form)
        size = kind.size
        fields = zip(kind.range.fracs(size), kind.range.los(size), kind.range.his(size), strict=True)
        keys = list(zip(form.chains.each(), (Source(*bounds) for bounds in fields), targets, strict=True))
        if any(chain.calls for chain in form.chains.kinds):
            keys = _shared_tables(keys)
        known: dict[tuple[Chain, Source, Target], Way] = {}
        for key in keys:
            if key not in known:
                known[key] = self._approximate(way(*key), *key, node)
        ways = [known[key] for key in keys]
        value = self._grouped(form, ways, node)
        scales = object_fractions([target.scale for target in targets], node.shape)
        return Form(value, Chains.scales(scales, node.shape))

    def close_pair(self, form: Form, second: Second, node: RealNode, op: RealQuantize) -> Form | None:
        """Close a sum of two values at a quantizer, exact for every pair of codes; None where that was not found."""
        targets = _targets(op, node.shape)
        x, y = self.type_of(form), self.emitter.type_of(second.value)
        fields = zip(
            form.chains.each(),
            second.ratios.ravel().tolist(),
            zip(x.range.fracs(x.size), x.range.los(x.size), x.range.his(x.size), strict=True),
            zip(y.range.fracs(y.size), y.range.los(y.size), y.range.his(y.size), strict=True),
            targets,
            strict=True,
        )
        known: dict[tuple[object, ...], tuple[Pair, Target] | None] = {}
        found: list[tuple[Pair, Target]] = []
        for chain, ratio, mine, its, target in fields:
            key = (chain, ratio, mine, its, target)
            if key not in known:
                known[key] = _pair(chain, ratio, Source(*mine), Source(*its), target)
            pair = known[key]
            if pair is None:
                return None
            found.append(pair)
        value = self._paired(form, second, found, node)
        scales = object_fractions([target.scale for target in targets], node.shape)
        return Form(value, Chains.scales(scales, node.shape))

    def _paired(self, form: Form, second: Second, found: Sequence[tuple[Pair, Target]], node: RealNode) -> str:
        """Multiply both, add them and the addend, and drop the bits below the quantizer's step."""
        pairs, targets = [pair for pair, _ in found], [target for _, target in found]
        x, y = self.type_of(form), self.emitter.type_of(second.value)
        first_factors = [
            Fraction(pair.first) / Fraction(2) ** (pair.shift + target.frac - frac)
            for (pair, target), frac in zip(found, x.range.fracs(x.size), strict=True)
        ]
        second_factors = [
            Fraction(pair.second) / Fraction(2) ** (pair.shift + target.frac - frac)
            for (pair, target), frac in zip(found, y.range.fracs(y.size), strict=True)
        ]
        shape = node.shape
        left = self.rescaled(form, first_factors, node)
        right = self.rescaled(Form(second.value, form.chains), second_factors, node)
        value = self.emitter.add(Add(x=left, y=right), f"{node.name}.sum", node.source)
        rounding = Rounding.TRN
        if all(pair.shift and pair.addend == 1 << (pair.shift - 1) for pair in pairs):
            rounding = Rounding.RND
        else:
            offsets = [Fraction(pair.addend) / Fraction(2) ** (pair.shift + target.frac) for pair, target in found]
            value = self.shifted(value, shape, offsets, node)
        return self._requantized(value, targets, rounding, node, node.name)

    def _approximate(self, found: Way, chain: Chain, source: Source, target: Target, node: RealNode) -> Way:
        """Replace what has no exact way by the nearest affine one, and tell its bound."""
        if not isinstance(found, Refused):
            return found
        if chain.calls:
            return self._coarse(found, chain, source, target, node)
        affine, merged, within = merged_bounds(chain.affine, target)
        factor, offset = affine.scale / target.scale, affine.offset / target.scale
        reach = max(abs(source.lo), abs(source.hi), 1).bit_length()
        grain = Fraction(2) ** (APPROXIMATE_BITS + target.frac)
        fine = grain * Fraction(2) ** (reach - source.frac)
        self.note(
            f"{node.source}: a scale is rounded to {1 + APPROXIMATE_BITS + reach} bits; what lies within "
            f"2**-{APPROXIMATE_BITS} of an edge between two codes may get the other one ({found.reason})"
        )
        return Plain(Fraction(nearest(factor * fine)) / fine, Fraction(nearest(offset * grain)) / grain, merged, within)

    def _coarse(self, found: Refused, chain: Chain, source: Source, target: Target, node: RealNode) -> Way:
        """Drop low bits of the code until a table can hold the function."""
        drop = (source.hi - source.lo + 1).bit_length() - 14
        lo, hi = source.lo >> drop, source.hi >> drop
        at = ((np.arange(lo, hi + 1).astype(np.float64) + 0.5) * 2.0 ** (drop - source.frac)).astype(np.float64)
        entries = quantized_codes(chain.floats(at), target)
        self.note(f"{node.source}: the lowest {drop} bits of the input of a table are left out ({found.reason})")
        return Tabled(lo, hi, drop, tuple(int(v) for v in entries), target)

    def note(self, text: str) -> None:
        """Tell once that something is not exact."""
        if text not in self.notes:
            self.notes.append(text)

    def _grouped(self, form: Form, ways: Sequence[Way], node: RealNode) -> str:
        """Emit ways of one sort together; of several sorts, elements are taken apart and put together again."""
        sorts: dict[tuple[object, ...], list[int]] = {}
        kind = self.type_of(form)
        fracs = kind.range.fracs(kind.size)
        for element, found in enumerate(ways):
            sorts.setdefault(_sort(found, fracs[element]), []).append(element)
        shape = form.chains.shape
        if len(sorts) == 1:
            return self._emit(form, ways, shape, node, f"{node.name}")
        parts, order = [], np.empty(math.prod(shape), dtype=np.int64)
        place = 0
        for elements in sorts.values():
            index = np.array(elements, dtype=np.int64)
            order[index] = place + np.arange(len(elements))
            place += len(elements)
            op = Rewire(xs=(form.value,), index=IntArray.of(index), shape=(len(elements),))
            value = self.emitter.add(op, f"{node.name}.part", node.source)
            part = Form(value, form.chains.moved(index))
            parts.append(
                self._emit(part, [ways[element] for element in elements], (len(elements),), node, f"{node.name}.some")
            )
        joined = Rewire(xs=tuple(parts), index=IntArray.of(order.reshape(shape)), shape=shape)
        return self.emitter.add(joined, node.name, node.source)

    def _emit(self, form: Form, ways: Sequence[Way], shape: tuple[int, ...], node: RealNode, name: str) -> str:
        first = ways[0]
        match first:
            case Plain():
                return self._plain(form, [w for w in ways if isinstance(w, Plain)], shape, node, name)
            case Scaled():
                return self._scaled(form, [w for w in ways if isinstance(w, Scaled)], shape, node, name)
            case Tabled():
                return self._tabled(form, first, node, name)
            case Stepped():
                return self._stepped(form, [w for w in ways if isinstance(w, Stepped)], shape, node, name)
            case Refused():
                raise AssertionError(f"{node.name}: {first.reason}")
            case _:
                assert_never(first)

    def _plain(self, form: Form, ways: Sequence[Plain], shape: tuple[int, ...], node: RealNode, name: str) -> str:
        value = self.rescaled(form, [w.factor for w in ways], node)
        value = self.shifted(value, shape, [w.offset for w in ways], node)
        target = ways[0].target
        rounding = target.rounding
        if any(w.within is not None for w in ways):
            far = (-(1 << 200), 1 << 200)
            within = [w.within or far for w in ways]
            bounds = Range(
                tuple(lo for lo, _ in within), tuple(hi for _, hi in within), tuple(w.target.frac for w in ways)
            )
            op = Requantize(x=value, out=bounds, rounding=rounding, overflow=Overflow.SAT)
            value = self.emitter.add(op, f"{name}.bounded", node.source)
        return self._requantized(value, [w.target for w in ways], rounding, node, name)

    def _requantized(self, value: str, targets: Sequence[Target], rounding: Rounding, node: RealNode, name: str) -> str:
        out = Range(tuple(t.lo for t in targets), tuple(t.hi for t in targets), tuple(t.frac for t in targets))
        op = Requantize(x=value, out=out, rounding=rounding, overflow=targets[0].overflow)
        return self.emitter.add(op, name, node.source)

    def _scaled(self, form: Form, ways: Sequence[Scaled], shape: tuple[int, ...], node: RealNode, name: str) -> str:
        """Multiply, add and shift: y.frac = x.frac + frac of the multiplier, S bits above that of the target."""
        kind = self.type_of(form)
        fracs = kind.range.fracs(kind.size)
        frac = max(w.scaling.shift + w.target.frac - x for w, x in zip(ways, fracs, strict=True))
        grown = [w.scaling.shifted(x + frac - w.target.frac) for w, x in zip(ways, fracs, strict=True)]
        value = form.value
        if frac or any(s.multiplier != 1 for s in grown):
            constant = self.constant([s.multiplier for s in grown], shape, frac, f"{node.name}.scale", node.source)
            value = self.emitter.add(Multiply(x=value, y=constant), f"{node.name}.scaled", node.source)
        rounding = Rounding.TRN
        if all(s.shift > 0 and s.addend == 1 << (s.shift - 1) for s in grown):
            rounding = Rounding.RND
        elif any(s.addend for s in grown):
            offsets = [Fraction(s.addend) / Fraction(2) ** (x + frac) for s, x in zip(grown, fracs, strict=True)]
            value = self.shifted(value, shape, offsets, node)
        return self._requantized(value, [w.target for w in ways], rounding, node, name)

    def _tabled(self, form: Form, found: Tabled, node: RealNode, name: str) -> str:
        kind = self.type_of(form)
        frac = kind.range.max_frac - found.drop
        value, codes = form.value, kind.range
        if found.drop or codes.lowest < found.lo or codes.highest > found.hi:
            bounds = Range(found.lo, found.hi, frac)
            op = Requantize(x=value, out=bounds, rounding=Rounding.TRN, overflow=Overflow.SAT)
            value = self.emitter.add(op, f"{node.name}.in", node.source)
        codes = self.emitter.type_of(value).range
        entries = found.entries[codes.lowest - found.lo : codes.highest - found.lo + 1]
        table = IntArray.of(object_array(entries, (len(entries),)))
        return self.emitter.add(Lookup(x=value, table=table, frac=found.target.frac), name, node.source)

    def _stepped(self, form: Form, ways: Sequence[Stepped], shape: tuple[int, ...], node: RealNode, name: str) -> str:
        """Compare with every threshold and add up the jumps."""
        kind = self.type_of(form)
        frac, count = kind.range.max_frac, max(len(w.jumps) for w in ways)
        wide = (*shape, count)
        index = np.repeat(np.arange(math.prod(shape)), count).reshape(wide)
        value = self.emitter.add(
            Rewire(xs=(form.value,), index=IntArray.of(index), shape=wide), f"{node.name}.repeat", node.source
        )
        offsets, jumps = [], []
        for w in ways:
            missing = count - len(w.jumps)
            offsets += [1 - threshold for threshold in w.thresholds] + [0] * missing
            jumps += [*w.jumps, *[0] * missing]
        above = self.constant(offsets, wide, frac, f"{node.name}.thresholds", node.source)
        value = self.emitter.add(Add(x=value, y=above), f"{node.name}.above", node.source)
        bit = Requantize(x=value, out=Range(0, 1, frac), rounding=Rounding.TRN, overflow=Overflow.SAT)
        value = self.emitter.add(bit, f"{node.name}.reached", node.source)
        heights = self.constant(jumps, wide, ways[0].target.frac - frac, f"{node.name}.jumps", node.source)
        value = self.emitter.add(Multiply(x=value, y=heights), f"{node.name}.steps", node.source)
        value = self.emitter.add(
            Reduce(x=value, axes=(len(shape),), kind=ReduceKind.SUM), f"{node.name}.level", node.source
        )
        bases = [Fraction(w.base) / Fraction(2) ** w.target.frac for w in ways]
        value = self.shifted(value, shape, bases, node)
        return self._requantized(value, [w.target for w in ways], Rounding.TRN, node, name)

    # Values that no quantizer ends

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
        return kind.range.max_frac + max(4, MAX_EXACT_BITS - kind.range.width_bits)

    def settled(self, form: Form, node: RealNode) -> Form:
        """Return the value with nothing left to do but multiplying: offsets added, bounds applied.

        Exact where the numbers are on a grid of the value within MAX_EXACT_BITS, else rounded and told.
        """
        if form.chains.pure:
            return form
        if any(kind.calls for kind in form.chains.kinds):
            raise AssertionError(f"{node.name}: a function without a table")
        affines = [chain.affine for chain in form.chains.each()]
        kind = self.type_of(form)
        shape = form.chains.shape
        finest = self._finest(form)

        def in_codes(number: Fraction | None, scale: Fraction) -> Fraction | None:
            if number is None:
                return None
            exact = number / (scale or ONE)
            bits = fraction_bits(exact)
            if bits is not None and bits <= finest:
                return exact
            frac = kind.range.max_frac + 8
            self.note(f"{node.source}: constants beside a value are rounded to 2**{-frac} of its scale")
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
        return Form(value, Chains.scales(object_fractions(scales, shape), shape))

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

    def plain(self, form: Form, node: RealNode, *, max_bits: int = MAX_EXACT_BITS) -> str | None:
        """Return an IR value that is the real value itself, exactly; None when that takes more than `max_bits`."""
        form = self.settled(form, node)
        factors = form.chains.fractions().ravel().tolist()
        if any(fraction_bits(factor) is None for factor in set(factors)):
            return None
        if any(power_of_two(factor) is None for factor in set(factors)):
            kind = self.type_of(form)
            widest = max(_significant_bits(factor) for factor in set(factors))
            if kind.range.width_bits + widest > max_bits:
                return None
        return self.rescaled(form, factors, node)


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


def _targets(op: RealQuantize, shape: tuple[int, ...]) -> list[Target]:
    """Return the target of every element."""
    parts = [np.broadcast_to(part, shape).ravel().tolist() for part in (op.scale.array, op.lo.array, op.hi.array)]
    known: dict[tuple[float, int, int], Target] = {}
    targets = []
    for key in zip(*parts, strict=True):
        if key not in known:
            known[key] = Target.of(float(key[0]), int(key[1]), int(key[2]), op.rounding, op.overflow)
        targets.append(known[key])
    return targets


def _pair(chain: Chain, ratio: Fraction, x: Source, y: Source, target: Target) -> tuple[Pair, Target] | None:
    """Return how a sum of two elements is quantized, and the quantizer with the bounds of the chain merged in."""
    affine, merged, within = merged_bounds(chain.affine, target)
    if chain.calls or within is not None:
        return None
    scales = (
        affine.scale * Fraction(2) ** -x.frac / target.step,
        affine.scale * ratio * Fraction(2) ** -y.frac / target.step,
    )
    pair = exact_pair(scales, affine.offset / target.step, ((x.lo, x.hi), (y.lo, y.hi)), merged)
    return None if pair is None else (pair, merged)


def _shared_tables(keys: Sequence[tuple[Chain, Source, Target]]) -> list[tuple[Chain, Source, Target]]:
    """Give elements of one function, exponent and quantizer the same bounds, so that they share a table."""
    bounds: dict[tuple[Chain, int, Target], tuple[int, int]] = {}
    for chain, source, target in keys:
        lo, hi = bounds.get((chain, source.frac, target), (source.lo, source.hi))
        bounds[chain, source.frac, target] = (min(lo, source.lo), max(hi, source.hi))
    return [
        (chain, Source(source.frac, *bounds[chain, source.frac, target]) if chain.calls else source, target)
        for chain, source, target in keys
    ]


def _sort(found: Way, frac: int) -> tuple[object, ...]:
    """Return what elements must share to be made by the same ops."""
    match found:
        case Plain():
            return ("plain", found.target.rounding, found.target.overflow, found.within is not None)
        case Scaled():
            return ("scaled", found.target.overflow)
        case Tabled():
            return ("table", found.lo, found.hi, found.drop, found.entries, found.target.frac, frac)
        case Stepped():
            return ("steps", found.target.frac, frac)
        case Refused():
            return ("refused",)
        case _:
            assert_never(found)
