"""The planner: what it promises, that its check rejects what is wrong, and what it says when there is no plan."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from plan_networks import everything, stack

from metronn.errors import InfeasibleError, ModelError
from metronn.ir.graph import GraphBuilder
from metronn.ir.ops import Input
from metronn.ir.types import Range
from metronn.plan.design import Design, FpgaDesign, KernelInstance, Signal
from metronn.plan.frames.packing import TAIL_BITS, WORD_BITS, plan_frame
from metronn.plan.hardware.boards import load_device
from metronn.plan.hardware.system import load_system
from metronn.plan.kernels.spec import Delay, FoldInputs, FoldOutputs
from metronn.plan.layout import Layout
from metronn.plan.options import Fold, OutputForm, PlanOptions
from metronn.plan.planner import plan
from metronn.plan.serialize import FORMAT, PlanFormatError, design_from_json, design_to_json
from metronn.plan.subgraph import subgraph
from metronn.plan.verify import violations
from random_tests import examples

FABRIC = load_device("vu13p").fabric

DEMO_SIZES = (36, *(128,) * 10, 43)


@cache
def split_design() -> Design:
    return plan(stack((20, 60, 60, 48, 9)), load_system("two-serenity"), PlanOptions(fpgas=2))


@cache
def branched_design() -> Design:
    return plan(everything(), load_system("four-serenity").with_overrides(ii=5), PlanOptions(fpgas=3))


def test_demo_size_on_one_fpga_takes_at_most_130_cycles() -> None:
    design = plan(stack(DEMO_SIZES), load_system("one-large-virtual"), PlanOptions())
    assert design.latency_cycles <= 130
    assert violations(design) == ()


def test_latency_is_the_sum_of_its_parts() -> None:
    design = split_design()
    first, second = design.fpgas
    assert first.sends is not None
    assert second.offset_cycles == first.sends.send_cycle + first.sends.latency_cycles
    last = second.signal[design.outputs[0].signal]
    assert design.latency_cycles == second.offset_cycles + last.last_cycle
    assert design.latency_ns == pytest.approx(design.latency_cycles / 0.36)


def test_link_latency_is_registers_margin_and_the_longest_raw_latency() -> None:
    design = split_design()
    frame = design.fpgas[0].sends
    assert frame is not None
    assert frame.latency_cycles == 3 + design.system.links[0].latency_max_cycles + 2 + 5


def test_a_folded_pair_overlaps() -> None:
    kernels = [k for fpga in split_design().fpgas for k in fpga.kernels]
    folded = [k for k in kernels if isinstance(k.spec, FoldOutputs | FoldInputs)]
    fed = [(a, b) for a, b in pairwise(folded) if isinstance(b.spec, FoldInputs)]
    assert fed
    for a, b in fed:
        same = any(a in fpga.kernels and b in fpga.kernels for fpga in split_design().fpgas)
        if same:
            assert b.start_cycle == a.start_cycle + a.latency_cycles


def test_skip_connections_are_delayed_by_what_the_schedule_says() -> None:
    delays = [k for fpga in branched_design().fpgas for k in fpga.kernels if isinstance(k.spec, Delay)]
    assert delays
    assert all(k.latency_cycles == k.spec.cycles > 0 for k in delays if isinstance(k.spec, Delay))


def test_same_input_same_plan() -> None:
    again = plan(stack((20, 60, 60, 48, 9)), load_system("two-serenity"), PlanOptions(fpgas=2))
    assert design_to_json(again) == design_to_json(split_design())


@pytest.mark.parametrize("design", [split_design, branched_design])
def test_plans_survive_a_round_trip(design: Callable[[], Design]) -> None:
    text = design_to_json(design())
    back = design_from_json(text, design().graph)
    assert back == design()
    assert design_to_json(back) == text


def test_damaged_plans_are_refused() -> None:
    text = design_to_json(split_design())
    other_format = text.replace(f'"format": {FORMAT}', '"format": 7')
    for broken in (text[:500], other_format, text.replace('"kernel"', '"colonel"')):
        with pytest.raises(PlanFormatError):
            design_from_json(broken, split_design().graph)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_any_number_of_fpgas(count: int) -> None:
    design = plan(stack((16, 24, 24, 24, 24, 5)), load_system("four-serenity"), PlanOptions(fpgas=count))
    assert len(design.fpgas) == count
    assert violations(design) == ()


def test_a_chain_of_sixteen() -> None:
    design = plan(stack((8, *(12,) * 16, 4)), load_system("chain-16-serenity"), PlanOptions(fpgas=16))
    assert len(design.fpgas) == 16
    assert all(fpga.kernels for fpga in design.fpgas)


def test_fpgas_compute_the_whole_network_together() -> None:
    design = branched_design()
    made = [k for fpga in design.fpgas for k in fpga.kernels]
    assert len({k.name for k in made}) <= len(made)
    for fpga in design.fpgas:
        part = subgraph(design, fpga)
        assert {node.name for node in part.nodes} <= set(design.graph.by_name)
        assert all(part.type_of(n.name) == design.graph.type_of(n.name) for n in part.nodes)


def test_streamed_outputs_keep_their_beats() -> None:
    graph = stack((20, 60, 40))
    system = load_system("one-serenity")
    whole = plan(graph, system, PlanOptions())
    beats = plan(graph, system, PlanOptions(outputs=OutputForm.STREAM))
    assert whole.fpgas[-1].signal[whole.outputs[0].signal].layout.is_parallel
    assert beats.latency_cycles <= whole.latency_cycles


def test_multipliers_may_be_spent_on_latency() -> None:
    graph, system = stack((36, 100, 100, 100, 10)), load_system("one-large-virtual")
    thrifty = plan(graph, system, PlanOptions())
    fast = plan(graph, system, PlanOptions(fold=Fold.LATENCY))
    assert fast.latency_cycles < thrifty.latency_cycles
    assert fast.fpgas[0].resources.dsp > thrifty.fpgas[0].resources.dsp


def _change_kernel(design: Design, index: int, change: Callable[[KernelInstance], KernelInstance]) -> Design:
    first = design.fpgas[0]
    kernels = list(first.kernels)
    kernels[index] = change(kernels[index])
    return _change_fpga(design, replace(first, kernels=tuple(kernels)))


def _change_fpga(design: Design, fpga: FpgaDesign) -> Design:
    fpgas = list(design.fpgas)
    fpgas[fpga.index] = fpga
    return replace(design, fpgas=tuple(fpgas))


def _shifted_signal(design: Design) -> Design:
    first = design.fpgas[0]
    signals = tuple(replace(s, first_cycle=s.first_cycle + 1) if k == 1 else s for k, s in enumerate(first.signals))
    return _change_fpga(design, replace(first, signals=signals))


def _frame(design: Design, **changes: object) -> Design:
    first, second = design.fpgas
    assert first.sends is not None
    frame = replace(first.sends, **changes)  # type: ignore[arg-type]
    return replace(design, fpgas=(replace(first, sends=frame), replace(second, receives=frame)))


def _doubled_segment(design: Design) -> Design:
    frame = design.fpgas[0].sends
    assert frame is not None
    return _frame(design, segments=(*frame.segments, frame.segments[0]))


def _lost_segment(design: Design) -> Design:
    frame = design.fpgas[0].sends
    assert frame is not None
    return _frame(design, segments=frame.segments[1:])


def _early_frame(design: Design) -> Design:
    frame = design.fpgas[0].sends
    assert frame is not None
    return _frame(design, send_cycle=frame.send_cycle - 1)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda d: _change_kernel(d, 0, lambda k: replace(k, start_cycle=k.start_cycle + 1)), "starts in cycle 1"),
        (lambda d: _change_kernel(d, 1, lambda k: replace(k, latency_cycles=k.latency_cycles - 1)), "latency is given"),
        (lambda d: _change_kernel(d, 1, lambda k: replace(k, inputs=("hits",))), "wanted is"),
        (lambda d: _change_fpga(d, replace(d.fpgas[0], kernels=d.fpgas[0].kernels[1:])), "exactly 1 is needed"),
        (_shifted_signal, "says"),
        (_doubled_segment, "used twice"),
        (_lost_segment, "are not sent"),
        (_early_frame, "it is there in"),
        (lambda d: _frame(d, lanes=99), "allowed are 16 x 9"),
        (lambda d: _frame(d, words=1), "outside the frame"),
        (lambda d: _frame(d, latency_cycles=40), "the link has 46"),
        (lambda d: replace(d, ii_cycles=3), "busy 9 cycles an event, the II is 3"),
        (lambda d: replace(d, outputs=()), "outputs are"),
        (lambda d: replace(d, fpgas=d.fpgas[:1]), "the ends of the chain"),
        (lambda d: _change_fpga(d, replace(d.fpgas[1], offset_cycles=5)), "starts in cycle 5"),
    ],
)
def test_the_check_finds_damage(damage: Callable[[Design], Design], words: str) -> None:
    found = violations(damage(split_design()))
    assert any(words in line for line in found), found


def test_sound_plans_pass_the_check() -> None:
    assert violations(split_design()) == ()
    assert violations(branched_design()) == ()


def test_too_large_a_layer_says_what_binds_and_what_helps() -> None:
    with pytest.raises(InfeasibleError) as error:
        plan(stack((64, 200, 200, 10)), load_system("one-pynq-z2").with_overrides(ii=4), PlanOptions())
    text = error.value.message
    assert "dsp at least" in text or "lut at least" in text
    assert "Fewer bits or a pruned network" in text


def test_the_ii_that_is_recommended_has_a_plan_and_the_one_below_has_none() -> None:
    graph, system = stack((40, 90, 90, 10)), load_system("one-pynq-z2").with_overrides(ii=10)
    with pytest.raises(InfeasibleError) as error:
        plan(graph, system, PlanOptions())
    words = error.value.message.split("Raise the II to ")[1].split()
    ii = int(words[0])
    assert plan(graph, system.with_overrides(ii=ii), PlanOptions()).ii_cycles == ii
    with pytest.raises(InfeasibleError):
        plan(graph, system.with_overrides(ii=ii - 1), PlanOptions())


def test_too_short_a_latency_names_the_least_one() -> None:
    with pytest.raises(InfeasibleError, match=r"the least latency is \d+ cycles = .* plan.max_latency_ns is 50"):
        plan(stack((20, 60, 60, 10)), load_system("one-serenity"), PlanOptions(max_latency_ns=50))


def test_a_latency_limit_that_holds_is_kept() -> None:
    design = plan(stack((20, 60, 60, 10)), load_system("one-serenity"), PlanOptions(max_latency_ns=200))
    assert design.latency_ns <= 200


def test_more_fpgas_than_the_system_has() -> None:
    with pytest.raises(ModelError, match=r"plan.fpgas is 5, system two-serenity has 2 FPGAs"):
        plan(stack((8, 8, 4)), load_system("two-serenity"), PlanOptions(fpgas=5))


def test_more_fpgas_than_layers() -> None:
    with pytest.raises(InfeasibleError, match="the network has 2 layers to share out"):
        plan(stack((8, 8, 4)), load_system("four-serenity"), PlanOptions(fpgas=4))


def test_a_link_that_is_too_narrow() -> None:
    system = load_system("two-serenity").with_overrides(ii=1)
    narrow = system.model_copy(update={"links": (system.links[0].model_copy(update={"lanes": 1}),)})
    with pytest.raises(InfeasibleError, match="no plan for system two-serenity"):
        plan(stack((40, 40, 40)), narrow, PlanOptions(fpgas=2))


@examples(60)
@given(data=st.data())
def test_frames_carry_every_bit_once_and_in_time(data: st.DataObject) -> None:
    ii = data.draw(st.integers(1, 9))
    builder, signals = GraphBuilder(), []
    for k in range(data.draw(st.integers(1, 3))):
        size = data.draw(st.integers(1, 20))
        name = builder.add(Input(shape=(size,), range=Range.fixed(data.draw(st.integers(1, 12)), 0)), f"v{k}")
        beats = data.draw(st.integers(1, min(size, ii)))
        edges = [size * b // beats for b in range(beats + 1)]
        layout = Layout(tuple(tuple(range(a, b)) for a, b in pairwise(edges)))
        signals.append(Signal(name=name, value=name, layout=layout, first_cycle=data.draw(st.integers(0, 6))))
    flag = data.draw(st.integers(0, 8))
    lanes = data.draw(st.integers(1, 6))
    frame = plan_frame(builder.build(), signals, ii, lanes, flag)
    total = sum(builder.types[s.value].total_bits for s in signals)
    if frame is None:
        assert total > lanes * (WORD_BITS * ii - TAIL_BITS) or ii == 1 or total > (WORD_BITS - TAIL_BITS) * lanes
        return
    assert sum(segment.width for segment in frame.segments) == total
    assert frame.words <= ii
    assert frame.lanes <= lanes
    assert frame.send_cycle + frame.words - 1 >= flag
    by_value = {s.value: s for s in signals}
    for segment in frame.segments:
        room = WORD_BITS - (TAIL_BITS if segment.word == frame.words - 1 else 0)
        assert segment.bit + segment.width <= room
        assert by_value[segment.value].first_cycle + segment.beat <= frame.send_cycle + segment.word
        assert frame.first_cycles[segment.value] + segment.beat >= segment.word


def test_a_stream_crosses_with_little_more_than_the_link() -> None:
    builder = GraphBuilder()
    name = builder.add(Input(shape=(128,), range=Range.fixed(8, 0, signed=False)), "x")
    beats = [tuple(range(14 * b, 14 * b + 14)) for b in range(9)]
    beats[-1] += (126, 127)
    signal = Signal(name=name, value=name, layout=Layout(tuple(beats)), first_cycle=7)
    frame = plan_frame(builder.build(), [signal], 9, 16)
    assert frame is not None
    assert frame.send_cycle + frame.first_cycles["x"] <= 8


def test_a_given_number_of_fpgas_does_not_depend_on_how_long_the_chain_is() -> None:
    two, four = (
        plan(stack((20, 60, 60, 10)), load_system(name).with_overrides(ii=9), PlanOptions(fpgas=2))
        for name in ("two-serenity", "four-serenity")
    )
    assert len(two.fpgas) == len(four.fpgas) == 2
    assert two.latency_cycles == four.latency_cycles
    assert [f.kernels for f in two.fpgas] == [f.kernels for f in four.fpgas]


@pytest.mark.parametrize("system", ["one-large-virtual", "two-serenity"])
def test_a_network_of_wires_alone_has_a_plan(system: str) -> None:
    builder = GraphBuilder()
    x = builder.add(Input(shape=(3,), range=Range.fixed(8, 2)), "x")
    builder.output("y", x)
    builder.output("again", x)
    design = plan(builder.build(), load_system(system), PlanOptions())
    assert (design.latency_cycles, len(design.fpgas), [fpga.kernels for fpga in design.fpgas]) == (0, 1, [()])
    with pytest.raises(InfeasibleError, match="plan.fpgas asks for 2 FPGAs, the network has 0 layers to share out"):
        plan(builder.build(), load_system("two-serenity"), PlanOptions(fpgas=2))
