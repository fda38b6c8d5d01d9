"""Both emulators on networks with windows: against the definition, against one another, and within bounded memory."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from native_graphs import collected, random_codes
from test_native import QUICK, STRICT, _lines, assert_equal, build_all
from window_graphs import upsampled, window_graphs

from metronn.emulate import numpy as numpy_emulator
from metronn.emulate.native import generate, write_files
from metronn.emulate.native.fuse import fuse
from metronn.emulate.numpy import emulate
from metronn.ir.arrays import IntArray
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import (
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
from metronn.ir.windows import window_index

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")


def image_network(side: int, channels: tuple[int, ...], seed: int = 1) -> Graph:
    """Convolutions with ReLU and pooling between them, and a dense layer."""
    rng = np.random.default_rng(seed)
    builder = GraphBuilder()
    x = builder.add(Input(shape=(side, side, 1), range=Range.fixed(8, 6, signed=False)), "image")
    zero = builder.add(Constant(values=IntArray.of(np.array(0))), "zero")
    quantized = Range.fixed(8, 5, signed=False)
    for outputs in channels:
        inputs = builder.types[x].shape[-1]
        x = builder.add(
            Window(x=x, kernel=(3, 3), strides=(1, 1), dilations=(1, 1), before=(1, 1), after=(1, 1)), "window"
        )
        weight = IntArray.of(rng.integers(-127, 128, (9 * inputs, outputs)))
        x = builder.add(
            Linear(x=x, weight=weight, bias=IntArray.of(rng.integers(-99, 99, outputs)), weight_frac=9), "c"
        )
        x = builder.add(Extremum(x=x, y=zero), "relu")
        x = builder.add(Requantize(x=x, out=quantized, rounding=Rounding.RND, overflow=Overflow.SAT), "bytes")
        pool = Window(
            x=x,
            kernel=(2, 2),
            strides=(2, 2),
            dilations=(1, 1),
            before=(0, 0),
            after=(0, 0),
            padding=Padding.LOWEST,
        )
        x = builder.add(pool, "pool_window")
        shape = (*builder.types[x].shape[:-1], 4, outputs)
        x = builder.add(Rewire(xs=(x,), index=IntArray.of(np.arange(np.prod(shape)).reshape(shape)), shape=shape), "s")
        x = builder.add(Reduce(x=x, axes=(2,), kind=ReduceKind.MAX), "pool")
    size = builder.types[x].size
    x = builder.add(Rewire(xs=(x,), index=IntArray.of(np.arange(size)), shape=(size,)), "flat")
    x = builder.add(Linear(x=x, weight=IntArray.of(rng.integers(-9, 9, (size, 3))), bias=IntArray.of([1, 2, 3])), "y")
    builder.output("y", x)
    return builder.build()


@pytest.mark.random
@pytest.mark.parametrize("graph", collected(window_graphs(), 25), ids=str)
def test_chunks_and_fused_windows_change_nothing(graph: Graph, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = random_codes(graph, 23, 1)
    expected = emulate(graph, codes, lambda node, codes: None)
    for chunk_bytes in (1, 50_000, 2**40):
        monkeypatch.setattr(numpy_emulator, "CHUNK_BYTES", chunk_bytes)
        found = emulate(graph, codes)
        assert list(found) == list(expected)
        for name, array in expected.items():
            assert found[name].dtype == array.dtype and np.array_equal(found[name], array)


@pytest.mark.random
@pytest.mark.parametrize("graph", collected(window_graphs(), 25), ids=str)
def test_windows_are_what_their_map_says(graph: Graph) -> None:
    codes = random_codes(graph, 9, 2)
    seen: dict[str, np.ndarray] = {}
    emulate(graph, codes, lambda node, array: seen.setdefault(node.name, array) is None)
    windows = [node for node in graph.nodes if isinstance(node.op, Window)]
    assert windows
    for node in windows:
        assert isinstance(node.op, Window)
        x = graph.type_of(node.op.x)
        fill = x.range.lowest if node.op.padding is Padding.LOWEST else 0
        flat = np.array([[*map(int, event.ravel()), fill] for event in seen[node.op.x]], dtype=object)
        assert (flat[:, window_index(node.op, x.shape)] == seen[node.name]).all()


def test_tap_sees_windows_and_all_events_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = image_network(4, (2,))
    monkeypatch.setattr(numpy_emulator, "CHUNK_BYTES", 1)
    sizes: list[tuple[str, int]] = []
    emulate(graph, random_codes(graph, 7, 0), lambda node, codes: sizes.append((node.name, len(codes))))
    assert [name for name, _ in sizes] == [node.name for node in graph.nodes]
    assert {count for name, count in sizes if name != "zero"} == {7}


def test_constant_outputs_have_one_event_in_any_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numpy_emulator, "CHUNK_BYTES", 1)
    builder = GraphBuilder()
    builder.output("y", builder.add(Input(shape=(2,), range=Range(0, 3)), "x"))
    builder.output("five", builder.add(Constant(values=IntArray.of([5, 5])), "five"))
    found = emulate(builder.build(), {"x": np.ones((4, 2), dtype=np.int64)})
    assert found["five"].tolist() == [[5, 5]] and found["y"].tolist() == [[1, 1]] * 4


def test_a_network_is_a_few_loops() -> None:
    """Every window goes into its reader, every activation behind it into its tiles, and reshapes cost nothing."""
    fusion = fuse(image_network(8, (4, 4)))
    assert [[node.name for node in step.nodes] for step in fusion.steps] == [
        ["image"],
        ["zero"],
        ["c", "relu", "bytes"],
        ["pool"],
        ["c_2", "relu_2", "bytes_2"],
        ["pool_2"],
        ["y"],
    ]
    assert [step.window.name for step in fusion.steps if step.window is not None] == [
        *("window", "pool_window", "window_2", "pool_window_2")
    ]
    assert fusion.aliases == {"flat": "pool_2"}


def test_sources_do_not_grow_with_the_image() -> None:
    small, large = (generate(image_network(side, (4, 4)), "n")["n_tables.hpp"] for side in (16, 64))
    weights = len(",".join("123" for _ in range(3 * 4 * 16**2)))
    assert len(large) - len(small) < 2 * weights


@pytest.mark.random
@needs_compiler
def test_random_networks_with_windows_are_bit_equal(tmp_path: Path) -> None:
    found = [upsampled(1), upsampled(3), *collected(window_graphs(), 12)]
    for seed, emulator in enumerate(build_all(found, tmp_path, (*QUICK, *STRICT))):
        assert_equal(emulator, 70, seed)


@pytest.mark.random
@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize(
    "flags", [("-O3", "-march=native"), ("-O1", "-DMETRONN_WITHOUT_BYTE_DOT"), ("-O1", "-mavx2")], ids=" ".join
)
def test_many_random_networks_with_windows_are_bit_equal(tmp_path: Path, flags: tuple[str, ...]) -> None:
    found = [image_network(12, (8, 16)), *collected(window_graphs(3), 20)]
    for seed, emulator in enumerate(build_all(found, tmp_path, (*QUICK, *STRICT, *flags))):
        assert_equal(emulator, 130, seed)


@pytest.mark.slow
@needs_compiler
def test_sanitizers_find_nothing_in_windows(tmp_path: Path) -> None:
    """The program of a small image network runs clean under the address and undefined-behaviour sanitizers."""
    graph = image_network(8, (4, 8))
    flags = ["-std=c++17", "-O1", "-pthread", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    write_files(generate(graph, "g"), tmp_path)
    subprocess.run(["g++", *flags, "-o", "g", "main.cpp", "g_emulator.cpp"], cwd=tmp_path, check=True)
    codes = random_codes(graph, 130, 0)
    command = [tmp_path / "g", "--threads", "2"]
    done = subprocess.run(command, input=_lines(codes.values(), 130), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == _lines(emulate(graph, codes).values(), 130)
