"""Two-jet events of four production classes, parametrized: gluon-gluon, quark-gluon, quark-quark, bottom pair.

What is drawn, and where it comes from:

- pT of the harder jet from a falling spectrum, dN/dpT ~ pT^-4.5 between 50 and 500 GeV, the same for all classes; the
  other jet balances it up to 12 % (radiation and resolution). The scattering angle follows the t-channel pole:
  chi = exp(2|y*|) uniform between 1 and 12, nearly flat as in Rutherford scattering (Ellis, Stirling, Webber, QCD and
  Collider Physics, chapter 7); bottom pairs, mostly made in the s-channel, follow 1 + cos^2(theta*).
- Multiplicity: negative binomial whose mean rises with log(pT); gluons have 1.65 times that of light quarks (colour
  factors give 9/4 asymptotically, measurements at these energies 1.5 to 1.8), bottom jets 1.2 times.
- Girth, mass and (pTD, leading fraction, tau21): gamma, log-normal and logistic-normal numbers around class means; a
  common factor per jet makes broad jets massive, rich in particles and soft, as splittings do.
- Charge: quarks keep a pT-weighted charge of +-0.2 with a spread of 0.25 (bottom 0.1), gluons none.
- Bottom jets: displaced tracks (Poisson 3.0 against 0.25) with impact parameter significances from an exponential tail,
  and a soft lepton in one of five.

There are no matrix elements, parton distributions or detector here: the shapes and their overlaps are of the right
size, the numbers are not a simulation of any experiment.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from samples import check_count, main, random, to_grid

CLASSES = ("gluon-gluon", "quark-gluon", "quark-quark", "bottom pair")
GLUON, QUARK, BOTTOM = 0, 1, 2
PARTONS = np.array([[GLUON, GLUON], [QUARK, GLUON], [QUARK, QUARK], [BOTTOM, BOTTOM]])
JET_FEATURES = (
    "log pT", "eta", "multiplicity", "girth", "mass / pT", "pTD", "tau21", "leading fraction", "charge",
    "displaced tracks", "impact significance", "lepton fraction",
)  # fmt: skip
EVENT_FEATURES = ("log mass", "rapidity difference", "azimuth difference")
INPUTS = 2 * len(JET_FEATURES) + len(EVENT_FEATURES)
FRAC, BITS = 8, 12
"""Inputs are multiples of 2^-8 in 12 bits."""


def _squash(x: np.ndarray) -> np.ndarray:
    return 1.0 / (1.0 + np.exp(-x))


def _jet(rng: np.random.Generator, parton: np.ndarray, pt: np.ndarray, eta: np.ndarray) -> np.ndarray:
    """Twelve features [n, 12] of jets from `parton` [n] with momentum `pt` [n] in GeV."""
    n = len(parton)
    scale = np.log(pt / 50.0)
    broad = rng.normal(0.0, 0.35, n)
    richness = np.array([1.65, 1.0, 1.2])[parton] * (9.0 + 3.5 * scale) * np.exp(0.5 * broad)
    count = rng.poisson(richness * rng.gamma(12.0, 1 / 12.0, n))
    girth = np.array([0.115, 0.075, 0.09])[parton] * np.exp(-0.25 * scale + broad) * rng.gamma(8.0, 1 / 8.0, n)
    mass = np.array([0.17, 0.12, 0.14])[parton] * np.exp(-0.15 * scale + 0.8 * broad + rng.normal(0.0, 0.2, n))
    pt_d = _squash(np.array([-0.75, -0.1, -0.35])[parton] - 0.15 * scale - 0.8 * broad + rng.normal(0.0, 0.35, n))
    tau21 = _squash(np.array([0.55, 0.25, 0.2])[parton] + rng.normal(0.0, 0.6, n))
    leading = _squash(np.array([-1.5, -0.8, -1.1])[parton] - 0.6 * broad + rng.normal(0.0, 0.5, n))
    sign = np.where(rng.random(n) < 0.5, -1.0, 1.0)
    charge = sign * np.array([0.0, 0.2, 0.1])[parton] + rng.normal(0.0, 0.25, n)
    displaced = rng.poisson(np.array([0.35, 0.25, 3.0])[parton])
    significance = np.where(displaced > 0, rng.exponential(np.array([2.0, 2.0, 9.0])[parton]) + 2.0, rng.random(n) * 2)
    lepton = np.where(rng.random(n) < np.array([0.02, 0.02, 0.2])[parton], rng.beta(1.5, 6.0, n), 0.0)
    columns = [
        scale, eta / 2, count / 16.0, girth * 8, mass * 4, pt_d, tau21, leading, charge, displaced / 4.0,
        np.log(significance + 1.0), lepton,
    ]  # fmt: skip
    return np.stack(columns, axis=1)


def generate(n: int, *, seed: int) -> dict[str, np.ndarray]:
    """`n` events: `features` float32 [n, 27], harder jet first, event features last; `label` int8 [n], the class."""
    check_count(n)
    rng = random(seed)
    label = rng.integers(0, len(CLASSES), n)
    pt = (50.0**-3.5 + rng.random(n) * (500.0**-3.5 - 50.0**-3.5)) ** (-1 / 3.5)
    chi = 1.0 + 11.0 * rng.random(n)
    # 1 + c^2 on [0, 1] is three quarters of a uniform density and a quarter of the density 3 c^2.
    cosine = np.where(rng.random(n) < 0.75, rng.random(n), np.cbrt(rng.random(n))) * 0.84
    star = np.where(label == 3, np.arctanh(cosine), 0.5 * np.log(chi))
    boost = rng.normal(0.0, 0.6, n)
    flip = np.where(rng.random(n) < 0.5, -1.0, 1.0)
    first, second = boost + flip * star, boost - flip * star
    other = pt * (1.0 - np.abs(rng.normal(0.0, 0.12, n)))
    partons = PARTONS[label]
    swap = rng.random(n) < 0.5
    partons = np.where(swap[:, None], partons[:, ::-1], partons)
    azimuth = np.pi - np.abs(rng.normal(0.0, 0.15, n)) * np.where(label == 0, 1.3, 1.0)
    mass = np.sqrt(2 * pt * other * (np.cosh(first - second) - np.cos(azimuth)))
    event = np.stack([np.log(mass / 100.0), np.abs(first - second) / 2, (np.pi - azimuth) * 4], axis=1)
    features = np.concatenate(
        [_jet(rng, partons[:, 0], pt, first), _jet(rng, partons[:, 1], other, second), event], axis=1
    )
    return {"features": to_grid(features, FRAC, BITS), "label": label.astype(np.int8)}


if __name__ == "__main__":
    raise SystemExit(main(generate, Path(__file__).resolve().parent))
