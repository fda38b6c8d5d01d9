"""Adder graphs of constant matrices, from the solver of the *alkaid* library (distributed arithmetic, shared sums).

One matrix has several good graphs: fewer levels or fewer LUTs. Small matrices are solved several times, with other
options and their inputs and outputs in other orders, which alone changes the cost by a few percent; kept is every graph
that no other one beats in both. A graph is checked against its matrix before it is used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metronn.cache import entry, kind_directory
from metronn.errors import ToolError
from metronn.ir.arrays import Array, IntArray
from metronn.plan.kernels.adder_graph import (
    NOTHING,
    Adder,
    AdderGraph,
    AdderOutput,
    adder_graph_matrix,
    nonzero_digits,
)

SOLVER_VERSION = "0.8.2"
GRAPHS = "graphs.json"

SHALLOW: Mapping[str, Any] = {"hard_dc": 0, "decompose_dc": -1, "search_all_decompose_dc": False}
"""Least depth."""
FREE: Mapping[str, Any] = {"hard_dc": -1, "decompose_dc": -2, "search_all_decompose_dc": True}
"""Any depth: on layers of quantized networks up to 4 % fewer LUTs and a level or two more."""
COUNTED: Mapping[str, Any] = {**FREE, "method0": "mc"}
"""Any depth, shared sums chosen by how often they occur."""

MANY_DIGITS, SOME_DIGITS = 1000, 2500
"""Nonzero digits up to which a matrix is solved in every way, or in two: about a second at either."""
ORDERS = 6
"""Orders of inputs and outputs tried where a matrix is solved in every way; the first is as given."""

LARGEST_WORK = 5e8
"""`solving_work` of a matrix that is solved whole: about half a minute."""
LEAST_DIVIDED_WORK = 1e7
"""`solving_work` above which parts that share nothing are solved one by one: half a second."""
BLOCK_INPUTS, BLOCK_OUTPUTS = 64, 16
"""Blocks that a larger one is cut into: less than a second each."""

EXACT_WEIGHT_BITS = 23
"""The solver takes weights as float32; wider ones are given to it in digits."""

Order = npt.NDArray[np.int64]


def solve(weight: Array, bounds: Sequence[tuple[int, int]]) -> tuple[AdderGraph, ...]:
    """Return adder graphs of the integer matrix [n_in, n_out] for inputs with these code bounds, the shallowest first.

    Each has fewer LUTs than those before it. Deterministic; results are kept in the user's cache directory by content.
    Raises ToolError when the solver is missing or its answer is not the matrix.
    """
    return _solved(IntArray.of(weight), tuple(bounds))


@lru_cache(maxsize=1024)
def _solved(weight: IntArray, bounds: tuple[tuple[int, int], ...]) -> tuple[AdderGraph, ...]:
    work = solving_work(weight.array)
    if work > LARGEST_WORK or (work > LEAST_DIVIDED_WORK and len(connected_parts(weight.array)) > 1):
        return (_divided(weight.array, bounds),)
    ways = _ways(weight.array)
    key = json.dumps([SOLVER_VERSION, [[dict(options), order] for options, order in ways], weight.digest, bounds])
    return _kept_or(
        key,
        weight.array,
        lambda: _best([_solve(weight.array, bounds, options, order) for options, order in ways], bounds),
    )


def _kept_or(key: str, weight: Array, solved: Callable[[], tuple[AdderGraph, ...]]) -> tuple[AdderGraph, ...]:
    """Return the graphs of a matrix that the cache has, or solve and keep them."""
    name = hashlib.sha256(key.encode()).hexdigest()[:32]

    def make(folder: Path) -> None:
        found = solved()
        if not all(_equals(graph, weight) for graph in found):
            raise ToolError("alkaid: the adder graph found is not the matrix; report it with the layer's weights")
        _write(folder / GRAPHS, found)

    graphs = _read(entry(kind_directory("adders"), name, make) / GRAPHS)
    if not all(_equals(graph, weight) for graph in graphs):
        raise ToolError(f"{kind_directory('adders') / name}: holds the adder graph of another matrix; remove it")
    return graphs


def solving_work(weight: Array) -> float:
    """Return how long a matrix [n_in, n_out] takes to solve whole: inputs * digits**1.5.

    Fitted to dense matrices of 32 x 32 to 512 x 16 weights of 8 bits: about 0.05 us of a processor for each unit.
    """
    return float(weight.shape[0] * nonzero_digits(weight) ** 1.5)


def _divided(weight: Array, bounds: Sequence[tuple[int, int]]) -> AdderGraph:
    """Return a graph of a matrix that takes too long to solve whole, from those of its parts.

    Inputs and outputs that have nothing to do with each other (the channels of a depthwise convolution) are parts of
    their own, which costs nothing. What is still too large is cut into blocks, whose sums are not shared between
    them: about a tenth more LUTs than the whole.
    """
    whole = _Joined(weight.shape[0])
    for rows, columns in connected_parts(weight):
        part = weight[np.ix_(rows, columns)]
        if solving_work(part) <= LARGEST_WORK:
            graph = _solved(IntArray.of(part), tuple(bounds[k] for k in rows))[0]
            whole.add(graph, rows, columns)
            continue
        for first in range(0, len(columns), BLOCK_OUTPUTS):
            some = columns[first : first + BLOCK_OUTPUTS]
            for start in range(0, len(rows), BLOCK_INPUTS):
                few = rows[start : start + BLOCK_INPUTS]
                whole.add(_block(IntArray.of(weight[np.ix_(few, some)]), tuple(bounds[k] for k in few)), few, some)
    graph = whole.graph(weight.shape[1])
    if not _equals(graph, weight):
        raise ToolError("the adder graph joined of parts is not the matrix; report it with the layer's weights")
    return graph


@lru_cache(maxsize=1024)
def _block(weight: IntArray, bounds: tuple[tuple[int, int], ...]) -> AdderGraph:
    """Return the graph of one block, solved in the shallow way only."""
    key = json.dumps([SOLVER_VERSION, [[dict(SHALLOW), 0]], weight.digest, bounds])
    return _kept_or(key, weight.array, lambda: (_solve(weight.array, bounds, SHALLOW, 0),))[0]


def connected_parts(weight: Array) -> list[tuple[Order, Order]]:
    """Return inputs and outputs of every part of a matrix that shares none with another, the lowest output first."""
    used = weight != 0
    part = np.full(weight.shape[1], -1, dtype=np.int64)
    found: list[tuple[Order, Order]] = []
    for start in range(weight.shape[1]):
        if part[start] >= 0 or not used[:, start].any():
            continue
        columns = np.zeros(weight.shape[1], dtype=bool)
        columns[start] = True
        rows = used[:, start]
        while True:
            wider = used[rows].any(axis=0)
            if (wider == columns).all():
                break
            columns = wider
            rows = used[:, columns].any(axis=1)
        part[columns] = len(found)
        found.append((np.flatnonzero(rows), np.flatnonzero(columns)))
    return found


def _ways(weight: Array) -> list[tuple[Mapping[str, Any], int]]:
    """Return the options and the number of the order (0 is as given) of every attempt."""
    digits = nonzero_digits(weight)
    if digits > SOME_DIGITS:
        return [(SHALLOW, 0)]
    if digits > MANY_DIGITS:
        return [(SHALLOW, 0), ({**FREE, "search_all_decompose_dc": False}, 0)]
    others = range(1, ORDERS if min(weight.shape) > 1 else 1)
    return [(SHALLOW, 0), (FREE, 0), (COUNTED, 0), *((COUNTED, order) for order in others)]


def _best(found: Sequence[AdderGraph], bounds: Sequence[tuple[int, int]]) -> tuple[AdderGraph, ...]:
    """Return the graphs that no other one beats in levels and LUTs; the first of equals."""
    kept: list[AdderGraph] = []
    least: int | None = None
    costs = [graph.cost(bounds) for graph in found]
    for _, luts, index in sorted((*cost, index) for index, cost in enumerate(costs)):
        if least is None or luts < least:
            kept.append(found[index])
            least = luts
    return tuple(kept)


def _equals(graph: AdderGraph, weight: Array) -> bool:
    return graph.inputs == weight.shape[0] and bool((adder_graph_matrix(graph) == weight.astype(object)).all())


def _read(path: Path) -> tuple[AdderGraph, ...]:
    return tuple(
        AdderGraph(
            inputs=int(data["inputs"]),
            adders=tuple(Adder(int(a), int(b), int(s), int(t), bool(n)) for a, b, s, t, n in data["adders"]),
            outputs=tuple(AdderOutput(int(row[0]), int(row[1]), bool(row[2])) for row in data["outputs"]),
        )
        for data in json.loads(path.read_text())["graphs"]
    )


def _write(path: Path, graphs: Sequence[AdderGraph]) -> None:
    data = [
        {
            "inputs": graph.inputs,
            "adders": [[a.left, a.right, a.left_shift, a.right_shift, int(a.subtract)] for a in graph.adders],
            "outputs": [[o.value, o.shift, int(o.negative)] for o in graph.outputs],
        }
        for graph in graphs
    ]
    path.write_text(json.dumps({"graphs": data}))


def _solve(weight: Array, bounds: Sequence[tuple[int, int]], options: Mapping[str, Any], order: int) -> AdderGraph:
    try:
        from alkaid.cmvm import cmvm_solve  # noqa: PLC0415 - optional dependency
    except ImportError:
        raise ToolError("alkaid is not installed: adder graphs need it (pip install alkaid==0.8.2)") from None
    if weight.size == 0 or not weight.any():
        return AdderGraph(weight.shape[0], (), (AdderOutput(NOTHING, 0, False),) * weight.shape[1])
    digits, bits = _digits(weight)
    rows, columns = (_order(count, order) for count in digits.shape)
    intervals = [(float(bounds[k][0]), float(bounds[k][1]), 1.0) for k in rows]
    kernel = np.ascontiguousarray(digits[rows][:, columns].astype(np.float32))
    stages = cmvm_solve(kernel, qintervals=intervals, latencies=[0.0] * len(intervals), **options)
    return _summed(_reordered(_converted(stages, weight.shape[0]), rows, columns), weight.shape[1], bits)


def _digits(weight: Array) -> tuple[Array, int]:
    """Return a matrix as digits [n_in, digits * n_out] that are exact in the solver, the lowest first, and their bits.

    weight = sum over d of digit d * 2**(bits * d). Digits are signed; sums are shared between all of them.
    """
    low, high = int(weight.min()), int(weight.max())
    reach = max(abs(low), abs(high)).bit_length()
    if reach <= EXACT_WEIGHT_BITS:
        return weight, 0
    count = -(-(reach + 1) // EXACT_WEIGHT_BITS)
    bits = -(-(reach + 1) // count)
    parts, rest = [], weight.astype(object)
    for _ in range(count - 1):
        digit = (rest + (1 << bits - 1)) % (1 << bits) - (1 << bits - 1)
        parts.append(digit)
        rest = (rest - digit) >> bits
    return np.concatenate([*parts, rest], axis=1), bits


def _summed(graph: AdderGraph, outputs: int, bits: int) -> AdderGraph:
    """Return the graph whose outputs are the sums of digits, `bits` bits apart."""
    if len(graph.outputs) == outputs:
        return graph
    adders = list(graph.adders)
    sums = []
    for column in range(outputs):
        total = _Scaled(NOTHING, 0)
        for number, output in enumerate(graph.outputs[column::outputs]):
            part = _Scaled(output.value, -output.shift - bits * number, output.negative)
            total = _added(adders, graph.inputs, total, part)
        sums.append(total)
    return _pruned(AdderGraph(graph.inputs, tuple(adders), _outputs(sums)))


def _order(count: int, number: int) -> Order:
    """Return an order of `count` things; number 0 is the natural one."""
    if number == 0:
        return np.arange(count)
    return np.random.Generator(np.random.PCG64(number)).permutation(count)


def _reordered(graph: AdderGraph, rows: Order, columns: Order) -> AdderGraph:
    """Return the graph for inputs and outputs in their own places: input k of the given one is number rows[k]."""
    place = {NOTHING: NOTHING, **dict(enumerate(rows.tolist()))}
    adders = tuple(
        Adder(place.get(a.left, a.left), place.get(a.right, a.right), a.left_shift, a.right_shift, a.subtract)
        for a in graph.adders
    )
    outputs = [AdderOutput(NOTHING, 0, False)] * len(graph.outputs)
    for output, column in zip(graph.outputs, columns.tolist(), strict=True):
        outputs[column] = AdderOutput(place.get(output.value, output.value), output.shift, output.negative)
    return AdderGraph(graph.inputs, adders, tuple(outputs))


@dataclass(slots=True)
class _Scaled:
    """A value (index; -1 is zero) that stands for index * 2**-frac, negated or not."""

    value: int
    frac: int
    negative: bool = False


def _converted(stages: Sequence[Any], inputs: int) -> AdderGraph:
    """Turn the solver's programs, one feeding the next, into one graph of integers."""
    adders: list[Adder] = []
    current = [_Scaled(k, 0) for k in range(inputs)]
    for program in stages:
        values: list[_Scaled] = []
        for op in program.ops:
            if op.opcode == -1:
                source = current[op.data[0]]
                shift = int(program.inp_shifts[op.data[0]])
                values.append(_Scaled(source.value, source.frac - shift, source.negative))
            elif op.opcode == -2:
                source = values[op.addr[0]]
                values.append(_Scaled(source.value, source.frac, not source.negative))
            elif op.opcode in (0, 1):
                right = values[op.addr[1]]
                moved = _Scaled(right.value, right.frac - int(op.data[0]), right.negative != (op.opcode == 1))
                values.append(_added(adders, inputs, values[op.addr[0]], moved))
            else:
                raise ToolError(f"alkaid: operation {op.opcode} is not known, -2 to 1 are; install alkaid 0.8.2")
        following = []
        for index, shift, negative in zip(program.out_idxs, program.out_shifts, program.out_negs, strict=True):
            source = values[index] if index >= 0 else _Scaled(NOTHING, 0)
            following.append(_Scaled(source.value, source.frac - int(shift), source.negative != bool(negative)))
        current = following
    return _pruned(AdderGraph(inputs, tuple(adders), _outputs(current)))


class _Joined:
    """One graph from those of parts of a matrix; parts of the same output are added in a balanced tree."""

    def __init__(self, inputs: int) -> None:
        """Start with the inputs alone."""
        self.inputs = inputs
        self.adders: list[Adder] = []
        self.sums: dict[int, list[_Scaled]] = {}

    def add(self, graph: AdderGraph, rows: Order, columns: Order) -> None:
        """Add a graph whose inputs are `rows` and whose outputs are `columns` of the whole."""
        place = {NOTHING: NOTHING, **dict(enumerate(rows.tolist()))}
        for index, adder in enumerate(graph.adders):
            place[graph.inputs + index] = self.inputs + len(self.adders)
            self.adders.append(
                Adder(place[adder.left], place[adder.right], adder.left_shift, adder.right_shift, adder.subtract)
            )
        for output, column in zip(graph.outputs, columns.tolist(), strict=True):
            if output.value != NOTHING:
                part = _Scaled(place[output.value], -output.shift, output.negative)
                self.sums.setdefault(column, []).append(part)

    def graph(self, outputs: int) -> AdderGraph:
        """Return the graph of so many outputs; those without a part are 0."""
        totals = []
        for column in range(outputs):
            parts = self.sums.get(column, [_Scaled(NOTHING, 0)])
            while len(parts) > 1:
                pairs = [parts[k : k + 2] for k in range(0, len(parts), 2)]
                parts = [_added(self.adders, self.inputs, *pair) if len(pair) == 2 else pair[0] for pair in pairs]
            totals.append(parts[0])
        return AdderGraph(self.inputs, tuple(self.adders), _outputs(totals))


def _outputs(values: Sequence[_Scaled]) -> tuple[AdderOutput, ...]:
    """Return values as outputs."""
    return tuple(
        AdderOutput(v.value, -v.frac if v.value != NOTHING else 0, v.negative and v.value != NOTHING) for v in values
    )


def _added(adders: list[Adder], inputs: int, left: _Scaled, right: _Scaled) -> _Scaled:
    """Append left + right (either may be zero or negated)."""
    if NOTHING in (left.value, right.value):
        return right if left.value == NOTHING else left
    negative = left.negative and right.negative
    if left.negative and not right.negative:
        left, right = right, left
    frac = max(left.frac, right.frac)
    adders.append(Adder(left.value, right.value, frac - left.frac, frac - right.frac, left.negative != right.negative))
    return _Scaled(inputs + len(adders) - 1, frac, negative)


def _pruned(graph: AdderGraph) -> AdderGraph:
    """Drop adders no output depends on."""
    wanted = {output.value for output in graph.outputs}
    for index in range(len(graph.adders) - 1, -1, -1):
        if graph.inputs + index in wanted:
            wanted |= {graph.adders[index].left, graph.adders[index].right}
    renamed = {k: k for k in range(NOTHING, graph.inputs)}
    kept: list[Adder] = []
    for index, adder in enumerate(graph.adders):
        if graph.inputs + index in wanted:
            renamed[graph.inputs + index] = graph.inputs + len(kept)
            kept.append(
                Adder(renamed[adder.left], renamed[adder.right], adder.left_shift, adder.right_shift, adder.subtract)
            )
    outputs = tuple(AdderOutput(renamed[o.value], o.shift, o.negative) for o in graph.outputs)
    return AdderGraph(graph.inputs, tuple(kept), outputs)
