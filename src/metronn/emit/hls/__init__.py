"""HLS C++ of one FPGA: `project` where every value is there at once, `stream` where tensors travel in beats.

Writes calls of the library `hls_templates`. Imports `plan` and `ir`, nothing of `rtl`.
"""
