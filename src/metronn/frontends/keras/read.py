"""Keras files to RealGraph, read with json and h5py alone: `.keras`, `.h5`, and JSON with weights beside it.

The configuration is walked as Keras would call the layers; nested models are inlined, and a layer used several
times is read several times. Layers and activations are in `layers`, the HDF5 layouts in `weights`.
"""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from metronn.errors import ModelError
from metronn.frontends.common.builder import LayerBuilder, LayerProblem, unsupported_error
from metronn.frontends.common.files import FileKind, expect, read_bytes
from metronn.frontends.keras.activations import ACTIVATIONS
from metronn.frontends.keras.context import LayerContext
from metronn.frontends.keras.hgq.layers import HGQ_LAYERS, HGQ_REFUSED
from metronn.frontends.keras.layers import DISTRIBUTED, LAYERS, unsupported_part
from metronn.frontends.keras.operators import OPERATOR_MODULES, OPERATORS, Operator, OperatorContext, operands
from metronn.frontends.keras.qkeras_layers import QKERAS_LAYERS
from metronn.frontends.keras.tensorflow import CLASSES, FUNCTIONS, NOT_SAVED, TENSORFLOW, call
from metronn.frontends.keras.tensorflow import slots as tensorflow_slots
from metronn.frontends.keras.weights import (
    HDF5_ERRORS,
    LayerPlace,
    WeightStore,
    open_hdf5,
    open_unchecked_hdf5,
    weight_store,
)
from metronn.model.graph import RealGraph

MODELS = frozenset(("Sequential", "Functional", "Model"))
"""Classes that hold layers. A subclassed model has another name and is a custom object."""

ALL_LAYERS = {**LAYERS, **HGQ_LAYERS}
"""What each layer becomes, by class name; layers of packages beside Keras have the package before it."""

WRAPPER = "TimeDistributed"
"""The layer that repeats another one along axis 1."""

OPERATION = "ops."
"""Stands before the class names of operations that are no layers."""

ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, struct.error, OSError, EOFError, RuntimeError, ValueError, OverflowError)
"""What zipfile raises on damaged or encrypted archives."""

Slot = tuple[str, int, int]
"""Where a tensor comes from: layer name, which call of it, which of its outputs."""


def load_keras_archive(path: Path, content: bytes) -> RealGraph:
    """Read a `.keras` archive; raises ModelError as `load_model` says."""
    expect(path, content, FileKind.ZIP, "a .keras archive")
    members = {}
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            names = archive.namelist()
            for name in ("config.json", "metadata.json", "model.weights.h5"):
                if name in names:
                    members[name] = archive.read(name)
    except ZIP_ERRORS as error:
        raise ModelError(f"{path}: the archive is damaged: {error}") from None
    missing = [name for name in ("config.json", "model.weights.h5") if name not in members]
    if missing:
        raise ModelError(f"{path}: not a .keras archive: {' and '.join(missing)} missing inside")
    version = _json(path, members.get("metadata.json", b"{}"), "metadata.json").get("keras_version")
    model = _json(path, members["config.json"], "config.json")
    with open_hdf5(path, members["model.weights.h5"]) as file:
        return _read(path, model, weight_store(path, file), version)


def load_keras_hdf5(path: Path, content: bytes) -> RealGraph:
    """Read a whole model in HDF5 (Keras 2, or legacy format of Keras 3); raises ModelError as `load_model` says."""
    expect(path, content, FileKind.HDF5, "a Keras .h5 model")
    with open_unchecked_hdf5(path, content) as file:
        try:
            text, version = file.attrs.get("model_config"), file.attrs.get("keras_version")
        except HDF5_ERRORS as error:
            raise ModelError(f"{path}: the HDF5 inside is damaged: {error}") from None
        if text is None:
            raise ModelError(
                f"{path}: no model_config inside, so this file holds weights at most; give the whole model, or the "
                "JSON of the architecture with this file beside it"
            )
        model = _json(path, _utf8(text), "model_config")
        return _read(path, model, weight_store(path, file), version)


def load_keras_json(path: Path, content: bytes) -> RealGraph:
    """Read an architecture in JSON and the weights in the HDF5 file beside it; raises ModelError."""
    model = _json(path, content, "the file")
    if "class_name" not in model or "config" not in model:
        raise ModelError(f"{path}: not a Keras architecture: no class_name and config in this JSON")
    candidates = [path.with_name(path.stem + suffix) for suffix in ("_weights.h5", ".weights.h5", ".h5")]
    weights = next((candidate for candidate in candidates if candidate.is_file()), None)
    if weights is None:
        names = ", ".join(candidate.name for candidate in candidates)
        raise ModelError(f"{path}: its weights are not beside it; looked for {names}")
    held = read_bytes(weights)
    expect(weights, held, FileKind.HDF5, "Keras weights")
    with open_unchecked_hdf5(weights, held) as file:
        return _read(path, model, weight_store(weights, file), model.get("keras_version"))


def _utf8(attribute: object) -> bytes:
    """Return the bytes of an HDF5 attribute that should be text."""
    return attribute if isinstance(attribute, bytes) else str(attribute).encode(errors="surrogateescape")


def _json(path: Path, content: bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: {what} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path}: {what} is not a JSON object")
    return value


def _read(path: Path, model: Mapping[str, Any], store: WeightStore, version: object) -> RealGraph:
    text = version.decode(errors="replace") if isinstance(version, bytes) else str(version or "3")
    major = int(text[0]) if text[:1] in {*"0123456789"} else 3
    reader = _Reader(where=str(path), store=store, major_version=major)
    try:
        top = _Layer.of(model, LayerPlace(_name(model), ""))
        unsupported = list(reader.unsupported(top, ()))
        if unsupported:
            operations = (f"{name.removeprefix(OPERATION)} (operation)" for name in OPERATORS)
            activations = (f"{name} (activation)" for name in ACTIVATIONS)
            listed = [*activations, *ALL_LAYERS, *MODELS, *operations, "InputLayer", WRAPPER]
            raise unsupported_error(str(path), unsupported, listed)
        outputs = reader.model(top, (), None)
    except LayerProblem as problem:
        reader.builder.problems.append(str(problem))
        outputs = []
    return reader.builder.finish(outputs, str(path))


@dataclass(frozen=True, slots=True)
class _Layer:
    """One entry of a model's `layers`."""

    kind: str
    config: Mapping[str, Any]
    place: LayerPlace
    inbound: Sequence[Any]
    entry: Mapping[str, Any]

    @staticmethod
    def of(entry: object, place: LayerPlace | None = None, used: dict[str, int] | None = None) -> _Layer:
        """Read an entry; `used` counts the groups of the Keras 3 layout taken so far."""
        if not isinstance(entry, dict) or not isinstance(entry.get("class_name"), str):
            raise LayerProblem("the configuration is damaged: a layer without class_name")
        config = entry.get("config")
        if entry["class_name"] in MODELS and isinstance(config, list):
            config = {"layers": config}
        if not isinstance(config, dict):
            raise LayerProblem(f"the configuration is damaged: {entry['class_name']} without config")
        if place is None:
            name = _name(entry)
            group = _snake_case(entry["class_name"])
            count = used.get(group, 0) if used is not None else 0
            if used is not None:
                used[group] = count + 1
            place = LayerPlace(name, f"{group}_{count}" if count else group)
        inbound = entry.get("inbound_nodes") or []
        return _Layer(_kind(entry), config, place, inbound if isinstance(inbound, list) else [], entry)

    def wrapped(self) -> _Layer:
        """Return the layer inside a TimeDistributed layer."""
        inner = self.config.get("layer")
        return _Layer.of(inner, LayerPlace(_name(inner) if isinstance(inner, dict) else "", "layer"))

    def layers(self) -> list[_Layer]:
        """Return the layers of a model."""
        entries = self.config.get("layers")
        if not isinstance(entries, list) or not entries:
            raise LayerProblem(f"{self.place.name} ({self.kind}) has no layers")
        used: dict[str, int] = {}
        return [_Layer.of(entry, None, used) for entry in entries]


def _name(entry: Mapping[str, Any]) -> str:
    """Return the name of a layer; older files keep it in the configuration only."""
    config = entry.get("config")
    inner = config.get("name") if isinstance(config, dict) else None
    return str(entry.get("name") or inner or entry.get("class_name"))


def _kind(entry: Mapping[str, Any]) -> str:
    """Return the class name, with its package when the class is not one of Keras' layers."""
    kind, module = str(entry["class_name"]).removeprefix("qkeras>"), _module(entry.get("module"))
    registered = str(entry.get("registered_name") or "").removeprefix("qkeras>")
    config = entry.get("config")
    if kind in CLASSES and isinstance(config, dict):
        return f"{TENSORFLOW}{config.get('function')}"
    bare = module is None and isinstance(config, dict) and "trainable" not in config  # an operation in .h5
    if str(module).startswith(OPERATOR_MODULES) or (bare and kind in OPERATORS and "inbound_nodes" in entry):
        return OPERATION + kind
    if module is None or module == "keras" or module.startswith(("keras.layers", "keras.src.layers")):
        return kind
    if module.startswith(("keras.src.", "keras.models", "keras.engine")) and kind in MODELS | {"InputLayer"}:
        return kind
    return registered if ">" in registered or registered in QKERAS_LAYERS else f"{module}.{kind}"


def _module(module: object) -> str | None:
    """Return a module in Keras' own spelling; tf_keras and TensorFlow hold copies of Keras under other names."""
    return None if module is None else re.sub(r"^(tf_keras|tensorflow(\.python)?\.keras)\b", "keras", str(module))


def _snake_case(name: str) -> str:
    """Name a class as Keras 3 does in its weight files."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


@dataclass(slots=True)
class _Reader:
    """Walks the configuration and adds the real ops."""

    where: str
    store: WeightStore
    major_version: int
    builder: LayerBuilder = field(default_factory=LayerBuilder)

    def unsupported(self, layer: _Layer, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
        """Yield (name, type) of everything in a layer, or a model with all that it holds, that cannot be read."""
        name = "/".join(path) or layer.place.name
        if layer.kind in MODELS:
            for inner in layer.layers():
                yield from self.unsupported(inner, (*path, inner.place.name))
        elif layer.kind == WRAPPER:
            inner = layer.wrapped()
            yield from self.unsupported(inner, (*path, inner.place.name))
        elif layer.kind.startswith(OPERATION):
            if layer.kind.removeprefix(OPERATION) not in OPERATORS:
                yield name, layer.kind
        elif layer.kind.startswith(TENSORFLOW):
            if layer.kind.removeprefix(TENSORFLOW) in NOT_SAVED:
                yield name, f"{layer.kind} (Keras 2 does not save its tensors; use a layer, or save with Keras 3)"
            elif layer.kind.removeprefix(TENSORFLOW) not in FUNCTIONS:
                yield name, layer.kind
        elif layer.kind in HGQ_REFUSED:
            yield name, f"{layer.kind} ({HGQ_REFUSED[layer.kind]})"
        elif layer.kind not in ALL_LAYERS and layer.kind != "InputLayer":
            yield name, layer.kind
        elif (part := unsupported_part(layer.kind, layer.config)) is not None:
            yield name, part

    def model(self, model: _Layer, path: tuple[LayerPlace, ...], xs: Sequence[str] | None) -> list[tuple[str, str]]:
        """Read a model called on xs (None: the whole network, whose inputs are the event); returns (name, value)."""
        if model.kind == "Sequential":
            return self._sequential(model, path, xs)
        return self._functional(model, path, xs)

    def _sequential(
        self, model: _Layer, path: tuple[LayerPlace, ...], xs: Sequence[str] | None
    ) -> list[tuple[str, str]]:
        layers = model.layers()
        if xs is None:
            first = layers[0]
            shape = _batch_shape(first.config) or model.config.get("build_input_shape")
            build = model.entry.get("build_config")
            if shape is None and isinstance(build, dict):
                shape = build.get("input_shape")
            name = first.place.name if first.kind == "InputLayer" else f"{first.place.name}_input"
            xs = [self._input(name, shape)]
        name = model.place.name
        for layer in layers:
            if layer.kind != "InputLayer":
                xs = self._call(layer, path, xs)
            name = layer.place.name
        return [(name, x) for x in xs]

    def _functional(
        self, model: _Layer, path: tuple[LayerPlace, ...], xs: Sequence[str] | None
    ) -> list[tuple[str, str]]:
        layers = {layer.place.name: layer for layer in model.layers()}
        values: dict[Slot, str] = {}
        sources = [slot for _, slot in _slots(model.config.get("input_layers"))]
        for position, (name, _, _) in enumerate(sources):
            if name not in layers:
                raise LayerProblem(f"the configuration is damaged: input layer {name} is not among the layers")
            if xs is not None and len(xs) != len(sources):
                raise LayerProblem(f"{model.place.name}: called on {len(xs)} tensors, it has {len(sources)} inputs")
            value = self._input(name, _batch_shape(layers[name].config)) if xs is None else xs[position]
            values[name, 0, 0] = value
        outputs = _slots(model.config.get("output_layers"))
        calls = {
            (name, number): tensorflow_slots(node)
            if layer.kind.startswith(TENSORFLOW)
            else [s for _, s in _slots(node)]
            for name, layer in layers.items()
            for number, node in enumerate(layer.inbound)
        }
        read = [slot for call in calls.values() for slot in call]
        if self.major_version >= 3:
            first = _first_calls(layers, read)
            shown = {name: int(layer.kind == "Functional") for name, layer in layers.items()}
        else:
            first = shown = _first_calls(layers, [*read, *(slot for _, slot in outputs)])
        while calls:
            ready = [key for key, slots in calls.items() if slots and all(slot in values for slot in slots)]
            if not ready:
                stuck = ", ".join(dict.fromkeys(name for name, _ in calls))
                raise LayerProblem(f"the configuration is damaged: nothing makes the inputs of {stuck}")
            for name, number in ready:
                slots, layer = calls.pop((name, number)), layers[name]
                if layer.kind.startswith((OPERATION, TENSORFLOW)):
                    results = self._operate(layer, path, layer.inbound[number], values)
                else:
                    results = self._call(layer, path, [values[slot] for slot in slots], layer.inbound[number])
                values.update({(name, number + first[name], k): value for k, value in enumerate(results)})
        outputs = [(key, (name, n - shown.get(name, 0) + first.get(name, 0), k)) for key, (name, n, k) in outputs]
        missing = [slot[0] for _, slot in outputs if slot not in values]
        if missing:
            raise LayerProblem(f"the configuration is damaged: nothing makes the output {', '.join(missing)}")
        return [(name or slot[0], values[slot]) for name, slot in outputs]

    def _input(self, name: str, shape: object) -> str:
        if not isinstance(shape, list | tuple) or len(shape) < 2:
            raise LayerProblem(
                f"input {name}: shape {shape} in the configuration; the batch axis and at least one more are needed, "
                "build the model on data before saving it"
            )
        for axis, size in enumerate(shape[1:], start=1):
            if not isinstance(size, int) or size <= 0:
                raise LayerProblem(
                    f"input {name}: axis {axis} has no fixed size ({size}); only the batch axis 0 may vary, "
                    "save the model with fixed sizes"
                )
        return self.builder.input(name, tuple(shape[1:]))

    def _call(
        self, layer: _Layer, path: tuple[LayerPlace, ...], xs: Sequence[str], node: object = None, lead: int = 0
    ) -> list[str]:
        """Read one call of a layer or of a nested model; `lead` axes of the event are repeated along."""
        here = (*path, layer.place)
        if layer.kind in MODELS:
            return [value for _, value in self.model(layer, here, xs)]
        if layer.kind == WRAPPER:
            return self._distributed(layer.wrapped(), here, xs)
        with self._reading(here, layer.kind):
            if layer.kind.startswith((OPERATION, TENSORFLOW)):
                raise LayerProblem("the configuration is damaged: an operation outside a functional model")
            context = LayerContext(
                builder=self.builder,
                kind=layer.kind,
                config=layer.config,
                path=here,
                store=self.store,
                xs=tuple(xs),
                major_version=self.major_version,
                lead=lead,
                node=node,
            )
            value = ALL_LAYERS[layer.kind](context)
            self.builder.tensors.setdefault(self.builder.layer, value)
            return [value]

    def _distributed(self, inner: _Layer, path: tuple[LayerPlace, ...], xs: Sequence[str]) -> list[str]:
        """Read a layer repeated along the first axis: as one where it can be, else once for every position."""
        if inner.kind in DISTRIBUTED:
            return self._call(inner, path, xs, lead=1)
        with self._reading(path, WRAPPER):
            (x,) = xs
            index = self.builder.indices(x)
            if index.ndim < 2:
                raise LayerProblem(f"repeats a layer along axis 1 of shape {index.shape}; two axes are needed")
            slices = [self.builder.rewire([x], part, "slice") for part in index]
        results = [self._call(inner, path, [part]) for part in slices]
        with self._reading(path, WRAPPER):
            shaped = [[self.builder.reshape(y, (1, *self.builder.shape(y))) for y in ys] for ys in results]
            return [self.builder.concatenate(parts, 0) for parts in zip(*shaped, strict=True)]

    def _operate(
        self, layer: _Layer, path: tuple[LayerPlace, ...], node: object, values: Mapping[Slot, str]
    ) -> list[str]:
        """Read one call of an operation that is no layer."""
        with self._reading((*path, layer.place), layer.kind):
            operator, context = self._operation(layer, node, values)
            try:
                results = operator(context)
            except (ArithmeticError, LookupError, TypeError, ValueError) as error:
                raise LayerProblem(f"the arguments are not understood: {error}") from None
            return results if isinstance(results, list) else [results]

    def _operation(self, layer: _Layer, node: object, values: Mapping[Slot, str]) -> tuple[Operator, OperatorContext]:
        """Return what a call of an operation computes, and what it is called on."""
        context = OperatorContext(builder=self.builder, config={}, arguments=())
        if layer.kind.startswith(TENSORFLOW):
            return call(layer.kind.removeprefix(TENSORFLOW), node, values, context)
        if not isinstance(node, dict):
            raise LayerProblem("the configuration is damaged: a call without arguments")
        named = node.get("kwargs") or {}
        config = {**layer.config, **{name: operands(value, values) for name, value in named.items()}}
        arguments = [operands(value, values) for value in node.get("args") or []]
        return OPERATORS[layer.kind.removeprefix(OPERATION)], replace(context, config=config, arguments=arguments)

    @contextmanager
    def _reading(self, here: tuple[LayerPlace, ...], kind: str) -> Iterator[None]:
        """Name the layer in the ops added and in the problems met meanwhile."""
        name = "/".join(place.name for place in here)
        self.builder.layer = name
        try:
            yield
        except LayerProblem as problem:
            raise LayerProblem(f"{name} ({kind.removeprefix(OPERATION)}): {problem}") from None


def _batch_shape(config: Mapping[str, Any]) -> object:
    return config.get("batch_shape") or config.get("batch_input_shape")


def _first_calls(layers: Mapping[str, _Layer], used: Sequence[Slot]) -> dict[str, int]:
    """Return the number of each layer's first call, 0 or 1.

    Keras 2 counts the construction of a nested model as its call 0; then the last call has the number of calls.
    Keras 3 does so too, but only in `output_layers` and only for nested functional models.
    """
    last = dict.fromkeys(layers, 0)
    for name, number, _ in used:
        last[name] = max(last.get(name, 0), number)
    return {name: int(bool(layer.inbound) and last[name] == len(layer.inbound)) for name, layer in layers.items()}


def _slots(value: object) -> list[tuple[str, Slot]]:
    """Collect every tensor reference in a configuration, in order, with its key when a dict names it."""
    match value:
        case [str() as name, int() as number, int() as position, *_]:
            return [("", (name, number, position))]
        case {"class_name": "__keras_tensor__", "config": {"keras_history": [str(), int(), int()] as history}}:
            return [("", (history[0], history[1], history[2]))]
        case {"args": list() as args, **rest}:
            return [*_slots(args), *_slots(rest.get("kwargs"))]
        case dict():
            return [(str(key), slot) for key, inner in value.items() for _, slot in _slots(inner)]
        case list() | tuple():
            return [pair for inner in value for pair in _slots(inner)]
        case _:
            return []
