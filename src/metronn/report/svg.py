"""Plots of a report as inline SVG: bars over cycles, resources and layers. Same numbers, same bytes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape

ROW = 22
"""Height of a bar with its gap, in pixels."""
LABEL = 230
WIDTH = 960
COLOURS = ("#2f6fab", "#c8553d", "#3f8f5f", "#8a5fa8", "#b8860b", "#4f7f8f", "#a34f6f", "#6b6b3a")
LINK_COLOUR = "#8d99a6"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A bar from `start` to `end` in the plot's units; `tail` is a paler part up to it; `text` stands behind it."""

    label: str
    start: float
    end: float
    colour: str
    text: str = ""
    tail: float | None = None


def bar_plot(bars: Sequence[Bar], *, end: float, unit: str, marks: Iterable[tuple[float, str]] = ()) -> str:
    """Return horizontal bars over an axis from 0 to `end`; `marks` are labelled vertical lines."""
    inner = WIDTH - LABEL - 90
    height = ROW * len(bars) + 44

    def x(value: float) -> str:
        return f"{LABEL + inner * value / end:.1f}"

    parts = [f'<svg viewBox="0 0 {WIDTH} {height}" role="img" class="plot">']
    bottom = ROW * len(bars) + 6
    for value in _ticks(end):
        parts.append(f'<line class="grid" x1="{x(value)}" y1="4" x2="{x(value)}" y2="{bottom}"/>')
        parts.append(f'<text class="tick" x="{x(value)}" y="{bottom + 15}">{value:g}</text>')
    parts.append(f'<text class="tick" x="{LABEL + inner / 2:.1f}" y="{bottom + 32}">{escape(unit)}</text>')
    for row, bar in enumerate(bars):
        top = ROW * row + 6
        middle = top + 11
        parts.append(f'<text class="name" x="{LABEL - 8}" y="{middle + 1}">{escape(_short(bar.label))}</text>')
        width = max(1.0, inner * (bar.end - bar.start) / end)
        if bar.tail is not None:
            pale = max(1.0, inner * (bar.tail - bar.start) / end)
            parts.append(
                f'<rect x="{x(bar.start)}" y="{top}" width="{pale:.1f}" height="16" fill="{bar.colour}" opacity="0.3"/>'
            )
        parts.append(f'<rect x="{x(bar.start)}" y="{top}" width="{width:.1f}" height="16" fill="{bar.colour}"/>')
        if bar.text:
            after = max(bar.end, bar.tail or bar.end)
            parts.append(
                f'<text class="value" x="{float(x(after)) + 5:.1f}" y="{middle + 1}">{escape(bar.text)}</text>'
            )
    for value, text in marks:
        parts.append(f'<line class="mark" x1="{x(value)}" y1="0" x2="{x(value)}" y2="{bottom}"/>')
        parts.append(f'<text class="marktext" x="{float(x(value)) + 4:.1f}" y="{bottom - 4}">{escape(text)}</text>')
    parts.append("</svg>")
    return "\n".join(parts)


def _short(text: str, limit: int = 34) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _ticks(end: float) -> list[float]:
    """Return round values from 0 to `end`, at most nine."""
    step = 1e-6
    while end / step > 8:
        step *= 2.5 if f"{step:e}".startswith("2") else 2
    count = int(end / step + 1e-9)
    return [round(step * k, 9) for k in range(count + 1)]
