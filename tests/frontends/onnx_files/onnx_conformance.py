"""The test cases of the ONNX standard through the frontend and the float64 reference of the network read.

A case is a model of one or more nodes with inputs and expected outputs. Its models have no batch axis and no weights of
their own, so a rule says what each input is:

- inputs at the positions `CONSTANT_INPUTS` of an operator (weights, indices, shapes, axes, bounds) become initializers
  with the case's data; a case `<name>_expanded`, the same operator spelled as a function, follows the rule of `<name>`;
- every other input is data: the model is read with `batched=False`, so that the whole tensor is one event;
- where the data inputs agree in the size of axis 0, the model is read a second time with axis 0 as the batch. That may
  be refused (the operator works along axis 0); if it is read, its outputs must be the expected ones too.

Which cases have no meaning here is decided by `reason_out_of_scope` from the operator and the types of the case alone,
never by what the frontend refuses. Everything else must pass.

`python tests/frontends/onnx_files/onnx_conformance.py --write` writes the table `docs/onnx.md`.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from onnx import TensorProto, numpy_helper
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests

from metronn.errors import ModelError
from metronn.frontends.onnx.read import load_onnx
from metronn.ir.names import sanitized
from metronn.model.graph import RealGraph
from metronn.model.reference import run_reference

TABLE = Path(__file__).resolve().parents[3] / "docs" / "onnx.md"
FOLDERS = ("simple", "pytorch-operator", "pytorch-converted")

CONSTANT_INPUTS: Mapping[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "Attention": (3, 6),
    "ai.onnx.ml.ArrayFeatureExtractor": (1,),
    "BatchNormalization": (1, 2, 3, 4),
    "CastLike": (1,),
    "CausalConvWithState": (1, 2),
    "CenterCropPad": (1,),
    "Clip": (1, 2),
    "Col2Im": (1, 2),
    "Compress": (1,),
    "Conv": (1, 2),
    "ConvInteger": (1, 2, 3),
    "ConvTranspose": (1, 2),
    "CumProd": (1,),
    "CumSum": (1,),
    "DFT": (1, 2),
    "DeformConv": (1, 2, 3, 4),
    "DequantizeLinear": (1, 2),
    "Dropout": (1, 2),
    "Expand": (1,),
    "Gather": (1,),
    "GatherElements": (1,),
    "GatherND": (1,),
    "GridSample": (1,),
    "GroupNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "MatMulInteger": (1, 2, 3),
    "MaxUnpool": (1, 2),
    "PRelu": (1,),
    "Pad": (1, 2, 3),
    "Pow": (1,),
    "QLinearConv": (1, 2, 3, 4, 5, 6, 7, 8),
    "QLinearMatMul": (1, 2, 3, 4, 5, 6, 7),
    "QuantizeLinear": (1, 2),
    "ReduceL1": (1,),
    "ReduceL2": (1,),
    "ReduceLogSum": (1,),
    "ReduceLogSumExp": (1,),
    "ReduceMax": (1,),
    "ReduceMean": (1,),
    "ReduceMin": (1,),
    "ReduceProd": (1,),
    "ReduceSum": (1,),
    "ReduceSumSquare": (1,),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "ReverseSequence": (1,),
    "RoiAlign": (1, 2),
    "RotaryEmbedding": (1, 2, 3),
    "STFT": (1, 2, 3),
    "Scatter": (1,),
    "ScatterElements": (1,),
    "ScatterND": (1,),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "TensorScatter": (2,),
    "Tile": (1,),
    "Trilu": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}
"""Positions of the inputs that a network has as constants."""

TRAINING = "training: gradients, optimizers, losses, statistics of a batch"
SEQUENCES = "sequences, optional values, strings, images in files"
CONTROL = "control flow"
RANDOM = "random numbers"
DYNAMIC = "quantization with a scale taken from the data"
SMALL_FLOATS = "floating-point numbers of 8 bits and fewer"
RECURRENT = "recurrent layers: not yet"
TREES = "decision trees: not yet"
INTEGERS = "arithmetic of integers with a fixed number of bits"
NARROW = "number types of 8 bits and fewer, or integers, as the target of a cast"
ORDER = "a result whose size or order depends on the data (sorting, searching, selecting)"
CONSTANT = "the result does not depend on any data"
SPECIAL = "asks for NaN or infinity"
EMPTY = "tensors without elements"
PLACES = "the places of maxima, as numbers of elements"
REDUCED_SCATTER = "scattering with a product, a maximum or a minimum"
REGIONS = "maxima over regions of an image that are no windows"
DETERMINANT = "determinants"
REMAINDER = "remainders, whose jumps lie on rounding errors"

BY_OPERATOR: Mapping[str, str] = {
    **dict.fromkeys(("Adagrad", "Adam", "Momentum", "Gradient"), TRAINING),
    **dict.fromkeys(("NegativeLogLikelihoodLoss", "SoftmaxCrossEntropyLoss"), TRAINING),
    **dict.fromkeys(("ImageDecoder", "TfIdfVectorizer", "ai.onnx.ml.LabelEncoder", "RegexFullMatch"), SEQUENCES),
    **dict.fromkeys(("StringNormalizer", "OptionalGetElement", "SequenceAt", "SequenceLength"), SEQUENCES),
    **dict.fromkeys(("ConcatFromSequence", "SplitToSequence", "SequenceConstruct"), SEQUENCES),
    **dict.fromkeys(("If", "Loop", "Scan"), CONTROL),
    **dict.fromkeys(("Bernoulli", "RandomUniformLike", "Multinomial"), RANDOM),
    "DynamicQuantizeLinear": DYNAMIC,
    **dict.fromkeys(("GRU", "LSTM", "LinearAttention", "RNN"), RECURRENT),
    "ai.onnx.ml.TreeEnsemble": TREES,
    **dict.fromkeys(("BitCast", "BitShift", "BitwiseAnd", "BitwiseNot", "BitwiseOr", "BitwiseXor"), INTEGERS),
    **dict.fromkeys(("NonMaxSuppression", "NonZero", "TopK", "Unique", "OneHot"), ORDER),
    **dict.fromkeys(("Constant", "ConstantOfShape", "EyeLike", "Range", "Shape", "Size"), CONSTANT),
    **dict.fromkeys(("BlackmanWindow", "HammingWindow", "HannWindow", "MelWeightMatrix"), CONSTANT),
    **dict.fromkeys(("IsInf", "IsNaN"), SPECIAL),
    "Det": DETERMINANT,
    "Mod": REMAINDER,
}
"""Operators without a meaning here, and why."""

COMPUTED_AT_ONCE = frozenset(("Constant", "ConstantOfShape", "Range", "Shape", "Size"))
"""Operators without data that models with data have too."""

FLOATS = frozenset((TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16))
FLOATS_OF_8_BITS = frozenset((TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2, TensorProto.FLOAT4E2M1))
INTEGER_MEANING = frozenset(("Add", "Div", "Mul", "Pow", "Sub", "CastLike", "Cast", "CumSum"))
"""Operators for which integers wrap or are truncated."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case: its model, the operator it is about, and its data."""

    suite: str
    name: str
    operator: str
    model: onnx.ModelProto
    constants: frozenset[str]
    arrays: tuple[Any, ...]
    expected: tuple[Any, ...]
    tolerance: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """What happened to a case: out of scope for a reason, failed with a message, or passed.

    `batched` says whether it also passed with axis 0 as the batch.
    """

    case: Case
    reason: str = ""
    failure: str = ""
    batched: bool = False


def _operator(model: onnx.ModelProto) -> str:
    domain = model.graph.node[0].domain
    return f"{domain}.{model.graph.node[0].op_type}" if domain == "ai.onnx.ml" else model.graph.node[0].op_type


@cache
def cases() -> tuple[Case, ...]:
    """Return all cases, in order of suite and name."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nodes = sorted(collect_testcases(None), key=lambda case: str(case.name))
    plain = {case.name: case for case in nodes}
    found = []
    for case in nodes:
        base = case
        for mark in ("_expanded_ver18", "_expanded_ver13", "_expanded_function", "_expanded"):
            if mark in case.name and case.name.split(mark)[0] in plain:
                base = plain[case.name.split(mark)[0]]
                break
        found.append(_node_case(case, base))
    for suite in FOLDERS:
        loaded = sorted(load_model_tests(kind=suite), key=lambda case: str(case.name))
        found.extend(_folder_case(suite, case) for case in loaded)
    return tuple(found)


def _node_case(case: TestCase, base: TestCase) -> Case:
    operator = (
        _operator(base.model) if len(base.model.graph.node) == 1 else base.name.removeprefix("test_").split("_")[0]
    )
    arrays, expected = case.data_sets[0]
    positions = CONSTANT_INPUTS.get(operator, ())
    order = list(base.model.graph.node[0].input)
    named = {order[position] for position in positions if position < len(order)}
    own = {entry.name for entry in case.model.graph.input}
    values, wanted = (tuple(map(_plain, tensors)) for tensors in (arrays, expected))
    return Case("node", case.name, operator, case.model, frozenset(named & own), values, wanted, case.rtol)


def _plain(tensor: Any) -> Any:
    """Return an array; a sequence or an optional stays what it is."""
    if isinstance(tensor, TensorProto):
        return numpy_helper.to_array(tensor)
    return np.asarray(tensor) if isinstance(tensor, np.generic | float | int) else tensor


def _folder_case(suite: str, case: TestCase) -> Case:
    folder = Path(case.model_dir)
    model = onnx.load(folder / "model.onnx")
    first = folder / "test_data_set_0"
    given = {tensor.name for tensor in model.graph.initializer}
    inputs = [entry for entry in model.graph.input if entry.name not in given]
    arrays = [_array(first / f"input_{k}.pb", entry) for k, entry in enumerate(inputs)]
    expected = [_array(first / f"output_{k}.pb", entry) for k, entry in enumerate(model.graph.output)]
    operator = f"({suite})"
    named: set[str] = set()
    for node in model.graph.node:
        named |= {node.input[k] for k in CONSTANT_INPUTS.get(node.op_type, ()) if k < len(node.input)}
    wanted = named & {entry.name for entry in inputs}
    return Case(suite, case.name, operator, model, frozenset(wanted), tuple(arrays), tuple(expected), case.rtol)


def _array(path: Path, entry: onnx.ValueInfoProto) -> Any:
    if not entry.type.HasField("tensor_type"):
        return None
    return numpy_helper.to_array(onnx.load_tensor(path))


def _inputs(case: Case) -> list[onnx.ValueInfoProto]:
    given = {tensor.name for tensor in case.model.graph.initializer}
    return [entry for entry in case.model.graph.input if entry.name not in given]


def reason_out_of_scope(case: Case) -> str:
    """Return why a case has no meaning here, or nothing."""
    kinds = {node.op_type for node in case.model.graph.node}
    entries = [*case.model.graph.input, *case.model.graph.output]
    types = [entry.type for entry in entries]
    elements = {kind.tensor_type.elem_type for kind in types}
    outputs = {entry.type.tensor_type.elem_type for entry in case.model.graph.output}
    attributes = {a.name: onnx.helper.get_attribute_value(a) for n in case.model.graph.node for a in n.attribute}
    if any(not kind.HasField("tensor_type") for kind in types) or TensorProto.STRING in elements:
        return SEQUENCES
    if case.operator in BY_OPERATOR:
        return BY_OPERATOR[case.operator]
    for kind in sorted(kinds & set(BY_OPERATOR)):
        if BY_OPERATOR[kind] in (CONTROL, RANDOM, TRAINING) or (case.suite != "node" and kind not in COMPUTED_AT_ONCE):
            return BY_OPERATOR[kind]
    if attributes.get("training_mode") or case.name.startswith("test_training_dropout"):
        if "zero_ratio" not in case.name:
            return TRAINING
    if case.operator == "QuantizeLinear" and outputs & FLOATS_OF_8_BITS:
        return SMALL_FLOATS
    if case.operator in ("Cast", "CastLike") and (outputs - FLOATS):
        return NARROW
    data = [entry for entry in _inputs(case) if entry.name not in case.constants]
    if not data:
        return CONSTANT
    if case.operator in INTEGER_MEANING and not outputs <= FLOATS:
        return INTEGERS
    arrays = dict(zip((entry.name for entry in _inputs(case)), case.arrays, strict=True))
    if any(0 in np.shape(array) for array in (*(arrays[entry.name] for entry in data), *case.expected)):
        return EMPTY
    if case.operator == "MaxPool" and len(case.model.graph.output) > 1:
        return PLACES
    if case.operator == "Attention" and any(np.isinf(wanted.astype(np.float64)).any() for wanted in case.expected):
        return SPECIAL
    if case.operator == "RoiAlign" and attributes.get("mode") == b"max":
        return REGIONS
    if case.operator.startswith("Scatter") and attributes.get("reduction", b"none") not in (b"none", b"add"):
        return REDUCED_SCATTER
    return ""


def _fixed(case: Case) -> onnx.ModelProto:
    """Return the model with constants for initializers, and every input with the shape of its data."""
    model = onnx.ModelProto()
    model.CopyFrom(case.model)
    model.ir_version = max(model.ir_version, 4)  # before, every initializer was an input too
    arrays = dict(zip((entry.name for entry in _inputs(case)), case.arrays, strict=True))
    kept = [entry for entry in model.graph.input if entry.name not in case.constants]
    model.graph.initializer.extend(numpy_helper.from_array(arrays[name], name) for name in sorted(case.constants))
    del model.graph.input[:]
    model.graph.input.extend(kept)
    for entry in kept:
        if entry.name in arrays:
            entry.CopyFrom(onnx.helper.make_tensor_value_info(entry.name, entry.type.tensor_type.elem_type, None))
            entry.type.tensor_type.shape.SetInParent()
            for size in np.shape(arrays[entry.name]):
                entry.type.tensor_type.shape.dim.add().dim_value = size
    return model


def run(case: Case) -> Outcome:
    """Run one case."""
    reason = reason_out_of_scope(case)
    if reason:
        return Outcome(case, reason=reason)
    content = _fixed(case).SerializeToString()
    arrays = dict(zip((entry.name for entry in _inputs(case)), case.arrays, strict=True))
    data = {sanitized(name): np.asarray(a) for name, a in arrays.items() if name not in case.constants}
    try:
        graph = load_onnx(Path(case.name), content, batched=False)
    except ModelError as error:
        return Outcome(case, failure=str(error))
    failure = _difference(case, graph, {name: values[np.newaxis] for name, values in data.items()}, batched=False)
    if failure:
        return Outcome(case, failure=failure)
    sizes = {values.shape[0] if values.ndim > 1 else 0 for values in data.values()}
    if len(sizes) != 1 or 0 in sizes:
        return Outcome(case)
    try:
        graph = load_onnx(Path(case.name), content)
    except ModelError:
        return Outcome(case)
    failure = _difference(case, graph, data, batched=True)
    return Outcome(case, failure=f"with axis 0 as the batch: {failure}" if failure else "", batched=not failure)


def _difference(case: Case, graph: RealGraph, data: Mapping[str, Any], *, batched: bool) -> str:
    """Return how the outputs differ from the expected ones, or nothing."""
    inputs = {node.name: data[node.name].astype(np.float64) for node in graph.inputs}
    with np.errstate(all="ignore"):
        found = run_reference(graph, inputs)
    for (name, values), expected in zip(found.items(), case.expected, strict=True):
        wanted = np.asarray(expected)
        events = wanted.shape[0] if batched else 1
        got = np.broadcast_to(values, (events, *values.shape[1:]))
        got = got if batched else got[0]
        if got.shape != wanted.shape:
            return f"{name}: shape {got.shape}, expected {wanted.shape}"
        relative, absolute = _tolerance(case, wanted.dtype)
        with np.errstate(all="ignore"):
            exact = wanted.astype(np.float64)
        scale = float(np.abs(exact[np.isfinite(exact)]).max(initial=1.0))
        if not np.allclose(got, exact, rtol=relative, atol=absolute * scale, equal_nan=True):
            return f"{name}: differs by {np.nanmax(np.abs(got - exact)):g}"
    return ""


def _tolerance(case: Case, kind: np.dtype[Any]) -> tuple[float, float]:
    if kind == ml_dtypes.bfloat16:
        return 1e-2, 1e-2
    if kind == np.float16:
        return 2e-3, 2e-3
    return (case.tolerance, 1e-6) if kind.kind == "f" else (0.0, 0.0)


def outcomes(selected: Iterable[Case] | None = None) -> list[Outcome]:
    """Run cases, all by default."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [run(case) for case in (cases() if selected is None else selected)]


def table(found: Iterable[Outcome]) -> str:
    """Return the page `docs/onnx.md`."""
    found = list(found)
    scope = [outcome for outcome in found if not outcome.reason]
    passed, batched = sum(not outcome.failure for outcome in scope), sum(outcome.batched for outcome in scope)
    lines = [
        "# ONNX conformance",
        "",
        "The test cases of the ONNX standard (node tests and the models shipped with the `onnx` package) through the",
        "frontend and the float64 reference of the network read. Written by",
        "`python tests/frontends/onnx_files/onnx_conformance.py --write`; a test runs all and compares this page.",
        "",
        f"onnx {onnx.__version__}: {len(found)} cases, {len(scope)} in scope, {passed} pass, "
        f"{len(scope) - passed} fail, {len(found) - len(scope)} out of scope.",
        "",
        "The models have no batch axis and no weights of their own. Inputs that a network has as constants (weights,",
        "indices, shapes, axes, bounds; `CONSTANT_INPUTS` in the script) become initializers with the case's data;",
        "every other input is data, and the whole tensor is one event. Where the data inputs agree in the size of",
        f"axis 0, the model is read again with axis 0 as the batch: {batched} cases pass that way too (column",
        "*batch*); in the others the operator works along axis 0 or moves it, and the frontend refuses. An operator",
        "spelled out as an ONNX function counts with the operator. Integers and truth values are data where the",
        "operator only moves or compares them.",
        "",
        "## Operators",
        "",
        "| operator | cases | pass | batch | out of scope |",
        "|---|---:|---:|---:|---|",
    ]
    reasons = sorted({outcome.reason for outcome in found if outcome.reason})
    numbers = {reason: number for number, reason in enumerate(reasons, start=1)}
    for operator in sorted({outcome.case.operator for outcome in found}):
        own = [outcome for outcome in found if outcome.case.operator == operator]
        counts = Counter(outcome.reason for outcome in own if outcome.reason)
        outside = ", ".join(f"{count} ({numbers[reason]})" for reason, count in sorted(counts.items()))
        good = sum(not outcome.reason and not outcome.failure for outcome in own)
        lines.append(f"| {operator} | {len(own)} | {good} | {sum(o.batched for o in own)} | {outside} |")
    lines += ["", "Names in parentheses are folders of whole models.", "", "## Out of scope", ""]
    totals = Counter(outcome.reason for outcome in found)
    lines += [f"{number}. {reason}: {totals[reason]} cases" for reason, number in numbers.items()]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Run everything, print what fails, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    found = outcomes()
    failed = [outcome for outcome in found if outcome.failure]
    for outcome in failed:
        sys.stdout.write(f"{outcome.case.suite} {outcome.case.name} {outcome.case.operator}: {outcome.failure[:300]}\n")
    passed = sum(not outcome.failure and not outcome.reason for outcome in found)
    batched = sum(outcome.batched for outcome in found)
    sys.stdout.write(f"{len(found)} cases: {passed} pass ({batched} also batched), {len(failed)} fail\n")
    if options.write:
        TABLE.write_text(table(found), encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
