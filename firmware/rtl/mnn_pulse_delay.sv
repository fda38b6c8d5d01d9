/// The output is high exactly `Cycles` cycles after the input. Pulses come at least `Distance` cycles apart.
/// Up to `Distance` cycles one pulse is on its way at a time, and a counter is enough. Longer, all of them pass through
/// a shift register without reset (SRL); what was in it at the reset is held back until it has left.
`default_nettype none

module mnn_pulse_delay #(
  parameter int Cycles   = 100,  // >= 2
  parameter int Distance = 100   // >= 1
) (
  input  wire  clk_i,
  input  wire  rst_i,            // synchronous, active high
  input  wire  pulse_i,
  (* max_fanout = 64 *)
  output logic pulse_o
);

`ifndef __ICARUS__  // Icarus 11 has no elaboration checks
  if (Cycles < 2 || Distance < 1) begin : gen_check_cycles
    $error("mnn_pulse_delay: Cycles=%0d, at least 2 is needed; Distance=%0d, at least 1", Cycles, Distance);
  end
`endif

  localparam int             Bits = $clog2(Cycles);
  localparam logic [Bits-1:0] From = Bits'(Cycles - 1);

  if (Cycles <= Distance) begin : gen_counter
    logic [Bits-1:0] left_q;  // cycles until the pulse, 0 when none is on its way

    always_ff @(posedge clk_i) begin
      if (rst_i) begin
        left_q  <= '0;
        pulse_o <= 1'b0;
      end else begin
        if (pulse_i) left_q <= From;
        else if (left_q != '0) left_q <= left_q - 1'b1;
        pulse_o <= left_q == Bits'(1);
      end
    end
  end else begin : gen_shift
    localparam int Line = Cycles - 1;

    logic [Line-1:0] line_q;   // the youngest lowest
    logic [Bits-1:0] stale_q;  // cycles until what leaves the line entered after the reset

    always_ff @(posedge clk_i) begin
      line_q <= Line'({line_q, pulse_i});
      if (rst_i) begin
        stale_q <= From;
        pulse_o <= 1'b0;
      end else begin
        if (stale_q != '0) stale_q <= stale_q - 1'b1;
        pulse_o <= line_q[Line-1] && stale_q == '0;
      end
    end
  end

endmodule

`default_nettype wire
