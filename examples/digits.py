"""Handwritten digits of scikit-learn: 1,797 real images of 8 x 8 pixels with 17 grey levels, by 43 people.

They are the test part of 'Optical Recognition of Handwritten Digits' (E. Alpaydin and C. Kaynak, UCI Machine Learning
Repository, 1998, CC BY 4.0), which scikit-learn ships. The split is random with a fixed seed: 1,200 images train, 200
calibrate, 397 test. Writers are not known, so the same hand may be in training and test.
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

from samples import CALIBRATE, TEST, TRAIN, random

SPLIT = {TRAIN: slice(0, 1200), CALIBRATE: slice(1200, 1400), TEST: slice(1400, 1797)}
SPLIT_SEED = 8


def generate(n: int | None = None, *, seed: int) -> dict[str, np.ndarray]:
    """At most `n` of the sample of a seed: `image` float32 [n, 8, 8, 1], multiples of 1/16, and `label` int8 [n]."""
    if seed not in SPLIT:
        raise ValueError(f"generate: seed is {seed}, the samples of the digits are {sorted(SPLIT)}")
    data = load_digits()
    rows = random(SPLIT_SEED).permutation(len(data.target))[SPLIT[seed]][:n]
    image = (data.images[rows, :, :, None] / 16.0).astype(np.float32)
    return {"image": image, "label": data.target[rows].astype(np.int8)}


def shifted(arrays: dict[str, np.ndarray], copies: int) -> dict[str, np.ndarray]:
    """The images and `copies` of each moved by up to one pixel up, down, left or right, for training."""
    rng = random(TRAIN)
    image, label = arrays["image"], arrays["label"]
    images = [image]
    for _ in range(copies):
        padded = np.pad(image, ((0, 0), (1, 1), (1, 1), (0, 0)))
        down, right = rng.integers(0, 3, (2, len(image)))
        rows, columns = down[:, None] + np.arange(8), right[:, None] + np.arange(8)
        images.append(padded[np.arange(len(image))[:, None, None], rows[:, :, None], columns[:, None, :]])
    return {"image": np.concatenate(images), "label": np.tile(label, copies + 1)}
