"""A quantized network to integers, exactly: the grids of its framework are kept, real arithmetic is done in integers.

Every value is a `Form`: codes in the integer graph and a chain of what is still to be done to each element. Chains end
at the quantizers of the framework (`exact_close`). What stands on no grid (float inputs, unquantized layers, a softmax
at the end) is lowered as in quantization after training, and told.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import assert_never

import numpy as np

from metronn.ir.ops import (
    Extremum,
    Input,
    Overflow,
    Padding,
    Requantize,
    Rewire,
    Rounding,
    Window,
)
from metronn.ir.types import Range
from metronn.ir.windows import window_index
from metronn.model.graph import (
    FloatArray,
    RealAdd,
    RealConstant,
    RealExtremum,
    RealFunction,
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
from metronn.quantize.exact_chain import ONE, Affine, Call, Chain, Chains
from metronn.quantize.exact_form import EXACT, Form, Reason, Reasons, together
from metronn.quantize.exact_input import MAX_JOINT_BITS, Absorbed, absorbed, beside_floats, readers_of
from metronn.quantize.exact_matrix import ExactMatrices
from metronn.quantize.exact_regions import Region, inner_names, regions
from metronn.quantize.exact_state import compact_floats, noted
from metronn.quantize.exact_tables import close_region
from metronn.quantize.exact_values import ExactValue
from metronn.quantize.fixed import covering_frac, exact_grid
from metronn.quantize.formats import covering_input
from metronn.quantize.inputs import INPUT_BITS, index_range, input_range
from metronn.quantize.records import Exactness, LayerRecord
from metronn.quantize.softmax import lower_softmax
from metronn.quantize.structure import constants_of

MAX_OUTPUT_BITS = 32
"""Widest output that is shown with all its bits."""
MAX_COMPARED_BITS = 52
"""Wider values are exact too, but float64, in which the trained network is computed, does not hold them."""
MOST_FORMATS = 3
"""Formats of quantizers that a message names."""
REMEDIES: Mapping[str, str] = {
    "input": "a quantizer on the input, or [quantize] inputs, gives another format",
    "linear": "quantized weights and activations in the framework, or [quantize] weight_bits, activation_bits and "
    "operand_bits, give others",
    "softmax": "[quantize] table_bits makes its tables finer",
    "output": "a quantizer on the output, or [quantize] output_bits, gives another format",
}
"""What changes the formats that were chosen for a kind of layer."""
OTHER_REMEDY = "scales that are powers of two in the framework, or a quantizer behind, make it exact"


@dataclass(slots=True, kw_only=True)
class ExactLowering(ExactMatrices):
    """State of one run: the quantized network, its values on the calibration events, the integer graph so far."""

    @property
    def events(self) -> int:
        """Return the number of calibration events."""
        return len(self.reference[self.graph.inputs[0].name])

    def run(self) -> None:
        """Lower every node and declare the outputs."""
        self.constants = constants_of(self.graph, self.reference)
        self.regions = regions(self.graph, self.constants)
        inner = inner_names(self.graph, self.regions)
        for node in self.graph.nodes:
            if node.name in self.constants:
                continue
            if node.name in inner:
                continue
            form = self.forms[node.name] = self._lower(node)
            self._told(node, form, self._inherited(node, form))
        for name, value in self.graph.outputs:
            self._output(name, value)

    def _inherited(self, node: RealNode, form: Form) -> Reasons:
        """Return why the operands of a node are not exact, all of which its result has to say as well."""
        region = self.regions.get(node.name)
        names = real_operands(node.op) if region is None else [source.name for source in region.sources]
        read = [form for x in names for form in (self.forms.get(x), self.sums.get(x)) if form is not None]
        inherited = together(*(form.inexact for form in read))
        if not set(together(*(self.forms[x].inexact for x in names if x in self.forms))) <= set(form.inexact):
            raise AssertionError(f"{node.name}: its operands are not exact, and it does not say so")
        return inherited

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each kind of layer that is not the framework's: the layers, what was assumed, what helps."""
        layers: dict[str, tuple[str, dict[str, None]]] = {}
        for record in self.records:
            if record.exactness not in (None, Exactness.EXACT):
                remedy = REMEDIES.get(record.kind, OTHER_REMEDY)
                notes = layers.setdefault(record.source, (remedy, {}))[1]
                notes.update(dict.fromkeys(record.note.split("; ")))
        lines: dict[str, list[str]] = {}
        for source, (remedy, notes) in layers.items():
            lines.setdefault(remedy, []).append(f"{source} ({'; '.join(filter(None, notes))})")
        return tuple(f"not exact: {', '.join(found)}; {remedy}" for remedy, found in lines.items())

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
                or not form.exact
                or node.name in self.extrema
                or node.name in ahead
                or form.second is not None
                or not form.chains.pure
                or self.emission.type_of(form).range.width_bits > MAX_COMPARED_BITS
            ):
                continue
            if node.name in tensors or node.name in quantizers or any(v == node.name for _, v in self.graph.outputs):
                scale = compact_floats(form.chains.scale_array)
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
        """Return inputs, and movements of them, that are floats in the framework and codes of a quantizer here."""
        ahead: set[str] = set(self.shared_inputs)
        for node in self.graph.nodes:
            if isinstance(node.op, RealRewire) and all(x in ahead for x in node.op.xs):
                ahead.add(node.name)
        for node in reversed(self.graph.nodes):
            if isinstance(node.op, RealInput | RealRewire):
                users = self.graph.uses[node.name]
                if users and all(user in self.done or user in ahead for user in users):
                    ahead.add(node.name)
        return ahead

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
        record = LayerRecord(source=node.source, kind="input", real=node.name, value=name, exactness=Exactness.EXACT)
        record.scale = FloatArray.of(compact_floats(form.chains.scale_array))
        self._tell_input(record, node, found, floats=floats)
        self.records.append(record)
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
                f"rounded to {shown}: no input of {MAX_JOINT_BITS} bits serves all that read it, quantizers to "
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

    def _rewire(self, node: RealNode, op: RealRewire) -> Form:
        forms = [self._read(x, node) for x in op.xs]
        if (op.index.array < 0).any():
            forms = [self._zero_kept(form, node) for form in forms]
        index = op.index.array.reshape(op.shape).astype(np.int64)
        value = self.emitter.add(
            Rewire(xs=tuple(form.value for form in forms), index=op.index, shape=op.shape), node.name, node.source
        )
        chains = Chains.joined([form.chains for form in forms]).moved(index)
        return Form(value, chains, together(*(form.inexact for form in forms)))

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
                shape = form.chains.shape
                value = self.emission.rescaled(form, [-ONE] * math.prod(shape), node)
                form = replace(form, value=value, chains=Chains.uniform(shape, Chain(Affine(-scale))))
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
        value = self.emitter.add(window, node.name, node.source)
        return replace(form, value=value, chains=form.chains.moved(index))

    def _closed_extremum(self, node: RealNode, op: RealQuantize, parts: tuple[RealExtremum, Form, Form]) -> Form:
        """Quantize both operands of an extremum and take that of the codes."""
        extremum, x, y = parts
        first, second = (
            self.emission.close(self.emission.broadcast(form, node.shape, node), node, op) for form in (x, y)
        )
        value = self.emitter.add(Extremum(x=first.value, y=second.value, kind=extremum.kind), node.name, node.source)
        return Form(value, first.chains, together(first.inexact, second.inexact))

    def _quantize(self, node: RealNode, op: RealQuantize) -> Form:
        if node.name in self.regions:
            return self._region(node, self.regions[node.name])
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

    def _region(self, node: RealNode, region: Region) -> Form:
        closed, entries = close_region(self.emission, self.forms, self.constants, region)
        record = LayerRecord(source=node.source, kind="tables", real=node.name, exactness=Exactness.EXACT)
        record.value, record.scale = self._comparable(closed)
        record.table_entries = entries
        self.records.append(record)
        return closed

    def _function(self, node: RealNode, op: RealFunction) -> Form:
        form = self._read(op.x, node)
        call = Call(op.kind, op.parameters)
        return replace(form, chains=form.chains.every(lambda chain: Chain(chain.affine, (*chain.calls, call))))

    def _softmax(self, node: RealNode, op: RealSoftmax) -> Form:
        settings = self._settings(node)
        bits = self.options.output_bits if not self.graph.uses[node.name] else settings.activation_bits + 2
        numbers = self._numbers(self._read(op.x, node), node)
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
        record = LayerRecord(source=node.source, kind="softmax", real=node.name, exactness=Exactness.APPROXIMATE)
        record.value, record.table_entries = result.value, result.table_entries
        self.records.append(record)
        reason = Reason.at(node, f"a softmax of floats, in tables of {result.table_entries} entries")
        return Form(result.value, Chains.uniform(node.shape), together((reason,), numbers.inexact))

    def _output(self, name: str, value: str) -> None:
        node = self.graph.by_name[value]
        form = self._read(value, node)
        inherited = EXACT if value in self.constants else form.inexact
        form = self._settled(form, node)
        shown = self.emission.plain(form, node, max_bits=MAX_OUTPUT_BITS)
        if shown is None:
            shown = self._rounded(form, node, self.options.output_bits)
        width = self.emission.type_of(shown).range.width_bits
        if width > (self.options.output_bits if inherited else MAX_OUTPUT_BITS):
            shown = self._narrow(shown, node)
        own = shown.own(inherited)
        record = LayerRecord(source=node.source, kind="output", real=value, value=shown.value)
        if own:
            record.exactness = Exactness.APPROXIMATE if inherited else Exactness.REQUANTIZED
            record.note = noted(own, node.source)
            self.records.append(record)
        elif shown.exact and value not in self.constants:
            self.forms[value] = shown
        self.emitter.builder.output(name, shown.value)

    def _narrow(self, form: Form, node: RealNode) -> Form:
        """Round an output to `output_bits`, within twice what calibration saw and what it can reach."""
        bits, codes = self.options.output_bits, self.emission.type_of(form).range
        low, high = (float(bound) for bound in codes.value_bounds())
        values = self.emitter.real(form.value)
        lo, hi = max(low, min(0.0, 2 * float(values.min()))), min(high, max(0.0, 2 * float(values.max())))
        frac = min(covering_frac(lo, hi, bits, signed=codes.signed), codes.max_frac)
        out = Range.fixed(bits, frac, signed=codes.signed)
        op = Requantize(x=form.value, out=out, rounding=Rounding.RND, overflow=Overflow.SAT)
        reason = Reason.at(node, f"an output of {codes.width_bits} bits is rounded to 2**{-frac}, {bits} bits")
        return replace(form, value=self.emitter.add(op, f"{node.name}.out", node.source)).because(reason)
