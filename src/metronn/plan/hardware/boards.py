"""Boards: what the TOML files below `boards/` say of the cards that FPGAs sit on, and how all those files are found."""

from importlib import resources as package_resources
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, model_validator

from metronn.errors import ModelError
from metronn.plan.hardware.devices import Device, FamilyTiming
from metronn.plan.hardware.regions import beyond
from metronn.plan.hardware.resources import Resources
from metronn.toml_tables import (
    FrequencyMhz,
    Lanes,
    LineRateGbps,
    Table,
    Text,
    number,
    parse,
    read_toml,
    unknown_name,
)

PACKAGED = Path(str(package_resources.files("metronn"))) / "_data" / "boards"
"""Where an installed metronn has the hardware descriptions."""
CHECKOUT = Path(__file__).resolve().parents[4] / "boards"
"""Where a checkout of the repository has them."""

Fraction01 = Annotated[float, number(0, 1)]


class Transceivers(Table):
    """A group of equal serial transceivers of a board: bidirectional lanes and their highest line rate.

    `region`: name of the super logic region that all of them are in, where they are in one.
    """

    kind: Text
    lanes: Lanes
    line_rate_gbps: LineRateGbps
    connector: Text
    region: Text | None = None


class UsableFraction(Table):
    """The share of each resource that a network may use; the rest is infrastructure and headroom."""

    lut: Fraction01
    ff: Fraction01
    dsp: Fraction01
    bram: Fraction01
    uram: Fraction01
    reason: Text


class Board(Table):
    """A board with one FPGA.

    `part` overrides the device's part name where the board carries a variant; `speed_grade` is then that of the part.
    """

    name: Text
    title: Text
    device: Text
    part: Text | None = None
    speed_grade: Text | None = None
    reference_clocks_mhz: tuple[FrequencyMhz, ...] = Field(min_length=1)
    source: Text
    usable_fraction: UsableFraction
    transceivers: tuple[Transceivers, ...] = ()

    @model_validator(mode="after")
    def _part_has_its_grade(self) -> "Board":
        if (self.part is None) != (self.speed_grade is None):
            have, lack = ("part", "speed_grade") if self.speed_grade is None else ("speed_grade", "part")
            raise ValueError(f"missing key {lack!r}: a board with a {have!r} of its own says both")
        return self

    @model_validator(mode="after")
    def _groups_are_distinct(self) -> "Board":
        connectors = [group.connector for group in self.transceivers]
        if len(set(connectors)) != len(connectors):
            raise ValueError(f"transceivers: connectors must differ, found {', '.join(connectors)}")
        return self

    @property
    def lanes(self) -> int:
        """Bidirectional serial lanes of all groups."""
        return sum(group.lanes for group in self.transceivers)

    @property
    def max_line_rate_gbps(self) -> float:
        """The highest line rate of any lane; 0 for a board without transceivers."""
        return max((group.line_rate_gbps for group in self.transceivers), default=0.0)

    def lanes_at(self, line_rate_gbps: float) -> int:
        """How many lanes reach this line rate."""
        return sum(group.lanes for group in self.transceivers if group.line_rate_gbps >= line_rate_gbps)

    def budget(self, device: Device) -> Resources:
        """Return what of `device` a network may use on this board: that of all its regions."""
        return sum(self.region_budgets(device), Resources())

    def region_budgets(self, device: Device) -> tuple[Resources, ...]:
        """Return what of each region of `device` a network may use; every resource rounded down."""
        share = self.usable_fraction
        return tuple(
            Resources(
                lut=region.scaled(share.lut).lut,
                ff=region.scaled(share.ff).ff,
                dsp=region.scaled(share.dsp).dsp,
                bram36=region.scaled(share.bram).bram36,
                uram=region.scaled(share.uram).uram,
            )
            for region in device.region_resources
        )

    def region_problems(self, device: Device) -> list[str]:
        """Say which transceivers are in a region that `device` does not have."""
        return [
            f"board {self.name}: transceivers {group.connector!r}: "
            f"{unknown_name('region', group.region, device.region_names)}"
            for group in self.transceivers
            if group.region is not None and group.region not in device.region_names
        ]

    def warning(self, device: Device) -> str:
        """Say in a line which shares are above the methodology's limits for the device; empty where none is."""
        found = ", ".join(beyond(self.usable_fraction, device.methodology))
        if not found:
            return ""
        return f"board {self.name}: usable_fraction is above the methodology's limits for {device.name}: {found}"


Named = TypeVar("Named", Device, Board, FamilyTiming)


def boards_directory() -> Path:
    """Find the folder with `devices/`, `boards/` and `systems/`: package data, or `boards/` of the checkout.

    Raises ModelError when neither exists.
    """
    for directory in (PACKAGED, CHECKOUT):
        if (directory / "devices").is_dir():
            return directory
    raise ModelError(f"hardware descriptions not found: {PACKAGED} and {CHECKOUT} do not exist; install metronn again")


def list_devices(roots: tuple[Path, ...] | None = None) -> tuple[str, ...]:
    """Return the names of the known devices, sorted."""
    return _names("devices", roots)


def list_boards(roots: tuple[Path, ...] | None = None) -> tuple[str, ...]:
    """Return the names of the known boards, sorted."""
    return _names("boards", roots)


def list_systems(roots: tuple[Path, ...] | None = None) -> tuple[str, ...]:
    """Return the names of the known systems, sorted."""
    return _names("systems", roots)


def load_device(name: str, roots: tuple[Path, ...] | None = None) -> Device:
    """Read the device called `name`, and the timing it names. Raises ModelError: unknown name, or all that is wrong."""
    path = find_file("device", name, roots)
    data = read_toml(path)
    timing = data.get("timing")
    if isinstance(timing, str):
        try:
            data = data | {"timing": load_timing(timing, roots).model_dump()}
        except ModelError as error:
            raise ModelError(
                "\n".join(f"{path}: key 'timing': {line}" for line in error.message.splitlines())
            ) from None
    return _named(parse(Device, data, str(path)), path)


def load_timing(name: str, roots: tuple[Path, ...] | None = None) -> FamilyTiming:
    """Read the timing called `name`. Raises ModelError: unknown name, or everything wrong in its file."""
    return _load(FamilyTiming, "timing", name, roots)


def load_board(name: str, roots: tuple[Path, ...] | None = None) -> Board:
    """Read the board called `name`. Raises ModelError: unknown name, or everything wrong in its file."""
    return _load(Board, "board", name, roots)


def find_file(kind: str, name: str, roots: tuple[Path, ...] | None = None) -> Path:
    """Find the file of the `kind` ("device", "timing", "board", "system") called `name`, in the first root that has it.

    Raises ModelError with the nearest and all known names.
    """
    folder = f"{kind}s"
    for root in _search(roots):
        # The names are compared, never joined to a path, so that a name cannot lead out of the folder.
        for path in (root / folder).glob("*.toml"):
            if path.stem == name:
                return path
    raise ModelError(unknown_name(kind, name, _names(folder, roots)))


def _search(roots: tuple[Path, ...] | None) -> tuple[Path, ...]:
    return (boards_directory(),) if roots is None else roots


def _names(folder: str, roots: tuple[Path, ...] | None) -> tuple[str, ...]:
    return tuple(sorted({path.stem for root in _search(roots) for path in (root / folder).glob("*.toml")}))


def _load(model: type[Named], kind: str, name: str, roots: tuple[Path, ...] | None) -> Named:
    path = find_file(kind, name, roots)
    return _named(parse(model, read_toml(path), str(path)), path)


def _named(found: Named, path: Path) -> Named:
    if found.name != path.stem:
        raise ModelError(f"{path}: key 'name' must be {path.stem!r} like the file, found {found.name!r}")
    return found


def board_table() -> list[dict[str, str | int | float]]:
    """Return one row per known board, sorted by name: the device, its resources, and the share a network may use."""
    return [_row(load_board(name)) for name in list_boards()]


def _row(board: Board) -> dict[str, str | int | float]:
    device = load_device(board.device)
    budget = board.budget(device)
    return {
        "board": board.name,
        "title": board.title,
        "device": device.name,
        "part": board.part or device.part,
        "vendor": device.vendor,
        "family": device.family,
        "speed_grade": board.speed_grade or device.speed_grade,
        "lut": device.lut,
        "ff": device.ff,
        "dsp": device.dsp.count,
        "dsp_kind": device.dsp.kind,
        "bram36": device.resources.bram36,
        "bram_kbit": device.bram_kbit,
        "uram": device.uram.count,
        "slr": device.slr,
        "lanes": board.lanes,
        "line_rate_gbps": board.max_line_rate_gbps,
        "usable_lut": budget.lut,
        "usable_ff": budget.ff,
        "usable_dsp": budget.dsp,
        "usable_bram36": budget.bram36,
        "usable_uram": budget.uram,
        "source": " ".join(board.source.split()),
    }
