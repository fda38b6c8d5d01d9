"""Layers as several smaller ones: every bit stays, and a layer that no FPGA holds gets a plan."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from design_builds import build, check_all, written
from fuzz_networks import RandomNet, random_network
from hypothesis import given
from hypothesis import strategies as st
from plan_networks import stack

from metronn.emulate.numpy import emulate
from metronn.errors import InfeasibleError, ModelError
from metronn.ir.arrays import Array
from metronn.ir.graph import Graph
from metronn.ir.ops import Linear
from metronn.passes.integer.split_linear import FOLLOWING, split_inputs, split_rows
from metronn.passes.rewriting import grow
from metronn.plan.hardware.boards import load_device
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.system import System, load_system
from metronn.plan.kernels.spec import FoldOutputs
from metronn.plan.options import Fold, LayerOptions, PlanOptions
from metronn.plan.planner import plan
from metronn.plan.splitting import split_layers
from metronn.plan.verify import violations
from metronn.verify.run import verify_build
from random_tests import examples, seeds
from simulators import need


def events(graph: Graph, seed: int, count: int = 5) -> dict[str, Array]:
    """Return codes over the range of every element, its ends among them."""
    generator = np.random.Generator(np.random.PCG64(seed))
    found = {}
    for node in graph.inputs:
        lo, hi = node.type.range.lo_array(node.shape), node.type.range.hi_array(node.shape)
        ends = generator.choice([0, 1], (2, *node.shape))
        drawn = generator.integers(lo, hi + 1, (count, *node.shape))
        found[node.name] = np.concatenate([drawn, np.where(ends, lo, hi)])
    return found


def same(before: Graph, after: Graph, seed: int) -> None:
    """Assert that outputs have the same types and, event by event, the same codes."""
    given_events = events(before, seed)
    expected, found = emulate(before, given_events), emulate(after, given_events)
    for output in before.outputs:
        assert found[output.name].tolist() == expected[output.name].tolist()
        value = next(o.value for o in after.outputs if o.name == output.name)
        assert after.type_of(value) == before.type_of(output.value)


@examples(60)
@given(st.integers(0, 10_000), st.integers(2, 4))
def test_a_layer_in_parts_is_the_layer(seed: int, parts: int) -> None:
    graph = random_network(seed, size=6)
    chosen = RandomNet(seed).pick(*(node for node in graph if isinstance(node.op, Linear)))
    assert isinstance(chosen.op, Linear)
    inputs, outputs = chosen.op.weight.shape
    for run, most in ((split_rows, outputs), (split_inputs, inputs)):
        if parts > most:
            continue
        after = run(graph, chosen.name, parts)
        same(graph, after, seed)
        made = [node.op for node in after if isinstance(node.op, Linear) and node.name not in graph.by_name]
        assert len(made) == parts
        assert sum(op.weight.array.size for op in made) == inputs * outputs
        assert after.by_name.keys().isdisjoint({chosen.name}) == (run is split_rows and chosen.name not in last(graph))


def last(graph: Graph) -> set[str]:
    """Return the matrices behind which nothing goes with a part: their names live on."""
    return {node.name for node in graph if len(grow(graph, node.name, FOLLOWING)) == 1}


def cut(system: System, **budget: float) -> System:
    """Return the system with a smaller budget on every board, and one die."""
    room = Resources(**{"uram": 0, **budget})  # type: ignore[arg-type]
    die = load_device("virtual")
    fpgas = tuple(fpga.model_copy(update={"region_budgets": (room,), "device": die}) for fpga in system.fpgas)
    return system.model_copy(update={"fpgas": fpgas})


SMALL = {"lut": 9000, "ff": 9000, "dsp": 80, "bram36": 10}


def test_a_layer_that_no_fpga_holds_is_made_in_parts() -> None:
    graph, system = stack((24, 40, 24, 5)), load_system("four-serenity").with_overrides(ii=4)
    roomy = plan(graph, cut(system, lut=100_000, ff=100_000, dsp=1000, bram36=10), PlanOptions())
    assert split_layers(graph, roomy.graph) == {}
    design = plan(graph, cut(system, **SMALL), PlanOptions())
    assert split_layers(graph, design.graph) == {"dense0": 2, "dense1": 2}
    assert violations(design) == ()
    same(graph, design.graph, 1)


def test_one_output_of_many_inputs_is_a_sum_of_sums() -> None:
    graph, system = stack((1000, 1)), load_system("four-serenity").with_overrides(ii=12)
    design = plan(graph, cut(system, lut=12_000, ff=30_000, dsp=30, bram36=0), PlanOptions())
    assert len([node for node in design.graph if isinstance(node.op, Linear)]) > 1
    same(graph, design.graph, 1)


def test_what_cannot_help_is_not_tried() -> None:
    """More than all FPGAs have together: the message is about the layers as they are."""
    graph, system = stack((24, 40, 24, 5)), load_system("two-serenity").with_overrides(ii=4)
    with pytest.raises(InfeasibleError, match="dense0: needs .* lut at least"):
        plan(graph, cut(system, lut=3000, ff=5000, dsp=20, bram36=10), PlanOptions(), advise=False)


def test_parts_that_are_asked_for() -> None:
    graph, system = stack((24, 40, 24, 5)), load_system("two-serenity").with_overrides(ii=4)
    options = PlanOptions.model_validate(
        {"layers": {"*": {"reuse": 4}, "dense?": {"parts": 3}, "dense1": {"parts": 2}}}
    )
    design = plan(graph, system, options)
    assert split_layers(graph, design.graph) == {"dense0": 3, "dense1": 2}
    assert {k.spec.beats for f in design.fpgas for k in f.kernels if isinstance(k.spec, FoldOutputs)} == {4}
    with pytest.raises(
        ModelError, match=r'plan.layers."logits".parts is 6, the layer has 5 outputs; allowed are 1 to 5'
    ):
        plan(graph, system, PlanOptions.model_validate({"layers": {"logits": {"parts": 6}}}))


@pytest.mark.slow
def test_parts_on_several_boards_up_the_ladder(tmp_path: Path) -> None:
    need("verilator")
    graph, system = stack((24, 40, 24, 5)), load_system("four-serenity").with_overrides(ii=4)
    design = plan(graph, cut(system, **SMALL), PlanOptions())
    check_all(verify_build(written(design, tmp_path), rungs=(2, 3, 4, 5)), {2, 3, 4, 5})


@pytest.mark.slow
@pytest.mark.random
@pytest.mark.parametrize("seed", seeds(2))
def test_images_in_parts_up_the_ladder(seed: int, tmp_path: Path) -> None:
    need("verilator")
    graph = random_network(seed, size=6)
    outputs = {node.source: node.op.weight.shape[1] for node in graph if isinstance(node.op, Linear)}
    layers = {layer: LayerOptions(parts=min(2 + seed % 2, most)) for layer, most in outputs.items()}
    options = PlanOptions(layers=layers, fold=Fold.LATENCY)
    folder = build(graph, tmp_path / "build", "one-serenity", (9, 40)[seed % 2], options, events=20, rtl_events=20)
    check_all(verify_build(folder, rungs=(2, 3, 4)), {2, 3, 4})
