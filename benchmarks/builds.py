"""Are the builds of two revisions the same, byte for byte, and made as fast?

    python benchmarks/builds.py make DIR [--checkout PATH] [--networks PATTERN ...]
    python benchmarks/builds.py compare BEFORE AFTER [--json]

`make` compiles, with the code of a checkout (this one unless told), the networks of ../shared/models and of examples/
whose files are there and some generated ones of ptq_networks.py, each in a process of its own and without the rungs 2
to 5, into DIR/NETWORK/VARIANT. It keeps what it finds there, so that it can be interrupted; DIR/results.json holds the
revision, the time and what became of each. A network that is refused counts too: its messages have to be the same.

`compare` names every file that differs with its first differing line, and the processor seconds of both. It ends with
status 1 where anything differs. Builds are the same where all files are, but for what states the version and for what
lists hashes of other files; caches are not shared between checkouts, so nothing is the same because it was kept.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from exactness import NETWORKS as QUANTIZED
from metronn.errors import MetronnError
from metronn.frontends import load_model
from metronn.report.tables import table_text
from ptq_files import EXAMPLES, MODELS, ROOT, SHARED, TRAINED, MissingError, example_events
from ptq_networks import GENERATED

EVENTS = 300
SEED = 7
GENERATED_STEP = 6
"""Every so manieth generated network is built."""
LONGEST_S = 1200
RESULTS = "results.json"
VARIANTS: Mapping[str, Sequence[str]] = {
    "one": ("--system", "one-large-virtual"),
    "ii1": ("--system", "one-large-virtual", "--ii", "1"),
    "two": ("--system", "two-serenity", "--fpgas", "2"),
    "slow": ("--system", "one-vcu118", "--ii", "72"),
    "small": ("--system", "one-pynq-z2", "--ii", "100"),
    "stream": ("--system", "one-large-virtual", "--ii", "1600", "--inputs", "stream"),
}
"""Options by name."""
IMAGES = (
    "mnist8_onnx",
    "str_ww_ref_model",
    "qkeras_mnist_cnn",
    "ic_RN06",
    "jet_images",
    "digits_*",
    "jetTagger_Conv2D_*",
)
"""Built as `stream`; all others as `one`."""
MORE: Mapping[str, Sequence[str]] = {
    "KERAS_3layer": ("ii1", "two", "slow", "small"),
    "KERAS_conv1d_small": ("two", "stream"),
    "qkeras_3layer": ("ii1", "two", "slow"),
    "hgq2_jsc_openml_7229": ("ii1",),
    "own_omtf_mlp": ("two", "slow"),
}
"""Networks that are built in other ways too."""
UNSTABLE = ("tool_version", "files", "file", "digest")
"""Keys of a manifest that name the version, hashes of other files, or the place of the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A network, the options it is compiled with, and where its model and its events are."""

    network: str
    variant: str
    options: tuple[str, ...]

    @property
    def name(self) -> str:
        """The folder of the build."""
        return f"{self.network}/{self.variant}"


def builds(folder: Path) -> Iterator[Build]:
    """Write what the compilations read into DIR/inputs and yield them; networks that are not there are left out."""
    for network, path in models(folder / "inputs"):
        events = folder / "inputs" / f"{network}.npz"
        if not events.is_file():
            try:
                np.savez(events, **dict(calibration(network, path)))
            except (MissingError, MetronnError) as error:
                print(f"{network}: {str(error).splitlines()[0]}", file=sys.stderr)
        if network in TRAINED:
            continue  # built with the options of its own TOML files, below
        given = ("--calibrate", str(events)) if events.is_file() else ()
        image = any(fnmatch.fnmatchcase(network, pattern) for pattern in IMAGES)
        for variant in ("stream" if image else "one", *MORE.get(network, ())):
            yield Build(network=network, variant=variant, options=(str(path), *given, *VARIANTS[variant]))
    for config in sorted(EXAMPLES.glob("*/*.toml")):
        if "[model]" in config.read_text(encoding="utf-8") and config.parent.name in TRAINED:
            path, name = config.parent / "model.keras", config.parent.name
            events = folder / "inputs" / f"{name}.npz"
            if path.is_file() and events.is_file():
                given = ("--calibrate", str(events), "--verify-data", str(events))
                yield Build(network=name, variant=config.stem, options=(str(config), *given))


def models(inputs: Path) -> Iterator[tuple[str, Path]]:
    """Yield name and file of every network that is there."""
    inputs.mkdir(parents=True, exist_ok=True)
    files = {**SHARED, **{name: file for name, (_, file) in QUANTIZED.items()}}
    for name, file in sorted(files.items()):
        if (MODELS / name / file).is_file():
            yield name, MODELS / name / file
    for name in sorted(TRAINED):
        if (EXAMPLES / name / "model.keras").is_file():
            yield name, EXAMPLES / name / "model.keras"
    for entry in GENERATED[::GENERATED_STEP]:
        place = inputs / entry.name
        place.mkdir(exist_ok=True)
        made = entry.make(place, SEED)
        np.savez(inputs / f"{entry.name}.npz", **made.calibration.first(EVENTS).inputs)
        yield entry.name, made.path


def calibration(network: str, path: Path) -> Mapping[str, Any]:
    """Return events by input name: the network's own, or those its example makes."""
    if network in TRAINED:
        return {name: values[:EVENTS] for name, values in example_events(network, SEED)[0].items()}
    names = [node.name for node in load_model(path).inputs]
    with np.load(MODELS / network / "data.npz") as data:
        keys = ["x"] if len(names) == 1 else [f"x{k}" for k in range(len(names))]
        return {name: data[key][:EVENTS] for name, key in zip(names, keys, strict=True)}


def make(folder: Path, checkout: Path, patterns: Sequence[str]) -> None:
    """Compile what is not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    store = folder / RESULTS
    results = json.loads(store.read_text(encoding="utf-8")) if store.is_file() else {}
    results["revision"] = revision(checkout)
    done = results.setdefault("builds", {})
    for build in builds(folder):
        if build.name in done or not any(fnmatch.fnmatchcase(build.network, pattern) for pattern in patterns):
            continue
        done[build.name] = compile_one(build, folder, checkout)
        print(f"{build.name}: status {done[build.name]['status']}, {done[build.name]['cpu_s']:.1f} s", flush=True)
        store.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def compile_one(build: Build, folder: Path, checkout: Path) -> dict[str, Any]:
    """Compile in a process of its own; the cache is that of the folder."""
    target = folder / build.name
    target.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "PYTHONPATH": str(checkout / "src"), "XDG_CACHE_HOME": str(folder / "cache")}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "metronn", "compile", *build.options, "-o", str(target), "--force", "--no-verify"]
    try:
        ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONGEST_S, check=False)
        status, said = ran.returncode, ran.stderr
    except subprocess.TimeoutExpired:
        status, said = -1, f"not done after {LONGEST_S} s"
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"status": status, "cpu_s": round(used, 2), "said": messages(said, folder)}


def messages(text: str, folder: Path) -> list[str]:
    """Return warnings and errors, without times and folders."""
    lines = [line.split("] ", 1)[-1] for line in text.splitlines()]
    return [line.replace(str(folder), "DIR") for line in lines if line.startswith(("warning:", "error:", "  "))]


def revision(checkout: Path) -> str:
    """Return the commit of a checkout, with `+` where files were changed."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(checkout), *arguments], capture_output=True, text=True, check=True
        ).stdout.strip()

    return git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--", "src") else "")


def stable(path: Path) -> bytes:
    """Return the content of a file, a manifest without what states its version."""
    content = path.read_bytes()
    if path.name != "manifest.json":
        return content
    manifest = json.loads(content)
    for key in UNSTABLE:
        manifest.pop(key, None)
        manifest.get("model", {}).pop(key, None)
    return json.dumps(manifest, indent=1, sort_keys=True).encode()


def difference(before: Path, after: Path) -> str:
    """Return the first line in which two files differ, shortened; nothing where they are the same."""
    a, b = stable(before), stable(after)
    if a == b:
        return ""
    pairs = enumerate(
        zip(a.decode(errors="replace").splitlines(), b.decode(errors="replace").splitlines(), strict=False)
    )
    for number, (left, right) in pairs:
        if left != right:
            return f"line {number + 1}: {left.strip()[:120]!r} became {right.strip()[:120]!r}"
    return f"{len(a):,} bytes became {len(b):,}"


def differences(before: Path, after: Path) -> dict[str, str]:
    """Return what differs between two builds, by file."""
    files = [{path.relative_to(f).as_posix() for path in f.rglob("*") if path.is_file()} for f in (before, after)]
    found = dict.fromkeys(files[0] - files[1], "gone") | dict.fromkeys(files[1] - files[0], "new")
    for name in files[0] & files[1] - {"report.html"}:
        if words := difference(before / name, after / name):
            found[name] = words
    return dict(sorted(found.items()))


def compare(before: Path, after: Path) -> dict[str, Any]:
    """Compare two folders of builds."""
    results = [json.loads((folder / RESULTS).read_text(encoding="utf-8")) for folder in (before, after)]
    ours, theirs = results[1]["builds"], results[0]["builds"]
    rows = {}
    for name in sorted(ours.keys() & theirs.keys()):
        said = {key: f"{theirs[name][key]!r:.300} became {ours[name][key]!r:.300}"
                for key in ("status", "said") if theirs[name][key] != ours[name][key]}  # fmt: skip
        files = {} if ours[name]["status"] in (2, -1) else differences(before / name, after / name)
        rows[name] = {"cpu_s": [theirs[name]["cpu_s"], ours[name]["cpu_s"]], "differs": said | files}
    return {
        "revisions": [result["revision"] for result in results],
        "builds": rows,
        "only_in_one": sorted(ours.keys() ^ theirs.keys()),
    }


def show(found: Mapping[str, Any]) -> None:
    """Print what differs, and how long it took."""
    rows = [
        (
            name,
            f"{row['cpu_s'][0]:.1f}",
            f"{row['cpu_s'][1]:.1f}",
            str(len(row["differs"])) if row["differs"] else "same",
        )
        for name, row in found["builds"].items()
    ]
    print(
        table_text(
            ("build", f"{found['revisions'][0]} [s]", f"{found['revisions'][1]} [s]", "files"), rows, right=(1, 2)
        )
    )
    for name, row in found["builds"].items():
        for file, words in list(row["differs"].items())[:4]:
            print(f"{name}: {file}: {words}")
    ratios = [row["cpu_s"][1] / row["cpu_s"][0] for row in found["builds"].values() if row["cpu_s"][0]]
    differing = sum(bool(row["differs"]) for row in found["builds"].values())
    print(
        f"{len(found['builds'])} builds of {' and '.join(found['revisions'])}: {differing} differ; processor time "
        f"{statistics.median(ratios):.2f} of before (median), {max(ratios):.2f} at most"
    )
    if found["only_in_one"]:
        print(f"only in one of the folders: {', '.join(found['only_in_one'])}")


def main() -> int:
    """Make or compare builds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    making = verbs.add_parser("make")
    making.add_argument("folder", type=Path)
    making.add_argument("--checkout", type=Path, default=ROOT)
    making.add_argument("--networks", nargs="+", default=["*"], metavar="PATTERN")
    comparing = verbs.add_parser("compare")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    comparing.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if given.verb == "make":
        make(given.folder.resolve(), given.checkout.resolve(), given.networks)
        return 0
    found = compare(given.before, given.after)
    if given.json:
        print(json.dumps(found, indent=1))
    else:
        show(found)
    return 1 if found["only_in_one"] or any(row["differs"] for row in found["builds"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
