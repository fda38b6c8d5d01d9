"""The ops: a closed union of frozen dataclasses. Every op is exact; only Requantize and Lookup lose information.

`docs/ir.md` is the normative description. Fields that name other values hold their names; `operands` lists them.
Shapes never include the batch axis. Ops of `Movement` and `Arithmetic` are ops of trained networks too
(`model.graph`): there their formulas hold of real numbers, and what is said of codes and fracs means nothing.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeVar, assert_never

from metronn.ir.arrays import IntArray
from metronn.ir.types import Ints, Range, normalised


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """An op that reads nothing. Every op, of integer and of trained networks, is of one of the four kinds that follow.

    They are what `operands` and `with_operands` need to know of an op.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Unary:
    """An op that reads one value."""

    x: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """An op that reads two values."""

    x: str
    y: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Variadic:
    """An op that reads any number of values."""

    xs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry(Source):
    """A value that comes from outside, of this shape."""

    shape: tuple[int, ...]


AnyOp = Source | Unary | Binary | Variadic
AnyOpT = TypeVar("AnyOpT", bound=AnyOp)


def operands(op: AnyOp) -> tuple[str, ...]:
    """Return the names of the values the op reads, in order."""
    match op:
        case Source():
            return ()
        case Unary():
            return (op.x,)
        case Binary():
            return (op.x, op.y)
        case Variadic():
            return op.xs
        case _:
            assert_never(op)


def with_operands(op: AnyOpT, names: Mapping[str, str]) -> AnyOpT:
    """Return the op with every operand found in `names` renamed."""
    renamed = tuple(names.get(name, name) for name in operands(op))
    if renamed == operands(op):
        return op
    match op:
        case Source():
            return op
        case Unary():
            return replace(op, x=renamed[0])
        case Binary():
            return replace(op, x=renamed[0], y=renamed[1])
        case Variadic():
            return replace(op, xs=renamed)
        case _:
            assert_never(op)


class Rounding(enum.Enum):
    """Rounding modes, named as in `ap_fixed`."""

    TRN = "TRN"
    TRN_ZERO = "TRN_ZERO"
    RND = "RND"
    RND_ZERO = "RND_ZERO"
    RND_INF = "RND_INF"
    RND_MIN_INF = "RND_MIN_INF"
    RND_CONV = "RND_CONV"


class Overflow(enum.Enum):
    """Overflow modes, named as in `ap_fixed`."""

    WRAP = "WRAP"
    SAT = "SAT"
    SAT_ZERO = "SAT_ZERO"
    SAT_SYM = "SAT_SYM"


class ExtremumKind(enum.Enum):
    """Which of two values Extremum keeps."""

    MAX = "max"
    MIN = "min"


class ReduceKind(enum.Enum):
    """What Reduce does along its axes."""

    SUM = "sum"
    MAX = "max"
    MIN = "min"


@dataclass(frozen=True, slots=True, kw_only=True)
class Input(Entry):
    """y = what the event brings. The range is a promise of the sender; the emulator checks it.

    `rounding`, `overflow` and `step` say how real numbers become codes at the border, outside the graph:
    code = overflow(round(x / (step * 2**-frac))). `step`, positive, of the input's shape or one for all elements, is
    for scales that are no power of two; None is 1. No op of the graph depends on them.

    With `sticky`, the lowest bit of a code tells whether anything was dropped below it:
    code = overflow(2 * floor(half) + (0 if half is whole else 1)) with half = x / (2 * step * 2**-frac). What is
    rounded again behind, at edges that are even codes, is then rounded as x itself, ties included. `rounding` is TRN.
    """

    range: Range
    rounding: Rounding = Rounding.RND
    overflow: Overflow = Overflow.SAT
    step: IntArray | None = None
    sticky: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Constant(Source):
    """y = values * 2**-frac; bounds are the values themselves, per element."""

    values: IntArray
    frac: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewire(Variadic):
    """y.flat[k] = concatenation of all x.flat [index[k]], or 0 where index[k] = -1.

    Any static movement of elements: reshape, transpose, slice, split, concat, pad, crop, upsample.
    """

    index: IntArray
    shape: tuple[int, ...]


class Padding(enum.Enum):
    """What a window holds where it reaches over the edge."""

    ZERO = "zero"
    LOWEST = "lowest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Window(Unary):
    """Sliding windows over the axes before the last one.

    x has shape (*lead, *spatial, C) with as many spatial axes as `kernel` has entries; y has shape
    (*lead, *out, prod(kernel) * C), its last axis in the order (kernel position, channel). Along a spatial axis,
    out = (n + before + after - dilation * (kernel - 1) - 1) // stride + 1. Positions beyond the edge hold 0 or, with
    `Padding.LOWEST`, the lowest code any element of x can take (x then needs one frac for each channel): neutral for a
    maximum. Over real numbers that is minus infinity, and a maximum follows.
    """

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    padding: Padding = Padding.ZERO


@dataclass(frozen=True, slots=True, kw_only=True)
class Linear(Unary):
    """y[..., o] = sum_i x[..., i] * weight[i, o] + bias[o], exact.

    weight[i, o] has input_frac[i] + weight_frac[o] fraction bits; both are one integer for all or a tuple of n_in and
    n_out. With F = max over the elements of x.frac + input_frac, y.frac[..., o] = F + weight_frac[o], which is that of
    bias[o] too. The code of an input is shifted up by F - x.frac - input_frac first: by nothing where input_frac makes
    up for the fracs of the inputs. `ir.infer.linear_shifts` gives these shifts.
    """

    weight: IntArray
    bias: IntArray
    weight_frac: Ints = 0
    input_frac: Ints = 0

    def __post_init__(self) -> None:
        """Normalise tuples, so that equal ops compare equal."""
        for name in ("weight_frac", "input_frac"):
            object.__setattr__(self, name, normalised(getattr(self, name), f"Linear.{name}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Add(Binary):
    """y = x + y, or x - y; shapes broadcast as in NumPy; y.frac = the larger frac, element by element."""

    subtract: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Multiply(Binary):
    """y = x * y; shapes broadcast; fracs add."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extremum(Binary):
    """y = max(x, y) or min(x, y) as real numbers; shapes broadcast; y.frac = the larger frac."""

    kind: ExtremumKind = ExtremumKind.MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Reduce(Unary):
    """y = sum, max or min along `axes`, which vanish from the shape; y.frac = the largest of the elements reduced."""

    axes: tuple[int, ...]
    kind: ReduceKind = ReduceKind.SUM


@dataclass(frozen=True, slots=True, kw_only=True)
class Requantize(Unary):
    """y = overflow(round(x * 2**(out.frac - x.frac))). Shape unchanged. Modes as in ap_fixed.

    WRAP needs `out` to be a full two's complement or unsigned range; SAT takes any bounds.
    """

    out: Range
    rounding: Rounding = Rounding.TRN
    overflow: Overflow = Overflow.WRAP


@dataclass(frozen=True, slots=True, kw_only=True)
class Lookup(Unary):
    """y = table[x - lowest code of x], in integer codes, with `frac` fraction bits.

    One table serves all elements: it has an entry for every code from the lowest to the highest that any element
    can take, and x needs one frac for all elements.
    """

    table: IntArray
    frac: int = 0


Movement = Rewire | Window
"""Ops whose results are elements of their operands, or nothing."""
Arithmetic = Add | Multiply | Extremum | Reduce
"""Ops that combine elements without constants of their own."""
Op = Input | Constant | Movement | Linear | Arithmetic | Requantize | Lookup


def is_elementwise(op: Op) -> bool:
    """Whether each element of the result is made of the elements at its place alone, once operands are broadcast."""
    match op:
        case Add() | Multiply() | Extremum() | Requantize() | Lookup():
            return True
        case Input() | Constant() | Rewire() | Window() | Linear() | Reduce():
            return False
        case _:
            assert_never(op)


def op_name(op: Op) -> str:
    """Return the lower-case name of the op, as in the text form."""
    return type(op).__name__.lower()
