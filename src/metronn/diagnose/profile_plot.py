"""A profile as a picture: for each tensor the sizes of its values as a box, on the range of its format."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from metronn.diagnose.measured import ProfiledTensor
from metronn.diagnose.words import format_words, share_words
from metronn.report.figures import empty_figure

COLOURS = {"weights": "#c98f1b", "activations": "#1f6f8b"}
RANGE, COMMON = "#e4e7ea", "#cdd3d9"
ROW_INCHES = 0.3
THINNEST_OCTAVES = 0.06
"""Bars and boxes of one value are drawn so thick."""
MARGIN_OCTAVES = 4.0
"""Whiskers are cut so far below the finest step or lower quartile of any tensor."""


def profile_figure(tensors: Sequence[ProfiledTensor], events: int) -> Any:  # noqa: ANN401 - matplotlib has no types
    """Return a matplotlib Figure with a row for each tensor; raises ToolError where matplotlib is missing.

    On a binary logarithm: a bar from the step to the reach of the format, darker where all its channels are; a box
    between the quartiles of the absolute values with the median, whiskers from the least to the largest, a tick at the
    99.9th percentile. A red end of a bar: values are beyond.
    """
    height = 1.5 + ROW_INCHES * max(1, len(tensors))
    figure = empty_figure(11, height, dpi=120, without="the table and --json do without")
    axes = figure.subplots()
    low, high = _limits(tensors)
    for row, tensor in enumerate(tensors):
        _draw(axes, row, tensor, low)
    _separate(axes, tensors)
    _label(axes, tensors, low, high)
    axes.set_title(f"absolute values of weights and activations ({events:,} events) and their formats", fontsize=11)
    _legend(figure)
    return figure


def _limits(tensors: Sequence[ProfiledTensor]) -> tuple[float, float]:
    """Return the ends of the axis, as powers of two."""
    lows = [size for tensor in tensors for size in (tensor.format.steps[0], tensor.sizes.quartiles[0]) if size > 0]
    highs = [size for tensor in tensors for size in (tensor.format.reaches[1], tensor.sizes.largest) if size > 0]
    low, high = (math.log2(pick(found)) if found else 0.0 for pick, found in ((min, lows), (max, highs)))
    return math.floor(low - MARGIN_OCTAVES), math.ceil(high + 1)


def _draw(axes: Any, row: int, tensor: ProfiledTensor, low: float) -> None:  # noqa: ANN401 - matplotlib has no types
    colour, sizes = COLOURS[tensor.kind], tensor.sizes
    (finest, coarsest), (nearest, farthest) = tensor.format.steps, tensor.format.reaches
    _bar(axes, row, finest, farthest, RANGE)
    _bar(axes, row, coarsest, nearest, COMMON)
    if tensor.beyond and farthest > 0:
        axes.plot([math.log2(farthest)] * 2, [row - 0.42, row + 0.42], color="#c0392b", linewidth=1.8, zorder=4)
    if not sizes.largest:
        return

    def place(size: float) -> float:
        return max(low, math.log2(size))

    axes.plot([place(sizes.least), place(sizes.largest)], [row, row], color=colour, linewidth=1.1, zorder=2)
    lower, middle, upper = map(place, sizes.quartiles)
    axes.barh(row, max(upper - lower, THINNEST_OCTAVES), left=lower, height=0.46, color=colour, linewidth=0, zorder=3)
    axes.plot([middle, middle], [row - 0.23, row + 0.23], color="white", linewidth=1.4, zorder=4)
    for size, half in ((sizes.high, 0.16), (sizes.largest, 0.23)):
        axes.plot([place(size)] * 2, [row - half, row + half], color=colour, linewidth=1.1, zorder=4)


def _bar(axes: Any, row: int, low: float, high: float, colour: str) -> None:  # noqa: ANN401 - matplotlib has no types
    if 0 < low <= high:
        start, end = math.log2(low), max(math.log2(high), math.log2(low) + THINNEST_OCTAVES)
        axes.barh(row, end - start, left=start, height=0.84, color=colour, linewidth=0, zorder=1)


def _separate(axes: Any, tensors: Sequence[ProfiledTensor]) -> None:  # noqa: ANN401 - matplotlib has no types
    """Draw a line between layers."""
    for row in range(1, len(tensors)):
        if tensors[row].layer != tensors[row - 1].layer:
            axes.axhline(row - 0.5, color="#bbbbbb", linewidth=0.5, zorder=0)


def _label(axes: Any, tensors: Sequence[ProfiledTensor], low: float, high: float) -> None:  # noqa: ANN401 - matplotlib has no types
    tickers: Any = import_module("matplotlib.ticker")
    axes.set_xlim(low, high)
    axes.set_ylim(max(1, len(tensors)) - 0.4, -0.6)
    titles = [tensor.name if tensor.kind == "activations" else f"{tensor.name} (weights)" for tensor in tensors]
    axes.set_yticks(range(len(tensors)), titles, fontsize=8)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(tickers.MaxNLocator(nbins=14, integer=True))
    axes.xaxis.set_major_formatter(tickers.FuncFormatter(lambda exponent, _: f"$2^{{{exponent:g}}}$"))
    axes.grid(visible=True, axis="x", color="#eeeeee", linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
    right = axes.secondary_yaxis("right")
    right.set_yticks(range(len(tensors)), [_notes(tensor) for tensor in tensors], fontsize=8)
    right.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    right.spines["right"].set_visible(False)


def _notes(tensor: ProfiledTensor) -> str:
    """Return the format, and the shares that it does not hold."""
    beyond, vanishing = share_words(tensor.beyond), share_words(tensor.vanishing)
    notes = [f"{beyond} beyond"] if beyond else []
    notes += [f"{vanishing} to 0"] if vanishing else []
    return "  ".join((format_words(tensor.format.names), *notes))


def _legend(figure: Any) -> None:  # noqa: ANN401 - matplotlib has no types
    patches: Any = import_module("matplotlib.patches")
    lines: Any = import_module("matplotlib.lines")
    handles = [patches.Patch(color=colour, label=f"{kind}, quartiles") for kind, colour in COLOURS.items()]
    handles.append(lines.Line2D([], [], color="#555555", linewidth=1.1, label="least to largest, tick at 99.9 %"))
    handles.append(patches.Patch(color=COMMON, label="format: step to reach"))
    handles.append(patches.Patch(color=RANGE, label="of some channels"))
    handles.append(lines.Line2D([], [], color="#c0392b", linewidth=1.8, label="values beyond"))
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8)
