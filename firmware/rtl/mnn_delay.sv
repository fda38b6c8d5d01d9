/// The outputs are the inputs, exactly `Latency` cycles later. No back-pressure.
/// `Latency` = 0 is a wire. The reset clears `valid` only; the data registers have none and map to shift-register LUTs.
`default_nettype none

module mnn_delay #(
  parameter int Width   = 8,
  parameter int Latency = 1    // >= 0
) (
  input  wire              clk_i,
  input  wire              rst_i,       // synchronous, active high
  input  wire              valid_i,
  input  wire  [Width-1:0] data_i,
  output logic             valid_o,
  output logic [Width-1:0] data_o
);

`ifndef __ICARUS__  // Icarus 11 has no elaboration checks
  if (Width < 1 || Latency < 0) begin : gen_check_width
    $error("mnn_delay: Width=%0d, at least 1 is needed; Latency=%0d, at least 0", Width, Latency);
  end
`endif

  if (Latency == 0) begin : gen_wire
    assign valid_o = valid_i;
    assign data_o  = data_i;
  end else begin : gen_shift
    logic [Latency-1:0]       valid_q;
    logic [Latency*Width-1:0] data_q;   // the youngest in the lowest bits

    if (Latency == 1) begin : gen_one
      always_ff @(posedge clk_i) begin
        valid_q <= rst_i ? 1'b0 : valid_i;
        data_q  <= data_i;
      end
    end else begin : gen_many
      always_ff @(posedge clk_i) begin
        valid_q <= rst_i ? '0 : {valid_q[Latency-2:0], valid_i};
        data_q  <= {data_q[(Latency-1)*Width-1:0], data_i};
      end
    end

    assign valid_o = valid_q[Latency-1];
    assign data_o  = data_q[Latency*Width-1 -: Width];
  end

endmodule

`default_nettype wire
