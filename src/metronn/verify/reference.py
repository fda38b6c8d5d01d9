"""Rung 1: the trained network over real numbers against its integer graph.

A network that its framework quantized is held exactly up to some last values (`metronn.quantize.exact.values`): this
rung compares their integers with those of the trained network, and those of the layers before, and passes when none
differs. The metric is measured too.

Quantization after training is not exact, so there this rung measures: the user's metric on all events, and the signal
of every output (`metronn.quantize.judge`) on those that judge. It passes when the loss of the metric is within the
user's tolerance, or, for want of a metric, when every output keeps `quantize.min_sqnr_db`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from metronn.emit.build import npz
from metronn.errors import ModelError
from metronn.events.codes import encode_inputs
from metronn.events.data import Events
from metronn.events.metrics import find_metric
from metronn.ir.arrays import Array
from metronn.ir.graph import Graph
from metronn.model.graph import Floats, RealGraph
from metronn.quantize.exact.values import ExactValue
from metronn.quantize.judge import judge
from metronn.quantize.measure import run_codes, run_float
from metronn.quantize.options import QuantizeOptions
from metronn.quantize.report import (
    MetricReport,
    OutputReport,
    QuantizationReport,
    lost_words,
    metric_words,
    remedy,
    where_lost,
    where_words,
)
from metronn.verify.exact_rung import Comparison, compare_exactly, exact_files
from metronn.verify.verdict import Status, Verdict

RUNG = 1
NAME = "trained network"
ARRAYS = "reference.npz"
SETTINGS = "reference.json"
ANSWER, INPUT, ARRAY, EVENT = "float:", "code:", "array:", "event:"
"""Prefixes in reference.npz: the float network's outputs, input codes, labels and other arrays of the events, and what
is known of the events themselves."""
NUMBER, JUDGES = "number", "judges"
"""Arrays below `event:`: the position of each event in the user's file, and whether it judges the signal."""
LARGEST = 1 << 24
"""Bytes of events and answers kept in a build, before compression; of more events some are kept, evenly spaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReferenceResult:
    """The verdict of rung 1 with what it measured."""

    verdict: Verdict
    metric: MetricReport | None
    outputs: tuple[OutputReport, ...]

    def as_dict(self) -> dict[str, object]:
        """Return the form written to manifest.json."""
        return self.told().as_dict()

    def told(self) -> Verdict:
        """Return the verdict with what was measured."""
        metric = {} if self.metric is None else {"metric": metric_record(self.metric)}
        return replace(self.verdict, measured={**metric, "outputs": [output.to_json() for output in self.outputs]})


def metric_record(metric: MetricReport) -> dict[str, object]:
    """Return a metric as plain data."""
    return asdict(metric) | {"loss": metric.loss, "accepted": metric.accepted}


def reference_files(
    model: RealGraph,
    graph: Graph,
    events: Events,
    judging: Array,
    options: QuantizeOptions,
    base: Path,
    report: QuantizationReport,
    frontier: Sequence[ExactValue] = (),
    *,
    original: RealGraph | None = None,
    log: Callable[[str], None] = lambda _: None,
    largest: int = LARGEST,
) -> dict[str, bytes]:
    """Return what rung 1 needs, by name below `vectors/`: events, the float network's answers, and the metric.

    `judging` are the positions of the events that judge the signal; those that the report excludes are left out.
    Without a metric and exact values only they are kept, else all; some of them when they take more than `largest`
    bytes, which `log` is told. `frontier` are the values that the graph holds exactly; their integers in the trained
    network `model` are kept too. `original` (None: `model`) is the network whose answers count for metric and signal.
    A metric `file.py:function` is looked for in `base`, and its file kept.
    """
    judges = np.zeros(events.count, dtype=bool)
    judges[judging] = True
    if not np.isin(judging, report.excluded).all():
        judges[list(report.excluded)] = False
    needed = np.arange(events.count) if report.metric is not None or frontier else np.flatnonzero(judges)
    arrays = {name: array for name, array in events.arrays().items() if array.dtype.kind in "iufb"}
    if report.metric is None:
        arrays = {}
    kept = _affordable(graph, needed, judges, arrays, largest)
    if len(kept) < len(needed):
        log(
            f"rung 1: {len(kept):,} of {len(needed):,} events are kept in the build and judge there, evenly spaced "
            f"({largest / 2**20:g} MiB)"
        )
    inputs = {name: values[kept] for name, values in events.inputs.items()}
    answers = run_float(original or model, inputs)
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
        | {f"{INPUT}{name}": _narrow(codes) for name, codes in encode_inputs(graph, inputs).items()}
        | {f"{ARRAY}{name}": array[kept] for name, array in arrays.items()}
        | {f"{EVENT}{NUMBER}": _narrow(kept.astype(np.int64)), f"{EVENT}{JUDGES}": judges[kept]}
    )
    settings = {
        "metric": spec if report.metric is not None else "none",
        "named": options.metric,
        "tolerance": options.tolerance,
        "min_sqnr_db": report.min_sqnr_db,
        "unseen": report.unseen,
        "outputs": {
            output.name: {
                "decides": output.decides,
                "lost_in": where_words(where_lost(report, output.name)),
                "advice": remedy(report, output),
            }
            for output in report.outputs
        },
    }
    files[SETTINGS] = (json.dumps(settings, indent=1, ensure_ascii=False) + "\n").encode()
    return files | exact_files(model, graph, frontier, inputs, log=log)


def _affordable(graph: Graph, needed: Array, judges: Array, arrays: Mapping[str, Array], largest: int) -> Array:
    """Return the positions to keep: all needed ones, or as many as fit, evenly spaced, those that judge in proportion.

    Those that judge lie evenly spaced themselves: one spacing for all might meet none of them.
    """
    size = sum(array.dtype.itemsize * int(np.prod(array.shape[1:], dtype=int)) for array in arrays.values())
    size += sum(8 * graph.type_of(output.value).size for output in graph.outputs)
    size += sum(node.type.size * -(-node.type.range.width_bits // 8) for node in graph.inputs)
    count = min(len(needed), max(1, largest // max(1, size)))
    judging, others = needed[judges[needed]], needed[~judges[needed]]
    some = min(len(judging), -(-count * len(judging) // len(needed)))
    return np.sort(np.concatenate([_spaced(judging, some), _spaced(others, count - some)]))


def _spaced(positions: Array, count: int) -> Array:
    return positions[np.arange(count) * len(positions) // max(1, count)]


def _narrow(codes: Array) -> Array:
    """Return integers in the narrowest type that holds them; those beyond 64 bits as they are."""
    if codes.dtype == object or not codes.size:
        return codes
    low, high = int(codes.min()), int(codes.max())
    fitting = next(
        t for t in (np.int8, np.int16, np.int32, np.int64) if np.iinfo(t).min <= low and high <= np.iinfo(t).max
    )
    return codes.astype(fitting)


def reference_result(folder: Path, graph: Graph) -> ReferenceResult:
    """Run rung 1 on the `vectors` folder of a build.

    Raises ModelError when its files are missing or damaged, or the metric fails.
    """
    settings, given = _read(folder)
    inputs = {name: _codes(array) for name, array in given[INPUT].items()}
    answers: dict[str, Floats] = dict(given[ANSWER])
    missing = [node.name for node in graph.inputs if node.name not in inputs]
    missing += [output.name for output in graph.outputs if output.name not in answers]
    missing += [output.name for output in graph.outputs if output.name not in settings["outputs"]]
    missing += [name for name in (NUMBER, JUDGES) if name not in given[EVENT]]
    if missing:
        raise ModelError(f"{folder / ARRAYS}: is not of this network: {', '.join(missing)} not found; compile again")
    fixed = run_codes(graph, inputs)
    events = len(next(iter(inputs.values())))
    outputs, reasons = _signals(settings, given[EVENT], answers, fixed, graph)
    metric = _metric(settings, given[ARRAY], answers, fixed, graph, folder, events)
    if metric is not None and not metric.accepted:
        reasons.insert(0, metric_words(metric))
    exact = compare_exactly(folder, graph, inputs)
    bits = events * sum(graph.type_of(output.value).total_bits for output in graph.outputs)
    if exact is not None:
        reasons = [*([exact.first] if exact.mismatches else []), *reasons]
        bits = exact.bits
    verdict = Verdict(
        rung=RUNG,
        name=NAME,
        status=_status(exact, reasons),
        events=events,
        bits=bits,
        mismatches=0 if exact is None else exact.mismatches,
        first="\n".join(reasons) or ("" if exact is None else exact.unjudged),
    )
    return ReferenceResult(verdict=verdict, metric=metric, outputs=outputs)


def _status(exact: Comparison | None, reasons: Sequence[str]) -> Status:
    if reasons:
        return Status.FAIL
    return Status.NOT_RUN if exact is not None and exact.unjudged else Status.PASS


def _signals(
    settings: Mapping[str, Any],
    about: Mapping[str, Array],
    answers: Mapping[str, Floats],
    fixed: Mapping[str, Floats],
    graph: Graph,
) -> tuple[tuple[OutputReport, ...], list[str]]:
    """Return the signal of every output, and a message for each that decides and is lost."""
    number = about[NUMBER].astype(np.int64)
    judges = np.flatnonzero(about[JUDGES])
    outputs, reasons = [], []
    for output in graph.outputs:
        said = settings["outputs"][output.name]
        signal = judge(output.name, answers[output.name][judges], fixed[output.name][judges])
        signal = replace(signal, worst_event=int(number[judges[signal.worst_event]]))
        outputs.append(OutputReport(name=output.name, signal=signal, decides=bool(said["decides"])))
        if said["decides"] and signal.lost(settings["min_sqnr_db"]):
            reasons.append(
                lost_words(output.name, signal, settings["min_sqnr_db"], str(said["lost_in"]), str(said["advice"]))
            )
    return tuple(outputs), reasons


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, dict[str, Array]]]:
    """Return the settings, and the arrays by prefix and name."""
    given: dict[str, dict[str, Array]] = {ANSWER: {}, INPUT: {}, ARRAY: {}, EVENT: {}}
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        with np.load(folder / ARRAYS) as archive:
            for key in archive.files:
                kind, _, name = key.partition(":")
                given[f"{kind}:"][name] = archive[key]
        settings = {key: settings[key] for key in ("metric", "named", "tolerance", "min_sqnr_db", "unseen", "outputs")}
    except FileNotFoundError as error:
        raise ModelError(f"{error.filename}: missing; compile again") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{folder}: the files of rung 1 are damaged: {error}; compile again") from None
    return settings, given


def _codes(array: Array) -> Array:
    if array.dtype.kind != "U":
        return array.astype(np.int64)
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
