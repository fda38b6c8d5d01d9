"""What long work says meanwhile: lines, warnings, stages, progress."""

from __future__ import annotations

import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol

PROGRESS_S = 2.0
"""Seconds after which a step says how far it is, and between its lines."""


class Log(Protocol):
    """Where the stages of a compilation say what they do."""

    def __call__(self, text: str) -> None:
        """Say a line."""

    def warn(self, message: str) -> None:
        """Say what is not as it should be; a line for each trouble, those that go on with one are indented."""

    def progress(self, what: str) -> Callable[[str], None]:
        """Return what takes a line on how far a step is; lines are said once it takes long, every few seconds."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Say that a stage runs, where that can be shown while it does."""

    def counter(self, every: int) -> AbstractContextManager[Callable[[int, str], None]]:
        """Give what takes a count and a line about it: shown at once where that is possible, else `every` so many."""


class MetronnWarning(UserWarning):
    """What a result lost or assumed, and its remedy."""


class QuietLog:
    """The log of a library: lines go to the logger `metronn` (level INFO), warnings to Python's warnings."""

    def __init__(self) -> None:
        self._logger = logging.getLogger("metronn")

    def __call__(self, text: str) -> None:
        """Say a line."""
        self._logger.info("%s", text)

    def warn(self, message: str) -> None:
        """Warn of every trouble by itself."""
        for trouble in troubles(message):
            warnings.warn(trouble, MetronnWarning, stacklevel=_callers())

    def progress(self, what: str) -> Callable[[str], None]:
        """Return what takes a line on how far a step is."""
        return now_and_then(lambda line: self(f"{what}: {line}"))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Show nothing: what a stage did is said when it is over."""
        yield

    @contextmanager
    def counter(self, every: int) -> Iterator[Callable[[int, str], None]]:
        """Give what says every so many."""
        yield lambda count, line: self(line) if count % every == 0 else None


def _callers() -> int:
    """Return how many frames up, from the one that calls, the code is that is not of this package."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == "metronn":
        level, frame = level + 1, frame.f_back
    return level


def troubles(message: str) -> list[str]:
    """Split a message into troubles: a line that is not indented begins one."""
    found: list[str] = []
    for line in message.splitlines():
        if found and line.startswith((" ", "\t")):
            found[-1] += f"\n{line}"
        else:
            found.append(line)
    return found


def now_and_then(say: Callable[[str], None]) -> Callable[[str], None]:
    """Return what passes a line on when the last one is some seconds ago."""
    shown = time.monotonic()

    def show(line: str) -> None:
        nonlocal shown
        if time.monotonic() - shown >= PROGRESS_S:
            shown = time.monotonic()
            say(line)

    return show
