/// Simulation only: one lane with a raw latency of `raw_latency_i` cycles, 1 .. MaxLatency.
///
/// `raw_latency_i` is taken over while `rst_i` is high, and in a cycle with `slip_i` (the lane jumps while it runs: words in
/// flight are skipped or repeated). Bits set in `flip_i` are inverted in the word that enters in this cycle; `dead_i`
/// silences the output. No delays, so any simulator runs it.
`default_nettype none

module mnn_link_model #(
  parameter int MaxLatency = 32,
  parameter int LatencyWidth = $clog2(MaxLatency + 1)  // derived, leave alone
) (
  input  wire                     clk_i,
  input  wire                     rst_i,
  input  wire  [LatencyWidth-1:0] raw_latency_i,
  input  wire                     slip_i,
  input  wire  [65:0]             flip_i,
  input  wire                     dead_i,
  input  wire  [65:0]             lane_i,
  output logic [65:0]             lane_o
);

`ifndef __ICARUS__  // Icarus 11 has no elaboration checks
  if (MaxLatency < 1) begin : gen_check_latency
    $error("mnn_link_model: MaxLatency=%0d, at least 1 is needed", MaxLatency);
  end
`endif

  logic [65:0]             flight_q [MaxLatency];
  localparam int IndexWidth = (MaxLatency > 1) ? $clog2(MaxLatency) : 1;
  logic [IndexWidth-1:0] latency_q;   // raw latency - 1

  always_ff @(posedge clk_i) begin
    if (rst_i || slip_i) begin
      if (raw_latency_i == '0 || {1'b0, raw_latency_i} > (LatencyWidth+1)'(MaxLatency)) begin
        $error("mnn_link_model: raw_latency_i=%0d is outside 1..%0d", raw_latency_i, MaxLatency);
      end
      latency_q <= IndexWidth'(raw_latency_i - 1'b1);
    end
    flight_q[0] <= rst_i ? '0 : lane_i ^ flip_i;
    for (int i = 1; i < MaxLatency; i++) flight_q[i] <= rst_i ? '0 : flight_q[i-1];
  end

  assign lane_o = dead_i ? '0 : flight_q[latency_q];

endmodule

`default_nettype wire
