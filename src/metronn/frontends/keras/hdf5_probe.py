"""Read everything in an HDF5 file and exit 0. Run as a process of its own: the HDF5 library can crash on damage.

HDF5 has no checksums by default, and some damaged files end the process that reads them. `weights` runs this
file on such input first, so that the crash happens here. Python errors are ignored: the reader meets them again.
"""

from __future__ import annotations

import sys

import h5py

DAMAGE_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)
"""What h5py raises on damaged files when it does not crash."""


def read_item(item: object) -> None:
    """Read the attributes and the values of a group or data set."""
    for name in _names(item.attrs):  # type: ignore[attr-defined]
        try:
            item.attrs[name]  # type: ignore[attr-defined]
        except DAMAGE_ERRORS:
            continue
    if isinstance(item, h5py.Dataset):
        try:
            item[()]
        except DAMAGE_ERRORS:
            return
    elif isinstance(item, h5py.Group):
        for name in _names(item):
            try:
                child = item[name]
            except DAMAGE_ERRORS:
                continue
            read_item(child)


def _names(mapping: object) -> list[str]:
    try:
        return list(mapping)  # type: ignore[call-overload, no-any-return]
    except DAMAGE_ERRORS:
        return []


if __name__ == "__main__":
    try:
        with h5py.File(sys.argv[1], "r") as file:
            read_item(file)
    except (*DAMAGE_ERRORS, RecursionError):
        sys.exit(0)
