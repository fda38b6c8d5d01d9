"""One SystemVerilog module per kernel; `any_kernel` takes the union of specifications apart.

Structure and cycles come from the kernel of the same name in `plan.kernels`.
"""
