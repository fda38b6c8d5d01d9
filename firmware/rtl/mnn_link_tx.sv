/// Sender of a link: frames the payload of one event on `Lanes` lanes. Latency: 3 cycles from `word_i` to `lane_o`.
///
/// `start_i` is high for one cycle, with word 0 of every lane on `word_i`; words 1 .. FrameWords-1 follow in the next cycles.
/// Events may follow each other every FrameWords cycles. `error_i` (the event is damaged already) is sampled with the last word.
///
/// A lane word on `lane_o` is {marker, valid, start, word[62:0]}; start is 1 in word 0 of a frame and 0 in all others. Bits 62:23
/// of the last word are the tail {sequence[6:0], crc[31:0], error}; `word_i` is ignored there. The sequence number counts
/// events modulo 128.
/// crc = zlib.crc32(all words of the lane's frame with their starts as little-endian bytes, the crc field taken as 0, seeded with `stamp`);
/// stamp = cycles since the last `orbit_zero_i`, modulo 65536, in the cycle of `start_i`. A frame that reaches the receiver in
/// another cycle than it should therefore fails its check like a damaged one.
/// `orbit_zero_i` sets the marker bit on the words that are on `word_i` in the same cycle, idle or not.
`default_nettype none

module mnn_link_tx #(
  parameter int FrameWords = 1,   // >= 1
  parameter int Lanes      = 1    // >= 1
) (
  input  wire                 clk_i,
  input  wire                 rst_i,       // synchronous, active high
  input  wire                 orbit_zero_i,
  input  wire                 start_i,
  input  wire                 error_i,
  input  wire  [Lanes*63-1:0] word_i,
  output logic [Lanes*66-1:0] lane_o
);

`ifndef __ICARUS__  // Icarus 11 has no elaboration checks
  if (FrameWords < 1) begin : gen_check_words
    $error("mnn_link_tx: FrameWords=%0d, at least 1 is needed", FrameWords);
  end
  if (Lanes < 1) begin : gen_check_lanes
    $error("mnn_link_tx: Lanes=%0d, at least 1 is needed", Lanes);
  end
`endif

  localparam int                    IndexWidth = (FrameWords > 0) ? $clog2(FrameWords + 1) : 1;
  localparam logic [IndexWidth-1:0] BeforeLast = (FrameWords > 1) ? IndexWidth'(FrameWords - 2) : '1;
  localparam logic [IndexWidth-1:0] IdleIndex  = IndexWidth'(FrameWords);

  // Stage 1: the words as they come, and what they are.
  logic [IndexWidth-1:0] index_q;          // of the word in word_q; IdleIndex outside frames
  logic [Lanes*63-1:0]   word_q;
  logic                  start_q, valid_q, marker_q, error_q;
  logic [15:0]           stamp_q;          // of the word in word_q
  logic [6:0]            sequence_q;       // of the event in word_q
  logic                  last_q;

  wire last_d  = start_i ? FrameWords == 1 : FrameWords > 1 && index_q == BeforeLast;
  wire valid_d = start_i || (valid_q && !last_q);

  always_ff @(posedge clk_i) begin
    if (rst_i) begin
      index_q    <= IdleIndex;
      start_q    <= 1'b0;
      valid_q    <= 1'b0;
      last_q     <= 1'b0;
      marker_q   <= 1'b0;
      stamp_q    <= '0;
      sequence_q <= '1;                    // the first event is number 0
    end else begin
      if (start_i) index_q <= '0;
      else if (index_q != IdleIndex) index_q <= index_q + 1'b1;
      start_q    <= start_i;
      valid_q    <= valid_d;
      last_q     <= last_d;
      marker_q   <= orbit_zero_i;
      stamp_q    <= orbit_zero_i ? 16'd0 : stamp_q + 16'd1;
      sequence_q <= sequence_q + {6'd0, start_i};
    end
    word_q  <= word_i;
    error_q <= error_i;
  end

  // Stage 2: the tail but for the check sum, and the word's part of that: it is linear, so word and state are apart.
  // Stage 3: the check sum, in the tail of the last word.
  logic [15:0] stamp_2_q;

  always_ff @(posedge clk_i) begin
    stamp_2_q <= stamp_q;
  end

  for (genvar l = 0; l < Lanes; l++) begin : gen_lane
    logic        last_1_q, valid_1_q, start_2_q, last_2_q;  // flags that choose among all bits of the lane: its own
    logic [31:0] crc_q, part_q;
    logic [63:0] data_2_q, data_q;
    logic [1:0]  side_2_q, side_q;
    wire  [62:0] word    = word_q[l*63 +: 63];
    wire  [63:0] covered = {start_q, last_1_q ? {sequence_q, 32'd0, error_q, word[22:0]} : word};
    wire  [31:0] part, state_part;
    wire  [31:0] state_next = part_q ^ state_part;

    mnn_crc32 u_crc_word (
      .state_i(32'd0),
      .data_i (covered),
      .state_o(part)
    );

    mnn_crc32 u_crc_state (
      .state_i(start_2_q ? ~{16'd0, stamp_2_q} : crc_q),
      .data_i (64'd0),
      .state_o(state_part)
    );

    mnn_replica #(
      .Width(4)
    ) u_flags (
      .clk_i (clk_i),
      .data_i({last_d && !rst_i, valid_d && !rst_i, start_q, last_q}),
      .data_o({last_1_q, valid_1_q, start_2_q, last_2_q})
    );

    always_ff @(posedge clk_i) begin
      part_q   <= part;
      data_2_q <= valid_1_q ? covered : 64'd0;
      side_2_q <= rst_i ? 2'd0 : {marker_q, valid_q};
      crc_q    <= state_next;
      data_q   <= {data_2_q[63:56], last_2_q ? ~state_next : data_2_q[55:24], data_2_q[23:0]};
      side_q   <= rst_i ? 2'd0 : side_2_q;
    end

    assign lane_o[l*66 +: 66] = {side_q, data_q};
  end

endmodule

`default_nettype wire
