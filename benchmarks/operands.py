"""What it costs to keep operands exact that no quantizer made, by the planner's estimates, beside 16 bits.

    python benchmarks/operands.py [--network NAME ...] [--ii N] [--json]

Two jet taggers of ../shared/models whose batch normalization of float inputs makes such operands (docs/quantized.md)
are quantized exactly, and with `operand_bits = 16`; LUTs and LUT-equivalents are those of `metronn.plan.estimate` on
one large virtual FPGA.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from exactness import MODELS
from exactness import NETWORKS as QUANTIZED
from metronn.events.data import load_events
from metronn.frontends import load_model
from metronn.passes.pipeline import quantize_model
from metronn.plan.estimate import estimate
from metronn.plan.hardware.system import load_system
from metronn.plan.options import PlanOptions
from metronn.quantize.options import QuantizeOptions
from metronn.report.tables import table_text

NETWORKS = ("jetid_QMLP_nconst_8_nbits_8", "jetid_QInteractionNetwork_Conv1D_nconst_8_nbits_8")
SYSTEM, BITS, II = "one-large-virtual", 16, 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """Resources of a network."""

    lut: int
    ff: int
    dsp: int
    lut_equivalents: float


def cost(path: Path, ii: int, bits: int | None) -> Cost:
    """Quantize a network and estimate it."""
    model = load_model(path)
    events = load_events(path.parent / "data.npz", {node.name: node.shape for node in model.inputs})
    graph = quantize_model(model, events, QuantizeOptions(metric="none", operand_bits=bits)).graph
    found = estimate(graph, load_system(SYSTEM).with_overrides(ii=ii, clock_mhz=None), PlanOptions())
    amount = found.resources
    return Cost(lut=amount.lut, ff=amount.ff, dsp=amount.dsp, lut_equivalents=found.lut_equivalents)


def main() -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", choices=NETWORKS, help="only this one; repeatable")
    parser.add_argument("--ii", type=int, default=II, help=f"cycles between events (default {II})")
    parser.add_argument("--json", action="store_true", help="machine-readable result")
    given = parser.parse_args()
    names = [name for name in given.network or NETWORKS if (MODELS / name).is_dir()]
    if not names:
        print("not run: the networks of ../shared/models are not there", file=sys.stderr)
        return 0
    rows = []
    for name in names:
        path = MODELS / name / QUANTIZED[name][1]
        costs = {"exact": cost(path, given.ii, None), "rounded": cost(path, given.ii, BITS)}
        rows.append({"network": name, "ii": given.ii} | {key: asdict(value) for key, value in costs.items()})
    if given.json:
        print(json.dumps(rows, indent=1))
        return 0
    columns = ("network", "operands", "LUT", "FF", "DSP", "LUT-eq.")
    cells = [
        (row["network"], said, *(f"{row[key][name]:,.0f}" for name in ("lut", "ff", "dsp", "lut_equivalents")))
        for row in rows
        for key, said in (("exact", "exact"), ("rounded", f"{BITS} bits"))
    ]
    print(table_text(columns, cells, right=range(2, len(columns))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
