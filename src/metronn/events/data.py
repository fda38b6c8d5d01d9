"""Events to calibrate and judge with: arrays by input name, labels, and anything a metric may want."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from metronn.errors import ModelError
from metronn.events.sources import read_arrays
from metronn.ir.arrays import Array
from metronn.model.graph import Floats

EventSource = str | Mapping[str, Array] | Array
"""Events where they are: a file, arrays by name, or the array of a network's one input."""
UNNAMED = "x"
"""The array that counts as the input of a model with one input when several fit and none has the input's name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Floats of shape (events, *shape) by input name, optional labels, and extra arrays by name."""

    inputs: Mapping[str, Floats]
    labels: Array | None = None
    extra: Mapping[str, Array] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Number of events."""
        return len(next(iter(self.inputs.values())))

    def arrays(self) -> dict[str, Array]:
        """Everything but the inputs, as a metric sees it: the extra arrays, and the labels as `label`."""
        return dict(self.extra) | ({} if self.labels is None else {"label": self.labels})


def source_name(source: EventSource | Path) -> str:
    """Return what messages call events: their file, or that they are arrays."""
    return Path(source).name if isinstance(source, str | Path) else "arrays"


def _arrays(source: EventSource | Path) -> dict[str, Array]:
    if isinstance(source, str | Path):
        return read_arrays(source)
    named = source if isinstance(source, Mapping) else {UNNAMED: source}
    return {str(name): np.asarray(array) for name, array in named.items()}


def load_events(
    source: EventSource | Path,
    inputs: Mapping[str, tuple[int, ...]],
    *,
    label: str = "label",
    columns: Mapping[str, Sequence[str]] | None = None,
    model_names: Mapping[str, str] | None = None,
) -> Events:
    """Read events from .npz, .npy, .h5, .hdf5 or .root (`file.root:tree` where a file has several trees), or arrays.

    `inputs` gives the shape per event of each input; an array with as many elements per event in another shape is
    reshaped. `model_names` says what the framework calls inputs that it calls otherwise: arrays and `columns` go by
    these names, or by those of `inputs`. `columns` names, for an input, the arrays that lie side by side in it. A model
    with one input takes an array of another name when exactly one fits, or when the fitting one is called `x`. Arrays
    that are neither inputs nor labels but have as many entries are kept as extra arrays.

    Raises ModelError listing every problem of the file's contents: missing arrays, wrong shapes or kinds, no events,
    different numbers of events, NaN or infinite values.
    """
    arrays = _arrays(source)
    shown = {name: (model_names or {}).get(name, name) for name in inputs}
    own = _own_names(shown, arrays)
    identifiers = {source: name for name, source in shown.items()}
    columns = {identifiers.get(name, name): names for name, names in (columns or {}).items()}
    problems = [
        f"columns: {name} is no input of the model; inputs are {', '.join(shown.values())}"
        for name in columns
        if name not in inputs
    ]
    found: dict[str, Floats] = {}
    used: set[str] = set()
    for name, shape in inputs.items():
        sources = tuple(columns.get(name, ())) or _source_of(own[name], shape, inputs, arrays, label)
        missing = [source for source in sources if source not in arrays]
        if missing:
            what = f"{', '.join(missing)} for input {shown[name]}" if name in columns else f"input {shown[name]}"
            what += f" ({name} in the firmware)" if shown[name] != name else ""
            problems.append(f"{what}: not found; the file holds {_contents(arrays)}")
            continue
        used.update(sources)
        values, wrong = _values(shown[name], shape, sources, arrays)
        problems.extend(wrong)
        if values is not None:
            found[name] = values
    counts = {name: len(values) for name, values in found.items()}
    if len(set(counts.values())) > 1:
        counted = ", ".join(f"{name} has {count}" for name, count in counts.items())
        problems.append(f"the inputs have different numbers of events: {counted}")
    # An array that is called like the labels but feeds an input is no label.
    labels, wrong = _labels(None if label in used else arrays.get(label), label, set(counts.values()))
    problems.extend(wrong)
    if problems:
        where = source if isinstance(source, str | Path) else source_name(source)
        raise ModelError("\n".join(f"{where}: {problem}" for problem in problems))
    count = next(iter(counts.values()))
    extra = {
        name: array
        for name, array in arrays.items()
        if name not in {*used, label} and array.ndim and len(array) == count
    }
    return Events(inputs=found, labels=labels, extra=extra)


def _contents(arrays: Mapping[str, Array]) -> str:
    return ", ".join(f"{name} {tuple(array.shape)}" for name, array in sorted(arrays.items())) or "nothing"


def _own_names(shown: Mapping[str, str], arrays: Mapping[str, Array]) -> dict[str, str]:
    """Return the name under which a file holds each input: the framework's, or else the identifier.

    An identifier that is the framework's name of another input stands for that one, unless the file names all inputs
    by their identifiers and not all by the framework's names.
    """
    if not all(source in arrays for source in shown.values()) and all(name in arrays for name in shown):
        return {name: name for name in shown}
    taken = set(shown.values())
    return {
        name: source if source in arrays or name in taken or name not in arrays else name
        for name, source in shown.items()
    }


def _fits(array: Array, shape: tuple[int, ...]) -> bool:
    return array.ndim > 0 and array.dtype.kind in "iufb" and math.prod(array.shape[1:]) == math.prod(shape)


def _source_of(
    name: str, shape: tuple[int, ...], inputs: Mapping[str, tuple[int, ...]], arrays: Mapping[str, Array], label: str
) -> tuple[str, ...]:
    """Return the name of the array that feeds the input; the input's own name when none or several would."""
    if name in arrays or len(inputs) > 1:
        return (name,)
    fitting = [other for other, array in arrays.items() if other != label and _fits(array, shape)]
    if len(fitting) == 1:
        return (fitting[0],)
    return (UNNAMED,) if UNNAMED in fitting else (name,)


def _long(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes of more than one element: the others do not change the order of the elements."""
    return tuple(n for n in shape if n != 1)


def _order(found: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    """Return the order of axes that moves the last axis first, or the first one last, where that gives `wanted`."""
    axes = tuple(range(len(found)))
    for order in ((*axes[-1:], *axes[:-1]), (*axes[1:], *axes[:1])):
        if tuple(found[axis] for axis in order) == wanted:
            return order
    return ()


def _values(
    name: str, shape: tuple[int, ...], sources: Sequence[str], arrays: Mapping[str, Array]
) -> tuple[Floats | None, list[str]]:
    """Return the input's values and the problems with them."""
    problems = []
    parts: list[Floats] = []
    for source in sources:
        array = arrays[source]
        label = name if source == name else f"{source} (input {name})"
        if array.dtype.kind not in "iufb":
            kind = "arrays of different lengths or objects" if array.dtype.kind == "O" else str(array.dtype)
            problems.append(f"{label}: values are {kind}, allowed are numbers")
            continue
        if not array.ndim or not len(array):
            problems.append(f"{label}: no events; at least one is needed")
            continue
        values = array.astype(np.float64).reshape(len(array), -1)
        bad = ~np.isfinite(values)
        if bad.any():
            first = int(np.argwhere(bad)[0][0])
            problems.append(f"{label}: {int(bad.sum())} values are NaN or infinite, the first in event {first}")
        parts.append(values)
    if problems:
        return None, problems
    if len({len(part) for part in parts}) > 1:
        lengths = ", ".join(f"{s} has {len(p)}" for s, p in zip(sources, parts, strict=True))
        return None, [f"input {name}: its columns have different numbers of events: {lengths}"]
    values = np.concatenate(parts, axis=1)
    if values.shape[1] != math.prod(shape):
        shown = arrays[sources[0]].shape[1:] if len(sources) == 1 else (values.shape[1],)
        found = tuple(int(n) for n in shown)
        what = name if sources == (name,) else f"input {name} from {', '.join(sources)}"
        return None, [f"{what}: shape per event is {found}, allowed is {shape} or ({math.prod(shape)},)"]
    found = tuple(int(n) for n in arrays[sources[0]].shape[1:])
    if len(sources) == 1 and len(_long(found)) > 1 and _long(found) != _long(shape):
        order = _order(found, shape)
        change = f"; transpose the axes of each event to {order}" if order else ""
        what = name if sources == (name,) else f"input {name} from {sources[0]}"
        return None, [f"{what}: shape per event is {found}, allowed is {shape} or ({math.prod(shape)},){change}"]
    return values.reshape(len(values), *shape), []


def _labels(array: Array | None, name: str, counts: set[int]) -> tuple[Array | None, list[str]]:
    if array is None:
        return None, []
    if array.dtype.kind not in "iufb" or not array.ndim:
        return None, [f"{name}: labels are {array.dtype} of shape {array.shape}, allowed is a number for each event"]
    if counts and len(array) not in counts:
        return None, [f"{name}: {len(array)} labels for {min(counts)} events"]
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = ~np.isfinite(array.reshape(len(array), -1)).all(axis=1)
        return None, [f"{name}: {int(bad.sum())} labels are NaN or infinite, the first in event {int(np.argmax(bad))}"]
    return array, []
