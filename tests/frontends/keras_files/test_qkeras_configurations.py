"""Hundreds of quantizer configurations against QKeras itself: values element by element, and constants."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from test_qkeras_networks import run_worker

from metronn.frontends.common.builder import LayerBuilder
from metronn.frontends.keras.qkeras.activations import quantized_value
from metronn.frontends.keras.qkeras.quantizers import parse_quantizer
from metronn.frontends.keras.qkeras.weights import quantized_constant
from metronn.model.reference import run_reference

Values = npt.NDArray[np.float64]
Case = tuple[str, dict[str, Any]]

CASES = 200
ORIGINAL_HAS_NOT = ("quantized_linear",)
NEW_IN_V3 = ("min_po2_exponent", "max_po2_exponent", "post_training_scale")
BITS = (1, 2, 3, 4, 5, 6, 8, 12)
SHAPES = ((40,), (8, 5), (3, 4, 2, 5), (2, 3, 4, 1))


def draw_case(r: random.Random, *, constant: bool) -> Case:
    """Draw a quantizer with arguments; scales that follow from the values for constants only."""
    name = r.choice(
        [
            *("quantized_bits", "quantized_linear") * 3,
            *("quantized_relu",) * (1 if constant else 4),
            *("quantized_po2", "quantized_relu_po2", "ternary", "binary") * 2,
            *("stochastic_ternary", "stochastic_binary", "quantized_tanh", "quantized_sigmoid"),
            *("quantized_ulaw", "quantized_hswish") * (not constant),
        ]
    )
    alphas = [None, 1, 2.0, 0.5, 0.3, *(["auto", "auto_po2"] * 2 if constant else [])]
    arguments: dict[str, Any] = {}
    if name in ("quantized_bits", "quantized_linear", "quantized_hswish"):
        alpha = r.choice(alphas)
        least = 2 if isinstance(alpha, str) or name == "quantized_hswish" else 1
        arguments = {
            "bits": r.choice([bits for bits in BITS if bits >= least]),
            "integer": r.choice([0, 0, 1, 2, 3]),
            "symmetric": r.randint(0, 1),
            "alpha": alpha,
            "use_stochastic_rounding": r.random() < 0.2,
            "qnoise_factor": r.choice([1.0] * 6 + [0.5, 0.25]),
        }
        if name != "quantized_hswish":
            arguments["keep_negative"] = r.random() < 0.8
        if name == "quantized_hswish":
            arguments.update(alpha=r.choice([None, 1]), qnoise_factor=1.0, relu_upper_bound=r.choice([6, 8, 3]))
        if name == "quantized_bits" and alpha == "auto_po2" and r.random() < 0.3:
            arguments.update(min_po2_exponent=-3, max_po2_exponent=0)
    elif name == "quantized_relu":
        slope = r.choice([0.0, 0.0, 0.0, 0.5, 0.25, 0.0625, 2.0])
        arguments = {
            "bits": r.choice([bits for bits in BITS if bits > 1]),
            "integer": r.choice([0, 1, 2, 4]),
            "use_sigmoid": int(r.random() < 0.3),
            "negative_slope": slope,
            "relu_upper_bound": r.choice([None, None, 0.7, 1.5]),
            "is_quantized_clip": r.random() < 0.6,
            "qnoise_factor": r.choice([1.0] * 6 + [0.5]),
        }
    elif name.endswith("po2"):
        quadratic = r.random() < 0.3  # with 0.5 or 2 the limit itself would be a tie
        arguments = {
            "bits": r.choice([2, 3, 4, 5, 6]),
            "max_value": r.choice([None, None, 0.6 if quadratic else 0.5, 1, 4 if quadratic else 2, 6.0]),
            "quadratic_approximation": quadratic,
            "log2_rounding": r.choice(["rnd", "rnd", "floor"]),
            "use_stochastic_rounding": r.random() < 0.2,
            "qnoise_factor": r.choice([1.0] * 6 + [0.5]),
        }
        if name == "quantized_relu_po2":
            arguments["negative_slope"] = r.choice([0, 0, 0.5, 0.25])
    elif name in ("ternary", "stochastic_ternary"):
        arguments = {"alpha": r.choice(alphas)}
        if not isinstance(arguments["alpha"], str):
            arguments["threshold"] = r.choice([None, 0.5, 0.0, 1.0 / 3])
        else:
            arguments["number_of_unrolls"] = r.choice([5, 5, 2])
    elif name in ("binary", "stochastic_binary"):
        arguments = {"alpha": r.choice(alphas)}
        if name == "binary":
            arguments["use_01"] = r.random() < 0.3
    elif name == "quantized_tanh":
        arguments = {"bits": r.choice(BITS[1:]), "symmetric": r.random() < 0.5, "use_real_tanh": r.random() < 0.5}
    elif name == "quantized_sigmoid":
        arguments = {"bits": r.choice(BITS), "symmetric": r.random() < 0.5, "use_real_sigmoid": r.random() < 0.5}
    else:
        arguments = {"bits": r.choice([3, 4, 6, 8]), "integer": r.choice([0, 1]), "u": r.choice([255.0, 15.0])}
    return name, arguments


def dense_grid(seed: int) -> Values:
    """Every tie of quantizers up to 6 fractional bits, thresholds, extremes, and values at random."""
    rng = np.random.default_rng(seed)
    special = [0.33, 1 / 3, 0.5, 1e-7, 1e-8, 3e-7, 0.7, 2**0.5, 100.25, 1000.5, 65536.0, 2.0**-20, 2.0**-10]
    parts = [np.arange(-512, 513) / 64, special, np.negative(special), rng.uniform(-4, 4, 200), 2.0 ** np.arange(-8, 8)]
    return np.concatenate(parts).astype(np.float32).astype(np.float64)


def constants(r: random.Random, k: int) -> Values:
    """Random weights, some of them ties, zeros, or a column of zeros."""
    rng = np.random.default_rng(k)
    x = rng.uniform(-1.3, 1.3, r.choice(SHAPES))
    x = np.where(rng.random(x.shape) < 0.2, np.rint(x * 16) / 16, x)
    if r.random() < 0.1:
        x[..., 0] = 0
    return x.astype(np.float32).astype(np.float64)


def ours(case: Case, x: Values, *, constant: bool) -> Values:
    """Return x through a quantizer, as metronn reads it."""
    name, arguments = case
    quantizer = parse_quantizer({"class_name": name, "config": arguments})
    if constant:
        return quantized_constant(quantizer, x)[0]
    builder = LayerBuilder()
    y = quantized_value(builder, builder.input("x", x.shape), quantizer)
    return run_reference(builder.finish([("y", y)], name), {"x": x[np.newaxis]})["y"][0]


def differing(cases: list[Case], arrays: list[Values], found: Any, *, constant: bool) -> tuple[list[str], int]:
    """Return the configurations with values apart by more than QKeras' own float32 noise, and how many values flipped.

    A value flipped when it is what metronn has within 2^-22 of the input: there QKeras' float32 decided a tie.
    """
    wrong, flipped = [], 0
    for k, (case, x) in enumerate(zip(cases, arrays, strict=True)):
        theirs = found[f"y{k}"].astype(np.float64)
        noise = 2.0**-21 * np.maximum(np.maximum(np.abs(x), np.abs(theirs)), 2.0**-20)
        apart = np.abs(ours(case, x, constant=constant) - theirs) > noise
        if apart.any():
            width = 2.0**-22 * np.maximum(np.abs(x), 1.0)
            near = [
                np.abs(ours(case, x + side * width, constant=constant) - theirs) <= noise + width for side in (-1, 1)
            ]
            flipped += int((apart & (near[0] | near[1])).sum())
            apart &= ~(near[0] | near[1])
        if apart.any():
            first = tuple(int(i) for i in np.argwhere(apart)[0])
            mine = ours(case, x, constant=constant)[first]
            shown = f"{int(apart.sum())} of {apart.size}: {x[first]!r} gives {theirs[first]!r}, not {mine!r}"
            wrong.append(f"{case[0]} {case[1]}: {shown}")
    return wrong, flipped


@pytest.mark.slow
def test_random_configurations_agree_with_qkeras(tmp_path: Path) -> None:
    r = random.Random(0)
    kinds = [k % 2 == 1 for k in range(2 * CASES)]
    cases = [draw_case(r, constant=constant) for constant in kinds]
    arrays = [constants(r, k) if constant else dense_grid(k) for k, constant in enumerate(kinds)]
    stored: dict[str, Any] = {f"x{k}": x for k, x in enumerate(arrays)}
    np.savez(tmp_path / "in.npz", spec=json.dumps(cases), **stored)
    report = run_worker("quantizers", str(tmp_path / "in.npz"), str(tmp_path / "out.npz"))
    found = np.load(tmp_path / "out.npz")
    for k, error in report["errors"].items():
        name, arguments = cases[int(k)]
        new = name in ORIGINAL_HAS_NOT or not set(NEW_IN_V3).isdisjoint(arguments)
        assert new, (cases[int(k)], error)
        assert report["qkeras"] == "original", (cases[int(k)], error)
    for constant in (False, True):
        kept = [k for k, kind in enumerate(kinds) if kind is constant and f"y{k}" in found]
        results = {f"y{n}": found[f"y{k}"] for n, k in enumerate(kept)}
        wrong, flipped = differing([cases[k] for k in kept], [arrays[k] for k in kept], results, constant=constant)
        assert not wrong, "\n".join(wrong)
        assert len(kept) > CASES // 2
        assert flipped <= 20
