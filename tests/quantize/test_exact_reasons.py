"""Why a value is not exact goes with the value: whoever reads it inherits the reasons, however it came to be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_exact import OPTIONS, differences

from metronn.frontends.lowering import Lowering
from metronn.ir.ops import Rounding
from metronn.model.graph import RealGraph
from metronn.passes.pipeline import prepare, quantize_model
from metronn.quantize.codes import encode_inputs
from metronn.quantize.data import Events
from metronn.quantize.records import Exactness
from metronn.verify.exact_rung import compare_exactly, exact_files

SIZE = 4
STEP = 0x1357_9BDF_0246_81 * 2.0**-53
"""Of 53 bits, and so is 1 - STEP: brought to one scale, a sum of values of these two steps is rounded."""


def residual(reach: int) -> RealGraph:
    """Return a network in which one block, whose two branches have unlike steps, is used twice.

    Both branches have the same codes, up to SIZE * 7 * `reach`, and their steps are 1 together: every sum is a whole
    number, and any error moves half of the codes of the quantizer behind, which cuts off. A concatenation reads each
    sum before its quantizer does.
    """
    codes = np.random.default_rng(5).integers(-1, 2, (SIZE, SIZE)) * reach
    net = Lowering()
    x = net.input("x", (SIZE,))
    net.layer = "q"
    x = net.quantize(x, 1.0, -8, 7)
    outputs = []
    for use in ("first", "second"):
        net.layer = "block"
        branches = [net.linear(x, codes * step, np.zeros(SIZE), np.full(SIZE, step)) for step in (STEP, 1 - STEP)]
        total = net.tensors[f"{use}.sum"] = net.plus(*branches)
        net.layer = "joined"
        outputs.append((use, net.concatenate([total, x], 0)))
        net.layer = "cut"
        x = net.tensors[f"{use}.cut"] = net.quantize(total, 1.0, -8, 7, rounding=Rounding.TRN)
    return net.finish([("y", x), *outputs], "drawn")


@pytest.mark.parametrize(("reach", "exact"), [(1, True), (1 << 12, False)])
def test_a_block_used_twice_has_two_rounded_sums(reach: int, exact: bool, tmp_path: Path) -> None:
    """Neither sum counts as exact; the quantizers behind do where they follow from the branches themselves."""
    model = residual(reach)
    inputs = {"x": np.random.default_rng(2).integers(-8, 8, (200, SIZE)).astype(np.float64)}
    quantized = quantize_model(model, Events(inputs=inputs), OPTIONS)
    claimed = {tensor for value in quantized.frontier for tensor in value.tensors}
    assert not any(differences(prepare(model), quantized, inputs).values())
    assert claimed == ({"first.cut", "second.cut"} if exact else set())
    rounded = [layer for layer in quantized.report.layers if layer.exactness is Exactness.REQUANTIZED]
    assert [layer.layer for layer in rounded if layer.kind == "elementwise"] == ["block", "block"]
    for name, content in exact_files(prepare(model), quantized.graph, quantized.frontier, inputs).items():
        (tmp_path / name).write_bytes(content)
    compared = compare_exactly(tmp_path, quantized.graph, encode_inputs(quantized.graph, inputs))
    assert compared is not None
    assert (compared.events, compared.mismatches, compared.unjudged) == (200, 0, "")
