"""The contract of passes: each planted pass that breaks it is found, with its name, the node and the rule."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from metronn.ir.arrays import IntArray
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Add, Constant, Input, Linear, Multiply, Overflow, Padding, Reduce, Requantize, Rewire, Window
from metronn.ir.types import Range
from metronn.model.graph import (
    FloatArray,
    FunctionKind,
    RealConstant,
    RealFunction,
    RealGraph,
    RealGraphBuilder,
    RealInput,
    RealLinear,
    RealQuantize,
    RealSoftmax,
)
from metronn.passes import pipeline
from metronn.passes.contract import Pass, Rule, applied, check_rules
from metronn.passes.rules import (
    CONSTANTS_COMPUTED,
    CONSTANTS_MERGED,
    CONSTANTS_TAKEN_OVER,
    EVENTS_IN_ORDER,
    MOVEMENTS_MERGED,
    NO_AFFINE_BEFORE,
    NO_AFFINE_BEHIND,
    NO_DEAD,
    NO_DEAD_REAL,
    NO_IDLE_WEIGHTS,
    NO_NEUTRAL,
    NO_NEUTRAL_REAL,
    ORDERS_SUNK,
    ROUNDED_ONCE,
    WINDOWS_PAD,
)


def real_network() -> RealGraph:
    """Return a network whose nodes break each rule of real graphs: each is named by what is wrong with it."""
    b = RealGraphBuilder()
    x = b.add(RealInput(shape=(2,)), "x")
    one = b.add(RealConstant(values=FloatArray.of(1.0)), "one")
    two = b.add(Add(x=one, y=one), "two")
    y = b.add(Multiply(x=x, y=one), "neutral")
    y = b.add(Rewire(xs=(y,), index=IntArray.of([0, 1]), shape=(2,)), "same")
    y = b.add(Rewire(xs=(y,), index=IntArray.of([1, 0]), shape=(2,)), "swap")
    b.add(Add(x=y, y=two), "dead")
    weight, bias = FloatArray.of([[1.0], [2.0]]), FloatArray.of([0.0])
    b.output("y", b.add(RealLinear(x=y, weight=weight, bias=bias), "dense"))
    return replace(b.build(), tensors=(("layer", "dense"),))


def integer_network() -> Graph:
    """Return a graph whose nodes break each rule of integer graphs."""
    b = GraphBuilder()
    x = b.add(Input(shape=(2,), range=Range(-8, 7, 1)), "x")
    y = b.add(Rewire(xs=(x,), index=IntArray.of([0, 1]), shape=(2,)), "same")
    y = b.add(Requantize(x=y, out=Range(-8, 7, 1)), "neutral")
    y = b.add(Requantize(x=y, out=Range(-128, 127, 3), overflow=Overflow.SAT), "wide")
    y = b.add(Requantize(x=y, out=Range(-4, 3, 0), overflow=Overflow.SAT), "again")
    b.add(Add(x=y, y=y), "dead")
    b.output("y", y)
    return b.build()


def without(name: str) -> Callable[[RealGraph | Graph], RealGraph | Graph]:
    """Return a pass that loses a node."""

    def lose(graph: RealGraph | Graph) -> RealGraph | Graph:
        return replace(graph, nodes=tuple(node for node in graph.nodes if node.name != name))

    return lose


def exchanged(node_name: str, **fields: object) -> Callable[[RealGraph | Graph], RealGraph | Graph]:
    """Return a pass that changes fields of a node, or with `op` of its op."""

    def exchange(graph: RealGraph | Graph) -> RealGraph | Graph:
        ops = fields.get("op")
        nodes = [
            replace(node, **({"op": replace(node.op, **ops)} if isinstance(ops, dict) else fields))
            if node.name == node_name
            else node
            for node in graph.nodes
        ]
        return replace(graph, nodes=tuple(nodes))

    return exchange


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (without("swap"), "after pass lose:\n  dead: reads swap, defined nowhere before it\n  dense: reads swap"),
        (without("x"), "after pass lose:\n  neutral: reads x, defined nowhere before it\n  the graph has no input"),
        (
            without("dense"),
            "after pass lose:\n  output y: shows dense, which no node defines\n  tensor layer: is dense",
        ),
        (exchanged("dense", shape=(2,)), "after pass exchange:\n  dense: shape is (2,), the op gives (1,)"),
        (
            exchanged("swap", op={"shape": (3,)}),
            "after pass exchange:\n  swap: rewire: index has 2 entries, shape (3,) needs 3",
        ),
        (exchanged("dead", name="swap"), "after pass exchange:\n  swap: the name is used twice"),
        (exchanged("dead", name="a b"), "after pass exchange:\n  'a b': a name holds letters"),
        (
            exchanged("x", op={"indices": 4}),
            "after pass exchange:\n  input x: inputs and outputs stay as they are: was (RealInput(shape=(2,)",
        ),
        (
            lambda graph: replace(graph, outputs=(("z", "dense"),)),
            "after pass <lambda>:\n  output y: inputs and outputs stay as they are: was (1,), is None",
        ),
        (
            lambda graph: replace(graph, outputs=(("y", "swap"),)),
            "after pass <lambda>:\n  output y: inputs and outputs stay as they are: was (1,), is (2,)",
        ),
        (
            lambda graph: replace(graph, output_sources=("a", "b")),
            "after pass <lambda>:\n  2 sources of 1 outputs",
        ),
    ],
)
def test_a_pass_that_breaks_a_real_network_is_named(run: Callable[[RealGraph], RealGraph], message: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(message)):
        applied(Pass(run=run), real_network())


@pytest.mark.parametrize(
    ("run", "message"),
    [
        (without("wide"), "after pass lose:\n  again: reads wide, defined nowhere before it"),
        (
            exchanged("same", op={"index": IntArray.of([0, 2])}),
            "after pass exchange:\n  same: rewire: index goes from 0 to 2, allowed is -1 to 1",
        ),
        (
            exchanged("wide", op={"out": Range(-64, 63, 2)}),
            "after pass exchange:\n  wide: type is 2 x s6.3, the op gives 2 x s5.2",
        ),
        (
            lambda graph: replace(graph, outputs=(replace(graph.outputs[0], value="wide"),)),
            "after pass <lambda>:\n  output y: inputs and outputs stay as they are: "
            "was ('', (2,), (0, 0)), is ('', (2,), (3, 3))",
        ),
        (
            exchanged("x", source="z"),
            "after pass exchange:\n  input x: inputs and outputs stay as they are: was (Input(shape=(2,)",
        ),
    ],
)
def test_a_pass_that_breaks_an_integer_graph_is_named(run: Callable[[Graph], Graph], message: str) -> None:
    with pytest.raises(AssertionError, match=re.escape(message)):
        applied(Pass(run=run), integer_network())


def test_the_order_of_inputs_is_kept() -> None:
    b = RealGraphBuilder()
    for name in ("a", "b"):
        b.add(RealInput(shape=()), name)
    b.output("y", b.add(Add(x="a", y="b"), "y"))

    def swap(graph: RealGraph) -> RealGraph:
        first, second, last = graph.nodes
        return replace(graph, nodes=(second, first, last))

    with pytest.raises(AssertionError, match="after pass swap:\n  order: inputs and outputs stay as they are"):
        applied(Pass(run=swap), b.build())


def moved(b: RealGraphBuilder, x: str, index: object, name: str) -> str:
    """Add a movement of one value, in the shape of the index."""
    array = IntArray.of(index)
    return b.add(Rewire(xs=(x,), index=array, shape=array.shape), name)


def constant(b: RealGraphBuilder, values: object, name: str) -> str:
    return b.add(RealConstant(values=FloatArray.of(values)), name)


def dense(b: RealGraphBuilder, x: str, name: str) -> str:
    """Add a matrix without symmetry, of two outputs."""
    inputs = b.shapes[x][-1]
    weight = FloatArray.of(np.arange(1.0, 1 + 2 * inputs).reshape(inputs, 2))
    return b.add(RealLinear(x=x, weight=weight, bias=FloatArray.of([0.5, -1.0])), name)


def network_of_orders() -> RealGraph:
    """Return a network in which elements in another order are read by what can hand the order on, or cannot."""
    b = RealGraphBuilder()
    x = b.add(RealInput(shape=(2, 3)), "x")
    turned = moved(b, x, [[0, 3], [1, 4], [2, 5]], "turned")
    mixed = moved(b, x, [[1, 0, 2], [3, 4, 5]], "mixed")
    b.output("a", b.add(RealFunction(x=turned, kind=FunctionKind.TANH), "function"))
    scale, lo, hi = FloatArray.of(0.25), IntArray.of(-8), IntArray.of(7)
    b.output("b", b.add(RealQuantize(x=mixed, scale=scale, lo=lo, hi=hi), "quantizer"))
    b.output("c", b.add(Reduce(x=turned, axes=(0,)), "sum"))
    b.output("d", b.add(RealSoftmax(x=turned, axis=1), "softmax"))
    b.output("e", b.add(RealSoftmax(x=mixed, axis=1), "softmax_of_no_transpose"))
    b.output("f", dense(b, turned, "matrix_over_the_axis_that_moved"))
    front = b.add(RealInput(shape=(2, 1, 3)), "front")
    b.output("g", dense(b, moved(b, front, [[[0, 1, 2], [3, 4, 5]]], "only_shape"), "matrix"))
    square = b.add(RealInput(shape=(2, 2, 2)), "square")
    swapped = moved(b, square, [[[0, 1], [4, 5]], [[2, 3], [6, 7]]], "swapped")
    b.output("h", dense(b, swapped, "matrix_that_hands_on"))
    return b.build()


def network_of_windows() -> RealGraph:
    """Return a network with zeros around before windows, and with one that belongs to the image."""
    b = RealGraphBuilder()
    x = b.add(RealInput(shape=(2, 1)), "x")
    for name, index, padding in (
        ("before", [[-1], [0], [1]], Padding.ZERO),
        ("behind", [[0], [1], [-1]], Padding.ZERO),
        ("between", [[0], [-1], [1]], Padding.ZERO),
        ("lowest", [[-1], [0], [1]], Padding.LOWEST),
    ):
        read = moved(b, x, index, f"{name}.zeros")
        op = Window(x=read, kernel=(2,), strides=(1,), dilations=(1,), before=(0,), after=(0,), padding=padding)
        b.output(name, b.add(op, name))
    return b.build()


def network_of_matrices() -> RealGraph:
    """Return a network with an order, and with scales and offsets, before and behind matrices."""
    b = RealGraphBuilder()
    x = b.add(RealInput(shape=(2,)), "x")
    b.output("a", dense(b, moved(b, x, [1, 0], "swap"), "ordered"))
    b.output("b", dense(b, moved(b, x, [1], "part"), "of_a_part"))
    scale = constant(b, [2.0, 3.0], "scale")
    b.output("c", dense(b, b.add(Multiply(x=x, y=scale), "before"), "after"))
    shared = b.add(Multiply(x=scale, y=x), "before_and_shown")
    b.output("d", shared)
    b.output("e", dense(b, shared, "of_shared"))
    b.output("f", b.add(Add(x=dense(b, x, "first"), y=scale, subtract=True), "behind"))
    rows = b.add(RealInput(shape=(2, 2)), "rows")
    by_row = constant(b, [[2.0], [3.0]], "by_row")
    b.output("g", b.add(Multiply(x=dense(b, rows, "of_rows"), y=by_row), "behind_by_row"))
    b.output("h", dense(b, b.add(Multiply(x=rows, y=by_row), "before_by_row"), "after_rows"))
    b.output("i", b.add(Multiply(x=b.add(Multiply(x=x, y=scale), "once"), y=scale), "twice"))
    b.output("j", b.add(Add(x=b.add(Multiply(x=x, y=scale), "scaled"), y=scale), "mixed"))
    b.output("k", b.add(Add(x=b.add(Add(x=scale, y=x, subtract=True), "from"), y=scale), "summed"))
    return b.build()


def network_with_quantizer() -> RealGraph:
    """Return the network of matrices with a quantizer: its matrices and constants stay."""
    graph = network_of_matrices()
    b = RealGraphBuilder(nodes=list(graph.nodes), outputs=list(graph.outputs))
    b.shapes.update({node.name: node.shape for node in graph})
    op = RealQuantize(x="x", scale=FloatArray.of(0.5), lo=IntArray.of(-8), hi=IntArray.of(7))
    b.output("q", b.add(op, "quantized"))
    return b.build()


def graph_of_matrices() -> Graph:
    """Return a graph with constants behind matrices that these can take over, and some that they cannot."""
    b = GraphBuilder()
    x = b.add(Input(shape=(2, 2), range=Range((0, 1, 0, 2), (0, 3, 0, 4), 1)), "x")

    def matrix(name: str) -> str:
        weight, bias = IntArray.of([[1, 2], [3, 4]]), IntArray.of([0, 5])
        return b.add(Linear(x=x, weight=weight, bias=bias, weight_frac=1), name)

    for name, op, values, frac in (
        ("column", Add, [1, 2], 2),
        ("finer", Add, [1, 2], 3),
        ("row", Add, [[1], [2]], 2),
        ("one", Multiply, 1, 4),
        ("two", Multiply, 2, 4),
    ):
        other = b.add(Constant(values=IntArray.of(values), frac=frac), f"{name}.constant")
        b.output(name, b.add(op(x=other, y=matrix(f"{name}.matrix")), name))
    return b.build()


REAL_RULES = [
    (NO_DEAD_REAL, real_network, ["dead"]),
    (CONSTANTS_COMPUTED, real_network, ["two"]),
    (NO_NEUTRAL_REAL, real_network, ["neutral", "same"]),
    (MOVEMENTS_MERGED, real_network, ["swap"]),
    (CONSTANTS_MERGED, network_of_matrices, ["twice", "summed"]),
    (ORDERS_SUNK, network_of_orders, ["function", "quantizer", "sum", "softmax", "matrix_that_hands_on"]),
    (WINDOWS_PAD, network_of_windows, ["before", "behind"]),
    (EVENTS_IN_ORDER, network_of_matrices, ["ordered"]),
    (NO_AFFINE_BEHIND, network_of_matrices, ["behind"]),
    (NO_AFFINE_BEFORE, network_of_matrices, ["before"]),
]
INTEGER_RULES = [
    (NO_DEAD, integer_network, ["dead"]),
    (NO_NEUTRAL, integer_network, ["same", "neutral"]),
    (ROUNDED_ONCE, integer_network, ["wide", "again"]),
    (CONSTANTS_TAKEN_OVER, graph_of_matrices, ["column", "one"]),
    (NO_IDLE_WEIGHTS, graph_of_matrices, [f"{name}.matrix" for name in ("column", "finer", "row", "one", "two")]),
]


@pytest.mark.parametrize(("rule", "network", "nodes"), REAL_RULES)
def test_a_real_pass_that_does_not_ensure_what_it_says_is_named(
    rule: Rule[RealGraph], network: Callable[[], RealGraph], nodes: list[str]
) -> None:
    def idle(graph: RealGraph) -> RealGraph:
        return graph

    text = "".join(f"\n  {node}: breaks the rule: {rule.holds}" for node in nodes)
    with pytest.raises(AssertionError, match=re.escape(f"after pass idle:{text}") + "$"):
        applied(Pass(run=idle, ensures=(rule,)), network())
    with pytest.raises(AssertionError, match=re.escape(f"before pass idle:{text}") + "$"):
        applied(Pass(run=idle, requires=(rule,)), network())
    check_rules("prepared", pipeline.prepare(network()), [rule])


@pytest.mark.parametrize(("rule", "network", "nodes"), INTEGER_RULES)
def test_an_integer_pass_that_does_not_ensure_what_it_says_is_named(
    rule: Rule[Graph], network: Callable[[], Graph], nodes: list[str]
) -> None:
    def idle(graph: Graph) -> Graph:
        return graph

    text = "".join(f"\n  {node}: breaks the rule: {rule.holds}" for node in nodes)
    with pytest.raises(AssertionError, match=re.escape(f"after pass idle:{text}") + "$"):
        applied(Pass(run=idle, ensures=(rule,)), network())
    check_rules("optimized", pipeline.optimize(network()), [rule])


@pytest.mark.parametrize("rule", [CONSTANTS_MERGED, NO_AFFINE_BEHIND, NO_AFFINE_BEFORE])
def test_a_quantized_network_keeps_its_matrices_and_constants(rule: Rule[RealGraph]) -> None:
    check_rules("quantized", network_with_quantizer(), [rule])
    with pytest.raises(AssertionError, match=re.escape(rule.holds)):
        check_rules("float", network_of_matrices(), [rule])


def test_every_rule_is_that_of_some_pass_and_every_pass_has_one() -> None:
    assert {rule for step in pipeline.REAL_PASSES for rule in step.ensures} == {rule for rule, *_ in REAL_RULES}
    assert {rule for step in pipeline.INTEGER_PASSES for rule in step.ensures} == {rule for rule, *_ in INTEGER_RULES}
    assert all(step.ensures for step in (*pipeline.REAL_PASSES, *pipeline.INTEGER_PASSES))


def test_the_pipelines_check_every_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    real = [Pass(run=lambda graph: graph), Pass(run=without("swap"))]
    monkeypatch.setattr(pipeline, "REAL_PASSES", tuple(real))
    with pytest.raises(AssertionError, match="after pass lose:\n  dead: reads swap"):
        pipeline.prepare(real_network())
    monkeypatch.setattr(pipeline, "INTEGER_PASSES", (Pass(run=without("wide")),))
    with pytest.raises(AssertionError, match="after pass lose:\n  again: reads wide"):
        pipeline.optimize(integer_network())
    with pytest.raises(AssertionError, match="the network as read:\n  dead: reads swap"):
        pipeline.prepare(without("swap")(real_network()))


def test_names_of_removed_values_follow_the_pass_that_says_so() -> None:
    graph, names = pipeline.optimized(integer_network())
    assert names == {"same": "x", "neutral": "x"}
    assert [node.name for node in graph] == ["x", "again"]
