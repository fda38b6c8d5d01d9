"""The planner does what is asked: objective and reuse; the independent check knows reuse too."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_networks import stack
from stream_networks import Net, image_network

from metronn.errors import InfeasibleError, ModelError
from metronn.ir.graph import Graph
from metronn.ir.ops import Reduce
from metronn.plan.candidates.reuse import layers_of
from metronn.plan.design import Design
from metronn.plan.explain.remarks import remarks
from metronn.plan.hardware.resources import lut_equivalents
from metronn.plan.hardware.system import load_system
from metronn.plan.kernels.spec import FoldInputs, FoldOutputs, MatvecAdders, Streamed
from metronn.plan.options import Fold, InputForm, LayerOptions, Objective, PlanOptions
from metronn.plan.planner import plan
from metronn.plan.verify import violations
from random_tests import examples

SMALL = (16, 24, 24, 5)


def planned(options: PlanOptions, ii: int = 36) -> Design:
    return plan(stack(SMALL), load_system("one-vcu118").with_overrides(ii=ii), options)


def cost(design: Design) -> float:
    return sum(lut_equivalents(fpga.resources) for fpga in design.fpgas)


def test_fewer_resources_with_more_cycles() -> None:
    fast, small = planned(PlanOptions()), planned(PlanOptions(objective=Objective.RESOURCES))
    assert cost(small) < cost(fast) / 2
    assert small.latency_cycles > fast.latency_cycles
    again = planned(PlanOptions(objective=Objective.RESOURCES), ii=4)
    assert cost(small) < cost(again) < cost(fast)


def test_a_latency_limit_binds_the_fewest_resources() -> None:
    fast, small = planned(PlanOptions()), planned(PlanOptions(objective=Objective.RESOURCES))
    limit = (fast.latency_ns + small.latency_ns) / 2
    between = planned(PlanOptions(objective=Objective.RESOURCES, max_latency_ns=limit))
    assert between.latency_ns <= limit
    assert cost(small) < cost(between) < cost(fast)


@examples(12)
@given(data=st.data())
def test_every_reuse_that_divides_the_ii_has_a_plan(data: st.DataObject) -> None:
    ii = data.draw(st.sampled_from((6, 8, 12)))
    reuse = data.draw(st.sampled_from([k for k in range(1, ii + 1) if ii % k == 0]))
    sizes = [data.draw(st.integers(3, 14)) for _ in range(3)]
    graph, system = stack(sizes), load_system("one-vcu118").with_overrides(ii=ii)
    options = PlanOptions(layers={"dense*": LayerOptions(reuse=reuse)})
    design = plan(graph, system, options)
    (spec,) = [
        k.spec for k in design.fpgas[0].kernels if "dense0" in k.name and not k.name.endswith(("delay", "reorder"))
    ]
    assert isinstance(spec, MatvecAdders if reuse == 1 else FoldOutputs | FoldInputs)
    if isinstance(spec, FoldOutputs):
        assert spec.beats == reuse
    assert violations(design, {"dense0": reuse}) == ()


def test_the_last_pattern_counts_and_others_stay_free() -> None:
    options = PlanOptions(layers={"*": LayerOptions(reuse=4), "dense1": LayerOptions(reuse=12)})
    kernels = {k.name: k.spec for k in planned(options).fpgas[0].kernels}
    beats = {name.split("_")[0]: spec.beats for name, spec in kernels.items() if isinstance(spec, FoldOutputs)}
    assert beats["dense0"] == 4
    assert not any(isinstance(spec, MatvecAdders) for spec in kernels.values())


def test_reuse_that_does_not_divide_the_ii() -> None:
    with pytest.raises(ModelError) as error:
        planned(PlanOptions(layers={"dense*": LayerOptions(reuse=5), "dense0": LayerOptions(reuse=7)}))
    assert error.value.message.splitlines() == [
        "dense0: reuse 7 does not divide the II of 36 cycles.",
        '  Set plan.layers."dense0".reuse to one of 1, 2, 3, 4, 6, 9, 12, 18, 36, or leave the choice to the planner.',
        "dense1: reuse 5 does not divide the II of 36 cycles.",
        '  Set plan.layers."dense1".reuse to one of 1, 2, 3, 4, 6, 9, 12, 18, 36, or leave the choice to the planner.',
    ]


def proposed(message: str) -> dict[str, list[int]]:
    """Return the values that an error proposes, by layer."""
    found = re.findall(r'Set plan\.layers\."([^"]+)"\.reuse to one of ([\d, ]+), or leave', message)
    return {layer: [int(k) for k in values.split(", ")] for layer, values in found}


def drawn_network(data: st.DataObject) -> Graph:
    """Return a network with layers of every kind that has weights: of vectors, windows, pixels and particles."""
    net = Net(data.draw(st.integers(0, 3)))
    kind = data.draw(st.sampled_from(("vector", "image", "line", "particles")))
    if kind == "vector":
        x = net.input("x", (data.draw(st.integers(3, 20)),))
    elif kind == "image":
        x = net.input("x", (data.draw(st.integers(2, 5)), data.draw(st.integers(2, 5)), data.draw(st.integers(1, 2))))
        stride = data.draw(st.integers(1, 2))
        x = net.conv(
            x, "conv0", data.draw(st.integers(1, 4)), kernel=data.draw(st.sampled_from((1, 2, 3))), stride=stride
        )
        x = net.conv(x, "conv1", data.draw(st.integers(1, 3)), kernel=data.draw(st.sampled_from((1, 3))))
    elif kind == "line":
        x = net.conv(net.input("x", (data.draw(st.integers(3, 9)), 2)), "conv0", data.draw(st.integers(1, 4)))
    else:
        x = net.dense(net.input("x", (data.draw(st.integers(2, 6)), 3)), "shared", data.draw(st.integers(1, 5)))
    if len(net.shape(x)) > 1 and data.draw(st.booleans()):
        x = net.builder.add(Reduce(x=x, axes=tuple(range(len(net.shape(x)) - 1))), "pool", "pool")
    elif len(net.shape(x)) > 1:
        x = net.reshape(x, "flat", (math.prod(net.shape(x)),))
    net.builder.output("y", net.dense(net.dense(x, "head0", data.draw(st.integers(2, 8))), "head1", 3))
    return net.builder.build()


@examples(25)
@given(data=st.data())
def test_every_reuse_that_an_error_proposes_has_a_plan(data: st.DataObject) -> None:
    """Of each layer: all it proposes are accepted and planned, and what it accepts is proposed."""
    graph, ii = drawn_network(data), data.draw(st.sampled_from((1, 2, 6, 9, 16, 25, 36, 60, 100)))
    system = load_system("one-large-virtual").with_overrides(ii=ii)
    objective, inputs = data.draw(st.sampled_from(Objective)), data.draw(st.sampled_from(InputForm))
    options = PlanOptions(objective=objective, inputs=inputs)
    layer = data.draw(st.sampled_from(layers_of(graph)))

    def asked(reuse: int) -> PlanOptions:
        return options.model_copy(update={"layers": {layer: LayerOptions(reuse=reuse)}})

    with pytest.raises(ModelError, match=f"{layer}: reuse 7 does not divide the II of {ii} cycles") as error:
        plan(graph, system, asked(7))
    values = proposed(error.value.message).get(layer, [])
    assert bool(values) != ("No reuse is possible" in error.value.message)
    for reuse in (k for k in range(1, ii + 1) if ii % k == 0):
        if reuse in values:
            assert violations(plan(graph, system, asked(reuse)), {layer: reuse}) == ()
        else:
            with pytest.raises(ModelError, match=f"{layer}: reuse {reuse} is not possible") as error:
                plan(graph, system, asked(reuse))
            assert proposed(error.value.message).get(layer, []) == values


def test_reuse_of_no_layer() -> None:
    with pytest.raises(ModelError, match=r'plan.layers."conv\*": no layer with weights has such a name'):
        planned(PlanOptions(layers={"conv*": LayerOptions(reuse=4)}))


def test_reuse_of_a_convolution_counts_all_its_windows() -> None:
    system = load_system("one-vcu118").with_overrides(ii=288)
    design = plan(image_network(), system, PlanOptions(layers={"conv0": LayerOptions(reuse=288)}))
    (spec,) = [k.spec for k in design.fpgas[0].kernels if k.name.startswith("conv0_matvec")]
    assert isinstance(spec, Streamed)
    assert isinstance(spec.inner, FoldOutputs | FoldInputs)
    with pytest.raises(ModelError, match="conv0: reuse 2 is not possible at II 288: its weights meet 144 vectors"):
        plan(image_network(), system, PlanOptions(layers={"conv0": LayerOptions(reuse=2)}))


def test_what_has_no_effect_is_said_once_with_the_reason() -> None:
    options = PlanOptions(fold=Fold.LATENCY, inputs=InputForm.STREAM)
    lines = remarks(planned(options), options)
    assert len(lines) == 3
    assert re.match(r"II 36: dense1 is unrolled: [\d,]+ LUT at \d+ cycles; folding over 36 cycles would take", lines[0])
    assert lines[0].endswith('plan.objective = "resources" takes it')
    assert 'plan.fold = "latency" has no effect: no layer of this plan is folded' in lines
    assert 'plan.inputs = "stream" has no effect on input hits: it has one axis' in lines[2]
    small = PlanOptions(objective=Objective.RESOURCES)
    assert remarks(planned(small), small) == ()
    assert remarks(planned(PlanOptions(), ii=1), PlanOptions()) == ()


def test_advice_on_latency_is_what_helps() -> None:
    with pytest.raises(InfeasibleError) as error:
        planned(PlanOptions(max_latency_ns=20))
    first, second = error.value.message.splitlines()
    assert re.search(r"the least latency is \d+ cycles = [\d.]+ ns, plan.max_latency_ns is 20\.", first)
    limit = float(re.fullmatch(r"  Raise plan.max_latency_ns to ([\d.]+) or more \(now 20\)\.", second)[1])  # type: ignore[index]
    assert planned(PlanOptions(max_latency_ns=limit)).latency_ns <= limit


def test_the_check_finds_multipliers_that_idle() -> None:
    design = planned(PlanOptions(layers={"dense0": LayerOptions(reuse=6)}))
    assert violations(design, {"dense0": 6}) == ()
    found = violations(design, {"dense0": 36})
    assert any("dense0 does not use its multipliers 36 times" in line for line in found)
    assert violations(replace(design), {"dense0": 1})
