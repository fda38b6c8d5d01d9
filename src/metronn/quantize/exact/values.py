"""The values of a quantized network that its integer graph holds exactly, and their integers on given events."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from metronn.emulate.numpy import emulate
from metronn.ir.arrays import Array
from metronn.ir.graph import Graph, Node
from metronn.ir.types import TensorType
from metronn.model.graph import FloatArray, Floats
from metronn.quantize.calibrated.calibration import chunks


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactValue:
    """A value of the framework that the integer graph holds exactly.

    `tensors` are the framework's names of it (`RealGraph.tensors`; may be none), `real` is its name in the RealGraph,
    `value` that in the integer graph. real value = code * 2**-frac * scale, frac being that of the value's type and
    `scale` broadcasting to its shape; 1 wherever the framework's step is a power of two.
    """

    tensors: tuple[str, ...]
    real: str
    value: str
    source: str
    scale: FloatArray

    def step(self, kind: TensorType) -> Floats:
        """Return what one code of each element is worth, for the type of `value`."""
        return steps(kind, self.scale)

    def decoded(self, codes: Array, kind: TensorType) -> Floats:
        """Return the real values of codes (events, *shape)."""
        return np.asarray(codes.astype(np.float64) * self.step(kind))

    def codes_of(self, values: Floats, kind: TensorType) -> Floats:
        """Return real values (events, *shape) of the framework in steps: whole numbers where they are on the grid."""
        return np.asarray(values / self.step(kind))

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "tensors": list(self.tensors),
            "real": self.real,
            "value": self.value,
            "source": self.source,
            "scale": scale_json(self.scale),
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> ExactValue:
        """Read what `to_json` wrote; raises KeyError, TypeError or ValueError for anything else."""
        return ExactValue(
            tensors=tuple(map(str, data["tensors"])),
            real=str(data["real"]),
            value=str(data["value"]),
            source=str(data["source"]),
            scale=scale_from_json(data["scale"]),
        )


def steps(kind: TensorType, scale: FloatArray) -> Floats:
    """Return what one code of each element of a type is worth, where decoded codes are multiplied by `scale`."""
    ones = np.ldexp(np.ones(kind.shape), -kind.range.frac_array(kind.shape))
    return np.asarray(ones * scale.array)


def scale_json(scale: FloatArray) -> dict[str, Any]:
    """Return a scale as plain data, every bit of it."""
    return {"shape": list(scale.shape), "values": [value.hex() for value in scale.array.ravel().tolist()]}


def scale_from_json(data: Mapping[str, Any]) -> FloatArray:
    """Read what `scale_json` wrote; raises KeyError, TypeError or ValueError for anything else."""
    values = np.array([float.fromhex(text) for text in data["values"]])
    return FloatArray.of(values.reshape(tuple(data["shape"])))


def exact_values(graph: Graph, frontier: Iterable[ExactValue], inputs: Mapping[str, Array]) -> dict[str, Array]:
    """Run input codes (as `encode_inputs` gives them) through the graph; return the codes of the exact values.

    The result maps `ExactValue.value` to codes (events, *shape). Errors are those of `emulate`.
    """
    wanted = {exact.value for exact in frontier}
    parts: dict[str, list[Array]] = {}

    def keep(node: Node, codes: Array) -> None:
        if node.name in wanted:
            parts.setdefault(node.name, []).append(codes)

    count = max((len(codes) for codes in inputs.values()), default=1)
    largest = max(node.type.size for node in graph.nodes)
    for events in chunks(count, largest):
        emulate(graph, {name: codes[events] for name, codes in inputs.items()}, keep)
    return {name: several[0] if len(several) == 1 else _joined(several) for name, several in parts.items()}


def _joined(parts: list[Array]) -> Array:
    """Join the codes of all events; those of constants, which are the same in every part, stay one."""
    constant = all(len(part) == 1 for part in parts) and all((part == parts[0]).all() for part in parts)
    return parts[0] if constant else np.concatenate(parts)


def present(frontier: Sequence[ExactValue], graph: Graph) -> tuple[ExactValue, ...]:
    """Return the entries whose value the graph has."""
    return tuple(exact for exact in frontier if exact.value in graph.by_name)
