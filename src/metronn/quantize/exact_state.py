"""What the exact lowering knows while it runs, and how operands of unlike scales meet."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from metronn.ir.arrays import IntArray, object_array
from metronn.ir.infer import aligned_bounds
from metronn.ir.ops import (
    Add,
    Constant,
    Input,
    Overflow,
    Requantize,
    Rewire,
    Rounding,
)
from metronn.ir.types import Range, width_bits
from metronn.model.graph import (
    FloatArray,
    Floats,
    RealExtremum,
    RealFunction,
    RealGraph,
    RealNode,
)
from metronn.quantize.calibration import RealValues
from metronn.quantize.emitter import Emitter
from metronn.quantize.exact_chain import ONE, Affine, Chain, Chains, fraction_bits, nearest, power_of_two
from metronn.quantize.exact_closing import Closing
from metronn.quantize.exact_emit import MAX_EXACT_BITS, MAX_PRODUCT_BITS, object_fractions
from metronn.quantize.exact_form import EXACT, Form, Reason, Reasons, Second, together
from metronn.quantize.exact_regions import Region
from metronn.quantize.fixed import covering_frac, round_constant
from metronn.quantize.float_ops import float_table
from metronn.quantize.options import QuantizeOptions, Settings
from metronn.quantize.records import Exactness, LayerRecord

WEIGHT_BITS = 24
"""Bits of weights that take up different scales of their inputs, and of scales that are multiplied out."""


@dataclass(slots=True, kw_only=True)
class ExactState:
    """State of one run: the quantized network, its values on the calibration events, the integer graph so far."""

    graph: RealGraph
    options: QuantizeOptions
    reference: RealValues
    encode_input: Callable[[Input, str], None]
    emitter: Emitter
    constants: dict[str, Floats] = field(default_factory=dict)
    forms: dict[str, Form] = field(default_factory=dict)
    records: list[LayerRecord] = field(default_factory=list)
    sums: dict[str, Form] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)
    shared_inputs: set[str] = field(default_factory=set)
    extrema: dict[str, tuple[RealExtremum, Form, Form]] = field(default_factory=dict)
    regions: dict[str, Region] = field(default_factory=dict)
    emission: Closing = field(init=False)

    def __post_init__(self) -> None:
        """Make what adds ops."""
        self.emission = Closing(self.emitter, limit=self.options.operand_bits or MAX_PRODUCT_BITS)

    def _comparable(self, form: Form) -> tuple[str, FloatArray | None]:
        """Return the value to compare with the framework's and its scale."""
        if not form.chains.pure or form.second is not None:
            return form.value, None
        return form.value, FloatArray.of(compact_floats(form.chains.scale_array))

    def _read(self, name: str, node: RealNode) -> Form:
        """Return the form of an operand, a sum in it made; a constant becomes one."""
        if name not in self.constants:
            form = self.forms[name]
            return form if form.second is None else self._sum(name, form, form.second)
        values, source = self.constants[name], self.graph.by_name[name].source
        exact = [Fraction(float(v)) for v in values.ravel()]
        frac = max((bits for v in exact if v and (bits := fraction_bits(v)) is not None), default=0)
        codes = [int(v * Fraction(2) ** frac) for v in exact]
        inexact = EXACT
        if width_bits(min(*codes, 0), max(*codes, 0)) > MAX_EXACT_BITS:
            rounded = round_constant(values, WEIGHT_BITS)
            inexact = (Reason(node.name, source, f"constants are rounded to {WEIGHT_BITS} bits"),)
            codes, frac = [int(v) for v in rounded.codes.ravel()], rounded.frac
        op = Constant(values=IntArray.of(object_array(codes, values.shape)), frac=frac)
        return Form(self.emitter.add(op, name, source), Chains.uniform(values.shape), inexact)

    def _sum(self, name: str, form: Form, second: Second) -> Form:
        """Return a value whose sum was left to quantizers for what is none.

        An exact one serves all that read it from now on. Where it had to be rounded, a quantizer still closes the sum.
        """
        if name not in self.sums:
            node = self.graph.by_name[name]
            made = self._summed(form, second, node)
            if made.own(form.inexact):
                self._told(node, made, form.inexact)
            else:
                self.forms[name] = made
            self.sums[name] = made
        return self.sums[name]

    def _told(self, node: RealNode, form: Form, inherited: Reasons) -> None:
        """Record that a value is not exact for reasons of its own."""
        own = form.own(inherited)
        if not own:
            return
        record = next((record for record in reversed(self.records) if record.real == node.name), None)
        if record is None:
            record = LayerRecord(source=node.source, kind="elementwise", real=node.name)
            record.value, record.scale = self._comparable(form)
            self.records.append(record)
        if record.exactness is not Exactness.APPROXIMATE:
            record.exactness = Exactness.REQUANTIZED
        record.note = noted(own, node.source)

    def _summed(self, form: Form, second: Second, node: RealNode) -> Form:
        """Make a sum that was left to a quantizer, for what is none; its chain stays."""
        shape = form.chains.shape
        x = Form(form.value, Chains.uniform(shape), form.inexact)
        y = Form(second.value, Chains.scales(second.ratios, shape), form.inexact)
        x, y = self._common(x, y, node)
        value = self.emitter.add(Add(x=x.value, y=y.value), f"{node.name}.sum", node.source)
        return Form(value, x.chains.paired(form.chains, _followed), together(x.inexact, y.inexact))

    def _settled(self, form: Form, node: RealNode) -> Form:
        """Return a form that only multiplies; a function that no quantizer follows gets a table of its own."""
        if any(kind.calls for kind in form.chains.kinds):
            form = self._float_functions(form, node)
        return self.emission.settled(form, node)

    def _settings(self, node: RealNode) -> Settings:
        return self.options.layer(node.source)

    def _float_functions(self, form: Form, node: RealNode) -> Form:
        """Give a function that no quantizer follows a table as in quantization after training."""
        kinds = form.chains.kinds
        if len(kinds) > 1:
            return self._float_functions_apart(form, node)
        chain, shape = kinds[0], form.chains.shape
        numbers = self._numbers(replace(form, chains=Chains.uniform(shape, Chain(chain.affine))), node)
        for call in chain.calls:
            made = float_table(
                self.emitter,
                numbers.value,
                RealFunction(x="", kind=call.kind, parameters=call.parameters),
                self._settings(node),
                table_bits=self.options.table_bits,
                bits=self.options.output_bits,
                name=f"{node.name}.{call.kind.value}",
                source=node.source,
            )
            what = (
                f"{call.kind.value} without a quantizer, a table of {made.entries} entries within {made.max_error:.1e}"
            )
            after = Form(made.value, Chains.uniform(shape, Chain(call.then)), numbers.inexact)
            numbers = self._numbers(after.because(Reason.at(node, what)), node)
        return numbers

    def _float_functions_apart(self, form: Form, node: RealNode) -> Form:
        """Give functions that differ between elements tables of their own; the elements are put together again."""
        parts, order = [], np.empty(form.chains.index.size, dtype=np.int64)
        place = 0
        for kind in range(len(form.chains.kinds)):
            index = np.flatnonzero(form.chains.index.ravel() == kind)
            order[index] = place + np.arange(len(index))
            place += len(index)
            op = Rewire(xs=(form.value,), index=IntArray.of(index), shape=(len(index),))
            part = self.emitter.add(op, f"{node.name}.part", node.source)
            chains = Chains.uniform((len(index),), form.chains.kinds[kind])
            parts.append(self._numbers(replace(form, value=part, chains=chains), node))
        shape = form.chains.shape
        joined = Rewire(xs=tuple(part.value for part in parts), index=IntArray.of(order.reshape(shape)), shape=shape)
        value = self.emitter.add(joined, f"{node.name}.joined", node.source)
        return Form(value, Chains.uniform(shape), together(*(part.inexact for part in parts)))

    def _numbers(self, form: Form, node: RealNode) -> Form:
        """Return a form whose IR value is the real value itself, rounded where its scale is no power of two."""
        form = self._settled(form, node)
        return self.emission.plain(form, node) or self._rounded(form, node, self.options.output_bits)

    def _rounded(self, form: Form, node: RealNode, bits: int) -> Form:
        """Return the real value in about `bits` bits: multiplied by its scale, of 24 bits, and rounded."""
        kind = self.emission.type_of(form)
        factors = form.chains.fractions().ravel().tolist()
        largest = max(abs(factor) for factor in factors)
        frac = WEIGHT_BITS - math.frexp(float(largest))[1]
        rounded = [Fraction(nearest(factor * Fraction(2) ** frac)) / Fraction(2) ** frac for factor in factors]
        value = self.emission.rescaled(form, rounded, node)
        codes = self.emitter.type_of(value).range
        low, high = (float(bound) for bound in codes.value_bounds())
        wanted = min(covering_frac(low, high, bits, signed=codes.signed), codes.max_frac)
        out = Range.fixed(bits, wanted, signed=codes.signed)
        op = Requantize(x=value, out=out, rounding=Rounding.RND, overflow=Overflow.SAT)
        what = (
            f"a scale that is no power of two is multiplied out and rounded to 2**{-wanted}, "
            f"{kind.range.width_bits} bits to {bits}"
        )
        value = self.emitter.add(op, f"{node.name}.rounded", node.source)
        return replace(form, value=value, chains=Chains.uniform(form.chains.shape)).because(Reason.at(node, what))

    def _common(self, x: Form, y: Form, node: RealNode) -> tuple[Form, Form]:
        """Bring two values to one scale, element by element, broadcast."""
        x, y = self._settled(x, node), self._settled(y, node)
        shape = node.shape
        mine = np.broadcast_to(x.chains.fractions(), shape).ravel().tolist()
        its = np.broadcast_to(y.chains.fractions(), shape).ravel().tolist()
        if mine == its and (len(set(mine)) == 1 or x.chains.shape == y.chains.shape == shape) and _one_sign(mine):
            return x, y
        x, y = self.emission.broadcast(x, shape, node), self.emission.broadcast(y, shape, node)
        x_factors, y_factors, scales = [], [], []
        budget = max(self.emission.limit, MAX_EXACT_BITS) - max(
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

    def _same_scale(self, form: Form, node: RealNode, axes: tuple[int, ...] | None) -> Form:
        """Give all elements along `axes` (None: all) one positive scale (or the one they share)."""
        factors = form.chains.fractions()
        rank = factors.ndim
        axes = tuple(range(rank)) if axes is None else axes
        kept = tuple(a for a in range(rank) if a not in axes)
        moved = factors.transpose(*kept, *axes).reshape(math.prod(factors.shape[a] for a in kept), -1)
        budget = max(self.emission.limit, MAX_EXACT_BITS) - self.emission.type_of(form).range.width_bits
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

    def _one_frac(self, form: Form, node: RealNode) -> Form:
        """Bring all elements to the finest frac among them, exactly."""
        kind = self.emission.type_of(form)
        if isinstance(kind.range.frac, int):
            return form
        lo, hi = aligned_bounds(kind, kind.range.max_frac)
        op = Requantize(
            x=form.value, out=Range(int(lo.min()), int(hi.max()), kind.range.max_frac), overflow=Overflow.SAT
        )
        return replace(form, value=self.emitter.add(op, f"{node.name}.in", node.source))


def noted(reasons: Reasons, source: str) -> str:
    """Return reasons as the note of a layer's record."""
    return "; ".join(dict.fromkeys(reason.within(source) for reason in reasons))


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
    frac = max(WEIGHT_BITS, budget)
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
    frac = max(WEIGHT_BITS, budget)
    return _Divisor(largest, [Fraction(nearest(number * 2**frac)) / 2**frac for number in numbers], frac)


def _followed(first: Chain, then: Chain) -> Chain:
    """Return a chain that multiplies, then does another."""
    affine = then.affine
    return Chain(Affine(first.affine.scale * affine.scale, affine.offset, affine.low, affine.high), then.calls)


def compact_floats(values: Floats) -> Floats:
    """Drop axes along which an array does not change: they broadcast."""
    while values.ndim and (values == values[:1]).all():
        values = values[0]
    for axis in range(values.ndim):
        first = values.take([0], axis=axis)
        if (values == first).all():
            values = first
    return values


def _one_sign(factors: list[Fraction]) -> bool:
    return len({factor > 0 for factor in factors}) == 1
