"""Events per second of the emulators and of hls4ml's compiled C simulation of the same quantized network.

One run on one machine measures the NumPy emulator, the compiled emulator on one and two threads, and hls4ml (when
installed), on the same events; it checks that all outputs are equal bit for bit, and prints medians and ratios:

    python benchmarks/emulator.py [--network dense|jets] [--model GRAPH.txt] [--json]

Without --model: networks with random weights, 8 bits. `dense` has the size of the muon network: 36 inputs, 10 layers
of 128 neurons, 43 outputs; `jets` is the shape of examples/jet_images: a 40 x 40 image, three 3 x 3 convolutions of
8, 16 and 16 channels with 2 x 2 max pooling behind each, dense layers of 32 and 1. A table at the end of a network
(sigmoid) is left out for all: hls4ml's is another one. Exit status 1 when an output differs.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from metronn.emulate.arithmetic import linear_reach
from metronn.emulate.native import NativeEmulator
from metronn.emulate.numpy import emulate
from metronn.errors import MetronnError, ModelError
from metronn.ir.arrays import Array, IntArray
from metronn.ir.graph import Graph, GraphBuilder, Node, Output
from metronn.ir.ops import (
    Constant,
    Extremum,
    ExtremumKind,
    Input,
    Linear,
    Lookup,
    Overflow,
    Padding,
    Reduce,
    ReduceKind,
    Requantize,
    Rewire,
    Rounding,
    Window,
    op_name,
    operands,
)
from metronn.ir.text import from_text
from metronn.ir.types import Range, width_bits


def random_network(inputs: int, width: int, layers: int, outputs: int, bits: int, seed: int) -> Graph:
    """Build a fully connected ReLU network with random weights, `bits` wide weights and activations."""
    rng = np.random.default_rng(seed)
    builder = GraphBuilder()
    x = builder.add(Input(shape=(inputs,), range=Range.fixed(bits, bits - 2)), "hits")
    zero = builder.add(Constant(values=IntArray.of(np.array(0))), "zero")
    top = (1 << (bits - 1)) - 1
    sizes = [inputs, *[width] * layers, outputs]
    for layer, (n_in, n_out) in enumerate(itertools.pairwise(sizes), start=1):
        weight = np.clip(np.rint(rng.normal(0, 0.35 * top, (n_in, n_out))), -top, top).astype(np.int64)
        bias = rng.integers(-8 * top, 8 * top, n_out)
        dense = Linear(x=x, weight=IntArray.of(weight), bias=IntArray.of(bias), weight_frac=bits - 1)
        x = builder.add(dense, f"dense{layer}")
        if layer <= layers:
            x = builder.add(Extremum(x=x, y=zero), f"relu{layer}")
            out = Range.fixed(bits, bits - 4, signed=False)
            x = builder.add(Requantize(x=x, out=out, rounding=Rounding.RND, overflow=Overflow.SAT), f"quantized{layer}")
    builder.output("pt", x)
    return builder.build()


def random_image_network(side: int, channels: tuple[int, ...], hidden: int, bits: int, seed: int) -> Graph:
    """Build a convolutional ReLU network with max pooling behind every convolution, then two dense layers."""
    rng = np.random.default_rng(seed)
    builder = GraphBuilder()
    x = builder.add(Input(shape=(side, side, 1), range=Range.fixed(bits, bits, signed=False)), "image")
    zero = builder.add(Constant(values=IntArray.of(np.array(0))), "zero")
    top = (1 << (bits - 1)) - 1
    activation = Range.fixed(bits, bits - 3, signed=False)

    def linear(x: str, outputs: int, name: str) -> str:
        n_in = builder.types[x].shape[-1]
        weight = np.clip(np.rint(rng.normal(0, 0.9 * top / np.sqrt(n_in), (n_in, outputs))), -top, top)
        bias = IntArray.of(rng.integers(-8 * top, 8 * top, outputs))
        return builder.add(
            Linear(x=x, weight=IntArray.of(weight.astype(np.int64)), bias=bias, weight_frac=bits - 1), name
        )

    def activated(x: str, name: str) -> str:
        x = builder.add(Extremum(x=x, y=zero), f"{name}_relu")
        op = Requantize(x=x, out=activation, rounding=Rounding.RND, overflow=Overflow.SAT)
        return builder.add(op, f"{name}_quantized")

    ones, zeros = (1, 1), (0, 0)
    for layer, outputs in enumerate(channels, start=1):
        name = f"conv{layer}"
        window = Window(x=x, kernel=(3, 3), strides=ones, dilations=ones, before=ones, after=ones)
        x = activated(linear(builder.add(window, f"{name}_window"), outputs, name), name)
        pool = Window(
            x=x, kernel=(2, 2), strides=(2, 2), dilations=ones, before=zeros, after=zeros, padding=Padding.LOWEST
        )
        x = builder.add(pool, f"pool{layer}_window")
        shape = (*builder.types[x].shape[:-1], 4, outputs)
        index = IntArray.of(np.arange(np.prod(shape)).reshape(shape))
        x = builder.add(Rewire(xs=(x,), index=index, shape=shape), f"pool{layer}_split")
        x = builder.add(Reduce(x=x, axes=(2,), kind=ReduceKind.MAX), f"pool{layer}")
    size = builder.types[x].size
    x = builder.add(Rewire(xs=(x,), index=IntArray.of(np.arange(size)), shape=(size,)), "flat")
    x = activated(linear(x, hidden, "dense1"), "dense1")
    builder.output("top", linear(x, 1, "dense2"))
    return builder.build()


def without_last_table(graph: Graph) -> Graph:
    """Return the network without the table behind its only output, if there is one."""
    last = graph.by_name[graph.outputs[0].value]
    if len(graph.outputs) != 1 or not isinstance(last.op, Lookup):
        return graph
    nodes = tuple(node for node in graph.nodes if node.name != last.name)
    return Graph(nodes=nodes, outputs=(Output(name=graph.outputs[0].name, value=last.op.x),))


def random_codes(graph: Graph, events: int, seed: int) -> dict[str, Array]:
    """Draw codes of every input, uniform in each element's range."""
    rng = np.random.default_rng(seed)
    return {
        node.name: rng.integers(
            node.type.range.lo_array(node.type.shape),
            node.type.range.hi_array(node.type.shape) + 1,
            size=(events, *node.type.shape),
        )
        for node in graph.inputs
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One hls4ml layer: dense or convolution (`linear`), max pooling (`window` alone), rounding, or a flat view."""

    name: str
    linear: Linear | None = None
    window: Window | None = None
    relu: bool = False
    flat: bool = False
    precision: dict[str, str]


def fixed_type(lo: int, hi: int, frac: int, modes: str = "") -> str:
    """Return the hls4ml name of the type that holds codes from lo to hi with `frac` fraction bits."""
    width = width_bits(lo, hi)
    return f"{'' if lo < 0 else 'u'}fixed<{width},{width - frac}{modes}>"


def stages(graph: Graph) -> tuple[Stage, ...]:
    """Read the graph as a chain of layers. Raises ModelError when it is none that hls4ml has."""
    found: list[Stage] = []
    relu = False
    window: Window | None = None
    previous = graph.inputs[0].name
    held = ""
    for node in graph.nodes:
        op = node.op
        if isinstance(op, Input | Constant):
            held = held or fixed_type(*_bounds(node), node.type.range.max_frac) if isinstance(op, Input) else held
            continue
        if operands(op)[0] != previous:
            raise ModelError(f"{node.name}: reads {operands(op)[0]}; hls4ml is measured on chains of layers only")
        previous = node.name
        match op:
            case Window():
                window = _known_window(graph, node, op)
            case Linear():
                found.append(_linear_stage(graph, node, op, window))
                held, window = found[-1].precision["result"], None
            case Rewire() if window is not None and _keeps_places(graph, op):
                pass
            case Reduce() if window is not None and _pools(op, window):
                found.append(Stage(name=node.name, window=window, precision={"result": held, "accum": held}))
                window = None
            case Rewire() if _keeps_places(graph, op) and len(op.shape) == 1:
                found.append(Stage(name=node.name, flat=True, precision={"result": held}))
            case Extremum() if _is_relu(graph, op):
                relu = True
            case Requantize():
                found.append(_activation_stage(node, op, relu))
                held, relu = found[-1].precision["result"], False
            case _:
                raise ModelError(f"{node.name}: {op_name(op)} has no counterpart here in hls4ml")
    if relu or previous != graph.outputs[0].value or len(graph.inputs) != 1:
        raise ModelError("hls4ml is measured on networks of one input whose last layer is linear or quantized")
    return tuple(found)


def _bounds(node: Node) -> tuple[int, int]:
    return node.type.range.lowest, node.type.range.highest


def _keeps_places(graph: Graph, op: Rewire) -> bool:
    return len(op.xs) == 1 and op.index.ints() == list(range(graph.type_of(op.xs[0]).size))


def _pools(op: Reduce, window: Window) -> bool:
    return op.kind is ReduceKind.MAX and op.axes == (len(window.kernel),) and window.kernel == window.strides


def _known_window(graph: Graph, node: Node, op: Window) -> Window:
    """Return a window of an image that Keras can ask for: no padding, or padding `same`."""
    image = graph.type_of(op.x).shape
    total = [max(0, (-(-n // s) - 1) * s + k - n) for n, k, s in zip(image[:-1], op.kernel, op.strides, strict=True)]
    same = (tuple(n // 2 for n in total), tuple(n - n // 2 for n in total))
    paddings = (((0, 0), (0, 0)), same)
    if len(image) != 3 or op.dilations != (1, 1) or (op.before, op.after) not in paddings:
        raise ModelError(f"{node.name}: hls4ml is measured on windows of an image, undilated, valid or same")
    return op


def _is_relu(graph: Graph, op: Extremum) -> bool:
    other = graph.by_name[op.y].op
    return op.kind is ExtremumKind.MAX and isinstance(other, Constant) and not any(other.values.ints())


def _linear_stage(graph: Graph, node: Node, op: Linear, window: Window | None) -> Stage:
    reach = linear_reach(op, graph.type_of(op.x))
    frac = node.type.range.max_frac
    total = fixed_type(-reach - 1, reach, frac)
    precision = {
        "weight": fixed_type(*op.weight.bounds(), op.weight_frac),
        "bias": fixed_type(*op.bias.bounds(), frac),
        "accum": total,
        "result": total,
    }
    return Stage(name=node.name, linear=op, window=window, precision=precision)


def _activation_stage(node: Node, op: Requantize, relu: bool) -> Stage:
    if not op.out.uniform:
        raise ModelError(f"{node.name}: ranges differ by element; hls4ml has one type for a layer")
    lo, hi = op.out.lowest, op.out.highest
    full = Range.fixed(width_bits(lo, hi), 0, signed=lo < 0)
    overflow = "SAT" if op.overflow is Overflow.SAT_SYM and lo == 0 else op.overflow.value
    if overflow != "SAT_SYM" and (lo, hi) != (full.lowest, full.highest):
        raise ModelError(f"{node.name}: bounds {lo}..{hi} are no full range; ap_fixed has none such")
    modes = f",{op.rounding.value},{overflow}"
    return Stage(name=node.name, relu=relu, precision={"result": fixed_type(lo, hi, op.out.max_frac, modes)})


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Send what libraries and their compilers print to standard error."""
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        sys.stdout.flush()
        os.dup2(kept, 1)
        os.close(kept)


def plain(name: str) -> str:
    """Return a name that hls4ml can use as a C++ identifier."""
    return name.replace(".", "_")


def keras_layer(stage: Stage, name: str) -> Any:  # noqa: ANN401 (Keras has no types)
    """Return the layer of a stage, without weights."""
    import keras  # type: ignore[import-untyped]

    if stage.window is not None:
        padded = any(stage.window.before) or any(stage.window.after)
        options = {"strides": stage.window.strides, "padding": "same" if padded else "valid", "name": name}
        if stage.linear is None:
            return keras.layers.MaxPooling2D(stage.window.kernel, **options)
        return keras.layers.Conv2D(stage.linear.weight.shape[1], stage.window.kernel, **options)
    if stage.linear is not None:
        return keras.layers.Dense(stage.linear.weight.shape[1], name=name)
    if stage.flat:
        return keras.layers.Flatten(name=name)
    return keras.layers.Activation("relu" if stage.relu else "linear", name=name)


def build_hls4ml(graph: Graph, folder: Path, strategy: str, io_type: str) -> Any:  # noqa: ANN401 (hls4ml has no types)
    """Convert the network through Keras with exact types for every layer, and compile its C simulation."""
    os.environ.setdefault("KERAS_BACKEND", "jax")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import hls4ml
    import keras

    chain = stages(graph)
    source = graph.inputs[0]
    x = entry = keras.Input(source.type.shape, name=source.name)
    layers = []
    for stage in chain:
        layer = keras_layer(stage, plain(stage.name))
        x = layer(x)
        layers.append(layer)
    for stage, layer in zip(chain, layers, strict=True):
        if (op := stage.linear) is not None:
            frac = graph.type_of(stage.name).range.max_frac
            kernel = (*stage.window.kernel, -1, op.weight.shape[1]) if stage.window is not None else op.weight.shape
            weight = np.ldexp(op.weight.array, -op.weight_frac).reshape(kernel)
            layer.set_weights([weight, np.ldexp(op.bias.array, -frac)])
    model = keras.Model(entry, x)
    config = hls4ml.utils.config_from_keras_model(model, granularity="name", backend="Vitis")
    config["Model"]["Strategy"] = strategy
    inputs = source.type.range
    entry_type = fixed_type(inputs.lowest, inputs.highest, inputs.max_frac)
    config["LayerName"][source.name]["Precision"] = {"result": entry_type}
    for stage in chain:
        settings = config["LayerName"].setdefault(plain(stage.name), {})
        settings["Precision"] = dict(stage.precision)
        settings["Strategy"] = strategy
        settings.pop("Trace", None)
        following = f"{plain(stage.name)}_linear"
        if stage.linear is not None and following in config["LayerName"]:
            config["LayerName"][following]["Precision"] = {"result": stage.precision["result"]}
    converted = hls4ml.converters.convert_from_keras_model(
        model, hls_config=config, output_dir=str(folder), backend="Vitis", io_type=io_type, bit_exact=False
    )
    converted.compile()
    return converted


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What one contestant did."""

    name: str
    events: int
    build_s: float
    rates: tuple[float, ...]
    cpu_rates: tuple[float, ...]
    differing: int
    outputs: int

    @property
    def median(self) -> float:
        """Median events per second."""
        return statistics.median(self.rates)

    @property
    def cpu_median(self) -> float:
        """Median events per second of processor time, all threads together: what a busy machine does not change."""
        return statistics.median(self.cpu_rates)


def measure(name: str, run: Callable[[], Array], expected: Array, repeats: int, build_s: float = 0.0) -> Figure:
    """Time `run` a few times after one warm-up, and count the output codes that differ."""
    events = len(expected)
    rates, cpu_rates = [], []
    found = run()
    for _ in range(repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        found = run()
        rates.append(events / (time.perf_counter() - start))
        cpu_rates.append(events / (time.process_time() - cpu_start))
    differing = int((found.reshape(expected.shape) != expected).sum())
    return Figure(
        name=name,
        events=events,
        build_s=build_s,
        rates=tuple(rates),
        cpu_rates=tuple(cpu_rates),
        differing=differing,
        outputs=expected.size,
    )


def contest(graph: Graph, arguments: argparse.Namespace) -> list[Figure]:
    """Measure every contestant on the same events."""
    codes = random_codes(graph, arguments.events, arguments.seed)
    output = graph.outputs[0].name
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        native = NativeEmulator.build(graph, cache=Path(folder))
        build_s = time.perf_counter() - start
        some = {name: array[: arguments.numpy_events] for name, array in codes.items()}
        expected = emulate(graph, some)[output]
        everything = native.run(codes)[output]
        figures.append(measure("NumPy emulator", lambda: emulate(graph, some)[output], expected, arguments.repeats))
        for threads in (1, 2):

            def run(threads: int = threads) -> Array:
                return native.run(codes, threads=threads)[output]

            label = f"compiled emulator, {threads} thread{'s' if threads > 1 else ''}"
            figure = measure(label, run, everything, arguments.repeats, build_s)
            differing = int((everything[: len(expected)] != expected).sum()) + figure.differing
            figures.append(replace(figure, differing=differing))
        if arguments.without_hls4ml or importlib.util.find_spec("hls4ml") is None:
            return figures
        with quiet():
            start = time.perf_counter()
            converted = build_hls4ml(graph, Path(folder) / "hls4ml", arguments.strategy, arguments.io_type)
            build_s = time.perf_counter() - start
        source = graph.inputs[0]
        few = codes[source.name][: arguments.hls4ml_events]
        values = np.ascontiguousarray(np.ldexp(few, -source.type.range.frac_array(source.type.shape)), dtype=np.float64)
        frac = graph.type_of(graph.outputs[0].value).range.max_frac

        def predict() -> Array:
            with quiet():
                return np.asarray(np.ldexp(converted.predict(values), frac))

        figures.append(measure("hls4ml C simulation", predict, everything[: len(few)], arguments.repeats, build_s))
    return figures


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="text form of an integer graph (graph.txt of a build)")
    parser.add_argument("--network", choices=("dense", "jets"), help="one of the random networks only")
    parser.add_argument("--events", type=int, help="for the compiled emulator, default 200,000 (jets: 20,000)")
    parser.add_argument("--numpy-events", type=int, help="default 10,000 (jets: 1,000)")
    parser.add_argument("--hls4ml-events", type=int, help="default 500 (jets: 40)")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bits", type=int, default=8, help="width of the random network's weights and activations")
    parser.add_argument("--strategy", default="Latency", choices=("Latency", "Resource"), help="hls4ml's strategy")
    parser.add_argument(
        "--io-type", choices=("io_parallel", "io_stream"), help="hls4ml's, default io_parallel (jets: io_stream)"
    )
    parser.add_argument("--without-hls4ml", action="store_true")
    parser.add_argument("--json", action="store_true", help="machine-readable result")
    return parser.parse_args()


def networks(arguments: argparse.Namespace) -> Iterator[tuple[str, Graph]]:
    """Yield what is to be measured, with a title."""
    if arguments.model is not None:
        graph = from_text(arguments.model.read_text(encoding="utf-8"))
        yield str(arguments.model), without_last_table(graph)
        return
    if arguments.network != "jets":
        yield "dense", random_network(36, 128, 10, 43, arguments.bits, arguments.seed)
    if arguments.network != "dense":
        yield "jets", random_image_network(40, (8, 16, 16), 32, arguments.bits, arguments.seed)


def with_counts(arguments: argparse.Namespace, graph: Graph) -> argparse.Namespace:
    """Fill in what was not given and depends on the network."""
    image = len(graph.inputs[0].type.shape) > 1
    defaults = {
        "events": 20_000 if image else 200_000,
        "numpy_events": 1_000 if image else 10_000,
        "hls4ml_events": 40 if image else 500,
        "io_type": "io_stream" if image else "io_parallel",
    }
    given = vars(arguments)
    return argparse.Namespace(
        **given | {name: value if given[name] is None else given[name] for name, value in defaults.items()}
    )


def show(title: str, figures: list[Figure], repeats: int) -> None:
    """Print a table."""
    slowest = figures[-1]
    print(
        f"{title:30}{'events/s':>10}{'min':>10}{'max':>10}{'ratio':>8}{'per CPU s':>11}{'ratio':>8}{'build':>8}"
        "  that differ"
    )
    for f in figures:
        print(
            f"{f.name:30}{f.median:10,.0f}{min(f.rates):10,.0f}{max(f.rates):10,.0f}"
            f"{f.median / slowest.median:8.1f}{f.cpu_median:11,.0f}{f.cpu_median / slowest.cpu_median:8.1f}"
            f"{f.build_s:7.1f}s  {f.differing} of {f.outputs} outputs"
        )
    print(f"ratio: to {slowest.name}; medians of {repeats} runs")


def main() -> int:
    """Measure, print, and return the exit status."""
    arguments = parsed()
    rows: dict[str, list[dict[str, Any]]] = {}
    differing = 0
    try:
        for title, graph in networks(arguments):
            figures = contest(graph, with_counts(arguments, graph))
            rows[title] = [asdict(f) | {"median": f.median, "cpu_median": f.cpu_median} for f in figures]
            differing += sum(f.differing for f in figures)
            if not arguments.json:
                show(title, figures, arguments.repeats)
    except (MetronnError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, MetronnError) else 2
    if arguments.json:
        print(json.dumps(rows, indent=1))
    return 1 if differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
