"""From a float Keras network to an HGQ2 network that starts where it ended.

Matrices become Q layers with the same weights; batch normalization goes into the matrix before it, or into the dense
layer behind it, else it stays as QBatchNormalization. Every input is quantized once, on the grid of the data, and that
grid does not change; all other widths are trained.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from metronn.errors import ModelError
from metronn.ir.types import Range
from metronn.model.graph import Floats
from metronn.quantize.calibrated.fixed import covering_frac, exact_grid
from metronn.train.backend import Backend, KerasObject
from metronn.train.graph_walk import LayerCall, calls, one, rebuild
from metronn.train.layers import AT_THE_END, KEPT, LAYER_ACTIVATIONS, MERGES, TABLES, Kind, kind_of, supported
from metronn.train.options import FinetuneOptions, Widths

CALIBRATION_EVENTS = 2048
LEAST_FRAC, MOST_FRAC = -16, 20
"""Bounds of trained fraction bits."""


def to_quantized(
    backend: Backend, model: KerasObject, inputs: Mapping[str, Floats], options: FinetuneOptions, where: str
) -> KerasObject:
    """Return the HGQ2 network of a float one. `inputs`: events by input name; `where` names the file in errors.

    Without `input_bits`, inputs are on the exact grid of the data where 16 bits hold it, else they have 16 bits;
    without `widths`, every weight has its own.

    Raises ModelError that lists every layer that has no counterpart.
    """
    order = calls(model)
    _check(model, order, where)
    return _Converter(backend=backend, model=model, order=order, inputs=inputs, options=options).run()


def _activation(layer: KerasObject) -> str:
    kind = type(layer).__name__
    if kind in LAYER_ACTIVATIONS:
        return LAYER_ACTIVATIONS[kind]
    function = getattr(layer, "activation", None)
    return "linear" if function is None else str(getattr(function, "__name__", type(function).__name__))


def _check(model: KerasObject, order: Sequence[LayerCall], where: str) -> None:
    """Raise ModelError listing all that is not supported."""
    ends = {id(y) for y in model.outputs}
    problems = []
    for name, count in _counted([call.layer.name for call in order]).items():
        if count > 1:
            problems.append(f"{name}: called {count} times; a layer can have one place only")
    for call in order:
        layer, name = call.layer, type(call.layer).__name__
        kind = kind_of(name) if type(layer).__module__.startswith("keras") else None
        last = any(id(y) in ends for y in call.node.outputs)
        activation = _activation(layer) if kind in (Kind.LINEAR, Kind.ACTIVATION) else "linear"
        if kind is None:
            problems.append(f"{layer.name}: {name} cannot be trained quantized")
        elif activation not in (*KEPT, *TABLES, *(AT_THE_END if last else ())):
            place = "" if last else " before the last layer"
            problems.append(f"{layer.name}: activation {activation}{place} cannot be trained quantized")
        elif getattr(layer, "data_format", "channels_last") == "channels_first":
            problems.append(f"{layer.name}: data_format channels_first; only channels_last can be trained")
        elif kind is Kind.NORM and layer.axis not in (-1, len(call.node.outputs[0].shape) - 1):
            problems.append(f"{layer.name}: BatchNormalization along axis {layer.axis}; only the last axis is possible")
    if problems:
        listed = "".join(f"\n  {what}: {', '.join(names)}" for what, names in supported().items())
        raise ModelError("\n".join(f"{where}: {p}" for p in problems) + f"{listed}")


def _counted(names: Sequence[str]) -> dict[str, int]:
    return {name: names.count(name) for name in dict.fromkeys(names)}


@dataclass(slots=True)
class _Converter:
    backend: Backend
    model: KerasObject
    order: Sequence[LayerCall]
    inputs: Mapping[str, Floats]
    options: FinetuneOptions
    weights: dict[str, list[Floats]] = field(default_factory=dict)
    absorbed: set[str] = field(default_factory=set)
    ranges: dict[str, float] = field(default_factory=dict)

    def run(self) -> KerasObject:
        for call in self.order:
            if kind_of(type(call.layer).__name__) is Kind.LINEAR:
                values = [np.asarray(v, dtype=np.float64) for v in call.layer.get_weights()]
                if not call.layer.use_bias:
                    values.append(np.zeros(values[0].shape[-1]))
                self.weights[call.layer.name] = values
        self._fold()
        self._measure()
        result = rebuild(self.backend, self.model, self._run, self._enter)
        for name, values in self.weights.items():
            layer = result.get_layer(name)
            layer._kernel.assign(values[0].astype(np.float32))
            layer.bias.assign(values[1].astype(np.float32))
        return result

    # Batch normalization

    def _fold(self) -> None:
        readers: dict[str, list[LayerCall]] = {}
        for call in self.order:
            for name in call.reads:
                if name is not None:
                    readers.setdefault(name, []).append(call)
        shown = {y._keras_history.operation.name for y in self.model.outputs}
        made = {call.layer.name: call for call in self.order}
        for call in self.order:
            if kind_of(type(call.layer).__name__) is not Kind.NORM:
                continue
            norm, source = call.layer, call.reads[0]
            scale, shift = _affine(norm)
            before = made.get(source) if source is not None else None
            if (
                before is not None
                and before.layer.name in self.weights
                and _activation(before.layer) == "linear"
                and len(readers[before.layer.name]) == 1
                and before.layer.name not in shown
            ):
                kernel, bias = self.weights[before.layer.name]
                self.weights[before.layer.name] = [kernel * scale, bias * scale + shift]
                self.absorbed.add(norm.name)
                continue
            behind = readers.get(norm.name, [])
            if len(behind) == 1 and type(behind[0].layer).__name__ == "Dense" and norm.name not in shown:
                name = behind[0].layer.name
                kernel, bias = self.weights[name]
                self.weights[name] = [scale[:, None] * kernel, bias + shift @ kernel]
                self.absorbed.add(norm.name)

    # Ranges

    def _measure(self) -> None:
        """Find the largest magnitude of everything a Q layer will read."""
        keras = self.backend.keras
        source: dict[int, KerasObject] = {}
        for call in self.order:
            if call.layer.name in self.absorbed or kind_of(type(call.layer).__name__) is Kind.DROP:
                (x,), (y,) = call.node.input_tensors, call.node.outputs
                source[id(y)] = source.get(id(x), x)
        tensors: dict[str, KerasObject] = {}
        for call in self.order:
            for position, x in enumerate(call.node.input_tensors):
                tensors[f"{call.layer.name}/{position}"] = source.get(id(x), x)
        probe = keras.Model(one(self.model.inputs), list(tensors.values()))
        events = [self.inputs[x.name][:CALIBRATION_EVENTS].astype(np.float32) for x in self.model.inputs]
        results = probe.predict(one(events), batch_size=CALIBRATION_EVENTS, verbose=0)
        results = results if isinstance(results, list) else [results]
        for name, values in zip(tensors, results, strict=True):
            self.ranges[name] = float(np.abs(values).max())

    # Quantizers

    def _data(self, name: str, shape: Sequence[int | None], *, position: int = 0) -> KerasObject:
        """Quantizer of a value: as many fraction bits as make `activation_bits` for the values seen."""
        hgq = self.backend.hgq
        frac = self.options.activation_bits - _integer_bits(self.ranges[f"{name}/{position}"])
        alone = self.options.widths is Widths.LAYER
        heterogeneous = () if alone else (-1,) if len(shape) > 2 else None
        return hgq.config.QuantizerConfig(
            "kif",
            "datalane",
            f0=frac,
            i0=_integer_bits(self.ranges[f"{name}/{position}"]),
            overflow_mode="SAT" if self.options.saturate else "WRAP",
            fc=hgq.constraints.MinMax(LEAST_FRAC, MOST_FRAC),
            homogeneous_axis=(0,) if heterogeneous is None else None,
            heterogeneous_axis=heterogeneous,
        )

    def _weight(self, values: Floats, place: str, bits: int) -> KerasObject:
        """Quantizer of weights: rounded, never clipped; a weight that rounds to zero costs no bit."""
        hgq = self.backend.hgq
        frac = bits - 1 - _integer_bits(float(np.abs(values).max()))
        axes: dict[str, object] = {"homogeneous_axis": (), "heterogeneous_axis": None}
        if self.options.widths is not Widths.WEIGHT and place == "weight":
            shared: tuple[int, ...] = (values.ndim - 1,) if self.options.widths is Widths.CHANNEL else ()
            axes = {"homogeneous_axis": None, "heterogeneous_axis": shared}
        return hgq.config.QuantizerConfig(
            "kif",
            place,
            f0=frac,
            i0=_integer_bits(float(np.abs(values).max())),
            overflow_mode="WRAP",
            i_decay_speed=math.inf,
            is_weight=True,
            fc=hgq.constraints.MinMax(LEAST_FRAC, MOST_FRAC),
            **axes,
        )

    def _enter(self, x: KerasObject) -> KerasObject:
        """Quantize an input on the grid of its data."""
        hgq = self.backend.hgq
        grid = input_range(self.inputs[x.name], self.options.input_bits)
        signed = grid.lowest < 0
        config = hgq.config.QuantizerConfig(
            "kif",
            "datalane",
            k0=signed,
            i0=grid.width_bits - int(signed) - int(grid.max_frac),
            f0=int(grid.max_frac),
            overflow_mode="SAT",
            ic=None,
            fc=None,
            ir=None,
            fr=None,
            homogeneous_axis=None,
            heterogeneous_axis=(),
        )
        return hgq.layers.Quantizer(config, trainable=False, name=f"{x.name}_grid")(x)

    # Layers

    def _run(self, call: LayerCall, args: tuple[KerasObject, ...], kwargs: Mapping[str, KerasObject]) -> KerasObject:
        layer, keras, layers = call.layer, self.backend.keras, self.backend.hgq.layers
        name, shape = layer.name, call.node.input_tensors[0].shape
        kind = kind_of(type(layer).__name__)
        if name in self.absorbed:
            return args[0]
        match kind:
            case Kind.DROP:
                return args[0]
            case Kind.LINEAR:
                kernel, bias = self.weights[name]
                config = {
                    key: value
                    for key, value in layer.get_config().items()
                    if key in ("units", "filters", "kernel_size", "strides", "padding", "dilation_rate", "groups")
                }
                activation = _activation(layer)
                x = getattr(layers, f"Q{type(layer).__name__}")(
                    **config,
                    use_bias=True,
                    activation=activation if activation == "relu" else None,
                    name=name,
                    iq_conf=self._data(name, shape),
                    kq_conf=self._weight(kernel, "weight", self.options.weight_bits),
                    bq_conf=self._weight(bias, "bias", self.options.weight_bits + 4),
                )(args[0])
                return (
                    x if activation in ("relu", "linear") else self._table(call, activation, x, f"{name}_{activation}")
                )
            case Kind.NORM:
                scale, shift = _affine(layer)
                return self._norm(name, shape, scale, shift)(args[0])
            case Kind.ACTIVATION:
                activation = _activation(layer)
                if activation == "linear":
                    return args[0]
                return self._table(call, activation, args[0], name)
            case Kind.MERGE:
                confs = [
                    self._data(name, x.shape, position=position) for position, x in enumerate(call.node.input_tensors)
                ]
                return getattr(layers, MERGES[type(layer).__name__])(iq_confs=confs, name=name)(args[0])
            case Kind.AVERAGE:
                config = {
                    k: v for k, v in layer.get_config().items() if k in ("pool_size", "strides", "padding", "keepdims")
                }
                q_layer = getattr(layers, f"Q{type(layer).__name__}")
                return q_layer(**config, iq_conf=self._data(name, shape), name=name)(args[0])
            case Kind.MOVE:
                return type(layer).from_config(layer.get_config())(*args, **kwargs)
            case _:
                raise AssertionError(f"{name}: {type(layer).__name__} has no counterpart of {keras.__name__}")

    def _table(self, call: LayerCall, activation: str, x: KerasObject, name: str) -> KerasObject:
        """Make an activation: plain where it is simple or the end of the network, else a table."""
        keras, hgq = self.backend.keras, self.backend.hgq
        ends = any(id(y) == id(z) for y in call.node.outputs for z in self.model.outputs)
        if activation in KEPT or (ends and activation in AT_THE_END):
            return keras.layers.Activation(activation, name=name)(x)
        reach = float(self.ranges.get(f"{call.layer.name}/0", 8.0))
        shape = x.shape
        self.ranges[f"{name}/0"] = self.ranges.get(f"{name}/0", max(reach, 1.0))
        out = hgq.config.QuantizerConfig("kif", "table", f0=self.options.activation_bits - 1, i0=1)
        return hgq.layers.QUnaryFunctionLUT(
            activation, iq_conf=self._data(name, shape), oq_conf=out, allow_heterogeneous_table=False, name=name
        )(x)

    def _norm(self, name: str, shape: Sequence[int | None], scale: Floats, shift: Floats) -> KerasObject:
        """Make a batch normalization that scales and shifts as the trained one does."""
        constant = self.backend.keras.initializers.Constant
        layer = self.backend.hgq.layers.QBatchNormalization(
            name=name,
            epsilon=0.0,
            gamma_initializer=constant(scale),
            beta_initializer=constant(shift),
            iq_conf=self._data(name, shape),
            kq_conf=self._weight(scale, "weight", self.options.weight_bits),
            bq_conf=self._weight(shift, "bias", self.options.weight_bits + 4),
        )
        return layer


def _affine(norm: KerasObject) -> tuple[Floats, Floats]:
    """Scale and shift of a trained batch normalization, in float64."""
    size = int(norm.moving_mean.shape[0])
    gamma = np.asarray(norm.gamma, dtype=np.float64) if norm.scale else np.ones(size)
    beta = np.asarray(norm.beta, dtype=np.float64) if norm.center else np.zeros(size)
    mean = np.asarray(norm.moving_mean, dtype=np.float64)
    scale = gamma / np.sqrt(np.asarray(norm.moving_variance, dtype=np.float64) + norm.epsilon)
    return scale, beta - mean * scale


def _integer_bits(reach: float) -> int:
    """Bits before the point, the sign left out, of a value of this magnitude."""
    return math.ceil(math.log2(reach)) if reach > 0 else 0


def input_range(values: Floats, bits: int | None) -> Range:
    """Return the codes of an input: `bits` that cover its values; None: their exact grid of up to 16 bits, else 16."""
    if bits is None:
        found = exact_grid(values, 16)
        if found is not None and found.width_bits <= 16:
            return found
    width = bits or 16
    lo, hi = float(values.min()), float(values.max())
    signed = lo < 0
    return Range.fixed(width, covering_frac(lo, hi, width, signed=signed), signed=signed)
