"""Growing an integer graph while it runs: every value added is also computed for the calibration events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from metronn.events.codes import decode
from metronn.ir.arrays import Array, IntArray
from metronn.ir.graph import GraphBuilder, Node
from metronn.ir.infer import aligned_bounds
from metronn.ir.ops import Constant, Op, Overflow, Requantize
from metronn.ir.types import Range, TensorType
from metronn.model.graph import Floats
from metronn.quantize.calibrated.calibration import CodeValues, chunks
from metronn.quantize.calibrated.fixed import Rounded


@dataclass(slots=True)
class Emitter:
    """A GraphBuilder that knows the codes of every value on the calibration events (`inputs`: codes by name)."""

    inputs: dict[str, Array] = field(default_factory=dict)
    builder: GraphBuilder = field(default_factory=GraphBuilder)
    codes: CodeValues = field(default_factory=CodeValues)
    constants: dict[tuple[IntArray, int], str] = field(default_factory=dict)

    @property
    def nodes(self) -> Mapping[str, Node]:
        """Nodes by name."""
        return self.codes.nodes

    def add(self, op: Op, name: str, source: str) -> str:
        """Append a node and compute it; returns its name."""
        unique = self.builder.add(op, name, source)
        self.codes.add(self.builder.nodes[-1], self.inputs)
        return unique

    def constant(self, rounded: Rounded, name: str, source: str) -> str:
        """Append a constant unless the same one is there already."""
        key = (IntArray.of(rounded.codes), rounded.frac)
        if key not in self.constants:
            self.constants[key] = self.add(Constant(values=key[0], frac=rounded.frac), name, source)
        return self.constants[key]

    def type_of(self, name: str) -> TensorType:
        """Type of a value."""
        return self.nodes[name].type

    def real(self, name: str) -> Floats:
        """Values on the calibration events, as floats."""
        return decode(self.codes[name], self.type_of(name))

    def real_parts(self, name: str) -> Iterator[tuple[slice, Floats]]:
        """Values as floats, some events at a time, with the events they are of."""
        kind = self.type_of(name)
        for events in chunks(self.codes.events(name), kind.size):
            yield events, decode(self.codes.part(name, events), kind)

    def one_frac(self, x: str, name: str, source: str) -> str:
        """Bring all elements to the finest frac among them, exactly: then the lowest code stands for one value only."""
        kind = self.type_of(x)
        if isinstance(kind.range.frac, int):
            return x
        lo, hi = aligned_bounds(kind, kind.range.max_frac)
        op = Requantize(x=x, out=Range(int(lo.min()), int(hi.max()), kind.range.max_frac), overflow=Overflow.SAT)
        return self.add(op, f"{name}.in", source)
