"""Hardware descriptions as TOML tables: base model, value ranges, and errors that name file, key and range."""

import difflib
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from metronn.errors import ModelError


class Table(BaseModel):
    """A TOML table with a fixed set of keys; a value, never changed after reading."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


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


def parse(model: type[TableType], data: Mapping[str, Any], where: str) -> TableType:
    """Make a `model` of a TOML table. Raises ModelError that lists every wrong, missing and unknown key."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = [f"{where}: {_describe(model, item)}" for item in error.errors(include_url=False)]
        raise ModelError("\n".join(problems)) from error


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


def _describe(model: type[BaseModel], item: Any) -> str:  # noqa: ANN401 (pydantic's ErrorDetails)
    location: tuple[int | str, ...] = item["loc"]
    key = ".".join(str(part) for part in location)
    match item["type"]:
        case "missing":
            return f"missing key {key!r}"
        case "extra_forbidden":
            known = _keys_at(model, location[:-1])
            near = difflib.get_close_matches(str(location[-1]), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ";"
            return f"unknown key {key!r}{hint} allowed here: {', '.join(known)}"
        case "value_error":
            text = str(item["ctx"]["error"])
            return f"key {key!r} {text}" if key else text
        case "model_type" | "model_attributes_type":
            return f"key {key!r} must be a table, found {item['input']!r}"
        case "tuple_type":
            return f"key {key!r} must be a list, found {item['input']!r}"
        case _:
            text = item["msg"].removeprefix("Input ")
            return f"key {key!r} {text}, found {item['input']!r}"


def _keys_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    """List the keys that the table at `location` inside a `model` may have."""
    names_an_entry = False
    for part in location:
        if names_an_entry:  # of a table whose keys are names, as plan.layers
            names_an_entry = False
        elif isinstance(part, str):
            by_key = {field.alias or name: field for name, field in model.model_fields.items()}
            nested = _nested_model(by_key[part].annotation)
            assert nested is not None, "pydantic reported an unknown key inside a value that is not a table"
            names_an_entry = get_origin(by_key[part].annotation) is dict
            model = nested
    return [field.alias or name for name, field in model.model_fields.items()]


def _nested_model(annotation: Any) -> type[BaseModel] | None:  # noqa: ANN401 (any type expression)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if get_origin(annotation) in (tuple, dict, Union, UnionType):
        return next((found for found in map(_nested_model, get_args(annotation)) if found), None)
    return None
