"""Formats and shares in words, for tables."""

from __future__ import annotations

from collections.abc import Sequence


def format_words(formats: Sequence[str]) -> str:
    """Return formats in words, at most two of them by name."""
    return ", ".join(formats[:2]) + (f" and {len(formats) - 2} more" if len(formats) > 2 else "")


def share_words(share: float) -> str:
    """Return a share in per cent, nothing where there is none."""
    return f"{100 * share:.3g} %" if share else ""
