"""The floorplan of an FPGA: from a draft in one region to the region of everything on it.

The draft is a schedule without crossings. It says what each kernel needs, what waits in front of it, and how much time
lies between them; `metronn.plan.regions` decides on that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from metronn.ir.graph import Graph
from metronn.plan.design import FpgaDesign, KernelInstance
from metronn.plan.hardware.resources import Resources
from metronn.plan.kernels.spec import Delay, covered_nodes
from metronn.plan.layout import wire_format
from metronn.plan.regions import Edge, Item, RegionProblem, assign

RECEIVES, SENDS = "(receives)", "(sends)"
"""The items of what makes signals of words and words of signals, beside those called like signals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Regions:
    """Regions of one FPGA: of each value that comes in or is made there, and of where words come in and leave."""

    of: Mapping[str, int]
    receives: int = 0
    sends: int = 0


class _Draft:
    """The region problem of one FPGA, read off a draft of it in which all kernels are in one region.

    Kernels that compute are items; what only waits goes with the first kernel that reads it, where it is in the draft.
    """

    def __init__(self, draft: FpgaDesign, outputs: Sequence[str], graph: Graph) -> None:
        """`outputs`: signals that leave as results."""
        self.draft, self.graph = draft, graph
        self.makers = {kernel.output: kernel for kernel in draft.kernels}
        self.items: dict[str, Item] = {}
        self.kept: dict[str, Resources] = {}
        self.edges: list[tuple[str, str, int, str]] = []
        self.together: list[tuple[str, str]] = []
        self.ends: list[tuple[str, int]] = []
        self.counted: set[str] = set()
        self._read(outputs)

    def _read(self, outputs: Sequence[str]) -> None:
        draft = self.draft
        entering = [signal for signal in draft.signals if signal.name not in self.makers]
        self.receives = draft.words_in is not None
        if draft.words_in is not None:
            self._item(RECEIVES, draft.words_in_resources)
        else:
            for signal in entering:
                self._item(signal.name, Resources(), signal.first_cycle)
        for kernel in draft.kernels:
            if covered_nodes(kernel.spec):
                self._item(kernel.output, kernel.resources)
        met: set[str] = set()
        for kernel in draft.kernels:
            if covered_nodes(kernel.spec):
                for name in kernel.inputs:
                    origin, waited = self._origin(name, kernel.output)
                    self._edge(origin, kernel.output, waited)
                    if origin not in self.makers and not self.receives and origin not in met:
                        met.add(origin)
                        self.together.append((origin, kernel.output))
        if draft.words_out is not None:
            self._item(SENDS, draft.words_out_resources)
            for field in draft.words_out.fields:
                origin, waited = self._origin(field.source, SENDS)
                self._edge(origin, SENDS, waited + field.layout.span - 1)
            self.ends.append((SENDS, 0))
        for name in outputs if draft.words_out is None else ():
            origin, waited = self._origin(name, "")
            span = draft.signal[name].layout.span - 1
            self.ends.append((self._place(origin), self._since(origin) + waited + span))

    def _item(self, name: str, need: Resources, ready: int = 0) -> None:
        self.items[name], self.kept[name] = Item(need=need, ready=ready), Resources()

    def _place(self, signal: str) -> str:
        """Item that makes a signal."""
        return RECEIVES if self.receives and signal not in self.makers else signal

    def _since(self, signal: str) -> int:
        """Cycles from the start of the item that makes a signal to its first beat."""
        maker = self.makers.get(signal)
        if maker is not None:
            return maker.latency_cycles
        return self.draft.signal[signal].first_cycle if self.receives else 0

    def _edge(self, origin: str, target: str, waited: int) -> None:
        self.edges.append((origin, target, self._since(origin) + waited, origin))

    def _origin(self, signal: str, reader: str) -> tuple[str, int]:
        """Return the signal that a kernel made or that came in, and the cycles of what changes its layout since.

        What waits on the way is counted for the reader, once.
        """
        cycles = 0
        while (kernel := self._waiting(signal)) is not None:
            if not isinstance(kernel.spec, Delay):
                cycles += kernel.latency_cycles
            if kernel.name not in self.counted:
                self.counted.add(kernel.name)
                self.kept[reader or self._place(self._first(kernel.inputs[0]))] += kernel.resources
            signal = kernel.inputs[0]
        return signal, cycles

    def _first(self, signal: str) -> str:
        while (kernel := self._waiting(signal)) is not None:
            signal = kernel.inputs[0]
        return signal

    def _waiting(self, signal: str) -> KernelInstance | None:
        kernel = self.makers.get(signal)
        return kernel if kernel is not None and not covered_nodes(kernel.spec) else None

    def problems(
        self, budgets: tuple[Resources, ...], crossing_cycles: int, lines: int | None, fixed: Mapping[str, int]
    ) -> Iterator[RegionProblem]:
        """Yield the problem with all that is known, and the one of the kernels alone."""
        order = {name: k for k, name in enumerate(self.items)}
        edges = tuple(
            Edge(source=order[self._place(s)], target=order[t], cycles=cycles, net=net, bits=self._bits(net))
            for s, t, cycles, net in self.edges
        )
        for whole in (True, False):
            items = (
                Item(need=item.need + self.kept[name] if whole else self._least(name), ready=item.ready)
                for name, item in self.items.items()
            )
            yield RegionProblem(
                items=tuple(items),
                edges=edges,
                together=tuple((order[a], order[b]) for a, b in self.together),
                ends=tuple((order[name], cycles) for name, cycles in self.ends),
                fixed=tuple((order[name], region) for name, region in fixed.items() if name in order),
                budgets=budgets,
                crossing_cycles=crossing_cycles,
                lines=lines,
            )

    def _bits(self, signal: str) -> int:
        found = self.draft.signal[signal]
        return wire_format(self.graph.type_of(found.value), found.layout).width

    def _least(self, name: str) -> Resources:
        return self.makers[name].resources if name in self.makers else Resources()

    def regions(self, found: Sequence[int]) -> Regions:
        """Return the assignment in names of values."""
        by_name = dict(zip(self.items, found, strict=True))
        receives, sends = by_name.pop(RECEIVES, 0), by_name.pop(SENDS, 0)
        signals = self.draft.signal
        of = {signals[name].value: region for name, region in by_name.items()}
        if self.receives:
            of |= {s.value: receives for s in self.draft.signals if s.name not in self.makers}
        return Regions(of=of, receives=receives, sends=sends)


def one_region(fpga: FpgaDesign, region: int) -> Regions:
    """Return the floorplan with everything in one region."""
    return Regions(of={signal.value: region for signal in fpga.signals}, receives=region, sends=region)


def floorplan(
    draft: FpgaDesign,
    outputs: Sequence[str],
    graph: Graph,
    budgets: tuple[Resources, ...],
    crossing_cycles: int,
    lines: int | None,
    fixed: Mapping[str, int],
) -> Regions | None:
    """Return where everything on an FPGA goes, None where budgets and lines of its regions cannot be kept.

    Where what waits and the link ends do not fit as they are in the draft, the kernels alone are assigned: the caller
    sees what is over then. `outputs`: signals that leave as results. `fixed`: regions of the link ends, `RECEIVES` and
    `SENDS`, where they are given.
    """
    read = _Draft(draft, outputs, graph)
    for problem in read.problems(budgets, crossing_cycles, lines, fixed):
        found = assign(problem)
        if found is not None:
            return read.regions(found)
    return None
