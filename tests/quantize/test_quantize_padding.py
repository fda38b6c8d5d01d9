"""A padded maximum over channels of different grids, as behind concatenated branches."""

from __future__ import annotations

import numpy as np

from metronn.emulate.numpy import emulate
from metronn.events.codes import decode_outputs, encode_inputs
from metronn.events.data import Events
from metronn.frontends.common.builder import LayerBuilder
from metronn.frontends.common.spatial import PoolKind, pool
from metronn.ir.ops import Window
from metronn.model.reference import run_reference
from metronn.quantize.options import InputOptions, QuantizeOptions
from metronn.quantize.quantize import quantize


def test_padded_maximum_brings_channels_to_one_grid_exactly() -> None:
    builder = LayerBuilder()
    coarse, fine = builder.input("coarse", (4, 4, 1)), builder.input("fine", (4, 4, 1))
    joined = builder.concatenate([coarse, fine], 2)
    ones = (1, 1)
    largest = pool(
        builder,
        joined,
        PoolKind.MAX,
        kernel=(3, 3),
        strides=ones,
        dilations=ones,
        pads=(ones, ones),
        count_padding=False,
    )
    model = builder.finish([("y", largest)], "test")
    rng = np.random.default_rng(1)
    codes = rng.integers(-128, 128, (2, 30, 4, 4, 1))
    inputs = {"coarse": codes[0] * 0.25, "fine": codes[1] * 2.0**-6}
    options = QuantizeOptions(
        inputs={"coarse": InputOptions(bits=8, frac=2), "fine": InputOptions(bits=8, frac=6)}, output_bits=16
    )
    graph = quantize(model, Events(inputs=inputs), options).graph
    windows = [node for node in graph.nodes if isinstance(node.op, Window)]
    assert len(windows) == 1
    assert graph.type_of(windows[0].op.x).range.frac == 6
    fixed = decode_outputs(graph, emulate(graph, encode_inputs(graph, inputs)))
    assert np.array_equal(fixed["y"], run_reference(model, inputs)["y"])
