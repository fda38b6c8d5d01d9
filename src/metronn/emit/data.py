"""Where the files that ship with metronn lie: in the installed package, or in the checkout it runs from."""

from __future__ import annotations

from pathlib import Path

import metronn
from metronn.errors import ToolError


def data_directory(name: str) -> Path:
    """Return the directory `firmware`, `hls_templates` or `boards` that belongs to this installation."""
    package = Path(metronn.__file__).resolve().parent
    for candidate in (package / "_data" / name, package.parents[1] / name):
        if candidate.is_dir():
            return candidate
    raise ToolError(f"the installation lacks its folder {name}; install metronn again")
