/// Next state of the CRC-32 of IEEE 802.3 (zlib, Ethernet) after one 64-bit word. Combinational.
///
/// Reflected form: polynomial 0xEDB88320, bit 0 of the word goes first, so a word counts as its eight bytes from the lowest
/// to the highest. The state starts at 0xFFFFFFFF and is inverted at the end: with that
/// `~state == zlib.crc32(bytes)`, and with a start of `0xFFFFFFFF ^ seed`, `~state == zlib.crc32(bytes, seed)`.
///
/// The step is linear over GF(2) and the old state enters like the low half of the word, so every bit of the next state is
/// the parity of a fixed subset of the 64 bits of `data ^ state`; the subsets are computed at elaboration.
`default_nettype none

module mnn_crc32 (
  input  wire  [31:0] state_i,
  input  wire  [63:0] data_i,
  output logic [31:0] state_o
);

  localparam logic [31:0] Polynomial = 32'hEDB8_8320;

  // Row i, bit k: input bit k takes part in bit i of the next state. Bit 63 is shifted in last and meets the polynomial
  // once; each bit before it has been shifted once more.
  function automatic logic [32*64-1:0] make_rows(input logic [31:0] polynomial);
    logic [31:0] response;
    response = polynomial;
    make_rows = '0;
    for (int k = 63; k >= 0; k--) begin
      for (int i = 0; i < 32; i++) make_rows[i*64+k] = response[i];
      response = {1'b0, response[31:1]} ^ (response[0] ? polynomial : 32'd0);
    end
  endfunction

  localparam logic [32*64-1:0] Rows = make_rows(Polynomial);

  wire [63:0] mixed = data_i ^ {32'd0, state_i};

  for (genvar i = 0; i < 32; i++) begin : gen_bit
    assign state_o[i] = ^(mixed & Rows[i*64 +: 64]);
  end

endmodule

`default_nettype wire
