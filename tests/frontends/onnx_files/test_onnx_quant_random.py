"""Random quantized ONNX networks mean the same here and in their frameworks: every tensor, every event."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from onnx_quant_execution import Comparison, Execution, compare
from onnx_quant_networks import integer_networks, qdq_networks, qonnx_networks

from metronn.frontends.onnx.read import load_onnx
from random_tests import examples

pytestmark = pytest.mark.slow

Drawn = tuple[onnx.ModelProto, np.ndarray[Any, Any]]
SETTINGS = examples(60, slow=True)


def differences(drawn: Drawn, *, exact: bool) -> Comparison:
    model, x = drawn
    graph = load_onnx(Path("random.onnx"), model.SerializeToString())
    assert graph.quantized
    return compare(graph, Execution(model), {"x": x}, Comparison(), exact=exact)


def _exact(drawn: Drawn) -> None:
    assert differences(drawn, exact=True).differing == {}


def _noise(drawn: Drawn) -> None:
    found = differences(drawn, exact=False)
    assert found.total == found.noise, found


@given(qonnx_networks(exact=True))
@SETTINGS
def test_qonnx_on_grids_of_powers_of_two(drawn: Drawn) -> None:
    pytest.importorskip("qonnx")
    _exact(drawn)


@given(qonnx_networks(exact=False))
@SETTINGS
def test_qonnx_on_any_grid(drawn: Drawn) -> None:
    pytest.importorskip("qonnx")
    _noise(drawn)


@given(qdq_networks(exact=True))
@SETTINGS
def test_qdq_on_grids_of_powers_of_two(drawn: Drawn) -> None:
    _exact(drawn)


@given(qdq_networks(exact=False))
@SETTINGS
def test_qdq_on_any_grid(drawn: Drawn) -> None:
    _noise(drawn)


@given(integer_networks(exact=True))
@SETTINGS
def test_integer_operators_on_grids_of_powers_of_two(drawn: Drawn) -> None:
    _exact(drawn)


@given(integer_networks(exact=False))
@SETTINGS
def test_integer_operators_on_any_grid(drawn: Drawn) -> None:
    _noise(drawn)
