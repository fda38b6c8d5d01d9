/// Simulation only: a whole link. Sender, one lane model per lane, receiver, and an orbit counter on either side.
`default_nettype none

module mnn_link_bench #(
  parameter int FrameWords    = 3,
  parameter int Lanes         = 2,
  parameter int EventCycles   = FrameWords,
  parameter int OrbitCycles   = 100,
  parameter int RawMin        = 1,
  parameter int RawMax        = 12,
  parameter int Margin        = 2,
  parameter int OrbitOffset   = 0,    // receiver's count when the sender's is 0
  parameter int BufferWords   = 16,
  parameter int MaxLatency    = 31,
  parameter int LatencyWidth  = $clog2(MaxLatency + 1)
) (
  input  wire                          clk_i,
  input  wire                          rst_i,
  input  wire                          tx_bc0_i,
  input  wire                          rx_bc0_i,
  input  wire                          start_i,
  input  wire                          error_i,
  input  wire  [Lanes*63-1:0]          word_i,
  input  wire  [Lanes*LatencyWidth-1:0] raw_latency_i,
  input  wire  [Lanes-1:0]             slip_i,
  input  wire  [Lanes*66-1:0]          flip_i,
  input  wire  [Lanes-1:0]             dead_i,
  input  wire                          clear_i,
  output logic                         tx_zero_o,
  output logic [Lanes*66-1:0]          sent_o,
  output logic                         start_o,
  output logic [Lanes*63-1:0]          word_o,
  output logic                         done_o,
  output logic                         error_o,
  output logic                         aligned_o,
  output logic [15:0]                  crc_errors_o,
  output logic [15:0]                  alignment_losses_o
);

  localparam int ReleaseCycle = (3 + RawMax + Margin + 5 + OrbitOffset) % OrbitCycles;

  logic rx_zero;
  logic [Lanes*66-1:0] received;

  mnn_link_orbit #(
    .OrbitCycles(OrbitCycles)
  ) u_tx_orbit (
    .clk_i   (clk_i),
    .rst_i   (rst_i),
    .bc0_i   (tx_bc0_i),
    .synced_o(),
    .zero_o  (tx_zero_o),
    .cycle_o ()
  );

  mnn_link_orbit #(
    .OrbitCycles(OrbitCycles)
  ) u_rx_orbit (
    .clk_i   (clk_i),
    .rst_i   (rst_i),
    .bc0_i   (rx_bc0_i),
    .synced_o(),
    .zero_o  (rx_zero),
    .cycle_o ()
  );

  mnn_link_tx #(
    .FrameWords(FrameWords),
    .Lanes     (Lanes)
  ) u_tx (
    .clk_i       (clk_i),
    .rst_i       (rst_i),
    .orbit_zero_i(tx_zero_o),
    .start_i     (start_i),
    .error_i     (error_i),
    .word_i      (word_i),
    .lane_o      (sent_o)
  );

  for (genvar l = 0; l < Lanes; l++) begin : gen_lane
    mnn_link_model #(
      .MaxLatency(MaxLatency)
    ) u_model (
      .clk_i        (clk_i),
      .rst_i        (rst_i),
      .raw_latency_i(raw_latency_i[l*LatencyWidth +: LatencyWidth]),
      .slip_i       (slip_i[l]),
      .flip_i       (flip_i[l*66 +: 66]),
      .dead_i       (dead_i[l]),
      .lane_i       (sent_o[l*66 +: 66]),
      .lane_o       (received[l*66 +: 66])
    );
  end

  mnn_link_rx #(
    .FrameWords  (FrameWords),
    .Lanes       (Lanes),
    .EventCycles (EventCycles),
    .OrbitCycles (OrbitCycles),
    .ReleaseCycle(ReleaseCycle),
    .BufferWords (BufferWords),
    .SpreadCycles(RawMax - RawMin + Margin)
  ) u_rx (
    .clk_i             (clk_i),
    .rst_i             (rst_i),
    .orbit_zero_i      (rx_zero),
    .lane_i            (received),
    .start_o           (start_o),
    .word_o            (word_o),
    .done_o            (done_o),
    .error_o           (error_o),
    .aligned_o         (aligned_o),
    .clear_i           (clear_i),
    .crc_errors_o      (crc_errors_o),
    .alignment_losses_o(alignment_losses_o)
  );

endmodule

`default_nettype wire
