"""Showers of charged pions and photons in a two-part calorimeter: the energy from two images.

A particle of 5 to 250 GeV (log-uniform, nine of ten a charged pion, else a photon) enters near the middle of a window
of 16 x 16 cells of an electromagnetic calorimeter (ECAL, crystals of 2.2 cm, 25 radiation or 1.1 interaction lengths
deep) in front of 8 x 8 cells of a sampling hadron calorimeter (HCAL, cells of 8.8 cm, 7 interaction lengths).

- Hadronic showers start after an exponential depth of one interaction length (20 % more for the material between).
  Their electromagnetic share is 1 - (E / 1 GeV)^(0.82 - 1) on average (Gabriel et al., NIM A 338, 336; Wigmans,
  Calorimetry), beta-distributed with a spread of 0.15; the rest is seen with a response of h/e = 0.6 (ECAL) and 0.7
  (HCAL). This is why the sum of the cells is a poor measure and a network a better one.
- Depth: the fraction left in the ECAL is the incomplete gamma function of the remaining depth, Longo's profile with
  shape 2 and a length that grows with log(E); what passes the HCAL's end is lost (leakage).
- Width: exponential cores plus tails, ECAL 1.2 cm for photons and 4 cm for hadrons, HCAL 9 cm, integrated over cells
  as a product of Laplace distributions in x and y.
- Fluctuations: each cell's energy is gamma-distributed around its mean with a variance of its energy times (2.8 %)^2
  GeV in the ECAL and (90 %)^2 GeV in the HCAL (sampling), and ten times the ECAL's for hadrons; a gain spread per
  event of 0.5 % and 3 %; noise of 60 MeV and 250 MeV in each cell; cells are cut at twice the noise.
- Codes: multiples of 31.25 MeV (ECAL) and 125 MeV (HCAL) in 13 and 12 bits, in units of 128 GeV.

There are no magnetic field, no tracks, no pile-up and no dead material with structure; longitudinal and lateral
shapes are averages with simple fluctuations, not a simulated cascade.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from samples import check_count, main, random, to_grid

ECAL_SIDE, HCAL_SIDE = 16, 8
ECAL_CM, HCAL_CM = 2.2, 8.8
UNIT_GEV = 128.0
ENERGY_GEV = (5.0, 250.0)


def _profile(centre: np.ndarray, width: np.ndarray, side: int, size: float) -> np.ndarray:
    """Share of a Laplace distribution [n, side] in cells of `size` around the middle; `centre`, `width` [n] in cm."""
    edges = (np.arange(side + 1) - side / 2) * size
    x = (edges[None, :] - centre[:, None]) / width[:, None]
    cumulative = np.where(x < 0, 0.5 * np.exp(np.minimum(x, 0)), 1 - 0.5 * np.exp(-np.maximum(x, 0)))
    return np.diff(cumulative, axis=1)


def _deposited(depth: np.ndarray) -> np.ndarray:
    """Share of a shower of shape 2 (density x exp(-x)) before `depth`, in units of its length."""
    return 1 - (1 + depth) * np.exp(-depth)


def _cells(
    rng: np.random.Generator, energy: np.ndarray, variance: np.ndarray, place: np.ndarray, width: np.ndarray, side: int,
    size: float,
) -> np.ndarray:  # fmt: skip
    """Energies [n, side, side] of `energy` [n] spread around `place` [n, 2], each cell with its own fluctuation."""
    shape = _profile(place[:, 0], width, side, size)[:, :, None] * _profile(place[:, 1], width, side, size)[:, None, :]
    mean = energy[:, None, None] * shape
    scale = variance[:, None, None]
    return rng.gamma(np.maximum(mean / scale, 1e-6)) * scale


def generate(n: int, *, seed: int) -> dict[str, np.ndarray]:
    """`n` particles: `ecal` [n, 16, 16, 1], `hcal` [n, 8, 8, 1], `target` [n] (true energy); float32 in 128 GeV."""
    check_count(n)
    rng = random(seed)
    energy = np.exp(rng.uniform(*np.log(ENERGY_GEV), n))
    photon = rng.random(n) < 0.1
    start = rng.exponential(1.0, n)
    mean_em = 1 - np.maximum(energy, 1.5) ** (0.82 - 1)
    strength = mean_em * (1 - mean_em) / 0.15**2 - 1
    em = np.where(photon, 1.0, rng.beta(np.maximum(mean_em * strength, 0.3), np.maximum((1 - mean_em) * strength, 0.3)))
    length = 0.55 + 0.12 * np.log(energy)
    in_ecal = np.where(photon, 0.995, _deposited(np.maximum(1.1 - start, 0.0) / length))
    contained = np.where(photon, 1.0, _deposited(np.maximum(1.3 + 7.0 - start, 0.0) / length))
    in_hcal = np.maximum(contained - in_ecal, 0.0)
    ecal_energy = energy * in_ecal * (em + (1 - em) * 0.6)
    hcal_energy = energy * in_hcal * (em + (1 - em) * 0.7)
    # A pion that has not interacted yet leaves the energy of a minimum-ionizing particle.
    ecal_energy = np.maximum(ecal_energy, 0.25)
    place = rng.uniform(-1.1, 1.1, (n, 2))
    tilt = rng.normal(0.0, 1.0, (n, 2))
    ecal = _cells(
        rng, ecal_energy, np.where(photon, 1.0, 10.0) * 0.028**2, place, np.where(photon, 1.2, 4.0), ECAL_SIDE, ECAL_CM
    )
    hcal = _cells(rng, hcal_energy, np.full(n, 0.9**2), place + tilt, np.full(n, 9.0), HCAL_SIDE, HCAL_CM)
    ecal = ecal * (1 + 0.005 * rng.standard_normal((n, 1, 1))) + 0.06 * rng.standard_normal(ecal.shape)
    hcal = hcal * (1 + 0.03 * rng.standard_normal((n, 1, 1))) + 0.25 * rng.standard_normal(hcal.shape)
    ecal[ecal < 0.12] = 0.0
    hcal[hcal < 0.5] = 0.0
    return {
        "ecal": to_grid(ecal[..., None] / UNIT_GEV, 12, 13, signed=False),
        "hcal": to_grid(hcal[..., None] / UNIT_GEV, 10, 12, signed=False),
        "target": (energy / UNIT_GEV).astype(np.float32),
    }


if __name__ == "__main__":
    raise SystemExit(main(generate, Path(__file__).resolve().parent, calibrate=1000, test=2000))
