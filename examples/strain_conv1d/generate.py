"""Gravitational-wave-like strain: inspirals of two compact objects in coloured detector noise.

- A window has 512 samples at 1024 Hz (half a second).
- Signal: the inspiral at leading (quadrupole) order. With the chirp mass M (in seconds), frequency and amplitude
  before coalescence are f = (1 / pi) (5 / (256 tau))^(3/8) M^(-5/8) and A ~ M^(5/4) tau^(-1/4) (Peters and Mathews,
  Phys. Rev. 131, 435; Maggiore, Gravitational Waves 1, section 4.1), cut at the innermost stable orbit's frequency
  and ended with a ringing that decays in 4 ms. Masses 10 to 40 solar masses each, any phase, coalescence at 60 to 95
  % of the window.
- Noise: Gaussian with the analytic design spectrum of the first LIGO detectors above 40 Hz (Damour, Iyer and
  Sathyaprakash, Phys. Rev. D 63, 044023): S ~ (4.49 x)^-56 + 0.16 x^-4.52 + 0.52 + 0.32 x^2, x = f / 150 Hz. A
  detector is never quite at its design: each window's spectrum is tilted by f^(+-0.4) and has a line at 60 Hz and one
  at 180 Hz with random amplitudes.
- Whitening: the window is divided by the design spectrum (not by its own), and band-passed to 40 to 400 Hz. What is
  left is coloured by the tilt and the lines.
- The signal's matched-filter signal-to-noise ratio after whitening is uniform between 6 and 16. Labels: 1 with
  signal.
- Samples are in units of the noise's standard deviation, multiples of 1/16 in 8 bits.

Real strain comes at 16 kHz from one instrument; an event each 1.4 us, as in metronn.toml, is that of a bank of
thousands of channels or time shifts on one board. There are no glitches, spins, higher orders or merger waveforms
here.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from samples import check_count, main, random, to_grid

SAMPLES, RATE_HZ = 512, 1024.0
SUN_S = 4.925491e-6
"""G M_sun / c^3 in seconds."""
FRAC, BITS = 4, 8
BAND_HZ = (40.0, 400.0)


def frequencies() -> np.ndarray:
    """Frequencies [257] of the window's spectrum in Hz."""
    return np.fft.rfftfreq(SAMPLES, 1 / RATE_HZ)


def design() -> np.ndarray:
    """Spectral density [257] of the noise, relative."""
    x = np.maximum(frequencies(), BAND_HZ[0]) / 150.0
    return (4.49 * x) ** -56 + 0.16 * x**-4.52 + 0.52 + 0.32 * x**2


def chirps(rng: np.random.Generator, n: int) -> np.ndarray:
    """`n` inspirals [n, 512] of arbitrary amplitude."""
    first, second = rng.uniform(10.0, 40.0, (2, n)) * SUN_S
    total = first + second
    chirp_mass = (first * second) ** 0.6 / total**0.2
    end = rng.uniform(0.6, 0.95, n) * SAMPLES / RATE_HZ
    phase = rng.uniform(0, 2 * np.pi, n)
    tau = end[:, None] - np.arange(SAMPLES)[None, :] / RATE_HZ
    mass = chirp_mass[:, None]
    # At this time before coalescence the frequency is that of the innermost stable orbit, 1 / (6^1.5 pi total).
    last = (5 / 256) * (np.pi / (6**1.5 * np.pi * total)) ** (-8 / 3) * chirp_mass ** (-5 / 3)
    before = np.maximum(tau, last[:, None])
    angle = -2 * (before / (5 * mass)) ** (5 / 8)
    amplitude = (last[:, None] / before) ** 0.25
    after = np.maximum(last[:, None] - tau, 0.0)
    ring = 2 * np.pi / (6**1.5 * np.pi * total)[:, None] * after
    return amplitude * np.cos(angle + ring + phase[:, None]) * np.exp(-after / 0.004)


def generate(n: int, *, seed: int) -> dict[str, np.ndarray]:
    """`n` windows: `strain` float32 [n, 512, 1], `label` int8 [n], `snr` float32 [n] (0 without signal)."""
    check_count(n)
    rng = random(seed)
    f = frequencies()
    band = (f >= BAND_HZ[0]) & (f <= BAND_HZ[1])
    # The design divides out of noise that follows it; what remains is white but for the tilt and the lines.
    tilt = np.maximum(f, BAND_HZ[0]) / 150.0
    noise = rng.standard_normal((2, n, len(f))) * tilt ** rng.uniform(-0.4, 0.4, (n, 1)) * band
    spectrum = noise[0] + 1j * noise[1]
    for hertz in (60.0, 180.0):
        size, turn = rng.exponential(4.0, n), rng.uniform(0, 2 * np.pi, n)
        spectrum[:, np.argmin(np.abs(f - hertz))] += size * np.exp(1j * turn)
    signal = np.fft.rfft(chirps(rng, n), axis=1) / np.sqrt(design()) * band
    label = rng.random(n) < 0.5
    snr = np.where(label, rng.uniform(6.0, 16.0, n), 0.0)
    # Real and imaginary part of each frequency have unit variance, so this is the matched filter's ratio.
    signal *= (snr / np.sqrt((np.abs(signal) ** 2).sum(axis=1)))[:, None]
    window = np.fft.irfft(spectrum + signal, SAMPLES, axis=1) * SAMPLES / np.sqrt(4.0 * band.sum())
    return {
        "strain": to_grid(window[..., None], FRAC, BITS),
        "label": label.astype(np.int8),
        "snr": snr.astype(np.float32),
    }


if __name__ == "__main__":
    raise SystemExit(main(generate, Path(__file__).resolve().parent, calibrate=1000, test=2000))
