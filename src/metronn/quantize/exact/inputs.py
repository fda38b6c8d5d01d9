"""Inputs of quantized networks: the format of an input follows from the quantizers that read it.

One quantizer that every reader applies becomes the input's own format. Several different ones, or one beside readers
that are no quantizers, get a grid from which each can be computed exactly: every edge between two of their codes is
an even code, and an odd code stands for everything between two even ones (`Input.sticky`), so that neither a tie nor
what lies next to it is rounded twice.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from metronn.ir.arrays import IntArray, object_array
from metronn.ir.moves import composed
from metronn.ir.ops import Input, Overflow, Rewire, Rounding
from metronn.ir.types import Range, width_bits
from metronn.model.graph import RealGraph, RealNode, RealQuantize
from metronn.quantize.exact.chains import power_of_two
from metronn.quantize.widths import MAX_UNROUNDED_BITS

Index = npt.NDArray[np.int64]

LEFT_CLOSED = frozenset((Rounding.TRN, Rounding.RND))
"""Modes in which a value on an edge belongs to the code above it, as it does after cutting off bits."""

SIGNED_MODES = frozenset((Rounding.TRN_ZERO, Rounding.RND_ZERO, Rounding.RND_INF))
"""Modes that treat negative numbers otherwise than positive ones: not the same modulo a period."""


@dataclass(frozen=True, slots=True)
class Absorbed:
    """The input op from which all quantizers that read the input follow, and those that it holds itself."""

    op: Input
    quantizers: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Spec:
    """A quantizer of one element: y = scale * overflow(round(x / scale)), whole numbers within [lo, hi]."""

    scale: Fraction
    lo: int
    hi: int
    rounding: Rounding
    overflow: Overflow

    @property
    def spacing(self) -> Fraction:
        """Return a number of which every edge between two codes is a whole multiple."""
        cuts = self.rounding in (Rounding.TRN, Rounding.TRN_ZERO)
        return self.scale if cuts else self.scale / 2

    @property
    def bounds(self) -> tuple[Fraction, Fraction]:
        """Return what saturation at leaves every result as it is."""
        margin = 1 if self.overflow is Overflow.SAT_ZERO else 0
        lo = -self.hi if self.overflow is Overflow.SAT_SYM and self.lo < 0 else self.lo
        return (lo - margin) * self.scale, (self.hi + margin) * self.scale

    def describe(self) -> str:
        """Return format and modes for a message."""
        power = power_of_two(self.scale)
        step = f"2**{power}" if power is not None else f"{float(self.scale):g}"
        return f"{self.lo}..{self.hi} in steps of {step} ({self.rounding.value}, {self.overflow.value})"


@dataclass(frozen=True, slots=True)
class Readers:
    """What reads the elements of an input: the quantizers of each, their nodes, and which others read it."""

    specs: tuple[tuple[Spec, ...], ...]
    floats: tuple[bool, ...]
    quantizers: frozenset[str]

    @property
    def kinds(self) -> tuple[Spec, ...]:
        """Return every different quantizer, in the order of the elements."""
        return tuple(dict.fromkeys(spec for specs in self.specs for spec in specs))


def absorbed(graph: RealGraph, node: RealNode) -> Absorbed | None:
    """Return the input op when quantizers alone read the input and one format serves them all exactly; else None."""
    readers = readers_of(graph, node)
    if not readers.quantizers or any(readers.floats):
        return None
    modes = {(spec.rounding, spec.overflow) for spec in readers.kinds}
    if len(modes) == 1 and all(len(specs) <= 1 for specs in readers.specs):
        return Absorbed(_own(node, readers.specs, *modes.pop()), readers.quantizers)
    op = _joint(node, readers, None)
    return None if op is None else Absorbed(op)


def beside_floats(graph: RealGraph, node: RealNode, chosen: Range) -> Absorbed | None:
    """Return the input op for quantizers and others that read one input; None where no quantizer does, or none serves.

    `chosen` is the format the others would get alone: the result is as fine and reaches as far.
    """
    readers = readers_of(graph, node)
    if not readers.quantizers:
        return None
    op = _joint(node, readers, chosen)
    return None if op is None else Absorbed(op)


def readers_of(graph: RealGraph, node: RealNode) -> Readers:
    """Find what reads each element of an input, behind movements."""
    size = math.prod(node.shape)
    specs: list[dict[Spec, None]] = [{} for _ in range(size)]
    floats = [False] * size
    found: set[str] = set()
    for reader, index in _readers(graph, node):
        elements = index.ravel().tolist()
        if not isinstance(reader.op, RealQuantize):
            for element in elements:
                if element >= 0:
                    floats[element] = True
            continue
        op = reader.op
        found.add(reader.name)
        full = [np.broadcast_to(part, reader.shape).ravel() for part in (op.scale.array, op.lo.array, op.hi.array)]
        for element, scale, lo, hi in zip(elements, *(part.tolist() for part in full), strict=True):
            if element >= 0:
                specs[element][Spec(Fraction(scale), int(lo), int(hi), op.rounding, op.overflow)] = None
    return Readers(tuple(tuple(known) for known in specs), tuple(floats), frozenset(found))


def _readers(graph: RealGraph, node: RealNode) -> Iterator[tuple[RealNode, Index]]:
    """Iterate over what reads the input but movements, each with the input's elements it reads (-1: zero)."""
    queue: list[tuple[str, Index]] = [(node.name, np.arange(math.prod(node.shape)).reshape(node.shape))]
    shown = {value for _, value in graph.outputs}
    while queue:
        name, index = queue.pop()
        if name in shown:
            yield graph.by_name[name], index
        for user in graph.uses[name]:
            reader = graph.by_name[user]
            if isinstance(reader.op, Rewire) and reader.op.xs == (name,):
                queue.append((user, composed(reader.op.index.array, [index.ravel()]).reshape(reader.shape)))
            else:
                yield reader, index


def _own(node: RealNode, specs: Sequence[tuple[Spec, ...]], rounding: Rounding, overflow: Overflow) -> Input:
    """Return an input that does what the one quantizer of every element does."""
    los, his, steps = [], [], []
    for known in specs:
        lo, hi, scale = (known[0].lo, known[0].hi, known[0].scale) if known else (0, 0, Fraction(1))
        los.append(-hi if overflow is Overflow.SAT_SYM and lo < 0 else lo)
        his.append(hi)
        steps.append(scale)
    return _input(
        node,
        (los, his, steps),
        rounding=rounding,
        overflow=Overflow.SAT if overflow is Overflow.SAT_SYM else overflow,
        sticky=False,
    )


def _joint(node: RealNode, readers: Readers, chosen: Range | None) -> Input | None:
    """Return an input from which every quantizer follows exactly; None where MAX_UNROUNDED_BITS do not hold it.

    Values beyond a saturating input saturate every quantizer. Where one wraps all must: the code is then one modulo the
    least common period.
    """
    size = math.prod(node.shape)
    live = [tuple(spec for spec in specs if spec.lo < spec.hi) for specs in readers.specs]
    kinds = {spec for specs in live for spec in specs}
    wraps = {spec.overflow is Overflow.WRAP for spec in kinds}
    sticky = chosen is not None or any(spec.rounding not in LEFT_CLOSED for spec in kinds)
    if len(wraps) > 1 or (chosen is not None and True in wraps):
        return None
    wrap = True in wraps
    bounds = (
        [(0, 0, 0)] * size
        if chosen is None
        else list(zip(chosen.los(size), chosen.his(size), chosen.fracs(size), strict=True))
    )
    los, his, steps = [], [], []
    known: dict[tuple[object, ...], tuple[int, int, Fraction] | None] = {}
    for specs, is_float, bound in zip(live, readers.floats, bounds, strict=True):
        key = (specs, bound if is_float else None)
        if key not in known:
            known[key] = _wrapping(specs, sticky) if wrap else _saturating(specs, sticky, bound if is_float else None)
        found = known[key]
        if found is None:
            return None
        los.append(found[0])
        his.append(found[1])
        steps.append(found[2])
    overflow = Overflow.WRAP if wrap else Overflow.SAT
    return _input(node, (los, his, steps), rounding=Rounding.TRN, overflow=overflow, sticky=sticky)


def _grid(specs: Sequence[Spec], sticky: bool) -> Fraction:
    """Return the step of codes of which every edge of the quantizers is a multiple, an even one with `sticky`."""
    edges = [spec.spacing for spec in specs]
    bottom = math.lcm(*(edge.denominator for edge in edges))
    step = Fraction(math.gcd(*(int(edge * bottom) for edge in edges)), bottom)
    return step / 2 if sticky else step


def _saturating(
    specs: Sequence[Spec], sticky: bool, other: tuple[int, int, int] | None
) -> tuple[int, int, Fraction] | None:
    """Return bounds and step for one element; `other` is lo, hi and frac of a format to be held as well."""
    if not specs and other is None:
        return 0, 0, Fraction(1)
    ends = [spec.bounds for spec in specs]
    if other is not None:
        lo, hi, frac = other
        unit = 1 / Fraction(2) ** frac
        ends.append((lo * unit, hi * unit))
        step = _grid(specs, sticky) if specs else unit / 2
        while step > unit / 2:
            step /= 2
    else:
        step = _grid(specs, sticky)
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    least, most = math.floor(low / step), math.ceil(high / step)
    return (least, most, step) if width_bits(least, most) <= MAX_UNROUNDED_BITS else None


def _wrapping(specs: Sequence[Spec], sticky: bool) -> tuple[int, int, Fraction] | None:
    """Return bounds and step for one element whose quantizers all wrap."""
    if not specs:
        return 0, 0, Fraction(1)
    if any(spec.rounding in SIGNED_MODES for spec in specs):
        return None
    step = _grid(specs, sticky)
    period = math.lcm(*(int((spec.hi - spec.lo + 1) * spec.scale / step) for spec in specs))
    if period & (period - 1) or period.bit_length() - 1 > MAX_UNROUNDED_BITS:
        return None
    return -period // 2, period // 2 - 1, step


def _input(
    node: RealNode,
    format_of: tuple[Sequence[int], Sequence[int], Sequence[Fraction]],
    *,
    rounding: Rounding,
    overflow: Overflow,
    sticky: bool,
) -> Input:
    """Return the op with lowest code, highest code and worth of a code for each element."""
    los, his, units = format_of
    fracs, steps = [], []
    for unit in units:
        power = power_of_two(unit)
        fracs.append(unit.denominator.bit_length() - 1 if power is None else -power)
        steps.append(unit.numerator if power is None else 1)
    step = None if set(steps) == {1} else IntArray.of(object_array(steps, node.shape))
    if step is not None and len(set(steps)) == 1:
        step = IntArray.of(np.array(steps[0]))
    return Input(
        shape=node.shape,
        range=Range(tuple(los), tuple(his), tuple(fracs)),
        rounding=rounding,
        overflow=overflow,
        step=step,
        sticky=sticky,
    )
