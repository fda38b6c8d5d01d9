"""From a network, as a file or in memory, to a build."""

from __future__ import annotations

import enum
import inspect
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from metronn.api.build import Build
from metronn.api.live import network_file
from metronn.errors import ModelError
from metronn.events.data import UNNAMED, EventSource
from metronn.flow.builds import RUNGS
from metronn.flow.compile import compile_build
from metronn.flow.dump import dumped_stages
from metronn.flow.options import Given, flag_of, keys, parameter_of
from metronn.flow.request import FILE_NAME, Request, find_request, read_request
from metronn.log import QuietLog
from metronn.toml_tables import about, unknown_name

COMPILED = ("model", "data", "quantize", "plan", "verify", "build", "report")
"""Tables of metronn.toml that may be given."""
KEYWORDS = {
    parameter_of(name): name
    for name, field in keys()
    if name.partition(".")[0] in COMPILED and flag_of(name, field) and name not in ("data.calibrate", "build.directory")
}
"""Keys that are keywords: those that the command line gives, too."""
WHOLE = ("model", "data", "quantize", "plan", "report")
"""Tables that are keywords."""


def compile(
    network: object,
    *,
    calibrate: EventSource | None = None,
    labels: Any = None,  # noqa: ANN401 - an array
    output: str | Path | None = None,
    options: str | Path | None = None,
    verify: bool = True,
    check: bool = True,
    strict: bool = False,
    force: bool = False,
    dump_ir: str | Path | None = None,
    **given: Any,  # noqa: ANN401 - keys of metronn.toml
) -> Build:
    """Compile a network to a verified build, as `metronn compile` does.

    Args:
        network: a path, a live Keras, QKeras or HGQ2 model, a `torch.nn.Module`, or an `onnx.ModelProto`; or a
            metronn.toml or a folder with one.
        calibrate: events, of shape (events, *shape): an array, arrays by input name, or a file. Networks that their
            framework quantized need none.
        labels: class numbers or scores of these events, for a metric.
        output: the folder of the build; by default a temporary one, which goes with the build (`build.save` keeps it).
        options: a metronn.toml to start from; by default the one beside a network's file that is about it.
        verify: run rungs 2 to 6, too; rung 1 always is.
        check: raise where a rung failed or a required one was not run.
        strict: every rung is required.
        force: replace an older build at `output`.
        dump_ir: a new folder for every graph between the network and the plan.
        **given: keys of metronn.toml (docs/configuration.md): those below by name, as `system="two-serenity"`, `ii=9`,
            `bits=8`, `verify_data=x`; all others in their table, as `quantize={"rescale": False}`.

    Raises:
        ModelError: the request is wrong; every problem is listed.
        InfeasibleError: no design can meet it.
        ToolError: a tool is missing or broken.
        VerificationError: the build is not good; its `build` is there to find out why.
    """
    wanted = _given(given)
    events = _with_labels(calibrate, labels, str(wanted.get("data.label") or "label"))
    names = dict(wanted.names) if events is None else {**wanted.names, "data.calibrate": "calibrate"}
    values = dict(wanted.values) if events is None else {**wanted.values, "data.calibrate": events}
    with _scratch(output) as (folder, scratch), tempfile.TemporaryDirectory(prefix="metronn-network-") as place:
        wanted = Given(values={**values, "build.directory": str(folder)}, names=names)
        request = _request(network, Path(place), events, options, wanted)
        watch = dumped_stages(None if dump_ir is None else Path(dump_ir), request.directory)
        made = compile_build(request, QuietLog(), watch, verify=verify, force=force)
    build = Build(made.folder, scratch=scratch)
    if check:
        build.check(RUNGS if strict else request.require)
    return build


@contextmanager
def _scratch(output: str | Path | None) -> Iterator[tuple[Path, Path | None]]:
    """Give the folder of a build, and the temporary one that it lies in, which an error removes."""
    if output is not None:
        yield Path(output), None
        return
    scratch = Path(tempfile.mkdtemp(prefix="metronn-"))
    try:
        yield scratch / "build", scratch
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def load(folder: str | Path) -> Build:
    """Return the build in a folder.

    Raises ModelError where there is none or it is damaged, MismatchError where its graph or plan were changed.
    """
    return Build(Path(folder))


def _request(
    network: object, place: Path, events: EventSource | None, options: str | Path | None, given: Given
) -> Request:
    """Return the request: that of the network's own metronn.toml, or of `options`."""
    file = network_file(network, place, events, str(given.get("data.label") or "label"))
    live = file.is_relative_to(place)
    if options is not None:
        path = Path(options) / FILE_NAME if Path(options).is_dir() else Path(options)
        request = read_request(path, given, model=file)
    elif live:
        request = read_request(None, given, model=file)
    else:
        request = find_request(file, given)
    if not live:
        return request
    name = request.options.model.name or getattr(network, "name", None) or type(network).__name__
    return replace(request, keep_model=True, name=str(name))


def _given(keywords: Mapping[str, Any]) -> Given:
    """Return the values of keywords by key; None gives nothing. Raises ModelError listing unknown keywords."""
    values: dict[str, Any] = {}
    names: dict[str, str] = {}
    problems = []
    for word, value in keywords.items():
        if word in KEYWORDS:
            found = {KEYWORDS[word]: (value, word)}
        elif word in WHOLE:
            if not isinstance(value, Mapping):
                problems.append(f"{word}: must be a table of keys, as {{'key': value}}, found {value!r}")
                continue
            found = {f"{word}.{key}": (inner, f"{word}[{key!r}]") for key, inner in value.items()}
        else:
            problems.append(unknown_name("option", word, [*KEYWORDS, *WHOLE]))
            continue
        for key, (inner, shown) in found.items():
            if inner is not None:
                values[key], names[key] = _plain(inner), shown
    if problems:
        raise ModelError("\n".join(problems))
    return Given(values=values, names=names)


def _plain(value: object) -> object:
    """Return a value as metronn.toml would have it: texts of paths and choices, numbers of Python."""
    match value:
        case enum.Enum():
            return value.value
        case Path():
            return str(value)
        case np.generic():
            return value.item()
        case list() | tuple():
            return tuple(_plain(one) for one in value)
        case Mapping():
            return {str(key): one if isinstance(one, np.ndarray) else _plain(one) for key, one in value.items()}
    return value


def _with_labels(events: EventSource | Path | None, labels: object, name: str) -> EventSource | None:
    """Return events with labels under their name. Raises ModelError where that cannot be."""
    if isinstance(events, Path):
        events = str(events)
    if labels is None:
        return events
    if events is None or isinstance(events, str):
        raise ModelError("labels: are given beside calibrate= as arrays; a file holds its own, see label=")
    named = events if isinstance(events, Mapping) else {UNNAMED: events}
    if name in named:
        raise ModelError(f"labels: calibrate= holds an array {name}, too; leave one of them out")
    return {**named, name: np.asarray(labels)}


def _describe() -> None:
    """Give `compile` the signature and the documentation of its keywords."""
    signature = inspect.signature(compile)
    fields = dict(keys())
    own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
    more = [inspect.Parameter(word, inspect.Parameter.KEYWORD_ONLY, default=None) for word in (*KEYWORDS, *WHOLE)]
    compile.__signature__ = signature.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
    words = []
    for word, key in KEYWORDS.items():
        said = about(fields[key])
        assert said.flag is not None
        words.append(f"    {word}: {said.flag.help or said.meaning}")
    compile.__doc__ = f"{inspect.getdoc(compile)}\n\nOptions by name:\n" + "\n".join(words) + "\n"


_describe()
