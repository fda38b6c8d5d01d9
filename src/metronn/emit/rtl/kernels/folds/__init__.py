"""SystemVerilog of folded matrices."""
