"""Elementwise functions in SystemVerilog against the NumPy emulator: every rounding, overflow, sign and width."""

from __future__ import annotations

import random
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import Chain, chains

from metronn.emit.rtl.scalar import ScalarFunction, scalar_function
from metronn.emulate.numpy import emulate
from metronn.ir.arrays import IntArray, object_array
from metronn.ir.graph import GraphBuilder
from metronn.ir.ops import (
    Add,
    Constant,
    Extremum,
    Input,
    Overflow,
    Requantize,
    Rounding,
)
from metronn.ir.types import Range
from metronn.plan.kernels.uniform import function_inputs, is_uniform, node_element
from random_tests import builds

needs_icarus = pytest.mark.skipif(
    shutil.which("iverilog") is None or shutil.which("vvp") is None, reason="Icarus Verilog is not installed"
)


def function_of(chain: Chain, element: int, name: str) -> ScalarFunction:
    """The function of one element with the graph's own bounds."""
    arguments = {}
    for value in function_inputs(chain.graph, chain.nodes):
        own = chain.graph.type_of(value).range.element(node_element(chain.graph, chain.nodes, element, value))
        arguments[value] = (own.lowest, own.highest)
    return scalar_function(name, chain.graph, chain.nodes, element, arguments)


def events_of(chain: Chain, count: int, seed: int) -> dict[str, np.ndarray]:
    """Corner and random codes of every input."""
    source = random.Random(seed)
    data = {}
    for node in chain.graph.inputs:
        los, his = node.type.range.los(node.type.size), node.type.range.his(node.type.size)
        rows = [list(los), list(his)]
        rows += [[source.randint(lo, hi) for lo, hi in zip(los, his, strict=True)] for _ in range(count - 2)]
        data[node.name] = object_array([code for row in rows for code in row], (count, *node.type.shape))
    return data


def checks(chain: Chain, function: ScalarFunction, element: int, events: dict[str, np.ndarray]) -> list[str]:
    """Statements that compare the function with the emulator, one per event."""
    expected = emulate(chain.graph, events)["y"]
    lines = []
    for event in range(len(expected)):
        values = []
        for argument in function.arguments:
            where = node_element(chain.graph, chain.nodes, element, argument.value)
            code = int(events[argument.value].reshape(len(expected), -1)[event, where])
            values.append(f"{argument.width}'h{code % (1 << argument.width):x}")
        want = int(expected.reshape(len(expected), -1)[event, element])
        assert function.result_lo <= want <= function.result_hi
        width = function.result_width
        call = f"{function.name}({', '.join(values)})"
        lines.append(
            f"    if ({call} !== {width}'h{want % (1 << width):x}) begin bad = bad + 1; "
            f'$display("{function.name} event {event}: %0d, allowed {want}", {call}); end'
        )
    return lines


def run_icarus(folder: Path, functions: list[str], statements: list[str]) -> str:
    """Run one bench in Icarus and return what it printed."""
    folder.mkdir(parents=True, exist_ok=True)
    bench = folder / "bench.sv"
    bench.write_text(
        "module bench;\n"
        + "\n".join(functions)
        + "  integer bad = 0;\n  initial begin\n"
        + "\n".join(statements)
        + '\n    $display("wrong: %0d", bad);\n  end\nendmodule\n'
    )
    built = subprocess.run(
        ["iverilog", "-g2012", "-o", str(folder / "bench.vvp"), str(bench)], capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr[:4000]
    ran = subprocess.run(["vvp", "-n", str(folder / "bench.vvp")], capture_output=True, text=True, check=True)
    return ran.stdout


@needs_icarus
@builds(4)
@given(batch=st.lists(chains(), min_size=25, max_size=25))
def test_functions_equal_the_emulator(batch: list[Chain], tmp_path_factory: pytest.TempPathFactory) -> None:
    functions, statements = [], []
    for index, chain in enumerate(batch):
        events = events_of(chain, 12, index)
        for element in range(min(2, chain.graph.type_of(chain.nodes[-1]).size)):
            function = function_of(chain, element, f"f{index}_{element}")
            result = chain.graph.type_of(chain.nodes[-1]).range.element(element)
            assert (function.result_lo, function.result_hi) == (result.lowest, result.highest)
            functions.append(function.text)
            statements += checks(chain, function, element, events)
    printed = run_icarus(tmp_path_factory.mktemp("scalar"), functions, statements)
    assert printed.strip().endswith("wrong: 0"), printed[:2000]


@needs_icarus
@pytest.mark.parametrize("wide_bits", [0, 70])
def test_every_rounding_and_overflow_exhaustively(tmp_path: Path, wide_bits: int) -> None:
    functions, statements = [], []
    for rounding in Rounding:
        for overflow in Overflow:
            for signed in (True, False):
                graph = GraphBuilder()
                x = graph.add(Input(shape=(1,), range=Range.fixed(6, 3, signed=signed)), "x")
                if wide_bits:
                    offset = IntArray.of([(5 << wide_bits) + 3])
                    x = graph.add(Add(x=x, y=graph.add(Constant(values=offset, frac=3), "c")), "wide")
                top = 3 + (5 << wide_bits >> 2 if wide_bits else 0)
                lo = 0 if overflow is Overflow.WRAP else -top
                out = Range(lo, (1 << top.bit_length()) - 1 if overflow is Overflow.WRAP else top, 1)
                y = graph.add(Requantize(x=x, out=out, rounding=rounding, overflow=overflow), "q")
                graph.output("y", y)
                chain = Chain(graph.build(), ("wide", "q") if wide_bits else ("q",))
                codes = np.arange(-32, 32) if signed else np.arange(64)
                name = f"f_{rounding.value}_{overflow.value}_{int(signed)}"
                function = function_of(chain, 0, name)
                functions.append(function.text)
                statements += checks(chain, function, 0, {"x": codes.reshape(-1, 1)})
    printed = run_icarus(tmp_path, functions, statements)
    assert printed.strip().endswith("wrong: 0"), printed[:2000]


@needs_icarus
@pytest.mark.parametrize("frac", [1, 3, 4])
def test_what_wraps_into_no_bits_is_zero(tmp_path: Path, frac: int) -> None:
    graph = GraphBuilder()
    x = graph.add(Input(shape=(1,), range=Range.fixed(6, 3)), "x")
    op = Requantize(x=x, out=Range(0, 0, frac), rounding=Rounding.RND_ZERO, overflow=Overflow.WRAP)
    graph.output("y", graph.add(op, "q"))
    chain = Chain(graph.build(), ("q",))
    function = function_of(chain, 0, "no_bits")
    printed = run_icarus(
        tmp_path, [function.text], checks(chain, function, 0, {"x": np.arange(-32, 32).reshape(-1, 1)})
    )
    assert printed.strip().endswith("wrong: 0"), printed[:2000]


def test_uniform_means_the_same_text_for_every_element() -> None:
    graph = GraphBuilder()
    x = graph.add(Input(shape=(3,), range=Range.fixed(8, 4)), "x")
    zero = graph.add(Constant(values=IntArray.of([0])), "zero")
    relu = graph.add(Extremum(x=x, y=zero), "relu")
    offsets = graph.add(Constant(values=IntArray.of([1, 2, 3])), "offsets")
    moved = graph.add(Add(x=relu, y=offsets), "moved")
    graph.output("y", moved)
    built = graph.build()
    assert is_uniform(built, (relu,))
    assert not is_uniform(built, (relu, moved))


def test_a_readable_function() -> None:
    graph = GraphBuilder()
    acc = graph.add(Input(shape=(2,), range=Range.fixed(10, 6)), "acc")
    half = graph.add(
        Requantize(x=acc, out=Range.fixed(6, 4, signed=False), rounding=Rounding.RND, overflow=Overflow.SAT),
        "act",
        "jet_dense1",
    )
    graph.output("y", half)
    function = scalar_function("jet_dense1_act", graph.build(), (half,), 0, {"acc": (-512, 511)})
    assert function.text == (
        "  function automatic logic [5:0] jet_dense1_act(input logic signed [9:0] v_acc);\n"
        "    logic signed [10:0] r_act_exact;\n"
        "    logic signed [10:0] r_act_biased;\n"
        "    logic signed [8:0] r_act_rounded;\n"
        "    begin\n"
        "      r_act_exact = 11'(v_acc);\n"
        "      r_act_biased = r_act_exact + 11'sd2;\n"
        "      r_act_rounded = 9'(r_act_biased >>> 2);\n"
        "      jet_dense1_act = 6'((r_act_rounded > 9'sd63) ? 9'sd63 : "
        "(r_act_rounded < 9'sd0) ? 9'sd0 : r_act_rounded);"
        "  // jet_dense1\n"
        "    end\n"
        "  endfunction\n"
    )
