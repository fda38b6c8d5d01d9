"""Verification: each rung compares two of framework, real network, integers, emulators, HLS and RTL.

`run` takes a build through its rungs; `against` compares with the framework or hls4ml, whose programs in `workers` are
processes of their own. Imports everything that makes a build and changes nothing of it.
"""
