"""Estimated LUTs, flip-flops, DSP blocks and block RAMs of emitted kernels beside what Yosys counts.

Five kernels of each kind, made of random layers, are emitted and synthesised for a device (an UltraScale+ one unless
told); printed are the estimate, the count and their ratio for each kernel, and the median and the worst ratio of each
kind:

    python benchmarks/resources.py [--device NAME] [--clock MHZ] [--kind KIND]... [--large] [--json]

Counted as LUTs: LUT1 to LUT6 (two small ones are not packed into one LUT6_2), one per shift register SRL16E or SRLC32E,
and those inside a distributed RAM (RAM32M 4, RAM32M16 8, ...). Inverters, multiplexers F7 to F9 and carries are not.
Kernels that are planned without block RAM are synthesised without it (-nobram): Yosys would turn a registered table
of 10 address bits into memory. Registers of DSP blocks, which Yosys leaves outside in all families but xc7, are not
counted.
Folds are also held against ceil(MACs / (II x products per DSP)) DSP blocks, 5 % more allowed.
Exit status 1 when a LUT or flip-flop estimate is off by more than 30 % (counts below 50: by more than 15), or a DSP or
block RAM count differs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

import buffer_samples
from metronn.emit.data import data_directory
from metronn.emit.rtl.fpga import LIBRARY, emit_fpga
from metronn.emit.rtl.kernels.any_kernel import emit_kernel
from metronn.emit.tops import top_module
from metronn.errors import ModelError, ToolError
from metronn.ir.arrays import IntArray
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import (
    Add,
    Constant,
    Extremum,
    ExtremumKind,
    Input,
    Linear,
    Lookup,
    Multiply,
    Overflow,
    Reduce,
    ReduceKind,
    Requantize,
    Rounding,
)
from metronn.ir.types import Range
from metronn.plan.design import Design, DesignOutput, FpgaDesign, Frame, FrameField, Signal
from metronn.plan.frames.packing import link_latency_cycles, plan_frame
from metronn.plan.hardware.boards import list_devices, load_device
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.system import load_system
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.folds.fold import fold_outputs_spec, outputs_layout, packing
from metronn.plan.kernels.folds.planned import PlannedFoldInputs, PlannedFoldOutputs
from metronn.plan.kernels.kernels import Kernels, planned
from metronn.plan.kernels.spec import (
    Delay,
    Elementwise,
    FoldInputs,
    FoldOutputs,
    Gather,
    KernelSpec,
    MatvecAdders,
    ReduceSerial,
    ReduceTree,
    Streamed,
    Table,
)
from metronn.plan.layout import Layout
from metronn.verify.synthesis import NO_BLOCK_RAM, Flow, flow_of, ratio, run_yosys, yosys

DEVICE, CLOCK_MHZ = "vu13p", 360.0
ALLOWED_RATIO = 1.3
SMALL_COUNT, ALLOWED_DIFFERENCE = 50, 15
DSP_MARGIN = 1.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """An emitted kernel: its SystemVerilog, its estimate, what it is made of, for folds the DSP blocks of an ideal one.

    `block_ff`: flip-flops that are registers of DSP blocks, which Yosys moves into blocks of its 7-series only.
    """

    kind: str
    name: str
    top: str
    text: str
    estimate: Resources
    case: tuple[Graph, KernelSpec] | None = None
    ideal_dsps: int | None = None
    block_ff: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A sample beside its counts; `counted` is None when Yosys left none, `problem` says why."""

    sample: Sample
    counted: Resources | None
    seconds: float
    mapper: str
    problem: str = ""


def sample(
    timing: Timing, kind: str, name: str, graph: Graph, spec: KernelSpec, ideal_dsps: int | None = None
) -> Sample:
    """Emit a kernel and estimate it."""
    kernel = planned(spec, graph, timing)
    top = "mnn_" + re.sub(r"[^a-z0-9]+", "_", f"{kind} {name}".lower())
    return Sample(
        kind=kind,
        name=name,
        case=(graph, spec),
        top=top,
        text=emit_kernel(kernel, top) + (data_directory("firmware") / "rtl" / "mnn_replica.sv").read_text(),
        estimate=kernel.resources,
        ideal_dsps=ideal_dsps,
        block_ff=kernel.block_registers if isinstance(kernel, PlannedFoldOutputs | PlannedFoldInputs) else 0,
    )


def dense(
    n_in: int, n_out: int, *, weight_bits: int = 8, x_bits: int = 8, x_signed: bool = False, zeros: float = 0.0
) -> tuple[Graph, str, tuple[str, ...]]:
    """Build a random layer with ReLU and saturation to 8 bits; return it, its Linear and its epilogue."""
    generator = np.random.Generator(np.random.PCG64(n_in * 1000 + n_out))
    top = (1 << (weight_bits - 1)) - 1
    weight = np.clip(np.rint(generator.normal(0, 0.35 * top, (n_in, n_out))), -top, top).astype(np.int64)
    weight[generator.random((n_in, n_out)) < zeros] = 0
    builder = GraphBuilder()
    x = builder.add(Input(shape=(n_in,), range=Range.fixed(x_bits, 0, signed=x_signed)), "x")
    bias = generator.integers(-8 * top, 8 * top, n_out)
    linear = builder.add(Linear(x=x, weight=IntArray.of(weight), bias=IntArray.of(bias)), "dense")
    relu = builder.add(Extremum(x=linear, y=builder.add(Constant(values=IntArray.of(0)), "zero")), "relu")
    out = Range(0, 255, -(weight_bits + x_bits - 8))
    builder.output("y", builder.add(Requantize(x=relu, out=out, rounding=Rounding.RND, overflow=Overflow.SAT), "q"))
    return builder.build(), linear, ("relu", "q")


FOLDS: tuple[dict[str, Any], ...] = (
    {"n_in": 16, "n_out": 24, "ii": 4},
    {"n_in": 32, "n_out": 24, "ii": 5, "x_signed": True},
    {"n_in": 24, "n_out": 32, "ii": 6, "weight_bits": 6, "x_bits": 6},
    {"n_in": 36, "n_out": 40, "ii": 9},
    {"n_in": 20, "n_out": 21, "ii": 7, "weight_bits": 12, "x_bits": 10},
)
LARGE_FOLD: dict[str, Any] = {"n_in": 128, "n_out": 128, "ii": 9}


def fold_samples(timing: Timing, kind: str, folds: Sequence[Mapping[str, Any]]) -> Iterator[Sample]:
    """Fold random layers by outputs, or by inputs that come as a fold by outputs makes them."""
    for fold in folds:
        options = dict(fold)
        ii, n_in, n_out = options.pop("ii"), options["n_in"], options["n_out"]
        graph, linear, epilogue = dense(**options)
        spec: FoldOutputs | FoldInputs = fold_outputs_spec(graph, linear, epilogue, ii, timing)
        if kind == "matvec_fold_inputs":
            before, first, _ = dense(8, n_in)
            layout = outputs_layout(fold_outputs_spec(before, first, (), ii, timing))
            spec = FoldInputs(linear=linear, epilogue=epilogue, layout=layout)
        ideal = math.ceil(n_in * n_out / (ii * packing(graph, linear, timing).ways))
        widths = f"{options.get('weight_bits', 8)}x{options.get('x_bits', 8)} bit"
        yield sample(timing, kind, f"{n_in}x{n_out} II {ii}, {widths}", graph, spec, ideal)


def adder_samples(timing: Timing) -> Iterator[Sample]:
    layers = ((8, 8, 6, 0.0), (16, 8, 6, 0.5), (16, 16, 4, 0.0), (32, 12, 5, 0.7), (24, 5, 8, 0.3))
    for n_in, n_out, bits, zeros in layers:
        graph, linear, epilogue = dense(n_in, n_out, weight_bits=bits, zeros=zeros)
        spec = MatvecAdders(linear=linear, epilogue=epilogue)
        yield sample(timing, "matvec_adders", f"{n_in}x{n_out}, {bits} bit, {zeros:.0%} zeros", graph, spec)


def elementwise_samples(timing: Timing) -> Iterator[Sample]:
    """Rounding, residual sums, products, clipping: what stands between layers."""

    def graph(build: Callable[[GraphBuilder, str, str], str]) -> tuple[Graph, tuple[str, ...]]:
        builder = GraphBuilder()
        x = builder.add(Input(shape=(24,), range=Range.fixed(14, 6)), "x")
        y = builder.add(Input(shape=(24,), range=Range.fixed(12, 5)), "y")
        builder.output("z", build(builder, x, y))
        built = builder.build()
        nodes = [node.name for node in built.nodes if not isinstance(node.op, Input | Constant)]
        return built, tuple(nodes)

    eight = Range.fixed(8, 2)

    def rounded(b: GraphBuilder, x: str) -> str:
        return b.add(Requantize(x=x, out=eight, rounding=Rounding.RND, overflow=Overflow.SAT), "q")

    cases: dict[str, Callable[[GraphBuilder, str, str], str]] = {
        "24 rounded to 8 bit": lambda b, x, y: rounded(b, x),
        "24 sums, rounded": lambda b, x, y: rounded(b, b.add(Add(x=x, y=y), "s")),
        "24 products": lambda b, x, y: b.add(Multiply(x=x, y=y), "p"),
        "24 larger of two": lambda b, x, y: b.add(Extremum(x=x, y=y, kind=ExtremumKind.MAX), "m"),
        "24 differences, ReLU": lambda b, x, y: b.add(
            Extremum(x=b.add(Add(x=x, y=y, subtract=True), "d"), y=b.add(Constant(values=IntArray.of(0)), "zero")), "r"
        ),
    }
    for name, build in cases.items():
        built, nodes = graph(build)
        yield sample(timing, "elementwise", name, built, Elementwise(nodes=nodes))


def table_samples(timing: Timing) -> Iterator[Sample]:
    for name, address, count, function in (
        ("16 sigmoids 8 to 8 bit", 8, 16, lambda v: np.rint(255 / (1 + np.exp(-v / 16)))),
        ("16 tanh 7 to 8 bit", 7, 16, lambda v: np.rint(127 * np.tanh(v / 16))),
        ("5 exponentials 10 to 12 bit", 10, 5, lambda v: np.rint(4095 * np.exp((v - 511) / 128))),
        ("8 random 9 to 10 bit", 9, 8, lambda v: np.random.Generator(np.random.PCG64(1)).integers(0, 1024, v.size)),
        ("5 exponentials 12 to 16 bit", 12, 5, lambda v: np.rint(65535 * np.exp((v - 2047) / 512))),
    ):
        kind = Range.fixed(address, 4)
        builder = GraphBuilder()
        x = builder.add(Input(shape=(count,), range=kind), "x")
        values = function(np.arange(kind.lowest, kind.highest + 1)).astype(np.int64)
        builder.output("y", builder.add(Lookup(x=x, table=IntArray.of(values), frac=8), "table"))
        yield sample(timing, "table", name, builder.build(), Table(lookup="table"))


def reduce_samples(timing: Timing) -> Iterator[Sample]:
    for name, shape, axes, kind in (
        ("sum of 16", (16,), (0,), ReduceKind.SUM),
        ("sum of 64", (64,), (0,), ReduceKind.SUM),
        ("largest of 16", (16,), (0,), ReduceKind.MAX),
        ("largest of 8, 6 times", (8, 6), (0,), ReduceKind.MAX),
        ("sum of 10, 8 times", (10, 8), (0,), ReduceKind.SUM),
    ):
        builder = GraphBuilder()
        x = builder.add(Input(shape=shape, range=Range.fixed(10, 4)), "x")
        builder.output("y", builder.add(Reduce(x=x, axes=axes, kind=kind), "r"))
        yield sample(timing, "reduce", name, builder.build(), ReduceTree(reduce="r"))


def _vector(count: int, bits: int = 8) -> Graph:
    builder = GraphBuilder()
    builder.output("y", builder.add(Input(shape=(count,), range=Range.fixed(bits, 0, signed=False)), "x"))
    return builder.build()


def _beats(count: int, beats: int) -> Layout:
    """Cut `count` elements into beats, the last one taking what is left."""
    each = count // beats
    edges = [*(each * k for k in range(beats)), count]
    return Layout(tuple(tuple(range(a, b)) for a, b in zip(edges, edges[1:], strict=False)))


def delay_samples(timing: Timing) -> Iterator[Sample]:
    for count, cycles in ((16, 1), (16, 2), (16, 9), (12, 33), (8, 90)):
        spec = Delay(value="x", layout=Layout.parallel(count), cycles=cycles)
        yield sample(timing, "delay", f"{8 * count} bit, {cycles} cycles", _vector(count), spec)


def reorder_samples(timing: Timing) -> Iterator[Sample]:
    for count, beats in ((43, 9), (128, 9), (32, 4), (24, 2), (64, 6)):
        spec = Gather(value="x", layout=_beats(count, beats))
        yield sample(timing, "reorder", f"{count} in {beats} beats", _vector(count), spec)


def rows(count: int, n_in: int, n_out: int) -> Graph:
    """Build a random layer on the last axis of `count` rows, as a convolution is one on its windows."""
    generator = np.random.Generator(np.random.PCG64(n_in * 1000 + n_out))
    builder = GraphBuilder()
    x = builder.add(Input(shape=(count, n_in), range=Range.fixed(8, 0, signed=False)), "x")
    weight = np.clip(np.rint(generator.normal(0, 45, (n_in, n_out))), -127, 127).astype(np.int64)
    bias = generator.integers(-1000, 1000, n_out)
    linear = builder.add(Linear(x=x, weight=IntArray.of(weight), bias=IntArray.of(bias)), "dense")
    relu = builder.add(Extremum(x=linear, y=builder.add(Constant(values=IntArray.of(0)), "zero")), "relu")
    out = Range(0, 255, -7)
    builder.output("y", builder.add(Requantize(x=relu, out=out, rounding=Rounding.RND, overflow=Overflow.SAT), "q"))
    return builder.build()


def streamed_samples(timing: Timing) -> Iterator[Sample]:
    """Layers on streams: windows of images row by row, and flattened images beat by beat."""
    kind, epilogue = "streamed_fold", ("relu", "q")
    for count, n_in, n_out, beats, copies, name in (
        (400, 72, 16, 4, 1, "3x3x8 to 16, 20x20 at II 1600"),
        (196, 27, 12, 3, 1, "3x3x3 to 12, 14x14 at II 588"),
        (64, 12, 6, 3, 2, "12 to 6, 64 rows, 2 a beat, II 96"),
    ):
        graph = rows(count, n_in, n_out)
        fold = fold_outputs_spec(graph, "dense", epilogue, beats, timing)
        layout = Layout.rows(count * n_in, n_in * copies, beats)
        spec = Streamed(inner=fold, layouts=(layout,), copies=copies)
        ideal = math.ceil(count * n_in * n_out / (layout.span * packing(graph, "dense", timing).ways))
        yield sample(timing, kind, name, graph, spec, ideal)
    part = FoldInputs(linear="dense", epilogue=epilogue, layout=Layout.rows(32, 8, 2))
    yield sample(
        timing,
        kind,
        "32 to 8, 40 rows, 8 a beat",
        rows(40, 32, 8),
        Streamed(inner=part, layouts=(Layout.rows(1280, 8, 2),)),
    )
    for n_in, n_out, width, spacing in ((288, 8, 4, 3), (400, 10, 4, 4), (1600, 12, 4, 1), (2000, 5, 1, 2)):
        flat, linear, after = dense(n_in, n_out)
        fed = FoldInputs(linear=linear, epilogue=after, layout=Layout.rows(n_in, width, spacing))
        yield sample(timing, kind, f"{n_in} to {n_out}, {fed.layout.describe()}", flat, fed)


def serial_samples(timing: Timing) -> Iterator[Sample]:
    """Pooling over whole images, all channels in a beat or parts of them."""
    for side, channels, width, spacing, kind in (
        (10, 16, 16, 1, ReduceKind.SUM),
        (10, 16, 16, 4, ReduceKind.MAX),
        (10, 32, 8, 1, ReduceKind.SUM),
        (8, 12, 24, 2, ReduceKind.SUM),
        (5, 8, 32, 3, ReduceKind.SUM),
    ):
        builder = GraphBuilder()
        x = builder.add(Input(shape=(side, side, channels), range=Range.fixed(8, 0, signed=False)), "x")
        builder.output("y", builder.add(Reduce(x=x, axes=(0, 1), kind=kind), "r"))
        layout = Layout.rows(side * side * channels, width, spacing)
        name = f"{kind.value} of {side}x{side}x{channels}, {width} a beat"
        yield sample(timing, "reduce_serial", name, builder.build(), ReduceSerial(reduce="r", layout=layout))


def buffers(timing: Timing, kind: str, cases: Iterator[tuple[str, Graph, KernelSpec]]) -> Iterator[Sample]:
    for name, graph, spec in cases:
        yield sample(timing, kind, name, graph, spec)


def link_samples(timing: Timing, kind: str) -> Iterator[Sample]:
    """One end of a link of `two-serenity`: frame and transmitter, or receiver and frame, with their orbit counter."""
    for count, beats, lanes in ((14, 1, 1), (128, 9, 2), (128, 1, 3), (64, 4, 4), (128, 9, 6)):
        design = link_design(timing, count, _beats(count, beats), lanes)
        fpga = design.fpgas[kind == "link_rx"]
        texts = [(data_directory("firmware") / "rtl" / f"{name}.sv").read_text() for name in LIBRARY]
        frame = fpga.sends or fpga.receives
        assert frame is not None
        yield Sample(
            kind=kind,
            name=f"{8 * count} bit in {beats} beats, {frame.lanes} lanes",
            top=top_module(design.prefix, fpga.name),
            text="\n".join([*texts, *emit_fpga(design, fpga).values()]),
            estimate=fpga.link_resources,
        )


def link_design(timing: Timing, count: int, layout: Layout, lanes: int) -> Design:
    """Two FPGAs without kernels: a vector goes in, over the link, and out."""
    graph, system = _vector(count), load_system("two-serenity")
    source = Signal(name="x", value="x", layout=layout, first_cycle=0)
    plan = plan_frame(graph, [source], system.ii, lanes)
    assert plan is not None, "the frame is too small for the vector"
    latency = link_latency_cycles(system.links[0].latency_max_cycles)
    first = plan.first_cycles["x"]
    field = FrameField(value="x", source="x", target="x", layout=layout, target_first_cycle=first)
    frame = Frame(
        link=0,
        lanes=plan.lanes,
        words=plan.words,
        send_cycle=plan.send_cycle,
        latency_cycles=latency,
        fields=(field,),
        segments=plan.segments,
    )
    ends = []
    for index in (0, 1):
        signal = Signal(name="x", value="x", layout=layout, first_cycle=first if index else 0)
        ends.append(
            FpgaDesign(
                index=index,
                name=f"link_{'rx' if index else 'tx'}_{count}_{lanes}",
                offset_cycles=index * (plan.send_cycle + latency),
                kernels=(),
                signals=(signal,),
                receives=frame if index else None,
                sends=None if index else frame,
                fabric=timing.fabric,
            )
        )
    output = DesignOutput(name="y", signal="x")
    kernels = Kernels(graph, timing)
    return Design(kernels=kernels, system=system, ii_cycles=system.ii, fpgas=tuple(ends), outputs=(output,))


KINDS: dict[str, Callable[[Timing], Iterator[Sample]]] = {
    "matvec_adders": adder_samples,
    "matvec_fold_outputs": lambda timing: fold_samples(timing, "matvec_fold_outputs", FOLDS),
    "matvec_fold_inputs": lambda timing: fold_samples(timing, "matvec_fold_inputs", FOLDS),
    "elementwise": elementwise_samples,
    "table": table_samples,
    "reduce": reduce_samples,
    "delay": delay_samples,
    "reorder": reorder_samples,
    "streamed_fold": streamed_samples,
    "reduce_serial": serial_samples,
    "window_buffer": lambda timing: buffers(timing, "window_buffer", buffer_samples.window_samples()),
    "delay_stream": lambda timing: buffers(timing, "delay_stream", buffer_samples.delay_samples()),
    "reorder_stream": lambda timing: buffers(timing, "reorder_stream", buffer_samples.reorder_samples()),
    "link_tx": lambda timing: link_samples(timing, "link_tx"),
    "link_rx": lambda timing: link_samples(timing, "link_rx"),
}


def synthesise(one: Sample, folder: Path, commands: Sequence[str], timeout_s: float) -> dict[str, int] | str:
    """Run Yosys and return the cells by type, or what went wrong: it can stop early with exit status 0."""
    top, text, options = one.top, one.text, "" if one.estimate.bram36 else NO_BLOCK_RAM
    (folder / f"{top}.sv").write_text(text)
    stat = folder / "stat.json"
    stat.unlink(missing_ok=True)
    lines = [
        f"read_verilog -sv {top}.sv",
        f"hierarchy -check -top {top}",
        *(c.format(top=top, options=options) for c in commands),
    ]
    try:
        run_yosys([*lines, "tee -o stat.json stat -json"], folder, top, timeout_s)
    except ToolError as error:
        return error.message
    if not stat.is_file() or not stat.read_text().strip():
        return "no result"
    cells: dict[str, int] = json.loads(stat.read_text())["design"]["num_cells_by_type"]
    return cells


def fabric_only(count: Resources, block_ff: int) -> Resources:
    """Return a count without the flip-flops that are registers of DSP blocks."""
    return replace(count, ff=count.ff - block_ff)


def measure(one: Sample, flow: Flow, folder: Path, timeout_s: float) -> Row:
    """Synthesise a sample, with the older mapper when abc9 leaves no result."""
    start = time.perf_counter()
    problems = []
    for mapper, commands in flow.mappers:
        found = synthesise(one, folder, commands, timeout_s)
        if not isinstance(found, str):
            return Row(
                sample=one,
                counted=fabric_only(flow.counted(found), 0 if flow.packs else one.block_ff),
                seconds=time.perf_counter() - start,
                mapper=mapper,
                problem="; ".join(problems),
            )
        problems.append(f"{mapper}: {found}")
    return Row(sample=one, counted=None, seconds=time.perf_counter() - start, mapper="", problem="; ".join(problems))


def close(estimate: int, count: int) -> bool:
    """Whether an estimate is near enough: within 30 % of the count, or within a few of a small one."""
    if count < SMALL_COUNT:
        return abs(estimate - count) <= ALLOWED_DIFFERENCE
    return count / ALLOWED_RATIO <= estimate <= count * ALLOWED_RATIO


def wrong(row: Row) -> list[str]:
    """What an estimate got wrong, in words."""
    if row.counted is None:
        return ["not measured"]
    estimate, count = row.sample.estimate, row.counted
    found = [name for name in ("lut", "ff") if not close(getattr(estimate, name), getattr(count, name))]
    found += [name for name in ("dsp", "bram36") if getattr(estimate, name) != getattr(count, name)]
    ideal = row.sample.ideal_dsps
    if ideal is not None and count.dsp > math.ceil(ideal * DSP_MARGIN):
        found.append(f"{count.dsp} DSPs for {ideal}")
    return found


def print_row(row: Row) -> None:
    one, count = row.sample, row.counted
    head = f"{one.kind:20}{one.name:34}"
    if count is None:
        print(f"{head}not measured: {row.problem}", flush=True)
        return
    pairs = [(getattr(one.estimate, name), getattr(count, name)) for name in ("lut", "ff")]
    columns = [f"{estimate:6}{found:7}{ratio(estimate, found):6.2f}" for estimate, found in pairs]
    dsps = f"{one.estimate.dsp:5}{count.dsp:5}" + (f"{one.ideal_dsps:6}" if one.ideal_dsps is not None else " " * 6)
    brams = f"{one.estimate.bram36:6.1f}{count.bram36:6.1f}"
    notes = (["plain abc"] if row.mapper == "abc" else []) + [f"off: {', '.join(wrong(row))}"] * bool(wrong(row))
    print(f"{head}{' |'.join(columns)} |{dsps} |{brams} |{row.seconds:6.0f} s  {'; '.join(notes)}", flush=True)


def print_summary(rows: Sequence[Row]) -> None:
    print(f"\n{'':20}{'LUT median':>12}{'worst':>8}{'FF median':>12}{'worst':>8}   (estimate / count)")
    for kind in dict.fromkeys(row.sample.kind for row in rows):
        texts = []
        for name in ("lut", "ff"):
            ratios = [
                ratio(getattr(row.sample.estimate, name), getattr(row.counted, name))
                for row in rows
                if row.sample.kind == kind and row.counted is not None and getattr(row.counted, name)
            ]
            if not ratios:
                texts.append(f"{'-':>12}{'-':>8}")
                continue
            worst = max(ratios, key=lambda r: max(r, 1 / r) if r else math.inf)
            texts.append(f"{statistics.median(ratios):12.2f}{worst:8.2f}")
        print(f"{kind:20}{''.join(texts)}")


def as_dict(row: Row) -> dict[str, Any]:
    return {
        "kind": row.sample.kind,
        "name": row.sample.name,
        "estimate": row.sample.estimate.as_dict(),
        "counted": None if row.counted is None else row.counted.as_dict(),
        "ideal_dsps": row.sample.ideal_dsps,
        "mapper": row.mapper,
        "seconds": round(row.seconds, 1),
        "off": wrong(row),
        "problem": row.problem,
    }


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default=DEVICE, choices=list_devices(), help="device to synthesise for")
    parser.add_argument("--clock", type=float, default=CLOCK_MHZ, help="clock in MHz that the kernels are laid out for")
    parser.add_argument("--kind", action="append", choices=tuple(KINDS), help="only these kinds; may be repeated")
    parser.add_argument("--large", action="store_true", help="both folds of 128x128 at II 9 too (tens of minutes)")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for one synthesis")
    parser.add_argument("--keep", type=Path, help="keep the last netlist's files in this folder")
    parser.add_argument("--json", action="store_true", help="machine-readable result")
    return parser.parse_args()


def main() -> int:
    arguments = parsed()
    try:
        yosys()
    except ToolError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    device = load_device(arguments.device)
    try:
        flow = flow_of(device)
    except ModelError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    timing = Timing.of([device], 1e6 / arguments.clock)
    kinds = arguments.kind or list(KINDS)
    samples = [one for kind in kinds for one in KINDS[kind](timing)]
    if arguments.large:
        samples += [s for k in kinds if k.startswith("matvec_fold") for s in fold_samples(timing, k, (LARGE_FOLD,))]
    rows = []
    if not arguments.json:
        print(
            f"{'':54}{'LUT':>6}{'Yosys':>7}{'ratio':>6}  {'FF':>6}{'Yosys':>7}{'ratio':>6}  "
            f"{'DSP':>5}{'Yosys':>5}{'ideal':>6}  {'BRAM':>6}{'Yosys':>6}"
        )
    with tempfile.TemporaryDirectory() as name:
        folder = arguments.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        for one in samples:
            rows.append(measure(one, flow, folder, arguments.timeout))
            if not arguments.json:
                print_row(rows[-1])
    if arguments.json:
        print(json.dumps([as_dict(row) for row in rows], indent=1))
    else:
        print_summary(rows)
    return 1 if any(wrong(row) for row in rows) else 0


if __name__ == "__main__":
    raise SystemExit(main())
