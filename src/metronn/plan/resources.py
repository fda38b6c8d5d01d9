"""Amounts of FPGA resources: what a kernel costs, what an FPGA offers, and how the two compare."""

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """A count of each resource of an FPGA.

    `lut`: look-up tables; `ff`: flip-flops; `dsp`: DSP blocks; `bram36`: block RAM in units of 36 Kb (half
    a unit is one 18 Kb block); `uram`: UltraRAM blocks of 288 Kb.
    """

    lut: int = 0
    ff: int = 0
    dsp: int = 0
    bram36: float = 0.0
    uram: int = 0

    def __add__(self, other: "Resources") -> "Resources":
        """Add resource by resource."""
        return Resources(
            lut=self.lut + other.lut,
            ff=self.ff + other.ff,
            dsp=self.dsp + other.dsp,
            bram36=self.bram36 + other.bram36,
            uram=self.uram + other.uram,
        )

    def scaled(self, factor: float) -> "Resources":
        """Multiply by `factor`, each resource rounded down to a whole block (`bram36` to half a unit)."""
        return Resources(
            lut=_floor(self.lut * factor),
            ff=_floor(self.ff * factor),
            dsp=_floor(self.dsp * factor),
            bram36=_floor(2 * self.bram36 * factor) / 2,
            uram=_floor(self.uram * factor),
        )

    def exceeds(self, budget: "Resources") -> tuple[str, ...]:
        """Name the resources of which more is needed here than `budget` has; empty when it fits."""
        return tuple(name for name in RESOURCE_NAMES if getattr(self, name) > getattr(budget, name))

    def fits(self, budget: "Resources") -> bool:
        """Tell whether no resource exceeds `budget`."""
        return not self.exceeds(budget)

    def utilisation(self, budget: "Resources") -> dict[str, float]:
        """Divide need by budget, by resource name; 0 where nothing is needed, infinity where none exists."""
        return {name: _ratio(getattr(self, name), getattr(budget, name)) for name in RESOURCE_NAMES}

    def worst_utilisation(self, budget: "Resources") -> tuple[str, float]:
        """Return the resource that binds first and its need divided by its budget."""
        ratios = self.utilisation(budget)
        name = max(RESOURCE_NAMES, key=lambda candidate: ratios[candidate])
        return name, ratios[name]

    def as_dict(self) -> dict[str, float]:
        """Return the counts by resource name, in the order of the fields."""
        return {name: getattr(self, name) for name in RESOURCE_NAMES}


RESOURCE_NAMES: tuple[str, ...] = tuple(field.name for field in fields(Resources))
"""Names of the resources, in the order in which they are reported."""


def _floor(value: float) -> int:
    """Round down, forgiving the last bit of a product such as 10 * 0.7 = 6.999999999999999."""
    return math.floor(value + 1e-9 * max(1.0, abs(value)))


def _ratio(need: float, have: float) -> float:
    if need == 0:
        return 0.0
    return need / have if have else math.inf
