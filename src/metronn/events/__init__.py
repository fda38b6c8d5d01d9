"""Events: arrays from files, labels, metrics on them, their codes at the borders of a graph, which to verify with.

Below everything that uses events: imports `model`, `ir` and `errors`, nothing of quantization or planning.
"""
