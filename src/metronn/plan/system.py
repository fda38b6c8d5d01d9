"""Systems: FPGAs in a chain, the links between them, one clock, and how often an event comes."""

import math
import os
import re
from enum import StrEnum
from fractions import Fraction
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from metronn.errors import ModelError
from metronn.plan.boards import (
    Board,
    Device,
    board_table,
    boards_directory,
    find_file,
    list_boards,
    list_systems,
    load_board,
    load_device,
)
from metronn.plan.resources import Resources
from metronn.plan.tables import (
    FrequencyMhz,
    Lanes,
    LineRateGbps,
    Table,
    Text,
    collect,
    number,
    parse,
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


class Encoding(StrEnum):
    """Line code of a serial link."""

    B64B66 = "64b66b"
    B8B10 = "8b10b"

    @property
    def efficiency(self) -> Fraction:
        """Payload bits per line bit."""
        return Fraction(64, 66) if self is Encoding.B64B66 else Fraction(8, 10)


def _encoding(value: object) -> object:
    if value not in list(Encoding):
        raise ValueError(f"must be one of {', '.join(Encoding)}, found {value!r}")
    return Encoding(value)


def _identifier(value: object) -> object:
    if not isinstance(value, str) or not re.fullmatch(r"[a-z][a-z0-9_]{0,30}", value):
        raise ValueError(f"must be a name of 1 to 31 lower-case letters, digits and _, a letter first, found {value!r}")
    return value


Identifier = Annotated[str, BeforeValidator(_identifier)]
Nanoseconds = Annotated[float, number(0, 1_000_000)]
Ii = Annotated[int, whole(1, MAX_II)]


class LinkSettings(Table):
    """A bundle of equal lanes in one direction.

    In every clock cycle a lane carries one word of `word_width_bits` payload bits and `sideband_bits` of
    framing. `latency_min_ns` and `latency_max_ns` bound the raw latency from the sender's word to the receiver's
    elastic buffer; the release at a programmed cycle comes on top and is the plan's.
    """

    lanes: Lanes
    line_rate_gbps: LineRateGbps
    encoding: Annotated[Encoding, BeforeValidator(_encoding)] = Encoding.B64B66
    word_width_bits: Annotated[int, whole(1, 1024)] = 64
    sideband_bits: Annotated[int, whole(0, 64)] = 4
    latency_min_ns: Nanoseconds
    latency_max_ns: Nanoseconds

    @model_validator(mode="after")
    def _latency_bounds_are_ordered(self) -> "LinkSettings":
        if self.latency_min_ns > self.latency_max_ns:
            raise ValueError(
                f"latency_min_ns must not be above latency_max_ns, found {self.latency_min_ns:g} and "
                f"{self.latency_max_ns:g}"
            )
        return self

    @property
    def payload_gbps(self) -> float:
        """What one lane carries after line coding, in Gb/s."""
        return float(_exact(self.line_rate_gbps) * self.encoding.efficiency)


class Link(LinkSettings):
    """A link of a system: from one FPGA to the next, with the system's clock."""

    from_fpga: Identifier
    to_fpga: Identifier
    clock_mhz: FrequencyMhz

    @property
    def latency_min_cycles(self) -> int:
        """The least raw latency in whole clock cycles: rounded down, at least 1."""
        return max(1, math.floor(_cycles(self.latency_min_ns, self.clock_mhz)))

    @property
    def latency_max_cycles(self) -> int:
        """The greatest raw latency in whole clock cycles: rounded up, at least 1."""
        return max(1, math.ceil(_cycles(self.latency_max_ns, self.clock_mhz)))

    @property
    def payload_bits_per_cycle(self) -> int:
        """Payload bits that all lanes carry together in one clock cycle."""
        return self.lanes * self.word_width_bits

    def problems(self) -> list[str]:
        """What is wrong with the word rate: empty, or one message with the numbers."""
        bits = self.word_width_bits + self.sideband_bits
        carried = _exact(self.line_rate_gbps) * self.encoding.efficiency
        if bits * _exact(self.clock_mhz) <= carried * 1000:
            return []
        highest_mhz = math.floor(carried * 1000 / bits * 100) / 100
        return [
            f"link {self.from_fpga} -> {self.to_fpga}: {bits} bits a cycle ({self.word_width_bits} word + "
            f"{self.sideband_bits} sideband) at {self.clock_mhz:g} MHz need {bits * self.clock_mhz / 1000:g} Gb/s a lane; "
            f"{self.line_rate_gbps:g} Gb/s with {self.encoding.value} carry {float(carried):g} Gb/s. "
            f"Lower the clock to {highest_mhz:g} MHz, narrow the word, or raise the line rate."
        ]


class Fpga(Table):
    """One FPGA of a system. `budget` is what a network may use of it."""

    name: Identifier
    board: Board
    device: Device
    budget: Resources

    @property
    def part(self) -> str:
        """The part name for vendor tools."""
        return self.board.part or self.device.part


class System(Table):
    """A chain of FPGAs with one clock.

    An event enters the first FPGA every `ii` cycles at most; `links[i]` goes from `fpgas[i]` to `fpgas[i + 1]`.
    `event_rate_mhz` is None where `ii` was given outright.
    """

    name: Text
    title: Text
    source: Text
    clock_mhz: FrequencyMhz
    ii: Ii
    event_rate_mhz: FrequencyMhz | None = None
    fpgas: tuple[Fpga, ...]
    links: tuple[Link, ...] = ()

    @property
    def period_ns(self) -> float:
        """The clock period in nanoseconds."""
        return float(1000 / _exact(self.clock_mhz))

    @property
    def period_ps(self) -> float:
        """The clock period in picoseconds."""
        return float(1_000_000 / _exact(self.clock_mhz))

    def nanoseconds(self, cycles: int) -> float:
        """A number of clock cycles in nanoseconds."""
        return float(cycles * 1000 / _exact(self.clock_mhz))

    def with_overrides(self, *, ii: int | None = None, clock_mhz: float | None = None) -> "System":
        """The same system with another II or clock.

        A new clock keeps the event rate where the system names one, and keeps `ii` where it does not.
        Raises ModelError that lists everything the new values break.
        """
        values = {
            "clock_mhz": self.clock_mhz if clock_mhz is None else clock_mhz,
            "ii": ii,
            "event_rate_mhz": self.event_rate_mhz,
        }
        timing = parse(_Timing, {key: value for key, value in values.items() if value is not None}, f"system {self.name}")
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
        """Name and board of every FPGA, the `chain` shorthand written out."""
        if self.chain is not None:
            return [(f"fpga{index}", self.chain.board) for index in range(self.chain.count)]
        return [(entry.name, entry.board) for entry in self.boards]

    def link_entries(self) -> list[dict[str, object]]:
        """Ends and settings of every link, the `chain` shorthand written out."""
        if self.chain is not None:
            settings = self.chain.link.model_dump()
            return [
                settings | {"from_fpga": f"fpga{index}", "to_fpga": f"fpga{index + 1}"}
                for index in range(self.chain.count - 1)
            ]
        return [entry.model_dump() for entry in self.links]


def load_system(name_or_path: str | os.PathLike[str], search: Path | None = None) -> System:
    """The system called by name, or described by the TOML file at a path.

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
    return _resolve(parse(_SystemFile, read_toml(path), str(path)), str(path), roots)


def _resolve(file: _SystemFile, where: str, roots: tuple[Path, ...]) -> System:
    problems: list[str] = []
    fpgas = [_fpga(name, board, where, roots, problems) for name, board in file.board_entries()]
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
    rate = None if file.ii is not None else file.event_rate_mhz or DEFAULT_EVENT_RATE_MHZ
    system = System(
        name=file.name,
        title=file.title,
        source=file.source,
        clock_mhz=file.clock_mhz,
        ii=file.ii if rate is None else _event_distance(file.clock_mhz, rate),
        event_rate_mhz=rate,
        fpgas=tuple(fpga for fpga in fpgas if fpga is not None),
        links=tuple(links),
    )
    system.check()
    return system


def _fpga(name: str, board_name: str, where: str, roots: tuple[Path, ...], problems: list[str]) -> Fpga | None:
    """The FPGA, or None with the reasons added to `problems`."""
    found: list[str] = []
    board = collect(found, lambda: load_board(board_name, roots))
    device = None if board is None else collect(found, lambda: load_device(board.device, roots))
    problems.extend(
        f"{where}: FPGA {name!r}: {problem}" if problem.startswith("unknown") else problem for problem in found
    )
    if board is None or device is None:
        return None
    return Fpga(name=name, board=board, device=device, budget=board.budget(device))


def _exact(value: float) -> Fraction:
    """The decimal number a person wrote, so that 100 ns at 360 MHz are exactly 36 cycles."""
    return Fraction(str(value))


def _cycles(nanoseconds: float, clock_mhz: float) -> Fraction:
    return _exact(nanoseconds) * _exact(clock_mhz) / 1000


def _event_distance(clock_mhz: float, event_rate_mhz: float) -> int:
    """Whole cycles between events, rounded down so that every event is in time; 0 when events are too frequent."""
    return math.floor(_exact(clock_mhz) / _exact(event_rate_mhz))


def _timing_problems(system: System) -> list[str]:
    problems = []
    if system.event_rate_mhz is not None and not 1 <= system.ii <= MAX_II:
        problems.append(
            f"event_rate_mhz {system.event_rate_mhz:g} at {system.clock_mhz:g} MHz is an event every {system.ii} cycles; "
            f"allowed are 1 to {MAX_II}"
        )
    for fpga in system.fpgas:
        if system.clock_mhz > fpga.device.clock_limit_mhz:
            problems.append(
                f"FPGA {fpga.name!r}: clock_mhz {system.clock_mhz:g} is above the {fpga.device.clock_limit_mhz:g} MHz "
                f"that the clock network of {fpga.device.name} (speed grade {fpga.device.speed_grade}) allows"
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
                    f"link {link.from_fpga} -> {link.to_fpga}: needs {link.lanes} lanes of {link.line_rate_gbps:g} Gb/s, "
                    f"{end} ({boards[end].name}) has {have}"
                )
    return problems
