"""A trained network run by the framework that made it, in a process of its own (`workers/framework_worker.py`)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from metronn.errors import ToolError
from metronn.model.graph import Floats

WORKERS = Path(__file__).parent / "workers"
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore", "TF_ENABLE_ONEDNN_OPTS": "0"}
SAID_LINES = 4
"""How much of a worker's last words an error repeats."""


class MissingFramework(ToolError):
    """The framework is not installed in that interpreter: the comparison cannot run, and says so."""


@dataclass(kw_only=True)
class Framework:
    """A running worker. `tensors` maps the framework's tensor names to their shapes without the batch axis."""

    name: str
    tensors: Mapping[str, tuple[int, ...]]
    process: subprocess.Popen[str]
    errors: IO[str]
    scratch: Path

    def run(self, inputs: Sequence[Floats], tensors: Sequence[str]) -> dict[str, npt.NDArray[np.floating]]:
        """Run float32 inputs of shape (events, *shape), in the network's order; returns tensors by name.

        Raises ToolError with the framework's last words when it fails.
        """
        given, found = self.scratch / "inputs.npz", self.scratch / "outputs.npz"
        np.savez(given, **{str(at): array.astype(np.float32) for at, array in enumerate(inputs)})  # type: ignore[arg-type]
        ask(self.process, self.errors, {"inputs": str(given), "outputs": str(found), "tensors": list(tensors)})
        with np.load(found) as data:
            return {name: data[str(at)] for at, name in enumerate(tensors)}


def ask(process: subprocess.Popen[str], errors: IO[str], request: Mapping[str, Any]) -> dict[str, Any]:
    """Send a line to a worker and return its answer; raises ToolError when it ends instead."""
    if process.stdin is None or process.stdout is None:
        raise AssertionError("a worker is started with pipes")
    try:
        process.stdin.write(json.dumps(request) + "\n")
        process.stdin.flush()
        line = process.stdout.readline()
    except BrokenPipeError:
        line = ""
    if not line:
        process.wait()
        errors.flush()
        errors.seek(0)
        said = [text for text in errors.read().splitlines() if text.strip()][-SAID_LINES:]
        raise ToolError(f"the framework failed (status {process.returncode}):\n  " + "\n  ".join(said))
    answer: dict[str, Any] = json.loads(line)
    return answer


@contextmanager
def worker(script: str, python: Path | None, first: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    """Start a worker script in an interpreter; yields process, its errors, scratch folder and its first answer.

    Raises ToolError when the interpreter cannot be started, MissingFramework when it lacks a package.
    """
    interpreter = str(python.absolute()) if python is not None else sys.executable
    with tempfile.TemporaryDirectory(prefix="metronn-") as scratch, tempfile.TemporaryFile("w+") as errors:
        try:
            process = subprocess.Popen(
                [interpreter, str(WORKERS / script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=scratch,
                env={**QUIET, **os.environ},
            )
        except OSError as error:
            raise ToolError(f"{interpreter}: cannot be started: {error.strerror}") from None
        try:
            answer = ask(process, errors, first)
            if "missing" in answer:
                raise MissingFramework(f"not run: {answer['missing']} (interpreter {interpreter})")
            yield process, errors, Path(scratch), answer
        finally:
            if process.stdin is not None:
                process.stdin.close()
            if process.stdout is not None:
                process.stdout.close()
            process.terminate()
            process.wait()


def _framework(started: tuple[Any, ...]) -> Framework:
    process, errors, scratch, answer = started
    return Framework(
        name=answer["framework"],
        tensors={name: tuple(shape) for name, shape in answer["tensors"].items()},
        process=process,
        errors=errors,
        scratch=scratch,
    )


@contextmanager
def opened_hls4ml(
    model: Path, config: Mapping[str, Any] | None, folder: Path, python: Path | None = None
) -> Iterator[Framework]:
    """Convert a model with hls4ml in the interpreter `python`; the first run compiles its C simulation in `folder`.

    `config` holds `Model`, `LayerType` and `LayerName`; None leaves all to hls4ml, which keeps the quantizers of a
    quantized network. Errors are those of `opened_framework`.
    """
    first = {"model": str(model.absolute()), "config": config, "folder": str(folder.absolute())}
    with worker("hls4ml_worker.py", python, first) as started:
        yield _framework(started)


@contextmanager
def opened_framework(model: Path, python: Path | None = None, rows: int = 256) -> Iterator[Framework]:
    """Load a model file in its framework, in the interpreter `python` (None: this one); `rows` events in a call.

    Raises ToolError when the framework cannot load or run it, MissingFramework when it is not installed.
    """
    first = {"model": str(model.absolute()), "rows": rows}
    with worker("framework_worker.py", python, first) as started:
        yield _framework(started)
