"""Flags from options: a verb that takes keys of metronn.toml gets a flag for each, and their values in one argument."""

from __future__ import annotations

import enum
import functools
import inspect
from collections.abc import Callable, Collection, Iterable
from fnmatch import fnmatchcase
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from pydantic.fields import FieldInfo

from metronn.flow.options import Given, flag_of, keys, parameter_of
from metronn.toml_tables import about

GIVEN = "given"
"""The argument of a verb that gets what was given."""


def taking(*patterns: str, but: Collection[str] = ()) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Let a verb take the keys that match, as `plan.*`, `but` for some, by their flags.

    Its argument `given: Given` is replaced by an optional parameter for each key, called like the key; values that are
    not on the command line are not given.
    """
    taken = {
        name: found for name, found in keys() if flag_of(name, found) and _matches(name, patterns) and name not in but
    }
    parameters = {parameter_of(name): name for name in taken}
    assert len(parameters) == len(taken), "two keys of one verb have the same flag"

    def decorate(verb: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(verb)
        def run(**arguments: object) -> None:
            values = {
                name: value
                for parameter, name in parameters.items()
                if (value := _value(arguments.pop(parameter, None))) is not None
            }
            names = {name: (flag_of(name, taken[name]) or name).split("/")[-1] for name in values}
            verb(**arguments, given=Given(values=values, names=names))

        signature = inspect.signature(verb, eval_str=True)
        own: list[inspect.Parameter] = []
        for parameter in signature.parameters.values():
            if parameter.name == GIVEN:
                own += [_flag(name, found) for name, found in taken.items()]
            else:
                own.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY))
        run.__signature__ = signature.replace(parameters=own)  # type: ignore[attr-defined]
        hints = get_type_hints(verb, include_extras=True)
        run.__annotations__ = {parameter.name: parameter.annotation for parameter in own} | {"return": hints["return"]}
        return run

    return decorate


def _matches(name: str, patterns: Iterable[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _value(value: object) -> object:
    """Return a value of the command line as metronn.toml would have it; None where nothing was given."""
    if isinstance(value, list | tuple):
        return tuple(map(_value, value)) or None
    if isinstance(value, enum.Enum):
        return value.value
    return value


def _flag(name: str, found: FieldInfo) -> inspect.Parameter:
    """Return the parameter of a key."""
    flag = about(found).flag
    assert flag is not None
    kind = _plain(found.annotation)
    words = flag.help or about(found).meaning
    default = found.default.value if isinstance(found.default, enum.Enum) else found.default
    if default is not None and default != () and not isinstance(default, bool):
        words = f"{words.rstrip('.')}. [default: {default}]"
    written = flag_of(name, found) or ""
    parts = [written] if written.count("--") > 1 else written.split("/")
    parser = _number_or_word if kind is None else None
    option = typer.Option(*parts, metavar=flag.metavar or None, help=words, show_default=False, parser=parser)
    annotation: Any = Annotated[(kind or str) | None, option]
    return inspect.Parameter(parameter_of(name), inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _number_or_word(text: str) -> object:
    try:
        return int(text)
    except ValueError:
        return text


def _plain(kind: Any) -> Any:  # noqa: ANN401 (any type expression)
    """Return the type that the command line reads for a key; None for a number or a word, as `auto`."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, UnionType):
        kinds = [one for one in get_args(kind) if one is not type(None)]
        if any(get_origin(one) is Literal for one in kinds):
            return None
        return _plain(kinds[0])
    if get_origin(kind) is tuple:
        return list[_plain(get_args(kind)[0])]  # type: ignore[misc]
    return kind
