"""The calls of a functional Keras model in order, and running them anew with other layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from metronn.train.backend import Backend, KerasObject


@dataclass(frozen=True, slots=True)
class LayerCall:
    """One call of a layer: the calls whose results it reads (None for an input of the model), and the Keras node."""

    layer: KerasObject
    reads: tuple[str | None, ...]
    node: KerasObject


def calls(model: KerasObject) -> tuple[LayerCall, ...]:
    """Return the calls of a functional model, inputs left out, each after those it reads."""
    found = []
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            if node.operation is None or node.is_input:
                continue
            reads = []
            for x in node.input_tensors:
                history = x._keras_history
                made = history.operation._inbound_nodes[history.node_index]
                reads.append(None if made.is_input else str(history.operation.name))
            found.append(LayerCall(node.operation, tuple(reads), node))
    return tuple(found)


def rebuild(
    backend: Backend,
    model: KerasObject,
    run: Callable[[LayerCall, tuple[KerasObject, ...], Mapping[str, KerasObject]], KerasObject],
    enter: Callable[[KerasObject], KerasObject],
) -> KerasObject:
    """Return a model of the same inputs, in which `run` answers every call and `enter` follows each input."""
    keras = backend.keras
    inputs = [keras.Input(x.shape[1:], dtype=x.dtype, name=x.name) for x in model.inputs]
    tensors = {id(old): enter(new) for old, new in zip(model.inputs, inputs, strict=True)}
    for call in calls(model):
        args, kwargs = call.node.arguments.fill_in(tensors)
        results = keras.tree.flatten(run(call, args, kwargs))
        for old, new in zip(call.node.outputs, results, strict=True):
            tensors[id(old)] = new
    outputs = [tensors[id(y)] for y in model.outputs]
    return keras.Model(one(inputs), one(outputs), name=model.name)


def one(values: list[KerasObject]) -> KerasObject:
    """Return a single value by itself, several as a list: how Keras wants inputs and outputs."""
    return values[0] if len(values) == 1 else values
