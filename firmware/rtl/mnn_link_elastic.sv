/// Elastic buffer of one lane: turns a bounded raw latency into a fixed one.
///
/// Every word is written as it arrives and read when it is due. The word that carries the marker is due at the same time in
/// every orbit: it has to be written where that read will be, at `marker_address_i`. Where the words so far do not lead there
/// the lane moves to it: from then on every word waits as long as that one. Markers are believed only in the cycles in which
/// `window_i` is high, as many as the buffer has words; `window_end_i` marks the last of them.
///
/// `read_address_i` is the address of the next cycle; `word_o` is the word (without its marker bit) read in this one. A word is
/// read at least 3 cycles after it was on `lane_i`: a marker that is on `lane_i` one cycle before `window_end_i` is the latest.
/// `good_o`: the word read in the next cycle was placed by a marker, and no later marker has contradicted. A marker outside the
/// window, a second one after an agreeing one, a marker at another position (slip) or none in the window ends `good_o` at once
/// (`lost_o` pulses, a cycle later); the next marker in a window places the lane anew, and `good_o` returns with the release of
/// that marker's word. `trained_o`: has been good since reset.
`default_nettype none

module mnn_link_elastic #(
  parameter int BufferWords  = 32,                  // a power of two, >= 2
  parameter int AddressWidth = $clog2(BufferWords)  // derived, leave alone
) (
  input  wire                     clk_i,
  input  wire                     rst_i,             // synchronous, active high
  input  wire                     window_i,
  input  wire                     window_end_i,
  input  wire  [AddressWidth-1:0] marker_address_i,
  input  wire  [AddressWidth-1:0] read_address_i,
  input  wire  [65:0]             lane_i,
  output logic [64:0]             word_o,
  output logic                    good_o,
  output logic                    trained_o,
  output logic                    lost_o
);

`ifndef __ICARUS__  // Icarus 11 has no elaboration checks
  if (BufferWords < 2 || 2 ** $clog2(BufferWords) != BufferWords) begin : gen_check_depth
    $error("mnn_link_elastic: BufferWords=%0d is not a power of two of at least 2", BufferWords);
  end
`endif

  logic [65:0]             lane_q;
  logic [64:0]             entering_q;      // one word later
  logic [64:0]             buffer_q [BufferWords];
  logic [AddressWidth-1:0] write_address_q; // of entering_q
  logic [AddressWidth-1:0] read_address_q;  // each lane its own: it drives all memories of the lane
  logic                    in_place_q;      // the word in lane_q is written at the marker's address
  logic                    good_q, trained_q, lost_q;
  logic                    marked_q;        // this window has had a marker that holds
  logic                    agreed_q;        // ... and it was where the last one was

  wire marker = lane_q[65];
  wire agree  = marker && window_i && in_place_q;
  wire move   = marker && window_i && !in_place_q && !agreed_q;
  wire stray  = marker && !agree && !move;
  wire marked = agree || move || (marked_q && !stray);
  wire good_d = window_end_i ? marked : good_q && !move && !stray;

  always_ff @(posedge clk_i) begin
    if (rst_i) begin
      write_address_q <= '0;
      in_place_q      <= 1'b0;
      good_q          <= 1'b0;
      trained_q       <= 1'b0;
      lost_q          <= 1'b0;
      marked_q        <= 1'b0;
      agreed_q        <= 1'b0;
    end else begin
      write_address_q <= move ? marker_address_i : write_address_q + 1'b1;
      // One cycle ahead: of the word that is on lane_i. After a move the next word goes to the address behind.
      in_place_q      <= !move && write_address_q + AddressWidth'(2) == marker_address_i;
      good_q          <= good_d;
      trained_q       <= trained_q || good_d;
      lost_q          <= good_q && (move || stray || !good_d);
      marked_q        <= marked && !window_end_i;
      agreed_q        <= (agreed_q || agree) && !window_end_i;
    end
    lane_q         <= lane_i;
    entering_q     <= lane_q[64:0];
    buffer_q[write_address_q] <= entering_q;
  end

  mnn_replica #(
    .Width(AddressWidth)
  ) u_read_address (
    .clk_i (clk_i),
    .data_i(read_address_i),
    .data_o(read_address_q)
  );

  assign word_o    = buffer_q[read_address_q];
  assign good_o    = good_q;
  assign trained_o = trained_q;
  assign lost_o    = lost_q;

endmodule

`default_nettype wire
