"""What an unrolled matrix costs, from its digits and the widths of its inputs: no adder graph is solved.

Trees of additions without shared sums (`trees`), times what sharing leaves of them, and what biases cost beside.
Both are fitted (least squares) to adder graphs solved with alkaid 0.8.2: 37 layers of two HGQ2 jet networks and of two
networks quantized to 3 to 8 bits. LUTs of whole networks then differ by up to 4 % from those planned, of a layer by up
to 17 % (8 % from 4 bits on). Flip-flops are rougher, up to a third more or less; LUT + FF / 2 of a network is within
11 %, at two adder levels a stage as well as at five.
"""

from __future__ import annotations

import math

from metronn.ir.graph import Graph
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.timing import Timing
from metronn.plan.kernels.adders.matvec import row_count, row_matrix
from metronn.plan.kernels.adders.tails import tail_of
from metronn.plan.kernels.adders.trees import Trees, trees
from metronn.plan.kernels.elementwise import expanded, node_dsps, node_logic, node_luts
from metronn.plan.kernels.spec import MatvecAdders

SHARED = (-0.3884, -0.1060, -0.1708, 0.2313, 0.1490)
"""log2 of the LUTs with shared sums over those without: constant, per log2 of the outputs, of the digits of an output,
of the inputs, and of the digits of a weight."""
BIAS = (1.1687, 0.0768, -0.0385, -0.2122)
"""LUTs per bit of an output for its bias: constant, per log2 of the outputs, of their digits, and of the inputs."""
MOST_BIAS = 0.7
JOINED = (0.0, 0.29, 0.43, 0.51, 0.61, 0.62)
"""LUTs more, by the levels of a stage, where an adder takes no other logic: `Netlist.joined_bits` of six layers."""
DEEP_DIGITS = 700
"""Digits of a matrix above which sharing makes it a level deeper than its deepest output alone."""
FIRST, SECOND, LATER = 3.0, 0.3, 1.05
"""Bits alive behind the first and second level over those of the trees: these powers of what sharing leaves; behind
later levels (not the last one) this factor."""


def unrolled_cost(spec: MatvecAdders, graph: Graph, timing: Timing) -> Resources:
    """Estimate an unrolled matrix and its epilogue: LUTs, flip-flops, and DSP blocks of epilogue products."""
    own, nodes = expanded(graph, spec.epilogue) if spec.epilogue else (graph, ())
    kind = graph.type_of(spec.linear)
    reach = list(zip(kind.range.los(kind.size), kind.range.his(kind.size), strict=True))
    result_bits = graph.type_of((spec.linear, *spec.epilogue)[-1]).total_bits
    luts, registers, called = 0.0, float(result_bits), 0
    levels_of_stage = timing.levels(kind.range.width_bits)
    joined = 0.0 if timing.fabric.adder_takes_logic else JOINED[min(levels_of_stage, len(JOINED)) - 1]
    for row in range(row_count(spec, graph)):
        weight, bounds, bias = row_matrix(spec, graph, row)
        laid = trees(weight, bounds)
        first, biased, levels = row * len(bias), 0, 0
        for column, read in enumerate((weight != 0).any(axis=0)):
            if not read:
                continue
            element = first + column
            tail = tail_of(graph, spec.epilogue, spec.linear, element, reach[element])
            biased += bool(bias[column] + (tail.offset if tail else 0))
            if nodes and tail is None:
                called += 1
                levels = sum(node_logic(own, name, timing).ps > 0 for name in nodes)
        luts += _sums(laid, biased) * (1.0 + joined)
        registers += _registers(laid, levels, result_bits / row_count(spec, graph), levels_of_stage)
    part = called / kind.size
    luts += sum(math.ceil(node_luts(own, name, timing.fabric) * part) for name in nodes)
    dsps = sum(math.ceil(node_dsps(own, name, timing.fabric) * part) for name in nodes)
    return Resources(lut=round(luts), ff=round(registers), dsp=dsps)


def _shared(laid: Trees) -> float:
    """Return what sharing leaves of the LUTs of the trees, at most 1."""
    counts = (laid.outputs, laid.digits / laid.outputs, laid.inputs, laid.digits / laid.weights)
    constant, *factors = SHARED
    exponent = constant + sum(f * math.log2(count) for f, count in zip(factors, counts, strict=True))
    return min(1.0, float(2.0**exponent))


def _sums(laid: Trees, biased: int) -> float:
    """LUTs of all additions, biases of so many outputs among them."""
    if not laid.digits:
        return 0.0
    counts = (laid.outputs, laid.digits / laid.outputs, laid.inputs)
    constant, *factors = BIAS
    each = constant + sum(f * math.log2(count) for f, count in zip(factors, counts, strict=True))
    return laid.luts * _shared(laid) + max(0.0, min(MOST_BIAS, each)) * laid.bits[-1] * biased / laid.outputs


def _registers(laid: Trees, levels: int, result_bits: float, per_stage: int) -> float:
    """Flip-flops between the stages of the sums and of so many levels behind them; not those of the result.

    `per_stage`: levels of a stage.
    """
    if not laid.digits:
        return 0.0
    depth = math.ceil(math.log2(laid.most)) + (laid.digits > DEEP_DIGITS)
    stages = max(1, math.ceil((depth + levels) / per_stage))
    ends = [stage * per_stage for stage in range(1, stages)]
    behind = math.sqrt(laid.bits[-1] * max(1.0, result_bits))  # bits between the sums and the result
    return sum(_alive(laid, level, depth) if level <= depth else behind for level in ends)


def _alive(laid: Trees, level: int, depth: int) -> float:
    """Bits alive behind a level of a shared graph of this depth."""
    if level >= depth:
        return float(laid.bits[-1])
    place = level * (len(laid.bits) - 1) / depth
    before = int(place)
    near, far = laid.bits[before], laid.bits[min(before + 1, len(laid.bits) - 1)]
    without: float = near * math.pow(far / near, place - before)
    match level:
        case 1:
            factor = math.pow(_shared(laid), FIRST)
        case 2:
            factor = math.pow(_shared(laid), SECOND)
        case _:
            factor = LATER
    return max(without * factor, min(laid.input_bits, laid.bits[-1]))
