"""The tables of docs/configuration.md, from the options: `python -m metronn.flow.reference FILE` writes them.

A table stands between `<!-- keys: plan -->` and `<!-- /keys -->`; what is around it is written by hand.
"""

from __future__ import annotations

import enum
import re
import sys
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from metronn.errors import ModelError
from metronn.flow.options import TABLES, flag_of
from metronn.plan.options import LayerOptions as PlanLayer
from metronn.quantize.options import LayerOptions as QuantizeLayer
from metronn.toml_tables import about

MARKED = re.compile(r"(<!-- keys: (?P<name>\S+) -->\n).*?(<!-- /keys -->)", re.DOTALL)
NESTED: Mapping[str, type[BaseModel]] = {"quantize.layers": QuantizeLayer, "plan.layers": PlanLayer}
"""Tables whose keys are names, and what stands under each name."""


def table(name: str) -> str:
    """Return the Markdown table of a table of metronn.toml. Raises ModelError for a name that is none."""
    model = {**TABLES, **NESTED}.get(name)
    if model is None:
        raise ModelError(f"keys: {name}: no such table; there are {', '.join((*TABLES, *NESTED))}")
    flags = name in TABLES
    lines = ["| key | default | meaning |" + (" flag |" if flags else ""), "|---|---|---|" + ("---|" if flags else "")]
    for key, field in model.model_fields.items():
        flag = flag_of(f"{name}.{key}", field) if flags else None
        cells = [f"`{key}`", _default(field), about(field).meaning]
        cells += [f"`{flag}`" if flag else ""] if flags else []
        lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    return "\n".join(lines) + "\n"


def _default(field: FieldInfo) -> str:
    shown = about(field).default
    if shown:
        return shown
    if field.is_required():
        return "needed"
    default = field.default.value if isinstance(field.default, enum.Enum) else field.default
    match default:
        case None | () | {}:
            return "none"
        case bool():
            return f"`{str(default).lower()}`"
        case str():
            return f'`"{default}"`'
        case _:
            return f"{default:g}" if isinstance(default, float) else str(default)


def written(page: str) -> str:
    """Return the page with its tables as the options are now."""
    return MARKED.sub(lambda found: f"{found[1]}{table(found['name'])}{found[3]}", page)


def main() -> None:
    """Write the tables of the page that the command line names."""
    page = Path(sys.argv[1])
    page.write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
