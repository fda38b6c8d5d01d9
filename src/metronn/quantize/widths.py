"""How many bits values and constants may take in the integer network: the limits of both lowerings, with reasons.

After training (`calibrated`) any value may be rounded, and what that costs is measured: its limits are low. Where the
framework chose the grids (`exact`) a rounding gives up a promise: its limits are higher, and passing one is told.
"""

from __future__ import annotations

NARROW_PORT_BITS = 18
"""Widest operand of a matrix after alignment. The device is not known yet: the multipliers of none are narrower."""
INPUT_BITS = 16
"""Widest format that is chosen for a value nobody gave one: inputs without quantizers, and operands of matrices."""

MAX_KEPT_BITS = 40
"""After training: a wider value is requantized even where its readers could take it exact."""
INT64_BITS = 60
"""Widest codes whose arithmetic is that of int64, sums of a few included: as wide as a value may be that is kept for a
function of wide range, which needs the bits of small values as much as those of large ones."""
FINE_BITS = 4
"""A precise value has this many bits more than others where it is multiplied, up to NARROW_PORT_BITS."""
CONSTANT_GUARD_BITS = 4
"""Rounded constants beside a value get this many fraction bits more than the value."""

MAX_ALIGNED_BITS = 48
"""Framework's grids: widest value on a grid that is finer for the sake of what stands beside it, be it constants or
values of other scales. Above MAX_KEPT_BITS, since the alternative is inexact; below MAX_PRODUCT_BITS, since what it is
made for may still be multiplied."""
MAX_PRODUCT_BITS = 56
"""Framework's grids: widest product with constants that is made for the sake of exactness; what would be wider is
rounded, and told."""
MAX_ROUNDED_BITS = 96
"""Framework's grids: widest product that is made only to be rounded at once; no register holds it."""
MAX_WEIGHT_BITS = 48
"""Widest weights on a common grid that count as quantized."""
MAX_UNROUNDED_BITS = 32
"""Widest code that stays whole where something narrower would do: an input that serves several readers, an operand that
comes from quantizers by whole weights and sums alone, an output that is shown with all its bits."""

FLOAT32_BITS = 24
"""Significant bits of a float32, in which frameworks compute: what is rounded although it need not be, scales, their
ratios, constants, and weights that take up scales, keeps as many."""
MAX_COMPARED_BITS = 52
"""Wider values are exact too, but float64, in which the trained network is computed, does not hold them."""
