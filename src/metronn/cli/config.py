"""metronn.toml: the options of a compilation beside its model. `docs/configuration.md` lists every key."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from metronn.errors import ModelError
from metronn.plan.hardware.boards import list_systems
from metronn.plan.hardware.system import MAX_FPGAS, MAX_II
from metronn.plan.options import Fold, InputForm, LayerOptions, Objective, OutputForm, PlanOptions
from metronn.quantize.options import QuantizeOptions, parse_options
from metronn.search.space import with_patterns
from metronn.toml_tables import FrequencyMhz, Table, Text, collect, number, parse, read_toml, whole

FILE_NAME = "metronn.toml"
LARGEST_EVENTS = 100_000_000
DATA_SUFFIXES = (".npz", ".npy", ".h5", ".hdf5", ".root")


class _Model(Table):
    file: Text | None = None
    name: Text | None = None
    hls4ml_config: Text | None = None


class _Data(Table):
    calibrate: Text | None = None
    label: Text = "label"
    columns: dict[str, tuple[Text, ...]] = Field(default_factory=dict)


class _PlanLayer(Table):
    reuse: Annotated[int, whole(1, MAX_II)]


class _Plan(Table):
    system: Text | None = None
    ii: Annotated[int, whole(1, MAX_II)] | None = None
    clock_mhz: FrequencyMhz | None = None
    objective: Objective = Objective.LATENCY
    fold: Fold = Fold.FULL
    fpgas: Annotated[int, whole(1, MAX_FPGAS)] | None = None
    inputs: InputForm = InputForm.AUTO
    outputs: OutputForm = OutputForm.PARALLEL
    max_latency_ns: Annotated[float, number(0.001, 1e12)] | None = None
    layers: dict[Text, _PlanLayer] = Field(default_factory=dict)


class _Verify(Table):
    data: Text | None = None
    events: Annotated[int, whole(1, LARGEST_EVENTS)] = 1000
    rtl_events: Annotated[int, whole(1, LARGEST_EVENTS)] = 200
    require: tuple[Annotated[int, whole(1, 5)], ...] = ()


class _Build(Table):
    directory: Text = "build"


class _Report(Table):
    pictures: tuple[Text, ...] = ()


class _File(Table):
    model: _Model = _Model()
    data: _Data = _Data()
    quantize: dict[str, Any] = Field(default_factory=dict)
    plan: _Plan = _Plan()
    verify: _Verify = _Verify()
    build: _Build = _Build()
    report: _Report = _Report()


@dataclass(frozen=True, slots=True, kw_only=True)
class Overrides:
    """What the command line says; None leaves what the file, or else the default, says.

    `ignore_widths`: a file of widths that metronn.toml names is not read; the command is about to find others.
    """

    model: Path | None = None
    hls4ml_config: Path | None = None
    calibrate: str | None = None
    label: str | None = None
    system: str | None = None
    output: Path | None = None
    ii: int | None = None
    clock_mhz: float | None = None
    objective: Objective | None = None
    fold: Fold | None = None
    fpgas: int | None = None
    inputs: InputForm | None = None
    outputs: OutputForm | None = None
    max_latency_ns: float | None = None
    bits: int | None = None
    weight_bits: int | None = None
    activation_bits: int | None = None
    widths: Path | None = None
    ignore_widths: bool = False
    metric: str | None = None
    tolerance: float | None = None
    verify_data: str | None = None
    events: int | None = None
    rtl_events: int | None = None
    pictures: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """Everything a compilation needs; paths are absolute or relative to the working folder.

    `calibrate` and `verify_data` may be `file.root:tree`. `base` is the folder of metronn.toml, in which a metric
    `file.py:function` is looked for. `require` holds the rungs that must have been run, in order.
    """

    model: Path
    name: str
    base: Path
    hls4ml_config: Path | None = None
    calibrate: str | None = None
    verify_data: str | None = None
    label: str = "label"
    columns: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    quantize: QuantizeOptions
    system: str | Path | None = None
    ii: int | None = None
    clock_mhz: float | None = None
    plan: PlanOptions
    events: int
    rtl_events: int
    require: tuple[int, ...] = ()
    directory: Path
    pictures: tuple[Path, ...] = ()
    source: Path | None = None

    def needed_calibration(self, why: str) -> str:
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


def find_request(target: Path | None, overrides: Overrides) -> Request:
    """Read what to compile: a network file, a metronn.toml, a folder with one, or that of the working folder.

    For a network file, the metronn.toml beside it is read when it is about that network. Raises ModelError listing
    every wrong key and value.
    """
    if target is not None and target.suffix != ".toml" and not target.is_dir():
        beside = target.parent / FILE_NAME
        overrides = replace(overrides, model=target)
        return read_request(beside if _is_about(beside, target) else None, overrides)
    path = Path(FILE_NAME) if target is None else target / FILE_NAME if target.is_dir() else target
    if not path.is_file():
        if target is None:
            what = f"no {FILE_NAME} in this folder, and no model named"
        elif target.is_dir():
            what = f"{target}: no {FILE_NAME} in this folder"
        else:
            what = f"{path}: no such file"
        raise ModelError(f"{what}.\n  Name a network (metronn compile MODEL --calibrate FILE --system NAME -o DIR).")
    request = read_request(path, overrides)
    if not os.path.exists(request.model):
        raise ModelError(f"{path}: model.file: {request.model}: no such file")
    return request


def _is_about(path: Path, model: Path) -> bool:
    if not path.is_file():
        return False
    table = read_toml(path).get("model", {})
    named = table.get("file") if isinstance(table, dict) else None
    return not isinstance(named, str) or (path.parent / named).resolve() == model.resolve()


def read_request(path: Path | None, overrides: Overrides) -> Request:
    """Read a metronn.toml (None: all defaults) with what the command line changes."""
    raw = {} if path is None else read_toml(path)
    where = FILE_NAME if path is None else str(path)
    base = Path() if path is None else path.parent
    problems: list[str] = []
    file = collect(problems, lambda: parse(_File, raw, where))
    table = raw.get("quantize", {})
    quantize = None
    try:
        quantize = parse_options(table, f"{where}: [quantize]") if isinstance(table, dict) else None
        if quantize is not None:
            named = None if quantize.widths is None or overrides.ignore_widths else base / quantize.widths
            file_of_widths = overrides.widths or named
            keys = ("bits", "weight_bits", "activation_bits", "metric", "tolerance")
            given = {key: value for key in keys if (value := getattr(overrides, key)) is not None}
            if given:
                names = ", ".join(f"--{key.replace('_', '-')}" for key in given)
                quantize = parse_options({**table, **given}, f"{names}:")
            if file_of_widths is not None:
                quantize = with_widths(quantize, file_of_widths)
    except ModelError as error:
        problems.extend(error.message.splitlines())
    changes = {
        key: value
        for key in ("system", "ii", "clock_mhz", "objective", "fold", "fpgas", "inputs", "outputs", "max_latency_ns")
        if (value := getattr(overrides, key)) is not None
    }
    plan = collect(problems, lambda: parse(_Plan, changes, "command line"))
    counts = {key: getattr(overrides, key) for key in ("events", "rtl_events") if getattr(overrides, key) is not None}
    verify = collect(problems, lambda: parse(_Verify, counts, "command line"))
    model = overrides.model
    if file is not None and model is None:
        if file.model.file is None:
            problems.append(f"{where}: missing key 'model.file': which network?")
        else:
            model = base / file.model.file
    if problems or file is None or quantize is None or plan is None or verify is None or model is None:
        raise ModelError("\n".join(problems))
    settings = file.plan.model_copy(update=changes)
    counts_settings = file.verify.model_copy(update=counts)
    return Request(
        model=model,
        name=file.model.name or model.stem,
        base=base,
        hls4ml_config=overrides.hls4ml_config
        or (base / file.model.hls4ml_config if file.model.hls4ml_config else None),
        calibrate=overrides.calibrate or _beside(base, file.data.calibrate),
        verify_data=overrides.verify_data or _beside(base, file.verify.data),
        label=overrides.label or file.data.label,
        columns=file.data.columns,
        quantize=quantize,
        system=_system(base, settings.system, given=overrides.system is not None),
        ii=settings.ii,
        clock_mhz=settings.clock_mhz,
        plan=_plan_options(settings),
        events=counts_settings.events,
        rtl_events=counts_settings.rtl_events,
        require=tuple(sorted(set(counts_settings.require))),
        directory=overrides.output or base / file.build.directory,
        pictures=(*(base / picture for picture in file.report.pictures), *overrides.pictures),
        source=path,
    )


def _plan_options(settings: _Plan) -> PlanOptions:
    given = {key: getattr(settings, key) for key in PlanOptions.model_fields if key != "layers"}
    layers = {pattern: LayerOptions(reuse=layer.reuse) for pattern, layer in settings.layers.items()}
    return PlanOptions(**given, layers=layers)


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


def _beside(base: Path, name: str | None) -> str | None:
    return None if name is None else str(base / name)


def _system(base: Path, name: str | None, *, given: bool) -> str | Path | None:
    """Return a system's name, or its path, which a file means relative to itself."""
    if name is None or given or not (name.endswith(".toml") or "/" in name):
        return name
    return base / name
