"""How much random tests draw: little and always the same, or, as `make fuzz` asks, more and from a seed.

METRONN_EXAMPLES is how many times the usual number is drawn, METRONN_SEED a whole number that names another draw.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, reject, settings

Test = TypeVar("Test", bound=Callable[..., Any])

TIMES = int(os.environ.get("METRONN_EXAMPLES") or 1)
SEED = os.environ.get("METRONN_SEED", "")


def examples(count: int = 100, *, slow: bool = False) -> settings:
    """Return the settings of a random test with a usual number of examples.

    `slow`: drawing takes long, or examples share a fixture: no health check.
    """
    unchecked = {"suppress_health_check": list(HealthCheck)} if slow else {}
    return settings(max_examples=count * TIMES, derandomize=not SEED, database=None, deadline=None, **unchecked)


def builds(count: int) -> Callable[[Test], Test]:
    """Decorate a @given test whose examples are built and run, by a simulator or compiler: a usual number of them.

    Nothing is shrunk, which would build hundreds; a failure names what failed. Hypothesis begins with the simplest
    example there is: of a few, one would be of sizes 1 and values 0. It is not built, nor counted.
    """

    def decorate(test: Test) -> Test:
        inner, simplest = test.hypothesis.inner_test, [True]  # type: ignore[attr-defined]

        @functools.wraps(inner)
        def others(*args: object, **kwargs: object) -> None:
            if simplest:
                simplest.clear()
                reject()
            inner(*args, **kwargs)

        test.hypothesis.inner_test = others  # type: ignore[attr-defined]
        return settings(examples(count, slow=True), phases=[Phase.explicit, Phase.generate])(test)

    return decorate


def seeds(count: int) -> range:
    """Return the seeds of a test that draws by itself: a usual number from 0, or more and others."""
    first = 1000 * int(SEED or 0)
    return range(first, first + count * TIMES)
