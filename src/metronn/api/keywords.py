"""What functions of the interface take: a network, its events, and keys of metronn.toml as keywords."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from metronn.api.live import network_file
from metronn.errors import ModelError
from metronn.events.data import UNNAMED, EventSource
from metronn.flow.options import Given, flag_of, keys, parameter_of
from metronn.flow.request import FILE_NAME, Request, find_request, read_request
from metronn.toml_tables import about, unknown_name


@dataclass(frozen=True, slots=True)
class Keywords:
    """The keywords of a function.

    Attributes:
        keys: by keyword, keys of metronn.toml: those that the command line gives, too.
        tables: tables that are keywords.
    """

    keys: Mapping[str, str]
    tables: tuple[str, ...]

    @classmethod
    def of(cls, several: tuple[str, ...], tables: tuple[str, ...], but: tuple[str, ...]) -> Keywords:
        """Return a keyword for each key with a flag of `several` tables `but` for some, and `tables` as they are."""
        flags = (name for name, field in keys() if flag_of(name, field) and name.partition(".")[0] in several)
        return cls({parameter_of(name): name for name in flags if name not in but}, tables)

    def given(self, keywords: Mapping[str, Any]) -> Given:
        """Return the values of keywords by key; None gives nothing. Raises ModelError listing unknown keywords."""
        values: dict[str, Any] = {}
        names: dict[str, str] = {}
        problems = []
        for word, value in keywords.items():
            if word in self.keys:
                found = {self.keys[word]: (value, word)}
            elif word in self.tables:
                if not isinstance(value, Mapping):
                    problems.append(f"{word}: must be a table of keys, as {{'key': value}}, found {value!r}")
                    continue
                found = {f"{word}.{key}": (inner, f"{word}[{key!r}]") for key, inner in value.items()}
            else:
                problems.append(unknown_name("option", word, [*self.keys, *self.tables]))
                continue
            for key, (inner, shown) in found.items():
                if inner is not None:
                    values[key], names[key] = _plain(inner), shown
        if problems:
            raise ModelError("\n".join(problems))
        return Given(values=values, names=names)

    def describe(self, function: Callable[..., object]) -> None:
        """Give a function of `**given` the signature and the documentation of its keywords."""
        signature = inspect.signature(function)
        fields = dict(keys())
        own = [one for one in signature.parameters.values() if one.kind is not inspect.Parameter.VAR_KEYWORD]
        more = [inspect.Parameter(w, inspect.Parameter.KEYWORD_ONLY, default=None) for w in (*self.keys, *self.tables)]
        function.__signature__ = signature.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
        words = []
        for word, key in self.keys.items():
            said = about(fields[key])
            assert said.flag is not None
            words.append(f"    {word}: {said.flag.help or said.meaning}")
        function.__doc__ = f"{inspect.getdoc(function)}\n\nOptions by name:\n" + "\n".join(words) + "\n"


def request_of(network: object, place: Path, options: str | Path | None, given: Given) -> Request:
    """Return the request: that of the network's own metronn.toml, or of `options`.

    `place`: a folder for the file of a network in memory.
    """
    file = network_file(network, place, given.get("data.calibrate"), str(given.get("data.label") or "label"))
    live = file.is_relative_to(place)
    if options is not None:
        request = read_request(options_file(options), given, model=file)
    elif live:
        request = read_request(None, given, model=file)
    else:
        request = find_request(file, given)
    if not live:
        return request
    name = request.options.model.name or getattr(network, "name", None) or type(network).__name__
    return replace(request, keep_model=True, name=str(name))


def options_file(options: str | Path) -> Path:
    """Return the metronn.toml that is named, itself or by its folder."""
    return Path(options) / FILE_NAME if Path(options).is_dir() else Path(options)


def with_events(given: Given, calibrate: EventSource | Path | None, labels: object) -> Given:
    """Return what is given with calibration events, if any, and labels under their name among them.

    Raises ModelError where labels cannot be put there.
    """
    events = _with_labels(calibrate, labels, str(given.get("data.label") or "label"))
    if events is None:
        return given
    return Given(
        values={**given.values, "data.calibrate": events}, names={**given.names, "data.calibrate": "calibrate"}
    )


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
