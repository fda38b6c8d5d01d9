"""Folded matrices: multipliers shared over an event's cycles, one by one, and what they cost."""
