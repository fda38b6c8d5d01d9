"""Pulse trains: their factors, and in simulation a pulse in every given cycle and in no other."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from harness import FIRMWARE, check_stimulus
from hypothesis import given
from hypothesis import strategies as st

from metronn.emit.rtl.pulse_trains import train_text
from metronn.plan.hardware.boards import load_device
from metronn.plan.hardware.resources import Resources
from metronn.plan.kernels.pulse_trains import Nest, counter_bits, nest_of, train_resources
from metronn.verify.simulator import build, lint
from random_tests import builds
from simulators import need

FABRIC = load_device("vu13p").fabric

RESET_CYCLES = 4

PATTERNS: tuple[tuple[int, ...], ...] = (
    (0,),
    (1,),
    (2,),
    (7,),
    (0, 1),
    (0, 5),
    (1, 2, 3, 4),
    tuple(range(8)),
    tuple(range(0, 36, 4)),
    tuple(range(3, 30, 3)),
    tuple(9 * row + k for row in range(4) for k in range(5)),
    tuple(12 * row + 2 * k for row in range(3) for k in range(6)),
    tuple(1 + 40 * i + 10 * j + 2 * k for i in range(2) for j in range(3) for k in range(4)),
    tuple(2 + 50 * i + 10 * j + k for i in range(3) for j in range(4) for k in range(3)),
    (0, 1, 4, 6, 11),
    (2, 3, 5, 8, 9, 31),
    (1, 31),
    (0, 2, 3),
)


def nested(nest: Nest) -> list[int]:
    """Cycles of a nest, from its definition."""
    cycles = [nest.first]
    for count, period in nest.levels:
        cycles = [c + k * period for k in range(count) for c in cycles]
    return cycles


@st.composite
def nests(draw: st.DrawFn) -> Nest:
    """Draw up to three levels that do not overlap."""
    levels: list[tuple[int, int]] = []
    reach = 0
    for _ in range(draw(st.integers(0, 3))):
        period, count = reach + draw(st.integers(1, 4)), draw(st.integers(2, 5))
        levels.append((count, period))
        reach += (count - 1) * period
    return Nest(first=draw(st.integers(0, 5)), levels=tuple(levels))


@given(nests())
def test_a_nest_is_found_again(nest: Nest) -> None:
    cycles = nested(nest)
    found = nest_of(cycles)
    assert found is not None
    assert nested(found) == cycles
    assert len(found.levels) <= len(nest.levels)
    assert found.pulses == len(cycles)


def test_factors_of_known_patterns() -> None:
    assert nest_of([0]) == Nest(first=0, levels=())
    assert nest_of([0, 4, 8, 12]) == Nest(first=0, levels=((4, 4),))
    assert nest_of([3, 4, 13, 14]) == Nest(first=3, levels=((2, 1), (2, 10)))
    assert nest_of([0, 1, 2, 3, 4, 6]) is None
    assert nest_of([0, 1, 3]) is None
    image = [1600 * event + 80 * row + 4 * column for event in range(1) for row in range(20) for column in range(20)]
    assert nest_of(image) == Nest(first=0, levels=((400, 4),))


def test_a_single_pulse_at_the_start_is_the_start() -> None:
    assert train_text("go", "start_i", (0,)) == ["  wire go = start_i;", ""]
    assert train_resources((0,), FABRIC) == Resources()
    assert train_resources(range(0, 1600, 4), FABRIC).ff == 1 + 2 + 9


def test_cycles_that_do_not_rise_are_refused() -> None:
    for cycles in ((), (-1, 2), (0, 0), (3, 2)):
        with pytest.raises(ValueError, match="the cycles of a train rise"):
            train_text("go", "start_i", cycles)


def bench(patterns: Sequence[tuple[int, ...]], directory: Path, gaps: Sequence[int]) -> tuple[list[Path], Path]:
    """Write all trains into one module and the pulses wanted: events `span + gap` apart.

    The last bit of the stimulus is a further reset.
    """
    lines, outs, ins = [f"  wire reset = rst_i || stimulus_i[{len(patterns)}];"], 0, len(patterns) + 1
    places = []
    for k, cycles in enumerate(patterns):
        bits = counter_bits(len(cycles))
        lines += train_text(f"t{k}", f"stimulus_i[{k}]", cycles, index=f"n{k}", reset="reset")
        lines += [f"  assign response_o[{outs} +: {bits + 1}] = {{n{k}, t{k}}};", ""]
        places.append((outs, bits))
        outs += bits + 1
    text = (
        "`default_nettype none\n\nmodule trains (\n  input  wire clk_i,\n  input  wire rst_i,\n"
        f"  input  wire  [{ins - 1}:0] stimulus_i,\n  output logic [{outs - 1}:0] response_o\n);\n\n"
        + "\n".join(lines)
        + "\nendmodule\n\n`default_nettype wire\n"
    )
    source = directory / "trains.sv"
    source.write_text(text)
    starts = []
    for k, cycles in enumerate(patterns):
        cycle, own = RESET_CYCLES + k, []
        for gap in gaps:
            own.append(cycle)
            cycle += cycles[-1] + 1 + gap
        starts.append(own)
    total = max(own[-1] + cycles[-1] for own, cycles in zip(starts, patterns, strict=True)) + 4
    rows = []
    for cycle in range(total):
        given_bits = wanted = promised = 0
        for k, cycles in enumerate(patterns):
            offset, bits = places[k]
            promised |= (cycle >= RESET_CYCLES) << offset
            given_bits |= (cycle in starts[k]) << k
            for start in starts[k]:
                if cycle - start in cycles:
                    wanted |= (1 | cycles.index(cycle - start) << 1) << offset
                    promised |= ((2 << bits) - 1) << offset
        rows.append([f"{given_bits:x}", f"{wanted:x}", f"{promised:x}"])
    cases = [[f"t{k}: {patterns[k]}", o, b + 1, 0, [0, *starts[k]]] for k, (o, b) in enumerate(places)]
    stimulus = directory / "stimulus.json"
    stimulus.write_text(json.dumps({"reset_cycles": RESET_CYCLES - 1, "cycles": rows, "cases": cases}))
    return [source], stimulus


def check(patterns: Sequence[tuple[int, ...]], simulator: str, directory: Path, gaps: Sequence[int]) -> None:
    """Every train gives its pulses and their numbers, and nothing else."""
    need(simulator)
    files, stimulus = bench(patterns, directory, gaps)
    simulation = build(simulator=simulator, files=files, top="trains")
    check_stimulus(simulation, stimulus, directory / "run")


def test_pulses_in_icarus(tmp_path: Path) -> None:
    check(PATTERNS, "icarus", tmp_path, (0, 0, 1, 0, 5, 1, 0))


@builds(2)
@given(found=st.lists(nests(), min_size=12, max_size=12))
def test_drawn_nests_in_icarus(found: list[Nest], tmp_path_factory: pytest.TempPathFactory) -> None:
    patterns = [tuple(nested(nest)) for nest in found]
    check(patterns, "icarus", tmp_path_factory.mktemp("icarus"), (0, 1, 0, 0, 3))


def test_reset_stops_a_train(tmp_path: Path) -> None:
    """After a reset in the middle of an event nothing more comes of it; the next event counts from its start."""
    need("icarus")
    patterns = [cycles for cycles in PATTERNS if cycles[-1] > 4]
    files, stimulus = bench(patterns, tmp_path, (0,))
    plan = json.loads(stimulus.read_text())
    stop = RESET_CYCLES + len(patterns) + 3
    pulses = f"{sum(1 << offset for _, offset, *_ in plan['cases']):x}"
    reset = [[f"{1 << len(patterns):x}", "0", "0"]]
    rows = plan["cycles"]
    plan["cycles"] = rows[:stop] + reset + [["0", "0", pulses]] * 150 + rows[RESET_CYCLES:]
    stimulus.write_text(json.dumps(plan))
    simulation = build(simulator="icarus", files=files, top="trains")
    check_stimulus(simulation, stimulus, tmp_path / "run")


@pytest.mark.slow
def test_trains_are_lint_clean_and_run_in_verilator(tmp_path: Path) -> None:
    need("verilator")
    files, _ = bench(PATTERNS, tmp_path, (0,))
    said = lint([FIRMWARE / "lint.vlt", *files], "trains")
    assert not said, said[:4000]
    check(PATTERNS, "verilator", tmp_path, (0, 0, 1, 0, 5, 1, 0))
