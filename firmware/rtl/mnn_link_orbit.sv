/// Orbit counter of one FPGA: counts 0 .. OrbitCycles-1 and around.
///
/// `cycle_o` is 0 in the cycle after `bc0_i`, whatever it was. Before the first `bc0_i` after a reset the FPGA does not know
/// where in the orbit it is: `synced_o` is low and `zero_o` stays low. Afterwards `zero_o` is high in the cycles in which
/// `cycle_o` is 0; further `bc0_i` pulses are needed only to correct the count.
`default_nettype none

module mnn_link_orbit #(
  parameter int OrbitCycles = 32076,              // 2 .. 65536
  parameter int Width       = $clog2(OrbitCycles) // derived, leave alone
) (
  input  wire              clk_i,
  input  wire              rst_i,     // synchronous, active high
  input  wire              bc0_i,
  output logic             synced_o,
  output logic             zero_o,
  output logic [Width-1:0] cycle_o
);

`ifndef __ICARUS__  // Icarus 11 has no elaboration checks
  if (OrbitCycles < 2 || OrbitCycles > 65536) begin : gen_check_orbit
    $error("mnn_link_orbit: OrbitCycles=%0d is outside 2..65536", OrbitCycles);
  end
`endif

  localparam logic [Width-1:0] LastCycle = Width'(OrbitCycles - 1);

  wire wrap = cycle_o == LastCycle;

  always_ff @(posedge clk_i) begin
    if (rst_i) begin
      synced_o <= 1'b0;
      zero_o   <= 1'b0;
      cycle_o  <= '0;
    end else begin
      synced_o <= synced_o || bc0_i;
      zero_o   <= bc0_i || (synced_o && wrap);
      cycle_o  <= (bc0_i || wrap) ? '0 : cycle_o + 1'b1;
    end
  end

endmodule

`default_nettype wire
