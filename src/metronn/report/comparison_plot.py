"""Plans beside each other as a picture: latency against boards, a line for each system."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from metronn.report.figures import COLOURS, MARKERS, empty_figure
from metronn.report.tables import printable

NO_PLAN_HEIGHT = 0.03
"""Where crosses for what has no plan stand, as a share of the height."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A plan in the picture; `latency_ns` None: there is none, `boards` is then what was asked for, if anything was."""

    series: str
    boards: int | None
    latency_ns: float | None
    best: tuple[str, ...] = ()


def comparison_figure(places: Sequence[Place], title: str) -> Any:  # noqa: ANN401 - matplotlib has no types
    """Return a matplotlib Figure; raises ToolError where matplotlib is missing.

    Plans are joined by board count within a series; those that are best in something have a ring and say in what.
    Crosses at the lower edge stand for numbers of boards without a plan.
    """
    figure = empty_figure(8, 5.2, dpi=150, without="leave it out with --no-plot")
    axes = figure.subplots()
    lines: Any = import_module("matplotlib.lines")
    handles = []
    for number, series in enumerate(dict.fromkeys(place.series for place in places)):
        colour, marker = COLOURS[number % len(COLOURS)], MARKERS[number % len(MARKERS)]
        own = [place for place in places if place.series == series]
        _draw(axes, own, colour, marker, shift=7 * number)
        handles.append(lines.Line2D([], [], color=colour, marker=marker, linewidth=1.2, label=_plain(series)))
    _label(axes, [place for place in places if place.best])
    if any(place.latency_ns is None and place.boards is not None for place in places):
        handles.append(lines.Line2D([], [], color="#777777", marker="x", linestyle="none", label="no plan"))
    tickers: Any = import_module("matplotlib.ticker")
    axes.xaxis.set_major_locator(tickers.MaxNLocator(integer=True, min_n_ticks=1))
    widest = max((place.boards for place in places if place.boards is not None), default=1)
    axes.set_xlim(0.5, widest + 0.5)
    axes.margins(y=0.18)
    axes.set_xlabel("boards")
    axes.set_ylabel("latency [ns]")
    axes.set_title(_plain(title), fontsize=11)
    axes.grid(visible=True, color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.legend(handles=handles, loc="outside lower center", ncols=min(4, len(handles)), frameon=False, fontsize=9)
    return figure


def _plain(name: str) -> str:
    """Return a name, which may hold anything, so that matplotlib shows it as it is."""
    return printable(name).replace("$", "\\$")


def _draw(axes: Any, places: Sequence[Place], colour: str, marker: str, shift: int) -> None:  # noqa: ANN401 - matplotlib has no types
    """Draw one series; crosses of other series at the same number of boards are `shift` points beside."""
    planned = sorted((p.boards, p.latency_ns) for p in places if p.boards is not None and p.latency_ns is not None)
    axes.plot(
        [x for x, _ in planned], [y for _, y in planned], color=colour, marker=marker, markersize=7, linewidth=1.2
    )
    for boards in sorted({p.boards for p in places if p.boards is not None and p.latency_ns is None}):
        axes.annotate(
            "×",
            (boards, NO_PLAN_HEIGHT),
            xycoords=("data", "axes fraction"),
            xytext=(shift, 0),
            textcoords="offset points",
            color=colour,
            fontsize=13,
            horizontalalignment="center",
            verticalalignment="center",
        )


def _label(axes: Any, best: Sequence[Place]) -> None:  # noqa: ANN401 - matplotlib has no types
    """Ring what is best in something, and say in what."""
    for place in best:
        axes.plot([place.boards], [place.latency_ns], marker="o", markersize=15, color="none", markeredgecolor="black")
        axes.annotate(
            f"best in {' and '.join(place.best)}",
            (place.boards, place.latency_ns),
            xytext=(0, 13),
            textcoords="offset points",
            fontsize=9,
            horizontalalignment="center",
            bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1.0},
        )
