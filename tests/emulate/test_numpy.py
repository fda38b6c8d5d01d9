"""The NumPy emulator against a per-element oracle in Python integers, and the soundness of every inferred bound."""

from __future__ import annotations

import itertools
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metronn.emulate.numpy import emulate, evaluate
from metronn.errors import ModelError
from metronn.ir.arrays import Array, IntArray, exact_array, object_array
from metronn.ir.check import check
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.infer import overflowed, round_shift
from metronn.ir.ops import (
    Add,
    Constant,
    Extremum,
    ExtremumKind,
    Input,
    Linear,
    Lookup,
    Multiply,
    Op,
    Overflow,
    Reduce,
    ReduceKind,
    Requantize,
    Rewire,
    Rounding,
)
from metronn.ir.types import Range, TensorType, spread
from random_tests import examples

STEADY = examples(60)
EVENTS = 3


@st.composite
def ranges(draw: st.DrawFn, size: int, *, max_bits: int = 70, fracs: tuple[int, int] = (-4, 6)) -> Range:
    """Draw a range: one for all elements or one for each, narrow to wider than 64 bits, any position."""
    bits = draw(st.integers(1, max_bits))
    integer = st.integers(-(2**bits), 2**bits)

    def one() -> tuple[int, int]:
        lo, hi = sorted((draw(integer), draw(integer)))
        return lo, hi

    frac = st.integers(*fracs)
    if draw(st.booleans()):
        lo, hi = one()
        return Range(lo, hi, draw(frac))
    bounds = [one() for _ in range(size)]
    mixed = draw(st.booleans())
    first = draw(frac)
    fracs_drawn = tuple(draw(frac) if mixed else first for _ in bounds)
    return Range(tuple(lo for lo, _ in bounds), tuple(hi for _, hi in bounds), fracs_drawn)


def draw_codes(draw: st.DrawFn, kind: TensorType) -> Array:
    """Draw codes within a type's bounds, the bounds themselves in the first two events."""
    events = [kind.range.los(kind.size), kind.range.his(kind.size)]
    bounds = list(zip(*events, strict=True))
    while len(events) < EVENTS:
        events.append(tuple(draw(st.integers(lo, hi)) for lo, hi in bounds))
    order = draw(st.permutations(range(EVENTS)))
    return exact_array(object_array([v for k in order for v in events[k]], (EVENTS, *kind.shape)))


def reals(codes: Array, kind: TensorType) -> Array:
    """Exact values of one event's codes, as an object array of fractions."""
    values = [
        Fraction(int(code)) / Fraction(2) ** frac
        for code, frac in zip(np.asarray(codes).ravel(), kind.range.fracs(kind.size), strict=True)
    ]
    result = np.empty(len(values), dtype=object)
    result[:] = values
    return result.reshape(kind.shape)


def oracle(op: Op, operands: list[Array], types: list[TensorType], out: TensorType) -> list[int]:
    """Compute one event element by element; returns the codes in C order."""
    if isinstance(op, Requantize):
        source = types[0].range
        fields = (source.fracs(out.size), op.out.fracs(out.size), op.out.los(out.size), op.out.his(out.size))
        return [
            overflowed(round_shift(int(code), x_frac - frac, op.rounding), lo, hi, op.overflow)
            for code, x_frac, frac, lo, hi in zip(np.asarray(operands[0]).ravel(), *fields, strict=True)
        ]
    if isinstance(op, Lookup):
        table = op.table.ints()
        return [table[int(code) - types[0].range.lowest] for code in np.asarray(operands[0]).ravel()]
    values = [reals(codes, kind) for codes, kind in zip(operands, types, strict=True)]
    result = np.empty(out.shape, dtype=object)
    for place in itertools.product(*(range(n) for n in out.shape)):
        result[place] = element(op, values, place)
    codes = [v * Fraction(2) ** frac for v, frac in zip(result.ravel(), out.range.fracs(out.size), strict=True)]
    assert all(code.denominator == 1 for code in codes), "the result is not exact at its frac"
    return [int(code) for code in codes]


def at(values: Array, place: tuple[int, ...]) -> Any:
    """Read an element of an array that broadcasts to the place's rank."""
    tail = place[len(place) - values.ndim :] if values.ndim else ()
    return values[tuple(0 if n == 1 else k for k, n in zip(tail, values.shape, strict=True))]


def element(op: Op, values: list[Array], place: tuple[int, ...]) -> Fraction:
    """One element of the result, by the formula of the op."""
    match op:
        case Constant():
            return Fraction(int(op.values.array[place])) / Fraction(2) ** op.frac
        case Rewire():
            flat = [v for x in values for v in x.ravel()]
            k = int(op.index.array.ravel()[np.ravel_multi_index(place, op.shape) if op.shape else 0])
            return Fraction(0) if k < 0 else flat[k]
        case Linear():
            row = values[0][place[:-1]]
            # The bias has the result's exponent, which is known to the caller through the type.
            column = op.weight.array[:, place[-1]]
            own = spread(op.weight_frac, op.weight.shape[1])[place[-1]]
            scales = [Fraction(2) ** -(own + frac) for frac in spread(op.input_frac, len(row))]
            return sum((v * int(w) * scale for v, w, scale in zip(row, column, scales, strict=True)), Fraction(0))
        case Add():
            x, y = at(values[0], place), at(values[1], place)
            return x - y if op.subtract else x + y
        case Multiply():
            return at(values[0], place) * at(values[1], place)
        case Extremum():
            pick = max if op.kind is ExtremumKind.MAX else min
            return pick(at(values[0], place), at(values[1], place))
        case Reduce():
            free = iter(place)
            index = tuple(slice(None) if a in op.axes else next(free) for a in range(values[0].ndim))
            picked = list(np.asarray(values[0][index], dtype=object).ravel())
            return {ReduceKind.SUM: sum, ReduceKind.MAX: max, ReduceKind.MIN: min}[op.kind](picked)
        case _:
            raise AssertionError(op)


def verify(op: Op, xs: dict[str, TensorType], codes: dict[str, Array], reads: tuple[str, ...]) -> Graph:
    """Emulate one op and compare every element of every event with the oracle and with the inferred bounds."""
    builder = GraphBuilder()
    for name, kind in xs.items():
        builder.add(Input(shape=kind.shape, range=kind.range), name)
    value = builder.add(op, "y")
    builder.output("y", value)
    graph = check(builder.build())
    out = graph.type_of("y")
    result = emulate(graph, codes)["y"]
    for event in range(EVENTS):
        expected = oracle(op, [codes[x][event] for x in reads], [xs[x] for x in reads], out)
        if isinstance(op, Linear):
            bias = np.broadcast_to(op.bias.array.astype(object), out.shape).ravel()
            expected = [code + int(b) for code, b in zip(expected, bias, strict=True)]
        codes_found = np.asarray(np.broadcast_to(result, (EVENTS, *out.shape))[event])
        found = [int(v) for v in codes_found.ravel()]
        assert found == expected
        for code, lo, hi in zip(found, out.range.los(out.size), out.range.his(out.size), strict=True):
            assert lo <= code <= hi
    return graph


def typed(draw: st.DrawFn, shape: tuple[int, ...], **limits: Any) -> TensorType:
    """Draw a type of the given shape."""
    return TensorType(shape, draw(ranges(int(np.prod(shape, dtype=int)), **limits)))


shapes = st.sampled_from([(), (1,), (3,), (2, 2), (2, 1, 3)])
BROADCASTS = [
    *(((3,), (3,)), ((2, 3), (3,)), ((3,), (2, 1)), ((), (2, 2))),
    *(((2, 3), ()), ((1,), (4,)), ((2, 1, 2), (3, 1))),
]


@STEADY
@given(st.data(), st.sampled_from(BROADCASTS), st.sampled_from(["add", "subtract", "multiply", "max", "min"]))
def test_ops_of_two(data: st.DataObject, both: tuple[tuple[int, ...], tuple[int, ...]], kind: str) -> None:
    draw = data.draw
    xs = {"a": typed(draw, both[0]), "b": typed(draw, both[1])}
    codes = {name: draw_codes(draw, t) for name, t in xs.items()}
    ops: dict[str, Op] = {
        "add": Add(x="a", y="b"),
        "subtract": Add(x="a", y="b", subtract=True),
        "multiply": Multiply(x="a", y="b"),
        "max": Extremum(x="a", y="b"),
        "min": Extremum(x="a", y="b", kind=ExtremumKind.MIN),
    }
    verify(ops[kind], xs, codes, ("a", "b"))


@examples(100)
@given(st.data(), st.sampled_from(Rounding), st.sampled_from(Overflow), shapes)
def test_requantize(data: st.DataObject, rounding: Rounding, overflow: Overflow, shape: tuple[int, ...]) -> None:
    draw = data.draw
    kind = typed(draw, shape)
    out = draw(legal_targets(kind.size, overflow))
    op = Requantize(x="a", out=out, rounding=rounding, overflow=overflow)
    verify(op, {"a": kind}, {"a": draw_codes(draw, kind)}, ("a",))


@st.composite
def legal_targets(draw: st.DrawFn, size: int, overflow: Overflow) -> Range:
    """Draw a target that the overflow mode allows."""
    if overflow is Overflow.SAT:
        return draw(ranges(size))

    def one() -> tuple[int, int]:
        bits = draw(st.integers(1, 66))
        if overflow is Overflow.SAT_SYM:
            top = draw(st.integers(0, 2**bits))
            return (0 if draw(st.booleans()) else -top), top
        if overflow is Overflow.SAT_ZERO:
            return -draw(st.integers(0, 2**bits)), draw(st.integers(0, 2**bits))
        full = Range.fixed(bits, 0, signed=draw(st.booleans()))
        return full.lowest, full.highest

    frac = st.integers(-4, 6)
    if draw(st.booleans()):
        return Range(*one(), draw(frac))
    bounds = [one() for _ in range(size)]
    return Range(tuple(lo for lo, _ in bounds), tuple(hi for _, hi in bounds), tuple(draw(frac) for _ in bounds))


@pytest.mark.parametrize("rounding", Rounding)
@pytest.mark.parametrize("overflow", Overflow)
def test_requantize_every_code_in_every_mode(rounding: Rounding, overflow: Overflow) -> None:
    kind = TensorType((), Range(-40, 40, 3))
    codes = np.arange(-40, 41)
    out = Range(-4, 3, 0) if overflow is not Overflow.SAT_SYM else Range(-3, 3, 0)
    graph = GraphBuilder()
    graph.add(Input(shape=(), range=kind.range), "a")
    graph.output("y", graph.add(Requantize(x="a", out=out, rounding=rounding, overflow=overflow), "y"))
    result = emulate(graph.build(), {"a": codes})["y"]
    expected = [overflowed(round_shift(int(c), 3, rounding), out.lowest, out.highest, overflow) for c in codes]
    assert result.tolist() == expected


@STEADY
@given(st.data(), st.sampled_from([(1,), (4,), (2, 3)]), st.integers(1, 3), st.sampled_from([3, 12, 24, 40, 70]))
def test_linear(data: st.DataObject, shape: tuple[int, ...], outputs: int, bits: int) -> None:
    # The widths take the emulator through float32, float64, int64 and Python integers.
    draw = data.draw
    kind = typed(draw, shape, max_bits=draw(st.sampled_from([4, 20, 70])))
    integers = st.integers(-(2**bits), 2**bits)
    weight = object_array([draw(integers) for _ in range(shape[-1] * outputs)], (shape[-1], outputs))
    bias = object_array([draw(integers) for _ in range(outputs)], (outputs,))
    frac = st.integers(-2, 9)
    weight_frac = draw(st.one_of(frac, st.tuples(*[frac] * outputs)))
    fitting = st.just(tuple(1 - own for own in kind.range.fracs(kind.size)[: shape[-1]]))
    input_frac = draw(st.one_of(st.sampled_from([0, 3]), st.tuples(*[st.integers(-2, 2)] * shape[-1]), fitting))
    op = Linear(
        x="a", weight=IntArray.of(weight), bias=IntArray.of(bias), weight_frac=weight_frac, input_frac=input_frac
    )
    verify(op, {"a": kind}, {"a": draw_codes(draw, kind)}, ("a",))


@pytest.mark.parametrize("magnitude", [2**23 - 1, 2**24, 2**24 + 1, 2**52 - 1, 2**53, 2**53 + 1, 2**61, 2**62, 2**80])
def test_linear_is_exact_on_both_sides_of_each_number_format(magnitude: int) -> None:
    kind = TensorType((2,), Range(-magnitude, magnitude))
    codes = {"a": exact_array(object_array([magnitude, magnitude - 1, -magnitude, 1, 1 - magnitude, -1], (3, 2)))}
    op = Linear(x="a", weight=IntArray.of([[1, -1], [1, 1]]), bias=IntArray.of([1, -1]))
    verify(op, {"a": kind}, codes, ("a",))


@STEADY
@given(st.data(), st.sampled_from(ReduceKind), st.sampled_from([((3,), (0,)), ((2, 3), (1,)), ((2, 3, 2), (0, 2))]))
def test_reduce(data: st.DataObject, kind: ReduceKind, form: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    source = typed(data.draw, form[0])
    op = Reduce(x="a", axes=form[1], kind=kind)
    verify(op, {"a": source}, {"a": draw_codes(data.draw, source)}, ("a",))


@STEADY
@given(st.data())
def test_rewire(data: st.DataObject) -> None:
    draw = data.draw
    xs = {"a": typed(draw, (2, 2)), "b": typed(draw, (3,))}
    shape = draw(st.sampled_from([(4,), (2, 3), ()]))
    count = int(np.prod(shape, dtype=int))
    index = [draw(st.integers(-1, 6)) for _ in range(count)]
    op = Rewire(xs=("a", "b"), index=IntArray.of(np.array(index).reshape(shape)), shape=shape)
    verify(op, xs, {name: draw_codes(draw, t) for name, t in xs.items()}, ("a", "b"))


@STEADY
@given(st.data())
def test_lookup(data: st.DataObject) -> None:
    draw = data.draw
    low = draw(st.integers(-20, 20))
    kind = TensorType((3,), Range(low, low + draw(st.integers(0, 20)), draw(st.integers(-2, 4))))
    entries = [draw(st.integers(-(2**70), 2**70)) for _ in range(kind.range.highest - low + 1)]
    op = Lookup(x="a", table=IntArray.of(object_array(entries, (len(entries),))), frac=3)
    verify(op, {"a": kind}, {"a": draw_codes(draw, kind)}, ("a",))


def test_constant_broadcasts_over_events() -> None:
    builder = GraphBuilder()
    builder.add(Input(shape=(2,), range=Range(-3, 3, 1)), "a")
    builder.add(Constant(values=IntArray.of([5, -7]), frac=2), "c")
    builder.output("y", builder.add(Add(x="a", y="c"), "y"))
    assert emulate(builder.build(), {"a": np.array([[1, 2], [-3, 3]])})["y"].tolist() == [[7, -3], [-1, -1]]


@STEADY
@given(st.integers(-(2**70), 2**70), st.integers(-5, 75), st.sampled_from(Rounding))
def test_round_shift_means_its_name(value: int, shift: int, rounding: Rounding) -> None:
    exact = Fraction(value) / Fraction(2) ** shift
    floor = exact.numerator // exact.denominator
    part = exact - floor
    nearest = floor + (part > Fraction(1, 2))
    tie = part == Fraction(1, 2)
    away = floor + (exact > 0)
    expected = {
        Rounding.TRN: floor,
        Rounding.TRN_ZERO: floor + (1 if exact < 0 and part else 0),
        Rounding.RND: floor + 1 if tie else nearest,
        Rounding.RND_MIN_INF: floor if tie else nearest,
        Rounding.RND_INF: away if tie else nearest,
        Rounding.RND_ZERO: floor + (exact < 0) if tie else nearest,
        Rounding.RND_CONV: floor + (floor & 1) if tie else nearest,
    }
    assert round_shift(value, shift, rounding) == expected[rounding]


def narrow_graph() -> Graph:
    """Return a graph with one input of range -4 to 3."""
    builder = GraphBuilder()
    builder.add(Input(shape=(2,), range=Range(-4, (3, 2), 0)), "a")
    builder.output("y", builder.add(Multiply(x="a", y="a"), "square"))
    return builder.build()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({}, "input a: no data; found nothing"),
        ({"b": np.zeros((1, 2), int)}, "input a: no data; found b"),
        ({"a": np.zeros((1, 3), int)}, r"input a: shape per event is \(3,\), allowed is \(2,\)"),
        ({"a": np.zeros((1, 2))}, "input a: codes are float64, allowed are integers"),
        ({"a": np.array([[0, 0], [0, 3]])}, "input a: event 1, element 1 is 3, allowed is -4 to 2"),
        ({"a": np.array([[-5, 0]])}, "input a: event 0, element 0 is -5, allowed is -4 to 3"),
    ],
)
def test_bad_inputs_are_named(arrays: dict[str, Array], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        emulate(narrow_graph(), arrays)


def test_tap_sees_every_node_in_order() -> None:
    seen: list[str] = []
    emulate(narrow_graph(), {"a": np.array([[1, 2]])}, lambda node, codes: seen.append(f"{node.name}{codes.tolist()}"))
    assert seen == ["a[[1, 2]]", "square[[1, 4]]"]


def test_zero_events_give_zero_events() -> None:
    assert emulate(narrow_graph(), {"a": np.zeros((0, 2), int)})["y"].shape == (0, 2)


def test_evaluate_needs_only_the_operands() -> None:
    graph = narrow_graph()
    square = graph.by_name["square"]
    assert evaluate(graph, square, {"a": np.array([[3, -2]])}, {}).tolist() == [[9, 4]]
