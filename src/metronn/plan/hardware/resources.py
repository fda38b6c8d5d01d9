"""Amounts of FPGA resources: what a kernel costs, what an FPGA offers, and how the two compare."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """A count of each resource of an FPGA.

    `lut`: look-up tables; `ff`: flip-flops; `dsp`: DSP blocks; `bram36`: block RAM in units of two of the smallest
    blocks that are used by themselves (36 Kb on AMD devices, 40 Kb on Arria 10); `uram`: UltraRAM blocks of 288 Kb.
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

    def without(self, other: "Resources") -> "Resources":
        """Subtract resource by resource, down to nothing."""
        return Resources(
            lut=max(0, self.lut - other.lut),
            ff=max(0, self.ff - other.ff),
            dsp=max(0, self.dsp - other.dsp),
            bram36=max(0.0, self.bram36 - other.bram36),
            uram=max(0, self.uram - other.uram),
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


LUT_EQUIVALENTS: Mapping[str, float] = {"lut": 1.0, "ff": 0.5, "dsp": 100.0, "bram36": 300.0, "uram": 1300.0}
"""LUTs that one of each resource counts as; their sum is the one number in which designs are compared.

A slice has two flip-flops for each LUT: half a LUT. A DSP block does what 80 to 110 LUTs do when they multiply 8 by 8
bits and add the product to a sum; the share of a device it takes is 120 (KU115) to 173 (VU9P) LUTs. A memory counts as
the LUTs that come with it on the device: 307 (KU115) to 643 (VU13P) for 36 Kb of block RAM, 1,350 (VU13P) for UltraRAM.
Where they differ the lower end is taken, so that DSP blocks and memories are used rather than spared.
"""


def lut_equivalents(amount: Resources) -> float:
    """Return LUT + 0.5 FF + 100 DSP + 300 BRAM36 + 1300 URAM (`LUT_EQUIVALENTS`)."""
    return sum(LUT_EQUIVALENTS[name] * count for name, count in amount.as_dict().items())


def _floor(value: float) -> int:
    """Round down, forgiving the last bit of a product such as 10 * 0.7 = 6.999999999999999."""
    return math.floor(value + 1e-9 * max(1.0, abs(value)))


def _ratio(need: float, have: float) -> float:
    if need == 0:
        return 0.0
    return need / have if have else math.inf
