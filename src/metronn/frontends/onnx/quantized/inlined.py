"""Quantizers that a file spells out: round(x * s), clipped, divided by s, become `RealQuantize`.

A rounding whose results are bounded on both sides is a quantizer: its results are finitely many whole numbers. It is
written as one of scale 1, what stands around it stays; where a product before and one behind cancel, as 1/s and s do,
they become the quantizer's scale. Bounds are found by following clips, sums and products with constants from both
sides, so their order does not matter. Ceil, truncation (the whole part, or sign(x) * floor(|x|)) and sign are
quantizers that cut off bits. All of it is real arithmetic, exactly.

That a network has roundings does not make it one that its framework quantized: nothing is changed unless a matrix with
weights on a grid reads a result of such a quantizer, or the network has quantizers already.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction

import numpy as np

from metronn.ir.arrays import IntArray
from metronn.ir.ops import Add, Extremum, ExtremumKind, Movement, Multiply, Reduce, Rounding, operands
from metronn.model.constants import meant
from metronn.model.graph import (
    FloatArray,
    Floats,
    FunctionKind,
    RealConstant,
    RealFunction,
    RealGraph,
    RealLinear,
    RealNode,
    RealOp,
    RealQuantize,
)
from metronn.model.grid import grid_exponent

ROUNDINGS = {
    FunctionKind.ROUND: Rounding.RND_CONV,
    FunctionKind.FLOOR: Rounding.TRN,
    FunctionKind.CEIL: Rounding.TRN,
}
"""Modes of the functions that round; Ceil is TRN of the negative, negated."""
WHOLE: Mapping[Rounding, Callable[[Fraction], int]] = {
    Rounding.RND_CONV: round,
    Rounding.RND: lambda value: math.floor(value + Fraction(1, 2)),
    Rounding.TRN: math.floor,
    Rounding.TRN_ZERO: math.trunc,
}
"""The modes, in exact arithmetic."""
NEAREST: Mapping[FunctionKind | None, Callable[[Floats], Floats]] = {
    FunctionKind.ROUND: np.rint,
    FunctionKind.FLOOR: np.floor,
    FunctionKind.CEIL: np.ceil,
}
"""The functions that round, for bounds."""
HALF = 0.5
SLACK = 1e-9
"""Relative margin of bounds computed in float64."""
WIDEST = 2**32
"""Codes beyond this are none of a quantizer."""
MOST_STEPS = 2**20
"""Weights of more steps are on no grid: float32 numbers have 2**24."""

Bounds = tuple[Floats, Floats]


@dataclass(frozen=True, slots=True)
class Site:
    """A rounding: the node of its result, what is rounded, and the bounds of the results (whole numbers)."""

    node: RealNode
    x: str
    kind: FunctionKind
    rounding: Rounding
    lo: Floats
    hi: Floats


def with_inlined_quantizers(graph: RealGraph) -> RealGraph:
    """Return the network with spelled-out quantizers as `RealQuantize`; the same network where none counts."""
    reader = _Reader(graph)
    sites = {site.node.name: site for site in map(reader.site, graph.nodes) if site is not None}
    if not sites or not (graph.quantized or reader.feeds_a_matrix(set(sites))):
        return graph
    return _merged(_written(graph, sites))


@dataclass(slots=True)
class _Reader:
    """Follows values through a network."""

    graph: RealGraph
    known: dict[str, Bounds] = field(default_factory=dict)

    def constant(self, name: str) -> Floats | None:
        """Return the values of a constant; None for another node."""
        op = self.graph.by_name[name].op
        return op.values.array if isinstance(op, RealConstant) else None

    def split(self, op: Add | Multiply | Extremum) -> tuple[str, Floats] | None:
        """Return the variable operand and the constant one; None where both vary."""
        for variable, other in ((op.x, op.y), (op.y, op.x)):
            values = self.constant(other)
            if values is not None:
                return variable, values
        return None

    def site(self, node: RealNode) -> Site | None:
        """Return the rounding that a node ends, when its results are bounded."""
        found = self._rounding(node)
        if found is None:
            return None
        x, kind, rounding = found
        lo, hi = self.bounds(x)
        if kind is FunctionKind.SIGN:
            lo, hi = np.array(-1.0), np.array(1.0)
        mode = kind if rounding is not Rounding.TRN_ZERO else None
        whole = NEAREST.get(mode, np.trunc)
        after = self._behind(node)
        # Float64 products of bounds may fall short of a whole number; a code more changes nothing, the clip is there.
        low, high = (
            np.maximum(whole(lo * np.where(lo < 0, 1 + SLACK, 1 - SLACK)), after[0]),
            np.minimum(whole(hi * np.where(hi < 0, 1 - SLACK, 1 + SLACK)), after[1]),
        )
        # What lies wholly beyond a clip behind is the clip's own result.
        low, high = np.minimum(low, after[1]), np.maximum(high, after[0])
        if not (np.isfinite(low).all() and np.isfinite(high).all() and (high - low <= WIDEST).all()):
            return None
        if np.broadcast_shapes(low.shape, high.shape, node.shape) != node.shape:
            return None
        return Site(node, x, kind, rounding, low, high)

    def _rounding(self, node: RealNode) -> tuple[str, FunctionKind, Rounding] | None:
        """Return what a node rounds, by which function and mode."""
        op = node.op
        if isinstance(op, RealFunction):
            if op.kind is FunctionKind.SIGN:
                return op.x, op.kind, Rounding.TRN
            return (op.x, op.kind, ROUNDINGS[op.kind]) if op.kind in ROUNDINGS else None
        if isinstance(op, Add) and not op.subtract:
            for up, down in ((op.x, op.y), (op.y, op.x)):
                first, second = self._function(up, FunctionKind.FLOOR), self._function(down, FunctionKind.CEIL)
                x = None if first is None else self._part(first, ExtremumKind.MAX)
                if x is not None and second is not None and x == self._part(second, ExtremumKind.MIN):
                    return x, FunctionKind.FLOOR, Rounding.TRN_ZERO
        if isinstance(op, Multiply):
            for sign, size in ((op.x, op.y), (op.y, op.x)):
                x, whole = self._function(sign, FunctionKind.SIGN), self._function(size, FunctionKind.FLOOR)
                if x is not None and whole is not None and self._absolute(whole) == x:
                    return x, FunctionKind.FLOOR, Rounding.TRN_ZERO
        return None

    def _function(self, name: str, kind: FunctionKind) -> str | None:
        op = self.graph.by_name[name].op
        return op.x if isinstance(op, RealFunction) and op.kind is kind else None

    def _part(self, name: str, kind: ExtremumKind) -> str | None:
        """Return x of max(x, 0) or min(x, 0)."""
        op = self.graph.by_name[name].op
        found = self.split(op) if isinstance(op, Extremum) and op.kind is kind else None
        return None if found is None or found[1].any() else found[0]

    def _absolute(self, name: str) -> str | None:
        """Return x of max(x, -x)."""
        op = self.graph.by_name[name].op
        if not isinstance(op, Extremum) or op.kind is not ExtremumKind.MAX:
            return None
        for x, other in ((op.x, op.y), (op.y, op.x)):
            negative = self.graph.by_name[other].op
            found = self.split(negative) if isinstance(negative, Multiply) else None
            if found is not None and found[0] == x and (found[1] == -1).all():
                return x
        return None

    def bounds(self, name: str) -> Bounds:
        """Return bounds of a value that follow from constants before it."""
        if name not in self.known:
            self.known[name] = self._bounds(self.graph.by_name[name].op)
        return self.known[name]

    def _bounds(self, op: RealOp) -> Bounds:
        free = np.array(-np.inf), np.array(np.inf)
        if isinstance(op, RealFunction) and op.kind in ROUNDINGS:
            lo, hi = self.bounds(op.x)
            return NEAREST[op.kind](lo), NEAREST[op.kind](hi)
        if not isinstance(op, Add | Multiply | Extremum):
            return free
        found = self.split(op)
        if found is None or (isinstance(op, Add) and op.subtract and op.y == found[0]):
            return free
        return _after(op, found[1], self.bounds(found[0]))

    def _behind(self, node: RealNode) -> Bounds:
        """Return the whole numbers to which clips behind a rounding bound it, past sums with whole numbers."""
        lo, hi, shift = np.array(-np.inf), np.array(np.inf), np.array(0.0)
        shown = {value for _, value in self.graph.outputs}
        while node.name not in shown and len(self.graph.uses[node.name]) == 1:
            node = self.graph.by_name[self.graph.uses[node.name][0]]
            found = self.split(node.op) if isinstance(node.op, Add | Extremum) else None
            if (
                found is None
                or np.mod(found[1], 1).any()
                or np.broadcast_shapes(found[1].shape, node.shape) != node.shape
            ):
                break
            if isinstance(node.op, Add):
                if node.op.subtract and node.op.y == found[0]:
                    break
                shift = shift + (-found[1] if node.op.subtract else found[1])
            elif isinstance(node.op, Extremum) and node.op.kind is ExtremumKind.MAX:
                lo, hi = np.maximum(lo, found[1] - shift), np.maximum(hi, found[1] - shift)
            else:
                lo, hi = np.minimum(lo, found[1] - shift), np.minimum(hi, found[1] - shift)
        return lo, hi

    def feeds_a_matrix(self, sites: set[str]) -> bool:
        """Whether a matrix with weights on a grid reads one of these values, at most moved, bounded and scaled."""
        reached = set(sites)
        for node in self.graph.nodes:
            op = node.op
            kept = isinstance(op, Movement | Reduce) or (
                isinstance(op, Add | Multiply | Extremum) and self.split(op) is not None
            )
            if kept and reached.intersection(operands(op)):
                reached.add(node.name)
            if isinstance(op, RealLinear) and op.x in reached and on_grid(op):
                return True
        return False


def on_grid(op: RealLinear) -> bool:
    """Whether the weights of a matrix are whole multiples of a step, few enough for quantized ones."""
    weights = op.weight.array
    return op.step is not None or bool(np.abs(weights).max(initial=0.0) < MOST_STEPS * 2.0 ** grid_exponent(weights))


def _after(op: Add | Multiply | Extremum, constant: Floats, bounds: Bounds) -> Bounds:
    """Return the bounds of a sum, product or extremum with a constant."""
    lo, hi = bounds
    with np.errstate(invalid="ignore"):
        match op:
            case Add():
                shift = -constant if op.subtract else constant
                return lo + shift, hi + shift
            case Multiply():
                if not constant.all():
                    return np.array(-np.inf), np.array(np.inf)
                ends = lo * constant, hi * constant
                return np.minimum(*ends), np.maximum(*ends)
            case Extremum():
                pick = np.maximum if op.kind is ExtremumKind.MAX else np.minimum
                return pick(lo, constant), pick(hi, constant)


def _written(graph: RealGraph, sites: dict[str, Site]) -> RealGraph:
    """Write roundings as quantizers of scale 1."""
    nodes: list[RealNode] = []
    for node in graph.nodes:
        site = sites.get(node.name)
        if site is None:
            nodes.append(node)
            continue
        shape = graph.by_name[site.x].shape
        add = _Adder(nodes, node, shape)
        if site.kind is FunctionKind.SIGN:
            below = add(_quantizer(site.x, -1, 0), "below")
            above = add(_quantizer(add.negated(site.x), -1, 0), "above")
            nodes.append(replace(node, op=Add(x=below, y=above, subtract=True)))
        elif site.kind is FunctionKind.CEIL:
            down = add(_quantizer(add.negated(site.x), -site.hi, -site.lo), "down")
            nodes.append(replace(node, op=Multiply(x=down, y=add.minus())))
        else:
            nodes.append(replace(node, op=_quantizer(site.x, site.lo, site.hi, site.rounding)))
    return replace(graph, nodes=tuple(nodes))


@dataclass(slots=True)
class _Adder:
    """Adds nodes in front of one that is rewritten, under its name."""

    nodes: list[RealNode]
    node: RealNode
    shape: tuple[int, ...]

    def __call__(self, op: RealOp, part: str) -> str:
        """Add a node with the shape of what is rounded."""
        name = f"{self.node.name}.{part}"
        self.nodes.append(RealNode(name=name, op=op, shape=self.shape, source=self.node.source))
        return name

    def minus(self) -> str:
        """Return the constant -1."""
        name, op = f"{self.node.name}.minus", RealConstant(values=FloatArray.of(-1.0))
        if all(node.name != name for node in self.nodes):
            self.nodes.append(RealNode(name=name, op=op, shape=(), source=self.node.source))
        return name

    def negated(self, x: str) -> str:
        """Return -x."""
        return self(Multiply(x=x, y=self.minus()), "negative")


def _quantizer(x: str, lo: object, hi: object, rounding: Rounding = Rounding.TRN) -> RealQuantize:
    bounds = (IntArray.of(np.asarray(bound).astype(np.int64)) for bound in (lo, hi))
    low, high = bounds
    return RealQuantize(x=x, scale=FloatArray.of(1.0), lo=low, hi=high, rounding=rounding)


def _merged(graph: RealGraph) -> RealGraph:
    """Give quantizers of scale 1 the scale by which a value is divided before them and multiplied behind them."""
    reader = _Reader(graph)
    shown = {value for _, value in graph.outputs}
    changed: dict[str, RealOp] = {}

    def only(name: str) -> RealNode | None:
        users = graph.uses[name]
        return graph.by_name[users[0]] if len(users) == 1 and name not in shown else None

    for node in graph.nodes:
        op = node.op
        if not isinstance(op, RealQuantize) or op.scale.shape or float(op.scale.array) != 1:
            continue
        last = _skip_idle_clips(reader, node, op, only)
        final = only(last.name)
        before = _before(reader, op)
        if final is None or before is None or not isinstance(final.op, Multiply):
            continue
        found = reader.split(final.op)
        x, factor, rounding = before
        scale = None if found is None else _inverse(factor, found[1])
        if scale is None or graph.by_name[x].shape != final.shape:
            continue
        if np.broadcast_shapes(scale.shape, final.shape) == final.shape:
            changed[final.name] = replace(op, x=x, scale=FloatArray.of(scale), rounding=rounding)
    nodes = [replace(node, op=changed.get(node.name, node.op)) for node in graph.nodes]
    return _without_dead(replace(graph, nodes=tuple(nodes)))


def _skip_idle_clips(
    reader: _Reader, node: RealNode, op: RealQuantize, only: Callable[[str], RealNode | None]
) -> RealNode:
    """Return the last of the clips behind a quantizer whose bounds hold its codes already, or the quantizer."""
    while (user := only(node.name)) is not None and isinstance(user.op, Extremum):
        found = reader.split(user.op)
        if found is None or user.shape != node.shape:
            break
        lo, hi = op.lo.array, op.hi.array
        if (lo < found[1]).any() if user.op.kind is ExtremumKind.MAX else (hi > found[1]).any():
            break
        node = user
    return node


def _before(reader: _Reader, op: RealQuantize) -> tuple[str, Floats, Rounding] | None:
    """Return the value and factor of what a quantizer rounds, and the mode; half a step added is part of the mode.

    Clips in front, of the value or of its product, that bound the codes no further than the quantizer does are passed
    over: rounding is monotone.
    """
    name, rounding = op.x, op.rounding
    factor: Floats | None = None
    while True:
        node = reader.graph.by_name[name]
        found = reader.split(node.op) if isinstance(node.op, Multiply | Extremum | Add) else None
        if found is not None and isinstance(node.op, Multiply) and factor is None and (found[1] > 0).all():
            factor = found[1]
        elif found is not None and isinstance(node.op, Add) and factor is None:
            if node.op.subtract or rounding is not Rounding.TRN or not (found[1] == HALF).all():
                return None
            rounding = Rounding.RND
        elif found is None or not isinstance(node.op, Extremum) or not _idle(node.op, found[1], factor, op, rounding):
            return None if factor is None else (name, factor, rounding)
        name = found[0]


def _idle(op: Extremum, bound: Floats, factor: Floats | None, quantizer: RealQuantize, rounding: Rounding) -> bool:
    """Whether a clip of what a quantizer rounds, or of that divided by `factor`, bounds its codes no further."""
    parts = (bound, 1.0 if factor is None else factor, quantizer.lo.array, quantizer.hi.array)
    try:
        rows = zip(*(part.ravel().tolist() for part in np.broadcast_arrays(*parts)), strict=True)
    except ValueError:
        return False
    for edge, scale, lo, hi in set(rows):
        code = WHOLE[rounding](meant(float(edge)) * meant(float(scale)))
        if code > lo if op.kind is ExtremumKind.MAX else code < hi:
            return False
    return True


def _inverse(factor: Floats, scale: Floats) -> Floats | None:
    """Return the scale when it is exactly 1 / factor, as the constants are meant; None when it is not."""
    try:
        pairs = np.broadcast_arrays(factor, scale)
    except ValueError:
        return None
    for one, other in zip(*(part.ravel().tolist() for part in pairs), strict=True):
        if meant(float(one)) * meant(float(other)) != 1:
            return None
    return np.asarray(scale.flat[0] if (scale == scale.flat[0]).all() else scale, dtype=np.float64)


def _without_dead(graph: RealGraph) -> RealGraph:
    """Leave out what nothing reads any more; inputs and values of the framework's tensors that are gone go too."""
    needed = {value for _, value in graph.outputs} | {node.name for node in graph.inputs}
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(operands(node.op))
    nodes = tuple(node for node in graph.nodes if node.name in needed)
    tensors = tuple((tensor, value) for tensor, value in graph.tensors if value in needed)
    return replace(graph, nodes=nodes, tensors=tensors)
