"""Events per second of quantized networks: metronn's compiled emulator, alkaid's interpreter, hls4ml's C simulation.

Trained networks of the shared collection, each with the types its framework gave it, on the same events in one run:

    python benchmarks/emulator_quantized.py [--network NAME ...] [--events N] [--qkeras-python FILE] [--json]

metronn is timed from input codes to output codes, and from float64 values to float64 values, which is what the peers
take and give. One thread each, and all cores where a tool uses them (hls4ml does not). alkaid reads HGQ2 networks only.
hls4ml converts for Vitis, io_parallel, with the precisions it reads from the quantizers. A softmax at the end is left
out of the ONNX network for all, and not compared in the QKeras one: every tool has another.
Peers run in processes of their own; wall and CPU seconds are taken around the call that runs all events, medians of the
repeats after one warm-up. Exit status 1 when an output differs, but for hls4ml on the ONNX network: what it makes of
that one by itself is not what qonnx computes, with which metronn agrees.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from metronn.emulate.native import NativeEmulator
from metronn.errors import MetronnError
from metronn.events.codes import decode_outputs, encode_inputs
from metronn.events.data import load_events
from metronn.frontends import load_model
from metronn.ir.graph import Graph
from metronn.passes.pipeline import quantize_model
from metronn.report.tables import table_text
from metronn.verify.against import tapped
from metronn.verify.against_events import event_chunks

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT.parent / "shared" / "models"
PEERS = Path(__file__).parent / "emulator_peers.py"
EVENTS, HLS4ML_EVENTS, REPEATS = 100_000, 5_000, 5
NETWORKS = {
    "hgq2_jsc_openml_7229": "model.keras",
    "hgq2_jsc_bnd_7686": "model.h5",
    "qkeras_3layer": "qkeras_3layer.json",
    "qkeras_jettagging_qonnx": "model.onnx",
}
UNREAD_BY_ALKAID = {"qkeras_3layer": "QKeras", "qkeras_jettagging_qonnx": "QONNX"}
COLUMNS = (
    *("network", "tool", "threads", "events", "events/s", "min", "max", "per CPU s", "/ metronn", "build s"),
    "outputs that differ",
)
Values = npt.NDArray[np.float64]
"""Inputs or outputs in the units of the network, (events, elements)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One tool on one network with one number of threads; `runs` are wall and CPU seconds."""

    network: str
    tool: str
    threads: int
    events: int = 0
    build_s: float = 0.0
    runs: tuple[tuple[float, float], ...] = ()
    differing: int | None = None
    outputs: int = 0
    missing: str = ""

    @property
    def rates(self) -> list[float]:
        """Events per second of each repeat."""
        return [self.events / wall for wall, _ in self.runs]

    @property
    def cpu_rate(self) -> float:
        """Median events per second of processor time of all threads: what a busy machine changes little."""
        return statistics.median(self.events / max(cpu, 1e-9) for _, cpu in self.runs)

    def cells(self, reference: Row) -> tuple[str, ...]:
        """Return the row of the table; ratios of CPU seconds to those of metronn's own row."""
        if self.missing:
            return (self.network, self.tool, f"not run: {self.missing}", *[""] * (len(COLUMNS) - 3))
        rate = statistics.median(self.rates)
        differing = "not compared" if self.differing is None else f"{self.differing:,} of {self.outputs:,}"
        return (
            *(self.network, self.tool, str(self.threads), f"{self.events:,}", f"{rate:,.0f}"),
            *(f"{min(self.rates):,.0f}", f"{max(self.rates):,.0f}", f"{self.cpu_rate:,.0f}"),
            *(f"{self.cpu_rate / reference.cpu_rate:.3f}", f"{self.build_s:.1f}", differing),
        )


def model_file(network: str, folder: Path) -> Path:
    """Return the model file; ONNX without the softmax at its end, written to the folder."""
    path = MODELS / network / NETWORKS[network]
    if path.suffix != ".onnx":
        return path
    import onnx

    model = onnx.load(path)
    last = next(node for node in model.graph.node if node.output[0] == model.graph.output[0].name)
    if last.op_type == "Softmax":
        model.graph.node.remove(last)
        model.graph.output[0].name = last.input[0]
        for known in [known for known in model.graph.value_info if known.name == last.input[0]]:
            model.graph.value_info.remove(known)
    onnx.save(model, folder / path.name)
    return folder / path.name


def integer_graph(path: Path, folder: Path) -> tuple[Graph, bool]:
    """Return the integer graph up to the last value it holds exactly, and whether that is the network's output."""
    model = load_model(path)
    quantized = quantize_model(
        model, load_events(folder / "data.npz", {node.name: node.shape for node in model.inputs})
    )
    graph = quantized.graph
    order = {node.name: at for at, node in enumerate(graph.nodes)}
    last = max((exact.value for exact in quantized.frontier if exact.value in order), key=order.__getitem__)
    if any(output.value == last for output in graph.outputs):
        return graph, True
    return tapped(graph, [last]), False


def timed(run: Callable[[], object], repeats: int) -> tuple[tuple[float, float], ...]:
    """Return wall and CPU seconds of some calls after one warm-up."""
    run()
    runs = []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        runs.append((time.perf_counter() - wall, time.process_time() - cpu))
    return tuple(runs)


def metronn(network: str, graph: Graph, values: Values, repeats: int, folder: Path) -> tuple[list[Row], Values]:
    """Time the compiled emulator; returns rows and the outputs."""
    start = time.perf_counter()
    native = NativeEmulator.build(graph, cache=folder / "cache")
    build_s = time.perf_counter() - start
    (source,) = graph.inputs
    shaped = values.reshape(-1, *source.type.shape)
    codes = encode_inputs(graph, {source.name: shaped})

    def through(threads: int) -> dict[str, npt.NDArray[np.floating]]:
        return decode_outputs(graph, native.run(encode_inputs(graph, {source.name: shaped}), threads))

    rows = []
    for threads in sorted({1, cores()}):
        calls: dict[str, Callable[[], object]] = {
            "metronn, codes": lambda threads=threads: native.run(codes, threads),  # type: ignore[misc]
            "metronn, values": lambda threads=threads: through(threads),  # type: ignore[misc]
        }
        for tool, call in calls.items():
            runs = timed(call, repeats)
            row = Row(network=network, tool=tool, threads=threads, events=len(values), build_s=build_s, runs=runs)
            rows.append(row)
    found = through(1)
    return rows, np.concatenate([found[output.name].reshape(len(values), -1) for output in graph.outputs], axis=1)


def cores() -> int:
    """Return the number of processors that this process may use."""
    return len(os.sched_getaffinity(0))


def peers(
    network: str,
    tool: str,
    path: Path,
    values: Values,
    expected: Values | None,
    threads: Sequence[int],
    options: Options,
) -> list[Row]:
    """Time a peer in a process of its own, with each number of threads (0: all), and compare its answers."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        np.save(folder / "events.npy", values)
        counts = ",".join(map(str, threads))
        words = (path, folder / "events.npy", folder / "outputs.npy", options.repeats, counts, folder / "project")
        python = options.qkeras_python if network == "qkeras_3layer" and options.qkeras_python else sys.executable
        environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore", **os.environ}
        environment.pop("OMP_NUM_THREADS", None)
        command = [str(python), str(PEERS), tool, *map(str, words)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
            return [Row(network=network, tool=tool, threads=1, missing=said[:60])]
        record = json.loads(done.stdout.splitlines()[-1])
        if "missing" in record:
            return [Row(network=network, tool=tool, threads=1, missing=record["missing"])]
        found = np.load(folder / "outputs.npy")
    return [
        Row(
            network=network,
            tool=record["tool"],
            threads=count or cores(),
            events=len(values),
            build_s=record["build_s"],
            runs=tuple((wall, cpu) for wall, cpu in runs),
            differing=None if expected is None else int((found != expected).sum()),
            outputs=0 if expected is None else expected.size,
        )
        for count, runs in zip(threads, record["runs"], strict=True)
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How much is run, and where QKeras and hls4ml are installed together."""

    events: int
    hls4ml_events: int
    repeats: int
    qkeras_python: Path | None


def contest(network: str, options: Options) -> list[Row]:
    """Measure every tool on one network."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        path = model_file(network, folder)
        graph, whole = integer_graph(path, MODELS / network)
        (chunk,) = event_chunks(graph, {}, options.events, options.events)
        (source,) = graph.inputs
        values = chunk.values[source.name].reshape(options.events, -1)
        rows, outputs = metronn(network, graph, values, options.repeats, folder)
        expected = outputs if whole else None
        if network in UNREAD_BY_ALKAID:
            rows.append(Row(network=network, tool="alkaid", threads=1, missing=f"reads no {UNREAD_BY_ALKAID[network]}"))
        else:
            rows += peers(network, "alkaid", path, values, expected, (1, 0), options)
        few = options.hls4ml_events
        some = None if expected is None else expected[:few]
        shaped = values[:few].reshape(few, *source.type.shape)
        return [*rows, *peers(network, "hls4ml", path, shaped, some, (1,), options)]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", choices=sorted(NETWORKS), help="only this one; repeatable")
    parser.add_argument("--events", type=int, default=EVENTS, help=f"default {EVENTS:,}")
    parser.add_argument("--hls4ml-events", type=int, default=HLS4ML_EVENTS, help=f"default {HLS4ML_EVENTS:,}")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--qkeras-python", type=Path, help="interpreter with QKeras 0.9 and hls4ml")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    if not MODELS.is_dir():
        sys.stdout.write("not run: the networks of ../shared/models are not there\n")
        return 0
    options = Options(
        events=given.events, hls4ml_events=given.hls4ml_events, repeats=given.repeats, qkeras_python=given.qkeras_python
    )
    rows, table, wrong = [], [], False
    for network in given.network or NETWORKS:
        try:
            found = contest(network, options)
        except MetronnError as error:
            sys.stderr.write(f"error: {network}: {error}\n")
            wrong = True
            continue
        rows += found
        reference = next(row for row in found if row.tool == "metronn, values" and row.threads == 1)
        table += [row.cells(reference) for row in found]
        for row in found:
            itself = row.tool.startswith("hls4ml") and NETWORKS[network].endswith(".onnx")
            wrong |= bool(row.differing) and not itself
    if given.json:
        records = [
            asdict(row) | ({} if row.missing else {"events_per_s": statistics.median(row.rates)}) for row in rows
        ]
        sys.stdout.write(json.dumps(records, indent=1) + "\n")
    else:
        sys.stdout.write(table_text(COLUMNS, table, right=tuple(range(2, len(COLUMNS)))))
    return int(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
