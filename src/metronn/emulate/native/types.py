"""C++ types of the compiled emulator: the narrowest that a range proves enough, and integers written in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LIMB_BITS = 64
LINE_LENGTH = 116


@dataclass(frozen=True, slots=True)
class IntType:
    """An integer type of the generated C++, by its width in bits: two's complement, or unsigned below 64 bits."""

    bits: int
    signed: bool = True

    @property
    def cpp(self) -> str:
        """Name of the type in C++."""
        if self.bits <= LIMB_BITS:
            return f"std::{'' if self.signed else 'u'}int{self.bits}_t"
        return "metronn::int128" if self.bits == 2 * LIMB_BITS else f"metronn::wide<{self.bits // LIMB_BITS}>"

    @property
    def words(self) -> int:
        """64-bit words of one value at the API."""
        return max(1, self.bits // LIMB_BITS)

    @property
    def size_bytes(self) -> int:
        """Size of one value in memory."""
        return self.bits // 8

    def literals(self, values: Sequence[int]) -> list[str]:
        """Return each integer as `literal` does, quickly for long tables of small ones."""
        if self.bits < LIMB_BITS // 2:
            return [str(value) for value in values]
        return [self.literal(value) for value in values]

    def literal(self, value: int) -> str:
        """Return the integer as a C++ constant expression of this type, or as an initialiser for a wide one."""
        if self.bits < LIMB_BITS:
            return str(value) if value != -(2**31) else "-2147483647 - 1"
        if self.bits == LIMB_BITS:
            return f"{value}LL" if value != -(2**63) else "-9223372036854775807LL - 1"
        limbs = [(value >> (LIMB_BITS * index)) & (2**LIMB_BITS - 1) for index in range(self.words)]
        if self.bits == 2 * LIMB_BITS:
            return f"metronn::make128({limbs[1]:#x}ULL, {limbs[0]:#x}ULL)"
        return "{{" + ", ".join(f"{limb:#x}ULL" for limb in limbs) + "}}"


def signed_bits(values: Iterable[int]) -> int:
    """Bits of two's complement that hold every one of the integers."""
    return max(((value if value >= 0 else -value - 1).bit_length() for value in values), default=0) + 1


def type_for(*values: int, least: int = 32) -> IntType:
    """Return the narrowest type of at least `least` bits that holds all the integers.

    Beyond 256 bits widths go in steps of 256, so that a graph does not need many different templates.
    """
    needed = signed_bits(values)
    for bits in (8, 16, 32, 64, 128, 192, 256):
        if bits >= max(needed, least):
            return IntType(bits)
    return IntType(-(-needed // 256) * 256)


def storage_type(lo: int, hi: int) -> IntType:
    """Return the narrowest type that holds every integer of an interval: unsigned for bytes that need it."""
    return IntType(8, signed=False) if lo >= 0 and 128 <= hi < 256 else type_for(lo, hi, least=8)


def port_type(lo: int, hi: int) -> IntType:
    """Type in which a port's codes travel: one 64-bit word where they fit, else as many as they need."""
    return IntType(-(-signed_bits((lo, hi)) // LIMB_BITS) * LIMB_BITS)


def wrapped(words: Sequence[str], indent: str = "    ") -> str:
    """Comma-separated words, as many to a line as the longest allows."""
    per_line = max(1, (LINE_LENGTH - len(indent)) // (max(map(len, words), default=0) + 2))
    lines = (", ".join(words[start : start + per_line]) for start in range(0, len(words), per_line))
    return ",\n".join(indent + line for line in lines) + ","
