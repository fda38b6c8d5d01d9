"""PyTorch modules against PyTorch itself, as modules and as `.pt2` files."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metronn.errors import ModelError
from metronn.frontends import load_model
from metronn.frontends.torch import from_module
from metronn.ir.arrays import IntArray
from metronn.ir.ops import Rewire
from metronn.model.graph import RealGraph
from metronn.model.reference import run_reference
from metronn.passes.pipeline import prepare

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning", "ignore::UserWarning"),
]
nn = torch.nn
Close = Callable[[object, object], None]


class Residual(nn.Module):
    """A convolution with a skip connection, global pooling, two outputs merged by attention-like weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(2, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.norm, self.last = nn.BatchNorm2d(6), nn.Linear(6, 3)

    def forward(self, x: Any) -> Any:
        y = torch.relu(self.norm(self.first(x)))
        y = torch.relu(y + self.second(y))
        return torch.softmax(self.last(y.mean(dim=(2, 3))), dim=-1)


MODULES: dict[str, tuple[Callable[[], Any], tuple[int, ...]]] = {
    "dense": (lambda: nn.Sequential(nn.Linear(7, 5), nn.GELU(), nn.LayerNorm(5), nn.Linear(5, 2)), (7,)),
    "image": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2), nn.BatchNorm2d(4), nn.LeakyReLU(0.1), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(4 * 3 * 3, 3),
        ),
        (2, 14, 14),
    ),
    "residual": (Residual, (2, 8, 8)),
    "series": (
        lambda: nn.Sequential(
            nn.Conv1d(1, 4, 5, dilation=2), nn.SiLU(), nn.AvgPool1d(2), nn.Flatten(), nn.Linear(48, 1)
        ),
        (1, 32),
    ),
    "decoder": (lambda: nn.Sequential(nn.ConvTranspose2d(3, 2, 3, stride=2, output_padding=1), nn.ELU()), (3, 4, 4)),
}  # fmt: skip


def made(name: str) -> tuple[Any, Any]:
    """Return a module in evaluation mode with statistics that are not trivial, and events."""
    torch.manual_seed(1)
    build, shape = MODULES[name]
    module = build().train()
    with torch.no_grad():
        module(torch.randn(16, *shape))
    return module.eval(), torch.randn(4, *shape)


def agrees(graph: RealGraph, module: Any, x: Any, close: Close) -> None:
    """Compare with PyTorch, before and after the passes."""
    with torch.no_grad():
        expected = module(x).numpy()
    (name,) = (node.name for node in graph.inputs)
    for network in (graph, prepare(graph)):
        (found,) = run_reference(network, {name: x.numpy().astype(np.float64)}).values()
        close(found, expected)


@pytest.mark.parametrize("name", MODULES)
def test_a_module_agrees(name: str, assert_close: Close) -> None:
    module, x = made(name)
    agrees(from_module(module, (x,)), module, x, assert_close)


def test_an_exported_program_agrees(tmp_path: Path, assert_close: Close) -> None:
    module, x = made("image")
    program = torch.export.export(module, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, tmp_path / "image.pt2")
    agrees(load_model(tmp_path / "image.pt2"), module, x, assert_close)


def test_only_the_input_is_transposed() -> None:
    module, x = made("image")
    prepared = prepare(from_module(module, (x,)))
    moves = [node.op for node in prepared.nodes if isinstance(node.op, Rewire)]
    changing = [op for op in moves if op.index != IntArray.of(np.arange(op.index.array.size).reshape(op.index.shape))]
    assert [op.shape for op in changing] == [(14, 14, 2)]


def test_training_mode_and_single_events_are_refused() -> None:
    module, x = made("dense")
    with pytest.raises(ModelError, match="example input 0 has shape .* at least 2 events"):
        from_module(module, (x[:1],))
    with pytest.raises(ModelError, match="is in training mode"):
        from_module(module.train(), (x,))


def test_a_damaged_program_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
        archive.writestr("m/archive_format", "pt2")
    with pytest.raises(ModelError, match="m.pt2: not an exported program, or damaged"):
        load_model(tmp_path / "m.pt2")
