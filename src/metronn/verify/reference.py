"""Rung 1: the trained network over real numbers against its integer graph.

A network that its framework quantized is held exactly up to some last values (`metronn.quantize.exact_values`): this
rung compares their integers with those of the trained network, and those of the layers before, and passes when none
differs. The metric is measured too.

Quantization after training is not exact, so there this rung measures: the user's metric on both, and the signal-to-
quantization-noise ratio of every output. It passes when the loss of the metric is within the user's tolerance, or, for
want of a metric, when both networks have been run and every answer is a number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metronn.emit.build import npz
from metronn.emulate.numpy import emulate
from metronn.errors import ModelError
from metronn.ir.arrays import Array
from metronn.ir.graph import Graph
from metronn.model.graph import Floats, RealGraph
from metronn.quantize.codes import decode_outputs, encode_inputs
from metronn.quantize.data import Events
from metronn.quantize.exact_values import ExactValue
from metronn.quantize.measure import run_float
from metronn.quantize.metrics import find_metric
from metronn.quantize.options import QuantizeOptions
from metronn.quantize.report import MetricReport, OutputReport, sqnr_db
from metronn.verify.exact_rung import compare_exactly, exact_files
from metronn.verify.verdict import Status, Verdict

RUNG = 1
NAME = "trained network"
ARRAYS = "reference.npz"
SETTINGS = "reference.json"
ANSWER, INPUT, ARRAY = "float:", "code:", "array:"
"""Prefixes in reference.npz: the float network's outputs, input codes, labels and other arrays of the events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceResult:
    """The verdict of rung 1 with what it measured."""

    verdict: Verdict
    metric: MetricReport | None
    outputs: tuple[OutputReport, ...]

    def as_dict(self) -> dict[str, object]:
        """Return the form written to manifest.json."""
        record = self.verdict.as_dict()
        if self.metric is not None:
            record["metric"] = metric_record(self.metric)
        record["outputs"] = [asdict(output) for output in self.outputs]
        return record


def metric_record(metric: MetricReport) -> dict[str, object]:
    """Return a metric as plain data."""
    return asdict(metric) | {"loss": metric.loss, "accepted": metric.accepted}


def reference_files(
    model: RealGraph,
    graph: Graph,
    events: Events,
    options: QuantizeOptions,
    base: Path,
    count: int,
    frontier: Sequence[ExactValue] = (),
) -> dict[str, bytes]:
    """Return what rung 1 needs, by name below `vectors/`: events, the float network's answers, and the metric.

    `frontier` are the values that the graph holds exactly; their integers in the trained network are kept too.
    The first `count` events are kept. A metric `file.py:function` is looked for in `base`, and its file kept too.
    """
    inputs = {name: values[:count] for name, values in events.inputs.items()}
    arrays = {name: array[:count] for name, array in events.arrays().items() if array.dtype.kind in "iufb"}
    answers = run_float(model, inputs)
    spec = options.metric
    files: dict[str, bytes] = {}
    place, _, function = spec.rpartition(":")
    if place:
        name = f"metric_{Path(place).stem}.py"
        try:
            files[name] = (base / place).read_bytes()
        except OSError as error:
            raise ModelError(f"metric {spec}: {place} cannot be read: {error.strerror}") from None
        spec = f"{name}:{function}"
    files[ARRAYS] = npz(
        {f"{ANSWER}{name}": values for name, values in answers.items()}
        | {f"{INPUT}{name}": codes for name, codes in encode_inputs(graph, inputs).items()}
        | {f"{ARRAY}{name}": array for name, array in arrays.items()}
    )
    settings = {"metric": spec, "named": options.metric, "tolerance": options.tolerance}
    files[SETTINGS] = (json.dumps(settings, indent=1) + "\n").encode()
    return files | exact_files(model, graph, frontier, inputs)


def reference_result(folder: Path, graph: Graph) -> ReferenceResult:
    """Run rung 1 on the `vectors` folder of a build.

    Raises ModelError when its files are missing or damaged, or the metric fails.
    """
    settings, given = _read(folder)
    inputs = {name: _codes(array) for name, array in given[INPUT].items()}
    answers: dict[str, Floats] = dict(given[ANSWER])
    missing = [node.name for node in graph.inputs if node.name not in inputs]
    missing += [output.name for output in graph.outputs if output.name not in answers]
    if missing:
        raise ModelError(f"{folder / ARRAYS}: is not of this network: {', '.join(missing)} not found; compile again")
    fixed = decode_outputs(graph, emulate(graph, inputs))
    events = len(next(iter(inputs.values())))
    fixed = {name: np.broadcast_to(values, answers[name].shape) for name, values in fixed.items()}
    outputs = tuple(
        OutputReport(
            name=output.name,
            sqnr_db=sqnr_db(answers[output.name], fixed[output.name]),
            max_error=float(np.abs(answers[output.name] - fixed[output.name]).max()),
        )
        for output in graph.outputs
    )
    metric = _metric(settings, given[ARRAY], answers, fixed, graph, folder, events)
    accepted = metric is None or metric.accepted
    reason = ""
    if metric is not None and not accepted:
        reason = (
            f"{metric.name} is {metric.float_value:.4f} in the trained network and {metric.fixed_value:.4f} in fixed "
            f"point: a loss of {100 * metric.loss:.2f} %, allowed are {100 * metric.tolerance:g} % (quantize.tolerance)"
        )
    exact = compare_exactly(folder, graph, inputs)
    bits = events * sum(graph.type_of(output.value).total_bits for output in graph.outputs)
    if exact is not None:
        accepted, reason = (accepted, reason) if exact.mismatches == 0 else (False, exact.first)
        bits = exact.bits
    verdict = Verdict(
        rung=RUNG,
        name=NAME,
        status=Status.PASS if accepted else Status.FAIL,
        events=events,
        bits=bits,
        mismatches=0 if exact is None else exact.mismatches,
        first=reason,
    )
    return ReferenceResult(verdict=verdict, metric=metric, outputs=outputs)


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, Array]]]:
    """Return the settings, and the arrays by prefix and name."""
    given: dict[str, dict[str, Array]] = {ANSWER: {}, INPUT: {}, ARRAY: {}}
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        with np.load(folder / ARRAYS) as archive:
            for key in archive.files:
                kind, _, name = key.partition(":")
                given[f"{kind}:"][name] = archive[key]
        settings = {key: settings[key] for key in ("metric", "named", "tolerance")}
    except FileNotFoundError as error:
        raise ModelError(f"{error.filename}: missing; compile again") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder}: the files of rung 1 are damaged: {error}; compile again") from None
    return settings, given


def _codes(array: Array) -> Array:
    if array.dtype.kind != "U":
        return array
    return np.array([int(text) for text in array.ravel()], dtype=object).reshape(array.shape)


def _metric(
    settings: Mapping[str, Any],
    arrays: Mapping[str, Array],
    answers: Mapping[str, Floats],
    fixed: Mapping[str, Floats],
    graph: Graph,
    folder: Path,
    events: int,
) -> MetricReport | None:
    sizes = {output.name: graph.type_of(output.value).size for output in graph.outputs}
    metric = find_metric(settings["metric"], arrays, sizes, folder)
    if metric is None:
        return None
    return MetricReport(
        name="accuracy" if settings["named"] == "auto" else settings["named"],
        float_value=metric(answers, arrays),
        fixed_value=metric(fixed, arrays),
        tolerance=settings["tolerance"],
        events=events,
    )
