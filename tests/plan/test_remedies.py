"""Refusals: every change that is named was tried and gives a plan; nothing is said twice, nothing that cannot help."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_networks import stack
from stream_networks import Net, attention_network, pairs_network

from metronn.errors import InfeasibleError
from metronn.ir.graph import Graph
from metronn.plan.bounds import least_load
from metronn.plan.explain.products import narrowed, products_of
from metronn.plan.explain.remedies import Refusal, refusal
from metronn.plan.hardware.system import System, load_system
from metronn.plan.options import Fold, InputForm, LayerOptions, Objective, PlanOptions
from metronn.plan.placing import placed, problem_of
from metronn.plan.planner import plan
from random_tests import examples


def refused(graph: Graph, system: System, options: PlanOptions | None = None) -> tuple[Refusal, list[str]]:
    """Return the refusal of a network, and the lines of the planner's error."""
    options = options or PlanOptions()
    with pytest.raises(InfeasibleError) as error:
        plan(graph, system, options)
    found = refusal(problem_of(graph, system, options))
    return found, error.value.message.splitlines()


def applied(found: Refusal) -> list[str]:
    """Plan what every remedy asks for; returns how they are said."""
    for remedy in found.remedies:
        design = plan(remedy.graph, remedy.system, remedy.options)
        limit = remedy.options.max_latency_ns
        assert limit is None or design.latency_ns <= limit
    return [remedy.text for remedy in found.remedies]


@pytest.mark.parametrize(("network", "products"), [((6, 6, 1), 432), ((4, 8, 2), 256)])
def test_products_of_two_variables_do_not_fold(network: tuple[int, int, int], products: int) -> None:
    graph, system = attention_network(*network), load_system("one-pynq-z2")
    found, lines = refused(graph, system)
    assert lines == [
        f"no plan for system one-pynq-z2: all layers together need {products} dsp at least, the system has 176.",
        f"  scores, mixed: {products} products of two variables take {products} dsp at II 5 as at II 320: "
        "their multipliers do not fold.",
        "  Quantize both operands of the products of scores, mixed to 4 bits.",
        f"  Fewer particles, heads or channels: there is room for 176 of these {products} products.",
    ]
    assert applied(found) == ["Quantize both operands of the products of scores, mixed to 4 bits."]


def test_more_boards_help_products_that_do_not_fold() -> None:
    """On a chain more FPGAs do; on a single board a known system of such boards."""
    found, lines = refused(pairs_network(5, 20, 5), load_system("one-serenity"))
    assert any(line.startswith("  Use system ") for line in lines)
    assert not any("Raise the II" in line for line in lines)
    applied(found)


def test_more_boards_do_not_help_what_is_larger_than_a_region() -> None:
    found, lines = refused(attention_network(20, 16), load_system("one-serenity"))
    for layer in ("scores", "mixed"):
        text = "needs 6,400 dsp at least, the largest super logic region, which a kernel stays within, has 2,457."
        assert any(f"{layer}: {text}" in line for line in lines)
    assert not any("Use system" in line or "Raise the II" in line for line in lines)
    assert applied(found) == ["Quantize both operands of the products of scores, mixed to 4 bits."]


@st.composite
def requests(draw: st.DrawFn) -> tuple[Graph, System, PlanOptions]:
    """Networks with and without products, on boards that are too small for some, with requests that are too strict."""
    kind = draw(st.sampled_from(("attention", "dense", "image")))
    if kind == "attention":
        heads = draw(st.sampled_from((1, 2)))
        graph = attention_network(
            draw(st.integers(3, 6)), heads * draw(st.integers(2, 4)), heads, draw(st.sampled_from((5, 8)))
        )
    elif kind == "dense":
        graph = stack([draw(st.integers(10, 40)) for _ in range(3)])
    else:
        net = Net(0)
        x = net.conv(net.input("x", (6, 6, 2), 8), "conv0", draw(st.integers(4, 12)))
        net.builder.output("y", net.dense(net.flatten(x), "head", draw(st.integers(2, 8))))
        graph = net.builder.build()
    name = draw(st.sampled_from(("one-pynq-z2", "one-ulx3s", "two-serenity")))
    system = load_system(name)
    ii = draw(st.sampled_from((1, 2, 4, 9, 36)))
    system = system.with_overrides(ii=ii)
    options = PlanOptions(
        objective=draw(st.sampled_from(Objective)),
        fold=draw(st.sampled_from(Fold)),
        inputs=draw(st.sampled_from(InputForm)),
        fpgas=draw(st.sampled_from((None, None, len(system.fpgas)))),
        max_latency_ns=draw(st.sampled_from((None, None, 20.0, 100.0, 300.0))),
        layers=draw(st.sampled_from(({}, {}, {"*": LayerOptions(reuse=1)}))),
    )
    return graph, system, options


@examples(12)
@given(request=requests())
def test_every_remedy_gives_a_plan(request: tuple[Graph, System, PlanOptions]) -> None:
    graph, system, options = request
    try:
        plan(graph, system, options)
    except InfeasibleError as error:
        lines = error.message.splitlines()
        assert len(set(lines)) == len(lines)
        found = refusal(problem_of(graph, system, options))
        texts = applied(found)
        assert set(texts) <= {line.strip() for line in lines}


@examples(10)
@given(request=requests())
def test_the_bound_never_excludes_a_plan(request: tuple[Graph, System, PlanOptions]) -> None:
    """A design that exists, found on a large board, has at least the load that is its bound there."""
    graph, system, _ = request
    large = load_system("one-large-virtual").with_overrides(ii=system.ii)
    problem = problem_of(graph, large, PlanOptions())
    design = placed(problem)
    assert design is not None
    used = design.fpgas[0].resources.utilisation(large.fpgas[0].budget)
    assert 0 < least_load(problem) <= max(used.values())


def test_a_larger_ii_that_is_named_keeps_the_reuse_asked_for() -> None:
    """An II that the reuse does not divide is no plan, and no error of its own."""
    graph, system = stack((10, 20, 300, 10)), load_system("one-pynq-z2").with_overrides(ii=12)
    found, lines = refused(graph, system, PlanOptions(layers={"dense0": LayerOptions(reuse=12)}))
    texts = applied(found)
    assert [f"  {text}" for text in texts] == [line for line in lines if "Raise the II to " in line]
    (remedy,) = found.remedies
    assert remedy.system.ii > 12
    assert remedy.system.ii % 12 == 0
    assert remedy.options.layers == {"dense0": LayerOptions(reuse=12)}


def test_reuse_that_needs_too_many_multipliers_at_any_ii_goes_first() -> None:
    graph, system = stack((40, 120, 120, 10)), load_system("one-pynq-z2").with_overrides(ii=10)
    found, lines = refused(graph, system, PlanOptions(layers={"dense0": LayerOptions(reuse=10)}))
    (text,) = applied(found)
    assert text.startswith("Remove plan.layers and raise the II to ")
    assert f"  {text}" in lines


def test_an_ii_near_the_largest_is_refused_in_words() -> None:
    """64 times this II is beyond what a system may have."""
    graph, system = attention_network(8, 8), load_system("one-ulx3s").with_overrides(ii=40_000)
    _, lines = refused(graph, system)
    assert "take 1,024 dsp at II 40000 as at II 65536" in lines[1]


def test_operands_of_products_get_narrower_and_nothing_else_does() -> None:
    graph = attention_network(3, 4)
    problem = problem_of(graph, load_system("one-large-virtual").with_overrides(ii=4), PlanOptions())
    nodes = [name for products in products_of(problem).values() for name in products.nodes]
    assert nodes == ["scores.products", "mixed.products"]
    small = narrowed(graph, nodes, 4)
    assert small is not None
    for name in nodes:
        op = small.by_name[name].op
        assert [small.type_of(x).range.width_bits for x in (op.x, op.y)] == ([4, 4] if "scores" in name else [3, 4])  # type: ignore[union-attr]
    assert [small.type_of(o.value) for o in small.outputs] == [graph.type_of(o.value) for o in graph.outputs]
    assert narrowed(graph, nodes, 12) is None
