"""Regions in which every result depends on one code (`regions`), as a table for each element.

The region is computed for every code as `run_reference` does; what lies near an edge between two steps is computed
again in exact arithmetic. Elements of equal tables share a `Lookup`; a table that shifts and saturates is wires.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from metronn.ir.arrays import Array, IntArray
from metronn.ir.infer import overflowed
from metronn.ir.ops import Overflow, Rewire, Rounding
from metronn.ir.types import TensorType, width_bits
from metronn.model.graph import (
    FloatArray,
    Floats,
    RealConstant,
    RealGraph,
    RealInput,
    RealNode,
    RealQuantize,
)
from metronn.model.rational import run_rational
from metronn.model.reference import run_reference
from metronn.quantize.calibrated.calibration import chunks
from metronn.quantize.exact.chains import Chains
from metronn.quantize.exact.closing import Closing, targets_of
from metronn.quantize.exact.closing_ways import Plain, Source, Tabled, Target, Way, table_of
from metronn.quantize.exact.emission import Emission, object_fractions
from metronn.quantize.exact.forms import Form, Reason, together
from metronn.quantize.exact.regions import Region

NEAR = 2.0**-20
"""What lies nearer to an edge, in steps, is judged exactly: float32 functions and float64 sums differ by less."""
SMALL_BITS = 6
"""A table over codes of so few bits is one LUT a result bit: saturating the code first would only cost a cycle."""
MAX_JUDGED = 1 << 22
"""As many numbers are computed in exact arithmetic for one region; beyond that float64 decides, which is a reason."""


@dataclass(frozen=True, slots=True, eq=False)
class _Codes:
    """The codes of all sources of a region, one after the other: bounds, exponents, and what one code is worth."""

    los: Array
    his: Array
    fracs: Array
    steps: tuple[Fraction, ...]


def close_region(
    closing: Closing, forms: Mapping[str, Form], constants: Mapping[str, Floats], region: Region
) -> tuple[Form, int]:
    """Return the closing quantizer's codes of a region, and how many entries its tables have."""
    node, op = region.closing, region.closing.op
    assert isinstance(op, RealQuantize)
    codes = _codes_of(closing.emission, forms, region)
    results, unjudged = _evaluated(region, codes, constants, op)
    targets = targets_of(op, node.shape)
    known: dict[tuple[Source, Target, bytes], Way] = {}
    ways = []
    for element, (source, target) in enumerate(zip(region.depends.ravel().tolist(), targets, strict=True)):
        bounds = Source(0, 0, 0)
        if source >= 0:
            bounds = Source(int(codes.fracs[source]), int(codes.los[source]), int(codes.his[source]))
        found = results[: bounds.hi - bounds.lo + 1, element]
        key = (bounds, target, found.tobytes())
        if key not in known:
            known[key] = _way(found, bounds, target)
        ways.append(known[key])
    gathered = Rewire(
        xs=tuple(forms[source.name].value for source in region.sources),
        index=IntArray.of(region.depends),
        shape=node.shape,
    )
    value = closing.emitter.add(gathered, f"{node.name}.codes", node.source)
    inexact = together(*(forms[source.name].inexact for source in region.sources))
    value = closing.grouped(Form(value, Chains.uniform(node.shape), inexact), ways, node)
    entries = {(way.entries, way.lo, way.target.frac): len(way.entries) for way in ways if isinstance(way, Tabled)}
    scales = object_fractions([target.scale for target in targets], node.shape)
    form = Form(value, Chains.scales(scales, node.shape), inexact)
    if unjudged:
        what = f"float64 decides near an edge between two results (codes: {unjudged:,})"
        form = form.because(Reason.at(node, what))
    return form, sum(entries.values())


def _codes_of(emission: Emission, forms: Mapping[str, Form], region: Region) -> _Codes:
    parts: list[tuple[int, int, int, Fraction]] = []
    for node in region.sources:
        form = forms[node.name]
        kind: TensorType = emission.type_of(form)
        fields = (kind.range.los(kind.size), kind.range.his(kind.size), kind.range.fracs(kind.size))
        for lo, hi, frac, scale in zip(*fields, form.chains.fractions().ravel().tolist(), strict=True):
            parts.append((lo, hi, frac, scale * Fraction(2) ** -frac))
    los, his, fracs = (np.array([part[k] for part in parts], dtype=np.int64) for k in range(3))
    return _Codes(los, his, fracs, tuple(part[3] for part in parts))


def _evaluated(region: Region, codes: _Codes, constants: Mapping[str, Floats], op: RealQuantize) -> tuple[Array, int]:
    """Return the closing quantizer's codes (events, *elements): in event k every source has its lowest code plus k.

    The second result counts the events near an edge that were too many to be judged in exact arithmetic.
    """
    network = _network(region, constants)
    used = np.unique(region.depends[region.depends >= 0])
    events = int((codes.his - codes.los)[used].max(initial=0)) + 1
    largest = max(math.prod(node.shape) for node in network.nodes)
    size = region.depends.size
    scale = np.broadcast_to(op.scale.array, region.closing.shape)
    before = op.x
    found = np.zeros((events, size), dtype=np.int64)
    near = np.zeros(events, dtype=bool)
    for part in chunks(events, largest):
        inputs = _inputs(region, codes, np.arange(part.start, part.stop))

        def look(node: RealNode, values: Floats, part: slice = part) -> None:
            if node.name == before:
                near[part] |= _near(op, values / scale).reshape(len(values), -1).any(axis=1)

        with np.errstate(all="ignore"):
            quantized = run_reference(network, inputs, look)["y"]
            steps = np.rint(np.nan_to_num(quantized / scale, nan=0.0))
        found[part] = np.broadcast_to(steps, (part.stop - part.start, *region.closing.shape)).reshape(-1, size)
    judged = np.flatnonzero(near)
    numbers = sum(math.prod(node.shape) for node in network.nodes)
    unjudged = max(0, judged.size - MAX_JUDGED // numbers)
    judged = judged[: judged.size - unjudged]
    if judged.size:
        exact = run_rational(network, _inputs(region, codes, judged))["y"]
        units = [exact.unit / Fraction(step) for step in scale.ravel().tolist()]
        rows = np.broadcast_to(exact.numbers, (judged.size, *region.closing.shape)).reshape(judged.size, size)
        for element, unit in enumerate(units):
            found[judged, element] = [int(number * unit) for number in rows[:, element].tolist()]
    return found, unjudged


def _near(op: RealQuantize, steps: Floats) -> npt.NDArray[np.bool_]:
    """Whether values, in steps, are so near to an edge between two codes that float64 may be on the wrong side."""
    edges = steps if op.rounding in (Rounding.TRN, Rounding.TRN_ZERO) else steps + 0.5
    with np.errstate(invalid="ignore"):
        near = np.abs(edges - np.rint(edges)) < NEAR
        if op.overflow in (Overflow.SAT, Overflow.SAT_SYM):
            reach = np.maximum(np.abs(op.lo.array), np.abs(op.hi.array)).astype(np.float64)
            near &= np.abs(steps) < reach + 1
    return np.asarray(near)


def _network(region: Region, constants: Mapping[str, Floats]) -> RealGraph:
    """Return the region as a network of its own: its inputs are the values of its sources, put on their grids."""
    nodes: list[RealNode] = []
    far = 1 << 40
    for node in region.sources:
        assert isinstance(node.op, RealQuantize)
        name = f"{node.name}.code"
        nodes.append(RealNode(name=name, op=RealInput(shape=node.shape), shape=node.shape, source=node.source))
        grid = RealQuantize(
            x=name,
            scale=node.op.scale,
            lo=IntArray.of(np.array(-far)),
            hi=IntArray.of(np.array(far)),
            rounding=Rounding.RND,
            overflow=Overflow.SAT,
        )
        nodes.append(replace(node, op=grid))
    for node in region.nodes:
        if node.name in constants:
            nodes.append(replace(node, op=RealConstant(values=FloatArray.of(constants[node.name]))))
        else:
            nodes.append(node)
    return RealGraph(nodes=(*nodes, region.closing), outputs=(("y", region.closing.name),))


def _inputs(region: Region, codes: _Codes, events: Array) -> dict[str, Floats]:
    """Return the values of the sources, a code higher with each event; beyond the highest it stays."""
    found = {}
    start = 0
    for node in region.sources:
        size = math.prod(node.shape)
        part = slice(start, start + size)
        values = np.minimum(codes.los[part] + events[:, np.newaxis], codes.his[part]).astype(np.float64)
        values *= np.array([float(step) for step in codes.steps[part]])
        found[f"{node.name}.code"] = values.reshape(len(events), *node.shape)
        start += size
    return found


def _way(found: Array, source: Source, target: Target) -> Way:
    """Return how a table of one element becomes integer ops: wires where it only shifts and saturates."""
    way = table_of(found, source, target)
    if not isinstance(way, Tabled):
        return way
    wires = _wires(found, source, target)
    if wires is None and width_bits(source.lo, source.hi) <= SMALL_BITS:
        return Tabled(source.lo, source.hi, 0, tuple(found.tolist()), target)
    return wires or way


def _wires(found: Array, source: Source, target: Target) -> Plain | None:
    """Return a shift with rounding and saturation that gives the table, if there is one."""
    least, most = int(found.min()), int(found.max())
    rise = int(found[-1]) - int(found[0])
    if source.hi == source.lo or not rise:
        return None
    steps = found[1:] - found[:-1]
    inner = np.flatnonzero(steps)
    slope = abs(int(found[inner[-1] + 1]) - int(found[inner[0]])) / (int(inner[-1]) - int(inner[0]) + 1)
    sign = 1 if rise > 0 else -1
    for power in {math.floor(math.log2(slope)), math.ceil(math.log2(slope))}:
        factor = sign * Fraction(2) ** power
        for rounding in (Rounding.TRN, Rounding.RND):
            if all(
                overflowed(_shifted(code, factor, rounding), least, most, Overflow.SAT) == result
                for code, result in zip(range(source.lo, source.hi + 1), found.tolist(), strict=True)
            ):
                in_values = factor * Fraction(2) ** (source.frac - target.frac)
                bounded = Target(target.scale, least, most, target.frac, rounding, Overflow.SAT)
                return Plain(in_values, Fraction(0), bounded)
    return None


def _shifted(code: int, factor: Fraction, rounding: Rounding) -> int:
    exact = code * factor
    return math.floor(exact + Fraction(1, 2)) if rounding is Rounding.RND else math.floor(exact)
