"""Options of the planner: the `[plan]` table of metronn.toml."""

from __future__ import annotations

import enum
from fnmatch import fnmatchcase

from pydantic import BaseModel, ConfigDict, Field


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


class LayerOptions(BaseModel):
    """What is asked of the layers of one name pattern.

    `reuse`: every multiplier is used so many times an event, as hls4ml's ReuseFactor; 1 unrolls the layer.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    reuse: int = Field(ge=1)


class PlanOptions(BaseModel):
    """What the planner may choose.

    `objective`: least latency, then fewest FPGAs; or `resources`: fewest LUT-equivalents (`plan.resources`) among the
    plans within `max_latency_ns`, then least latency.
    `fold`: `full` uses every multiplier in each of the II cycles; `latency` may spend multipliers on shorter folds.
    `fpgas`: number of FPGAs to use, in chain order; none lets the planner take as few as give the least latency.
    `inputs`: `stream` takes every input of two axes or more pixel by pixel over the II, `parallel` all elements in one
    cycle, `auto` streams the inputs that sliding windows read when the II is 2 or more.
    `outputs`: `parallel` gathers all elements of a result into one cycle, `stream` keeps the beats.
    `max_latency_ns`: the promise must not exceed this.
    `layers`: by pattern of the layer's name; the last pattern that matches counts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    objective: Objective = Objective.LATENCY
    fold: Fold = Fold.FULL
    fpgas: int | None = Field(default=None, ge=1, le=16)
    inputs: InputForm = InputForm.AUTO
    outputs: OutputForm = OutputForm.PARALLEL
    max_latency_ns: float | None = Field(default=None, gt=0)
    layers: dict[str, LayerOptions] = Field(default_factory=dict)

    def reuse_of(self, layer: str) -> int | None:
        """Return how often a layer's multipliers are to be used an event, None where nothing is asked."""
        found = [some.reuse for pattern, some in self.layers.items() if fnmatchcase(layer, pattern)]
        return found[-1] if found else None
