"""Options that are lists in one word: `--fpgas 1,2,4`."""

from __future__ import annotations

import re

from metronn.errors import ModelError


def parts(text: str) -> tuple[str, ...]:
    """Return what is between the commas, each once, without blanks around it; what is empty is left out."""
    return tuple(dict.fromkeys(filter(None, (item.strip() for item in text.split(",")))))


def numbers(option: str, text: str, low: int, high: int) -> tuple[int, ...]:
    """Read whole numbers from `low` to `high` with commas between them, each once. Raises ModelError for others."""
    for part in parts(text):
        if not re.fullmatch("[0-9]{1,9}", part) or not low <= int(part) <= high:
            raise ModelError(f"{option}: found {part!r}, allowed are whole numbers from {low} to {high}, with commas")
    return tuple(dict.fromkeys(map(int, parts(text))))
