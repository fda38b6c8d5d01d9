"""Exact integer arrays: int64 where every value fits, Python integers where it does not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

INT64_LIMIT = 2**62
"""Values whose magnitude stays below this are kept in int64; one spare bit makes sums of two safe."""

Array = npt.NDArray[Any]


def fits_int64(lo: int, hi: int) -> bool:
    """Whether every integer in [lo, hi], and the sum of any two of them, fits int64."""
    return -INT64_LIMIT < lo and hi < INT64_LIMIT


def exact_array(values: object) -> Array:
    """Return `values` as an int64 array when all fit, else as an object array of Python integers.

    Raises TypeError when a value is not an integer.
    """
    array = np.asarray(values)
    if array.dtype.kind == "b":
        return array.astype(np.int64)
    if array.dtype.kind in "iu" and array.dtype != np.uint64:
        array = array.astype(np.int64)
        if array.size == 0 or fits_int64(int(array.min()), int(array.max())):
            return array
    elif array.dtype.kind == "f":
        raise TypeError("an exact integer array cannot be made from floating-point values")
    flat = [int(value) for value in array.ravel()]
    if all(fits_int64(value, value) for value in flat):
        return np.array(flat, dtype=np.int64).reshape(array.shape)
    wide = np.empty(len(flat), dtype=object)
    wide[:] = flat
    return wide.reshape(array.shape)


def as_dtype_for(array: Array, lo: int, hi: int) -> Array:
    """Return `array` in a dtype in which every integer of [lo, hi] is exact (int64 or object)."""
    if fits_int64(lo, hi):
        return array.astype(np.int64, copy=False)
    return array.astype(object, copy=False)


@dataclass(frozen=True, slots=True, eq=False)
class IntArray:
    """An immutable, comparable, hashable array of exact integers: the constants inside ops."""

    array: Array
    digest: str = field(repr=False)

    @staticmethod
    def of(values: object) -> IntArray:
        """Make one from anything `exact_array` takes; the data is copied and frozen."""
        array = np.array(exact_array(values))
        array.flags.writeable = False
        content = array.tobytes() if array.dtype != object else repr(array.ravel().tolist()).encode()
        header = f"{array.shape}:{array.dtype.str if array.dtype != object else 'O'}:".encode()
        return IntArray(array, hashlib.sha256(header + content).hexdigest())

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the array's shape."""
        return tuple(int(n) for n in self.array.shape)

    def ints(self) -> list[int]:
        """Return all values, flattened in C order, as Python integers."""
        if self.array.dtype == object:
            return [int(value) for value in self.array.ravel()]
        values: list[int] = self.array.ravel().tolist()
        return values

    def bounds(self) -> tuple[int, int]:
        """Return (smallest, largest) value; (0, 0) for an empty array."""
        if self.array.size == 0:
            return 0, 0
        return int(self.array.min()), int(self.array.max())

    def __eq__(self, other: object) -> bool:
        """Equal when shape and every integer are."""
        return isinstance(other, IntArray) and self.digest == other.digest

    def __hash__(self) -> int:
        """Hash of the content."""
        return hash(self.digest)

    def __repr__(self) -> str:
        """Show shape and a short digest, not the data."""
        return f"IntArray(shape={self.shape}, {self.digest[:8]})"


def same_rank(x: Array, y: Array) -> tuple[Array, Array]:
    """Insert axes after the batch axis so that the shapes behind it broadcast from the right."""
    rank = max(x.ndim, y.ndim)

    def widen(a: Array) -> Array:
        return a.reshape(a.shape[0], *(1,) * (rank - a.ndim), *a.shape[1:])

    return widen(x), widen(y)


def object_array(values: Iterable[int], shape: tuple[int, ...]) -> Array:
    """Return Python integers as an object array of the given shape."""
    flat = list(values)
    array = np.empty(len(flat), dtype=object)
    array[:] = flat
    return array.reshape(shape)
