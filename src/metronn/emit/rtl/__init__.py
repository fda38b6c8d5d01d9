"""SystemVerilog: `fpga` joins kernels, event line and link ends, `system` the FPGAs; modules of kernels in `kernels`.

Imports `plan` and `ir`, nothing of `hls`.
"""
