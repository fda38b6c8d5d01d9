"""Changes to a metronn.toml that leave the rest of it as it was written."""

from __future__ import annotations

import tomllib
from pathlib import Path

from metronn.errors import ModelError
from metronn.ir.names import toml_string


def updated_configuration(path: Path, widths: str) -> str:
    """Return the text of a metronn.toml with `widths` in its [quantize] table, all else as it was.

    Raises ModelError when the line cannot be put there without touching more.
    """
    text = path.read_text(encoding="utf-8")
    line = f"widths = {toml_string(widths)}"
    lines = text.splitlines()
    headers = [number for number, content in enumerate(lines) if content.split("#")[0].strip() == "[quantize]"]
    if headers:
        start = headers[0] + 1
        end = next((n for n in range(start, len(lines)) if lines[n].lstrip().startswith("[")), len(lines))
        body = [content for content in lines[start:end] if content.split("=")[0].strip() != "widths"]
        made = "\n".join([*lines[:start], line, *body, *lines[end:]]) + "\n"
    else:
        made = "\n".join([*lines, "", "[quantize]", line]) + "\n"
    wanted = tomllib.loads(text)
    wanted.setdefault("quantize", {})["widths"] = widths
    try:
        found = tomllib.loads(made)
    except tomllib.TOMLDecodeError:
        found = {}
    if found != wanted:
        raise ModelError(f"{path}: cannot be updated; write this line into its [quantize] table: {line}")
    return made
