"""Which events calibrate, and which ones judge what came of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from metronn.ir.arrays import Array

HELD_OUT = 5
"""Every so-manieth event never calibrates."""
FEWEST = 50
"""With fewer events none can be spared: all calibrate and all judge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Positions of the events that calibrate and of those that judge; `unseen`: no event does both.

    `limit` is what `split_events` needs to give the same split again.
    """

    limit: int
    calibrating: Array
    judging: Array
    unseen: bool

    def without(self, left_out: Array) -> Split:
        """Return the split in which events of a mask do not calibrate; unless that leaves none."""
        kept = self.calibrating[~left_out[self.calibrating]]
        return replace(self, calibrating=kept) if len(kept) else self


def candidates(count: int) -> int:
    """Return how many of `count` events may calibrate."""
    return count - count // HELD_OUT if count >= FEWEST else count


def split_events(count: int, limit: int) -> Split:
    """Split `count` events of which at most `limit` are to calibrate, evenly spaced over those that may.

    From 50 events on every fifth never calibrates; it judges, as does everything else that did not calibrate.
    """
    everything = np.arange(count)
    unseen = count >= FEWEST
    may = everything[everything % HELD_OUT != HELD_OUT - 1] if unseen else everything
    used = max(1, min(limit, len(may)))
    calibrating = may[np.arange(used) * len(may) // used]
    judging = np.setdiff1d(everything, calibrating) if unseen else everything
    return Split(limit=limit, calibrating=calibrating, judging=judging, unseen=unseen)
