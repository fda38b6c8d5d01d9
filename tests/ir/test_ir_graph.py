"""Type rules, checks and the text form: every message, every op there and back."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metronn.emulate.numpy import emulate
from metronn.ir.arrays import IntArray, object_array
from metronn.ir.check import check, problems
from metronn.ir.graph import Graph, GraphBuilder, Node, Output
from metronn.ir.infer import TypeRuleError, infer
from metronn.ir.names import LONGEST_IDENTIFIER, free_name, sanitized
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
    Padding,
    Reduce,
    ReduceKind,
    Requantize,
    Rewire,
    Rounding,
    Window,
    is_elementwise,
    op_name,
    operands,
    with_operands,
)
from metronn.ir.text import TextError, from_text, graph_hash, to_text
from metronn.ir.types import Range, TensorType
from random_tests import examples

STEADY = examples(60)
THREE = TensorType((3,), Range((-4, 0, 1), (3, 7, 9), (0, 1, 0)))


def every_op() -> Graph:
    """Return a graph that holds every op."""
    b = GraphBuilder()
    x = b.add(Input(shape=(3,), range=THREE.range), "x", 'layer, (first) # "in"')
    c = b.add(Constant(values=IntArray.of(object_array([2**70, -1, 0], (3,))), frac=-2), "c")
    y = b.add(Rewire(xs=(x, c), index=IntArray.of([[0, -1, 5], [1, 1, 2]]), shape=(2, 3)), "moved")
    y = b.add(Requantize(x=y, out=Range((-8,) * 6, (7, 7, 7, 7, 7, 3), (1, 1, 1, 0, 0, 2)), overflow=Overflow.SAT), "q")
    scaled = Linear(
        x=y, weight=IntArray.of([[1, -2]] * 3), bias=IntArray.of([5, 0]), weight_frac=(3, -2), input_frac=(1, 1, 0)
    )
    y = b.add(scaled, "dense")
    y = b.add(Extremum(x=y, y=b.add(Constant(values=IntArray.of(0)), "zero")), "relu")
    y = b.add(Extremum(x=y, y=b.add(Constant(values=IntArray.of(6)), "six"), kind=ExtremumKind.MIN), "six_relu")
    y = b.add(Requantize(x=y, out=Range.fixed(4, 1, signed=False), rounding=Rounding.RND_CONV), "narrow")
    codes = b.types[y].range
    y = b.add(Lookup(x=y, table=IntArray.of(np.arange(codes.highest - codes.lowest + 1) ** 2), frac=4), "t")
    y = b.add(Multiply(x=y, y=y), "square")
    total = b.add(Reduce(x=y, axes=(0, 1)), "total")
    largest = b.add(Reduce(x=y, axes=(1,), kind=ReduceKind.MAX), "largest")
    b.output("first", b.add(Add(x=largest, y=total, subtract=True), "difference"))
    b.output("x", x)
    return check(b.build())


def test_text_parses_back_to_the_same_graph() -> None:
    graph = every_op()
    text = to_text(graph)
    again = from_text(text)
    assert again == graph
    assert to_text(again) == text
    assert graph_hash(again) == graph_hash(graph)
    codes = {"x": np.array([[-4, 7, 1], [3, 0, 9]])}
    assert {k: v.tolist() for k, v in emulate(graph, codes).items()} == {
        k: v.tolist() for k, v in emulate(again, codes).items()
    }


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("", "line 1: found 'nothing', a graph starts with 'metronn graph 1'"),
        ("metronn graph 2\n", "line 1: found 'metronn graph 2'"),
        ("metronn graph 1\nhello\n", "line 2: neither a node, an output nor a constant"),
        ('metronn graph 1\n%x = conv(x=%y) from "x"  # \n', "line 2: unknown op 'conv'; known are add, constant"),
        ('metronn graph 1\n%x = input(shape=(3)) from "x"  # \n', "line 2: input lacks range"),
        ('metronn graph 1\n%x = input(size=(3)) from "x"  # \n', "line 2: input has no field 'size'"),
        ('metronn graph 1\n%a = add(x=%u, y=%v, subtract=False) from "a"  # \n', "line 2: 'u'"),
        ("metronn graph 1\n@a:values = 3 4\n", "line 2: not a constant"),
        ("metronn graph 1\n@a:values = [3] 1 2\n", "line 2: cannot reshape"),
        ('metronn graph 1\n%x = input(shape=(1), range=range[3 : 1 : 0]) from "x"  # \n', "line 2: Range is empty"),
    ],
)
def test_bad_text_names_the_line(broken: str, message: str) -> None:
    with pytest.raises(TextError, match=re.escape(message)):
        from_text(broken)


def test_scales_of_a_matrix_in_text() -> None:
    builder = GraphBuilder()
    x = builder.add(Input(shape=(4,), range=Range(0, 1, (0, 1, 1, 1))), "x")
    weight, bias = IntArray.of([[1, 2, 3, 4]] * 4), IntArray.of([0] * 4)
    builder.add(Linear(x=x, weight=weight, bias=bias, weight_frac=(2, 2, 2, 2)), "plain")
    builder.add(Linear(x=x, weight=weight, bias=bias, weight_frac=(2, 0, 0, 0), input_frac=(1, 0, 0, 0)), "scaled")
    builder.output("y", "scaled")
    graph = builder.build()
    text = to_text(graph)
    assert from_text(text) == graph
    assert "bias=@plain:bias, weight_frac=2) from" in text
    assert "bias=@scaled:bias, weight_frac=(2 0*3), input_frac=(1 0 0 0)) from" in text.replace("0*3))", "0 0 0))")
    assert graph.type_of("plain").range.frac == 3
    assert graph.type_of("scaled").range.frac == (3, 1, 1, 1)


def test_exponents_by_channel_stay_exponents_by_channel() -> None:
    builder = GraphBuilder()
    x = builder.add(Input(shape=(3, 2), range=Range(-4, 3, (0, 5) * 3)), "x")
    window = Window(x=x, kernel=(2,), strides=(2,), dilations=(1,), before=(1,), after=(0,), padding=Padding.LOWEST)
    builder.add(window, "windows")
    builder.add(Rewire(xs=(x,), index=IntArray.of([-1, -1, 0, 1, -1, -1]), shape=(3, 2)), "padded")
    builder.add(Reduce(x=x, axes=(0,)), "pool")
    builder.add(Reduce(x=x, axes=(0, 1)), "all")
    builder.output("y", "all")
    graph = check(builder.build())
    assert graph.type_of("windows").range.frac == (0, 5) * 4
    assert graph.type_of("padded").range.frac == (0, 5) * 3
    assert graph.type_of("pool").range == Range(-12, 9, (0, 5))
    assert graph.type_of("all").range == Range(-12 * 32 - 12, 9 * 32 + 9, 5)


def test_a_name_used_twice_in_text() -> None:
    line = '%x = input(shape=(1), range=range[0 : 1 : 0]) from "x"  # \n'
    with pytest.raises(TextError, match="line 3: the name x is used twice"):
        from_text("metronn graph 1\n" + line + line)


@pytest.mark.parametrize(
    ("op", "types", "message"),
    [
        (Rewire(xs=("a",), index=IntArray.of([0, 3]), shape=(2,)), [THREE], "index goes from 0 to 3, allowed is -1 to"),
        (Rewire(xs=("a",), index=IntArray.of([0]), shape=(2,)), [THREE], "index has 1 entries, shape (2,) needs 2"),
        (
            Linear(x="a", weight=IntArray.of([[1], [2]]), bias=IntArray.of([0])),
            [THREE],
            "weight has shape (2, 1), the input's last axis is 3",
        ),
        (
            Linear(x="a", weight=IntArray.of([[1]] * 3), bias=IntArray.of([0, 1])),
            [THREE],
            "bias has shape (2,), allowed is (1,)",
        ),
        (
            Linear(x="a", weight=IntArray.of([[1]]), bias=IntArray.of([0])),
            [TensorType((), Range(0, 1))],
            "the input is a scalar, a last axis is needed",
        ),
        (
            Linear(x="a", weight=IntArray.of([[1]] * 3), bias=IntArray.of([0]), input_frac=(1, 2)),
            [THREE],
            "input_frac has 2 entries, allowed are one for all or 3",
        ),
        (
            Linear(x="a", weight=IntArray.of([[1]] * 3), bias=IntArray.of([0]), weight_frac=(1, 2)),
            [THREE],
            "weight_frac has 2 entries, allowed are one for all or 1",
        ),
        (
            Window(x="a", kernel=(1,), strides=(1,), dilations=(1,), before=(0,), after=(0,), padding=Padding.LOWEST),
            [TensorType((3, 1), THREE.range)],
            "padding with the lowest code needs one frac for all elements of a channel",
        ),
        (Add(x="a", y="b"), [THREE, TensorType((2,), Range(0, 1))], "shapes (3,) and (2,) do not broadcast"),
        (Reduce(x="a", axes=(1,)), [THREE], "axes (1,) are not distinct axes of shape (3,) (0 to 0)"),
        (Reduce(x="a", axes=()), [THREE], "axes () are not distinct axes"),
        (Requantize(x="a", out=Range(0, 5)), [THREE], "WRAP needs a full 2^n range, got [0, 5]"),
        (Requantize(x="a", out=Range(0, 5, (0, 1))), [THREE], "out describes 2 elements, the input has 3"),
        (Requantize(x="a", out=Range(-4, 3), overflow=Overflow.SAT_SYM), [THREE], "SAT_SYM needs lo = -hi or lo = 0"),
        (Requantize(x="a", out=Range(1, 3), overflow=Overflow.SAT_ZERO), [THREE], "SAT_ZERO needs 0 in the range"),
        (Lookup(x="a", table=IntArray.of([1])), [THREE], "the input needs one frac for all elements"),
        (
            Lookup(x="a", table=IntArray.of([1])),
            [TensorType((3,), Range(-1, 2))],
            "table has shape (1,), codes -1..2 need (4,)",
        ),
    ],
)
def test_type_rules_say_what_does_not_fit(op: Op, types: list[TensorType], message: str) -> None:
    with pytest.raises(TypeRuleError, match=re.escape(message)):
        infer(op, types)


def test_check_reports_every_broken_rule() -> None:
    graph = every_op()
    wrong = replace(graph.by_name["square"], type=TensorType((2, 2), Range(0, 1)))
    unknown = Node(name="lost", op=Add(x="nowhere", y="x"), type=THREE, source="lost")
    odd = Node(name="a b", op=Input(shape=(3,), range=THREE.range), type=THREE, source="odd")
    nodes = tuple(wrong if node.name == "square" else node for node in graph.nodes)
    broken = Graph(
        nodes=(*nodes, unknown, odd, odd),
        outputs=(*graph.outputs, Output(name="x", value="x"), Output(name="z", value="gone")),
    )
    found = "\n".join(problems(broken))
    for text in (
        "square: type is 2x2 x u1.0, the op gives 2x2 x",
        "lost: reads nowhere, defined nowhere before it",
        "'a b': a name holds letters, digits",
        "a b: the name is used twice",
        "output x: the name is used twice",
        "output z: shows gone, which no node defines",
    ):
        assert text in found
    with pytest.raises(ValueError, match="the graph breaks the rules of the IR"):
        check(broken)
    assert problems(Graph(nodes=(), outputs=())) == ("the graph has no input", "the graph has no output")


def test_names_of_layers_become_identifiers() -> None:
    names = {"a/b:0": "a.b_0", "3x": "v3x", "..": "value", "dense 1": "dense_1", "a//b": "a.b"}
    assert {name: sanitized(name) for name in names} == names
    builder = GraphBuilder()
    taken = [builder.add(Input(shape=(1,), range=Range(0, 1)), "x") for _ in range(3)]
    assert taken == ["x", "x_2", "x_3"]


def test_uses_and_inputs() -> None:
    graph = every_op()
    assert graph.uses["t"] == ("square",)
    assert graph.uses["square"] == ("total", "largest")
    assert [node.name for node in graph.inputs] == ["x"]


@STEADY
@given(st.data(), st.sampled_from(["linear", "add", "max", "sum", "sat", "multiply"]))
def test_bounds_are_attained_where_the_op_is_monotone(data: st.DataObject, kind: str) -> None:
    # Every bound of every element is the result of some corner of the operands' ranges.
    draw = data.draw
    bounds = [sorted((draw(st.integers(-20, 20)), draw(st.integers(-20, 20)))) for _ in range(3)]
    fracs = tuple(draw(st.integers(0, 2)) for _ in range(3))
    range_ = Range(tuple(lo for lo, _ in bounds), tuple(hi for _, hi in bounds), fracs)
    weight = np.array([[draw(st.integers(-5, 5)) for _ in range(2)] for _ in range(3)])
    ops: dict[str, Op] = {
        "linear": Linear(
            x="x", weight=IntArray.of(weight), bias=IntArray.of([3, -4]), weight_frac=(1, 0), input_frac=(0, 1, -1)
        ),
        "add": Add(x="x", y="c", subtract=True),
        "max": Extremum(x="x", y="c"),
        "sum": Reduce(x="x", axes=(0,)),
        "sat": Requantize(x="x", out=Range(-3, 5, 1), rounding=Rounding.RND, overflow=Overflow.SAT),
        "multiply": Multiply(x="x", y="c"),
    }
    builder = GraphBuilder()
    builder.add(Input(shape=(3,), range=range_), "x")
    builder.add(Constant(values=IntArray.of([2, -3, 0]), frac=1), "c")
    builder.output("y", builder.add(ops[kind], "y"))
    graph = builder.build()
    corners = np.array(np.meshgrid(*bounds)).reshape(3, -1).T
    found = emulate(graph, {"x": corners})["y"].reshape(len(corners), -1)
    out = graph.type_of("y")
    assert tuple(int(v) for v in found.min(axis=0)) == out.range.los(out.size)
    assert tuple(int(v) for v in found.max(axis=0)) == out.range.his(out.size)


@pytest.mark.parametrize("source", ["y:0", 'a "quoted" name # 1', "\N{GREEK SMALL LETTER PI}"])
def test_the_framework_s_name_of_an_output_is_kept_in_the_text(source: str) -> None:
    builder = GraphBuilder()
    builder.output(source, builder.add(Input(shape=(2,), range=Range.fixed(4, 1)), "x"), source)
    graph = builder.build()
    assert from_text(to_text(graph)) == graph
    assert graph.outputs[0].shown == source and sanitized(source) == graph.outputs[0].name


def test_which_ops_work_element_by_element() -> None:
    graph = every_op()
    kinds = {op_name(node.op) for node in graph.nodes if is_elementwise(node.op)}
    assert kinds == {"add", "multiply", "extremum", "requantize", "lookup"}
    assert {op_name(node.op) for node in graph.nodes} - kinds == {"input", "constant", "rewire", "linear", "reduce"}


def test_operands_of_every_op_are_renamed_in_place() -> None:
    graph = every_op()
    names = {node.name: f"{node.name}_new" for node in graph.nodes if node.name != "c"}
    for node in graph:
        renamed = with_operands(node.op, names)
        assert operands(renamed) == tuple(names.get(x, x) for x in operands(node.op))
        assert with_operands(renamed, {new: old for old, new in names.items()}) == node.op
    assert operands(with_operands(graph.by_name["moved"].op, names)) == ("x_new", "c")


def test_the_only_reader_of_a_value() -> None:
    graph = every_op()
    assert graph.only_reader("t") is graph.by_name["square"]
    assert graph.only_reader("square") is None  # two read it
    assert graph.only_reader("x") is None  # an output shows it
    assert graph.only_reader("difference") is None
    assert graph.shown_values == {"x", "difference"}


def test_a_taken_name_gets_the_first_free_suffix() -> None:
    assert free_name("a/b", ()) == "a.b"
    assert free_name("a/b", {"a.b", "a.b_2"}) == "a.b_3"
    long = free_name("a" * 200, ())
    other = free_name("a" * 200, {long})
    assert len(long) == LONGEST_IDENTIFIER and other != long and len(other) == LONGEST_IDENTIFIER
