"""SystemVerilog of elements that wait: delays, gathers, windows and reorderings."""
