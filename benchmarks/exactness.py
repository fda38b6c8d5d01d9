"""Differing bits between trained, quantized networks in their own framework and their integer graphs.

Every quantized network of the shared collection is read, lowered to integers, and run on the same events in the
framework that trained it (QKeras, HGQ2, QONNX, each in a process and where needed an interpreter of its own) and in the
compiled emulator. Every bit of every tensor that the graph holds exactly is compared:

    python benchmarks/exactness.py [--events N] [--network NAME ...] [--qkeras-python FILE] [--json]

Events: corners of the input ranges, those of the network's data.npz, the same with noise on the input grid, and
uniform ones over the input ranges. A difference is float32 noise where the exact value lies within float32's error of a
rounding boundary (docs/against.md); anything else is a real difference, and ends with status 1. Networks whose files or
frameworks are not there are named as not run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metronn.errors import MetronnError, ToolError
from metronn.events.codes import encode_inputs
from metronn.events.data import load_events
from metronn.frontends import load_model
from metronn.passes.pipeline import prepare, quantize_model
from metronn.report.tables import table_text
from metronn.verify.against import AgainstResult, borders, compare_framework
from metronn.verify.against_build import COMPILED
from metronn.verify.against_events import event_chunks
from metronn.verify.framework import opened_framework

ROOT = Path(__file__).resolve().parents[1]
MODELS = ROOT.parent / "shared" / "models"
EVENTS = 100_000
ROWS = 500
QKERAS, HGQ, QONNX = "QKeras", "HGQ2", "QONNX"
NETWORKS = {
    "qkeras_3layer": (QKERAS, "qkeras_3layer.json"),
    "qkeras_mnist_cnn": (QKERAS, "qkeras_mnist_cnn.json"),
    "ad03_qkeras": (QKERAS, "model.h5"),
    "ic_RN06": (QKERAS, "model.h5"),
    "jetid_QMLP_nconst_8_nbits_8": (QKERAS, "model_QMLP_nconst_8_nbits_8.h5"),
    "jetid_QDeepSets_PermutationInv_nconst_32_nbits_8": (
        QKERAS,
        "model_QDeepSets_PermutationInv_nconst_32_nbits_8.h5",
    ),
    "jetid_QInteractionNetwork_Conv1D_nconst_8_nbits_8": (
        QKERAS,
        "model_QInteractionNetwork_Conv1D_nconst_8_nbits_8.h5",
    ),
    "hgq2_jsc_bnd_7686": (HGQ, "model.h5"),
    "hgq2_jsc_openml_7229": (HGQ, "model.keras"),
    "hgq2_lin8": (HGQ, "model.keras"),
    "hgq2_mha8": (HGQ, "model.keras"),
    "TFC_1W1A": (QONNX, "model.onnx"),
    "cms_axol1tl_v4": (QONNX, "model_qonnx.onnx"),
    "kws_w3a3_qonnx": (QONNX, "model.onnx"),
    "qkeras_jettagging_qonnx": (QONNX, "model.onnx"),
}
COLUMNS = (
    *("network", "framework", "tensors", "not exact", "events", "values", "bits compared", "differing bits"),
    *("noise values", "at quantizers", "consequences", "real values", "seconds"),
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one network: a comparison, or why there is none."""

    network: str
    result: AgainstResult | None
    seconds: float
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        record: dict[str, Any] = {"network": self.network, "seconds": round(self.seconds, 1)}
        return record | ({"not_run": self.reason} if self.result is None else self.result.to_json())

    def row(self) -> tuple[str, ...]:
        result = self.result
        if result is None:
            return (self.network, f"not run: {self.reason}", *[""] * (len(COLUMNS) - 2))
        return (
            self.network,
            result.framework,
            str(len(result.tensors)),
            str(len(result.approximate)),
            f"{result.events:,}",
            f"{sum(tensor.values for tensor in result.tensors):,}",
            f"{result.bits:,}",
            f"{result.differing_bits:,}",
            f"{result.noise:,}",
            f"{result.quantizer_noise:,}",
            f"{result.consequences:,}",
            f"{result.real:,}",
            f"{self.seconds:.0f}",
        )


def compared(network: str, python: Path | None, events: int) -> Outcome:
    """Compare one network; a missing file or framework is a reason, not an error."""
    path = MODELS / network / NETWORKS[network][1]
    start = time.monotonic()
    if not path.is_file():
        return Outcome(network=network, result=None, seconds=0.0, reason=f"{path.name} is not there")
    model = load_model(path)
    given = load_events(path.parent / "data.npz", {node.name: node.shape for node in model.inputs})
    quantized = quantize_model(model, given)
    codes = encode_inputs(quantized.graph, given.inputs)
    edges = borders(quantized.graph, quantized.frontier)
    chunks = event_chunks(quantized.graph, codes, events, ROWS, edges)
    try:
        with opened_framework(path, python, ROWS) as framework:
            result = compare_framework(
                prepare(model), quantized.graph, quantized.frontier, framework, chunks, compiled=events >= COMPILED
            )
    except ToolError as error:
        seconds = time.monotonic() - start
        return Outcome(network=network, result=None, seconds=seconds, reason=" ".join(error.message.split())[:300])
    return Outcome(network=network, result=result, seconds=time.monotonic() - start)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=EVENTS, help=f"events for each network (default {EVENTS:,})")
    parser.add_argument("--network", action="append", choices=sorted(NETWORKS), help="only this one; repeatable")
    parser.add_argument("--json", action="store_true", help="print JSON")
    for name in (QKERAS, HGQ, QONNX):
        parser.add_argument(f"--{name.lower()}-python", type=Path, help=f"interpreter that has {name}")
    options = parser.parse_args(arguments)
    if not MODELS.is_dir():
        sys.stdout.write("not run: the networks of ../shared/models are not there\n")
        return 0
    beside = ROOT / ".venv-qkeras" / "bin" / "python"
    named = os.environ.get("METRONN_QKERAS_PYTHON")
    pythons = {
        QKERAS: options.qkeras_python or (Path(named) if named else beside if beside.is_file() else None),
        HGQ: options.hgq2_python,
        QONNX: options.qonnx_python,
    }
    outcomes, wrong = [], False
    for network in options.network or NETWORKS:
        try:
            outcome = compared(network, pythons[NETWORKS[network][0]], options.events)
        except MetronnError as error:
            outcome, wrong = Outcome(network=network, result=None, seconds=0.0, reason=error.message), True
        outcomes.append(outcome)
        result = outcome.result
        found = outcome.reason if result is None else f"{result.differing_bits:,} of {result.bits:,} bits differ"
        sys.stderr.write(f"{network}: {found} ({outcome.seconds:.0f} s)\n")
        if result is not None and result.real:
            wrong = True
            for tensor in result.tensors:
                if tensor.real:
                    sys.stderr.write(f"  {tensor.real:,} real differences; first: {tensor.first}\n")
    if options.json:
        sys.stdout.write(json.dumps([outcome.to_json() for outcome in outcomes], indent=1) + "\n")
    else:
        rows = [outcome.row() for outcome in outcomes]
        sys.stdout.write(table_text(COLUMNS, rows, right=tuple(range(2, len(COLUMNS)))))
    return int(wrong)


if __name__ == "__main__":
    raise SystemExit(main())
