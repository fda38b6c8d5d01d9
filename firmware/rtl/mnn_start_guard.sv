/// Lets starts through that are at least `Distance` cycles apart. One that comes sooner is dropped and counted. No latency.
///
/// All that follows a start (pulse trains, pointers of memories, counters) is made for starts `Distance` cycles apart, so an
/// early one must never get there: it would leave the events after it wrong. Dropped, it changes nothing but the count and `hit_o`.
///
/// `hit_o` is high from the cycle after an early start that came 1 .. `Window` cycles after the last start let through, up to
/// and with the next start let through: in these cycles inputs are still taken, and they may be those of the event dropped.
/// `early_starts_o` counts the starts dropped; it stops at 65535 and is cleared by `clear_i` and by reset.
`default_nettype none

module mnn_start_guard #(
  parameter int Distance = 1,  // >= 1
  parameter int Window   = 0   // 0 .. Distance - 1
) (
  input  wire         clk_i,
  input  wire         rst_i,   // synchronous, active high
  input  wire         clear_i,
  input  wire         start_i,
  output logic        start_o,
  output logic        hit_o,
  output logic [15:0] early_starts_o
);

`ifndef __ICARUS__  // Icarus 11 has no elaboration checks
  if (Distance < 1 || Window < 0 || Window >= Distance) begin : gen_check_distance
    $error("mnn_start_guard: Distance=%0d, at least 1 is needed; Window=%0d, 0..Distance-1", Distance, Window);
  end
`endif

  if (Distance == 1) begin : gen_all
    assign start_o        = start_i;
    assign hit_o          = 1'b0;
    assign early_starts_o = '0;

    logic unused_inputs;
    assign unused_inputs = ^{clk_i, rst_i, clear_i};
  end else begin : gen_guard
    localparam int Bits = $clog2(Distance);

    logic [Bits-1:0] left_q;  // cycles in which a start is still early, this one included
    logic            busy_q;  // left_q is not 0
    wire             early = start_i && busy_q;

    assign start_o = start_i && !busy_q;

    always_ff @(posedge clk_i) begin
      if (rst_i) begin
        left_q <= '0;
        busy_q <= 1'b0;
      end else if (start_o) begin
        left_q <= Bits'(Distance - 1);
        busy_q <= 1'b1;
      end else if (busy_q) begin
        left_q <= left_q - 1'b1;
        busy_q <= left_q != Bits'(1);
      end
      if (rst_i || clear_i) early_starts_o <= '0;
      else if (early && early_starts_o != '1) early_starts_o <= early_starts_o + 16'd1;
    end

    if (Window == 0) begin : gen_no_hit
      assign hit_o = 1'b0;
    end else begin : gen_hit
      always_ff @(posedge clk_i) begin
        if (rst_i || start_o) hit_o <= 1'b0;
        else if (early && left_q >= Bits'(Distance - Window)) hit_o <= 1'b1;
      end
    end
  end

endmodule

`default_nettype wire
