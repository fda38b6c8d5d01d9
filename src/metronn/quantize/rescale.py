"""Scaling layers so that weights and activations fill their integers.

Steps are powers of two, so a tensor whose reach is just above one wastes a bit. Between two matrices with nothing or
a ReLU between them all values may be multiplied by any positive number that the second matrix divides out again:
the network stays the same and both tensors can be made to fit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from metronn.ir.ops import ExtremumKind, Overflow
from metronn.model.graph import FloatArray, Floats, RealConstant, RealExtremum, RealGraph, RealLinear, RealNode
from metronn.quantize.fixed import CLIPPED_BITS, choose_range, covering_frac, rounded_codes, squared_error
from metronn.quantize.options import Calibration, QuantizeOptions

FACTORS = tuple(2.0 ** (step / 16) for step in range(16))
"""What is tried; a power of two more changes nothing but an exponent."""
SEARCH_VALUES = 1 << 15
"""Activations looked at in the search for a factor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Two matrices and the value the second one reads."""

    first: str
    between: str
    second: str


def rescale(graph: RealGraph, values: Mapping[str, Floats], options: QuantizeOptions) -> RealGraph:
    """Scale the values between neighbouring matrices so that rounding costs least; the function stays the same.

    Layer by layer, the factor with the least noise is taken: of the first matrix' weights, of the values between, and
    of the second matrix where that has no factor of its own. `values` are the floats of every node on the calibration
    events.
    """
    pairs = {pair.first: pair for pair in _pairs(graph)}
    search = _Search(
        values=values,
        options=options,
        sources={node.name: node.source for node in graph.nodes},
        ops={node.name: node.op for node in graph.nodes if isinstance(node.op, RealLinear)},
    )
    for pair in pairs.values():
        factor = min(FACTORS, key=lambda f: search.noise(pair, f, last=pair.second not in pairs))
        search.apply(pair, factor)
    nodes = tuple(replace(node, op=search.ops.get(node.name, node.op)) for node in graph.nodes)
    return RealGraph(nodes=nodes, outputs=graph.outputs)


@dataclass(slots=True, kw_only=True)
class _Search:
    """Matrices scaled so far. `scaled` is the factor of the values that a matrix reads, `powers` the variances of
    its unscaled inputs and the sum of those of its results.
    """

    values: Mapping[str, Floats]
    options: QuantizeOptions
    sources: Mapping[str, str]
    ops: dict[str, RealLinear]
    scaled: dict[str, float] = field(default_factory=dict)
    powers: dict[str, tuple[Floats, float]] = field(default_factory=dict)

    def apply(self, pair: _Pair, factor: float) -> None:
        """Multiply the values between by the factor."""
        first, second = self.ops[pair.first], self.ops[pair.second]
        weight, bias = first.weight.array * factor, first.bias.array * factor
        self.ops[pair.first] = replace(first, weight=FloatArray.of(weight), bias=FloatArray.of(bias))
        self.ops[pair.second] = replace(second, weight=FloatArray.of(second.weight.array / factor))
        self.scaled[pair.second] = factor

    def noise(self, pair: _Pair, factor: float, *, last: bool) -> float:
        """Noise over signal, of weights and activations together, when the values between are scaled."""
        noise = self._weight_noise(pair.first, factor, self.scaled.get(pair.first, 1.0), factor)
        noise += self._activation_noise(pair, factor)
        return noise + self._weight_noise(pair.second, 1 / factor, factor, 1.0) if last else noise

    def _weight_noise(self, name: str, factor: float, input_factor: float, output_factor: float) -> float:
        """Noise of rounding a matrix times `factor`, with the inputs' errors taken as independent."""
        op = self.ops[name]
        if name not in self.powers:
            rows = self.values[op.x].reshape(-1, op.weight.shape[0])
            result = self.values[name].reshape(-1, op.weight.shape[1])
            self.powers[name] = (rows.var(axis=0), float(result.var(axis=0).sum()))
        power, signal = self.powers[name]
        weight = op.weight.array * factor
        bits = self.options.layer(self.sources[name]).weight_bits
        first = covering_frac(float(weight.min()), float(weight.max()), bits, signed=True)
        errors = []
        for frac in range(first, first + CLIPPED_BITS):
            difference = np.ldexp(rounded_codes(weight, frac, bits)[0].astype(np.float64), -frac) - weight
            errors.append(float((np.square(difference).sum(axis=1) * power).sum()))
        return min(errors) * (input_factor / output_factor) ** 2 / signal if signal > 0 else 0.0

    def _activation_noise(self, pair: _Pair, factor: float) -> float:
        settings = self.options.layer(self.sources[pair.first], self.sources[pair.between])
        values = self.values[pair.between].ravel()
        values = values[:: -(-values.size // SEARCH_VALUES)] * factor
        signed = bool(values.min() < 0)
        method = Calibration.MAX if settings.overflow is Overflow.WRAP else settings.calibration
        chosen = choose_range(
            values, settings.activation_bits, signed=signed, method=method, percentile=self.options.percentile
        )
        signal = float(np.square(values).mean())
        error = squared_error(values, chosen.max_frac, settings.activation_bits, signed=signed)
        return error / signal if signal > 0 else 0.0


def _pairs(graph: RealGraph) -> Iterator[_Pair]:
    """Find matrices whose one reader is a matrix, or a ReLU whose one reader is a matrix, in graph order."""
    for node in graph.nodes:
        if not isinstance(node.op, RealLinear):
            continue
        between, reader = node.name, _only_reader(graph, node.name)
        if reader is not None and isinstance(reader.op, RealExtremum) and _is_relu(graph, reader.op):
            between, reader = reader.name, _only_reader(graph, reader.name)
        if reader is not None and isinstance(reader.op, RealLinear):
            yield _Pair(first=node.name, between=between, second=reader.name)


def _only_reader(graph: RealGraph, name: str) -> RealNode | None:
    if len(graph.uses[name]) != 1 or any(value == name for _, value in graph.outputs):
        return None
    return graph.by_name[graph.uses[name][0]]


def _is_relu(graph: RealGraph, op: RealExtremum) -> bool:
    if op.kind is not ExtremumKind.MAX:
        return False
    constants = [graph.by_name[name].op for name in (op.x, op.y)]
    return any(isinstance(c, RealConstant) and not c.values.array.any() for c in constants)
