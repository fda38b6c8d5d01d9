"""What every frontend shares: a context that adds real ops under the name of the layer being read.

One method is one idea of a framework (a dense product, a leaky ReLU, a mean), built from the ops of `RealGraph`.
Shapes never include the batch axis. The first node of a layer bears the layer's name, the others `<layer>.<part>`.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from metronn.errors import ModelError
from metronn.frontends.common.foreign import NOT_YET
from metronn.ir.arrays import IntArray
from metronn.ir.names import encodable, sanitized
from metronn.ir.ops import (
    Add,
    Extremum,
    ExtremumKind,
    Multiply,
    Overflow,
    Reduce,
    ReduceKind,
    Rewire,
    Rounding,
    operands,
)
from metronn.model.graph import (
    FloatArray,
    Floats,
    FunctionKind,
    RealConstant,
    RealFunction,
    RealGraph,
    RealGraphBuilder,
    RealInput,
    RealLinear,
    RealNode,
    RealOp,
    RealQuantize,
    RealSoftmax,
)

Ints = npt.NDArray[np.int64]


FLOAT32_MAX = float(np.finfo(np.float32).max)


class LayerProblem(Exception):
    """What is wrong with the layer being read; frontends gather them and raise one ModelError."""


@dataclass(slots=True)
class LayerBuilder:
    """The network being built and the layer being read. Every method returns the name of a value.

    `tensors` holds the values of the framework's tensors, by the framework's names, `whole` the values that are known
    to be whole numbers. `dyadic_steps` holds, for matrices whose weights the framework quantized in steps of powers of
    two, the step of every column: such weights are exact as they stand, and only a network without any other quantizer
    needs to be told of them (`finish`).
    """

    graph: RealGraphBuilder = field(default_factory=RealGraphBuilder)
    layer: str = ""
    problems: list[str] = field(default_factory=list)
    tensors: dict[str, str] = field(default_factory=dict)
    dyadic_steps: dict[str, Floats] = field(default_factory=dict)
    whole: set[str] = field(default_factory=set)

    def shape(self, value: str) -> tuple[int, ...]:
        """Return the shape of a value, without the batch axis."""
        return self.graph.shapes[value]

    def add(self, op: RealOp, part: str = "") -> str:
        """Append an op of this layer; raises LayerProblem when the shapes do not fit."""
        base = sanitized(self.layer)
        first = base not in self.graph.shapes
        name = base if first and not isinstance(op, RealConstant) else f"{base}.{part}" if part else base
        try:
            return self.graph.add(op, name, self.layer)
        except ValueError as error:
            raise LayerProblem(str(error)) from None

    def note(self, problem: str) -> None:
        """Keep a problem for the error of `finish`; a repeated one (of a layer used twice) counts once."""
        if problem not in self.problems:
            self.problems.append(problem)

    def checked(self, values: object, array: str) -> Floats:
        """Return values as float64; NaN and infinities are noted as a problem of this layer's `array`."""
        floats = np.asarray(values, dtype=np.float64)
        bad = int(np.size(floats) - np.isfinite(floats).sum())
        if bad:
            self.note(
                f"{self.layer}: array {array} has {bad} NaN or infinite values of {floats.size}; "
                "every weight must be finite, retrain the model or repair the file"
            )
            return np.where(np.isfinite(floats), floats, 1.0)
        return floats

    # Constants, movement, arithmetic.

    def input(self, name: str, shape: tuple[int, ...]) -> str:
        """Add what the event brings under this name."""
        self.layer = name
        return self.add(RealInput(shape=shape))

    def constant(self, values: object, part: str = "constant") -> str:
        """Add a constant of this layer; NaN and infinities are noted as problems."""
        return self.add(RealConstant(values=FloatArray.of(self.checked(values, part))), part)

    def rewire(self, xs: Sequence[str], index: Ints, part: str = "rewire") -> str:
        """Elements of the joined xs in the order and shape of `index`; nothing is added when nothing moves."""
        shape = tuple(int(n) for n in index.shape)
        if len(xs) == 1 and shape == self.shape(xs[0]) and np.array_equal(index.ravel(), np.arange(index.size)):
            return xs[0]
        moved = self.add(Rewire(xs=tuple(xs), index=IntArray.of(index), shape=shape), part)
        if self.whole.issuperset(xs):
            self.whole.add(moved)
        return moved

    def indices(self, x: str) -> Ints:
        """Return the flat index of every element of x, in x's shape: what movement ops are applied to."""
        shape = self.shape(x)
        return np.arange(math.prod(shape), dtype=np.int64).reshape(shape)

    def reshape(self, x: str, shape: Sequence[int]) -> str:
        """Return x in another shape; one size may be -1. Raises LayerProblem when the sizes do not fit."""
        try:
            return self.rewire([x], self.indices(x).reshape(tuple(shape)), "reshape")
        except ValueError:
            raise LayerProblem(f"shape {self.shape(x)} cannot become {tuple(shape)}") from None

    def transpose(self, x: str, axes: Sequence[int]) -> str:
        """Return x with its axes permuted as in NumPy."""
        if sorted(axes) != list(range(len(self.shape(x)))):
            raise LayerProblem(f"{tuple(axes)} is not an order of the axes of shape {self.shape(x)}")
        return self.rewire([x], self.indices(x).transpose(tuple(axes)), "transpose")

    def concatenate(self, xs: Sequence[str], axis: int) -> str:
        """Join values along an axis."""
        offsets = np.cumsum([0, *(math.prod(self.shape(x)) for x in xs)])
        try:
            index = np.concatenate([self.indices(x) + o for x, o in zip(xs, offsets[:-1], strict=True)], axis=axis)
        except ValueError:
            shapes = ", ".join(str(self.shape(x)) for x in xs)
            raise LayerProblem(f"shapes {shapes} cannot be joined along axis {axis}") from None
        return self.rewire(xs, index, "concatenate")

    def linear(self, x: str, weight: Floats, bias: Floats | None = None, step: Floats | None = None) -> str:
        """Return x @ weight + bias on the last axis; `step` as in `RealLinear`."""
        shift = np.zeros(weight.shape[1:]) if bias is None else bias
        dyadic = step is not None and powers_of_two(step)
        grid = None if step is None or dyadic else FloatArray.of(step)
        op = RealLinear(x=x, weight=FloatArray.of(weight), bias=FloatArray.of(shift), step=grid)
        name = self.add(op, "linear")
        if step is not None and dyadic:
            self.dyadic_steps[name] = step
        return name

    def quantize(
        self,
        x: str,
        scale: npt.ArrayLike,
        lo: npt.ArrayLike,
        hi: npt.ArrayLike,
        rounding: Rounding = Rounding.RND_CONV,
        overflow: Overflow = Overflow.SAT,
        part: str = "quantize",
    ) -> str:
        """Return x through a quantizer of the framework, see `RealQuantize`; raises LayerProblem."""
        op = RealQuantize(
            x=x,
            scale=FloatArray.of(self.checked(scale, f"{part} scale")),
            lo=IntArray.of(np.asarray(lo)),
            hi=IntArray.of(np.asarray(hi)),
            rounding=rounding,
            overflow=overflow,
        )
        return self.add(op, part)

    def plus(self, x: str, y: str) -> str:
        """Return x + y, broadcast."""
        return self.add(Add(x=x, y=y), "add")

    def minus(self, x: str, y: str) -> str:
        """Return x - y, broadcast."""
        return self.add(Add(x=x, y=y, subtract=True), "subtract")

    def times(self, x: str, y: str) -> str:
        """Return x * y, broadcast."""
        return self.add(Multiply(x=x, y=y), "multiply")

    def maximum(self, x: str, y: str, part: str = "max") -> str:
        """Return the larger of x and y, broadcast."""
        return self.add(Extremum(x=x, y=y, kind=ExtremumKind.MAX), part)

    def minimum(self, x: str, y: str, part: str = "min") -> str:
        """Return the smaller of x and y, broadcast."""
        return self.add(Extremum(x=x, y=y, kind=ExtremumKind.MIN), part)

    def scaled(self, x: str, scale: npt.ArrayLike, shift: npt.ArrayLike | None = None) -> str:
        """Return x * scale + shift with constants; a scale of 1 and a shift of 0 are left out."""
        if np.ndim(scale) or scale != 1:
            x = self.times(x, self.constant(scale, "scale"))
        if shift is not None and (np.ndim(shift) or shift != 0):
            x = self.plus(x, self.constant(shift, "shift"))
        return x

    def normalized(self, x: str, axis: int, stats: tuple[Floats, Floats, Floats, Floats], epsilon: float) -> str:
        """Batch normalization along an axis: (x - mean) / sqrt(variance + epsilon) * gamma + beta.

        `stats` is (gamma, beta, mean, variance), each with the size of that axis. Computed as x * scale + shift.
        """
        gamma, beta, mean, variance = stats
        if np.any(variance + epsilon <= 0):
            lowest = float(variance.min())
            raise LayerProblem(f"variance {lowest:g} + epsilon {epsilon:g} must be positive")
        trailing = (1,) * (len(self.shape(x)) - 1 - axis)
        scale = gamma / np.sqrt(variance + epsilon)
        shift = beta - mean * scale
        if scale.shape != (self.shape(x)[axis],):
            raise LayerProblem(f"{scale.size} channels in the weights, {self.shape(x)[axis]} in the input")
        x = self.times(x, self.constant(scale.reshape(-1, *trailing), "scale"))
        return self.plus(x, self.constant(shift.reshape(-1, *trailing), "shift"))

    def reduced(self, x: str, axes: Iterable[int], kind: ReduceKind, *, keep: bool) -> str:
        """Sum, max or min along axes, which vanish or stay with size 1; along none it is x."""
        shape, gone = self.shape(x), tuple(sorted(set(axes)))
        if not gone:
            return x
        y = self.add(Reduce(x=x, axes=gone, kind=kind), kind.value)
        return self.reshape(y, [1 if a in gone else n for a, n in enumerate(shape)]) if keep else y

    def mean(self, x: str, axes: Iterable[int], *, keep: bool) -> str:
        """Return the arithmetic mean along axes."""
        axes = tuple(set(axes))
        count = math.prod(self.shape(x)[a] for a in axes)
        return self.scaled(self.reduced(x, axes, ReduceKind.SUM, keep=keep), 1 / count)

    # Activations.

    def function(self, x: str, kind: FunctionKind, *parameters: float) -> str:
        """Return a function of every element; parameters in the order of `metronn.model.graph.PARAMETERS`."""
        return self.add(RealFunction(x=x, kind=kind, parameters=tuple(map(float, parameters))), kind.value)

    def looked_up(self, x: str, table: Floats, axis: int = 0) -> str:
        """Return entries of a table along an axis, chosen by whole numbers; beyond the table, its first or last entry.

        The shape is that of the table with the shape of x in place of the axis, as in `numpy.take`.
        """
        values = np.moveaxis(self.checked(table, "table"), axis, 0)
        if not values.size:
            raise LayerProblem(f"a table of shape {table.shape} has no entries")
        shape, columns = self.shape(x), values.reshape(len(values), -1).T
        tables: dict[tuple[float, ...], str] = {}
        for column in map(tuple, columns.tolist()):
            if column not in tables and len(set(column)) == 1:
                tables[column] = self.constant(np.full(shape, column[0]), "entry")
            elif column not in tables:
                tables[column] = self.function(x, FunctionKind.TABLE, *column)
        known = {column: position for position, column in enumerate(tables)}
        size = math.prod(shape)
        order = np.array([known[column] for column in map(tuple, columns.tolist())])
        index = (order[:, np.newaxis] * size + np.arange(size)).reshape(*values.shape[1:], *shape)
        rank = len(shape)
        back = np.moveaxis(index, range(-rank, 0), range(axis, axis + rank)) if rank else index
        return self.rewire(list(tables.values()), np.ascontiguousarray(back), "entries")

    def softmax(self, x: str, axis: int) -> str:
        """Softmax along one axis."""
        return self.add(RealSoftmax(x=x, axis=axis), "softmax")

    def clipped(self, x: str, low: float | None, high: float | None) -> str:
        """min(max(x, low), high); a bound that is None, or that no float32 can pass, is left out."""
        if low is not None and not low <= -FLOAT32_MAX:
            x = self.maximum(x, self.constant(low, "low"))
        if high is not None and not high >= FLOAT32_MAX:
            x = self.minimum(x, self.constant(high, "high"))
        return x

    def relu(self, x: str) -> str:
        """max(x, 0)."""
        return self.maximum(x, self.constant(0.0, "zero"), "relu")

    def leaky_relu(self, x: str, slope: npt.ArrayLike) -> str:
        """Return x where positive, slope * x elsewhere: max(x, slope * x) for slopes up to 1, min for larger ones."""
        slopes = self.checked(slope, "slope")
        if not slopes.any():
            return self.relu(x)
        if np.any(slopes > 1) and np.any(slopes < 1):
            negative = self.times(self.minimum(x, self.constant(0.0, "zero")), self.constant(slopes, "slope"))
            return self.plus(self.relu(x), negative)
        scaled = self.times(x, self.constant(slopes, "slope"))
        join = self.maximum if np.all(slopes <= 1) else self.minimum
        return join(x, scaled, "leaky_relu")

    def hard_sigmoid(self, x: str, slope: float, shift: float) -> str:
        """clip(slope * x + shift, 0, 1)."""
        return self.clipped(self.scaled(x, slope, shift), 0.0, 1.0)

    def finish(self, outputs: Sequence[tuple[str, str]], where: str) -> RealGraph:
        """Return the network with these (name, value) outputs, or raise one ModelError with every problem found.

        Values that no output needs are left out; inputs stay, since they are the interface.
        """
        if self.problems:
            raise ModelError(f"{where}: {counted(len(self.problems), 'problem')}:\n  " + "\n  ".join(self.problems))
        if not outputs:
            raise ModelError(f"{where}: the model has no outputs; it must have at least one")
        needed = {value for _, value in outputs}
        for node in reversed(self.graph.nodes):
            if node.name in needed:
                needed.update(operands(node.op))
        nodes = [node for node in self.graph.nodes if node.name in needed or isinstance(node.op, RealInput)]
        if not any(_quantizes(node.op) for node in nodes):
            nodes = [self._with_step(node) for node in nodes]
        nodes = _with_indices(nodes)
        names: dict[str, str] = {}
        sources: list[str] = []
        for name, value in outputs:
            base = unique = sanitized(name)
            count = sum(taken.startswith(base) for taken in names)
            while unique in names:
                count += 1
                unique = sanitized(f"{base}_{count}")
            names[unique] = value
            sources.append(encodable(name))
        tensors = tuple((tensor, value) for tensor, value in self.tensors.items() if value in needed)
        shown = tuple(names.items())
        return RealGraph(nodes=tuple(nodes), outputs=shown, tensors=tensors, output_sources=tuple(sources))

    def _with_step(self, node: RealNode) -> RealNode:
        """Return a matrix with the steps of its weights: they alone tell that its framework quantized the network."""
        step = self.dyadic_steps.get(node.name)
        if step is None or not isinstance(node.op, RealLinear):
            return node
        return replace(node, op=replace(node.op, step=FloatArray.of(step)))


def _quantizes(op: RealOp) -> bool:
    return isinstance(op, RealQuantize) or (isinstance(op, RealLinear) and op.step is not None)


def powers_of_two(values: npt.ArrayLike) -> bool:
    """Whether every (positive) value is a power of two."""
    return bool((np.frexp(np.asarray(values, dtype=np.float64))[0] == 0.5).all())


def _with_indices(nodes: list[RealNode]) -> list[RealNode]:
    """Return the nodes, inputs that only choose entries of tables marked as such."""
    tables: dict[str, int | None] = {}  # entries of the tables that a value chooses from, None where it does more
    for node in reversed(nodes):
        match node.op:
            case RealFunction(kind=FunctionKind.TABLE, parameters=parameters):
                entries: int | None = len(parameters)
            case Rewire():
                entries = tables.get(node.name)
            case _:
                entries = None
        for x in operands(node.op):
            known = tables.get(x, 0)
            tables[x] = None if known is None or entries is None else max(known, entries)
    return [
        replace(node, op=replace(node.op, indices=tables.get(node.name))) if isinstance(node.op, RealInput) else node
        for node in nodes
    ]


def counted(count: int, noun: str) -> str:
    """Return '1 layer' or '3 layers'."""
    return f"{count} {noun}" + ("" if count == 1 else "s")


def unsupported_error(where: str, layers: Sequence[tuple[str, str]], supported: Iterable[str]) -> ModelError:
    """Return the error that lists every (name, type) that cannot be read, with the supported type nearest by name."""
    known = {name.lower(): name for name in supported}
    listed = "".join(f"\n  {name}: {kind}{_hint(kind, known)}" for name, kind in layers)
    return ModelError(
        f"{where}: {counted(len(layers), 'unsupported layer')}:{listed}\n"
        "  Replace these layers, or export the part of the network before them; docs/frontends.md lists what is read."
    )


def _hint(kind: str, known: Mapping[str, str]) -> str:
    """Return what a network with such a layer is, or the supported type whose name is nearest, if one is near."""
    plain = kind.split(" ")[0].rsplit(".", 1)[-1].rsplit(">", 1)[-1]
    reason = NOT_YET.get(kind) or NOT_YET.get(plain)
    if reason is not None:
        return f" ({reason})"
    near = difflib.get_close_matches(plain.lower(), known, n=1, cutoff=0.75)
    return f" (supported is {known[near[0]]})" if near and known[near[0]] != plain else ""
