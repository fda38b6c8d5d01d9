"""A place without the tools of the static rung."""

from __future__ import annotations

import pytest

from metronn.errors import ToolError
from metronn.verify import static

TOOLS = ("slang_version", "yosys", "tclsh")


def without_static_tools(monkeypatch: pytest.MonkeyPatch, *tools: str) -> None:
    """Take away some tools of the static rung (none named: all)."""
    for tool in tools or TOOLS:
        monkeypatch.setattr(static, tool, _missing(tool))


def _missing(tool: str) -> object:
    def missing() -> None:
        raise ToolError(f"{tool} is not installed")

    return missing
