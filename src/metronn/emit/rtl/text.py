"""Small pieces of SystemVerilog text: types, literals, extensions, module header and footer."""

from __future__ import annotations

import re
from collections.abc import Iterable

from metronn.ir.types import width_bits


def identifier(name: str) -> str:
    """Turn the name of a value into part of an identifier (dots become underscores)."""
    return re.sub(r"[^A-Za-z0-9_]", "_", name)


def logic_type(width: int, *, signed: bool) -> str:
    """Return the packed type of `width` bits, e.g. `logic signed [7:0]`."""
    return f"logic {'signed ' if signed else ''}[{width - 1}:0]"


def range_type(lo: int, hi: int) -> str:
    """Return the type that holds [lo, hi] on a wire: signed exactly when lo < 0."""
    return logic_type(width_bits(lo, hi), signed=lo < 0)


def signed_width(lo: int, hi: int) -> int:
    """Bits of the two's complement number that holds [lo, hi], the sign bit always counted."""
    return width_bits(lo, hi) + (0 if lo < 0 else 1)


def below(first: str, second: str, width: int) -> str:
    """Whether a signed number is less than another of the same width: the sign of their difference, one carry chain."""
    return f"({width + 1}'({first}) - {width + 1}'({second})) < {width + 1}'sd0"


def signed_literal(value: int, width: int) -> str:
    """Return a signed constant of `width` bits; `value` fits it.

    The most negative value is written in hexadecimal: its magnitude has no signed literal of that width.
    """
    if value == -(1 << (width - 1)):
        return f"{width}'sh{1 << (width - 1):x}"
    return f"-{width}'sd{-value}" if value < 0 else f"{width}'sd{value}"


def wire_literal(value: int, lo: int, hi: int) -> str:
    """Return a constant in the type that holds [lo, hi] on a wire."""
    width = width_bits(lo, hi)
    return signed_literal(value, width) if lo < 0 else f"{width}'d{value}"


def bits_literal(value: int, width: int) -> str:
    """Return an unsigned hexadecimal constant of `width` bits; a negative value is taken modulo 2**width."""
    return f"{width}'h{value % (1 << width):x}"


def comment(lines: Iterable[str]) -> str:
    """Return lines as a documentation comment."""
    return "".join(f"/// {line}".rstrip() + "\n" for line in lines)


def module_text(
    *,
    name: str,
    contract: Iterable[str],
    ports: Iterable[tuple[str, int]],
    output: tuple[str, int],
    body: Iterable[str],
    unused: Iterable[str] = (),
    attributes: str = "",
) -> str:
    """Return one kernel module: clk_i, rst_i, start_i, the input vectors, one output vector.

    `ports` and `output` give names and widths in bits; `body` the lines inside; `unused` the ports, or parts of
    them, that the body does not read: they are collected in a net the linter knows as unused on purpose; `attributes`
    what synthesis is told of the module, as `name = "value", ...`.
    """
    lines = ["  input  wire clk_i,", "  input  wire rst_i,       // synchronous, active high", "  input  wire start_i,"]
    lines += [f"  input  wire  [{width - 1}:0] {port}," for port, width in ports]
    lines.append(f"  output logic [{output[1] - 1}:0] {output[0]}")
    idle = list(unused)
    tail = ["", "  logic unused_inputs;", f"  assign unused_inputs = ^{{{', '.join(idle)}}};"] if idle else []
    inside = "\n".join([*body, *tail])
    header = "\n".join(lines)
    told = f"(* {attributes} *)\n" if attributes else ""
    return (
        f"{comment(contract)}`default_nettype none\n\n{told}"
        f"module {name} (\n{header}\n);\n\n{inside}\n\nendmodule\n\n`default_nettype wire\n"
    )
