"""What all pictures of matplotlib share: an empty figure, and its bytes."""

from __future__ import annotations

import io
from importlib import import_module
from typing import Any

from metronn.errors import ToolError

COLOURS = ("#1f6f8b", "#d1495b", "#66a182", "#8d6a9f", "#c98f1b", "#3d405b", "#4cb5ae", "#a44a3f")
"""Of series, in order."""
MARKERS = "osD^vP*X"
"""Of series, in order."""


def empty_figure(width: float, height: float, *, dpi: int, without: str) -> Any:  # noqa: ANN401 - matplotlib has no types
    """Return a matplotlib Figure of a size in inches.

    Raises ToolError where matplotlib is missing; `without` says in it how to do without.
    """
    try:
        figures: Any = import_module("matplotlib.figure")
        backend: Any = import_module("matplotlib.backends.backend_agg")
    except ImportError:
        raise ToolError(f"the picture needs matplotlib (pip install 'metronn[plots]'); {without}") from None
    figure = figures.Figure(figsize=(width, height), dpi=dpi, layout="constrained")
    backend.FigureCanvasAgg(figure)
    return figure


def picture_bytes(figure: Any, kind: str) -> bytes:  # noqa: ANN401 - matplotlib has no types
    """Return a figure as a file of a kind, `svg` or `png`. Same figure, same bytes."""
    matplotlib: Any = import_module("matplotlib")
    file = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    with matplotlib.rc_context({"svg.hashsalt": "metronn", "svg.fonttype": "none"}):
        figure.savefig(file, format=kind, metadata=metadata)
    return file.getvalue()
