"""Quantizers in ONNX files: QONNX, the standard's Quantize and Dequantize, those of onnxruntime, spelt-out ones.

Imports the operators of `onnx` that it extends; only `read` and the table `layers` import it.
"""
