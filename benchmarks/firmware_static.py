"""What netlists of emitted firmware say before any placement: paths, loads, DSP registers; and what HLS checks find.

    python benchmarks/firmware_static.py [CASE ...] [--minutes 20] [--keep DIR] [--json]

Cases are the demo, the jet images on four boards, jetTagger_Conv2D_Small at II 625 and hgq2_mha8. Each is compiled
without verification; then its modules are synthesised one by one, two at a time, smallest first, as many as the time of
the case allows, and where a large kernel has parts, one of them. A line is printed for each as it is done: the slowest
path by the model on both speed grades against the clock period, the most loads, DSP blocks with all registers. The last
line of a case sums up, with the promise's cycles, what was left out and how many findings the HLS has. Netlists stay in
the cache, and builds in DIR, so a run that was ended goes on where it was. A case whose network is not there says so.
Exit status 1 when a path is longer than the period on the board's own speed grade, a block lacks a register, or the HLS
has a finding.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from builds import calibration
from metronn.errors import MetronnError
from metronn.plan.design import Design
from metronn.verify.hls_static import check_build
from metronn.verify.kernel_netlists import (
    START_EFFORT,
    Measured,
    Unit,
    chosen,
    measure_unit,
    readable,
    units_of,
)
from metronn.verify.paths import report_of
from metronn.verify.run import read_build
from metronn.verify.synthesis import netlist, yosys
from ptq_files import EXAMPLES, MODELS, SHARED, MissingError

sys.path.insert(0, str(EXAMPLES))
zoo = importlib.import_module("zoo")

GRADES = ("-1", "-2")
EFFORT_PER_SECOND = 250.0
"""What one core does (`metronn.verify.kernel_netlists.effort_of`), for the choice of what is still begun."""
COMPILE_S = 900.0
WORKERS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A network with the options of its compilation: a TOML file of examples, or a model with more words."""

    name: str
    toml: str = ""
    network: str = ""
    words: tuple[str, ...] = ()
    share: float = 0.25

    def compiled(self, folder: Path) -> Path:
        """Return the build in a folder, made if it is not there. Raises StepFailed or MissingError."""
        build = folder / self.name
        if (build / "manifest.json").is_file():
            return build
        folder.mkdir(parents=True, exist_ok=True)
        words = [self._toml()] if self.toml else self._model(folder)
        zoo.compiled([*words, "-o", str(build.resolve())], build, COMPILE_S)
        return build

    def _toml(self) -> str:
        place = EXAMPLES / self.toml
        if self.toml.startswith("jet_images") and not (place.parent / ".cache" / "calibration.npz").is_file():
            zoo.run([sys.executable, "-m", "jet_images.generate"], "generate", COMPILE_S)
        return str(place)

    def _model(self, folder: Path) -> list[str]:
        path = MODELS / self.network / SHARED.get(self.network, "model.keras")
        if not path.is_file():
            raise MissingError(f"{self.network}: {path.name} is not there")
        words = [str(path), *self.words]
        try:
            events = folder.resolve() / f"{self.name}.npz"
            np.savez(events, **dict(calibration(self.network, path)))
        except MetronnError:
            return words  # the compilation says what is wrong
        return [*words, "--calibrate", str(events)]


CASES = (
    Case(name="demo", toml="omtf", share=0.4),
    Case(name="jet_images_four", toml="jet_images/four.toml", share=0.2),
    Case(
        name="jetTagger_625",
        network="jetTagger_Conv2D_Small",
        words=("--system", "one-large-virtual", "--ii", "625", "--inputs", "stream"),
        share=0.2,
    ),
    Case(name="hgq2_mha8", network="hgq2_mha8", words=("--system", "one-large-virtual"), share=0.2),
)


def measured(design: Design, units: Sequence[Unit], until: float, tell: Callable[[Measured], None]) -> list[Measured]:
    """Synthesise units in their order, two at a time, as long as the next one is expected to be done in time."""
    devices = {fpga.name: design.system.fpgas[fpga.index].device for fpga in design.fpgas}
    done: list[Measured] = []
    running: set[Future[Measured]] = set()

    def collect(least: int) -> None:
        nonlocal running
        while len(running) > least:
            finished, running = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                done.append(future.result())
                tell(done[-1])

    with ThreadPoolExecutor(max_workers=WORKERS) as pool:
        for unit in units:
            collect(WORKERS - 1)
            left_s = until - time.monotonic()
            if left_s > unit.effort / EFFORT_PER_SECOND:
                running.add(pool.submit(measure_unit, unit, devices[unit.fpga], max(60.0, left_s)))
        collect(0)
    return done


def graded(one: Measured, design: Design) -> dict[str, float]:
    """Return the slowest path of a unit on each speed grade, in ps; the netlist is the cache's."""
    device = next(design.system.fpgas[fpga.index].device for fpga in design.fpgas if fpga.name == one.unit.fpga)
    module = netlist(
        one.unit.files, one.unit.module, dict(one.unit.parameters), family=device.yosys.family, options=one.unit.options
    )
    return {grade: report_of(module, device.with_grade(grade).arcs).worst.delay_ps for grade in GRADES}


def order(units: Sequence[Unit]) -> list[Unit]:
    """Whole units, smallest first, but parts of the larger ones before those."""
    every, large = sorted(units, key=lambda unit: unit.effort), 20 * START_EFFORT
    small = [unit for unit in every if unit.effort <= large]
    parts = [part for part in chosen(every, large)[0] if not part.whole]
    return [*small, *parts, *(unit for unit in every if unit.effort > large)]


def figures(case: Case, folder: Path, minutes: float, tell: Callable[[str], None]) -> dict[str, Any]:
    """Measure a case; returns its record."""
    until = time.monotonic() + 60 * minutes
    record: dict[str, Any] = {"case": case.name, "refused": "", "failed": []}
    try:
        found = read_build(case.compiled(folder))
    except (MissingError, zoo.StepFailed, MetronnError) as error:
        return {**record, "refused": str(error).splitlines()[0]}
    design = found.design
    units = units_of(found.folder, design)
    period = design.system.period_ps
    rows: list[dict[str, Any]] = []

    def row(one: Measured) -> None:
        if one.path is None:
            tell(f"  {one.unit.fpga} {one.unit.name}: {one.problem}")
            return
        slow = graded(one, design)
        rows.append(
            {
                "fpga": one.unit.fpga, "module": one.unit.name, "whole": one.unit.whole, "path_ps": slow,
                "fanout": one.path.fanout, "fanout_net": one.path.fanout_name,
                "blocks": len(one.blocks), "complete": sum(block.complete for block in one.blocks),
            }
        )  # fmt: skip
        times = ", ".join(f"{ps / 1000:.2f} ns at {grade}" for grade, ps in slow.items())
        tell(
            f"  {one.unit.fpga} {one.unit.name}: {times} of {period / 1000:.2f}; most loads {one.path.fanout} "
            f"({one.path.fanout_name}); {rows[-1]['complete']} of {rows[-1]['blocks']} DSP blocks with all registers"
        )
        if one.path.worst.delay_ps > period:
            record["failed"].append(f"{one.unit.name}: {one.path.worst}")
        if rows[-1]["complete"] < rows[-1]["blocks"]:
            record["failed"].append(f"{one.unit.name}: DSP blocks without registers")

    done = measured(design, order(units), until, row)
    findings = check_build(found.folder)
    record["failed"] += findings
    whole = {(one.unit.fpga, one.unit.name) for one in done if one.unit.whole and one.path is not None}
    return record | {
        "latency_cycles": design.latency_cycles,
        "ii_cycles": design.ii_cycles,
        "period_ps": period,
        "grade": sorted({f.device.speed_grade for f in design.system.fpgas if readable(f.device)}),
        "modules": rows,
        "left_out": [f"{u.fpga} {u.name}" for u in units if (u.fpga, u.name) not in whole],
        "hls_findings": findings,
    }


def summed(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines that sum up a case."""
    if record["refused"]:
        yield f"{record['case']}: not run: {record['refused']}"
        return
    rows = record["modules"]
    paths = ", ".join(
        f"{max(row['path_ps'][grade] for row in rows) / 1000:.2f} ns at {grade}" for grade in GRADES if rows
    )
    loads = max((row["fanout"] for row in rows), default=0)
    yield (
        f"{record['case']}: {record['latency_cycles']} cycles, II {record['ii_cycles']}; {len(rows)} modules, slowest "
        f"{paths or 'none'} of {record['period_ps'] / 1000:.2f}; most loads {loads}; "
        f"{sum(r['complete'] for r in rows)} of {sum(r['blocks'] for r in rows)} DSP blocks with all registers; "
        f"{len(record['hls_findings'])} HLS findings; {len(record['left_out'])} modules not synthesised whole"
    )
    yield from (f"  FAILS {reason}" for reason in record["failed"])


def main() -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "cases", nargs="*", metavar="CASE", help=f"of {', '.join(c.name for c in CASES)}; all by default"
    )
    parser.add_argument("--minutes", type=float, default=18.0, help="time for all cases")
    parser.add_argument("--keep", type=Path, help="folder of the builds; one that is there is not made again")
    parser.add_argument("--json", action="store_true", help="machine-readable result")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.cases) - {case.name for case in CASES})
    if unknown:
        parser.error(f"no case: {', '.join(unknown)}; allowed are {', '.join(case.name for case in CASES)}")
    try:
        yosys()
    except MetronnError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    cases = [case for case in CASES if not arguments.cases or case.name in arguments.cases]
    total = sum(case.share for case in cases)

    def tell(text: str) -> None:
        print(text, file=sys.stderr if arguments.json else sys.stdout, flush=True)

    records = []
    with tempfile.TemporaryDirectory(prefix="metronn-static-") as name:
        folder = arguments.keep or Path(name)
        for case in cases:
            records.append(figures(case, folder, arguments.minutes * case.share / total, tell))
            for line in summed(records[-1]):
                tell(line)
    if arguments.json:
        print(json.dumps(records, indent=1))
    return 1 if any(record["failed"] for record in records) else 0


if __name__ == "__main__":
    raise SystemExit(main())
