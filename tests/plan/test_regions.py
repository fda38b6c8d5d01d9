"""Super logic regions: the assignment against exhaustive search, plans on made-up devices, and what is refused."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from design_builds import check_all, written
from hypothesis import given
from hypothesis import strategies as st
from plan_networks import everything, stack
from region_systems import device, region_system, write_system

from metronn.emit.data import data_directory
from metronn.emit.rtl.fpga import emit_fpga
from metronn.emit.rtl.regions import emit_regions
from metronn.errors import InfeasibleError, ModelError
from metronn.plan.design import Design
from metronn.plan.hardware.boards import list_boards, load_board, load_device
from metronn.plan.hardware.resources import Resources, lut_equivalents
from metronn.plan.hardware.system import load_system
from metronn.plan.kernels.spec import Crossing
from metronn.plan.layout import wire_format
from metronn.plan.options import LayerOptions, Objective, OutputForm, PlanOptions
from metronn.plan.placing import problem_of, scheduled
from metronn.plan.planner import plan
from metronn.plan.regions import Edge, Item, RegionProblem, assign
from metronn.plan.schedule import Choice
from metronn.plan.serialize import design_from_json, design_to_json
from metronn.plan.verify import violations
from metronn.report.html import report_html
from metronn.report.summary import summarize
from metronn.report.text import plan_text
from metronn.verify.run import verify_build
from random_tests import examples
from simulators import need

SMALL, LARGE = (1500, 3000, 1000), (100_000, 200_000, 1000)
Draw = st.DrawFn


# The assignment


@st.composite
def problems(draw: Draw) -> RegionProblem:
    """Draw a small graph of items with needs near the budgets of two to four regions."""
    count = draw(st.integers(2, 5))
    regions = draw(st.integers(2, 4 if count < 5 else 3))
    items = tuple(
        Item(need=Resources(lut=draw(st.integers(0, 6)), dsp=draw(st.integers(0, 3))), ready=draw(st.integers(0, 3)))
        for _ in range(count)
    )
    edges = []
    for target in range(1, count):
        for source in draw(st.sets(st.integers(0, target - 1), min_size=1, max_size=2)):
            edges.append(
                Edge(source=source, target=target, cycles=draw(st.integers(0, 8)), net=f"v{source}", bits=5 + source)
            )
    return RegionProblem(
        items=items,
        edges=tuple(edges),
        together=((0, 1),) if draw(st.booleans()) else (),
        fixed=((count - 1, draw(st.integers(0, regions - 1))),) if draw(st.booleans()) else (),
        ends=tuple((k, draw(st.integers(0, 4))) for k in draw(st.sets(st.integers(0, count - 1), min_size=1))),
        budgets=tuple(Resources(lut=draw(st.integers(4, 9)), dsp=draw(st.integers(2, 6))) for _ in range(regions)),
        crossing_cycles=draw(st.integers(2, 4)),
        lines=draw(st.sampled_from([None, 5, 6, 12])),
    )


def judged(problem: RegionProblem, regions: tuple[int, ...]) -> tuple[int, int] | None:
    """Latency and bits times boundaries of an assignment, None where it breaks a rule; written without the solver."""
    for region, budget in enumerate(problem.budgets):
        inside = [item.need for item, r in zip(problem.items, regions, strict=True) if r == region]
        if sum(need.lut for need in inside) > budget.lut or sum(need.dsp for need in inside) > budget.dsp:
            return None
    if any(regions[a] != regions[b] for a, b in problem.together):
        return None
    if any(regions[item] != region for item, region in problem.fixed):
        return None
    start = [item.ready for item in problem.items]
    for edge in sorted(problem.edges, key=lambda edge: edge.target):
        away = abs(regions[edge.source] - regions[edge.target])
        came = start[edge.source] + edge.cycles + problem.crossing_cycles * away
        start[edge.target] = max(start[edge.target], came)
    crossed = set()
    for edge in problem.edges:
        low, high = sorted((regions[edge.source], regions[edge.target]))
        up = regions[edge.target] > regions[edge.source]
        crossed |= {(edge.net, boundary, up, edge.bits) for boundary in range(low, high)}
    for boundary in range(len(problem.budgets) - 1):
        if problem.lines is not None and sum(bits for _, b, _, bits in crossed if b == boundary) > problem.lines:
            return None
    latency = max(start[item] + cycles for item, cycles in problem.ends)
    return latency, sum(bits for _, _, _, bits in crossed)


@given(problem=problems())
@examples(60)
def test_the_assignment_is_the_best_of_all(problem: RegionProblem) -> None:
    every = itertools.product(range(len(problem.budgets)), repeat=len(problem.items))
    sound = [found for found in (judged(problem, regions) for regions in every) if found is not None]
    regions = assign(problem)
    if regions is None:
        assert not sound
    else:
        assert judged(problem, regions) == min(sound)


# Plans


def without_regions(design: Design) -> Design:
    """The same kernels on one die that holds them all."""
    system = design.system.model_copy(update={"fpgas": load_system("one-large-virtual").fpgas})
    problem = problem_of(design.graph, system, PlanOptions())
    specs = {design.planned(k).result: k.spec for fpga in design.fpgas for k in fpga.kernels if design.planned(k).nodes}
    return scheduled(problem, {value: Choice(spec, 0) for value, spec in specs.items()})


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Design:
    """Layers in a row that take both regions."""
    return plan(stack((16, 16, 8, 8, 4)), region_system(tmp_path_factory.mktemp("chain"), [SMALL] * 2), PlanOptions())


@pytest.fixture(scope="module")
def branched(tmp_path_factory: pytest.TempPathFactory) -> Design:
    """Branches, two inputs and three outputs in four regions."""
    system = region_system(tmp_path_factory.mktemp("branched"), [(4500, 9000, 300)] * 4)
    return plan(everything(), system, PlanOptions())


def test_a_chain_crosses_once_and_is_three_cycles_later(chain: Design) -> None:
    (fpga,) = chain.fpgas
    (crossing,) = fpga.crossings
    came, there = fpga.signal[crossing.inputs[0]], fpga.signal[crossing.output]
    assert {came.region, there.region} == {fpga.region_of(kernel) for kernel in fpga.kernels}
    assert there.first_cycle == came.first_cycle + 3
    width = wire_format(chain.graph.type_of(came.value), came.layout).width
    assert crossing.resources == Resources(ff=3 * width)
    assert chain.latency_cycles == without_regions(chain).latency_cycles + 3


def test_budgets_of_regions_hold_where_branches_cross(branched: Design) -> None:
    (fpga,) = branched.fpgas
    budgets = branched.system.fpgas[0].region_budgets
    assert len({fpga.region_of(kernel) for kernel in fpga.kernels}) > 2
    for region, budget in enumerate(budgets):
        assert fpga.resources_in(region).fits(budget)
    assert sum((fpga.resources_in(region) for region in range(4)), Resources()) == fpga.resources
    assert not violations(branched)


def test_everything_in_one_region_is_as_without_regions(tmp_path: Path) -> None:
    large = plan(stack((8, 8, 4)), region_system(tmp_path, [LARGE] * 2), PlanOptions())
    (fpga,) = large.fpgas
    assert not fpga.crossings
    assert {signal.region for signal in fpga.signals} == {0}
    assert large.latency_cycles == without_regions(large).latency_cycles


def test_a_region_that_is_too_small_is_left_empty(tmp_path: Path) -> None:
    (fpga,) = plan(stack((8, 8, 4)), region_system(tmp_path, [(10, 10, 0), LARGE]), PlanOptions()).fpgas
    assert {signal.region for signal in fpga.signals} == {1}


@pytest.mark.parametrize("registers", [2, 5])
def test_registers_of_a_crossing_are_the_devices(registers: int, tmp_path: Path, chain: Design) -> None:
    design = plan(chain.graph, region_system(tmp_path, [SMALL] * 2, registers=registers), PlanOptions())
    assert design.latency_cycles == chain.latency_cycles + registers - 3


def test_dear_crossings_are_avoided_by_other_kernels(tmp_path: Path, chain: Design) -> None:
    """Three regions hold faster kernels than two, but not where each crossing takes 16 cycles."""
    cheap = plan(chain.graph, region_system(tmp_path / "cheap", [SMALL] * 3), PlanOptions())
    dear = plan(chain.graph, region_system(tmp_path / "dear", [SMALL] * 3, registers=16), PlanOptions())
    assert len(cheap.fpgas[0].crossings) > len(dear.fpgas[0].crossings) == 1
    assert cheap.latency_cycles < chain.latency_cycles
    assert dear.latency_cycles == chain.latency_cycles + 13


def test_a_latency_limit_counts_crossings(tmp_path: Path, chain: Design) -> None:
    system = region_system(tmp_path, [SMALL] * 4)
    least = plan(chain.graph, system, PlanOptions(objective=Objective.RESOURCES))
    limit = least.latency_ns - 1
    sooner = plan(chain.graph, system, PlanOptions(objective=Objective.RESOURCES, max_latency_ns=limit))
    assert least.fpgas[0].crossings
    assert sooner.latency_ns <= limit
    assert lut_equivalents(sooner.fpgas[0].resources) > lut_equivalents(least.fpgas[0].resources)


def test_link_ends_are_in_regions(tmp_path: Path) -> None:
    system = region_system(tmp_path, [(1800, 5000, 1000)] * 2, fpgas=2)
    design = plan(stack((16, 16, 8, 8, 4)), system, PlanOptions(fpgas=2))
    assert not violations(design)
    first, second = design.fpgas
    assert first.sends is not None
    assert {first.signal[field.source].region for field in first.sends.fields} == {first.sender_region}
    assert {second.signal[field.target].region for field in first.sends.fields} == {second.receiver_region}


def test_link_ends_are_where_the_board_has_its_transceivers(tmp_path: Path) -> None:
    path = write_system(tmp_path, device([LARGE] * 2), 4, fpgas=2)
    board = tmp_path / "boards" / "small.toml"
    board.write_text(board.read_text() + 'region = "SLR1"\n')
    design = plan(stack((8, 8, 8, 4)), load_system(path), PlanOptions(fpgas=2))
    assert design.fpgas[0].sender_region == design.fpgas[1].receiver_region == 1
    assert not any(fpga.crossings for fpga in design.fpgas)
    lower = tuple(replace(signal, region=0) for signal in design.fpgas[1].signals)
    wrong = replace(design, fpgas=(design.fpgas[0], replace(design.fpgas[1], signals=lower)))
    assert violations(wrong) == ("fpga1: signals are received in region 0, the transceivers are in SLR1",)
    board.write_text(board.read_text().replace("SLR1", "SLR2"))
    with pytest.raises(ModelError) as caught:
        load_system(path)
    assert "board small: transceivers 'QSFP28': unknown region 'SLR2'" in str(caught.value)
    assert "known regions: SLR0, SLR1" in str(caught.value)


def test_the_plan_is_read_back(branched: Design) -> None:
    again = design_from_json(design_to_json(branched), branched.graph)
    assert again.fpgas == branched.fpgas
    assert not violations(again)


def changed(design: Design, **signals: int) -> Design:
    """The design with signals in other regions."""
    (fpga,) = design.fpgas
    moved = tuple(replace(s, region=signals.get(s.name, s.region)) for s in fpga.signals)
    return replace(design, fpgas=(replace(fpga, signals=moved),))


def test_the_verifier_finds_what_is_wrong_with_regions(chain: Design) -> None:
    (fpga,) = chain.fpgas
    (crossing,) = fpga.crossings
    there = fpga.signal[crossing.output].region
    reader = next(k for k in fpga.kernels if crossing.output in k.inputs)
    wrong = violations(changed(chain, **{reader.output: 1 - there}))
    assert f"fpga0: {reader.name}: is in region {1 - there}, {crossing.output} is in region {there}" in wrong
    assert any("which are no neighbours" in line for line in violations(changed(chain, **{crossing.output: 1 - there})))
    assert any("is in region 7, the device has 2" in line for line in violations(changed(chain, **{reader.output: 7})))
    together = {signal.name: 0 for signal in fpga.signals}
    assert any("fpga0: SLR0 needs" in line for line in violations(changed(chain, **together)))
    assert isinstance(crossing.spec, Crossing)
    short = replace(crossing, spec=replace(crossing.spec, registers=2))
    kernels = tuple(short if kernel is crossing else kernel for kernel in fpga.kernels)
    shorter = violations(replace(chain, fpgas=(replace(fpga, kernels=kernels),)))
    assert f"fpga0: {crossing.name}: has 2 registers, a crossing has 3" in shorter


# What is refused


def test_lines_of_a_boundary_bind(tmp_path: Path, chain: Design) -> None:
    with pytest.raises(
        InfeasibleError, match="fpga0: its kernels do not fit its 2 super logic regions together, whose"
    ):
        plan(chain.graph, region_system(tmp_path, [SMALL] * 2, lines=8), PlanOptions(), advise=False)


def test_a_kernel_larger_than_a_region_is_named(tmp_path: Path, chain: Design) -> None:
    """A layer that is to stay whole; else it is made in parts, over several regions."""
    system = region_system(tmp_path, [(1000, 9000, 1000)] * 4)
    whole = PlanOptions(layers={"dense0": LayerOptions(parts=1)})
    with pytest.raises(
        InfeasibleError, match="dense0: needs 1,239 lut at least, the largest super logic region, which"
    ):
        plan(chain.graph, system, whole, advise=False)
    (fpga,) = plan(chain.graph, system, PlanOptions()).fpgas
    parts = [kernel for kernel in fpga.kernels if kernel.name.startswith("dense0_matvec")]
    assert len(parts) > 1
    assert all(kernel.resources.lut <= 1000 for kernel in parts)


def test_kernels_that_no_choice_of_regions_holds(tmp_path: Path, chain: Design) -> None:
    with pytest.raises(InfeasibleError, match="super logic regions"):
        plan(
            chain.graph, region_system(tmp_path, [(1300, 9000, 1000), (1130, 9000, 1000)]), PlanOptions(), advise=False
        )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"regions": []}, "slr is 2, [[regions]] are missing: a device of several dies states name, pblock, lut, ff,"),
        ({"lut": 3100}, "regions: key 'lut' adds up to 3,000, the device has 3,100"),
        ({"uram": {"count": 4}}, "regions: key 'uram' adds up to 0, the device has 4"),
        ({"slr": 3}, "slr is 3, [[regions]] are 2; one for each die is needed"),
        ({"slr": 1}, "slr is 1, [[regions]] are 2; one for each die is needed"),
        ({"crossing": {"cycles": 1}}, "key 'crossing.cycles' must be a whole number from 2 to 16, found 1"),
    ],
)
def test_a_device_whose_regions_are_wrong(change: dict[str, object], expected: str, tmp_path: Path) -> None:
    data = device([SMALL] * 2)
    path = write_system(tmp_path, {**data, **change}, 4)
    with pytest.raises(ModelError) as caught:
        load_system(path)
    assert caught.value.exit_code == 2
    message = str(caught.value)
    assert f"{tmp_path / 'devices' / 'small.toml'}: " in message
    assert expected in message


def test_names_of_regions(tmp_path: Path) -> None:
    data = device([SMALL] * 2)
    data["regions"][0]["name"], data["regions"][1]["pblock"] = "SLR 0", "SLR1]; exit"
    with pytest.raises(ModelError) as caught:
        load_system(write_system(tmp_path, data, 4))
    assert "must be a word of letters, digits and underscores, found 'SLR 0'" in str(caught.value)
    assert "found 'SLR1]; exit'" in str(caught.value)
    data["regions"][0].update(name="SLR1", pblock="SLR1")
    data["regions"][1]["pblock"] = "SLR1"
    with pytest.raises(ModelError) as caught:
        load_system(write_system(tmp_path, data, 4))
    assert "regions: key 'name' must differ from region to region, found SLR1, SLR1" in str(caught.value)
    assert "regions: key 'pblock' must differ" in str(caught.value)


# Boards


def test_shares_above_the_methodology_are_told(tmp_path: Path) -> None:
    data = device([LARGE] * 2)
    shares = dict.fromkeys(("lut", "ff", "dsp", "bram", "uram"), 0.8)
    data["methodology"] = {**shares, "lut": 0.5, "source": "made up"}
    design = plan(stack((8, 8, 4)), load_system(write_system(tmp_path, data, 4)), PlanOptions())
    shown = plan_text(summarize(design, {"name": "small"}))
    assert shown.count("warning: board small: usable_fraction is above the methodology's limits for small: ") == 1
    assert "lut 1 (at most 0.5), ff 1 (at most 0.8)" in shown


@pytest.mark.parametrize("name", list_boards())
def test_packaged_boards_keep_to_the_methodology(name: str) -> None:
    board = load_board(name)
    assert board.warning(load_device(board.device)) == ""


def test_reports_show_regions_and_crossings(chain: Design) -> None:
    summary = summarize(chain, {"name": "chain"})
    (fpga,) = chain.fpgas
    (row,) = summary.crossings
    line = next(line for line in plan_text(summary).splitlines() if line.startswith("fpga0: SLR"))
    assert line.endswith(f"; 1 crossing, {row.bits} bits, 3 cycles each")
    assert [len(region.kernels) for region in summary.regions] == [
        sum(fpga.region_of(kernel) == number for kernel in fpga.kernels if kernel not in fpga.crossings)
        for number in range(2)
    ]
    page = report_html(summary)
    assert "<h2>Super logic regions</h2>" in page
    assert f"<td>{row.left} to {row.reached}</td>" in page


# Emission

RECORD = """
foreach name {create_pblock resize_pblock add_cells_to_pblock} {
    proc $name {args} [string map [list NAME $name] {puts [list NAME {*}$args]}]
}
proc get_pblocks {name} { return $name }
proc get_cells {pattern} { return $pattern }
"""


@pytest.mark.skipif(shutil.which("tclsh") is None, reason="tclsh is not installed")
def test_constraints_put_every_kernel_into_its_region(branched: Design, tmp_path: Path) -> None:
    (fpga,) = branched.fpgas
    text = emit_regions(branched, fpga)
    (tmp_path / "regions.xdc").write_text(text)
    (tmp_path / "record.tcl").write_text(f"{RECORD}\nsource regions.xdc\n")
    done = subprocess.run(["tclsh", "record.tcl"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    calls = [line.split() for line in done.stdout.splitlines()]
    made = [call[1] for call in calls if call[0] == "create_pblock"]
    assert [call[1:] for call in calls if call[0] == "resize_pblock"] == [[m, "-add", m.split("_")[-1]] for m in made]
    placed_in: dict[str, str] = {}
    for name, block, cell in (call for call in calls if call[0] == "add_cells_to_pblock"):
        assert name
        assert block in made
        assert cell not in placed_in
        placed_in[cell] = block.removeprefix("fpga0_")
    top = emit_fpga(branched, fpga)["fpga0.sv"]
    for cell in placed_in:
        assert re.search(rf"^  \) {cell.split('/')[0]} \($|^  \w+ {cell.split('/')[0]} \($", top, re.MULTILINE), cell
    for kernel in fpga.kernels:
        if kernel in fpga.crossings:
            left = f"SLR{fpga.signal[kernel.inputs[0]].region}"
            assert placed_in[f"u_{kernel.name}/u_boundary/leave_q_reg*"] == left
            assert placed_in[f"u_{kernel.name}/u_boundary/arrive_q_reg*"] == f"SLR{fpga.region_of(kernel)}"
        else:
            assert placed_in[f"u_{kernel.name}"] == f"SLR{fpga.region_of(kernel)}"
    library = (data_directory("firmware") / "rtl" / "mnn_crossing.sv").read_text()
    assert re.search(r"\bleave_q;", library)
    assert re.search(r"\barrive_q;", library)


def test_one_die_has_no_constraints() -> None:
    design = plan(stack((8, 8, 4)), load_system("one-large-virtual"), PlanOptions())
    assert emit_regions(design, design.fpgas[0]) == ""


@pytest.mark.slow
@pytest.mark.parametrize("outputs", [OutputForm.PARALLEL, OutputForm.STREAM])
def test_regions_up_the_ladder(outputs: OutputForm, tmp_path: Path) -> None:
    """Branches that cross regions of one FPGA: equal values in the promised cycle."""
    need("verilator")
    pytest.importorskip("hls4ml")
    system = region_system(tmp_path / "hardware", [(4500, 9000, 300)] * 4)
    design = plan(everything(), system, PlanOptions(outputs=outputs))
    assert design.fpgas[0].crossings
    written(design, tmp_path / "build")
    assert (tmp_path / "build" / "rtl" / "fpga0" / "regions.xdc").read_text().startswith("# Generated by metronn")
    check_all(verify_build(tmp_path / "build", rungs=(2, 3, 5)), {2, 3, 5})


@pytest.mark.slow
def test_regions_on_two_fpgas_up_the_ladder(tmp_path: Path) -> None:
    need("verilator")
    system = region_system(tmp_path / "hardware", [(1800, 5000, 1000)] * 2, fpgas=2)
    design = plan(stack((16, 16, 8, 8, 4)), system, PlanOptions(fpgas=2))
    assert sum(len(fpga.crossings) for fpga in design.fpgas) > 0
    written(design, tmp_path / "build")
    check_all(verify_build(tmp_path / "build", rungs=(4, 5)), {4, 5})
