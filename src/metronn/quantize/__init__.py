"""From a real-valued network and calibration events to an exact integer graph, and what that cost.

`calibrated` chooses formats from events, `exact` keeps the grids that training chose, `widths` has the limits of both;
`quantize` picks between them, `measure`, `judge` and `report` tell what is left of the answers. Knows no hardware:
`plan` is above it.
"""
