"""The forms of all values so far, and what an op reads of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction

from metronn.ir.arrays import IntArray, object_array
from metronn.ir.ops import Constant
from metronn.ir.types import width_bits
from metronn.model.graph import Floats, RealGraph, RealNode
from metronn.quantize.calibrated.fixed import round_constant
from metronn.quantize.exact.chains import Chains, fraction_bits
from metronn.quantize.exact.forms import EXACT, Form, Reason, Reasons, Second, together
from metronn.quantize.exact.records import Records
from metronn.quantize.exact.scales import Scales
from metronn.quantize.widths import FLOAT32_BITS, MAX_ALIGNED_BITS


@dataclass(frozen=True, slots=True)
class Operands:
    """Forms by the name of the real value, and sums in them that had to be rounded for a reader."""

    graph: RealGraph
    constants: Mapping[str, Floats]
    scales: Scales
    records: Records
    forms: dict[str, Form] = field(default_factory=dict)
    sums: dict[str, Form] = field(default_factory=dict)

    def read(self, name: str, node: RealNode) -> Form:
        """Return the form of an operand, a sum in it made; a constant becomes one."""
        if name not in self.constants:
            form = self.forms[name]
            return form if form.second is None else self._sum(name, form, form.second)
        return self._constant(name, node)

    def _constant(self, name: str, node: RealNode) -> Form:
        """Return a constant with all its bits, or rounded where these are too many."""
        values, source = self.constants[name], self.graph.by_name[name].source
        exact = [Fraction(float(v)) for v in values.ravel()]
        frac = max((bits for v in exact if v and (bits := fraction_bits(v)) is not None), default=0)
        codes = [int(v * Fraction(2) ** frac) for v in exact]
        inexact = EXACT
        if width_bits(min(*codes, 0), max(*codes, 0)) > MAX_ALIGNED_BITS:
            rounded = round_constant(values, FLOAT32_BITS)
            inexact = (Reason(node.name, source, f"constants are rounded to {FLOAT32_BITS} bits"),)
            codes, frac = [int(v) for v in rounded.codes.ravel()], rounded.frac
        op = Constant(values=IntArray.of(object_array(codes, values.shape)), frac=frac)
        return Form(self.scales.emission.emitter.add(op, name, source), Chains.uniform(values.shape), inexact)

    def _sum(self, name: str, form: Form, second: Second) -> Form:
        """Return a value whose sum was left to quantizers for what is none.

        An exact one serves all that read it from now on. Where it had to be rounded, a quantizer still closes the sum.
        """
        if name not in self.sums:
            node = self.graph.by_name[name]
            made = self.scales.summed(form, second, node)
            if made.own(form.inexact):
                self.records.tell(node, made, form.inexact)
            else:
                self.forms[name] = made
            self.sums[name] = made
        return self.sums[name]

    def inherited(self, names: Iterable[str], result: Form) -> Reasons:
        """Return why operands are not exact; the result, which has to say so too, is checked."""
        read = [name for name in names if name in self.forms]
        unsaid = set(together(*(self.forms[name].inexact for name in read))) - set(result.inexact)
        if unsaid:
            raise AssertionError(f"{result.value}: its operands are not exact, and it does not say so: {unsaid}")
        made = [self.sums[name].inexact for name in read if name in self.sums]
        return together(*(self.forms[name].inexact for name in read), *made)
