"""What kind of file a path holds, told by its first bytes, and the errors of files that cannot be opened."""

from __future__ import annotations

import enum
from pathlib import Path

from metronn.errors import ModelError


class FileKind(enum.Enum):
    """Kinds of file that frontends tell apart."""

    HDF5 = "an HDF5 file"
    ZIP = "a zip file"
    JSON = "a JSON file"
    OTHER = "of another kind"


def read_bytes(path: Path) -> bytes:
    """Return a file's content; raises ModelError when it is missing, a folder, empty or unreadable."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ModelError(f"{path}: is a folder, a model file is needed") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None
    if not content:
        raise ModelError(f"{path}: the file is empty")
    return content


def kind_of(content: bytes) -> FileKind:
    """Tell the kind of a file from its first bytes."""
    if content.startswith(b"\x89HDF\r\n\x1a\n"):
        return FileKind.HDF5
    if content.startswith(b"PK\x03\x04"):
        return FileKind.ZIP
    return FileKind.JSON if content.lstrip()[:1] in (b"{", b"[") else FileKind.OTHER


def expect(path: Path, content: bytes, kind: FileKind, format_name: str) -> None:
    """Raise ModelError unless the content is of this kind; the message says what it looks like instead."""
    found = kind_of(content)
    if found is not kind:
        looks = f"looks like {found.value}" if found is not FileKind.OTHER else "its first bytes are of no known kind"
        raise ModelError(f"{path}: not {format_name} ({kind.value} inside): {looks}; the file is damaged or misnamed")
