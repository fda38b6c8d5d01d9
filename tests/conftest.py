"""Options and rules of all tests: golden files, random tests that repeat, and skips that CI does not accept."""

from __future__ import annotations

import os
import re

import pytest
from hypothesis import settings

from random_tests import SEED, examples

EXPECTED_SKIPS = (
    r"\.\./shared",  # networks and data that lie outside the repository
    r"'torch'|'onnxscript'",  # hundreds of megabytes, the extra metronn[torch]; its tests run where it is installed
    r"iverilog|[Ii]carus",  # the second simulator; Verilator runs the same tests
    r"GHDL is not installed",  # Debian's, which .ci/run installs where it may; other tools read the same constants
    r"clang\+\+ is not installed",  # a second reader of HLS C++; g++ reads the same files
)
"""Reasons, as regular expressions, for which a test may be skipped in CI: what `make` does not install."""

settings.register_profile("metronn", examples(), print_blob=True)
settings.load_profile("metronn")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that rewrites golden files."""
    parser.addoption("--update-golden", action="store_true", help="rewrite golden files with what is made now")


@pytest.fixture(autouse=True)
def no_synthesis(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rung 6 synthesises nothing by default, which would take seconds of each build, but where it is tested."""
    if not {"verify", "api", "test_notebook.py"} & set(request.path.parts):
        monkeypatch.setattr("metronn.verify.static.DEFAULT_EFFORT", 0)


@pytest.fixture
def update_golden(request: pytest.FixtureRequest) -> bool:
    """Whether golden files are to be rewritten."""
    return bool(request.config.getoption("--update-golden"))


class SkipRule:
    """With CI=true, a skip whose reason is not expected fails the run."""

    def __init__(self) -> None:
        self.unexpected: list[str] = []

    def note(self, report: pytest.TestReport | pytest.CollectReport) -> None:
        """Remember a skip that is not expected."""
        if not report.skipped or hasattr(report, "wasxfail"):
            return
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(re.search(pattern, reason) for pattern in EXPECTED_SKIPS):
            self.unexpected.append(f"{report.nodeid}: {reason}")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Look at a test's result."""
        self.note(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Look at a module's collection."""
        self.note(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail the run."""
        if self.unexpected and session.exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Say which skips were not expected."""
        if self.unexpected:
            terminalreporter.section("skips that CI does not expect")
            for line in self.unexpected:
                terminalreporter.write_line(line)


@pytest.hookimpl(tryfirst=True)  # before Hypothesis looks for its seed
def pytest_configure(config: pytest.Config) -> None:
    """Hand METRONN_SEED to Hypothesis; install the rule in CI, in the process that reports."""
    if SEED:
        config.option.hypothesis_seed = SEED
    if os.environ.get("CI") == "true" and not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkipRule(), "metronn-skip-rule")
