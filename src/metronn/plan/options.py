"""Options of the planner: the `[plan]` table of metronn.toml."""

from __future__ import annotations

import enum

from pydantic import BaseModel, ConfigDict, Field


class Fold(enum.Enum):
    """How matrix-vector products are folded over the cycles of an event."""

    FULL = "full"
    LATENCY = "latency"


class OutputForm(enum.Enum):
    """How results leave: all elements together, or in the beats in which they are made."""

    PARALLEL = "parallel"
    STREAM = "stream"


class PlanOptions(BaseModel):
    """What the planner may choose.

    `fold`: `full` uses every multiplier in each of the II cycles; `latency` may spend multipliers on shorter folds.
    `fpgas`: number of FPGAs to use, in chain order; none lets the planner take as few as give the least latency.
    `outputs`: `parallel` gathers all elements of a result into one cycle, `stream` keeps the beats.
    `max_latency_ns`: the promise must not exceed this.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fold: Fold = Fold.FULL
    fpgas: int | None = Field(default=None, ge=1, le=16)
    outputs: OutputForm = OutputForm.PARALLEL
    max_latency_ns: float | None = Field(default=None, gt=0)
