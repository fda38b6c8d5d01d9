"""`metronn cache`: where the cache is and how large, and how to empty it."""

from __future__ import annotations

from typing import Annotated

import typer

from metronn.cache import KINDS, LIMIT_VARIABLE, clear, entries, limit_bytes, root
from metronn.cli import options
from metronn.cli.console import handled, say, say_json
from metronn.errors import ToolError
from metronn.report.tables import table_text


@handled
def show_cache(
    clear_it: Annotated[bool, typer.Option("--clear", help="Remove everything from the cache.")] = False,
    json: options.Json = False,
) -> None:
    """Show the folder of the cache and the size of what it holds, by kind; with --clear, empty it first.

    What is lost is made anew when it is needed. The size is kept below that in METRONN_CACHE_LIMIT (2 GB).
    """
    limit = limit_bytes()
    if clear_it:
        left = clear()
        if left:
            raise ToolError("\n".join(f"{path}: cannot be removed" for path in left))
    found = list(entries())
    rows = [
        (kind, what, len(own), sum(entry.size_bytes for entry in own))
        for kind, what in KINDS.items()
        for own in [[entry for entry in found if entry.kind == kind]]
    ]
    total = sum(row[3] for row in rows)
    if json:
        kinds = {kind: {"entries": count, "bytes": size} for kind, _, count, size in rows}
        say_json({"path": str(root()), "limit_bytes": limit, "bytes": total, "kinds": kinds})
        return
    shown = [(kind, what, f"{count:,}", f"{size / 1e6:,.1f}") for kind, what, count, size in rows]
    say(table_text(("folder", "holds", "entries", "MB"), shown, right=(2, 3)))
    say(f"{root()}: {total / 1e6:,.1f} MB of at most {limit / 1e6:,.1f} MB ({LIMIT_VARIABLE})")
