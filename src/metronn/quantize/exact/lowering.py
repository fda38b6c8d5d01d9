"""A quantized network to integers, exactly: the grids of its framework are kept, real arithmetic is done in integers.

Every value is a `Form`: codes in the integer graph and a chain of what is still to be done to each element. Chains end
at the quantizers of the framework (`closing_ways`). What stands on no grid (float inputs, unquantized layers, a softmax
at the end) is lowered as in quantization after training, and told.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import assert_never

import numpy as np

from metronn.ir.ops import (
    Add,
    Extremum,
    Input,
    Multiply,
    Overflow,
    Padding,
    Reduce,
    Requantize,
    Rewire,
    Rounding,
    Window,
    operands,
)
from metronn.ir.types import Range
from metronn.ir.windows import window_index
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
from metronn.quantize.calibrated.fixed import exact_grid
from metronn.quantize.calibrated.formats.inputs import index_range, input_range
from metronn.quantize.calibrated.formats.outputs import common_output_range
from metronn.quantize.calibrated.formats.per_channel import covering_input
from metronn.quantize.calibrated.functions.softmax import lower_softmax
from metronn.quantize.calibrated.structure import constants_of
from metronn.quantize.exact.arithmetic import Arithmetic
from metronn.quantize.exact.chains import ONE, Affine, Call, Chain, Chains
from metronn.quantize.exact.closing import Closing
from metronn.quantize.exact.emission import Emission
from metronn.quantize.exact.forms import EXACT, Form, Reason, together
from metronn.quantize.exact.frontier import ahead_of_inputs, frontier, held
from metronn.quantize.exact.inputs import Absorbed, absorbed, beside_floats, readers_of
from metronn.quantize.exact.matrices import Matrices
from metronn.quantize.exact.numbers import Numbers
from metronn.quantize.exact.operands import Operands
from metronn.quantize.exact.records import Records, noted
from metronn.quantize.exact.regions import Region, inner_names, regions
from metronn.quantize.exact.scales import Scales
from metronn.quantize.exact.tables import close_region
from metronn.quantize.exact.values import ExactValue
from metronn.quantize.options import QuantizeOptions
from metronn.quantize.records import Exactness, Held, LayerRecord
from metronn.quantize.widths import INPUT_BITS, MAX_PRODUCT_BITS, MAX_UNROUNDED_BITS

MOST_FORMATS = 3
"""Formats of quantizers that a message names."""


@dataclass(slots=True, kw_only=True)
class ExactLowering:
    """One run: the quantized network, its values on the calibration events, and what makes the integer graph of it.

    `done` are quantizers that the inputs hold, `shared_inputs` inputs of which quantizers read something finer, `shown`
    the forms that outputs show.
    """

    graph: RealGraph
    options: QuantizeOptions
    reference: RealValues
    encode_input: Callable[[Input, str], None]
    emitter: Emitter
    done: set[str] = field(default_factory=set)
    shared_inputs: set[str] = field(default_factory=set)
    shown: dict[str, Form] = field(default_factory=dict)
    constants: Mapping[str, Floats] = field(init=False)
    regions: Mapping[str, Region] = field(init=False)
    reports: Records = field(init=False)
    emission: Emission = field(init=False)
    numbers: Numbers = field(init=False)
    scales: Scales = field(init=False)
    operands: Operands = field(init=False)
    closing: Closing = field(init=False)
    arithmetic: Arithmetic = field(init=False)
    matrices: Matrices = field(init=False)

    def __post_init__(self) -> None:
        """Put the parts together."""
        self.constants = constants_of(self.graph, self.reference)
        self.regions = regions(self.graph, self.constants)
        self.reports = Records()
        self.emission = Emission(self.emitter, limit=self.options.operand_bits or MAX_PRODUCT_BITS)
        self.numbers = Numbers(self.emission, self.options)
        self.scales = Scales(self.numbers)
        self.operands = Operands(self.graph, self.constants, self.scales, self.reports)
        self.closing = Closing(self.emission)
        self.arithmetic = Arithmetic(self.graph, self.operands, self.scales)
        self.matrices = Matrices(
            graph=self.graph,
            options=self.options,
            reference=self.reference,
            operands=self.operands,
            scales=self.scales,
            closing=self.closing,
            records=self.reports,
        )

    @property
    def records(self) -> list[LayerRecord]:
        """What was decided for each layer."""
        return self.reports.made

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each kind of layer that is not the framework's."""
        return self.reports.warnings

    @property
    def forms(self) -> dict[str, Form]:
        """The forms of all values so far, by their real names."""
        return self.operands.forms

    @property
    def events(self) -> int:
        """Return the number of calibration events."""
        return len(self.reference[self.graph.inputs[0].name])

    def run(self) -> None:
        """Lower every node and declare the outputs."""
        inner = inner_names(self.graph, self.regions)
        for node in self.graph.nodes:
            if node.name in self.constants or node.name in inner:
                continue
            form = self.forms[node.name] = self._lower(node)
            region = self.regions.get(node.name)
            read = operands(node.op) if region is None else [source.name for source in region.sources]
            self.reports.tell(node, form, self.operands.inherited(read, form))
        for name, value in self.graph.outputs:
            self._output(name, value)

    @property
    def frontier(self) -> tuple[ExactValue, ...]:
        """The values that the integer graph holds exactly, those nearest to the outputs first."""
        return frontier(
            self.operands, self.arithmetic.extrema, ahead_of_inputs(self.graph, self.done, self.shared_inputs)
        )

    @property
    def held(self) -> tuple[Held, ...]:
        """The values with integers of their own, exact or not."""
        ahead = ahead_of_inputs(self.graph, self.done, self.shared_inputs)
        return held(self.operands, self.shown, {*self.arithmetic.extrema, *ahead})

    def _lower(self, node: RealNode) -> Form:
        op = node.op
        match op:
            case RealConstant():
                raise AssertionError(f"{node.name} is constant")
            case RealInput():
                return self._input(node)
            case Rewire():
                return self._rewire(node, op)
            case Window():
                return self._window(node, op)
            case RealLinear():
                return self.matrices.linear(node, op)
            case Add() | Multiply() | Extremum():
                return self.arithmetic.binary(node, op)
            case Reduce():
                return self.arithmetic.reduce(node, op)
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
        floats = found is None
        if found is None:
            chosen = self._float_input(node)
            # Where quantizers read it too, their exactness is worth more than room for values that were not seen.
            seen = covering_input(node.shape, self.reference[node.name], INPUT_BITS)
            joint = beside_floats(self.graph, node, chosen) or beside_floats(self.graph, node, seen)
            found = joint or Absorbed(Input(shape=node.shape, range=chosen))
        op = found.op
        self.done.update(found.quantizers)
        if op.sticky or (not floats and not found.quantizers):
            self.shared_inputs.add(node.name)
        self.encode_input(op, node.name)
        name = self.emitter.add(op, node.name, node.source)
        if name != node.name:
            raise AssertionError(f"input {node.name} was renamed to {name}")
        steps = np.ones((), dtype=object) if op.step is None else op.step.array.astype(object)
        factors = np.frompyfunc(Fraction, 1, 1)(steps)
        form = Form(name, Chains.scales(np.asarray(factors, dtype=object), node.shape), EXACT)
        self._tell_input(self.reports.record(node, "input", form), node, found, floats=floats)
        return form

    def _tell_input(self, record: LayerRecord, node: RealNode, found: Absorbed, *, floats: bool) -> None:
        """Say how the format of an input came about; it is approximate where readers of floats get rounded ones."""
        if not floats:
            several = "a format from which all quantizers that read it follow exactly"
            record.note = "in the format of the quantizer that reads it" if found.quantizers else f"in {several}"
            return
        readers, shown = readers_of(self.graph, node), found.op.range.describe()
        formats = " and ".join(spec.describe() for spec in readers.kinds[:MOST_FORMATS])
        refused = bool(readers.quantizers) and not found.op.sticky
        if exact_grid(self.reference[node.name], INPUT_BITS) is None or refused:
            record.exactness = Exactness.APPROXIMATE
            record.note = f"rounded to {shown}: no quantizer of the framework says how"
        if refused:
            record.note = (
                f"rounded to {shown}: no input of {MAX_UNROUNDED_BITS} bits serves all that read it, quantizers to "
                f"{formats}{' and layers without one' if any(readers.floats) else ''}; give it one quantizer of its "
                "own, or make scales powers of two"
            )
        elif readers.quantizers:
            wide = f"read by a quantizer to {formats} and by layers without one, {shown} is exact for the quantizer"
            record.note = f"{record.note}; {wide}" if record.note else wide

    def _float_input(self, node: RealNode) -> Range:
        """Return the range of an input of floats, as in quantization after training."""
        indices = index_range(node.op) if isinstance(node.op, RealInput) else None
        return indices or input_range(node.name, node.shape, self.reference[node.name], self.options)

    def _rewire(self, node: RealNode, op: Rewire) -> Form:
        forms = [self.operands.read(x, node) for x in op.xs]
        if (op.index.array < 0).any():
            forms = [self._zero_kept(form, node) for form in forms]
        index = op.index.array.reshape(op.shape).astype(np.int64)
        moved = replace(op, xs=tuple(form.value for form in forms))
        value = self.emitter.add(moved, node.name, node.source)
        chains = Chains.joined([form.chains for form in forms]).moved(index)
        return Form(value, chains, together(*(form.inexact for form in forms)))

    def _zero_kept(self, form: Form, node: RealNode) -> Form:
        """Return a form in which the code 0 stands for 0, as padding needs."""
        if all(kind.keeps_zero for kind in form.chains.kinds):
            return form
        return self.numbers.settled(form, node)

    def _window(self, node: RealNode, op: Window) -> Form:
        form = self.operands.read(op.x, node)
        if op.padding is Padding.LOWEST:
            form = self.scales.one_frac(self.scales.same_scale(self.numbers.settled(form, node), node, None), node)
            scale = form.chains.kinds[0].affine.scale
            if scale < 0:
                shape = form.chains.shape
                value = self.emission.rescaled(form, [-ONE] * math.prod(shape), node)
                form = replace(form, value=value, chains=Chains.uniform(shape, Chain(Affine(-scale))))
        elif any(op.before) or any(op.after):
            form = self._zero_kept(form, node)
        window = replace(op, x=form.value)
        index = window_index(window, form.chains.shape)
        value = self.emitter.add(window, node.name, node.source)
        return replace(form, value=value, chains=form.chains.moved(index))

    def _closed_extremum(self, node: RealNode, op: RealQuantize, parts: tuple[Extremum, Form, Form]) -> Form:
        """Quantize both operands of an extremum and take that of the codes."""
        extremum, x, y = parts
        first, second = (
            self.closing.close(self.emission.broadcast(form, node.shape, node), node, op) for form in (x, y)
        )
        value = self.emitter.add(replace(extremum, x=first.value, y=second.value), node.name, node.source)
        return Form(value, first.chains, together(first.inexact, second.inexact))

    def _quantize(self, node: RealNode, op: RealQuantize) -> Form:
        if node.name in self.regions:
            return self._region(node, self.regions[node.name])
        form = self.forms[op.x]
        if node.name in self.done:
            return form
        closed = None if form.second is None else self.closing.close_pair(form, form.second, node, op)
        if op.x in self.arithmetic.extrema:
            closed = self._closed_extremum(node, op, self.arithmetic.extrema[op.x])
        if closed is None:
            form = self.operands.read(op.x, node)
            closed = self.closing.close(form, node, op)
        record = self.reports.record(node, "quantizer", closed)
        if any(chain.calls for chain in form.chains.kinds):
            record.kind = form.chains.kinds[0].calls[0].kind.value if form.chains.kinds[0].calls else "function"
            tables = [n for n in self.emitter.builder.nodes if n.source == node.source and n.name == closed.value]
            record.table_entries = sum(len(n.op.table.ints()) for n in tables if hasattr(n.op, "table"))
        elif isinstance(self.emitter.nodes[closed.value].op, Requantize):
            record.requantize.append(closed.value)
        return closed

    def _region(self, node: RealNode, region: Region) -> Form:
        closed, entries = close_region(self.closing, self.forms, self.constants, region)
        self.reports.record(node, "tables", closed).table_entries = entries
        return closed

    def _function(self, node: RealNode, op: RealFunction) -> Form:
        form = self.operands.read(op.x, node)
        call = Call(op.kind, op.parameters)
        return replace(form, chains=form.chains.every(lambda chain: Chain(chain.affine, (*chain.calls, call))))

    def _softmax(self, node: RealNode, op: RealSoftmax) -> Form:
        settings = self.options.layer(node.source)
        bits = self.options.output_bits if not self.graph.uses[node.name] else settings.activation_bits + 2
        numbers = self.numbers.made(self.operands.read(op.x, node), node)
        if op.x not in self.constants and not numbers.own(self.forms[op.x].inexact):
            self.forms[op.x] = numbers  # nothing was rounded to make them: comparable
        result = lower_softmax(
            self.emitter,
            numbers.value,
            op.axis,
            name=node.name,
            source=node.source,
            bits=bits,
            table_bits=self.options.table_bits,
        )
        reason = Reason.at(node, f"a softmax of floats, in tables of {result.table_entries} entries")
        form = Form(result.value, Chains.uniform(node.shape), together((reason,), numbers.inexact))
        self.reports.record(node, "softmax", form, Exactness.APPROXIMATE).table_entries = result.table_entries
        return form

    def _output(self, name: str, value: str) -> None:
        node = self.graph.by_name[value]
        form = self.operands.read(value, node)
        inherited = EXACT if value in self.constants else form.inexact
        form = self.numbers.settled(form, node)
        shown = self.emission.plain(form, node, max_bits=MAX_UNROUNDED_BITS)
        if shown is None:
            shown = self.numbers.rounded(form, node, self.options.output_bits)
        width = self.emission.type_of(shown).range.width_bits
        if width > (self.options.output_bits if inherited else MAX_UNROUNDED_BITS):
            shown = self._narrow(shown, node)
        own = shown.own(inherited)
        if own:
            exactness = Exactness.APPROXIMATE if inherited else Exactness.REQUANTIZED
            self.reports.record(node, "output", shown, exactness).note = noted(own, node.source)
        elif shown.exact and value not in self.constants:
            self.forms[value] = shown
        self.shown[value] = shown
        self.emitter.builder.output(name, shown.value)

    def _narrow(self, form: Form, node: RealNode) -> Form:
        """Round an output to `output_bits`, within twice what calibration saw and what it can reach."""
        bits, codes = self.options.output_bits, self.emission.type_of(form).range
        out = common_output_range(codes, self.emitter.real(form.value), bits)
        op = Requantize(x=form.value, out=out, rounding=Rounding.RND, overflow=Overflow.SAT)
        reason = Reason.at(node, f"an output of {codes.width_bits} bits is rounded to 2**{-out.max_frac}, {bits} bits")
        return replace(form, value=self.emitter.add(op, f"{node.name}.out", node.source)).because(reason)
