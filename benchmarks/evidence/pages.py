"""Blocks of Markdown pages that a program writes: a table between two markers and a line that says where it is from.

    <!-- evidence: NAME sha256:DIGEST -->

    | ... |

    *Measured at REVISION on DATE; load ...: `command`*

    <!-- /evidence -->

The digest is that of all between the markers: a block that was edited by hand is found, and never written over unless
there is a result to write.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

BLOCK = re.compile(
    r"<!-- evidence: (?P<name>[\w-]+) sha256:(?P<digest>[0-9a-f]{16}) -->\n(?P<body>.*?)<!-- /evidence -->", re.DOTALL
)
MARKER = re.compile(r"^<!-- (?P<end>/?)evidence\b.*$", re.MULTILINE)
DIGITS = 16
MEASURED, BY_HAND = "Measured", "Typed by hand"
ORIGIN = re.compile(
    rf"^\*(?P<how>{MEASURED}|{BY_HAND}) at (?P<revision>[0-9a-f]{{7,40}})"
    r" on (?P<date>\d{4}-\d\d-\d\d(?: \d\d:\d\d UTC)?)"
    r"(?:, older than the last evidence run at [0-9a-f]{7,40})?(?P<rest>[;:].*)\*$",
    re.MULTILINE,
)


class PageError(Exception):
    """A page is not as a program wrote it; the text says where and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a table is from: how and at which revision (short), when, and the rest of the line, command included."""

    how: str
    revision: str
    date: str
    rest: str

    def line(self, last: str) -> str:
        """Return the line below the table; `last` is the revision of the last evidence run, or nothing."""
        older = f", older than the last evidence run at {last}" if last not in ("", self.revision) else ""
        return f"*{self.how} at {self.revision} on {self.date}{older}{self.rest}*"


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A table as it stands in a page. `digest` is what the marker says."""

    name: str
    digest: str
    body: str

    @property
    def edited(self) -> bool:
        """Whether it is not what a program wrote."""
        return digest_of(self.body) != self.digest

    @property
    def origin(self) -> Origin:
        """The origin that its line tells. Raises PageError where there is no such line."""
        found = list(ORIGIN.finditer(self.body))
        if not found:
            raise PageError(f"table {self.name}: it has no line of its origin; write it anew")
        return Origin(**found[-1].groupdict())

    @property
    def table(self) -> str:
        """All above that line."""
        return self.body[: list(ORIGIN.finditer(self.body))[-1].start()].strip("\n")


def digest_of(body: str) -> str:
    """Return the first digits of the SHA-256 of what stands between two markers."""
    return hashlib.sha256(body.encode()).hexdigest()[:DIGITS]


def block_text(name: str, table: str, origin: Origin, last: str) -> str:
    """Return a block with its markers."""
    body = f"\n{table.strip(chr(10))}\n\n{origin.line(last)}\n\n"
    return f"<!-- evidence: {name} sha256:{digest_of(body)} -->\n{body}<!-- /evidence -->"


def blocks(page: Path) -> Iterator[Block]:
    """Yield the blocks of a page. Raises PageError for a marker that belongs to none."""
    text = page.read_text(encoding="utf-8")
    found = list(BLOCK.finditer(text))
    known = {mark for match in found for mark in (match.start(), match.end() - len("<!-- /evidence -->"))}
    for mark in MARKER.finditer(text):
        if mark.start() not in known:
            line = text.count("\n", 0, mark.start()) + 1
            raise PageError(
                f"{page}:{line}: found {mark.group()!r}; a table stands between <!-- evidence: NAME sha256:DIGEST --> "
                "and <!-- /evidence -->"
            )
    for match in found:
        yield Block(**match.groupdict())


def last_run(origins: Mapping[str, Origin]) -> str:
    """Return the revision of the newest table that was measured; nothing where none was."""
    measured = [origin for origin in origins.values() if origin.how == MEASURED]
    return max(measured, key=lambda origin: origin.date).revision if measured else ""


def write(pages: Mapping[str, Path], made: Mapping[str, tuple[str, Origin]]) -> tuple[str, ...]:
    """Write tables into pages, bring the lines of all others up to date, and return the names of those that changed.

    `pages` is the page of every table, `made` a table and its origin for those with a result. Raises PageError, and
    writes nothing, where a table has no marker or two, or one without a result was edited by hand.
    """
    found = checked(pages, skip=made)
    origins = {name: made[name][1] if name in made else block.origin for name, block in found.items()}
    last = last_run(origins)

    def text_of(match: re.Match[str]) -> str:
        name = match["name"]
        table = made[name][0] if name in made else found[name].table
        return block_text(name, table, origins[name], last)

    before = {page: page.read_text(encoding="utf-8") for page in dict.fromkeys(pages.values())}
    for page, text in before.items():
        page.write_text(BLOCK.sub(text_of, text), encoding="utf-8")
    after = {block.name: block for page in before for block in blocks(page)}
    return tuple(name for name, block in found.items() if after[name] != block)


def checked(pages: Mapping[str, Path], *, skip: Mapping[str, object]) -> dict[str, Block]:
    """Return the block of every table. Raises PageError with all that is wrong; edits of those in `skip` are none."""
    found: dict[str, Block] = {}
    wrong = []
    for page in dict.fromkeys(pages.values()):
        for block in blocks(page):
            if pages.get(block.name) != page:
                wrong.append(f"{page}: table {block.name}: no step writes it here; add one, or remove the markers")
            elif block.name in found:
                wrong.append(f"{page}: table {block.name}: it has markers twice; remove one pair")
            elif block.edited and block.name not in skip:
                wrong.append(f"{page}: table {block.name} was edited by hand; run its step, or restore it with git")
            found[block.name] = block
    wrong += [
        f"{page}: table {name}: it has no markers; put them where the table shall stand"
        for name, page in pages.items()
        if name not in found
    ]
    if wrong:
        raise PageError("\n".join(wrong))
    return found


Table = Callable[[Mapping[str, str]], str]
"""Makes a table of Markdown from what each part of a step printed."""
