"""What devices are built of: read from every device's file, and different where the devices are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metronn.errors import ModelError
from metronn.ir.arrays import IntArray
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Constant, Input, Linear, Lookup, Multiply, Reduce, ReduceKind
from metronn.ir.types import Range
from metronn.plan.hardware.boards import boards_directory, list_devices, load_device
from metronn.plan.hardware.fabric import Fabric, Multiplier, common
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.system import load_system
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.folds.fold import fold_outputs_spec, packing
from metronn.plan.kernels.kernels import planned
from metronn.plan.kernels.memories import block_parts, memory_resources
from metronn.plan.kernels.spec import Elementwise, ReduceTree, Table
from metronn.plan.kernels.waiting.lines import shift_resources
from metronn.plan.options import PlanOptions
from metronn.plan.planner import plan
from metronn.plan.serialize import design_from_json, design_to_json
from metronn.plan.verify import violations
from metronn.quantize.widths import NARROW_PORT_BITS
from random_tests import examples
from timings import ADDITION_PS, level_timing

DEVICES = list_devices()
FABRICS = {name: load_device(name).fabric for name in DEVICES}
ULTRASCALE = ("ku115", "ku15p", "virtual", "vu13p", "vu35p", "vu47p", "vu9p", "zu9eg")
OTHERS = ("arria10-gx1150", "ecp5-85f", "xc7z020")


def kind_of(name: str) -> str:
    """The key of a device in the tables below: all UltraScale devices are alike."""
    return "vu13p" if name in ULTRASCALE else name


def timing(name: str, levels: int = 2) -> Timing:
    """Rules of a device."""
    return level_timing(FABRICS[name], levels)


def layer(weights: list[list[int]], x: Range) -> tuple[Graph, str]:
    """A layer with these weights and no bias."""
    builder = GraphBuilder()
    value = builder.add(Input(shape=(len(weights),), range=x), "x")
    bias = IntArray.of([0] * len(weights[0]))
    linear = builder.add(Linear(x=value, weight=IntArray.of(weights), bias=bias), "dense")
    builder.output("y", linear)
    return builder.build(), linear


def full(n_in: int, n_out: int, bits: int, x: Range) -> tuple[Graph, str]:
    """A layer whose weights are the lowest and numbers of all bits, none of them zero or a power of two."""
    low, high = -(1 << (bits - 1)) + 1, (1 << (bits - 1)) - 1
    return layer([[low if (i + o) % 2 else high for o in range(n_out)] for i in range(n_in)], x)


def test_every_device_is_in_the_tables_of_this_file() -> None:
    assert set(DEVICES) == {*ULTRASCALE, *OTHERS}
    assert len({FABRICS[name] for name in ULTRASCALE}) == 1
    assert len({FABRICS[kind_of(name)] for name in DEVICES}) == 4


@pytest.mark.parametrize("name", DEVICES)
def test_ports_and_shapes(name: str) -> None:
    amd = {(512, 36), (1024, 18), (2048, 9), (4096, 4), (8192, 2), (16384, 1)}
    m20k = {(512, 40), (1024, 20), (2048, 10), (4096, 5), (8192, 2), (16384, 1)}
    expected: dict[str, tuple[list[tuple[int, int, int]], int, set[tuple[int, int]]]] = {
        "vu13p": ([(27, 18, 1)], 4, amd),
        "xc7z020": ([(25, 18, 1)], 4, amd),
        "arria10-gx1150": ([(19, 18, 2), (27, 27, 1)], 4, m20k),
        "ecp5-85f": ([(18, 18, 1)], 2, amd),
    }
    fabric = FABRICS[name]
    found = [(kind.wide, kind.narrow, kind.per_block) for kind in fabric.multipliers]
    assert (found, fabric.mux_inputs, set(fabric.block_shapes)) == expected[kind_of(name)]


@pytest.mark.parametrize("name", DEVICES)
def test_operands_of_a_matrix_fit_the_narrowest_port(name: str) -> None:
    assert min(kind.narrow for kind in FABRICS[name].multipliers) >= NARROW_PORT_BITS


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize(
    ("weight_bits", "x", "expected"),
    [
        # ways, group, bits of the multiplier's weight, DSP blocks of 16 x 8 at a fold of 4
        (8, Range(0, 255), {"vu13p": (2, 4, 26, 16), "xc7z020": (2, 2, 25, 16), "arria10-gx1150": (1, 4, 8, 16),
                            "ecp5-85f": (1, 4, 8, 32)}),
        (4, Range(-8, 7), {"vu13p": (1, 4, 4, 0), "xc7z020": (1, 4, 4, 0), "arria10-gx1150": (1, 4, 4, 0),
                           "ecp5-85f": (2, 4, 13, 16)}),
        (6, Range(0, 31), {"vu13p": (2, 4, 19, 16), "xc7z020": (2, 4, 19, 16), "arria10-gx1150": (2, 4, 19, 8),
                           "ecp5-85f": (2, 2, 18, 16)}),
        (16, Range(-(1 << 19), (1 << 19) - 1), {"vu13p": (1, 4, 16, 32), "xc7z020": (1, 4, 16, 32),
                                                "arria10-gx1150": (1, 4, 16, 32), "ecp5-85f": (1, 4, 16, 64)}),
        (20, Range(-(1 << 19), (1 << 19) - 1), {"vu13p": (1, 4, 20, 64), "xc7z020": (1, 4, 20, 64),
                                                "arria10-gx1150": (1, 4, 20, 32), "ecp5-85f": (1, 4, 20, 128)}),
    ],
)  # fmt: skip
def test_weights_share_a_multiplier_where_its_ports_allow(
    name: str, weight_bits: int, x: Range, expected: dict[str, tuple[int, int, int, int]]
) -> None:
    graph, linear = full(16, 8, weight_bits, x)
    pack = packing(graph, linear, timing(name))
    spec = fold_outputs_spec(graph, linear, (), 4, timing(name))
    dsp = planned(spec, graph, timing(name)).resources.dsp
    assert (pack.ways, pack.group, pack.weight_bits, dsp) == expected[kind_of(name)]


@pytest.mark.parametrize("name", DEVICES)
def test_nine_products_of_20_by_16_bits(name: str) -> None:
    builder = GraphBuilder()
    x = builder.add(Input(shape=(9,), range=Range.fixed(20, 0)), "x")
    y = builder.add(Input(shape=(9,), range=Range.fixed(16, 0)), "y")
    builder.output("z", builder.add(Multiply(x=x, y=y), "p"))
    spec, graph = Elementwise(nodes=("p",)), builder.build()
    expected = {"vu13p": 9, "xc7z020": 9, "arria10-gx1150": 9, "ecp5-85f": 18}
    assert planned(spec, graph, timing(name)).resources.dsp == expected[kind_of(name)]


@pytest.mark.parametrize("name", list_devices())
def test_a_product_by_minus_one_takes_no_multiplier(name: str) -> None:
    """The code of -1 has one bit; where frac takes up the rest, so have those of -2, -4, -1/2."""
    builder = GraphBuilder()
    x = builder.add(Input(shape=(9,), range=Range.fixed(20, 0)), "x")
    minus = builder.add(Constant(values=IntArray.of([-1]), frac=-5), "minus")
    builder.output("z", builder.add(Multiply(x=x, y=minus), "p"))
    spec, graph = Elementwise(nodes=("p",)), builder.build()
    found = planned(spec, graph, timing(name)).resources
    assert (found.dsp, found.lut) == (0, 9 * 20)


@pytest.mark.parametrize("name", DEVICES)
def test_products_of_18_by_16_bits_are_two_in_a_block_of_an_arria(name: str) -> None:
    assert FABRICS[name].dsp_blocks(9, 16, 18) == (5 if name == "arria10-gx1150" else 9)


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize(
    ("address", "levels", "expected"),
    [
        # LUTs and parts of block RAM of 5 tables with 8 bits, and their latency
        (6, 1, {"vu13p": (40, 0, 1), "xc7z020": (40, 0, 1), "arria10-gx1150": (40, 0, 1), "ecp5-85f": (160, 0, 1)}),
        (8, 1, {"vu13p": (160, 0, 1), "xc7z020": (160, 0, 1), "arria10-gx1150": (0, 5, 2), "ecp5-85f": (0, 5, 2)}),
        (8, 2, {"vu13p": (160, 0, 1), "xc7z020": (160, 0, 1), "arria10-gx1150": (160, 0, 1), "ecp5-85f": (640, 0, 1)}),
        (9, 1, {"vu13p": (320, 0, 1), "xc7z020": (0, 5, 2), "arria10-gx1150": (0, 5, 2), "ecp5-85f": (0, 5, 2)}),
        (10, 2, {"vu13p": (640, 0, 1), "xc7z020": (640, 0, 1), "arria10-gx1150": (0, 5, 2), "ecp5-85f": (0, 5, 2)}),
        (12, 2, {"vu13p": (0, 10, 2), "xc7z020": (0, 10, 2), "arria10-gx1150": (0, 10, 2), "ecp5-85f": (0, 10, 2)}),
    ],
)
def test_tables(name: str, address: int, levels: int, expected: dict[str, tuple[int, int, int]]) -> None:
    builder = GraphBuilder()
    x = builder.add(Input(shape=(5,), range=Range.fixed(address, 0)), "x")
    values = IntArray.of([k * 37 % 256 for k in range(1 << address)])
    builder.output("y", builder.add(Lookup(x=x, table=values, frac=0), "t"))
    graph, spec = builder.build(), Table(lookup="t")
    rules = level_timing(FABRICS[name], levels, net_ps=ADDITION_PS * levels // (levels + 1))  # so many LUTs in a row
    cost = planned(spec, graph, rules).resources
    assert (cost.lut, 2 * cost.bram36, planned(spec, graph, rules).latency_cycles) == expected[kind_of(name)]


@pytest.mark.parametrize("name", DEVICES)
def test_memories(name: str) -> None:
    fabric = FABRICS[name]
    assert memory_resources(32, 12, fabric, block=False).lut == {
        "vu13p": 8, "xc7z020": 8, "arria10-gx1150": 10, "ecp5-85f": 2 * 6 * 3 + 12 + 2,
    }[kind_of(name)]  # fmt: skip
    assert block_parts(512, 40, fabric) == (1 if name == "arria10-gx1150" else 2)
    assert shift_resources(33, 4, fabric) == (
        Resources(ff=132) if name in ("arria10-gx1150", "ecp5-85f") else Resources(lut=4, ff=4)
    )


def test_a_device_without_memories_of_luts_has_them_in_flip_flops() -> None:
    fabric = Fabric(
        lut_inputs=4,
        joined_lut_inputs=4,
        adder_takes_logic=True,
        lut_shift_cycles=0,
        lut_memories=(),
        one_port_lut_memories=(),
        multipliers=(Multiplier(wide=18, narrow=18, per_block=1),),
        least_product_bits=3,
        block_shapes=((512, 18),),
    )
    assert memory_resources(16, 3, fabric, block=False) == Resources(lut=3 * 15 + 16, ff=17 * 3)
    assert memory_resources(16, 3, fabric, block=False, one_address=True) == Resources(lut=3 * 15 + 16, ff=17 * 3)


@pytest.mark.parametrize("name", DEVICES)
def test_a_sum_of_four_in_one_stage_is_a_row_of_full_adders_and_an_adder_on_an_ecp5(name: str) -> None:
    builder = GraphBuilder()
    x = builder.add(Input(shape=(4,), range=Range.fixed(10, 0)), "x")
    builder.output("y", builder.add(Reduce(x=x, axes=(0,), kind=ReduceKind.SUM), "r"))
    graph, spec = builder.build(), ReduceTree(reduce="r")
    # Two sums of 10 bits and their sum; in one stage the two are counted twice.
    expected = (31, 51) if name == "ecp5-85f" else (31, 31)
    assert tuple(planned(spec, graph, timing(name, levels)).resources.lut for levels in (1, 2)) == expected


# Systems of different devices


@examples(300)
@given(
    fabrics=st.lists(st.sampled_from(sorted(DEVICES)), min_size=1, max_size=4, unique=True),
    bits=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    products=st.integers(1, 50),
    memory=st.tuples(st.integers(1, 1024), st.integers(1, 100)),
    choices=st.integers(1, 100),
)
def test_nothing_costs_less_on_several_devices_than_on_any_of_them(
    fabrics: list[str], bits: tuple[int, int], products: int, memory: tuple[int, int], choices: int
) -> None:
    shared = common(FABRICS[name] for name in fabrics)
    for own in (FABRICS[name] for name in fabrics):
        assert shared.dsp_blocks(products, *bits) >= own.dsp_blocks(products, *bits)
        assert shared.mux_luts(choices) >= own.mux_luts(choices)
        assert shared.rom_luts(choices) >= own.rom_luts(choices)
        assert block_parts(*memory, shared) >= block_parts(*memory, own)
        for one_address in (False, True):
            needs = [memory_resources(*memory, f, block=False, one_address=one_address) for f in (shared, own)]
            assert needs[0].lut >= needs[1].lut
        share = shared.packed_share(*bits)
        if share is not None:
            assert (own.packed_share(*bits) or 0) <= share
            assert own.packed_share(*bits) is not None


def test_a_chain_of_different_devices_is_planned_for_what_both_can_be(tmp_path: Path) -> None:
    (tmp_path / "boards").mkdir()
    board = (boards_directory() / "boards" / "pynq-z2.toml").read_text()
    lanes = '\n[[transceivers]]\nkind = "GTX"\nlanes = 4\nline_rate_gbps = 10.0\nconnector = "SFP"\n'
    for name, device in (("first", "xc7z020"), ("second", "ecp5-85f")):
        text = re.sub(r"^name = .*$", f'name = "{name}"', board, flags=re.MULTILINE)
        text = re.sub(r"^device = .*$", f'device = "{device}"', text, flags=re.MULTILINE)
        text = re.sub(r"^part = .*\n", "", text, flags=re.MULTILINE)
        (tmp_path / "boards" / f"{name}.toml").write_text(text + lanes)
    (tmp_path / "mixed.toml").write_text(
        'name = "mixed"\ntitle = "Mixed"\nclock_mhz = 100.0\nii = 20\nsource = "test"\n'
        '[[boards]]\nname = "a"\nboard = "first"\n[[boards]]\nname = "b"\nboard = "second"\n'
        '[[links]]\nfrom = "a"\nto = "b"\nlanes = 4\nline_rate_gbps = 10.0\nencoding = "64b66b"\nword_width_bits = 64\n'
        "latency_min_ns = 60.0\nlatency_max_ns = 100.0\n"
    )
    system = load_system(tmp_path / "mixed.toml")
    rules = system.timing
    assert rules.fabric == common([FABRICS["xc7z020"], FABRICS["ecp5-85f"]])
    assert (rules.fabric.lut_inputs, rules.fabric.multipliers) == (4, (Multiplier(wide=18, narrow=18, per_block=1),))
    assert rules.levels(16) == 3  # of the ECP5; the other one alone has 5
    assert Timing.of([load_device("xc7z020")], 10_000).levels(16) == 5
    graph, _ = full(12, 40, 8, Range(0, 255))
    design = plan(graph, system, PlanOptions())
    assert violations(design) == ()
    assert [fpga.fabric for fpga in design.fpgas] == [FABRICS["xc7z020"]] * len(design.fpgas)
    assert design_from_json(design_to_json(design), graph) == design


# A device of one's own


def own_device(folder: Path, change: dict[str, str], name: str = "ecp5-85f") -> Path:
    """Write a system whose device is a changed copy of a shipped one, and return its path."""
    (folder / "devices").mkdir()
    (folder / "boards").mkdir()
    text = (boards_directory() / "devices" / f"{name}.toml").read_text()
    for old, new in {f'name = "{name}"': 'name = "own"', **change}.items():
        assert old in text
        text = text.replace(old, new, 1)
    (folder / "devices" / "own.toml").write_text(text)
    board = (boards_directory() / "boards" / "ulx3s.toml").read_text()
    board = re.sub(r"^part = .*\n", "", board, flags=re.MULTILINE)
    board = board.replace('name = "ulx3s"', 'name = "own"').replace('device = "ecp5-85f"', 'device = "own"')
    (folder / "boards" / "own.toml").write_text(board)
    path = folder / "own-system.toml"
    path.write_text(
        'name = "own-system"\ntitle = "Own"\nclock_mhz = 80.0\nii = 8\nsource = "test"\n'
        '[[boards]]\nname = "a"\nboard = "own"\n'
    )
    return path


def test_a_family_that_nobody_has_heard_of_is_planned_by_its_file(tmp_path: Path) -> None:
    changes = {'family = "ecp5"': 'family = "gw2a"', 'command = "synth_ecp5"': 'command = "synth_gowin"'}
    slow = own_device(tmp_path, {**changes, 'timing = "ecp5"': 'timing = "gw2a"'})
    ecp5 = (boards_directory() / "timings" / "ecp5.toml").read_text()
    (tmp_path / "timings").mkdir()
    (tmp_path / "timings" / "gw2a.toml").write_text(
        ecp5.replace('name = "ecp5"', 'name = "gw2a"').replace("carry_entry_ps = 1400", "carry_entry_ps = 4200")
    )
    assert load_system(slow).timing.levels(16) == 2
    assert load_system("one-ulx3s").timing.levels(16) == 3
    graph, _ = full(12, 8, 8, Range(0, 255))
    design = plan(graph, load_system(slow), PlanOptions())
    assert violations(design) == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({'timing = "ecp5"\n': ""}, "missing key 'timing'"),
        ({'timing = "ecp5"': 'timing = "ecp6"'}, "key 'timing': unknown timing 'ecp6'"),
        ({"joined_lut_inputs = 7": "joined_lut_inputs = 3"},
         "key 'joined_lut_inputs' must be a whole number from 4 to 16, found 3"),
        ({"lut_inputs = 4": "lut_inputs = 8"}, "joined_lut_inputs must be at least lut_inputs, which is 8, found 7"),
        ({"\nlut_memory = [[16, 4, 6]]": "\nlut_memory = [[16, 4, 0]]"},
         "key 'lut_memory.0.2' must be a whole number from 1 to 1024, found 0"),
        ({"[512, 36]": "[512, 40]"},
         "key 'bram' part_shapes: 512 words of 40 bits are 20,480 bits, a part has 18,432 (18 Kb in 1)"),
        ({"least_product_bits = 3\n": ""}, "missing key 'dsp.least_product_bits'"),
        ({"multiplier_widths = [18, 18]": "multiplier_widths = [18, 1]"},
         "key 'dsp.multiplier_widths.1' must be a whole number from 2 to 64, found 1"),
    ],
)  # fmt: skip
def test_wrong_facts_are_refused_with_the_file(tmp_path: Path, change: dict[str, str], message: str) -> None:
    with pytest.raises(ModelError) as caught:
        load_system(own_device(tmp_path, change))
    assert f"{tmp_path / 'devices' / 'own.toml'}: {message}" in str(caught.value)
    assert caught.value.exit_code == 2
