"""Options of a search for widths: the `[search]` table of metronn.toml."""

from __future__ import annotations

from typing import Annotated

from pydantic import Strict

from metronn.errors import ModelError
from metronn.toml_tables import Flag, Table, Text, key, whole

LEAST_EVALUATIONS = 50
Bits = Annotated[int, whole(2, 32)]


class SearchOptions(Table):
    """What `metronn quantize --search` may try."""

    narrowest: Bits = key(2, "fewest bits", flag=Flag(metavar="N", help="Search: fewest bits."))
    widest: Bits = key(
        12, "most bits, where the search begins", flag=Flag(metavar="N", help="Search: most bits, where it begins.")
    )
    per_channel: Annotated[bool, Strict()] = key(
        False,
        "then a width for each output channel of weights, too",
        flag=Flag(name="--per-channel", help="Search: then a width for each output channel of weights too."),
    )
    keep: tuple[Text, ...] = key(
        (),
        "layers, by name or pattern, whose widths stay",
        flag=Flag(metavar="LAYER", help="Search: leave layers of this name (or pattern); repeatable."),
    )
    held_out_events: Annotated[int, whole(1, 1_000_000_000)] = key(
        4096,
        "at most so many events, that do not calibrate, judge",
        flag=Flag(metavar="N", help="Search: events that judge, at most."),
    )
    max_evaluations: Annotated[int, whole(LEAST_EVALUATIONS, 1_000_000_000)] = key(
        2000,
        "after so many evaluations the best that was found is taken",
        flag=Flag(metavar="N", help="Search: take what was found after so many."),
    )

    def check(self) -> None:
        """Raise ModelError unless the fewest bits are at most the most."""
        if self.narrowest > self.widest:
            raise ModelError(f"--narrowest {self.narrowest}, --widest {self.widest}: the narrowest comes first")
