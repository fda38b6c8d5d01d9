"""The text of real graphs: every op, every float and every name parse back to the same bits."""

from __future__ import annotations

import re
import struct
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metronn.ir.arrays import IntArray
from metronn.ir.lines import TextError
from metronn.ir.ops import (
    Add,
    Extremum,
    ExtremumKind,
    Multiply,
    Overflow,
    Padding,
    Reduce,
    ReduceKind,
    Rewire,
    Rounding,
    Window,
)
from metronn.model.graph import (
    PARAMETERS,
    FloatArray,
    FunctionKind,
    RealConstant,
    RealFunction,
    RealGraph,
    RealGraphBuilder,
    RealInput,
    RealLinear,
    RealOp,
    RealQuantize,
    RealSoftmax,
)
from metronn.model.text import real_from_text, real_to_text
from metronn.passes.pipeline import prepare
from random_tests import examples

BITS = st.integers(0, 2**64 - 1).map(lambda bits: struct.unpack(">d", bits.to_bytes(8, "big"))[0])
FLOATS = BITS | st.floats(width=64) | st.sampled_from([0.0, -0.0, 1 / 3, 5e-324, 1.7976931348623157e308])
FINITE = st.floats(allow_nan=False, allow_infinity=False)
NAMES = st.text(max_size=12) | st.sampled_from(
    ['a "quoted" name # 1', "line\nbreak", "\u2028", "\x85", "%x = add(", "\ud800"]
)
KINDS = get_args(RealOp)


@st.composite
def real_graphs(draw: st.DrawFn) -> RealGraph:
    """Draw a network of any ops, over values of shape (2, 3) and what becomes of them."""
    b = RealGraphBuilder()
    values = [b.add(RealInput(shape=(2, 3), indices=draw(st.none() | st.integers(1, 9))), "x", draw(NAMES))]
    for kind in draw(st.lists(st.sampled_from(KINDS), max_size=8)):
        x = draw(st.sampled_from(values))
        values.append(b.add(drawn_op(draw, kind, x, b), draw(NAMES) or "value", draw(NAMES)))
    outputs = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
    for number, value in enumerate(outputs):
        b.output(f"y{number}", value)
    graph = b.build()
    tensors = draw(st.lists(st.tuples(NAMES, st.sampled_from(values)), max_size=3))
    sources = draw(st.just(()) | st.tuples(*[NAMES] * len(outputs)))
    return RealGraph(nodes=graph.nodes, outputs=graph.outputs, tensors=tuple(tensors), output_sources=sources)


def drawn_op(draw: st.DrawFn, kind: type, x: str, b: RealGraphBuilder) -> RealOp:
    """Draw an op of a kind that reads x."""
    shape = b.shapes[x]

    def floats(*sizes: int, of: st.SearchStrategy[float] = FLOATS) -> FloatArray:
        count = int(np.prod(sizes))
        return FloatArray.of(np.array(draw(st.lists(of, min_size=count, max_size=count))).reshape(sizes))

    positive = st.floats(min_value=1e-300, allow_infinity=False)
    if kind is RealConstant:
        return RealConstant(values=floats(*draw(st.sampled_from([(), (3,), (2, 3), (0, 3)]))))
    if kind is Rewire and np.prod(shape):
        size = draw(st.integers(0, 6))
        top = int(np.prod(shape)) - 1
        index = draw(st.lists(st.integers(-1, top), min_size=size, max_size=size))
        return Rewire(xs=(x,), index=IntArray.of(np.array(index, dtype=np.int64)), shape=(size, 1))
    if kind is Window and len(shape) == 2 and shape[0] >= 2:
        padding = draw(st.sampled_from(Padding))
        return Window(
            x=x,
            kernel=(2,),
            strides=(1,),
            dilations=(1,),
            before=(draw(st.integers(0, 2)),),
            after=(0,),
            padding=padding,
        )
    if kind is RealLinear and shape:
        step = floats(2, of=positive) if draw(st.booleans()) else None
        return RealLinear(x=x, weight=floats(shape[-1], 2), bias=floats(2), step=step)
    if kind in (Add, Multiply, Extremum):
        return draw(
            st.sampled_from(
                [Add(x=x, y=x, subtract=draw(st.booleans())), Multiply(x=x, y=x)]
                + [Extremum(x=x, y=x, kind=which) for which in ExtremumKind]
            )
        )
    if kind is Reduce and shape:
        return Reduce(x=x, axes=(len(shape) - 1,), kind=draw(st.sampled_from(ReduceKind)))
    if kind is RealSoftmax and shape:
        return RealSoftmax(x=x, axis=0)
    if kind is RealQuantize:
        bounds = st.integers(0, 2**70)
        return RealQuantize(
            x=x,
            scale=floats(of=positive),
            lo=IntArray.of(-draw(bounds)),
            hi=IntArray.of(draw(bounds)),
            rounding=draw(st.sampled_from(Rounding)),
            overflow=draw(st.sampled_from([Overflow.SAT, Overflow.SAT_SYM, Overflow.SAT_ZERO])),
        )
    function = draw(st.sampled_from(FunctionKind))
    count = draw(st.integers(0, 9)) if function is FunctionKind.TABLE else len(PARAMETERS.get(function, ()))
    count = max(count, 1) if function is FunctionKind.TABLE else count
    parameters = draw(st.lists(FINITE, min_size=count, max_size=count))
    return RealFunction(x=x, kind=function, parameters=tuple(parameters))


@examples(300)
@given(real_graphs())
def test_text_parses_back_to_the_same_network(graph: RealGraph) -> None:
    text = real_to_text(graph)
    again = real_from_text(text)
    assert again == graph
    assert real_to_text(again) == text
    parameters = [[getattr(n.op, "parameters", ()) for n in g.nodes] for g in (again, graph)]
    assert repr(parameters[0]) == repr(parameters[1])  # 0.0 is not -0.0


def every_op() -> RealGraph:
    """Return a network that holds most kinds of fields, small enough to be read."""
    b = RealGraphBuilder()
    x = b.add(RealInput(shape=(3,), indices=4), "x", 'layer, (first) # "in"')
    weight = FloatArray.of([[1 / 3, -0.0], [0.5, 0.5], [0.5, 1e-300]])
    y = b.add(RealLinear(x=x, weight=weight, bias=FloatArray.of([0, 0]), step=FloatArray.of([0.1, 1])), "dense")
    y = b.add(RealFunction(x=y, kind=FunctionKind.ELU, parameters=(0.1,)), "elu")
    y = b.add(RealQuantize(x=y, scale=FloatArray.of(0.3), lo=IntArray.of(-8), hi=IntArray.of(7)), "q")
    b.output("y", y)
    graph = b.build()
    return RealGraph(nodes=graph.nodes, outputs=graph.outputs, tensors=(("elu:0", "elu"),), output_sources=("out 1",))


TEXT = """\
metronn real graph 1
%x = input(shape=(3), indices=4) from "layer, (first) # \\"in\\""  # 3
%dense = linear(x=%x, weight=@dense:weight, bias=@dense:bias, step=@dense:step) from "dense"  # 2
%elu = function(x=%dense, kind=elu, parameters=(0.1)) from "elu"  # 2
%q = quantize(x=%elu, scale=@q:scale, lo=@q:lo, hi=@q:hi, rounding=RND_CONV, overflow=SAT) from "q"  # 2
output y = %q from "out 1"
tensor "elu:0" = %elu
@dense:weight = [3x2] 0.3333333333333333 -0.0 0.5*3 1e-300
@dense:bias = [2] 0.0 0.0
@dense:step = [2] 0.1 1.0
@q:scale = [] 0.3
@q:lo = [] -8
@q:hi = [] 7
"""


def test_the_text_can_be_read() -> None:
    assert real_to_text(every_op()) == TEXT
    assert real_from_text(TEXT) == every_op()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("real graph 1", "graph 1", "line 1: found 'metronn graph 1', a graph starts with 'metronn real graph 1'"),
        ("function(", "sum(", "line 4: unknown op 'sum'; known are add, constant, extremum, function, input, linear,"),
        ("kind=elu, ", "", "line 4: function lacks kind"),
        ("kind=elu", "kind=abc", "line 4: 'abc' is not a valid FunctionKind"),
        ("(0.1)", "(0.1 0.2)", "line 4: elu has parameters (0.1, 0.2), finite ones needed: alpha"),
        ("(0.1)", "(one)", "line 4: could not convert string to float: 'one'"),
        ("x=%dense", "x=%lost", "line 4: no node above is called lost"),
        ("%elu = function", "%dense = function", "line 4: the name dense is used twice"),
        ("y = %q", "y = %r", "line 6: no node above is called r"),
        ('"elu:0" = %elu', '"elu:0" = %no', "line 7: no node above is called no"),
        ("[3x2]", "[3x3]", "line 8: cannot reshape array of size 6 into shape (3,3)"),
        ("-0.0 0.5", "nan:12 0.5", "line 8: nan:12: 16 hex digits needed"),
        ("@q:lo = [] -8", "@q:lo = [] -8.5", "line 12: invalid literal for int() with base 10: '-8.5'"),
        ("@q:lo =", "@q:low =", "line 5: 'q:lo'"),
        ("tensor", "tensors", "line 7: neither a node, an output nor a constant"),
        ("tensor", "output z = %q\ntensor", "line 7: some outputs have a source, others have none"),
    ],
)
def test_bad_text_names_the_line(old: str, new: str, message: str) -> None:
    assert TEXT.count(old) == 1 or old in ("tensor", "function(")
    with pytest.raises(TextError, match=re.escape(message)):
        real_from_text(TEXT.replace(old, new, 1))


def test_a_network_read_from_its_text_is_prepared_alike() -> None:
    graph = every_op()
    assert prepare(real_from_text(real_to_text(graph))) == prepare(graph)
    assert real_to_text(prepare(real_from_text(TEXT))) == real_to_text(prepare(graph))
