"""HGQ2's attention layers: projections, scores, softmax in tables, and the weighted sum of the values.

Labels of axes are letters, as in `metronn.frontends.common.products`; the batch axis has none. The scale 1 /
sqrt(key_dim) is part of the exp table, as in HGQ2.
"""

from __future__ import annotations

import math
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from metronn.frontends.common.builder import LayerProblem
from metronn.frontends.common.products import constant_product, product
from metronn.frontends.keras.hgq.context import HgqContext
from metronn.frontends.keras.hgq.operators import quantized_softmax
from metronn.frontends.keras.hgq.quantizers import Config
from metronn.frontends.keras.hgq.tables import TABLE_KEYS, table_product
from metronn.frontends.keras.hgq.weights import COST, Float32, InnerLayer, WeightTree, child

ROLES = ("query", "value", "key")
"""Parameters of the call, in order."""

UNNAMED = r"q_einsum_dense(_\d+)?"
"""The projections along the sequence have names of Keras' making."""

Project = Callable[[HgqContext, str, tuple[str, str, str], str], str]


def called_with(node: object, xs: Sequence[str], names: Sequence[str]) -> dict[str, str]:
    """Return the tensors of a call by the names of the parameters; raises LayerProblem for others."""
    if not isinstance(node, dict):
        return dict(zip(names, xs, strict=False))
    arguments = node.get("args") or []
    given = [*zip(names, arguments, strict=False), *(node.get("kwargs") or {}).items()]
    tensors = [name for name, value in given if _is_tensor(value)]
    others = [name for name, value in given if name not in names and value not in (None, False)]
    if others or len(tensors) != len(xs) or len(arguments) > len(names):
        found = ", ".join(others) or f"{len(xs)} tensors"
        raise LayerProblem(f"is called with {found}; {', '.join(names)} are allowed, no masks and no scores")
    return dict(zip(tensors, xs, strict=True))


def _is_tensor(value: object) -> bool:
    return isinstance(value, dict) and value.get("class_name") == "__keras_tensor__"


def _einsum_dense(h: HgqContext, x: str, labels: tuple[str, str, str], bias: str) -> str:
    """Return QEinsumDense without activation; `bias` are the labels of its bias."""
    own = h.own(["kernel", *(["bias"] if bias else []), COST])
    shift = (h.weights("bq", own["bias"]), bias) if bias else None
    return h.left(constant_product(h.builder, h.entered(x), h.weights("kq", own["kernel"]), labels, shift))


@dataclass(frozen=True, slots=True)
class _Parts:
    """Configurations of the inner layers of an attention layer."""

    h: HgqContext
    project: Project

    def conf(self, **own: object) -> Config:
        """Return the configuration of a projection."""
        config = self.h.config
        shared = {f"{role}_conf": config.get(f"qkvo_{role}_conf") for role in ("iq", "kq", "bq", "oq", "toq")}
        tables = {key: config[key] for key in TABLE_KEYS if key in config}
        return {**shared, **tables, **own}

    def projection(self, name: str, x: str, *, bias: bool) -> str:
        """Return x projected from its last axis to heads and their features."""
        free = string.ascii_lowercase[: len(self.h.builder.shape(x)) - 1]
        inner = self.h.sub(InnerLayer(f"{name}_dense", name), self.conf(enable_iq=self._enabled, enable_oq=True))
        if self._enabled and child(inner.tree, InnerLayer("iq", r"(.*_)?iq")) is None:
            inner = self._sharing(inner, name)
        return self.project(inner, x, (free + "X", "XYZ", free + "YZ"), "YZ" if bias else "")

    @property
    def _enabled(self) -> bool:
        return bool(self.h.config.get("enable_iq", True))

    def _sharing(self, inner: HgqContext, name: str) -> HgqContext:
        """Give a projection the input quantizer that `fuse` lets it share; the query has its own unless all share."""
        for other in (role for role in ("value", "key", "query") if role != name):
            tree = child(self.h.tree, InnerLayer(f"{other}_dense", other))
            shared = None if tree is None else child(tree, InnerLayer("iq", r"(.*_)?iq"))
            if shared is not None:
                return replace(inner, tree=_Sharing(inner.tree, shared))
        return inner


@dataclass(frozen=True, slots=True)
class _Sharing:
    """A layer's arrays with the input quantizer of another layer."""

    tree: WeightTree
    shared: WeightTree

    def children(self, step: InnerLayer) -> list[WeightTree]:
        return [self.shared] if step.attribute == "iq" else self.tree.children(step)

    def own(self, names: Sequence[str]) -> dict[str, Float32]:
        return self.tree.own(names)

    def shape(self, name: str) -> tuple[int, ...]:
        return self.tree.shape(name)


def _attention(h: HgqContext, project: Project, query: str, value: str, key: str) -> str:
    builder, parts = h.builder, _Parts(h, project)
    bias = bool(h.config.get("use_bias", True))
    q = parts.projection("query", query, bias=bias)
    k = parts.projection("key", key, bias=False)  # without bias in HGQ2, which no softmax would see
    v = parts.projection("value", value, bias=bias)
    rank = len(builder.shape(v)) + 1
    listed = h.config.get("attention_axes")
    axes = list(range(1, rank - 2)) if listed is None else [int(axis) for axis in listed]
    target = string.ascii_lowercase[:rank]
    spare = iter(string.ascii_lowercase[rank:])
    kept = [axis for axis in range(rank - 1) if axis not in axes]
    source = "".join(target[axis] if axis in (*kept, rank - 1) else next(spare) for axis in range(rank))
    scores = "".join([*(target[a] for a in kept), *(target[a] for a in axes), *(source[a] for a in axes)])
    target, source, scores = target[1:], source[1:], scores[1:]
    logits = _scores(h, product(builder, k, q, (source, target, scores)))
    names = ("iq", "exp_iq", "exp_oq", "inv_iq", "inv_oq", "oq")
    config = {f"{name}_conf": h.config.get(f"softmax_{name}_conf") for name in names}
    softmax = h.sub(
        InnerLayer("softmax", r"q_softmax(_\d+)?"),
        {
            **config,
            "enable_iq": False,
            "enable_oq": True,
            "stable": h.config.get("stable_softmax", True),
            "input_scaler": 1 / math.sqrt(h.c.number("key_dim")),
        },
    )
    weights = quantized_softmax(softmax, logits, range(len(scores) - len(axes), len(scores)))
    mixed = product(builder, weights, v, (scores, source, target))
    out = string.ascii_uppercase[: len(_sizes(h, query))]
    free = target[:-2]
    inner = h.sub(
        InnerLayer("output_dense", "attention_output"),
        parts.conf(enable_iq=True, enable_oq=bool(h.config.get("enable_oq", False))),
    )
    y = project(inner, mixed, (target, target[-2:] + out, free + out), out if bias else "")
    return h.left(y)


def _sizes(h: HgqContext, query: str) -> list[int]:
    """Return the sizes of the last axes of the result."""
    shape = h.config.get("output_shape")
    if not shape:
        return [h.builder.shape(query)[-1]]
    return [int(size) for size in shape] if isinstance(shape, list) else [int(shape)]


def _scores(h: HgqContext, logits: str) -> str:
    """Return the scores; QSALTAttention convolves them, heads as channels."""
    if "conv_size" not in h.config or int(h.config["conv_size"]) <= 0:
        return logits
    heads = h.builder.shape(logits)[0]
    groups = heads if h.config.get("separate_conv", False) else 1
    conf = _Parts(h, _einsum_dense).conf(enable_iq=True, enable_oq=False)
    size = int(h.config["conv_size"])
    own = {"filters": heads, "kernel_size": [size, size], "padding": "same", "groups": groups, "use_bias": True}
    inner = h.sub(InnerLayer("conv", r"q_conv2d(_\d+)?"), {**conf, **own, "data_format": "channels_first"})
    arrays = inner.own(["kernel", "bias", COST])
    given = {"kernel": inner.weights("kq", arrays["kernel"]), "bias": inner.weights("bq", arrays["bias"])}
    return inner.keras("Conv2D", [inner.entered(logits)], given)


def _called(h: HgqContext) -> tuple[str, str, str]:
    """Return query, value and key."""
    given = called_with(h.c.node, h.c.xs, ROLES)
    if "query" not in given:
        raise LayerProblem("is called without a query")
    value = given.get("value", given["query"])
    return given["query"], value, given.get("key", value)


def _multi_head(project: Project) -> Callable[[HgqContext], str]:
    return lambda h: _attention(h, project, *_called(h))


def _linformer(project: Project) -> Callable[[HgqContext], str]:
    """Attention on keys and values that are first projected along their sequence."""

    def layer(h: HgqContext) -> str:
        query, value, key = _called(h)
        parts, tables = _Parts(h, project), h.config.get("lin_kv_proj_mode", "dense") == "dense_t"
        listed = h.config.get("attention_axes")
        rank = len(h.builder.shape(value)) + 1
        axes = list(range(1, rank - 1)) if listed is None else [int(axis) for axis in listed]

        def along(x: str, which: str, number: int) -> str:
            ours = string.ascii_lowercase[: rank - 1]
            fresh = string.ascii_uppercase[: len(axes)]
            theirs = "".join(ours[axis - 1] for axis in axes) + fresh
            out = "".join(fresh[axes.index(a + 1)] if a + 1 in axes else label for a, label in enumerate(ours))
            enabled = {
                "enable_iq": bool(h.config.get("enable_iq", True)) if tables else True,
                "enable_oq": bool(h.config.get("enable_oq", False)) if tables else False,
            }
            name = {"k": "lin_key", "v": "lin_value"}[which] if tables else UNNAMED
            inner = h.sub(InnerLayer(f"lin_{which}_proj", name), parts.conf(**enabled), 0 if tables else number)
            return (project if tables else _einsum_dense)(inner, x, (ours, theirs, out), "")

        return _attention(h, project, query, _shared_or(h, along, value), along(key, "k", 0))

    return layer


def _shared_or(h: HgqContext, along: Callable[[str, str, int], str], value: str) -> str:
    shared = bool(h.config.get("share_kv_proj", False))
    return along(value, "k", 0) if shared else along(value, "v", _second(h))


def _second(h: HgqContext) -> int:
    """Return the number of the second unnamed projection: numbered only where names tell them apart."""
    return 1 if len(h.tree.children(InnerLayer("lin_v_proj", UNNAMED))) > 1 else 0


def _salt(h: HgqContext) -> str:
    """Linformer attention with a convolution of the scores; projections may cluster neighbours."""
    query, value, key = _called(h)
    parts = _Parts(h, _einsum_dense)
    count = h.config.get("lin_kv_proj_dim")
    length = int(count[0] if isinstance(count, list) else h.c.number("lin_kv_proj_dim"))

    def along(x: str, which: str, number: int) -> str:
        clustered = bool(h.config.get(f"cluster_{'k' if which == 'k' else 'v'}_proj", False))
        inner = h.sub(InnerLayer(f"lin_{which}_proj", UNNAMED), parts.conf(enable_iq=True, enable_oq=False), number)
        if not clustered:
            return _einsum_dense(inner, x, ("ab", "ac", "cb"), "")
        positions, features = h.builder.shape(x)
        reach = math.ceil(positions / length)
        index = h.builder.indices(x).tolist()
        index += [[-1] * features] * (reach * length - positions)
        padded = h.builder.rewire([x], np.asarray(index, dtype=np.int64).reshape(length, reach, features), "clusters")
        return _einsum_dense(inner, padded, ("mnd", "mn", "md"), "")

    return _attention(h, _einsum_dense, query, _shared_or(h, along, value), along(key, "k", 0))


ATTENTION: Mapping[str, Callable[[HgqContext], str]] = {
    "QLinformerAttention": _linformer(_einsum_dense),
    "QLinformerAttentionT": _linformer(table_product),
    "QMultiHeadAttention": _multi_head(_einsum_dense),
    "QMultiHeadAttentionT": _multi_head(table_product),
    "QSALTAttention": _salt,
}
"""Layers by class name."""
