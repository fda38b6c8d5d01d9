"""RealGraph: a trained network over real numbers, before quantization. Shapes never include the batch axis.

Its movement and arithmetic are those of the integer IR, the same classes (`ir.ops.Movement`, `ir.ops.Arithmetic`);
matrices are of floats, and smooth functions and softmax are what quantization replaces by tables. `docs/ir.md` says how
each becomes integer ops.
"""

from __future__ import annotations

import enum
import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, assert_never

import numpy as np
import numpy.typing as npt

from metronn.ir.arrays import IntArray
from metronn.ir.names import encodable, free_name, sanitized
from metronn.ir.network import Network
from metronn.ir.ops import (
    Arithmetic,
    Entry,
    Movement,
    Overflow,
    Rounding,
    Source,
    Unary,
    operands,
)
from metronn.ir.shapes import result_shape

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class FloatArray:
    """An immutable float64 array compared and hashed by content."""

    array: Floats
    digest: str = field(repr=False)

    @staticmethod
    def of(values: object) -> FloatArray:
        """Copy and freeze the values."""
        array = np.array(values, dtype=np.float64)
        array.flags.writeable = False
        return FloatArray(array, hashlib.sha256(repr(array.shape).encode() + array.tobytes()).hexdigest())

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the array's shape."""
        return tuple(int(n) for n in self.array.shape)

    def __eq__(self, other: object) -> bool:
        """Equal when shape and every bit are."""
        return isinstance(other, FloatArray) and self.digest == other.digest

    def __hash__(self) -> int:
        """Hash of the content."""
        return hash(self.digest)


class FunctionKind(enum.Enum):
    """Functions of one variable; each becomes a table. `metronn.model.functions` evaluates them.

    Parameters, in order: ELU and CELU have alpha, POWER its exponent; THRESHOLDED (x if x > theta else 0) has theta;
    SHRINK (x + bias if x < -lambd, x - bias if x > lambd, else 0) has lambd and bias. ROUND goes half to even. TABLE
    has any number of parameters, the values at 0, 1, 2, ...: it takes that at the whole number nearest to x, the last
    or first one where x lies beyond.
    """

    SIGMOID = "sigmoid"
    TANH = "tanh"
    EXP = "exp"
    RECIPROCAL = "reciprocal"
    SQRT = "sqrt"
    RSQRT = "rsqrt"
    LOG = "log"
    POWER = "power"
    ERF = "erf"
    ELU = "elu"
    SELU = "selu"
    CELU = "celu"
    GELU = "gelu"
    GELU_TANH = "gelu_tanh"
    SILU = "silu"
    SOFTPLUS = "softplus"
    SOFTSIGN = "softsign"
    MISH = "mish"
    SIN = "sin"
    COS = "cos"
    TAN = "tan"
    ASIN = "asin"
    ACOS = "acos"
    ATAN = "atan"
    SINH = "sinh"
    COSH = "cosh"
    ASINH = "asinh"
    ACOSH = "acosh"
    ATANH = "atanh"
    FLOOR = "floor"
    CEIL = "ceil"
    ROUND = "round"
    SIGN = "sign"
    THRESHOLDED = "thresholded"
    SHRINK = "shrink"
    TABLE = "table"


PARAMETERS: Mapping[FunctionKind, tuple[str, ...]] = {
    FunctionKind.ELU: ("alpha",),
    FunctionKind.CELU: ("alpha",),
    FunctionKind.POWER: ("exponent",),
    FunctionKind.THRESHOLDED: ("theta",),
    FunctionKind.SHRINK: ("lambd", "bias"),
}
"""Names of the parameters of the functions that have any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RealInput(Entry):
    """What the event brings; with `indices`, whole numbers below it, all of which must be told apart."""

    indices: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RealConstant(Source):
    """Constant values."""

    values: FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class RealLinear(Unary):
    """y[..., o] = sum_i x[..., i] weight[i, o] + bias[o].

    `step` [n_out], when the framework quantized the weights on a grid that is no power of two: every weight of column o
    is a whole multiple of step[o] > 0. Without it a quantized network's weights are exact as they stand.
    """

    weight: FloatArray
    bias: FloatArray
    step: FloatArray | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RealFunction(Unary):
    """A function of one variable, element by element; `parameters` in the order of `PARAMETERS`."""

    kind: FunctionKind
    parameters: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RealSoftmax(Unary):
    """exp(x - max) / sum exp(x - max) along one axis."""

    axis: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RealQuantize(Unary):
    """A quantizer of the framework: y = scale * overflow(round(x / scale)), the whole numbers kept within [lo, hi].

    `scale` (positive), `lo` and `hi` broadcast to the shape of x from the right; lo <= 0 <= hi is usual, not required.
    A zero point is part of the bounds: with codes in [qmin, qmax], lo = qmin - zero and hi = qmax - zero. With
    `Overflow.WRAP` every [lo, hi] is a whole range of two's complement or unsigned codes; lo = hi = 0 is no bits.
    Division, rounding and product are those of real numbers, not of float32.
    """

    scale: FloatArray
    lo: IntArray
    hi: IntArray
    rounding: Rounding = Rounding.RND_CONV
    overflow: Overflow = Overflow.SAT


RealOp = RealInput | RealConstant | Movement | RealLinear | Arithmetic | RealFunction | RealSoftmax | RealQuantize


def real_shape(op: RealOp, shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    """Return the shape of the result; raises ValueError saying what does not fit."""
    if isinstance(op, Movement | Arithmetic):
        return result_shape(op, shapes)
    match op:
        case RealInput():
            return op.shape
        case RealConstant():
            return op.values.shape
        case RealLinear():
            if not shapes[0] or op.weight.shape[:1] != shapes[0][-1:] or op.bias.shape != op.weight.shape[1:]:
                raise ValueError(f"weight {op.weight.shape} and bias {op.bias.shape} do not fit an input {shapes[0]}")
            if op.step is not None and (op.step.shape != op.bias.shape or not (op.step.array > 0).all()):
                raise ValueError(f"steps of shape {op.step.shape}, allowed are {op.bias.shape}, all positive")
            return (*shapes[0][:-1], op.weight.shape[1])
        case RealFunction():
            names = PARAMETERS.get(op.kind, ())
            if op.kind is FunctionKind.TABLE:
                names = ("values",) * max(1, len(op.parameters))
            if len(names) != len(op.parameters) or not all(math.isfinite(value) for value in op.parameters):
                needed = ", ".join(names) or "none"
                raise ValueError(f"{op.kind.value} has parameters {op.parameters}, finite ones needed: {needed}")
            return shapes[0]
        case RealSoftmax():
            if not 0 <= op.axis < len(shapes[0]):
                raise ValueError(f"axis {op.axis} is not an axis of shape {shapes[0]}")
            return shapes[0]
        case RealQuantize():
            _check_quantizer(op, shapes[0])
            return shapes[0]
        case _:
            assert_never(op)


def _check_quantizer(op: RealQuantize, shape: tuple[int, ...]) -> None:
    """Raise ValueError when the arrays of a quantizer do not fit the shape, or each other."""
    arrays = {"scale": op.scale.array, "lo": op.lo.array, "hi": op.hi.array}
    for name, array in arrays.items():
        try:
            fits = np.broadcast_shapes(array.shape, shape) == shape
        except ValueError:
            fits = False
        if not fits:
            raise ValueError(f"{name} of a quantizer has shape {array.shape}, which does not broadcast to {shape}")
    if not (op.scale.array > 0).all() or not np.isfinite(op.scale.array).all():
        raise ValueError("scale of a quantizer: found values that are not positive and finite")
    if (arrays["lo"] > arrays["hi"]).any():
        raise ValueError("bounds of a quantizer: lo is above hi")
    if op.overflow is Overflow.WRAP:
        lo, hi = (np.broadcast_to(arrays[name], shape) for name in ("lo", "hi"))
        spans = {(int(a), int(b)) for a, b in zip(lo.ravel(), hi.ravel(), strict=True)}
        wrong = [span for span in sorted(spans) if not _wraps(*span)]
        if wrong:
            raise ValueError(f"bounds {wrong[0]} of a quantizer that wraps: neither two's complement nor unsigned")


def _wraps(lo: int, hi: int) -> bool:
    count = hi - lo + 1
    return count & (count - 1) == 0 and lo in (0, -count // 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class RealNode:
    """One value: its name, op, shape and source layer."""

    name: str
    op: RealOp
    shape: tuple[int, ...]
    source: str


@dataclass(frozen=True, kw_only=True)
class RealGraph(Network[RealNode]):
    """A trained network over real numbers; nodes in topological order. `outputs` maps output name to value name.

    `tensors` tells which value holds a tensor of the framework, by the framework's own name (Keras: layer, ONNX:
    tensor), so that both can be compared in the middle of the network. Passes keep the entries whose value they keep.

    Names of values and outputs are identifiers. `output_sources` has the framework's names of the outputs, in order,
    where these are known; that of an input is its node's source.
    """

    outputs: tuple[tuple[str, str], ...]
    tensors: tuple[tuple[str, str], ...] = ()
    output_sources: tuple[str, ...] = ()

    @cached_property
    def shown_values(self) -> frozenset[str]:
        """The values that the outputs show."""
        return frozenset(value for _, value in self.outputs)

    @cached_property
    def output_names(self) -> Mapping[str, str]:
        """The framework's names of the outputs, by their identifiers."""
        names = [name for name, _ in self.outputs]
        return dict(zip(names, self.output_sources or names, strict=True))

    @cached_property
    def quantized(self) -> bool:
        """Whether the framework quantized it: then its grids are kept exactly, and nothing is folded across them."""
        return any(
            isinstance(node.op, RealQuantize) or (isinstance(node.op, RealLinear) and node.op.step is not None)
            for node in self.nodes
        )


@dataclass(slots=True)
class RealGraphBuilder:
    """Builds a RealGraph node by node; `add` returns the name of the new value."""

    nodes: list[RealNode] = field(default_factory=list)
    outputs: list[tuple[str, str]] = field(default_factory=list)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def add(self, op: RealOp, name: str, source: str = "") -> str:
        """Append a node; a taken name gets the first free suffix. Raises ValueError when shapes do not fit."""
        unique = free_name(name, self.shapes)
        shape = real_shape(op, [self.shapes[x] for x in operands(op)])
        self.nodes.append(RealNode(name=unique, op=op, shape=shape, source=encodable(source or name)))
        self.shapes[unique] = shape
        return unique

    def output(self, name: str, value: str) -> None:
        """Declare a result."""
        self.outputs.append((sanitized(name), value))

    def build(self) -> RealGraph:
        """Return the finished network."""
        return RealGraph(nodes=tuple(self.nodes), outputs=tuple(self.outputs))


def real_op_arrays(op: RealOp) -> tuple[Any, ...]:
    """Return the float constants inside an op, for checks on NaN and infinities."""
    if isinstance(op, Movement | Arithmetic):
        return ()
    match op:
        case RealConstant():
            return (op.values,)
        case RealLinear():
            return (op.weight, op.bias)
        case RealQuantize():
            return (op.scale,)
        case RealInput() | RealSoftmax():
            return ()
        case RealFunction():
            return ()  # parameters of functions are finite, says `real_shape`
        case _:
            assert_never(op)
