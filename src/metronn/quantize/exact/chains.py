"""What is still to be done to the elements of an integer value: constants added and multiplied, bounds, functions.

All arithmetic of constants is exact, in fractions. Every float64 is one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from metronn.ir.ops import ExtremumKind
from metronn.model.constants import meant
from metronn.model.functions import apply_function
from metronn.model.graph import Floats, FunctionKind

Index = npt.NDArray[np.int64]
ONE, ZERO = Fraction(1), Fraction(0)


def power_of_two(value: Fraction) -> int | None:
    """Return k when |value| = 2**k, else None."""
    top, bottom = abs(value.numerator), value.denominator
    if top == 0 or top & (top - 1) or bottom & (bottom - 1):
        return None
    return top.bit_length() - bottom.bit_length()


def fraction_bits(value: Fraction) -> int | None:
    """Return the least k for which value * 2**k is whole (negative for multiples of 2), None when there is none.

    Zero has no least one: it gives a large negative number.
    """
    if value == 0:
        return -(1 << 20)
    bottom = value.denominator
    if bottom & (bottom - 1):
        return None
    top = abs(value.numerator)
    return bottom.bit_length() - 1 - ((top & -top).bit_length() - 1)


@dataclass(frozen=True, slots=True)
class Affine:
    """min(max(scale * x + offset, low), high); a bound that is None does not exist."""

    scale: Fraction = ONE
    offset: Fraction = ZERO
    low: Fraction | None = None
    high: Fraction | None = None

    def times(self, factor: Fraction) -> Affine:
        """Return the same, multiplied."""
        if factor == 0:
            return Affine(ZERO, ZERO)
        low, high = (None if bound is None else bound * factor for bound in (self.low, self.high))
        if factor < 0:
            low, high = high, low
        return Affine(self.scale * factor, self.offset * factor, low, high)

    def plus(self, summand: Fraction) -> Affine:
        """Return the same with something added."""
        low, high = (None if bound is None else bound + summand for bound in (self.low, self.high))
        return Affine(self.scale, self.offset + summand, low, high)

    def bounded(self, kind: ExtremumKind, bound: Fraction) -> Affine:
        """Return the maximum or minimum of the same and a bound."""
        pick = max if kind is ExtremumKind.MAX else min
        low = None if self.low is None else pick(self.low, bound)
        high = None if self.high is None else pick(self.high, bound)
        if kind is ExtremumKind.MAX:
            low = bound if low is None else low
        else:
            high = bound if high is None else high
        return replace(self, low=low, high=high)

    def at(self, x: Fraction) -> Fraction:
        """Return the value at x."""
        y = self.scale * x + self.offset
        y = y if self.low is None else max(y, self.low)
        return y if self.high is None else min(y, self.high)

    def floats(self, x: Floats) -> Floats:
        """Return the values at x in float64."""
        y: Floats = x * float(self.scale) + float(self.offset)
        y = y if self.low is None else np.maximum(y, float(self.low))
        return y if self.high is None else np.minimum(y, float(self.high))


@dataclass(frozen=True, slots=True)
class Call:
    """A function of the framework, computed there in float32, and what follows it."""

    kind: FunctionKind
    parameters: tuple[float, ...]
    then: Affine = Affine()


@dataclass(frozen=True, slots=True)
class Chain:
    """What is to be done to one element: first `affine`, then the calls in order."""

    affine: Affine = Affine()
    calls: tuple[Call, ...] = ()

    def changed(self, change: Callable[[Affine], Affine]) -> Chain:
        """Return the chain with its last affine part changed."""
        if not self.calls:
            return Chain(change(self.affine))
        last = self.calls[-1]
        return replace(self, calls=(*self.calls[:-1], replace(last, then=change(last.then))))

    def floats(self, x: Floats) -> Floats:
        """Return the values at x: affine parts in float64, results of functions rounded to float32."""
        with np.errstate(all="ignore"):
            return self.last.floats(self.before_last(x))

    @property
    def last(self) -> Affine:
        """The last affine part."""
        return self.calls[-1].then if self.calls else self.affine

    def before_last(self, x: Floats) -> Floats:
        """Return what the last affine part is applied to."""
        y = x
        then = self.affine
        for call in self.calls:
            with np.errstate(all="ignore"):
                argument = then.floats(y)
                y = apply_function(call.kind, argument, call.parameters).astype(np.float32).astype(np.float64)
            then = call.then
        return y

    @property
    def pure(self) -> bool:
        """Whether the chain only multiplies."""
        return not self.calls and self.affine == Affine(self.affine.scale)

    @property
    def keeps_zero(self) -> bool:
        """Whether 0 stays 0."""
        if not self.calls:
            return self.affine.at(ZERO) == 0
        return float(self.floats(np.zeros(1))[0]) == 0


@dataclass(frozen=True, slots=True, eq=False)
class Chains:
    """The chain of every element of a value: `kinds[index[e]]`; `index` has the value's shape."""

    kinds: tuple[Chain, ...]
    index: Index

    @staticmethod
    def uniform(shape: Sequence[int], chain: Chain | None = None) -> Chains:
        """Return one chain (default: nothing to do) for all elements."""
        return Chains((chain or Chain(),), np.zeros(tuple(shape), dtype=np.int64))

    @staticmethod
    def of(chains: Iterable[Chain], shape: Sequence[int]) -> Chains:
        """Return the chains of all elements, C order."""
        known: dict[Chain, int] = {}
        index = [known.setdefault(chain, len(known)) for chain in chains]
        return Chains(tuple(known), np.array(index, dtype=np.int64).reshape(tuple(shape)))

    @staticmethod
    def scales(factors: npt.NDArray[np.object_], shape: Sequence[int]) -> Chains:
        """Return chains that multiply by these fractions, broadcast to the shape."""
        full = np.broadcast_to(factors, tuple(shape)).ravel()
        return Chains.of((Chain(Affine(factor)) for factor in full), shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """The value's shape."""
        return tuple(int(n) for n in self.index.shape)

    def each(self) -> list[Chain]:
        """Return the chain of every element, C order."""
        return [self.kinds[k] for k in self.index.ravel().tolist()]

    def every(self, change: Callable[[Chain], Chain]) -> Chains:
        """Change every chain."""
        return self._compact(tuple(change(kind) for kind in self.kinds), self.index)

    def _compact(self, kinds: Sequence[Chain], index: Index) -> Chains:
        used, back = np.unique(index, return_inverse=True)
        known: dict[Chain, int] = {}
        place = np.array([known.setdefault(kinds[k], len(known)) for k in used.tolist()], dtype=np.int64)
        return Chains(tuple(known), place[back].reshape(index.shape))

    def with_constants(self, constants: Floats, change: Callable[[Affine, Fraction], Affine]) -> Chains:
        """Change every chain with a constant of its element; constants broadcast to the shape."""
        values, where = np.unique(np.broadcast_to(constants, self.shape), return_inverse=True)
        pairs = self.index * len(values) + where.reshape(self.shape)
        used, back = np.unique(pairs, return_inverse=True)
        made = []
        for pair in used.tolist():
            constant = meant(float(values[pair % len(values)]))
            made.append(
                self.kinds[pair // len(values)].changed(lambda affine, constant=constant: change(affine, constant))
            )
        return self._compact(made, back.reshape(self.shape).astype(np.int64))

    def moved(self, index: Index) -> Chains:
        """Return the chains of elements moved as `index` says; -1 is a zero, which takes the chain of its column.

        The column is that of the last axis: a padded channel keeps the scale of the channel.
        """
        flat = self.index.ravel()
        if len(self.kinds) == 1 or not (index < 0).any():
            return self._compact(self.kinds, flat[np.maximum(index, 0)].reshape(index.shape))
        rows = index.reshape(-1, index.shape[-1]) if index.ndim else index.reshape(1, 1)
        picked = flat[np.maximum(rows, 0)]
        inside = rows >= 0
        first = np.where(inside.any(axis=0), picked[inside.argmax(axis=0), np.arange(rows.shape[1])], flat[0])
        return self._compact(self.kinds, np.where(inside, picked, first).reshape(index.shape))

    def broadcast(self, shape: Sequence[int]) -> Chains:
        """Return the chains of the value broadcast to a shape."""
        return Chains(self.kinds, np.broadcast_to(self.index, tuple(shape)))

    @staticmethod
    def joined(several: Sequence[Chains]) -> Chains:
        """Return the chains of several values one behind the other, flat."""
        kinds: list[Chain] = []
        index = []
        for chains in several:
            index.append(chains.index.ravel() + len(kinds))
            kinds += chains.kinds
        return Chains(tuple(kinds), np.concatenate(index))

    def paired(self, other: Chains, combine: Callable[[Chain, Chain], Chain]) -> Chains:
        """Combine the chains of two values element by element, broadcast."""
        mine, its = np.broadcast_arrays(self.index, other.index)
        used, back = np.unique(mine * len(other.kinds) + its, return_inverse=True)
        count = len(other.kinds)
        made = [combine(self.kinds[pair // count], other.kinds[pair % count]) for pair in used.tolist()]
        return self._compact(made, back.reshape(mine.shape).astype(np.int64))

    @property
    def pure(self) -> bool:
        """Whether every chain only multiplies."""
        return all(kind.pure for kind in self.kinds)

    @property
    def scale_array(self) -> Floats:
        """The factors as float64, broadcasting to the value's shape; for pure chains."""
        return _compact_floats(np.array([float(kind.affine.scale) for kind in self.kinds])[self.index])

    def fractions(self) -> npt.NDArray[np.object_]:
        """Return the factor of every element; for pure chains."""
        kinds = np.empty(len(self.kinds), dtype=object)
        kinds[:] = [kind.affine.scale for kind in self.kinds]
        return np.asarray(kinds[self.index], dtype=object).reshape(self.shape)


def _compact_floats(values: Floats) -> Floats:
    """Drop axes along which an array does not change: they broadcast."""
    while values.ndim and (values == values[:1]).all():
        values = values[0]
    for axis in range(values.ndim):
        first = values.take([0], axis=axis)
        if (values == first).all():
            values = first
    return values


def nearest(value: Fraction) -> int:
    """Return the nearest whole number, ties up."""
    return math.floor(value + Fraction(1, 2))
