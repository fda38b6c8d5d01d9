"""The quantized ONNX networks of ../shared/models mean what qonnx computes: every tensor, every event."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx_quant_execution import Comparison, Execution, compare

from metronn.frontends import load_model
from metronn.model.reference import run_reference

Array = npt.NDArray[Any]
Draw = Callable[[np.random.Generator, Array, int], Array]
PART = 5000


def _near(rng: np.random.Generator, data: Array, count: int) -> Array:
    """Return events near real ones, off their grid."""
    picked = data[rng.integers(0, len(data), count)]
    return np.asarray(picked + rng.normal(0, 3, picked.shape))


NETWORKS: Mapping[str, tuple[int, int, Draw]] = {
    "cms_axol1tl_v4/model_qonnx.onnx": (100_000, 0, lambda rng, data, n: rng.uniform(-40, 40, (n, *data.shape[1:]))),
    "TFC_1W1A/model.onnx": (20_000, 0, lambda rng, data, n: rng.uniform(0, 1, (n, *data.shape[1:]))),
    "kws_w3a3_qonnx/model.onnx": (10_000, 10, _near),
    "kws_w3a3_qonnx/model_clean.onnx": (10_000, 10, _near),
    "qkeras_jettagging_qonnx/model.onnx": (100_000, 20, lambda rng, data, n: rng.normal(0, 1, (n, *data.shape[1:]))),
}
"""Files, numbers of events, how many may differ by float32 rounding noise, and how events are drawn."""


def _parts(path: Path, count: int, draw: Draw) -> Iterator[Array]:
    data = np.load(path.parent / "data.npz")["x"].astype(np.float32)
    yield data
    rng = np.random.default_rng(1)
    for _ in range(count // PART):
        yield draw(rng, data, PART).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_real_networks_differ_by_nothing_but_float32_noise(name: str, shared_models: Path) -> None:
    pytest.importorskip("qonnx")
    count, most, draw = NETWORKS[name]
    graph, execution = load_model(shared_models / name), Execution(onnx.load(shared_models / name))
    constants = {tensor.name for tensor in execution.model.graph.initializer}
    (source,) = (entry.name for entry in execution.model.graph.input if entry.name not in constants)
    found = Comparison()
    for x in _parts(shared_models / name, count, draw):
        compare(graph, execution, {source: x}, found)
    assert found.events > count
    assert found.total == found.noise <= most, found


def test_the_production_firmware_of_axol1tl_is_met_bit_by_bit(shared_models: Path) -> None:
    """The stored outputs are those of the production HLS C++ with its fixed-point types."""
    folder = shared_models / "cms_axol1tl_v4"
    data = np.load(folder / "data.npz")
    graph = load_model(folder / "model_qonnx.onnx")
    (found,) = run_reference(graph, {"x": data["x"].astype(np.float64)}).values()
    np.testing.assert_array_equal(found, data["y"])
    assert len(found) == 3000


@pytest.mark.parametrize("name", ["cms_axol1tl_v4/model_qonnx.onnx", "qkeras_jettagging_qonnx/model.onnx"])
def test_the_executor_is_qonnx(name: str, shared_models: Path) -> None:
    """Running node by node without fixed shapes gives the tensors of `qonnx.core.onnx_exec`."""
    pytest.importorskip("qonnx")
    from qonnx.core.modelwrapper import ModelWrapper
    from qonnx.core.onnx_exec import execute_onnx
    from qonnx.transformation.infer_shapes import InferShapes

    model = onnx.load(shared_models / name)
    for node in model.graph.node:
        node.domain = "qonnx.custom_op.general" if node.domain else ""
    x = np.load(shared_models / name.split("/")[0] / "data.npz")["x"].astype(np.float32)[:1]
    source = model.graph.input[0].name
    found = Execution(model).tensors({source: x})
    expected = execute_onnx(ModelWrapper(model).transform(InferShapes()), {source: x}, return_full_exec_context=True)
    assert len(expected) > 20
    for tensor, array in expected.items():
        if not tensor:  # stands for omitted inputs
            continue
        np.testing.assert_array_equal(found[tensor], array, tensor)
