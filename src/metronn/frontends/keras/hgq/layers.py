"""HGQ2 networks (hgq2 0.2.0), read without hgq: what each of its layers becomes, with every quantizer in its place.

A layer is one function `(HgqContext) -> value` in the file of its family. Weights are quantized here, in float32 as
HGQ2 does it; quantizers of activations become `RealQuantize`, functions in tables `RealFunction`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from metronn.frontends.common.builder import LayerProblem
from metronn.frontends.keras.context import LayerContext
from metronn.frontends.keras.hgq.attention import ATTENTION
from metronn.frontends.keras.hgq.context import HgqContext
from metronn.frontends.keras.hgq.linear import WEIGHTED
from metronn.frontends.keras.hgq.operators import OPERATORS
from metronn.frontends.keras.hgq.quantizers import plain
from metronn.frontends.keras.hgq.tables import TABLES
from metronn.frontends.keras.hgq.weights import weight_tree
from metronn.frontends.keras.weights import HDF5_ERRORS, MissingWeightsError

OWN_PACKAGE = ("QConvT1D", "QConvT2D")
"""Layers that HGQ2 registers with Keras as `hgq2>`, all others as `hgq>`."""

UNQUANTIZED = "float32"
"""The only dtype whose roundings are known."""


def _registered(name: str) -> str:
    return f"{'hgq2' if name in OWN_PACKAGE else 'hgq'}>{name}"


def _reader(layer: Callable[[HgqContext], str]) -> Callable[[LayerContext], str]:
    def read(c: LayerContext) -> str:
        policy = c.config.get("dtype")
        inner = policy.get("config") if isinstance(policy, dict) else {"name": policy or UNQUANTIZED}
        dtype = inner.get("name") if isinstance(inner, dict) else None
        if dtype != UNQUANTIZED:
            raise LayerProblem(f"computes in {dtype}; HGQ2's roundings are read for {UNQUANTIZED} only")
        try:
            config = plain(c.config)
            context = replace(c, config=config)
            return layer(HgqContext(c=context, config=config, tree=weight_tree(c.store, c.path)))
        except MissingWeightsError as problem:
            raise LayerProblem(f"{problem}") from None
        except (ArithmeticError, IndexError, *HDF5_ERRORS) as problem:
            raise LayerProblem(f"its configuration and weights are not understood: {problem}") from None

    return read


HGQ_LAYERS: Mapping[str, Callable[[LayerContext], str]] = {
    _registered(name): _reader(layer) for name, layer in {**WEIGHTED, **OPERATORS, **ATTENTION, **TABLES}.items()
}
"""Layers by the name under which Keras saves them."""

_RECURRENT = "recurrent layers are not supported yet"
_SPIKING = "spiking layers are not supported yet"
_CUBIC = "three spatial axes are not supported"

HGQ_REFUSED: Mapping[str, str] = {
    _registered(name): reason
    for name, reason in {
        "QAveragePooling3D": _CUBIC,
        "QConv3D": _CUBIC,
        "QGRU": _RECURRENT,
        "QGlobalAveragePooling3D": _CUBIC,
        "QGlobalMaxPooling3D": _CUBIC,
        "QLIF": _SPIKING,
        "QMaxPooling3D": _CUBIC,
        "QSimpleRNN": _RECURRENT,
        "QSimpleSNN": _SPIKING,
    }.items()
}
"""Layers of HGQ2 that are not read, and why."""
