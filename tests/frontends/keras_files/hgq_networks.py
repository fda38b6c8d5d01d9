"""Random HGQ2 networks with what HGQ2 computes, written to files: `hgq_networks.py FOLDER KIND-SEED ...`.

Widths are drawn for every element, zero bits and negative i or f among them, small enough that HGQ2's own float32
sums are exact. The same kind and seed give the same network. It runs in a process of its own, since Keras has one
backend per process, and NumPy needs no compilation.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

FORMATS = ("network.keras", "network.h5")
ROUNDINGS = ("TRN", "RND", "RND_CONV", "TRN_ZERO", "RND_ZERO", "RND_MIN_INF", "RND_INF", "S_RND", "S_RND_CONV")
OVERFLOWS = ("WRAP", "SAT", "SAT_SYM")
WIDE = {"weight": (2, 4), "bias": (3, 6), "datalane": (3, 4), "table": (1, 6)}
"""Largest i and f by place of the quantizer."""


@dataclass(slots=True)
class Recipe:
    """Draws configurations, weights and widths of one network; `traced`: WRAP gets its i from events."""

    seed: int
    traced: bool = False
    events: int = 64
    choices: random.Random = field(init=False)
    rng: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        """Seed the two sources."""
        self.choices = random.Random(self.seed)
        self.rng = np.random.default_rng(self.seed)

    def quantizer(self, place: str, rank: int, **fixed: Any) -> Any:
        """Return the configuration of a quantizer for values with `rank` axes (the batch axis counts)."""
        from hgq.config import QuantizerConfig

        pick = self.choices
        kind = pick.choice(("kif", "kbi"))
        first = 0 if place in ("weight", "bias") else 1
        axes = [axis for axis in range(first, rank) if pick.random() < 0.6]
        modes = {"round_mode": pick.choice(ROUNDINGS), "overflow_mode": pick.choice(OVERFLOWS)}
        own: dict[str, Any] = {"b0": 6} if kind == "kbi" else {"f0": 4}
        return QuantizerConfig(kind, place, heterogeneous_axis=axes, i0=2, **own, **modes, **fixed)

    def single(self, rank: int, *, weight: int | None = None, bias: int | None = None, out: int = 0) -> dict[str, Any]:
        """Return the quantizers of a layer with one input; `out` axes of the result when it has a quantizer."""
        confs = {"iq_conf": self.quantizer("datalane", rank), "enable_iq": True}
        if weight is not None:
            confs["kq_conf"] = self.quantizer("weight", weight)
        if bias is not None:
            confs["bq_conf"] = self.quantizer("bias", bias)
        if out and self.choices.random() < 0.4:
            confs |= {"enable_oq": True, "oq_conf": self.quantizer("datalane", out)}
        return confs

    def activation(self) -> str | None:
        """Return an activation that keeps values on their grid."""
        return self.choices.choice((None, "relu", "linear"))

    def fill(self, model: Any) -> None:
        """Give weights random values, and every quantizer random widths of its place."""
        for variable in model.weights:
            if variable.dtype.startswith("float"):
                values = self.rng.normal(size=variable.shape)
                variable.assign(np.abs(values) + 0.1 if "variance" in variable.path else values)
        for layer in model._flatten_layers():
            if hasattr(layer, "_k"):
                self._widths(layer)

    def _widths(self, layer: Any) -> None:
        place = "weight" if layer._is_weight else "datalane"
        top_i, top_f = WIDE[place]
        shape = layer._k.shape
        i = self.rng.integers(-1, top_i, size=shape, endpoint=True)
        f = self.rng.integers(-1, top_f, size=shape, endpoint=True)
        f = np.where(self.rng.random(shape) < 0.1, -i, f)
        noise = self.rng.uniform(-0.4, 0.4, size=(2, *shape))  # trained widths are no whole numbers
        layer._k.assign(self.rng.integers(0, 1, size=shape, endpoint=True))
        layer._i.assign(i + noise[0])
        if hasattr(layer, "_f"):
            layer._f.assign(f + noise[1])
        else:
            layer._b.assign(np.maximum(i + f, 0) + noise[1])


Builder = Callable[[Recipe, Any], Any]


def _dense(recipe: Recipe, x: Any) -> Any:
    from hgq.layers import QDense

    rank, units = len(x.shape), recipe.choices.randint(1, 6)
    confs = recipe.single(rank, weight=2, bias=1, out=rank)
    return QDense(units, use_bias=recipe.choices.random() < 0.8, activation=recipe.activation(), **confs)(x)


def _batch_norm_dense(recipe: Recipe, x: Any) -> Any:
    from hgq.layers import QBatchNormDense

    confs = recipe.single(len(x.shape), weight=2, bias=1, out=len(x.shape))
    return QBatchNormDense(4, activation="relu", scale=recipe.choices.random() < 0.7, **confs)(x)


def _batch_normalization(recipe: Recipe, x: Any) -> Any:
    from hgq.layers import QBatchNormalization

    pick = recipe.choices
    confs = recipe.single(len(x.shape), weight=1, bias=1, out=len(x.shape))
    return QBatchNormalization(scale=pick.random() < 0.8, center=pick.random() < 0.8, **confs)(x)


def _einsum_dense(recipe: Recipe, x: Any) -> Any:
    from hgq.layers import QEinsumDense, QEinsumDenseBatchnorm

    pick = recipe.choices
    if len(x.shape) == 2:
        # Tracing cannot count the cost of an ellipsis.
        equations = (("bi,io->bo", (4,), "o", 2), ("...x,xy->...y", (3,), "y", 2))
        equation, size, bias, weight = equations[0] if recipe.traced else pick.choice(equations)
    else:
        length, features = x.shape[1:]
        equation, size, bias, weight = pick.choice(
            (
                ("bti,io->bto", (length, 4), "o", 2),
                ("bti,tio->bto", (length, 3), "to", 3),
                ("bti,ts->bsi", (3, features), "s", 2),
                ("bti,tis->bs", (5,), "s", 3),
                ("bti,ihk->bthk", (length, 2, 3), "hk", 3),
            )
        )
    out = len(size) + 1
    kind = pick.choice((QEinsumDense, QEinsumDense, QEinsumDenseBatchnorm))
    if kind is QEinsumDenseBatchnorm and "..." not in equation:
        confs = recipe.single(len(x.shape), weight=weight, bias=len(_bias_shape(equation, bias)), out=out)
        return kind(equation, size, bias_axes=bias, normalize_axes=bias, activation=recipe.activation(), **confs)(x)
    axes = pick.choice((bias, None))
    confs = recipe.single(len(x.shape), weight=weight, bias=len(_bias_shape(equation, bias)) if axes else None, out=out)
    return QEinsumDense(equation, size, bias_axes=axes, activation=recipe.activation(), **confs)(x)


def _bias_shape(equation: str, bias: str) -> str:
    result = equation.split("->")[1]
    return result[min(result.index(label) for label in bias) :]


def _convolution(recipe: Recipe, x: Any) -> Any:
    from hgq.layers import QConv1D, QConv2D

    pick, rank = recipe.choices, len(x.shape) - 2
    strides = pick.choice((1, 2))
    options = {
        "strides": strides,
        "dilation_rate": 1 if strides > 1 else pick.choice((1, 2)),
        "padding": pick.choice(("valid", "same")),
        "groups": 2 if x.shape[-1] % 2 == 0 and pick.random() < 0.4 else 1,
        "use_bias": pick.random() < 0.8,
        "activation": recipe.activation(),
    }
    confs = recipe.single(rank + 2, weight=rank + 2, bias=1, out=rank + 2)
    return (QConv1D if rank == 1 else QConv2D)(4, 2, **options, **confs)(x)


def _pooling(recipe: Recipe, x: Any) -> Any:
    import hgq.layers

    pick, rank = recipe.choices, len(x.shape) - 2
    confs = recipe.single(rank + 2)
    if pick.random() < 0.3:
        return getattr(hgq.layers, f"QGlobalMaxPooling{rank}D")(keepdims=True, **confs)(x)
    # Two positions or four: then HGQ2's average is exact in float32.
    name = pick.choice((f"QMaxPooling{rank}D", f"QAveragePooling{rank}D"))
    padding = "valid" if "Average" in name else pick.choice(("valid", "same"))
    return getattr(hgq.layers, name)(2, padding=padding, **confs)(x)


def _merge(recipe: Recipe, x: Any) -> Any:
    import hgq.layers

    pick, rank = recipe.choices, len(x.shape)
    name = pick.choice(("QAdd", "QSubtract", "QMultiply", "QMaximum", "QMinimum", "QAveragePow2"))
    count = 2 if name == "QSubtract" else pick.choice((2, 3))
    confs = [recipe.quantizer("datalane", rank) for _ in range(count)]
    return getattr(hgq.layers, name)(iq_confs=confs, enable_iq=True)([x] * count)


def _sum(recipe: Recipe, x: Any) -> Any:
    from hgq.layers import QMeanPow2, QSum

    pick, rank = recipe.choices, len(x.shape)
    axes = pick.choice(((1,), (-1,), (1, 2))) if rank > 2 else (1,)
    confs = recipe.single(rank)
    if pick.random() < 0.5:
        return QMeanPow2(axes=axes, keepdims=True, **confs)(x)
    return QSum(axes=axes, scale=0.5, keepdims=True, **confs)(x)


def _einsum(recipe: Recipe, x: Any) -> Any:
    from hgq.layers import QDot, QEinsum

    rank = len(x.shape)
    confs = [recipe.quantizer("datalane", rank) for _ in range(2)]
    if rank == 2:
        equation = recipe.choices.choice(("bi,bj->bij", "bi,bi->bi"))
        return QEinsum(equation, iq_confs=confs, enable_iq=True)([x, x])
    if recipe.choices.random() < 0.3:
        return QDot(axes=(2, 2), iq_confs=confs, enable_iq=True)([x, x])
    return QEinsum("bti,bsi->bts", iq_confs=confs, enable_iq=True)([x, x])


def _function(recipe: Recipe, x: Any) -> Any:
    from hgq.layers import QAffinedUnaryFunctionLUT, QUnaryFunctionLUT

    rank = len(x.shape)
    confs = {"iq_conf": recipe.quantizer("datalane", rank), "oq_conf": recipe.quantizer("table", rank)}
    kind = recipe.choices.choice((QUnaryFunctionLUT, QAffinedUnaryFunctionLUT))
    activation = recipe.choices.choice(("tanh", "sigmoid", "exponential", "softplus", "silu"))
    return kind(activation, enable_oq=True, enable_iq=True, **confs)(x)


def _softmax(recipe: Recipe, x: Any) -> Any:
    from hgq.layers import QSoftmax

    pick, rank = recipe.choices, len(x.shape)
    stable = pick.random() < 0.7
    confs = {
        "exp_iq_conf": recipe.quantizer("datalane", rank),
        "inv_iq_conf": recipe.quantizer("datalane", rank),
        "exp_oq_conf": recipe.quantizer("table", rank),
        "inv_oq_conf": recipe.quantizer("table", rank),
        "iq_conf": recipe.quantizer("datalane", rank),
        "oq_conf": recipe.quantizer("datalane", rank),
    }
    axis = pick.choice((-1, (1, 2))) if rank > 2 else -1
    scaler = pick.choice((1.0, 0.37))
    switches = {"enable_iq": True, "enable_oq": pick.random() < 0.7, "allow_heterogeneous_table": pick.random() < 0.5}
    return QSoftmax(axis, stable=stable, input_scaler=scaler, **switches, **confs)(x)


def _attention_confs(recipe: Recipe, *, table: bool) -> dict[str, Any]:
    """Return quantizers for an attention layer: those of its projections serve tensors of different ranks."""
    from hgq.config import QuantizerConfig

    def shared(place: str) -> Any:
        modes = {"round_mode": recipe.choices.choice(ROUNDINGS), "overflow_mode": recipe.choices.choice(OVERFLOWS)}
        kind = recipe.choices.choice(("kif", "kbi"))
        return QuantizerConfig(kind, place, **modes)

    projections = {
        "iq": "datalane",
        "oq": "datalane",
        **({"toq": "table"} if table else {"kq": "weight", "bq": "bias"}),
    }
    tables = {"exp_iq": "datalane", "exp_oq": "table", "inv_iq": "datalane", "inv_oq": "table", "oq": "datalane"}
    return {
        **{f"qkvo_{name}_conf": shared(place) for name, place in projections.items()},
        **{f"softmax_{name}_conf": shared(place) for name, place in tables.items()},
    }


def _attention(recipe: Recipe, x: Any) -> Any:
    from hgq.layers import QLinformerAttention, QMultiHeadAttention
    from hgq.layers.attn import QSALTAttention

    pick = recipe.choices
    confs = _attention_confs(recipe, table=False)
    options = {
        "num_heads": pick.choice((1, 2)),
        "key_dim": pick.choice((1, 3)),
        "use_bias": pick.random() < 0.7,
        "stable_softmax": pick.random() < 0.7,
    }
    kind = pick.choice((QMultiHeadAttention, QMultiHeadAttention, QLinformerAttention, QSALTAttention))
    if kind is QMultiHeadAttention:
        fuse = pick.choice(("none", "qkv", "kv"))
        tensors = {"none": ([x], [x, x], [x, x, x]), "kv": ([x, x],), "qkv": ([x],)}[fuse]
        return kind(fuse=fuse, **options, **confs)(*pick.choice(tensors))
    shared = pick.random() < 0.3
    if kind is QSALTAttention:
        clusters = pick.random() < 0.5 and x.shape[1] % 2 == 1
        extra = {"conv_size": pick.choice((-1, 3)), "cluster_k_proj": clusters, "cluster_v_proj": clusters}
        return kind(lin_kv_proj_dim=2, share_kv_proj=shared, **extra, **options, **confs)(x)
    return kind(lin_kv_proj_dim=2, share_kv_proj=shared, **options, **confs)(x, x)


def _table_attention(recipe: Recipe, x: Any) -> Any:
    from hgq.layers import QLinformerAttentionT, QMultiHeadAttentionT

    confs = _attention_confs(recipe, table=True)
    options = {"num_heads": 2, "key_dim": 2, "n_hl": 1, "d_hl": 2, "batch_norm": recipe.choices.random() < 0.5}
    if recipe.choices.random() < 0.5:
        return QMultiHeadAttentionT(**options, **confs)(x)
    mode = recipe.choices.choice(("dense", "dense_t"))
    return QLinformerAttentionT(lin_kv_proj_dim=2, lin_kv_proj_mode=mode, **options, **confs)(x)


def _tables(recipe: Recipe, x: Any) -> Any:
    from hgq.layers import QConvT1D, QConvT2D, QDenseT, QEinsumDenseT

    pick, rank = recipe.choices, len(x.shape)
    confs = {
        "iq_conf": recipe.quantizer("datalane", rank + 1),
        "toq_conf": recipe.quantizer("table", rank + 1),
        "n_hl": pick.choice((0, 1, 2)),
        "d_hl": 3,
        "batch_norm": pick.random() < 0.5,
        "subnn_activation": pick.choice(("tanh", "relu")),
    }
    if rank > 2 and pick.random() < 0.5:
        kind = QConvT1D if rank == 3 else QConvT2D
        return kind(3, 2, padding=pick.choice(("valid", "same")), **confs)(x)
    if rank == 3 and pick.random() < 0.5:
        equation = pick.choice(("bti,io->bto", "bti,tio->bto"))
        return QEinsumDenseT(equation, (x.shape[1], 3), bias_axes=pick.choice(("o", None)), **confs)(x)
    return QDenseT(3, use_bias=pick.random() < 0.7, activation=recipe.activation(), **confs)(x)


def _quantizer(recipe: Recipe, x: Any) -> Any:
    from hgq.config import HardSigmoidConfig, HardTanhConfig
    from hgq.quantizer import Quantizer

    rank = len(x.shape)
    other = recipe.choices.choice(
        ({}, {"scaler": 0.25}, {"affine": (0.5, 0.25)}, {"scaler": 2.0, "affine": (2.0, -1.0)})
    )
    hard = recipe.choices.choice((HardTanhConfig, HardSigmoidConfig))
    if recipe.choices.random() < 0.3:
        return Quantizer(hard(round_mode="RND_CONV"))(x)
    return Quantizer(recipe.quantizer("datalane", rank, **other))(x)


def _structure(recipe: Recipe, x: Any) -> Any:
    """Layers repeated along an axis, called twice inside a model, padded before, or called by keyword."""
    import keras
    from hgq.layers import QConv1D, QDense, QMultiHeadAttention

    pick, (length, features) = recipe.choices, x.shape[1:]

    def dense(units: int, rank: int = 3) -> Any:
        return QDense(units, **recipe.single(rank, weight=2, bias=1))

    match pick.randrange(4):
        case 0:
            return keras.layers.TimeDistributed(dense(3, 2))(x)
        case 1:
            inner = keras.Sequential([keras.Input((length, features)), dense(4), dense(features)])
            return inner(inner(x))
        case 2:
            confs = recipe.single(3, weight=3, bias=1)
            confs["iq_conf"].config |= {"heterogeneous_axis": (2,), "homogeneous_axis": None}
            padding = "valid" if recipe.traced else "causal"  # which tracing cannot count the cost of
            return QConv1D(3, 2, padding=padding, **confs)(x)
        case _:
            confs = _attention_confs(recipe, table=False)
            return QMultiHeadAttention(2, 2, **confs)(x, key=dense(features)(x), value=x)


BUILDERS: dict[str, tuple[Builder, Sequence[tuple[int, ...]]]] = {
    "attention": (_attention, ((4, 3), (3, 2))),
    "batch_norm_dense": (_batch_norm_dense, ((6,), (3, 4))),
    "batch_normalization": (_batch_normalization, ((5,), (3, 4))),
    "convolution": (_convolution, ((6, 2), (5, 4, 2))),
    "dense": (_dense, ((6,), (3, 4))),
    "einsum": (_einsum, ((4,), (3, 4))),
    "einsum_dense": (_einsum_dense, ((5,), (3, 4))),
    "function": (_function, ((5,), (3, 4))),
    "merge": (_merge, ((5,), (3, 4))),
    "pooling": (_pooling, ((6, 2), (4, 4, 2))),
    "quantizer": (_quantizer, ((5,), (3, 4))),
    "softmax": (_softmax, ((5,), (3, 4))),
    "structure": (_structure, ((4, 3),)),
    "sum": (_sum, ((5,), (3, 4))),
    "table_attention": (_table_attention, ((3, 3),)),
    "tables": (_tables, ((4,), (4, 2), (4, 4, 2))),
}
"""Kinds of layers, with the shapes of events they are tried on."""


def network(kind: str, recipe: Recipe) -> Any:
    """Return a model of a dense layer, the layer asked for, and a dense layer behind it."""
    import keras

    build, shapes = BUILDERS[kind]
    inputs = keras.Input(recipe.choices.choice(shapes))
    middle = build(recipe, inputs if recipe.choices.random() < 0.5 else _quantizer(recipe, inputs))
    model = keras.Model(inputs, _dense(recipe, middle))
    recipe.fill(model)
    if recipe.traced:
        from hgq.utils import trace_minmax

        trace_minmax(model, events(model, recipe))
    return model


def events(model: Any, recipe: Recipe) -> npt.NDArray[np.float32]:
    """Return events around the range of the quantizers, some exactly between two codes."""
    shape = (recipe.events, *model.inputs[0].shape[1:])
    values = np.random.default_rng(recipe.seed + 1).normal(scale=3.0, size=shape)
    values[::2] = np.round(values[::2] * 32) / 32
    return values.astype(np.float32)


def layers_of(model: Any, x: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
    """Return what HGQ2 computes: the output of every layer, by its name."""
    import keras

    names = [layer.name for layer in model.layers if not isinstance(layer, keras.layers.InputLayer)]
    probe = keras.Model(model.inputs[0], {name: model.get_layer(name).output for name in names})
    return {name: np.asarray(value) for name, value in probe(x, training=False).items()}


def write(kind: str, recipe: Recipe, folder: Path) -> None:
    """Save a network in both formats, the events (`x`), and what HGQ2 makes of them, by layer."""
    model = network(kind, recipe)
    x = events(model, recipe)
    for name in FORMATS:
        model.save(folder / name)
    np.savez(folder / "expected.npz", x=x, **layers_of(model, x))


def main(arguments: Sequence[str]) -> None:
    """Write networks into a folder, each as `<kind>-<seed>`; one divisible by three is traced."""
    import keras

    folder = Path(arguments[0])
    for name in arguments[1:]:
        kind, seed = name.rsplit("-", 1)
        keras.utils.clear_session()
        (folder / name).mkdir(parents=True)
        write(kind, Recipe(int(seed), traced=int(seed) % 3 == 0), folder / name)


if __name__ == "__main__":
    main(sys.argv[1:])
