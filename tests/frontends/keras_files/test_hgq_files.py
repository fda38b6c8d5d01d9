"""HGQ2 files made by hand, without HGQ2: quantizers against their definition, and what is refused, with its reason."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest

from metronn.errors import ModelError
from metronn.frontends import load_model
from metronn.frontends.keras.hgq.quantizers import FixedQuantizer, Minifloat, Outside, quantized_weights
from metronn.ir.ops import Rounding
from metronn.model.graph import Floats, RealGraph
from metronn.model.reference import run_reference

ROUND: dict[str, Callable[[float], float]] = {
    "TRN": lambda x: np.floor(x),
    "RND": lambda x: np.floor(x + 0.5),
    "RND_CONV": lambda x: np.round(x),
    "TRN_ZERO": lambda x: np.trunc(x),
    "RND_INF": lambda x: np.sign(x) * np.floor(abs(x) + 0.5),
    "RND_MIN_INF": lambda x: np.ceil(x - 0.5),
    "RND_ZERO": lambda x: np.sign(x) * np.ceil(abs(x) - 0.5),
}
"""The definitions, number by number."""


def defined(x: float, k: int, i: int, f: int, rounding: str, overflow: str) -> float:
    """Return what a quantizer gives for one number."""
    if k + i + f <= 0:
        return 0.0
    step, top = 2.0**-f, 2.0**i
    y = ROUND[rounding](x / step) * step
    if overflow == "WRAP":
        return (y + k * top) % (top * (1 + k)) - k * top
    low = -k * (top - step if overflow == "SAT_SYM" else top)
    return min(max(y, low), top - step)


def conf(kind: str = "kif", **own: Any) -> dict[str, Any]:
    """Return the saved configuration of a quantizer."""
    config = {"q_type": kind, "place": "datalane", "round_mode": "RND", "overflow_mode": "SAT", "bw_mapper": None}
    config |= {"scaler": None, "affine": None, "trainable": True, "is_weight": False, "homogeneous_axis": [0]}
    return {"class_name": "QuantizerConfig", "registered_name": "hgq>QuantizerConfig", "config": config | own}


def entry(kind: str, config: dict[str, Any], source: str = "events") -> dict[str, Any]:
    """Return the saved configuration of a layer called `layer`."""
    history = {"class_name": "__keras_tensor__", "config": {"shape": [None, 3], "keras_history": [source, 0, 0]}}
    return {
        "module": "hgq.layers",
        "class_name": kind,
        "registered_name": f"hgq>{kind}",
        "name": "layer",
        "config": {"name": "layer", **config},
        "inbound_nodes": [{"args": [history], "kwargs": {}}],
    }


def saved(folder: Path, layer: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], size: int = 3) -> Path:
    """Write a `.keras` archive of one input and one layer; `arrays` by their place below the layer."""
    inputs = {"class_name": "InputLayer", "module": "keras.layers", "name": "events", "inbound_nodes": []}
    inputs["config"] = {"name": "events", "batch_shape": [None, size]}
    model = {
        "class_name": "Functional",
        "module": "keras",
        "config": {
            "name": "network",
            "layers": [inputs, layer],
            "input_layers": [["events", 0, 0]],
            "output_layers": [["layer", 0, 0]],
        },
    }
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file.create_group("layers/it/vars").attrs["name"] = "layer"
        for place, array in arrays.items():
            file[f"layers/it/{place}"] = array
    path = folder / "network.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.1"}))
        archive.writestr("config.json", json.dumps(model))
        archive.writestr("model.weights.h5", content.getvalue())
    return path


def outputs(graph: RealGraph, x: Floats) -> Floats:
    return next(iter(run_reference(graph, {"events": x}).values()))


@pytest.mark.parametrize("overflow", ["WRAP", "SAT", "SAT_SYM"])
@pytest.mark.parametrize("rounding", list(ROUND))
def test_quantizer_layer_of_every_mode(tmp_path: Path, rounding: str, overflow: str) -> None:
    """Seven elements: signed and unsigned, negative i, negative f, one bit, no bits."""
    k, i, f = (np.array([row]) for row in ([1, 0, 1, 1, 1, 0, 1], [2, 2, -1, 3, 0, 1, -2], [1, 2, 3, -1, 0, -1, 1]))
    widths = [f, k, i, np.float32(0.01)] if overflow == "WRAP" else [i, f, k]
    arrays = {f"quantizer/vars/{n}": np.asarray(a, dtype=np.float32) for n, a in enumerate(widths)}
    config = {"config": conf(round_mode=rounding, overflow_mode=overflow.lower())}
    graph = load_model(saved(tmp_path, entry("Quantizer", config), arrays, size=7))
    x = np.repeat(np.arange(-80, 81)[:, np.newaxis] / 16, 7, axis=1)
    expected = [
        [defined(v, *map(int, kif), rounding, overflow) for v, *kif in zip(row, k[0], i[0], f[0], strict=True)]
        for row in x
    ]
    np.testing.assert_array_equal(outputs(graph, x), expected)
    assert graph.quantized
    assert dict(graph.tensors)["layer"] == graph.outputs[0][1]


def dense(own: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
    """Return a QDense layer of 3 inputs and 2 outputs with trained, not whole widths."""
    config = {"units": 2, "use_bias": False, "activation": None, "enable_iq": True, "enable_oq": False}
    config |= {"iq_conf": conf("kif"), "kq_conf": conf("kbi", place="weight", is_weight=True)} | (own or {})
    arrays = {
        "vars/0": np.array([[0.3, -0.9], [1.7, 0.26], [-3.0, 0.74]], dtype=np.float32),
        "kq/quantizer/vars/0": np.full((3, 2), 3.4, dtype=np.float32),
        "kq/quantizer/vars/1": np.full((3, 2), 0.6, dtype=np.float32),
        "kq/quantizer/vars/2": np.ones((3, 2), dtype=np.uint8),
        "iq/quantizer/vars/0": np.full((1, 3), 1.2, dtype=np.float32),
        "iq/quantizer/vars/1": np.full((1, 3), 0.8, dtype=np.float32),
        "iq/quantizer/vars/2": np.ones((1, 3), dtype=np.uint8),
    }
    return entry("QDense", config), arrays


def test_widths_are_rounded_and_weights_quantized(tmp_path: Path) -> None:
    graph = load_model(saved(tmp_path, *dense()))
    x = np.array([[0.3, -0.26, 5.0], [-4.0, 1.0, 0.75]])
    weights = [[0.25, -1.0], [1.75, 0.25], [-2.0, 0.75]]  # b = 3, i = 1
    held = np.clip(np.floor(x * 2 + 0.5) / 2, -2.0, 1.5)  # i = 1, f = 1
    np.testing.assert_array_equal(outputs(graph, x), held @ np.array(weights))


@pytest.mark.parametrize(
    ("own", "message"),
    [
        (
            {"iq_conf": conf("kif", is_weight=True, overflow_mode="WRAP")},
            "is one of weights (is_weight) and has no bound",
        ),
        (
            {"iq_conf": conf("kif", overflow_mode="WRAP_SM", round_mode="RND")},
            "quantizer iq of activations has WRAP_SM",
        ),
        ({"iq_conf": conf("kif", bw_mapper={"class_name": "Own"})}, "a quantizer has a bw_mapper of its own"),
        ({"iq_conf": conf("posit")}, "quantizers of type 'posit' are not known; kif, kbi, float and dummy are"),
        ({"iq_conf": conf("kif", round_mode="UP")}, "round_mode 'UP' and overflow_mode 'SAT', which are not known"),
        ({"iq_conf": None}, "the configuration of a quantizer is missing"),
        ({"dtype": {"config": {"name": "mixed_bfloat16"}}}, "computes in mixed_bfloat16"),
        ({"units": 5}, "kernel has shape (3, 2) in the weights, the configuration gives (3, 5)"),
    ],
)
def test_what_is_not_read_is_said(tmp_path: Path, own: dict[str, Any], message: str) -> None:
    layer, arrays = dense(own)
    if own.get("iq_conf") is not None and own["iq_conf"]["config"]["overflow_mode"] == "WRAP":
        arrays["iq/quantizer/vars/3"] = np.float32(0.01)
    with pytest.raises(ModelError) as caught:
        load_model(saved(tmp_path, layer, arrays))
    assert "layer (hgq>QDense)" in str(caught.value)
    assert message in str(caught.value)


def test_minifloats_of_activations_are_refused(tmp_path: Path) -> None:
    layer, arrays = dense({"iq_conf": conf("float")})
    with pytest.raises(ModelError, match=r"quantizer iq makes minifloats of activations; only fixed point"):
        load_model(saved(tmp_path, layer, arrays))


def test_missing_widths_are_named(tmp_path: Path) -> None:
    layer, arrays = dense()
    kept = {place: array for place, array in arrays.items() if not place.startswith("iq")}
    with pytest.raises(
        ModelError, match=r"layer \(hgq>QDense\): the weights have no widths of a quantizer of type kif"
    ):
        load_model(saved(tmp_path, layer, kept))


def test_a_weight_that_is_no_number_is_named(tmp_path: Path) -> None:
    layer, arrays = dense()
    arrays["vars/0"][1, 1] = np.nan
    with pytest.raises(ModelError, match=r"layer: array kernel has 1 NaN or infinite values of 6"):
        load_model(saved(tmp_path, layer, arrays))


@pytest.mark.parametrize(
    ("kind", "reason"), [("QGRU", "recurrent"), ("QConv3D", "three spatial axes"), ("QLIF", "spik")]
)
def test_layers_that_are_not_read_have_a_reason(tmp_path: Path, kind: str, reason: str) -> None:
    with pytest.raises(ModelError, match=rf"layer: hgq>{kind} \({reason}.* not supported"):
        load_model(saved(tmp_path, entry(kind, {"units": 2}), {}))


def test_attention_with_a_mask_is_refused(tmp_path: Path) -> None:
    layer = entry("QMultiHeadAttention", {"num_heads": 1, "key_dim": 2})
    layer["inbound_nodes"][0]["kwargs"] = {"use_causal_mask": True}
    with pytest.raises(ModelError, match=r"is called with use_causal_mask; query, value, key are allowed, no masks"):
        load_model(saved(tmp_path, layer, {}))


def test_minifloat_weights() -> None:
    """Two mantissa bits, exponents from -3 to 3: 1, 1.25, 1.5, 1.75 times 2**e, below 1/8 in steps of 1/32."""
    m, e, e0 = (np.full(7, value, dtype=np.float32) for value in (2, 3, 0))
    values = np.array([0.3, 1.1, -1.13, 5.1, 100.0, 0.02, 0.0], dtype=np.float32)
    found = quantized_weights(Minifloat(m=m, e=e, e0=e0, outside=Outside()), values)
    np.testing.assert_array_equal(found, [0.3125, 1.0, -1.25, 5.0, 14.0, 0.03125, 0.0])


def test_weights_that_reflect_come_back_from_their_bounds() -> None:
    """WRAP_SM with k = 1, i = 1, f = 0: codes -2..1, each twice on the way up and down."""
    one = np.ones(8, dtype=np.float32)
    quantizer = FixedQuantizer(
        k=one, i=one, f=one * 0, rounding=Rounding.RND, overflow="WRAP_SM", free=False, outside=Outside()
    )
    values = np.arange(-4, 4, dtype=np.float32)
    np.testing.assert_array_equal(quantized_weights(quantizer, values), [-1.0, -2.0, -2.0, -1.0, 0.0, 1.0, 1.0, 0.0])


@pytest.mark.parametrize(
    "file",
    [
        "hgq2_jsc_bnd_7686/model.h5",
        "hgq2_jsc_openml_7229/model.keras",
        "hgq2_lin8/model.keras",
        "hgq2_mha8/model.keras",
    ],
)
def test_real_networks_give_the_outputs_of_hgq2(shared_models: Path, file: str) -> None:
    graph = load_model(shared_models / file)
    with np.load((shared_models / file).with_name("data.npz")) as data:
        x, y = data["x"][:200].astype(np.float64), data["y"][:200]
    found = next(iter(run_reference(graph, {graph.inputs[0].name: x}).values()))
    np.testing.assert_array_equal(found, y)
