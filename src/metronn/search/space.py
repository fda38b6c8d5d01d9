"""Which widths a search may change, and the options that a choice of widths stands for."""

from __future__ import annotations

import enum
import glob
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from metronn.quantize.options import LayerOptions, QuantizeOptions

Layers = Mapping[str, Mapping[str, int | list[int]]]
"""By layer: `weight_bits`, `activation_bits`, `channel_bits` as in metronn.toml."""
Point = tuple[int, ...]
"""One level for each knob; more is wider."""
CHANNEL_GROUPS = 4
"""A layer's channels are varied in so many groups at most, channels of like width together."""
LEAST_BITS = 2


class KnobKind(enum.Enum):
    """What a knob sets; the value is the key in metronn.toml."""

    WEIGHT = "weight_bits"
    ACTIVATION = "activation_bits"
    CHANNELS = "channel_bits"


@dataclass(frozen=True, slots=True, kw_only=True)
class Knob:
    """One width that a search changes, between `low` and `high`.

    The level is a width in bits; for CHANNELS it is added to the widths `bits` of the `channels` it moves.
    """

    layer: str
    kind: KnobKind
    low: int
    high: int
    channels: tuple[int, ...] = ()
    bits: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """What logs call it."""
        what = {"weight_bits": "weights", "activation_bits": "activations", "channel_bits": "channels"}
        return f"{self.layer} {what[self.kind.value]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """The knobs of a search, and widths that are settled already."""

    knobs: tuple[Knob, ...]
    settled: Layers

    def uniform(self, bits: int) -> Point:
        """Return the point with one width everywhere."""
        return tuple(min(max(bits, knob.low), knob.high) for knob in self.knobs)

    def moved(self, point: Point, index: int, by: int) -> Point | None:
        """Return the point with one knob moved, or None beyond its bounds."""
        level = point[index] + by
        if not self.knobs[index].low <= level <= self.knobs[index].high:
            return None
        return (*point[:index], level, *point[index + 1 :])

    def layers(self, point: Point) -> Layers:
        """Return the widths of a point, by layer."""
        found: dict[str, dict[str, int | list[int]]] = {name: dict(widths) for name, widths in self.settled.items()}
        for knob, level in zip(self.knobs, point, strict=True):
            widths = found.setdefault(knob.layer, {})
            if knob.kind is KnobKind.CHANNELS:
                channels = widths.setdefault(knob.kind.value, [LEAST_BITS] * _channel_count(self.knobs, knob.layer))
                assert isinstance(channels, list)
                for channel, bits in zip(knob.channels, knob.bits, strict=True):
                    channels[channel] = max(LEAST_BITS, bits + level)
            else:
                widths[knob.kind.value] = level
        return found


def _channel_count(knobs: Sequence[Knob], layer: str) -> int:
    return sum(len(knob.channels) for knob in knobs if knob.layer == layer)


def layer_space(
    weights: Sequence[str], activations: Sequence[str], *, narrowest: int, widest: int, kept: Sequence[str] = ()
) -> Space:
    """Return one knob for the weights and one for the activations of each layer but those that match `kept`."""
    order = dict.fromkeys((*weights, *activations))
    knobs = [
        Knob(layer=layer, kind=kind, low=narrowest, high=widest)
        for layer in order
        for kind, layers in ((KnobKind.WEIGHT, weights), (KnobKind.ACTIVATION, activations))
        if layer in layers and not any(fnmatchcase(layer, pattern) for pattern in kept)
    ]
    return Space(knobs=tuple(knobs), settled={})


def channel_space(settled: Layers, channels: Mapping[str, Sequence[int]], narrowest: int) -> Space:
    """Return one knob for each group of like channels of the layers in `channels` (widths in use by channel).

    Everything else is settled; a layer's own width of weights gives way to its channels'.
    """
    knobs: list[Knob] = []
    for layer, bits in channels.items():
        order = sorted(range(len(bits)), key=lambda channel: (bits[channel], channel))
        groups = min(CHANNEL_GROUPS, len(order))
        for group in range(groups):
            picked = tuple(order[group * len(order) // groups : (group + 1) * len(order) // groups])
            widths = tuple(max(LEAST_BITS, bits[channel]) for channel in picked)
            low = min(0, narrowest - max(widths))
            knobs.append(Knob(layer=layer, kind=KnobKind.CHANNELS, low=low, high=1, channels=picked, bits=widths))
    rest = {
        layer: {key: value for key, value in widths.items() if key != KnobKind.WEIGHT.value or layer not in channels}
        for layer, widths in settled.items()
    }
    return Space(knobs=tuple(knobs), settled=rest)


def applied(options: QuantizeOptions, layers: Layers) -> QuantizeOptions:
    """Return the options with these widths; they win over every pattern that is there."""
    found = {
        glob.escape(layer): LayerOptions.model_validate(
            {key: tuple(value) if isinstance(value, list) else value for key, value in widths.items()}
        )
        for layer, widths in layers.items()
    }
    return with_patterns(options, found)


def with_patterns(options: QuantizeOptions, layers: Mapping[str, LayerOptions]) -> QuantizeOptions:
    """Return the options with patterns put behind those that are there; what they say wins.

    A width for a whole layer also ends the widths by channel that a pattern of its name gave before.
    """
    patterns = dict(options.layers)
    for name, new in layers.items():
        old = patterns.pop(name, LayerOptions())
        if new.weight_bits is not None:
            old = old.model_copy(update={"channel_bits": None})
        patterns[name] = old.model_copy(update={key: value for key, value in new if value is not None})
    return options.model_copy(update={"layers": patterns})


def uniform_options(options: QuantizeOptions, bits: int) -> QuantizeOptions:
    """Return the options with one width for all weights and results; what else patterns say stays."""
    none = {"weight_bits": None, "activation_bits": None, "channel_bits": None}
    layers = {name: layer.model_copy(update=none) for name, layer in options.layers.items()}
    return options.model_copy(update={"weight_bits": bits, "activation_bits": bits, "layers": layers})


def key_of(layers: Layers) -> str:
    """Return the widths as one line of text, the same for the same widths."""
    return json.dumps(layers, sort_keys=True)
