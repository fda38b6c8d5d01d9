"""What a lowering decided for each layer, for the report, and which integers stand for which value."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from metronn.model.graph import FloatArray

ONE = FloatArray.of(1.0)


class Exactness(enum.Enum):
    """How a layer of the integer network stands to that of its framework."""

    EXACT = "exact"
    """Every integer is the framework's, in real arithmetic."""
    REQUANTIZED = "requantized"
    """Some constant or value had to be rounded; the note says where and how finely."""
    APPROXIMATE = "approximate"
    """The framework computes in floats on no grid; formats were chosen as in quantization after training."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A value of the network that was lowered, and the integers that stand for it.

    value = decoded code * scale, which broadcasts to the value's shape. `values` are names in the integer graph, the
    one that the next layer reads first: passes may leave only a later one. `exact`: it is the framework's value.
    """

    real: str
    values: tuple[str, ...]
    scale: FloatArray = ONE
    exact: bool = False


@dataclass(slots=True, kw_only=True)
class LayerRecord:
    """What was decided for one layer. `real` and `value` name the float and the integer value to compare.

    `scale` (None: 1) is what the decoded integer value is multiplied by for that, `offset` (None: 0) what is added.
    `exactness` is None in quantization after training; `note` says why a layer is not exact.
    """

    source: str
    kind: str
    real: str = ""
    value: str = ""
    accumulator: str = ""
    requantize: list[str] = field(default_factory=list)
    weight_bits: int | None = None
    weight_frac: int | None = None
    weights: int = 0
    weights_saturated: int = 0
    table_entries: int | None = None
    table_max_error: float | None = None
    scale: FloatArray | None = None
    offset: FloatArray | None = None
    exactness: Exactness | None = None
    note: str = ""
