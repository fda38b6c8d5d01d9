"""Computing one ONNX node on arrays, by the reference evaluator of the onnx package."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx.reference import ReferenceEvaluator

from metronn.frontends.common.builder import LayerProblem

Array = npt.NDArray[Any]

EVALUATION_ERRORS = (ValueError, TypeError, IndexError, KeyError, AttributeError, RuntimeError, NotImplementedError)
"""What the reference evaluator raises on nodes that are wrong or that it does not know (its own errors included)."""


def evaluate(node: onnx.NodeProto, feeds: Mapping[str, Array], opset: int) -> list[Array]:
    """Compute one node on arrays with the onnx package; raises LayerProblem when that fails."""
    graph = onnx.GraphProto(name="node", node=[node])
    graph.input.extend(onnx.ValueInfoProto(name=name) for name in feeds)
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in node.output if name)
    imports = [onnx.OperatorSetIdProto(version=opset)]
    if node.domain not in ("", "ai.onnx"):
        imports.append(onnx.OperatorSetIdProto(domain=node.domain, version=1))
    model = onnx.ModelProto(graph=graph, ir_version=8, opset_import=imports)
    try:
        with np.errstate(all="ignore"):
            results = ReferenceEvaluator(model).run(None, dict(feeds))
    except EVALUATION_ERRORS as error:
        raise LayerProblem(f"cannot be computed: {error}") from None
    return [np.asarray(result) for result in results]
