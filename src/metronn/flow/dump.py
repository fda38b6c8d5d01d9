"""`--dump-ir`: every graph between the model file and the plan, as text that parses back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from metronn.errors import ModelError
from metronn.flow.folders import write_file
from metronn.ir.graph import Graph
from metronn.ir.text import to_text
from metronn.model.graph import RealGraph
from metronn.model.text import real_to_text
from metronn.passes.pipeline import Watch, watch_nothing


@dataclass(slots=True)
class DumpedStages:
    """Writes graphs into a folder, numbered in the order in which they come; what changes nothing is left out."""

    folder: Path
    count: int = 0
    last: RealGraph | Graph | None = None

    def __call__(self, stage: str, graph: RealGraph | Graph) -> None:
        """Write a graph under the name of the stage that made it, unless it is the one before."""
        if graph == self.last:
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ModelError(f"--dump-ir {self.folder}: cannot be written: {_words(error)}") from None
        text = to_text(graph) if isinstance(graph, Graph) else real_to_text(graph)
        write_file(self.folder / f"{self.count:03d}_{stage}.txt", text.encode())
        self.count, self.last = self.count + 1, graph


def dumped_stages(folder: Path | None, build: Path | None = None) -> Watch:
    """Return what writes the stages into a folder, which is made with the first; without one, nothing.

    Raises ModelError unless the folder is new or empty, and outside of the build.
    """
    if folder is None:
        return watch_nothing
    try:
        inside = build is not None and folder.resolve().is_relative_to(build.resolve())
        there = folder.is_symlink() or folder.exists()
        full = there and next(folder.iterdir(), None) is not None
        above = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    except NotADirectoryError:
        raise ModelError(f"--dump-ir {folder}: is not a folder; name a new folder") from None
    except (OSError, RuntimeError) as error:
        raise ModelError(f"--dump-ir {folder}: cannot be read: {_words(error)}") from None
    if not above.is_dir():
        raise ModelError(f"--dump-ir {folder}: cannot be written: {above} is not a folder; name a new folder")
    if inside:
        raise ModelError(f"--dump-ir {folder}: lies in the build's folder {build}; name a folder outside of it")
    if full:
        raise ModelError(f"--dump-ir {folder}: the folder is not empty; name another folder, or empty this one")
    return DumpedStages(folder)


def _words(error: OSError | RuntimeError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)
