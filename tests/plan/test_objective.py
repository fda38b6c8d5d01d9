"""The planner does what is asked: objective and reuse; the independent check knows reuse too."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plan_networks import stack
from stream_networks import image_network

from metronn.errors import InfeasibleError, ModelError
from metronn.plan.design import Design
from metronn.plan.kernels.spec import FoldInputs, FoldOutputs, MatvecAdders, Streamed
from metronn.plan.options import Fold, InputForm, LayerOptions, Objective, PlanOptions
from metronn.plan.planner import plan
from metronn.plan.remarks import remarks
from metronn.plan.resources import lut_equivalents
from metronn.plan.system import load_system
from metronn.plan.verify import violations

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


@settings(derandomize=True, database=None, deadline=None, max_examples=12)
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
    with pytest.raises(
        ModelError, match=r"dense0: reuse 5 does not divide the II of 36 cycles; allowed: 1, 2, 3, 4, 6"
    ):
        planned(PlanOptions(layers={"dense0": LayerOptions(reuse=5)}))


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
    assert "Raise plan.max_latency_ns: no other kernels of these layers are faster." in error.value.message
    assert "plan.fold" not in error.value.message


def test_the_check_finds_multipliers_that_idle() -> None:
    design = planned(PlanOptions(layers={"dense0": LayerOptions(reuse=6)}))
    assert violations(design, {"dense0": 6}) == ()
    found = violations(design, {"dense0": 36})
    assert any("dense0 does not use its multipliers 36 times" in line for line in found)
    assert violations(replace(design), {"dense0": 1})
