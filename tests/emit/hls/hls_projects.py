"""Projects for the HLS tests: from a graph to its files, and many graphs compiled in one run."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from metronn.emit.hls.flow import Flow
from metronn.emit.hls.project import HlsProject, emit_hls
from metronn.emulate.numpy import emulate
from metronn.ir.arrays import Array, IntArray
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Constant, Extremum, Input, Linear, Overflow, Requantize, Rounding, operands
from metronn.ir.text import graph_hash, to_text
from metronn.ir.types import Range
from metronn.plan.design import KernelInstance, Signal
from metronn.plan.hardware.boards import load_device
from metronn.plan.hardware.resources import Resources
from metronn.plan.kernels.kernels import Kernels
from metronn.plan.kernels.spec import FoldInputs, FoldOutputs, MatvecAdders
from metronn.plan.layout import Layout
from metronn.verify.hls import HlsSimulation, compile_flags, run_compiler, write_files
from timings import level_timing

LIBRARY = (
    "activation",
    "adders",
    "bridge",
    "constant",
    "dense",
    "elementwise",
    "reduce",
    "requantize",
    "rewire",
    "table",
    "window",
)


def project_of(graph: Graph, name: str, ii_cycles: int = 9) -> HlsProject:
    """Return a project for one of two FPGAs."""
    return HlsProject(
        name=name,
        fpga=0,
        fpga_count=2,
        part="xcvu13p-flga2577-2-e",
        clock_period_ns=1000 / 360,
        ii_cycles=ii_cycles,
        latency_cycles=60,
        graph_hash=graph_hash(graph),
        tool_version="0.0.0",
    )


def two_layers() -> tuple[Graph, Flow]:
    """Return a network of two layers with the ops of the demo, and its flow with one folded each way."""
    rng = np.random.default_rng(5)
    builder = GraphBuilder()
    x = builder.add(Input(shape=(6,), range=Range.fixed(8, 4)), "hits")
    hidden = builder.add(
        Linear(
            x=x,
            weight=IntArray.of(rng.integers(-8, 8, (6, 4))),
            bias=IntArray.of(rng.integers(-90, 90, 4)),
            weight_frac=3,
        ),
        "dense_1.acc",
        "dense_1",
    )
    zero = builder.add(Constant(values=IntArray.of([0])), "dense_1.zero", "dense_1")
    rectified = builder.add(Extremum(x=hidden, y=zero), "dense_1.relu", "dense_1")
    narrow = builder.add(
        Requantize(x=rectified, out=Range(0, 255, 4), rounding=Rounding.RND, overflow=Overflow.SAT),
        "dense_1.out",
        "dense_1",
    )
    last = builder.add(
        Linear(
            x=narrow, weight=IntArray.of(rng.integers(-8, 8, (4, 3))), bias=IntArray.of([1, -20, 300]), weight_frac=3
        ),
        "dense_2.acc",
        "dense_2",
    )
    builder.output("pt", last)
    graph = builder.build()
    plans = Kernels(graph, level_timing(load_device("vu13p").fabric))
    first = FoldOutputs(linear=hidden, epilogue=(rectified, narrow), lanes=2, beats=2, remainder=0)
    second = FoldInputs(linear=last, layout=plans.of(first).output)
    signals = {
        name: Signal(name=name, value=value, layout=layout, first_cycle=cycle)
        for name, value, layout, cycle in (
            ("in", x, Layout.parallel(6), 0),
            ("middle", narrow, plans.of(first).output, 7),
            ("out", last, plans.of(second).output, 14),
        )
    }
    kernels = tuple(
        KernelInstance(
            name=f"{spec.linear}_fold", spec=spec, inputs=(source,), output=target, start_cycle=start,
            latency_cycles=plans.of(spec).latency_cycles, resources=Resources(),
        )
        for spec, source, target, start in ((first, "in", "middle", 1), (second, "middle", "out", 9))
    )  # fmt: skip
    return graph, Flow(
        plans=plans, kernels=kernels, signals=signals, inputs=((x, "in"),), outputs=(("pt", "out"),), ii_cycles=9
    )


def unrolled(graph: Graph) -> Flow:
    """Return a flow in which every matrix of a graph is its own adder graph, and all else is left to the graph."""
    plans = Kernels(graph, level_timing(load_device("vu13p").fabric))
    signals: dict[str, Signal] = {}
    kernels = []
    for node in graph.nodes:
        if isinstance(node.op, Linear):
            spec = MatvecAdders(linear=node.name, epilogue=epilogue_of(graph, node.name))
            kernels.append(
                KernelInstance(
                    name=f"{node.name}_adders", spec=spec, inputs=(node.op.x,), output=plans.of(spec).result,
                    start_cycle=0, latency_cycles=1, resources=Resources(),
                )
            )  # fmt: skip
    return Flow(plans=plans, kernels=tuple(kernels), signals=signals, inputs=(), outputs=(), ii_cycles=1, streams=False)


def epilogue_of(graph: Graph, value: str) -> tuple[str, ...]:
    """Return the elementwise ops behind a value that read it, and constants, alone."""
    found: list[str] = []
    shown = {output.value for output in graph.outputs}
    while value not in shown and len(graph.uses[value]) == 1:
        node = graph.by_name[next(iter(graph.uses[value]))]
        others = [x for x in operands(node.op) if x != value]
        alone = all(isinstance(graph.by_name[x].op, Constant) for x in others)
        if not isinstance(node.op, Requantize | Extremum) or not alone or node.type.shape != graph.type_of(value).shape:
            break
        value = node.name
        found.append(value)
    return tuple(found)


def build_together(
    graphs: list[Graph], folder: Path, optimize: str = "-O0", flows: list[Flow] | None = None
) -> list[HlsSimulation]:
    """Compile the projects of many graphs in one translation unit, each in a namespace of its own."""
    unit = "".join(f'#include "metronn/{stem}.hpp"\n' for stem in LIBRARY)
    for number, graph in enumerate(graphs):
        name = f"g{number}"
        write_files(emit_hls(graph, project_of(graph, name), flows[number] if flows else None), folder / name)
        unit += f'namespace space_{name} {{\n#include "{name}/{name}.cpp"\n#include "{name}/bridge.cpp"\n}}\n'
    write_files({"all.cpp": unit}, folder)
    library = folder / "liball.so"
    headers = Path(__file__).resolve().parents[3] / "hls_templates"
    run_compiler(
        [
            *compile_flags(folder, headers, strict=True), optimize, "-shared", "-fPIC",
            str(folder / "all.cpp"), "-o", str(library),
        ],
        f"{len(graphs)} graphs together",
    )  # fmt: skip
    return [HlsSimulation.load(folder / f"g{number}", library) for number in range(len(graphs))]


def assert_equal(simulation: HlsSimulation, graph: Graph, codes: dict[str, Array]) -> None:
    """Check that the compiled HLS gives the codes of the NumPy emulator."""
    expected = emulate(graph, codes)
    found = simulation.run(codes, threads=1)
    assert list(found) == list(expected)
    for name, array in expected.items():
        # a constant has one event in NumPy, as many as the inputs have in C++
        assert (found[name] == np.broadcast_to(array, found[name].shape)).all(), f"{name} of\n{to_text(graph)}"
