"""Configurations of hls4ml: a float network gets the types that hls4ml would give it.

From a RealGraph to a RealGraph with quantizers. Imports `common`, no frontend.
"""
