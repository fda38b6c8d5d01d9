"""Output folders and files that appear whole or not at all, whatever interrupts the command."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from metronn.errors import ModelError

MANIFEST = "manifest.json"
PARTIAL = "metronn-partial"
REPLACED = "metronn-replaced"


def is_build(folder: Path) -> bool:
    """Tell whether a folder is the output of a compilation: its manifest says so."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(manifest, dict) and "graph_hash" in manifest and "promises" in manifest


def check_target(target: Path, *, force: bool) -> None:
    """Raise ModelError unless a build may be written to `target`; nothing is changed."""
    if target.is_symlink() or (target.exists() and not target.is_dir()):
        raise ModelError(f"{target}: is not a folder; name a new folder with -o")
    if not target.exists():
        return
    try:
        empty = next(target.iterdir(), None) is None
    except OSError as error:
        raise ModelError(f"{target}: cannot be read: {error.strerror}") from None
    if empty:
        return
    if not force:
        raise ModelError(
            f"{target}: the output folder is not empty.\n"
            "  Name another folder with -o, or replace a build with --force."
        )
    if not is_build(target):
        raise ModelError(
            f"{target}: --force replaces only folders that metronn made, and this one has no {MANIFEST} of a build.\n"
            "  Name another folder with -o, or empty this one."
        )


@contextmanager
def replacing(target: Path, *, force: bool) -> Iterator[Path]:
    """Give an empty folder beside `target`; it takes the place of `target` when the block ends without an exception.

    Until then nothing at `target` is touched. Raises ModelError when `target` must not be replaced or cannot be
    written.
    """
    target = target.absolute()
    _clear_leftovers(target)
    check_target(target, force=force)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        partial = target.parent / f".{target.name}.{PARTIAL}-{os.getpid()}"
        partial.mkdir()
    except (FileExistsError, NotADirectoryError):
        raise ModelError(f"{target}: the output folder cannot be written: {target.parent} is not a folder") from None
    except OSError as error:
        raise ModelError(f"{target}: the output folder cannot be written: {error.strerror}") from None
    try:
        yield partial
        check_target(target, force=force)
        _swap(partial, target)
    except OSError as error:
        about = None if error.filename is None else Path(os.fsdecode(error.filename))
        if about is not None and not (about.is_relative_to(partial) or about.is_relative_to(target)):
            raise  # another file than those of the build
        raise ModelError(f"{target}: the output folder cannot be written: {error.strerror}") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _swap(partial: Path, target: Path) -> None:
    """Put `partial` in the place of `target`. Signals wait, so that there is always one of the two."""
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        if not target.exists():
            partial.rename(target)
            return
        old = target.parent / f".{target.name}.{REPLACED}-{os.getpid()}"
        target.rename(old)
        try:
            partial.rename(target)
        except OSError:
            old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _clear_leftovers(target: Path) -> None:
    """Remove what runs that were killed left beside `target`; give back a build that was about to be replaced."""
    for kind in (REPLACED, PARTIAL):
        for folder in sorted(target.parent.glob(f".{_literal(target.name)}.{kind}-*")):
            owner = folder.name.rpartition("-")[2]
            if not re.fullmatch("[0-9]{1,9}", owner) or _alive(int(owner)) or folder.is_symlink():
                continue
            if kind == REPLACED and not target.exists():
                folder.rename(target)
            else:
                shutil.rmtree(folder, ignore_errors=True)


def _literal(name: str) -> str:
    return "".join(f"[{character}]" if character in "*?[" else character for character in name)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return process != os.getpid()


def write_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write files by their path relative to `folder`, which must exist."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def check_output(output: Path, events: str) -> None:
    """Raise ModelError where a result would replace the events it is made from (`file.root:tree` is file.root)."""
    for given in (Path(events), Path(events.rpartition(":")[0] or events)):
        if output.exists() and given.exists() and output.samefile(given):
            raise ModelError(f"{output}: is the file of the events; name another with -o")


def result_folder(folder: Path, *names: str) -> None:
    """Make a folder for results, of which some files are known by name, unless it is there.

    Raises ModelError where it cannot be made, where it cannot be written, and where such a file is a folder.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(f"{folder}: the folder cannot be made: {error.strerror}") from None
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise ModelError(f"{folder}: the folder cannot be written: {error.strerror}") from None
    problems = [f"{folder / name}: is a folder; name another one with -o" for name in names if (folder / name).is_dir()]
    if problems:
        raise ModelError("\n".join(problems))


def check_files(**options: Path | None) -> None:
    """Raise ModelError listing the options, by name, whose value is a folder and no file to write."""
    problems = [
        f"{path}: is a folder; name a file with {'-o' if option == 'output' else '--' + option.replace('_', '-')}"
        for option, path in options.items()
        if path is not None and (not path.name or path.is_dir())
    ]
    if problems:
        raise ModelError("\n".join(problems))


def write_file(path: Path, content: bytes) -> None:
    """Write one file; a file already there is replaced at once or kept. Raises ModelError when that is impossible."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise ModelError(f"{path}: cannot be written: {error.strerror}") from None
    partial = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        partial.chmod(0o666 & ~_umask())
        partial.replace(path)
    except OSError as error:
        raise ModelError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
