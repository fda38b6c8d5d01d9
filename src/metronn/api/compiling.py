"""From a network, as a file or in memory, to a build."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from metronn.api.build import Build
from metronn.api.keywords import Keywords, request_of, with_events
from metronn.events.data import EventSource
from metronn.flow.builds import RUNGS
from metronn.flow.compile import compile_build
from metronn.flow.dump import dumped_stages
from metronn.flow.options import Given
from metronn.log import QuietLog

KEYWORDS = Keywords.of(
    ("model", "data", "quantize", "plan", "verify", "build", "report"),
    tables=("model", "data", "quantize", "plan", "report"),
    but=("data.calibrate", "build.directory"),
)


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
    wanted = with_events(KEYWORDS.given(given), calibrate, labels)
    with _scratch(output) as (folder, scratch), tempfile.TemporaryDirectory(prefix="metronn-network-") as place:
        wanted = Given(values={**wanted.values, "build.directory": str(folder)}, names=wanted.names)
        request = request_of(network, Path(place), options, wanted)
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


KEYWORDS.describe(compile)
