"""A quantized network to integers, exactly: the grids of its framework are kept, real arithmetic is done in integers.

Every value is a `Form`: codes in the integer graph and a chain of what is still to be done to each element. Chains end
at the quantizers of the framework (`exact_close`). What stands on no grid (float inputs, unquantized layers, a softmax
at the end) is lowered as in quantization after training, and told.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from typing import assert_never

import numpy as np
import numpy.typing as npt

from metronn.ir.arrays import IntArray, object_array
from metronn.ir.infer import aligned_bounds
from metronn.ir.ops import (
    Add,
    Constant,
    Extremum,
    ExtremumKind,
    Input,
    Linear,
    Multiply,
    Overflow,
    Padding,
    Reduce,
    ReduceKind,
    Requantize,
    Rewire,
    Rounding,
    Window,
)
from metronn.ir.types import Range, width_bits
from metronn.ir.windows import window_index
from metronn.model.graph import (
    FloatArray,
    Floats,
    RealAdd,
    RealConstant,
    RealExtremum,
    RealFunction,
    RealGraph,
    RealInput,
    RealLinear,
    RealMultiply,
    RealNode,
    RealQuantize,
    RealReduce,
    RealRewire,
    RealSoftmax,
    RealWindow,
    real_operands,
)
from metronn.quantize.calibration import RealValues
from metronn.quantize.emitter import Emitter
from metronn.quantize.exact_chain import ONE, ZERO, Affine, Call, Chain, Chains, fraction_bits, nearest, power_of_two
from metronn.quantize.exact_emit import MAX_EXACT_BITS, Emission, Form, Second, object_fractions
from metronn.quantize.exact_input import absorbed
from metronn.quantize.exact_values import ExactValue
from metronn.quantize.exact_weights import integer_weights
from metronn.quantize.fixed import choose_range, covering_frac, exact_grid, round_constant, round_weights
from metronn.quantize.float_ops import INPUT_BITS, float_table, input_range
from metronn.quantize.moments import gather
from metronn.quantize.options import Calibration, QuantizeOptions, Settings
from metronn.quantize.records import Exactness, LayerRecord
from metronn.quantize.softmax import lower_softmax
from metronn.quantize.structure import constants_of

MAX_OUTPUT_BITS = 32
"""Widest output that is shown with all its bits."""
MAX_OPERAND_BITS = 32
"""Widest operand of a matrix that no quantizer made."""
WEIGHT_BITS = 24
"""Bits of weights that take up different scales of their inputs."""


@dataclass(slots=True, kw_only=True)
class ExactLowering:
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
    extrema: dict[str, tuple[RealExtremum, Form, Form]] = field(default_factory=dict)
    emission: Emission = field(init=False)

    def __post_init__(self) -> None:
        """Make what adds ops."""
        self.emission = Emission(self.emitter)

    @property
    def events(self) -> int:
        """Return the number of calibration events."""
        return len(self.reference[self.graph.inputs[0].name])

    def run(self) -> None:
        """Lower every node and declare the outputs."""
        self.constants = constants_of(self.graph, self.reference)
        for node in self.graph.nodes:
            if node.name in self.constants:
                continue
            before = len(self.emission.notes)
            for x in real_operands(node.op):
                if x in self.inexact:
                    self.inexact.setdefault(node.name, self.inexact[x])
            self.forms[node.name] = self._lower(node)
            self._told(node, before)
        for name, value in self.graph.outputs:
            self._output(name, value)

    def _told(self, node: RealNode, before: int) -> None:
        """Take over what the emission told about a node that is not exact."""
        told = self.emission.notes[before:]
        if told:
            self.inexact[node.name] = self.inexact.get(node.name) or node.source
            record = next((r for r in reversed(self.records) if r.source == node.source), None)
            if record is None:
                record = LayerRecord(source=node.source, kind="elementwise", real=node.name)
                record.value, record.scale = self._comparable(self.forms[node.name])
                self.records.append(record)
            if record.exactness is not Exactness.APPROXIMATE:
                record.exactness = Exactness.REQUANTIZED
            record.note = "; ".join(filter(None, [record.note, *told]))

    @property
    def frontier(self) -> tuple[ExactValue, ...]:
        """The values that the integer graph holds exactly, those nearest to the outputs first."""
        tensors: dict[str, list[str]] = {}
        for tensor, value in self.graph.tensors:
            tensors.setdefault(value, []).append(tensor)
        quantizers = {node.name for node in self.graph.nodes if isinstance(node.op, RealQuantize)}
        ahead = self._ahead_of_inputs()
        found = []
        for node in reversed(self.graph.nodes):
            form = self.forms.get(node.name)
            if (
                form is None
                or node.name in self.inexact
                or node.name in self.extrema
                or node.name in ahead
                or form.second is not None
                or not form.chains.pure
            ):
                continue
            if node.name in tensors or node.name in quantizers or any(v == node.name for _, v in self.graph.outputs):
                scale = _compact_floats(form.chains.scale_array)
                found.append(
                    ExactValue(
                        tensors=tuple(tensors.get(node.name, ())),
                        real=node.name,
                        value=form.value,
                        source=node.source,
                        scale=FloatArray.of(scale),
                    )
                )
        return tuple(found)

    def _ahead_of_inputs(self) -> set[str]:
        """Return inputs, and movements of them, whose quantizer the input itself applies: floats in the framework."""
        ahead: set[str] = set()
        for node in reversed(self.graph.nodes):
            if isinstance(node.op, RealInput | RealRewire):
                users = self.graph.uses[node.name]
                if users and all(user in self.done or user in ahead for user in users):
                    ahead.add(node.name)
        return ahead

    def _comparable(self, form: Form) -> tuple[str, FloatArray | None]:
        """Return the value to compare with the framework's and its scale."""
        if not form.chains.pure or form.second is not None:
            return form.value, None
        return form.value, FloatArray.of(_compact_floats(form.chains.scale_array))

    def _approximate(self, node: RealNode, why: str) -> None:
        """Remember that a value is not the framework's."""
        self.inexact[node.name] = why

    # Nodes

    def _lower(self, node: RealNode) -> Form:
        op = node.op
        match op:
            case RealConstant():
                raise AssertionError(f"{node.name} is constant")
            case RealInput():
                return self._input(node)
            case RealRewire():
                return self._rewire(node, op)
            case RealWindow():
                return self._window(node, op)
            case RealLinear():
                return self._linear(node, op)
            case RealAdd() | RealMultiply() | RealExtremum():
                return self._binary(node, op)
            case RealReduce():
                return self._reduce(node, op)
            case RealFunction():
                return self._function(node, op)
            case RealSoftmax():
                return self._softmax(node, op)
            case RealQuantize():
                return self._quantize(node, op)
            case _:
                assert_never(op)

    def _input(self, node: RealNode) -> Form:
        found = absorbed(self.graph, node)
        if found is None:
            chosen = self._float_input(node)
            op = Input(shape=node.shape, range=chosen)
        else:
            op = found.op
            self.done.update(found.quantizers)
        self.encode_input(op, node.name)
        name = self.emitter.add(op, node.name, node.source)
        if name != node.name:
            raise AssertionError(f"input {node.name} was renamed to {name}")
        steps = np.ones((), dtype=object) if op.step is None else op.step.array.astype(object)
        factors = np.frompyfunc(Fraction, 1, 1)(steps)
        form = Form(name, Chains.scales(np.asarray(factors, dtype=object), node.shape))
        record = LayerRecord(source=node.source, kind="input", real=node.name, value=name, exactness=Exactness.EXACT)
        record.scale = FloatArray.of(_compact_floats(form.chains.scale_array))
        record.note = "" if found is None else "in the format of the quantizer that reads it"
        if found is None and not any(
            isinstance(self.graph.by_name[user].op, RealQuantize) for user in self.graph.uses[node.name]
        ):
            record.note = f"rounded to {chosen.describe()}: no quantizer of the framework does"
        self.records.append(record)
        return form

    def _float_input(self, node: RealNode) -> Range:
        """Return the range of an input of floats: as the options say, else its exact grid, else that of each channel.

        Channels are the last axis; each gets 16 bits that cover what calibration saw in it.
        """
        values = self.reference[node.name]
        chosen = input_range(node, values, self.options)
        given = node.name in self.options.inputs or self.options.input != "auto"
        if given or not node.shape or exact_grid(values, INPUT_BITS) is not None:
            return chosen
        lows = values.reshape(-1, node.shape[-1]).min(axis=0)
        highs = values.reshape(-1, node.shape[-1]).max(axis=0)
        fracs = [
            covering_frac(float(lo), float(hi), INPUT_BITS, signed=bool(lo < 0)) if lo or hi else chosen.max_frac
            for lo, hi in zip(lows, highs, strict=True)
        ]
        full = [Range.fixed(INPUT_BITS, frac, signed=bool(lo < 0)) for frac, lo in zip(fracs, lows, strict=True)]
        repeat = math.prod(node.shape[:-1])
        return Range(
            tuple(part.lowest for part in full) * repeat,
            tuple(part.highest for part in full) * repeat,
            tuple(fracs) * repeat,
        )

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

    # Movement

    def _rewire(self, node: RealNode, op: RealRewire) -> Form:
        forms = [self._read(x, node) for x in op.xs]
        if (op.index.array < 0).any():
            forms = [self._zero_kept(form, node) for form in forms]
        index = op.index.array.reshape(op.shape).astype(np.int64)
        value = self.emitter.add(
            Rewire(xs=tuple(form.value for form in forms), index=op.index, shape=op.shape), node.name, node.source
        )
        return Form(value, Chains.joined([form.chains for form in forms]).moved(index))

    def _zero_kept(self, form: Form, node: RealNode) -> Form:
        """Return a form in which the code 0 stands for 0, as padding needs."""
        if all(kind.keeps_zero for kind in form.chains.kinds):
            return form
        return self._settled(form, node)

    def _window(self, node: RealNode, op: RealWindow) -> Form:
        form = self._read(op.x, node)
        if op.padding is Padding.LOWEST:
            form = self._one_frac(self._same_scale(self._settled(form, node), node, None), node)
            scale = form.chains.kinds[0].affine.scale
            if scale < 0:
                form = Form(
                    self.emission.rescaled(form, [-ONE] * math.prod(form.chains.shape), node),
                    Chains.uniform(form.chains.shape, Chain(Affine(-scale))),
                )
        elif any(op.before) or any(op.after):
            form = self._zero_kept(form, node)
        window = Window(
            x=form.value,
            kernel=op.kernel,
            strides=op.strides,
            dilations=op.dilations,
            before=op.before,
            after=op.after,
            padding=op.padding,
        )
        index = window_index(window, form.chains.shape)
        return Form(self.emitter.add(window, node.name, node.source), form.chains.moved(index))

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

    # Arithmetic

    def _binary(self, node: RealNode, op: RealAdd | RealMultiply | RealExtremum) -> Form:
        if op.y in self.constants:
            return self._with_constant(node, op, op.x, self.constants[op.y], first=True)
        if op.x in self.constants:
            return self._with_constant(node, op, op.y, self.constants[op.x], first=False)
        x, y = self._read(op.x, node), self._read(op.y, node)
        match op:
            case RealMultiply():
                x, y = self._settled(x, node), self._settled(y, node)
                value = self.emitter.add(Multiply(x=x.value, y=y.value), node.name, node.source)
                return Form(value, x.chains.paired(y.chains, _product))
            case RealAdd():
                pending = self._pending_sum(x, y, op, node)
                if pending is not None:
                    return pending
                x, y = self._common(x, y, node)
                value = self.emitter.add(Add(x=x.value, y=y.value, subtract=op.subtract), node.name, node.source)
            case RealExtremum():
                if self._left_to_quantizers(x, y, node):
                    self.extrema[node.name] = (op, x, y)
                    return x
                x, y = self._common(x, y, node)
                value = self._extremum(x, y, op.kind, node)
        return Form(value, x.chains.broadcast(node.shape))

    def _pending_sum(self, x: Form, y: Form, op: RealAdd, node: RealNode) -> Form | None:
        """Leave the sum of two values of unlike scales to the quantizer behind, where there is one."""
        x, y = self._settled(x, node), self._settled(y, node)
        mine = np.broadcast_to(x.chains.fractions(), node.shape)
        its = np.broadcast_to(y.chains.fractions(), node.shape)
        ratios = np.asarray(its / mine, dtype=object).reshape(node.shape)
        if all(power_of_two(ratio) is not None for ratio in set(ratios.ravel().tolist())):
            return None
        x, y = self.emission.broadcast(x, node.shape, node), self.emission.broadcast(y, node.shape, node)
        return Form(x.value, x.chains, Second(y.value, np.asarray(-ratios if op.subtract else ratios, dtype=object)))

    def _left_to_quantizers(self, x: Form, y: Form, node: RealNode) -> bool:
        """Whether an extremum of values of unlike scales is made of what the quantizers behind make of both.

        Rounding and saturation are monotone: q(max(x, y)) = max(q(x), q(y)).
        """
        users = [self.graph.by_name[user].op for user in self.graph.uses[node.name]]
        monotone = (Overflow.SAT, Overflow.SAT_SYM)
        if not users or not all(isinstance(op, RealQuantize) and op.overflow in monotone for op in users):
            return False
        if any(value == node.name for _, value in self.graph.outputs):
            return False
        if not x.chains.pure or not y.chains.pure:
            return True
        mine = np.broadcast_to(x.chains.fractions(), node.shape)
        its = np.broadcast_to(y.chains.fractions(), node.shape)
        return any(b == 0 or power_of_two(a / b) is None for a, b in zip(mine.ravel(), its.ravel(), strict=True))

    def _closed_extremum(self, node: RealNode, op: RealQuantize, parts: tuple[RealExtremum, Form, Form]) -> Form:
        """Quantize both operands of an extremum and take that of the codes."""
        extremum, x, y = parts
        first, second = (
            self.emission.close(self.emission.broadcast(form, node.shape, node), node, op) for form in (x, y)
        )
        value = self.emitter.add(Extremum(x=first.value, y=second.value, kind=extremum.kind), node.name, node.source)
        return Form(value, first.chains)

    def _summed(self, form: Form, second: Second, node: RealNode) -> Form:
        """Make a sum that was left to a quantizer, for what is none; its chain stays."""
        shape = form.chains.shape
        x = Form(form.value, Chains.uniform(shape))
        y = Form(second.value, Chains.scales(second.ratios, shape))
        x, y = self._common(x, y, node)
        value = self.emitter.add(Add(x=x.value, y=y.value), f"{node.name}.sum", node.source)
        return Form(value, x.chains.paired(form.chains, _followed))

    def _extremum(self, x: Form, y: Form, kind: ExtremumKind, node: RealNode) -> str:
        """Return the larger or smaller of two values of one scale, which may be negative."""
        signs = {factor > 0 for factor in x.chains.fractions().ravel().tolist()}
        if signs == {False}:
            kind = ExtremumKind.MIN if kind is ExtremumKind.MAX else ExtremumKind.MAX
        return self.emitter.add(Extremum(x=x.value, y=y.value, kind=kind), node.name, node.source)

    def _with_constant(
        self, node: RealNode, op: RealAdd | RealMultiply | RealExtremum, x: str, constant: Floats, *, first: bool
    ) -> Form:
        form = self.forms[x]
        if form.chains.shape != node.shape:
            form = self.emission.broadcast(self._read(x, node), node.shape, node)
        chains = form.chains.with_constants(constant, partial(_applied, op, first=first))
        return Form(form.value, chains, form.second)

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
        budget = MAX_EXACT_BITS - max(self.emission.type_of(form).range.width_bits for form in (x, y))
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
        budget = MAX_EXACT_BITS - self.emission.type_of(form).range.width_bits
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

    def _reduce(self, node: RealNode, op: RealReduce) -> Form:
        form = self._read(op.x, node)
        alike = self._alike(form, op.axes)
        if not alike or op.kind is ReduceKind.SUM or not all(kind.pure for kind in form.chains.kinds):
            form = self._same_scale(self._settled(form, node), node, op.axes)
        kind = op.kind
        first = form.chains.index[tuple(0 if a in op.axes else slice(None) for a in range(form.chains.index.ndim))]
        if kind is not ReduceKind.SUM:
            signs = {chain.affine.scale > 0 for chain in form.chains.kinds}
            if len(signs) > 1:
                factors = form.chains.fractions().ravel().tolist()
                value = self.emission.rescaled(form, [ONE if f > 0 else -ONE for f in factors], node)
                chains = Chains.scales(
                    object_fractions([abs(f) for f in factors], form.chains.shape), form.chains.shape
                )
                form = Form(value, chains)
                first = form.chains.index[
                    tuple(0 if a in op.axes else slice(None) for a in range(form.chains.index.ndim))
                ]
            elif signs == {False}:
                kind = ReduceKind.MIN if kind is ReduceKind.MAX else ReduceKind.MAX
        value = self.emitter.add(Reduce(x=form.value, axes=op.axes, kind=kind), node.name, node.source)
        return Form(value, Chains(form.chains.kinds, np.asarray(first)))

    def _alike(self, form: Form, axes: tuple[int, ...]) -> bool:
        """Whether elements along the axes have the same chain."""
        index = form.chains.index
        first = index[tuple(slice(0, 1) if a in axes else slice(None) for a in range(index.ndim))]
        return bool((index == first).all())

    def _settled(self, form: Form, node: RealNode) -> Form:
        """Return a form that only multiplies; a function that no quantizer follows gets a table of its own."""
        if any(kind.calls for kind in form.chains.kinds):
            form = self._float_functions(form, node)
        return self.emission.settled(form, node)

    # Matrices

    def _linear(self, node: RealNode, op: RealLinear) -> Form:
        told = len(self.emission.notes)
        form = self._operand(self._read(op.x, node), op.x, node)
        exactness = Exactness.APPROXIMATE if len(self.emission.notes) > told else Exactness.EXACT
        record = LayerRecord(source=node.source, kind="linear", real=node.name, exactness=exactness)
        self.records.append(record)
        weights = integer_weights(op)
        if weights is None:
            return self._float_linear(node, op, form, record)
        form, codes, steps = self._one_scale(node, op, form, weights.codes, weights.steps)
        kind = self.emission.type_of(form)
        rows = form.chains.fractions()[..., 0]
        biases = self._biases(op, rows, steps, kind.range.max_frac)
        linear = Linear(
            x=form.value,
            weight=IntArray.of(codes),
            bias=IntArray.of(object_array(biases.codes, op.bias.shape)),
            weight_frac=weights.frac,
        )
        value = self.emitter.add(linear, node.name, node.source)
        scales = np.asarray(rows[..., np.newaxis] * steps, dtype=object)
        chains = Chains.scales(scales, node.shape)
        if biases.rest is not None:
            rest = np.broadcast_to(biases.rest, node.shape).ravel().tolist()
            chains = Chains.of(
                (Chain(_shifted(chain.affine, left)) for chain, left in zip(chains.each(), rest, strict=True)),
                node.shape,
            )
        record.accumulator = value
        record.value, record.scale = self._comparable(Form(value, Chains.scales(scales, node.shape)))
        if biases.rest is not None:
            record.offset = FloatArray.of(np.array([float(v) for v in biases.rest.ravel()]).reshape(biases.rest.shape))
        low, high = IntArray.of(codes).bounds()
        record.weight_bits, record.weight_frac = max(2, width_bits(min(low, -1), high)), weights.frac
        record.weights = codes.size
        return Form(value, chains)

    def _operand(self, form: Form, name: str, node: RealNode) -> Form:
        """Return the operand of a matrix: only scales pending, of moderate width.

        Where no quantizer made the operand and its exact form would be too wide, it gets one, which is told.
        """
        if not any(kind.calls for kind in form.chains.kinds):
            kind = self.emission.type_of(form)
            lo, hi = aligned_bounds(kind, kind.range.max_frac)
            width = width_bits(int(lo.min()), int(hi.max()))
            if width <= MAX_OPERAND_BITS and self.emission.settles(form):
                return self._settled(form, node)
            if form.chains.pure and width <= MAX_OPERAND_BITS:
                return form
        values = self.reference[name]
        out = choose_range(
            values,
            INPUT_BITS,
            signed=bool(values.min() < 0),
            method=Calibration.MAX,
            percentile=self.options.percentile,
        )
        quantizer = RealQuantize(
            x=name,
            scale=FloatArray.of(2.0**-out.max_frac),
            lo=IntArray.of(np.array(out.lowest)),
            hi=IntArray.of(np.array(out.highest)),
            rounding=Rounding.RND,
            overflow=Overflow.SAT,
        )
        self._approximate(node, node.source)
        self.emission.note(f"{node.source}: its input, which no quantizer made, is rounded to {out.describe()}")
        inner = replace(node, name=f"{node.name}.in", shape=form.chains.shape)
        return self.emission.close(form, inner, quantizer)

    def _one_scale(
        self, node: RealNode, op: RealLinear, form: Form, codes: npt.NDArray[np.object_], steps: npt.NDArray[np.object_]
    ) -> tuple[Form, npt.NDArray[np.object_], npt.NDArray[np.object_]]:
        """Give the elements that a matrix sums one scale: moved in exponent, or taken up by the weights."""
        factors = form.chains.fractions()
        rows = factors.reshape(-1, factors.shape[-1])
        ratios = {tuple((row / row[0]).tolist()) for row in rows} if len(form.chains.kinds) > 1 else {(ONE,)}
        if all(power_of_two(r) is not None for row in ratios for r in row):
            return self._same_scale(form, node, (factors.ndim - 1,)), codes, steps
        if len(ratios) > 1:
            return self._same_scale(form, node, (factors.ndim - 1,)), codes, steps
        row = rows[0]
        largest = max(abs(factor) for factor in row)
        numbers = [factor / largest for factor in row]
        common = math.lcm(*(number.denominator for number in set(numbers)))
        widest = max(abs(int(v)) for v in codes.ravel()).bit_length()
        if common.bit_length() + widest > WEIGHT_BITS:
            common = 1 << max(4, WEIGHT_BITS - widest)
            self.emission.note(
                f"{node.source}: scales of the inputs are taken up by weights of {WEIGHT_BITS} bits, "
                f"each within {1 / common:.1e} of the largest"
            )
        taken = np.array([nearest(number * common) for number in numbers], dtype=object)
        scale = np.asarray(factors[..., :1] / row[0], dtype=object) * largest / common
        chains = Chains.scales(scale, form.chains.shape)
        return Form(form.value, chains), np.asarray(codes * taken[:, np.newaxis], dtype=object), steps

    def _biases(
        self, op: RealLinear, rows: npt.NDArray[np.object_], steps: npt.NDArray[np.object_], frac: int
    ) -> _Biases:
        """Return bias codes in steps of the result, and what is left of the biases, per element, if anything.

        A bias within float32 rounding of a whole number of steps that are no power of two counts as that number.
        """
        unit = rows.ravel()[0]
        same = all(row == unit for row in rows.ravel().tolist())
        codes, rest, left = [], [], False
        grid = Fraction(2) ** (frac + self._weight_frac(op))
        for bias, step in zip(op.bias.array.tolist(), steps.tolist(), strict=True):
            exact = Fraction(bias) / (unit * step) * grid
            code = nearest(exact)
            tolerance = abs(exact) / 2**22 if power_of_two(unit * step) is None else ZERO
            if not same:
                code = 0
            if abs(exact - code) <= tolerance and same:
                rest.append(ZERO)
            else:
                left = True
                rest.append(Fraction(bias) - code * unit * step / grid)
            codes.append(code)
        return _Biases(codes, object_fractions(rest, (len(rest),)) if left else None)

    def _weight_frac(self, op: RealLinear) -> int:
        weights = integer_weights(op)
        return 0 if weights is None else weights.frac

    def _float_linear(self, node: RealNode, op: RealLinear, form: Form, record: LayerRecord) -> Form:
        """Round the weights of a layer that its framework did not quantize, as in quantization after training."""
        settings = self._settings(node)
        x = self._numbers(form, node)
        moments = gather(self.emitter, self.reference, x, node.name, op, corrected=False)
        weight = round_weights(
            op.weight.array, moments.gram, settings.weight_bits, settings.weight_frac, settings.calibration
        )
        kind = self.emitter.type_of(x)
        frac = kind.range.max_frac + weight.frac
        bias = [nearest(Fraction(float(v)) * Fraction(2) ** frac) for v in op.bias.array]
        linear = Linear(
            x=x,
            weight=IntArray.of(weight.codes),
            bias=IntArray.of(object_array(bias, op.bias.shape)),
            weight_frac=weight.frac,
        )
        value = self.emitter.add(linear, node.name, node.source)
        record.weight_bits, record.weight_frac = settings.weight_bits, weight.frac
        record.weights, record.weights_saturated = weight.codes.size, weight.saturated
        record.accumulator = record.value = value
        record.exactness = Exactness.APPROXIMATE
        record.note = f"float weights, rounded to {settings.weight_bits} bits"
        self._approximate(node, node.source)
        return Form(value, Chains.uniform(node.shape))

    def _settings(self, node: RealNode) -> Settings:
        return self.options.layer(node.source)

    # Quantizers and functions

    def _quantize(self, node: RealNode, op: RealQuantize) -> Form:
        form = self.forms[op.x]
        if node.name in self.done:
            return form
        closed = None if form.second is None else self.emission.close_pair(form, form.second, node, op)
        if op.x in self.extrema:
            closed = self._closed_extremum(node, op, self.extrema[op.x])
        if closed is None:
            form = self._read(op.x, node)
            closed = self.emission.close(form, node, op)
        record = LayerRecord(source=node.source, kind="quantizer", real=node.name, exactness=Exactness.EXACT)
        record.value, record.scale = self._comparable(closed)
        if any(chain.calls for chain in form.chains.kinds):
            record.kind = form.chains.kinds[0].calls[0].kind.value if form.chains.kinds[0].calls else "function"
            tables = [n for n in self.emitter.builder.nodes if n.source == node.source and n.name == closed.value]
            record.table_entries = sum(len(n.op.table.ints()) for n in tables if hasattr(n.op, "table"))
        elif isinstance(self.emitter.nodes[closed.value].op, Requantize):
            record.requantize.append(closed.value)
        self.records.append(record)
        return closed

    def _function(self, node: RealNode, op: RealFunction) -> Form:
        form = self._read(op.x, node)
        call = Call(op.kind, op.parameters)
        return Form(form.value, form.chains.every(lambda chain: Chain(chain.affine, (*chain.calls, call))))

    def _float_functions(self, form: Form, node: RealNode) -> Form:
        """Give a function that no quantizer follows a table as in quantization after training."""
        kinds = form.chains.kinds
        if len(kinds) > 1:
            raise AssertionError(f"{node.name}: functions that differ between elements need a quantizer behind them")
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

    def _softmax(self, node: RealNode, op: RealSoftmax) -> Form:
        settings = self._settings(node)
        bits = self.options.output_bits if not self.graph.uses[node.name] else settings.activation_bits + 2
        result = lower_softmax(
            self.emitter,
            self._numbers(self._read(op.x, node), node),
            op.axis,
            name=node.name,
            source=node.source,
            bits=bits,
            table_bits=self.options.table_bits,
        )
        record = LayerRecord(source=node.source, kind="softmax", real=node.name, exactness=Exactness.APPROXIMATE)
        record.value, record.table_entries = result.value, result.table_entries
        record.note = f"a softmax of floats, in tables of {result.table_entries} entries"
        self.records.append(record)
        self._approximate(node, node.source)
        return Form(result.value, Chains.uniform(node.shape))

    # Outputs

    def _output(self, name: str, value: str) -> None:
        node = self.graph.by_name[value]
        before = len(self.emission.notes)
        form = self._settled(self._read(value, node), node)
        shown = self.emission.plain(form, node, max_bits=MAX_OUTPUT_BITS)
        inexact = value in self.inexact
        if shown is None:
            shown = self._rounded(form, node, self.options.output_bits)
        width = self.emitter.type_of(shown).range.width_bits
        if width > (self.options.output_bits if inexact else MAX_OUTPUT_BITS):
            shown = self._narrow(shown, node)
        told = self.emission.notes[before:]
        record = LayerRecord(source=node.source, kind="output", real=value, value=shown, exactness=Exactness.EXACT)
        if told:
            record.exactness, record.note = Exactness.REQUANTIZED, "; ".join(told)
            self.records.append(record)
        elif value not in self.constants and not inexact:
            self.forms[value] = Form(shown, Chains.uniform(node.shape))
        self.emitter.builder.output(name, shown)

    def _narrow(self, value: str, node: RealNode) -> str:
        """Round an output to `output_bits`, within twice what calibration saw and what it can reach."""
        bits, codes = self.options.output_bits, self.emitter.type_of(value).range
        low, high = (float(bound) for bound in codes.value_bounds())
        values = self.emitter.real(value)
        lo, hi = max(low, min(0.0, 2 * float(values.min()))), min(high, max(0.0, 2 * float(values.max())))
        frac = min(covering_frac(lo, hi, bits, signed=codes.signed), codes.max_frac)
        out = Range.fixed(bits, frac, signed=codes.signed)
        op = Requantize(x=value, out=out, rounding=Rounding.RND, overflow=Overflow.SAT)
        self.emission.note(f"{node.source}: an output of {codes.width_bits} bits is rounded to 2**{-frac}, {bits} bits")
        return self.emitter.add(op, f"{node.name}.out", node.source)


@dataclass(frozen=True, slots=True)
class _Biases:
    codes: list[int]
    rest: npt.NDArray[np.object_] | None


def _applied(op: RealAdd | RealMultiply | RealExtremum, affine: Affine, constant: Fraction, *, first: bool) -> Affine:
    """Return what follows from an op with a constant; `first` says that the variable is the first operand."""
    match op:
        case RealMultiply():
            return affine.times(constant)
        case RealExtremum():
            return affine.bounded(op.kind, constant)
        case RealAdd():
            if op.subtract:
                return affine.plus(-constant) if first else affine.times(-ONE).plus(constant)
            return affine.plus(constant)
        case _:
            assert_never(op)


def _shifted(affine: Affine, summand: Fraction) -> Affine:
    return affine.plus(summand)


def _followed(first: Chain, then: Chain) -> Chain:
    """Return a chain that multiplies, then does another."""
    affine = then.affine
    return Chain(Affine(first.affine.scale * affine.scale, affine.offset, affine.low, affine.high), then.calls)


def _product(x: Chain, y: Chain) -> Chain:
    return Chain(Affine(x.affine.scale * y.affine.scale))


def _one_sign(factors: list[Fraction]) -> bool:
    return len({factor > 0 for factor in factors}) == 1


def _compact_floats(values: Floats) -> Floats:
    """Drop axes along which an array does not change: they broadcast."""
    while values.ndim and (values == values[:1]).all():
        values = values[0]
    for axis in range(values.ndim):
        first = values.take([0], axis=axis)
        if (values == first).all():
            values = first
    return values
