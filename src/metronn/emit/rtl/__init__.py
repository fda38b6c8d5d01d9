"""SystemVerilog: one module per kernel, and the functions and text they are written from."""
