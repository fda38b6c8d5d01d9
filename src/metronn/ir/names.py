"""Names that people gave to layers, inputs and outputs, made fit for where they are written: any text is a name."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Container

LONGEST_IDENTIFIER = 120
"""Longer names are cut: with what emitters put around them, they are names of files, of 255 bytes at most."""
LONGEST_COMMENT = 100
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/-]*")
"""Names that stand in comments as they are."""
DIRECTIVES = frozenset(
    ("verilator", "synopsys", "synthesis", "synplify", "pragma", "cadence", "ambit", "exemplar", "vcs")
)
"""First words by which comments are orders to some tool; emitted names begin with none of them."""


def cut(name: str, longest: int) -> str:
    """Return a name as it is, or its beginning and a digest of all of it, so that two long names stay two."""
    if len(name) <= longest:
        return name
    return f"{name[: longest - 9]}_{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"


def sanitized(name: str) -> str:
    """Turn any name into an identifier of letters, digits, `_`, `.`, not starting with a digit; long ones are cut."""
    cleaned = re.sub(r"[^A-Za-z0-9_.]", "_", name.replace("/", "."))
    cleaned = re.sub(r"\.+", ".", cleaned).strip(".") or "value"
    if _orders(cleaned):
        cleaned = f"v_{cleaned}"
    return cut(cleaned if not cleaned[0].isdigit() else f"v{cleaned}", LONGEST_IDENTIFIER)


def free_name(name: str, taken: Container[str]) -> str:
    """Return the identifier for a name, or with the first suffix `_2`, `_3`, ... that is not taken."""
    base = sanitized(name)
    free, count = base, 1
    while free in taken:
        count += 1
        free = sanitized(f"{base}_{count}")
    return free


def _orders(name: str) -> bool:
    """Tell whether a comment that begins with this name is an order to some tool."""
    return re.split(r"[^a-z]", name.lower(), maxsplit=1)[0] in DIRECTIVES


def encodable(name: str) -> str:
    """Return a name that UTF-8 and file formats can hold: halves of characters and NUL become escapes."""
    return name.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")


def comment_name(name: str) -> str:
    """Return a name for a `//` comment of C++ or SystemVerilog, which it can neither end nor go on, nor be an order.

    What is not plain stands in quotes, in ASCII, with the escapes of JSON.
    """
    short = cut(name, LONGEST_COMMENT)
    return short if PLAIN.fullmatch(short) and not _orders(short) else json.dumps(short).replace("*/", "*\\/")


def toml_string(text: str) -> str:
    """Return text as a basic string of TOML, which has the escapes of JSON but not its halves of characters."""
    return json.dumps(encodable(text), ensure_ascii=False).replace("\x7f", "\\u007f")


def toml_key(text: str) -> str:
    """Return text as a key of TOML, which stands as it is where it may."""
    return text if re.fullmatch(r"[A-Za-z0-9_-]+", text) else toml_string(text)
