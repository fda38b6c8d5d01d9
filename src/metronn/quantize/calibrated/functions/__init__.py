"""Functions of one variable and softmax as tables: domain, grid, size and error.

Imports the emitter and `fixed`, no lowering.
"""
