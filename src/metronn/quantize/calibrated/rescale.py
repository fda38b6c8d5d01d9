"""Scaling channels so that weights and activations fill their integers.

One step serves a whole tensor, and it is a power of two: channels of small reach waste bits, and so does a tensor
whose reach is just above a power of two. Between two matrices with nothing or a ReLU between them every channel may be
multiplied by any positive number that the second matrix divides out again: the network stays the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from metronn.ir.ops import Extremum, ExtremumKind, Overflow
from metronn.ir.types import Range
from metronn.model.graph import FloatArray, Floats, RealConstant, RealGraph, RealLinear
from metronn.quantize.calibrated.fixed import CLIPPED_BITS, choose_range, covering_frac
from metronn.quantize.options import Calibration, QuantizeOptions

FACTORS = tuple(2.0 ** (step / 8) for step in range(8))
"""Common factors that are tried; a power of two more changes nothing but an exponent."""
POWERS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Channels are divided by their reach to one of these powers: 0 leaves them alone, 1 makes all reach equally far."""
MAX_RATIO = 64.0
"""A channel that reaches less far than the farthest by more than this is treated as if by this."""
SEARCH_VALUES = 1 << 15
"""Activations looked at in the search for factors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescaled:
    """The network with scaled channels, and by value what its channels (the last axis) are multiplied by in it."""

    graph: RealGraph
    factors: Mapping[str, Floats]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """Two matrices and the value the second one reads."""

    first: str
    between: str
    second: str


def rescale(graph: RealGraph, values: Mapping[str, Floats], options: QuantizeOptions) -> Rescaled:
    """Scale the channels between neighbouring matrices so that rounding costs least; the function stays the same.

    Layer by layer, the factors with the least noise in the second matrix' result are taken: noise of the first matrix'
    weights, of the values between, and of the second matrix' weights. `values` are the floats of every node on the
    calibration events. Scaling channels is after M. Nagel et al., Data-free quantization through weight equalization,
    arXiv:1906.04721, with reaches from calibration and the strength from the noise it leaves.
    """
    search = _Search(
        values=values,
        options=options,
        sources={node.name: node.source for node in graph.nodes},
        ops={node.name: node.op for node in graph.nodes if isinstance(node.op, RealLinear)},
    )
    for pair in _pairs(graph):
        search.apply(pair, search.best(pair))
    nodes = tuple(replace(node, op=search.ops.get(node.name, node.op)) for node in graph.nodes)
    return Rescaled(graph=replace(graph, nodes=nodes), factors=search.factors)


@dataclass(slots=True, kw_only=True)
class _Search:
    """Matrices scaled so far; `scaled` has the factors of the channels that a matrix reads, `factors` of all values."""

    values: Mapping[str, Floats]
    options: QuantizeOptions
    sources: Mapping[str, str]
    ops: dict[str, RealLinear]
    scaled: dict[str, Floats] = field(default_factory=dict)
    factors: dict[str, Floats] = field(default_factory=dict)

    def apply(self, pair: _Pair, factors: Floats) -> None:
        """Multiply the channels between by their factors."""
        first, second = self.ops[pair.first], self.ops[pair.second]
        weight, bias = first.weight.array * factors, first.bias.array * factors
        self.ops[pair.first] = replace(first, weight=FloatArray.of(weight), bias=FloatArray.of(bias))
        weight = second.weight.array / factors[:, np.newaxis]
        self.ops[pair.second] = replace(second, weight=FloatArray.of(weight))
        self.scaled[pair.second] = factors
        self.factors[pair.first] = self.factors[pair.between] = factors

    def best(self, pair: _Pair) -> Floats:
        """Return the factors of the candidates that leave the least noise; the mildest of equals."""
        rows = self.values[pair.between]
        rows = rows.reshape(-1, rows.shape[-1])
        reach = np.abs(rows).max(axis=0)
        largest = float(reach.max())
        reach = np.maximum(reach, largest / MAX_RATIO) / largest if largest > 0 else np.ones_like(reach)
        sample = rows[:: -(-rows.size // SEARCH_VALUES)]
        inputs = self.values[self.ops[pair.first].x].reshape(-1, self.ops[pair.first].weight.shape[0])
        input_power = inputs.var(axis=0) * np.square(self.scaled.get(pair.first, np.ones(inputs.shape[1])))
        power = rows.var(axis=0)
        candidates = [factor * reach**-strength for strength in POWERS for factor in FACTORS]
        return min(candidates, key=lambda factors: self._noise(pair, factors, sample, input_power, power))

    def _noise(self, pair: _Pair, factors: Floats, sample: Floats, input_power: Floats, power: Floats) -> float:
        """Noise in the second matrix' result, errors taken as independent."""
        first, second = self.ops[pair.first].weight.array * factors, self.ops[pair.second].weight.array
        second = second / factors[:, np.newaxis]
        gain = np.square(second).sum(axis=1)
        between = self._activation_error(pair, sample * factors, gain)
        between += self._weight_error(pair.first, first, input_power, gain)
        return between + self._weight_error(pair.second, second, power * np.square(factors), np.ones(second.shape[1]))

    def _weight_error(self, name: str, weight: Floats, power: Floats, gain: Floats) -> float:
        """Mean squared error that rounding a matrix causes in its results, each weighed by its gain."""
        bits = self.options.layer(self.sources[name]).weight_bits
        first = covering_frac(float(weight.min()), float(weight.max()), bits, signed=True)
        errors = []
        for frac in range(first, first + CLIPPED_BITS):
            errors.append(float(power @ _squared_errors(weight, frac, bits, signed=True) @ gain))
        return min(errors)

    def _activation_error(self, pair: _Pair, values: Floats, gain: Floats) -> float:
        """Mean squared error that rounding the channels between causes, each weighed by its gain."""
        settings = self.options.layer(self.sources[pair.first], self.sources[pair.between])
        signed = bool(values.min() < 0)
        bits, percentile = settings.activation_bits, self.options.percentile
        method = Calibration.MAX if settings.overflow is Overflow.WRAP else settings.calibration
        if method is Calibration.MSE:  # what choose_range does; its least errors are at hand then
            first = covering_frac(float(values.min()), float(values.max()), bits, signed=signed)
            tried = range(first, first + CLIPPED_BITS + 1)
            errors = min((_squared_errors(values, frac, bits, signed=signed) for frac in tried), key=np.mean)
        else:
            frac = choose_range(values, bits, signed=signed, method=method, percentile=percentile).max_frac
            errors = _squared_errors(values, frac, bits, signed=signed)
        return float(errors.mean(axis=0) @ gain)


def _squared_errors(values: Floats, frac: int, bits: int, *, signed: bool) -> Floats:
    """Square what rounding half up and saturating to codes of `bits` changes; powers of two multiply exactly."""
    full = Range.fixed(bits, frac, signed=signed)
    found = values * math.ldexp(1.0, frac)
    found += 0.5
    np.floor(found, out=found)
    np.maximum(found, float(full.lowest), out=found)
    np.minimum(found, float(full.highest), out=found)
    found *= math.ldexp(1.0, -frac)
    found -= values
    return np.asarray(np.square(found, out=found))


def _pairs(graph: RealGraph) -> Iterator[_Pair]:
    """Find matrices whose one reader is a matrix, or a ReLU whose one reader is a matrix, in graph order."""
    for node in graph.nodes:
        if not isinstance(node.op, RealLinear):
            continue
        between, reader = node.name, graph.only_reader(node.name)
        if reader is not None and isinstance(reader.op, Extremum) and _is_relu(graph, reader.op):
            between, reader = reader.name, graph.only_reader(reader.name)
        if reader is not None and isinstance(reader.op, RealLinear):
            yield _Pair(first=node.name, between=between, second=reader.name)


def _is_relu(graph: RealGraph, op: Extremum) -> bool:
    if op.kind is not ExtremumKind.MAX:
        return False
    constants = [graph.by_name[name].op for name in (op.x, op.y)]
    return any(isinstance(c, RealConstant) and not c.values.array.any() for c in constants)
