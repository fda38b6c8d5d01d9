"""Which multipliers of a folded matrix product see a weight other than 0: the HLS library makes no others.

The loops of the library are unrolled over the multipliers and index the weights by the beat, so that a multiplier whose
weights are all 0 would stand there like any other.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from metronn.emit.hls.index import Members
from metronn.ir.arrays import Array
from metronn.plan.kernels.folds.lanes import NONE, inputs_of_slice, outputs_of_lanes, taken

Live = npt.NDArray[np.bool_]


def outputs_live(weight: Array, parallel: int, beats: int, remainder: int) -> tuple[Live, Live]:
    """Return which multipliers of a fold over outputs are needed: [lane, input], and [output, lane] of the remainder.

    `weight` [output, input]; the last `remainder` outputs are summed in slices of the inputs. An output that the last
    beat lacks is one of zeros.
    """
    live = weight != 0
    whole, inputs = len(live) - remainder, live.shape[1]
    outputs = outputs_of_lanes(parallel, beats)
    main = taken(live[:whole], np.where(outputs < whole, outputs, NONE))
    rest = taken(live[whole:].T, inputs_of_slice(inputs, beats))
    return np.asarray(main.any(axis=0)), np.asarray(rest.any(axis=0).T)


def inputs_live(weight: Array, lanes: int, beats: int) -> Live:
    """Return which multipliers of a fold over inputs are needed, [output, lane].

    `weight` [output, input]. In beat b lane k takes input b * lanes + k.
    """
    inputs = np.arange(beats * lanes, dtype=np.int64).reshape(beats, lanes)
    live = taken(weight.T != 0, np.where(inputs < weight.shape[1], inputs, NONE))
    return np.asarray(live.any(axis=0).T)


def add_live(members: Members, copies: int, main: Live, rest: Live | None = None) -> None:
    """Add `live`, `live_rest` (when given) and `multipliers` to a configuration: their number over all copies, or 1."""
    count = int(main.sum()) + (0 if rest is None else int(rest.sum()))
    members.constant("multipliers", max(1, copies * count))
    for name, table in (("live", main), ("live_rest", rest)):
        if table is not None:
            values = table.astype(np.int64) if table.size else np.zeros((1, 1), dtype=np.int64)
            members.matrix(name, values, np.ones(values.shape, dtype=bool))
