"""Reading events: every kind of file, and every problem by its message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metronn.errors import ModelError, ToolError
from metronn.events import sources
from metronn.events.data import Events, load_events

X = np.arange(12.0).reshape(4, 3)
INPUTS = {"hits": (3,)}


def npz(folder: Path, **arrays: Any) -> Path:
    """Write arrays to a file and return it."""
    path = folder / "events.npz"
    np.savez(path, **arrays)
    return path


def message(path: Path | str, inputs: dict[str, tuple[int, ...]] | None = None, **options: Any) -> list[str]:
    """Return the lines of the error, each without the file's name."""
    with pytest.raises(ModelError) as error:
        load_events(path, inputs or INPUTS, **options)
    return [line.removeprefix(f"{path}: ") for line in error.value.message.splitlines()]


def holds_x(events: Events) -> None:
    """Assert that the events are X."""
    assert events.inputs["hits"].tolist() == X.tolist()
    assert events.inputs["hits"].dtype == np.float64
    assert events.count == 4


def test_npz_with_labels_and_extra_arrays(tmp_path: Path) -> None:
    events = load_events(npz(tmp_path, hits=X, label=[0, 1, 1, 0], pt=np.ones(4), unrelated=np.ones(7)), INPUTS)
    holds_x(events)
    assert events.labels is not None
    assert events.labels.tolist() == [0, 1, 1, 0]
    assert set(events.extra) == {"pt"}
    assert set(events.arrays()) == {"pt", "label"}


def test_labels_of_another_name(tmp_path: Path) -> None:
    events = load_events(npz(tmp_path, hits=X, truth=[0, 1, 1, 0]), INPUTS, label="truth")
    assert events.labels is not None
    assert events.extra == {}


def test_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X.astype(np.float32))
    holds_x(load_events(tmp_path / "x.npy", INPUTS))


def test_hdf5_with_groups(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["hits"] = X
        file["truth/label"] = [1, 0, 0, 1]
    events = load_events(tmp_path / "x.h5", INPUTS, label="truth/label")
    holds_x(events)
    assert events.labels is not None


def test_root_with_fixed_arrays_and_with_columns(tmp_path: Path) -> None:
    uproot = pytest.importorskip("uproot")
    path = tmp_path / "x.root"
    with uproot.recreate(path) as file:
        file["events"] = {"hits": X, "a": X[:, 0], "b": X[:, 1], "c": X[:, 2], "label": np.array([0, 1, 0, 1])}
    holds_x(load_events(path, INPUTS))
    columns = {"hits": ["a", "b", "c"]}
    events = load_events(f"{path}:events", INPUTS, columns=columns)
    holds_x(events)
    assert events.labels is not None
    with pytest.raises(ModelError, match="there is no tree other; found events: name one as x.root:events"):
        load_events(f"{path}:other", INPUTS)


def test_root_with_two_trees_asks_which(tmp_path: Path) -> None:
    uproot = pytest.importorskip("uproot")
    path = tmp_path / "x.root"
    with uproot.recreate(path) as file:
        file["one"] = {"hits": X}
        file["two"] = {"hits": X}
    with pytest.raises(ModelError, match="it has 2 trees; found one, two: name one as x.root:one"):
        load_events(path, INPUTS)
    holds_x(load_events(f"{path}:two", INPUTS))


def test_flat_arrays_take_the_shape_of_the_input(tmp_path: Path) -> None:
    events = load_events(npz(tmp_path, image=np.arange(24).reshape(2, 12)), {"image": (3, 4, 1)})
    assert events.inputs["image"].shape == (2, 3, 4, 1)


def test_images_with_their_axes_in_another_order_are_refused(tmp_path: Path) -> None:
    images = np.arange(4 * 6 * 5 * 2.0).reshape(4, 6, 5, 2)
    assert message(npz(tmp_path, x=images), {"x": (2, 6, 5)}) == [
        "x: shape per event is (6, 5, 2), allowed is (2, 6, 5) or (60,); transpose the axes of each event to (2, 0, 1)"
    ]
    assert message(npz(tmp_path, x=images), {"x": (5, 6, 2)}) == [
        "x: shape per event is (6, 5, 2), allowed is (5, 6, 2) or (60,)"
    ]
    one = load_events(npz(tmp_path, x=images[..., 0]), {"x": (1, 6, 5)})
    assert (one.inputs["x"] == images[..., 0].reshape(4, 1, 6, 5)).all()


def test_the_one_array_that_fits_feeds_the_one_input(tmp_path: Path) -> None:
    holds_x(load_events(npz(tmp_path, features=X, y=np.ones((4, 2)), label=np.ones((4, 3))), INPUTS))


def test_x_is_the_input_when_several_fit(tmp_path: Path) -> None:
    holds_x(load_events(npz(tmp_path, x=X, y=X + 1), INPUTS))
    (line,) = message(npz(tmp_path, a=X, b=X + 1))
    assert line == "input hits: not found; the file holds a (4, 3), b (4, 3)"


def test_every_missing_input_is_named(tmp_path: Path) -> None:
    lines = message(npz(tmp_path, z=X), {"a": (3,), "b": (2,)})
    assert lines == [f"input {name}: not found; the file holds z (4, 3)" for name in "ab"]


def test_every_problem_is_reported(tmp_path: Path) -> None:
    bad = X.copy()
    bad[1, 0], bad[2, 1] = np.nan, np.inf
    path = npz(tmp_path, a=bad, b=np.array([["u"], ["v"]]), c=np.ones((4, 5)), label=[1, 2])
    assert message(path, {"a": (3,), "b": (1,), "c": (2, 2), "d": (1,)}) == [
        "a: 2 values are NaN or infinite, the first in event 1",
        "b: values are <U1, allowed are numbers",
        "c: shape per event is (5,), allowed is (2, 2) or (4,)",
        "input d: not found; the file holds a (4, 3), b (2, 1), c (4, 5), label (2,)",
    ]


@pytest.mark.parametrize(
    ("arrays", "expected"),
    [
        ({"hits": np.zeros((0, 3))}, "hits: no events; at least one is needed"),
        ({"hits": np.float64(1)}, "hits: no events; at least one is needed"),
        ({"hits": X, "label": [1, 2]}, "label: 2 labels for 4 events"),
        ({"hits": X, "label": [1.0, np.nan, 0, np.nan]}, "label: 2 labels are NaN or infinite, the first in event 1"),
        ({"hits": X, "label": list("abcd")}, "label: labels are <U1 of shape (4,), allowed is a number for each event"),
        ({"hits": X.astype(complex)}, "hits: values are complex128, allowed are numbers"),
    ],
)
def test_bad_contents(tmp_path: Path, arrays: dict[str, Any], expected: str) -> None:
    assert message(npz(tmp_path, **arrays)) == [expected]


def test_inputs_of_different_lengths(tmp_path: Path) -> None:
    lines = message(npz(tmp_path, a=X, b=X[:2]), {"a": (3,), "b": (3,)})
    assert lines == ["the inputs have different numbers of events: a has 4, b has 2"]


def test_columns_that_do_not_fit(tmp_path: Path) -> None:
    path = npz(tmp_path, a=X[:, 0], b=X[:2, 1])
    assert message(path, columns={"hits": ["a", "q"], "other": ["a"]}) == [
        "columns: other is no input of the model; inputs are hits",
        "q for input hits: not found; the file holds a (4,), b (2,)",
    ]
    assert message(path, columns={"hits": ["a", "b"]}) == [
        "input hits: its columns have different numbers of events: a has 4, b has 2"
    ]
    assert message(path, columns={"hits": ["a", "a"]}) == [
        "input hits from a, a: shape per event is (2,), allowed is (3,) or (3,)"
    ]


@pytest.mark.parametrize("suffix", [".npz", ".npy", ".h5", ".root"])
def test_corrupt_files(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x{suffix}"
    for content in (b"not what it says", b""):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="cannot be read as"):
            load_events(path, INPUTS)


def test_truncated_npz(tmp_path: Path) -> None:
    path = npz(tmp_path, hits=np.ones((1000, 3)))
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(ModelError, match="cannot be read"):
        load_events(path, INPUTS)


def test_pickles_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="array hits cannot be read: Object arrays cannot be loaded"):
        load_events(npz(tmp_path, hits=np.array([{}, 1], dtype=object)), INPUTS)


def test_missing_file_and_unknown_kind(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="x.npz: no such file"):
        load_events(tmp_path / "x.npz", INPUTS)
    with pytest.raises(ModelError, match="unknown kind of event file '.csv', allowed are .npz, .npy, .h5, .hdf5, .roo"):
        load_events(tmp_path / "x.csv", INPUTS)


def test_a_missing_library_is_a_missing_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ImportError(name)

    (tmp_path / "x.root").write_bytes(b"root")
    monkeypatch.setattr(sources.importlib, "import_module", missing)
    with pytest.raises(ToolError, match="reading it needs uproot, which is not installed"):
        load_events(tmp_path / "x.root", INPUTS)


NAMES = {"a_0": "a:0", "a_0_2": "a_0"}
TWO = {"a_0": (3,), "a_0_2": (3,)}


@pytest.mark.parametrize("names", [("a:0", "a_0"), ("a_0", "a_0_2"), ("a:0", "a_0_2")])
def test_arrays_go_by_the_names_of_the_model_or_of_the_firmware(names: tuple[str, str], tmp_path: Path) -> None:
    first, second = names
    path = npz(tmp_path, **{first: X, second: -X})
    events = load_events(path, TWO, model_names=NAMES)
    assert (events.inputs["a_0"] == X).all() and (events.inputs["a_0_2"] == -X).all()


def test_columns_and_errors_go_by_the_names_of_the_model(tmp_path: Path) -> None:
    path = npz(tmp_path, p=X[:, 0], q=X[:, 1:], a_0=-X)
    events = load_events(path, TWO, model_names=NAMES, columns={"a:0": ["p", "q"]})
    assert (events.inputs["a_0"] == X).all() and (events.inputs["a_0_2"] == -X).all()
    (line,) = message(path, TWO, model_names=NAMES)
    assert line.startswith("input a:0 (a_0 in the firmware): not found; the file holds a_0 (4, 3), p (4,)")
