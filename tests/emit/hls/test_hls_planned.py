"""Networks on images through the planner into HLS: every FPGA's project against the emulator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hls_projects import assert_equal, project_of
from native_graphs import random_codes

from metronn.emit.hls.flow import flow_of
from metronn.emit.hls.project import emit_hls
from metronn.emulate.numpy import emulate
from metronn.ir.arrays import IntArray
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import (
    Add,
    Constant,
    Extremum,
    Input,
    Linear,
    Overflow,
    Padding,
    Reduce,
    ReduceKind,
    Requantize,
    Rewire,
    Rounding,
    Window,
)
from metronn.ir.types import Range
from metronn.plan.hardware.system import load_system
from metronn.plan.options import PlanOptions
from metronn.plan.planner import plan
from metronn.plan.subgraph import subgraph
from metronn.verify.hls import HlsSimulation

PIXELS = 8


class Layers:
    """Layers of a small network over an image, channels last."""

    def __init__(self, seed: int) -> None:
        """Begin with nothing."""
        self.builder, self.numbers = GraphBuilder(), np.random.default_rng(seed)

    def product(self, x: str, outputs: int, name: str) -> str:
        """Add a matrix product, a ReLU and fewer bits."""
        n_in = self.builder.types[x].shape[-1]
        weight, bias = self.numbers.integers(-8, 8, (n_in, outputs)), self.numbers.integers(-90, 90, outputs)
        weight[1::3] = 0  # some multipliers see nothing else
        op = Linear(x=x, weight=IntArray.of(weight), bias=IntArray.of(bias), weight_frac=3)
        made = self.builder.add(op, f"{name}.acc", name)
        zero = self.builder.add(Constant(values=IntArray.of([0])), f"{name}.zero", name)
        made = self.builder.add(Extremum(x=made, y=zero), f"{name}.relu", name)
        out = Range(0, 63, 2)
        return self.builder.add(
            Requantize(x=made, out=out, rounding=Rounding.RND, overflow=Overflow.SAT), f"{name}.out", name
        )

    def convolution(self, x: str, outputs: int, name: str) -> str:
        """Add a 3x3 convolution that keeps the size."""
        one = (1, 1)
        op = Window(x=x, kernel=(3, 3), strides=one, dilations=one, before=one, after=one)
        return self.product(self.builder.add(op, f"{name}.windows", name), outputs, name)

    def pool(self, x: str, name: str) -> str:
        """Add 2x2 max pooling."""
        two, none = (2, 2), (0, 0)
        op = Window(x=x, kernel=two, strides=two, dilations=(1, 1), before=none, after=none, padding=Padding.LOWEST)
        made = self.builder.add(op, f"{name}.windows", name)
        rows, columns, size = self.builder.types[made].shape
        index = IntArray.of(np.arange(rows * columns * size))
        taps = self.builder.add(Rewire(xs=(made,), index=index, shape=(rows, columns, 4, size // 4)), f"{name}.taps")
        return self.builder.add(Reduce(x=taps, axes=(2,), kind=ReduceKind.MAX), f"{name}.max", name)

    def joined(self, x: str, y: str, name: str) -> str:
        """Join the channels of two images."""
        sizes = self.builder.types[x].shape, self.builder.types[y].shape
        first, second = (np.arange(np.prod(shape)).reshape(shape) for shape in sizes)
        index = np.concatenate([first, second + first.size], axis=-1)
        return self.builder.add(Rewire(xs=(x, y), index=IntArray.of(index.ravel()), shape=index.shape), name)

    def flat(self, x: str) -> str:
        """Make a vector."""
        size = self.builder.types[x].size
        return self.builder.add(Rewire(xs=(x,), index=IntArray.of(np.arange(size)), shape=(size,)), "flat")


def network(seed: int) -> Graph:
    """Return a network with convolutions, a skip connection, two branches, poolings, and two kinds of endings."""
    layers = Layers(seed)
    builder = layers.builder
    image = builder.add(Input(shape=(PIXELS, PIXELS, 2), range=Range.fixed(7, 3)), "image")
    first = layers.convolution(image, 3, "conv1")
    second = layers.convolution(first, 3, "conv2")
    skip = builder.add(Add(x=first, y=second), "skip")
    small = layers.pool(skip, "pool1")
    branch = layers.product(small, 2, "pointwise")
    other = layers.convolution(small, 2, "conv3")
    joined = layers.joined(branch, other, "concat")
    mean = builder.add(Reduce(x=joined, axes=(0, 1)), "sum")
    builder.output("sum", mean)
    builder.output("classes", layers.product(layers.flat(layers.pool(joined, "pool2")), 4, "dense"))
    return builder.build()


@pytest.mark.slow
@pytest.mark.usefixtures("hls_compiler")
@pytest.mark.parametrize(("ii", "system"), [(8, "one-large-virtual"), (64, "one-large-virtual"), (200, "two-apx")])
def test_planned_network_equals_numpy(tmp_path: Path, ii: int, system: str) -> None:
    """Several pixels per beat, one, and one every few cycles; on two FPGAs each is checked with what it receives."""
    graph = network(ii)
    fpgas = 2 if system == "two-apx" else 1
    design = plan(graph, load_system(system).with_overrides(ii=ii), PlanOptions(fpgas=fpgas))
    codes = random_codes(graph, 60, ii)
    values: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.int64]]] = {}
    emulate(graph, codes, lambda node, array: values.update({node.name: array}))
    assert len(design.fpgas) == fpgas
    for fpga in design.fpgas:
        flow, part = flow_of(design, fpga), subgraph(design, fpga)
        assert flow.streams
        project = emit_hls(part, project_of(part, fpga.name.replace("-", "_"), ii_cycles=ii), flow)
        folder = tmp_path / fpga.name
        simulation = HlsSimulation.build(project, folder, optimize="-O0", strict=True)
        assert_equal(simulation, part, {node.name: values[node.name] for node in part.inputs})


def test_parallel_designs_have_no_streams() -> None:
    """A design whose inputs come at once and whose kernels are parallel is the function it always was."""
    builder = GraphBuilder()
    x = builder.add(Input(shape=(4,), range=Range.fixed(6, 2)), "x")
    weight = IntArray.of(np.arange(8).reshape(4, 2))
    builder.output("y", builder.add(Linear(x=x, weight=weight, bias=IntArray.of([1, 2])), "y"))
    graph = builder.build()
    design = plan(graph, load_system("one-large-virtual").with_overrides(ii=1), PlanOptions())
    flow = flow_of(design, design.fpgas[0])
    assert not flow.streams
    files = emit_hls(graph, project_of(graph, "flat"), flow)
    assert "#pragma HLS PIPELINE II = 1 style = flp" in str(files["flat.cpp"])
    assert "y_adders::run(x, y);" in str(files["flat.cpp"])
    assert not any("DATAFLOW" in str(text) for text in files.values())
