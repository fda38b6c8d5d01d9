/// Elastic buffer of one lane: turns a bounded raw latency into a fixed one.
///
/// Every word is written as it arrives and read when it is due. `to_release_i` counts down to the cycle in which the word
/// that carries the marker has to be on the receiver's output (0 there); `read_address_i` advances by one every cycle. A marker
/// that arrives `to_release_i` = d cycles early fixes the lane's lag: from then on every word waits d cycles. Markers are
/// believed only while d is 2 .. BufferWords+1 (`window_i`); `window_end_i` marks the last cycle of that window (d = 2).
///
/// `word_o` is the word (without its marker bit) due in the next cycle (the reader registers it). `good_o`: it was placed by a marker, and no later
/// marker has contradicted. A marker outside the window, a second one after an agreeing one, a marker at another position (slip)
/// or none in the window ends `good_o` at once (`lost_o` pulses); the next marker in a window sets the lag anew, and `good_o`
/// returns with the release of that marker's word. `trained_o`: has been good since reset.
`default_nettype none

module mnn_link_elastic #(
  parameter int BufferWords  = 32,                  // a power of two, >= 2
  parameter int AddressWidth = $clog2(BufferWords)  // derived, leave alone
) (
  input  wire                     clk_i,
  input  wire                     rst_i,          // synchronous, active high
  input  wire                     window_i,
  input  wire                     window_end_i,
  input  wire  [AddressWidth-1:0] to_release_i,   // low bits
  input  wire  [AddressWidth-1:0] read_address_i,
  input  wire  [67:0]             lane_i,
  output logic [66:0]             word_o,
  output logic                    good_o,
  output logic                    trained_o,
  output logic                    lost_o
);

`ifndef __ICARUS__  // Icarus 11 has no elaboration checks
  if (BufferWords < 2 || 2 ** $clog2(BufferWords) != BufferWords) begin : gen_check_depth
    $error("mnn_link_elastic: BufferWords=%0d is not a power of two of at least 2", BufferWords);
  end
`endif

  logic [66:0]             buffer_q [BufferWords];
  logic [AddressWidth-1:0] lag_q;        // address written = address read + lag
  logic                    good_q, trained_q;
  logic                    marked_q;     // this window has had a marker that holds
  logic                    agreed_q;     // ... and it was where the last one was

  wire                    marker  = lane_i[67];
  wire [AddressWidth-1:0] lag_new = to_release_i - 1'b1;
  wire agree = marker && window_i && lag_new == lag_q;
  wire move  = marker && window_i && lag_new != lag_q && !agreed_q;
  wire stray = marker && !agree && !move;

  wire marked = agree || move || (marked_q && !stray);
  wire [AddressWidth-1:0] lag = move ? lag_new : lag_q;
  wire [AddressWidth-1:0] write_address = read_address_i + lag;

  logic good_d;
  always_comb begin
    good_d = good_q && !move && !stray;
    if (window_end_i) good_d = marked;
  end

  always_ff @(posedge clk_i) begin
    if (rst_i) begin
      lag_q     <= '0;
      good_q    <= 1'b0;
      trained_q <= 1'b0;
      marked_q  <= 1'b0;
      agreed_q  <= 1'b0;
    end else begin
      lag_q     <= lag;
      good_q    <= good_d;
      trained_q <= trained_q || good_d;
      marked_q  <= marked && !window_end_i;
      agreed_q  <= (agreed_q || agree) && !window_end_i;
    end
    buffer_q[write_address] <= lane_i[66:0];
  end

  assign word_o    = buffer_q[read_address_i];
  assign good_o    = good_q;
  assign trained_o = trained_q;
  assign lost_o    = good_q && (move || stray || !good_d);

endmodule

`default_nettype wire
