"""What each ONNX operator becomes: one table from operator to function, gathered from the files of their kinds.

A new operator is one function `(NodeContext) -> value` (or a tuple of values) and one line in the table of its file:
`onnx_math`, `onnx_moves`, `onnx_normalize`, `onnx_products` or `onnx_spatial`. An operator that is not here and that
the ONNX standard defines as a function of others is expanded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from metronn.frontends.onnx_context import Constant, NodeContext
from metronn.frontends.onnx_math import MATH
from metronn.frontends.onnx_moves import MOVES
from metronn.frontends.onnx_normalize import NORMALIZE
from metronn.frontends.onnx_products import PRODUCTS
from metronn.frontends.onnx_spatial import SPATIAL

LAYERS: Mapping[str, Callable[[NodeContext], str | Constant | tuple[str, ...]]] = {
    **MATH,
    **MOVES,
    **NORMALIZE,
    **PRODUCTS,
    **SPATIAL,
}
"""The supported operators. `Shape` and `Size`, and any operator on constants, are computed at once."""
