"""What the exact lowering knows while it runs, and how operands of unlike scales meet."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
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
from metronn.quantize.exact_emit import MAX_EXACT_BITS, MAX_PRODUCT_BITS, Form, Second, object_fractions
from metronn.quantize.exact_regions import Region
from metronn.quantize.fixed import covering_frac, round_constant
from metronn.quantize.float_ops import float_table
from metronn.quantize.options import QuantizeOptions, Settings
from metronn.quantize.records import LayerRecord

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
    inexact: dict[str, str] = field(default_factory=dict)
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

    def _approximate(self, node: RealNode, why: str) -> None:
        """Remember that a value is not the framework's."""
        self.inexact[node.name] = why

    def _read(self, name: str, node: RealNode) -> Form:
        """Return the form of an operand, a sum in it made; a constant becomes one."""
        if name not in self.constants:
            form = self.forms[name]
            if form.second is not None:
                form = self.forms[name] = self._summed(form, form.second, self.graph.by_name[name])
            return form
        values, source = self.constants[name], self.graph.by_name[name].source
        exact = [Fraction(float(v)) for v in values.ravel()]
        frac = max((bits for v in exact if v and (bits := fraction_bits(v)) is not None), default=0)
        codes = [int(v * Fraction(2) ** frac) for v in exact]
        if width_bits(min(*codes, 0), max(*codes, 0)) > MAX_EXACT_BITS:
            rounded = round_constant(values, WEIGHT_BITS)
            self.emission.note(f"{source}: constants are rounded to {WEIGHT_BITS} bits")
            codes, frac = [int(v) for v in rounded.codes.ravel()], rounded.frac
        op = Constant(values=IntArray.of(object_array(codes, values.shape)), frac=frac)
        return Form(self.emitter.add(op, name, source), Chains.uniform(values.shape))

    def _summed(self, form: Form, second: Second, node: RealNode) -> Form:
        """Make a sum that was left to a quantizer, for what is none; its chain stays."""
        shape = form.chains.shape
        x = Form(form.value, Chains.uniform(shape))
        y = Form(second.value, Chains.scales(second.ratios, shape))
        x, y = self._common(x, y, node)
        value = self.emitter.add(Add(x=x.value, y=y.value), f"{node.name}.sum", node.source)
        return Form(value, x.chains.paired(form.chains, _followed))

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
        chain = kinds[0]
        value = self._numbers(Form(form.value, Chains.uniform(form.chains.shape, Chain(chain.affine))), node)
        for call in chain.calls:
            made = float_table(
                self.emitter,
                value,
                RealFunction(x="", kind=call.kind, parameters=call.parameters),
                self._settings(node),
                table_bits=self.options.table_bits,
                bits=self.options.output_bits,
                name=f"{node.name}.{call.kind.value}",
                source=node.source,
            )
            after = self.emission.settled(Form(made.value, Chains.uniform(form.chains.shape, Chain(call.then))), node)
            value = self._numbers(after, node)
            self.emission.note(
                f"{node.source}: {call.kind.value} without a quantizer, a table of {made.entries} entries "
                f"within {made.max_error:.1e}"
            )
        return Form(value, Chains.uniform(form.chains.shape))

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
            made = self._settled(Form(part, Chains.uniform((len(index),), form.chains.kinds[kind])), node)
            parts.append(self._numbers(made, node))
        shape = form.chains.shape
        joined = Rewire(xs=tuple(parts), index=IntArray.of(order.reshape(shape)), shape=shape)
        return Form(self.emitter.add(joined, f"{node.name}.joined", node.source), Chains.uniform(shape))

    def _numbers(self, form: Form, node: RealNode) -> str:
        """Return an IR value that is the real value itself, rounded where its scale is no power of two."""
        form = self._settled(form, node)
        value = self.emission.plain(form, node)
        if value is not None:
            return value
        return self._rounded(form, node, self.options.output_bits)

    def _rounded(self, form: Form, node: RealNode, bits: int) -> str:
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
        self.emission.note(
            f"{node.source}: a scale that is no power of two is multiplied out and rounded to 2**{-wanted}, "
            f"{kind.range.width_bits} bits to {bits}"
        )
        return self.emitter.add(op, f"{node.name}.rounded", node.source)

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
        known: dict[tuple[Fraction, Fraction], tuple[Fraction, Fraction, Fraction]] = {}
        for pair in zip(mine, its, strict=True):
            if pair not in known:
                known[pair] = self._meeting(*pair, budget, node)
            x_factor, y_factor, scale = known[pair]
            x_factors.append(x_factor)
            y_factors.append(y_factor)
            scales.append(scale)
        chains = Chains.scales(object_fractions(scales, shape), shape)
        return (
            Form(self.emission.rescaled(x, x_factors, node), chains),
            Form(self.emission.rescaled(y, y_factors, node), chains),
        )

    def _meeting(self, x: Fraction, y: Fraction, budget: int, node: RealNode) -> tuple[Fraction, Fraction, Fraction]:
        """Return dyadic factors for two scales and the positive scale behind: x = factor * scale.

        The scale is one of the two wherever their ratio is a power of two; else a common divisor of both, or, where
        that takes too many bits, the larger, and the other's factor is rounded.
        """
        if fraction_bits(x / y) is not None and power_of_two(x / y) is not None:
            scale = abs(y)
            return x / scale, y / scale, scale
        ratio = x / y
        top, bottom = ratio.numerator, ratio.denominator
        if max(top.bit_length(), bottom.bit_length()) <= budget:
            scale = abs(y) / bottom
            sign = 1 if y > 0 else -1
            return Fraction(top * sign), Fraction(bottom * sign), scale
        scale = max(abs(x), abs(y))
        frac = max(WEIGHT_BITS, budget)

        def rounded(value: Fraction) -> Fraction:
            return Fraction(nearest(value / scale * Fraction(2) ** frac)) / Fraction(2) ** frac

        self.emission.note(f"{node.source}: the ratio of the scales of two operands is rounded to 2**{-frac}")
        return rounded(x), rounded(y), scale

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
        known: dict[tuple[Fraction, ...], tuple[Fraction, list[Fraction]]] = {}
        for row in range(len(moved)):
            key = tuple(moved[row].tolist())
            if key not in known:
                known[key] = self._divisor(key, budget, node)
            scale, ratios = known[key]
            scales[row], changes[row] = scale, ratios
            changed = changed or any(ratio != 1 for ratio in ratios)
        if not changed:
            return form
        back = np.argsort((*kept, *axes))
        full = tuple(factors.shape[a] for a in (*kept, *axes))
        shape = form.chains.shape
        return Form(
            self.emission.rescaled(form, changes.reshape(full).transpose(back).ravel().tolist(), node),
            Chains.scales(scales.reshape(full).transpose(back), shape),
        )

    def _divisor(self, factors: tuple[Fraction, ...], budget: int, node: RealNode) -> tuple[Fraction, list[Fraction]]:
        """Return one scale for several and their dyadic ratios to it."""
        if len(set(factors)) == 1:
            return factors[0], [ONE] * len(factors)
        largest = max(abs(factor) for factor in factors)
        if all(power_of_two(factor / largest) is not None for factor in set(factors)):
            return largest, [factor / largest for factor in factors]
        numbers = [factor / largest for factor in factors]
        common = math.lcm(*(number.denominator for number in set(numbers)))
        if common.bit_length() <= budget:
            return largest / common, [number * common for number in numbers]
        frac = max(WEIGHT_BITS, budget)
        self.emission.note(f"{node.source}: the ratios of the scales of elements are rounded to 2**{-frac}")
        return largest, [Fraction(nearest(number * 2**frac)) / 2**frac for number in numbers]

    def _one_frac(self, form: Form, node: RealNode) -> Form:
        """Bring all elements to the finest frac among them, exactly."""
        kind = self.emission.type_of(form)
        if isinstance(kind.range.frac, int):
            return form
        lo, hi = aligned_bounds(kind, kind.range.max_frac)
        op = Requantize(
            x=form.value, out=Range(int(lo.min()), int(hi.max()), kind.range.max_frac), overflow=Overflow.SAT
        )
        return Form(self.emitter.add(op, f"{node.name}.in", node.source), form.chains)


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
