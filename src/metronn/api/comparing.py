"""Plans of one network on several systems beside each other."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metronn.api.keywords import Keywords, options_file, request_of, with_events
from metronn.errors import ModelError
from metronn.events.data import EventSource
from metronn.flow.comparing import Sweep, compared, is_network, places_of, quantized_network, request_to_compare
from metronn.flow.options import Given
from metronn.flow.planning import read_graph
from metronn.flow.request import Request, read_request
from metronn.ir.graph import Graph
from metronn.log import QuietLog
from metronn.plan.hardware.system import MAX_FPGAS, MAX_II
from metronn.report.comparison import Comparison

KEYWORDS = Keywords.of(
    ("model", "data", "quantize", "plan"),
    tables=("model", "data", "quantize", "plan"),
    but=("data.calibrate", "plan.system", "plan.fpgas", "plan.ii"),
)


def compare(
    network: object,
    *,
    systems: str | Path | Sequence[str | Path] | None = None,
    fpgas: int | Sequence[int] | None = None,
    ii: int | Sequence[int] | None = None,
    calibrate: EventSource | None = None,
    labels: Any = None,  # noqa: ANN401 - an array
    options: str | Path | None = None,
    **given: Any,  # noqa: ANN401 - keys of metronn.toml
) -> Comparison:
    """Plan a network on several systems, with several numbers of FPGAs, as `metronn compare` does. Nothing is emitted.

    Args:
        network: an integer graph, as `build.graph`, or the path of a graph.txt; or what `metronn.compile` takes, which
            is quantized as there.
        systems: known systems or paths of TOML files; by default the one of metronn.toml.
        fpgas: numbers of FPGAs; by default as many as metronn.toml asks for, or as the planner chooses.
        ii: cycles between events, one or several; by default those of metronn.toml, or of each system.
        calibrate: events, as `metronn.compile` takes them; not for an integer graph.
        labels: of these events, for a metric.
        options: a metronn.toml to start from; by default the one beside a file.
        **given: keys of metronn.toml, those below by name, all others in their table.

    Returns:
        The plans in the order of systems, IIs, FPGAs; where there is none it says what binds. A notebook shows it.

    Raises:
        ModelError: the request is wrong; every problem is listed.
        InfeasibleError: nothing that was asked for has a plan.
    """
    sweep = Sweep(systems=_systems(systems), fpgas=_numbers("fpgas", fpgas, MAX_FPGAS), iis=_numbers("ii", ii, MAX_II))
    wanted = with_events(KEYWORDS.given(given), calibrate, labels)
    log = QuietLog()
    with tempfile.TemporaryDirectory(prefix="metronn-network-") as place:
        request, graph = _request(network, Path(place), options, wanted)
        places = places_of(request, sweep)
        return compared(request, quantized_network(request, log) if graph is None else graph, places, log)


def _request(network: object, place: Path, options: str | Path | None, given: Given) -> tuple[Request, Graph | None]:
    """Return the request, and the integer graph where the network is one."""
    path = None if options is None else options_file(options)
    if isinstance(network, Graph):
        return read_request(path, given, model=Path("graph")), network
    if isinstance(network, str | Path) and not is_network(Path(network)):
        file = Path(network)
        request = request_to_compare(file, given) if path is None else read_request(path, given, model=file)
        return request, read_graph(file)
    return request_of(network, place, options, given), None


def _systems(systems: str | Path | Sequence[str | Path] | None) -> tuple[str | Path, ...]:
    found = (systems,) if isinstance(systems, str | Path) else () if systems is None else tuple(systems)
    if systems is not None and not found:
        raise ModelError("systems: is empty; name at least one, or leave it out")
    return found


def _numbers(name: str, given: int | Sequence[int] | None, high: int) -> tuple[int, ...]:
    """Return whole numbers from 1 to `high`, each once. Raises ModelError for others, and for an empty list."""
    if given is None:
        return ()
    given = given.tolist() if isinstance(given, np.ndarray | np.generic) else given
    found: Sequence[object] = tuple(given) if isinstance(given, Sequence) and not isinstance(given, str) else (given,)
    if not found:
        raise ModelError(f"{name}: is empty; name at least one, or leave it out")
    for number in found:
        if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= high:
            raise ModelError(f"{name}: found {number!r}, allowed are whole numbers from 1 to {high}")
    return tuple(dict.fromkeys(number for number in found if isinstance(number, int)))


KEYWORDS.describe(compare)
