"""Hardware kernels: each has a specification, a timing model and a cost model here, RTL and HLS in `emit`."""
