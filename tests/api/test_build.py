"""The Python interface: a network in memory or in a file, to a build that predicts, plans, verifies and reports."""

from __future__ import annotations

import gc
import inspect
import json
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import metronn
from command_line import metronn as run
from metronn.flow.emulating import answers, input_codes
from metronn.frontends import load_model
from metronn.log import QuietLog
from metronn.model.reference import run_reference
from small_network import write_events, write_network

SYSTEM = {"system": "one-serenity", "ii": 4}


def drawn(count: int = 200, seed: int = 1) -> Any:
    """Draw events on the grid of 1/64."""
    return np.random.default_rng(seed).integers(-128, 128, (count, 6)) / 64


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a network's file."""
    return write_network(tmp_path_factory.mktemp("network") / "small.onnx")


@pytest.fixture(scope="module")
def build(network: Path) -> Iterator[metronn.Build]:
    """Return a build of it, rung 1 alone run."""
    yield metronn.compile(network, calibrate=drawn(), verify=False, **SYSTEM)


def test_predictions_are_those_of_the_emulator_and_of_the_network(build: metronn.Build, network: Path) -> None:
    """Codes are those of the NumPy emulator, values are codes in steps, and keep the signal that a build promises."""
    x = drawn(50, 2)
    codes, _ = input_codes(build.graph, x, QuietLog())
    found = build.predict(x, codes=True)
    assert np.array_equal(found, answers(build.graph, codes, numpy=True)["scores"])
    values = build.predict({"x": x})
    output = build.graph.outputs[0]
    steps = np.ldexp(1.0, -build.graph.type_of(output.value).range.frac_array((3,)))
    assert np.array_equal(values, found * steps)
    real = run_reference(load_model(network), {"x": x})["scores"]
    assert 10 * np.log10((real**2).sum() / ((values - real) ** 2).sum()) > 20


def test_events_may_be_an_array_arrays_by_name_or_a_file(build: metronn.Build, tmp_path: Path) -> None:
    events = write_events(tmp_path / "events.npz")
    with np.load(events) as arrays:
        x = arrays["x"]
    one = build.predict(x)
    assert np.array_equal(one, build.predict({"x": x})) and np.array_equal(one, build.predict(str(events)))


def test_values_beyond_the_range_are_warned_of(build: metronn.Build) -> None:
    with pytest.warns(metronn.MetronnWarning, match="input x: 6 of 6 values are beyond their range"):
        build.predict(np.full((1, 6), 1e6))


def test_several_outputs_come_by_name(tmp_path: Path) -> None:
    file = write_network(tmp_path / "two.onnx")
    proto = onnx.load(str(file))
    proto.graph.output.append(onnx.helper.make_tensor_value_info("r", onnx.TensorProto.FLOAT, ["events", 8]))
    build = metronn.compile(proto, calibrate=drawn(), verify=False, **SYSTEM)
    found = build.predict(drawn(5))
    assert {name: array.shape for name, array in found.items()} == {"scores": (5, 3), "r": (5, 8)}


def test_a_live_network_is_kept_in_its_build(network: Path, tmp_path: Path) -> None:
    """A model in memory has no file of its own; the build has one, hashed, which load and save keep."""
    proto = onnx.load(str(network))
    build = metronn.compile(proto, calibrate=drawn(), verify=False, output=tmp_path / "build", **SYSTEM)
    assert build.name == "ModelProto" and build.folder == tmp_path / "build"
    assert (build.folder / "network" / "network.onnx").read_bytes() == proto.SerializeToString()
    assert "network/network.onnx" in build.manifest["files"]
    copy = build.save(tmp_path / "copy")
    assert copy.manifest == metronn.load(tmp_path / "copy").manifest == build.manifest
    with pytest.raises(metronn.ModelError, match="is not empty"):
        build.save(tmp_path / "copy")
    assert copy.save(tmp_path / "copy2", force=True).graph == build.graph


def test_a_build_without_a_folder_goes_with_its_object(network: Path) -> None:
    build = metronn.compile(network, calibrate=drawn(), verify=False, **SYSTEM)
    folder = build.folder
    assert folder.is_dir()
    del build
    gc.collect()
    assert not folder.exists()


def test_the_build_is_that_of_the_command_line(build: metronn.Build, network: Path, tmp_path: Path) -> None:
    """Same network, events and options: the same files, byte for byte."""
    np.savez(tmp_path / "events.npz", x=drawn())
    made = run("compile", network, "--calibrate", tmp_path / "events.npz", "--system", "one-serenity", "--ii", 4,
               "-o", tmp_path / "build", "--no-verify")  # fmt: skip
    assert made.status == 0
    assert json.loads((tmp_path / "build" / "manifest.json").read_text())["files"] == build.manifest["files"]


def test_labels_make_a_metric(network: Path) -> None:
    labels = np.random.default_rng(3).integers(0, 3, 200)
    build = metronn.compile(network, calibrate=drawn(), labels=labels, verify=False, tolerance=0.5, **SYSTEM)
    assert build.manifest["metric"]["name"] == "accuracy"


def test_metronn_toml_gives_options_and_keywords_count_more(network: Path, tmp_path: Path) -> None:
    (tmp_path / "metronn.toml").write_text('[plan]\nsystem = "two-serenity"\nii = 3\n[quantize]\nbits = 9\n')
    build = metronn.compile(network, calibrate=drawn(), options=tmp_path, verify=False, ii=5)
    assert (build.plan.ii_cycles, build.design.system.name) == (5, "two-serenity")


def test_tables_hold_what_has_no_name_of_its_own(network: Path) -> None:
    plain = metronn.compile(network, calibrate=drawn(), verify=False, **SYSTEM)
    quantize = {"layers": {"hidden": {"weight_bits": 7}}}
    other = metronn.compile(network, calibrate=drawn(), verify=False, quantize=quantize, **SYSTEM)
    assert other.graph != plain.graph


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"iii": 3}, "unknown option 'iii'; did you mean 'ii'\\?"),
        ({"ii": 0}, "^ii: must be a whole number from 1 to 65536, found 0$"),
        ({"ii": np.int64(-2)}, "^ii: must be a whole number from 1 to 65536, found -2$"),
        ({"bits": 99}, "^bits: must be 'auto' or a whole number from 2 to 32, found 99$"),
        ({"quantize": {"weigt_bits": 3}}, "unknown key 'quantize.weigt_bits'; did you mean 'weight_bits'\\?"),
        ({"quantize": 3}, "^quantize: must be a table of keys"),
        ({"calibrate": np.zeros((5, 4))}, "arrays: x: shape per event is \\(4,\\), allowed is \\(6,\\)"),
        ({"calibrate": "missing.npz"}, "missing.npz: no such file"),
        ({"calibrate": None}, "no calibration data"),
        ({"labels": np.zeros(7)}, "label: 7 labels for 200 events"),
        ({"system": "one-serenty"}, "unknown system 'one-serenty'; did you mean 'one-serenity'"),
        ({"system": None}, "no system"),
    ],
)
def test_wrong_requests_say_what_to_change(network: Path, given: dict[str, Any], message: str) -> None:
    with pytest.raises(metronn.ModelError, match=message):
        metronn.compile(network, **{"calibrate": drawn(), **SYSTEM, **given})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (3, "network: found a builtins.int; allowed are a path, a Keras"),
        ("missing.onnx", "missing.onnx: no such file"),
        (lambda x: x, "network: found a builtins.function"),
    ],
)
def test_what_is_no_network_is_refused(wrong: object, message: str) -> None:
    with pytest.raises(metronn.ModelError, match=message):
        metronn.compile(wrong, calibrate=drawn(), **SYSTEM)


def test_a_model_that_keras_cannot_write_is_refused_in_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keras raises NotImplementedError for a class whose arguments it does not know how to write."""
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    keras = pytest.importorskip("keras")

    class Units:
        number = 3

    class Odd(keras.Model):  # type: ignore[misc, name-defined]
        def __init__(self, units: Units) -> None:
            super().__init__()
            self.dense = keras.layers.Dense(units.number)

        def call(self, x: Any) -> Any:
            return self.dense(x)

    model = Odd(Units())
    model(np.zeros((2, 6)))
    with pytest.raises(metronn.ModelError, match=r"^network: Keras cannot save it: .*implement `get_config\(\)`\.$"):
        metronn.compile(model, calibrate=drawn(), **SYSTEM)


def test_a_bad_build_is_raised_with_the_build(network: Path) -> None:
    """Two bits keep nothing of this network: rung 1 fails, and its build is there to find out why."""
    with pytest.raises(metronn.VerificationError, match="the verification failed") as raised, warnings.catch_warnings():
        warnings.simplefilter("ignore", metronn.MetronnWarning)
        metronn.compile(network, calibrate=drawn(), verify=False, bits=2, **SYSTEM)
    build = raised.value.build
    assert [verdict.rung for verdict in build.verdicts.failed] == [1]
    assert build.predict(drawn(3)).shape == (3, 3)


def test_a_trace_names_layers_and_is_in_the_networks_units(build: metronn.Build, network: Path) -> None:
    x = drawn(40, 4)
    trace = build.trace(x, model=network)
    assert {tensor.layer for tensor in trace.tensors} >= {"relu", "last"}
    scores = trace["scores"]
    assert np.array_equal(scores.fixed, build.predict(x))
    assert np.array_equal(scores.floating, run_reference(load_model(network), {"x": x})["scores"])
    assert scores.sqnr_db is not None and scores.sqnr_db > 20
    assert "<table" in trace._repr_html_() and "40 events" in trace._repr_html_()


def test_a_profile_has_weights_activations_and_a_picture(build: metronn.Build, network: Path) -> None:
    profile = build.profile(drawn(40, 4), model=network)
    assert profile.events == 40 and len(profile.tensors) > 3
    assert "<svg" in profile._repr_html_() and "<table" in profile._repr_html_()


def test_without_the_network_there_is_no_trace(
    build: metronn.Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(metronn.ModelError, match="the model file was not found"):
        build.trace(drawn(4))


def test_rungs_that_were_not_run_are_told(build: metronn.Build) -> None:
    assert not build.verdicts.passed
    assert build.verdicts.words == "1 pass, 5 not run"
    with pytest.raises(metronn.ModelError, match="rungs: found 7, allowed are 1, 2, 3, 4, 5, 6"):
        build.verify([7])
    with pytest.raises(metronn.VerificationError, match="rungs 3, 4, 5, 6 are required and not run"):
        build.verify([2], strict=True)
    assert [verdict.status for verdict in metronn.load(build.folder).verdicts][:2] == [metronn.Status.PASS] * 2


@pytest.mark.slow
def test_every_rung_passes_and_the_report_says_so(network: Path, tmp_path: Path) -> None:
    build = metronn.compile(network, calibrate=drawn(), output=tmp_path / "build", strict=True, **SYSTEM)
    assert build.verdicts.passed and [verdict.rung for verdict in build.verdicts] == [1, 2, 3, 4, 5, *[6] * 6]
    timed = build.verdicts[4]
    assert timed.cycles_observed_min == timed.cycles_observed_max == timed.cycles_promised == build.plan.latency_cycles
    assert "11 of 11" in build.report().html


def test_a_changed_build_is_not_opened(network: Path, tmp_path: Path) -> None:
    build = metronn.compile(network, calibrate=drawn(), verify=False, output=tmp_path / "build", **SYSTEM)
    (build.folder / "fpga0.sv").write_text("")
    with pytest.raises(metronn.MismatchError, match="is not as it was compiled"):
        build.verify([1])
    (build.folder / "graph.txt").write_text("metronn graph 1\n")
    with pytest.raises(metronn.MismatchError, match=r"graph\.txt: is not as it was compiled"):
        metronn.load(build.folder)
    with pytest.raises(metronn.ModelError, match="no such folder"):
        metronn.load(tmp_path / "none")


def test_what_a_notebook_shows(build: metronn.Build) -> None:
    assert repr(build).startswith("<Build small: ") and "one-serenity" in repr(build)
    assert "where the cycles go" in str(build.plan)
    for shown in (build, build.plan, build.verdicts, build.report()):
        html = shown._repr_html_()
        assert html.count("<table") == html.count("</table>")
        assert "<table" in html or "<iframe" in html
    assert set(build.plan.resources) == {fpga.name for fpga in build.design.fpgas}


def test_keywords_are_in_the_signature_and_the_documentation() -> None:
    parameters = inspect.signature(metronn.compile).parameters
    assert {"calibrate", "system", "ii", "bits", "max_latency_ns", "quantize", "plan"} <= set(parameters)
    assert "max_latency_ns: The promised latency must not exceed this." in (metronn.compile.__doc__ or "")


def test_public_names_are_there() -> None:
    assert all(getattr(metronn, name) is not None for name in metronn.__all__)
    assert set(metronn.__all__) <= set(dir(metronn))
    with pytest.raises(AttributeError, match="has no attribute 'compilee'"):
        metronn.compilee  # noqa: B018


def test_the_log_is_that_of_the_logger(network: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="metronn"):
        metronn.compile(network, calibrate=drawn(), verify=False, **SYSTEM)
    assert any(line.startswith("plan: 1 FPGA of one-serenity, latency ") for line in caplog.messages)
