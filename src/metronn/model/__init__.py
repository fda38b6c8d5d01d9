"""The real-valued network that frontends read and quantization turns into an integer graph.

Imports `ir`, whose movement and rounding it shares; knows neither files nor hardware.
"""
