"""What the command line says: results on stdout, log and progress on stderr, errors as one message and a status."""

from __future__ import annotations

import functools
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import ParamSpec

import typer
from rich.console import Console

from metronn.errors import MetronnError, ModelError
from metronn.log import now_and_then, troubles

INTERRUPTED = 130
_documents: ContextVar[list[object]] = ContextVar("documents")
"""What the running verb printed as JSON: an error adds a document only where there is none."""
P = ParamSpec("P")


def handled(verb: Callable[P, None]) -> Callable[P, None]:
    """Turn the errors a user can meet into `error: ...` on stderr and the exit code of their class.

    With --json, stdout gets a document that says the same, unless the result was printed already: a verb prints one.
    Other exceptions are bugs of metronn and keep their traceback.
    """

    @functools.wraps(verb)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        documents: list[object] = []
        _documents.set(documents)

        def tell(kind: str, message: str, status: int) -> None:
            if kwargs.get("json") and not documents:
                say_error(kind, message, status)

        try:
            verb(*args, **kwargs)
        except MetronnError as error:
            message = plain_message(error.message, [*args, *kwargs.values()])
            sys.stdout.flush()
            sys.stderr.write(f"{error_text(message)}\n")
            tell(type(error).__name__, message, error.exit_code)
            raise typer.Exit(error.exit_code) from None
        except OSError as error:
            if error.filename is None:
                raise
            # What no file system takes or gives: a name that is too long, a full disk, a folder without permission.
            message = plain_message(f"{error.filename}: {error.strerror}", [*args, *kwargs.values()])
            sys.stderr.write(f"{error_text(message)}\n")
            tell(ModelError.__name__, message, ModelError.exit_code)
            raise typer.Exit(ModelError.exit_code) from None
        except KeyboardInterrupt:
            sys.stderr.write("interrupted\n")
            tell("Interrupted", "interrupted", INTERRUPTED)
            raise typer.Exit(INTERRUPTED) from None
        except SystemExit as stopped:
            if isinstance(stopped.code, int) and stopped.code > INTERRUPTED:
                tell("Interrupted", "interrupted", stopped.code)
            raise

    return run


def error_text(message: str) -> str:
    """Return the message with `error: ` before every line that starts a problem of its own."""
    lines = message.split("\n")
    return "\n".join(line if line.startswith((" ", "\t")) and k else f"error: {line}" for k, line in enumerate(lines))


def plain_message(message: str, given: Iterable[object]) -> str:
    """Return a message whose line ends are its own: those of file names, and what moves a cursor, become escapes.

    `given` holds the values of the command line.
    """
    for value in given:
        for text in map(str, value if isinstance(value, list | tuple) else [value]):
            if "\n" in text or "\t" in text:
                message = message.replace(text, text.replace("\n", "\\n").replace("\t", "\\t"))
    return "".join(c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in message)


def say(text: str) -> None:
    """Print a result on stdout; characters that stdout has not, as of file names that are no text, become escapes."""
    encoding = sys.stdout.encoding or "utf-8"
    shown = text.encode(encoding, "backslashreplace").decode(encoding)
    sys.stdout.write(shown if shown.endswith("\n") else shown + "\n")
    sys.stdout.flush()


def say_json(data: object) -> None:
    """Print a machine-readable result on stdout; a verb does this once."""
    _documents.get([]).append(data)
    say(json.dumps(data, indent=2))


def say_error(kind: str, message: str, status: int) -> None:
    """Print an error as the JSON document of a verb."""
    say_json({"error": {"class": kind, "message": message, "exit_status": status}})


class Log:
    """Log and progress on stderr: a line per stage with its seconds, and a moving line where stderr is a terminal."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False, markup=False)
        self._start = time.monotonic()

    def __call__(self, text: str) -> None:
        """Write a line."""
        if self._console.is_terminal:
            self._console.print(f"[{self._elapsed():7.1f} s] {text}", soft_wrap=True)
        else:
            sys.stderr.write(f"[{self._elapsed():7.1f} s] {text}\n")
            sys.stderr.flush()

    def warn(self, message: str) -> None:
        """Write what is not as it should be, with `warning: ` before every line that starts a trouble of its own."""
        for trouble in troubles(message):
            for k, line in enumerate(trouble.splitlines()):
                self(line if k else f"warning: {line}")

    def _elapsed(self) -> float:
        return time.monotonic() - self._start

    def progress(self, what: str) -> Callable[[str], None]:
        """Return what takes a line on how far a step is; lines are shown once it takes long, every few seconds."""
        return now_and_then(lambda line: self(f"{what}: {line}"))

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Show that a stage runs, on terminals only."""
        if self._console.is_terminal and not os.environ.get("CI"):
            with self._console.status(name):
                yield
        else:
            yield

    @contextmanager
    def counter(self, every: int) -> Iterator[Callable[[int, str], None]]:
        """Give what takes a count and a line: a moving line on terminals, else a line of the log `every` so many."""
        if not self._console.is_terminal:
            yield lambda count, line: self(line) if count % every == 0 else None
            return
        from rich.progress import (  # noqa: PLC0415 - it takes a part of the start of every verb
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeElapsedColumn,
        )

        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task("", total=None)
            yield lambda _count, line: bar.update(task, description=line)


def plain_json(data: Mapping[str, object]) -> str:
    """Return JSON text as written to files: indented, keys in the given order, a newline at the end."""
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"
