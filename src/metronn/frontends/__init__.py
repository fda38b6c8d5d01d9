"""Model files to RealGraph: `load_model` picks the frontend by suffix and content.

One folder for each kind of file, and what they share in `common`. A frontend imports `common`, `model` and `ir`, never
another frontend (PyTorch's goes through ONNX) and nothing of what happens to the network later.
"""

from metronn.frontends.load import load_model

__all__ = ["load_model"]
