"""Quantization after training: every real op becomes integer ops whose formats calibration events choose.

`lowering` is the way through the network. `exact` imports these rooms for what stands on no grid; none imports `exact`.
"""
