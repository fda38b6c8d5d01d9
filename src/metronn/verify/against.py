"""A network in its framework against its integer graph, tensor by tensor, every bit of what the graph holds exactly.

A difference is one of three things. Float32 noise: the graph has the real value on the framework's grid, and float32
may have moved the framework's value across a rounding boundary (`against_noise`). A consequence: an event that noise
moved earlier, where this stretch of the network is right for what the framework had in front of it. Anything else is a
real difference: a mistake of a frontend, a pass or the lowering, or another meaning of the framework.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace

import numpy as np

from metronn.emulate.native import NativeEmulator
from metronn.emulate.numpy import emulate
from metronn.errors import ModelError, ToolError
from metronn.ir.arrays import Array
from metronn.ir.graph import Graph, Node, Output
from metronn.ir.ops import operands
from metronn.model.graph import Floats, RealGraph, RealNode, RealQuantize
from metronn.quantize.exact.values import ExactValue
from metronn.verify.against_codes import GRID_TOLERANCE, Pair, Part, TensorResult, compare_tensor, count_differences
from metronn.verify.against_events import EventChunk
from metronn.verify.against_noise import UNIT, Envelope, envelopes
from metronn.verify.framework import Framework

Emulate = Callable[[Mapping[str, Array]], Mapping[str, Array]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainstResult:
    """Every compared tensor in graph order.

    `inside` names the framework's tensors that the graph does not hold by themselves, but in a compared one behind;
    `approximate` those with no compared one behind: what they hold is on no grid, and was quantized after training.
    """

    framework: str
    events: int
    tensors: tuple[TensorResult, ...]
    inside: tuple[str, ...] = ()
    approximate: tuple[str, ...] = ()

    @property
    def real(self) -> int:
        """Real differences: the network in hardware would not be the one that was trained."""
        return sum(tensor.real for tensor in self.tensors)

    @property
    def noise(self) -> int:
        """Elements where float32 fell on the other side of a rounding boundary."""
        return sum(tensor.noise for tensor in self.tensors)

    @property
    def quantizer_noise(self) -> int:
        """Those of them that a quantizer of the framework made visible: its code is another one."""
        return sum(tensor.noise for tensor in self.tensors if tensor.quantizer)

    @property
    def consequences(self) -> int:
        """Elements behind a difference in the same event, right for what the framework had in front of them."""
        return sum(tensor.consequences for tensor in self.tensors)

    @property
    def bits(self) -> int:
        """Bits compared."""
        return sum(tensor.bits for tensor in self.tensors)

    @property
    def differing_bits(self) -> int:
        """Bits that differ, for whatever reason."""
        return sum(tensor.differing_bits for tensor in self.tensors)

    @property
    def first(self) -> str:
        """The first real difference in graph order, or nothing."""
        return next((tensor.first for tensor in self.tensors if tensor.real), "")

    def to_json(self) -> dict[str, object]:
        """Return plain data."""
        return {
            "framework": self.framework,
            "events": self.events,
            "values": sum(tensor.values for tensor in self.tensors),
            "bits": self.bits,
            "differing_bits": self.differing_bits,
            "float32_noise": self.noise,
            "float32_noise_at_quantizers": self.quantizer_noise,
            "consequences": self.consequences,
            "real_differences": self.real,
            "first": self.first,
            "tensors": [asdict(tensor) for tensor in self.tensors],
            "inside": list(self.inside),
            "approximate": list(self.approximate),
        }


def borders(graph: Graph, frontier: Iterable[ExactValue]) -> frozenset[str]:
    """Return the inputs whose codes a quantizer of the framework makes."""
    inputs = {node.name for node in graph.inputs}
    return frozenset(exact.value for exact in frontier if exact.value in inputs and exact.real != exact.value)


def tapped(graph: Graph, values: Iterable[str]) -> Graph:
    """Return the graph with these values as its outputs, under their own names."""
    return replace(graph, outputs=tuple(Output(name=value, value=value) for value in dict.fromkeys(values)))


def emulator(graph: Graph, values: Sequence[str], *, compiled: bool = True) -> Emulate:
    """Return what runs input codes and returns the codes of some values; NumPy does where there is no compiler."""
    wanted = list(dict.fromkeys(values))
    if compiled:
        with suppress(ToolError):
            return NativeEmulator.build(tapped(graph, wanted)).run

    def run(inputs: Mapping[str, Array]) -> dict[str, Array]:
        found: dict[str, Array] = {}

        def keep(node: Node, codes: Array) -> None:
            if node.name in wanted:
                found[node.name] = codes

        emulate(graph, inputs, keep)
        return found

    return run


def compare_framework(
    model: RealGraph,
    graph: Graph,
    frontier: Sequence[ExactValue],
    framework: Framework,
    chunks: Iterable[EventChunk],
    *,
    floating: bool = True,
    compiled: bool = True,
    seen: Callable[[int], None] = lambda _: None,
) -> AgainstResult:
    """Compare every tensor that the framework shows and the graph holds exactly, on chunks of events.

    `model` is the prepared network that was lowered to `graph`, `frontier` what the lowering says it holds exactly.
    `floating` says that the framework computes in float32: else every difference is a real one. `compiled` asks for the
    compiled emulator, which pays from some thousand events on. `seen` is told the number of events after each chunk.
    Raises ModelError when nothing can be compared, ToolError when
    the framework fails.
    """
    pairs, skipped = _pairs(model, graph, frontier, framework)
    if not pairs:
        raise ModelError(
            "nothing to compare: the integer graph holds no tensor of the framework exactly (a network without "
            "quantizers is quantized after training, which rung 1 measures)"
        )
    run = emulator(graph, [pair.exact.value for pair in pairs], compiled=compiled)
    total = 0
    for chunk in chunks:
        total += _compare_chunk(model, graph, framework, pairs, run, chunk, total, floating=floating)
        seen(total)
    results = tuple(pair.result for pair in pairs)
    inside = _leading_to(model, {pair.exact.real for pair in pairs})
    return AgainstResult(
        framework=framework.name,
        events=total,
        tensors=results,
        inside=tuple(name for name, value in skipped if value in inside),
        approximate=tuple(name for name, value in skipped if value not in inside),
    )


def _leading_to(model: RealGraph, values: set[str]) -> set[str]:
    """Return these values and all that they are computed from."""
    found = set(values)
    for node in reversed(model.nodes):
        if node.name in found:
            found.update(operands(node.op))
    return found


def _pairs(
    model: RealGraph, graph: Graph, frontier: Sequence[ExactValue], framework: Framework
) -> tuple[list[Pair], tuple[tuple[str, str], ...]]:
    """Return the tensors to compare in graph order, and those that are not held exactly with their values."""
    order = {node.name: at for at, node in enumerate(model.nodes)}
    pairs: list[Pair] = []
    for exact in sorted(frontier, key=lambda exact: order.get(exact.real, -1)):
        if exact.real not in order or exact.value not in graph.by_name:
            continue
        kind = graph.type_of(exact.value)
        for tensor in exact.tensors:
            shape = framework.tensors.get(tensor)
            if shape is None or np.prod(shape, dtype=int) != kind.size:
                continue
            snapped = isinstance(model.by_name[exact.real].op, RealQuantize)
            result = TensorResult(
                tensor=tensor,
                layer=exact.source,
                value=exact.value,
                width=kind.range.width_bits,
                quantizer=snapped,
            )
            pairs.append(Pair(tensor=tensor, exact=exact, kind=kind, snapped=snapped, result=result))
            break
    compared = {name for pair in pairs for name in pair.exact.tensors}
    skipped = [(name, value) for name, value in model.tensors if name not in compared]
    return pairs, tuple(skipped)


def _compare_chunk(
    model: RealGraph,
    graph: Graph,
    framework: Framework,
    pairs: Sequence[Pair],
    run: Emulate,
    chunk: EventChunk,
    before: int,
    *,
    floating: bool,
) -> int:
    """Compare one chunk of events into the pairs' results; returns how many there were."""
    inputs = dict(chunk.values)
    events = len(next(iter(inputs.values())))
    found = framework.run([inputs[node.name] for node in graph.inputs], [pair.tensor for pair in pairs])
    ours = run(chunk.codes)
    differing = np.zeros(events, dtype=bool)
    parts: dict[str, Part] = {}
    for pair in pairs:
        part = compare_tensor(pair, found[pair.tensor], ours[pair.exact.value], events)
        parts[pair.tensor] = part
        count_differences(pair, part)
        differing |= part.differs.reshape(events, -1).any(axis=1)
    if differing.any():
        if floating:
            _judge(model, pairs, parts, inputs, np.flatnonzero(differing), before)
        else:
            _blame(pairs, parts, before)
    return events


def _bits(theirs: float, ours: float, width: int) -> list[int]:
    """Return which bits of two codes differ; the lowest where the codes cannot tell (not a number, beside the grid)."""
    if not np.isfinite(theirs):
        return [0]
    mask = (1 << max(1, width)) - 1
    found = (int(np.rint(theirs)) ^ int(ours)) & mask
    return [at for at in range(mask.bit_length()) if found >> at & 1] or [0]


def _blame(pairs: Sequence[Pair], parts: Mapping[str, Part], before: int) -> None:
    """Count every difference as a real one."""
    for pair in pairs:
        part = parts[pair.tensor]
        flat = part.differs.reshape(len(part.differs), -1)
        pair.result.real += int(flat.sum())
        if flat.any() and not pair.result.first:
            event, element = (int(n) for n in np.argwhere(flat)[0])
            theirs, ours = (codes.reshape(-1)[element] for codes in (part.steps(np.array([event])), part.codes[event]))
            pair.result.first = _described(pair, float(theirs), float(ours), before + event, element)


def _judge(
    model: RealGraph,
    pairs: Sequence[Pair],
    parts: Mapping[str, Part],
    inputs: Mapping[str, Floats],
    events: Array,
    before: int,
) -> None:
    """Tell noise, consequences and real differences apart, in graph order, on the events where anything differs.

    Only what a quantizer has put on its grid is taken over from the framework: noise ends there, and a difference there
    moves the rest of the event.
    """
    by_node: dict[str, list[Pair]] = {}
    for pair in pairs:
        by_node.setdefault(pair.exact.real, []).append(pair)
    moved = np.zeros(len(events), dtype=bool)

    def see(node: RealNode, local: Envelope) -> None:
        for pair in by_node.get(node.name, ()):
            part = parts[pair.tensor]
            differs = part.differs[events].reshape(len(events), -1)
            if not differs.any():
                continue
            step = np.broadcast_to(pair.exact.step(pair.kind), pair.kind.shape).ravel()
            low, high, value = (
                np.broadcast_to(array, (len(events), *pair.kind.shape)).reshape(len(events), -1) / step
                for array in (local.low, local.high, local.value)
            )
            theirs = part.steps(events).reshape(len(events), -1)
            ours = part.codes[events].astype(np.float64).reshape(len(events), -1)
            slack = GRID_TOLERANCE + 4 * UNIT * np.abs(theirs)
            explained = (theirs >= low - slack) & (theirs <= high + slack)
            faithful = np.abs(ours - value) <= 0.5 if not pair.snapped else np.abs(ours - value) <= GRID_TOLERANCE
            before_noise = differs & ~moved[:, np.newaxis]
            noise = before_noise & explained & faithful & (low < high)
            after = differs & moved[:, np.newaxis] & explained
            real = differs & ~noise & ~after
            result = pair.result
            result.noise += int(noise.sum())
            result.consequences += int(after.sum())
            result.real += int(real.sum())
            if real.any() and not result.first:
                at, element = (int(n) for n in np.argwhere(real)[0])
                result.first = _described(
                    pair, theirs[at, element], ours[at, element], before + int(events[at]), element
                )
        for pair in by_node.get(node.name, ()):
            if pair.snapped:
                moved[parts[pair.tensor].differs[events].reshape(len(events), -1).any(axis=1)] = True

    known = {pair.exact.real: parts[pair.tensor].known(events) for pair in pairs if pair.snapped}
    envelopes(model, {name: array[events] for name, array in inputs.items()}, known, see)


def _described(pair: Pair, theirs: float, ours: float, event: int, element: int) -> str:
    width = pair.kind.range.width_bits
    where = tuple(int(n) for n in np.unravel_index(element, pair.kind.shape or (1,)))
    step = float(np.broadcast_to(pair.exact.step(pair.kind), pair.kind.shape).ravel()[element])
    code = f"{int(np.rint(theirs))}" if np.isfinite(theirs) and abs(theirs - np.rint(theirs)) < 0.01 else f"{theirs:g}"
    return (
        f"layer {pair.exact.source} (tensor {pair.tensor}, value {pair.exact.value}): event {event}, element {where}: "
        f"the framework has {code}, the integer graph {int(ours)}, in steps of {step:g}; "
        f"lowest differing bit {_bits(theirs, ours, width)[0]} of {width}"
    )
