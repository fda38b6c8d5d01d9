"""What a stage holds at a clock, by the arcs of devices."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest

from metronn.errors import ModelError
from metronn.ir.arrays import IntArray
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import (
    Constant,
    Extremum,
    ExtremumKind,
    Input,
    Linear,
    Overflow,
    Reduce,
    ReduceKind,
    Requantize,
    Rounding,
)
from metronn.ir.types import Range
from metronn.plan.hardware.arcs import slowest
from metronn.plan.hardware.boards import boards_directory, list_devices, load_device
from metronn.plan.hardware.system import load_system
from metronn.plan.hardware.timing import Span, Timing
from metronn.plan.kernels.kernels import planned
from metronn.plan.kernels.spec import (
    Elementwise,
    FoldInputs,
    FoldOutputs,
    KernelSpec,
    MatvecAdders,
    ReduceSerial,
    ReduceTree,
)
from metronn.plan.layout import Layout

CLOCKS_MHZ = (40, 100, 160, 240, 280, 320, 360, 400, 450, 500, 600)


def rules(clock_mhz: float, device: str = "vu13p", grade: str | None = None) -> Timing:
    """Rules of a device at a clock."""
    found = load_device(device)
    return Timing.of([found.with_grade(grade) if grade else found], 1e6 / clock_mhz)


def layer() -> tuple[Graph, tuple[str, ...]]:
    """24 inputs, 10 outputs, ReLU, rounded and saturated; their sum; what is largest of them."""
    builder = GraphBuilder()
    x = builder.add(Input(shape=(24,), range=Range(-128, 127, 4)), "x")
    weight = IntArray.of([[(5 * i + 3 * k * k) % 25 - 12 for k in range(10)] for i in range(24)])
    linear = builder.add(Linear(x=x, weight=weight, bias=IntArray.of(list(range(10)))), "dense")
    zero = builder.add(Constant(values=IntArray.of([0] * 10), frac=4), "zero")
    relu = builder.add(Extremum(x=linear, y=zero, kind=ExtremumKind.MAX), "relu")
    q = builder.add(Requantize(x=relu, out=Range(0, 127, 2), rounding=Rounding.RND, overflow=Overflow.SAT), "q")
    total = builder.add(Reduce(x=q, axes=(0,), kind=ReduceKind.SUM), "total")
    most = builder.add(Reduce(x=q, axes=(0,), kind=ReduceKind.MAX), "most")
    builder.output("y", total)
    builder.output("z", most)
    return builder.build(), (linear, relu, q, total, most)


def specs() -> tuple[Graph, list[KernelSpec]]:
    """The kernels that could make it."""
    graph, (linear, relu, q, total, most) = layer()
    found: list[KernelSpec] = [
        MatvecAdders(linear=linear, epilogue=(relu, q)),
        FoldOutputs(linear=linear, epilogue=(relu, q), lanes=2, beats=4, remainder=2),
        FoldInputs(linear=linear, epilogue=(relu, q), layout=Layout.rows(24, 6)),
        Elementwise(nodes=(relu, q)),
    ]
    for reduce in (total, most):
        found += [ReduceTree(reduce=reduce), ReduceSerial(reduce=reduce, layout=Layout.rows(10, 5))]
    return graph, found


def test_a_slower_clock_never_needs_more_stages() -> None:
    graph, kernels = specs()
    for grade in ("-1", "-2"):
        for spec in kernels:
            cycles = [planned(spec, graph, rules(clock, grade=grade)).latency_cycles for clock in CLOCKS_MHZ]
            assert cycles == sorted(cycles), (grade, spec)


def test_a_faster_grade_never_needs_more_stages() -> None:
    graph, kernels = specs()
    for spec in kernels:
        for clock in CLOCKS_MHZ:
            slow, fast = (planned(spec, graph, rules(clock, grade=grade)).latency_cycles for grade in ("-1", "-2"))
            assert fast <= slow, (clock, spec)


def test_stages_keep_the_clock_wherever_one_piece_of_logic_does() -> None:
    graph, kernels = specs()
    for clock in CLOCKS_MHZ[:-3]:
        timing = rules(clock)
        for spec in kernels:
            if clock > 360 and isinstance(spec, FoldOutputs | FoldInputs):
                continue  # their epilogue is one stage: planning leaves it out where that is too long
            path = planned(spec, graph, timing).slowest
            assert 0 < path.ps <= timing.logic_ps, (clock, spec, str(path))


@pytest.mark.parametrize(
    ("width", "grade", "levels"),
    [(8, "-1", 2), (22, "-1", 2), (40, "-1", 2), (64, "-1", 1), (8, "-2", 3), (22, "-2", 2)],
)  # fmt: skip
def test_additions_of_a_stage_at_360_mhz_by_width_and_grade(width: int, grade: str, levels: int) -> None:
    timing = rules(360, grade=grade)
    assert timing.levels(width) == levels
    assert timing.radix(width) == 2**levels


def test_an_addition_is_a_net_a_lut_and_a_chain() -> None:
    arcs = load_device("vu13p").arcs
    assert arcs.sum_ps(8) == 350 + 550 + 50
    assert arcs.sum_ps(22) == 350 + 550 + 3 * 50
    assert [arcs.wide_ps(loads) for loads in (1, 64, 65, 512, 513)] == [0, 0, 300, 300, 600]
    assert rules(360).pick(8) == Span(ps=950 + 2 * 350, end_ps=350)


def test_systems_of_several_devices_keep_the_slowest_of_each_step() -> None:
    one, two = load_device("vu13p").arcs, load_device("ecp5-85f").arcs
    both = slowest([one, two])
    assert both.net_ps == two.net_ps
    assert both.overhead_ps == max(one.overhead_ps, two.overhead_ps)
    assert Timing.of([load_device("vu13p"), load_device("ecp5-85f")], 10_000).arcs == both


def test_every_device_has_arcs_of_its_grade() -> None:
    for name in list_devices():
        device = load_device(name)
        assert device.arcs.sum_ps(16) < 1e6 / device.clock_limit_mhz * 4
        assert device.speed_grade in device.timing.names


def test_a_part_of_a_board_has_its_own_grade(tmp_path: Path) -> None:
    assert load_device("vu13p").speed_grade == "-1"
    system = own_system(tmp_path, board="alveo-u250")
    fpga = load_system(system).fpgas[0]
    assert (fpga.device.speed_grade, fpga.part) == ("-2L", "xcu250-figd2104-2L-e")
    assert load_system(system).timing.arcs == load_device("vu13p").with_grade("-2L").arcs


# Files that lack something


def own_system(folder: Path, changes: Sequence[tuple[str, str, str]] = (), board: str = "serenity") -> Path:
    """Write a system with copies of its board, device and timing; `changes` are (folder, pattern, text)."""
    device = "vu13p"
    for kind, name in (("boards", board), ("devices", device), ("timings", "ultrascale-plus")):
        text = (boards_directory() / kind / f"{name}.toml").read_text()
        for where, old, new in changes:
            if where == kind:
                text, count = re.subn(old, new, text, flags=re.MULTILINE)
                assert count, old
        (folder / kind).mkdir()
        (folder / kind / f"{name}.toml").write_text(text)
    path = folder / "own.toml"
    path.write_text(
        f'name = "own"\ntitle = "Own"\nclock_mhz = 360.0\nii = 9\nsource = "test"\n'
        f'[[boards]]\nname = "a"\nboard = "{board}"\n'
    )
    return path


@pytest.mark.parametrize(
    ("board", "changes", "file", "message"),
    [
        ("serenity", [("devices", "^speed_grade = .*\n", "")], "devices/vu13p.toml", "missing key 'speed_grade'"),
        ("serenity", [("devices", "^timing = .*\n", "")], "devices/vu13p.toml", "missing key 'timing'"),
        ("serenity", [("devices", '^timing = .*', 'timing = "ultrascal-plus"')], "devices/vu13p.toml",
         "key 'timing': unknown timing 'ultrascal-plus'"),
        ("serenity", [("devices", '^speed_grade = .*', 'speed_grade = "-9"')], "devices/vu13p.toml",
         "speed_grade must be one of -1, -2, -2L (those of timing 'ultrascale-plus'), found '-9'"),
        ("serenity", [("timings", "^carry_ps = .*\n", "")], "timings/ultrascale-plus.toml",
         "missing key 'grades.0.carry_ps'"),
        ("serenity", [("timings", "^net_ps = 350", "net_ps = 0")], "timings/ultrascale-plus.toml",
         "key 'grades.0.net_ps' must be a whole number from 1 to 100000, found 0"),
        ("alveo-u250", [("boards", "^speed_grade = .*\n", "")], "boards/alveo-u250.toml",
         "missing key 'speed_grade': a board with a 'part' of its own says both"),
        ("alveo-u250", [("boards", '^speed_grade = .*', 'speed_grade = "-3"')], "boards/alveo-u250.toml",
         "speed_grade must be one of -1, -2, -2L (those of timing 'ultrascale-plus'), found '-3'"),
    ],
)  # fmt: skip
def test_files_without_grade_or_arcs_are_refused_with_the_key(
    tmp_path: Path, board: str, changes: list[tuple[str, str, str]], file: str, message: str
) -> None:
    with pytest.raises(ModelError) as caught:
        load_system(own_system(tmp_path, changes, board))
    assert str(tmp_path / file) in str(caught.value)
    assert message in str(caught.value)
