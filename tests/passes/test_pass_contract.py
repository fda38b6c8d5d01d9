"""The contract of passes: each planted pass that breaks it is found, with its name, the node and the rule."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest

from metronn.ir.arrays import IntArray
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Add, Input, Multiply, Overflow, Requantize, Rewire
from metronn.ir.types import Range
from metronn.model.graph import FloatArray, RealConstant, RealGraph, RealGraphBuilder, RealInput, RealLinear
from metronn.passes import pipeline
from metronn.passes.contract import Pass, Rule, applied, check_rules
from metronn.passes.rules import (
    CONSTANTS_COMPUTED,
    MOVEMENTS_MERGED,
    NO_DEAD,
    NO_DEAD_REAL,
    NO_NEUTRAL,
    NO_NEUTRAL_REAL,
    ROUNDED_ONCE,
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


REAL_RULES = [
    (NO_DEAD_REAL, ["dead"]),
    (CONSTANTS_COMPUTED, ["two"]),
    (NO_NEUTRAL_REAL, ["neutral", "same"]),
    (MOVEMENTS_MERGED, ["swap"]),
]
INTEGER_RULES = [(NO_DEAD, ["dead"]), (NO_NEUTRAL, ["same", "neutral"]), (ROUNDED_ONCE, ["wide", "again"])]


@pytest.mark.parametrize(("rule", "nodes"), REAL_RULES)
def test_a_real_pass_that_does_not_ensure_what_it_says_is_named(rule: Rule[RealGraph], nodes: list[str]) -> None:
    def idle(graph: RealGraph) -> RealGraph:
        return graph

    text = "".join(f"\n  {node}: breaks the rule: {rule.holds}" for node in nodes)
    with pytest.raises(AssertionError, match=re.escape(f"after pass idle:{text}") + "$"):
        applied(Pass(run=idle, ensures=(rule,)), real_network())
    with pytest.raises(AssertionError, match=re.escape(f"before pass idle:{text}") + "$"):
        applied(Pass(run=idle, requires=(rule,)), real_network())
    check_rules("prepared", pipeline.prepare(real_network()), [rule])


@pytest.mark.parametrize(("rule", "nodes"), INTEGER_RULES)
def test_an_integer_pass_that_does_not_ensure_what_it_says_is_named(rule: Rule[Graph], nodes: list[str]) -> None:
    def idle(graph: Graph) -> Graph:
        return graph

    text = "".join(f"\n  {node}: breaks the rule: {rule.holds}" for node in nodes)
    with pytest.raises(AssertionError, match=re.escape(f"after pass idle:{text}") + "$"):
        applied(Pass(run=idle, ensures=(rule,)), integer_network())
    check_rules("optimized", pipeline.optimize(integer_network()), [rule])


def test_every_rule_is_that_of_some_pass() -> None:
    assert {rule for step in pipeline.REAL_PASSES for rule in step.ensures} == {rule for rule, _ in REAL_RULES}
    assert {rule for step in pipeline.INTEGER_PASSES for rule in step.ensures} == {rule for rule, _ in INTEGER_RULES}


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
