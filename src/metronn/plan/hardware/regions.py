"""Super logic regions: the dies of a device, what each has, and what it takes to get from one to the next.

Regions lie in a row: the first is at the bottom, and only neighbours are joined, by super long lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import AfterValidator

from metronn.plan.hardware.resources import Resources
from metronn.toml_tables import Count, Table, Text, number, plain, whole

Share = Annotated[float, number(0, 1)]

LIMITED = ("lut", "ff", "dsp", "bram", "uram")
"""Keys of shares of resources, in `usable_fraction` and in `methodology`."""


def _name(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", value):
        raise ValueError(f"must be a word of letters, digits and underscores, found {value!r}")
    return value


def _range(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_: ]+", value):
        raise ValueError(f"must be a region or ranges such as CLOCKREGION_X0Y0:CLOCKREGION_X7Y3, found {value!r}")
    return value


class Region(Table):
    """One die: its resources in the units of the device's file, and what `resize_pblock -add` calls it."""

    name: Annotated[Text, AfterValidator(_name)]
    pblock: Annotated[Text, AfterValidator(_range)]
    lut: Count
    ff: Count
    dsp: Count
    bram: Count
    uram: Count


class Crossing(Table):
    """From a region to its neighbour: a bit goes through `cycles` registers; `lines` bits have room, if published.

    UG949 asks for three registers on wide buses above 250 MHz: one on either side, and one for the way.
    """

    cycles: Annotated[int, whole(2, 16)] = 3
    lines: Annotated[int, whole(1, 1_000_000)] | None = None
    source: Text = "AMD UG949: at least three register stages for wide buses between regions above 250 MHz"


class Methodology(Table):
    """The share of each resource of a region above which the vendor's own methodology does not expect timing to close.

    A device whose vendor names none has no such table.
    """

    lut: Share
    ff: Share
    dsp: Share
    bram: Share
    uram: Share
    source: Text


def region_problems(slr: int, regions: tuple[Region, ...], totals: Resources, bram_unit: float) -> Iterator[str]:
    """Say what is wrong with the regions of a device of `slr` dies; a unit of `bram` is `bram_unit` of `bram36`."""
    if slr > 1 and not regions:
        yield (
            f"slr is {slr}, [[regions]] are missing: a device of several dies states name, pblock, lut, ff, dsp, bram "
            "and uram of each, from the lowest to the highest"
        )
        return
    if not regions:
        return
    if len(regions) != slr:
        yield f"slr is {slr}, [[regions]] are {len(regions)}; one for each die is needed"
    for key in ("name", "pblock"):
        found = [getattr(region, key) for region in regions]
        if len(set(found)) != len(found):
            yield f"regions: key '{key}' must differ from region to region, found {', '.join(found)}"
    have = totals.as_dict()
    for key in LIMITED:
        total = sum(getattr(region, key) for region in regions)
        whole_device = int(have["bram36"] / bram_unit) if key == "bram" else int(have[key])
        if total != whole_device:
            yield f"regions: key '{key}' adds up to {total:,}, the device has {whole_device:,}"


def beyond(shares: Table, methodology: Methodology | None) -> Iterable[str]:
    """Say for which resources `usable_fraction` is above what the methodology of the device's vendor allows."""
    if methodology is None:
        return ()
    over = [key for key in LIMITED if getattr(shares, key) > getattr(methodology, key)]
    return tuple(f"{key} {plain(getattr(shares, key))} (at most {plain(getattr(methodology, key))})" for key in over)
