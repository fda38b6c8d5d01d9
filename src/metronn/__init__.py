"""metronn: trained networks to fixed-latency firmware for one or several FPGAs.

    import metronn

    build = metronn.compile(model, calibrate=x, system="two-serenity")
    build.predict(x)

`compile` makes a build, `load` opens one; what a build can do is in `Build`. `compare` plans on
several systems. docs/python.md tells more.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from metronn.api.build import Build, VerificationError
    from metronn.api.comparing import compare
    from metronn.api.compiling import compile, load
    from metronn.api.shown import Plan, Report, Verdicts
    from metronn.diagnose.profile import Profile
    from metronn.diagnose.trace import Trace
    from metronn.errors import InfeasibleError, MetronnError, MismatchError, ModelError, ToolError
    from metronn.log import MetronnWarning
    from metronn.report.comparison import ComparedPlan, Comparison
    from metronn.verify.verdict import Status, Verdict

__all__ = [
    # from a network to a build
    "compile",
    "load",
    # plans beside each other
    "compare",
    "ComparedPlan",
    "Comparison",
    # what a build is and says
    "Build",
    "Plan",
    "Profile",
    "Report",
    "Status",
    "Trace",
    "Verdict",
    "Verdicts",
    # what can go wrong
    "InfeasibleError",
    "MetronnError",
    "MetronnWarning",
    "MismatchError",
    "ModelError",
    "ToolError",
    "VerificationError",
    "__version__",
]

_PLACES = {
    "metronn.api.build": ("Build", "VerificationError"),
    "metronn.api.comparing": ("compare",),
    "metronn.api.compiling": ("compile", "load"),
    "metronn.api.shown": ("Plan", "Report", "Verdicts"),
    "metronn.diagnose.profile": ("Profile",),
    "metronn.diagnose.trace": ("Trace",),
    "metronn.errors": ("InfeasibleError", "MetronnError", "MismatchError", "ModelError", "ToolError"),
    "metronn.log": ("MetronnWarning",),
    "metronn.report.comparison": ("ComparedPlan", "Comparison"),
    "metronn.verify.verdict": ("Status", "Verdict"),
}


def __getattr__(name: str) -> Any:  # noqa: ANN401 - any public name
    """Import a public name when it is used: all of them take a second, which `metronn --help` would pay for."""
    for module, names in _PLACES.items():
        if name in names:
            found = getattr(importlib.import_module(module), name)
            globals()[name] = found
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
