"""The overlap muon example: generator, checked-in network and events, and physics functions."""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from example_modules import EXAMPLES, importing

FOLDER = EXAMPLES / "omtf"
MODULES = ("layers", "physics", "generate", "network")

# Share of the 14,952 CMS muons (training and validation splits) with a hit, by station in the order of layers.STATIONS.
CMS_OCCUPANCY = (
    0.472, 0.319, 0.091, 0.225, 0.354, 0.194, 0.108, 0.626, 0.479, 0.412, 0.289, 0.148, 0.306, 0.352, 0.162,
)  # fmt: skip


@pytest.fixture(scope="module")
def omtf() -> Iterator[dict[str, ModuleType]]:
    """The example's modules, which import each other by plain name as scripts do."""
    with importing(FOLDER) as module:
        yield {name: module(name) for name in MODULES}


def test_equal_seeds_give_equal_events(omtf: dict[str, ModuleType]) -> None:
    """Same seed, same bits; another seed, other bits."""
    generate = omtf["generate"].generate
    first, again, other = generate(3000, seed=5), generate(3000, seed=5), generate(3000, seed=6)
    assert np.array_equal(first.hits, again.hits)
    assert np.array_equal(first.momentum, again.momentum)
    assert np.array_equal(first.charge, again.charge)
    assert not np.array_equal(first.hits, other.hits)


def test_checked_in_events_are_what_the_generator_makes(omtf: dict[str, ModuleType]) -> None:
    """`events.npz` is `generate.py -n 4000 --seed 2018`, bit for bit, on every machine."""
    events = omtf["generate"].generate(4000, seed=2018)
    with np.load(FOLDER / "events.npz") as data:
        assert sorted(data.files) == ["charge", "hits", "label", "pt"]
        assert data["hits"].dtype == np.float32
        assert data["hits"].shape == (4000, 36)
        assert np.array_equal(data["hits"], omtf["generate"].network_input(events.hits))
        assert np.array_equal(data["label"], omtf["physics"].pt_bin(events.momentum))
        assert np.array_equal(data["pt"], events.momentum.astype(np.float32))
        assert np.array_equal(data["charge"], events.charge)
    assert (FOLDER / "events.npz").stat().st_size < 500_000


def test_hits_are_codes_in_range(omtf: dict[str, ModuleType]) -> None:
    """Codes 0..1554; bending angles go with their azimuth; a second hit needs a first; both charges occur."""
    events = omtf["generate"].generate(20_000, seed=1)
    hits = events.hits
    assert hits.dtype == np.int16
    assert hits.min() == 0
    assert hits.max() <= omtf["layers"].MAX_CODE
    for layer in omtf["layers"].BEND_LAYERS:
        assert np.array_equal(hits[:, layer] > 0, hits[:, layer - 1] > 0)
    assert not np.any((hits[:, :, 1] > 0) & (hits[:, :, 0] == 0))
    assert abs(np.mean(events.charge)) < 0.03


def test_inputs_are_exact_multiples(omtf: dict[str, ModuleType]) -> None:
    """Every network input is a whole number of 1/1024, layer by layer with the first hit before the second."""
    events = omtf["generate"].generate(500, seed=2)
    inputs = omtf["generate"].network_input(events.hits)
    assert inputs.dtype == np.float32
    assert np.array_equal(inputs * 1024, events.hits.reshape(500, 36))
    assert np.array_equal(inputs[:, 1] * 1024, events.hits[:, 0, 1])


def test_occupancy_matches_the_cms_simulation(omtf: dict[str, ModuleType]) -> None:
    """Every station fires as often as in the CMS sample, to 0.025 absolute; 85 % of the entries are empty."""
    generate = omtf["generate"]
    events = generate.generate(40_000, seed=3, spectrum=generate.Spectrum.CMS)
    occupancy = (events.hits[:, list(omtf["layers"].STATIONS), 0] > 0).mean(axis=0)
    assert np.abs(occupancy - np.array(CMS_OCCUPANCY)).max() < 0.025
    assert np.mean(events.hits == 0) == pytest.approx(0.85, abs=0.01)


def test_bending_falls_with_momentum_and_follows_the_charge(omtf: dict[str, ModuleType]) -> None:
    """The first drift tubes' bending angle changes sign with the charge and shrinks as 1/pT."""
    events = omtf["generate"].generate(40_000, seed=4)
    bend = events.hits[:, 1, 0].astype(float) - omtf["layers"].BEND_ZERO
    present = events.hits[:, 1, 0] > 0
    medians = {}
    for low, high in ((5, 6), (10, 12), (40, 50)):
        for charge in (-1, 1):
            chosen = present & (events.momentum >= low) & (events.momentum < high) & (events.charge == charge)
            medians[low, charge] = np.median(bend[chosen])
    for low in (5, 10, 40):
        assert medians[low, 1] < 0 < medians[low, -1]
    assert medians[5, -1] > 1.6 * medians[10, -1] > 2 * medians[40, -1]


def test_generator_rejects_an_empty_request(omtf: dict[str, ModuleType]) -> None:
    """No events is an error that names the number."""
    with pytest.raises(ValueError, match="n is 0, must be 1 or more"):
        omtf["generate"].generate(0, seed=1)


def test_model_file_is_the_demo_network() -> None:
    """Ten dense layers of 128 and 43 outputs, plain layer types, inputs and outputs by name, under 1.5 MB."""
    path = FOLDER / "omtf.keras"
    assert path.stat().st_size < 1_500_000
    with zipfile.ZipFile(path) as archive:
        config = json.loads(archive.read("config.json"))["config"]
    kinds = [layer["class_name"] for layer in config["layers"]]
    assert set(kinds) <= {"InputLayer", "Dense", "BatchNormalization", "ReLU"}
    units = [layer["config"]["units"] for layer in config["layers"] if layer["class_name"] == "Dense"]
    assert units == [128] * 10 + [43]
    assert config["layers"][0]["config"]["batch_shape"] == [None, 36]
    assert config["layers"][0]["name"] == "hits"
    assert config["layers"][-1]["name"] == "pt_bins"


def test_network_measures_momentum(omtf: dict[str, ModuleType]) -> None:
    """On the checked-in events the metric is far above what a network without training or data would reach."""
    layers = omtf["network"].read_layers(FOLDER / "omtf.keras")
    assert len(layers) == 11
    assert [layer.relu for layer in layers] == [True] * 10 + [False]
    with np.load(FOLDER / "events.npz") as data:
        logits = omtf["network"].answer(layers, data["hits"])
        value = omtf["physics"].metric(logits, data["pt"])
    assert logits.shape == (4000, 43)
    assert np.isfinite(logits).all()
    assert value > 0.93


def test_unknown_layer_is_named(omtf: dict[str, ModuleType], tmp_path: Path) -> None:
    """A layer the small reader does not know is an error with its name and type."""
    path = tmp_path / "other.keras"
    with zipfile.ZipFile(FOLDER / "omtf.keras") as archive, zipfile.ZipFile(path, "w") as changed:
        config = json.loads(archive.read("config.json"))
        config["config"]["layers"][1]["class_name"] = "Dropout"
        changed.writestr("config.json", json.dumps(config))
        changed.writestr("model.weights.h5", archive.read("model.weights.h5"))
    name = config["config"]["layers"][1]["config"]["name"]
    with pytest.raises(ValueError, match=f"layer {name} is a Dropout"):
        omtf["network"].read_layers(path)


def test_bins_have_an_edge_at_20(omtf: dict[str, ModuleType]) -> None:
    """43 bins; 20 GeV opens a bin, and what is just below is in the bin before."""
    physics = omtf["physics"]
    assert physics.N_BINS == 43
    assert list(physics.PT_EDGES) == sorted(set(physics.PT_EDGES))
    bins = physics.pt_bin(np.array([0.5, 2.0, 19.999, 20.0, 119.9, 120.0, 1000.0]))
    assert bins.tolist() == [0, 1, physics.FIRST_BIN_ABOVE - 1, physics.FIRST_BIN_ABOVE, 41, 42, 42]


def test_estimate_is_the_median(omtf: dict[str, ModuleType]) -> None:
    """All weight in one bin: its middle. Half below 20 GeV and half above: exactly 20."""
    physics = omtf["physics"]
    logits = np.full((3, 43), -60.0)
    logits[0, physics.pt_bin(np.array(30.0))] = 0.0
    logits[1, physics.FIRST_BIN_ABOVE - 1] = logits[1, physics.FIRST_BIN_ABOVE] = 0.0
    logits[2, 0] = 0.0
    estimate = physics.pt_estimate(logits)
    assert estimate[0] == pytest.approx(31.5)
    assert estimate[1] == pytest.approx(20.0)
    assert estimate[2] == pytest.approx(1.5)
    assert physics.probability_above(logits) == pytest.approx([1.0, 0.5, 0.0])


def test_roc_area_of_hand_made_cases(omtf: dict[str, ModuleType]) -> None:
    """Perfect 1, reversed 0, all equal 0.5, one of four pairs wrong 0.75; one-sided truth is an error."""
    area = omtf["physics"].roc_area
    truth = np.array([False, False, True, True])
    assert area(np.array([1.0, 2.0, 3.0, 4.0]), truth) == 1.0
    assert area(np.array([4.0, 3.0, 2.0, 1.0]), truth) == 0.0
    assert area(np.ones(4), truth) == 0.5
    assert area(np.array([1.0, 3.0, 2.0, 4.0]), truth) == 0.75
    with pytest.raises(ValueError, match="found 4 true and 0 false"):
        area(np.ones(4), np.ones(4, dtype=bool))


def test_turn_on_and_rate_of_hand_made_muons(omtf: dict[str, ModuleType]) -> None:
    """Efficiency per bin, NaN in an empty bin, share of accepted muons below 20 GeV with and without weights."""
    physics = omtf["physics"]
    momentum = np.array([5.0, 15.0, 15.0, 25.0, 25.0, 25.0, 25.0])
    accepted = np.array([False, True, False, True, True, True, False])
    curve = physics.turn_on(accepted, momentum, (1.0, 10.0, 20.0, 30.0, 40.0))
    assert curve.efficiency[:3] == pytest.approx([0.0, 0.5, 0.75])
    assert np.isnan(curve.efficiency[3])
    assert curve.events.tolist() == [1, 2, 4, 0]
    assert physics.low_pt_rate(accepted, momentum) == pytest.approx(1 / 3)
    weights = np.array([8.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0])
    assert physics.low_pt_rate(accepted, momentum, weights=weights) == pytest.approx(0.1)


def test_rate_weights_follow_the_power_law(omtf: dict[str, ModuleType]) -> None:
    """Weights sum to 1 and share out between bins as the integral of pT^-3, whatever the sample's own spectrum."""
    weights = omtf["physics"].rate_weights(np.array([1.5, 1.6, 3.0, 9.0]), edges=(1.0, 2.0, 4.0))
    assert weights.sum() == pytest.approx(1.0)
    assert weights[:2].sum() / weights[2] == pytest.approx((1 - 1 / 4) / (1 / 4 - 1 / 16))
    assert weights[3] == 0.0


def test_resolution_ignores_events_without_answer(omtf: dict[str, ModuleType]) -> None:
    """-999 does not count; a constant factor is the median with no width."""
    physics = omtf["physics"]
    middle, width = physics.resolution(np.array([20.0, 40.0, -999.0]), np.array([10.0, 20.0, 5.0]))
    assert middle == pytest.approx(np.log(2.0))
    assert width == pytest.approx(0.0)


def test_threshold_keeps_the_asked_efficiency(omtf: dict[str, ModuleType]) -> None:
    """The cut keeps that share of the muons above 20 GeV."""
    score, momentum = np.arange(10.0), np.full(10, 30.0)
    cut = omtf["physics"].threshold_for_efficiency(score, momentum, 0.4)
    assert (score >= cut).sum() == 4


def test_evaluation_draws_and_returns_numbers(omtf: dict[str, ModuleType], tmp_path: Path) -> None:
    """One PNG, one dict per method, the same bytes twice; a wrong number of answers is an error."""
    pytest.importorskip("matplotlib")
    import evaluate

    momentum = np.exp(np.linspace(np.log(1.5), np.log(99.0), 400))
    exact = evaluate.from_finder(momentum)
    rough = evaluate.from_finder(np.where(np.arange(400) % 7 == 0, -999.0, momentum * 1.1))
    pictures = [tmp_path / "a.png", tmp_path / "b.png"]
    for path in pictures:
        table = evaluate.evaluate({"float": exact, "track finder": rough}, momentum, path)
    digests = {hashlib.sha256(path.read_bytes()).hexdigest() for path in pictures}
    assert len(digests) == 1
    assert table["float"]["roc_area"] == 1.0
    assert table["float"]["accuracy"] == 1.0
    assert table["track finder"]["efficiency_above_20"] == pytest.approx(6 / 7, abs=0.01)
    assert table["track finder"]["log_pt_median"] == pytest.approx(np.log(1.1))
    assert "roc_area" in evaluate.text_table(table)
    with pytest.raises(ValueError, match="float: 400 answers for 399 muons"):
        evaluate.evaluate({"float": exact}, momentum[:-1], None)


@pytest.mark.parametrize("generated", [True, False])
def test_command_line(
    omtf: dict[str, ModuleType], tmp_path: Path, generated: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    """Generated muons work with no outside file; a missing CMS sample is exit 2 and says what to do."""
    pytest.importorskip("matplotlib")
    import evaluate

    options = ["--generated", "2000", "--json"] if generated else ["--cms", str(tmp_path / "none.npz")]
    saved, sys.argv = sys.argv, ["evaluate.py", *options]
    try:
        status = evaluate.main()
    finally:
        sys.argv = saved
    captured = capsys.readouterr()
    if generated:
        assert status == 0
        assert set(json.loads(captured.out)) == {"float"}
    else:
        assert status == 2
        assert "Give it with --cms" in captured.err
