"""Graph to graph: one file per pass, for `real` and for `integer` networks; `pipeline` lists them in order.

Only `pipeline` imports quantization, which happens between the two.
"""
