"""Hardware kernels: each has a specification, a timing model and a cost model here, RTL and HLS in `emit`.

`spec` is the union of kernels, `planned` the values that answer what a kernel is asked. Folders: constant matrices as
additions (`adders`), shared multipliers (`folds`), elements that wait for their cycle (`waiting`). Imports `hardware`
and `layout`; knows no step, no schedule and no FPGA.
"""
