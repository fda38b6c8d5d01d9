"""Tables as Markdown."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def table(columns: Sequence[str], rows: Sequence[Sequence[str]], left: Collection[int] = (0,)) -> str:
    """Return a table; columns are aligned right, but for those in `left`. Bars and line ends in cells are escaped."""
    rule = ["---" if k in left else "---:" for k in range(len(columns))]
    lines = [columns, rule, *([" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
