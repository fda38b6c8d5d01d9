"""Flows for the tests: a network cut into steps, each given a random kernel that its streams allow."""

from __future__ import annotations

import random
from pathlib import Path

from hls_projects import project_of

from metronn.emit.hls.flow import Flow
from metronn.emit.hls.project import emit_hls
from metronn.ir.graph import Graph
from metronn.plan.candidates.convert import conversion
from metronn.plan.candidates.steps import Step, steps
from metronn.plan.design import KernelInstance, Signal
from metronn.plan.hardware.boards import load_device
from metronn.plan.hardware.resources import Resources
from metronn.plan.kernels.kernels import Kernels
from metronn.plan.kernels.spec import Delay, KernelSpec
from metronn.plan.layout import Layout
from metronn.plan.options import Fold, InputForm, PlanOptions
from metronn.verify.hls import HlsSimulation, compile_flags, run_compiler, write_files
from timings import level_timing

TIMING = level_timing(load_device("vu13p").fabric)

STREAM_LIBRARY = (
    "activation", "adders", "bridge", "constant", "dense", "dense_stream", "elementwise", "reduce", "reduce_stream",
    "reorder", "requantize", "rewire", "stream", "table", "window", "window_buffer",
)  # fmt: skip


class FlowMaker:
    """Places kernels one after another; cycles are not counted, but for delays drawn at random."""

    def __init__(self, graph: Graph, rng: random.Random, ii_cycles: int) -> None:
        """Begin with nothing."""
        self.graph, self.rng, self.ii = graph, rng, ii_cycles
        self.kernels: list[KernelInstance] = []
        self.plans = Kernels(graph, TIMING)
        self.signals: dict[str, Signal] = {}
        self.of_value: dict[str, list[str]] = {}

    def signal(self, value: str, layout: Layout) -> str:
        """Declare a signal."""
        name = f"{value.replace('.', '_')}_s{len(self.signals)}"
        self.signals[name] = Signal(name=name, value=value, layout=layout, first_cycle=0)
        self.of_value.setdefault(value, []).append(name)
        return name

    def kernel(self, spec: KernelSpec, inputs: tuple[str, ...], value: str, layout: Layout) -> str:
        """Add a kernel; returns its output."""
        output = self.signal(value, layout)
        self.kernels.append(
            KernelInstance(
                name=f"k{len(self.kernels)}", spec=spec, inputs=inputs, output=output, start_cycle=0, latency_cycles=0,
                resources=Resources(),
            )
        )  # fmt: skip
        return output

    def in_layout(self, value: str, layout: Layout) -> str | None:
        """Return a signal of the value in a layout, converted and delayed as need or chance will have it."""
        names = [name for name in self.of_value[value] if self.signals[name].layout == layout]
        if names:
            name = self.rng.choice(names)
        else:
            made = [
                (source, kernel)
                for source in self.of_value[value]
                if (kernel := conversion(self.plans, value, self.signals[source].layout, layout)) is not None
            ]
            if not made:
                return None
            source, kernel = self.rng.choice(made)
            name = self.kernel(kernel.spec, (source,), value, layout)
        if self.rng.random() < 0.2:
            cycles = self.rng.randint(1, 30)
            name = self.kernel(Delay(value=value, layout=layout, cycles=cycles), (name,), value, layout)
        return name

    def step(self, step: Step) -> bool:
        """Make a step with one of its kernels; whether there was one whose inputs can be had."""
        order = list(step.candidates)
        self.rng.shuffle(order)
        if self.rng.random() < 0.85:
            order.sort(key=lambda spec: -self.plans.of(spec).output.beat_count)
        for spec in order:
            wanted = self.plans.of(spec).inputs
            if not all(self._can(value, layout) for value, layout in wanted):
                continue
            sources = tuple(self.in_layout(value, layout) or "" for value, layout in wanted)
            self.kernel(spec, sources, step.value, self.plans.of(spec).output)
            return True
        return False

    def _can(self, value: str, layout: Layout) -> bool:
        return any(
            self.signals[name].layout == layout
            or conversion(self.plans, value, self.signals[name].layout, layout) is not None
            for name in self.of_value[value]
        )


def flow_with(graph: Graph, seed: int, ii_cycles: int, inputs: dict[str, Layout]) -> Flow:
    """Return a flow of the graph on one FPGA: kernels at random, results in the beats in which they are made."""
    rng = random.Random(seed)
    maker = FlowMaker(graph, rng, ii_cycles)
    for name, layout in inputs.items():
        maker.signal(name, layout)
    options = PlanOptions(fold=rng.choice(list(Fold)), inputs=InputForm.STREAM)
    for step in steps(maker.plans, ii_cycles, options, inputs):
        assert maker.step(step), f"{step.value}: no kernel"
    return Flow(
        plans=maker.plans,
        kernels=tuple(maker.kernels),
        signals=maker.signals,
        inputs=tuple((name, maker.of_value[name][0]) for name in inputs),
        outputs=tuple((output.name, rng.choice(maker.of_value[output.value])) for output in graph.outputs),
        ii_cycles=ii_cycles,
    )


def build_flows(flows: list[Flow], folder: Path, optimize: str = "-O0") -> list[HlsSimulation]:
    """Compile the projects of many flows in one translation unit, each in a namespace of its own."""
    unit = "".join(f'#include "metronn/{stem}.hpp"\n' for stem in STREAM_LIBRARY)
    for number, flow in enumerate(flows):
        name = f"f{number}"
        write_files(emit_hls(flow.graph, project_of(flow.graph, name), flow), folder / name)
        unit += f'namespace space_{name} {{\n#include "{name}/{name}.cpp"\n#include "{name}/bridge.cpp"\n}}\n'
    write_files({"all.cpp": unit}, folder)
    library = folder / "liball.so"
    headers = Path(__file__).resolve().parents[3] / "hls_templates"
    run_compiler(
        [
            *compile_flags(folder, headers, strict=True), optimize, "-shared", "-fPIC",
            str(folder / "all.cpp"), "-o", str(library),
        ],
        f"{len(flows)} flows together",
    )  # fmt: skip
    return [HlsSimulation.load(folder / f"f{number}", library) for number in range(len(flows))]
