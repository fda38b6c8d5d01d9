"""Which values of a network are shown, and under which names: those of its framework wherever it has one."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

from metronn.ir.ops import Rewire, Window
from metronn.model.graph import RealGraph, RealNode, RealOp
from metronn.quantize.calibrated.structure import constant_names


@dataclass(frozen=True, slots=True, kw_only=True)
class ShownValue:
    """A value to show: `name` is the framework's name of the tensor, or one of metronn's where it has none."""

    name: str
    node: RealNode


def shown_values(network: RealGraph) -> tuple[ShownValue, ...]:
    """Return what a layer-by-layer comparison shows, in the order of the network; names differ.

    Everything that computes, and movement that the framework names or an output shows; no constants, no windows. A
    value inside a layer has its name in the RealGraph; where that is a tensor's, its op is added: `dense1` is what the
    layer gives, `dense1.linear` what its activation reads.
    """
    tensors: dict[str, str] = {}
    for tensor, value in network.tensors:
        tensors.setdefault(value, tensor)
    constant = constant_names(network)
    taken = set(tensors.values())
    found = []
    for node in network.nodes:
        named = node.name in tensors or node.name in network.shown_values
        if node.name in constant or isinstance(node.op, Window) or (isinstance(node.op, Rewire) and not named):
            continue
        name = tensors.get(node.name) or _free(node, taken)
        taken.add(name)
        found.append(ShownValue(name=name, node=node))
    return tuple(found)


def _free(node: RealNode, taken: Container[str]) -> str:
    name = node.name if node.name not in taken else f"{node.name}.{op_word(node.op)}"
    free, count = name, 1
    while free in taken:
        count += 1
        free = f"{name}_{count}"
    return free


def op_word(op: RealOp) -> str:
    """Return what an op is called: `linear`, `add`."""
    return type(op).__name__.removeprefix("Real").lower()
