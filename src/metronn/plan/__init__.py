"""From an integer graph and a system to a design: every element of every tensor has a place and a time.

`candidates`: what could be built; `solve`: what is built; `schedule`: when. `verify` checks the result and shares no
code with the planner. Imports `ir`; text of firmware is `emit`'s, and no file here writes any.
"""
