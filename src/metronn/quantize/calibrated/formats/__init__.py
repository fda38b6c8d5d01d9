"""Which binary exponents and widths values and weights get: per layer, per channel, per input.

Imports the emitter and `fixed`, no lowering.
"""
