"""Imports point one way: a package may import those before it, never those after it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "metronn"
ORDER = (
    "errors",
    "cache",
    "toml_tables",
    "log",
    "ir",
    "model",
    "events",
    "frontends",
    "emulate",
    "quantize",
    "passes",
    "plan",
    "search",
    "emit",
    "verify",
    "report",
    "diagnose",
    "train",
    "flow",
    "api",
    "cli",
)
FRAMEWORKS = ("tensorflow", "torch", "keras", "hgq", "jax", "hls4ml", "cocotb", "matplotlib")
"""Not in the base install: nothing may import them when a module loads."""


def imported(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Return line, module and whether it is imported when the module loads."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inner = {
        id(node)
        for scope in ast.walk(tree)
        if isinstance(scope, ast.FunctionDef | ast.AsyncFunctionDef)
        for node in ast.walk(scope)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield node.lineno, name.name, id(node) not in inner
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.lineno, node.module or "", id(node) not in inner


def test_every_package_has_its_place() -> None:
    """A new package is put into the order."""
    found = {path.name for path in SOURCE.iterdir() if (path / "__init__.py").exists()}
    assert found == set(ORDER) - {"errors", "cache", "toml_tables", "log"}


@pytest.mark.parametrize("package", ORDER)
def test_imports_point_one_way(package: str) -> None:
    """Every import of another package is of one earlier in the order."""
    allowed = ORDER[: ORDER.index(package) + 1]
    root = SOURCE / package
    files = sorted(root.rglob("*.py")) if root.is_dir() else [SOURCE / f"{package}.py"]
    wrong = [
        f"{path.relative_to(SOURCE)}:{line} imports {module}"
        for path in files
        for line, module, _ in imported(path)
        if module.startswith("metronn.") and module.split(".")[1] not in allowed
    ]
    assert not wrong


def test_no_framework_is_needed_to_import() -> None:
    """Optional dependencies are imported where they are used."""
    wrong = [
        f"{path.relative_to(SOURCE)}:{line} imports {module}"
        for path in sorted(SOURCE.rglob("*.py"))
        for line, module, at_load in imported(path)
        if at_load and module.split(".")[0] in FRAMEWORKS
    ]
    assert not wrong


def rooms_of(folder: Path) -> dict[str, set[str]]:
    """Return the rooms of a folder, its modules and the folders in it, each with the other rooms it imports."""
    rooms: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("*.py")):
        room = path.relative_to(folder).parts[0].removesuffix(".py")
        if room == "__init__":
            continue
        reached = rooms.setdefault(room, set())
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("metronn."):
                named = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            else:
                continue
            for name in named:
                place = SOURCE.joinpath(*name.split(".")[1:])
                if folder in place.parents:
                    reached.add(place.relative_to(folder).parts[0])
    return {room: {other for other in reached if other in rooms and other != room} for room, reached in rooms.items()}


@pytest.mark.parametrize("folder", sorted({path.parent for path in SOURCE.rglob("*.py")}), ids=lambda path: path.name)
def test_no_circle_between_rooms(folder: Path) -> None:
    """The rooms of every folder can be read in an order in which each imports only those before it."""
    rooms = rooms_of(folder)
    while free := [room for room, reached in rooms.items() if not reached]:
        for room in free:
            del rooms[room]
        for reached in rooms.values():
            reached.difference_update(free)
    assert not rooms
