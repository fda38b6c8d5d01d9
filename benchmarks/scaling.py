"""Compile time against the number of layers, and of networks of a million weights.

    python benchmarks/scaling.py [--kinds dense image] [--layers 8 16 ...] [--plot FILE] [--json]
    python benchmarks/scaling.py --large [--json]

Without --large, networks of 8 to 256 layers with random weights are compiled, each in a process of its own:

    dense   Dense layers 32 -> 32 with ReLU at II 9
    image   3 x 3 convolutions 8 -> 8 channels with ReLU on 16 x 16 pixels at II 256

on a virtual FPGA that never fills, without verification (vectors are written). Printed are the processor seconds of
each stage and the exponent of plan + emit: the slope of a straight line through the logarithms (1 is linear). Exit
status 1 when it is above 1.1 or the largest network takes more than 1.1 times as long for each layer as the average
of the others.

With --large: dense 200-1000-750-100-1, and the network of examples/calorimeter_energy (`model.keras` as its train.py
writes it, where that is; else random weights), on the systems said in the table. The limits are 180 processor
seconds and 4,000 MB for reading, quantizing, planning and writing firmware; exit status 1 when one is missed.

Processor seconds count all threads and child processes: what other work on the machine does not change. Needs keras
and a backend for it; --plot needs matplotlib.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
LAYERS = (8, 16, 32, 64, 128, 256)
II = {"dense": 9, "image": 256}
TITLES = {"dense": "dense 32 x 32, II 9", "image": "convolution 3 x 3 x 8 on 16 x 16, II 256"}
EVENTS = 64
"""Calibration events of the networks of many layers: quantizing is not what is measured."""

STAGES = ("reading the network", "quantizing", "planning", "writing firmware", "writing files and report")
SHORT = ("read", "quantize", "plan", "emit", "write")
LARGEST_EXPONENT, LARGEST_RATIO = 1.1, 1.1
LIMIT_S, LIMIT_MB = 180.0, 4000.0
LARGE = ("dense 200-1000-750-100-1", "calorimeter_energy")


def chain(kind: str, layers: int, folder: Path) -> None:
    """Write a network of so many layers and its calibration events."""
    import keras
    import numpy as np

    keras.utils.set_random_seed(layers)
    shape = (32,) if kind == "dense" else (16, 16, 8)
    inputs = x = keras.Input(shape, name="x")
    for number in range(layers):
        if kind == "dense":
            layer = keras.layers.Dense(32, "relu", kernel_initializer="he_normal", name=f"dense{number}")
        else:
            layer = keras.layers.Conv2D(
                8, 3, padding="same", activation="relu", kernel_initializer="he_normal", name=f"conv{number}"
            )
        x = layer(x)
    keras.Model(inputs, x).save(folder / "model.keras")
    rng = np.random.default_rng(layers)
    np.savez(folder / "calibration.npz", x=rng.integers(-128, 128, (EVENTS, *shape)) / 128)
    options = f'[plan]\nsystem = "one-large-virtual"\nii = {II[kind]}\n\n[quantize]\nmetric = "none"\n'
    (folder / "metronn.toml").write_text(
        '[model]\nfile = "model.keras"\n\n[data]\ncalibrate = "calibration.npz"\n\n' + options
    )


def large_dense(folder: Path) -> str:
    """Write dense 200-1000-750-100-1 with 1,025,100 weights and 1,851 biases; returns what to compile."""
    import keras
    import numpy as np

    keras.utils.set_random_seed(1)
    inputs = x = keras.Input((200,), name="x")
    for number, width in enumerate((1000, 750, 100)):
        x = keras.layers.Dense(width, "relu", kernel_initializer="he_normal", name=f"dense{number}")(x)
    keras.Model(inputs, keras.layers.Dense(1, name="y")(x)).save(folder / "model.keras")
    rng = np.random.default_rng(1)
    np.savez(folder / "calibration.npz", x=rng.integers(-128, 128, (4096, 200)) / 128)
    (folder / "metronn.toml").write_text(
        '[model]\nfile = "model.keras"\n\n[data]\ncalibrate = "calibration.npz"\n\n'
        '[plan]\nsystem = "one-serenity"\nii = 1600\n\n[quantize]\nmetric = "none"\n'
    )
    return "random weights, one-serenity at II 1600"


def calorimeter(folder: Path) -> str:
    """Write the network of examples/calorimeter_energy, trained or not, and its data; returns what to compile."""
    import numpy as np

    example = EXAMPLES / "calorimeter_energy"
    sys.path.insert(0, str(EXAMPLES))
    from calorimeter_energy.generate import generate

    for name, count in (("calibration", 1000), ("test", 2000)):
        np.savez(folder / f"{name}.npz", **generate(count, seed=count))
    trained = example / ".cache" / "model.keras"
    if trained.is_file():
        (folder / "model.keras").write_bytes(trained.read_bytes())
    else:
        from calorimeter_energy.train import build

        build().save(folder / "model.keras")
    for name in ("metronn.toml", "metric.py", "one-serenity-225-khz.toml"):
        text = (example / name).read_text().replace(".cache/", "")
        (folder / name).write_text(text)
    return f"{'trained' if trained.is_file() else 'random'} weights, one-serenity-225-khz (II 1600)"


def compiled(folder: Path) -> dict[str, Any]:
    """Compile the metronn.toml of the folder in this process as `metronn compile --no-verify` does; returns figures."""
    import resource

    from metronn.cli.console import Log
    from metronn.flow.builds import write_results
    from metronn.flow.folders import write_files
    from metronn.flow.options import Given
    from metronn.flow.request import find_request
    from metronn.flow.stages import compile_files

    spent: dict[str, float] = {}
    peak: dict[str, float] = {}

    class Measured(Log):
        @contextmanager
        def stage(self, name: str) -> Iterator[None]:
            start = cpu_seconds()
            yield
            spent[name] = spent.get(name, 0.0) + cpu_seconds() - start
            peak[name] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6

    begin = time.perf_counter()
    log = Measured()
    done = compile_files(find_request(folder, Given()), log)
    with log.stage(STAGES[-1]):
        target = folder / "build"
        write_files(target, done.files)
        write_results(target, done.manifest, done.pictures)
    return {
        "cpu_s": {short: round(spent[name], 2) for short, name in zip(SHORT, STAGES, strict=True)},
        "peak_mb": {short: round(peak[name]) for short, name in zip(SHORT, STAGES, strict=True)},
        "wall_s": round(time.perf_counter() - begin, 1),
        "megabytes": round(sum(map(len, done.files.values())) / 1e6, 1),
    }


def cpu_seconds() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def in_process(job: Sequence[str]) -> Any:  # noqa: ANN401 - the shape of JSON
    """Run a job of this file in a new process, with one thread and an empty cache; returns its answer."""
    quiet = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, __file__, "--job", *job],
        env={**quiet, **os.environ, "XDG_CACHE_HOME": str(Path(job[1]) / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(job)} ended with status {done.returncode}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def run_job(job: Sequence[str]) -> None:
    """Do what another process of this file asked for: build a network, or compile one."""
    folder = Path(job[1])
    builders: dict[str, Callable[[Path], str]] = {LARGE[0]: large_dense, LARGE[1]: calorimeter}
    answer: object = None
    if job[0] == "compile":
        answer = compiled(folder)
    elif job[0] in builders:
        answer = builders[job[0]](folder)
    else:
        chain(job[0], int(job[2]), folder)
    print(json.dumps(answer))


def measured(build: Sequence[str]) -> dict[str, Any]:
    """Build a network in one process and compile it in another."""
    with tempfile.TemporaryDirectory(prefix="metronn-bench-") as folder:
        what = in_process([build[0], folder, *build[1:]])
        found: dict[str, Any] = in_process(["compile", folder])
    return {**found, "what": what}


def work(row: dict[str, Any]) -> float:
    """Processor seconds of plan + emit."""
    return float(row["cpu_s"]["plan"] + row["cpu_s"]["emit"])


def exponent(rows: Sequence[dict[str, Any]]) -> float:
    """Slope of the straight line through log(plan + emit) over log(layers)."""
    xs, ys = [math.log(row["layers"]) for row in rows], [math.log(work(row)) for row in rows]
    return statistics.linear_regression(xs, ys).slope if len(rows) > 1 else float("nan")


def scaling_problems(kind: str, rows: Sequence[dict[str, Any]]) -> list[str]:
    if len(rows) < 2:
        return []
    slope, each = exponent(rows), [work(row) / row["layers"] for row in rows]
    found = []
    if slope > LARGEST_EXPONENT:
        found.append(f"{kind}: plan + emit grow with the power {slope:.2f} of the layers")
    if each[-1] > LARGEST_RATIO * statistics.mean(each[:-1]):
        found.append(f"{kind}: the largest network takes {each[-1]:.3f} s a layer, smaller ones less")
    return found


def table(rows: Sequence[dict[str, Any]], first: str) -> Iterator[str]:
    yield f"{first:28}" + "".join(f"{name:>10}" for name in SHORT) + f"{'wall':>9}{'peak MB':>9}{'files MB':>10}"
    for row in rows:
        cells = "".join(f"{row['cpu_s'][name]:10.1f}" for name in SHORT)
        peak = max(row["peak_mb"].values())
        yield f"{row[first]!s:28}{cells}{row['wall_s']:9.1f}{peak:9.0f}{row['megabytes']:10.1f}"


def plot(found: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """Draw plan + emit against layers, both axes logarithmic, with a line of slope 1."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(5.2, 3.6))
    for kind, rows in found.items():
        xs, ys = [row["layers"] for row in rows], [work(row) for row in rows]
        (line,) = axes.plot(xs, ys, "o-", label=f"{TITLES[kind]}: exponent {exponent(rows):.2f}")
        axes.plot(xs, [ys[0] * x / xs[0] for x in xs], ":", color=line.get_color(), linewidth=1)
    axes.set(xscale="log", yscale="log", xlabel="layers", ylabel="plan + emit, processor seconds")
    axes.set_xticks([row["layers"] for row in next(iter(found.values()))])
    axes.get_xaxis().set_major_formatter(matplotlib.ticker.ScalarFormatter())
    axes.minorticks_off()
    axes.legend(fontsize=7, title="dotted: linear", title_fontsize=7)
    figure.tight_layout()
    figure.savefig(path, dpi=100, metadata={"Software": None})


def run_scaling(arguments: argparse.Namespace) -> list[str]:
    found: dict[str, list[dict[str, Any]]] = {}
    for kind in arguments.kinds:
        for layers in arguments.layers:
            row = {"layers": layers, **measured([kind, str(layers)])}
            found.setdefault(kind, []).append(row)
            print(f"{kind}, {layers} layers: plan + emit {work(row):.1f} s", file=sys.stderr)
    if arguments.plot is not None:
        plot(found, arguments.plot)
    if arguments.json:
        print(json.dumps({kind: {"exponent": exponent(rows), "rows": rows} for kind, rows in found.items()}, indent=1))
    for kind, rows in found.items():
        if not arguments.json:
            print(f"{TITLES[kind]}: processor seconds of each stage")
            print("\n".join(table(rows, "layers")))
            print(f"exponent of plan + emit: {exponent(rows):.2f}\n")
    return [text for kind, rows in found.items() for text in scaling_problems(kind, rows)]


def run_large(arguments: argparse.Namespace) -> list[str]:
    rows = [{"network": name, **measured([name])} for name in LARGE]
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        print("processor seconds of each stage")
        print("\n".join(table(rows, "network")))
        for row in rows:
            print(f"{row['network']}: {row['what']}")
    found = []
    for row in rows:
        peak = max(row["peak_mb"].values())
        if row["wall_s"] > LIMIT_S or peak > LIMIT_MB:
            found.append(
                f"{row['network']}: {row['wall_s']:.0f} s, {peak:.0f} MB; limits {LIMIT_S:.0f} s, {LIMIT_MB:.0f} MB"
            )
    return found


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", nargs="+", choices=tuple(II), default=tuple(II))
    parser.add_argument("--layers", nargs="+", type=int, default=LAYERS)
    parser.add_argument("--large", action="store_true", help="networks of a million weights instead")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw plan + emit against layers (.png, .svg, .pdf)")
    parser.add_argument("--json", action="store_true", help="machine-readable result")
    parser.add_argument("--job", nargs="+", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    arguments = parsed()
    if arguments.job:
        run_job(arguments.job)
        return 0
    try:
        wrong = run_large(arguments) if arguments.large else run_scaling(arguments)
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 3
    print(f"{os.cpu_count()} cores, load at the end {os.getloadavg()[0]:.1f}", file=sys.stderr)
    for text in wrong:
        print(f"missed: {text}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
