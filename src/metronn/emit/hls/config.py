"""Files that say how the library is called: configurations, constants, and functions of the project's own."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from metronn.emit.hls.ops import LibraryCall
from metronn.emit.hls.values import constants_header, guard
from metronn.ir.graph import Node

Calls = Mapping[str, tuple[Node, LibraryCall]]
"""Calls by C++ name, those inside others before them."""


def struct_text(name: str, members: Sequence[str]) -> str:
    """Return a struct; pragmas stay at the beginning of their lines."""
    body = "".join(line + "\n" if line.startswith("#") else f"  {line}\n" for line in members)
    return f"struct {name} {{\n{body}}};\n"


def configs(project: str, calls: Calls, headers: Iterable[str], stored: Sequence[str] = ()) -> str:
    """Return config.hpp: a struct for each call; what the members mean is said in the library's headers.

    `stored`: further names of files in weights/.
    """
    includes = {f'#include "weights/{name}.hpp"\n' for name, (_, kernel) in calls.items() if kernel.stored}
    includes |= {f'#include "weights/{name}.hpp"\n' for name in stored}
    structs = [
        f"// {node.comment}\n{struct_text(f'{name}_cfg', kernel.members)}"
        for name, (node, kernel) in calls.items()
        if kernel.members
    ]
    own = "".join(f'#include "adders/{name}.hpp"\n' for name, (_, kernel) in calls.items() if kernel.unrolled)
    library = "".join(f'#include "metronn/{stem}.hpp"\n' for stem in sorted({*headers, "constant", "rewire"}))
    parts = [library + "".join(sorted(includes)), *structs, *([own] if own else [])]
    return guard(project, "config", "\n".join(parts))


def call_files(project: str, calls: Calls) -> dict[str, str]:
    """Return the files with constants of calls, and with functions of the project's own."""
    made = {}
    for name, (node, kernel) in calls.items():
        if kernel.stored:
            made[f"weights/{name}.hpp"] = constants_header(project, name, node.source, kernel.stored)
        if kernel.unrolled:
            body = f'#include "../metronn/adders.hpp"\n#include "../types.hpp"\n\n{kernel.unrolled.text}'
            made[f"adders/{name}.hpp"] = guard(project, f"adders_{name}", body)
    return made
