"""Run all that the tables of the pages state, at one revision, and write the tables.

    cd benchmarks; python -m evidence [--only NAME ...] [--list] [--write] [--dirty]

Steps run one after another; what each of their parts printed is kept in benchmarks/.evidence/REVISION, with the date,
the load of the machine before and after, and the seconds. A run that was stopped goes on where it stopped, as long as
the revision is the same; parts that failed are run again, parts that their time limit ended are not: their table says
so. A tree with changes is refused; with --dirty it is run, and its results are kept apart and never written into a
page. Changes of the pages themselves are none, so that tables may be written between two runs.

--write only writes tables, of every step the newest results. A table that was edited by hand is not written over unless
there is a result. Exit status 1 when a step failed.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from evidence.pages import MEASURED, Origin, PageError, blocks, write
from evidence.steps import Part, Step
from evidence.store import CHECKED, DIRTY, Record, Store, StoreError, revision

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "benchmarks" / ".evidence"
LATE = "No part of it was done within its limit."
PATH = re.compile(r"'/[^'|\n]*'?|(?<=[\s:(=])/[\w.-]+/[^\s|,;:)]*")
"""An absolute path, in quotes or bare."""


def origin_of(step: Step, records: Mapping[str, Record]) -> Origin:
    """Return where a table is from: revision, last date, span of the load, sum of the seconds, what went wrong."""
    found = list(records.values())
    loads = [load[0] for record in found for load in (record.load_before, record.load_after)]
    machine = f"{found[0].cores} cores ({found[0].cpu})"
    seconds = sum(record.wall_s for record in found)
    late = [f"{name} ({record.limit_s:,.0f} s)" for name, record in records.items() if record.status is None]
    missed = [name for name, record in records.items() if record.status == 1]
    notes = f"; not done within its limit: {', '.join(late)}" if late else ""
    if missed:
        notes += "; status 1, a figure misses its target" + (f": {', '.join(missed)}" if len(records) > 1 else "")
    return Origin(
        how=MEASURED,
        revision=found[0].revision,
        date=max(record.ended for record in found),
        rest=f"; load {min(loads):.1f} to {max(loads):.1f} on {machine}; {seconds:,.0f} s: `{step.shown}`{notes}",
    )


def table_of(step: Step, records: Mapping[str, Record]) -> str:
    """Return the table of a step, without paths of this machine, which errors of tools may name.

    Raises StoreError where an output is not what the table is made from.
    """
    outputs = {name: record.output for name, record in records.items() if record.status in CHECKED}
    try:
        return PATH.sub("(a path)", step.table(outputs)) if outputs else LATE
    except (ValueError, KeyError, TypeError) as error:
        raise StoreError(f"step {step.name}: no table can be made of what it printed: {error!r}") from error


def newest(folder: Path, step: Step) -> dict[str, Record]:
    """Return the records of a step at the revision at which it was finished last; nothing where it never was."""
    finished = []
    for place in sorted(folder.glob("*")) if folder.is_dir() else ():
        store = Store(root=ROOT, folder=folder, revision=place.name)
        records = {part.name: record for part in step.parts if (record := store.record(step, part)) is not None}
        whole = len(records) == len(step.parts) and all(record.finished for record in records.values())
        if whole and not place.name.endswith(DIRTY):
            finished.append(records)
    return max(finished, key=lambda records: max(record.ended for record in records.values()), default={})


def written(root: Path, folder: Path, steps: Sequence[Step]) -> list[str]:
    """Write the table of every step that has newer results than its page; return what failed."""
    pages = {step.name: root / step.page for step in steps}
    shown = {block.name: block for page in dict.fromkeys(pages.values()) for block in blocks(page)}
    made, failed = {}, []
    for step in steps:
        records = newest(folder, step)
        if not records:
            continue
        origin, there = origin_of(step, records), shown.get(step.name)
        if there is None or there.edited or there.origin.how != MEASURED or there.origin.date <= origin.date:
            try:
                made[step.name] = (table_of(step, records), origin)
            except StoreError as error:
                failed.append(str(error))
    for name in write(pages, made):
        tell(f"table {name}: written")
    return failed


def run(store: Store, steps: Sequence[Step]) -> list[str]:
    """Run what is not there yet; return what failed."""
    failed = []
    for step in steps:
        for part in step.parts:
            name = step.name if len(step.parts) == 1 else f"{step.name}, {part.name}"
            record = store.record(step, part)
            if record is not None and record.finished:
                tell(f"{name}: there, of {record.ended}")
                continue
            tell(f"{name}: {part.shown}")
            record = store.run(step, part)
            tell(f"{name}: {outcome(part, record)}, {record.wall_s:.0f} s")
            if not record.finished:
                failed.append(f"{name}: {outcome(part, record)}")
    return failed


def outcome(part: Part, record: Record) -> str:
    """Return how a part ended, with the last line of what it said where that is of use."""
    if record.status is None:
        return f"not done after {part.limit_s:,.0f} s"
    if record.finished:
        return "done" if record.status == 0 else "done, a figure misses its target"
    return f"status {record.status}: {(record.said.strip().splitlines() or ['nothing said'])[-1]}"


def tell(text: str) -> None:
    """Say what happens on standard error."""
    print(text, file=sys.stderr, flush=True)


def listed(steps: Sequence[Step], folder: Path) -> list[str]:
    """Return a line for each step: where its table stands, its parts, its time, its newest results."""
    lines = []
    for step in steps:
        records = newest(folder, step)
        there = f"results of {next(iter(records.values())).revision}" if records else "no results"
        lines.append(f"{step.name:22}{step.page:24}{len(step.parts):4} parts {step.minutes:6g} min  {there}")
    return lines


def chosen(steps: Sequence[Step], names: Sequence[str]) -> tuple[Step, ...]:
    """Return the steps of these names, all for none. Raises StoreError for a name that no step has."""
    known = [step.name for step in steps]
    if unknown := sorted(set(names) - set(known)):
        raise StoreError(f"--only: found {', '.join(unknown)}; steps are {', '.join(known)}")
    return tuple(step for step in steps if not names or step.name in names)


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="evidence", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="these steps")
    parser.add_argument("--list", action="store_true", help="list the steps and end")
    parser.add_argument("--write", action="store_true", help="run nothing, write tables from the results there are")
    parser.add_argument("--dirty", action="store_true", help="run with changes that are not committed; writes no table")
    return parser.parse_args(arguments)


def main(
    steps: Sequence[Step], root: Path = ROOT, folder: Path = FOLDER, arguments: Sequence[str] | None = None
) -> int:
    """Run, write, or list; returns the exit status."""
    given = parsed(arguments)
    try:
        wanted = chosen(steps, given.only)
        if given.list:
            print("\n".join(listed(wanted, folder)))
            return 0
        failed = [] if given.write else run(store_of(root, folder, steps, dirty=given.dirty), wanted)
        failed += [] if given.dirty else written(root, folder, steps)
    except (StoreError, PageError) as error:
        tell(f"error: {error}")
        return 2
    for text in failed:
        tell(f"failed: {text}")
    return 1 if failed else 0


def store_of(root: Path, folder: Path, steps: Sequence[Step], *, dirty: bool) -> Store:
    """Return the store of the revision. Raises StoreError for a tree with changes, unless that is asked for."""
    pages = tuple(dict.fromkeys(step.page for step in steps))
    at = revision(root, pages)
    if at.endswith(DIRTY) and not dirty:
        raise StoreError(
            "there are changes that are not committed: what is measured would be of no revision.\n"
            "  Commit them, or use --dirty, which writes no table."
        )
    return Store(root=root, folder=folder, revision=at if at.endswith(DIRTY) or not dirty else at + DIRTY)


if __name__ == "__main__":
    from evidence.listed import STEPS

    raise SystemExit(main(STEPS))
