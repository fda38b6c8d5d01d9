"""Between floats in the model's units and integer codes at the borders of a graph."""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

import numpy as np

from metronn.errors import ModelError
from metronn.ir.arrays import Array, as_dtype_for
from metronn.ir.graph import Graph
from metronn.ir.ops import Input, Overflow
from metronn.ir.types import TensorType
from metronn.model.graph import Floats
from metronn.model.reference import round_real

FAR = 2.0**512
"""Infinities count as this."""


def encode(values: Array, target: TensorType) -> Array:
    """Round floats of shape (events, *shape) to codes of `target`: half up (RND), saturating.

    NaN has no code: the caller checks for it first.
    """
    return encode_input(values, Input(shape=target.shape, range=target.range))


def encode_input(values: Array, op: Input) -> Array:
    """Round floats of shape (events, *shape) to codes of an input, in its own rounding and overflow mode.

    The quotient of value and step is the nearest float64. NaN has no code: the caller checks for it first.
    """
    scaled = input_steps(values, op)
    lo, hi = op.range.lowest, op.range.highest
    low, high = op.range.lo_array(op.shape), op.range.hi_array(op.shape)
    reach = 2.0 ** (max(abs(lo).bit_length(), hi.bit_length()) + 1)
    if op.overflow is not Overflow.WRAP:
        scaled = np.clip(scaled, -reach, reach)
    elif not (np.abs(scaled) < 2.0**62).all():
        scaled = np.where(np.isfinite(scaled), scaled, np.sign(scaled) * reach)
    if reach < 2.0**53 and (np.abs(scaled) < 2.0**62).all():
        codes: Array = scaled.astype(np.int64)
    else:
        codes = np.asarray(np.frompyfunc(int, 1, 1)(scaled), dtype=object)
        low, high = low.astype(object), high.astype(object)
    match op.overflow:
        case Overflow.WRAP:
            kept = (codes - low) % (high - low + 1) + low
        case Overflow.SAT | Overflow.SAT_SYM:
            kept = np.minimum(np.maximum(codes, low), high)
        case Overflow.SAT_ZERO:
            kept = np.where((codes < low) | (codes > high), codes * 0, codes)
        case _:
            assert_never(op.overflow)
    return as_dtype_for(np.asarray(kept), lo, hi)


def input_steps(values: Array, op: Input) -> Floats:
    """Return floats (events, *shape) in steps of an input, rounded in its mode to whole numbers, not yet bounded."""
    x = np.clip(np.asarray(values, dtype=np.float64), -FAR, FAR)
    if op.step is not None:
        steps: Floats = x / np.ldexp(op.step.array.astype(np.float64), -op.range.frac_array(op.shape))
    else:
        steps = np.ldexp(x, op.range.frac_array(op.shape))
    if op.sticky:
        half = np.floor(steps / 2)
        return np.asarray(2 * half + (half != steps / 2))
    return round_real(steps, op.rounding)


def decode(codes: Array, source: TensorType) -> Floats:
    """Return the float64 values of integer codes of shape (events, *shape)."""
    return np.ldexp(np.asarray(codes).astype(np.float64), -source.range.frac_array(source.shape))


def encode_inputs(graph: Graph, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """Return the codes of every input of the graph.

    Raises ModelError that lists every missing array, wrong shape and NaN.
    """
    problems, codes = [], {}
    for node in graph.inputs:
        if not isinstance(node.op, Input):
            raise AssertionError(f"{node.name} is no input")
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
            codes[node.name] = encode_input(values, node.op)
    if problems:
        raise ModelError("\n".join(problems))
    return codes


def decode_outputs(graph: Graph, codes: Mapping[str, Array]) -> dict[str, Floats]:
    """Return the float value of each output, by output name."""
    return {output.name: decode(codes[output.name], graph.type_of(output.value)) for output in graph.outputs}
