"""The command line: every verb by its name. The module of a verb is imported when the verb is used.

Importing all of them takes over a second, which `--help`, a typing error or `metronn boards` would pay for nothing.
This table and that of the frontends (`frontends/load.py`) are the places that name modules by text.
"""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from typer.core import TyperGroup

from metronn import __version__
from metronn.cli.console import say_error

if TYPE_CHECKING:
    from typer._click import Context

UsageError = cast("type[Exception]", typer.BadParameter.__base__)
"""The base of the errors of a command line that cannot be read."""
JSON = "metronn.json"


@dataclass(frozen=True, slots=True)
class Verb:
    """Where the function of a verb is, and what the first line of its docstring begins with."""

    module: str
    function: str
    summary: str


VERBS: dict[str, Verb] = {
    "compile": Verb(
        "metronn.cli.compile", "compile_network", "Compile a network: import, quantize, plan, emit, verify, report."
    ),
    "import": Verb(
        "metronn.cli.importing", "import_network", "Read a network and list its layers, inputs and outputs."
    ),
    "quantize": Verb(
        "metronn.cli.quantize",
        "quantize_network",
        "Quantize a network with calibration events and write the integer graph as text.",
    ),
    "finetune": Verb(
        "metronn.cli.finetune",
        "finetune_network",
        "Train a network with quantizers whose widths are learned, and keep the cheapest one that is good enough.",
    ),
    "prune": Verb(
        "metronn.cli.prune",
        "prune_network",
        "Set weights of a network of Keras, float or of HGQ2, to zero, with training in between.",
    ),
    "plan": Verb(
        "metronn.cli.plan",
        "plan_graph",
        "Plan a graph on a system. Options that are not given are those of the metronn.toml beside the graph, if any.",
    ),
    "compare": Verb(
        "metronn.cli.compare",
        "compare_plans",
        "Plan a network on several systems, with several numbers of FPGAs, and show the plans beside each other.",
    ),
    "pareto": Verb(
        "metronn.cli.pareto",
        "pareto_front",
        "Compare networks, widths, IIs and folds: metric against LUT-equivalents against latency, each point planned.",
    ),
    "verify": Verb(
        "metronn.cli.verify",
        "verify_folder",
        "Verify a build: every rung equal, bit for bit and cycle for cycle.",
    ),
    "emulate": Verb(
        "metronn.cli.emulate",
        "emulate_events",
        "Run events through the build's emulator, bit for bit as the firmware does.",
    ),
    "vectors": Verb(
        "metronn.cli.vectors",
        "write_vectors",
        "Write the integer codes of events and of the answers to them: arrays `in.NAME` and `out.NAME`.",
    ),
    "trace": Verb(
        "metronn.cli.trace",
        "trace_events",
        "Compare a build with its trained network on events, tensor by tensor: where the signal is lost.",
    ),
    "profile": Verb(
        "metronn.cli.profile",
        "profile_events",
        "Show how weights and activations fill the formats of a build, as a table and as box plots.",
    ),
    "report": Verb(
        "metronn.cli.report",
        "write_report",
        "Show what a build promises and what its verification found; pictures given are added to report.html.",
    ),
    "boards": Verb(
        "metronn.cli.boards",
        "show_boards",
        "List the boards with their devices' resources, and the systems made of them.",
    ),
    "cache": Verb(
        "metronn.cli.cache",
        "show_cache",
        "Show the folder of the cache and the size of what it holds, by kind; with --clear, empty it first.",
    ),
}
"""The verbs in the order of the pipeline."""


def load(verb: Verb) -> Callable[..., None]:
    """Import the function of a verb. Garbage is not collected meanwhile: what modules make stays."""
    gc.disable()
    try:
        function: Callable[..., None] = getattr(importlib.import_module(verb.module), verb.function)
    finally:
        gc.enable()
    return function


class _Commands(Mapping[str, Any]):
    """Commands by name, each made when it is asked for."""

    def __iter__(self) -> Iterator[str]:
        """Yield the verbs in their order."""
        return iter(VERBS)

    def __len__(self) -> int:
        """Count the verbs."""
        return len(VERBS)

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401 - a Command, whose class differs between Typers
        """Import the verb and make its command."""
        alone = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
        alone.command(name)(load(VERBS[name]))
        return typer.main.get_command(alone)


class Verbs(TyperGroup):
    """The group of all verbs, whose help needs none of their modules.

    A command line that cannot be read is told in JSON, too, where --json is in it.
    """

    def __init__(self, **attributes: Any) -> None:  # noqa: ANN401 - Typer's own
        """Take the verbs for the commands."""
        super().__init__(**attributes)
        self.commands = _Commands()  # type: ignore[assignment]

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Read the command line up to the verb."""
        ctx.meta[JSON] = "--json" in args
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Context) -> object:
        """Run the verb."""
        try:
            return super().invoke(ctx)
        except UsageError as error:
            if ctx.meta[JSON]:
                say_error("UsageError", str(error), 2)
            raise

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - Typer's own
        """Write a line for each verb."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, verb.summary) for name, verb in VERBS.items()])


app = typer.Typer(
    cls=Verbs, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"metronn {__version__}")
        raise typer.Exit


@app.callback()
def metronn(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Trained neural networks to fixed-latency trigger firmware for one or several FPGAs.

    Results go to stdout, log and progress to stderr. Exit status: 0 success, 1 checked and failed, 2 bad request,
    3 a tool is missing or broken, 130 interrupted.
    """
