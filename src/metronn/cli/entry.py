"""The `metronn` command: how it ends when interrupted; everything else is in `app`."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

INTERRUPTED = 130


def _descendants(process: str) -> list[int]:
    """Process ids of what a process started, children before their own; where the system tells them (Linux)."""
    found: list[int] = []
    for listing in Path("/proc", process, "task").glob("*/children"):
        with suppress(OSError):
            for child in listing.read_text().split():
                found += [int(child), *_descendants(child)]
    return found


def _stop_tools() -> None:
    """End compilers and simulators that run for us, and those that threads still start, until this process ends."""

    def stop() -> None:
        while True:
            for process in _descendants("self"):
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGTERM)
            time.sleep(0.1)

    threading.Thread(target=stop, daemon=True).start()


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    """End as Ctrl-C does, also where only this process got the signal."""
    _stop_tools()
    raise KeyboardInterrupt


def _terminate(number: int, _frame: FrameType | None) -> None:
    """End as after an interruption, so that whatever is half-written is removed."""
    _stop_tools()
    raise SystemExit(128 + number)


def main() -> None:
    """Run the command line of this process."""
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _terminate)
    try:
        from metronn.cli.app import app  # noqa: PLC0415 - an interruption while modules load ends like any other

        app(prog_name="metronn")
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
