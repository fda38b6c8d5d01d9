"""Plans beside each other as a picture: latency against boards, a line for each system."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from metronn.report.figures import COLOURS, MARKERS, empty_figure
from metronn.report.tables import printable

NO_PLAN_HEIGHT = 0.03
"""Where crosses for what has no plan stand, as a share of the height."""
CROSS_POINTS = 10
"""Distance of crosses at one number of boards."""
RINGS = {"latency": ("o", 15), "boards": ("s", 20)}
"""Shape and size of what is around the plan that is best in something."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A plan in the picture; `latency_ns` None: there is none, `boards` is then what was asked for, if anything was."""

    series: str
    boards: int | None
    latency_ns: float | None
    best: tuple[str, ...] = ()


def comparison_figure(places: Sequence[Place], title: str) -> Any:  # noqa: ANN401 - matplotlib has no types
    """Return a matplotlib Figure; raises ToolError where matplotlib is missing.

    Plans are joined by board count within a series; those that are best in something are framed. Crosses at the lower
    edge stand for numbers of boards without a plan.
    """
    figure = empty_figure(8, 5.2, dpi=150, without="the table does without")
    axes = figure.subplots()
    styles = {
        series: (COLOURS[k % len(COLOURS)], MARKERS[k % len(MARKERS)])
        for k, series in enumerate(dict.fromkeys(place.series for place in places))
    }
    for series in styles:
        _draw(axes, [place for place in places if place.series == series], *styles[series])
    missing = sorted({(p.boards, p.series) for p in places if p.boards is not None and p.latency_ns is None})
    for boards in {boards: None for boards, _ in missing}:
        _cross(axes, boards, [styles[series][0] for series in styles if (boards, series) in missing])
    for place in places:
        for what in place.best:
            marker, size = RINGS[what]
            axes.plot([place.boards], [place.latency_ns], **_ring(marker, size))
    _label(axes, max((place.boards for place in places if place.boards is not None), default=1), title)
    handles = _handles(styles, crosses=bool(missing))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)), frameon=False, fontsize=9)
    return figure


def _draw(axes: Any, places: Sequence[Place], colour: str, marker: str) -> None:  # noqa: ANN401 - matplotlib has no types
    """Draw one series, equal numbers of boards one above the other."""
    planned = sorted((p.boards, p.latency_ns) for p in places if p.boards is not None and p.latency_ns is not None)
    xs, ys = [x for x, _ in planned], [y for _, y in planned]
    axes.plot(xs, ys, color=colour, marker=marker, markersize=7, linewidth=1.2)


def _cross(axes: Any, boards: int, colours: Sequence[str]) -> None:  # noqa: ANN401 - matplotlib has no types
    """Draw crosses beside each other, one for each series without a plan at this number of boards."""
    for number, colour in enumerate(colours):
        axes.annotate(
            "×",
            (boards, NO_PLAN_HEIGHT),
            xycoords=("data", "axes fraction"),
            xytext=(CROSS_POINTS * (number - (len(colours) - 1) / 2), 0),
            textcoords="offset points",
            color=colour,
            fontsize=13,
            horizontalalignment="center",
            verticalalignment="center",
        )


def _ring(marker: str, size: int) -> dict[str, Any]:
    face = {"markerfacecolor": "none", "markeredgecolor": "#333333"}
    return {"marker": marker, "markersize": size, "linestyle": "none", **face}


def _label(axes: Any, most_boards: int, title: str) -> None:  # noqa: ANN401 - matplotlib has no types
    tickers: Any = import_module("matplotlib.ticker")
    axes.xaxis.set_major_locator(tickers.MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_xlim(0.5, most_boards + 0.5)
    axes.margins(y=0.18)
    axes.set_xlabel("boards")
    axes.set_ylabel("latency [ns]")
    axes.set_title(_plain(title), fontsize=11)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _handles(styles: Mapping[str, tuple[str, str]], *, crosses: bool) -> list[Any]:
    """Return the entries of the legend."""
    lines: Any = import_module("matplotlib.lines")
    handles = [
        lines.Line2D([], [], color=colour, marker=marker, linewidth=1.2, label=_plain(series))
        for series, (colour, marker) in styles.items()
    ]
    for what, (marker, size) in RINGS.items():
        handles.append(lines.Line2D([], [], label=f"best in {what}", **_ring(marker, size - 6)))
    if crosses:
        handles.append(lines.Line2D([], [], color="#777777", marker="x", linestyle="none", label="no plan"))
    return handles


def _plain(name: str) -> str:
    """Return a name, which may hold anything, so that matplotlib shows it as it is."""
    return printable(name).replace("$", "\\$")
