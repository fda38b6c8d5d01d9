"""Time alkaid's interpreter or hls4ml's C simulation on a trained network. Started by emulator_quantized.py.

    python emulator_peers.py alkaid|hls4ml MODEL EVENTS.npy OUTPUTS.npy REPEATS THREADS FOLDER

A script of its own, for any interpreter that has the tool. EVENTS holds float64 inputs of one network input; OUTPUTS
gets the answers. Prints one line of JSON: {"tool": name and version, "build_s": ..., "runs": [[[wall s, CPU s], ...]]}
with runs for each of the comma-separated numbers of THREADS (0: all) and the CPU seconds of the whole process, or
{"missing": what is not installed}.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src" / "metronn" / "verify" / "workers"))


def alkaid(path: Path, folder: Path) -> Callable[[Any, int], Any]:
    """Trace an HGQ2 network to adder graphs, as alkaid's command line does, and return its interpreter."""
    del folder
    os.environ.setdefault("KERAS_BACKEND", "jax")
    importlib.import_module("hgq")
    keras = importlib.import_module("keras")
    tracing = importlib.import_module("alkaid.trace")
    network = keras.models.load_model(path, compile=False)
    trace_model = importlib.import_module("alkaid.converter").trace_model
    logic = tracing.trace(*trace_model(network, tracing.HWConfig(1, 1, -1), {"hard_dc": 5}))
    return lambda values, threads: logic.predict(values, n_threads=threads)


def hls4ml(path: Path, folder: Path) -> Callable[[Any, int], Any]:
    """Convert for Vitis (io_parallel) with the precisions hls4ml reads from the quantizers, compile, return predict."""
    request = {"model": str(path), "config": None, "folder": str(folder)}
    network = importlib.import_module("hls4ml_worker").converted(importlib.import_module("framework_worker"), request)
    network.compile()
    return lambda values, _: network.predict(np.ascontiguousarray(values))


def main() -> None:
    """Build, warm up, time, save the answers. What the tools print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    tool, model, events, outputs, repeats, threads, folder = sys.argv[1:]
    start = time.perf_counter()
    try:
        run = {"alkaid": alkaid, "hls4ml": hls4ml}[tool](Path(model), Path(folder))
    except ImportError as error:
        answers.write(json.dumps({"missing": str(error)}) + "\n")
        return
    build_s = time.perf_counter() - start
    values = np.load(events)
    every = []
    for count in map(int, threads.split(",")):
        found = run(values, count)
        runs = []
        for _ in range(int(repeats)):
            wall, cpu = time.perf_counter(), time.process_time()
            found = run(values, count)
            runs.append((time.perf_counter() - wall, time.process_time() - cpu))
        every.append(runs)
    np.save(outputs, np.asarray(found, dtype=np.float64).reshape(len(values), -1))
    answers.write(json.dumps({"tool": f"{tool} {metadata.version(tool)}", "build_s": build_s, "runs": every}) + "\n")


if __name__ == "__main__":
    main()
