"""Random HGQ2 networks: what metronn reads computes what HGQ2 computes, in every layer, exactly."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from hgq_networks import BUILDERS, FORMATS

from metronn.frontends import load_model
from metronn.model.reference import run_reference

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("hgq", "keras", "jax", "scipy")),
    reason="HGQ2 is not installed, or not what Keras' NumPy backend needs",
)

WRITER = Path(__file__).with_name("hgq_networks.py")
SEEDS = range(4)
"""Networks of each kind; 0 and 3 have the integer bits of WRAP from HGQ2's own tracing."""


def write_networks(folder: Path, names: Sequence[str]) -> None:
    """Have HGQ2 build, run and save networks."""
    environment = {**os.environ, "KERAS_BACKEND": "numpy", "JAX_PLATFORMS": "cpu", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(WRITER), str(folder), *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def assert_equal_layers(file: Path, expected: dict[str, npt.NDArray[np.float32]]) -> int:
    """Compare every layer's output; returns how many values other than 0 were compared."""
    graph = load_model(file)
    values: dict[str, npt.NDArray[np.float64]] = {}
    events = {graph.inputs[0].name: expected["x"].astype(np.float64)}
    run_reference(graph, events, lambda node, found: values.update({node.name: found}))
    tensors = dict(graph.tensors)
    layers = [layer for layer in expected if layer in tensors]
    # Models inside the network and repeated layers have no value under their own name.
    inside = [layer for layer in expected if layer.startswith(("sequential", "time_distributed"))]
    assert sorted(layers) == sorted(set(expected) - {"x", *inside})
    for layer in layers:
        found = values[tensors[layer]]
        np.testing.assert_array_equal(found, expected[layer].astype(np.float64), err_msg=f"{file} {layer}")
    return sum(int(np.count_nonzero(expected[layer])) for layer in layers)


def assert_equal_networks(folder: Path, names: Sequence[str]) -> None:
    """Build networks and compare both formats; together they must compute something."""
    write_networks(folder, names)
    compared = 0
    for name in names:
        with np.load(folder / name / "expected.npz") as held:
            expected = {layer: held[layer] for layer in held.files}
        compared += sum(assert_equal_layers(folder / name / file, expected) for file in FORMATS)
    assert compared > 100 * len(names)


@pytest.mark.slow
def test_networks_of_every_kind(tmp_path: Path) -> None:
    assert_equal_networks(tmp_path, [f"{kind}-{seed}" for kind in BUILDERS for seed in SEEDS])
