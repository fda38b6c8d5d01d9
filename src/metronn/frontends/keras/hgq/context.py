"""What a function that reads an HGQ2 layer is given: the Keras context, and the arrays of its inner layers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from metronn.frontends.common.builder import LayerBuilder, LayerProblem
from metronn.frontends.keras.context import LayerContext
from metronn.frontends.keras.hgq.quantizers import (
    Config,
    FixedQuantizer,
    Minifloat,
    PassThrough,
    Quantizer,
    quantize_values,
    quantized_weights,
    read_quantizer,
)
from metronn.frontends.keras.hgq.weights import Float32, InnerLayer, WeightTree, child
from metronn.frontends.keras.layers import LAYERS
from metronn.frontends.keras.weights import Array, LayerPlace
from metronn.model.graph import Floats


@dataclass(frozen=True, slots=True)
class Given:
    """A weight store of known arrays: how a quantized layer hands its weights to the reader of Keras' own layer."""

    held: Mapping[str, Floats]

    def arrays(self, path: Sequence[LayerPlace], names: Sequence[str]) -> list[Array]:
        """Return the arrays of these names."""
        return [np.asarray(self.held[name], dtype=np.float64) for name in names]


@dataclass(frozen=True, slots=True, kw_only=True)
class HgqContext:
    """An HGQ2 layer, or one inside it; `config` has the names of a single layer (iq_conf, kq_conf, ...)."""

    c: LayerContext
    config: Config
    tree: WeightTree
    prefix: str = ""

    @property
    def builder(self) -> LayerBuilder:
        """The network being built."""
        return self.c.builder

    def inner(self, step: InnerLayer, number: int = 0) -> WeightTree:
        """Return the arrays of an inner layer; raises LayerProblem."""
        found = child(self.tree, step, number)
        if found is None:
            raise LayerProblem(f"the weights have nothing of its {self.prefix}{step.attribute}")
        return found

    def sub(self, step: InnerLayer, config: Config, number: int = 0) -> HgqContext:
        """Return an inner layer; raises LayerProblem."""
        prefix = f"{self.prefix}{step.attribute}_"
        return replace(self, config=config, tree=self.inner(step, number), prefix=prefix)

    def quantizer(self, role: str, forced: Config | None = None) -> Quantizer:
        """Return the quantizer of this role (iq, kq, bq, oq, toq); raises LayerProblem."""
        name = r"\w*quantizer(_\d+)?" if role == "toq" else rf"(.*_)?{role}"
        tree = child(self.tree, InnerLayer(role, name))
        quantizer = read_quantizer(self.config.get(f"{role}_conf"), tree, forced)
        match quantizer:
            case FixedQuantizer():
                arrays = {"k": quantizer.k, "i": quantizer.i, "f": quantizer.f}
            case Minifloat():
                arrays = {"m": quantizer.m, "e": quantizer.e, "e0": quantizer.e0}
            case PassThrough():
                arrays = {}
        for array, values in arrays.items():
            self.builder.checked(values, f"{self.prefix}{role}.{array}")
        return quantizer

    def weights(self, role: str, values: Float32) -> Floats:
        """Return values as the quantizer of this role leaves them."""
        return quantized_weights(self.quantizer(role), values)

    def through(self, role: str, x: str, forced: Config | None = None) -> str:
        """Return x through the quantizer of this role, whether or not the layer has switched it on."""
        return quantize_values(self.builder, self.quantizer(role, forced), x, f"{self.prefix}{role}")

    def entered(self, x: str) -> str:
        """Return x through the input quantizer, if there is one."""
        return self.through("iq", x) if self.config.get("enable_iq", True) else x

    def left(self, y: str) -> str:
        """Return y through the output quantizer, if there is one."""
        return self.through("oq", y) if self.config.get("enable_oq", False) else y

    def own(self, names: Sequence[str]) -> dict[str, Float32]:
        """Return the layer's own arrays, checked for NaN; raises MissingWeightsError."""
        arrays = self.tree.own(names)
        return {name: self.builder.checked(array, name).astype(np.float32) for name, array in arrays.items()}

    def keras(self, kind: str, xs: Sequence[str], arrays: Mapping[str, Floats] | None = None) -> str:
        """Return what Keras' layer of this class makes of xs and these weights."""
        return LAYERS[kind](replace(self.c, config=self.config, xs=tuple(xs), store=Given(arrays or {})))
