"""Constant matrices as shared adder graphs, unrolled and pipelined: one Linear and its epilogue.

The adder graph comes from the solver of the *alkaid* library (Distributed arithmetic with common subexpressions);
when each sum happens, and the registers, are ours. A graph is checked against its matrix before it is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from metronn.errors import ToolError
from metronn.ir.arrays import Array, IntArray

SOLVER_VERSION = "0.8.2"
SOLVER_OPTIONS: Mapping[str, Any] = {"hard_dc": 0, "decompose_dc": -1, "search_all_decompose_dc": False}
"""Least depth: on random layers 2 to 7 % more cost than with free depth, and zero to two levels fewer."""

EXACT_WEIGHT_BITS = 23
"""The solver takes weights as float32."""


@dataclass(frozen=True, slots=True)
class Adder:
    """(left << left_shift) + or - (right << right_shift), of earlier values: inputs first, then adders."""

    left: int
    right: int
    left_shift: int
    right_shift: int
    subtract: bool


@dataclass(frozen=True, slots=True)
class AdderOutput:
    """One output: + or - value * 2**shift; value -1 is no value: the output is 0.

    A negative shift is exact: the values have that many zero bits.
    """

    value: int
    shift: int
    negative: bool


@dataclass(frozen=True, slots=True)
class AdderGraph:
    """A matrix as additions: `inputs` values come in, each adder makes one more, outputs are shifted values."""

    inputs: int
    adders: tuple[Adder, ...]
    outputs: tuple[AdderOutput, ...]

    def forms(self) -> list[dict[int, int]]:
        """Every value as an exact integer combination of the inputs: coefficient by input."""
        forms: list[dict[int, int]] = [{k: 1} for k in range(self.inputs)]
        for adder in self.adders:
            form = {k: c << adder.left_shift for k, c in forms[adder.left].items()}
            for k, c in forms[adder.right].items():
                term = c << adder.right_shift
                form[k] = form.get(k, 0) + (-term if adder.subtract else term)
            forms.append({k: c for k, c in form.items() if c})
        return forms


def adder_graph_matrix(graph: AdderGraph) -> Array:
    """Return the matrix [inputs, outputs] the adder graph computes, by its linear form over exact integers.

    Raises ValueError when an output drops bits that are not zero.
    """
    matrix = np.zeros((graph.inputs, len(graph.outputs)), dtype=object)
    forms = graph.forms()
    for column, output in enumerate(graph.outputs):
        if output.value < 0:
            continue
        for row, coefficient in forms[output.value].items():
            exact = Fraction(coefficient) * Fraction(2) ** output.shift
            if exact.denominator != 1:
                raise ValueError(f"adder graph: output {column} drops bits of input {row}")
            matrix[row, column] = -int(exact) if output.negative else int(exact)
    return matrix


def nonzero_digits(weight: Array) -> int:
    """Nonzero digits of all weights in canonical signed-digit form: the additions without sharing."""
    return sum((3 * abs(int(w)) ^ abs(int(w))).bit_count() for w in weight.ravel())


def solve(weight: Array, bounds: Sequence[tuple[int, int]]) -> AdderGraph:
    """Return an adder graph of the integer matrix [n_in, n_out] for inputs with these code bounds.

    Deterministic; results are kept in the user's cache directory by content. Raises ToolError when the solver is
    missing or its answer is not the matrix.
    """
    matrix = IntArray.of(weight)
    return _solved(matrix, tuple(bounds))


@lru_cache(maxsize=1024)
def _solved(weight: IntArray, bounds: tuple[tuple[int, int], ...]) -> AdderGraph:
    key = json.dumps([SOLVER_VERSION, dict(SOLVER_OPTIONS), weight.digest, bounds])
    path = cache_directory() / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    graph = _cached(path)
    if graph is None or not _equals(graph, weight.array):
        graph = _solve(weight.array, bounds)
        if not _equals(graph, weight.array):
            raise ToolError("alkaid: the adder graph found is not the matrix; report it with the layer's weights")
        _keep(path, graph)
    return graph


def _equals(graph: AdderGraph, weight: Array) -> bool:
    return graph.inputs == weight.shape[0] and bool((adder_graph_matrix(graph) == weight.astype(object)).all())


def cache_directory() -> Path:
    """Return the directory of solved adder graphs: XDG_CACHE_HOME, else ~/.cache, below it metronn/adders."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "metronn" / "adders"


def _cached(path: Path) -> AdderGraph | None:
    """Read a solved graph; None when there is none or the file is not one (it is written again then)."""
    try:
        data = json.loads(path.read_text())
        return AdderGraph(
            inputs=int(data["inputs"]),
            adders=tuple(Adder(int(a), int(b), int(s), int(t), bool(n)) for a, b, s, t, n in data["adders"]),
            outputs=tuple(AdderOutput(int(row[0]), int(row[1]), bool(row[2])) for row in data["outputs"]),
        )
    except (OSError, ValueError, KeyError, IndexError, TypeError):
        return None


def _keep(path: Path, graph: AdderGraph) -> None:
    """Write a solved graph in one step; a cache that cannot be written costs time only."""
    data = {
        "inputs": graph.inputs,
        "adders": [[a.left, a.right, a.left_shift, a.right_shift, int(a.subtract)] for a in graph.adders],
        "outputs": [[o.value, o.shift, int(o.negative)] for o in graph.outputs],
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, suffix=".part")
        with os.fdopen(handle, "w") as file:
            json.dump(data, file)
        os.replace(name, path)
    except OSError:
        return


def _solve(weight: Array, bounds: Sequence[tuple[int, int]]) -> AdderGraph:
    try:
        from alkaid.cmvm import cmvm_solve  # noqa: PLC0415 - optional dependency
    except ImportError:
        raise ToolError("alkaid is not installed: adder graphs need it (pip install alkaid==0.8.2)") from None
    if weight.size == 0 or not weight.any():
        return AdderGraph(weight.shape[0], (), (AdderOutput(-1, 0, False),) * weight.shape[1])
    intervals = [(float(lo), float(hi), 1.0) for lo, hi in bounds]
    kernel = np.ascontiguousarray(weight.astype(np.float32))
    stages = cmvm_solve(kernel, qintervals=intervals, latencies=[0.0] * len(intervals), **SOLVER_OPTIONS)
    return _converted(stages, weight.shape[0])


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
            source = values[index] if index >= 0 else _Scaled(-1, 0)
            following.append(_Scaled(source.value, source.frac - int(shift), source.negative != bool(negative)))
        current = following
    outputs = tuple(AdderOutput(v.value, -v.frac if v.value >= 0 else 0, v.negative and v.value >= 0) for v in current)
    return _pruned(AdderGraph(inputs, tuple(adders), outputs))


def _added(adders: list[Adder], inputs: int, left: _Scaled, right: _Scaled) -> _Scaled:
    """Append left + right (either may be zero or negated)."""
    if left.value < 0 or right.value < 0:
        return right if left.value < 0 else left
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
    renamed = {k: k for k in range(-1, graph.inputs)}
    kept: list[Adder] = []
    for index, adder in enumerate(graph.adders):
        if graph.inputs + index in wanted:
            renamed[graph.inputs + index] = graph.inputs + len(kept)
            kept.append(
                Adder(renamed[adder.left], renamed[adder.right], adder.left_shift, adder.right_shift, adder.subtract)
            )
    outputs = tuple(AdderOutput(renamed[o.value], o.shift, o.negative) for o in graph.outputs)
    return AdderGraph(graph.inputs, tuple(kept), outputs)
