"""Compile the networks of this folder, verify them on all rungs, and print their table.

    python examples/zoo.py [NAME ...] [--limit SECONDS] [--json]

All of them, or some: `python examples/zoo.py dijet jet_images_four`. For each network: events are generated, the
network is trained if its file is missing, compiled with the options of its TOML file, and verified rung by rung. A rung
that is not done after the limit says so; a network that fails does not stop the others: its row says why. Exit status 1
if anything failed. `make evidence` keeps the table in README.md.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESOURCES = ("lut", "ff", "dsp", "bram36", "uram")
RUNGS = (2, 3, 4, 5, 6)
"""Those that are run on a build; the first one is judged when it is made."""
OVER = "over limit"
"""Status of a rung that was not done in time."""
LIMIT_S = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A network and how it is compiled: `folder`/`config` in this folder."""

    name: str
    title: str
    folder: str
    config: str = "metronn.toml"
    metric: str

    @property
    def path(self) -> Path:
        """The TOML file."""
        return HERE / self.folder / self.config

    def options(self) -> dict[str, Any]:
        """Its contents."""
        return tomllib.loads(self.path.read_text(encoding="utf-8"))

    @property
    def model(self) -> Path:
        """The network's file."""
        return self.path.parent / self.options()["model"]["file"]

    @property
    def build(self) -> Path:
        """The folder that a compilation makes."""
        return self.path.parent / self.options().get("build", {}).get("directory", "build")


ENTRIES = (
    Entry(name="dijet", title="dijet classifier", folder="dijet", metric="accuracy"),
    Entry(name="sparticle_xsec", title="sparticle cross section", folder="sparticle_xsec", metric="1 − median error"),
    Entry(name="dqm_autoencoder", title="anomalous histograms", folder="dqm_autoencoder", metric="AUC"),
    Entry(name="bjet_tagger", title="b-jet tagger", folder="bjet_tagger", metric="AUC"),
    Entry(name="jet_images", title="jet images", folder="jet_images", metric="AUC"),
    Entry(name="jet_images_four", title="jet images", folder="jet_images", config="four.toml", metric="AUC"),
    Entry(name="calorimeter_energy", title="calorimeter energy", folder="calorimeter_energy", metric="1 − resolution"),
    Entry(name="strain_conv1d", title="chirps in strain", folder="strain_conv1d", metric="AUC"),
    Entry(name="digits_cnn", title="digits", folder="digits_cnn", metric="accuracy"),
    Entry(name="digits_resnet", title="digits, residual", folder="digits_resnet", metric="accuracy"),
    Entry(name="digits_inception", title="digits, inception", folder="digits_inception", metric="accuracy"),
)


class StepFailed(Exception):
    """A step ended with an error; the text says which and why."""


class OverLimit(StepFailed):
    """A step was ended by its time limit."""


def run(command: Sequence[str], what: str, limit_s: float = LIMIT_S, allowed: Collection[int] = (0,)) -> str:
    """Run a command in this folder and return its output; raise StepFailed with its last error line, or OverLimit."""
    process = subprocess.Popen(
        command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        output, said = process.communicate(timeout=limit_s)
    except BaseException as stopped:
        os.killpg(process.pid, signal.SIGKILL)  # simulators and compilers with it
        process.communicate()  # waits, and closes the pipes
        if isinstance(stopped, subprocess.TimeoutExpired):
            raise OverLimit(f"{what}: not finished after {limit_s:,.0f} s") from None
        raise
    sys.stderr.write(said)
    if process.returncode not in allowed:
        lines = said.strip().splitlines() or [f"exit status {process.returncode}"]
        first = next((k for k, line in enumerate(lines) if line.startswith("error:")), len(lines) - 1)
        reason = " ".join(line.strip() for line in lines[first:]).removeprefix("error: ")
        raise StepFailed(f"{what}: {reason.replace(str(HERE), 'examples')}")
    return output


def compiled(words: Sequence[str], build: Path, limit_s: float) -> dict[str, Any]:
    """Compile without rungs 2 to 6 and return the build's manifest; a rung 1 that fails is no failure of this."""
    command = [sys.executable, "-m", "metronn", "compile", *words, "--no-verify", "--force"]
    run(command, "compile", limit_s, allowed=(0, 1))
    if not (build / "manifest.json").is_file():
        raise StepFailed("compile: it left no build")
    manifest: dict[str, Any] = json.loads((build / "manifest.json").read_text(encoding="utf-8"))
    return manifest


def verified(build: Path, limit_s: float) -> list[dict[str, Any]]:
    """Run rungs 2 to 6 on a build, each within the limit, and return their verdicts with the seconds they took."""
    found = []
    for rung in RUNGS:
        start = time.monotonic()
        command = [sys.executable, "-m", "metronn", "verify", str(build), "--rung", str(rung), "--json"]
        try:
            said = json.loads(run(command, f"rung {rung}", limit_s, allowed=(0, 1, 3)))
            verdicts = [verdict for verdict in said["verdicts"] if verdict["rung"] == rung]
        except OverLimit as over:
            verdicts = [{"rung": rung, "status": OVER, "events": 0, "bits": 0, "mismatches": 0, "first": str(over)}]
        seconds = round(time.monotonic() - start, 1)
        found += [{**verdict, "seconds": seconds} for verdict in verdicts]
    return found


def parameters(model: Path) -> int:
    """Number of weights in a `.keras` file."""
    import h5py

    sizes: list[int] = []
    with zipfile.ZipFile(model) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as file:
        file.visititems(lambda _, item: sizes.append(item.size) if isinstance(item, h5py.Dataset) else None)
    return sum(sizes)


VERDICT = ("rung", "status", "events", "bits", "mismatches", "seconds", "first")
CYCLES = ("cycles_promised", "cycles_observed_min", "cycles_observed_max")


def figures(manifest: Mapping[str, Any], verdicts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a build promises and what its rungs found."""
    promises = manifest["promises"]
    bad = [verdict for verdict in verdicts if verdict["status"] != "pass"]
    return {
        "system": manifest["system"],
        "fpgas": len(promises["resources"]),
        "clock_mhz": promises["clock_mhz"],
        "ii_cycles": promises["ii_cycles"],
        "latency_cycles": promises["latency_cycles"],
        "latency_ns": promises["latency_ns"],
        **{name: sum(fpga[name] for fpga in promises["resources"].values()) for name in RESOURCES},
        "rungs": [{key: verdict[key] for key in (*VERDICT, *CYCLES) if key in verdict} for verdict in verdicts],
        "failure": "; ".join(f"rung {verdict['rung']}: {verdict.get('first', verdict['status'])}" for verdict in bad),
    }


def compile_one(entry: Entry, limit_s: float) -> dict[str, Any]:
    """Generate, train if need be, compile and verify; the record of the network."""
    record: dict[str, Any] = {"name": entry.name, "example": entry.folder, "config": entry.config}
    start = time.monotonic()
    try:
        run([sys.executable, "-m", f"{entry.folder}.generate"], "generate", limit_s)
        if not entry.model.exists():
            run([sys.executable, "-m", f"{entry.folder}.train"], "train", limit_s)
        manifest = compiled([str(entry.path)], entry.build, limit_s)
        verdicts = [manifest["verdicts"][0], *verified(entry.build, limit_s)]
    except StepFailed as failure:
        return {**record, "failure": str(failure), "seconds": round(time.monotonic() - start)}
    metric = verdicts[0].get("metric") or {}
    return {
        **record,
        "parameters": parameters(entry.model),
        "float": None if not metric else round(metric["float_value"], 6),
        "fixed": None if not metric else round(metric["fixed_value"], 6),
        **figures(manifest, verdicts),
        "seconds": round(time.monotonic() - start),
    }


def rungs_of(record: Mapping[str, Any]) -> str:
    """The verdicts in a cell: `all pass`, or the rungs of each outcome."""
    worst: dict[int, str] = {}
    for rung in record["rungs"]:
        if worst.get(rung["rung"], "pass") == "pass":
            worst[rung["rung"]] = rung["status"].replace("_", " ")
    if set(worst.values()) == {"pass"}:
        return "all pass"
    return ", ".join(
        f"{' '.join(str(rung) for rung in worst if worst[rung] == status)} {status}"
        for status in dict.fromkeys(worst.values())
    )


def observed(record: Mapping[str, Any]) -> str:
    """The cycles in which answers came in the simulation of the system (rung 5): one number where all are equal."""
    seen = [rung for rung in record["rungs"] if rung["rung"] == 5 and rung.get("cycles_observed_min") is not None]
    if not seen:
        return "not measured"
    least = min(rung["cycles_observed_min"] for rung in seen)
    most = max(rung["cycles_observed_max"] for rung in seen)
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def events_of(record: Mapping[str, Any]) -> str:
    """Events compared bit by bit: at rungs 2 and 3, and at rungs 4 and 5."""
    fast = [rung["events"] for rung in record["rungs"] if rung["rung"] in (2, 3)]
    slow = [rung["events"] for rung in record["rungs"] if rung["rung"] in (4, 5)]
    return f"{min(fast, default=0):,} / {min(slow, default=0):,}"


def row(entry: Entry, record: Mapping[str, Any]) -> list[str]:
    """The cells of one network."""
    name = f"[{entry.title}]({entry.folder}/README.md)"
    if "ii_cycles" not in record:
        return [name, f"fails: {record['failure'][:200]}", *[""] * (len(HEADER) - 3), f"{record['seconds']:,}"]
    exact = [rung for rung in record["rungs"] if rung["rung"] > 1]
    wrong = sum(rung["mismatches"] for rung in exact)
    return [
        name,
        entry.metric,
        *("" if record[key] is None else f"{record[key]:.4f}" for key in ("float", "fixed")),
        f"{record['parameters']:,}",
        str(record["fpgas"]),
        f"{record['ii_cycles']:,}",
        f"{record['latency_cycles']:,}",
        observed(record),
        f"{record['latency_ns']:,.0f}",
        *(f"{record[name]:,.0f}" for name in ("lut", "ff", "dsp")),
        f"{record['bram36']:,g}" + (f" + {record['uram']:,} URAM" if record["uram"] else ""),
        events_of(record),
        rungs_of(record),
        f"{sum(rung['bits'] for rung in exact):,}",
        f"{wrong:,}" + (f"; fails: {record['failure'][:200]}" if record["failure"] else ""),
        f"{record['seconds']:,}",
    ]


HEADER = (
    "network", "metric", "float", "fixed", "weights", "FPGAs", "II", "latency [cycles]", "in RTL", "[ns]", "LUT", "FF",
    "DSP", "BRAM36", "events at rungs 2, 3 / 4, 5", "rungs", "bits compared", "wrong", "seconds",
)  # fmt: skip


def table(records: Mapping[str, Mapping[str, Any]]) -> str:
    """The table as Markdown: networks that have a record, in order."""
    lines = [HEADER, tuple("---" if i < 2 else "---:" for i in range(len(HEADER)))]
    lines += [tuple(row(entry, records[entry.name])) for entry in ENTRIES if entry.name in records]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def main() -> int:
    """Compile what is asked for; exit status 1 if anything failed."""
    names = [entry.name for entry in ENTRIES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; all by default")
    parser.add_argument("--limit", type=float, default=LIMIT_S, metavar="S", help="seconds for a compilation or a rung")
    parser.add_argument("--json", action="store_true", help="print the records as JSON instead of the table")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(names))
    if unknown:
        parser.error(f"{', '.join(unknown)}: no such network; there are {', '.join(names)}")
    records = {}
    for entry in ENTRIES:
        if options.names and entry.name not in options.names:
            continue
        sys.stderr.write(f"== {entry.name}\n")
        record = records[entry.name] = compile_one(entry, options.limit)
        said = f"fails: {record['failure']}" if record["failure"] else "passed"
        sys.stderr.write(f"== {entry.name}: {said}, {record['seconds']} s\n")
    print(json.dumps(list(records.values()), indent=1, ensure_ascii=False) if options.json else table(records))
    return int(any(record["failure"] for record in records.values()))


if __name__ == "__main__":
    raise SystemExit(main())
