"""Every tensor of a network by layer, on given events: trained in floats beside the firmware's, in the same units."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

from metronn.diagnose.firmware import Firmware, FirmwareValue
from metronn.diagnose.shown import ShownValue, shown_values
from metronn.diagnose.subject import Subject
from metronn.diagnose.words import format_words, share_words
from metronn.ir.arrays import Array
from metronn.model.graph import Floats, RealGraph
from metronn.quantize.judge import element_name
from metronn.quantize.report import sqnr_db
from metronn.quantize.traced import values_of
from metronn.report.html import table_html

DEFAULT_BOUND_DB = 20.0
"""As `quantize.min_sqnr_db` has it."""
SAME = 2.0**-20
"""A float so near to a code, in steps, is the same: float64 multiplies steps that are no powers of two."""
COLUMNS = ("tensor", "layer", "shape", "format", "SQNR [dB]", "largest error", "correlation", "saturated", "held")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TracedTensor:
    """A tensor in both networks, in the units of the network as it was read.

    `floating` and `fixed` are (events, *shape). `sqnr_db` is None where all elements are equal; `correlation` None
    where one of both never varies. `saturated` is the share of codes that met a bound of their format, other than the 0
    of a ReLU; `exact` says that the integers are the framework's, by construction. `formats` are those of the codes:
    `u8.6`, several where channels differ.
    """

    name: str
    layer: str
    value: str
    formats: tuple[str, ...]
    floating: Floats
    fixed: Floats
    exact: bool
    equal: bool
    sqnr_db: float | None
    max_error: float
    worst_event: int
    worst_element: tuple[int, ...]
    correlation: float | None
    saturated: float

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape without the events."""
        return tuple(int(n) for n in self.floating.shape[1:])

    def below(self, bound_db: float) -> bool:
        """Whether less of the signal is left than that."""
        return self.sqnr_db is not None and self.sqnr_db < bound_db

    def row(self) -> tuple[str, ...]:
        """Return the cells of a table row, in the order of COLUMNS."""
        return (
            self.name,
            self.layer,
            " x ".join(map(str, self.shape)) or "1",
            format_words(self.formats),
            "equal" if self.sqnr_db is None else f"{self.sqnr_db:.1f}",
            f"{self.max_error:.3g}",
            "" if self.correlation is None else f"{self.correlation:.6f}",
            share_words(self.saturated),
            "exactly" if self.exact else "rounded",
        )

    def worst_words(self) -> str:
        """Return in words where the error is largest, and both values there."""
        at = (self.worst_event, *self.worst_element)
        return (
            f"event {self.worst_event}, {element_name(self.worst_element)}: {self.floating[at]:.6g} in floats, "
            f"{self.fixed[at]:.6g} in the firmware"
        )

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain data, without the arrays."""
        names = ("name", "layer", "value", "exact", "equal", "sqnr_db", "max_error", "worst_event", "correlation")
        figures: dict[str, Any] = {name: getattr(self, name) for name in names}
        figures |= {"shape": list(self.shape), "formats": list(self.formats), "saturated": self.saturated}
        return figures | {"worst_element": list(self.worst_element)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Untraced:
    """A value of the network that the firmware has not by itself, and the next tensor that it went into, if any."""

    name: str
    layer: str
    into: str

    def words(self) -> str:
        """Return what became of it."""
        return f"{self.name} (folded into {self.into})" if self.into else f"{self.name} (read by nothing)"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trace:
    """Every tensor that both networks have, in the network's order, and those that the firmware has not by itself."""

    events: int
    tensors: tuple[TracedTensor, ...]
    untraced: tuple[Untraced, ...]
    bound_db: float = DEFAULT_BOUND_DB

    def __getitem__(self, name: str) -> TracedTensor:
        """Return a tensor by its name; raises KeyError that lists the names."""
        for tensor in self.tensors:
            if tensor.name == name:
                return tensor
        raise KeyError(f"{name}: traced are {', '.join(tensor.name for tensor in self.tensors)}")

    @property
    def first_below(self) -> TracedTensor | None:
        """The first tensor of which less than `bound_db` of the signal is left."""
        return next((tensor for tensor in self.tensors if tensor.below(self.bound_db)), None)

    @property
    def worst(self) -> TracedTensor:
        """The tensor with the least of its signal left."""
        return min(self.tensors, key=lambda tensor: math.inf if tensor.sqnr_db is None else tensor.sqnr_db)

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Iterate over table rows, one a tensor, in the order of COLUMNS."""
        return (tensor.row() for tensor in self.tensors)

    def _repr_html_(self) -> str:
        notes = [f"{self.events:,} events: {self.verdict()}"]
        if self.untraced:
            notes.append(f"not by themselves in the firmware: {', '.join(one.words() for one in self.untraced)}")
        text = "".join(f"<p>{escape(note)}</p>" for note in notes)
        return table_html(COLUMNS, list(self.rows()), right=range(4, 8)) + text

    def verdict(self) -> str:
        """Return in a line which tensor loses the signal first, and where its error is largest."""
        found = self.first_below
        if found is not None:
            return f"first below {self.bound_db:g} dB: {found.name} ({found.sqnr_db:.1f} dB), {found.worst_words()}"
        worst = self.worst
        if worst.sqnr_db is None:
            return "every traced tensor is equal"
        least = f"least is left of {worst.name} ({worst.sqnr_db:.1f} dB)"
        return f"none is below {self.bound_db:g} dB; {least}, {worst.worst_words()}"

    def arrays(self) -> dict[str, Array]:
        """Return the values by name: NAME the firmware's, NAME__float the trained network's.

        NAME__float_ beside a tensor that is called NAME__float.
        """
        names = {tensor.name for tensor in self.tensors}
        found: dict[str, Array] = {}
        for tensor in self.tensors:
            floating = f"{tensor.name}__float"
            while floating in names:
                floating += "_"
            found |= {tensor.name: tensor.fixed, floating: tensor.floating}
        return found

    def to_json(self) -> dict[str, Any]:
        """Return the figures as plain data."""
        first = self.first_below
        return {
            "events": self.events,
            "bound_db": self.bound_db,
            "first_below": None if first is None else first.name,
            "worst": self.worst.name,
            "tensors": [tensor.to_json() for tensor in self.tensors],
            "untraced": [{"name": one.name, "layer": one.layer, "into": one.into} for one in self.untraced],
        }


def trace_network(subject: Subject, inputs: Mapping[str, Floats], bound_db: float = DEFAULT_BOUND_DB) -> Trace:
    """Run events, in the model's units and by the identifiers of the inputs, through both networks.

    Raises ModelError for events that do not fit the inputs.
    """
    shown = shown_values(subject.network)
    firmware = Firmware.run(subject, inputs)
    found = {value.node.name: kept for value in shown if (kept := firmware.found(value.node.name)) is not None}
    with np.errstate(all="ignore"):
        floats = values_of(subject.network, inputs, found)
    return Trace(
        events=firmware.events,
        tensors=tuple(
            _compared(value, found[value.node.name], floats[value.node.name], firmware.events)
            for value in shown
            if value.node.name in found
        ),
        untraced=tuple(_untraced(subject.network, shown, found)),
        bound_db=bound_db,
    )


def _compared(value: ShownValue, found: FirmwareValue, floats: Floats, count: int) -> TracedTensor:
    floating = np.broadcast_to(floats, (count, *value.node.shape))
    fixed = np.broadcast_to(found.fixed, floating.shape)
    error = np.abs(floating - fixed)
    equal = bool((error <= SAME * np.abs(found.step)).all())
    place = np.unravel_index(int(error.argmax()), error.shape) if error.size else (0,) * error.ndim
    return TracedTensor(
        name=value.name,
        layer=value.node.source,
        value=found.entry.value,
        formats=found.formats,
        floating=floating,
        fixed=fixed,
        exact=found.entry.exact,
        equal=equal,
        sqnr_db=None if equal else sqnr_db(floating, fixed),
        max_error=float(error.max(initial=0.0)),
        worst_event=int(place[0]),
        worst_element=tuple(int(k) for k in place[1:]),
        correlation=correlation(floating, fixed),
        saturated=float(found.clipped.mean()) if found.clipped.size else 0.0,
    )


def correlation(x: Floats, y: Floats) -> float | None:
    """Return Pearson's correlation of all elements; None where one of both never varies."""
    dx, dy = x - x.mean(), y - y.mean()
    power = math.sqrt(float(np.square(dx).sum())) * math.sqrt(float(np.square(dy).sum()))
    return max(-1.0, min(1.0, float((dx * dy).sum()) / power)) if power else None


def _untraced(
    network: RealGraph, shown: Sequence[ShownValue], found: Mapping[str, FirmwareValue]
) -> Iterator[Untraced]:
    names = {value.node.name: value.name for value in shown}
    for value in shown:
        if value.node.name not in found:
            into = _next(network, value.node.name, found)
            yield Untraced(name=value.name, layer=value.node.source, into=names.get(into, into))


def _next(network: RealGraph, name: str, found: Mapping[str, FirmwareValue]) -> str:
    """Return the first value behind a name, nearest first, that is found; nothing where none is."""
    ahead, seen = [name], {name}
    while ahead:
        ahead = list(dict.fromkeys(user for x in ahead for user in network.uses[x] if user not in seen))
        seen.update(ahead)
        for user in ahead:
            if user in found:
                return user
    return ""
