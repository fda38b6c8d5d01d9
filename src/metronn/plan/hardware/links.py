"""Links: bundles of serial lanes from one FPGA to the next, their rates and latency bounds."""

import math
import re
from enum import StrEnum
from fractions import Fraction
from typing import Annotated

from pydantic import BeforeValidator, model_validator

from metronn.toml_tables import FrequencyMhz, Lanes, LineRateGbps, Table, number, plain, whole

LHC_BUNCH_CROSSINGS = 3564
BUNCH_CROSSING_MHZ = 40.0
ORBITS_MHZ = Fraction(BUNCH_CROSSING_MHZ) / LHC_BUNCH_CROSSINGS
"""Orbits of the LHC, in millions a second: what a lane needs besides a word a cycle, to say where they begin."""


class Encoding(StrEnum):
    """Line code of a serial link."""

    B64B66 = "64b66b"
    B8B10 = "8b10b"

    @property
    def efficiency(self) -> Fraction:
        """Payload bits per line bit."""
        return Fraction(64, 66) if self is Encoding.B64B66 else Fraction(8, 10)


def _encoding(value: object) -> object:
    if value not in list(Encoding):
        raise ValueError(f"must be one of {', '.join(Encoding)}, found {value!r}")
    return value


def _identifier(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(r"(?=.{1,31}$)[a-z][a-z0-9]*(_[a-z0-9]+)*", value):
        raise ValueError(
            "must be a name of 1 to 31 lower-case letters, digits and single _ between them, a letter first, "
            f"found {value!r}"
        )
    return value


Identifier = Annotated[str, BeforeValidator(_identifier)]
Nanoseconds = Annotated[float, number(0, 1_000_000)]


class LinkSettings(Table):
    """A bundle of equal lanes in one direction.

    In every clock cycle a lane carries one word of `word_width_bits` bits and `sideband_bits` beside them: none where,
    as with 64b/66b, control blocks of the line code say which words are valid and where the orbit begins. These take
    a word's place once an orbit of the LHC. `latency_min_ns` and `latency_max_ns` bound the raw latency from the
    sender's word to the receiver's elastic buffer; the release at a programmed cycle comes on top and is the plan's.
    """

    lanes: Lanes
    line_rate_gbps: LineRateGbps
    encoding: Annotated[Encoding, BeforeValidator(_encoding)] = Encoding.B64B66
    word_width_bits: Annotated[int, whole(1, 1024)] = 64
    sideband_bits: Annotated[int, whole(0, 64)] = 0
    latency_min_ns: Nanoseconds
    latency_max_ns: Nanoseconds

    @model_validator(mode="after")
    def _latency_bounds_are_ordered(self) -> "LinkSettings":
        if self.latency_min_ns > self.latency_max_ns:
            raise ValueError(
                f"latency_min_ns must not be above latency_max_ns, found {plain(self.latency_min_ns)} and "
                f"{plain(self.latency_max_ns)}"
            )
        return self

    @property
    def payload_gbps(self) -> float:
        """What one lane carries after line coding, in Gb/s."""
        return float(exact(self.line_rate_gbps) * self.encoding.efficiency)


class Link(LinkSettings):
    """A link of a system: from one FPGA to the next, with the system's clock."""

    from_fpga: Identifier
    to_fpga: Identifier
    clock_mhz: FrequencyMhz

    @property
    def latency_min_cycles(self) -> int:
        """The least raw latency in whole clock cycles: rounded down, at least 1."""
        return max(1, math.floor(_cycles(self.latency_min_ns, self.clock_mhz)))

    @property
    def latency_max_cycles(self) -> int:
        """The greatest raw latency in whole clock cycles: rounded up, at least 1."""
        return max(1, math.ceil(_cycles(self.latency_max_ns, self.clock_mhz)))

    @property
    def payload_bits_per_cycle(self) -> int:
        """Payload bits that all lanes carry together in one clock cycle."""
        return self.lanes * self.word_width_bits

    def problems(self) -> list[str]:
        """Check the word rate against the line rate: empty, or one message with the numbers."""
        bits = self.word_width_bits + self.sideband_bits
        carried = exact(self.line_rate_gbps) * self.encoding.efficiency
        need = bits * (exact(self.clock_mhz) + ORBITS_MHZ) / 1000
        if need <= carried:
            return []
        highest_mhz = math.floor((carried * 1000 / bits - ORBITS_MHZ) * 100) / 100
        return [
            f"link {self.from_fpga} -> {self.to_fpga}: {bits} bits a cycle ({self.word_width_bits} word + "
            f"{self.sideband_bits} sideband) at {plain(self.clock_mhz)} MHz and a marker an orbit need "
            f"{plain(float(round(need, 4)))} Gb/s a lane; "
            f"{plain(self.line_rate_gbps)} Gb/s with {self.encoding.value} carry {plain(float(carried))} Gb/s. "
            f"Lower the clock to {plain(highest_mhz)} MHz, narrow the word, or raise the line rate."
        ]


def exact(value: float) -> Fraction:
    """Return the decimal number a person wrote, so that 100 ns at 360 MHz are exactly 36 cycles."""
    return Fraction(str(value))


def _cycles(nanoseconds: float, clock_mhz: float) -> Fraction:
    return exact(nanoseconds) * exact(clock_mhz) / 1000
