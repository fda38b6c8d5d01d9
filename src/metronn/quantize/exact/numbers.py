"""Forms to numbers: what only multiplies, and IR values that are the real values themselves."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np

from metronn.ir.arrays import IntArray
from metronn.ir.ops import Overflow, Requantize, Rewire, Rounding
from metronn.ir.types import Range
from metronn.model.graph import RealFunction, RealNode
from metronn.quantize.calibrated.fixed import covering_frac
from metronn.quantize.calibrated.float_ops import float_table
from metronn.quantize.exact.chains import Chain, Chains, nearest
from metronn.quantize.exact.emission import Emission
from metronn.quantize.exact.forms import Form, Reason, together
from metronn.quantize.options import QuantizeOptions
from metronn.quantize.widths import FLOAT32_BITS


@dataclass(frozen=True, slots=True)
class Numbers:
    """Adds what a value needs to be read as numbers; where that is not exact, `options` say how fine it is."""

    emission: Emission
    options: QuantizeOptions

    def settled(self, form: Form, node: RealNode) -> Form:
        """Return a form that only multiplies; a function that no quantizer follows gets a table of its own."""
        if any(kind.calls for kind in form.chains.kinds):
            form = self._float_functions(form, node)
        return self.emission.settled(form, node)

    def made(self, form: Form, node: RealNode) -> Form:
        """Return a form whose IR value is the real value itself, rounded where its scale is no power of two."""
        form = self.settled(form, node)
        return self.emission.plain(form, node) or self.rounded(form, node, self.options.output_bits)

    def rounded(self, form: Form, node: RealNode, bits: int) -> Form:
        """Return the real value in about `bits` bits: multiplied by its scale, of 24 bits, and rounded."""
        kind = self.emission.type_of(form)
        factors = form.chains.fractions().ravel().tolist()
        largest = max(abs(factor) for factor in factors)
        frac = FLOAT32_BITS - math.frexp(float(largest))[1]
        rounded = [Fraction(nearest(factor * Fraction(2) ** frac)) / Fraction(2) ** frac for factor in factors]
        value = self.emission.rescaled(form, rounded, node)
        codes = self.emission.emitter.type_of(value).range
        low, high = (float(bound) for bound in codes.value_bounds())
        wanted = min(covering_frac(low, high, bits, signed=codes.signed), codes.max_frac)
        out = Range.fixed(bits, wanted, signed=codes.signed)
        op = Requantize(x=value, out=out, rounding=Rounding.RND, overflow=Overflow.SAT)
        what = (
            f"a scale that is no power of two is multiplied out and rounded to 2**{-wanted}, "
            f"{kind.range.width_bits} bits to {bits}"
        )
        value = self.emission.emitter.add(op, f"{node.name}.rounded", node.source)
        return replace(form, value=value, chains=Chains.uniform(form.chains.shape)).because(Reason.at(node, what))

    def _float_functions(self, form: Form, node: RealNode) -> Form:
        """Give a function that no quantizer follows a table as in quantization after training."""
        kinds = form.chains.kinds
        if len(kinds) > 1:
            return self._float_functions_apart(form, node)
        chain, shape = kinds[0], form.chains.shape
        numbers = self.made(replace(form, chains=Chains.uniform(shape, Chain(chain.affine))), node)
        for call in chain.calls:
            made = float_table(
                self.emission.emitter,
                numbers.value,
                RealFunction(x="", kind=call.kind, parameters=call.parameters),
                self.options.layer(node.source),
                table_bits=self.options.table_bits,
                bits=self.options.output_bits,
                name=f"{node.name}.{call.kind.value}",
                source=node.source,
            )
            what = (
                f"{call.kind.value} without a quantizer, a table of {made.entries} entries within {made.max_error:.1e}"
            )
            after = Form(made.value, Chains.uniform(shape, Chain(call.then)), numbers.inexact)
            numbers = self.made(after.because(Reason.at(node, what)), node)
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
            part = self.emission.emitter.add(op, f"{node.name}.part", node.source)
            chains = Chains.uniform((len(index),), form.chains.kinds[kind])
            parts.append(self.made(replace(form, value=part, chains=chains), node))
        shape = form.chains.shape
        joined = Rewire(xs=tuple(part.value for part in parts), index=IntArray.of(order.reshape(shape)), shape=shape)
        value = self.emission.emitter.add(joined, f"{node.name}.joined", node.source)
        return Form(value, Chains.uniform(shape), together(*(part.inexact for part in parts)))
