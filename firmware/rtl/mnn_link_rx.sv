/// Receiver of a link: every word leaves at a programmed cycle, whatever its raw latency was, and damage is always marked.
///
/// A word that was on `word_i` of mnn_link_tx n cycles after the sender's orbit zero is on `word_o` n cycles after the
/// receiver's orbit counter was ReleaseCycle. With both counters in step that is a latency of ReleaseCycle (modulo
/// OrbitCycles): 3 (sender) + raw latency + wait in the elastic buffer + 5 (receiver), so
///   ReleaseCycle = (3 + maximum raw latency + margin + 5 + receiver's count at the sender's zero) mod OrbitCycles.
/// Raw latencies from (maximum + margin - BufferWords + 1) to (maximum + margin) are absorbed.
///
/// `start_o` is high with word 0 of an event on `word_o`. `error_o` is valid with `done_o`, exactly FrameWords + 2 cycles after
/// `start_o` (three cycles after the last word), low otherwise. It is set if within the event's frame any lane has a wrong check
/// sum, a word that is not valid or whose start flag is wrong, or is not aligned, if sequence numbers differ between lanes or
/// jump, or if the sender had flagged it.
///
/// Starts: a valid word with the start flag (bit 63 of its data) on any aligned lane starts an event; if no lane is aligned, any
/// lane that has been. Nothing else does, so an event cannot begin at another word than its first; it ends by count.
/// `start_o` is high at most every EventCycles cycles, whatever arrives: all that follows relies on it. A start too early is
/// dropped. Nothing starts before the first alignment after reset.
///
/// `crc_errors_o` counts events that this link flagged (not those flagged upstream), and damage outside frames;
/// `alignment_losses_o` counts cycles in which a lane lost alignment. Both stop at 65535 and are cleared by `clear_i`.
`default_nettype none

module mnn_link_rx #(
  parameter int FrameWords   = 1,          // >= 1
  parameter int Lanes        = 1,          // >= 1
  parameter int EventCycles  = FrameWords, // least distance of two events, >= FrameWords
  parameter int OrbitCycles  = 32076,      // > BufferWords + 4, <= 65536
  parameter int ReleaseCycle = 0,          // < OrbitCycles
  parameter int BufferWords  = 32,         // a power of two, > SpreadCycles
  parameter int SpreadCycles = 31          // maximum raw latency - minimum raw latency + margin
) (
  input  wire                 clk_i,
  input  wire                 rst_i,                // synchronous, active high
  input  wire                 orbit_zero_i,
  input  wire  [Lanes*66-1:0] lane_i,
  output logic                start_o,
  output logic [Lanes*63-1:0] word_o,
  output logic                done_o,
  output logic                error_o,
  output logic                aligned_o,
  input  wire                 clear_i,
  output logic [15:0]         crc_errors_o,
  output logic [15:0]         alignment_losses_o
);

`ifndef __ICARUS__  // Icarus 11 has no elaboration checks
  if (FrameWords < 1 || Lanes < 1) begin : gen_check_shape
    $error("mnn_link_rx: FrameWords=%0d, Lanes=%0d, at least 1 is needed of each", FrameWords, Lanes);
  end
  if (EventCycles < FrameWords) begin : gen_check_rate
    $error("mnn_link_rx: EventCycles=%0d is less than FrameWords=%0d", EventCycles, FrameWords);
  end
  if (OrbitCycles <= BufferWords + 4 || OrbitCycles > 65536) begin : gen_check_orbit
    $error("mnn_link_rx: OrbitCycles=%0d is not above BufferWords=%0d plus 4, or above 65536", OrbitCycles, BufferWords);
  end
  if (ReleaseCycle < 0 || ReleaseCycle >= OrbitCycles) begin : gen_check_release
    $error("mnn_link_rx: ReleaseCycle=%0d is outside 0..OrbitCycles-1 with OrbitCycles=%0d", ReleaseCycle, OrbitCycles);
  end
  if (SpreadCycles >= BufferWords) begin : gen_check_spread
    $error("mnn_link_rx: SpreadCycles=%0d needs more than BufferWords=%0d", SpreadCycles, BufferWords);
  end
`endif

  // Time: cycles until the word sent with the marker is due on word_o, and cycles since then. That word is read 2 cycles
  // before it is due, and was on lane_q of its elastic buffer LeastWait cycles before or earlier.
  localparam int CountWidth   = $clog2(OrbitCycles);
  localparam int AddressWidth = $clog2(BufferWords);
  localparam int AfterZero    = (ReleaseCycle == 0) ? OrbitCycles - 1 : ReleaseCycle - 1;
  localparam int LeastWait    = 4;
  localparam int MostWait     = BufferWords + LeastWait - 1;
  localparam bit WindowAfterZero = AfterZero >= LeastWait && AfterZero <= MostWait;

  logic                    synced_q, window_q, window_end_q;
  logic [CountWidth-1:0]   to_release_q;
  logic                    release_q;         // to_release_q is 0
  logic [AddressWidth-1:0] read_next_q;       // address read in the next cycle
  logic [AddressWidth-1:0] marker_address_q;  // address read 2 cycles before the release
  logic [15:0]             stamp_q;           // cycles from the marker's word to the one on word_o, modulo 65536

  wire synced    = synced_q || orbit_zero_i;
  wire release_d = orbit_zero_i ? AfterZero == 0 : to_release_q == CountWidth'(1);

  always_ff @(posedge clk_i) begin
    if (rst_i) begin
      synced_q         <= 1'b0;
      window_q         <= 1'b0;
      window_end_q     <= 1'b0;
      to_release_q     <= '0;
      release_q        <= 1'b1;
      read_next_q      <= '0;
      marker_address_q <= '0;
      stamp_q          <= '0;
    end else begin
      synced_q     <= synced;
      window_q     <= synced && (orbit_zero_i ? WindowAfterZero : to_release_q > CountWidth'(LeastWait)
                                                                  && to_release_q <= CountWidth'(MostWait + 1));
      window_end_q <= synced && (orbit_zero_i ? AfterZero == LeastWait : to_release_q == CountWidth'(LeastWait + 1));
      if (orbit_zero_i) to_release_q <= CountWidth'(AfterZero);
      else if (release_q) to_release_q <= CountWidth'(OrbitCycles - 1);
      else to_release_q <= to_release_q - 1'b1;
      release_q   <= release_d;
      read_next_q <= read_next_q + 1'b1;
      if (orbit_zero_i) marker_address_q <= read_next_q + AddressWidth'(AfterZero + BufferWords - 2);
      else if (release_q) marker_address_q <= read_next_q + AddressWidth'(OrbitCycles - 1 + BufferWords - 2);
      stamp_q     <= release_d ? 16'd0 : stamp_q + 16'd1;
    end
  end

  // Lanes, three stages: the words read from the buffers (due), the ones that are next, and those on word_o. What the side
  // bits of each lane say is found out while its word is due, what they say together while it is next.
  logic [Lanes-1:0] good, trained, lost;              // of the elastic buffers, for the words due next cycle
  logic [Lanes-1:0] good_due_q, heard_due_q;          // heard: lanes whose side bits count
  logic [Lanes-1:0] start_next_q;                     // start flags of valid words, 0 on lanes not heard
  logic [Lanes-1:0] lane_bad_q, lane_stray_q;         // of the words that were on word_o one cycle ago
  logic [Lanes*40-1:0] tail_q;                        // of the same
  logic [Lanes-1:0] crc_bad_q, sequence_bad_q, upstream;
  logic             lost_q;

  always_ff @(posedge clk_i) begin
    if (rst_i) begin
      good_due_q  <= '0;
      heard_due_q <= '0;
      lost_q      <= 1'b0;
    end else begin
      good_due_q  <= good;
      heard_due_q <= (good != '0) ? good : trained;
      lost_q      <= lost != '0;
    end
  end

  // Events: which word is on word_o, and when the next event may start.
  localparam int           IndexWidth = $clog2(EventCycles + 1);
  localparam logic [IndexWidth-1:0] IdleIndex  = IndexWidth'(EventCycles);
  localparam logic [IndexWidth-1:0] BeforeFree = (EventCycles > 1) ? IndexWidth'(EventCycles - 2) : '1;
  localparam logic [IndexWidth-1:0] BeforeLast = (FrameWords > 1) ? IndexWidth'(FrameWords - 2) : '1;
  localparam logic [IndexWidth-1:0] TwoBefore  = (FrameWords > 2) ? IndexWidth'(FrameWords - 3) : '1;

  logic [IndexWidth-1:0] index_q;        // cycles since start_o, stops at EventCycles
  (* max_fanout = 64 *)
  logic                  start_q;        // start_o
  logic                  free_q;         // EventCycles since the last start, or more
  logic                  last_word_q;    // the last word of a frame is on word_o
  logic                  in_frame_q;     // a word of a frame is on word_o

  wire fire        = free_q && start_next_q != '0;
  wire last_word_d = (FrameWords == 1) ? fire : index_q == BeforeLast;
  // The word that will be next is the last one of its frame.
  wire last_next_d = (FrameWords == 1) || ((FrameWords == 2) ? fire : index_q == TwoBefore);

  always_ff @(posedge clk_i) begin
    if (rst_i) begin
      index_q     <= IdleIndex;
      start_q     <= 1'b0;
      free_q      <= 1'b1;
      last_word_q <= 1'b0;
      in_frame_q  <= 1'b0;
    end else begin
      if (fire) index_q <= '0;
      else if (index_q != IdleIndex) index_q <= index_q + 1'b1;
      start_q     <= fire;
      free_q      <= fire ? EventCycles == 1 : free_q || (EventCycles > 1 && index_q == BeforeFree);
      last_word_q <= last_word_d;
      in_frame_q  <= fire || (in_frame_q && !last_word_q);
    end
  end

  assign start_o = start_q;

  for (genvar l = 0; l < Lanes; l++) begin : gen_lane
    logic [64:0] due;
    logic [63:0] word_next_q;             // with the start flag
    logic [62:0] word_q;
    logic [31:0] part, part_q, crc_q, state_part;
    logic        good_next_q, heard_next_q, valid_next_q;
    logic        good_q, heard_q, flag_q, valid_q;  // of the word on word_o; flag: that of a start
    logic        fresh_q;                 // ... the lane was not good one word earlier: it may be anywhere in a frame
    logic        middle_q;                // ... the lane may be inside a frame that did not begin here, or has been counted
    logic        start_lane_q, last_lane_q;  // flags that choose among all bits of the lane: its own

    mnn_link_elastic #(
      .BufferWords(BufferWords)
    ) u_elastic (
      .clk_i           (clk_i),
      .rst_i           (rst_i),
      .window_i        (window_q),
      .window_end_i    (window_end_q),
      .marker_address_i(marker_address_q),
      .read_address_i  (read_next_q),
      .lane_i          (lane_i[l*66 +: 66]),
      .word_o          (due),
      .good_o          (good[l]),
      .trained_o       (trained[l]),
      .lost_o          (lost[l])
    );

    wire heard = heard_due_q[l];
    wire valid = due[64] && heard;

    always_ff @(posedge clk_i) begin
      if (rst_i) begin
        good_next_q     <= 1'b0;
        heard_next_q    <= 1'b0;
        valid_next_q    <= 1'b0;
        start_next_q[l] <= 1'b0;
        good_q          <= 1'b0;
        heard_q         <= 1'b0;
        valid_q         <= 1'b0;
        flag_q          <= 1'b0;
        fresh_q         <= 1'b0;
        middle_q        <= 1'b1;
        lane_stray_q[l] <= 1'b0;
      end else begin
        good_next_q     <= good_due_q[l];
        heard_next_q    <= heard;
        valid_next_q    <= valid;
        start_next_q[l] <= valid && due[63];
        good_q          <= good_next_q;
        heard_q         <= heard_next_q;
        valid_q         <= valid_next_q;
        flag_q          <= start_next_q[l];
        fresh_q         <= good_next_q && !good_q;
        middle_q        <= !heard_q || (valid_q && !in_frame_q);
        lane_stray_q[l] <= valid_q && !in_frame_q && !middle_q && !fresh_q;
      end
      lane_bad_q[l]  <= !good_q || !valid_q || flag_q != start_q;
      word_next_q    <= due[63:0];
      word_q         <= word_next_q[62:0];
      tail_q[l*40 +: 40] <= word_q[62:23];
      part_q         <= part;
      crc_q          <= part_q ^ state_part;
    end

    mnn_replica #(
      .Width(2)
    ) u_flags (
      .clk_i (clk_i),
      .data_i({fire, last_next_d}),
      .data_o({start_lane_q, last_lane_q})
    );

    assign word_o[l*63 +: 63] = word_q;

    // The check sum is linear: the word's part is made one cycle ahead of the state's.
    mnn_crc32 u_crc_word (
      .state_i(32'd0),
      .data_i ({word_next_q[63:56], last_lane_q ? 32'd0 : word_next_q[55:24], word_next_q[23:0]}),
      .state_o(part)
    );

    mnn_crc32 u_crc_state (
      .state_i(start_lane_q ? ~{16'd0, stamp_q} : crc_q),
      .data_i (64'd0),
      .state_o(state_part)
    );

    // One cycle after the last word.
    always_ff @(posedge clk_i) begin
      crc_bad_q[l]      <= tail_q[l*40+1 +: 32] != ~crc_q;
      sequence_bad_q[l] <= tail_q[l*40+33 +: 7] != tail_q[39:33];
    end
    assign upstream[l] = tail_q[l*40];
  end

  // The verdict: ended_q bit k is high k + 1 cycles after the last word. A bad word marks the event whose frame it lies in.
  logic [1:0] ended_q;
  logic       start_1_q;
  logic       bad_q;                   // all words up to two cycles ago
  logic       upstream_q, done_q, flag_q, error_q;
  logic       stray_q;

  // Sequence numbers: the same on all lanes, and one more than in the event before if that was in order.
  logic [6:0] sequence_next_q;
  wire  [6:0] sequence_0 = tail_q[39:33];
  logic       sequence_known_q, jump_q;

  wire frame_bad = bad_q || crc_bad_q != '0 || sequence_bad_q != '0;
  wire tail_bad  = frame_bad || (sequence_known_q && jump_q);

  always_ff @(posedge clk_i) begin
    if (rst_i) begin
      ended_q          <= '0;
      done_q           <= 1'b0;
      flag_q           <= 1'b0;
      error_q          <= 1'b0;
      stray_q          <= 1'b0;
      sequence_known_q <= 1'b0;
    end else begin
      ended_q      <= {ended_q[0], last_word_q};
      done_q       <= ended_q[1];
      flag_q       <= ended_q[1] && tail_bad;
      error_q      <= ended_q[1] && (tail_bad || upstream_q);
      stray_q      <= lane_stray_q != '0;
      if (ended_q[1]) sequence_known_q <= !frame_bad;
    end
    start_1_q   <= start_q;
    bad_q       <= (!start_1_q && bad_q) || lane_bad_q != '0;
    upstream_q  <= upstream != '0;
    jump_q      <= sequence_0 != sequence_next_q;
    if (ended_q[0]) sequence_next_q <= sequence_0 + 7'd1;
  end

  assign done_o  = done_q;
  assign error_o = error_q;

  // Status.
  logic count_crc_q;

  always_ff @(posedge clk_i) begin
    aligned_o    <= !rst_i && (&good_due_q);
    count_crc_q  <= !rst_i && (flag_q || stray_q);
    if (rst_i || clear_i) begin
      crc_errors_o       <= '0;
      alignment_losses_o <= '0;
    end else begin
      if (count_crc_q && crc_errors_o != '1) crc_errors_o <= crc_errors_o + 16'd1;
      if (lost_q && alignment_losses_o != '1) alignment_losses_o <= alignment_losses_o + 16'd1;
    end
  end

endmodule

`default_nettype wire
