"""What is reported of the layers of a quantized network. It follows from the forms and decides nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from metronn.model.graph import RealNode
from metronn.quantize.exact.forms import Form, Reasons
from metronn.quantize.records import Exactness, LayerRecord

REMEDIES: Mapping[str, str] = {
    "input": "a quantizer on the input, or [quantize] inputs, gives another format",
    "linear": "quantized weights and activations in the framework, or [quantize] weight_bits, activation_bits and "
    "operand_bits, give others",
    "softmax": "[quantize] table_bits makes its tables finer",
    "output": "a quantizer on the output, or [quantize] output_bits, gives another format",
}
"""What changes the formats that were chosen for a kind of layer."""
OTHER_REMEDY = "scales that are powers of two in the framework, or a quantizer behind, make it exact"


@dataclass(slots=True)
class Records:
    """The records of a run, in the order in which they were made."""

    made: list[LayerRecord] = field(default_factory=list)

    def record(self, node: RealNode, kind: str, form: Form, exactness: Exactness = Exactness.EXACT) -> LayerRecord:
        """Return a new record of a value."""
        record = LayerRecord(source=node.source, kind=kind, real=node.name, exactness=exactness)
        record.value, record.scale = form.value, form.scale
        self.made.append(record)
        return record

    def tell(self, node: RealNode, form: Form, inherited: Reasons) -> None:
        """Record that a value is not exact for reasons of its own."""
        own = form.own(inherited)
        if not own:
            return
        record = next((record for record in reversed(self.made) if record.real == node.name), None)
        if record is None:
            record = self.record(node, "elementwise", form)
        if record.exactness is not Exactness.APPROXIMATE:
            record.exactness = Exactness.REQUANTIZED
        record.note = noted(own, node.source)

    @property
    def warnings(self) -> tuple[str, ...]:
        """One line for each kind of layer that is not the framework's: the layers, what was assumed, what helps."""
        layers: dict[str, tuple[str, dict[str, None]]] = {}
        for record in self.made:
            if record.exactness not in (None, Exactness.EXACT):
                remedy = REMEDIES.get(record.kind, OTHER_REMEDY)
                notes = layers.setdefault(record.source, (remedy, {}))[1]
                notes.update(dict.fromkeys(record.note.split("; ")))
        lines: dict[str, list[str]] = {}
        for source, (remedy, notes) in layers.items():
            lines.setdefault(remedy, []).append(f"{source} ({'; '.join(filter(None, notes))})")
        return tuple(f"not exact: {', '.join(found)}; {remedy}" for remedy, found in lines.items())


def noted(reasons: Reasons, source: str) -> str:
    """Return reasons as the note of a layer's record."""
    return "; ".join(dict.fromkeys(reason.within(source) for reason in reasons))
