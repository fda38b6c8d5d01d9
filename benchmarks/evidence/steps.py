"""What a step of evidence is: commands to run one after another, and the table made from what they print."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from evidence.pages import Table

SHORT_S, LONG_S = 1800.0, 7200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What is run and stored as one: some commands, of which the last one prints the result.

    In the words of a command, `{work}` is a scratch folder and `{before}` a folder with the files of the revision that
    `before` names; `python` is the interpreter that runs the evidence.
    """

    name: str
    commands: tuple[tuple[str, ...], ...]
    limit_s: float = SHORT_S
    before: str = ""

    @property
    def shown(self) -> str:
        """The commands as a reader types them."""
        return " && ".join(" ".join(_quoted(word) for word in command) for command in self.commands)


def _quoted(word: str) -> str:
    return f"'{word}'" if set(word) & set(" *?") else word


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A table of a page: its parts, each resumed by itself, and the function that makes the table from their outputs.

    `shown` stands below the table as the command. `minutes` is a guess for two cores without other work.
    """

    name: str
    page: str
    parts: tuple[Part, ...]
    table: Table
    shown: str
    minutes: float


def command(text: str) -> tuple[str, ...]:
    """Return the words of a command line without quotes."""
    return tuple(text.split())


def one(name: str, page: str, shown: str, table: Table, minutes: float, *, limit_s: float = SHORT_S) -> Step:
    """Return a step of one part and one command."""
    part = Part(name=name, commands=(command(shown),), limit_s=limit_s)
    return Step(name=name, page=page, parts=(part,), table=table, shown=shown, minutes=minutes)


def many(
    name: str, page: str, shown: str, each: Sequence[str], table: Table, minutes: float, *, limit_s: float = LONG_S
) -> Step:
    """Return a step with a part for each name, which stands in the command for `NAME`."""

    def words(part: str) -> tuple[str, ...]:
        return tuple(part if word == "NAME" else word for word in command(shown))

    parts = tuple(Part(name=part, commands=(words(part),), limit_s=limit_s) for part in each)
    return Step(name=name, page=page, parts=parts, table=table, shown=shown, minutes=minutes)
