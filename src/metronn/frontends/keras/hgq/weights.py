"""The arrays of an HGQ2 layer, which holds further layers (quantizers, tables, projections) that hold arrays.

In the Keras 3 layout such a layer is a group under the name of the attribute that holds it; in `.h5` files it is a
scope in the names of the arrays, made of the inner layer's own name. A `InnerLayer` knows both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import h5py
import numpy as np
import numpy.typing as npt

from metronn.frontends.keras.weights import (
    HDF5_ERRORS,
    LayerPlace,
    LegacyWeights,
    MissingWeightsError,
    NumberedWeights,
    WeightStore,
)

Float32 = npt.NDArray[np.float32]

COST = "cost"
"""Stands in a list of names for the two numbers about resources (`beta`, `ebops`) that a layer may keep."""

COST_ARRAYS = 2


@dataclass(frozen=True, slots=True)
class InnerLayer:
    """The way to an inner layer: the attribute that holds it, and a pattern of its name; `many`: to all of a list."""

    attribute: str
    scope: str
    many: bool = False


class WeightTree(Protocol):
    """The arrays of a layer, and its inner layers."""

    def children(self, step: InnerLayer) -> list[WeightTree]:
        """Return the inner layers of this step, in the order of their numbers."""
        ...

    def own(self, names: Sequence[str]) -> dict[str, Float32]:
        """Return the layer's own arrays; `names` in the order of the numbered layout. Raises MissingWeightsError."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an own array, which is the first one in the numbered layout."""
        ...


def child(tree: WeightTree, step: InnerLayer, number: int = 0) -> WeightTree | None:
    """Return an inner layer, or None."""
    found = tree.children(step)
    return found[number] if number < len(found) else None


def weight_tree(store: WeightStore, path: Sequence[LayerPlace]) -> WeightTree:
    """Return the arrays of a layer; raises MissingWeightsError."""
    try:
        if isinstance(store, NumberedWeights):
            return _Group(store.group(path))
        if isinstance(store, LegacyWeights):
            return _Scope(dict(store.scoped(path)))
    except HDF5_ERRORS as error:
        raise MissingWeightsError(f"the weights cannot be read: {error}") from None
    raise MissingWeightsError("the weights have no inner layers")


def _number(name: str) -> int:
    digits = re.search(r"_(\d+)$", name)
    return int(digits.group(1)) if digits else 0


@dataclass(frozen=True, slots=True)
class _Group:
    """The Keras 3 layout."""

    group: h5py.Group

    def children(self, step: InnerLayer) -> list[WeightTree]:
        pattern = rf"{step.attribute}(_\d+)?" if step.many else f"_?{step.attribute}"
        named = [name for name in self.group if re.fullmatch(pattern, name) and len(self.group[name])]
        return [_Group(self.group[name]) for name in sorted(named, key=_number)]

    def own(self, names: Sequence[str]) -> dict[str, Float32]:
        held = self.group.get("vars", {})
        order = list(names)
        if COST in order:
            place = order.index(COST)
            order[place : place + 1] = ["", ""] if len(held) == len(order) - 1 + COST_ARRAYS else []
        if len(held) != len(order):
            asked = ", ".join(name for name in names if name != COST)
            raise MissingWeightsError(f"arrays {asked} are needed, the weights hold {len(held)} in {self.group.name}")
        return {name: np.asarray(held[str(k)][()], dtype=np.float32) for k, name in enumerate(order) if name}

    def shape(self, name: str) -> tuple[int, ...]:
        if "vars/0" not in self.group:
            raise MissingWeightsError(f"array {name} is needed, the weights hold none in {self.group.name}")
        return tuple(self.group["vars/0"].shape)


@dataclass(frozen=True, slots=True)
class _Scope:
    """The layout of `.h5` files: the arrays by what follows the layer's scope in their names."""

    arrays: Mapping[tuple[str, ...], h5py.Dataset]

    def children(self, step: InnerLayer) -> list[WeightTree]:
        scopes = {name[0] for name in self.arrays if len(name) > 1 and re.fullmatch(step.scope, name[0])}
        return [
            _Scope({name[1:]: array for name, array in self.arrays.items() if len(name) > 1 and name[0] == scope})
            for scope in sorted(scopes, key=_number)
        ]

    def own(self, names: Sequence[str]) -> dict[str, Float32]:
        wanted = [name for name in names if name != COST]
        missing = [name for name in wanted if (name,) not in self.arrays]
        if missing:
            held = ", ".join("/".join(name) for name in self.arrays) or "none"
            raise MissingWeightsError(f"arrays {', '.join(missing)} are needed, the weights hold {held}")
        return {name: np.asarray(self.arrays[name,][()], dtype=np.float32) for name in wanted}

    def shape(self, name: str) -> tuple[int, ...]:
        if (name,) not in self.arrays:
            raise MissingWeightsError(f"array {name} is needed, the weights lack it")
        return tuple(self.arrays[name,].shape)
