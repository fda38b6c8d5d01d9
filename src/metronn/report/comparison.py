"""Plans of one network beside each other: what each promises, what it takes, and which is best."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from html import escape
from typing import Any

from metronn.emit.manifest import promises
from metronn.errors import ToolError
from metronn.plan.design import Design
from metronn.plan.hardware.resources import RESOURCE_NAMES
from metronn.report.comparison_plot import Place, comparison_figure
from metronn.report.figures import picture_bytes
from metronn.report.html import table_html
from metronn.report.summary import RESOURCE_TITLES, FpgaRow, LinkRow, RegionRow, Summary, summarize
from metronn.report.tables import table_text

FORMAT = 1
"""Version of the form of the JSON: raised when a key changes its meaning."""
SHARE_DIGITS = 6
"""Decimals of shares in the JSON, as in manifest.json."""


@dataclass(frozen=True, kw_only=True)
class ComparedPlan:
    """What came of planning a network on a system with a number of FPGAs at an II.

    Attributes:
        system: as it was asked for, a name or a path; `system_name` is the system's own.
        fpgas_asked: the number of FPGAs that was asked for, None where the planner was to choose.
        ii_cycles: cycles between events.
        clock_mhz: the clock frequency.
        planning_s: how long planning took, in seconds.
        design: the plan; None where there is none.
        problem: what binds, in one line, where there is no plan; else empty.
    """

    system: str
    system_name: str
    fpgas_asked: int | None
    ii_cycles: int
    clock_mhz: float
    planning_s: float
    design: Design | None = None
    problem: str = ""

    @property
    def asked(self) -> str:
        """What was asked for, in words: system, FPGAs, II."""
        if self.fpgas_asked is None:
            count = "FPGAs as the planner chooses"
        else:
            count = f"{self.fpgas_asked} FPGA{'' if self.fpgas_asked == 1 else 's'}"
        return f"{self.system}, {count}, II {self.ii_cycles}"

    @property
    def words(self) -> str:
        """What came of it, in words: the promise, or what binds."""
        if self.design is None:
            return f"no plan: {self.problem}"
        count = len(self.design.fpgas)
        return (
            f"{self.design.latency_cycles} cycles = {self.design.latency_ns:.1f} ns on {count} "
            f"FPGA{'' if count == 1 else 's'}"
        )

    @cached_property
    def summary(self) -> Summary | None:
        """What reports show of the plan; None where there is none."""
        return None if self.design is None else summarize(self.design, {"name": "", "promises": promises(self.design)})

    @property
    def boards(self) -> int | None:
        """Number of FPGAs, each on a board of its own; None without a plan."""
        return None if self.design is None else len(self.design.fpgas)

    @property
    def latency_cycles(self) -> int | None:
        """The promised latency in cycles; None without a plan."""
        return None if self.design is None else self.design.latency_cycles

    @property
    def latency_ns(self) -> float | None:
        """The promised latency in nanoseconds; None without a plan."""
        return None if self.design is None else self.design.latency_ns

    @property
    def utilisation(self) -> Mapping[str, float]:
        """The largest used share of any FPGA's budget, for each resource that an FPGA of the plan has."""
        rows = () if self.summary is None else self.summary.fpgas
        return _largest_shares(rows)

    @property
    def region_utilisation(self) -> Mapping[str, float]:
        """The same of the super logic regions, which kernels stay within; empty where no FPGA has several."""
        rows = () if self.summary is None else self.summary.regions
        return _largest_shares(rows)

    @property
    def links(self) -> tuple[LinkRow, ...]:
        """The frames of the links, in the order of the plan."""
        return () if self.summary is None else self.summary.links

    @property
    def link_occupancy(self) -> float | None:
        """The largest occupancy of a frame: bits of payload of the bits that it carries; None without links."""
        return max((link.occupancy for link in self.links), default=None)

    def to_json(self) -> dict[str, Any]:
        """Return plain data; what only a plan has is null without one."""
        promised = None if self.design is None else promises(self.design)
        worst = self.link_occupancy
        return {
            "system": self.system,
            "system_name": self.system_name,
            "fpgas_asked": self.fpgas_asked,
            "ii_cycles": self.ii_cycles,
            "clock_mhz": self.clock_mhz,
            "planned": self.design is not None,
            "problem": self.problem or None,
            "planning_s": round(self.planning_s, 3),
            "boards": self.boards,
            "latency_cycles": promised and promised["latency_cycles"],
            "latency_ns": promised and promised["latency_ns"],
            "utilisation": promised and _rounded(self.utilisation),
            "region_utilisation": promised and _rounded(self.region_utilisation),
            "link_occupancy": None if worst is None else round(worst, SHARE_DIGITS),
            "links": promised and [_link_record(link) for link in self.links],
            "resources": promised and promised["resources"],
        }


def _largest_shares(rows: Sequence[FpgaRow] | Sequence[RegionRow]) -> dict[str, float]:
    """Return by resource the largest used share of those that have it."""
    having = {name: [row for row in rows if row.budget[name]] for name in RESOURCE_NAMES}
    return {name: max(row.ratio(name) for row in some) for name, some in having.items() if some}


def _rounded(shares: Mapping[str, float]) -> dict[str, float]:
    return {name: round(share, SHARE_DIGITS) for name, share in shares.items()}


def _link_record(link: LinkRow) -> dict[str, Any]:
    return {
        "name": link.name,
        "lanes": link.lanes,
        "lanes_there": link.lanes_there,
        "words": link.words,
        "payload_bits": link.bits,
        "capacity_bits": link.capacity_bits,
        "occupancy": round(link.occupancy, SHARE_DIGITS),
        "latency_cycles": link.latency_cycles,
    }


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Plans of one network, in the order in which they were asked for; at least one pair has a plan.

    Attributes:
        name: the network's.
        graph_hash: of the integer graph that was planned.
        plans: one for each system, number of FPGAs and II.
    """

    name: str
    graph_hash: str
    plans: tuple[ComparedPlan, ...]

    def __iter__(self) -> Iterator[ComparedPlan]:
        """Iterate over the plans."""
        return iter(self.plans)

    def __len__(self) -> int:
        """Count the plans, those that there are none of included."""
        return len(self.plans)

    def __getitem__(self, place: int) -> ComparedPlan:
        """Return a plan by its place."""
        return self.plans[place]

    @property
    def best_latency(self) -> int:
        """Place of the plan of least latency in nanoseconds; of equal ones that of fewest boards, then the first."""
        return self._best(lambda plan: (plan.latency_ns, plan.boards))

    @property
    def best_boards(self) -> int:
        """Place of the plan of fewest boards; of equal ones that of least latency in nanoseconds, then the first."""
        return self._best(lambda plan: (plan.boards, plan.latency_ns))

    def _best(self, merit: Any) -> int:  # noqa: ANN401 - a function to what can be ordered
        planned = [place for place, plan in enumerate(self.plans) if plan.design is not None]
        return min(planned, key=lambda place: merit(self.plans[place]))

    def best_in(self, place: int) -> tuple[str, ...]:
        """Return what the plan at a place is best in: `latency`, `boards`."""
        best = {"latency": self.best_latency, "boards": self.best_boards}
        return tuple(what for what, at in best.items() if at == place)

    def to_json(self) -> dict[str, Any]:
        """Return plain data, as compare.json has it."""
        return {
            "format": FORMAT,
            "name": self.name,
            "graph_hash": self.graph_hash,
            "best": {"latency": self.best_latency, "boards": self.best_boards},
            "plans": [plan.to_json() for plan in self.plans],
        }

    @property
    def columns(self) -> tuple[str, ...]:
        """Titles of the table: a column for each resource that a plan's FPGAs have."""
        resources = (RESOURCE_TITLES[name] for name in self._resources)
        return (
            "system",
            "asked",
            "II",
            "boards",
            "cycles",
            "ns",
            *resources,
            "fullest region",
            "link",
            "planned in",
            "best in",
        )

    @property
    def _resources(self) -> tuple[str, ...]:
        return tuple(name for name in RESOURCE_NAMES if any(name in plan.utilisation for plan in self.plans))

    def rows(self) -> Iterator[tuple[str, ...]]:
        """Iterate over the rows of the table, one for each plan; the last cell says why there is none."""
        for place, plan in enumerate(self.plans):
            asked = "" if plan.fpgas_asked is None else str(plan.fpgas_asked)
            shares = plan.utilisation
            yield (
                plan.system,
                asked,
                str(plan.ii_cycles),
                "" if plan.boards is None else str(plan.boards),
                "" if plan.latency_cycles is None else f"{plan.latency_cycles:,}",
                "" if plan.latency_ns is None else f"{plan.latency_ns:,.1f}",
                *(_percent(shares.get(name)) for name in self._resources),
                _fullest(plan.region_utilisation),
                _percent(plan.link_occupancy),
                f"{plan.planning_s:.1f} s",
                f"no plan: {plan.problem}" if plan.design is None else ", ".join(self.best_in(place)),
            )

    def __str__(self) -> str:
        return table_text(self.columns, list(self.rows()), right=range(1, len(self.columns) - 1))

    def __repr__(self) -> str:
        planned = sum(plan.design is not None for plan in self.plans)
        return f"<Comparison of {self.name}: {planned} of {len(self.plans)} have a plan>"

    def _repr_html_(self) -> str:
        try:
            picture = self.svg().decode()
        except ToolError as error:
            picture = f"<p>{escape(error.message)}</p>"
        table = table_html(self.columns, list(self.rows()), right=range(1, len(self.columns) - 1))
        return picture[picture.index("<svg") if "<svg" in picture else 0 :] + table

    def figure(self) -> Any:  # noqa: ANN401 - matplotlib has no types
        """Return a matplotlib Figure: latency against boards, a line for each system and II.

        Raises ToolError where matplotlib is missing.
        """
        iis = sorted({plan.ii_cycles for plan in self.plans})
        return comparison_figure(
            [
                Place(
                    series=f"{plan.system}, II {plan.ii_cycles}" if len(iis) > 1 else plan.system,
                    boards=plan.boards or plan.fpgas_asked,
                    latency_ns=plan.latency_ns,
                    best=self.best_in(place),
                )
                for place, plan in enumerate(self.plans)
            ],
            self.name if len(iis) > 1 else f"{self.name}, II {iis[0]}",
        )

    def svg(self) -> bytes:
        """Return the figure as SVG. Same plans, same bytes. Raises ToolError where matplotlib is missing."""
        return picture_bytes(self.figure(), "svg")

    def png(self) -> bytes:
        """Return the figure as PNG. Same plans, same bytes. Raises ToolError where matplotlib is missing."""
        return picture_bytes(self.figure(), "png")


def _fullest(shares: Mapping[str, float]) -> str:
    name = max(shares, key=lambda name: shares[name], default=None)
    return "" if name is None else f"{RESOURCE_TITLES[name]} {_percent(shares[name])}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f} %"
