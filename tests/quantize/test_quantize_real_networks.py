"""Trained networks of the field, where their files are beside the repository: 8 bits cost less than 0.5 %."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from metronn.events.data import load_events
from metronn.frontends import load_model
from metronn.model.reference import run_reference
from metronn.passes.pipeline import prepare, quantize_model
from metronn.quantize.options import QuantizeOptions

MODELS = Path(__file__).resolve().parents[3] / "shared" / "models"

DENSE = {
    "KERAS_1layer/KERAS_1layer.keras": 35,
    "KERAS_3layer/KERAS_3layer.keras": 25,
    "KERAS_3layer_batch_norm/KERAS_3layer_batch_norm.keras": 22,
    "cms_emtf_displ_16/model.onnx": 24,
    "cms_tau_3layer_puppi/model.onnx": 27,
    "onnx_three_layer_keras/model.onnx": 26,
    "own_omtf_mlp/own_omtf_mlp.keras": 24,
}
"""Networks and the least SQNR of their outputs, in dB."""


@pytest.fixture
def folder(request: pytest.FixtureRequest) -> Path:
    """Return the path of the model, or skip."""
    path = MODELS / str(request.param)
    if not path.is_file():
        pytest.skip(f"{request.param}: not beside the repository")
    return path


@pytest.mark.parametrize(("folder", "least"), DENSE.items(), indirect=["folder"], ids=list(DENSE))
def test_outputs_stay_close(folder: Path, least: float) -> None:
    model = load_model(folder)
    events = load_events(folder.parent / "data.npz", {node.name: node.shape for node in model.inputs})
    report = quantize_model(model, events).report
    assert report.outputs
    for output in report.outputs:
        assert output.sqnr_db is None or output.sqnr_db > least, output


@pytest.mark.parametrize("folder", ["own_omtf_mlp/own_omtf_mlp.keras"], indirect=True)
def test_labelled_networks_lose_less_than_half_a_percent(folder: Path) -> None:
    model = load_model(folder)
    events = load_events(folder.parent / "data.npz", {node.name: node.shape for node in model.inputs})
    for metric in ("accuracy", "auc"):
        judged = quantize_model(model, events, QuantizeOptions(metric=metric)).report.metric
        assert judged is not None
        assert judged.loss < 0.005


@pytest.mark.parametrize("folder", ["KERAS_3layer_batch_norm/KERAS_3layer_batch_norm.keras"], indirect=True)
def test_batch_normalization_folds_away(folder: Path) -> None:
    model = load_model(folder)
    ready = prepare(model)
    kinds = {type(node.op).__name__ for node in ready.nodes}
    assert kinds == {"RealInput", "RealConstant", "RealLinear", "Extremum", "RealSoftmax"}
    events = load_events(folder.parent / "data.npz", {node.name: node.shape for node in model.inputs})
    one, other = run_reference(model, events.inputs), run_reference(ready, events.inputs)
    for name, values in one.items():
        np.testing.assert_allclose(other[name], values, rtol=1e-9, atol=1e-12)
