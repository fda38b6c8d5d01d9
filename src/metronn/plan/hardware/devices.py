"""Devices: what the TOML files of `boards/devices/` and `boards/timings/` say of an FPGA."""

from typing import Annotated

from pydantic import Field, model_validator

from metronn.plan.hardware.arcs import Arcs
from metronn.plan.hardware.fabric import Fabric, Multiplier
from metronn.plan.hardware.regions import Crossing, Methodology, Region, region_problems
from metronn.plan.hardware.resources import Resources
from metronn.toml_tables import Count, FrequencyMhz, Table, Text, whole

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
