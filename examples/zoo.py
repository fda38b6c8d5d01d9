"""Compile the networks of this folder, verify them on all rungs, and write the table in README.md.

`python examples/zoo.py` does all, `python examples/zoo.py dijet jet_images_four` some; rows of the others stay as they
are. For each network: events are generated, the network is trained if its file is missing, and `metronn compile` runs
with the options of its TOML file. Results go to zoo.json and, as a table, to README.md. A network that fails does not
stop the others: its row says why.
"""

from __future__ import annotations

import argparse
import io
import json
import subprocess
import sys
import time
import tomllib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS, README = HERE / "zoo.json", HERE / "README.md"
BEGIN, END = "<!-- table: python examples/zoo.py -->", "<!-- end of table -->"
RESOURCES = ("lut", "ff", "dsp", "bram36", "uram")
TIMEOUT_S = 3600


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


def run(command: Sequence[str], what: str) -> None:
    """Run a command in this folder with its output passed on; raise StepFailed with its last error line."""
    try:
        done = subprocess.run(command, cwd=HERE, stderr=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise StepFailed(f"{what}: not finished after {TIMEOUT_S} s") from None
    sys.stderr.write(done.stderr)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        errors = [line for line in lines if line.startswith("error:")] or lines[-1:]
        raise StepFailed(f"{what}: {errors[-1].removeprefix('error: ').replace(str(HERE), 'examples')}")


def parameters(model: Path) -> int:
    """Number of weights in a `.keras` file."""
    import h5py

    sizes: list[int] = []
    with zipfile.ZipFile(model) as archive, h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as file:
        file.visititems(lambda _, item: sizes.append(item.size) if isinstance(item, h5py.Dataset) else None)
    return sum(sizes)


def collect(entry: Entry, manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The numbers of the table from a build's manifest."""
    promises, verdicts = manifest["promises"], manifest["verdicts"]
    metric = verdicts[0].get("metric") or {}
    bad = [verdict for verdict in verdicts if verdict["status"] != "pass"]
    return {
        "parameters": parameters(entry.model),
        "float": None if not metric else round(metric["float_value"], 6),
        "fixed": None if not metric else round(metric["fixed_value"], 6),
        "system": manifest["system"],
        "fpgas": len(promises["resources"]),
        "clock_mhz": promises["clock_mhz"],
        "ii_cycles": promises["ii_cycles"],
        "latency_cycles": promises["latency_cycles"],
        "latency_ns": promises["latency_ns"],
        **{name: sum(fpga[name] for fpga in promises["resources"].values()) for name in RESOURCES},
        "rungs": [
            {key: verdict[key] for key in ("rung", "status", "events", "bits", "mismatches")} for verdict in verdicts
        ],
        "failure": "; ".join(f"rung {verdict['rung']}: {verdict.get('first', verdict['status'])}" for verdict in bad),
    }


def compile_one(entry: Entry) -> dict[str, Any]:
    """Generate, train if need be, compile and verify; the record of the network."""
    record: dict[str, Any] = {"name": entry.name, "example": entry.folder, "config": entry.config}
    manifest = entry.build / "manifest.json"
    manifest.unlink(missing_ok=True)
    try:
        run([sys.executable, "-m", f"{entry.folder}.generate"], "generate")
        if not entry.model.exists():
            run([sys.executable, "-m", f"{entry.folder}.train"], "train")
        run([sys.executable, "-m", "metronn", "compile", str(entry.path), "--force"], "compile")
    except StepFailed as failure:
        if not manifest.exists():
            return {**record, "failure": str(failure)}
    return {**record, **collect(entry, json.loads(manifest.read_text(encoding="utf-8")))}


def events_of(record: Mapping[str, Any]) -> str:
    """Events compared bit by bit: at rungs 2 and 3, and at rungs 4 and 5."""
    fast = [rung["events"] for rung in record["rungs"] if rung["rung"] in (2, 3)]
    slow = [rung["events"] for rung in record["rungs"] if rung["rung"] in (4, 5)]
    return f"{min(fast, default=0):,} / {min(slow, default=0):,}"


def row(entry: Entry, record: Mapping[str, Any]) -> list[str]:
    """The cells of one network."""
    name = f"[{entry.title}]({entry.folder}/README.md)"
    if "ii_cycles" not in record:
        return [name, f"fails: {record['failure']}", *[""] * (len(HEADER) - 2)]
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
        f"{record['latency_ns']:,.0f}",
        *(f"{record[name]:,.0f}" for name in ("lut", "ff", "dsp")),
        f"{record['bram36']:,g}" + (f" + {record['uram']:,} URAM" if record["uram"] else ""),
        events_of(record),
        f"{sum(rung['bits'] for rung in exact):,}",
        f"{wrong:,}" + (f"; fails: {record['failure']}" if record["failure"] else ""),
    ]


HEADER = (
    "network", "metric", "float", "fixed", "weights", "FPGAs", "II", "latency [cycles]", "[ns]", "LUT", "FF", "DSP",
    "BRAM36", "events at rungs 2, 3 / 4, 5", "bits compared", "wrong",
)  # fmt: skip


def table(records: Mapping[str, Mapping[str, Any]]) -> str:
    """The table as Markdown: networks that have a record, in order."""
    lines = [HEADER, tuple("---" if i < 2 else "---:" for i in range(len(HEADER)))]
    lines += [tuple(row(entry, records[entry.name])) for entry in ENTRIES if entry.name in records]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def read_results() -> dict[str, dict[str, Any]]:
    """The records of zoo.json by name."""
    if not RESULTS.exists():
        return {}
    return {record["name"]: record for record in json.loads(RESULTS.read_text(encoding="utf-8"))}


def write_results(records: Mapping[str, Mapping[str, Any]]) -> None:
    """Write zoo.json and the table in README.md."""
    ordered = [records[entry.name] for entry in ENTRIES if entry.name in records]
    RESULTS.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    README.write_text(f"{before}{BEGIN}\n\n{table(records)}\n\n{END}{after}", encoding="utf-8")


def main() -> int:
    """Compile what is asked for; exit status 1 if anything failed."""
    names = [entry.name for entry in ENTRIES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)}; all by default")
    options = parser.parse_args()
    unknown = sorted(set(options.names) - set(names))
    if unknown:
        parser.error(f"{', '.join(unknown)}: no such network; there are {', '.join(names)}")
    failed = []
    for entry in ENTRIES:
        if options.names and entry.name not in options.names:
            continue
        sys.stderr.write(f"== {entry.name}\n")
        start = time.monotonic()
        record = compile_one(entry)
        if record["failure"]:
            failed.append(entry.name)
        said = f"fails: {record['failure']}" if record["failure"] else "passed"
        sys.stderr.write(f"== {entry.name}: {said}, {time.monotonic() - start:.0f} s\n")
        write_results({**read_results(), entry.name: record})
    if failed:
        sys.stderr.write(f"failed: {', '.join(failed)}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
