"""The compiled emulator against the NumPy emulator: equal in every bit, for every op, at every width."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from native_graphs import collected, graphs, random_codes

from metronn.emulate.native import NativeEmulator, generate, write_files
from metronn.emulate.native.compiler import cached_library, compile_library
from metronn.emulate.numpy import emulate
from metronn.errors import ModelError, ToolError
from metronn.ir.arrays import Array, IntArray
from metronn.ir.graph import Graph, GraphBuilder
from metronn.ir.ops import Constant, Extremum, Input, Linear, Lookup, Overflow, Requantize, Rounding
from metronn.ir.text import to_text
from metronn.ir.types import Range

QUICK = ("-std=c++17", "-O0", "-fPIC", "-shared", "-pthread", "-fvisibility=hidden")
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wshadow=local", "-Werror")

needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="g++ is not installed")


def build_all(found: list[Graph], folder: Path, flags: tuple[str, ...]) -> list[NativeEmulator]:
    """Compile many graphs in one translation unit."""
    names = [f"g{index}" for index in range(len(found))]
    for graph, name in zip(found, names, strict=True):
        write_files(generate(graph, name), folder)
    unit = "".join(f'#include "{name}_emulator.cpp"\n' for name in names)
    (folder / "all.cpp").write_text(unit)
    library = compile_library(folder, ["all.cpp"], "liball.so", flags)
    return [NativeEmulator.load(graph, library, name) for graph, name in zip(found, names, strict=True)]


def assert_equal(emulator: NativeEmulator, events: int, seed: int, threads: int | None = None) -> None:
    """Both emulators give the same codes in the same dtype."""
    codes = random_codes(emulator.graph, events, seed)
    expected, found = emulate(emulator.graph, codes), emulator.run(codes, threads)
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].shape == array.shape, name
        assert (found[name] == array).all(), f"{name} of\n{to_text(emulator.graph)}"


def _lines(arrays: Iterable[Array], events: int) -> str:
    """Text form of events: one line each, all elements of all arrays."""
    rows = [np.broadcast_to(a, (events, *a.shape[1:])).reshape(events, -1) for a in arrays]
    return "".join(" ".join(str(v) for row in rows for v in row[e]) + "\n" for e in range(events))


def small_network() -> Graph:
    """Two layers with everything a dense network has."""
    rng = np.random.default_rng(5)
    builder = GraphBuilder()
    x = builder.add(Input(shape=(5,), range=Range(-8, 7, 2)), "x")
    x = builder.add(Linear(x=x, weight=IntArray.of(rng.integers(-9, 9, (5, 11))), bias=IntArray.of([3] * 11)), "hidden")
    zero = builder.add(Constant(values=IntArray.of(np.array(0))), "zero")
    x = builder.add(Extremum(x=x, y=zero), "relu")
    quantized = Requantize(x=x, out=Range(0, 63, 0), rounding=Rounding.RND_CONV, overflow=Overflow.SAT)
    x = builder.add(quantized, "hidden.quantized")
    x = builder.add(Linear(x=x, weight=IntArray.of(rng.integers(-9, 9, (11, 2))), bias=IntArray.of([0, -40])), "out")
    builder.output("score", x)
    return builder.build()


def table_with_wide_results() -> Graph:
    """Look codes up in a table whose entries need up to 151 bits."""
    builder = GraphBuilder()
    x = builder.add(Input(shape=(2,), range=Range(-3, 2)), "x")
    table = IntArray.of([(-1) ** k << (30 * k) for k in range(6)])
    builder.output("y", builder.add(Lookup(x=x, table=table), "y"))
    return builder.build()


def extreme_bytes(lowest: int, n_in: int) -> Graph:
    """Multiply bytes with weights at the ends of their range: where a saturating kernel would differ."""
    rng = np.random.default_rng(n_in)
    builder = GraphBuilder()
    x = builder.add(Input(shape=(3, n_in), range=Range(lowest, lowest + 255)), "x")
    weight = IntArray.of(rng.choice([-128, -127, -1, 0, 127], (n_in, 17)))
    bias = IntArray.of(rng.integers(-(2**20), 2**20, 17))
    builder.output("y", builder.add(Linear(x=x, weight=weight, bias=bias), "y"))
    return builder.build()


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[NativeEmulator]:
    """Compile graphs made by hand."""
    bytes_graphs = [extreme_bytes(lowest, n_in) for lowest, n_in in ((0, 9), (-128, 8), (-255, 30), (700, 1))]
    found = [small_network(), table_with_wide_results(), *bytes_graphs]
    return build_all(found, tmp_path_factory.mktemp("built"), (*QUICK, *STRICT))


@pytest.fixture
def network(built: list[NativeEmulator]) -> NativeEmulator:
    """Return the compiled small network."""
    return built[0]


@pytest.mark.random
@needs_compiler
def test_random_graphs_are_bit_equal(tmp_path: Path) -> None:
    for seed, emulator in enumerate(build_all(collected(graphs(8), 14), tmp_path, (*QUICK, *STRICT))):
        assert_equal(emulator, 70, seed)


@pytest.mark.random
@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize(
    "flags", [("-O3", "-march=native"), ("-O2", "-DMETRONN_WITHOUT_BYTE_DOT"), ("-O1", "-mavx2")], ids=" ".join
)
def test_many_random_graphs_are_bit_equal(tmp_path: Path, flags: tuple[str, ...]) -> None:
    for seed, emulator in enumerate(build_all(collected(graphs(16), 40), tmp_path, (*QUICK, *STRICT, *flags))):
        assert_equal(emulator, 200, seed)


@pytest.mark.random
@pytest.mark.slow
@needs_compiler
def test_sanitizers_find_nothing(tmp_path: Path) -> None:
    """The program of random graphs runs clean under the address and undefined-behaviour sanitizers."""
    flags = ["-std=c++17", "-O1", "-g", "-pthread", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    for index, graph in enumerate([*collected(graphs(12), 4)[2:], extreme_bytes(-128, 9)]):
        folder = tmp_path / str(index)
        write_files(generate(graph, "g"), folder)
        subprocess.run(["g++", *flags, "-o", "g", "main.cpp", "g_emulator.cpp"], cwd=folder, check=True)
        codes = random_codes(graph, 130, index)
        text = _lines(codes.values(), 130)
        done = subprocess.run([folder / "g", "--threads", "2"], input=text, capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == _lines(emulate(graph, codes).values(), 130)


@needs_compiler
@pytest.mark.parametrize("events", [0, 1, 63, 64, 65, 1000])
@pytest.mark.parametrize("threads", [None, 1, 3])
def test_any_number_of_events_and_threads(network: NativeEmulator, events: int, threads: int | None) -> None:
    assert_equal(network, events, events, threads)


@needs_compiler
def test_bad_inputs_are_model_errors(network: NativeEmulator) -> None:
    with pytest.raises(ModelError, match=r"input x: no data; found y"):
        network.run({"y": np.zeros((1, 5), dtype=np.int64)})
    with pytest.raises(ModelError, match=r"input x: shape per event is \(4,\), allowed is \(5,\)"):
        network.run({"x": np.zeros((1, 4), dtype=np.int64)})
    with pytest.raises(ModelError, match=r"input x: codes are float64, allowed are integers"):
        network.run({"x": np.zeros((1, 5))})
    codes = np.zeros((200, 5), dtype=np.int64)
    codes[150, 3] = 8
    with pytest.raises(ModelError, match=r"input x: event 150, element 3 is 8, allowed is -8 to 7"):
        network.run({"x": codes})
    with pytest.raises(ModelError, match=r"event 0, element 0 is 18446744073709551615"):
        network.run({"x": np.full((1, 5), 2**64 - 1, dtype=np.uint64)})


def test_inputs_of_different_lengths_are_a_model_error(tmp_path: Path) -> None:
    builder = GraphBuilder()
    for name in ("a", "b"):
        builder.output(f"{name}.out", builder.add(Input(shape=(), range=Range(0, 3)), name))
    emulator = NativeEmulator(builder.build(), tmp_path, None, frozenset())
    with pytest.raises(ModelError, match=r"different numbers of events: \{'a': 2, 'b': 3\}"):
        emulator.run({"a": np.zeros(2, dtype=np.int64), "b": np.zeros(3, dtype=np.int64)})


@pytest.mark.parametrize("name", ["", "9lives", "a-b", "a__b", "../a", "é"])
def test_bad_names_are_model_errors(name: str) -> None:
    with pytest.raises(ModelError, match="emulator name"):
        generate(small_network(), name)


def test_missing_compiler_is_a_tool_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(ToolError, match=r"no-such-compiler is not on PATH\. Install a C"):
        NativeEmulator.build(small_network(), cache=tmp_path)


@needs_compiler
def test_compiler_errors_are_shown(tmp_path: Path) -> None:
    (tmp_path / "bad.cpp").write_text("int main() { return nothing; }\n")
    with pytest.raises(ToolError, match=r"failed with status 1:\n.*nothing"):
        compile_library(tmp_path, ["bad.cpp"], "bad.so")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.cpp"]


@needs_compiler
def test_cache_is_used_and_may_be_shared(tmp_path: Path) -> None:
    """Several builders of the same sources at once get one library, and nothing half-made stays behind."""
    files = {"a.cpp": 'extern "C" int answer() { return 42; }\n'}

    def build(_: int) -> Path:
        return cached_library(files, ["a.cpp"], "a.so", tmp_path, QUICK)

    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(build, range(4)))
    library = found.pop()
    assert not found and [path.name for path in tmp_path.iterdir()] == [library.parent.name]
    stamp = library.stat().st_mtime_ns
    assert build(0).stat().st_mtime_ns == stamp
    assert cached_library(files, ["a.cpp"], "a.so", tmp_path, (*QUICK, "-g")) != library


@needs_compiler
@pytest.mark.parametrize("whole", [False, True])
def test_a_damaged_library_is_built_anew(tmp_path: Path, whole: bool) -> None:
    """Also one whose damage only the loader finds; in a new process, since the system opens a path once."""
    script = (
        "import sys, pathlib; sys.path.insert(0, sys.argv[1])\n"
        "from test_native import small_network, assert_equal, NativeEmulator, QUICK\n"
        "emulator = NativeEmulator.build(small_network(), cache=pathlib.Path(sys.argv[2]), flags=QUICK)\n"
        "assert_equal(emulator, 10, 0)\nprint(emulator.library)"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", script, str(Path(__file__).parent), str(tmp_path)]
    for _ in range(2):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        library = Path(done.stdout.strip())
        library.write_bytes(b"junk")
        if whole:
            contents = library.parent / "contents.json"
            contents.write_text(json.dumps({library.name: hashlib.sha256(b"junk").hexdigest()}))


@pytest.mark.slow
@needs_compiler
def test_build_finds_the_cache_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    emulator = NativeEmulator.build(small_network())
    assert emulator.library.is_relative_to(tmp_path / "metronn" / "native")
    assert_equal(emulator, 10, 0)
    there = NativeEmulator.build(small_network(), directory=tmp_path / "sources", flags=QUICK)
    assert_equal(there, 10, 0)
    assert_equal(NativeEmulator.load(small_network(), tmp_path / "sources" / "libnetwork.so"), 10, 0)
    other = NativeEmulator.build(table_with_wide_results(), directory=tmp_path / "sources", flags=QUICK)
    assert_equal(other, 10, 0)


def test_same_graph_same_bytes() -> None:
    script = (
        "import sys, hashlib; sys.path.insert(0, sys.argv[1])\n"
        "from test_native import small_network, collected, graphs, generate\n"
        "for g in [small_network(), *collected(graphs(), 5)]:\n"
        "    print(hashlib.sha256(repr(generate(g, 'n')).encode()).hexdigest())"
    )
    found = set()
    for seed in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path), "METRONN_SEED": ""}
        command = [sys.executable, "-c", script, str(Path(__file__).parent)]
        found.add(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)
    assert len(found) == 1 and len(found.pop().split()) == 6


@pytest.mark.slow
@needs_compiler
@pytest.mark.parametrize("native", ["0", "1"])
def test_program_and_binding_without_metronn(tmp_path: Path, native: str) -> None:
    """`make` gives a program and a library; both, and the Python binding, answer as the NumPy emulator does."""
    graph = small_network()
    write_files(generate(graph, "small"), tmp_path)
    subprocess.run(["make", f"NATIVE={native}"], cwd=tmp_path, check=True, capture_output=True)
    codes = random_codes(graph, 20000, 1)["x"]
    expected = emulate(graph, {"x": codes})["score"]
    text = "\n".join(" ".join(map(str, row)) for row in codes)
    shown = subprocess.run([tmp_path / "small"], input=text, capture_output=True, text=True, check=True).stdout
    assert shown.splitlines() == [" ".join(map(str, row)) for row in expected]
    raw = tmp_path / "codes.bin"
    raw.write_bytes(codes.astype("<i8").tobytes())
    subprocess.run([tmp_path / "small", "--binary", "-o", tmp_path / "answers.bin", raw], check=True)
    assert np.array_equal(np.fromfile(tmp_path / "answers.bin", dtype="<i8").reshape(-1, 2), expected)
    script = (
        "import numpy, small; codes = numpy.fromfile('codes.bin', dtype='<i8').reshape(-1, 5)\n"
        "numpy.save('answers.npy', small.run({'x': codes})['score'])"
    )
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, check=True, env={"PYTHONPATH": str(tmp_path)})
    assert np.array_equal(np.load(tmp_path / "answers.npy"), expected)


@pytest.mark.slow
@needs_compiler
def test_program_refuses_bad_events(tmp_path: Path) -> None:
    write_files(generate(small_network(), "small"), tmp_path)
    subprocess.run(["make", "CXXFLAGS=-O0", "small"], cwd=tmp_path, check=True, capture_output=True)

    def refusal(text: str, *options: str) -> str:
        command = [tmp_path / "small", *options]
        done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        return done.stderr

    assert refusal("1 2 3 4 8") == "error: input x: event 0, element 4 is 8, outside its promised range\n"
    assert refusal("1 2 3 4 5 1") == "error: event 1: the text ends at element 1 of input x\n"
    assert refusal("1 2 3 x") == "error: event 0, input x, element 3: 'x' is not an integer\n"
    assert "is wider than the input" in refusal("9223372036854775808")
    assert "the data ends after 5 of 40 bytes" in refusal("1 2 3", "--binary")
    assert refusal("", "--fast") == "error: unknown option --fast\n"
    assert "cannot read" in refusal("", "nowhere.txt")


@needs_compiler
def test_graphs_made_by_hand(built: list[NativeEmulator]) -> None:
    for emulator in built:
        assert_equal(emulator, 130, 0)


@needs_compiler
def test_library_of_another_graph_is_a_tool_error(built: list[NativeEmulator], tmp_path: Path) -> None:
    with pytest.raises(ToolError, match=r"is of graph [0-9a-f]{16}, wanted is [0-9a-f]{16}; build it again"):
        NativeEmulator.load(built[1].graph, built[0].library, "g0")
    with pytest.raises(ToolError, match=r"cannot be used: .*metronn_other_run_v1"):
        NativeEmulator.load(built[0].graph, built[0].library, "other")
    with pytest.raises(ToolError, match=r"nowhere\.so cannot be used"):
        NativeEmulator.load(built[0].graph, tmp_path / "nowhere.so")


@pytest.mark.slow
@needs_compiler
def test_bytes_are_as_exact_without_vector_instructions(tmp_path: Path) -> None:
    found = [extreme_bytes(lowest, n_in) for lowest, n_in in ((0, 9), (-128, 8), (-255, 30), (700, 1))]
    for emulator in build_all(found, tmp_path, (*QUICK, *STRICT, "-DMETRONN_WITHOUT_BYTE_DOT")):
        assert_equal(emulator, 130, 0)


def test_saturation_far_beyond_what_is_reached_needs_no_wide_integers(tmp_path: Path) -> None:
    far, kind = 1 << 200, Range(lo=-300, hi=280, frac=4)
    builder = GraphBuilder()
    x = builder.add(Input(shape=(3,), range=kind), "x")
    bounds = ((0, far), (-far, far), (-far, -4), (250, far), (-far, 0))
    for number, (lo, hi) in enumerate(bounds):
        for overflow, frac in itertools.product((Overflow.SAT, Overflow.SAT_ZERO), (1, 4, 6)):
            if overflow is Overflow.SAT_ZERO and not lo <= 0 <= hi:
                continue
            out = Range(lo=lo, hi=hi, frac=frac)
            name = f"y{number}_{overflow.name.lower()}_{frac}"
            op = Requantize(x=x, out=out, rounding=Rounding.RND, overflow=overflow)
            builder.output(name, builder.add(op, f"{name}_codes"))
    graph = builder.build()
    assert "wide<" not in generate(graph, "n")["n_emulator.cpp"]
    codes = {"x": np.arange(-300, 281)[: 580 // 3 * 3].reshape(-1, 3)}
    native = NativeEmulator.build(graph, cache=tmp_path, flags=("-std=c++17", "-O1", "-fPIC", "-shared", "-pthread"))
    expected = emulate(graph, codes)
    for name, found in native.run(codes).items():
        assert (found == expected[name]).all(), name
