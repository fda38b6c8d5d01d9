"""Options of the planner: the `[plan]` table of metronn.toml."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import Annotated

from metronn.plan.hardware.system import MAX_FPGAS, MAX_II
from metronn.toml_tables import Flag, Lanes, Table, Text, key, number, whole

MAX_PARTS = 1024
"""The most parts of a layer."""


class Fold(enum.Enum):
    """How matrix-vector products are folded over the cycles of an event."""

    FULL = "full"
    LATENCY = "latency"


class InputForm(enum.Enum):
    """How inputs come: all elements together, images in raster order, or as suits each of them."""

    AUTO = "auto"
    PARALLEL = "parallel"
    STREAM = "stream"


class OutputForm(enum.Enum):
    """How results leave: all elements together, or in the beats in which they are made."""

    PARALLEL = "parallel"
    STREAM = "stream"


class Objective(enum.Enum):
    """What a plan is best at."""

    LATENCY = "latency"
    RESOURCES = "resources"


class LayerOptions(Table):
    """What is asked of the layers of one name pattern."""

    reuse: Annotated[int, whole(1, MAX_II)] | None = key(
        None, "every multiplier is used so many times an event, as hls4ml's ReuseFactor; 1 unrolls the layer"
    )
    parts: Annotated[int, whole(1, MAX_PARTS)] | None = key(
        None,
        "the layer as so many smaller ones, by its outputs, which may be on several FPGAs",
        shown="1, or as many as it takes where no region of an FPGA holds the layer",
    )


class PlanOptions(Table):
    """What the planner may choose. `fpgas` None lets it take as few as give the least latency."""

    objective: Objective = key(
        Objective.LATENCY,
        "`latency`: least latency, then fewest FPGAs; `resources`: fewest LUT-equivalents (LUT + FF / 2 + 100 DSP + "
        "300 BRAM36 + 1300 URAM) within `max_latency_ns`, then least latency",
        flag=Flag(help="Least latency, or fewest resources within the latency limit."),
    )
    fold: Fold = key(
        Fold.FULL,
        "`full`: every multiplier works in every cycle of the II; `latency`: shorter folds with more multipliers are "
        "allowed",
        flag=Flag(help="How products are folded over the cycles of an event."),
    )
    fpgas: Annotated[int, whole(1, MAX_FPGAS)] | None = key(
        None,
        "exactly so many FPGAs, in chain order",
        shown="least latency, then fewest",
        flag=Flag(metavar="N", help="FPGAs to use, in chain order."),
    )
    inputs: InputForm = key(
        InputForm.AUTO,
        "`stream`: inputs of two axes or more come pixel by pixel in raster order, evenly over the II, as many pixels "
        "of one row a beat as that needs, and in one beat where the image has more rows than the II has cycles; "
        "`parallel`: all elements in one cycle; `auto`: streams the inputs that sliding windows read, where the II is "
        "2 or more",
        flag=Flag(help="Images pixel by pixel, everything in one cycle, or as suits each."),
    )
    outputs: OutputForm = key(
        OutputForm.PARALLEL,
        "`parallel`: all elements of a result in one cycle; `stream`: in the beats in which they are made",
        flag=Flag(help="Results in one cycle, or in beats."),
    )
    input_lanes: Lanes | None = key(
        None,
        "inputs come as [words of 64 bits](words.md) on at most so many lanes, over at most the II, counted in the "
        "promise; without it each has a port as wide as its beats",
        flag=Flag(metavar="N", help="Inputs as 64-bit words on at most so many lanes."),
    )
    output_lanes: Lanes | None = key(
        None,
        "results leave as words likewise, packed as they are made, whatever `outputs` is; without it each has a port "
        "as wide as its beats",
        flag=Flag(metavar="N", help="Results as 64-bit words on at most so many lanes."),
    )
    max_latency_ns: Annotated[float, number(0.001, 1e12)] | None = key(
        None,
        "the promised latency must not exceed this",
        flag=Flag(metavar="F", help="The promised latency must not exceed this."),
    )
    layers: Mapping[Text, LayerOptions] = key(
        {},
        'by pattern of the layer\'s name: `layers."fc*" = {reuse = 4, parts = 2}`; '
        "the last pattern that matches and names the key counts",
    )

    def reuse_of(self, layer: str) -> int | None:
        """Return how often a layer's multipliers are to be used an event, None where nothing is asked."""
        return self._last(some.reuse for pattern, some in self.layers.items() if fnmatchcase(layer, pattern))

    def parts_of(self, layer: str) -> int | None:
        """Return in how many parts a layer is to be made, None where nothing is asked."""
        return self._last(some.parts for pattern, some in self.layers.items() if fnmatchcase(layer, pattern))

    @staticmethod
    def _last(asked: Iterable[int | None]) -> int | None:
        return next((number for number in reversed(list(asked)) if number is not None), None)
