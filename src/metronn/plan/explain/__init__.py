"""What is told about a plan: why there is none and which changes give one, what had no effect and why.

A change is named only after it was tried. Imports the rest of `plan` but the planner, which imports it.
"""
