"""The command line: every verb by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, cast

import typer
from typer.core import TyperGroup

from metronn import __version__
from metronn.cli.boards import show_boards
from metronn.cli.cache import show_cache
from metronn.cli.compile import compile_network
from metronn.cli.console import say, say_error
from metronn.cli.emulate import emulate_events
from metronn.cli.finetune import finetune_network
from metronn.cli.importing import import_network
from metronn.cli.pareto import pareto_front
from metronn.cli.plan import plan_graph
from metronn.cli.prune import prune_network
from metronn.cli.quantize import quantize_network
from metronn.cli.report import write_report
from metronn.cli.vectors import write_vectors
from metronn.cli.verify import verify_folder

if TYPE_CHECKING:
    from typer._click import Context

UsageError = cast("type[Exception]", typer.BadParameter.__base__)
"""The base of the errors of a command line that cannot be read."""
JSON = "metronn.json"


class Verbs(TyperGroup):
    """The verbs; a command line that cannot be read is told in JSON, too, where --json is in it."""

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


app = typer.Typer(
    cls=Verbs, add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False, rich_markup_mode=None
)


def _version(wanted: bool) -> None:
    if wanted:
        say(f"metronn {__version__}")
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


app.command("compile")(compile_network)
app.command("import")(import_network)
app.command("quantize")(quantize_network)
app.command("finetune")(finetune_network)
app.command("prune")(prune_network)
app.command("plan")(plan_graph)
app.command("pareto")(pareto_front)
app.command("verify")(verify_folder)
app.command("emulate")(emulate_events)
app.command("vectors")(write_vectors)
app.command("report")(write_report)
app.command("boards")(show_boards)
app.command("cache")(show_cache)
