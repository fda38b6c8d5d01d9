"""HGQ2's layers without weights: merging, sums, pooling, functions in tables, softmax, the quantizer as a layer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from metronn.frontends.common.builder import LayerProblem
from metronn.frontends.common.products import product
from metronn.frontends.keras.activations import apply_activation
from metronn.frontends.keras.hgq.context import HgqContext
from metronn.frontends.keras.hgq.quantizers import (
    Config,
    float32,
    nearest_power,
    quantize_values,
    read_quantizer,
)
from metronn.frontends.keras.hgq.weights import COST, InnerLayer
from metronn.ir.ops import ReduceKind
from metronn.model.graph import FunctionKind

Layer = Callable[[HgqContext], str]

DIVISION_EPSILON = float32(1e-7)
"""What QSoftmax adds to the sum before it divides."""

TABLE_OUTPUT: Config = {"overflow_mode": "SAT", "round_mode": "RND_CONV"}
"""The modes that QSoftmax imposes on the results of its tables."""

SEVERAL = InnerLayer("iq", r"multiple_quantizers(_\d+)?")
EACH = InnerLayer("quantizer", r"quantizer(_\d+)?", many=True)


def _inputs(h: HgqContext) -> list[str]:
    """Return every input through its own quantizer."""
    if not h.config.get("enable_iq", True):
        return list(h.c.xs)
    confs = h.config.get("iq_confs")
    several = confs if isinstance(confs, list) else [confs] * len(h.c.xs)
    outer = h.inner(SEVERAL)
    trees = [tree for inner in outer.children(InnerLayer("quantizers", r"(?!)")) for tree in inner.children(EACH)]
    trees = trees or outer.children(EACH)
    if len(trees) != len(h.c.xs) or len(several) != len(trees):
        raise LayerProblem(f"{len(trees)} quantizers and {len(several)} configurations for {len(h.c.xs)} inputs")
    return [
        quantize_values(h.builder, read_quantizer(conf, tree), x, f"iq{number}")
        for number, (x, conf, tree) in enumerate(zip(h.c.xs, several, trees, strict=True))
    ]


def _merge(kind: str) -> Layer:
    return lambda h: h.left(h.keras(kind, _inputs(h)))


def _average(h: HgqContext) -> str:
    """Add, then divide by the nearest power of two."""
    return h.left(h.builder.scaled(h.keras("Add", _inputs(h)), nearest_power(1 / len(h.c.xs))))


def _einsum(h: HgqContext) -> str:
    equation = str(h.config.get("equation")).replace(" ", "")
    operands, arrow, out = equation.partition("->")
    terms = operands.split(",")
    batch = terms[0][:1]
    plain = arrow and "." not in equation and all(term[:1] == batch and batch not in term[1:] for term in (*terms, out))
    if not plain or len(terms) != len(h.c.xs):
        raise LayerProblem(
            f"equation {equation!r} of {len(h.c.xs)} tensors; the batch axis must come first in every term, "
            "without ellipsis"
        )
    own = [term[1:] for term in terms]
    xs = _inputs(h)
    x, labels = xs[0], own[0]
    for position, (y, theirs) in enumerate(zip(xs[1:], own[1:], strict=True), start=2):
        later = "".join(own[position:]) + out[1:]
        kept = "".join(dict.fromkeys(label for label in labels + theirs if label in later))
        kept = out[1:] if position == len(xs) else kept
        x, labels = product(h.builder, x, y, (labels, theirs, kept)), kept
    if len(xs) == 1:
        gone = [labels.index(label) for label in labels if label not in out]
        if gone:
            x = h.builder.reduced(x, gone, ReduceKind.SUM, keep=False)
        labels = "".join(label for label in labels if label in out)
        x = h.builder.transpose(x, [labels.index(label) for label in out[1:]])
    return h.left(x)


def _axes(h: HgqContext) -> list[int]:
    axes = h.config.get("axes", -1)
    listed = axes if isinstance(axes, list) else [axes]
    return sorted(h.c.event_axis(int(axis)) for axis in listed)


def _sum(scale: Callable[[HgqContext, list[int]], float]) -> Layer:
    def layer(h: HgqContext) -> str:
        axes = _axes(h)
        x = h.entered(h.c.x)
        y = h.builder.reduced(x, axes, ReduceKind.SUM, keep=bool(h.config.get("keepdims", False)))
        return h.left(h.builder.scaled(y, scale(h, axes)))

    return layer


def _given_scale(h: HgqContext, _: list[int]) -> float:
    return float(h.config.get("scale", 1.0))


def _mean_scale(h: HgqContext, axes: list[int]) -> float:
    return nearest_power(1 / math.prod(h.c.shape[axis] for axis in axes))


def _pooling(kind: str) -> Layer:
    return lambda h: h.left(h.keras(kind, [h.entered(h.c.x)]))


def _function(h: HgqContext) -> str:
    y = apply_activation(h.c, h.entered(h.c.x), h.config.get("activation"))
    return h.left(y)


def _affine_function(h: HgqContext) -> str:
    own = h.own(["scale", "bias", COST])
    x = h.builder.scaled(h.entered(h.c.x), float(own["scale"][0]), float(own["bias"][0]))
    return h.left(apply_activation(h.c, x, h.config.get("activation")))


def _quantizer(h: HgqContext) -> str:
    return quantize_values(h.builder, read_quantizer(h.config.get("config"), h.tree), h.c.x, "quantizer")


def _softmax(h: HgqContext) -> str:
    axes = h.config.get("axes")
    listed = axes if isinstance(axes, list) else [-1 if axes is None else int(axes)]
    return quantized_softmax(h, h.c.x, [h.c.event_axis(int(axis)) for axis in listed])


def quantized_softmax(h: HgqContext, x: str, axes: Sequence[int]) -> str:
    """Return QSoftmax along axes of the event: two tables, exp and 1 / sum, each between its quantizers."""
    builder, stable = h.builder, bool(h.config.get("stable", True))
    sides = {
        name: h.sub(
            InnerLayer(f"{name}_table", rf".*_{name}_table"),
            {"iq_conf": h.config.get(f"{name}_iq_conf"), "oq_conf": h.config.get(f"{name}_oq_conf")},
        )
        for name in ("exp", "inv")
    }
    x = h.entered(x)
    factor = float32(float(h.config.get("input_scaler", 1.0)))
    if stable:
        below = builder.minus(builder.reduced(x, axes, ReduceKind.MAX, keep=True), x)
        x, factor = sides["exp"].through("iq", below), -factor
    power = builder.function(builder.scaled(x, factor), FunctionKind.EXP)
    power = sides["exp"].through("oq", power, TABLE_OUTPUT)
    total = sides["inv"].through("iq", builder.reduced(power, axes, ReduceKind.SUM, keep=True))
    inverse = builder.function(builder.scaled(total, 1.0, DIVISION_EPSILON), FunctionKind.RECIPROCAL)
    inverse = sides["inv"].through("oq", inverse, TABLE_OUTPUT)
    return h.left(builder.times(power, inverse))


OPERATORS: Mapping[str, Layer] = {
    "QAdd": _merge("Add"),
    "QAffinedUnaryFunctionLUT": _affine_function,
    "QAveragePow2": _average,
    "QDot": _merge("Dot"),
    "QEinsum": _einsum,
    "QMaximum": _merge("Maximum"),
    "QMeanPow2": _sum(_mean_scale),
    "QMinimum": _merge("Minimum"),
    "QMultiply": _merge("Multiply"),
    "QSoftmax": _softmax,
    "QSubtract": _merge("Subtract"),
    "QSum": _sum(_given_scale),
    "QUnaryFunctionLUT": _function,
    "Quantizer": _quantizer,
    **{
        f"Q{kind}": _pooling(kind)
        for kind in (
            "AveragePooling1D",
            "AveragePooling2D",
            "GlobalAveragePooling1D",
            "GlobalAveragePooling2D",
            "GlobalMaxPooling1D",
            "GlobalMaxPooling2D",
            "MaxPooling1D",
            "MaxPooling2D",
        )
    },
}
"""Layers by class name."""
