"""A build as an object: what it answers, what it promises, what its verification found."""

from __future__ import annotations

import json
import shutil
import weakref
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metronn.api.shown import Plan, Report, Verdicts, build_html
from metronn.diagnose.profile import Profile, profile_network
from metronn.diagnose.trace import DEFAULT_BOUND_DB, Trace, trace_network
from metronn.emit.manifest import with_digest
from metronn.errors import MismatchError, ModelError, ToolError
from metronn.events.codes import decode_outputs
from metronn.events.data import EventSource
from metronn.flow.builds import (
    REPORT,
    RUNGS,
    judge,
    read_design,
    read_manifest,
    run_rungs,
    with_verdicts,
    write_results,
)
from metronn.flow.diagnosing import diagnosed
from metronn.flow.emulating import answers, input_codes
from metronn.flow.folders import replacing
from metronn.flow.integrity import check_build, check_file
from metronn.ir.arrays import Array
from metronn.ir.graph import Graph
from metronn.log import QuietLog
from metronn.plan.design import Design
from metronn.report.picture import read_build_pictures
from metronn.report.summary import Summary, summarize


class VerificationError(MismatchError):
    """A build that was made and is not good; `build` is there to find out why."""

    def __init__(self, message: str, build: Build) -> None:
        super().__init__(message)
        self.build = build


class Build:
    """A compiled network in its folder. Made by `metronn.compile`, opened by `metronn.load`.

    Attributes:
        folder: where the files are: firmware, emulator, simulation, report.
        graph: the integer graph, exactly what the firmware computes.
        design: the same with every element's place and cycle.
        manifest: what manifest.json says.
    """

    def __init__(self, folder: Path, *, scratch: Path | None = None) -> None:
        """Open a build. `scratch`: the temporary folder that it lies in, removed with the object."""
        self.folder = folder
        if scratch is not None:
            weakref.finalize(self, shutil.rmtree, scratch, ignore_errors=True)
        self.manifest: Mapping[str, Any] = read_manifest(folder)
        for name in ("graph.txt", "plan.json"):
            check_file(folder, self.manifest, name)
        self.design: Design = read_design(folder)

    @property
    def graph(self) -> Graph:
        """The integer graph."""
        return self.design.graph

    @property
    def name(self) -> str:
        """The network's name."""
        return str(self.manifest["name"])

    @property
    def summary(self) -> Summary:
        """What the reports show."""
        return summarize(self.design, self.manifest)

    @property
    def plan(self) -> Plan:
        """The plan: promise, kernels, cycles, resources, links."""
        return Plan(self.summary, self.design)

    @property
    def verdicts(self) -> Verdicts:
        """What the verification found when it was last run."""
        return Verdicts(self.summary)

    def predict(self, events: EventSource, *, codes: bool = False) -> Any:  # noqa: ANN401 - an array, or several
        """Return what the firmware answers, bit for bit.

        Args:
            events: values in the network's own units, of shape (events, *shape): an array, arrays by input name, or a
                file. They are rounded to the input's grid, and saturate at its bounds, which is a warning.
            codes: return integer codes instead of values.

        Returns:
            The array of the network's output, (events, *shape); of several outputs, arrays by name.
        """
        encoded, count = input_codes(self.graph, events, QuietLog())
        return self._named(self.run(encoded), count, codes=codes)

    def run(self, codes: Mapping[str, Array]) -> dict[str, Array]:
        """Return the output codes of input codes (events, *shape), both by the firmware's names.

        The compiled emulator is used where a compiler is there, else the one in NumPy: their bits are the same.
        """
        try:
            return answers(self.graph, codes)
        except ToolError as error:
            QuietLog()(f"the emulator in NumPy answers: {error.message}")
            return answers(self.graph, codes, numpy=True)

    def _named(self, found: Mapping[str, Array], count: int, *, codes: bool) -> Any:  # noqa: ANN401
        values: Mapping[str, Array] = found if codes else decode_outputs(self.graph, found)
        named = {
            output.shown: np.broadcast_to(values[output.name], (count, *values[output.name].shape[1:]))
            for output in self.graph.outputs
        }
        return next(iter(named.values())) if len(named) == 1 else named

    def trace(
        self, events: EventSource, *, model: str | Path | None = None, bound_db: float = DEFAULT_BOUND_DB
    ) -> Trace:
        """Compare every tensor of the firmware with that of the trained network, layer by layer, in its own units.

        Args:
            events: as `predict` takes them.
            model: the network's file, where it is neither in the build nor beside it.
            bound_db: the first tensor of which less is left is named.

        Returns:
            The tensors in the network's order: `trace["dense1"].fixed`, `.floating`, `.sqnr_db`; those that are no
            tensor of their own in the firmware are named with what they went into.
        """
        subject, inputs = diagnosed(self.folder, events, QuietLog(), None if model is None else Path(model))
        return trace_network(subject, inputs, bound_db)

    def profile(self, events: EventSource, *, model: str | Path | None = None) -> Profile:
        """Show how weights and activations fill the formats chosen for them, as a table and as box plots.

        Arguments are those of `trace`.
        """
        subject, inputs = diagnosed(self.folder, events, QuietLog(), None if model is None else Path(model))
        return profile_network(subject, inputs)

    def verify(
        self, rungs: Sequence[int] | None = None, *, strict: bool = False, check: bool = True, full: bool = False
    ) -> Verdicts:
        """Run rungs of the verification (None: all), bring manifest and report up to date, and return all verdicts.

        Args:
            rungs: 1 trained network, 2 compiled emulator, 3 HLS C++, 4 RTL of each FPGA, 5 RTL of the system,
                6 static checks.
            strict: a rung that was not run, for want of a tool, is a failure.
            check: raise VerificationError on a failure.
            full: rung 6 synthesises every kernel, however long that takes.
        """
        wrong = sorted(set(rungs or ()) - set(RUNGS))
        if wrong:
            raise ModelError(f"rungs: found {', '.join(map(str, wrong))}, allowed are {', '.join(map(str, RUNGS))}")
        check_build(self.folder, self.manifest)
        self.manifest = with_verdicts(self.manifest, run_rungs(self.folder, rungs, QuietLog(), full=full))
        write_results(self.folder, self.manifest, read_build_pictures(self.folder))
        if check:
            self.check(RUNGS if strict else self.manifest.get("required_rungs", ()))
        return self.verdicts

    def check(self, required: Collection[int] = ()) -> None:
        """Raise VerificationError where a rung failed, or one of those required was not run."""
        try:
            judge(self.folder, self.summary.verdicts, required)
        except MismatchError as error:
            raise VerificationError(error.message, self) from None

    def report(self) -> Report:
        """Return the report, as report.html holds it; a notebook shows it."""
        return Report(self.folder / REPORT)

    def save(self, folder: str | Path, *, force: bool = False) -> Build:
        """Copy the build, as of one in a temporary folder, and return the copy. `force` replaces an older build."""
        with replacing(Path(folder), force=force) as partial:
            shutil.copytree(self.folder, partial, dirs_exist_ok=True)
        return Build(Path(folder))

    def to_json(self) -> dict[str, Any]:
        """Return the manifest as its file has it, with its digest."""
        found: dict[str, Any] = json.loads(json.dumps(with_digest(self.manifest)))
        return found

    def __repr__(self) -> str:
        design = self.design
        count = len(design.fpgas)
        return (
            f"<Build {self.name}: {design.latency_cycles} cycles = {design.latency_ns:.1f} ns, II {design.ii_cycles} "
            f"at {design.system.clock_mhz:g} MHz, {count} FPGA{'s' if count > 1 else ''} of {design.system.name}; "
            f"{self.verdicts.words}; {self.folder}>"
        )

    def _repr_html_(self) -> str:
        return build_html(self.summary)
