"""What a streamed 3 x 3 convolution holds and multiplies with, beside the least that arithmetic allows.

Convolutions with zero padding, 8-bit pixels, 8-bit random weights and ReLU are planned on `one-serenity` with
results that leave as a stream:

    python benchmarks/streams.py [--json]

Printed are the bits of the line buffer beside (kernel height - 1) rows + kernel width pixels, the DSP blocks of the
product beside ceil(multiplications / (II x products per DSP block)), none where it is unrolled into adders, and the
cycles from the last pixel that comes in to the last result that leaves. Of beats of several pixels the buffer holds
one whole: pixels of a beat - 1 are added to the limit. Exit status 1 when a buffer is larger, or a fold has more than
5 % more blocks.
"""

from __future__ import annotations

import argparse
import json
import math
from typing import Any

import numpy as np

from metronn.ir.arrays import IntArray
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Constant, Extremum, Input, Linear, Overflow, Padding, Requantize, Rounding, Window
from metronn.ir.types import Range
from metronn.plan.design import Design
from metronn.plan.hardware.system import load_system
from metronn.plan.kernels.folds.fold import packing
from metronn.plan.kernels.slices import slice_of
from metronn.plan.kernels.spec import FoldInputs, FoldOutputs, MatvecAdders, Streamed, WindowBuffer
from metronn.plan.options import OutputForm, PlanOptions
from metronn.plan.planner import plan

CASES = ((40, 8, 8, 1600), (20, 8, 16, 1600), (40, 1, 8, 100), (20, 32, 32, 1600))
"""Side of the image, channels in, channels out, II."""

KERNEL, BITS = 3, 8
MORE_DSPS = 1.05


def convolution(side: int, channels: int, filters: int) -> Graph:
    """Return one 3 x 3 convolution of the same size with ReLU, rounded to 8 bits."""
    rng = np.random.default_rng(side * channels * filters)
    weight = rng.integers(-127, 128, (KERNEL * KERNEL * channels, filters))
    builder = GraphBuilder()
    x = builder.add(Input(shape=(side, side, channels), range=Range.fixed(BITS, BITS, signed=False)), "x")
    window = builder.add(
        Window(
            x=x,
            kernel=(KERNEL, KERNEL),
            strides=(1, 1),
            dilations=(1, 1),
            before=(1, 1),
            after=(1, 1),
            padding=Padding.ZERO,
        ),
        "window",
    )
    bias = IntArray.of(rng.integers(-1000, 1000, filters))
    product = builder.add(Linear(x=window, weight=IntArray.of(weight), bias=bias, weight_frac=7), "conv")
    zero = builder.add(Constant(values=IntArray.of(np.array(0))), "zero")
    relu = builder.add(Extremum(x=product, y=zero), "relu")
    out = Range.fixed(BITS, BITS - 3, signed=False)
    builder.output("y", builder.add(Requantize(x=relu, out=out, rounding=Rounding.RND, overflow=Overflow.SAT), "y"))
    return builder.build()


def measured(side: int, channels: int, filters: int, ii: int) -> dict[str, Any]:
    """Plan one convolution and count."""
    graph = convolution(side, channels, filters)
    system = load_system("one-serenity").with_overrides(ii=ii)
    design = plan(graph, system, PlanOptions(outputs=OutputForm.STREAM))
    buffers = [k.spec for f in design.fpgas for k in f.kernels if isinstance(k.spec, WindowBuffer)]
    (fold,) = (k for f in design.fpgas for k in f.kernels if isinstance(k.spec, Streamed))
    assert isinstance(fold.spec, Streamed)
    assert isinstance(fold.spec.inner, FoldOutputs | FoldInputs | MatvecAdders)
    own = slice_of(fold.spec, graph).graph
    ways = packing(own, fold.spec.inner.linear, design.timing).ways
    multiplications = side * side * KERNEL * KERNEL * channels * filters
    return {
        "image": f"{side} x {side} x {channels} -> {filters}",
        "ii": ii,
        "kernel": design.planned(fold).kind_name,
        "pixels_a_beat": pixels_a_beat(design, channels),
        "buffer_bits": sum(design.kernels.of(spec).buffer_bits for spec in buffers),
        "buffer_limit": ((KERNEL - 1) * side + KERNEL + pixels_a_beat(design, channels) - 1) * channels * BITS,
        "dsp": fold.resources.dsp,
        "dsp_least": math.ceil(multiplications / (ii * ways)),
        "products_per_dsp": ways,
        "cycles_after": cycles_after(design),
        "latency_cycles": design.latency_cycles,
    }


def pixels_a_beat(design: Design, channels: int) -> int:
    (entering,) = (s for s in design.fpgas[0].signals if s.value == "x" and s.first_cycle == 0)
    return entering.layout.slot_count // channels


def cycles_after(design: Design) -> int:
    """Cycles from the last beat of the input to the last beat of the result."""
    (entering,) = (s for s in design.fpgas[0].signals if s.value == "x" and s.first_cycle == 0)
    leaving = design.fpgas[-1].signal[design.outputs[0].signal]
    end = design.fpgas[-1].offset_cycles + leaving.first_cycle + leaving.layout.cycles[-1]
    return end - entering.layout.cycles[-1]


def print_table(rows: list[dict[str, Any]]) -> None:
    print(
        f"{'image':20}{'II':>6}  {'kernel':20}{'pixels/beat':>12}{'buffer bits':>13}{'limit':>15}"
        f"{'DSPs':>7}{'least':>7}{'per DSP':>9}{'after last pixel':>18}"
    )
    for row in rows:
        print(
            f"{row['image']:20}{row['ii']:6}  {row['kernel']:20}{row['pixels_a_beat']:12}{row['buffer_bits']:13,}"
            f"{row['buffer_limit']:15,}"
            f"{row['dsp']:7}{row['dsp_least']:7}{row['products_per_dsp']:9}{row['cycles_after']:11} cycles"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true", help="machine-readable result")
    arguments = parser.parse_args()
    rows = [measured(*case) for case in CASES]
    if arguments.json:
        print(json.dumps(rows, indent=1))
    else:
        print_table(rows)
    over = [row["buffer_bits"] > row["buffer_limit"] or row["dsp"] > MORE_DSPS * row["dsp_least"] for row in rows]
    return 1 if any(over) else 0


if __name__ == "__main__":
    raise SystemExit(main())
