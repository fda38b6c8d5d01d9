"""The user's cache: adder graphs, compiled emulators, built simulations and netlists; losing any costs time only.

An entry is a folder with the SHA-256 of each of its files. It is made elsewhere and appears by a rename, so that any
number of processes may work beside each other; what is damaged is found when it is taken, and made anew. Where the
cache cannot be written, entries live as long as the process, and a line on stderr says so.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from platformdirs import user_cache_path

from metronn.errors import ModelError, ToolError

KINDS = {
    "adders": "adder graphs",
    "native": "compiled emulators",
    "simulations": "built simulations",
    "netlists": "netlists of Yosys",
}
"""The folders of the cache and what they hold."""
LIMIT_VARIABLE = "METRONN_CACHE_LIMIT"
DEFAULT_LIMIT = 2_000_000_000
CONTENTS = "contents.json"
BUILDING = ".building-"
IN_USE_SECONDS = 3600
"""What was used in the last hour stays, whatever the limit: another process may be about to open it."""
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZE = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]?)b?\s*", re.IGNORECASE)
_SAFE_PATH = re.compile(r"[\w./+,@%=-]+")
"""Paths that makefiles and search paths can hold: no spaces, no colons."""


def root() -> Path:
    """Return the folder of the cache: the platform's, on Linux $XDG_CACHE_HOME/metronn, by default ~/.cache/metronn.

    Where that is no absolute path, as without a home, it is a temporary folder of the user's.
    """
    found = user_cache_path("metronn", appauthor=False)
    return found if found.is_absolute() else Path(tempfile.gettempdir()) / f"metronn-cache-{os.getuid()}"


def kind_directory(kind: str) -> Path:
    """Return the folder of one kind of entries, one of KINDS."""
    if kind not in KINDS:
        raise ValueError(f"{kind} is no kind of entry: {', '.join(KINDS)}")
    return root() / kind


def limit_bytes() -> int:
    """Return the size the cache may have: $METRONN_CACHE_LIMIT, as `500 MB` or `2GB`, by default 2 GB.

    Raises ModelError when the variable holds something else.
    """
    text = os.environ.get(LIMIT_VARIABLE, "").strip()
    match = _SIZE.fullmatch(text)
    if text and not match:
        raise ModelError(f"{LIMIT_VARIABLE}: found {text!r}, allowed is a size such as 500MB or 2GB")
    return int(float(match[1]) * _UNITS[match[2].lower()]) if match else DEFAULT_LIMIT


def safe_path(path: Path) -> bool:
    """Tell whether makefiles and search paths can hold a path."""
    return _SAFE_PATH.fullmatch(str(path)) is not None


def scratch_base() -> Path:
    """Return the folder for temporary ones: the system's, or another one where compilers cannot work in that."""
    wanted = Path(tempfile.gettempdir())
    places = (wanted, Path("/tmp"), Path("/var/tmp"))
    return next((place for place in places if safe_path(place) and os.access(place, os.W_OK | os.X_OK)), wanted)


@functools.cache
def _of_this_process() -> tempfile.TemporaryDirectory[str]:
    """Folder of entries that the cache cannot hold; removed when the process ends."""
    return tempfile.TemporaryDirectory(prefix="metronn-", dir=scratch_base())


@functools.cache
def _trim_once() -> None:
    """Look after the size of the cache, which takes a while where it is large, once in a process."""
    trim()


@functools.cache
def _tell(message: str) -> None:
    """Say something on stderr, once."""
    logging.getLogger("metronn").warning("%s", message)


def entry(directory: Path, key: str, make: Callable[[Path], None]) -> Path:
    """Return the folder of an entry: the one in `directory` where it is whole, else made by `make` and kept there.

    `make` gets an empty folder whose path compilers can take. Raises ToolError when no temporary folder can be
    written; what `make` raises comes through, and leaves nothing.
    """
    final = directory / key
    if is_whole(final):
        _touch(final)
        return final
    try:
        scratch = Path(tempfile.mkdtemp(prefix="metronn-making-", dir=scratch_base()))
    except OSError as error:
        raise ToolError(f"{scratch_base()}: temporary files cannot be written: {error.strerror}; set TMPDIR") from None
    try:
        make(scratch)
        _write_contents(scratch)
    except OSError as error:
        shutil.rmtree(scratch, ignore_errors=True)
        raise ToolError(f"{scratch}: cannot be written: {error.strerror or error}; set TMPDIR") from None
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise
    if _keep(scratch, final):
        shutil.rmtree(scratch, ignore_errors=True)
        _trim_once()
        return final
    kept = Path(_of_this_process().name) / f"{directory.name}-{key}"
    discard(kept)
    return Path(shutil.move(scratch, kept))


def is_whole(folder: Path) -> bool:
    """Tell whether an entry is there and all its files are as they were made."""
    try:
        contents = json.loads((folder / CONTENTS).read_text(encoding="utf-8"))
        if not isinstance(contents, dict) or not contents:
            return False
        return all(_digest(folder / name) == found for name, found in contents.items())
    except (OSError, ValueError):
        return False


def discard(folder: Path) -> None:
    """Remove an entry that is of no use."""
    shutil.rmtree(folder, ignore_errors=True)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_contents(folder: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    contents = {path.relative_to(folder).as_posix(): _digest(path) for path in files}
    (folder / CONTENTS).write_text(json.dumps(contents, indent=0), encoding="utf-8")


def _keep(scratch: Path, final: Path) -> bool:
    """Copy an entry beside its place and rename it there; tell whether it, or that of another process, is there."""
    partial: Path | None = None
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=BUILDING, dir=final.parent))
        shutil.copytree(scratch, partial, dirs_exist_ok=True)
        try:
            partial.rename(final)
        except OSError:
            if is_whole(final):
                return True
            discard(final)  # damaged, or half of it was removed
            partial.rename(final)
    except OSError as error:
        if is_whole(final):
            return True
        _tell(
            f"warning: the cache {final.parent} cannot be written ({error.strerror or error}); going on without it. "
            "Set XDG_CACHE_HOME to another folder."
        )
        return False
    finally:
        if partial is not None:
            shutil.rmtree(partial, ignore_errors=True)
    return True


def _touch(folder: Path) -> None:
    """Note that an entry was used; in a cache that cannot be written nothing is removed either."""
    with suppress(OSError):
        os.utime(folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An entry of the cache: its kind and folder, its size, and when it was last used (seconds since 1970)."""

    kind: str
    folder: Path
    size_bytes: int
    used: float


def entries() -> Iterator[Entry]:
    """Yield what is in the cache, unfinished entries included."""
    for kind in KINDS:
        try:
            found = list(kind_directory(kind).iterdir())
        except OSError:
            continue
        for path in found:
            with suppress(OSError):  # removed meanwhile
                used = path.stat().st_mtime
                files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
                yield Entry(kind=kind, folder=path, size_bytes=sum(file.stat().st_size for file in files), used=used)


def trim() -> None:
    """Remove the entries that were not used for longest until the cache has the size it may have.

    What was used within the last hour stays. Raises ModelError when the limit is no size.
    """
    limit, now = limit_bytes(), time.time()
    found = sorted(entries(), key=lambda entry: entry.used)
    total = sum(entry.size_bytes for entry in found)
    for old in found:
        left_over = old.folder.name.startswith(BUILDING) and now - old.used > 24 * IN_USE_SECONDS
        if not left_over and (total <= limit or now - old.used < IN_USE_SECONDS):
            continue
        _remove(old.folder)
        total -= old.size_bytes


def _remove(path: Path) -> None:
    if path.is_dir():
        discard(path)
    else:
        with suppress(OSError):
            path.unlink()


def clear() -> list[Path]:
    """Remove everything from the cache; return what could not be removed."""
    found = [entry.folder for entry in entries()]
    for path in found:
        _remove(path)
    return [path for path in found if path.exists()]
