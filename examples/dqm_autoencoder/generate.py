"""Occupancy histograms of a detector, good ones and ones with a fault.

A histogram has 8 rings in pseudorapidity and 16 sectors in azimuth, and counts hits of one luminosity section:

- The expected occupancy falls with the ring as a Fermi function of its radius, with a step where the readout changes,
  and has a fixed pattern of sector efficiencies (5 % spread, drawn once).
- From section to section the beam spot moves (a cosine in azimuth of amplitude up to 8 %, any phase), the rings'
  slope changes with the energy deposited (up to 6 %), and the number of hits changes by a factor of 2 with
  luminosity.
- Counts are Poisson numbers; a good bin holds 100 to 600 hits.

Faults, of equal shares: a dead or dim region (2 x 2 to 4 x 4 bins at 0 to 60 %), a hot region (as large, times 1.4 to
3), a shifted map (the sectors are numbered wrongly by 1 to 3), and a dim sector (one column at 40 to 80 %).

What the network sees is the share of each bin in the mean of the histogram, as a number of 1/256, which leaves out
the luminosity. Real detectors have permanent faults, correlated readout failures and slow drifts; none is modelled.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from samples import check_count, main, random, to_grid

RINGS, SECTORS = 8, 16
BINS = RINGS * SECTORS
FRAC, BITS = 8, 11
PATTERN_SEED = 64


def expected() -> np.ndarray:
    """Mean occupancy [8, 16] of a perfect section, mean 1."""
    ring = np.arange(RINGS)[:, None]
    radial = 0.5 + 1.0 / (1.0 + np.exp(0.7 * (ring - 3.5)))
    step = np.where(ring >= 5, 0.8, 1.0)
    sectors = 1.0 + 0.05 * random(PATTERN_SEED).standard_normal((RINGS, SECTORS))
    shape = radial * step * sectors
    return shape / shape.mean()


def _fault(rng: np.random.Generator, mean: np.ndarray) -> np.ndarray:
    """One histogram's mean [8, 16] with a fault drawn for it."""
    kind = rng.integers(0, 4)
    mean = mean.copy()
    if kind in (0, 1):
        height, width = rng.integers(2, 5, 2)
        rings = rng.integers(0, RINGS - height + 1) + np.arange(height)
        sectors = (rng.integers(0, SECTORS) + np.arange(width)) % SECTORS
        mean[np.ix_(rings, sectors)] *= rng.uniform(0.0, 0.6) if kind == 0 else rng.uniform(1.4, 3.0)
    elif kind == 2:
        mean = np.roll(mean, rng.integers(1, 4), axis=1)
    else:
        mean[:, rng.integers(0, SECTORS)] *= rng.uniform(0.4, 0.8)
    return mean


def generate(n: int, *, seed: int, faulty: float = 0.5) -> dict[str, np.ndarray]:
    """`n` histograms: `occupancy` float32 [n, 128], ring by ring; `label` int8 [n], 1 for the share with a fault."""
    check_count(n)
    rng = random(seed)
    label = rng.random(n) < faulty
    azimuth = 2 * np.pi * np.arange(SECTORS) / SECTORS
    amplitude, phase, slope = rng.uniform(0, 0.08, n), rng.uniform(0, 2 * np.pi, n), rng.uniform(-0.06, 0.06, n)
    wave = 1.0 + amplitude[:, None, None] * np.cos(azimuth[None, None, :] - phase[:, None, None])
    tilt = 1.0 + slope[:, None, None] * np.linspace(-1, 1, RINGS)[None, :, None]
    mean = expected()[None] * wave * tilt
    for row in np.flatnonzero(label):
        mean[row] = _fault(rng, mean[row])
    counts = rng.poisson(mean * rng.uniform(180.0, 360.0, n)[:, None, None]).reshape(n, BINS)
    share = counts / counts.mean(axis=1, keepdims=True)
    return {"occupancy": to_grid(share, FRAC, BITS, signed=False), "label": label.astype(np.int8)}


if __name__ == "__main__":
    raise SystemExit(main(generate, Path(__file__).resolve().parent))
