"""Compile, emit and verify the networks of ../shared/models: what each rung says, and what the firmware promises.

    python benchmarks/rungs.py [NETWORK ...] [--limit SECONDS] [--json]

Each network is compiled as builds.py does, images as streams at II 1600, all others on one large virtual FPGA at the II
of that system, and verified rung by rung (examples/zoo.py does the same with the examples). A compilation or a rung
that takes longer than the limit is ended, and its row says so; so does that of a network which is refused, with the
first reason. Exit status 1 when a rung fails or is not done in time: a refusal is an answer.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from builds import IMAGES, VARIANTS, calibration
from evidence.markdown import table
from exactness import NETWORKS as QUANTIZED
from metronn.errors import MetronnError
from ptq_files import EXAMPLES, MODELS, SHARED

sys.path.insert(0, str(EXAMPLES))
zoo = importlib.import_module("zoo")

UNREAD = {
    "cms_multiclassID_EE": "model_conifer1.11.json",
    "cms_track_quality_bdt_hls": "model_conifer.json",
    "garnet_1layer": "garnet_1layer.json",
    "hgqlut_cernbox_1517": "model.keras",
    "hgqlut_openml_1439": "model.keras",
    "hgqlut_openml_850": "model.keras",
    "jetid_QGarnet_nconst_8_nbits_8": "model_QGarnet_nconst_8_nbits_8.h5",
    "kanele_openml": "truth_tables.json",
    "nir_cnn_sinabs": "model.nir",
    "nir_lif_norse": "model.nir",
    "nir_two_lif": "model.nir",
    "own_magic_xgb": "own_magic_xgb.json",
}
"""Those of which no other benchmark has a use: trees, spiking networks, tables, layers that were not read once."""
FILES = dict(sorted({**SHARED, **{name: file for name, (_, file) in QUANTIZED.items()}, **UNREAD}.items()))
FORMATS = {"keras": "Keras 3", "h5": "Keras 2", "onnx": "ONNX", "json": "JSON", "nir": "NIR"}
EVENTS, RTL_EVENTS = 500, 40
LIMIT_S = 1200.0
COLUMNS = (
    *("network", "format", "II", "FPGAs", "rungs", "events at rungs 2, 3 / 4, 5", "latency [cycles]", "in RTL"),
    *("LUT", "FF", "DSP", "BRAM36", "seconds"),
)


def kind_of(network: str) -> str:
    """Return what wrote the file."""
    return QUANTIZED[network][0] if network in QUANTIZED else FORMATS[FILES[network].rsplit(".", 1)[1]]


def options_of(network: str, folder: Path) -> list[str]:
    """Return the words of a compilation: events where the network can be read and has some, and how it is planned."""
    path = MODELS / network / FILES[network]
    image = any(fnmatch.fnmatchcase(network, pattern) for pattern in IMAGES)
    words = [str(path), *VARIANTS["stream" if image else "one"], "-o", str(folder / "build")]
    words += ["--events", str(EVENTS), "--rtl-events", str(RTL_EVENTS)]
    try:
        np.savez(folder / "events.npz", **dict(calibration(network, path)))
    except (MetronnError, OSError, KeyError):
        return words  # the compilation says what is wrong
    return [*words, "--calibrate", str(folder / "events.npz")]


def measured(network: str, limit_s: float) -> dict[str, Any]:
    """Compile and verify one network; returns its record."""
    record: dict[str, Any] = {"network": network, "format": kind_of(network), "failure": "", "refused": ""}
    if not (MODELS / network / FILES[network]).is_file():
        return {**record, "refused": f"not run: {FILES[network]} is not there", "seconds": 0}
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="metronn-bench-") as place:
        folder = Path(place)
        try:
            manifest = zoo.compiled(options_of(network, folder), folder / "build", limit_s)
            verdicts = [manifest["verdicts"][0], *zoo.verified(folder / "build", limit_s)]
            record |= zoo.figures(manifest, verdicts)
        except zoo.OverLimit as over:
            record["failure"] = str(over)
        except zoo.StepFailed as refusal:
            record["refused"] = str(refusal).replace(f"{MODELS / network}/", "").removeprefix("compile: ")
    return {**record, "seconds": round(time.monotonic() - start)}


def cells(record: Mapping[str, Any]) -> list[str]:
    """Return the row of a network."""
    head, seconds = [f"`{record['network']}`", record["format"]], f"{record['seconds']:,}"
    if "ii_cycles" not in record:
        said = f"refused: {record['refused']}" if record["refused"] else record["failure"]
        return [*head, "", "", said[:160], *[""] * (len(COLUMNS) - len(head) - 4), seconds]
    return [
        *head,
        f"{record['ii_cycles']:,}",
        str(record["fpgas"]),
        zoo.rungs_of(record),
        zoo.events_of(record),
        f"{record['latency_cycles']:,}",
        zoo.observed(record),
        *(f"{record[name]:,.0f}" for name in ("lut", "ff", "dsp")),
        f"{record['bram36']:,g}",
        seconds,
    ]


def table_of(records: Sequence[Mapping[str, Any]]) -> str:
    """Return the table as Markdown."""
    return table(COLUMNS, [cells(record) for record in records], left=(0, 1, 4))


def main() -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("networks", nargs="*", metavar="NETWORK", help=f"of {', '.join(FILES)}; all by default")
    parser.add_argument("--limit", type=float, default=LIMIT_S, metavar="S", help="seconds for a compilation or a rung")
    parser.add_argument("--json", action="store_true", help="machine-readable result")
    given = parser.parse_args()
    unknown = sorted(set(given.networks) - set(FILES))
    if unknown:
        parser.error(f"{', '.join(unknown)}: no such network; there are {', '.join(FILES)}")
    if not MODELS.is_dir():
        print("not run: the networks of ../shared/models are not there", file=sys.stderr)
        return 0
    records = []
    for network in given.networks or FILES:
        records.append(measured(network, given.limit))
        last = records[-1]
        print(f"{network}: {last['refused'] or last['failure'] or 'passed'}, {last['seconds']} s", file=sys.stderr)
    print(json.dumps(records, indent=1, ensure_ascii=False) if given.json else table_of(records))
    return int(any(record["failure"] for record in records))


if __name__ == "__main__":
    sys.exit(main())
