"""A small quantized network, its float32 implementation as a framework would have it, and its integer graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from metronn.events.codes import encode_inputs
from metronn.events.data import Events
from metronn.frontends.common.builder import LayerBuilder
from metronn.ir.arrays import IntArray
from metronn.ir.graph import Graph
from metronn.ir.ops import Linear
from metronn.model.graph import Floats, RealGraph
from metronn.passes.pipeline import prepare, quantize_model
from metronn.quantize.exact.values import ExactValue
from metronn.verify.against import AgainstResult, borders, compare_framework
from metronn.verify.against_events import event_chunks


@dataclass(frozen=True, kw_only=True)
class Layers:
    """Two dense layers with a quantizer behind each; `step` is the grid of the second layer's inputs.

    The first layer's results are multiplied by `scale`.
    """

    first: Floats
    second: Floats
    bias: Floats
    step: float = 2.0**-3
    scale: float = 1.0

    def real(self) -> RealGraph:
        network = LayerBuilder()
        x = network.input("x", (len(self.first),))
        x = network.quantize(x, 2.0**-4, -64, 63, part="quantize")
        network.tensors["x_q"] = x
        network.layer = "fc1"
        x = network.scaled(network.linear(x, self.first, self.bias), self.scale)
        network.tensors["fc1"] = x
        network.layer = "act"
        x = network.quantize(x, self.step, 0, 31)
        network.tensors["act"] = x
        network.layer = "fc2"
        x = network.linear(x, self.second, np.zeros(self.second.shape[1]))
        network.tensors["fc2"] = x
        network.layer = "out"
        x = network.quantize(x, 2.0**-2, -128, 127)
        network.tensors["out"] = x
        return network.finish([("out", x)], "test")

    def float32(self, x: Floats) -> dict[str, Floats]:
        """Run in float32, products added in a fixed order of its own (last input first)."""
        single = np.float32
        found = {"x_q": np.clip(np.rint(x.astype(single) * single(16)), -64, 63) / single(16)}
        sums = self.product(found["x_q"], self.first.astype(single)) + self.bias.astype(single)
        found["fc1"] = sums * single(self.scale)
        step = single(self.step)
        found["act"] = np.clip(np.rint(found["fc1"] / step), 0, 31) * step
        found["fc2"] = self.product(found["act"], self.second.astype(single))
        found["out"] = np.clip(np.rint(found["fc2"] * single(4)), -128, 127) / single(4)
        return found

    @staticmethod
    def product(x: Any, weight: Any) -> Any:
        total = np.zeros((len(x), weight.shape[1]), np.float32)
        for row in reversed(range(len(weight))):
            total = total + x[:, row : row + 1] * weight[row]
        return total


@dataclass(kw_only=True)
class InProcess:
    """The network in float32 in place of a framework's process."""

    layers: Layers
    name: str = "float32"
    tensors: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        found = self.layers.float32(np.zeros((1, len(self.layers.first))))
        self.tensors = {name: array.shape[1:] for name, array in found.items()}

    def run(self, inputs: Sequence[Floats], tensors: Sequence[str]) -> dict[str, Any]:
        found = self.layers.float32(inputs[0])
        return {name: found[name] for name in tensors}


def lowered(layers: Layers) -> tuple[RealGraph, Graph, tuple[ExactValue, ...]]:
    model = layers.real()
    random = np.random.default_rng(3)
    quantized = quantize_model(model, Events(inputs={"x": random.normal(size=(64, len(layers.first)))}))
    return prepare(model), quantized.graph, quantized.frontier


def compared(
    layers: Layers, *, graph: Graph | None = None, run: Layers | None = None, count: int = 600
) -> AgainstResult:
    """Compare the integer graph (or a damaged one) with the float32 network (or another one)."""
    model, right, frontier = lowered(layers)
    framework: Any = InProcess(layers=run or layers)
    real = encode_inputs(right, {"x": np.random.default_rng(4).normal(size=(100, len(layers.first)))})
    chunks = event_chunks(right, real, count, 200, borders(right, frontier))
    return compare_framework(model, graph or right, frontier, framework, chunks, compiled=False)


def damaged(graph: Graph, source: str) -> Graph:
    """Return the graph with one weight of a layer changed by one."""
    nodes = list(graph.nodes)
    for at, node in enumerate(nodes):
        if isinstance(node.op, Linear) and node.source == source:
            weight = node.op.weight.array.copy()
            weight.flat[0] += 1
            nodes[at] = replace(node, op=replace(node.op, weight=IntArray.of(weight)))
            return replace(graph, nodes=tuple(nodes))
    raise AssertionError(f"no matrix in {source}")


def dyadic(seed: int = 0) -> Layers:
    """Weights on coarse grids: float32 computes everything exactly."""
    random = np.random.default_rng(seed)
    return Layers(
        first=random.integers(-7, 8, size=(6, 5)) / 8,
        second=random.integers(-7, 8, size=(5, 3)) / 8,
        bias=random.integers(-7, 8, size=5) / 16,
    )


def ragged(seed: int = 0) -> Layers:
    """Results times a third, which float32 rounds: three times a third is one there, and a little more really."""
    return replace(dyadic(seed), scale=float(np.float32(1 / 3)))
