"""The real networks of ../shared/models: dense ones agree with their stored answers, all others are refused cleanly."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from metronn.errors import ModelError
from metronn.frontends import load_model
from metronn.ir.ops import Rewire
from metronn.model.reference import run_reference
from metronn.passes.pipeline import prepare

Close = Callable[[object, object], None]

DENSE = {
    "KERAS_1layer/KERAS_1layer.json": "output_sigmoid",
    "KERAS_1layer/KERAS_1layer.keras": "output_sigmoid",
    "KERAS_3layer/KERAS_3layer.json": "output_softmax",
    "KERAS_3layer/KERAS_3layer.keras": "output_softmax",
    "KERAS_3layer_batch_norm/KERAS_3layer_batch_norm.json": "softmax",
    "KERAS_3layer_batch_norm/KERAS_3layer_batch_norm.keras": "softmax",
    "cms_emtf_displ_16/model.onnx": "Identity_0",
    "cms_tau_3layer_puppi/model.onnx": "dense_3.Sigmoid_0",
    "onnx_three_layer_keras/model.onnx": "output_softmax_Softmax_01",
    "own_omtf_mlp/own_omtf_mlp.keras": "dense_5",
}
"""Networks of dense layers, and the name of their output."""

SPATIAL = {
    "KERAS_conv1d_small/KERAS_conv1d_small.json": "output_softmax",
    "KERAS_conv1d_small/KERAS_conv1d_small.keras": "output_softmax",
    "cms_hgcal_encoder/model.onnx": "encoded_vector.Relu_0",
    "jetTagger_Conv2D_Small/jetTagger_Conv2D_Small.json": "output_softmax",
    "jetTagger_Conv2D_Small/jetTagger_Conv2D_Small.keras": "output_softmax",
    "mnist8_onnx/model.onnx": "Plus214_Output_0",
    "onnx_conv1d_small_keras/model.onnx": "output_softmax_Softmax_01",
    "onnx_conv2d_small_mp_keras/model.onnx": "output_softmax_Softmax_01",
    "str_ww_ref_model/model.keras": "dense",
    "str_ww_ref_model/model.onnx": "dense",
    "str_ww_ref_model/model_keras2.h5": "dense",
}
"""Networks with convolutions, and the name of their output."""

REFUSED = {
    "garnet_1layer/garnet_1layer.json": ("gar_1: GarNet",),
    "jetid_QGarnet_nconst_8_nbits_8/model_QGarnet_nconst_8_nbits_8.h5": ("gar_1: GarNet",),
    "own_gru_jets16/own_gru_jets16.keras": ("gru: GRU",),
    "toptag_GRU/model_keras2.h5": ("lstm1: GRU",),
}
"""Networks with layers that are not supported, and some of them as the error names them."""


@pytest.mark.parametrize("name", DENSE)
def test_dense_networks_agree_with_their_stored_answers(name: str, shared_models: Path, assert_close: Close) -> None:
    graph = load_model(shared_models / name)
    data = np.load(shared_models / Path(name).parent / "data.npz")
    found = run_reference(graph, {graph.inputs[0].name: data["x"].astype(np.float64)})
    assert list(found) == [DENSE[name]]
    assert_close(found[DENSE[name]], data["y"])


@pytest.mark.parametrize("name", SPATIAL)
def test_spatial_networks_agree_and_turn_channels_last(name: str, shared_models: Path, assert_close: Close) -> None:
    graph = load_model(shared_models / name)
    data = np.load(shared_models / Path(name).parent / "data.npz")
    x = data["x"][:100].reshape(-1, *graph.inputs[0].shape).astype(np.float64)
    prepared = prepare(graph)
    for network in (graph, prepared):
        found = run_reference(network, {graph.inputs[0].name: x})
        assert_close(found[SPATIAL[name]], data["y"][:100].reshape(found[SPATIAL[name]].shape))
    moves = [node.op.index.array.ravel() for node in prepared.nodes if isinstance(node.op, Rewire)]
    assert all(np.array_equal(index, np.arange(index.size)) for index in moves), "no transpose is left"


@pytest.mark.parametrize("name", REFUSED)
def test_unsupported_layers_are_listed_by_name_and_type(name: str, shared_models: Path) -> None:
    with pytest.raises(ModelError, match=r"unsupported layer") as raised:
        load_model(shared_models / name)
    lines = raised.value.message.splitlines()
    for layer in REFUSED[name]:
        assert any(line == f"  {layer}" or line.startswith(f"  {layer} (") for line in lines), layer


@pytest.mark.slow
def test_every_file_loads_or_raises_a_model_error(shared_models: Path) -> None:
    loaded = set()
    for path in sorted(shared_models.rglob("*")):
        try:
            load_model(path)
        except ModelError as error:
            assert str(path) in error.message
        else:
            loaded.add(str(path.relative_to(shared_models)))
    assert set(DENSE) | set(SPATIAL) <= loaded
    assert not loaded & set(REFUSED)
