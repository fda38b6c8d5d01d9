"""What the HLS projects of builds have beside the plan: II, multipliers, queues, and what static checks find.

    python benchmarks/builds.py make DIR
    python benchmarks/hls_beside_plan.py DIR [--json]

Reads every build below DIR, whoever made it. A line for each FPGA: the plan's II and that of its HLS project, the DSP
blocks planned and the products that the project binds to DSP blocks or leaves to the tool, the widest queue and all
bits of queues (depth times width, those between processes), findings. The last line counts. Exit status 1 when there is
a finding or no build; another II than the plan's is told by the build itself and only counted here.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from metronn.emit.tops import top_name
from metronn.flow.builds import read_design
from metronn.plan.design import Design, FpgaDesign
from metronn.report.tables import table_text
from metronn.verify.hls_source import Source, read_source
from metronn.verify.hls_static import check_build

READ = (".cpp", ".hpp", ".tcl", ".json", ".cfg")


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """One HLS project beside the plan of its FPGA."""

    build: str
    fpga: str
    plan_ii_cycles: int
    hls_ii_cycles: int
    plan_dsp: int
    products: int
    widest_queue_bits: int
    queue_bits: int


def projects(folder: Path, build: Path) -> Iterator[Project]:
    """Yield the projects of a build."""
    design = read_design(build)
    for fpga in design.fpgas:
        place = build / "hls" / top_name(fpga.name)
        files = {
            str(path.relative_to(place)): path.read_text(encoding="utf-8")
            for path in sorted(place.rglob("*"))
            if path.suffix in READ
        }
        yield project(str(build.relative_to(folder)) or build.name, design, fpga, read_source(files))


def project(name: str, design: Design, fpga: FpgaDesign, source: Source) -> Project:
    """Return the figures of a project."""
    queues = queue_widths(source)
    return Project(
        build=name,
        fpga=fpga.name,
        plan_ii_cycles=design.ii_cycles,
        hls_ii_cycles=int(json.loads(source.files["interface.json"])["expected"]["ii_cycles"]),
        plan_dsp=fpga.resources.dsp,
        products=sum(values.get("multipliers", 0) for values in source.constants.values()),
        widest_queue_bits=max((bits for bits, _ in queues), default=0),
        queue_bits=sum(bits * depth for bits, depth in queues),
    )


def queue_widths(source: Source) -> list[tuple[int, int]]:
    """Return bits and depth of the queues between the processes of the top."""
    top = source.functions[source.top]
    depths = {p.options["variable"]: int(p.options["depth"]) for p in top.pragmas if p.name == "STREAM"}
    found = []
    for line in top.body:
        declared = line.strip().removeprefix("static ")
        if declared.startswith("metronn::stream<"):
            kind, _, rest = declared.removeprefix("metronn::stream<").partition("> ")
            queue = rest.split("(")[0].rstrip(";")
            bits, slots, words = source.beats.get(kind, (source.widths.get(kind, 0), 1, 1))
            found.append((-(-slots // words) * bits, depths.get(queue, 2)))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with builds")
    parser.add_argument("--json", action="store_true", help="machine-readable result")
    arguments = parser.parse_args()
    made: list[Project] = []
    findings: list[str] = []
    for manifest in sorted(arguments.folder.rglob("manifest.json")):
        build = manifest.parent
        if (build / "hls").is_dir():
            made += projects(arguments.folder, build)
            findings += [f"{build.relative_to(arguments.folder)}: {line}" for line in check_build(build)]
    slower = sum(one.hls_ii_cycles != one.plan_ii_cycles for one in made)
    if arguments.json:
        print(json.dumps({"projects": [asdict(one) for one in made], "findings": findings}, indent=1))
    elif made:
        head = ("build", "FPGA", "II plan", "II HLS", "DSP plan", "products", "widest queue [bit]", "queues [bit]")
        rows = [
            (
                one.build,
                one.fpga,
                str(one.plan_ii_cycles),
                str(one.hls_ii_cycles),
                f"{one.plan_dsp:,}",
                f"{one.products:,}",
                f"{one.widest_queue_bits:,}",
                f"{one.queue_bits:,}",
            )
            for one in made
        ]
        print(table_text(head, rows, range(2, len(head))).rstrip())
        for line in findings:
            print(line)
        print(f"{len(made)} projects, {slower} with another II than the plan's, {len(findings)} findings")
    return 1 if findings or not made else 0


if __name__ == "__main__":
    sys.exit(main())
