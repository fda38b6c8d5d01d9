"""g++ and the cache of compiled emulators."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from metronn.cache import entry
from metronn.emulate.native.generate import write_files
from metronn.errors import ToolError

_WIDE = ("-mprefer-vector-width=512",) if platform.machine() == "x86_64" else ()
FLAGS = ("-std=c++17", "-O3", "-march=native", *_WIDE, "-fPIC", "-fvisibility=hidden", "-pthread", "-shared")
"""Flags of a library for use on this machine."""
ERROR_LINES = 8
"""Lines of the compiler's own words shown when it fails."""


def compiler() -> str:
    """Path of the C++ compiler: $CXX, else g++. Raises ToolError when there is none."""
    wanted = os.environ.get("CXX") or "g++"
    found = shutil.which(wanted)
    if found is None:
        raise ToolError(
            f"compiled emulator: {wanted} is not on PATH. Install a C++17 compiler (Debian: apt install g++), "
            "or set CXX to one."
        )
    return found


def compile_library(folder: Path, sources: Sequence[str], library: str, flags: Sequence[str] = FLAGS) -> Path:
    """Compile sources in `folder` into a shared library there; it appears whole or not at all.

    Raises ToolError with the compiler's first error lines.
    """
    partial = f".{library}.{os.getpid()}"
    command = [compiler(), *flags, "-o", partial, *sources]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        (folder / partial).unlink(missing_ok=True)
        lines = [line for line in done.stderr.splitlines() if "error" in line] or done.stderr.splitlines()
        shown = "\n  ".join(lines[:ERROR_LINES]) or "it said nothing"
        raise ToolError(f"compiled emulator: {command[0]} failed with status {done.returncode}:\n  {shown}")
    return (folder / partial).replace(folder / library)


def cached_library(
    files: Mapping[str, str], sources: Sequence[str], library: str, cache: Path, flags: Sequence[str] = FLAGS
) -> Path:
    """Return the library compiled from `files`, from the cache when it was made before.

    The key covers the files, the flags, and what the compiler defines for this machine (its version and instruction
    set). Any number of processes may do this at once. Raises ToolError with the compiler's first error lines.
    """

    def make(folder: Path) -> None:
        write_files(files, folder)
        compile_library(folder, sources, library, flags)

    return entry(cache, _key(files, sources, flags), make) / library


def _key(files: Mapping[str, str], sources: Sequence[str], flags: Sequence[str]) -> str:
    machine = [flag for flag in flags if flag.startswith("-m")]
    probe = subprocess.run(
        [compiler(), *machine, "-dM", "-E", "-x", "c++", os.devnull], capture_output=True, check=False
    )
    digest = hashlib.sha256()
    for part in (repr(tuple(sources)), repr(tuple(flags)), *(repr(item) for item in sorted(files.items()))):
        digest.update(part.encode() + b"\0")
    digest.update(probe.stdout)
    return digest.hexdigest()[:32]
