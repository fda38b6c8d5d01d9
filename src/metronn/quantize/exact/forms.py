"""How a real value stands in the integer graph, and why it is not exactly the framework's where it is not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from metronn.model.graph import FloatArray, RealNode
from metronn.quantize.exact.chains import Chains


@dataclass(frozen=True, slots=True)
class Reason:
    """Something that was rounded or approximated: the value and layer where, and what was done."""

    value: str
    source: str
    what: str

    @staticmethod
    def at(node: RealNode, what: str) -> Reason:
        """Return the reason for what is done while a node is lowered."""
        return Reason(node.name, node.source, what)

    def within(self, source: str) -> str:
        """Return what was done, for a reader who looks at a layer."""
        return self.what if self.source == source else f"{self.source}: {self.what}"


Reasons = tuple[Reason, ...]
EXACT: Reasons = ()
"""No reason: given the codes of the inputs, a value is the framework's in real arithmetic."""


def together(*several: Reasons) -> Reasons:
    """Return the reasons of what is made of several values, each once, in order."""
    return tuple(dict.fromkeys(reason for reasons in several for reason in reasons))


@dataclass(frozen=True, slots=True, eq=False)
class Second:
    """The second operand of a sum that is still to be made: its IR value, and the ratio of its scale to the first's."""

    value: str
    ratios: npt.NDArray[np.object_]


@dataclass(frozen=True, slots=True, eq=False)
class Form:
    """A real value as an IR value and what is still to be done to its elements: real = chain(code * 2**-frac).

    `inexact` tells why that is not the framework's value: the reasons of all it was made of and its own; none where it
    is exact. With a `second` the chains begin with the sum of value and ratio * second.
    """

    value: str
    chains: Chains
    inexact: Reasons
    second: Second | None = None

    @property
    def exact(self) -> bool:
        """Whether it is the framework's value."""
        return not self.inexact

    @property
    def scale(self) -> FloatArray | None:
        """What the decoded codes are multiplied by to be compared with the framework's; None where that is not all."""
        if self.second is not None or not self.chains.pure:
            return None
        return FloatArray.of(self.chains.scale_array)

    def because(self, *reasons: Reason) -> Form:
        """Return the form with reasons of its own added."""
        return replace(self, inexact=together(self.inexact, reasons))

    def own(self, *inherited: Reasons) -> Reasons:
        """Return the reasons that are not among those of what it was made of."""
        known = set(together(*inherited))
        return tuple(reason for reason in self.inexact if reason not in known)
