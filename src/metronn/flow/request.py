"""A request: metronn.toml with what was given besides, checked, its paths found."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from metronn.errors import ModelError
from metronn.events.data import EventSource
from metronn.flow.options import Given, Options
from metronn.plan.hardware.boards import list_systems
from metronn.plan.options import PlanOptions
from metronn.quantize.options import QuantizeOptions, parse_options
from metronn.search.space import with_patterns
from metronn.toml_tables import parse, read_toml

FILE_NAME = "metronn.toml"
DATA_SUFFIXES = (".npz", ".npy", ".h5", ".hdf5", ".root")
EVENTS = ("data.calibrate", "verify.data")
"""Keys that may be given as arrays."""
PICTURES = "report.pictures"
"""The key whose values that are given come behind those of the file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Everything a compilation needs; paths are absolute or relative to the working folder.

    `calibrate` and `verify_data` may be `file.root:tree`, or arrays. `base` is the folder of metronn.toml, in which a
    metric `file.py:function` is looked for. `require` holds the rungs that must have been run, in order. `options` is
    all that was read, its paths as they were written; `quantize` is its table with the widths of the file it names.
    `keep_model`: the build holds the network's file, which nobody else has.
    """

    options: Options
    model: Path
    keep_model: bool = False
    name: str
    base: Path
    hls4ml_config: Path | None = None
    calibrate: EventSource | None = None
    verify_data: EventSource | None = None
    quantize: QuantizeOptions
    system: str | Path | None = None
    plan: PlanOptions
    require: tuple[int, ...] = ()
    directory: Path
    pictures: tuple[Path, ...] = ()
    source: Path | None = None

    @property
    def label(self) -> str:
        """Name of the array of labels."""
        return self.options.data.label

    @property
    def columns(self) -> Mapping[str, tuple[str, ...]]:
        """For inputs, the arrays that lie side by side in them."""
        return self.options.data.columns

    def needed_calibration(self, why: str) -> EventSource:
        """Return the calibration data. Raises ModelError, which says why they are needed, when there are none."""
        if self.calibrate is None:
            raise ModelError(
                f"no calibration data: {why}.\n"
                f"  Give --calibrate FILE ({', '.join(DATA_SUFFIXES)}) or data.calibrate in {FILE_NAME}."
            )
        return self.calibrate

    def needed_system(self) -> str | Path:
        """Return the system. Raises ModelError when there is none."""
        if self.system is None:
            raise ModelError(
                f"no system: which FPGAs, how fast?\n  Give --system NAME or plan.system in {FILE_NAME}; "
                f"known systems: {', '.join(list_systems())}."
            )
        return self.system


def find_request(target: Path | None, given: Given, *, ignore_widths: bool = False) -> Request:
    """Read what to compile: a network file, a metronn.toml, a folder with one, or that of the working folder.

    For a network file, the metronn.toml beside it is read when it is about that network. Raises ModelError listing
    every wrong key and value.
    """
    if target is not None and target.suffix != ".toml" and not target.is_dir():
        beside = target.parent / FILE_NAME
        source = beside if _is_about(beside, target) else None
        return read_request(source, given, model=target, ignore_widths=ignore_widths)
    path = Path(FILE_NAME) if target is None else target / FILE_NAME if target.is_dir() else target
    if not path.is_file():
        if target is None:
            what = f"no {FILE_NAME} in this folder, and no model named"
        elif target.is_dir():
            what = f"{target}: no {FILE_NAME} in this folder"
        else:
            what = f"{path}: no such file"
        raise ModelError(f"{what}.\n  Name a network (metronn compile MODEL --calibrate FILE --system NAME -o DIR).")
    request = read_request(path, given, ignore_widths=ignore_widths)
    if not os.path.exists(request.model):
        raise ModelError(f"{path}: model.file: {request.model}: no such file")
    return request


def _is_about(path: Path, model: Path) -> bool:
    if not path.is_file():
        return False
    table = read_toml(path).get("model", {})
    named = table.get("file") if isinstance(table, dict) else None
    return not isinstance(named, str) or (path.parent / named).resolve() == model.resolve()


def read_request(path: Path | None, given: Given, *, model: Path | None = None, ignore_widths: bool = False) -> Request:
    """Read a metronn.toml (None: all defaults) with what was given besides.

    `model`: the network, instead of the file's. `ignore_widths`: a file of widths that metronn.toml names is not read;
    the caller is about to find others. Raises ModelError listing every wrong key and value.
    """
    raw = {} if path is None else read_toml(path)
    base = Path() if path is None else path.parent
    arrays = [name for name in EVENTS if not isinstance(given.values.get(name, ""), str)]
    merged = given.over(raw, leave=(*arrays, PICTURES))
    options = parse(Options, merged, FILE_NAME if path is None else str(path), given.names)
    added = parse(Options, Given(values={PICTURES: given.get(PICTURES) or ()}).over({}), "", given.names)

    def found(name: str, value: str | None) -> Path | None:
        """Return the path that a key names, which metronn.toml means relative to itself."""
        return None if value is None else Path(value) if name in given.values else base / value

    def events(name: str, value: str | None) -> EventSource | None:
        if name in arrays:
            source: EventSource = given.get(name)
            return source
        there = found(name, value)
        return None if there is None else str(there)

    model = model or found("model.file", options.model.file)
    if model is None:
        raise ModelError(f"{path}: missing key 'model.file': which network?")
    quantize = options.quantize
    widths = None if ignore_widths and "quantize.widths" not in given.values else quantize.widths
    if (file := found("quantize.widths", widths)) is not None:
        quantize = with_widths(quantize, file)
    directory = found("build.directory", options.build.directory)
    assert directory is not None
    return Request(
        options=options,
        model=model,
        name=options.model.name or model.stem,
        base=base,
        hls4ml_config=found("model.hls4ml_config", options.model.hls4ml_config),
        calibrate=events("data.calibrate", options.data.calibrate),
        verify_data=events("verify.data", options.verify.data),
        quantize=quantize,
        system=_system(base, options.plan.system, given="plan.system" in given.values),
        plan=options.plan.options(),
        require=tuple(sorted(set(options.verify.require))),
        directory=directory,
        pictures=(*(base / picture for picture in options.report.pictures), *map(Path, added.report.pictures)),
        source=path,
    )


def with_widths(options: QuantizeOptions, path: Path) -> QuantizeOptions:
    """Put the `[quantize.layers]` of a file behind those of the options, and take its `rescale` if it has one.

    Raises ModelError listing what is wrong with the file.
    """
    table = read_toml(path)
    found = table.get("quantize")
    if not isinstance(found, dict) or list(table) != ["quantize"] or set(found) - {"layers", "rescale"}:
        raise ModelError(
            f"{path}: is no file of widths: it must hold [quantize.layers] and nothing but quantize.rescale"
        )
    read = parse_options(found, f"{path}: [quantize]")
    if "rescale" in found:
        options = options.model_copy(update={"rescale": read.rescale})
    return with_patterns(options, read.layers)


def _system(base: Path, name: str | None, *, given: bool) -> str | Path | None:
    """Return a system's name, or its path, which a file means relative to itself."""
    if name is None or given or not (name.endswith(".toml") or "/" in name):
        return name
    return base / name
