"""How plans, verdicts and reports look: as text, and in a notebook."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import overload

from metronn.plan.design import Design
from metronn.plan.hardware.resources import Resources
from metronn.report.html import table_html
from metronn.report.summary import RESOURCE_TITLES, Summary
from metronn.report.text import (
    PLAN_COLUMNS,
    VERDICT_COLUMNS,
    measured_lines,
    plan_rows,
    plan_text,
    promise_text,
    verdict_notes,
    verdict_rows,
    verdicts_text,
)
from metronn.verify.verdict import Status, Verdict

HEIGHT_PX = 720
"""Height of a report in a notebook; it scrolls."""


class Plan:
    """What a build promises and where everything is. `design` holds all of it."""

    def __init__(self, summary: Summary, design: Design) -> None:
        self.design = design
        self._summary = summary

    @property
    def latency_cycles(self) -> int:
        """Cycles from the first input beat to the last beat of the last output: the promise."""
        return self.design.latency_cycles

    @property
    def latency_ns(self) -> float:
        """The promise in nanoseconds."""
        return self.design.latency_ns

    @property
    def ii_cycles(self) -> int:
        """Cycles between events."""
        return self.design.ii_cycles

    @property
    def resources(self) -> dict[str, Resources]:
        """Estimated resources by FPGA."""
        return {fpga.name: fpga.resources for fpga in self.design.fpgas}

    def __str__(self) -> str:
        return f"{plan_text(self._summary)}\n{promise_text(self._summary)}"

    def __repr__(self) -> str:
        return f"<Plan {self.latency_cycles} cycles = {self.latency_ns:.1f} ns, II {self.ii_cycles}>"

    def _repr_html_(self) -> str:
        used = [
            (fpga.name, fpga.board, *(f"{fpga.used[name]:,g} ({100 * fpga.ratio(name):.1f} %)" for name in fpga.used))
            for fpga in self._summary.fpgas
        ]
        columns = ("FPGA", "board", *(RESOURCE_TITLES[name] for name in self._summary.fpgas[0].used))
        return (
            f"<p>{escape(promise_text(self._summary))}</p>"
            + table_html(columns, used, right=range(2, len(columns)))
            + table_html(PLAN_COLUMNS, plan_rows(self._summary), right=(3, 4, 6, 7))
        )


class Verdicts(Sequence[Verdict]):
    """The verdicts of a build, in the order of the rungs."""

    def __init__(self, summary: Summary) -> None:
        self._summary = summary
        self._verdicts = summary.verdicts

    @overload
    def __getitem__(self, place: int) -> Verdict: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Verdict]: ...
    def __getitem__(self, place: int | slice) -> Verdict | Sequence[Verdict]:
        return self._verdicts[place]

    def __len__(self) -> int:
        return len(self._verdicts)

    def __iter__(self) -> Iterator[Verdict]:
        return iter(self._verdicts)

    @property
    def passed(self) -> bool:
        """Whether every rung was run and passed."""
        return bool(self._verdicts) and all(verdict.status is Status.PASS for verdict in self._verdicts)

    @property
    def failed(self) -> tuple[Verdict, ...]:
        """Those that failed."""
        return tuple(verdict for verdict in self._verdicts if verdict.status is Status.FAIL)

    @property
    def words(self) -> str:
        """How many passed, failed, and were not run."""
        counts = {status: sum(verdict.status is status for verdict in self._verdicts) for status in Status}
        return ", ".join(f"{count} {status.words}" for status, count in counts.items() if count) or "no verdicts"

    def __str__(self) -> str:
        return verdicts_text(self._summary)

    def __repr__(self) -> str:
        return f"<Verdicts: {self.words}>"

    def _repr_html_(self) -> str:
        notes = "".join(
            f"<p>{escape(note)}</p>" for note in (*measured_lines(self._summary), *verdict_notes(self._summary))
        )
        return table_html(VERDICT_COLUMNS, verdict_rows(self._summary), right=range(3, 8)) + notes


class Report:
    """The report of a build: one HTML file with everything in it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def html(self) -> str:
        """The file's text."""
        return self.path.read_text(encoding="utf-8")

    def __repr__(self) -> str:
        return f"<Report {self.path}>"

    def _repr_html_(self) -> str:
        # In a frame, so that its styles are its own.
        return f'<iframe srcdoc="{escape(self.html)}" style="width: 100%; height: {HEIGHT_PX}px; border: 0"></iframe>'


def build_html(summary: Summary) -> str:
    """Return a build's promise and verdicts for a notebook."""
    return (
        f"<p><b>{escape(summary.name)}</b> on {escape(summary.system)}: {escape(promise_text(summary))}</p>"
        + Verdicts(summary)._repr_html_()
    )
