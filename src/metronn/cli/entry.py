"""The `metronn` command: exit codes of interruptions and of outputs nobody reads; everything else is in `app`."""

from __future__ import annotations

import os
import signal
import sys
from types import FrameType

INTERRUPTED = 130


def _terminate(number: int, _frame: FrameType | None) -> None:
    """End as after an interruption, so that whatever is half-written is removed."""
    raise SystemExit(128 + number)


def main() -> None:
    """Run the command line of this process."""
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
