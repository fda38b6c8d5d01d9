"""ONNX files to RealGraph.

The nodes are read in order. Nodes whose inputs are all constant are computed at once by the reference evaluator of
the onnx package; every other node goes through `layers.LAYERS`. Axis 0 of inputs and outputs is the batch; between
them it may move, which `batch` follows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper

from metronn.errors import ModelError
from metronn.frontends.common.builder import LayerBuilder, LayerProblem, unsupported_error
from metronn.frontends.onnx.batch import FRONT, Elsewhere
from metronn.frontends.onnx.context import Codes, Constant, NodeContext, Operand
from metronn.frontends.onnx.evaluate import Array, evaluate
from metronn.frontends.onnx.file import dense, first_line, opset_version, parsed
from metronn.frontends.onnx.grids import inlined_constant, made
from metronn.frontends.onnx.layers import KEEP_CODES, KEEP_STEPS, LAYERS, READ_CODES
from metronn.frontends.onnx.operate import Tensor, read_node
from metronn.frontends.onnx.quantized.inlined import with_inlined_quantizers
from metronn.frontends.onnx.quantized.qonnx import QONNX
from metronn.frontends.onnx.quantized.standard import RANGES
from metronn.model.graph import Floats, RealGraph

STAND_IN_BATCHES = (61, 67)
"""Sizes that stand for a dynamic batch axis while shapes are computed. A model with values computed from that size is
read with both, and refused when the networks differ."""

SHAPES_ONLY = frozenset(("Expand", "Reshape"))
"""Operators whose other inputs say what shape the result has, in which the batch is found."""

WHOLE_TYPES = frozenset(getattr(onnx.TensorProto, f"{sign}INT{bits}") for sign in ("", "U") for bits in (8, 16, 32, 64))
"""Types of whole numbers."""

UNFOLDABLE = frozenset(
    ("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "Dropout")
)
"""Operators with constant inputs whose result is not a constant."""

QUANTIZE_CONSTANTS = frozenset(
    (*QONNX, *(domain + name for domain in ("", "com.microsoft.") for name in ("QuantizeLinear", "DequantizeLinear")))
)
"""Operators whose functions in `LAYERS` compute constants themselves, exactly."""

FOREIGN_DOMAINS = frozenset(("ai.onnx.ml", "ai.onnx.preview.training", "com.microsoft"))
"""Domains that have no operators of QONNX."""


def load_onnx(path: Path, content: bytes, *, batched: bool = True) -> RealGraph:
    """Read an ONNX model; raises ModelError as `load_model` says.

    Axis 0 of every input is the batch; with `batched=False` no input has a batch axis, and one run of the model is one
    event.
    """
    model = parsed(path, content)
    opset = opset_version(path, model)
    first = _Reader(where=str(path), model=model, opset=opset, batch=STAND_IN_BATCHES[0] if batched else None)
    graph = first.read()
    if first.meets_batch_size:
        _check_independent(graph, _Reader(where=str(path), model=model, opset=opset, batch=STAND_IN_BATCHES[1]))
    return graph


def _check_independent(graph: RealGraph, other: _Reader) -> None:
    """Raise ModelError when a network read with another size of the batch is another."""
    again = other.read()
    if graph == again:
        return
    pairs = zip(graph.nodes, again.nodes, strict=False)
    layer = next((node.source for node, same in pairs if node != same), graph.nodes[-1].source)
    raise ModelError(
        f"{other.where}: {layer}: depends on the size of the batch; every event must give the same whatever others are "
        "computed with it, export the model with a fixed batch of 1"
    )


@dataclass(slots=True)
class _Reader:
    """One pass over the nodes; `operands` holds what each name means, None where reading failed before.

    `meets_batch_size` tells that an operator reads numbers computed from the size of the batch. `codes` holds the
    values of quantized tensors whose codes were made for a reader, by tensor name.
    """

    where: str
    model: onnx.ModelProto
    opset: int
    batch: int | None
    builder: LayerBuilder = field(default_factory=LayerBuilder)
    operands: dict[str, Tensor | None] = field(default_factory=dict)
    codes: dict[str, str | Elsewhere] = field(default_factory=dict)
    unsupported: list[tuple[str, str]] = field(default_factory=list)
    quantized: bool = False
    fixed_batch: bool = False
    meets_batch_size: bool = False

    def read(self) -> RealGraph:
        graph = self.model.graph
        self.quantized = any(_kind(node) in QONNX or _kind(node) in READ_CODES for node in graph.node)
        self._initializers(graph)
        self._inputs([entry for entry in graph.input if entry.name not in self.operands])
        for node in graph.node:
            self._node(node)
        if self.unsupported:
            raise unsupported_error(self.where, self.unsupported, LAYERS)
        outputs = []
        for entry in graph.output:
            tensor = self.operands.get(entry.name)
            match self._made(entry.name, tensor) if isinstance(tensor, Codes) else tensor:
                case str() as value:
                    outputs.append((entry.name, value))
                case Elsewhere() as moved:
                    self.builder.problems.append(f"output {entry.name}: {self._away(moved)}")
                case Constant():
                    self.builder.problems.append(f"output {entry.name}: does not depend on any input")
                case None if not self.builder.problems:
                    self.builder.problems.append(f"output {entry.name}: no supported node makes it")
        return with_inlined_quantizers(self.builder.finish(outputs, self.where))

    def _initializers(self, graph: onnx.GraphProto) -> None:
        """Add the constants of a graph."""
        for tensor in (*graph.initializer, *graph.sparse_initializer):
            sparse = isinstance(tensor, onnx.SparseTensorProto)
            name = tensor.values.name if isinstance(tensor, onnx.SparseTensorProto) else tensor.name
            try:
                array = dense(tensor) if sparse else onnx.numpy_helper.to_array(tensor)
            except (ValueError, TypeError, KeyError, IndexError) as error:
                raise ModelError(f"{self.where}: initializer {name}: damaged: {first_line(error)}") from None
            self.operands[name] = Constant(name, array)

    def _inputs(self, entries: list[onnx.ValueInfoProto]) -> None:
        if self.batch is None:
            for entry in entries:
                dims = [dim.dim_value for dim in entry.type.tensor_type.shape.dim]
                if not entry.type.tensor_type.HasField("shape") or any(size <= 0 for size in dims):
                    raise ModelError(f"{self.where}: input {entry.name}: every axis must have a fixed size, not {dims}")
                self._input(entry, tuple(dims))
            return
        shapes = {}
        for entry in entries:
            tensor = entry.type.tensor_type
            if not tensor.HasField("shape") or len(tensor.shape.dim) < 2:
                rank = len(tensor.shape.dim) if tensor.HasField("shape") else "unknown"
                raise ModelError(
                    f"{self.where}: input {entry.name}: {rank} axes; the batch axis and at least one more are needed"
                )
            dims = [dim.dim_value if dim.HasField("dim_value") else 0 for dim in tensor.shape.dim]
            for axis, size in enumerate(dims[1:], start=1):
                if size <= 0:
                    shown = tensor.shape.dim[axis].dim_param or "unknown"
                    raise ModelError(
                        f"{self.where}: input {entry.name}: axis {axis} has no fixed size ({shown}); only the batch "
                        "axis 0 may vary, export the model with fixed sizes"
                    )
            if dims[0] > 0 and self.fixed_batch and self.batch != dims[0]:
                raise ModelError(
                    f"{self.where}: input {entry.name}: axis 0 has size {dims[0]}, that of another input {self.batch}; "
                    "axis 0 is the batch and must be the same for all inputs (weights belong in initializers)"
                )
            if dims[0] > 0:
                self.batch, self.fixed_batch = dims[0], True
            shapes[entry.name] = tuple(dims[1:])
        for entry in entries:
            self._input(entry, shapes[entry.name])

    def _input(self, entry: onnx.ValueInfoProto, shape: tuple[int, ...]) -> None:
        """Add an input; integers of a quantized network keep to the range of their type."""
        value = self.builder.input(entry.name, shape)
        kind = entry.type.tensor_type.elem_type
        if kind in WHOLE_TYPES:
            self.builder.whole.add(value)
        if self.quantized and kind in RANGES:
            value = self.builder.quantize(value, 1.0, *RANGES[kind])
        self.operands[entry.name] = self.builder.tensors[entry.name] = value

    def _node(self, node: onnx.NodeProto) -> None:
        kind = _kind(node)
        self.builder.layer = node.name or next((name for name in node.output if name), kind)
        missing = [name for name in node.input if name and name not in self.operands]
        if missing:
            self.builder.problems.append(f"{self.builder.layer}: reads {', '.join(missing)}, which no node makes")
        given = tuple(self.operands.get(name) if name else None for name in node.input)
        results: tuple[Tensor, ...] = ()
        try:
            if not any(name and operand is None for name, operand in zip(node.input, given, strict=True)):
                results = self._branch(node, given[0]) if kind == "If" else self._results(node, kind, given)
            elif kind not in LAYERS and kind not in ("If", "Shape", "Size"):
                self.unsupported.append((self.builder.layer, kind))
        except LayerProblem as problem:
            self.builder.problems.append(f"{self.builder.layer} ({kind}): {problem}")
        for position, name in enumerate(node.output):
            if name:
                self.operands[name] = result = results[position] if position < len(results) else None
                if isinstance(result, str):
                    self.builder.tensors[name] = result

    def _branch(self, node: onnx.NodeProto, condition: Tensor | None) -> tuple[Tensor, ...]:
        """Return the results of the branch of an If that is taken; its nodes see the values around it."""
        if not isinstance(condition, Constant):
            raise LayerProblem(
                "its condition is computed from the event, and firmware cannot leave a branch out; compute both and "
                "choose with Where"
            )
        if condition.from_batch:
            self.meets_batch_size = True
        wanted = "then_branch" if bool(condition.values.all()) else "else_branch"
        taken: onnx.GraphProto = next(attribute.g for attribute in node.attribute if attribute.name == wanted)
        layer, known = self.builder.layer, len(self.builder.problems)
        self._initializers(taken)
        for inner in taken.node:
            self._node(inner)
        self.builder.layer = layer
        found = [self.operands.get(entry.name) for entry in taken.output]
        results = tuple(result for result in found if result is not None)
        if len(results) == len(found):
            return results
        if len(self.builder.problems) == known and not self.unsupported:
            raise LayerProblem("its branch does not compute all of its results")
        return ()

    def _results(self, node: onnx.NodeProto, kind: str, given: tuple[Tensor | None, ...]) -> tuple[Tensor, ...]:
        """Return the results of a node with known operands; none when it is not supported, which is noted."""
        computed = [operand for operand in given if isinstance(operand, str | Codes | Elsewhere)]
        if not computed and _foldable(node, kind) and kind not in QUANTIZE_CONSTANTS:
            return self._folded(node, [operand for operand in given if isinstance(operand, Constant)])
        if kind in ("Shape", "Size") and computed:
            return (self._sizes(node, computed[0]),)
        if kind not in LAYERS:
            self.unsupported.append((self.builder.layer, kind))
            return ()
        if kind not in SHAPES_ONLY and any(isinstance(x, Constant) and x.from_batch for x in given):
            self.meets_batch_size = True
        kept = _common_grid(computed) if kind in KEEP_CODES else None
        means: list[Operand | Elsewhere | None] = []
        for name, operand in zip(node.input, given, strict=True):
            if not isinstance(operand, Codes):
                means.append(operand)
            elif kept is not None or kind in READ_CODES:
                means.append(operand.value if operand.place == FRONT else Elsewhere(operand.value, operand.place))
            else:
                means.append(self._made(name, operand))
        context = NodeContext(
            self.builder,
            node,
            self.opset,
            self.batch,
            tuple(operand.value if isinstance(operand, Elsewhere) else operand for operand in means),
            codes=tuple(operand if isinstance(operand, Codes) else None for operand in given),
            quantized=self.quantized,
            places=tuple(operand.place if isinstance(operand, Elsewhere) else FRONT for operand in means),
        )
        results = read_node(context, kind)
        return results if kept is None else tuple(_on_grid(kept, result) for result in results)

    def _made(self, name: str, codes: Codes) -> str | Elsewhere:
        """Return the codes of a tensor, which are made for the first reader."""
        if name not in self.codes:
            layer, self.builder.layer = self.builder.layer, name
            value = made(self.builder, codes)
            self.codes[name] = value if codes.place == FRONT else Elsewhere(value, codes.place)
            if codes.place == FRONT:
                self.builder.tensors[name] = value
            self.builder.layer = layer
        return self.codes[name]

    def _sizes(self, node: onnx.NodeProto, tensor: Tensor) -> Constant:
        """Return the result of Shape or Size."""
        sizes, batch_axis = self._full_shape(tensor), None if self.batch is None else 0
        if isinstance(tensor, Codes | Elsewhere) and batch_axis is not None:
            batch_axis = tensor.place.axis
        varies = batch_axis is not None and not self.fixed_batch
        if node.op_type == "Size":
            return Constant(node.output[0], np.array(math.prod(sizes), dtype=np.int64), from_batch=varies)
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        first, last, _ = slice(attributes.get("start", 0), attributes.get("end")).indices(len(sizes))
        shown = np.array(sizes[first:last], dtype=np.int64)
        return Constant(node.output[0], shown, from_batch=varies and batch_axis in range(first, last))

    def _full_shape(self, tensor: Tensor) -> tuple[int, ...]:
        """Return the shape of a computed tensor, batch included."""
        value = tensor.value if isinstance(tensor, Codes | Elsewhere) else tensor
        if isinstance(value, Constant):
            return tuple(value.values.shape)
        shape = self.builder.shape(value)
        if self.batch is None:
            return shape
        place = tensor.place if isinstance(tensor, Codes | Elsewhere) else FRONT
        return (self.batch, *shape) if place == FRONT else place.shape(shape, self.batch)

    def _away(self, moved: Elsewhere) -> str:
        """Return what is wrong with an output whose batch is not on axis 0."""
        place, events, event = moved.place, self.batch or 1, self.builder.shape(moved.value)
        count = event[place.axis]
        held = "the batch" if count == 1 else f"the batch times {count} elements of every event"
        return (
            f"moves the batch axis 0: axis {place.axis} of shape {place.shape(event, events)} for {events} events is "
            f"{held}; end the model with the batch alone on axis 0"
        )

    def _folded(self, node: onnx.NodeProto, constants: list[Constant]) -> tuple[Operand, ...]:
        named = {name: self.operands[name] for name in node.input if name}
        feeds = {name: operand.values for name, operand in named.items() if isinstance(operand, Constant)}
        sparse = next((a.sparse_tensor for a in node.attribute if a.name == "sparse_value"), None)
        try:
            values = evaluate(node, feeds, self.opset) if sparse is None else [dense(sparse)]
        except (ValueError, IndexError) as error:
            raise LayerProblem(f"damaged: {first_line(error)}") from None
        if sum(math.prod(v.shape) for v in values) > 2**28:
            raise LayerProblem("a constant of more than 2**28 elements")
        tainted = any(constant.from_batch for constant in constants)
        written = inlined_constant(node.op_type, constants, values)
        if written is not None:
            return (Constant(node.output[0], written[0], from_batch=tainted, step=written[1]),)
        steps = self._steps(node, feeds, len(values))
        return tuple(
            Constant(name, v, from_batch=tainted, step=step)
            for name, v, step in zip(node.output, values, steps, strict=True)
        )

    def _steps(self, node: onnx.NodeProto, feeds: dict[str, Array], count: int) -> list[Floats | None]:
        """Return the steps of the results of an operator on constants: moved as their values are."""
        data = node.input if node.op_type == "Concat" else node.input[:1]
        given = {name: operand.step for name in data if isinstance(operand := self.operands[name], Constant)}
        steps = {name: step for name, step in given.items() if step is not None}
        if node.op_type not in KEEP_STEPS or not steps or len(steps) < len(given):
            return [None] * count
        return [np.asarray(step, dtype=np.float64) for step in evaluate(node, {**feeds, **steps}, self.opset)]


def _kind(node: onnx.NodeProto) -> str:
    """Return the name of an operator in `LAYERS`; the domain of those of QONNX has changed and is not looked at."""
    plain = node.domain in ("", "ai.onnx") or (node.op_type in QONNX and node.domain not in FOREIGN_DOMAINS)
    return node.op_type if plain else f"{node.domain}.{node.op_type}"


def _on_grid(grid: Codes, result: Tensor) -> Tensor:
    """Return what moved elements of a quantized tensor mean as a quantized tensor of the same grid."""
    if isinstance(result, Elsewhere):
        return replace(grid, value=result.value, place=result.place)
    return replace(grid, value=result, place=FRONT) if isinstance(result, str) else result


def _common_grid(computed: Sequence[Tensor]) -> Codes | None:
    """Return the grid of quantized tensors that have the same scale and zero point for all elements, if they do."""
    first = computed[0] if computed else None
    if not isinstance(first, Codes) or first.scale.ndim or first.zero.ndim:
        return None
    same = all(isinstance(other, Codes) and first.same_grid(other) for other in computed)
    return first if same else None


def _foldable(node: onnx.NodeProto, kind: str) -> bool:
    """Whether a node without computed inputs is a constant; custom domains and subgraphs are left alone."""
    if node.domain not in ("", "ai.onnx") or kind in UNFOLDABLE or not onnx.defs.has(kind):
        return False
    return not any(a.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for a in node.attribute)
