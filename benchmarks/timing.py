"""The timing model beside the netlist: the slowest path of one small kernel of each kind, planned and as Yosys maps it.

    python benchmarks/timing.py [--device NAME] [--grade GRADE]... [--clock MHZ] [--kind KIND]... [--json]

Each kernel is planned for a clock at a speed grade, emitted, and synthesised (`metronn.verify.paths`). Printed are the
path that the planner takes for the slowest and its time, the slowest in the netlist by the same arcs (nets, LUTs, carry
chains, loads), and what the clock leaves. The planner adds numbers pairwise; Yosys joins three or more in full adders
before one chain, which is faster, so that the measured path may be shorter.
Exit status 1 when a measured path is longer than the clock leaves, or longer than planned by more than a fifth.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import buffer_samples
import resources
from metronn.emit.data import data_directory
from metronn.emit.rtl.kernels.any_kernel import emit_kernel
from metronn.errors import ModelError
from metronn.ir.graph import Graph
from metronn.plan.hardware.boards import load_device
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.folds.fold import fold_outputs_spec
from metronn.plan.kernels.kernels import planned
from metronn.plan.kernels.spec import FoldInputs, KernelSpec, MatvecAdders
from metronn.plan.layout import Layout
from metronn.verify.paths import PathReport, path_report

MOST_UNDER = 1.2
"""Measured over planned: up to here the planner is taken to see the path."""
TOP = "mnn_timed"

Case = tuple[str, Graph, KernelSpec]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One kernel at one grade; times in ps, `allowed_ps` what the clock leaves between two registers."""

    kind: str
    name: str
    grade: str
    planned: str
    planned_ps: int
    measured: str
    measured_ps: int
    allowed_ps: int
    loads: int

    @property
    def good(self) -> bool:
        """Whether the clock is kept and the planner saw the path (of tables only the first: their entries decide)."""
        seen = self.kind == "table" or self.measured_ps <= MOST_UNDER * self.planned_ps
        return seen and self.measured_ps <= self.allowed_ps


def adders(_timing: Timing) -> Iterator[Case]:
    """A layer of 12 inputs, unrolled, with ReLU and saturation."""
    graph, linear, epilogue = resources.dense(12, 8, weight_bits=6)
    yield "12x8, 6 bit", graph, MatvecAdders(linear=linear, epilogue=epilogue)


def folds(timing: Timing) -> Iterator[Case]:
    """A layer folded over its outputs, one with a remainder, one of products without DSP blocks."""
    for n_in, n_out, bits in ((12, 12, 8), (10, 9, 8), (12, 8, 3)):
        graph, linear, epilogue = resources.dense(n_in, n_out, weight_bits=bits, x_bits=bits)
        spec = fold_outputs_spec(graph, linear, epilogue, 4, timing)
        yield f"{n_in}x{n_out} II 4, {bits} bit", graph, spec


def fed(_timing: Timing) -> Iterator[Case]:
    """A layer folded over its inputs, with a slot that carries one input only."""
    for sizes in ((3, 3, 3, 3), (4, 4, 5)):
        ends = list(itertools.accumulate(sizes, initial=0))
        layout = Layout(tuple(tuple(range(a, b)) for a, b in itertools.pairwise(ends)))
        graph, linear, epilogue = resources.dense(ends[-1], 8)
        spec = FoldInputs(linear=linear, epilogue=epilogue, layout=layout)
        yield f"{ends[-1]}x8 in {len(sizes)} beats", graph, spec


def some(name: str, most: int) -> Callable[[Timing], Iterator[Case]]:
    """Return the first kernels of a kind of `resources`."""

    def made(timing: Timing) -> Iterator[Case]:
        for sample in itertools.islice(resources.KINDS[name](timing), most):
            assert sample.case is not None, f"{name} is no kind of kernel"
            yield sample.name, *sample.case

    return made


def windows(_timing: Timing) -> Iterator[Case]:
    """Windows over a small image."""
    yield "3x3 on 8x8x2", *buffer_samples.window(8, 8, 2)


KINDS: dict[str, Callable[[Timing], Iterator[Case]]] = {
    "matvec_adders": adders,
    "matvec_fold_outputs": folds,
    "matvec_fold_inputs": fed,
    "elementwise": some("elementwise", 5),
    "table": some("table", 3),
    "reduce": some("reduce", 3),
    "reduce_serial": some("reduce_serial", 2),
    "delay": some("delay", 3),
    "window_buffer": windows,
}


LIBRARY = sorted((data_directory("firmware") / "rtl").glob("*.sv"))
"""What kernels instantiate."""


def measured(graph: Graph, spec: KernelSpec, timing: Timing, folder: Path) -> tuple[str, int, PathReport]:
    """Return the slowest path of a kernel as planned, its ps, and what is slowest in the netlist."""
    kernel = planned(spec, graph, timing)
    file = folder / f"{TOP}.sv"
    file.write_text(emit_kernel(kernel, TOP))
    path = kernel.slowest
    return path.what, path.ps, path_report([*LIBRARY, file], TOP, speed=timing.arcs)


def rows(device: str, grade: str, clock_mhz: float, kind: str) -> Iterator[Row]:
    """Measure the kernels of a kind."""
    timing = Timing.of([load_device(device).with_grade(grade)], 1e6 / clock_mhz)
    for name, graph, spec in KINDS[kind](timing):
        with tempfile.TemporaryDirectory() as folder:
            what, ps, found = measured(graph, spec, timing, Path(folder))
        yield Row(
            kind=kind,
            name=name,
            grade=grade,
            planned=what,
            planned_ps=ps,
            measured=str(found.worst),
            measured_ps=found.worst.delay_ps,
            allowed_ps=timing.logic_ps,
            loads=found.fanout,
        )


def main() -> int:
    """Print a row for each kernel and grade."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="vu13p")
    parser.add_argument("--grade", action="append", help="as --grade=-1; -1 and -2 unless told")
    parser.add_argument("--clock", type=float, default=360.0, metavar="MHZ")
    parser.add_argument("--kind", action="append", choices=list(KINDS))
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = []
    try:
        for kind in arguments.kind or KINDS:
            for grade in arguments.grade or ("-1", "-2"):
                for row in rows(arguments.device, grade, arguments.clock, kind):
                    found.append(row)
                    if not arguments.json:
                        print(
                            f"{row.kind:20} {row.name:26} {row.grade:4} planned {row.planned_ps / 1000:.2f} "
                            f"({row.planned}), measured {row.measured_ps / 1000:.2f} of {row.allowed_ps / 1000:.2f} ns"
                            f"{'' if row.good else '  <---'}\n    {row.measured}; most loads {row.loads}",
                            flush=True,
                        )
    except (ModelError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        print(json.dumps([asdict(row) for row in found], indent=1))
    return 0 if all(row.good for row in found) else 1


if __name__ == "__main__":
    raise SystemExit(main())
