"""How much random tests draw: little and always the same, or, as `make fuzz` asks, more and from a seed.

METRONN_EXAMPLES is how many times the usual number is drawn, METRONN_SEED a whole number that names another draw.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

TIMES = int(os.environ.get("METRONN_EXAMPLES") or 1)
SEED = os.environ.get("METRONN_SEED", "")


def examples(count: int = 100, *, slow: bool = False, built: bool = False) -> settings:
    """Return the settings of a random test with a usual number of examples.

    `slow`: drawing takes long, or examples share a fixture: no health check. `built`: an example is built and run,
    as a simulation or by a compiler: not shrunk either, which would build hundreds; a failure names what failed.
    """
    unchecked = {"suppress_health_check": list(HealthCheck)} if slow or built else {}
    phases = {"phases": [Phase.explicit, Phase.generate]} if built else {}
    return settings(max_examples=count * TIMES, **unchecked, **phases)


def seeds(count: int) -> range:
    """Return the seeds of a test that draws by itself: a usual number from 0, or more and others."""
    first = 1000 * int(SEED or 0)
    return range(first, first + count * TIMES)
