"""Cross sections of chargino-neutralino production at tree-level mixing, from the 19 parameters of the pMSSM.

The task is that of DeepXS (Otten et al., Eur. Phys. J. C 80, 12, 2020): a network in place of a slow cross-section
calculation. Here the slow calculation is replaced by a short one that keeps its structure:

1. Masses and mixing of neutralinos and charginos from M1, M2, mu and tan(beta): the symmetric 4 x 4 neutralino matrix
   is diagonalized, and the 2 x 2 chargino matrix singular-value decomposed (Martin, A Supersymmetry Primer,
   hep-ph/9709356, equations 8.2.2 and 8.2.14; real parameters).
2. The process is pp -> chargino 1 + neutralino 2 at 13 TeV through a W. Its couplings are OL = N22 V11 - N24 V12 /
   sqrt(2) and OR = N22 U11 + N23 U12 / sqrt(2) (Haber and Kane, Phys. Rep. 117, 75), 1 and 1 for pure winos.
3. sigma = sigma_wino(mean mass) (OL^2 + OR^2) / 2. sigma_wino interpolates NLO+NLL values of the order published by
   the LHC SUSY cross-section working group for mass-degenerate winos (log sigma against log mass, good to several per
   cent).
4. Squark exchange interferes destructively: a factor 1 - 0.5 m^2 / (m^2 + mQ1^2), an ansatz with the right limits.

The other parameters (gluino, sleptons, third generation, trilinear couplings, mA) do not enter this process at this
order; the network has to learn that, as DeepXS must. Interference of OL and OR and the widths are left out.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from samples import check_count, main, random, to_grid

PARAMETERS = (
    "M1", "M2", "M3", "mu", "tan beta", "mA", "mQ1", "mU1", "mD1", "mL1", "mE1", "mQ3", "mU3", "mD3", "mL3", "mE3",
    "At", "Ab", "Atau",
)  # fmt: skip
MZ, MW, SIN2 = 91.188, 80.38, 0.2312
MASS_KNOTS = np.array([80.0, 100.0, 150.0, 200.0, 300.0, 400.0, 500.0, 600.0, 800.0, 1000.0, 1500.0, 2000.0])
WINO_FB = np.array([5.0e4, 2.27e4, 5.18e3, 1.81e3, 387.0, 121.0, 46.4, 20.4, 4.88, 1.34, 0.077, 0.0055])
"""Cross section [fb] of mass-degenerate wino-like chargino + neutralino at 13 TeV; outermost values extrapolated."""
FRAC, BITS = 10, 12
"""Inputs lie in (-1, 1) in 12 bits, multiples of 2^-10."""


def mixing(m1: np.ndarray, m2: np.ndarray, mu: np.ndarray, tan_beta: np.ndarray) -> tuple[np.ndarray, ...]:
    """Masses [n] of chargino 1 and neutralino 2 [GeV] and the couplings OL, OR [n]; masses and mu in GeV."""
    n = len(m1)
    beta = np.arctan(tan_beta)
    sb, cb, sw, cw = np.sin(beta), np.cos(beta), np.sqrt(SIN2), np.sqrt(1.0 - SIN2)
    neutral = np.zeros((n, 4, 4))
    neutral[:, 0, 0], neutral[:, 1, 1] = m1, m2
    for i, j, value in (
        (0, 2, -cb * sw * MZ), (0, 3, sb * sw * MZ), (1, 2, cb * cw * MZ), (1, 3, -sb * cw * MZ), (2, 3, -mu),
    ):  # fmt: skip
        neutral[:, i, j] = neutral[:, j, i] = value
    values, vectors = np.linalg.eigh(neutral)
    second = np.argsort(np.abs(values), axis=1)[:, 1]
    rows = np.arange(n)
    mixed = vectors[rows, :, second]
    charged = np.empty((n, 2, 2))
    charged[:, 0, 0], charged[:, 1, 1] = m2, mu
    charged[:, 0, 1], charged[:, 1, 0] = np.sqrt(2) * sb * MW, np.sqrt(2) * cb * MW
    u, s, v = np.linalg.svd(charged)
    u1, v1 = u[:, :, 1], v[:, 1, :]
    # A common sign of chargino and neutralino states is free, and OL^2 + OR^2 does not depend on it.
    left = mixed[:, 1] * v1[:, 0] - mixed[:, 3] * v1[:, 1] / np.sqrt(2)
    right = mixed[:, 1] * u1[:, 0] + mixed[:, 2] * u1[:, 1] / np.sqrt(2)
    return s[:, 1], np.abs(values[rows, second]), left, right


def cross_section(parameters: np.ndarray) -> np.ndarray:
    """log10 of the cross section in fb [n] for physical parameters [n, 19] in GeV."""
    m1, m2, mu, tan_beta, m_q1 = (parameters[:, PARAMETERS.index(p)] for p in ("M1", "M2", "mu", "tan beta", "mQ1"))
    chargino, neutralino, left, right = mixing(m1, m2, mu, tan_beta)
    mass = 0.5 * (chargino + neutralino)
    log_wino = np.interp(np.log(mass), np.log(MASS_KNOTS), np.log10(WINO_FB))
    exchange = 1.0 - 0.5 * mass**2 / (mass**2 + m_q1**2)
    return log_wino + np.log10(np.maximum(0.5 * (left**2 + right**2), 1e-3) * exchange)


def physical(unit: np.ndarray) -> np.ndarray:
    """Parameters in GeV [n, 19] for numbers `unit` in (-1, 1): masses 100 GeV to 1.5 (M1, M2, mu) or 4 TeV."""
    result = 100.0 + (unit + 1.0) / 2 * 3900.0
    for name in ("M1", "M2"):
        column = PARAMETERS.index(name)
        result[:, column] = 100.0 + (unit[:, column] + 1.0) / 2 * 1400.0
    mu, beta = PARAMETERS.index("mu"), PARAMETERS.index("tan beta")
    result[:, mu] = np.sign(unit[:, mu] + 1e-9) * (100.0 + np.abs(unit[:, mu]) * 1400.0)
    result[:, beta] = 2.0 + (unit[:, beta] + 1.0) / 2 * 58.0
    for name in ("At", "Ab", "Atau"):
        column = PARAMETERS.index(name)
        result[:, column] = unit[:, column] * 4000.0
    return result


def generate(n: int, *, seed: int) -> dict[str, np.ndarray]:
    """`n` models: `parameters` float32 [n, 19] in (-1, 1), `target` float32 [n]: log10(cross section / fb) / 4."""
    check_count(n)
    unit = to_grid(random(seed).uniform(-1.0, 1.0, (n, len(PARAMETERS))), FRAC, BITS)
    target = cross_section(physical(unit.astype(np.float64))) / 4.0
    return {"parameters": unit, "target": target.astype(np.float32)}


if __name__ == "__main__":
    raise SystemExit(main(generate, Path(__file__).resolve().parent))
