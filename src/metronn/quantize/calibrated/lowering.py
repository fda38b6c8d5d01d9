"""Real ops to integer ops, in graph order, with calibration events flowing along.

A value has up to two integer forms: `exact`, the result of an op with all its bits, and `settled`, requantized to the
width of activations. Ops with a constant, functions and outputs read the exact form, so that a layer becomes
`Linear, Extremum with constants, Requantize`; everything else reads the settled one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import assert_never

import numpy as np

from metronn.ir.arrays import IntArray
from metronn.ir.ops import (
    Add,
    Extremum,
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
    operands,
)
from metronn.ir.types import Range, TensorType
from metronn.model.graph import (
    Floats,
    RealConstant,
    RealFunction,
    RealGraph,
    RealInput,
    RealLinear,
    RealNode,
    RealQuantize,
    RealSoftmax,
)
from metronn.quantize.calibrated.calibration import RealValues
from metronn.quantize.calibrated.emitter import Emitter
from metronn.quantize.calibrated.fixed import Rounded, codes_at, round_at, round_constant
from metronn.quantize.calibrated.float_ops import float_table
from metronn.quantize.calibrated.formats.channel_widths import check_channels
from metronn.quantize.calibrated.formats.inputs import index_range, input_range
from metronn.quantize.calibrated.formats.matrices import round_matrix
from metronn.quantize.calibrated.formats.moments import gather
from metronn.quantize.calibrated.formats.outputs import output_range
from metronn.quantize.calibrated.formats.per_channel import activation_fracs, covering_fracs, importance
from metronn.quantize.calibrated.functions.softmax import lower_softmax
from metronn.quantize.calibrated.functions.wide import Argument, argument_of
from metronn.quantize.calibrated.structure import constants_of, defers, is_product, precise_values
from metronn.quantize.options import Calibration, QuantizeOptions, Settings
from metronn.quantize.records import Held, LayerRecord
from metronn.quantize.widths import (
    CONSTANT_GUARD_BITS,
    FINE_BITS,
    INPUT_BITS,
    INT64_BITS,
    MAX_KEPT_BITS,
    NARROW_PORT_BITS,
)


@dataclass(slots=True, kw_only=True)
class Lowering:
    """State of one run: the float network, its values on the calibration events, the integer graph so far.

    By the name of a real value: `constants`, `exact` and `settled` forms, those `shown` by outputs, and `sums`, the
    results of matrices.
    """

    graph: RealGraph
    options: QuantizeOptions
    reference: RealValues
    encode_input: Callable[[RealNode, Range], None]
    emitter: Emitter
    constants: dict[str, Floats] = field(default_factory=dict)
    precise: frozenset[str] = frozenset()
    fine: dict[str, str] = field(default_factory=dict)
    exact: dict[str, str] = field(default_factory=dict)
    settled: dict[str, str] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)
    sums: dict[str, str] = field(default_factory=dict)
    records: list[LayerRecord] = field(default_factory=list)
    record_of: dict[str, LayerRecord] = field(default_factory=dict)

    @property
    def events(self) -> int:
        """Return the number of calibration events."""
        return len(self.reference[self.graph.inputs[0].name])

    @property
    def held(self) -> tuple[Held, ...]:
        """The values of the network that are no constants, each with the integers that stand for it."""
        forms = (self.shown, self.settled, self.exact)
        found = {
            node.name: dict.fromkeys(form[node.name] for form in forms if node.name in form)
            for node in self.graph.nodes
            if node.name not in self.constants
        }
        return tuple(Held(real=name, values=tuple(values)) for name, values in found.items())

    def run(self) -> None:
        """Lower every node and declare the outputs."""
        self.constants = constants_of(self.graph, self.reference)
        self.precise = precise_values(self.graph, self.reference)
        for node in self.graph.nodes:
            if node.name not in self.constants:
                self._lower(node)
        for name, value in self.graph.outputs:
            self._output(name, value)

    def _lower(self, node: RealNode) -> None:
        op, emit = node.op, self.emitter.add
        match op:
            case RealConstant():
                raise AssertionError(f"{node.name} is constant")
            case RealInput():
                self._input(node, op)
            case Rewire():
                xs = tuple(self._read(x, node) for x in op.xs)
                self._moved(node, emit(replace(op, xs=xs), node.name, node.source))
            case Window():
                x = self._read(op.x, node)
                if op.padding is Padding.LOWEST:
                    x = self.emitter.one_frac(x, node.name, node.source)
                self._moved(node, emit(replace(op, x=x), node.name, node.source))
            case RealLinear():
                self._linear(node, op)
            case Add() | Extremum():
                x, y = self._pair(op.x, op.y, node)
                self._settle(node, emit(replace(op, x=x, y=y), node.name, node.source))
            case Multiply():
                x, y = self._read(op.x, node), self._read(op.y, node)
                self._settle(node, emit(replace(op, x=x, y=y), node.name, node.source))
            case Reduce():
                x = self._read(op.x, node)
                value = emit(replace(op, x=x), node.name, node.source)
                if op.kind is ReduceKind.SUM:
                    self._settle(node, value)
                else:
                    self._moved(node, value)
            case RealFunction():
                self._function(node, op)
            case RealSoftmax():
                self._softmax(node, op)
            case RealQuantize():
                raise AssertionError(f"{node.name}: quantized networks are lowered exactly")
            case _:
                assert_never(op)

    # Operands

    def form_read(self, name: str, node: RealNode) -> str:
        """Return the integer form of a value, not a constant, that `node` read."""
        return self._read(name, node)

    def _read(self, name: str, node: RealNode, near: str | None = None) -> str:
        """Return the form of operand `name` that `node` reads; a constant is rounded, finely beside `near`."""
        if name not in self.constants:
            if name in self.precise and is_product(self.constants, node.op):
                return self._fine(name)
            return self.exact[name] if self._defers(node, name) else self.settled[name]
        values, source = self.constants[name], self.graph.by_name[name].source
        rounded = round_constant(values, self._settings(source, node.source).weight_bits)
        if near is not None:
            beside = self.emitter.type_of(near).range
            if not values.any():
                coarsest = min(beside.fracs(beside.element_count or 1))
                rounded = Rounded(codes=rounded.codes, frac=min(0, coarsest), saturated=0)
            elif not np.array_equal(rounded.values, values):
                reached = math.frexp(float(np.abs(values).max()))[1] + 1
                rounded = round_at(values, min(beside.max_frac + CONSTANT_GUARD_BITS, MAX_KEPT_BITS - reached))
        return self.emitter.constant(rounded, name, source)

    def _fine(self, name: str) -> str:
        """Return the form of a precise value that a multiplier reads: exact, or as wide as its narrow port."""
        if name not in self.fine:
            node, exact = self.graph.by_name[name], self.exact[name]
            record = self.record_of.get(name)
            settings = self._settings(node.source if record is None else record.source, node.source)
            bits = max(settings.activation_bits, min(NARROW_PORT_BITS, settings.activation_bits + FINE_BITS))
            codes = self.emitter.type_of(exact).range
            kept = exact == self.settled.get(name) and codes.width_bits <= NARROW_PORT_BITS
            if not kept and codes.width_bits > bits:
                wider = replace(settings, activation_bits=bits, activation_frac=None, calibration=Calibration.MAX)
                out = self._activation_range(node, self.emitter.real(exact), codes, wider)
                op = Requantize(x=exact, out=out, rounding=settings.rounding, overflow=Overflow.SAT)
                exact = self.emitter.add(op, f"{name}.fine", node.source)
            self.fine[name] = exact
        return self.fine[name]

    def _pair(self, x: str, y: str, node: RealNode) -> tuple[str, str]:
        """Return both operands of a sum or an extremum; a constant is rounded finely beside the other operand."""
        if x in self.constants:
            second = self._read(y, node)
            first = self._read(x, node, second)
        else:
            first = self._read(x, node)
            second = self._read(y, node, first)
        return self._beside(first, second, node), self._beside(second, first, node)

    def _beside(self, x: str, y: str, node: RealNode) -> str:
        """Return x without the bits that are too fine to count in a sum with y, so that both can be aligned."""
        kind, other = self.emitter.type_of(x), self.emitter.type_of(y)
        fracs = other.range.fracs(other.size)
        reached = max((w - f for w, f in zip(other.element_widths(), fracs, strict=True)), default=0)
        if not other.range.lowest and not other.range.highest:
            return x
        finest = MAX_KEPT_BITS - reached
        if kind.range.max_frac <= finest:
            return x
        kept = Range(
            tuple(lo >> max(0, f - finest) for lo, f in self._bounds(kind, kind.range.los(kind.size))),
            tuple((hi >> max(0, f - finest)) + 1 for hi, f in self._bounds(kind, kind.range.his(kind.size))),
            tuple(min(f, finest) for f in kind.range.fracs(kind.size)),
        )
        op = Requantize(x=x, out=kept, rounding=Rounding.RND, overflow=Overflow.SAT)
        return self.emitter.add(op, f"{node.name}.in", node.source)

    @staticmethod
    def _bounds(kind: TensorType, bounds: tuple[int, ...]) -> Iterator[tuple[int, int]]:
        return zip(bounds, kind.range.fracs(kind.size), strict=True)

    def _settings(self, *sources: str) -> Settings:
        return self.options.layer(*sources)

    # Records

    def _record(self, node: RealNode, kind: str) -> LayerRecord:
        """Return the record of the layer the node finishes: that of the exact value it reads, or a new one."""
        for name in operands(node.op):
            inherits = name in self.record_of and self.exact.get(name) != self.settled.get(name)
            if inherits and not isinstance(node.op, RealFunction | RealSoftmax | RealLinear):
                return self.record_of[name]
        record = LayerRecord(source=node.source, kind=kind)
        self.records.append(record)
        return record

    # Results

    def _keep(self, node: RealNode, value: str) -> None:
        """Take a value as it is, in both forms."""
        self.exact[node.name] = self.settled[node.name] = value

    def _moved(self, node: RealNode, value: str) -> None:
        """Take elements of other values; those that were read exact are requantized for readers that are not."""
        if node.name in self.precise:
            self._settle(node, value)
        else:
            self._keep(node, value)

    def _defers(self, user: RealNode, name: str) -> bool:
        if name in self.precise and is_product(self.constants, user.op):
            return True
        return defers(self.graph, self.constants, self.precise, user, name)

    def _settle(self, node: RealNode, exact: str, kind: str = "elementwise") -> None:
        """Take an exact value and requantize it where a reader needs that and it is not narrow enough already."""
        record = self._record(node, kind)
        self.record_of[node.name] = record
        record.real, record.value = node.name, exact
        self.exact[node.name] = exact
        settings = self._settings(record.source, node.source)
        codes = self.emitter.type_of(exact).range
        users = (self.graph.by_name[user] for user in self.graph.uses[node.name])
        needed = any(not self._defers(user, node.name) for user in users)
        limit = INT64_BITS if node.name in self.precise else MAX_KEPT_BITS
        if codes.width_bits <= settings.activation_bits:
            self.settled[node.name] = exact
        elif needed or codes.width_bits > limit:
            values = self.emitter.real(exact)
            settled = self._requantize(exact, self._activation_range(node, values, codes, settings), node, settings)
            record.requantize.append(settled)
            record.value = self.settled[node.name] = settled
            if codes.width_bits > limit:
                self.exact[node.name] = settled

    def _activation_range(self, node: RealNode, values: Floats, codes: Range, settings: Settings) -> Range:
        bits, signed = settings.activation_bits, codes.signed
        if settings.activation_frac is not None:
            return Range.fixed(bits, settings.activation_frac, signed=signed)
        present = codes.frac_array(node.shape)
        fracs = activation_fracs(
            values,
            bits,
            signed=signed,
            method=Calibration.MAX if settings.overflow is Overflow.WRAP else settings.calibration,
            percentile=self.options.percentile,
            importance=importance(self.graph, self.reference, self.constants, node),
            codes=present.reshape(-1, node.shape[-1]).max(axis=0) if node.shape else present.reshape(1),
        )
        if isinstance(fracs, int):
            return Range.fixed(bits, min(fracs, codes.max_frac), signed=signed)
        least = np.minimum(np.broadcast_to(fracs, node.shape), present)
        return replace(Range.fixed(bits, 0, signed=signed), frac=tuple(int(frac) for frac in least.ravel()))

    def _requantize(self, x: str, out: Range, node: RealNode, settings: Settings) -> str:
        op = Requantize(x=x, out=out, rounding=settings.rounding, overflow=settings.overflow)
        return self.emitter.add(op, f"{node.name}.q", node.source)

    # Inputs and outputs

    def _input(self, node: RealNode, op: RealInput) -> None:
        chosen = index_range(op) or input_range(node.name, node.shape, self.reference[node.name], self.options)
        self.encode_input(node, chosen)
        name = self.emitter.add(Input(shape=node.shape, range=chosen), node.name, node.source)
        if name != node.name:
            raise AssertionError(f"input {node.name} was renamed to {name}")
        record = LayerRecord(source=node.source, kind="input", real=node.name, value=name)
        self.records.append(record)
        self._keep(node, name)

    def _output(self, name: str, value: str) -> None:
        node = self.graph.by_name[value]
        if value in self.constants:
            self.emitter.builder.output(name, self._read(value, node))
            return
        shown = self.exact[value]
        record = self.record_of.get(value)
        if record is not None and self.emitter.type_of(shown).range.width_bits > self.options.output_bits:
            settings = self._settings(record.source, node.source)
            out = output_range(self.emitter.type_of(shown), self.emitter.real(shown), self.options.output_bits)
            op = Requantize(x=shown, out=out, rounding=settings.rounding, overflow=settings.overflow)
            shown = self.emitter.add(op, f"{value}.out", node.source)
            record.requantize.append(shown)
        if record is not None:
            record.real, record.value = value, shown
        self.shown[value] = shown
        self.emitter.builder.output(name, shown)

    def _only_output(self, node: RealNode) -> bool:
        return not self.graph.uses[node.name]

    # Layers

    def _linear(self, node: RealNode, op: RealLinear) -> None:
        settings = self._settings(node.source)
        x = self._operand(self._read(op.x, node), node)
        kind = self.emitter.type_of(x)
        moments = gather(self.emitter, self.reference, x, node.name, op, corrected=settings.bias_correction)
        aim = op.weight.array
        if moments.corrected:
            aim = aim + moments.regression()
        if settings.channel_bits is not None:
            check_channels(node.source, settings.channel_bits, aim.shape[1])
        weight = round_matrix(aim, moments, kind, settings)
        bias = op.bias.array
        if moments.corrected:
            bias = bias + (moments.target - moments.mean @ weight.values - bias)
        fracs = kind.range.frac_array(kind.shape).reshape(-1, len(weight.input_frac))
        finest = int((fracs + weight.input_frac).max())
        linear = Linear(
            x=x,
            weight=IntArray.of(weight.codes),
            bias=IntArray.of(codes_at(bias, finest + weight.weight_frac)),
            weight_frac=tuple(weight.weight_frac.tolist()),
            input_frac=tuple(weight.input_frac.tolist()),
        )
        value = self.emitter.add(linear, node.name, node.source)
        self.sums[node.name] = value
        self._settle(node, value, "linear")
        record = self.record_of[node.name]
        record.weight_bits = max(settings.channel_bits or (settings.weight_bits,))
        record.weight_frac = int(weight.weight_frac.max())
        record.weights, record.weights_saturated = weight.codes.size, weight.saturated
        record.accumulator = value

    def _operand(self, x: str, node: RealNode) -> str:
        """Requantize a matrix operand whose elements, of unlike steps, are wider than a multiplier takes."""
        kind = self.emitter.type_of(x)
        if isinstance(kind.range.frac, int) or kind.range.width_bits <= NARROW_PORT_BITS:
            return x
        rows = self.emitter.real(x).reshape(-1, kind.shape[-1])
        signed = kind.range.signed
        fracs = covering_fracs(rows.min(axis=0), rows.max(axis=0), INPUT_BITS, signed=signed)
        each = tuple(int(frac) for frac in np.broadcast_to(fracs, kind.shape).ravel())
        op = Requantize(
            x=x,
            out=replace(Range.fixed(INPUT_BITS, 0, signed=signed), frac=each),
            rounding=Rounding.RND,
            overflow=Overflow.SAT,
        )
        return self.emitter.add(op, f"{node.name}.in", node.source)

    def _function(self, node: RealNode, op: RealFunction) -> None:
        settings = self._settings(node.source)
        made = float_table(
            self.emitter,
            self._read(op.x, node),
            op,
            settings,
            table_bits=self.options.table_bits,
            bits=self.options.output_bits if self._only_output(node) else settings.activation_bits,
            name=node.name,
            source=node.source,
            argument=self._argument(node, op),
        )
        record = LayerRecord(source=node.source, kind=op.kind.value, real=node.name, value=made.value)
        record.requantize.extend(filter(None, [made.requantize]))
        record.table_entries, record.table_max_error = made.entries, made.max_error
        self.records.append(record)
        self._keep(node, made.value)

    def _argument(self, node: RealNode, op: RealFunction) -> Argument | None:
        """Return what the argument is made of: a table over a wide range may read that instead."""
        if op.x in self.constants:
            return None
        found = argument_of(self.graph, self.constants, node, op)
        return replace(found, value=self.exact[found.value])

    def _softmax(self, node: RealNode, op: RealSoftmax) -> None:
        settings = self._settings(node.source)
        bits = self.options.output_bits if self._only_output(node) else settings.activation_bits + 2
        result = lower_softmax(
            self.emitter,
            self._read(op.x, node),
            op.axis,
            name=node.name,
            source=node.source,
            bits=bits,
            table_bits=self.options.table_bits,
        )
        self._settle(node, result.value, "softmax")
        record = self.record_of[node.name]
        record.requantize.extend(result.requantize)
        record.table_entries = result.table_entries
