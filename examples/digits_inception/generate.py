"""Calibration and test images of scikit-learn's digits; see `digits.py`."""

from __future__ import annotations

from pathlib import Path

from digits import generate
from samples import main

if __name__ == "__main__":
    raise SystemExit(main(generate, Path(__file__).resolve().parent, calibrate=200, test=397))
