"""Progress of a plan: what the planner is at, told to whoever waits."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str], None]
"""Takes a line: what is being done, how much of it is done, and how much there is."""


def silent(_line: str) -> None:
    """Tell nobody."""
