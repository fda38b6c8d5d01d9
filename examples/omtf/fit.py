"""Derive the generator's tables (`tables.json`) from the CMS simulation of the overlap region.

The model is the generator's own (see `generate.py`): a muon belongs to one of `REGIONS` slices of pseudorapidity,
which are not in the sample and are inferred; given the slice, the stations fire independently with efficiencies
that depend on 1/pT, the azimuths are a common offset plus a mean bending that is a function of charge / pT, plus
correlated multiple scattering proportional to 1/pT, plus resolution. All tables are found together by maximizing the
likelihood of the sample, integrated over slice, offset and scattering, with a smoothness penalty.
Only the training and validation splits are used; the test split is left for evaluation. Needs jax.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from layers import (
    AZIMUTH_BIN,
    AZIMUTH_PRIOR_BIN,
    BEND_LAYERS,
    BEND_ZERO,
    CURVATURE_KNOTS,
    N_AZIMUTH_BINS,
    N_AZIMUTH_PRIOR_BINS,
    N_LAYERS,
    STATIONS,
)

REGIONS = 24
FACTORS = 3
OFFSET_SPREAD = 200.0
OUTLIER_UNITS = 120.0
STATION_OF = np.array([STATIONS.index(layer - 1 if layer in BEND_LAYERS else layer) for layer in range(N_LAYERS)])
IS_AZIMUTH = np.array([layer not in BEND_LAYERS for layer in range(N_LAYERS)])
Params = dict[str, jax.Array]


def hat_basis(curvature: np.ndarray) -> np.ndarray:
    """Weights [n, knots] of linear interpolation between `CURVATURE_KNOTS`."""
    knots = np.array(CURVATURE_KNOTS)
    low = np.clip(np.searchsorted(knots, curvature, side="right") - 1, 0, len(knots) - 2)
    fraction = np.clip((curvature - knots[low]) / (knots[low + 1] - knots[low]), 0.0, 1.0)
    basis = np.zeros((len(curvature), len(knots)))
    rows = np.arange(len(curvature))
    basis[rows, low] = 1.0 - fraction
    basis[rows, low + 1] = fraction
    return basis


def load_sample(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Hits [n, 18, 2], pT in GeV [n] and charge [n] of the training and validation splits."""
    with np.load(path) as data:
        parts = [(data[f"{s}_hits"], data[f"{s}_pt_val"], data[f"{s}_sign"]) for s in ("train", "valid")]
    hits, momentum, charge = (np.concatenate(column) for column in zip(*parts, strict=True))
    return hits.astype(np.int64), momentum.astype(np.float64), charge.astype(np.float64)


def centre_azimuth(first: np.ndarray) -> np.ndarray:
    """Median azimuth [n] of the stations that fired (0 where none did)."""
    azimuth = np.where(first[:, STATIONS] > 0, first[:, STATIONS], np.nan)
    has_hit = np.isfinite(azimuth).any(axis=1)
    centre = np.zeros(len(first))
    centre[has_hit] = np.nanmedian(azimuth[has_hit], axis=1)
    return centre


def active_azimuth(hits: np.ndarray) -> np.ndarray:
    """Relative acceptance [stations, azimuth bins] in 0..1: chamber gaps and the edges of the processor's window."""
    table = np.zeros((len(STATIONS), N_AZIMUTH_BINS))
    for row, layer in enumerate(STATIONS):
        azimuth = hits[:, layer, 0]
        counts = np.bincount(azimuth[azimuth > 0] // AZIMUTH_BIN, minlength=N_AZIMUTH_BINS).astype(float)
        kernel = np.array([0.25, 0.5, 0.25])
        smooth = np.convolve(counts, kernel, mode="same")
        plateau = np.median(smooth[smooth > 0.3 * smooth.max()])
        value = np.where(counts < 0.35 * plateau, counts, smooth) / plateau
        # Inside a chamber the counts are flat within their statistics; only gaps and edges are real structure.
        table[row] = np.where(value > 0.6, 1.0, np.clip(value, 0.0, 1.0))
    return table


def initial_params(station: np.ndarray, basis: np.ndarray, score: np.ndarray) -> Params:
    """Start from slices that are quantiles of `score` (a rough pseudorapidity from the pattern of stations)."""
    order = np.argsort(np.argsort(score, kind="stable"), kind="stable")
    slice_of = np.minimum(order * REGIONS // max(len(score), 1), REGIONS - 1)
    mean = np.stack([station[slice_of == k].mean(axis=0) for k in range(REGIONS)])
    mean = np.clip(mean, 0.02, 0.95)
    knots = len(CURVATURE_KNOTS)
    efficiency = np.repeat(np.log(mean / (1 - mean))[:, :, None], knots, axis=2)
    rng = np.random.Generator(np.random.PCG64(1))
    return {
        "weight": jnp.zeros((REGIONS + 1, knots)),
        "efficiency": jnp.asarray(efficiency, jnp.float32),
        "bend": jnp.zeros((REGIONS, N_LAYERS, knots)),
        "zero": jnp.zeros((N_LAYERS,)),
        "hard": jnp.array([-1.5, 0.8]),
        "log_resolution": jnp.full((N_LAYERS,), 0.5),
        "log_scatter": jnp.full((REGIONS, N_LAYERS), 2.0),
        "loading": jnp.asarray(rng.normal(0, 10, (REGIONS, N_LAYERS, FACTORS)), jnp.float32),
        "azimuth": jnp.zeros((REGIONS, N_AZIMUTH_PRIOR_BINS)),
        "single": jnp.zeros((len(STATIONS), knots)),
    }


def log_normal(
    mask: jax.Array, residual: jax.Array, variance: jax.Array, offset: jax.Array, loading: jax.Array
) -> jax.Array:
    """Log density [n, regions] of the measured residuals: diagonal variance plus common factors (Woodbury)."""
    inverse = mask[:, None, :] / variance
    factors = jnp.concatenate([offset, loading], axis=3)
    inner = jnp.eye(FACTORS + 1) + jnp.einsum("nkl,nklf,nklg->nkfg", inverse, factors, factors)
    projected = jnp.einsum("nkl,nklf,nkl->nkf", inverse, factors, residual)
    # Cholesky and forward substitution written out: tiny matrices, no library call per event.
    size = FACTORS + 1
    root: list[list[jax.Array]] = [[] for _ in range(size)]
    half: list[jax.Array] = []
    for i in range(size):
        for j in range(i):
            partial = inner[..., i, j] - sum(root[i][m] * root[j][m] for m in range(j))
            root[i].append(partial / root[j][j])
        root[i].append(jnp.sqrt(inner[..., i, i] - sum(value**2 for value in root[i])))
        half.append((projected[..., i] - sum(root[i][m] * half[m] for m in range(i))) / root[i][i])
    log_det = 2.0 * sum(jnp.log(root[i][i]) for i in range(size))
    log_det += jnp.sum(mask[:, None, :] * jnp.log(variance), axis=2)
    quadratic = jnp.sum(inverse * residual**2, axis=2) - sum(value**2 for value in half)
    n_measured = jnp.sum(mask, axis=1)[:, None]
    return -0.5 * (quadratic + log_det + n_measured * jnp.log(2 * jnp.pi)) + jnp.log(OFFSET_SPREAD)


def log_likelihood(p: Params, e: dict[str, jax.Array]) -> jax.Array:
    """Log likelihood [n, regions + 1] of each event in each slice; the last column is the single-hit class."""
    logit = jnp.einsum("nj,kj->nk", e["basis"], p["weight"])
    log_weight = jax.nn.log_softmax(logit, axis=1)
    efficiency = jax.nn.sigmoid(jnp.einsum("nj,klj->nkl", e["basis"], p["efficiency"]))
    probability = jnp.clip(efficiency * e["active"][:, None, :], 1e-4, 1 - 1e-4)
    fired = e["station"][:, None, :]
    log_pattern = jnp.sum(fired * jnp.log(probability) + (1 - fired) * jnp.log1p(-probability), axis=2)
    log_azimuth = jnp.einsum("nb,kb->nk", e["azimuth"], jax.nn.log_softmax(p["azimuth"], axis=1))

    mean = e["charge"][:, None, None] * jnp.einsum("nj,klj->nkl", e["basis"], p["bend"]) * 10.0 + p["zero"]
    residual = e["mask"][:, None, :] * (e["position"][:, None, :] - mean)
    scale = e["curvature"][:, None, None]
    variance = jnp.exp(2 * p["log_resolution"]) + (scale * jnp.exp(p["log_scatter"])) ** 2
    offset = jnp.broadcast_to(
        OFFSET_SPREAD * jnp.asarray(IS_AZIMUTH, jnp.float32)[None, None, :, None], (*residual.shape, 1)
    )
    loading = scale[..., None] * p["loading"][None]
    # A share of the muons scatters harder than the rest (all widths larger by one factor).
    log_hard = jax.nn.log_sigmoid(p["hard"][0])
    log_soft = jax.nn.log_sigmoid(-p["hard"][0])
    soft = log_normal(e["mask"], residual, variance, offset, loading)
    factor = jnp.exp(p["hard"][1])
    hard = log_normal(e["mask"], residual, variance * factor**2, offset, loading * factor)
    log_position = jnp.logaddexp(soft + log_soft, hard + log_hard)
    n_measured = jnp.sum(e["mask"], axis=1)[:, None]
    regions = log_weight[:, :-1] + log_pattern + log_azimuth + jnp.where(n_measured > 0, log_position, 0.0)

    single = jax.nn.log_softmax(jnp.einsum("nj,lj->nl", e["basis"], p["single"]), axis=1)
    log_single = log_weight[:, -1] + jnp.sum(e["station"] * single, axis=1) - jnp.log(float(N_AZIMUTH_PRIOR_BINS))
    log_single = jnp.where(jnp.sum(e["station"], axis=1) == 1, log_single, -1e3)
    return jnp.concatenate([regions, log_single[:, None]], axis=1)


def penalty(p: Params) -> jax.Array:
    """Smoothness along 1/pT and between neighbouring slices, plus weak priors towards zero."""

    def rough(table: jax.Array, axis: int, order: int) -> jax.Array:
        return jnp.sum(jnp.diff(table, n=order, axis=axis) ** 2)

    total = 1.0 * rough(p["efficiency"], 2, 1) + 0.3 * rough(p["efficiency"], 0, 1)
    total += 0.01 * jnp.sum(p["efficiency"] ** 2)
    total += 0.3 * rough(p["bend"], 2, 2) + 0.1 * rough(p["bend"], 0, 1) + 1e3 * jnp.sum(p["bend"][:, :, 0] ** 2)
    total += 1.0 * rough(p["weight"], 1, 1) + 0.5 * rough(p["single"], 1, 1) + 0.05 * jnp.sum(p["single"] ** 2)
    total += 2.0 * rough(p["azimuth"], 1, 1) + 0.05 * jnp.sum(p["azimuth"] ** 2)
    total += 0.5 * rough(p["log_scatter"], 0, 1) + 0.05 * jnp.sum((p["log_scatter"] - 2) ** 2)
    total += 1e-3 * jnp.sum(p["loading"] ** 2) + 1e-3 * rough(p["loading"], 0, 1) + 10 * jnp.sum(p["zero"] ** 2)
    return total


def fit(events: dict[str, np.ndarray], params: Params, epochs: int, batch: int) -> Params:
    """Adam on the penalized likelihood; returns the parameters of the last step."""
    data = {name: jnp.asarray(value, jnp.float32) for name, value in events.items()}
    n = len(events["curvature"])

    def loss(p: Params, rows: jax.Array) -> jax.Array:
        e = {name: value[rows] for name, value in data.items()}
        return -jnp.mean(jax.nn.logsumexp(log_likelihood(p, e), axis=1)) + penalty(p) / n

    step_sizes = {"loading": 10.0, "bend": 4.0, "azimuth": 2.0}

    @jax.jit
    def step(p: Params, m: Params, v: Params, rows: jax.Array, i: jax.Array, rate: jax.Array) -> tuple:
        value, gradient = jax.value_and_grad(loss)(p, rows)
        m = jax.tree.map(lambda a, g: 0.9 * a + 0.1 * g, m, gradient)
        v = jax.tree.map(lambda a, g: 0.99 * a + 0.01 * g * g, v, gradient)
        p = {
            k: p[k] - rate * step_sizes.get(k, 1.0) * (m[k] / (1 - 0.9**i)) / (jnp.sqrt(v[k] / (1 - 0.99**i)) + 1e-7)
            for k in p
        }
        return p, m, v, value

    m = jax.tree.map(jnp.zeros_like, params)
    v = jax.tree.map(jnp.zeros_like, params)
    rng = np.random.Generator(np.random.PCG64(0))
    i = 0
    steps = epochs * (n // batch)
    for epoch in range(epochs):
        order = rng.permutation(n)
        values = []
        for start in range(0, n - batch + 1, batch):
            i += 1
            rate = 0.05 * 0.5 * (1 + np.cos(np.pi * i / steps)) + 2e-4
            params, m, v, value = step(params, m, v, order[start : start + batch], float(i), rate)
            values.append(float(value))
        if epoch % 5 == 0 or epoch == epochs - 1:
            sys.stderr.write(f"epoch {epoch}: penalized -log likelihood per event {np.mean(values):.4f}\n")
    return params


def second_hits(hits: np.ndarray) -> dict[str, list[float]]:
    """Rate of a second hit per station given the first, and the share of displaced (noise) first hits."""
    first = hits[:, STATIONS, 0]
    rate = ((hits[:, STATIONS, 1] > 0).sum(axis=0) + 0.5) / ((first > 0).sum(axis=0) + 1.0)
    centre = centre_azimuth(hits[:, :, 0])
    several = (first > 0).sum(axis=1) >= 3
    far = (first > 0) & (np.abs(first - centre[:, None]) > OUTLIER_UNITS)
    noise = far[several].sum(axis=0) / np.maximum((first[several] > 0).sum(axis=0), 1)
    return {"second": [round(float(x), 4) for x in rate], "noise": [round(float(x), 4) for x in noise]}


def prepare(hits: np.ndarray, momentum: np.ndarray, charge: np.ndarray, active: np.ndarray) -> dict[str, np.ndarray]:
    """Arrays of the likelihood from the sample; displaced hits count as fired but do not constrain the track."""
    first = hits[:, :, 0]
    centre = centre_azimuth(first)
    station = first[:, STATIONS] > 0
    near = np.abs(first - centre[:, None]) <= OUTLIER_UNITS
    mask = (first > 0) & np.where(IS_AZIMUTH, near, True)
    position = np.where(IS_AZIMUTH, first - centre[:, None], first - BEND_ZERO) * mask
    bins = np.clip(centre.astype(int) // AZIMUTH_BIN, 0, N_AZIMUTH_BINS - 1)
    own_bins = np.clip(first[:, STATIONS] // AZIMUTH_BIN, 0, N_AZIMUTH_BINS - 1)
    acceptance = np.take_along_axis(active.T, np.where(station, own_bins, bins[:, None]), axis=0)
    acceptance = np.where(station, np.maximum(acceptance, 0.1), acceptance)
    prior = np.eye(N_AZIMUTH_PRIOR_BINS)[np.minimum(centre.astype(int) // AZIMUTH_PRIOR_BIN, N_AZIMUTH_PRIOR_BINS - 1)]
    curvature = 1.0 / momentum
    events = {
        "curvature": curvature, "charge": charge, "basis": hat_basis(curvature), "station": station,
        "active": acceptance, "azimuth": prior, "position": position, "mask": mask,
    }  # fmt: skip
    return {name: np.asarray(value, np.float32) for name, value in events.items()}


def main() -> int:
    """Fit and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    here = Path(__file__).resolve().parent
    default = here.parents[2] / "shared" / "models" / "omtf" / "omtf_cms_simulation.npz"
    parser.add_argument("--cms", type=Path, default=default, help="the CMS sample (npz)")
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("-o", "--output", type=Path, default=here / "tables.json")
    options = parser.parse_args()
    hits, momentum, charge = load_sample(options.cms)
    active = active_azimuth(hits)
    empty = (hits[:, STATIONS, 0] > 0).sum(axis=1) == 0
    events = prepare(hits[~empty], momentum[~empty], charge[~empty], active)
    position_in_eta = np.array([1.0, 0.0, -1.0, 2.5, 4.0, 5.0, 6.5, 1.8, 1.0, 0.2, 0.0, -1.0, 2.5, 3.8, 6.0])
    station = events["station"]
    score = (station * position_in_eta).sum(axis=1) / np.maximum(station.sum(axis=1), 1)
    several = station.sum(axis=1) >= 3
    start = initial_params(station[several], events["basis"][several], score[several])
    fitted = {k: np.asarray(v) for k, v in fit(events, start, options.epochs, options.batch).items()}
    efficiency = 1 / (1 + np.exp(-fitted["efficiency"]))
    azimuth = np.exp(fitted["azimuth"] - fitted["azimuth"].max(axis=1, keepdims=True))

    def shares(logits: np.ndarray) -> np.ndarray:
        weights = np.exp(logits - logits.max(axis=0))
        return weights / weights.sum(axis=0)

    def rounded(table: np.ndarray, digits: int) -> list:
        return np.round(table.astype(float), digits).tolist()

    tables = {
        "null": round(float(empty.mean()), 4),
        "weight": rounded(shares(fitted["weight"]), 5),
        "efficiency": rounded(efficiency, 3),
        "bend": rounded(fitted["bend"] * 10.0, 1),
        "resolution": rounded(np.exp(fitted["log_resolution"]), 2),
        "scatter": rounded(np.exp(fitted["log_scatter"]), 1),
        "hard": [round(float(1 / (1 + np.exp(-fitted["hard"][0]))), 3), round(float(np.exp(fitted["hard"][1])), 2)],
        "loading": rounded(fitted["loading"], 1),
        "azimuth": rounded(azimuth / azimuth.sum(axis=1, keepdims=True), 4),
        "single": rounded(shares(fitted["single"]), 5),
        "active": rounded(active, 2),
        **second_hits(hits),
    }
    options.output.write_text(
        "{\n" + ",\n".join(f'"{k}": {json.dumps(v, separators=(",", ":"))}' for k, v in tables.items()) + "\n}\n",
        encoding="utf-8",
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
