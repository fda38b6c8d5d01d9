"""Systems: FPGAs in a chain, the links between them, one clock, and how often an event comes."""

import math
import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from metronn.errors import ModelError
from metronn.plan.hardware.boards import (
    Board,
    board_table,
    boards_directory,
    find_file,
    list_boards,
    list_systems,
    load_board,
    load_device,
)
from metronn.plan.hardware.devices import Device
from metronn.plan.hardware.links import Encoding, Identifier, Link, LinkSettings, exact
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.timing import Timing
from metronn.toml_tables import (
    FrequencyMhz,
    Table,
    Text,
    collect,
    parse,
    plain,
    read_toml,
    unknown_name,
    whole,
)

__all__ = [
    "Board",
    "Device",
    "Encoding",
    "Fpga",
    "Link",
    "LinkSettings",
    "System",
    "board_table",
    "boards_directory",
    "list_boards",
    "list_systems",
    "load_system",
]

MAX_FPGAS = 16
"""The longest chain that is planned."""
MAX_II = 65_536
"""The longest distance between events, in cycles."""
DEFAULT_EVENT_RATE_MHZ = 40.0
"""The LHC's collision rate, nominal; used where a system file gives neither `ii` nor `event_rate_mhz`."""


Ii = Annotated[int, whole(1, MAX_II)]


class Fpga(Table):
    """One FPGA of a system: `device` at the speed grade of the board.

    `region_budgets` is what a network may use of each region, from the lowest.
    """

    name: Identifier
    board: Board
    device: Device
    region_budgets: tuple[Resources, ...]

    @property
    def part(self) -> str:
        """The part name for vendor tools."""
        return self.board.part or self.device.part

    @property
    def budget(self) -> Resources:
        """What a network may use of it, all regions together."""
        return sum(self.region_budgets, Resources())

    def link_region(self, line_rate_gbps: float) -> int | None:
        """Return the region of the transceivers that reach a line rate, None where the board names none or several."""
        groups = [group for group in self.board.transceivers if group.line_rate_gbps >= line_rate_gbps]
        names = {group.region for group in groups}
        (name,) = names if len(names) == 1 else (None,)
        return None if name is None else self.device.region_names.index(name)


class System(Table):
    """A chain of FPGAs with one clock.

    An event enters the first FPGA every `ii` cycles at most; `links[i]` goes from `fpgas[i]` to `fpgas[i + 1]`.
    `event_rate_mhz` is None where `ii` was given outright.
    """

    name: Text
    title: Text
    source: Text
    clock_mhz: FrequencyMhz
    ii: int
    event_rate_mhz: FrequencyMhz | None = None
    fpgas: tuple[Fpga, ...]
    links: tuple[Link, ...] = ()

    @property
    def period_ns(self) -> float:
        """The clock period in nanoseconds."""
        return float(1000 / exact(self.clock_mhz))

    @property
    def period_ps(self) -> float:
        """The clock period in picoseconds."""
        return float(1_000_000 / exact(self.clock_mhz))

    @property
    def timing(self) -> Timing:
        """The rules that every FPGA of the system keeps."""
        return Timing.of([fpga.device for fpga in self.fpgas], self.period_ps)

    def nanoseconds(self, cycles: int) -> float:
        """Convert a number of clock cycles to nanoseconds."""
        return float(cycles * 1000 / exact(self.clock_mhz))

    def with_overrides(self, *, ii: int | None = None, clock_mhz: float | None = None) -> "System":
        """Return the same system with another II or clock.

        A new clock keeps the event rate where the system names one, and keeps `ii` where it does not.
        Raises ModelError that lists everything the new values break.
        """
        asked: dict[str, float] = {"clock_mhz": self.clock_mhz if clock_mhz is None else clock_mhz}
        if ii is not None:
            asked["ii"] = ii
        timing = parse(_Timing, asked, f"system {self.name}")
        links = tuple(link.model_copy(update={"clock_mhz": timing.clock_mhz}) for link in self.links)
        if ii is not None:
            cycles, rate = ii, None
        elif self.event_rate_mhz is not None:
            cycles, rate = _event_distance(timing.clock_mhz, self.event_rate_mhz), self.event_rate_mhz
        else:
            cycles, rate = self.ii, None
        update = {"clock_mhz": timing.clock_mhz, "ii": cycles, "event_rate_mhz": rate, "links": links}
        changed: System = self.model_copy(update=update)
        changed.check()
        return changed

    def extended(self) -> "System":
        """Return the chain with one more FPGA like the last, behind a link like the last. Needs a link to copy."""
        last, link = self.fpgas[-1], self.links[-1]
        taken = {fpga.name for fpga in self.fpgas}
        base, count = last.name.rstrip("0123456789")[:20], len(self.fpgas)
        while (name := f"{base}{count}") in taken:
            count += 1
        fpga = last.model_copy(update={"name": name})
        more = link.model_copy(update={"from_fpga": last.name, "to_fpga": name})
        longer: System = self.model_copy(update={"fpgas": (*self.fpgas, fpga), "links": (*self.links, more)})
        return longer

    def check(self) -> None:
        """Raise ModelError that lists every rule this system breaks."""
        problems = [
            *_timing_problems(self),
            *_topology_problems(self),
            *(problem for link in self.links for problem in link.problems()),
            *_lane_problems(self),
        ]
        if problems:
            raise ModelError("\n".join(f"system {self.name}: {problem}" for problem in problems))


class _Timing(Table):
    clock_mhz: FrequencyMhz
    ii: Ii | None = None
    event_rate_mhz: FrequencyMhz | None = None


class _BoardEntry(Table):
    name: Identifier
    board: Text


class _LinkEntry(LinkSettings):
    from_fpga: Identifier = Field(alias="from")
    to_fpga: Identifier = Field(alias="to")


class _ChainEntry(Table):
    board: Text
    count: Annotated[int, whole(1, MAX_FPGAS)]
    link: LinkSettings


class _SystemFile(_Timing):
    name: Text
    title: Text
    source: Text
    boards: tuple[_BoardEntry, ...] = ()
    links: tuple[_LinkEntry, ...] = ()
    chain: _ChainEntry | None = None

    @model_validator(mode="after")
    def _one_of_each(self) -> "_SystemFile":
        if self.ii is not None and self.event_rate_mhz is not None:
            raise ValueError("give either 'ii' or 'event_rate_mhz', not both")
        if self.chain is not None and (self.boards or self.links):
            raise ValueError("give either 'chain' or 'boards' and 'links', not both")
        return self

    def board_entries(self) -> list[tuple[str, str]]:
        """List name and board of every FPGA, the `chain` shorthand written out."""
        if self.chain is not None:
            return [(f"fpga{index}", self.chain.board) for index in range(self.chain.count)]
        return [(entry.name, entry.board) for entry in self.boards]

    def link_entries(self) -> list[dict[str, object]]:
        """List ends and settings of every link, the `chain` shorthand written out."""
        if self.chain is not None:
            settings = self.chain.link.model_dump()
            return [
                settings | {"from_fpga": f"fpga{index}", "to_fpga": f"fpga{index + 1}"}
                for index in range(self.chain.count - 1)
            ]
        return [entry.model_dump() for entry in self.links]


def load_system(name_or_path: str | os.PathLike[str], search: Path | None = None) -> System:
    """Read the system called by name, or described by the TOML file at a path.

    A text with a path separator or the suffix `.toml` is a path. Boards and devices are looked for in
    `boards/` and `devices/` beside the system's file, then below `search`, then among the known ones; systems by
    name below `search`, then among the known ones. Raises ModelError listing all that is wrong.
    """
    roots = (boards_directory(),) if search is None else (search, boards_directory())
    text = os.fspath(name_or_path)
    if text.endswith(".toml") or os.sep in text or isinstance(name_or_path, Path):
        path = Path(text)
        if not path.is_file():
            raise ModelError(f"{path}: no such system file; known systems: {', '.join(list_systems(roots))}")
        roots = (path.parent, *roots)
    else:
        path = find_file("system", text, roots)
    data = read_toml(path)
    problems: list[str] = []
    file = collect(problems, lambda: parse(_SystemFile, data, str(path)))
    if file is None:
        # Unknown boards are listed together with the wrong keys.
        _hardware(_named_boards(data), str(path), roots, problems)
        raise ModelError("\n".join(dict.fromkeys(problems)))
    return _resolve(file, str(path), roots)


def _named_boards(data: dict[str, Any]) -> list[tuple[str, str]]:
    """List FPGA and board names in a table that may be wrong elsewhere."""
    entries = data.get("boards", [])
    chain = data.get("chain")
    candidates = [*(entries if isinstance(entries, list) else []), *([chain] if isinstance(chain, dict) else [])]
    return [
        (str(entry.get("name", "chain")), entry["board"])
        for entry in candidates
        if isinstance(entry, dict) and isinstance(entry.get("board"), str)
    ]


def _resolve(file: _SystemFile, where: str, roots: tuple[Path, ...]) -> System:
    problems: list[str] = []
    hardware = _hardware(file.board_entries(), where, roots, problems)
    names = [name for name, _ in file.board_entries()]
    for name in sorted({name for name in names if names.count(name) > 1}):
        problems.append(f"{where}: two boards are named {name!r}; names must differ")
    links = [Link.model_validate(entry | {"clock_mhz": file.clock_mhz}) for entry in file.link_entries()]
    for link in links:
        for end in (link.from_fpga, link.to_fpga):
            if end not in names:
                problems.append(f"{where}: link {link.from_fpga} -> {link.to_fpga}: {unknown_name('FPGA', end, names)}")
    if problems:
        raise ModelError("\n".join(dict.fromkeys(problems)))
    fpgas = []
    for name, board_name in file.board_entries():
        board, device = hardware[board_name]
        fpgas.append(Fpga(name=name, board=board, device=device, region_budgets=board.region_budgets(device)))
    rate = None if file.ii is not None else file.event_rate_mhz or DEFAULT_EVENT_RATE_MHZ
    system = System(
        name=file.name,
        title=file.title,
        source=file.source,
        clock_mhz=file.clock_mhz,
        ii=file.ii or _event_distance(file.clock_mhz, rate or DEFAULT_EVENT_RATE_MHZ),
        event_rate_mhz=rate,
        fpgas=tuple(fpgas),
        links=tuple(links),
    )
    system.check()
    return system


def _hardware(
    entries: list[tuple[str, str]], where: str, roots: tuple[Path, ...], problems: list[str]
) -> dict[str, tuple[Board, Device]]:
    """Read the boards of (FPGA, board) pairs, whatever the FPGAs are called; those that cannot be are in `problems`."""
    users: dict[str, list[str]] = {}
    for name, board_name in entries:
        users.setdefault(board_name, []).append(name)
    resolved: dict[str, tuple[Board, Device]] = {}
    for board_name, names in users.items():
        found: list[str] = []
        board = collect(found, partial(load_board, board_name, roots))
        device = None
        if board is not None:
            device = collect(found, partial(load_device, board.device, roots), f"board {board_name!r}: ")
        if board is not None and device is not None and board.speed_grade is not None:
            try:
                device = device.with_grade(board.speed_grade)
            except ValueError as error:
                found.append(f"{find_file('board', board_name, roots)}: {error}")
        if board is not None and device is not None:
            found += board.region_problems(device)
        problems.extend(f"{where}: {', '.join(names)}: {problem}" for problem in found)
        if board is not None and device is not None:
            resolved[board_name] = (board, device)
    return resolved


def _event_distance(clock_mhz: float, event_rate_mhz: float) -> int:
    """Count whole cycles between events, rounded down to be in time for each; 0 when events are too frequent."""
    return math.floor(exact(clock_mhz) / exact(event_rate_mhz))


def _timing_problems(system: System) -> list[str]:
    problems = []
    if system.event_rate_mhz is not None and not 1 <= system.ii <= MAX_II:
        distance = float(exact(system.clock_mhz) / exact(system.event_rate_mhz))
        problems.append(
            f"event_rate_mhz {plain(system.event_rate_mhz)} at {plain(system.clock_mhz)} MHz is an event every "
            f"{plain(distance)} cycles; allowed are 1 to {MAX_II}. Change the clock or the event rate."
        )
    slow: dict[Device, list[str]] = {}
    for fpga in system.fpgas:
        if system.clock_mhz > fpga.device.clock_limit_mhz:
            slow.setdefault(fpga.device, []).append(fpga.name)
    for device, names in slow.items():
        problems.append(
            f"clock_mhz {plain(system.clock_mhz)} is above the {plain(device.clock_limit_mhz)} MHz that the clock "
            f"network of {device.name}, speed grade {device.speed_grade}, allows ({', '.join(names)})"
        )
    return problems


def _topology_problems(system: System) -> list[str]:
    names = [fpga.name for fpga in system.fpgas]
    if not 1 <= len(names) <= MAX_FPGAS:
        return [f"a system has 1 to {MAX_FPGAS} FPGAs, found {len(names)}"]
    needed = [f"{first} -> {second}" for first, second in zip(names, names[1:], strict=False)]
    found = [f"{link.from_fpga} -> {link.to_fpga}" for link in system.links]
    if found == needed:
        return []
    return [
        f"not a chain: {len(names)} FPGAs need the links {', '.join(needed) or 'none'}, in this order; "
        f"found {', '.join(found) or 'none'}"
    ]


def _lane_problems(system: System) -> list[str]:
    boards = {fpga.name: fpga.board for fpga in system.fpgas}
    problems = []
    for link in system.links:
        for end in (link.from_fpga, link.to_fpga):
            have = boards[end].lanes_at(link.line_rate_gbps)
            if have < link.lanes:
                problems.append(
                    f"link {link.from_fpga} -> {link.to_fpga}: needs {link.lanes} lanes of "
                    f"{plain(link.line_rate_gbps)} Gb/s, {end} ({boards[end].name}) has {have}"
                )
    return problems
