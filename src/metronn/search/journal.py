"""Journals: what a long command has found so far, one line of JSON each, so that it goes on where it was stopped.

The first line says what the findings are about (`parts`: hashes of network, events, options, ...). Every line after it
is one finding under a key. A line cut off by an interruption is dropped. One command at a time writes a journal.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from metronn import __version__
from metronn.errors import ModelError

FORMAT = 1


class Journal:
    """An open journal. Use as a context manager; `get` what is known, `put` what is new (on disk when it returns)."""

    def __init__(self, path: Path, kind: str, parts: Mapping[str, str], *, restart: bool = False) -> None:
        """Open the journal of this work, or begin one; with `restart` what is there is thrown away.

        Raises ModelError when the file is a journal of other work (the message names what differs), no journal at all,
        in use, or cannot be written.
        """
        self.path = path
        self._head = {"journal": kind, "format": FORMAT, "metronn": __version__, **parts}
        self._known: dict[str, dict[str, Any]] = {}
        self._file = _opened(path)
        try:
            self._begin(restart=restart)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        """Return the journal itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Close the file; it stays as it is."""
        self._file.close()

    def __len__(self) -> int:
        """Number of findings."""
        return len(self._known)

    def get(self, key: str) -> dict[str, Any] | None:
        """Return the finding under a key, or None."""
        return self._known.get(key)

    def put(self, key: str, finding: Mapping[str, Any]) -> None:
        """Append a finding. Raises ModelError when the disk does not take it."""
        try:
            self._write({"key": key, **finding})
        except OSError as error:
            raise ModelError(f"{self.path}: the journal cannot be written: {error.strerror}") from None
        self._known[key] = dict(finding)

    def _write(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _begin(self, *, restart: bool) -> None:
        self._file.seek(0)
        content = b"" if restart else self._file.read()
        whole = content[: content.rfind(b"\n") + 1]
        lines = [_parsed(self.path, number, line) for number, line in enumerate(whole.splitlines(), 1)]
        if not lines and content and not b'{"journal"'.startswith(content[:10]):
            raise ModelError(f"{self.path}: is no journal of metronn; name another file with --journal")
        self._file.truncate(len(whole))
        self._file.seek(0, os.SEEK_END)
        if not lines:
            self._write(self._head)
            return
        self._compare(lines[0])
        for number, line in enumerate(lines[1:], 2):
            if "key" not in line:
                raise ModelError(f"{self.path}: line {number} is damaged; begin anew with --restart")
            self._known[str(line.pop("key"))] = line

    def _compare(self, found: Mapping[str, Any]) -> None:
        if "journal" not in found:
            raise ModelError(f"{self.path}: is no journal of metronn; name another file with --journal")
        differing = [name for name in dict.fromkeys((*self._head, *found)) if found.get(name) != self._head.get(name)]
        if differing:
            raise ModelError(
                f"{self.path}: is the journal of other work: {', '.join(differing)} {_differ(len(differing))}.\n"
                "  Throw it away with --restart, or name another file with --journal."
            )


def _differ(count: int) -> str:
    return "differs" if count == 1 else "differ"


def _opened(path: Path) -> IO[bytes]:
    """Open for reading and appending, for this process alone."""
    try:
        file = path.open("a+b")
    except OSError as error:
        raise ModelError(f"{path}: the journal cannot be written: {error.strerror}") from None
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise ModelError(
            f"{path}: another command is writing this journal; wait for it, or name another file"
        ) from None
    return file


def _parsed(path: Path, number: int, line: bytes) -> dict[str, Any]:
    try:
        data = json.loads(line)
    except ValueError:
        data = None
    if not isinstance(data, dict):
        if number == 1:
            raise ModelError(f"{path}: is no journal of metronn; name another file with --journal")
        raise ModelError(f"{path}: line {number} is damaged; begin anew with --restart")
    return data
