"""The real QKeras networks of ../shared/models agree with the outputs that QKeras gave for them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from metronn.frontends import load_model
from metronn.model.graph import RealGraph, RealSoftmax
from metronn.model.reference import run_reference

Values = npt.NDArray[np.float64]

JETS = "jetid_{0}/model_{0}.h5"
FLIPPED = {
    "ad03_qkeras/model.h5": 0,
    "ic_RN06/model.h5": 0,
    JETS.format("QDeepSets_PermutationInv_nconst_32_nbits_8"): 0,
    JETS.format("QInteractionNetwork_Conv1D_nconst_8_nbits_8"): 1,
    JETS.format("QMLP_nconst_8_nbits_8"): 0,
    "qkeras_3layer/qkeras_3layer.json": 0,
    "qkeras_mnist_cnn/qkeras_mnist_cnn.json": 0,
}
"""Networks, and in how many events float32 rounding noise of QKeras moved a value over a tie of a quantizer."""


def before_softmax(graph: RealGraph, x: Values) -> tuple[Values, Values]:
    """Return the outputs, and the values that a softmax at the end reads (else the outputs again)."""
    kept = {}
    last = graph.by_name[graph.outputs[0][1]]
    name = last.op.x if isinstance(last.op, RealSoftmax) else last.name
    y = run_reference(
        graph,
        {graph.inputs[0].name: x},
        lambda node, values: kept.update({node.name: values} if node.name == name else {}),
    )
    return y[graph.outputs[0][0]], kept[name]


@pytest.mark.parametrize("name", FLIPPED)
def test_every_event_agrees_up_to_float32(name: str, shared_models: Path) -> None:
    graph = load_model(shared_models / name)
    data = np.load((shared_models / name).parent / "data.npz")
    x = data["x"].reshape(-1, *graph.inputs[0].shape).astype(np.float64)
    y, logits = before_softmax(graph, x)
    theirs = data["y"].astype(np.float64)
    apart = np.abs(y - theirs).reshape(len(y), -1).max(axis=1)
    assert (apart > 2e-6 * max(1.0, float(np.abs(theirs).max()))).sum() == FLIPPED[name]
    if logits is not y:
        known = (theirs > 1e-6) & (apart <= 2e-6)[:, np.newaxis]
        logs = np.log(np.where(known, theirs, 1.0))
        top = logits.argmax(axis=1)[:, np.newaxis]
        moved = logits - np.take_along_axis(logits, top, 1), logs - np.take_along_axis(logs, top, 1)
        assert np.abs(np.where(known, moved[0] - moved[1], 0.0)).max() < 1e-4
