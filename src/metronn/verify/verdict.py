"""What a rung of the verification found."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

STATIC_RUNG = 6
"""The rung that compares nothing: what is known of the emitted files without running them."""

LEFT_OUT = "left_out_by_size"
"""Key of what is measured where a check was not run since all it looks at is large; no tool is missing."""


class Status(enum.Enum):
    """Outcome of a rung. A rung whose tool is missing is not run, never passed."""

    PASS = "pass"
    FAIL = "fail"
    NOT_RUN = "not_run"

    @property
    def words(self) -> str:
        """The outcome as people read it."""
        return self.value.replace("_", " ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One rung's outcome: how many events and bits were compared, how many bits differ, and when answers came.

    `first` names the first difference (op, layer, event, element, both integers), or says why a rung was not run; at
    the static rung, what was read and found. Timed rungs give the promised cycle and the earliest and latest observed
    one. `measured` is what a rung adds as plain data: rung 1, which compares with floats, `metric` and `outputs`; the
    static rung `findings`, `modules` and others.
    """

    rung: int
    name: str
    status: Status
    events: int = 0
    bits: int = 0
    mismatches: int = 0
    cycles_promised: int | None = None
    cycles_observed_min: int | None = None
    cycles_observed_max: int | None = None
    first: str = ""
    measured: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, object]:
        """Return the form written to manifest.json; timing keys only where the rung is timed."""
        record: dict[str, object] = {
            "rung": self.rung,
            "name": self.name,
            "status": self.status.value,
            "events": self.events,
            "bits": self.bits,
            "mismatches": self.mismatches,
        }
        if self.cycles_promised is not None:
            record["cycles_promised"] = self.cycles_promised
            record["cycles_observed_min"] = self.cycles_observed_min
            record["cycles_observed_max"] = self.cycles_observed_max
        if self.first:
            record["first"] = self.first
        return {**record, **self.measured}

    @staticmethod
    def of(record: Mapping[str, Any]) -> Verdict:
        """Return the verdict that a manifest holds; the reverse of `as_dict`."""
        own = {name: record[name] for name in KEYS if name in record}
        return Verdict(
            **{**own, "status": Status(record["status"])},
            measured={name: value for name, value in record.items() if name not in own},
        )


KEYS = tuple(name for name in Verdict.__dataclass_fields__ if name != "measured")
