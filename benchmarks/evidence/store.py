"""Results of evidence steps: made by processes, kept by revision, so that a stopped run goes on where it stopped."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

from evidence.steps import Part, Step

DIRTY = "-dirty"
TAIL = 2000
CHECKED = (0, 1)
"""Statuses of a program that has measured; 1 says that a figure misses its target."""


class StoreError(Exception):
    """Evidence cannot be taken; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What one part gave, when, and how busy the machine was. `status` is None where its time limit ended it."""

    revision: str
    command: str
    started: str
    ended: str
    load_before: tuple[float, ...]
    load_after: tuple[float, ...]
    cores: int
    cpu: str
    wall_s: float
    limit_s: float
    status: int | None
    output: str = field(repr=False)
    said: str = field(repr=False)

    @property
    def finished(self) -> bool:
        """Whether it needs no other run: it measured, or was ended by its limit, which is a result too.

        A program that stopped with a traceback has status 1 as well, but nothing to show.
        """
        return self.status is None or (self.status in CHECKED and self.output.strip() != "")


def git(root: Path, *arguments: str) -> bytes:
    """Run git in a checkout and return what it prints. Raises StoreError with what it says."""
    done = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, check=False)
    if done.returncode:
        raise StoreError(f"git {arguments[0]}: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


def revision(root: Path, pages: Sequence[str]) -> str:
    """Return the commit of a checkout, ending in `-dirty` where files other than the pages differ from it."""
    commit = git(root, "rev-parse", "--short=7", "HEAD").decode().strip()
    changed = [line[3:] for line in git(root, "status", "--porcelain").decode().splitlines()]
    return commit + (DIRTY if any(path not in pages for path in changed) else "")


def processor() -> str:
    """Return the processor's name, as Linux tells it."""
    found = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found else os.uname().machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """The results of one revision of a checkout, in a folder."""

    root: Path
    folder: Path
    revision: str

    @property
    def here(self) -> Path:
        """The folder of the revision."""
        return self.folder / self.revision

    def path(self, step: Step, part: Part) -> Path:
        """Return the file of a part's record."""
        return self.here / step.name / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', part.name)}.json"

    def record(self, step: Step, part: Part) -> Record | None:
        """Return what a part gave; None where it was not run, or its commands are others now."""
        path = self.path(step, part)
        if not path.is_file():
            return None
        found = Record(**json.loads(path.read_text(encoding="utf-8")))
        return found if found.command == part.shown else None

    def run(self, step: Step, part: Part) -> Record:
        """Run a part and keep its record, whole or not at all."""
        record = run_part(part, self.root, self.here, self.revision)
        path = self.path(step, part)
        path.parent.mkdir(parents=True, exist_ok=True)
        beside = path.with_suffix(".new")
        beside.write_text(json.dumps(asdict(record), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        beside.replace(path)
        return record


def run_part(part: Part, root: Path, here: Path, at: str) -> Record:
    """Run the commands of a part one after another; the first that fails ends it."""
    here.mkdir(parents=True, exist_ok=True)
    places = {"before": str(earlier(root, here.parent, part.before))} if part.before else {}
    started, clock, load = now(), time.monotonic(), os.getloadavg()
    status: int | None = 0
    output = said = ""
    with tempfile.TemporaryDirectory(prefix="metronn-evidence-") as work:
        for command in part.commands:
            words = [sys.executable if word == "python" else _filled(word, work=work, **places) for word in command]
            left = part.limit_s - (time.monotonic() - clock)
            status, output, said = ended(words, root, environment(root, here), left)
            if status != 0:
                break
    return Record(
        revision=at,
        command=part.shown,
        started=started,
        ended=now(),
        load_before=load,
        load_after=os.getloadavg(),
        cores=os.cpu_count() or 1,
        cpu=processor(),
        wall_s=round(time.monotonic() - clock, 3),
        limit_s=part.limit_s,
        status=status,
        output=output,
        said=said[-TAIL:],
    )


def _filled(word: str, **places: str) -> str:
    for name, place in places.items():
        word = word.replace(f"{{{name}}}", place)
    return word


def environment(root: Path, here: Path) -> dict[str, str]:
    """Return the environment of a step: the code of the checkout, and a cache that no other revision has filled."""
    return {**os.environ, "PYTHONPATH": str(root / "src"), "XDG_CACHE_HOME": str(here / "cache")}


def ended(words: Sequence[str], root: Path, given: dict[str, str], limit_s: float) -> tuple[int | None, str, str]:
    """Run a command; return its status, None where the limit ended it and all that it had started, and what it said."""
    process = subprocess.Popen(
        words, cwd=root, env=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        output, said = process.communicate(timeout=max(limit_s, 0.01))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, said = process.communicate()
        return None, output, said
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        raise
    return process.returncode, output, said


def now() -> str:
    """Return the time in UTC, to the minute."""
    return datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")


def earlier(root: Path, folder: Path, revision: str) -> Path:
    """Return a folder with the files of an earlier revision, written there once."""
    place = folder / "before" / revision
    if not place.is_dir():
        archive = git(root, "archive", "--format=tar", revision)
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent) as scratch, tarfile.open(fileobj=BytesIO(archive)) as tar:
            tar.extractall(Path(scratch) / "files", filter="data")
            (Path(scratch) / "files").rename(place)
    return place
