/// A memory in a ring: words leave in the order in which they came, each with its own `read_i`, at least one cycle
/// after its `write_i`. `data_o` holds the word from `Block` + 1 cycles after `read_i` until the next one: block RAM has an
/// output register, without which its word is late in the cycle. At most `Depth` words are inside, one that comes and one
/// that leaves in the same cycle both counted. Reset empties it.
`default_nettype none

module mnn_ring #(
  parameter int Width = 8,
  parameter int Depth = 16,  // >= 2
  parameter bit Block = 0    // block RAM, else LUTs
) (
  input  wire              clk_i,
  input  wire              rst_i,    // synchronous, active high
  input  wire              write_i,
  input  wire  [Width-1:0] data_i,
  input  wire              read_i,
  output logic [Width-1:0] data_o
);

`ifndef __ICARUS__  // Icarus 11 has no elaboration checks
  if (Width < 1 || Depth < 2) begin : gen_check_depth
    $error("mnn_ring: Width=%0d, at least 1 is needed; Depth=%0d, at least 2", Width, Depth);
  end
`endif

  localparam int              Bits = $clog2(Depth);
  localparam logic [Bits-1:0] Last = Bits'(Depth - 1);

  logic [Bits-1:0] write_q, read_q;

  if (Block) begin : gen_block
    (* ram_style = "block" *) logic [Width-1:0] memory [Depth];
    logic [Width-1:0] word_q;
    always_ff @(posedge clk_i) begin
      if (write_i) memory[write_q] <= data_i;
      if (read_i) word_q <= memory[read_q];
      data_o <= word_q;
    end
  end else begin : gen_luts
    (* ram_style = "distributed" *) logic [Width-1:0] memory [Depth];
    always_ff @(posedge clk_i) begin
      if (write_i) memory[write_q] <= data_i;
      if (read_i) data_o <= memory[read_q];
    end
  end

  always_ff @(posedge clk_i) begin
    if (rst_i) begin
      write_q <= '0;
      read_q  <= '0;
    end else begin
      if (write_i) write_q <= (write_q == Last) ? '0 : write_q + 1'b1;
      if (read_i) read_q <= (read_q == Last) ? '0 : read_q + 1'b1;
    end
  end

endmodule

`default_nettype wire
