"""What a physicist asks of the muon network: momentum estimate, turn-on, resolution, rate, and one number.

Everything works on arrays of answers [n, 43], one unnormalized log probability (logit) per bin of transverse momentum,
be they float or the dequantized output of the firmware.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PT_EDGES: tuple[float, ...] = (
    2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 5.5, 6.0, 6.5, 7.0, 7.5, 8.0, 8.5, 9.0, 9.5, 10.0,
    11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.0, 19.0, 20.0,
    22.0, 24.0, 26.0, 28.0, 30.0, 33.0, 36.0, 40.0, 45.0, 50.0, 60.0, 70.0, 80.0, 100.0, 120.0,
)  # fmt: skip
"""The 42 edges in GeV between the 43 bins; bin b holds edge[b - 1] <= pT < edge[b]."""
N_BINS = len(PT_EDGES) + 1
THRESHOLD_GEV = 20.0
FIRST_BIN_ABOVE = PT_EDGES.index(THRESHOLD_GEV) + 1
LOWEST_GEV, HIGHEST_GEV = 1.0, 150.0
"""Outer ends given to the first and the last bin where a value is needed."""
TURN_ON_EDGES: tuple[float, ...] = (
    1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0, 18.0, 20.0, 22.0, 25.0, 30.0, 35.0, 40.0, 50.0, 60.0,
    80.0, 100.0,
)  # fmt: skip


def pt_bin(momentum: np.ndarray) -> np.ndarray:
    """Bin 0..42 of each transverse momentum in GeV."""
    return np.searchsorted(np.array(PT_EDGES), momentum, side="right")


def probabilities(answers: np.ndarray) -> np.ndarray:
    """Softmax [n, 43] of the answers, in float64."""
    shifted = answers.astype(np.float64) - answers.max(axis=1, keepdims=True)
    weights = np.exp(shifted)
    return weights / weights.sum(axis=1, keepdims=True)


def probability_above(answers: np.ndarray) -> np.ndarray:
    """Probability [n] that pT is at least 20 GeV: the sum over the bins above that edge."""
    return probabilities(answers)[:, FIRST_BIN_ABOVE:].sum(axis=1)


def pt_estimate(answers: np.ndarray, *, quantile: float = 0.5) -> np.ndarray:
    """Estimated pT [n] in GeV: the given quantile (default median) of the answered distribution.

    Linear within a bin. The median is at least 20 GeV exactly where `probability_above` is at least one half.
    """
    edges = np.array([LOWEST_GEV, *PT_EDGES, HIGHEST_GEV])
    probability = probabilities(answers)
    steps = np.cumsum(probability, axis=1)
    bins = np.minimum((steps < quantile).sum(axis=1), N_BINS - 1)
    rows = np.arange(len(answers))
    before = steps[rows, bins] - probability[rows, bins]
    fraction = np.clip((quantile - before) / probability[rows, bins], 0.0, 1.0)
    return edges[bins] + fraction * (edges[bins + 1] - edges[bins])


def roc_area(score: np.ndarray, truth: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a true event scores above a false one, ties counting half."""
    n_true = int(truth.sum())
    n_false = len(truth) - n_true
    if n_true == 0 or n_false == 0:
        raise ValueError(f"roc_area: needs events on both sides, found {n_true} true and {n_false} false")
    order = np.argsort(score, kind="stable")
    _, first, counts = np.unique(score[order], return_index=True, return_counts=True)
    ranks = np.empty(len(score))
    ranks[order] = np.repeat(first + (counts + 1) / 2.0, counts)
    return float((ranks[truth].sum() - n_true * (n_true + 1) / 2.0) / (n_true * n_false))


def metric(answers: np.ndarray, momentum: np.ndarray) -> float:
    """The example's one number: area under the ROC curve for pT >= 20 GeV, from `probability_above`.

    Quantization loss is (float - fixed) / float of it on the same events.
    """
    return roc_area(probability_above(answers), momentum >= THRESHOLD_GEV)


def roc_area_20_gev(results: dict[str, np.ndarray], arrays: dict[str, np.ndarray]) -> float:
    """`metric` in the form that metronn.toml names: outputs by name, arrays of the events by name."""
    return metric(results["pt_bins"], arrays["pt"])


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnOn:
    """Efficiency in bins of true pT.

    `edges` [m + 1] in GeV; `efficiency` and its binomial `error` [m]; `events` [m]. Empty bins hold NaN.
    """

    edges: np.ndarray
    efficiency: np.ndarray
    error: np.ndarray
    events: np.ndarray


def turn_on(accepted: np.ndarray, momentum: np.ndarray, edges: tuple[float, ...] = TURN_ON_EDGES) -> TurnOn:
    """Share of muons `accepted` (bool [n]) in each bin of true pT."""
    limits = np.array(edges)
    total, _ = np.histogram(momentum, limits)
    passed, _ = np.histogram(momentum[accepted], limits)
    with np.errstate(invalid="ignore", divide="ignore"):
        efficiency = passed / total
        error = np.sqrt(efficiency * (1.0 - efficiency) / total)
    return TurnOn(edges=limits, efficiency=efficiency, error=error, events=total)


def threshold_for_efficiency(score: np.ndarray, momentum: np.ndarray, efficiency: float) -> float:
    """The score cut that keeps the given share of muons of pT >= 20 GeV."""
    kept = np.sort(score[momentum >= THRESHOLD_GEV])[::-1]
    if len(kept) == 0:
        raise ValueError("threshold_for_efficiency: no muon of 20 GeV or more")
    return float(kept[max(round(efficiency * len(kept)) - 1, 0)])


def residuals(estimate: np.ndarray, momentum: np.ndarray) -> np.ndarray:
    """Logarithm of estimated over true pT [n] for events with an answer (estimate > 0)."""
    answered = estimate > 0
    return np.log(estimate[answered] / momentum[answered])


def resolution(estimate: np.ndarray, momentum: np.ndarray) -> tuple[float, float]:
    """Median and half width of the central 68 % of log(estimate / true pT), over events with an answer."""
    values = residuals(estimate, momentum)
    if len(values) == 0:
        return float("nan"), float("nan")
    low, middle, high = np.percentile(values, [16.0, 50.0, 84.0])
    return float(middle), float((high - low) / 2.0)


def rate_weights(momentum: np.ndarray, *, index: float = 3.0, edges: tuple[float, ...] = TURN_ON_EDGES) -> np.ndarray:
    """Weights [n] that turn any sample into a spectrum falling as pT^-index between the outer edges; they sum to 1.

    Muons at a collider fall roughly as the inverse third power of pT, so this is how accepted muons below the threshold
    become a trigger rate. Exact to the width of the bins; events outside the edges get 0.
    """
    limits = np.array(edges)
    counts, _ = np.histogram(momentum, limits)
    content = (limits[:-1] ** (1.0 - index) - limits[1:] ** (1.0 - index)) / (index - 1.0)
    share = np.where(counts > 0, content / np.maximum(counts, 1), 0.0)
    bins = np.searchsorted(limits, momentum, side="right") - 1
    weights = np.where((bins >= 0) & (bins < len(share)), share[np.clip(bins, 0, len(share) - 1)], 0.0)
    return weights / weights.sum()


def low_pt_rate(
    accepted: np.ndarray, momentum: np.ndarray, *, limit_gev: float = THRESHOLD_GEV, weights: np.ndarray | None = None
) -> float:
    """Share of muons below `limit_gev` that are accepted (bool [n]), each event counting once or by its weight."""
    low = momentum < limit_gev
    weight = np.ones(len(momentum)) if weights is None else weights
    total = weight[low].sum()
    return float(weight[low & accepted].sum() / total) if total > 0 else float("nan")
