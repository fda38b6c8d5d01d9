/// Receiver of a link: every word leaves at a programmed cycle, whatever its raw latency was, and damage is always marked.
///
/// A word that was on `word_i` of mnn_link_tx n cycles after the sender's orbit zero is on `word_o` n cycles after the
/// receiver's orbit counter was ReleaseCycle. With both counters in step that is a latency of ReleaseCycle (modulo
/// OrbitCycles): 2 (sender) + raw latency + wait in the elastic buffer + 2 (receiver), so
///   ReleaseCycle = (2 + maximum raw latency + margin + 2 + receiver's count at the sender's zero) mod OrbitCycles.
/// Raw latencies from (maximum + margin - BufferWords + 1) to (maximum + margin) are absorbed.
///
/// `start_o` is high with word 0 of an event on `word_o`. `error_o` is valid with `done_o`, exactly FrameWords + 1 cycles after
/// `start_o` (two cycles after the last word), low otherwise. It is set if within the event's frame any lane has a wrong check sum,
/// a wrong valid/start/last bit or is not aligned, if sequence numbers differ between lanes or jump, if the event had to be
/// started without a clean start on all lanes, or if the sender had flagged it.
///
/// Starts: a start bit (or the first valid word after idle or after a last word, its start bit lost) on any aligned lane
/// starts an event; if no lane is aligned, any lane that has been. Nothing starts before the first alignment after reset.
/// `start_o` is high at most every EventCycles cycles, whatever arrives: all that follows relies on it. A clean start too early
/// after a clean one (a lane slipped) comes out, flagged, as soon as EventCycles have passed; any other start too early is dropped.
///
/// `crc_errors_o` counts events that this link flagged (not those flagged upstream), and damage outside frames;
/// `alignment_losses_o` counts cycles in which a lane lost alignment. Both stop at 65535 and are cleared by `clear_i`.
`default_nettype none

module mnn_link_rx #(
  parameter int FrameWords   = 1,          // >= 1
  parameter int Lanes        = 1,          // >= 1
  parameter int EventCycles  = FrameWords, // least distance of two events, >= FrameWords
  parameter int OrbitCycles  = 32076,      // > BufferWords + 2, <= 65536
  parameter int ReleaseCycle = 0,          // < OrbitCycles
  parameter int BufferWords  = 32,         // a power of two, > SpreadCycles
  parameter int SpreadCycles = 31          // maximum raw latency - minimum raw latency + margin
) (
  input  wire                 clk_i,
  input  wire                 rst_i,                // synchronous, active high
  input  wire                 orbit_zero_i,
  input  wire  [Lanes*68-1:0] lane_i,
  output logic                start_o,
  output logic [Lanes*64-1:0] word_o,
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
  if (OrbitCycles <= BufferWords + 2 || OrbitCycles > 65536) begin : gen_check_orbit
    $error("mnn_link_rx: OrbitCycles=%0d is not above BufferWords=%0d plus 2, or above 65536", OrbitCycles, BufferWords);
  end
  if (ReleaseCycle < 0 || ReleaseCycle >= OrbitCycles) begin : gen_check_release
    $error("mnn_link_rx: ReleaseCycle=%0d is outside 0..OrbitCycles-1 with OrbitCycles=%0d", ReleaseCycle, OrbitCycles);
  end
  if (SpreadCycles >= BufferWords) begin : gen_check_spread
    $error("mnn_link_rx: SpreadCycles=%0d needs more than BufferWords=%0d", SpreadCycles, BufferWords);
  end
`endif

  // Time: cycles until the word sent with the marker is due on word_o, and cycles since then.
  localparam int CountWidth   = $clog2(OrbitCycles);
  localparam int AddressWidth = $clog2(BufferWords);
  localparam int AfterZero    = (ReleaseCycle == 0) ? OrbitCycles - 1 : ReleaseCycle - 1;

  logic                    synced_q, window_q, window_end_q;
  logic [CountWidth-1:0]   to_release_q, to_release_d;
  logic [AddressWidth-1:0] read_address_q;
  logic [15:0]             stamp_q;        // cycles from the marker's word to the one on word_o, modulo 65536

  always_comb begin
    if (orbit_zero_i) to_release_d = CountWidth'(AfterZero);
    else if (to_release_q == '0) to_release_d = CountWidth'(OrbitCycles - 1);
    else to_release_d = to_release_q - 1'b1;
  end

  always_ff @(posedge clk_i) begin
    if (rst_i) begin
      synced_q       <= 1'b0;
      window_q       <= 1'b0;
      window_end_q   <= 1'b0;
      to_release_q   <= '0;
      read_address_q <= '0;
      stamp_q        <= '0;
    end else begin
      synced_q       <= synced_q || orbit_zero_i;
      window_q       <= (synced_q || orbit_zero_i) && to_release_d >= CountWidth'(2)
                        && to_release_d <= CountWidth'(BufferWords + 1);
      window_end_q   <= (synced_q || orbit_zero_i) && to_release_d == CountWidth'(2);
      to_release_q   <= to_release_d;
      read_address_q <= read_address_q + 1'b1;
      stamp_q        <= (to_release_d == '0) ? 16'd0 : stamp_q + 16'd1;
    end
  end

  // Lanes: the words due next, and what their side bits say.
  logic [Lanes-1:0] good, trained, lost;             // of the elastic buffers
  logic [Lanes-1:0] heard;                           // lanes whose side bits count
  logic [Lanes-1:0] last, start, valid;              // of the words due next; 0 on lanes not heard
  logic [Lanes-1:0] middle;                          // the lane is inside a frame by its own account, or unknown
  logic [Lanes-1:0] good_q, heard_q, last_q, start_q, valid_q, middle_q, middle_seen_q;  // of the words on word_o
  logic [Lanes-1:0] lane_bad, lane_stray, crc_bad, sequence_bad, upstream;
  logic [Lanes*40-1:0] tail_q;                       // of the words that were on word_o one cycle ago

  assign heard = (good != '0) ? good : trained;

  // Events: which word is on word_o, and which events are on their way to the verdict.
  localparam int           IndexWidth = $clog2(EventCycles + 1);
  localparam logic [IndexWidth-1:0] LastIndex  = IndexWidth'(FrameWords - 1);
  localparam logic [IndexWidth-1:0] FreeIndex  = IndexWidth'(EventCycles - 1);
  localparam logic [IndexWidth-1:0] IdleIndex  = IndexWidth'(EventCycles);

  logic [IndexWidth-1:0] index_q;        // cycles since start_o, stops at EventCycles
  logic                  clean_q;        // the last start was clean
  logic                  deferred_q;     // a clean start came too early
  logic [FrameWords+1:0] event_q;        // bit k: start_o was high k cycles ago
  logic [FrameWords+1:0] flag_q;         // bit k: ... and that event is flagged
  logic                  word_bad, tail_bad, upstream_q, stray_q;

  wire in_frame   = event_q[FrameWords-1:0] != '0;
  wire last_word  = index_q == LastIndex;
  wire all_start  = (start & valid) == heard && heard != '0;
  wire clean      = all_start && (&good);
  wire any_start  = (start | (valid & ~middle)) != '0;
  wire free       = index_q == FreeIndex || index_q == IdleIndex;
  wire in_time    = last_word && last_q == heard_q;  // the current frame ends where it should: the early start was none
  wire overdue    = deferred_q && !in_time;
  wire fire       = free && (any_start || overdue);

  always_ff @(posedge clk_i) begin
    if (rst_i) begin
      index_q    <= IdleIndex;
      clean_q    <= 1'b0;
      deferred_q <= 1'b0;
      event_q    <= '0;
      stray_q    <= 1'b0;
    end else begin
      if (fire) index_q <= '0;
      else if (index_q != IdleIndex) index_q <= index_q + 1'b1;
      if (fire) clean_q <= clean && !overdue;
      deferred_q <= !fire && (overdue || (all_start && clean_q && !free));
      event_q    <= {event_q[FrameWords:0], fire};
      stray_q    <= !in_frame && lane_stray != '0;
    end
    // A bad word flags every event whose frame it lies in; the tail is checked one cycle after the last word.
    flag_q[0]              <= !clean || overdue;
    flag_q[FrameWords:1]   <= flag_q[FrameWords-1:0] | {FrameWords{word_bad}};
    flag_q[FrameWords+1]   <= flag_q[FrameWords] || tail_bad;
    upstream_q             <= upstream != '0;
  end

  assign word_bad = lane_bad != '0;
  assign start_o  = event_q[0];
  assign done_o   = event_q[FrameWords+1];
  assign error_o  = done_o && (flag_q[FrameWords+1] || upstream_q);

  for (genvar l = 0; l < Lanes; l++) begin : gen_lane
    logic [66:0] due;
    logic [63:0] word_q;
    logic [31:0] crc_q, crc_next;

    mnn_link_elastic #(
      .BufferWords(BufferWords)
    ) u_elastic (
      .clk_i         (clk_i),
      .rst_i         (rst_i),
      .window_i      (window_q),
      .window_end_i  (window_end_q),
      .to_release_i  (to_release_q[AddressWidth-1:0]),
      .read_address_i(read_address_q),
      .lane_i        (lane_i[l*68 +: 68]),
      .word_o        (due),
      .good_o        (good[l]),
      .trained_o     (trained[l]),
      .lost_o        (lost[l])
    );

    assign last[l]  = due[66] && heard[l];
    assign start[l] = due[65] && heard[l];
    assign valid[l] = due[64] && heard[l];
    // A lane that was not good one word earlier may be anywhere in a frame.
    assign middle[l] = middle_q[l] || (good[l] && !good_q[l]);

    always_ff @(posedge clk_i) begin
      if (rst_i) begin
        good_q[l]        <= 1'b0;
        heard_q[l]       <= 1'b0;
        middle_q[l]      <= 1'b1;
        middle_seen_q[l] <= 1'b1;
        last_q[l]        <= 1'b0;
        start_q[l]       <= 1'b0;
        valid_q[l]       <= 1'b0;
      end else begin
        good_q[l]        <= good[l];
        heard_q[l]       <= heard[l];
        middle_q[l]      <= !heard[l] || (valid[l] && !last[l] && (start[l] || middle[l]));
        middle_seen_q[l] <= middle[l];
        last_q[l]        <= last[l];
        start_q[l]       <= start[l];
        valid_q[l]       <= valid[l];
      end
      word_q <= due[63:0];
      tail_q[l*40 +: 40] <= word_q[63:24];
      crc_q  <= crc_next;
    end

    assign word_o[l*64 +: 64] = word_q;
    assign lane_bad[l]   = !good_q[l] || !valid_q[l] || start_q[l] != start_o || last_q[l] != last_word;
    assign lane_stray[l] = start_q[l] || ((valid_q[l] || last_q[l]) && !middle_seen_q[l]);

    mnn_crc32 u_crc (
      .state_i(start_o ? ~{16'd0, stamp_q} : crc_q),
      .data_i ({last_word ? 32'd0 : word_q[63:32], word_q[31:0]}),
      .state_o(crc_next)
    );

    // One cycle after the last word.
    assign crc_bad[l]      = tail_q[l*40+8 +: 32] != ~crc_q;
    assign sequence_bad[l] = tail_q[l*40+1 +: 7] != tail_q[7:1];
    assign upstream[l]     = tail_q[l*40];
  end

  // Sequence numbers: the same on all lanes, and one more than in the event before if that was in order.
  logic [6:0] sequence_next_q;
  wire  [6:0] sequence_0 = tail_q[7:1];
  logic       sequence_known_q;
  logic       frame_bad;

  assign frame_bad  = flag_q[FrameWords] || crc_bad != '0 || sequence_bad != '0;
  assign tail_bad   = frame_bad || (sequence_known_q && sequence_0 != sequence_next_q);

  always_ff @(posedge clk_i) begin
    if (rst_i) sequence_known_q <= 1'b0;
    else if (event_q[FrameWords]) sequence_known_q <= !frame_bad;
    if (event_q[FrameWords]) sequence_next_q <= sequence_0 + 7'd1;
  end

  // Status.
  wire count_crc  = (done_o && flag_q[FrameWords+1]) || stray_q;
  wire count_loss = lost != '0;

  assign aligned_o = &good;

  always_ff @(posedge clk_i) begin
    if (rst_i || clear_i) begin
      crc_errors_o       <= '0;
      alignment_losses_o <= '0;
    end else begin
      if (count_crc && crc_errors_o != '1) crc_errors_o <= crc_errors_o + 16'd1;
      if (count_loss && alignment_losses_o != '1) alignment_losses_o <= alignment_losses_o + 16'd1;
    end
  end

endmodule

`default_nettype wire
