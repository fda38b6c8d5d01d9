"""docs/frontends.md lists what the frontends read: neither more nor less."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

import pytest

from metronn.frontends.keras.activations import ACTIVATIONS
from metronn.frontends.keras.hgq.layers import HGQ_LAYERS, HGQ_REFUSED
from metronn.frontends.keras.layers import LAYERS
from metronn.frontends.keras.operators import OPERATORS
from metronn.frontends.keras.qkeras.quantizers import SIGNATURES
from metronn.frontends.keras.qkeras_layers import QKERAS_LAYERS
from metronn.frontends.load import READERS
from metronn.frontends.onnx.layers import READ_CODES
from metronn.frontends.onnx.quantized.qonnx import QONNX

PAGE = Path(__file__).parents[2] / "docs" / "frontends.md"


def section(title: str) -> str:
    return PAGE.read_text().split(f"## {title}\n")[1].split("\n## ")[0]


@pytest.mark.parametrize(
    ("title", "names"),
    [
        ("Keras layers", LAYERS.keys() - QKERAS_LAYERS.keys()),
        ("QKeras layers", QKERAS_LAYERS),
        ("QKeras quantizers", SIGNATURES.keys() - {"bernoulli"}),
        ("HGQ2 layers", {name.split(">")[1] for name in HGQ_LAYERS}),
        ("Activations", ACTIVATIONS),
        ("Operations on Keras tensors", OPERATORS),
        ("Quantized ONNX", {name.split(".")[-1] for name in (*QONNX, *READ_CODES)} - {"DynamicQuantizeLinear"}),
    ],
)
def test_every_name_is_listed_once(title: str, names: Iterable[str]) -> None:
    first = next(line for line in section(title).splitlines() if line.count("`, `") > 3)
    block = section(title)[section(title).index(first) :].split("\n\n")[0]
    assert re.findall(r"`(\w+)`", block) == sorted(names)


def test_every_suffix_is_listed() -> None:
    table = PAGE.read_text().split("## Keras layers")[0]
    assert set(READERS) <= set(re.findall(r"`(\.\w+)`", table))


def test_every_refused_layer_of_hgq2_is_named() -> None:
    sentence = section("HGQ2 layers").split("Not read yet: ")[1]
    assert re.findall(r"`(\w+)`", sentence) == sorted(name.split(">")[1] for name in HGQ_REFUSED)
