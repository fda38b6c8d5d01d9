"""Random QKeras networks, saved by QKeras itself: every layer's output agrees, up to the float32 noise of QKeras."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from metronn.frontends import load_model
from metronn.model.graph import RealGraph, RealLinear, RealNode
from metronn.model.reference import run_reference

WORKER = Path(__file__).with_name("qkeras_worker.py")
NOISE = 2.0**-19
"""What float32 may lose in a sum of some tens of products, relative to the largest value of the layer."""

NETWORKS = 24

Values = npt.NDArray[np.float64]


def qkeras_python() -> Path:
    """Return the interpreter that has QKeras: METRONN_QKERAS_PYTHON, or that of `make setup-qkeras`; else skip."""
    given = os.environ.get("METRONN_QKERAS_PYTHON")
    folder = Path(__file__).parents[3] / ".venv-qkeras"
    if given is None and not (folder / ".installed").is_file():
        pytest.skip("no interpreter with QKeras: make setup-qkeras, or METRONN_QKERAS_PYTHON")
    return folder / "bin" / "python" if given is None else Path(given)


def run_worker(*arguments: str, worker: Path = WORKER) -> dict[str, Any]:
    """Run the worker and return what it prints."""
    environment = {**os.environ, "TF_NUM_INTRAOP_THREADS": "1"}
    for name in ("PYTHONPATH", "KERAS_BACKEND"):  # other tests choose a backend for this process
        environment.pop(name, None)
    done = subprocess.run(
        [str(qkeras_python()), str(worker), *arguments], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def all_tensors(graph: RealGraph, x: Values) -> Mapping[str, Values]:
    """Return every value that bears the name of a layer."""
    kept: dict[str, Values] = {}
    wanted = {value for _, value in graph.tensors}

    def tap(node: RealNode, values: Values) -> None:
        if node.name in wanted:
            kept[node.name] = values

    run_reference(graph, {graph.inputs[0].name: x}, tap)
    return {tensor: kept[value] for tensor, value in graph.tensors}


def first_flips(graph: RealGraph, x: Values, outputs: Mapping[str, Values]) -> tuple[list[str], int]:
    """Return the layers where an event first differs by more than noise, and how many events do."""
    tensors = all_tensors(graph, x)
    assert set(tensors) == set(outputs)
    good = np.ones(len(x), dtype=bool)
    layers = []
    for name, theirs in outputs.items():
        ours = tensors[name].reshape(theirs.shape)
        axes = tuple(range(1, theirs.ndim))
        apart = (np.abs(ours - theirs) > NOISE * max(1.0, float(np.abs(theirs).max()))).any(axis=axes)
        if (apart & good).any():
            layers.append(f"{name} ({int((apart & good).sum())} events)")
        good &= ~apart
    return layers, int((~good).sum())


@pytest.mark.slow
def test_every_layer_of_random_networks_agrees(tmp_path: Path) -> None:
    """Only sums on a grid that is no power of two may be moved over a tie by float32."""
    report = run_worker("networks", str(tmp_path), "0", str(NETWORKS))
    assert not report["errors"]
    flips, events = {}, 0
    for made in report["networks"]:
        data = np.load(tmp_path / f"n{made['seed']}.npz")
        outputs = {key.removeprefix("y."): data[key].astype(np.float64) for key in data.files if key != "x"}
        graph = load_model(tmp_path / made["file"])
        layers, count = first_flips(graph, data["x"].astype(np.float64), outputs)
        events += len(data["x"])
        if count:
            assert any(isinstance(node.op, RealLinear) and node.op.step is not None for node in graph.nodes), layers
            flips[made["seed"]] = (layers, count)
    assert sum(count for _, count in flips.values()) <= events // 100, flips
