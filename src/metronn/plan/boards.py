"""Devices and boards: what the TOML files below `boards/` say of an FPGA and of the board it sits on."""

from collections.abc import Callable
from importlib import resources as package_resources
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from metronn.errors import ModelError
from metronn.plan.resources import Resources
from metronn.plan.tables import (
    Count,
    FrequencyMhz,
    Lanes,
    LineRateGbps,
    Table,
    TableType,
    Text,
    number,
    parse,
    read_toml,
    unknown_name,
    whole,
)

BRAM36_KBIT = 36
"""Kilobits (1024 bits) in the unit in which block RAM of every vendor is planned."""
PACKAGED = Path(str(package_resources.files("metronn"))) / "_data" / "boards"
"""Where an installed metronn has the hardware descriptions."""
CHECKOUT = Path(__file__).resolve().parents[3] / "boards"
"""Where a checkout of the repository has them."""

Fraction01 = Annotated[float, number(0, 1)]


class Dsp(Table):
    """The DSP blocks of a device: how many, the widths in bits of a signed multiplier, multipliers per block."""

    kind: Text
    count: Count
    multiplier_widths: tuple[Annotated[int, whole(1, 64)], Annotated[int, whole(1, 64)]]
    multipliers_per_block: Annotated[int, whole(1, 16)] = 1


class Bram(Table):
    """The block RAM of a device, in its own blocks."""

    kind: Text
    count: Count
    kbit_per_block: Annotated[int, whole(1, 1024)]


class Uram(Table):
    """The UltraRAM blocks of a device, 288 Kb each."""

    count: Count


class Yosys(Table):
    """The Yosys command and family that map to a device, or to its nearest relative."""

    command: Text
    family: Text


class Device(Table):
    """One FPGA type.

    `lut` counts look-up tables of `lut_inputs` inputs; `slr` super logic regions (dies);
    `clock_limit_mhz` is the highest frequency of the global clock network.
    """

    name: Text
    part: Text
    vendor: Text
    family: Text
    speed_grade: Text
    lut: Count
    lut_inputs: Annotated[int, whole(4, 8)] = 6
    ff: Count
    slr: Annotated[int, whole(1, 16)]
    clock_limit_mhz: FrequencyMhz
    source: Text
    dsp: Dsp
    bram: Bram
    uram: Uram
    yosys: Yosys

    @property
    def bram_kbit(self) -> int:
        """Block RAM in kilobits (1024 bits)."""
        return self.bram.count * self.bram.kbit_per_block

    @property
    def resources(self) -> Resources:
        """All that the device has; block RAM in units of 36 Kb, rounded down to half a unit."""
        half_units = 2 * self.bram_kbit // BRAM36_KBIT
        return Resources(lut=self.lut, ff=self.ff, dsp=self.dsp.count, bram36=half_units / 2, uram=self.uram.count)


class Transceivers(Table):
    """A group of equal serial transceivers of a board: bidirectional lanes and their highest line rate."""

    kind: Text
    lanes: Lanes
    line_rate_gbps: LineRateGbps
    connector: Text


class UsableFraction(Table):
    """The share of each resource that a network may use; the rest is infrastructure and headroom."""

    lut: Fraction01
    ff: Fraction01
    dsp: Fraction01
    bram: Fraction01
    uram: Fraction01
    reason: Text


class Board(Table):
    """A board with one FPGA. `part` overrides the device's part name where the board carries a variant."""

    name: Text
    title: Text
    device: Text
    part: Text | None = None
    reference_clocks_mhz: tuple[FrequencyMhz, ...] = Field(min_length=1)
    source: Text
    usable_fraction: UsableFraction
    transceivers: tuple[Transceivers, ...] = ()

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
        """Return what of `device` a network may use on this board; every resource rounded down."""
        whole_device, share = device.resources, self.usable_fraction
        return Resources(
            lut=whole_device.scaled(share.lut).lut,
            ff=whole_device.scaled(share.ff).ff,
            dsp=whole_device.scaled(share.dsp).dsp,
            bram36=whole_device.scaled(share.bram).bram36,
            uram=whole_device.scaled(share.uram).uram,
        )


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
    """Read the device called `name`. Raises ModelError: unknown name, or everything wrong in its file."""
    return _load(Device, "device", name, roots, lambda device: device.name)


def load_board(name: str, roots: tuple[Path, ...] | None = None) -> Board:
    """Read the board called `name`. Raises ModelError: unknown name, or everything wrong in its file."""
    return _load(Board, "board", name, roots, lambda board: board.name)


def find_file(kind: str, name: str, roots: tuple[Path, ...] | None = None) -> Path:
    """Find the file of the `kind` ("device", "board", "system") called `name`: the first root that has it wins.

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


def _load(
    model: type[TableType], kind: str, name: str, roots: tuple[Path, ...] | None, name_of: Callable[[TableType], str]
) -> TableType:
    path = find_file(kind, name, roots)
    found = parse(model, read_toml(path), str(path))
    if name_of(found) != path.stem:
        raise ModelError(f"{path}: key 'name' must be {path.stem!r} like the file, found {name_of(found)!r}")
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
