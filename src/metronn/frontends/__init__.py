"""Model files to RealGraph: `load_model` picks the frontend by suffix and content."""

from metronn.frontends.load import load_model

__all__ = ["load_model"]
