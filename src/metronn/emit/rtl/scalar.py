"""Elementwise chains as SystemVerilog functions: the arithmetic of one element, exact at any width.

All arithmetic inside a function is signed: an unsigned argument is extended by a zero sign bit first, and each step
has a width that holds every value it can take. Sizes are written as casts, so that no tool has to guess them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import assert_never

from metronn.emit.rtl.text import below, identifier, range_type, signed_literal, signed_width
from metronn.ir.graph import Graph, Node
from metronn.ir.infer import infer, round_shift
from metronn.ir.ops import (
    Add,
    Constant,
    Extremum,
    ExtremumKind,
    Multiply,
    Overflow,
    Requantize,
    Rounding,
    operands,
)
from metronn.ir.types import Range, TensorType, width_bits
from metronn.plan.kernels.uniform import (
    ElementwiseOp,
    elementwise_op,
    node_element,
    source_element,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Argument:
    """One argument of a function: the value it stands for and the codes the caller promises."""

    value: str
    lo: int
    hi: int

    @property
    def width(self) -> int:
        """Bits of the argument."""
        return width_bits(self.lo, self.hi)

    @property
    def signed(self) -> bool:
        """Whether the argument's type is signed."""
        return self.lo < 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalarFunction:
    """A function's text (indented by two blanks, with a final newline), its name, arguments in order, and result.

    Every result lies in [result_lo, result_hi]; the return type is the wire type of that interval.
    """

    text: str
    name: str
    arguments: tuple[Argument, ...]
    result_lo: int
    result_hi: int

    @property
    def result_width(self) -> int:
        """Bits of the result."""
        return width_bits(self.result_lo, self.result_hi)

    @property
    def result_signed(self) -> bool:
        """Whether the return type is signed."""
        return self.result_lo < 0


@dataclass(slots=True)
class _Term:
    """A signed expression with exact bounds and exponent; `width` bits, enough for the bounds with a sign bit."""

    text: str
    lo: int
    hi: int
    frac: int
    width: int
    constant: bool = False


@dataclass(slots=True)
class _Body:
    """The statements of a function as they are written."""

    declarations: list[str] = field(default_factory=list)
    statements: list[str] = field(default_factory=list)
    variables: list[str] = field(default_factory=list)

    def never_read(self, arguments: Iterable[str]) -> list[str]:
        """Return the arguments and variables that no statement reads, as in front of a value of no bits."""
        read = {
            word for line in self.statements for word in re.findall(r"\w+", line.split(" = ", 1)[1].split("  //")[0])
        }
        return [name for name in (*arguments, *self.variables) if name not in read]

    def let(self, name: str, expression: str, width: int, note: str = "") -> None:
        """Declare a signed variable and assign it."""
        self.variables.append(name)
        self.declarations.append(f"    logic signed [{width - 1}:0] {name};")
        self.statements.append(f"      {name} = {expression};" + (f"  // {note}" if note else ""))


def scalar_function(
    name: str, graph: Graph, nodes: Sequence[str], element: int, arguments: Mapping[str, tuple[int, int]]
) -> ScalarFunction:
    """Write the function of one element of a chain or DAG of Add, Multiply, Extremum and Requantize nodes.

    `nodes` is in topological order, its last node the result; `element` is a flat index into that node's shape.
    `arguments` gives, for each value that enters (and in this order the arguments of the function), the code bounds
    that the caller guarantees. Constants are written into the body. With no nodes the one argument is returned.
    """
    body = _Body()
    last = nodes[-1] if nodes else next(iter(arguments))
    terms: dict[str, _Term] = {}
    for value, (lo, hi) in arguments.items():
        where = source_element(graph.type_of(last).shape, element, graph.type_of(value).shape)
        frac = graph.type_of(value).range.element(where).frac
        assert isinstance(frac, int)
        text = f"v_{identifier(value)}" if lo < 0 else f"$signed({{1'b0, v_{identifier(value)}}})"
        terms[value] = _Term(text, lo, hi, frac, signed_width(lo, hi))
    for node_name in nodes:
        node = graph.by_name[node_name]
        op = elementwise_op(node)
        for operand in operands(op):
            made_by = graph.by_name[operand].op
            if operand not in terms and isinstance(made_by, Constant):
                code = int(made_by.values.array.ravel()[node_element(graph, nodes, element, operand)])
                width = signed_width(code, code)
                terms[operand] = _Term(signed_literal(code, width), code, code, made_by.frac, width, constant=True)
        out_element = node_element(graph, nodes, element, node_name)
        made = _node(body, node, op, [terms[x] for x in operands(op)], out_element)
        if node_name == last:
            terms[node_name] = made
        else:
            variable = f"r_{identifier(node_name)}"
            final = signed_width(made.lo, made.hi)
            body.let(variable, _cut(made, final), final, node.comment)
            terms[node_name] = _Term(variable, made.lo, made.hi, made.frac, final)
    result = terms[last]
    source = f"  // {graph.by_name[last].comment}" if nodes else ""
    body.statements.append(f"      {name} = {_cut(result, width_bits(result.lo, result.hi))};{source}")
    entered = tuple(Argument(value=value, lo=lo, hi=hi) for value, (lo, hi) in arguments.items())
    idle = body.never_read(f"v_{identifier(argument.value)}" for argument in entered)
    if idle:
        body.declarations.append("    logic unused;")
        body.statements.append(f"      unused = ^{{{', '.join(idle)}}};")
    return ScalarFunction(
        text=_function_text(name, entered, result, body),
        name=name,
        arguments=entered,
        result_lo=result.lo,
        result_hi=result.hi,
    )


def _function_text(name: str, arguments: Sequence[Argument], result: _Term, body: _Body) -> str:
    ports = ", ".join(f"input {range_type(a.lo, a.hi)} v_{identifier(a.value)}" for a in arguments)
    lines = [f"  function automatic {range_type(result.lo, result.hi)} {name}({ports});"]
    lines += [*body.declarations, "    begin", *body.statements, "    end", "  endfunction"]
    return "\n".join(lines) + "\n"


def _node(body: _Body, node: Node, op: ElementwiseOp, inputs: list[_Term], element: int) -> _Term:
    """Write what one node needs and return its result as an expression, which may be wider than its bounds ask."""
    scalar_op = replace(op, out=op.out.element(element)) if isinstance(op, Requantize) else op
    types = [TensorType((), Range(term.lo, term.hi, term.frac)) for term in inputs]
    out = infer(scalar_op, types).range
    lo, hi, frac = out.lowest, out.highest, out.max_frac
    name = f"r_{identifier(node.name)}"
    match scalar_op:
        case Requantize():
            text, width = _requantized(body, name, inputs[0], scalar_op)
        case Multiply():
            width = inputs[0].width + inputs[1].width
            text = f"{_extended(inputs[0], width)} * {_extended(inputs[1], width)}"
        case Add():
            x, y = (_shifted_up(term, frac) for term in inputs)
            width = max(x.width, y.width, signed_width(lo, hi))
            text = f"{_extended(x, width)} {'-' if scalar_op.subtract else '+'} {_extended(y, width)}"
        case Extremum():
            x, y = (_shifted_up(term, frac) for term in inputs)
            if _is_zero(x) or _is_zero(y):
                text, width = _against_zero(body, name, y if _is_zero(x) else x, scalar_op.kind)
                return _Term(text, lo, hi, frac, width)
            width = max(x.width, y.width)
            first, second = _extended(x, width), _extended(y, width)
            low, high = (second, first) if scalar_op.kind is ExtremumKind.MAX else (first, second)
            text = f"({below(first, second, width)}) ? {low} : {high}"
        case _:
            assert_never(scalar_op)
    return _Term(text, lo, hi, frac, width)


def _is_zero(term: _Term) -> bool:
    return term.constant and term.lo == 0


def _against_zero(body: _Body, name: str, x: _Term, kind: ExtremumKind) -> tuple[str, int]:
    """Write max(x, 0) or min(x, 0): the sign bit decides."""
    if x.constant or x.lo >= 0 or x.hi <= 0:
        same = (x.lo >= 0) == (kind is ExtremumKind.MAX) or x.lo == x.hi == 0
        return _extended(x, x.width) if same else signed_literal(0, x.width), x.width
    text = x.text
    if not text.isidentifier():
        text = f"{name}_x"
        body.let(text, _extended(x, x.width), x.width)
    zero = signed_literal(0, x.width)
    first, second = (zero, text) if kind is ExtremumKind.MAX else (text, zero)
    return f"{text}[{x.width - 1}] ? {first} : {second}", x.width


def _cut(term: _Term, width: int) -> str:
    """Return the term sized to `width` bits: its sign copied, or bits dropped that the caller does not need."""
    if term.width == width:
        return term.text
    return f"{width}'{term.text}" if _bracketed(term.text) else f"{width}'({term.text})"


def _bracketed(text: str) -> bool:
    """Whether one pair of brackets encloses the whole expression."""
    if not (text.startswith("(") and text.endswith(")")):
        return False
    depth = 0
    for position, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0 and position < len(text) - 1:
            return False
    return True


def _extended(term: _Term, width: int) -> str:
    """Return the term with at least its own width, sign-extended to `width` bits."""
    if term.constant:
        return signed_literal(term.lo, width)
    return term.text if term.width == width else f"{width}'({term.text})"


def _shifted_up(term: _Term, frac: int) -> _Term:
    """Return the term with `frac` fraction bits, never fewer than it has."""
    shift = frac - term.frac
    if shift == 0:
        return term
    lo, hi, width = term.lo << shift, term.hi << shift, term.width + shift
    text = signed_literal(lo, width) if term.constant else f"$signed({{{term.text}, {shift}'d0}})"
    return _Term(text, lo, hi, frac, width, term.constant)


def _requantized(body: _Body, name: str, x: _Term, op: Requantize) -> tuple[str, int]:
    """Write rounding and overflow; return the last expression and its width."""
    out_lo, out_hi, out_frac = op.out.lowest, op.out.highest, op.out.max_frac
    shift = x.frac - out_frac
    rounded = _shifted_up(x, out_frac) if shift <= 0 else _rounded(body, name, x, shift, op.rounding)
    if out_lo <= rounded.lo and rounded.hi <= out_hi:
        return rounded.text, rounded.width
    wraps = op.overflow is Overflow.WRAP and out_lo < out_hi  # of no bits only the code 0 is left, as if saturated
    if shift > 0 and not wraps:
        final = signed_width(rounded.lo, rounded.hi)
        body.let(f"{name}_rounded", _cut(rounded, final), final)
        rounded = _Term(f"{name}_rounded", rounded.lo, rounded.hi, out_frac, final)
    if wraps:
        bits = width_bits(out_lo, out_hi)
        kept = _cut(rounded, bits)
        return (kept, bits) if out_lo < 0 else (f"$signed({{1'b0, {kept}}})", bits + 1)
    width = max(rounded.width, signed_width(out_lo, out_hi))
    if not rounded.text.isidentifier():
        body.let(f"{name}_scaled", _extended(rounded, width), width)
        value = f"{name}_scaled"
    else:
        value = _extended(rounded, width)
    low, high = signed_literal(out_lo, width), signed_literal(out_hi, width)
    below = low if op.overflow is not Overflow.SAT_ZERO else signed_literal(0, width)
    above = high if op.overflow is not Overflow.SAT_ZERO else signed_literal(0, width)
    text = value
    if rounded.lo < out_lo:
        text = f"({value} < {low}) ? {below} : {text}"
    if rounded.hi > out_hi:
        text = f"({value} > {high}) ? {above} : {text}"
    return text, width


def _rounded(body: _Body, name: str, x: _Term, shift: int, rounding: Rounding) -> _Term:
    """Write x * 2**-shift, shift > 0, rounded; return it as an expression in brackets, wider than its bounds ask.

    Every mode is (x + addend) >> shift; the addend depends at most on the sign of x or on the bit that becomes the
    lowest, as in `ir.infer.round_shift`.
    """
    lo, hi = round_shift(x.lo, shift, rounding), round_shift(x.hi, shift, rounding)
    width = max(signed_width(x.lo - 1, x.hi + (1 << shift)), shift + 2)
    wide, half = _extended(x, width), 1 << (shift - 1)
    if not wide.isidentifier():
        body.let(f"{name}_exact", wide, width)
        wide = f"{name}_exact"
    sign = f"{wide}[{width - 1}]"
    negative, positive = x.lo < 0, x.hi >= 0

    def by_sign(if_negative: int, otherwise: int) -> str:
        first, second = signed_literal(if_negative, width), signed_literal(otherwise, width)
        if not (negative and positive):
            return first if negative else second
        return f"({sign} ? {first} : {second})"

    match rounding:
        case Rounding.TRN:
            addend = ""
        case Rounding.TRN_ZERO:
            addend = by_sign((1 << shift) - 1, 0)
        case Rounding.RND:
            addend = signed_literal(half, width)
        case Rounding.RND_MIN_INF:
            addend = signed_literal(half - 1, width)
        case Rounding.RND_ZERO:
            addend = by_sign(half, half - 1)
        case Rounding.RND_INF:
            addend = by_sign(half - 1, half)
        case Rounding.RND_CONV:
            addend = f"({wide}[{shift}] ? {signed_literal(half, width)} : {signed_literal(half - 1, width)})"
        case _:
            assert_never(rounding)
    total = wide
    if addend:
        body.let(f"{name}_biased", f"{wide} + {addend}", width)
        total = f"{name}_biased"
    return _Term(f"({total} >>> {shift})", lo, hi, x.frac - shift, width)
