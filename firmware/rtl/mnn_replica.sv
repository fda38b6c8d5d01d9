/// A register that stays one: a copy of a register for some of what it would drive, placed beside that.
/// Synthesis merges registers that hold the same; it keeps out of this module (`keep_hierarchy` for Vivado and Yosys,
/// `dont_touch` for Vivado's later steps). No reset.
`default_nettype none

(* keep_hierarchy = "yes", dont_touch = "yes" *)
module mnn_replica #(
  parameter int Width = 1   // >= 1
) (
  input  wire              clk_i,
  input  wire  [Width-1:0] data_i,
  output logic [Width-1:0] data_o
);

`ifndef __ICARUS__  // Icarus 11 has no elaboration checks
  if (Width < 1) begin : gen_check_width
    $error("mnn_replica: Width=%0d, at least 1 is needed", Width);
  end
`endif

  always_ff @(posedge clk_i) data_o <= data_i;

endmodule

`default_nettype wire
