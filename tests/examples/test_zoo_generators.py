"""The zoo's generators: the same seeds give the same events, and the events show what they are made to show."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType

import numpy as np
import pytest
from example_modules import EXAMPLES, importing

Arrays = dict[str, np.ndarray]

INPUTS: dict[str, dict[str, tuple[tuple[int, ...], int, int, bool]]] = {
    "dijet": {"features": ((27,), 8, 12, True)},
    "sparticle_xsec": {"parameters": ((19,), 10, 12, True)},
    "dqm_autoencoder": {"occupancy": ((128,), 8, 11, False)},
    "bjet_tagger": {
        "vertices": ((4, 5), 6, 10, True),
        "constituents": ((16, 6), 6, 10, True),
        "jet": ((8,), 6, 10, True),
    },
    "jet_images": {"image": ((40, 40, 1), 8, 8, False)},
    "calorimeter_energy": {"ecal": ((16, 16, 1), 12, 13, False), "hcal": ((8, 8, 1), 10, 12, False)},
    "strain_conv1d": {"strain": ((512, 1), 4, 8, True)},
}
"""Of each input: shape, fractional bits, bits, signed."""


@pytest.fixture(scope="module")
def module() -> Iterator[Callable[[str], ModuleType]]:
    """Import a module of the examples."""
    with importing(EXAMPLES) as found:
        yield found


@pytest.mark.parametrize("name", INPUTS)
def test_equal_seeds_give_equal_events(module: Callable[[str], ModuleType], name: str) -> None:
    generate = module(f"{name}.generate").generate
    first, again, other = generate(40, seed=5), generate(40, seed=5), generate(40, seed=6)
    assert first.keys() == again.keys() == other.keys()
    assert all(np.array_equal(first[key], again[key]) for key in first)
    assert all(not np.array_equal(first[key], other[key]) for key in INPUTS[name])


@pytest.mark.parametrize("name", INPUTS)
def test_inputs_lie_on_their_grid(module: Callable[[str], ModuleType], name: str) -> None:
    events: Arrays = module(f"{name}.generate").generate(64, seed=7)
    for key, (shape, frac, bits, signed) in INPUTS[name].items():
        values = events[key]
        assert values.dtype == np.float32
        assert values.shape == (64, *shape)
        codes = values.astype(np.float64) * 2**frac
        assert np.array_equal(codes, np.rint(codes))
        low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
        assert low <= codes.min() < codes.max() <= high


@pytest.mark.parametrize("name", INPUTS)
def test_no_events_is_an_error(module: Callable[[str], ModuleType], name: str) -> None:
    with pytest.raises(ValueError, match="n is 0, must be 1 or more"):
        module(f"{name}.generate").generate(0, seed=1)


def test_gluon_jets_are_richer_than_quark_jets(module: Callable[[str], ModuleType]) -> None:
    """Multiplicity of gluon pairs above quark pairs; displaced tracks in bottom pairs; four classes alike in number."""
    generate = module("dijet.generate")
    events = generate.generate(8000, seed=1)
    features, label = events["features"], events["label"]
    assert np.bincount(label).min() > 1800
    assert len(generate.JET_FEATURES) * 2 + len(generate.EVENT_FEATURES) == 27
    count, displaced = (generate.JET_FEATURES.index(name) for name in ("multiplicity", "displaced tracks"))
    mean = [features[label == k].mean(axis=0) for k in range(4)]
    assert mean[0][count] > 1.4 * mean[2][count]
    assert mean[3][displaced] > 5 * mean[2][displaced]


def test_mixing_has_the_known_limits(module: Callable[[str], ModuleType]) -> None:
    """Chargino 1 and neutralino 2 are winos with couplings 1 where mu is large, and higgsinos where M1 and M2 are."""
    mixing = module("sparticle_xsec.generate").mixing
    heavy, light, beta = np.array([50_000.0]), np.array([300.0]), np.array([10.0])
    for m1, m2, mu, coupling in ((light / 3, light, heavy, 1.0), (heavy, heavy, light, 0.5)):
        chargino, neutralino, left, right = mixing(m1, m2, mu, beta)
        assert chargino == pytest.approx(light, rel=2e-3)
        assert neutralino == pytest.approx(light, rel=2e-3)
        assert np.abs(left) == pytest.approx(coupling, abs=1e-2)
        assert np.abs(right) == pytest.approx(coupling, abs=1e-2)


def test_cross_section_falls_with_mass(module: Callable[[str], ModuleType]) -> None:
    """Winos of 170 GeV are made more often than of 590; the gluino's mass does not enter."""
    generate = module("sparticle_xsec.generate")
    unit = np.zeros((2, 19))
    unit[:, generate.PARAMETERS.index("mu")] = 0.9
    unit[:, generate.PARAMETERS.index("M1")] = -1.0
    unit[:, generate.PARAMETERS.index("M2")] = (-0.9, -0.3)
    light, heavy = generate.cross_section(generate.physical(unit))
    assert light > heavy + 1
    unit[1] = unit[0]
    unit[1, generate.PARAMETERS.index("M3")] = 0.7
    same = generate.cross_section(generate.physical(unit))
    assert same[0] == same[1]


def test_faults_are_seen_in_the_histograms(module: Callable[[str], ModuleType]) -> None:
    """Good histograms stay near the expected shape, faulty ones do not; each has mean 1."""
    generate = module("dqm_autoencoder.generate")
    events = generate.generate(2000, seed=3)
    far = ((events["occupancy"] - generate.expected().reshape(-1)) ** 2).sum(axis=1)
    label = events["label"]
    assert 0.45 < label.mean() < 0.55
    assert np.median(far[label == 1]) > 2 * np.median(far[label == 0])
    assert np.allclose(events["occupancy"].mean(axis=1), 1.0, atol=0.01)
    assert not generate.generate(200, seed=3, faulty=0.0)["label"].any()


def test_bottom_jets_have_vertices_and_displaced_tracks(module: Callable[[str], ModuleType]) -> None:
    events = module("bjet_tagger.generate").generate(4000, seed=2)
    label = events["label"]
    has_vertex = (events["vertices"][:, 0, 0] > 0).astype(float)
    assert has_vertex[label == 1].mean() > 0.5 > 0.25 > has_vertex[label == 0].mean()
    share = events["constituents"][:, :, 0]
    assert np.all(np.diff(share, axis=1) <= 0)
    absent = events["constituents"][:, :, 4] == 0  # every particle has a charge
    assert 0.1 < absent.mean() < 0.8
    assert not events["constituents"][absent].any()
    impact = events["jet"][:, 4]
    assert np.median(impact[label == 1]) > 2 * np.median(impact[label == 0])


def test_top_jets_are_wider_than_the_others(module: Callable[[str], ModuleType]) -> None:
    """Energy-weighted distance from the middle; images are centred, and brighter in the upper right."""
    events = module("jet_images.generate").generate(600, seed=4)
    energy = events["image"][..., 0].astype(np.float64) ** 2
    energy /= energy.sum(axis=(1, 2), keepdims=True)
    axis = np.arange(40) - 19.5
    width = (energy * np.hypot(*np.meshgrid(axis, axis))).sum(axis=(1, 2))
    label = events["label"]
    assert width[label == 1].mean() > 1.3 * width[label == 0].mean()
    centre = np.array([(energy.mean(axis=0) * axis[:, None]).sum(), (energy.mean(axis=0) * axis[None, :]).sum()])
    assert np.abs(centre).max() < 1.0
    mean = energy.mean(axis=0)
    assert mean[20:, :].sum() > 0.5
    assert mean[:, 20:].sum() > 0.5


def test_decays_conserve_momentum_and_masses(module: Callable[[str], ModuleType]) -> None:
    generate = module("jet_images.generate")
    rng = np.random.Generator(np.random.PCG64(1))
    momentum = rng.normal(0.0, 300.0, (50, 3))
    energy = np.sqrt((momentum**2).sum(axis=1) + generate.TOP_MASS**2)
    top = np.column_stack([energy, momentum])
    w, bottom = generate._decay(rng, top, generate.TOP_MASS, generate.W_MASS)
    assert np.allclose(w + bottom, top)
    signs = np.array([1.0, -1.0, -1.0, -1.0])
    assert np.allclose((signs * w**2).sum(axis=1), generate.W_MASS**2)
    assert np.allclose((signs * bottom**2).sum(axis=1), 0.0, atol=1e-6 * energy.max() ** 2)


def test_showers_keep_energy(module: Callable[[str], ModuleType]) -> None:
    """The cascade shares out the momentum of each parton; gluons split more than quarks."""
    shower = module("jet_images.generate")._shower
    rng = np.random.Generator(np.random.PCG64(1))
    n = 400
    zeros = np.zeros(n)
    multiplicity = []
    for gluon in (0.0, 1.0):
        final = shower(rng, np.column_stack([np.arange(n), zeros + 500.0, zeros, zeros, zeros + 0.8, zeros + gluon]))
        assert np.allclose(np.bincount(final[:, 0].astype(int), final[:, 1]), 500.0)
        multiplicity.append(len(final) / n)
    assert multiplicity[1] > 1.3 * multiplicity[0] > 1.3


def test_the_sum_of_cells_follows_the_energy(module: Callable[[str], ModuleType]) -> None:
    """Pions are measured low and with a spread (leakage, response), nothing is far above its energy."""
    events = module("calorimeter_energy.generate").generate(2000, seed=5)
    ratio = (events["ecal"].sum(axis=(1, 2, 3)) + events["hcal"].sum(axis=(1, 2, 3))) / events["target"]
    assert 0.7 < np.median(ratio) < 0.95
    low, high = np.quantile(ratio, (0.16, 0.84))
    assert 0.1 < (high - low) / 2 < 0.3
    assert np.quantile(ratio, 0.99) < 1.5


def test_chirps_rise_and_noise_has_unit_width(module: Callable[[str], ModuleType]) -> None:
    generate = module("strain_conv1d.generate")
    events = generate.generate(1000, seed=6)
    quiet = events["strain"][events["label"] == 0]
    assert 1.0 < quiet.std() < 1.3
    assert np.all((events["snr"] >= 6) == (events["label"] == 1))
    waves = generate.chirps(np.random.Generator(np.random.PCG64(3)), 50)
    crossings = np.diff(np.signbit(waves), axis=1)
    assert np.all(crossings[:, 150:290].sum(axis=1) >= crossings[:, 10:150].sum(axis=1))
    assert np.abs(waves).max() <= 1.0


@pytest.mark.slow
def test_digits_are_split_without_overlap(module: Callable[[str], ModuleType]) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    digits = module("digits")
    parts = [digits.generate(seed=seed) for seed in sorted(digits.SPLIT)]
    assert [len(part["label"]) for part in parts] == [1200, 200, 397]
    images = np.concatenate([part["image"] for part in parts]).reshape(1797, -1)
    assert len(np.unique(images, axis=0)) == 1797
    assert np.array_equal(np.unique(images * 16), np.arange(17))
    moved = digits.shifted(parts[0], 2)
    assert moved["image"].shape == (3600, 8, 8, 1)
    assert np.array_equal(moved["image"][:1200], parts[0]["image"])
    with pytest.raises(ValueError, match="seed is 9, the samples of the digits are"):
        digits.generate(seed=9)
