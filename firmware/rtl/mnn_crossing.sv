/// From one super logic region into its neighbour: the output is the input, exactly `Registers` cycles later.
/// `leave_q` stands in the region that is left and `arrive_q` in the one that is reached (the build's regions.xdc); what is
/// between them is the placer's, so that a super long line has a register at either end. No reset of data; none of the
/// registers becomes a shift register.
`default_nettype none

(* keep_hierarchy = "yes" *)
module mnn_crossing #(
  parameter int Width     = 8,   // >= 1
  parameter int Registers = 3    // >= 2
) (
  input  wire              clk_i,
  input  wire  [Width-1:0] data_i,
  output logic [Width-1:0] data_o
);

`ifndef __ICARUS__  // Icarus 11 has no elaboration checks
  if (Width < 1 || Registers < 2) begin : gen_check_width
    $error("mnn_crossing: Width=%0d, at least 1 is needed; Registers=%0d, at least 2", Width, Registers);
  end
`endif

  (* shreg_extract = "no", keep = "true" *) logic [Width-1:0] leave_q;
  (* shreg_extract = "no", keep = "true" *) logic [Width-1:0] arrive_q;

  always_ff @(posedge clk_i) leave_q <= data_i;

  if (Registers == 2) begin : gen_direct
    always_ff @(posedge clk_i) arrive_q <= leave_q;
  end else begin : gen_between
    (* shreg_extract = "no", keep = "true" *) logic [(Registers-2)*Width-1:0] between_q;  // the youngest lowest
    always_ff @(posedge clk_i) begin
      between_q <= ((Registers-2)*Width)'({between_q, leave_q});
      arrive_q  <= between_q[(Registers-2)*Width-1 -: Width];
    end
  end

  assign data_o = arrive_q;

endmodule

`default_nettype wire
