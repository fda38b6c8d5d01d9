"""Print how well generated muons match the CMS simulation, as Markdown tables (they stand in README.md)."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from fit import load_sample
from generate import Spectrum, generate
from layers import BEND_LAYERS, BEND_ZERO, LAYER_NAMES, STATIONS

PAIRS: tuple[tuple[int, int], ...] = (
    (2, 0), (4, 2), (6, 0), (7, 0), (7, 15), (8, 7), (10, 0), (12, 2), (15, 0), (17, 8),
)  # fmt: skip
RANGES: tuple[tuple[float, float], ...] = ((3, 4), (4, 5), (5, 7), (7, 10), (10, 15), (15, 25), (25, 50), (50, 100))
FEWEST = 25


def bending(hits: np.ndarray, momentum: np.ndarray, charge: np.ndarray, layer: int, other: int | None) -> list[str]:
    """Median and half width (68 %) of charge x bending in each pT range; other None: a bending-angle layer."""
    reference = BEND_ZERO if other is None else hits[:, other, 0].astype(float)
    present = (hits[:, layer, 0] > 0) & (True if other is None else hits[:, other, 0] > 0)
    value = (hits[:, layer, 0] - reference) * charge
    cells = []
    for low, high in RANGES:
        chosen = present & (momentum >= low) & (momentum < high)
        if chosen.sum() < FEWEST:
            cells.append("")
            continue
        left, middle, right = np.percentile(value[chosen], [16, 50, 84])
        cells.append(f"{middle:.0f} ± {(right - left) / 2:.1f}")
    return cells


def row(cells: list[str]) -> str:
    """One line of a Markdown table."""
    return "| " + " | ".join(cells) + " |\n"


def main() -> int:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    default = Path(__file__).resolve().parents[3] / "shared" / "models" / "omtf" / "omtf_cms_simulation.npz"
    parser.add_argument("--cms", type=Path, default=default)
    parser.add_argument("--events", type=int, default=200_000)
    options = parser.parse_args()
    hits, momentum, charge = load_sample(options.cms)
    made = generate(options.events, seed=5, spectrum=Spectrum.CMS)
    stations = list(STATIONS)
    fired, fired_made = hits[:, stations, 0] > 0, made.hits[:, stations, 0] > 0
    second, second_made = hits[:, stations, 1] > 0, made.hits[:, stations, 1] > 0
    write = sys.stdout.write
    write(row(["station", "hit, CMS", "hit, generated", "second hit, CMS", "second hit, generated"]))
    write(row(["---"] * 5))
    for i, layer in enumerate(stations):
        rates = [f"{100 * x[:, i].mean():.1f} %" for x in (fired, fired_made)]
        rates += [f"{100 * x[:, i].mean():.2f} %" for x in (second, second_made)]
        write(row([LAYER_NAMES[layer], *rates]))
    difference = np.corrcoef(fired.T.astype(float)) - np.corrcoef(fired_made.T.astype(float))
    write(f"\nCorrelations between stations: largest difference {np.abs(difference).max():.3f}, ")
    write(f"root mean square {np.sqrt((difference**2).mean()):.3f}.\n")
    known = Counter(map(bytes, fired))
    unseen = sum(bytes(pattern) not in known for pattern in fired_made) / len(fired_made)
    write(f"Generated muons with a pattern of stations that no CMS muon has: {100 * unseen:.1f} %.\n\n")
    write(row(["charge × bending (units), pT in GeV", "", *(f"{low:g}-{high:g}" for low, high in RANGES)]))
    write(row(["---"] * (len(RANGES) + 2)))
    lines: list[tuple[int, int | None]] = [*PAIRS, *((layer, None) for layer in BEND_LAYERS)]
    for layer, other in lines:
        title = LAYER_NAMES[layer] + ("" if other is None else f" - {LAYER_NAMES[other]}")
        write(row([title, "CMS", *bending(hits, momentum, charge, layer, other)]))
        write(row(["", "generated", *bending(made.hits, made.momentum, made.charge, layer, other)]))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
