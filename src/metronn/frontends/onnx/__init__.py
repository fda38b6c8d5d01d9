"""ONNX files: `read` walks the graph, `layers` is the table from operator to function, one file per kind.

`context` is what such a function is given. Networks with quantizers are in `quantized`.
"""
