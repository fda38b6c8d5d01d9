"""LUT-equivalents of the muon network after finetune + prune beside those of 8-bit quantization after training.

    python benchmarks/compression.py [--events N] [--epochs N] [--prune-epochs N] [--ii N]... [--keep DIR] [--json]

The network of examples/omtf is trained further on generated muons: `metronn prune --sparsity` on the float network,
then `metronn finetune --tolerance` with the metric of the float network as reference. All are judged on muons that were
not trained with: the area under the ROC curve for pT >= 20 GeV, of the integers that firmware computes.

LUT-equivalents = LUT + 0.5 FF + 100 DSP + 300 BRAM36 + 1300 URAM, from the planner's kernels (`metronn.plan.estimate`;
unrolled matrices by their nonzero digits, links and delays left out), at each II, on the system of the example.
Exit status 1 unless at every II (1 and 9) the compressed network needs 3 times fewer and loses less than 1 %.
At II 9, that of the example, the dense 8-bit network is folded; the compressed one costs less unrolled. The last
network is planned for the system of the example, too: FPGAs, resources with links and delays, cycles.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from metronn.events.data import load_events
from metronn.events.metrics import find_metric
from metronn.frontends import load_model
from metronn.passes.pipeline import quantize_model
from metronn.plan.estimate import estimate
from metronn.plan.hardware.system import load_system
from metronn.plan.options import PlanOptions
from metronn.plan.planner import plan
from metronn.quantize.measure import run_fixed, run_float
from metronn.quantize.options import LayerOptions, QuantizeOptions

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "omtf"
METRIC = "physics.py:roc_area_20_gev"
SYSTEM = "two-serenity"
FEWER, LOSS = 3.0, 0.01
EIGHT_BITS = QuantizeOptions(metric="none", layers={"dense1": LayerOptions(activation_bits=10)})
"""As in examples/omtf/metronn.toml: 8 bits, two more for the results of the first layer."""


@dataclass(frozen=True)
class Row:
    """A network at an II."""

    network: str
    ii: int
    lut: int
    ff: int
    dsp: int
    bram36: float
    lut_equivalents: float
    metric: float


def metronn(*arguments: object) -> None:
    """Run a verb; its progress goes to stderr, its table is dropped."""
    command = [sys.executable, "-m", "metronn", *(str(argument) for argument in arguments)]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: status {done.returncode}")


def generate(path: Path, count: int, seed: int) -> None:
    """Write generated muons."""
    command = [sys.executable, str(EXAMPLE / "generate.py"), "-n", str(count), "--seed", str(seed), "-o", str(path)]
    subprocess.run(command, check=True)


def judge(name: str, path: Path, data: Path, cycles: list[int]) -> tuple[list[Row], float]:
    """Quantize a network (exactly, where it has widths), measure integers and floats, and count at each II."""
    model = load_model(path)
    events = load_events(data, {node.name: node.shape for node in model.inputs})
    graph = quantize_model(model, events, EIGHT_BITS).graph
    metric = find_metric(METRIC, events.arrays(), {"pt_bins": 43}, EXAMPLE)
    assert metric is not None
    value = metric(run_fixed(graph, events.inputs), events.arrays())
    rows = []
    for ii in cycles:
        system = load_system(SYSTEM).with_overrides(ii=ii, clock_mhz=None)
        found = estimate(graph, system, PlanOptions())
        amount = found.resources
        cost = found.lut_equivalents
        rows.append(Row(name, ii, amount.lut, amount.ff, amount.dsp, amount.bram36, cost, value))
    return rows, metric(run_float(model, events.inputs), events.arrays())


def planned(path: Path, data: Path) -> dict[str, float]:
    """Quantize a network and plan it for the system of the example."""
    model = load_model(path)
    events = load_events(data, {node.name: node.shape for node in model.inputs})
    design = plan(quantize_model(model, events, EIGHT_BITS).graph, load_system(SYSTEM), PlanOptions())
    used = [fpga.resources for fpga in design.fpgas]
    return {
        "ii": design.ii_cycles,
        "fpgas": len(used),
        "latency_cycles": design.latency_cycles,
        **{name: sum(getattr(part, name) for part in used) for name in ("lut", "ff", "dsp")},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=120_000, help="muons to train with")
    parser.add_argument("--test-events", type=int, default=20_000, help="muons to judge with")
    parser.add_argument("--sparsity", type=float, default=0.5)
    parser.add_argument("--prune-epochs", type=int, default=4)
    parser.add_argument("--epochs", type=int, default=14, help="of finetune")
    parser.add_argument("--tolerance", type=float, default=0.006, help="of finetune, on its validation events")
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--ii", type=int, action="append", help="cycles between events; default 1 and 9")
    parser.add_argument("--keep", type=Path, help="folder for the networks")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    cycles = options.ii or [1, 9]
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        start = time.monotonic()
        train, test = folder / "train.npz", folder / "test.npz"
        generate(train, options.events, 31)
        generate(test, options.test_events, 32)
        original, pruned, tuned = EXAMPLE / "omtf.keras", folder / "pruned.keras", folder / "tuned.keras"
        common = ("--data", train, "--batch", options.batch, "--system", SYSTEM, "--ii", 1, "--force")
        metronn(
            "prune", EXAMPLE, *common, "--sparsity", options.sparsity, "--epochs", options.prune_epochs, "-o", pruned
        )
        metronn(
            "finetune", pruned, *common, "--metric", f"{EXAMPLE}/{METRIC}", "--reference", original,
            "--epochs", options.epochs, "--tolerance", options.tolerance, "-o", tuned,
        )  # fmt: skip
        rows, reference = judge("8 bits after training", original, test, cycles)
        rows += judge("pruned, 8 bits after training", pruned, test, cycles)[0]
        rows += judge("pruned and finetuned", tuned, test, cycles)[0]
        whole = planned(tuned, test)
        seconds = time.monotonic() - start
    first = {row.ii: row.lut_equivalents for row in rows if row.network == rows[0].network}
    last = [row for row in rows if row.network == rows[-1].network]
    fewer = all(first[row.ii] >= FEWER * row.lut_equivalents for row in last)
    reached = fewer and all((reference - row.metric) / reference < LOSS for row in last)
    if options.json:
        found = {"float": reference, "rows": [vars(row) for row in rows], "plan": whole, "reached": reached}
        print(json.dumps(found, indent=2))
    else:
        print(f"float network: area {reference:.4f} on {options.test_events:,} muons; {seconds:.0f} s in all")
        print(
            f"{'network':32}{'II':>4}{'LUT':>12}{'FF':>12}{'DSP':>8}{'LUT-eq.':>12}{'fewer':>8}{'area':>9}{'loss':>9}"
        )
        for row in rows:
            loss = (reference - row.metric) / reference
            print(
                f"{row.network:32}{row.ii:4}{row.lut:12,}{row.ff:12,}{row.dsp:8,}{row.lut_equivalents:12,.0f}"
                f"{first[row.ii] / row.lut_equivalents:8.2f}{row.metric:9.4f}{100 * loss:8.2f} %"
            )
        print(f"planned for {SYSTEM}: " + ", ".join(f"{value:,} {name}" for name, value in whole.items()))
    return 0 if reached else 1


if __name__ == "__main__":
    raise SystemExit(main())
