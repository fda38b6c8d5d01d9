"""Every option of a compilation, once: the keys of metronn.toml, which command line and Python give by the same names.

A key is a field of one of these tables: its type checks it, and `key` says what it means. Where it has a `Flag`, the
verbs that take its table get it (`metronn.cli.options.taking`); `metronn.flow.reference` writes docs/configuration.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from metronn.plan.hardware.links import Identifier
from metronn.plan.hardware.system import MAX_II
from metronn.plan.options import PlanOptions
from metronn.quantize.options import QuantizeOptions
from metronn.search.options import SearchOptions
from metronn.toml_tables import Flag, FrequencyMhz, Table, Text, about, key, whole
from metronn.train.options import FinetuneOptions, PruneOptions

LARGEST_EVENTS = 100_000_000
Events = Annotated[int, whole(1, LARGEST_EVENTS)]


class ModelOptions(Table):
    """Which network."""

    file: Text | None = key(
        None,
        "the network: `.onnx`, `.keras`, `.h5`, `.hdf5`, or Keras `.json` with its weights beside it",
        shown="needed",
    )
    name: Text | None = key(None, "name in reports", shown="the file's stem")
    hls4ml_config: Text | None = key(
        None,
        "a configuration of hls4ml, `.yml`, `.yaml` or `.json`, that gives the layers of a float network "
        "[their types](against.md#hls4ml-configurations)",
        flag=Flag(metavar="FILE", help="Types of all layers: a configuration of hls4ml, YAML or JSON."),
    )


class DataOptions(Table):
    """Which events."""

    calibrate: Text | None = key(
        None,
        "calibration events: `.npz`, `.npy`, `.h5`, `.hdf5`, `.root` (`file.root:tree` if it has several trees). "
        "Arrays by input name; a network with one input also takes the one array that fits",
        shown="needed, but for networks quantized by their framework",
        flag=Flag(metavar="FILE", help="Calibration events: .npz, .npy, .h5 or .root (file.root:tree)."),
    )
    label: Text = key(
        "label",
        "array of labels: class numbers, or a score for each class",
        flag=Flag(metavar="NAME", help="Array that holds the labels."),
    )
    columns: Mapping[str, tuple[Text, ...]] = key(
        {}, 'for an input, the arrays that lie side by side in it: `columns.x = ["pt", "eta", "phi"]`'
    )


class PlaceOptions(Table):
    """Where the network is to run."""

    system: Text | None = key(
        None,
        "a known system (`metronn boards`), or the path of a system's TOML file",
        shown="needed",
        flag=Flag(metavar="NAME", help="A known system (see `metronn boards`) or a TOML file."),
    )
    ii: Annotated[int, whole(1, MAX_II)] | None = key(
        None,
        "cycles between events",
        shown="the system's",
        flag=Flag(metavar="N", help="Clock cycles between events."),
    )
    clock_mhz: FrequencyMhz | None = key(
        None, "clock frequency", shown="the system's", flag=Flag(metavar="F", help="Clock frequency.")
    )


class PlanTable(PlanOptions, PlaceOptions):
    """Where the network is to run, and what the planner may choose."""

    def options(self) -> PlanOptions:
        """Return what the planner may choose."""
        return PlanOptions(**{name: getattr(self, name) for name in PlanOptions.model_fields})


class VerifyOptions(Table):
    """What the rungs are run with."""

    data: Text | None = key(
        None,
        "real events to verify with: they judge metric and signal at rung 1, too",
        shown="the calibration events",
        flag=Flag(name="--verify-data", metavar="FILE", help="Real events to verify with."),
    )
    events: Events = key(
        1000,
        "at most so many real events at rungs 2 and 3; corner events and a tenth as many random ones come on top",
        flag=Flag(metavar="N", help="Real events at rungs 1 to 3, at most."),
    )
    rtl_events: Events = key(
        200, "the same at rungs 4 and 5", flag=Flag(metavar="N", help="Real events at rungs 4 and 5, at most.")
    )
    require: tuple[Annotated[int, whole(1, 6)], ...] = key(
        (),
        "[rungs](cli.md#the-rungs) that must have been run, as `[2, 3, 4, 5, 6]`: one that was not, for want of a "
        "tool, makes the status 1",
    )


class BuildOptions(Table):
    """Where the result goes, and what its modules are called."""

    directory: Text = key(
        "build", "the output folder", flag=Flag(name="-o/--output", metavar="DIR", help="Folder to make.")
    )
    prefix: Identifier | None = key(
        None,
        "begins the names of all modules, packages and HLS tops, so that several builds can be in one project: "
        "`jets_fpga0`",
        shown="from the network's name",
        flag=Flag(metavar="NAME", help="Begins the names of all modules."),
    )


class ReportOptions(Table):
    """What the report shows besides."""

    pictures: tuple[Text, ...] = key(
        (),
        "PNG, JPEG or SVG files shown in report.html",
        flag=Flag(name="--picture", metavar="FILE", help="A PNG, JPEG or SVG for the report; repeatable."),
    )


class Options(Table):
    """All of metronn.toml."""

    model: ModelOptions = ModelOptions()
    data: DataOptions = DataOptions()
    quantize: QuantizeOptions = QuantizeOptions()
    search: SearchOptions = SearchOptions()
    plan: PlanTable = PlanTable()
    verify: VerifyOptions = VerifyOptions()
    finetune: FinetuneOptions = FinetuneOptions()
    prune: PruneOptions = PruneOptions()
    build: BuildOptions = BuildOptions()
    report: ReportOptions = ReportOptions()


TABLES: Mapping[str, type[BaseModel]] = {
    name: found.annotation
    for name, found in Options.model_fields.items()
    if isinstance(found.annotation, type) and issubclass(found.annotation, BaseModel)
}
"""The tables by name, in the order of the file."""


def keys() -> Iterator[tuple[str, FieldInfo]]:
    """Yield every key, as `plan.ii`, with its field."""
    for table, model in TABLES.items():
        for name, found in model.model_fields.items():
            yield f"{table}.{name}", found


def flag_of(name: str, found: FieldInfo) -> str | None:
    """Return the flag of a key as it is written; None where the command line does not give it."""
    flag = about(found).flag
    if flag is None:
        return None
    return flag.name or f"--{name.rpartition('.')[2].replace('_', '-')}"


def parameter_of(name: str) -> str:
    """Return what a key is called where it has no table around it: on the command line and as a keyword of Python."""
    return name.replace(".", "_") if name in CLASHING else name.rpartition(".")[2]


CLASHING = ("verify.data",)
"""Keys whose last part alone means something else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """Values by key that count more than those of metronn.toml, and what the user calls each (`--ii`).

    Paths are relative to the working folder. An array, or a mapping of arrays, may stand where a file of events does.
    """

    values: Mapping[str, object] = field(default_factory=dict)
    names: Mapping[str, str] = field(default_factory=dict)

    def get(self, name: str) -> Any:  # noqa: ANN401 - a value of any key
        """Return the value of a key, None where it was not given."""
        return self.values.get(name)

    def over(self, raw: Mapping[str, Any], leave: Sequence[str] = ()) -> dict[str, Any]:
        """Return the tables with what was given in them, but for the keys to leave."""
        merged = dict(raw)
        for name, value in self.values.items():
            table, _, last = name.partition(".")
            inside = merged.get(table, {})
            if name not in leave and isinstance(inside, dict):
                merged[table] = {**inside, last: value} if last else value
        return merged
