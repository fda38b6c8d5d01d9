"""How weights and activations fill the formats chosen for them: sizes of the trained values beside range and step."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from metronn.diagnose.firmware import formats_of
from metronn.diagnose.measured import COLUMNS, Format, ProfiledTensor, Sizes
from metronn.diagnose.profile_plot import profile_figure
from metronn.diagnose.shown import shown_values
from metronn.diagnose.subject import Subject
from metronn.errors import ToolError
from metronn.ir.arrays import Array
from metronn.ir.ops import Linear
from metronn.ir.types import TensorType, width_bits
from metronn.model.graph import Floats, RealGraph, RealLinear
from metronn.passes.pipeline import prepare
from metronn.quantize.traced import TracedMatrix, values_of
from metronn.report.figures import picture_bytes
from metronn.report.html import table_html


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Weights and activations in the order of the network, on so many events."""

    events: int
    tensors: tuple[ProfiledTensor, ...]

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Iterate over table rows, one a tensor, in the order of COLUMNS."""
        return (tensor.row() for tensor in self.tensors)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {"events": self.events, "tensors": [tensor.to_json() for tensor in self.tensors]}

    def _repr_html_(self) -> str:
        try:
            picture = self.svg().decode()
        except ToolError as error:
            picture = f"<p>{escape(error.message)}</p>"
        right = (*range(3, 11), *range(12, len(COLUMNS)))
        return picture[picture.index("<svg") if "<svg" in picture else 0 :] + table_html(
            COLUMNS, list(self.rows()), right=right
        )

    def figure(self) -> Any:  # noqa: ANN401 - matplotlib has no types
        """Return a matplotlib Figure of it; raises ToolError where matplotlib is missing."""
        return profile_figure(self.tensors, self.events)

    def svg(self) -> bytes:
        """Return the figure as SVG. Same profile, same bytes. Raises ToolError where matplotlib is missing."""
        return picture_bytes(self.figure(), "svg")

    def png(self) -> bytes:
        """Return the figure as PNG. Same profile, same bytes. Raises ToolError where matplotlib is missing."""
        return picture_bytes(self.figure(), "png")


def profile_network(subject: Subject, inputs: Mapping[str, Floats]) -> Profile:
    """Profile the weights of a network, and its values on events, in the network's units.

    Activations are those of the float network as it was read. Weights are those of its matrices once what is folded
    into them is, such as a batch normalization, with channels as the network has them.
    """
    prepared = prepare(subject.quantized_network)
    trained = prepared if subject.typed is None else prepare(subject.network)
    places = {node.name: at for at, node in enumerate(subject.network.nodes)}
    layers = {node.source: at for at, node in reversed(list(enumerate(subject.network.nodes)))}
    tensors: list[tuple[int, ProfiledTensor]] = []
    for matrix in subject.kept.matrices:
        weights = _weights(subject, prepared, trained, matrix)
        if weights is not None:
            tensors.append((places.get(matrix.real, layers.get(weights.layer, 0)), weights))
    tensors += ((places[name], activations) for name, activations in _activations(subject, inputs))
    ordered = sorted(tensors, key=lambda entry: entry[0])
    return Profile(events=max(map(len, inputs.values()), default=1), tensors=tuple(tensor for _, tensor in ordered))


def _activations(subject: Subject, inputs: Mapping[str, Floats]) -> Iterator[tuple[str, ProfiledTensor]]:
    """Iterate over the values that are traced, each with its name in the network."""
    values = subject.values
    shown = [value for value in shown_values(subject.network) if value.node.name in values]
    with np.errstate(all="ignore"):
        floats = values_of(subject.network, inputs, [value.node.name for value in shown])
    for value in shown:
        entry = values[value.node.name]
        kind = subject.graph.type_of(entry.value)
        low, high = (bounds.transpose(entry.order) for bounds in _bounds(kind))
        yield (
            value.node.name,
            _profiled(
                (value.name, value.node.source, "activations"),
                floats[value.node.name],
                formats_of(kind),
                entry.step(kind),
                (low, high),
            ),
        )


def _bounds(kind: TensorType) -> tuple[Floats, Floats]:
    """Return the least and the largest code of each element's width."""
    widths = np.array(kind.element_widths(), dtype=np.float64).reshape(kind.shape)
    signed = np.array([low < 0 for low in kind.range.los(kind.size)]).reshape(kind.shape)
    some = signed | np.array([high > 0 for high in kind.range.his(kind.size)]).reshape(kind.shape)
    reach = np.exp2(widths - signed)
    return np.where(signed, -reach, 0.0), np.where(some, reach - 1, 0.0)


def _weights(subject: Subject, prepared: RealGraph, trained: RealGraph, matrix: TracedMatrix) -> ProfiledTensor | None:
    """Return the weights of a matrix, or None where neither network has it in the shape of its integers."""
    op = subject.graph.by_name[matrix.value].op
    node = prepared.by_name.get(matrix.real)
    if not isinstance(op, Linear) or node is None or not isinstance(node.op, RealLinear):
        return None
    floats = _trained_weights(trained, node.source, node.op)
    if floats.shape != op.weight.shape:
        return None
    codes = op.weight.array
    bits = width_bits(int(codes.min()), int(codes.max()))
    signed = bool(codes.min() < 0)
    bounds = (-(2.0 ** (bits - 1)) if signed else 0.0, 2.0 ** (bits - signed) - 1)
    low, high = (np.full(codes.shape, bound) for bound in bounds)
    fracs = np.unique(np.asarray(op.input_frac)[..., np.newaxis] + np.asarray(op.weight_frac))
    names = tuple(f"{'s' if signed else 'u'}{bits}.{frac}" for frac in fracs.tolist())
    return _profiled((matrix.real, node.source, "weights"), floats, names, matrix.step(op), (low, high))


def _trained_weights(trained: RealGraph, layer: str, op: RealLinear) -> Floats:
    """Return the weights of a matrix of a layer before an hls4ml configuration rounded them."""
    alike = [
        node.op.weight.array
        for node in trained.nodes
        if isinstance(node.op, RealLinear) and node.source == layer and node.op.weight.shape == op.weight.shape
    ]
    return alike[0] if len(alike) == 1 else op.weight.array


def _profiled(
    title: tuple[str, str, str], floats: Floats, names: tuple[str, ...], step: Floats, bounds: tuple[Floats, Floats]
) -> ProfiledTensor:
    """Measure values against formats, of which step and bounds broadcast to them; `title` is name, layer and kind."""
    name, layer, kind = title
    low, high = (np.where(step < 0, -other, own) for own, other in (bounds, bounds[::-1]))
    step = np.abs(step)
    beyond = (floats < (low - 0.5) * step) | (floats >= (high + 0.5) * step)
    vanishing = (floats != 0) & (np.abs(floats) < 0.5 * step)
    return ProfiledTensor(
        name=name,
        layer=layer,
        kind=kind,
        sizes=Sizes.of(floats),
        format=Format.of(names, step, low, high),
        beyond=_share(beyond),
        vanishing=_share(vanishing),
    )


def _share(mask: Array) -> float:
    return float(mask.mean()) if mask.size else 0.0
