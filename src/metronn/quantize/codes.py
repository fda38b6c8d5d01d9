"""Between floats in the model's units and integer codes at the borders of a graph."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from metronn.errors import ModelError
from metronn.ir.arrays import Array, as_dtype_for
from metronn.ir.graph import Graph
from metronn.ir.types import TensorType
from metronn.model.graph import Floats


def encode(values: Array, target: TensorType) -> Array:
    """Round floats of shape (events, *shape) to codes of `target`: half up (RND), saturating.

    NaN has no code: the caller checks for it first.
    """
    frac = target.range.frac_array(target.shape)
    lo, hi = target.range.lowest, target.range.highest
    scaled = np.floor(np.ldexp(np.asarray(values, dtype=np.float64), frac) + 0.5)
    if -(2**53) < lo and hi < 2**53:
        clipped = np.clip(scaled, target.range.lo_array(target.shape), target.range.hi_array(target.shape))
        return clipped.astype(np.int64)
    limit = 1 << max(abs(lo).bit_length(), hi.bit_length())
    bounded = np.clip(scaled, -float(limit), float(limit))
    exact = np.frompyfunc(int, 1, 1)(bounded)
    low, high = target.range.lo_array(target.shape).astype(object), target.range.hi_array(target.shape).astype(object)
    return as_dtype_for(np.asarray(np.minimum(np.maximum(exact, low), high), dtype=object), lo, hi)


def decode(codes: Array, source: TensorType) -> Floats:
    """Return the float64 values of integer codes of shape (events, *shape)."""
    return np.ldexp(np.asarray(codes).astype(np.float64), -source.range.frac_array(source.shape))


def encode_inputs(graph: Graph, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return the codes of every input of the graph.

    Raises ModelError that lists every missing array, wrong shape and NaN.
    """
    problems, codes = [], {}
    for node in graph.inputs:
        if node.name not in arrays:
            problems.append(f"input {node.name}: no data; found {', '.join(sorted(arrays)) or 'nothing'}")
            continue
        values = np.asarray(arrays[node.name])
        if values.dtype.kind not in "iufb":
            problems.append(f"input {node.name}: values are {values.dtype}, allowed are numbers")
        elif values.shape[1:] != node.type.shape:
            problems.append(f"input {node.name}: shape per event is {values.shape[1:]}, allowed is {node.type.shape}")
        elif np.isnan(values).any():
            bad = np.isnan(values)
            event = int(np.argwhere(bad)[0][0])
            problems.append(f"input {node.name}: {int(bad.sum())} values are NaN, the first in event {event}")
        else:
            codes[node.name] = encode(values, node.type)
    if problems:
        raise ModelError("\n".join(problems))
    return codes


def decode_outputs(graph: Graph, codes: Mapping[str, Array]) -> dict[str, Floats]:
    """Return the float value of each output, by output name."""
    return {output.name: decode(codes[output.name], graph.type_of(output.value)) for output in graph.outputs}
