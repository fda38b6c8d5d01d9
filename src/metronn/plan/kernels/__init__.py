"""Hardware kernels: each has a specification, a timing model and a cost model here, RTL and HLS in `emit`.

`spec` is the union of kernels, `planned` and `kernels` the values that answer for them. Folders: constant matrices as
additions (`adders`), shared multipliers (`folds`), elements that wait for their cycle (`waiting`). Imports `hardware`,
`layout` and `raster`; knows no step, no schedule and no FPGA.
"""
