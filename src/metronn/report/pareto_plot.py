"""The Pareto front as a picture: the metric over LUT-equivalents, and over latency."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

from metronn.report.figures import COLOURS, MARKERS, empty_figure, picture_bytes
from metronn.search.pareto import ParetoPoint

LABELLED = 12
"""So many points of the front are labelled at most."""


def pareto_png(points: Sequence[ParetoPoint], metric: str) -> bytes:
    """Draw all points with a plan; those of the front are full, labelled and joined by steps.

    Raises ToolError when matplotlib is missing.
    """
    figure = empty_figure(11, 5.2, dpi=150, without="leave it out with --no-plot")
    planned = [point for point in points if point.planned]
    left, right = figure.subplots(1, 2, sharey=True)
    _panel(left, planned, "LUT-equivalents", [float(p.lut_equivalents or 0) for p in planned], logarithmic=True)
    _panel(right, planned, "latency [ns]", [float(p.latency_ns or 0) for p in planned], logarithmic=False)
    left.set_ylabel(metric)
    _legend(figure, planned)
    return picture_bytes(figure, "png")


def _kinds(points: Sequence[ParetoPoint]) -> tuple[dict[str, str], dict[tuple[int, str], str]]:
    """Return the marker of each network and the colour of each II and fold."""
    networks = sorted({point.network for point in points})
    folds = sorted({(point.ii_cycles, point.fold) for point in points})
    return (
        {name: MARKERS[k % len(MARKERS)] for k, name in enumerate(networks)},
        {fold: COLOURS[k % len(COLOURS)] for k, fold in enumerate(folds)},
    )


def _panel(axes: Any, points: Sequence[ParetoPoint], title: str, xs: Sequence[float], *, logarithmic: bool) -> None:  # noqa: ANN401 - matplotlib has no types
    markers, colours = _kinds(points)
    for point, x in zip(points, xs, strict=True):
        colour = colours[point.ii_cycles, point.fold]
        axes.scatter(
            [x],
            [point.metric],
            marker=markers[point.network],
            s=62 if point.front else 34,
            facecolor=colour if point.front else "none",
            edgecolor="black" if point.front else colour,
            linewidth=0.9,
            alpha=1.0 if point.front else 0.55,
            zorder=3 if point.front else 2,
        )
    edge = _edge([(x, point.metric) for x, point in zip(xs, points, strict=True)])
    axes.step([x for x, _ in edge], [y for _, y in edge], where="post", color="black", linewidth=0.9, zorder=1)
    labelled: dict[tuple[float, float], str] = {}
    for point, x in zip(points, xs, strict=True):
        if (x, point.metric) in edge:
            labelled.setdefault((x, point.metric), point.widths)
    for place, text in list(labelled.items())[:LABELLED]:
        axes.annotate(text, place, xytext=(6, -11), textcoords="offset points", fontsize=8, color="#333333")
    if logarithmic and xs and max(xs) > 3 * min(xs) > 0:
        axes.set_xscale("log")
        tickers: Any = import_module("matplotlib.ticker")
        axes.xaxis.set_major_locator(tickers.LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_minor_locator(tickers.NullLocator())
        axes.xaxis.set_major_formatter(tickers.FuncFormatter(_thousands))
    axes.set_xlabel(title)
    axes.margins(x=0.14, y=0.1)
    axes.grid(visible=True, which="major", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _thousands(value: float, _position: int | None = None) -> str:
    """Return a number of LUTs as an axis shows it: 800, 20k, 1.5M."""
    for unit, name in ((1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def _edge(places: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the places of the front in two dimensions: less is better in the first, more in the second."""
    edge: list[tuple[float, float]] = []
    for x, y in sorted(places, key=lambda place: (place[0], -place[1])):
        if not edge or y > edge[-1][1]:
            edge.append((x, y))
    return edge


def _legend(figure: Any, points: Sequence[ParetoPoint]) -> None:  # noqa: ANN401 - matplotlib has no types
    lines: Any = import_module("matplotlib.lines")
    markers, colours = _kinds(points)

    def handle(label: str, marker: str, colour: str, edge: str) -> Any:  # noqa: ANN401 - matplotlib has no types
        return lines.Line2D(
            [], [], linestyle="none", marker=marker, color=colour, markeredgecolor=edge, label=label, markersize=7
        )

    handles = [handle(name, marker, "none", "black") for name, marker in markers.items()] if len(markers) > 1 else []
    handles += [handle(f"II {ii}, fold {fold}", "o", colour, colour) for (ii, fold), colour in colours.items()]
    handles.append(handle("on the front", "o", "#999999", "black"))
    figure.legend(handles=handles, loc="outside upper center", ncols=min(6, len(handles)), frameon=False, fontsize=9)
