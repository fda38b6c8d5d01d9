"""Jets with secondary vertices and constituents: bottom jets against light ones, three inputs.

Each jet (pT 30 to 200 GeV, falling as pT^-3) gets, from numbers of the Review of Particle Physics where they exist:

- Bottom jets: a b hadron that carries a share of the jet from a Beta(7, 3) distribution (mean 0.7; LEP measured 0.70
  to 0.72), with mass 5.28 GeV and c tau 0.455 mm: its flight distance is exponential with mean pT / m x c tau. It
  leaves 2 + Poisson(2.5) charged particles from the vertex (b hadrons decay to about five), each with an impact
  parameter of flight distance x angle. In four of five jets a charm vertex follows further along the line.
- Charm jets, a fifth of the background: one D with share Beta(5, 4), mass 1.87 GeV, c tau 0.2 mm, 1 + Poisson(1.3)
  tracks.
- Light jets: fragmentation particles only, Poisson(6 + 2 log(pT / 30)), and with 4 % probability a fake or K0/Lambda
  vertex with two tracks.
- Resolutions: impact parameter 30 um + 100 um GeV / pT of the track, flight distance 150 um; a vertex is found with
  85 % if it has two tracks and lies 3 sigma from the origin.

Inputs (all multiples of 2^-6 in 10 bits, zero where there is no object): `vertices` [4, 5]: flight significance,
mass, tracks, share of pT, angle to the jet axis; `constituents` [16, 6]: share of pT, two angles, signed impact
significance, charge, from pT-ordered charged particles; the sixth is the log of pT; `jet` [8]: pT, eta, multiplicity,
vertices, largest three impact significances, total mass.

Missing: pile-up, tracking failures in dense cores, hadronic interactions, gluon splitting to b pairs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from samples import check_count, main, random, to_grid

VERTICES, VERTEX_FEATURES = 4, 5
CONSTITUENTS, CONSTITUENT_FEATURES = 16, 6
JET_FEATURES = 8
FRAC, BITS = 6, 10
MASS, CTAU_MM = {"b": 5.28, "c": 1.87}, {"b": 0.455, "c": 0.2}
TRACK_SLOTS = {"fragmentation": 14, "b": 8, "c": 5, "fake": 2}


def _shares(rng: np.random.Generator, count: np.ndarray, slots: int) -> np.ndarray:
    """Random shares [n, slots] that sum to 1 over the first `count` [n] slots."""
    raw = rng.gamma(0.9, 1.0, (len(count), slots)) * (np.arange(slots) < count[:, None])
    return raw / np.maximum(raw.sum(axis=1, keepdims=True), 1e-9)


def generate(n: int, *, seed: int) -> dict[str, np.ndarray]:
    """`n` jets: `vertices` [n, 4, 5], `constituents` [n, 16, 6], `jet` [n, 8] float32; `label` int8 [n], 1: bottom."""
    check_count(n)
    rng = random(seed)
    label = rng.random(n) < 0.5
    charm = ~label & (rng.random(n) < 0.2)
    fake = ~label & ~charm & (rng.random(n) < 0.04)
    pt = (30.0**-2 + rng.random(n) * (200.0**-2 - 30.0**-2)) ** -0.5
    eta = rng.uniform(-2.4, 2.4, n)
    share = np.where(label, rng.beta(7, 3, n), np.where(charm, rng.beta(5, 4, n), np.where(fake, 0.1, 0.0)))
    b_flight = rng.exponential(1.0, n) * share * pt / MASS["b"] * CTAU_MM["b"]
    c_share = np.where(label & (rng.random(n) < 0.8), 0.4 * share, np.where(charm, share, 0.0))
    c_flight = rng.exponential(1.0, n) * c_share * pt / MASS["c"] * CTAU_MM["c"] + np.where(label, b_flight, 0.0)
    fake_flight = rng.exponential(8.0, n)
    counts = {
        "fragmentation": np.minimum(rng.poisson((6 + 2 * np.log(pt / 30)) * (1 - 0.5 * share)), 14),
        "b": np.where(label, np.minimum(2 + rng.poisson(1.0, n), 8), 0),
        "c": np.where(c_share > 0, np.minimum(1 + rng.poisson(1.3, n), 5), 0),
        "fake": np.where(fake, 2, 0),
    }
    energy = {"fragmentation": 1 - share, "b": share - np.where(label, c_share, 0.0), "c": c_share, "fake": share}
    flight = {"fragmentation": np.zeros(n), "b": b_flight, "c": c_flight, "fake": fake_flight}
    spread = {"fragmentation": 2.5, "b": 1.6, "c": 0.8, "fake": 0.4}
    tracks, found = [], []
    for kind, slots in TRACK_SLOTS.items():
        count = counts[kind]
        # A third of the energy of each group goes to neutral particles, which are not seen.
        z = _shares(rng, count, slots) * energy[kind][:, None] * rng.uniform(0.5, 0.85, n)[:, None]
        track_pt = np.maximum(z * pt[:, None], 0.3)
        angles = rng.normal(0.0, 1.0, (n, slots, 2)) * (spread[kind] / 2 / np.maximum(track_pt, 1.0))[:, :, None]
        angles = np.clip(angles, -0.4, 0.4)
        resolution = 0.03 + 0.1 / track_pt
        impact = flight[kind][:, None] * np.hypot(angles[:, :, 0], angles[:, :, 1]) * rng.choice(
            [1.0, 1.0, 1.0, 1.0, -1.0], (n, slots)
        ) + resolution * rng.normal(0.0, 1.0, (n, slots)) * np.where(rng.random((n, slots)) < 0.04, 4.0, 1.0)
        exists = np.arange(slots) < count[:, None]
        charge = np.where(rng.random((n, slots)) < 0.5, -1.0, 1.0)
        tracks.append(
            np.stack([z, angles[:, :, 0], angles[:, :, 1], impact / resolution, charge, np.log(track_pt)], axis=2)
            * exists[:, :, None]
        )
        if kind == "fragmentation":
            continue
        measured = flight[kind] + 0.15 * rng.normal(0.0, 1.0, n)
        seen = (count >= 2) & (measured > 0.45) & (rng.random(n) < 0.85)
        visible = {"b": 3.0, "c": 1.3, "fake": 0.6}[kind] * rng.gamma(16.0, 1 / 16.0, n) * (1 - 1 / (count + 1.0))
        axis = np.abs(rng.normal(0.0, 0.6, n)) / np.maximum(energy[kind] * pt, 3.0) * spread[kind]
        vertex = np.stack([np.log1p(measured.clip(0) / 0.15), visible, count, z.sum(axis=1), axis * 8], axis=1)
        found.append(vertex * seen[:, None])
    constituents = np.concatenate(tracks, axis=1)
    order = np.argsort(-constituents[:, :, 0], axis=1, kind="stable")[:, :CONSTITUENTS]
    constituents = np.take_along_axis(constituents, order[:, :, None], axis=1)
    vertices = np.concatenate([np.stack(found, axis=1), np.zeros((n, VERTICES - len(found), VERTEX_FEATURES))], axis=1)
    order = np.argsort(-vertices[:, :, 0], axis=1, kind="stable")
    vertices = np.take_along_axis(vertices, order[:, :, None], axis=1)
    top = -np.sort(-constituents[:, :, 3], axis=1)[:, :3]
    size = (constituents[:, :, 0] > 0).sum(axis=1)
    mass = pt * np.sqrt((constituents[:, :, 0] * (constituents[:, :, 1] ** 2 + constituents[:, :, 2] ** 2)).sum(axis=1))
    jet = np.column_stack(
        [np.log(pt / 30), eta, size / 4, (vertices[:, :, 0] > 0).sum(axis=1), np.log1p(top.clip(0)), mass / 8]
    )
    constituents *= np.array([4.0, 8.0, 8.0, 1.0, 1.0, 1.0])
    constituents[:, :, 3] = np.sign(constituents[:, :, 3]) * np.log1p(np.abs(constituents[:, :, 3])) * 2
    return {
        "vertices": to_grid(vertices, FRAC, BITS),
        "constituents": to_grid(constituents, FRAC, BITS),
        "jet": to_grid(jet, FRAC, BITS),
        "label": label.astype(np.int8),
    }


if __name__ == "__main__":
    raise SystemExit(main(generate, Path(__file__).resolve().parent))
