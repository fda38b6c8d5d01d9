"""Reading named arrays from NumPy, HDF5 and ROOT files."""

from __future__ import annotations

import importlib
import zipfile
import zlib
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

from metronn.errors import ModelError, ToolError
from metronn.ir.arrays import Array

SUFFIXES = (".npz", ".npy", ".h5", ".hdf5", ".root")


def read_arrays(path: str | Path) -> dict[str, Array]:
    """Return all arrays of a file by name; the one array of a .npy file is called `x`.

    Raises ModelError when the file is missing, unreadable or of an unknown kind, ToolError when the library that
    reads it is not installed.
    """
    file, tree = _split_tree(str(path))
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise ModelError(f"{path}: unknown kind of event file {suffix!r}, allowed are {', '.join(SUFFIXES)}")
    if not file.is_file():
        raise ModelError(f"{file}: no such file")
    match suffix:
        case ".npz":
            return _read_npz(file)
        case ".npy":
            return _read_npy(file)
        case ".root":
            return _read_root(file, tree)
        case _:
            return _read_hdf5(file)


def _split_tree(path: str) -> tuple[Path, str | None]:
    stem, colon, tree = path.rpartition(":")
    if colon and stem.lower().endswith(".root") and tree:
        return Path(stem), tree
    return Path(path), None


def _load(file: Path, stream: BinaryIO) -> Any:  # noqa: ANN401 - numpy.load returns an array or an archive
    try:
        return np.load(stream, allow_pickle=False)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ModelError(f"{file}: cannot be read as a NumPy file: {error}") from error


def _read_npy(file: Path) -> dict[str, Array]:
    with file.open("rb") as stream:
        return {"x": _load(file, stream)}


def _read_npz(file: Path) -> dict[str, Array]:
    arrays: dict[str, Array] = {}
    with file.open("rb") as stream:
        archive = _load(file, stream)
        if not hasattr(archive, "files"):
            raise ModelError(f"{file}: holds one array without a name; rename it to .npy")
        for name in archive.files:
            try:
                arrays[name] = archive[name]
            except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
                raise ModelError(f"{file}: array {name} cannot be read: {error}") from error
    return arrays


def _module(name: str, file: Path) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ToolError(f"{file}: reading it needs {name}, which is not installed; install it with pip") from error


def _read_hdf5(file: Path) -> dict[str, Array]:
    h5py = _module("h5py", file)
    arrays: dict[str, Array] = {}

    def collect(name: str, item: Any) -> None:  # noqa: ANN401 - h5py has no types
        if isinstance(item, h5py.Dataset):
            arrays[name] = np.asarray(item[()])

    try:
        with h5py.File(file, "r") as opened:
            opened.visititems(collect)
    except (OSError, RuntimeError, KeyError) as error:
        raise ModelError(f"{file}: cannot be read as HDF5: {error}") from error
    return arrays


def _read_root(file: Path, tree: str | None) -> dict[str, Array]:
    uproot = _module("uproot", file)
    try:
        with uproot.open(file) as opened:
            kinds = opened.classnames(cycle=False)
            trees = [name for name, kind in kinds.items() if kind == "TTree" or kind.endswith("RNTuple")]
            if tree is None and len(trees) == 1:
                tree = trees[0]
            if tree not in trees:
                found = f"there is no tree {tree}" if tree else f"it has {len(trees)} trees"
                hint = f"; found {', '.join(trees)}: name one as {file.name}:{trees[0]}" if trees else "; found none"
                raise ModelError(f"{file}: {found}{hint}")
            branches = opened[tree]
            names = list(branches.keys())  # not a mapping: iterating over a tree gives something else
            return {name: _rectangular(branches[name].array(library="np")) for name in names}
    except (OSError, ValueError, KeyError, uproot.DeserializationError, NotImplementedError) as error:
        raise ModelError(f"{file}: cannot be read as ROOT: {error}") from error


def _rectangular(array: Array) -> Array:
    """Stack a branch of arrays that all have one length; other object arrays stay as they are."""
    if array.dtype == object and len(array):
        rows = [np.asarray(row) for row in array]
        if len({row.shape for row in rows}) == 1 and rows[0].dtype != object:
            return np.stack(rows)
    return array
