"""Constant matrices as additions: solved adder graphs, their constants, epilogues and estimated cost."""
