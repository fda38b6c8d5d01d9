"""Devices and boards: what the TOML files below `boards/` say of an FPGA and of the board it sits on."""

from importlib import resources as package_resources
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field, model_validator

from metronn.errors import ModelError
from metronn.plan.hardware.arcs import Arcs
from metronn.plan.hardware.fabric import Fabric, Multiplier
from metronn.plan.hardware.regions import Crossing, Methodology, Region, beyond, region_problems
from metronn.plan.hardware.resources import Resources
from metronn.toml_tables import (
    Count,
    FrequencyMhz,
    Lanes,
    LineRateGbps,
    Table,
    Text,
    number,
    parse,
    read_toml,
    unknown_name,
    whole,
)

PACKAGED = Path(str(package_resources.files("metronn"))) / "_data" / "boards"
"""Where an installed metronn has the hardware descriptions."""
CHECKOUT = Path(__file__).resolve().parents[4] / "boards"
"""Where a checkout of the repository has them."""

Fraction01 = Annotated[float, number(0, 1)]


Words = Annotated[int, whole(1, 1 << 20)]
Bits = Annotated[int, whole(1, 1024)]
Luts = Annotated[int, whole(1, 1024)]
PortBits = Annotated[int, whole(2, 64)]


class Dsp(Table):
    """The DSP blocks of a device.

    `multiplier_widths`: bits of the ports of a signed multiplier, of which a block has `multipliers_per_block`;
    `whole_block_widths`: those of the one multiplier that it is instead, where it can be. Products of fewer bits than
    `least_product_bits` are built from LUTs by the synthesis tools.
    """

    kind: Text
    count: Count
    multiplier_widths: tuple[PortBits, PortBits]
    multipliers_per_block: Annotated[int, whole(1, 16)] = 1
    whole_block_widths: tuple[PortBits, PortBits] | None = None
    least_product_bits: Annotated[int, whole(1, 64)]

    @property
    def multipliers(self) -> tuple[Multiplier, ...]:
        """What a block may be."""
        kinds = [(self.multiplier_widths, self.multipliers_per_block)]
        if self.whole_block_widths is not None:
            kinds.append((self.whole_block_widths, 1))
        return tuple(Multiplier(wide=max(ports), narrow=min(ports), per_block=count) for ports, count in kinds)


class Bram(Table):
    """The block RAM of a device, in its own blocks.

    A block is `parts_per_block` memories that are used by themselves, each in one of the `part_shapes`: words and
    bits, with a port to write and one to read.
    """

    kind: Text
    count: Count
    kbit_per_block: Annotated[int, whole(1, 1024)]
    parts_per_block: Annotated[int, whole(1, 16)]
    part_shapes: tuple[tuple[Words, Bits], ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _shapes_fit(self) -> "Bram":
        room = self.kbit_per_block * 1024 // self.parts_per_block
        for words, bits in self.part_shapes:
            if words * bits > room:
                raise ValueError(
                    f"part_shapes: {words} words of {bits} bits are {words * bits:,} bits, a part has {room:,} "
                    f"({self.kbit_per_block} Kb in {self.parts_per_block})"
                )
        return self


class Uram(Table):
    """The UltraRAM blocks of a device, 288 Kb each."""

    count: Count


class Yosys(Table):
    """The Yosys command and family that map to a device, or to its nearest relative."""

    command: Text
    family: Text


Picoseconds = Annotated[int, whole(0, 1_000_000)]


class Grade(Table):
    """What the steps of paths take at a speed grade: the fields of `Arcs`."""

    grade: Text
    net_ps: Annotated[int, whole(1, 100_000)]
    wide_net_ps: Picoseconds
    carry_entry_ps: Picoseconds
    carry_ps: Picoseconds
    dsp_ps: Picoseconds
    dsp_bare_ps: Picoseconds
    dsp_period_ps: Picoseconds
    block_ram_ps: Picoseconds
    block_ram_bare_ps: Picoseconds
    overhead_ps: Picoseconds

    @property
    def arcs(self) -> Arcs:
        """The steps."""
        return Arcs(**self.model_dump(exclude={"grade"}))


class FamilyTiming(Table):
    """Timing of the devices of a family, by speed grade."""

    name: Text
    title: Text
    source: Text
    grades: tuple[Grade, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _grades_are_distinct(self) -> "FamilyTiming":
        if len(set(self.names)) != len(self.grades):
            raise ValueError(f"grades: each once, found {', '.join(self.names)}")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The speed grades."""
        return tuple(grade.grade for grade in self.grades)


class Device(Table):
    """One FPGA type.

    `lut` counts look-up tables of `lut_inputs` inputs, which multiplexers beside them join to functions of up to
    `joined_lut_inputs`; `adder_takes_logic`: the LUT of a bit of an addition is also that of the logic before it.
    `timing` is that of its family, in which `speed_grade` is one of the grades. `lut_shift_cycles` cycles are what
    one LUT delays a bit as a shift register. `lut_memory`: words, bits and LUTs of memories made of LUTs;
    `one_port_lut_memory`: of those read at the word that is written. `slr` counts super logic regions (dies),
    `regions` says what each has where they are several, `crossing` what lies between neighbours;
    `clock_limit_mhz` is the highest frequency of the global clock network.
    """

    name: Text
    part: Text
    vendor: Text
    family: Text
    speed_grade: Text
    lut: Count
    lut_inputs: Annotated[int, whole(4, 8)]
    joined_lut_inputs: Annotated[int, whole(4, 16)]
    adder_takes_logic: bool
    lut_shift_cycles: Annotated[int, whole(0, 1024)]
    lut_memory: tuple[tuple[Words, Bits, Luts], ...]
    one_port_lut_memory: tuple[tuple[Words, Bits, Luts], ...]
    timing: FamilyTiming
    ff: Count
    slr: Annotated[int, whole(1, 16)]
    clock_limit_mhz: FrequencyMhz
    source: Text
    dsp: Dsp
    bram: Bram
    uram: Uram
    yosys: Yosys
    regions: tuple[Region, ...] = ()
    crossing: Crossing = Crossing()
    methodology: Methodology | None = None

    @model_validator(mode="after")
    def _regions_are_the_device(self) -> "Device":
        found = list(region_problems(self.slr, self.regions, self.resources, self.bram.parts_per_block / 2))
        if found:
            raise ValueError("; ".join(found))
        return self

    @model_validator(mode="after")
    def _joined_are_no_fewer(self) -> "Device":
        if self.joined_lut_inputs < self.lut_inputs:
            raise ValueError(
                f"joined_lut_inputs must be at least lut_inputs, which is {self.lut_inputs}, found "
                f"{self.joined_lut_inputs}"
            )
        return self

    @model_validator(mode="after")
    def _grade_is_known(self) -> "Device":
        self._check_grade(self.speed_grade)
        return self

    def _check_grade(self, grade: str) -> None:
        if grade not in self.timing.names:
            raise ValueError(
                f"speed_grade must be one of {', '.join(self.timing.names)} (those of timing {self.timing.name!r}), "
                f"found {grade!r}"
            )

    def with_grade(self, grade: str) -> "Device":
        """Return the device at another speed grade. Raises ValueError for one that its timing does not have."""
        self._check_grade(grade)
        other: Device = self.model_copy(update={"speed_grade": grade})
        return other

    @property
    def arcs(self) -> Arcs:
        """What the steps of paths take at the device's speed grade."""
        (found,) = (grade.arcs for grade in self.timing.grades if grade.grade == self.speed_grade)
        return found

    @property
    def bram_kbit(self) -> int:
        """Block RAM in kilobits (1024 bits)."""
        return self.bram.count * self.bram.kbit_per_block

    @property
    def resources(self) -> Resources:
        """All that the device has; a unit of block RAM is two parts that are used by themselves."""
        parts = self.bram.count * self.bram.parts_per_block
        return Resources(lut=self.lut, ff=self.ff, dsp=self.dsp.count, bram36=parts / 2, uram=self.uram.count)

    @property
    def region_names(self) -> tuple[str, ...]:
        """Names of the regions, from the lowest; one name for a device of one die."""
        return tuple(region.name for region in self.regions) or ("SLR0",)

    @property
    def region_resources(self) -> tuple[Resources, ...]:
        """All that each region has; a device of one die is one region."""
        parts = self.bram.parts_per_block
        return tuple(
            Resources(lut=one.lut, ff=one.ff, dsp=one.dsp, bram36=one.bram * parts / 2, uram=one.uram)
            for one in self.regions
        ) or (self.resources,)

    @property
    def fabric(self) -> Fabric:
        """What kernels on the device are built of."""
        return Fabric(
            lut_inputs=self.lut_inputs,
            joined_lut_inputs=self.joined_lut_inputs,
            adder_takes_logic=self.adder_takes_logic,
            lut_shift_cycles=self.lut_shift_cycles,
            lut_memories=tuple(sorted(self.lut_memory)),
            one_port_lut_memories=tuple(sorted(self.one_port_lut_memory)),
            multipliers=self.dsp.multipliers,
            least_product_bits=self.dsp.least_product_bits,
            block_shapes=self.bram.part_shapes,
        )


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
