"""Random command lines of every verb, in a folder with good and broken files, and what no run of them may do."""

from __future__ import annotations

import enum
import functools
import hashlib
import json
import os
import re
import shutil
import signal
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, get_args, get_type_hints

import h5py
import numpy as np
import typer
from hypothesis import strategies as st

from command_line import metronn
from metronn.cli.app import VERBS, app, load
from metronn.cli.console import plain_message
from small_network import write_events, write_network

SECONDS = 120
"""A run that takes longer hangs."""
CONFIGURATION = """
[model]
file = "small.onnx"
[data]
calibrate = "events.npz"
[plan]
system = "one-serenity"
[build]
directory = "made"
"""
WIDTHS = '[quantize.layers]\n"hidden" = {weight_bits = 6, activation_bits = 7}\n'
HLS4ML = '{"HLSConfig": {"Model": {"Precision": "ap_fixed<16,6>", "ReuseFactor": 1, "Strategy": "Latency"}}}'
METRICS = {
    "good.py": "def metric(outputs, arrays):\n    return 0.5\n",
    "raises.py": "def metric(outputs, arrays):\n    raise KeyError('x')\n",
    "text.py": "def metric(outputs, arrays):\n    return 'good'\n",
    "syntax.py": "def metric(:\n",
    "exits.py": "raise ValueError('no')\n",
}
PICTURE = b"\x89PNG\r\n\x1a\n" + b"\0" * 40


def furnish(folder: Path) -> None:
    """Write one file of every kind that verbs read, and a build."""
    network = write_network(folder / "small.onnx")
    write_events(folder / "events.npz")
    write_events(folder / "wide.npz", inputs=7)
    with np.load(folder / "events.npz") as arrays:
        np.save(folder / "events.npy", arrays["x"])
        with h5py.File(folder / "events.h5", "w") as file:
            file["x"] = arrays["x"]
    texts = {
        "metronn.toml": CONFIGURATION,
        "widths.toml": WIDTHS,
        "hls4ml.json": HLS4ML,
        "empty.onnx": "",
        "x.root": "x",
    }
    texts |= {"model.json": '{"class_name": "Sequential", "config": {"layers": []}}', "notes.txt": "notes\n", **METRICS}
    for name, text in texts.items():
        (folder / name).write_text(text)
    (folder / "plot.png").write_bytes(PICTURE)
    shutil.copyfile(network, folder / "renamed.keras")
    shutil.copyfile(network, folder / "renamed.h5")
    for name in ("folder", "folder.onnx", "folder.npz", "folder.toml"):
        (folder / name).mkdir()
    (folder / "loop.onnx").symlink_to("loop.onnx")
    system = (Path(__file__).parents[2] / "boards" / "systems" / "two-serenity.toml").read_text()
    (folder / "system.toml").write_text(system)
    command = ["compile", str(network), "--calibrate", str(folder / "events.npz"), "--system", "one-serenity"]
    ran = metronn(*command, "-o", folder / "build", "--no-verify")
    assert ran.status == 0, ran.err
    shutil.copyfile(folder / "build" / "graph.txt", folder / "graph.txt")
    assert metronn("boards").status == 0


NUMBERS = ("-1", "0", "1", "2", "3", "4", "8", "16", "33", "-7", "1.5", "1e-300", "1e300", "1" * 30, "-" + "9" * 25,
    "nan",
           "inf", "-inf", "0x10", "1_0", "١", "²", "", " ", "1,2", "2,x", "²,4", "nine")  # fmt: skip
ODD = ("", " ", "x", "-", "--", ".", "..", "/", "~", "*", "[", "a\nb", "\x1b[31m", "\t", "é", "\u202e", "\udcff",
    "x" * 300,
       "/" * 300, "%s", "{}", "none", "auto", "accuracy", "auc", "label", "y", "full", "hidden",
    "tcp://127.0.0.1:1")  # fmt: skip
METRIC_NAMES = tuple(f"{name}:metric" for name in METRICS) + ("good.py:other", "none.py:metric", "good.py:", ":metric")
FILES = (
    "small.onnx", "events.npz", "wide.npz", "events.npy", "events.h5", "metronn.toml", "widths.toml", "hls4ml.json",
    "empty.onnx", "x.root", "x.root:tree", "model.json", "notes.txt", "plot.png", "renamed.keras", "renamed.h5",
    "folder",
    "folder.onnx", "folder.npz", "folder.toml", "loop.onnx", "system.toml", "build", "build/graph.txt", "graph.txt",
    "build/manifest.json", "missing", "missing.onnx", "missing.npz", "missing.toml", "notes.txt/x.npz", "no/such/x.npz",
    "out.npz", "out.txt", "out.keras", "out.toml", "new", "one-serenity", "two-serenity", "one-serenety", "/proc/x.npz",
)  # fmt: skip
RIGHT = {
    "target": ("small.onnx", "small.onnx", ".", "metronn.toml"), "targets": ("small.onnx", "metronn.toml"),
    "model": ("small.onnx",),
    "build": ("build",), "events": ("events.npz", "events.npy", "events.h5"), "graph": ("graph.txt", "build/graph.txt"),
    "calibrate": ("events.npz",), "verify_data": ("events.npz",), "data": ("events.npz",),
    "validation": ("events.npz",),
    "system": ("one-serenity", "two-serenity", "system.toml"), "widths": ("widths.toml",), "pictures": ("plot.png",),
    "hls4ml_config": ("hls4ml.json",), "output": ("out.npz", "out.txt", "new"), "directory": ("new", "made"),
    "prefix": ("a", "b_1"),
    "dump_ir": ("stages", "new"), "metric": (*METRIC_NAMES, "none",
    "auto"),
    "label": ("label",), "report": ("out.json",), "ii": ("1", "4", "9"), "jobs": ("1",), "epochs": ("0", "1"),
    "reference": ("small.onnx",), "bits": ("8", "4,6"), "max_evaluations": ("50",), "clock_mhz": ("200",),
    "fpgas": ("1",), "max_latency_ns": ("5000",), "rung": ("1",), "tolerance": ("0.5",), "validation_share": ("0.2",),
    "input_lanes": ("4",), "output_lanes": ("4",), "fold": ("full", "latency"), "narrowest": ("4",), "widest": ("8",),
    "systems": ("one-serenity", "one-serenity,system.toml"),
}  # fmt: skip
"""Values that are right, by the name of the parameter, so that draws get past the first check."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """An option or argument of a verb."""

    name: str
    flags: tuple[str, ...]
    is_flag: bool
    choices: tuple[str, ...]
    required: bool
    kind: str


def choices_of(hint: Any) -> tuple[str, ...]:
    """Return the values of an enumeration in the type of a parameter."""
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return tuple(str(one.value) for one in hint)
    return tuple(value for inner in get_args(hint) for value in choices_of(inner))


def kind_of(hint: Any) -> str:
    """Return the name of the first type in the type of a parameter."""
    return hint.__name__ if isinstance(hint, type) else kind_of(get_args(hint)[0])


@functools.cache
def parameters() -> dict[str, list[Parameter]]:
    """Return the parameters of every verb as the command line has them."""
    commands: Any = typer.main.get_command(app)
    found = {}
    for verb in VERBS:
        hints = get_type_hints(load(VERBS[verb]), include_extras=True)
        found[verb] = [
            Parameter(
                str(one.name),
                tuple(flag for flag in (*one.opts, *one.secondary_opts) if flag.startswith("-")),
                bool(getattr(one, "is_flag", False)),
                choices_of(hints[str(one.name)]),
                bool(one.required),
                kind_of(hints[str(one.name)]),
            )
            for one in commands.commands[verb].params
        ]
    return found


WRONG = (
    st.sampled_from(NUMBERS)
    | st.sampled_from(ODD)
    | st.sampled_from(FILES)
    | st.text(st.characters(exclude_characters="\0"), max_size=6)
)
"""Wrong values of every kind; for some parameters they are right."""


def right_for(parameter: Parameter) -> tuple[str, ...]:
    """Return values that are right, most of them."""
    by_kind = {"int": ("4", "5", "8"), "float": ("0.1", "0.5", "1"), "Path": FILES[:20]}
    right = RIGHT.get(parameter.name, ())
    if parameter.kind in ("int", "float"):
        right = tuple(value for value in right if re.fullmatch("[0-9.]+", value))
    return parameter.choices or right or by_kind.get(parameter.kind, ("x", "hidden"))


HARM = ("delete", "empty", "cut", "garble", "folder", "json", "text", "zeros")
"""What is done to a file of the folder before the run."""


@dataclass(frozen=True, slots=True)
class Draw:
    """A command line, and what is done to files before: (file by position, harm, hash in the manifest set right)."""

    arguments: tuple[str, ...]
    harms: tuple[tuple[int, str, bool], ...] = ()


@st.composite
def draws(draw: st.DrawFn, verbs: tuple[str, ...] = tuple(VERBS)) -> Draw:
    """Draw a command line: needed parameters mostly, others now and then, an odd word at times."""
    verb = draw(st.sampled_from(verbs))
    harming = draw(st.sampled_from((0, 0, 1, 1, 1, 2)))
    most_wrong = draw(st.sampled_from((0, 0, 0, 1) if harming else (0, 1, 1, 1, 2, 4)))
    words: list[str] = []
    for one in draw(st.permutations(parameters()[verb])):
        wanted = draw(st.integers(0, 19)) < (19 if one.required or not one.flags else 2 if most_wrong else 1)
        if one.name in ("calibrate", "system", "output") and not wanted:
            wanted = draw(st.integers(0, 9)) > 0
        if not wanted or one.name == "clear_it":
            continue
        if one.is_flag:
            words.append(draw(st.sampled_from(one.flags)))
            continue
        wrong = most_wrong > 0 and draw(st.booleans())
        most_wrong -= wrong
        value = draw(WRONG if wrong else st.sampled_from(right_for(one)))
        if one.flags:
            flag = draw(st.sampled_from(one.flags))
            words += [f"{flag}={value}"] if draw(st.booleans()) and flag.startswith("--") else [flag, value]
        else:
            words.append(value)
    if verb == "compile" and "--no-verify" not in words and draw(st.integers(0, 3)):
        words.append("--no-verify")
    if most_wrong > 0 and draw(st.integers(0, 3)) == 0:
        odd = st.sampled_from((*ODD, "--nope", "--ii=", "-o", "--help", "--version", *VERBS))
        words.insert(draw(st.integers(0, len(words))), draw(odd))
    places = st.tuples(st.integers(0, 1 << 16), st.sampled_from(HARM), st.booleans())
    harms = draw(st.lists(places, min_size=harming, max_size=harming))
    return Draw((verb, *words), tuple(harms))


READ = ("manifest.json", "graph.txt", "plan.json", "events.npz", "reference.npz", "reference.json", "exact.json")
"""Files of a build that verbs read."""


def harmed(folder: Path, words: tuple[str, ...], position: int, harm: str, mended: bool) -> None:
    """Damage a file that a command line names, or a file of the build, whose manifest may be told."""
    named = [folder / word.rpartition("=")[2] for word in words if "\0" not in word]
    named += [folder / "small.onnx", folder / "events.npz"] if "metronn.toml" in words or "." in words else []
    named = sorted(path for path in set(named) if len(str(path)) < 200 and path.is_file() and folder in path.parents)
    deep = sorted(path for path in (folder / "build").rglob("*") if path.is_file())
    of_build = [path for path in deep if path.name in READ] if position % 4 else deep
    places = [*named, *of_build] if "build" in words else named
    if not places:
        return
    path = places[position // 4 % len(places)]
    content = path.read_bytes()
    if harm == "json" and path.suffix == ".json":
        content = altered_json(content, position)
    elif harm == "text":
        lines = content.split(b"\n")
        del lines[position % len(lines)]
        content = b"\n".join(lines)
    elif harm == "garble":
        at = position * 7919 % max(1, len(content))
        content = content[:at] + bytes([content[at] ^ 0x41]) + content[at + 1 :] if content else b"A"
    elif harm == "cut":
        content = content[: position * 7919 % max(1, len(content))]
    elif harm in ("empty", "zeros"):
        content = b"" if harm == "empty" else b"\0" * 64
    path.unlink()
    if harm == "folder":
        path.mkdir()
    elif harm != "delete":
        path.write_bytes(content)
    manifest = folder / "build" / "manifest.json"
    if mended and path.is_file() and manifest.is_file() and path.is_relative_to(folder / "build") and path != manifest:
        try:
            told = json.loads(manifest.read_text())
            told["files"][path.relative_to(folder / "build").as_posix()] = hashlib.sha256(content).hexdigest()
        except (ValueError, KeyError, TypeError):
            return
        manifest.write_text(json.dumps(told))


def altered_json(content: bytes, position: int) -> bytes:
    """Change one value of a JSON document into one of another kind, or leave its key out."""
    try:
        data = json.loads(content)
    except ValueError:
        return content
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
            places.append((node, key))
            if len(places) < 4000:
                walk(node[key])

    walk(data)
    if not places:
        return content
    node, key = places[position * 7919 % len(places)]
    other = (None, -1, 1e308, "x", [], {}, True, [[1]], {"x": 1}, "\0", 10**30)[position % 11]
    if isinstance(node, dict) and position % 4 == 0:
        del node[key]
    else:
        node[key] = other
    return json.dumps(data).encode()


@contextmanager
def deadline(seconds: int) -> Iterator[None]:
    """Fail where a run hangs."""

    def late(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"takes longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


TOOLS = re.compile(
    r"not run|not installed|cannot be installed|no scheduler answers|needs .* installed|is not on PATH|--dask|"
    r"framework-python|Python interpreter|framework"
)
"""Words of a message about a tool: status 3."""
PLACE = re.compile(
    r"--?[a-z]|\[(quantize|plan|model|data|verify|build|report)|key '|(quantize|plan|model|data|verify|build)\.[a-z]|"
    r"'[A-Z\[]|Got unexpected extra|No such command|Missing command|system |[A-Z]+\b.*argument|metronn\.toml"
)
"""What names a place: an option, an argument, a key."""


def names_a_place(err: str, words: tuple[str, ...], names: set[str]) -> bool:
    """Tell whether an error names an option, an argument, a key, or a file that was given or is in the folder."""
    said = [line for line in err.splitlines() if not re.match(r"\[ *[0-9.]+ s\]", line)]
    text = "\n".join(said)
    parts = {part for word in words for part in (word, word.partition("=")[2]) if part}
    given = {plain_message(part, [part]) for word in parts for part in (word, str(Path(word)))}
    return bool(PLACE.search(text)) or any(word in text for word in given | names)


def check(arguments: tuple[str, ...], folder: Path, names: Collection[str] = ()) -> tuple[int, str]:
    """Run a command line in a folder; return its status and what it wrote on stderr.

    No traceback, status 0, 1 or 2 (3 where the message is about a tool), an error that names its place (an option,
    a key, a file of the folder or one of `names`), one JSON document with --json.
    """
    before = Path.cwd()
    os.chdir(folder)
    known = {path.name for path in folder.iterdir()} | {"manifest.json", "graph.txt", "plan.json", *names}
    try:
        with deadline(SECONDS):
            status, out, err = metronn(*arguments)
    finally:
        os.chdir(before)
    assert "Traceback" not in out
    if status == 3:
        assert TOOLS.search(err), err
    else:
        assert status in (0, 1, 2), err
    if status:
        assert re.search(r"^(error|Error): .", err, re.MULTILINE), err
    if status == 2:
        assert names_a_place(err, arguments[1:], known), err
        if "--json" not in arguments:
            assert out == "", out
    if "--json" in arguments and "--help" not in arguments and "--version" not in arguments and out:
        json.loads(out)
    return status, err
