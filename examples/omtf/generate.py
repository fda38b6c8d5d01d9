"""Generate muon hits as the CMS level-1 overlap muon track finder sees them.

An event is one muon in one 60-degree processor of the overlap region (pseudorapidity 0.8 to 1.25), where drift
tubes (DT, with a local bending angle), cathode strip chambers (CSC) and resistive plate chambers (RPC) meet: 18
layers of 2 hits, each an azimuth in units of 2 pi / 5400, 0 where there is no hit (`layers.py` names the layers).

Physics, in the order in which an event is made:

1. Muon: transverse momentum from the chosen spectrum, either charge, a slice of pseudorapidity (24 slices in all; a
   slice decides which chambers lie on the path), an azimuth where it enters the muon system.
2. Field: in layer l the azimuth is moved by charge * f(1/pT). For stiff muons f is proportional to 1/pT; below 6 GeV
   energy loss in calorimeters and yoke makes the muon softer on its way and f bends away from the straight line. f is
   a table of 12 knots per slice and layer. The bending-angle layers measure the local direction, which is also
   proportional to charge / pT and decreases towards the outer stations.
3. Multiple scattering: three independent kicks per muon, normally distributed with a width proportional to 1/pT, move
   the layers together (one lever arm per kick, slice and layer); a further independent part per layer. A share of the
   muons scatters harder: all their widths are larger by one factor.
4. Resolution: normally distributed per layer, then rounding to whole units; RPC hits sit on the raster of their
   strips, 7/3 units.
5. Chambers: each station fires with an efficiency per slice and 1/pT, unless the azimuth falls into a gap between two
   chambers or outside the processor's window. Muons below 3 GeV rarely reach the muon system.
6. Background: some muons leave a single hit, or none; some first hits are noise elsewhere in the window; some stations
   report a second hit (a neighbouring RPC cluster, the ambiguity of two CSC half strips, or noise).

All numbers are in `tables.json`, which `fit.py` derives from the CMS simulation; this module needs nothing else.
The random numbers come from PCG64 alone: uniform numbers, sums of twelve of them for normal numbers, and
additions, multiplications and rounding after that, so that equal seeds give equal events on every machine.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import numpy as np
from layers import (
    AZIMUTH_BIN,
    AZIMUTH_PRIOR_BIN,
    BEND_LAYERS,
    BEND_ZERO,
    CURVATURE_KNOTS,
    HITS_PER_LAYER,
    MAX_CODE,
    N_AZIMUTH_BINS,
    N_LAYERS,
    RPC_LAYERS,
    RPC_PITCH,
    STATIONS,
)
from physics import PT_EDGES

PT_MIN, PT_MAX = 1.0, 150.0
CHUNK = 20_000
FAR = 0.3
"""Share of second RPC hits that are noise anywhere in the window; the others are neighbouring clusters."""


class Spectrum(Enum):
    """How transverse momenta are drawn."""

    FLAT = "flat"
    """Each of the 43 bins of `physics.PT_EDGES` equally likely, uniform within a bin (last bin up to `PT_MAX`)."""
    CMS = "cms"
    """As the CMS sample: its 28 bins between 1 and 100 GeV equally likely, uniform within a bin."""


CMS_EDGES: tuple[float, ...] = (
    1, 1.5, 2, 2.5, 3, 3.5, 4, 4.5, 5, 6, 7, 8, 10, 12, 14, 16, 18, 20, 25, 30, 35, 40, 45, 50, 60, 70, 80, 90, 100,
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Events:
    """Generated muons.

    `hits` int16 [n, 18, 2] in units (0 = none), `momentum` float64 [n] in GeV, `charge` int8 [n] (-1 or 1).
    """

    hits: np.ndarray
    momentum: np.ndarray
    charge: np.ndarray


def load_tables() -> dict[str, np.ndarray]:
    """The fitted coefficients beside this module."""
    text = (Path(__file__).resolve().parent / "tables.json").read_text(encoding="utf-8")
    return {name: np.array(value, dtype=np.float64) for name, value in json.loads(text).items()}


def normal(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers as sums of twelve uniform 16-bit ones: no logarithm, hence no dependence on libm."""
    total = np.zeros(shape, dtype=np.int32)
    for _ in range(12):
        total += rng.integers(0, 1 << 16, shape, dtype=np.uint16)
    return (total - 6 * ((1 << 16) - 1)) / float(1 << 16)


def draw_momentum(rng: np.random.Generator, n: int, spectrum: Spectrum) -> np.ndarray:
    """Transverse momenta [n] in GeV."""
    match spectrum:
        case Spectrum.FLAT:
            edges = np.array([PT_MIN, *PT_EDGES, PT_MAX])
        case Spectrum.CMS:
            edges = np.array(CMS_EDGES, dtype=np.float64)
    bins = rng.integers(0, len(edges) - 1, n)
    return edges[bins] + rng.random(n) * (edges[bins + 1] - edges[bins])


def choose(rng: np.random.Generator, weights: np.ndarray) -> np.ndarray:
    """One column per row of `weights` [n, m], with probability proportional to the weight."""
    steps = np.cumsum(weights, axis=1)
    return (rng.random((len(weights), 1)) * steps[:, -1:] >= steps).sum(axis=1)


def _interpolate(table: np.ndarray, low: np.ndarray, fraction: np.ndarray) -> np.ndarray:
    """Rows [n, m] of `table` [m, knots] at the given position between knots."""
    return table.T[low] * (1.0 - fraction[:, None]) + table.T[low + 1] * fraction[:, None]


def _window(active: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """First and last unit [stations] at which each station can fire."""
    first = np.argmax(active > 0, axis=1) * AZIMUTH_BIN
    last = (N_AZIMUTH_BINS - np.argmax(active[:, ::-1] > 0, axis=1)) * AZIMUTH_BIN - 1
    return first, np.minimum(last, MAX_CODE)


def _chunk(rng: np.random.Generator, n: int, spectrum: Spectrum, t: dict[str, np.ndarray]) -> Events:
    momentum = draw_momentum(rng, n, spectrum)
    charge = np.where(rng.random(n) < 0.5, -1.0, 1.0)
    curvature = 1.0 / momentum
    knots = np.array(CURVATURE_KNOTS)
    low = np.clip(np.searchsorted(knots, curvature, side="right") - 1, 0, len(knots) - 2)
    fraction = np.clip((curvature - knots[low]) / (knots[low + 1] - knots[low]), 0.0, 1.0)

    n_regions = len(t["efficiency"])
    # The fit interpolates the logarithms of these shares; between knots this close the shares themselves do as well.
    region = choose(rng, _interpolate(t["weight"], low, fraction))
    lonely = region == n_regions
    region = np.minimum(region, n_regions - 1)
    empty = rng.random(n) < t["null"]

    prior = t["azimuth"][region]
    azimuth = (choose(rng, prior) + rng.random(n)) * AZIMUTH_PRIOR_BIN

    def per_layer(table: np.ndarray) -> np.ndarray:
        return table[region, :, low] * (1.0 - fraction[:, None]) + table[region, :, low + 1] * fraction[:, None]

    position = charge[:, None] * per_layer(t["bend"])
    hard = np.where(rng.random(n) < t["hard"][0], t["hard"][1], 1.0)
    strength = (curvature * hard)[:, None]
    kicks = normal(rng, (n, t["loading"].shape[2]))
    for factor in range(t["loading"].shape[2]):
        position += strength * t["loading"][region, :, factor] * kicks[:, factor : factor + 1]
    position += strength * t["scatter"][region] * normal(rng, (n, N_LAYERS))
    position += hard[:, None] * t["resolution"] * normal(rng, (n, N_LAYERS))
    is_bend = np.isin(np.arange(N_LAYERS), BEND_LAYERS)
    # The table gives the azimuth of the muon as the median over the stations that fire, with bending on both sides.
    position += np.where(is_bend, BEND_ZERO, azimuth[:, None])
    is_rpc = np.isin(np.arange(N_LAYERS), RPC_LAYERS)
    raster = np.floor(np.floor(position / RPC_PITCH + 0.5) * RPC_PITCH + 0.5)
    code = np.where(is_rpc, raster, np.floor(position + 0.5))

    stations = np.array(STATIONS)
    active = t["active"]
    bins = np.clip(code[:, stations].astype(np.int64) // AZIMUTH_BIN, 0, N_AZIMUTH_BINS - 1)
    acceptance = active[np.arange(len(stations)), bins]
    acceptance = np.where((code[:, stations] >= 1) & (code[:, stations] <= MAX_CODE), acceptance, 0.0)
    fired = rng.random((n, len(stations))) < per_layer(t["efficiency"]) * acceptance

    first_unit, last_unit = _window(active)
    anywhere = np.floor(first_unit + rng.random((n, len(stations))) * (last_unit - first_unit + 1))
    noisy = rng.random((n, len(stations))) < t["noise"]

    # Muons that leave one hit only: the station from its own table, the azimuth from its active range. So do those
    # that missed every chamber by chance, as the sample holds no other muon without hits than its share of empty ones.
    alone = choose(rng, _interpolate(t["single"], low, fraction))
    lonely = lonely | ~fired.any(axis=1)
    only = np.arange(len(stations)) == alone[:, None]
    fired = np.where(lonely[:, None], only, fired) & ~empty[:, None]
    lone_code = _active_azimuth(rng, active[alone])
    azimuth_code = np.where(noisy, anywhere, code[:, stations])
    azimuth_code = np.where(lonely[:, None], lone_code[:, None], azimuth_code)

    first = np.zeros((n, N_LAYERS))
    first[:, stations] = np.where(fired, azimuth_code, 0.0)
    for layer in BEND_LAYERS:
        first[:, layer] = np.where(first[:, layer - 1] > 0, np.clip(code[:, layer], 1, MAX_CODE), 0.0)
    second = _second_hits(rng, first, anywhere, t)
    hits = np.stack([first, second], axis=2)
    return Events(hits=hits.astype(np.int16), momentum=momentum, charge=charge.astype(np.int8))


def _active_azimuth(rng: np.random.Generator, active: np.ndarray) -> np.ndarray:
    """Random azimuth codes [n] with density `active` [n, azimuth bins]."""
    codes = choose(rng, active) * AZIMUTH_BIN + np.floor(rng.random(len(active)) * AZIMUTH_BIN)
    return np.clip(codes, 1, MAX_CODE)


def _second_hits(
    rng: np.random.Generator, first: np.ndarray, anywhere: np.ndarray, t: dict[str, np.ndarray]
) -> np.ndarray:
    """Second hits [n, layers]: beside the first (RPC cluster, CSC half strip, same DT cell) or noise."""
    n = len(first)
    second = np.zeros_like(first)
    happens = rng.random((n, len(STATIONS))) < t["second"]
    far = rng.random((n, len(STATIONS))) < FAR
    step = np.floor(9.0 + 9.0 * rng.random((n, len(STATIONS))) * rng.random((n, len(STATIONS))))
    wide = np.floor(rng.random((n, len(STATIONS))) * 41.0) - 15.0
    for row, layer in enumerate(STATIONS):
        origin = first[:, layer]
        if layer in RPC_LAYERS:
            side = -1.0 if layer in (11, 13, 16) else 1.0
            code = np.where(far[:, row], anywhere[:, row], origin + side * step[:, row])
        elif layer == 9:
            code = origin + wide[:, row]
        elif layer in (7, 8):
            code = origin - (step[:, row] > 13.0)
        else:
            code = origin
        second[:, layer] = np.where(happens[:, row] & (origin > 0), np.clip(code, 1, MAX_CODE), 0.0)
    for layer in BEND_LAYERS:
        second[:, layer] = np.where(second[:, layer - 1] > 0, first[:, layer], 0.0)
    return second


def generate(n: int, *, seed: int, spectrum: Spectrum = Spectrum.FLAT) -> Events:
    """`n` muons; the same `n`, seed and spectrum give the same events everywhere.

    Blocks of `CHUNK` muons have their own random stream, so the first whole blocks do not depend on `n`.
    """
    if n < 1:
        raise ValueError(f"generate: n is {n}, must be 1 or more")
    tables = load_tables()
    chunks = []
    for start in range(0, n, CHUNK):
        rng = np.random.Generator(np.random.PCG64([seed, start // CHUNK]))
        chunks.append(_chunk(rng, min(CHUNK, n - start), spectrum, tables))
    return Events(
        hits=np.concatenate([c.hits for c in chunks]),
        momentum=np.concatenate([c.momentum for c in chunks]),
        charge=np.concatenate([c.charge for c in chunks]),
    )


def network_input(hits: np.ndarray) -> np.ndarray:
    """The network's input `hits` float32 [n, 36]: code / 1024, layer by layer, first hit before second."""
    n = len(hits)
    return (hits.reshape(n, N_LAYERS * HITS_PER_LAYER) / np.float32(1024)).astype(np.float32)


def main() -> int:
    """Write generated events as `hits`, `label`, `pt`, `charge`."""
    from physics import pt_bin

    parser = argparse.ArgumentParser(description="Generate muons of the overlap muon track finder.")
    parser.add_argument("-n", "--events", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=2018)
    parser.add_argument("--spectrum", choices=[s.value for s in Spectrum], default=Spectrum.FLAT.value)
    parser.add_argument("-o", "--output", type=Path, default=Path("events.npz"))
    options = parser.parse_args()
    events = generate(options.events, seed=options.seed, spectrum=Spectrum(options.spectrum))
    np.savez_compressed(
        options.output,
        hits=network_input(events.hits),
        label=pt_bin(events.momentum).astype(np.int8),
        pt=events.momentum.astype(np.float32),
        charge=events.charge,
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
