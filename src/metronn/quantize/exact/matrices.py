"""Matrices of quantized layers: whole weights, biases in steps of the result, operands of one scale."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from metronn.ir.arrays import IntArray, object_array
from metronn.ir.infer import aligned_bounds
from metronn.ir.ops import (
    Linear,
    Movement,
    Overflow,
    Rounding,
    operands,
)
from metronn.ir.types import Range, width_bits
from metronn.model.graph import FloatArray, RealGraph, RealInput, RealLinear, RealNode, RealQuantize
from metronn.quantize.calibrated.calibration import RealValues
from metronn.quantize.calibrated.emitter import Emitter
from metronn.quantize.calibrated.fixed import choose_range, round_weights, squared_error
from metronn.quantize.calibrated.formats.moments import gather
from metronn.quantize.exact.chains import ONE, ZERO, Affine, Chain, Chains, nearest, power_of_two
from metronn.quantize.exact.closing import Closing
from metronn.quantize.exact.emission import Emission, object_fractions
from metronn.quantize.exact.forms import Form, Reason, together
from metronn.quantize.exact.operands import Operands
from metronn.quantize.exact.records import Records
from metronn.quantize.exact.scales import Scales
from metronn.quantize.exact.weights import integer_weights
from metronn.quantize.options import Calibration, QuantizeOptions
from metronn.quantize.records import Exactness, LayerRecord
from metronn.quantize.widths import FLOAT32_BITS, INPUT_BITS, MAX_UNROUNDED_BITS

FLOAT_SQNR_DB = 46.0
"""Where a framework quantized weights alone, rounding an activation keeps this; a few layers in a row keep 40 dB."""
FLOAT_BITS = (8, 24)
"""Narrowest and widest such activation."""

MAX_SNAPPED = 1 << 19
"""Larger numbers of steps are not told apart safely by a float32 product."""


@dataclass(frozen=True, slots=True)
class _Biases:
    codes: list[int]
    rest: npt.NDArray[np.object_] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Matrices:
    """Adds the matrices."""

    graph: RealGraph
    options: QuantizeOptions
    reference: RealValues
    operands: Operands
    scales: Scales
    closing: Closing
    records: Records

    @property
    def emission(self) -> Emission:
        """What adds ops."""
        return self.scales.emission

    @property
    def emitter(self) -> Emitter:
        """What the ops are added to."""
        return self.emission.emitter

    def linear(self, node: RealNode, op: RealLinear) -> Form:
        """Return the result of a matrix."""
        read = self.operands.read(op.x, node)
        form = self._operand(read, op.x, node)
        exactness = Exactness.APPROXIMATE if form.own(read.inexact) else Exactness.EXACT
        record = LayerRecord(source=node.source, kind="linear", real=node.name, exactness=exactness)
        self.records.made.append(record)
        weights = integer_weights(op)
        if weights is None:
            return self._float_linear(node, op, form, record)
        form, codes, steps = self._one_scale(node, op, form, weights.codes, weights.steps)
        kind = self.emission.type_of(form)
        rows = form.chains.fractions()[..., 0]
        biases = self._biases(node, op, rows, steps, kind.range.max_frac)
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
        sums = Form(value, Chains.scales(scales, node.shape), form.inexact)
        record.value, record.scale = sums.value, sums.scale
        if biases.rest is not None:
            record.offset = FloatArray.of(np.array([float(v) for v in biases.rest.ravel()]).reshape(biases.rest.shape))
        low, high = IntArray.of(codes).bounds()
        record.weight_bits, record.weight_frac = max(2, width_bits(min(low, -1), high)), weights.frac
        record.weights = codes.size
        return Form(value, chains, form.inexact)

    def _operand(self, form: Form, name: str, node: RealNode) -> Form:
        """Return the operand of a matrix, only scales pending.

        Where no quantizer made the operand and its exact form would be too wide, it gets one, which is a reason.
        """
        limit = max(self.emission.limit, MAX_UNROUNDED_BITS)
        if self._float_activation(name):
            limit = 0
        if not any(kind.calls for kind in form.chains.kinds):
            kind = self.emission.type_of(form)
            lo, hi = aligned_bounds(kind, kind.range.max_frac)
            if width_bits(int(lo.min()), int(hi.max())) <= limit:
                if self.emission.settles(form):
                    return self.scales.numbers.settled(form, node)
                product = self.emission.multiplied(form, node)
                if product is not None:
                    return product
        out, why = self._operand_range(node, name)
        quantizer = RealQuantize(
            x=name,
            scale=FloatArray.of(2.0**-out.max_frac),
            lo=IntArray.of(np.array(out.lowest)),
            hi=IntArray.of(np.array(out.highest)),
            rounding=Rounding.RND,
            overflow=Overflow.SAT,
        )
        what = f"its input, which no quantizer made, is rounded to {out.describe()}{why}"
        inner = replace(node, name=f"{node.name}.in", shape=form.chains.shape)
        return self.closing.close(form.because(Reason.at(node, what)), inner, quantizer)

    def _float_activation(self, name: str) -> bool:
        """Whether a value is computed, in a network whose framework quantized weights and no activation."""
        if any(isinstance(node.op, RealQuantize) for node in self.graph.nodes):
            return False
        node = self.graph.by_name[name]
        while isinstance(node.op, Movement):
            node = self.graph.by_name[operands(node.op)[0]]
        return not isinstance(node.op, RealInput)

    def _operand_range(self, node: RealNode, name: str) -> tuple[Range, str]:
        """Return the format of an operand that no quantizer made, and what led to it.

        Where weights alone were quantized: the width asked for, else as many bits as the error on the calibration
        events needs.
        """
        values = self.reference[name]

        def covering(bits: int) -> Range:
            return choose_range(
                values,
                bits,
                signed=bool(values.min() < 0),
                method=Calibration.MAX,
                percentile=self.options.percentile,
            )

        if self.options.operand_bits is not None or not self._float_activation(name):
            return covering(self.options.operand_bits or INPUT_BITS), ""
        if self._asks_for_activation_bits(node.source):
            return covering(self.options.layer(node.source).activation_bits), ", as [quantize] activation_bits says"
        for bits in range(FLOAT_BITS[0], FLOAT_BITS[1] + 1, 2):
            out = covering(bits)
            noise = squared_error(values, out.max_frac, bits, signed=out.signed)
            power = float(np.square(values).mean())
            if noise == 0 or power >= noise * 10 ** (FLOAT_SQNR_DB / 10):
                break
        ratio = "no error" if noise == 0 else f"{10 * math.log10(power / noise):.0f} dB"
        return out, (
            f", {ratio} on the calibration events: the framework quantized no activations; "
            "[quantize] activation_bits gives another width"
        )

    def _asks_for_activation_bits(self, source: str) -> bool:
        """Whether the options name a width of activations for this layer, or for all."""
        if "activation_bits" in self.options.model_fields_set:
            return True
        layers = self.options.layers.items()
        return any(fnmatchcase(source, pattern) and one.activation_bits is not None for pattern, one in layers)

    def _one_scale(
        self, node: RealNode, op: RealLinear, form: Form, codes: npt.NDArray[np.object_], steps: npt.NDArray[np.object_]
    ) -> tuple[Form, npt.NDArray[np.object_], npt.NDArray[np.object_]]:
        """Give the elements that a matrix sums one scale: moved in exponent, or taken up by the weights."""
        factors = form.chains.fractions()
        rows = factors.reshape(-1, factors.shape[-1])
        ratios = {tuple((row / row[0]).tolist()) for row in rows} if len(form.chains.kinds) > 1 else {(ONE,)}
        if all(power_of_two(r) is not None for row in ratios for r in row):
            return self.scales.same_scale(form, node, (factors.ndim - 1,)), codes, steps
        if len(ratios) > 1:
            product = self.emission.multiplied(form, node)
            return product or self.scales.same_scale(form, node, (factors.ndim - 1,)), codes, steps
        row = rows[0]
        largest = max(abs(factor) for factor in row)
        numbers = [factor / largest for factor in row]
        common = math.lcm(*(number.denominator for number in set(numbers)))
        widest = max(abs(int(v)) for v in codes.ravel()).bit_length()
        if common.bit_length() + widest > FLOAT32_BITS:
            product = self.emission.multiplied(form, node)
            if product is not None:
                return product, codes, steps
            common = 1 << max(4, FLOAT32_BITS - widest)
            what = (
                f"scales of the inputs are taken up by weights of {FLOAT32_BITS} bits, each within {1 / common:.1e} of "
                "the largest"
            )
            form = form.because(Reason.at(node, what))
        taken = np.array([nearest(number * common) for number in numbers], dtype=object)
        scale = np.asarray(factors[..., :1] / row[0], dtype=object) * largest / common
        chains = Chains.scales(scale, form.chains.shape)
        return replace(form, chains=chains), np.asarray(codes * taken[:, np.newaxis], dtype=object), steps

    def _biases(
        self,
        node: RealNode,
        op: RealLinear,
        rows: npt.NDArray[np.object_],
        steps: npt.NDArray[np.object_],
        frac: int,
    ) -> _Biases:
        """Return bias codes in steps of the result, and what is left of the biases, per element, if anything.

        A bias within float32 rounding of a whole number of steps that are no power of two counts as that number, where
        a quantizer follows: the framework had the number and rounded its product with the step.
        """
        snaps = self._always_quantized(node.name)
        unit = rows.ravel()[0]
        same = all(row == unit for row in rows.ravel().tolist())
        codes, rest, left = [], [], False
        grid = Fraction(2) ** (frac + self._weight_frac(op))
        for bias, step in zip(op.bias.array.tolist(), steps.tolist(), strict=True):
            exact = Fraction(bias) / (unit * step) * grid
            code = nearest(exact)
            tolerance = ZERO
            if snaps and abs(code) <= MAX_SNAPPED and power_of_two(unit * step) is None:
                tolerance = abs(exact) / 2**23
            if not same:
                code = 0
            if abs(exact - code) <= tolerance and same:
                rest.append(ZERO)
            else:
                left = True
                rest.append(Fraction(bias) - code * unit * step / grid)
            codes.append(code)
        return _Biases(codes, object_fractions(rest, (len(rest),)) if left else None)

    def _always_quantized(self, name: str) -> bool:
        """Whether every way from a value to an output or a matrix leads through a quantizer."""
        if any(value == name for _, value in self.graph.outputs):
            return False
        for user in map(self.graph.by_name.__getitem__, self.graph.uses[name]):
            if isinstance(user.op, RealLinear):
                return False
            if not isinstance(user.op, RealQuantize) and not self._always_quantized(user.name):
                return False
        return True

    def _weight_frac(self, op: RealLinear) -> int:
        weights = integer_weights(op)
        return 0 if weights is None else weights.frac

    def _float_linear(self, node: RealNode, op: RealLinear, form: Form, record: LayerRecord) -> Form:
        """Round the weights of a layer that its framework did not quantize, as in quantization after training."""
        settings = self.options.layer(node.source)
        numbers = self.scales.numbers.made(form, node)
        reason = Reason.at(node, f"float weights, rounded to {settings.weight_bits} bits")
        x = numbers.value
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
        return Form(value, Chains.uniform(node.shape), together((reason,), numbers.inexact))


def _shifted(affine: Affine, summand: Fraction) -> Affine:
    return affine.plus(summand)
