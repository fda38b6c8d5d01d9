"""The fixed-point types of hls4ml configurations, and how they round floats."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar, assert_never

import numpy as np

from metronn.frontends.common.builder import LayerProblem
from metronn.ir.ops import Overflow, Rounding
from metronn.model.graph import Floats
from metronn.model.reference import round_real, wrap_real

Mode = TypeVar("Mode", Rounding, Overflow)
LARGEST_WIDTH = 64
PATTERN = re.compile(r"(?:ap_)?(u?)(fixed|int)<([^<>]*)>\Z")
AC_PATTERN = re.compile(r"ac_(fixed|int)<([^<>]*)>\Z")
ROUNDINGS = {mode.name: mode for mode in Rounding}
OVERFLOWS = {mode.name: mode for mode in Overflow}
FORMS = (
    "ap_fixed<W,I[,rounding[,overflow]]>, ap_ufixed<...>, fixed<...>, ufixed<...>, ap_int<W>, ap_uint<W>, ac_fixed<...>"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fixed:
    """`ap_fixed<width, integer, rounding, overflow>` or `ap_ufixed`: width bits, integer of them before the point."""

    width: int
    integer: int
    signed: bool = True
    rounding: Rounding = Rounding.TRN
    overflow: Overflow = Overflow.WRAP

    @property
    def frac(self) -> int:
        """Bits behind the point, negative where the lowest bit is worth more than 1."""
        return self.width - self.integer

    @property
    def codes(self) -> tuple[int, int]:
        """The lowest and the highest code."""
        return (-(1 << self.width - 1), (1 << self.width - 1) - 1) if self.signed else (0, (1 << self.width) - 1)

    def holds(self, other: Fixed) -> bool:
        """Tell whether every value of the other type is one of this."""
        low, high = (code << max(0, self.frac - other.frac) for code in other.codes)
        mine = self.codes
        return self.frac >= other.frac and mine[0] <= low and high <= mine[1]

    def converted(self, values: Floats) -> Floats:
        """Convert floats, exactly as the C++ type does with a double.

        Raises LayerProblem where one saturates at a value that has more bits than a double.
        """
        codes = round_real(np.ldexp(np.asarray(values, dtype=np.float64), self.frac), self.rounding)
        low, high = self.codes
        if self.overflow in (Overflow.SAT, Overflow.SAT_SYM) and float(high) > high and (abs(codes) > high).any():
            raise LayerProblem(f"a constant saturates in {self}, whose largest value has more bits than a double")
        match self.overflow:
            case Overflow.WRAP:
                kept = wrap_real(codes, float(low), float(high - low + 1))
            case Overflow.SAT:
                kept = np.clip(codes, low, high)
            case Overflow.SAT_ZERO:
                kept = np.where((codes < low) | (codes > high), 0.0, codes)
            case Overflow.SAT_SYM:
                kept = np.clip(codes, -high if self.signed else 0, high)
            case _:
                assert_never(self.overflow)
        return np.asarray(np.ldexp(kept, -self.frac))

    def written(self, values: Floats) -> Floats:
        """Convert weights: hls4ml writes them with as many decimals as the type has bits behind the point."""
        decimals = max(0, self.frac)
        return self.converted(
            np.array([float(f"{value:.{decimals}f}") for value in values.ravel().tolist()]).reshape(values.shape)
        )

    def __str__(self) -> str:
        """Return the type as C++ writes it."""
        modes = f",AP_{self.rounding.name},AP_{self.overflow.name}"
        plain = self.rounding is Rounding.TRN and self.overflow is Overflow.WRAP
        return f"ap_{'' if self.signed else 'u'}fixed<{self.width},{self.integer}{'' if plain else modes}>"


def parse_type(text: str) -> Fixed | None:
    """Read a type; None for `auto`. Raises ValueError saying what is wrong."""
    plain = re.sub(r"\s+", "", text)
    if plain.lower() == "auto":
        return None
    found = PATTERN.match(plain)
    if found:
        return _parse_ap(found[2] == "fixed", found[1] == "", found[3].split(","))
    found = AC_PATTERN.match(plain)
    if found:
        return _parse_ac(found[1] == "fixed", found[2].split(","))
    raise ValueError(f"found {text!r}, allowed are auto, {FORMS}")


def _parse_ap(fixed: bool, signed: bool, fields: list[str]) -> Fixed:
    numbers = 2 if fixed else 1
    if len(fields) < numbers:
        raise ValueError(f"found {','.join(fields)}, width and integer bits are needed")
    modes = fields[numbers:] if fixed else []
    if len(modes) > 2 and modes[2] != "0":
        raise ValueError(f"found {modes[2]} saturation bits, allowed is 0")
    return _fixed(fields[:numbers], signed, modes)


def _parse_ac(fixed: bool, fields: list[str]) -> Fixed:
    numbers = 2 if fixed else 1
    if len(fields) < numbers:
        raise ValueError(f"found {','.join(fields)}, width and integer bits are needed")
    signed = len(fields) <= numbers or fields[numbers].lower() not in ("false", "0")
    modes = [field.replace("AC_", "AP_") for field in fields[numbers + 1 :]]
    return _fixed(fields[:numbers], signed, modes)


def _fixed(numbers: list[str], signed: bool, modes: list[str]) -> Fixed:
    try:
        width, integer = int(numbers[0]), int(numbers[-1])
    except ValueError:
        raise ValueError(f"found {','.join(numbers)}, whole numbers of bits are needed") from None
    if not 1 <= width <= LARGEST_WIDTH:
        raise ValueError(f"found {width} bits, allowed are 1 to {LARGEST_WIDTH}")
    rounding = _mode(ROUNDINGS, modes[0] if modes else "AP_TRN", "rounding")
    overflow = _mode(OVERFLOWS, modes[1] if len(modes) > 1 else "AP_WRAP", "overflow")
    return Fixed(width=width, integer=integer, signed=signed, rounding=rounding, overflow=overflow)


def _mode(known: Mapping[str, Mode], text: str, what: str) -> Mode:
    name = text.removeprefix("AP_")
    if name not in known:
        allowed = ", ".join(f"AP_{key}" for key in known)
        raise ValueError(f"found {what} {text}, allowed are {allowed}")
    return known[name]


def product_type(x: Fixed, weight: Fixed, bias: Fixed, terms: int, most: Fixed | None) -> Fixed:
    """Return the type that hls4ml gives to accumulator and result of a dense or convolution layer left to `auto`.

    Source: hls4ml 1.3.0, model/optimizer/passes/infer_precision.py, `_infer_common_precision`.
    """
    growth = math.ceil(math.log2(terms)) if terms > 1 else 0
    width, integer = weight.width + x.width + growth, weight.integer + x.integer + growth
    return _joined(width, integer, weight.signed or x.signed, bias, most)


def affine_type(x: Fixed, scale: Fixed, bias: Fixed, most: Fixed | None) -> Fixed:
    """Return the type of x * scale + bias left to `auto` (`_infer_bn_precision`)."""
    return _joined(x.width + scale.width, x.integer + scale.integer, scale.signed or x.signed, bias, most)


def sum_type(x: Fixed, y: Fixed, most: Fixed | None, *, subtract: bool) -> Fixed:
    """Return the type of x + y or x - y left to `auto` (`_infer_merge_precision`)."""
    integer = max(x.integer + (y.signed and not x.signed), y.integer + (x.signed and not y.signed)) + 1
    width = integer + max(x.frac, y.frac)
    return _limited(width, integer, x.signed or y.signed or subtract, most)


def times_type(x: Fixed, y: Fixed, most: Fixed | None) -> Fixed:
    """Return the type of x * y left to `auto`."""
    return _limited(x.width + y.width, x.integer + y.integer, x.signed or y.signed, most)


def common_type(x: Fixed, y: Fixed) -> Fixed:
    """Return the type of the larger or smaller of both left to `auto`."""
    if x == y:
        return x
    signed = x.signed or y.signed
    integer = max(t.integer + (signed and not t.signed) for t in (x, y))
    return Fixed(width=integer + max(x.frac, y.frac), integer=integer, signed=signed)


def _joined(width: int, integer: int, signed: bool, bias: Fixed, most: Fixed | None) -> Fixed:
    frac = width - integer
    integer = max(integer + (bias.signed and not signed), bias.integer + (signed and not bias.signed)) + 1
    return _limited(integer + max(frac, bias.frac), integer, signed or bias.signed, most)


def _limited(width: int, integer: int, signed: bool, most: Fixed | None) -> Fixed:
    if most is not None:
        width, integer = min(width, most.width), min(integer, most.integer)
    return Fixed(width=width, integer=integer, signed=signed)
