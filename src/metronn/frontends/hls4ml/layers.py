"""What hls4ml makes of each kind of layer, as real ops and quantizers. `apply.py` tells which source they follow."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import assert_never

import numpy as np

from metronn.frontends.common.builder import LayerProblem
from metronn.frontends.hls4ml.rewriting import Rewriting, Typed
from metronn.frontends.hls4ml.types import (
    Fixed,
    affine_type,
    common_type,
    product_type,
    sum_type,
    times_type,
)
from metronn.ir.ops import (
    Add,
    Extremum,
    ExtremumKind,
    Multiply,
    Overflow,
    Reduce,
    ReduceKind,
    Rewire,
    Rounding,
    Window,
    operands,
)
from metronn.model.graph import Floats, FunctionKind, RealConstant, RealFunction, RealLinear, RealNode, RealSoftmax
from metronn.model.grid import grid_exponent

NO_BIAS = Fixed(width=1, integer=1, signed=False)
TABLE = Fixed(width=18, integer=8)
SOFTMAX_TABLE = Fixed(width=18, integer=8, rounding=Rounding.RND, overflow=Overflow.SAT)
TABLE_SIZE = 1024
REACH = {FunctionKind.SIGMOID: 16, FunctionKind.SOFTPLUS: 16, FunctionKind.TANH: 8}
"""Widths of the input ranges that hls4ml's tables cover, around zero."""
LARGEST_CHAIN = 512
"""Products added one after the other, where an accumulator saturates in between."""


@dataclass(slots=True, kw_only=True)
class Rewriter(Rewriting):
    """One method per kind of layer; they raise LayerProblem."""

    def input(self, node: RealNode) -> None:
        """What the event brings, as the type of the input."""
        self.start(node, node.source, "Input")
        x = self.new.input(node.source, node.shape)
        target = self.precision(node.source, "Input", "result") or self.config.default
        self.end(node, node.source, Typed(self.quantized(x, target, "result"), target))

    def linear(self, node: RealNode, op: RealLinear) -> None:
        """Dense and convolution: products cut to the accumulator's type and added in it, then the result's type."""
        name = node.source
        if name in self.layers:
            raise LayerProblem("two matrices in one layer (a separable convolution, or one hls4ml reads otherwise)")
        window = self.window_before(node, op.x)
        kind = "Dense" if window is None else f"Conv{len(window.kernel)}D"
        self.start(node, name, kind)
        x, weight, bias, last = self.values[op.x], op.weight.array, op.bias.array, node
        result_type = self.precision(name, kind, "result")
        if result_type is None:
            weight, bias, last = self.with_normalization(node, weight, bias)
        weight_type = self.precision(name, kind, "weight") or self.config.default
        bias_type = self.precision(name, kind, "bias") or self.config.default
        inferred = product_type(x.type, weight_type, bias_type, len(weight), self.config.maximum)
        exact = product_type(x.type, weight_type, bias_type, len(weight), None)
        accumulator = self.precision(name, kind, "accum") or inferred
        y = self.summed(x, weight_type.written(weight), bias_type.written(bias), accumulator, exact)
        self.end(last, name, self.cast(y, result_type or inferred, "result"))
        self.values[node.name] = self.values[last.name]

    def window_before(self, node: RealNode, x: str) -> Window | None:
        """Return the sliding window of the same layer that a matrix reads."""
        before = self.model.by_name[x]
        while before.source == node.source and isinstance(before.op, Rewire) and len(before.op.xs) == 1:
            before = self.model.by_name[before.op.xs[0]]
        return before.op if before.source == node.source and isinstance(before.op, Window) else None

    def with_normalization(self, node: RealNode, weight: Floats, bias: Floats) -> tuple[Floats, Floats, RealNode]:
        """Fold a batch normalization right behind into weight and bias, in float32 as hls4ml does."""
        multiply = self.only_reader(node.name)
        found = None if multiply is None else self.normalization(multiply)
        if multiply is None or found is None or multiply.source == node.source:
            return weight, bias, node
        add, scale, shift = found
        scale32, shift32 = (np.broadcast_to(array, bias.shape).astype(np.float32) for array in (scale, shift))
        fused = scale32 * weight.astype(np.float32)
        fused_bias = scale32 * bias.astype(np.float32) + shift32
        self.taken.update((multiply.name, add.name))
        self.sources.append(add.source)
        return fused.astype(np.float64), fused_bias.astype(np.float64), add

    def normalization(self, node: RealNode) -> tuple[RealNode, Floats, Floats] | None:
        """Return the addition that ends a batch normalization, scale and shift; None where none begins."""
        if not isinstance(node.op, Multiply):
            return None
        _, scale = self.split(node.op)
        add = self.only_reader(node.name)
        if scale is None or add is None or add.source != node.source or not isinstance(add.op, Add):
            return None
        _, shift = self.split(add.op)
        return None if shift is None or add.op.subtract else (add, scale, shift)

    def summed(self, x: Typed, weight: Floats, bias: Floats, accumulator: Fixed, exact: Fixed) -> Typed:
        """Add up products in an accumulator that starts with the bias."""
        start = accumulator.converted(bias)
        finest = min(grid_exponent(weight) - x.type.frac, grid_exponent(start))
        reach = max(map(abs, x.type.codes)) * math.ldexp(1.0, -x.type.frac)
        largest = float((np.abs(weight).sum(axis=0) * reach + np.abs(start)).max(initial=0.0))
        low, high = (math.ldexp(code, -accumulator.frac) for code in accumulator.codes)
        overflows = largest > high or -largest < low
        if -finest <= accumulator.frac and (not overflows or accumulator.overflow is Overflow.WRAP):
            y = self.new.linear(x.name, weight, start)
            return Typed(y, exact) if not overflows else Typed(self.quantized(y, accumulator, "accum"), accumulator)
        shape = self.new.shape(x.name)
        column = self.new.reshape(x.name, (*shape, 1))
        products = self.new.times(column, self.new.constant(weight, "weight"))
        cut = self.quantized(products, accumulator, "product")
        first = self.new.constant(start, "bias")
        if not overflows or accumulator.overflow is Overflow.WRAP:
            total = self.new.plus(self.new.reduced(cut, [len(shape) - 1], ReduceKind.SUM, keep=False), first)
            return Typed(self.quantized(total, accumulator, "accum"), accumulator)
        if len(weight) > LARGEST_CHAIN:
            raise LayerProblem(
                f"its accumulator {accumulator} saturates between {len(weight)} products, possible for at most "
                f"{LARGEST_CHAIN}; take a wider accumulator, or AP_WRAP"
            )
        total, index = first, self.new.indices(cut)
        for term in range(len(weight)):
            part = self.new.rewire([cut], index[..., term, :], "term")
            total = self.quantized(self.new.plus(total, part), accumulator, "accum")
        return Typed(total, accumulator)

    def arithmetic(self, node: RealNode, op: Multiply | Add) -> None:
        """Batch normalization, or addition, subtraction and multiplication of two values."""
        variable, values = self.split(op)
        if values is None:
            return self.merged(node, op)
        found = self.normalization(node)
        if found is None:
            raise LayerProblem("a constant added or multiplied that is no batch normalization")
        add, scale, shift = found
        name, x = node.source, self.values[variable]
        self.start(node, name, "BatchNormalization")
        scale_type = self.precision(name, "BatchNormalization", "scale") or self.config.default
        bias_type = self.precision(name, "BatchNormalization", "bias") or self.config.default
        exact = affine_type(x.type, scale_type, bias_type, None)
        result_type = self.precision(name, "BatchNormalization", "result")
        result_type = result_type or affine_type(x.type, scale_type, bias_type, self.config.maximum)
        factors, summands = (array.astype(np.float32).astype(np.float64) for array in (scale, shift))
        y = self.new.times(x.name, self.new.constant(scale_type.written(factors), "scale"))
        y = self.new.plus(y, self.new.constant(bias_type.written(summands), "bias"))
        self.taken.add(node.name)
        return self.end(add, name, self.cast(Typed(y, exact), result_type, "result"))

    def merged(self, node: RealNode, op: Multiply | Add | Extremum) -> None:
        """Two values joined element by element."""
        name = node.source
        x, y = self.values[op.x], self.values[op.y]
        self.start(node, name, "Merge")
        match op:
            case Multiply():
                exact, inferred = (times_type(x.type, y.type, most) for most in (None, self.config.maximum))
                value = self.new.times(x.name, y.name)
            case Add():
                exact, inferred = (
                    sum_type(x.type, y.type, most, subtract=op.subtract) for most in (None, self.config.maximum)
                )
                value = self.new.minus(x.name, y.name) if op.subtract else self.new.plus(x.name, y.name)
            case Extremum():
                exact = inferred = common_type(x.type, y.type)
                join = self.new.maximum if op.kind is ExtremumKind.MAX else self.new.minimum
                value = join(x.name, y.name)
            case _:
                assert_never(op)
        result_type = self.precision(name, "Merge", "result") or inferred
        self.end(node, name, self.cast(Typed(value, exact), result_type, "result"))

    def extremum(self, node: RealNode, op: Extremum) -> None:
        """ReLU, or the larger or smaller of two values."""
        variable, bound = self.split(op)
        if bound is None:
            return self.merged(node, op)
        if op.kind is not ExtremumKind.MAX or bound.any():
            raise LayerProblem("a bound that is not the zero of a ReLU")
        name = self.activation_name(node, "relu")
        self.start(node, name, "Activation")
        x = self.values[variable]
        result_type = self.precision(name, "Activation", "result") or self.config.default
        return self.end(node, name, self.cast(Typed(self.new.relu(x.name), x.type), result_type, "result"))

    def table_size(self, name: str, kind: str) -> int:
        """Return the number of entries of an activation table."""
        return int(self.config.option(name, kind, "table_size", TABLE_SIZE))

    def function(self, node: RealNode, op: RealFunction) -> None:
        """Sigmoid, tanh and softplus: a table over equal steps around zero, the input cut towards zero."""
        if op.kind not in REACH:
            raise LayerProblem(f"the function {op.kind.value}")
        name = self.activation_name(node, op.kind.value)
        self.start(node, name, "Activation")
        size, table = self.table_size(name, "Activation"), self.config.option(name, "Activation", "table_t", TABLE)
        if size % 2:
            raise LayerProblem(f"a table of {size} entries; an even number is needed")
        result_type = self.precision(name, "Activation", "result") or self.config.default
        x = self.values[op.x].name
        step = REACH[op.kind] / size
        index = self.new.quantize(x, step, -(size // 2), size // 2 - 1, Rounding.TRN_ZERO, Overflow.SAT, "index")
        entry = self.quantized(self.new.function(index, op.kind), table, "table")
        self.end(node, name, self.cast(Typed(entry, table), result_type, "result"))

    def softmax(self, node: RealNode, op: RealSoftmax) -> None:
        """Softmax as tables of exp and 1/x, addressed by the highest bits of their inputs."""
        name = self.activation_name(node, "softmax")
        kind = "Softmax"
        self.start(node, name, kind)
        x = self.values[op.x]
        implementation = str(self.config.option(name, kind, "implementation", "stable")).lower()
        if implementation == "argmax":
            raise LayerProblem("softmax as argmax; stable and latency can be had")
        exp_t, inv_t, inp_t = (
            self.config.option(name, kind, key, SOFTMAX_TABLE) for key in ("exp_table_t", "inv_table_t", "inv_inp_t")
        )
        accumulator = self.config.option(name, kind, "accum_t") or self.precision(name, kind, "accum")
        accumulator = accumulator or self.config.default
        size = min(self.table_size(name, kind), 2 ** min(x.type.width, inv_t.width))
        exp_size, exponent = size, x
        if implementation == "stable":
            signed = int(x.type.signed)
            normal = Fixed(width=x.type.width - signed, integer=x.type.integer - signed, signed=False)
            exp_size = min(size, 2**normal.width) if signed else size
            normal = self.config.option(name, kind, "inp_norm_t") or normal
            largest = self.new.reduced(x.name, [op.axis], ReduceKind.MAX, keep=True)
            exponent = Typed(self.quantized(self.new.minus(largest, x.name), normal, "difference"), normal)
        address = self.sliced(exponent, exp_size, "exp_index")
        if implementation == "stable":
            address = self.new.times(address, self.new.constant(-1.0, "minus"))
        entry = self.quantized(self.new.function(address, FunctionKind.EXP), exp_t, "exp_table")
        powers = self.cast(Typed(entry, exp_t), accumulator, "exp").name
        total = self.quantized(self.new.reduced(powers, [op.axis], ReduceKind.SUM, keep=True), accumulator, "accum")
        divisor = self.cast(Typed(total, accumulator), inp_t, "inv_inp")
        inverse = self.new.function(self.sliced(divisor, size, "inv_index"), FunctionKind.RECIPROCAL)
        product = self.new.times(powers, self.quantized(inverse, inv_t, "inv_table"))
        result_type = self.precision(name, kind, "result") or self.config.default
        self.end(node, name, self.cast(Typed(product, times_type(accumulator, inv_t, None)), result_type, "result"))

    def sliced(self, x: Typed, size: int, part: str) -> str:
        """Keep as many of the highest bits as address a table of this size."""
        bits = max(1, math.ceil(math.log2(size)))
        if bits >= x.type.width:
            return x.name
        kept = Fixed(width=bits, integer=x.type.integer, signed=x.type.signed)
        return self.quantized(x.name, kept, part)

    def pooling(self, node: RealNode, op: Reduce) -> None:
        """Maximum and average over windows or whole images."""
        source = self.model.by_name[op.x]
        window = self.window_before(node, op.x)
        rank = len(window.kernel) if window is not None else len(op.axes)
        name = node.source
        kind = f"Pooling{rank}D" if window is not None else f"GlobalPooling{rank}D"
        self.start(node, name, kind)
        x = self.values[op.x]
        result_type = self.precision(name, kind, "result") or x.type
        accumulator = self.precision(name, kind, "accum")
        if op.kind is ReduceKind.MAX:
            y = Typed(self.new.reduced(x.name, op.axes, op.kind, keep=False), x.type)
            return self.end(node, name, self.cast(self.cast(y, accumulator or x.type, "accum"), result_type, "result"))
        count = math.prod(source.shape[axis] for axis in op.axes)
        last, inverse = self.mean_factor(node, count)
        if op.kind is not ReduceKind.SUM or inverse is None:
            raise LayerProblem("a reduction that is neither maximum nor mean")
        extra = math.ceil(math.log2(count)) if count > 1 else 0
        wide = Fixed(width=x.type.width + 2 * extra, integer=x.type.integer + extra, signed=x.type.signed)
        accumulator = accumulator or wide
        if accumulator.rounding is Rounding.RND_CONV and accumulator.frac < x.type.frac:
            raise LayerProblem("an accumulator that rounds to even; AP_TRN and AP_RND can be had")
        if not accumulator.holds(wide) and accumulator.overflow is not Overflow.WRAP:
            raise LayerProblem(f"an accumulator {accumulator} that may saturate between its summands")
        term = self.cast(x, accumulator, "term").name
        total = self.new.reduced(term, op.axes, ReduceKind.SUM, keep=False)
        if not accumulator.holds(wide):
            total = self.quantized(total, accumulator, "accum")
        towards_zero = Fixed(
            width=accumulator.width,
            integer=accumulator.integer,
            signed=accumulator.signed,
            rounding=Rounding.TRN_ZERO,
        )
        mean = self.new.times(total, self.new.constant(inverse, "inverse"))
        y = Typed(self.quantized(mean, towards_zero, "mean"), accumulator)
        self.end(last, name, self.cast(y, result_type, "result"))
        self.values[node.name] = self.values[last.name]
        return self.taken.add(node.name)

    def mean_factor(self, node: RealNode, count: int) -> tuple[RealNode, Floats | None]:
        """Return the node that ends a mean, and 1 / number of summands, never below the real quotient."""
        following = self.only_reader(node.name)
        if following is not None and following.source == node.source and isinstance(following.op, Multiply):
            _, factor = self.split(following.op)
            if factor is not None:
                return following, np.vectorize(_not_below, otypes=[float])(np.rint(1 / factor))
        return node, np.array(1.0) if count == 1 else None

    def move(self, node: RealNode) -> None:
        """Move elements; joined, transposed and repeated ones get the type of the layer's result."""
        self.new.layer = node.source
        if node.source not in self.sources:
            self.sources.append(node.source)
        xs = [self.values[name] for name in operands(node.op)]
        kind = self.kind_of_move(node)
        held = xs[0].type
        for x in xs[1:]:
            held = common_type(held, x.type)
        if isinstance(node.op, Rewire):
            value = self.new.rewire([x.name for x in xs], node.op.index.array.reshape(node.shape), "rewire")
        elif isinstance(node.op, Window):
            op = node.op
            value = self.new.add(
                Window(
                    x=xs[0].name,
                    kernel=op.kernel,
                    strides=op.strides,
                    dilations=op.dilations,
                    before=op.before,
                    after=op.after,
                    padding=op.padding,
                ),
                "window",
            )
        else:
            raise AssertionError(f"{node.name}: moves nothing")
        y = Typed(value, held)
        if kind:
            self.start(node, node.source, kind)
            y = self.cast(y, self.precision(node.source, kind, "result") or held, "result")
            self.end(node, node.source, y)
        self.values[node.name] = y
        self.taken.add(node.name)

    def kind_of_move(self, node: RealNode) -> str:
        """Return hls4ml's class of a layer that only moves elements and assigns them; empty where none assigns."""
        others = [n for n in self.model.nodes if n.source == node.source and not isinstance(n.op, RealConstant)]
        if not isinstance(node.op, Rewire) or len(others) > 1:
            return ""
        index = node.op.index.array.ravel()
        if len(node.op.xs) > 1:
            return "Concatenate"
        if (np.diff(index) > 0).all() or (index < 0).any():
            return ""
        return "Transpose" if len(np.unique(index)) == index.size else "Resize"


def _not_below(count: float) -> float:
    """Return the least float64 not below 1 / count: cut towards zero, a whole quotient stays whole."""
    near = 1.0 / count
    return near if Fraction(near) >= Fraction(1, int(count)) else math.nextafter(near, 2.0)
