"""Calorimeter images of jets: boosted top quarks against quark and gluon jets.

- Momentum: the jet's pT is uniform between 500 and 600 GeV for both classes, at |eta| < 1.
- Top: t -> b W, W -> q q', masses 172.5 and 80.4 GeV, both decays isotropic in the rest frame of what decays and
  boosted to the laboratory; kept when all three quarks lie within 0.8 of the top's direction (fully merged).
- Background: one parton, gluon or light quark with equal probability.
- Showers: every parton radiates in an angular-ordered cascade at fixed coupling in the double-logarithmic
  approximation (Ellis, Stirling, Webber, QCD and Collider Physics, chapter 5; coherent branching): emissions with dN
  = (2 alpha C / pi) dtheta/theta dz/z, alpha = 0.18, C = 4/3 for quarks and 3 for gluons, from the largest angle down
  to k_T = z pT theta of 1 GeV; the emitted gluon cascades below its own angle. For quarks of the top the largest
  angle is that to the nearest other one (colour coherence, roughly), else 0.8. A gluon splits like an emission too,
  so g -> q q is left out, and so are hard matrix-element corrections.
- Hadrons: each final parton becomes 1 + Poisson(pT / 4 GeV) particles (at most 6) with random shares and 0.35 GeV of
  transverse momentum relative to it; a third of the energy is photons, the rest hadrons.
- Calorimeter: photons are measured with 10 %/sqrt(E), hadrons with 70 %/sqrt(E) + 4 %, at positions smeared by 0.01
  and 0.02. Pile-up adds Poisson(60) soft particles of 0.7 GeV mean over the image, noise of 0.15 GeV in each pixel,
  and pixels below 0.4 GeV are suppressed.
- Image: 40 x 40 pixels of 0.04 x 0.04 in eta, phi; moved so that the energy-weighted centre is in the middle, turned
  so that the principal axis is vertical, mirrored so that the upper right quarter holds most (as in de Oliveira et
  al., JHEP 07, 2016, 069; Macaluso and Shih, JHEP 10, 2018, 121). A pixel is sqrt(energy / pT) in 8 bits, which keeps
  both soft and hard pixels visible.

There are no underlying event, no magnetic field, no clustering and no selection on mass: as a benchmark it is easier
or harder than samples from full simulation in ways that were not studied.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from samples import check_count, main, random, to_grid

SIDE, PIXEL = 40, 0.04
TOP_MASS, W_MASS = 172.5, 80.4
ALPHA, CUT_GEV, RADIUS = 0.18, 1.0, 0.8
COLOUR = np.array([4.0 / 3.0, 3.0])
FRAC, BITS = 8, 8

Vectors = np.ndarray
"""Four-momenta [n, 4]: energy, x, y, z in GeV."""


def _decay(rng: np.random.Generator, parent: Vectors, mass: float, first_mass: float) -> tuple[Vectors, Vectors]:
    """Isotropic decay of `parent` (of `mass`) to a particle of `first_mass` and a massless one, boosted."""
    n = len(parent)
    momentum = (mass**2 - first_mass**2) / (2 * mass)
    cosine, azimuth = rng.uniform(-1, 1, n), rng.uniform(0, 2 * np.pi, n)
    sine = np.sqrt(1 - cosine**2)
    way = momentum * np.stack([sine * np.cos(azimuth), sine * np.sin(azimuth), cosine], axis=1)
    results = []
    for sign, rest in ((1.0, first_mass), (-1.0, 0.0)):
        energy = np.full(n, np.sqrt(momentum**2 + rest**2))
        beta = parent[:, 1:] / parent[:, :1]
        gamma = parent[:, 0] / mass
        along = (beta * way * sign).sum(axis=1)
        square = np.maximum((beta**2).sum(axis=1), 1e-12)
        factor = (gamma - 1) * along / square + gamma * energy
        results.append(np.column_stack([gamma * (energy + along), sign * way + factor[:, None] * beta]))
    return results[0], results[1]


def _direction(p: Vectors) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Transverse momentum, eta and phi of massless four-momenta."""
    pt = np.hypot(p[:, 1], p[:, 2])
    return pt, np.arcsinh(p[:, 3] / np.maximum(pt, 1e-9)), np.arctan2(p[:, 2], p[:, 1])


def _tops(rng: np.random.Generator, n: int) -> np.ndarray:
    """Quarks of `n` merged top decays, [n, 3, 3]: pT, eta and phi relative to the top."""
    kept: list[np.ndarray] = []
    while sum(map(len, kept)) < n:
        pt, eta = rng.uniform(500, 600, n), rng.uniform(-1, 1, n)
        top = np.column_stack([np.sqrt((pt * np.cosh(eta)) ** 2 + TOP_MASS**2), pt, 0 * pt, pt * np.sinh(eta)])
        w, bottom = _decay(rng, top, TOP_MASS, W_MASS)
        up, down = _decay(rng, w, W_MASS, 0.0)
        quarks = np.stack([np.stack(_direction(q), axis=1) for q in (bottom, up, down)], axis=1)
        quarks[:, :, 1] -= eta[:, None]
        merged = np.hypot(quarks[:, :, 1], quarks[:, :, 2]).max(axis=1) < RADIUS
        kept.append(quarks[merged])
    return np.concatenate(kept)[:n]


def _shower(rng: np.random.Generator, partons: np.ndarray) -> np.ndarray:
    """Cascade `partons` [m, 6] (event, pT, eta, phi, largest angle, gluon?) to final ones of the same form."""
    final, active = [], partons
    while len(active):
        event, pt, eta, phi, angle, gluon = active.T
        # All emissions with z pT theta > CUT: the exponent of the Sudakov factor is strength / 2 * log^2.
        reach = np.log(np.maximum(pt * angle / CUT_GEV, 1.0))
        strength = 2 * ALPHA * COLOUR[gluon.astype(int)] / np.pi
        # The next angle is that at which the integral from the largest one grows by an exponential number.
        need = rng.exponential(1.0, len(active))
        left = reach**2 - 2 * need / strength
        emits = left > 0
        final.append(active[~emits])
        event, pt, eta, phi, gluon = (column[emits] for column in (event, pt, eta, phi, gluon))
        log = np.sqrt(left[emits])
        theta = CUT_GEV / pt * np.exp(log)
        z = np.exp(-log * rng.random(len(log)))
        z = np.where(z > 0.5, 1 - z, z).clip(1e-3)
        turn = rng.uniform(0, 2 * np.pi, len(log))
        step = theta[:, None] * np.column_stack([np.cos(turn), np.sin(turn)])
        parent = np.column_stack([event, pt * (1 - z), eta - z * step[:, 0], phi - z * step[:, 1], theta, gluon])
        child = np.column_stack(
            [event, pt * z, eta + (1 - z) * step[:, 0], phi + (1 - z) * step[:, 1], theta, np.ones_like(z)]
        )
        active = np.concatenate([parent, child])
    return np.concatenate(final)


def _particles(rng: np.random.Generator, partons: np.ndarray) -> tuple[np.ndarray, ...]:
    """Event, energy-like pT, eta and phi of measured particles."""
    count = 1 + np.minimum(rng.poisson(partons[:, 1] / 4.0), 5)
    share = rng.gamma(1.5, 1.0, (len(partons), 6)) * (np.arange(6) < count[:, None])
    share /= share.sum(axis=1, keepdims=True)
    rows, columns = np.nonzero(share)
    pt = partons[rows, 1] * share[rows, columns]
    spread = 0.35 / np.maximum(pt, 1.0)
    photon = rng.random(len(pt)) < 1 / 3
    noise = rng.standard_normal(len(pt))
    response = 1 + noise * np.where(photon, 0.1 / np.sqrt(pt.clip(0.5)), 0.7 / np.sqrt(pt.clip(0.5)) + 0.04)
    spread = np.hypot(spread, np.where(photon, 0.01, 0.02))
    eta, phi = partons[rows, 2:4].T + spread * rng.standard_normal((2, len(pt)))
    return partons[rows, 0].astype(np.int64), pt * response.clip(0.1), eta, phi


def _sums(event: np.ndarray, weight: np.ndarray, n: int) -> np.ndarray:
    return np.bincount(event, weight, minlength=n)


def _pixels(n: int, event: np.ndarray, pt: np.ndarray, eta: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """Preprocessed images [n, 40, 40] in GeV."""
    total = _sums(event, pt, n)
    eta = eta - (_sums(event, pt * eta, n) / total)[event]
    phi = phi - (_sums(event, pt * phi, n) / total)[event]
    xx, yy, xy = (_sums(event, pt * a * b, n) for a, b in ((eta, eta), (phi, phi), (eta, phi)))
    turn = (np.pi / 2 - 0.5 * np.arctan2(2 * xy, xx - yy))[event]
    x, y = eta * np.cos(turn) - phi * np.sin(turn), eta * np.sin(turn) + phi * np.cos(turn)
    x = x * np.where(_sums(event, pt * (x > 0), n) < total / 2, -1.0, 1.0)[event]
    y = y * np.where(_sums(event, pt * (y > 0), n) < total / 2, -1.0, 1.0)[event]
    row = np.floor(y / PIXEL).astype(np.int64) + SIDE // 2
    column = np.floor(x / PIXEL).astype(np.int64) + SIDE // 2
    inside = (row >= 0) & (row < SIDE) & (column >= 0) & (column < SIDE)
    place = (event * SIDE + row) * SIDE + column
    return np.bincount(place[inside], pt[inside], minlength=n * SIDE * SIDE).reshape(n, SIDE, SIDE)


def generate(n: int, *, seed: int) -> dict[str, np.ndarray]:
    """`n` jets: `image` float32 [n, 40, 40, 1], `label` int8 [n], 1 for top."""
    check_count(n)
    rng = random(seed)
    label = rng.random(n) < 0.5
    tops, others = np.flatnonzero(label), np.flatnonzero(~label)
    quarks = _tops(rng, len(tops)) if len(tops) else np.zeros((0, 3, 3))
    apart = np.hypot(*(quarks[:, :, None, 1:] - quarks[:, None, :, 1:]).transpose(3, 0, 1, 2))
    nearest = np.where(np.eye(3, dtype=bool), np.inf, apart).min(axis=2, initial=np.inf)
    signal = np.column_stack(
        [np.repeat(tops, 3), quarks.reshape(-1, 3), nearest.reshape(-1).clip(max=RADIUS), np.zeros(3 * len(tops))]
    )
    zeros = np.zeros(len(others))
    background = np.column_stack(
        [others, rng.uniform(500, 600, len(others)), zeros, zeros, zeros + RADIUS, rng.integers(0, 2, len(others))]
    )
    event, pt, eta, phi = _particles(rng, _shower(rng, np.concatenate([signal, background])))
    soft = np.repeat(np.arange(n), rng.poisson(60, n))
    reach = SIDE * PIXEL / 2
    event = np.concatenate([event, soft])
    pt = np.concatenate([pt, rng.exponential(0.7, len(soft))])
    eta = np.concatenate([eta, rng.uniform(-reach, reach, len(soft))])
    phi = np.concatenate([phi, rng.uniform(-reach, reach, len(soft))])
    image = _pixels(n, event, pt, eta, phi)
    image += rng.normal(0.0, 0.15, image.shape)
    image[image < 0.4] = 0.0
    share = np.sqrt(image / image.sum(axis=(1, 2), keepdims=True))
    return {"image": to_grid(share[..., None], FRAC, BITS, signed=False), "label": label.astype(np.int8)}


if __name__ == "__main__":
    raise SystemExit(main(generate, Path(__file__).resolve().parent, calibrate=500, test=2000))
