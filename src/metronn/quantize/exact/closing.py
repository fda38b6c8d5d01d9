"""Integer ops that end chains at the quantizers of the framework."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import assert_never

import numpy as np

from metronn.ir.arrays import IntArray, object_array
from metronn.ir.ops import (
    Add,
    Lookup,
    Multiply,
    Overflow,
    Reduce,
    ReduceKind,
    Requantize,
    Rewire,
    Rounding,
)
from metronn.ir.types import Range
from metronn.model.graph import RealNode, RealQuantize
from metronn.quantize.calibrated.emitter import Emitter
from metronn.quantize.exact.chains import Chain, Chains, nearest
from metronn.quantize.exact.closing_ways import (
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
from metronn.quantize.exact.emission import Emission, object_fractions
from metronn.quantize.exact.forms import Form, Reason, Second
from metronn.quantize.exact.pairs import Pair, exact_pair

APPROXIMATE_BITS = 24
"""Fraction bits kept below one step of a result where no exact integers are found."""


@dataclass(frozen=True, slots=True)
class Closing:
    """Adds ops that quantize."""

    emission: Emission

    @property
    def emitter(self) -> Emitter:
        """What the ops are added to."""
        return self.emission.emitter

    def close(self, form: Form, node: RealNode, op: RealQuantize) -> Form:
        """Return the codes of a quantizer, exact for every code the value can take or with the reason why not."""
        targets = targets_of(op, node.shape)
        kind = self.emission.type_of(form)
        size = kind.size
        fields = zip(kind.range.fracs(size), kind.range.los(size), kind.range.his(size), strict=True)
        keys = list(zip(form.chains.each(), (Source(*bounds) for bounds in fields), targets, strict=True))
        if any(chain.calls for chain in form.chains.kinds):
            keys = _shared_tables(keys)
        known: dict[tuple[Chain, Source, Target], Way] = {}
        reasons = []
        for key in keys:
            if key not in known:
                found = way(*key)
                if isinstance(found, Refused):
                    found, what = _approximate(found, *key)
                    reasons.append(Reason.at(node, what))
                known[key] = found
        ways = [known[key] for key in keys]
        value = self.grouped(form, ways, node)
        scales = object_fractions([target.scale for target in targets], node.shape)
        return Form(value, Chains.scales(scales, node.shape), form.inexact).because(*reasons)

    def close_pair(self, form: Form, second: Second, node: RealNode, op: RealQuantize) -> Form | None:
        """Close a sum of two values at a quantizer, exact for every pair of codes; None where that was not found."""
        targets = targets_of(op, node.shape)
        x, y = self.emission.type_of(form), self.emitter.type_of(second.value)
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
        return Form(value, Chains.scales(scales, node.shape), form.inexact)

    def _paired(self, form: Form, second: Second, found: Sequence[tuple[Pair, Target]], node: RealNode) -> str:
        """Multiply both, add them and the addend, and drop the bits below the quantizer's step."""
        pairs, targets = [pair for pair, _ in found], [target for _, target in found]
        x, y = self.emission.type_of(form), self.emitter.type_of(second.value)
        first_factors = [
            Fraction(pair.first) / Fraction(2) ** (pair.shift + target.frac - frac)
            for (pair, target), frac in zip(found, x.range.fracs(x.size), strict=True)
        ]
        second_factors = [
            Fraction(pair.second) / Fraction(2) ** (pair.shift + target.frac - frac)
            for (pair, target), frac in zip(found, y.range.fracs(y.size), strict=True)
        ]
        shape = node.shape
        left = self.emission.rescaled(form, first_factors, node)
        right = self.emission.rescaled(replace(form, value=second.value), second_factors, node)
        value = self.emitter.add(Add(x=left, y=right), f"{node.name}.sum", node.source)
        rounding = Rounding.TRN
        if all(pair.shift and pair.addend == 1 << (pair.shift - 1) for pair in pairs):
            rounding = Rounding.RND
        else:
            offsets = [Fraction(pair.addend) / Fraction(2) ** (pair.shift + target.frac) for pair, target in found]
            value = self.emission.shifted(value, shape, offsets, node)
        return self._requantized(value, targets, rounding, node, node.name)

    def grouped(self, form: Form, ways: Sequence[Way], node: RealNode) -> str:
        """Emit ways of one sort together; of several sorts, elements are taken apart and put together again."""
        sorts: dict[tuple[object, ...], list[int]] = {}
        kind = self.emission.type_of(form)
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
            part = replace(form, value=value, chains=form.chains.moved(index))
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
        value = self.emission.rescaled(form, [w.factor for w in ways], node)
        value = self.emission.shifted(value, shape, [w.offset for w in ways], node)
        target = ways[0].target
        rounding = target.rounding
        if any(w.grain is not None for w in ways):
            value = self._grained(value, [w.target.frac + (w.grain or 0) for w in ways], node, name)
        if any(w.within is not None for w in ways):
            far = (-(1 << 200), 1 << 200)
            within = [w.within or far for w in ways]
            bounds = Range(
                tuple(lo for lo, _ in within), tuple(hi for _, hi in within), tuple(w.target.frac for w in ways)
            )
            op = Requantize(x=value, out=bounds, rounding=rounding, overflow=Overflow.SAT)
            value = self.emitter.add(op, f"{name}.bounded", node.source)
        return self._requantized(value, [w.target for w in ways], rounding, node, name)

    def _grained(self, value: str, fracs: Sequence[int], node: RealNode, name: str) -> str:
        """Round to these fraction bits, to nearest; nothing overflows."""
        kind = self.emitter.type_of(value)
        los, his = [], []
        fields = zip(
            kind.range.los(kind.size), kind.range.his(kind.size), kind.range.fracs(kind.size), fracs, strict=True
        )
        for lo, hi, old, new in fields:
            grow = Fraction(2) ** (new - old)
            los.append(math.floor(lo * grow))
            his.append(math.ceil(hi * grow))
        out = Range(tuple(los), tuple(his), tuple(fracs))
        op = Requantize(x=value, out=out, rounding=Rounding.RND, overflow=Overflow.SAT)
        return self.emitter.add(op, f"{name}.near", node.source)

    def _requantized(self, value: str, targets: Sequence[Target], rounding: Rounding, node: RealNode, name: str) -> str:
        out = Range(tuple(t.lo for t in targets), tuple(t.hi for t in targets), tuple(t.frac for t in targets))
        op = Requantize(x=value, out=out, rounding=rounding, overflow=targets[0].overflow)
        return self.emitter.add(op, name, node.source)

    def _scaled(self, form: Form, ways: Sequence[Scaled], shape: tuple[int, ...], node: RealNode, name: str) -> str:
        """Multiply, add and shift: y.frac = x.frac + frac of the multiplier, S bits above that of the target."""
        kind = self.emission.type_of(form)
        fracs = kind.range.fracs(kind.size)
        frac = max(w.scaling.shift + w.target.frac - x for w, x in zip(ways, fracs, strict=True))
        grown = [w.scaling.shifted(x + frac - w.target.frac) for w, x in zip(ways, fracs, strict=True)]
        value = form.value
        if frac or any(s.multiplier != 1 for s in grown):
            constant = self.emission.constant(
                [s.multiplier for s in grown], shape, frac, f"{node.name}.scale", node.source
            )
            value = self.emitter.add(Multiply(x=value, y=constant), f"{node.name}.scaled", node.source)
        rounding = Rounding.TRN
        if all(s.shift > 0 and s.addend == 1 << (s.shift - 1) for s in grown):
            rounding = Rounding.RND
        elif any(s.addend for s in grown):
            offsets = [Fraction(s.addend) / Fraction(2) ** (x + frac) for s, x in zip(grown, fracs, strict=True)]
            value = self.emission.shifted(value, shape, offsets, node)
        return self._requantized(value, [w.target for w in ways], rounding, node, name)

    def _tabled(self, form: Form, found: Tabled, node: RealNode, name: str) -> str:
        kind = self.emission.type_of(form)
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
        kind = self.emission.type_of(form)
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
        above = self.emission.constant(offsets, wide, frac, f"{node.name}.thresholds", node.source)
        value = self.emitter.add(Add(x=value, y=above), f"{node.name}.above", node.source)
        bit = Requantize(x=value, out=Range(0, 1, frac), rounding=Rounding.TRN, overflow=Overflow.SAT)
        value = self.emitter.add(bit, f"{node.name}.reached", node.source)
        heights = self.emission.constant(jumps, wide, ways[0].target.frac - frac, f"{node.name}.jumps", node.source)
        value = self.emitter.add(Multiply(x=value, y=heights), f"{node.name}.steps", node.source)
        value = self.emitter.add(
            Reduce(x=value, axes=(len(shape),), kind=ReduceKind.SUM), f"{node.name}.level", node.source
        )
        bases = [Fraction(w.base) / Fraction(2) ** w.target.frac for w in ways]
        value = self.emission.shifted(value, shape, bases, node)
        return self._requantized(value, [w.target for w in ways], Rounding.TRN, node, name)


def _approximate(refused: Refused, chain: Chain, source: Source, target: Target) -> tuple[Way, str]:
    """Return the nearest affine way for what has no exact one, and what is rounded, with its bound."""
    if chain.calls:
        return _coarse(refused, chain, source, target)
    affine, merged, within = merged_bounds(chain.affine, target)
    factor, offset = affine.scale / target.scale, affine.offset / target.scale
    reach = max(abs(source.lo), abs(source.hi), 1).bit_length()
    grain = Fraction(2) ** (APPROXIMATE_BITS + target.frac)
    fine = grain * Fraction(2) ** (reach - source.frac)
    what = (
        f"a scale is rounded to {1 + APPROXIMATE_BITS + reach} bits; what lies within 2**-{APPROXIMATE_BITS} of an "
        f"edge between two codes may get the other one ({refused.reason})"
    )
    return Plain(
        Fraction(nearest(factor * fine)) / fine, Fraction(nearest(offset * grain)) / grain, merged, within
    ), what


def _coarse(refused: Refused, chain: Chain, source: Source, target: Target) -> tuple[Way, str]:
    """Drop low bits of the code until a table can hold the function."""
    drop = (source.hi - source.lo + 1).bit_length() - 14
    lo, hi = source.lo >> drop, source.hi >> drop
    at = ((np.arange(lo, hi + 1).astype(np.float64) + 0.5) * 2.0 ** (drop - source.frac)).astype(np.float64)
    entries = quantized_codes(chain.floats(at), target)
    what = f"the lowest {drop} bits of the input of a table are left out ({refused.reason})"
    return Tabled(lo, hi, drop, tuple(int(v) for v in entries), target), what


def targets_of(op: RealQuantize, shape: tuple[int, ...]) -> list[Target]:
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
            return (
                "plain",
                found.target.rounding,
                found.target.overflow,
                found.within is not None,
                found.grain is not None,
            )
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
