"""Names and geometry of the eighteen layers of the overlap muon track finder.

A hit is an azimuth in detector units (5400 units to the full circle, so 1 unit = 1.16 mrad), counted from the
edge of the processor's window; 0 means no hit. Layers 1, 3 and 5 are no stations of their own: they hold the
local bending angle that the drift tube chamber of layers 0, 2 and 4 measured together with its azimuth.
"""

from __future__ import annotations

LAYER_NAMES: tuple[str, ...] = (
    "MB1", "MB1 bend", "MB2", "MB2 bend", "MB3", "MB3 bend",
    "ME1/3", "ME2/2", "ME3/2", "ME1/2",
    "RB1in", "RB1out", "RB2in", "RB2out", "RB3", "RE1/3", "RE2/3", "RE3/3",
)  # fmt: skip
N_LAYERS = len(LAYER_NAMES)
HITS_PER_LAYER = 2
MAX_CODE = 1554

BEND_LAYERS: tuple[int, ...] = (1, 3, 5)
"""Bending-angle layers; the azimuth of the same chamber is one layer below."""
STATIONS: tuple[int, ...] = (0, 2, 4, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17)
"""Layers that hold an azimuth."""
RPC_LAYERS: tuple[int, ...] = (10, 11, 12, 13, 14, 15, 16, 17)
BEND_ZERO = 600.0
"""Code of a straight track in a bending-angle layer."""
RPC_PITCH = 7.0 / 3.0
"""Spacing of the azimuths a resistive plate chamber can report, in units."""

CURVATURE_KNOTS: tuple[float, ...] = (
    0.0, 0.04, 0.08, 0.12, 0.16, 0.20, 0.24, 0.27, 0.30, 0.33, 0.40, 1.0,
)  # fmt: skip
"""Knots in 1/pT (1/GeV) between which every fitted table is interpolated linearly."""
AZIMUTH_BIN = 10
N_AZIMUTH_BINS = 156
AZIMUTH_PRIOR_BIN = 60
N_AZIMUTH_PRIOR_BINS = 26
