"""Post-training quantization of float networks: what a build says of itself, beside what it does to fresh events.

Networks: those of ../shared/models and of examples/ whose files are there, and generated ones whose features, layers or
events differ in scale (ptq_networks.py). Each is quantized from calibration events at the default widths and at fixed
ones, and judged as rung 1 of `metronn compile` judges it:

    python benchmarks/ptq.py [--networks PATTERN ...] [--widths auto,8,16] [--seed N] [--no-peers] [--json]

Beside the verdict stands a measurement of this benchmark's own (ptq_measure.py) on events that calibration did not see:
signal to noise (SQNR) of all answers, of the median event, of the worst hundredth of the events and of the worst
element, and the loss of the metric where there is one: accuracy against labels or against the float network's own
decision, AUC, or the example's. A *silent loss* is a build that passes although the metric loses more than 1 % beyond
the chance of the sample, or, without a metric, although all answers or the median event keep less than 20 dB. Builds
that fail although they are not lost by that are counted too. Peers: hls4ml's C simulation of some of the networks, with
its default ap_fixed<16,6> and with the types it infers.

Ends with exit status 1 when a build loses silently or stops with a traceback.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from metronn.errors import MetronnError
from metronn.events.data import Events
from metronn.flow.stages import judging_events
from metronn.frontends import load_model
from metronn.model.graph import RealGraph
from metronn.passes.pipeline import prepare, quantize_model
from metronn.quantize.exact.values import present
from metronn.quantize.measure import run_fixed
from metronn.quantize.options import QuantizeOptions
from metronn.report.tables import table_text
from metronn.verify.reference import reference_files, reference_result
from metronn.verify.verdict import Status
from ptq_files import FILES, MissingError
from ptq_measure import Measurement, measured
from ptq_networks import GENERATED, Entry, Network, Sample

PEERS = Path(__file__).parent / "ptq_peers.py"
AUTO = "auto"
WIDTHS = (AUTO, "6", "8", "12", "16")
GRANULARITIES = {"model": "hls4ml ap_fixed<16,6>", "name": "hls4ml auto"}
PEER_SECONDS, PEER_EVENTS = 60, 500
PEERED = (
    *("KERAS_1layer", "KERAS_3layer", "KERAS_3layer_batch_norm", "KERAS_conv1d_small", "onnx_three_layer_keras"),
    *("own_omtf_mlp", "dijet", "digits_cnn", "raw_bn_classes", "raw_classes", "concat_1_1000", "outlier_fill_classes"),
    *("units_1e-15", "units_1e12", "residual_12_classes", "regression_125", "sigmoid", "tanh", "skip_100_1"),
    *("shifted_bn", "lognormal_classes", "mlp", "mlp_classes"),
)
"""Networks that hls4ml reads, most of them within the time limit; others would add half an hour."""
LOST_DB, LOST_SHARE = 20.0, 0.01
CRASHES = (ArithmeticError, AssertionError, AttributeError, LookupError, MemoryError, TypeError, ValueError)
"""What a traceback of the product would be; RecursionError and such end the benchmark."""
PASS, FAIL, REFUSED, CRASH, NOT_RUN, MEASURED = "pass", "fail", "refused", "crash", "not run", ""
COLUMNS = (
    *("network", "build", "verdict", "SQNR", "median", "worst 1 %", "element", "metric", "float", "fixed", "loss %"),
    *("s", ""),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One build of one network: its verdict, what was measured of it, and why there is no measurement."""

    network: str
    build: str
    verdict: str
    measured: Measurement | None = None
    reason: str = ""
    seconds: float = 0.0

    @property
    def lost(self) -> bool:
        """Whether the independent measurement says that the network is lost."""
        found = self.measured
        if found is None:
            return False
        if found.loss is not None and found.chance is not None:
            return found.loss - found.chance > LOST_SHARE
        return min(found.total_db, found.median_db) < LOST_DB

    @property
    def silent(self) -> bool:
        """Whether it passed though lost."""
        return self.verdict == PASS and self.lost

    @property
    def spared(self) -> bool:
        """Whether it failed though not lost."""
        return self.verdict == FAIL and not self.lost

    def note(self) -> str:
        """Return what stands behind the figures."""
        if self.silent:
            return "SILENT LOSS"
        return "not lost" if self.spared else "" if self.verdict == FAIL else self.reason[:100]

    def cells(self) -> tuple[str, ...]:
        """Return the row of the table."""
        found = self.measured
        figures = found.cells() if found else ("",) * 8
        return (self.network, self.build, self.verdict, *figures, f"{self.seconds:.1f}", self.note())

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self) | {"lost": self.lost, "silent_loss": self.silent, "failed_not_lost": self.spared}


def named(model: RealGraph, sample: Sample) -> Events:
    """Return a sample as the product takes it: by the names and shapes of the network's inputs."""
    given = sample.inputs
    arrays = {
        node.name: np.asarray(given[node.name] if node.name in given else next(iter(given.values())), dtype=np.float64)
        for node in model.inputs
    }
    shaped = {node.name: arrays[node.name].reshape(-1, *node.shape) for node in model.inputs}
    extra = {name: values for name, values in sample.extra.items() if name != "label"}
    return Events(inputs=shaped, labels=sample.extra.get("label"), extra=extra)


def options_of(network: Network, width: str) -> QuantizeOptions:
    """Return the options of a build: the defaults, but for the metric and the widths asked for."""
    if width == AUTO:
        return QuantizeOptions(metric=network.metric)
    return QuantizeOptions(metric=network.metric, weight_bits=int(width), activation_bits=int(width))


def built(name: str, network: Network, model: RealGraph, width: str) -> Row:
    """Quantize, judge as rung 1 does, and measure."""
    row = Row(network=name, build=f"metronn {width}", verdict=PASS)
    start = time.monotonic()
    calibration, fresh = named(model, network.calibration), named(model, network.fresh)
    options = options_of(network, width)
    try:
        quantized = quantize_model(model, calibration, options, base=network.base)
        with tempfile.TemporaryDirectory() as place:
            report = quantized.report
            files = reference_files(
                prepare(model), quantized.graph, calibration, judging_events(report, calibration, None)[0], options,
                network.base, report, present(quantized.frontier, quantized.graph),
            )  # fmt: skip
            for file, content in files.items():
                (Path(place) / file).write_bytes(content)
            verdict = reference_result(Path(place), quantized.graph).verdict
        answers = run_fixed(quantized.graph, fresh.inputs)
    except MetronnError as error:
        return replace(row, verdict=REFUSED, reason=" ".join(error.message.split()), seconds=time.monotonic() - start)
    except CRASHES as error:
        reason = f"{type(error).__name__}: {error}"
        return replace(row, verdict=CRASH, reason=reason, seconds=time.monotonic() - start)
    seconds = time.monotonic() - start
    found = measured(network, [answers[output] for output, _ in model.outputs], [name for name, _ in model.outputs])
    passed = verdict.status is Status.PASS
    return replace(row, verdict=PASS if passed else FAIL, measured=found, reason=verdict.first, seconds=seconds)


def peer(name: str, network: Network, granularity: str) -> Row:
    """Measure hls4ml on the first fresh events, in a process of its own."""
    row = Row(network=name, build=GRANULARITIES[granularity], verdict=MEASURED)
    if network.peer is None:
        return replace(row, verdict=NOT_RUN, reason="it has no Keras form")
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        few = network.fresh.first(PEER_EVENTS)
        np.savez(folder / "events.npz", **few.inputs)
        words = (network.peer, folder / "events.npz", folder / "answers.npz", granularity, folder / "project")
        environment = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore", **os.environ}
        with (folder / "log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, str(PEERS), *map(str, words)],
                env=environment, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
            )  # fmt: skip
            try:
                said, _ = process.communicate(timeout=PEER_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, 9)
                process.wait()
                return replace(row, verdict=NOT_RUN, reason=f"not ready in {PEER_SECONDS} s", seconds=PEER_SECONDS)
        seconds = time.monotonic() - start
        record = json.loads(said.splitlines()[-1]) if process.returncode == 0 else {}
        if "build_s" not in record:
            lines = (folder / "log").read_text(errors="replace").strip().splitlines()
            reason = record.get("refused") or (lines or [f"status {process.returncode}"])[-1]
            return replace(row, verdict=REFUSED, reason=reason.replace(place, ""), seconds=seconds)
        with np.load(folder / "answers.npz") as data:
            answers = [data[key] for key in data.files]
    output_names = [node for node, _ in load_model(network.path).outputs]
    return replace(row, measured=measured(replace(network, fresh=few), answers, output_names), seconds=seconds)


def rows_of(entry: Entry, options: Options) -> list[Row]:
    """Return every build of one network."""
    with tempfile.TemporaryDirectory() as place:
        try:
            network = entry.make(Path(place), options.seed)
        except MissingError as error:
            return [Row(network=entry.name, build="", verdict="skipped", reason=str(error))]
        try:
            model = load_model(network.path)
        except MetronnError as error:
            reason = " ".join(error.message.split())
            return [Row(network=entry.name, build="metronn", verdict=REFUSED, reason=reason)]
        rows = []
        for width in options.widths:
            rows.append(built(entry.name, network, model, width))
            told(rows[-1])
        for granularity in GRANULARITIES if options.peers and entry.name in PEERED else ():
            rows.append(peer(entry.name, network, granularity))
            told(rows[-1])
        return rows


def told(row: Row) -> None:
    """Say on standard error what was found."""
    sys.stderr.write("  ".join(cell for cell in row.cells() if cell) + "\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is run."""

    widths: tuple[str, ...]
    seed: int
    peers: bool


TOTALS = ("build", "networks", "pass", "silent losses", "fail", "not lost", "refused", "crash", "lost", "median dB")


def totals(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return a row of counts for each kind of build."""
    table = []
    for build in dict.fromkeys(row.build for row in rows if row.build not in ("", "metronn")):
        some = [row for row in rows if row.build == build]
        verdicts = [row.verdict for row in some]
        decibels = [row.measured.total_db for row in some if row.measured is not None]
        table.append(
            (
                build,
                str(len(some)),
                str(verdicts.count(PASS)),
                str(sum(row.silent for row in some)),
                str(verdicts.count(FAIL)),
                str(sum(row.spared for row in some)),
                str(verdicts.count(REFUSED) + verdicts.count(NOT_RUN)),
                str(verdicts.count(CRASH)),
                str(sum(row.lost for row in some)),
                f"{statistics.median(decibels):.1f}" if decibels else "",
            )
        )
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", action="append", metavar="PATTERN", help="only those; * and ? match; repeatable")
    parser.add_argument("--widths", default=",".join(WIDTHS), help=f"default {','.join(WIDTHS)}")
    parser.add_argument("--seed", type=int, default=0, help="of generated networks and events (default 0)")
    parser.add_argument("--no-peers", action="store_true", help="without hls4ml")
    parser.add_argument("--json", action="store_true", help="print JSON")
    given = parser.parse_args(arguments)
    widths = tuple(given.widths.split(","))
    wrong = [width for width in widths if width != AUTO and not (width.isdigit() and 2 <= int(width) <= 32)]
    if wrong:
        parser.error(f"--widths: found {', '.join(wrong)}, allowed are auto and 2 to 32")
    patterns = given.networks or ["*"]
    chosen = [
        entry for entry in (*FILES, *GENERATED) if any(fnmatch.fnmatchcase(entry.name, pattern) for pattern in patterns)
    ]
    if not chosen:
        parser.error(f"--networks: no network is called {', '.join(patterns)}")
    peers = not given.no_peers
    if peers and importlib.util.find_spec("hls4ml") is None:
        sys.stderr.write("without peers: hls4ml is not installed\n")
        peers = False
    options = Options(widths=widths, seed=given.seed, peers=peers)
    rows = [row for entry in chosen for row in rows_of(entry, options)]
    if given.json:
        sys.stdout.write(json.dumps([row.to_json() for row in rows], indent=1) + "\n")
    else:
        sys.stdout.write(table_text(COLUMNS, [row.cells() for row in rows], right=range(3, len(COLUMNS) - 1)) + "\n")
        sys.stdout.write(table_text(TOTALS, totals(rows), right=range(1, len(TOTALS))))
    return int(any(row.silent or row.verdict == CRASH for row in rows))


if __name__ == "__main__":
    raise SystemExit(main())
