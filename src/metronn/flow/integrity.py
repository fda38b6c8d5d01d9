"""Whether a build still is what was compiled: its files against the hashes of its manifest."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from metronn.errors import MismatchError, ModelError
from metronn.flow.folders import MANIFEST

UNHASHED = (MANIFEST, "report.html")
"""What changes with every verification."""
MADE_BY_TOOLS = (
    "sim/sim_build/*", "hls/*/*.o", "hls/*/testbench", "hls/*/lib*.so", "hls/*/outputs.txt", "hls/*/project/*",
    "hls/*/*.log", "emulator/lib*.so", "emulator/network", "*__pycache__/*",
)  # fmt: skip
"""What the makefiles and scripts of a build leave in it; nothing in the build reads them as a source."""
NAMED = 10
"""Files named at most in a message, of each kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """Files of a build, by path in it, that are not as they were compiled."""

    changed: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether there are any."""
        return bool(self.changed or self.missing or self.extra)

    def text(self) -> str:
        """Return what is wrong on one line, the files by name."""
        kinds = (("changed", self.changed), ("missing", self.missing), ("not of the build", self.extra))
        return "; ".join(f"{kind}: {_listed(files)}" for kind, files in kinds if files)


def _listed(files: tuple[str, ...]) -> str:
    more = f" and {len(files) - NAMED} more" if len(files) > NAMED else ""
    return ", ".join(files[:NAMED]) + more


def hashes(folder: Path, manifest: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the SHA-256 of every file by its path, from the manifest. Raises ModelError where it holds none."""
    files = manifest.get("files")
    if not isinstance(files, dict) or not files or not all(isinstance(value, str) for value in files.values()):
        raise ModelError(f"{folder / MANIFEST}: holds no hashes of the build's files; compile it again")
    return files


def changes(folder: Path, manifest: Mapping[str, Any]) -> Changes:
    """Compare every file of a build with the manifest; what the build's own makefiles leave there does not count.

    Raises ModelError when the manifest holds no hashes or a file cannot be read.
    """
    wanted = hashes(folder, manifest)
    try:
        found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if not path.is_dir()}
        changed = [name for name in wanted if name in found and _digest(found[name]) != wanted[name]]
    except OSError as error:
        raise ModelError(f"{error.filename or folder}: cannot be read: {error.strerror}") from None
    extra = [name for name in found if name not in wanted and name not in UNHASHED and not _made_by_tools(name)]
    missing = [name for name in wanted if name not in found]
    return Changes(changed=tuple(sorted(changed)), missing=tuple(sorted(missing)), extra=tuple(sorted(extra)))


def _made_by_tools(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in MADE_BY_TOOLS)


def _digest(path: Path) -> str:
    if not path.is_file():  # a link to nowhere, a pipe
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_build(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Raise MismatchError unless every file of the build is as it was compiled."""
    found = changes(folder, manifest)
    if found:
        raise MismatchError(
            f"{folder}: is not as it was compiled: {found.text()}\n"
            "  A verdict would be about something else. Put the files back, or compile again with --force."
        )


def check_file(folder: Path, manifest: Mapping[str, Any], name: str) -> None:
    """Raise MismatchError unless this file of the build is as it was compiled."""
    if _digest(folder / name) != hashes(folder, manifest).get(name):
        raise MismatchError(f"{folder / name}: is not as it was compiled; put it back, or compile again with --force")
