"""Float network, fixed point and the track finder's own momentum side by side: one picture and the numbers.

    python evaluate.py --cms ../../../shared/models/omtf/omtf_cms_simulation.npz -o omtf.png
    python evaluate.py --fixed out.npz ...     # out.npz: `metronn emulate BUILD cms_test.npz -o out.npz`
    python evaluate.py --write-inputs cms_test.npz ...   # the CMS test split as network inputs, to emulate
    python evaluate.py --generated 100000 ...  # generated muons instead of the CMS sample

Needs numpy, h5py and matplotlib.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import network
import numpy as np
import physics
from generate import Spectrum, generate, network_input

mpl.use("Agg")
import matplotlib.pyplot as plt

OUTPUT_NAME = "pt_bins"
HERE = Path(__file__).resolve().parent
DEFAULT_CMS = HERE.parents[2] / "shared" / "models" / "omtf" / "omtf_cms_simulation.npz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """One method's answers: `estimate` [n] pT in GeV (negative = none) and `score` [n] that rises with pT."""

    estimate: np.ndarray
    score: np.ndarray


def from_logits(logits: np.ndarray) -> Answers:
    """Answers of the network, float or fixed point, from logits [n, 43]."""
    return Answers(estimate=physics.pt_estimate(logits), score=physics.probability_above(logits))


def from_finder(momentum: np.ndarray) -> Answers:
    """Answers of the track finder from its own pT [n] in GeV (-999 = none)."""
    return Answers(estimate=momentum.astype(np.float64), score=momentum.astype(np.float64))


def numbers(answers: dict[str, Answers], momentum: np.ndarray) -> dict[str, dict[str, float]]:
    """By method: the metric and what a physicist would ask for.

    Rates are also given with every method's cut moved to one common efficiency, that of the last method at 20 GeV: the
    finder where it is present. Widths are over the events for which all methods answer.
    """
    answered = np.all([a.estimate > 0 for a in answers.values()], axis=0)
    above = momentum >= physics.THRESHOLD_GEV
    weights = physics.rate_weights(momentum)
    reference = list(answers.values())[-1]
    common = float((reference.estimate[above] >= physics.THRESHOLD_GEV).mean())
    table = {}
    for name, a in answers.items():
        accepted = a.estimate >= physics.THRESHOLD_GEV
        matched = a.score >= physics.threshold_for_efficiency(a.score, momentum, common)
        middle, width = physics.resolution(a.estimate[answered], momentum[answered])
        table[name] = {
            "roc_area": physics.roc_area(a.score, above),
            "accuracy": float((accepted == above).mean()),
            "efficiency_above_20": float(accepted[above].mean()),
            "accepted_below_20": physics.low_pt_rate(accepted, momentum),
            "accepted_below_12": physics.low_pt_rate(accepted, momentum, limit_gev=12.0),
            "rate_below_20": physics.low_pt_rate(accepted, momentum, weights=weights),
            "common_efficiency": float(matched[above].mean()),
            "accepted_below_20_at_common_efficiency": physics.low_pt_rate(matched, momentum),
            "rate_below_20_at_common_efficiency": physics.low_pt_rate(matched, momentum, weights=weights),
            "log_pt_median": middle,
            "log_pt_width": width,
        }
    return table


def draw(answers: dict[str, Answers], momentum: np.ndarray, path: Path) -> None:
    """Turn-on, resolution and low-pT acceptance of all methods, as one PNG."""
    edges = np.array(physics.TURN_ON_EDGES)
    centres = np.sqrt(edges[:-1] * edges[1:])
    answered = np.all([a.estimate > 0 for a in answers.values()], axis=0)
    above = momentum >= physics.THRESHOLD_GEV
    common = float((list(answers.values())[-1].estimate[above] >= physics.THRESHOLD_GEV).mean())
    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(16, 4.8), layout="constrained")
    styles = zip(answers.items(), ("C0", "C3", "C2", "C1"), ("o", "x", "s", "^"), strict=False)
    for (name, a), colour, marker in styles:
        style = {"color": colour, "marker": marker, "markersize": 4.5, "linewidth": 1.2, "label": name}
        curve = physics.turn_on(a.estimate >= physics.THRESHOLD_GEV, momentum)
        left.errorbar(centres, curve.efficiency, yerr=curve.error, capsize=2, **style)
        widths = []
        for low, high in pairwise(edges):
            chosen = answered & (momentum >= low) & (momentum < high)
            enough = chosen.sum() >= 25
            widths.append(physics.resolution(a.estimate[chosen], momentum[chosen])[1] if enough else np.nan)
        middle.plot(centres, widths, **style)
        matched = a.score >= physics.threshold_for_efficiency(a.score, momentum, common)
        tail = physics.turn_on(matched, momentum)
        below = edges[1:] <= physics.THRESHOLD_GEV
        right.errorbar(centres[below], tail.efficiency[below], yerr=tail.error[below], capsize=2, **style)
    left.axvline(physics.THRESHOLD_GEV, color="grey", linewidth=0.8, linestyle="--")
    left.set(xscale="log", xlabel="true pT (GeV)", ylabel="efficiency", ylim=(0, 1.02), title="estimated pT ≥ 20 GeV")
    middle.set(xscale="log", xlabel="true pT (GeV)", ylabel="half width of central 68 % of ln(pT / true pT)")
    middle.set(ylim=(0, None), title="momentum resolution")
    right.set(xscale="log", xlabel="true pT (GeV)", ylabel="share accepted", ylim=(1e-4, 1.0))
    right.set_yscale("log", nonpositive="clip")
    right.set(title=f"muons below 20 GeV, cuts at {100 * common:.1f} % efficiency above")
    for panel in (left, middle, right):
        ticks = [t for t in (1, 2, 5, 10, 20, 50, 100) if panel is not right or t <= 20]
        panel.set_xticks(ticks, [str(t) for t in ticks])
        panel.grid(alpha=0.3)
    left.legend(loc="upper left")
    figure.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(figure)


def evaluate(answers: dict[str, Answers], momentum: np.ndarray, path: Path | None) -> dict[str, dict[str, float]]:
    """Draw (if `path` is given) and return the numbers of each method; `momentum` [n] is the true pT in GeV."""
    for name, a in answers.items():
        if len(a.estimate) != len(momentum):
            raise ValueError(f"{name}: {len(a.estimate)} answers for {len(momentum)} muons")
    if path is not None:
        draw(answers, momentum, path)
    return numbers(answers, momentum)


def text_table(table: dict[str, dict[str, float]]) -> str:
    """The numbers as aligned text, one column per method."""
    names = list(table)
    keys = list(table[names[0]])
    lines = [f"{'':40}" + "".join(f"{name:>14}" for name in names)]
    lines += [f"{key:40}" + "".join(f"{table[name][key]:14.4f}" for name in names) for key in keys]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Evaluate on the CMS test split or on generated muons."""
    parser = argparse.ArgumentParser(description="Compare the muon network with the track finder's own pT.")
    parser.add_argument("--model", type=Path, default=HERE / "omtf.keras")
    parser.add_argument("--cms", type=Path, default=DEFAULT_CMS, help="omtf_cms_simulation.npz (its test split)")
    parser.add_argument("--generated", type=int, metavar="N", help="use N generated muons instead of the CMS sample")
    parser.add_argument("--fixed", type=Path, help=f"npz with the fixed-point answers as {OUTPUT_NAME}")
    parser.add_argument("--write-inputs", type=Path, help="write the evaluated muons as network inputs and stop")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.add_argument("-o", "--output", type=Path, help="PNG to draw")
    options = parser.parse_args()
    finder = None
    if options.generated is not None:
        events = generate(options.generated, seed=77, spectrum=Spectrum.CMS)
        hits, momentum = network_input(events.hits), events.momentum
    elif options.cms.is_file():
        with np.load(options.cms) as data:
            hits, momentum = network_input(data["test_hits"]), data["test_pt_val"].astype(np.float64)
            finder = data["test_omtf_pt"]
    else:
        sys.stderr.write(f"error: no CMS sample at {options.cms}\n  Give it with --cms, or use --generated 100000.\n")
        return 2
    if options.write_inputs is not None:
        np.savez_compressed(options.write_inputs, hits=hits, label=physics.pt_bin(momentum), pt=momentum)
        return 0
    answers = {"float": from_logits(network.answer(network.read_layers(options.model), hits))}
    if options.fixed is not None:
        with np.load(options.fixed) as data:
            answers["fixed point"] = from_logits(data[OUTPUT_NAME])
    if finder is not None:
        answers["track finder"] = from_finder(finder)
    table = evaluate(answers, momentum, options.output)
    sys.stdout.write(json.dumps(table, indent=2) + "\n" if options.json else text_table(table))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
