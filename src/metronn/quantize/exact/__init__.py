"""Quantized networks to integers, exactly: the grids of the framework are kept, real arithmetic is done in integers.

`lowering` is the way through the network, `chains` what is still to be done to a value, `closing` where a quantizer
ends it. What stands on no grid is left to `calibrated`, which is imported and imports nothing from here.
"""
