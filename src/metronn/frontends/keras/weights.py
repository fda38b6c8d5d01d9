"""The arrays of a Keras model, read from HDF5 without Keras, in the two layouts that exist.

Keras 3 (`model.weights.h5`): `layers/<class>_<n>/vars/<k>`, numbered in the order of creation; nested models nest.
Keras 2 and legacy `.h5`: `<layer>/` with the attribute `weight_names`, the last part of each name being the array's.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import h5py
import numpy as np
import numpy.typing as npt

from metronn.errors import ModelError

CONTAINERS = ("layers", "_layer_checkpoint_dependencies")
"""Groups that hold a model's layers in the Keras 3 layout: the second name is that of tf.keras 2.13 to 2.15."""

HDF5_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError, AttributeError, OverflowError, MemoryError)
"""What h5py raises on damaged files."""

PROBE_TIMEOUT_S = 120
"""How long reading a file may take before it counts as damaged; the largest trigger networks take under a second."""

Array = npt.NDArray[np.float64]


class MissingWeightsError(Exception):
    """The file lacks the arrays of a layer; the text says what was looked for."""


@dataclass(frozen=True, slots=True)
class LayerPlace:
    """One step on the way to a layer: its name, and its group in the Keras 3 layout."""

    name: str
    group: str


class WeightStore(Protocol):
    """Reads the arrays of one layer."""

    def arrays(self, path: Sequence[LayerPlace], names: Sequence[str]) -> list[Array]:
        """Return the arrays of these names; raises MissingWeightsError."""
        ...


def open_hdf5(path: Path, content: bytes) -> h5py.File:
    """Open HDF5 from memory, when its bytes are known to be good (a zip has checksums); raises ModelError."""
    try:
        return h5py.File(io.BytesIO(content), "r")
    except HDF5_ERRORS as error:
        raise ModelError(f"{path}: the HDF5 inside is damaged: {error}") from None


def open_unchecked_hdf5(path: Path, content: bytes) -> h5py.File:
    """Open a file of plain HDF5, after another process has read it without crashing; raises ModelError."""
    file = open_hdf5(path, content)
    probe = [sys.executable, "-P", str(Path(__file__).with_name("hdf5_probe.py")), str(path)]
    try:
        crashed = subprocess.run(probe, capture_output=True, timeout=PROBE_TIMEOUT_S, check=False).returncode < 0
    except subprocess.TimeoutExpired:
        crashed = True
    if crashed:
        file.close()
        raise ModelError(f"{path}: the HDF5 inside is damaged: the HDF5 library cannot read it without crashing")
    return file


def weight_store(path: Path, file: h5py.File) -> WeightStore:
    """Return the reader for the layout found; raises ModelError when there is neither."""
    try:
        if "model_weights" in file:
            return LegacyWeights(file["model_weights"])
        if "layer_names" in file.attrs or "layer_names0" in file.attrs:
            return LegacyWeights(file)
        if any(name in file for name in CONTAINERS):
            return NumberedWeights(file)
    except HDF5_ERRORS as error:
        raise ModelError(f"{path}: the HDF5 inside is damaged: {error}") from None
    raise ModelError(f"{path}: no Keras weights inside: no group model_weights or layers, no attribute layer_names")


@dataclass(frozen=True, slots=True)
class NumberedWeights:
    """The Keras 3 layout. A layer is found by the `name` kept on its `vars`, else by its class and number."""

    root: h5py.Group

    def arrays(self, path: Sequence[LayerPlace], names: Sequence[str]) -> list[Array]:
        """Return the arrays of a layer in the order of `names`."""
        try:
            group = self.group(path)
            held = {name: array for name, array in group.get("vars", {}).items() if name.isdigit()}
            if len(held) != len(names):
                raise MissingWeightsError(f"{_expected(names)}, the weights hold {len(held)} under {group.name}")
            return [np.asarray(held[str(k)][()], dtype=np.float64) for k in range(len(names))]
        except HDF5_ERRORS as error:
            raise MissingWeightsError(f"the weights cannot be read: {error}") from None

    def group(self, path: Sequence[LayerPlace]) -> h5py.Group:
        """Return the group of a layer; a layer shared with another model may be there, under its name.

        Raises MissingWeightsError.
        """
        group = self.root
        try:
            for place in path:
                group = self._child(group, place)
        except MissingWeightsError:
            shared: list[h5py.Group] = []

            def visit(_: str, item: object) -> None:
                if isinstance(item, h5py.Group) and "vars" in item:
                    if _text(item["vars"].attrs.get("name", "")) == path[-1].name:
                        shared.append(item)

            self.root.visititems(visit)
            if len(shared) != 1:
                raise
            return shared[0]
        return group

    @staticmethod
    def _child(group: h5py.Group, place: LayerPlace) -> h5py.Group:
        container = next((group[name] for name in CONTAINERS if name in group), None)
        if container is None and place.group in group:
            return group[place.group]  # the layer inside TimeDistributed
        if container is None:
            raise MissingWeightsError(f"the weights have no layers under {group.name}")
        for child in container.values():
            if "vars" in child and _text(child["vars"].attrs.get("name", "")) == place.name:
                return child
        if place.group not in container:
            raise MissingWeightsError(f"the weights have no {container.name}/{place.group}")
        return container[place.group]


@dataclass(frozen=True, slots=True)
class LegacyWeights:
    """The layout of Keras 2, and of `.h5` files of Keras 3. Nested models keep their arrays in one group."""

    root: h5py.Group

    def arrays(self, path: Sequence[LayerPlace], names: Sequence[str]) -> list[Array]:
        """Return the arrays whose last name part is in `names`, in that order."""
        top = path[0].name
        try:
            if top not in self.root:
                raise MissingWeightsError(f"the weights have no group {top}")
            group = self.root[top]
            stored = list(_name_list(group, "weight_names"))
            found: dict[str, str] = {}
            for array in names:
                scores = {n: _closeness(n, path) for n in stored if n.split("/")[-1].split(":")[0] == array}
                best = [n for n, score in scores.items() if score == max(scores.values()) and score[0] >= 0]
                if len(best) > 1:
                    raise MissingWeightsError(
                        f"several arrays may be its {array}: {', '.join(best)}; rename the layers"
                    )
                found.update((array, n) for n in best)
            missing = [name for name in names if name not in found]
            if missing:
                raise MissingWeightsError(f"{_expected(names)}, the weights hold {', '.join(stored) or 'none'}")
            return [np.asarray(group[found[name]][()], dtype=np.float64) for name in names]
        except HDF5_ERRORS as error:
            raise MissingWeightsError(f"the weights cannot be read: {error}") from None

    def scoped(self, path: Sequence[LayerPlace]) -> Iterator[tuple[tuple[str, ...], h5py.Dataset]]:
        """Yield the arrays of a layer and of the layers inside it, by the parts of the name behind the layer's.

        Raises MissingWeightsError.
        """
        group = self.root.get(path[0].name)
        stored = {} if group is None else {name: tuple(name.split("/")) for name in _name_list(group, "weight_names")}
        places = {name: _place(parts, [place.name for place in path]) for name, parts in stored.items()}
        best = max((score for score, _ in places.values()), default=0)
        if group is None or not best:
            raise MissingWeightsError(f"the weights have no arrays of {'/'.join(place.name for place in path)}")
        for name, (score, position) in places.items():
            if score == best:
                yield tuple(part.split(":")[0] for part in stored[name][position + 1 :]), group[name]


def _place(parts: Sequence[str], steps: Sequence[str]) -> tuple[int, int]:
    """Return how many of the last steps stand together among the scopes of a name, and where the last one stands."""
    found = (0, -1)
    for position, scope in enumerate(parts[:-1]):
        if scope == steps[-1]:
            same = 1
            while same < min(position + 1, len(steps)) and parts[position - same] == steps[-1 - same]:
                same += 1
            found = max(found, (same, -position))
    return found[0], -found[1]


def _closeness(stored: str, path: Sequence[LayerPlace]) -> tuple[int, int]:
    """Rank a stored name for a layer: last steps that its scopes repeat, then how few scopes remain.

    The first number is negative when the name is another layer's.
    """
    scopes, steps = stored.split("/")[:-1], [place.name for place in path]
    same = 0
    while same < min(len(scopes), len(steps)) and scopes[-1 - same] == steps[-1 - same]:
        same += 1
    if not same and path[-1].group == "layer" and len(path) > 1:  # inside TimeDistributed, Keras 2 leaves it out
        same = int(scopes[-1:] == [steps[-2]])
    own = same > 0 or len(path) == 1 or steps[-1] in scopes
    return (same if own else -1, same - len(scopes))


def _expected(names: Sequence[str]) -> str:
    return f"the configuration asks for {len(names)} arrays ({', '.join(names)})"


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _name_list(group: h5py.Group, attribute: str) -> Iterator[str]:
    """Read a list of names; long ones are split over attributes with a number behind."""
    if attribute in group.attrs:
        yield from (_text(name) for name in group.attrs[attribute])
        return
    chunk = 0
    while f"{attribute}{chunk}" in group.attrs:
        yield from (_text(name) for name in group.attrs[f"{attribute}{chunk}"])
        chunk += 1
