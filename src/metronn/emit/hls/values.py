"""Integers in C++: types of exact width, literals, stored arrays, and functions of an index."""

from __future__ import annotations

from collections.abc import Sequence

from metronn.errors import ModelError
from metronn.ir.names import comment_name
from metronn.ir.types import TensorType, width_bits

LINE = 110
MAX_WIDTH_BITS = 4096
"""What `metronn/platform_vitis.hpp` allows; the vendor's own limit is 32768."""


def integer_type(lo: int, hi: int, where: str) -> str:
    """Return the C++ type that holds every integer in [lo, hi]. Raises ModelError when it would be too wide."""
    width = width_bits(lo, hi)
    if width > MAX_WIDTH_BITS:
        raise ModelError(
            f"{where}: a value needs {width} bits, allowed in HLS are {MAX_WIDTH_BITS}; "
            "requantize to fewer bits before it"
        )
    return f"metronn::{'sint' if lo < 0 else 'uint'}<{width}>"


def type_comment(t: TensorType) -> str:
    """Shape, format, bounds and the worth of a step, for a reader."""
    shape = "x".join(str(n) for n in t.shape) or "scalar"
    r = t.range
    frac = f"2^{-r.frac}" if isinstance(r.frac, int) else f"2^{-min(r.frac)} .. 2^{-max(r.frac)} by element"
    bounds = "" if r.width_bits > 63 else f", codes {r.lowest} .. {r.highest}"
    return f"{shape}{bounds}, step {frac}"


def type_line(name: str, t: TensorType, where: str) -> str:
    """Define the type of a value's codes."""
    return f"typedef {integer_type(t.range.lowest, t.range.highest, where)} {name}_t;  // {type_comment(t)}\n"


def guard(project: str, stem: str, body: str) -> str:
    """Return a header: the body inside the include guard of its own name."""
    macro = f"{project}_{stem}_HPP".upper()
    return f"#ifndef {macro}\n#define {macro}\n\n{body}\n#endif\n"


def constants_header(project: str, name: str, source: str, stored: Sequence[str]) -> str:
    """Return the header with the stored arrays of one call."""
    body = '#include <cstdint>\n\n#include "../metronn/constant.hpp"\n\n'
    return f"// Constants of {comment_name(source)}.\n" + guard(project, f"weights_{name}", body + "\n".join(stored))


def stored_type(lo: int, hi: int) -> str:
    """Return the C++ type in which constants of [lo, hi] are stored; see `metronn/constant.hpp`."""
    width = width_bits(lo, hi) + (lo >= 0)
    for native in (8, 16, 32, 64):
        if width <= native:
            return f"std::int{native}_t"
    return f"metronn::limbs<{(width + 63) // 64}>"


def stored_bits(lo: int, hi: int) -> int:
    """Bits that a stored constant of [lo, hi] takes."""
    kind = stored_type(lo, hi)
    number = int("".join(c for c in kind.removeprefix("std::").removeprefix("metronn::") if c.isdigit()))
    return 64 * number if kind.startswith("metronn") else number


def stored_literal(value: int, kind: str) -> str:
    """Return one constant of a stored type."""
    if not kind.startswith("metronn::limbs"):
        # the lowest 64-bit integer has no literal of its own
        return str(value) if value != -(2**63) else "-9223372036854775807 - 1"
    count = int(kind[kind.index("<") + 1 : -1])
    words = (f"0x{(value >> (64 * k)) & (2**64 - 1):x}u" for k in range(count))
    return "{{" + ", ".join(words) + "}}"


def literal(value: int) -> str:
    """Return an integer of any size as an expression."""
    kind = stored_type(value, value)
    text = stored_literal(value, kind)
    return f"{kind}{text}" if kind.startswith("metronn") else text


def wrapped(items: Sequence[str], indent: str) -> list[str]:
    """Comma-separated items in lines of at most `LINE` characters."""
    lines: list[str] = []
    current = indent
    for position, item in enumerate(items):
        piece = item + ("," if position + 1 < len(items) else "")
        if current != indent and len(current) + 1 + len(piece) > LINE:
            lines.append(current)
            current = indent
        current += piece if current == indent else f" {piece}"
    return [*lines, current]


def stored_array(name: str, values: Sequence[int]) -> str:
    """Define a constant array."""
    kind = stored_type(min(values), max(values))
    body = wrapped([stored_literal(v, kind) for v in values], "  ")
    return "\n".join([f"constexpr {kind} {name}[{len(values)}] = {{", *body, "};"]) + "\n"


def stored_matrix(name: str, rows: Sequence[Sequence[int]]) -> str:
    """Define a constant array of two dimensions."""
    kind = stored_type(min(min(row) for row in rows), max(max(row) for row in rows))
    lines = [f"constexpr {kind} {name}[{len(rows)}][{len(rows[0])}] = {{"]
    return "\n".join([*lines, *_rows(rows, kind, "  "), "};"]) + "\n"


def stored_cube(name: str, planes: Sequence[Sequence[Sequence[int]]]) -> str:
    """Define a constant array of three dimensions."""
    flat = [value for rows in planes for row in rows for value in row]
    kind = stored_type(min(flat), max(flat))
    lines = [f"constexpr {kind} {name}[{len(planes)}][{len(planes[0])}][{len(planes[0][0])}] = {{"]
    for number, rows in enumerate(planes):
        lines += ["  {", *_rows(rows, kind, "    "), "  }" if number + 1 == len(planes) else "  },"]
    return "\n".join([*lines, "};"]) + "\n"


def _rows(rows: Sequence[Sequence[int]], kind: str, indent: str) -> list[str]:
    """Lines of rows in braces."""
    lines: list[str] = []
    for row in rows:
        body = wrapped([stored_literal(v, kind) for v in row], f"{indent} ")
        body[0] = f"{indent}{{" + body[0].lstrip()
        body[-1] += "},"
        lines += body
    lines[-1] = lines[-1][:-1]
    return lines


def pattern(values: Sequence[int], variable: str = "k") -> tuple[str, bool] | None:
    """Return an expression of the index that gives these values, and whether it reads the index; None if none is known.

    Known are a constant, k + c, and what broadcasting makes of k: k / m, k % m and k / m % n.
    """
    count, first = len(values), values[0]
    if all(v == first for v in values):
        return literal(first), False
    if all(v == first + k for k, v in enumerate(values)):
        return (variable, True) if first == 0 else (f"{variable} {'+' if first > 0 else '-'} {abs(first)}", True)
    if first == 0 and min(values) == 0:
        hold = next(k for k, v in enumerate(values) if v != 0)
        span = max(values) + 1
        if all(v == k // hold % span for k, v in enumerate(values)):
            text = variable if hold == 1 else f"{variable} / {hold}"
            return (text if span * hold >= count else f"{text} % {span}"), True
    return None
