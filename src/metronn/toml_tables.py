"""Options and hardware as TOML tables: base model, keys and their meaning, value ranges, errors that name all three."""

import difflib
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, Tag, ValidationError
from pydantic.fields import FieldInfo

from metronn.errors import ModelError

ABOUT = "about"


class Table(BaseModel):
    """A TOML table with a fixed set of keys; a value, never changed after reading."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Flag:
    """How the command line gives a key.

    `name`: the flag, by default `--` and the key; `metavar`: what stands for the value; `help`: shorter words than the
    key's meaning.
    """

    name: str = ""
    metavar: str = ""
    help: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What the documentation says of a key: its meaning, what is shown as its default, and its flag if it has one."""

    meaning: str
    default: str = ""
    flag: Flag | None = None


def key(default: object, meaning: str, *, shown: str = "", flag: Flag | None = None) -> Any:  # noqa: ANN401 - as Field
    """Return a field of a table with all that documentation and command line say of it.

    `shown` replaces the default where that is words: "the system's".
    """
    about = cast("Any", {ABOUT: About(meaning=meaning, default=shown, flag=flag)})
    return Field(default=default, json_schema_extra=about)


def about(field: FieldInfo) -> About:
    """Return what `key` says of a field."""
    found = cast("Mapping[str, Any]", field.json_schema_extra or {}).get(ABOUT)
    assert isinstance(found, About), "a field of an options table is made with key()"
    return found


def whole(low: int, high: int) -> BeforeValidator:
    """Accept whole numbers from `low` to `high`; the error states the range and the value found."""

    def check(value: object) -> object:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise ValueError(f"must be a whole number from {low} to {high}, found {value!r}")
        return value

    return BeforeValidator(check)


def number(low: float, high: float) -> BeforeValidator:
    """Accept numbers from `low` to `high`; the error states the range and the value found."""

    def check(value: object) -> object:
        # Written so that NaN is refused too.
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise ValueError(f"must be a number from {plain(low)} to {plain(high)}, found {value!r}")
        return float(value)

    return BeforeValidator(check)


def plain(value: float) -> str:
    """Write a number in full, without an exponent for common sizes."""
    return f"{value:.10g}"


def _text(value: object) -> object:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"must be a text that is not empty, found {value!r}")
    if "\0" in value:
        raise ValueError(f"must be a text without NUL, found {value!r}")
    return value.strip()


Text = Annotated[str, BeforeValidator(_text)]
Count = Annotated[int, whole(0, 1_000_000_000)]
FrequencyMhz = Annotated[float, number(0.001, 100_000)]
LineRateGbps = Annotated[float, number(0.1, 1000)]
Lanes = Annotated[int, whole(1, 4096)]

TableType = TypeVar("TableType", bound=Table)


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises ModelError naming the file, and the line when it is not TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise ModelError(f"{path}: not valid TOML: {error}") from error
    except UnicodeDecodeError as error:
        raise ModelError(f"{path}: not valid TOML: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # a whole number of thousands of digits
        raise ModelError(f"{path}: not valid TOML: {error}") from error
    except RecursionError:
        raise ModelError(f"{path}: not valid TOML: nested too deeply") from None


def parse(
    model: type[TableType], data: Mapping[str, Any], where: str, flags: Mapping[str, str] | None = None
) -> TableType:
    """Make a `model` of a TOML table. Raises ModelError that lists every wrong, missing and unknown key.

    `flags` names, by key (`plan.ii`), what was given elsewhere than in `where`, as on the command line.
    """
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = [_problem(model, item, where, flags or {}) for item in error.errors(include_url=False)]
        raise ModelError("\n".join(dict.fromkeys(problems))) from error


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Word the message for a name that is not known: the nearest known name and the list of them all."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ";"
    return f"unknown {kind} {name!r}{hint} known {kind}s: {', '.join(names) or 'none'}"


def collect(problems: list[str], action: Callable[[], TableType], prefix: str = "") -> TableType | None:
    """Run `action`; on a ModelError add its lines, each after `prefix`, to `problems` and return None."""
    try:
        return action()
    except ModelError as error:
        problems.extend(prefix + line for line in error.message.splitlines())
        return None


def _problem(
    model: type[BaseModel],
    item: Any,  # noqa: ANN401 (pydantic's ErrorDetails)
    where: str,
    flags: Mapping[str, str],
) -> str:
    location, table = _walk(model, item["loc"])
    name = ".".join(map(str, location))
    given = next((flag for key, flag in flags.items() if f"{name}.".startswith(f"{key}.")), None)
    match item["type"]:
        case "missing":
            return f"{where}: missing key {name!r}"
        case "extra_forbidden":
            known = [field.alias or own for own, field in table.model_fields.items()]
            near = difflib.get_close_matches(str(location[-1]), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ";"
            return f"{given or where}: unknown key {name!r}{hint} allowed here: {', '.join(known)}"
        case "value_error":
            text = str(item["ctx"]["error"])
        case "model_type" | "model_attributes_type" | "dict_type" | "mapping_type":
            text = f"must be a table, found {item['input']!r}"
        case "tuple_type":
            text = f"must be a list, found {item['input']!r}"
        case _:
            text = f"{item['msg'].removeprefix('Input ')}, found {item['input']!r}"
    if given is not None:
        return f"{given}: {text}"
    return f"{where}: key {name!r} {text}" if name else f"{where}: {text}"


def _walk(model: type[BaseModel], location: tuple[int | str, ...]) -> tuple[list[int | str], type[BaseModel]]:
    """Return the keys and places of a location, without the parts that only say which kind of a union it is about.

    Also returns the table that holds, or would hold, the last key.
    """
    found: list[int | str] = []
    kind: Any = model
    table = model
    for part in location:
        kind, tagged = _plain(kind)
        if tagged and part in tagged:
            kind = tagged[part]
            continue
        found.append(part)
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            table = kind
            by_key = {field.alias or name: field for name, field in kind.model_fields.items()}
            kind = by_key[part].annotation if part in by_key else None
        else:  # an entry of a list, or of a table whose keys are names
            kind = get_args(kind)[0 if isinstance(part, int) else -1] if get_args(kind) else None
    return found, table


def _plain(kind: Any) -> tuple[Any, dict[Any, Any]]:  # noqa: ANN401 (any type expression)
    """Return a type without what is annotated and without None; and the kinds of a union by their tags."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) not in (Union, UnionType):
        return kind, {}
    kinds = [one for one in get_args(kind) if one is not type(None)]
    if len(kinds) == 1:
        return _plain(kinds[0])
    return kind, {
        extra.tag: get_args(one)[0]
        for one in kinds
        if get_origin(one) is Annotated
        for extra in get_args(one)[1:]
        if isinstance(extra, Tag)
    }
