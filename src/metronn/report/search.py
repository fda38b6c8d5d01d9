"""What a search for widths found, as text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metronn.search.network import Searched

COLUMNS = ("layer", "weights", "searched", "activations", "searched", "LUT-equivalents", "searched")


def rows(searched: Searched) -> list[tuple[str, ...]]:
    """Return the rows of the table of layers, in the order of COLUMNS; the last one is the sum."""
    before = {layer.layer: layer for layer in searched.given.report.layers}
    given, found = searched.result.given, searched.evaluation
    shown: list[tuple[str, ...]] = []
    listed: set[str] = set()
    for layer in searched.quantized.report.layers:
        if layer.kind == "input" or layer.layer in listed:
            continue
        listed.add(layer.layer)
        old = before.get(layer.layer, layer)
        shown.append(
            (
                layer.layer,
                "" if old.weight_bits is None else str(old.weight_bits),
                _weights(searched.layers.get(layer.layer, {}), layer.weight_bits),
                str(old.bits),
                str(layer.bits),
                f"{given.layers.get(layer.layer, 0):,.0f}",
                f"{found.layers.get(layer.layer, 0):,.0f}",
            )
        )
    rest = [sum(v for name, v in e.layers.items() if name not in listed) for e in (given, found)]
    if any(rest):
        shown.append(("between layers", "", "", "", "", f"{rest[0]:,.0f}", f"{rest[1]:,.0f}"))
    return [*shown, ("all", "", "", "", "", f"{given.cost:,.0f}", f"{found.cost:,.0f}")]


def _weights(widths: Mapping[str, Any], bits: int | None) -> str:
    channels = widths.get("channel_bits")
    if channels:
        return f"{min(channels)}..{max(channels)}" if min(channels) < max(channels) else str(channels[0])
    return "" if bits is None else str(bits)


def summary(searched: Searched) -> str:
    """Return what a terminal shows below the table."""
    result, found = searched.result, searched.evaluation
    lines = [
        f"searched: {_share(result.given.cost, found.cost)} of the widths given, "
        f"{_share(result.uniform.cost, found.cost)} of {result.uniform_bits} bits everywhere"
    ]
    if not searched.layers:
        lines.append("the widths given are the cheapest found: nothing is changed")
    return "\n".join([*lines, searched.quantized.report.summary()])


def _share(before: float, after: float) -> str:
    return f"{100 * after / before:.1f} %" if before else "the cost"
