"""Evidence: every table has a step and is as a program wrote it; runs are resumed, and their origin is told."""

from __future__ import annotations

import importlib
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "models"


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    """The modules of the evidence package by name."""
    paths = [str(ROOT / "benchmarks"), str(ROOT / "examples")]
    sys.path[:0] = paths
    try:
        yield {
            name: importlib.import_module(f"evidence.{name}")
            for name in ("pages", "steps", "store", "listed", "firmware", "__main__")
        }
    finally:
        for path in paths:
            sys.path.remove(path)
        sys.modules.pop("zoo", None)


def pages_of(modules: Mapping[str, ModuleType], root: Path) -> dict[str, Path]:
    return {step.name: root / step.page for step in modules["listed"].STEPS}


@pytest.fixture
def copies(modules: dict[str, ModuleType], tmp_path: Path) -> Path:
    """The pages in a folder of their own."""
    for page in modules["listed"].PAGES:
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / page, tmp_path / page)
    return tmp_path


def test_every_step_has_its_markers_and_every_marker_its_step(modules: dict[str, ModuleType]) -> None:
    """None is edited by hand either, and the line of every table names the last evidence run if it is older."""
    found = modules["pages"].checked(pages_of(modules, ROOT), skip={})
    assert found.keys() == {step.name for step in modules["listed"].STEPS}
    last = modules["pages"].last_run({name: block.origin for name, block in found.items()})
    for name, block in found.items():
        assert block.origin.line(last) in block.body, name
        assert block.table.strip(), name


def test_a_figure_that_is_typed_into_a_table_is_found(modules: dict[str, ModuleType], copies: Path) -> None:
    pages = pages_of(modules, copies)
    page = copies / "benchmarks" / "README.md"
    before, rest = page.read_text().split("<!-- evidence: streams ")
    page.write_text(f"{before}<!-- evidence: streams {rest.replace('5,248', '5,148', 1)}")
    with pytest.raises(modules["pages"].PageError, match="table streams was edited by hand; run its step, or restore"):
        modules["pages"].write(pages, {})


def test_writing_again_changes_nothing(modules: dict[str, ModuleType], copies: Path) -> None:
    before = {page: (copies / page).read_bytes() for page in modules["listed"].PAGES}
    assert modules["pages"].write(pages_of(modules, copies), {}) == ()
    assert {page: (copies / page).read_bytes() for page in modules["listed"].PAGES} == before


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("<!-- evidence: zoo ", "<!-- evidence: menagerie "), "menagerie: no step writes it"),
        (lambda text: text.replace("<!-- /evidence -->", ""), "found '<!-- evidence: zoo sha256:"),
        (lambda text: text[: text.index("<!-- evidence: zoo")], "table zoo: it has no markers; put them where"),
        (lambda text: text + text[text.index("<!-- evidence: zoo") :], "table zoo: it has markers twice"),
    ],
)
def test_markers_that_do_not_fit_are_named(
    modules: dict[str, ModuleType], copies: Path, change: Any, said: str
) -> None:
    page = copies / "examples" / "README.md"
    page.write_text(change(page.read_text()))
    with pytest.raises(modules["pages"].PageError, match=said):
        modules["pages"].write(pages_of(modules, copies), {})


def test_steps_are_complete(modules: dict[str, ModuleType]) -> None:
    """Every example has its part, programs are there, and the results of no two parts share a file."""
    steps = {step.name: step for step in modules["listed"].STEPS}
    assert len(steps) == len(modules["listed"].STEPS)
    zoo = importlib.import_module("zoo")
    assert [part.name for part in steps["zoo"].parts] == [entry.name for entry in zoo.ENTRIES]
    for step in steps.values():
        store = modules["store"].Store(root=ROOT, folder=ROOT / "none", revision="1234567")
        assert len({store.path(step, part) for part in step.parts}) == len(step.parts)
        for part in step.parts:
            for command in part.commands:
                assert command[0] == "python"
                assert command[1] == "-m" or (ROOT / command[1]).is_file()


@pytest.mark.skipif(not SHARED.is_dir(), reason="the networks of ../shared/models are not there")
def test_every_shared_network_is_compiled(modules: dict[str, ModuleType]) -> None:
    rungs = importlib.import_module("rungs")
    events_only = {"omtf"}
    assert set(rungs.FILES) == {path.name for path in SHARED.iterdir() if path.is_dir()} - events_only
    assert all((SHARED / name / file).is_file() for name, file in rungs.FILES.items())


PROGRAM = """
import json, pathlib, sys, time
log, name, status, sleep = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
with log.open("a") as file:
    file.write(name + "\\n")
time.sleep(sleep)
if (log.parent / "broken").exists() and name == "b":
    sys.exit("b is broken")
print(json.dumps({"name": name, "answer": 6 * 7}))
sys.exit(status)
"""


class Checkout:
    """A repository with a page of two tables, a program, and steps that run it."""

    def __init__(self, modules: Mapping[str, ModuleType], place: Path) -> None:
        self.root, self.folder, self.log = place / "checkout", place / "results", place / "log"
        self.root.mkdir()
        self.main, self.store, self.modules = modules["__main__"].main, modules["store"], modules
        pages, steps = modules["pages"], modules["steps"]

        def part(name: str, status: int = 0, sleep: float = 0, limit_s: float = 60) -> Any:
            words = ("python", "program.py", str(self.log), name, str(status), str(sleep))
            return steps.Part(name=name, commands=(words,), limit_s=limit_s)

        def table(outputs: Mapping[str, str]) -> str:
            rows = [json.loads(output) for output in outputs.values()]
            return "\n".join(["| name | answer |", "|---|---|", *(f"| {r['name']} | {r['answer']} |" for r in rows)])

        def step(name: str, *parts: Any) -> Any:
            return steps.Step(name=name, page="page.md", parts=parts, table=table, shown="program.py", minutes=0)

        self.steps = (
            step("two", part("a"), part("b", status=1)),
            step("slow", part("c"), part("d", sleep=60, limit_s=1)),
        )
        origin = pages.Origin(how=pages.BY_HAND, revision="1234567", date="2026-11-01", rest=": `by hand`")
        blocks = [pages.block_text(step.name, "| old |\n|---|", origin, "") for step in self.steps]
        (self.root / "page.md").write_text("# Page\n\n" + "\n\nText.\n\n".join(blocks) + "\n")
        (self.root / "program.py").write_text(PROGRAM)
        self.git("init", "-q")
        self.commit()

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=test", "-c", "user.email=test@localhost")
        command = ["git", "-C", str(self.root), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "state")
        return self.git("rev-parse", "--short=7", "HEAD")

    def run(self, *arguments: str) -> int:
        status: int = self.main(self.steps, self.root, self.folder, list(arguments))
        return status

    @property
    def ran(self) -> list[str]:
        """The parts that ran so far, in order."""
        return self.log.read_text().split() if self.log.exists() else []

    @property
    def page(self) -> str:
        return (self.root / "page.md").read_text()


@pytest.fixture
def checkout(modules: dict[str, ModuleType], tmp_path: Path) -> Checkout:
    return Checkout(modules, tmp_path)


def test_a_run_goes_on_where_it_stopped(checkout: Checkout) -> None:
    """A part that failed is run again, none that finished, by its limit or with a target missed, is."""
    (checkout.log.parent / "broken").touch()
    assert checkout.run("--only", "two") == 1
    assert checkout.ran == ["a", "b"]
    assert "| old |" in checkout.page.split("Text.")[0]
    (checkout.log.parent / "broken").unlink()
    assert checkout.run() == 0
    assert checkout.ran == ["a", "b", "b", "c", "d"]
    page = checkout.page
    assert checkout.run() == 0
    assert checkout.ran == ["a", "b", "b", "c", "d"]
    assert checkout.page == page


def test_a_table_tells_where_it_is_from(checkout: Checkout) -> None:
    revision = checkout.git("rev-parse", "--short=7", "HEAD")
    assert checkout.run() == 0
    first, second = checkout.page.split("Text.")
    assert "| a | 42 |\n| b | 42 |" in first
    assert "| c | 42 |" in second
    assert "| d |" not in second
    for half in (first, second):
        assert f"*Measured at {revision} on 20" in half
        assert "older" not in half
        assert "; load " in half
    assert "; status 1, a figure misses its target: b*" in first
    assert "; not done within its limit: d (1 s)*" in second
    record = json.loads((checkout.folder / revision / "two" / "a.json").read_text())
    assert record["command"] == f"python program.py {checkout.log} a 0 0"
    assert record["revision"] == revision
    assert record["wall_s"] > 0
    assert len(record["load_before"]) == len(record["load_after"]) == 3


def test_a_table_of_an_older_revision_says_so(checkout: Checkout) -> None:
    old = checkout.git("rev-parse", "--short=7", "HEAD")
    assert checkout.run() == 0
    new = checkout.commit()
    for path in (checkout.folder / old).glob("*/*.json"):  # as if it had been a minute earlier
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | {"ended": "2026-01-01 00:00 UTC"}))
    assert checkout.run("--only", "two") == 0
    assert checkout.ran == ["a", "b", "c", "d", "a", "b"]
    first, second = checkout.page.split("Text.")
    assert f"*Measured at {new} on " in first
    assert f"*Measured at {old} on " in second
    assert f", older than the last evidence run at {new}; load" in second


def test_a_tree_with_changes_is_no_evidence(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    page = checkout.page
    (checkout.root / "program.py").write_text(PROGRAM + "\n")
    assert checkout.run() == 2
    assert "error: there are changes that are not committed" in capsys.readouterr().err
    assert checkout.ran == []
    assert checkout.run("--dirty", "--only", "two") == 0
    assert checkout.ran == ["a", "b"]
    checkout.git("checkout", "-q", "program.py")
    assert checkout.run("--write") == 0
    assert checkout.page == page


def test_tables_that_were_written_are_no_change(checkout: Checkout) -> None:
    assert checkout.run("--only", "two") == 0
    assert checkout.git("status", "--porcelain") == "M page.md"
    assert checkout.run() == 0


def test_a_result_of_other_commands_is_none(checkout: Checkout, modules: dict[str, ModuleType]) -> None:
    assert checkout.run("--only", "two") == 0
    step, part = checkout.steps[0], checkout.steps[0].parts[0]
    store = modules["store"].Store(
        root=checkout.root, folder=checkout.folder, revision=checkout.git("rev-parse", "--short=7", "HEAD")
    )
    assert store.record(step, part) is not None
    other = modules["steps"].Part(name=part.name, commands=(("python", "program.py"),))
    assert store.record(step, other) is None


def test_an_unknown_step_is_an_error(checkout: Checkout, capsys: pytest.CaptureFixture[str]) -> None:
    assert checkout.run("--only", "three") == 2
    assert "error: --only: found three; steps are two, slow" in capsys.readouterr().err


def test_an_earlier_revision_is_written_out_once(checkout: Checkout, modules: dict[str, ModuleType]) -> None:
    old = checkout.git("rev-parse", "--short=7", "HEAD")
    (checkout.root / "program.py").write_text("print('new')\n")
    checkout.commit()
    place = modules["store"].earlier(checkout.root, checkout.folder, old)
    assert (place / "program.py").read_text() == PROGRAM
    assert modules["store"].earlier(checkout.root, checkout.folder, old) == place
    with pytest.raises(modules["store"].StoreError, match="git archive: "):
        modules["store"].earlier(checkout.root, checkout.folder, "0000000")


def test_a_table_names_no_path_of_the_machine(modules: dict[str, ModuleType]) -> None:
    texts = {
        "not run: No such file: '/a/folder/x.json'": "not run: No such file: (a path)",
        "not run: No such file: '/a/f": "not run: No such file: (a path)",
        "rung 4: /a/build/sim: no such file": "rung 4: (a path): no such file",
        "16.8 / hls4ml, II 1/2, ../shared/models, a // b": "16.8 / hls4ml, II 1/2, ../shared/models, a // b",
    }
    for text, shown in texts.items():
        assert modules["__main__"].PATH.sub("(a path)", text) == shown


def test_the_demo_is_shown_without_its_edges(modules: dict[str, ModuleType]) -> None:
    kernels, edges = "layer  kernel\n-----  ------\na      b", "edge  made by\n----  -------\nx     y"
    text = f"omtf on two\n\n{kernels}\n\n{edges}\n\npromise: 1\n"
    assert modules["firmware"].demo({"omtf": text}) == (f"```\nomtf on two\n\n{kernels}\n\npromise: 1\n```")
