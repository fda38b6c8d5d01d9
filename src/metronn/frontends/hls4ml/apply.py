"""Giving a float network the meaning that an hls4ml configuration gives it.

hls4ml keeps every layer's result in a fixed-point type of its own, weights in others, and adds products in an
accumulator that cuts off what it does not hold. `apply_hls4ml` puts a `RealQuantize` at each of these places, so that
the exact lowering makes the integers that hls4ml's C simulation computes. Source of the rules: hls4ml 1.3.0, passes
`infer_precision`, `bn_fuse` and `fix_softmax_table_size`, headers nnet_dense, nnet_conv2d, nnet_batchnorm,
nnet_activation, nnet_pooling and nnet_merge of the Vitis backend.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

from metronn.errors import ModelError
from metronn.frontends.common.builder import LayerProblem, counted, unsupported_error
from metronn.frontends.hls4ml.config import APPLIED, HARDWARE, Hls4mlConfig
from metronn.frontends.hls4ml.layers import SOFTMAX_TABLE, TABLE, Rewriter
from metronn.ir.ops import Add, Extremum, Movement, Multiply, Reduce
from metronn.model.graph import (
    RealConstant,
    RealFunction,
    RealGraph,
    RealInput,
    RealLinear,
    RealNode,
    RealQuantize,
    RealSoftmax,
)

SUPPORTED = (
    *("input", "dense", "convolution", "batch normalization", "relu", "sigmoid", "tanh", "softplus", "softmax"),
    *("max and average pooling", "reshape, flatten, transpose, padding", "concatenate", "add, subtract, multiply"),
    "maximum, minimum",
)
TABLES = {"table": TABLE, "exp_table": SOFTMAX_TABLE, "inv_table": SOFTMAX_TABLE, "inv_inp": SOFTMAX_TABLE}
"""Types of tables, which hls4ml writes under `Precision` and does not look for there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hls4mlApplied:
    """The network with hls4ml's types, and what the configuration says that has no effect here.

    `names`: which of its values stands for a value of the network without types, where one does.
    """

    model: RealGraph
    notes: tuple[str, ...]
    names: Mapping[str, str]


def apply_hls4ml(model: RealGraph, config: Hls4mlConfig) -> Hls4mlApplied:
    """Return the network with the types of the configuration; `tensors` then names hls4ml's layers.

    Raises ModelError listing every layer that cannot be had this way and every name that no layer has.
    """
    if model.quantized:
        raise ModelError(
            f"{config.where}: the network brings quantizers of its own, so its types are already decided; "
            "leave the hls4ml configuration out"
        )
    rewriter = Rewriter(model=model, config=config)
    unsupported: dict[str, str] = {}
    for node in model.nodes:
        if node.name in rewriter.taken or isinstance(node.op, RealConstant):
            continue
        try:
            rewrite(rewriter, node)
        except LayerProblem as problem:
            unsupported.setdefault(node.source, str(problem))
            rewriter.skip(node)
    if unsupported:
        raise unsupported_error(f"{config.where}: applied to the network", list(unsupported.items()), SUPPORTED)
    check_names(rewriter, config)
    result = rewriter.finish()
    names = {name: typed.name for name, typed in rewriter.values.items() if typed.name in result.by_name}
    return Hls4mlApplied(model=result, notes=notes(rewriter, config), names=names)


def rewrite(rewriter: Rewriter, node: RealNode) -> None:
    """Add what hls4ml makes of one node, and of those behind it that belong to the same hls4ml layer."""
    if isinstance(node.op, Movement):
        return rewriter.move(node)
    match node.op:
        case RealInput():
            rewriter.input(node)
        case RealLinear():
            rewriter.linear(node, node.op)
        case Multiply() | Add():
            rewriter.arithmetic(node, node.op)
        case Extremum():
            rewriter.extremum(node, node.op)
        case RealFunction():
            rewriter.function(node, node.op)
        case RealSoftmax():
            rewriter.softmax(node, node.op)
        case Reduce():
            rewriter.pooling(node, node.op)
        case RealConstant() | RealQuantize():
            raise AssertionError(f"{node.name}: constants and quantizers are no layers")
        case _:
            assert_never(node.op)


def check_names(rewriter: Rewriter, config: Hls4mlConfig) -> None:
    """Raise ModelError when the configuration names layers that the network does not have."""
    known = {name.lower() for name in rewriter.layers} | {source.lower() for source in rewriter.sources}
    linear = {f"{name}_linear" for name in known}
    wrong = [name for name in config.names if name not in known | linear]
    if wrong:
        raise ModelError(
            f"{config.where}: LayerName has {counted(len(wrong), 'name')} that no layer has: {', '.join(wrong)}\n"
            f"  Layers are {', '.join(rewriter.layers)}."
        )


def notes(rewriter: Rewriter, config: Hls4mlConfig) -> tuple[str, ...]:
    """Return what was read and not applied, one line each."""
    found = list(rewriter.notes)
    kinds = {kind.lower() for kind in rewriter.layers.values()} | {"reshape"}
    unknown = [name for name in config.types if name not in kinds]
    if unknown:
        known = ", ".join(sorted(set(rewriter.layers.values())))
        found.append(f"LayerType {', '.join(unknown)}: has no effect, hls4ml's layers of this network are {known}")
    entries = [config.model, *config.types.values(), *config.names.values()]
    used = {key for entry in entries for key in entry.options}
    ignored = [key for key in HARDWARE if _snake(key) in used and key != "ReuseFactor"]
    if ignored:
        found.append(f"read, not applied (hardware of hls4ml): {', '.join(ignored)}")
    for entry in entries:
        for name, default in TABLES.items():
            if entry.precision.get(name, default) != default:
                found.append(f"Precision.{name}: has no effect in hls4ml, the key {name}_t of the layer has")
    factors = [factor for factor in config.reuse_factors() if factor > 1]
    if factors:
        found.append(
            f"ReuseFactor {', '.join(map(str, factors))}: read, not applied; the II of the plan says how often a "
            f"multiplier is used (--ii {max(factors)} allows the same)"
        )
    if not any(_snake(key) in used for key in APPLIED) and not any(entry.precision for entry in entries):
        found.append("no precision is given")
    return tuple(dict.fromkeys(found))


def _snake(key: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() and at else c.lower() for at, c in enumerate(key))
