"""The state of a network being rewritten with hls4ml's types: values with types, layers, notes, look-ups."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from metronn.frontends.common.builder import LayerBuilder
from metronn.frontends.hls4ml.config import Hls4mlConfig
from metronn.frontends.hls4ml.types import Fixed
from metronn.ir.ops import Add, Extremum, Multiply
from metronn.model.graph import Floats, RealConstant, RealGraph, RealNode


@dataclass(frozen=True, slots=True)
class Typed:
    """A value of the new network and a type that holds all of it: the one hls4ml gives it."""

    name: str
    type: Fixed


@dataclass(slots=True, kw_only=True)
class Rewriting:
    """The network being built from `model`, and what the making of every layer needs."""

    model: RealGraph
    config: Hls4mlConfig
    new: LayerBuilder = field(default_factory=LayerBuilder)
    values: dict[str, Typed] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    layers: dict[str, str] = field(default_factory=dict)
    sources: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def start(self, node: RealNode, name: str, kind: str) -> None:
        """Begin an hls4ml layer: its name and its class, by which the configuration is looked up."""
        self.new.layer = node.source
        self.layers[name] = kind
        if node.source not in self.sources:
            self.sources.append(node.source)

    def end(self, node: RealNode, name: str, result: Typed) -> None:
        """Keep the result of an hls4ml layer as what stands for a node of the network."""
        self.values[node.name] = result
        self.taken.add(node.name)
        self.new.tensors[name] = result.name

    def skip(self, node: RealNode) -> None:
        """Go on behind a layer that cannot be had, to find the other problems."""
        for later in self.model.nodes:
            if later.source == node.source and not isinstance(later.op, RealConstant):
                self.taken.add(later.name)
                self.values.setdefault(later.name, self.stand_in(later))

    def stand_in(self, node: RealNode) -> Typed:
        """Return a value of the right shape; the network with it is never used."""
        return Typed(self.new.constant(np.zeros(node.shape), "stand_in"), self.config.default)

    def finish(self) -> RealGraph:
        """Return the network; `tensors` are the results of hls4ml's layers by hls4ml's names."""
        outputs = [(name, self.values[value].name) for name, value in self.model.outputs]
        return self.new.finish(outputs, self.config.where)

    def precision(self, name: str, kind: str, what: str) -> Fixed | None:
        """Look up a precision; None for auto."""
        return self.config.precision(name, kind, what)

    def cast(self, x: Typed, target: Fixed, part: str) -> Typed:
        """Assign a value to a variable of another type."""
        if target.holds(x.type):
            return Typed(x.name, target)
        return Typed(self.quantized(x.name, target, part), target)

    def quantized(self, x: str, target: Fixed, part: str) -> str:
        """Round a value of any size to a type."""
        low, high = target.codes
        scale = math.ldexp(1.0, -target.frac)
        return self.new.quantize(x, scale, low, high, target.rounding, target.overflow, part)

    def constant_of(self, name: str) -> Floats | None:
        """Return the values of a constant node of the network, None for any other node."""
        op = self.model.by_name[name].op
        return op.values.array if isinstance(op, RealConstant) else None

    def split(self, op: Add | Multiply | Extremum) -> tuple[str, Floats | None]:
        """Return the variable operand and the constant one, if there is one."""
        for variable, other in ((op.x, op.y), (op.y, op.x)):
            values = self.constant_of(other)
            if values is not None:
                return variable, values
        return op.x, None

    def only_reader(self, name: str) -> RealNode | None:
        """Return the one node that reads a value; None when several do, none does, or it is a result."""
        users = self.model.uses[name]
        shown = any(value == name for _, value in self.model.outputs)
        return self.model.by_name[users[0]] if len(users) == 1 and not shown else None

    def activation_name(self, node: RealNode, activation: str) -> str:
        """Return hls4ml's name of an activation: of its own, or of the layer before it in the same Keras layer."""
        return f"{node.source}_{activation}" if node.source in self.layers else node.source
