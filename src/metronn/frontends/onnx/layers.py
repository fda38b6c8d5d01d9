"""What each ONNX operator becomes: one table from operator to function, gathered from the files of their kinds.

A new operator is one function `(NodeContext) -> value` (or a tuple of values) and one line in the table of its file:
`math`, `moves`, `normalize`, `products`, `spatial`, `quantized.qonnx` (QONNX), `quantized.standard`
(the ONNX standard) or `quantized.runtime` (onnxruntime). An operator that is not here and that the ONNX standard
defines as a function of others is expanded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from metronn.frontends.onnx.context import NodeContext, Result
from metronn.frontends.onnx.math import MATH
from metronn.frontends.onnx.moves import MOVES
from metronn.frontends.onnx.normalize import NORMALIZE
from metronn.frontends.onnx.products import PRODUCTS
from metronn.frontends.onnx.quantized.qonnx import QONNX
from metronn.frontends.onnx.quantized.runtime import RUNTIME
from metronn.frontends.onnx.quantized.standard import QUANTIZED
from metronn.frontends.onnx.spatial import SPATIAL

LAYERS: Mapping[str, Callable[[NodeContext], Result]] = {
    **MATH,
    **MOVES,
    **NORMALIZE,
    **PRODUCTS,
    **QONNX,
    **QUANTIZED,
    **RUNTIME,
    **SPATIAL,
}
"""The supported operators. `Shape` and `Size`, and any operator on constants, are computed at once."""

ELEMENTWISE = frozenset((*MATH, *QONNX, "DequantizeLinear", "QuantizeLinear"))
"""Operators that combine elements only where broadcasting sets them on one another."""

READ_CODES = frozenset((*QUANTIZED, *RUNTIME))
"""Operators that see which operands are quantized tensors."""

KEEP_CODES = frozenset(
    ("Concat", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "GlobalMaxPool", "Identity")
    + ("Max", "MaxPool", "Min", "Reshape", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose")
    + ("Unsqueeze",)
)
"""Operators that choose or move elements: what the codes mean goes the same way as the codes."""

KEEP_STEPS = frozenset(
    ("Cast", "Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze", "Tile")
    + ("Transpose", "Unsqueeze")
)
"""Operators on constants that leave every value on its grid."""
