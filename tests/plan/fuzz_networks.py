"""Random networks with shape: a few layers of every kind on inputs of one to three axes, and a random setting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from stream_networks import Net

from metronn.ir.arrays import IntArray
from metronn.ir.graph import Graph
from metronn.ir.ops import (
    Add,
    Constant,
    Linear,
    Lookup,
    Multiply,
    Op,
    Padding,
    Reduce,
    ReduceKind,
    Rewire,
    Window,
)
from metronn.ir.types import Range
from metronn.plan.options import Fold, InputForm, OutputForm, PlanOptions

Item = TypeVar("Item")
INTERVALS = (1, 2, 3, 5, 9, 16, 25, 64, 100, 144, 400, 1000)
SYSTEMS = {"one-serenity": 1, "two-serenity": 2, "four-serenity": 4}
LARGE = 700
"""Elements beyond which a layer that makes more of them is left out."""


class RandomNet(Net):
    """Layers whose parameters are drawn."""

    def pick(self, *items: Item) -> Item:
        return items[int(self.generator.integers(len(items)))]

    def name(self, kind: str) -> str:
        return f"{kind}{len(self.builder.nodes)}"

    def indices(self, x: str) -> npt.NDArray[np.int64]:
        return np.arange(self.builder.types[x].size).reshape(self.shape(x))

    def moved(self, xs: tuple[str, ...], kind: str, index: npt.NDArray[np.int64]) -> str:
        return self.builder.add(Rewire(xs=xs, index=IntArray.of(index.ravel()), shape=index.shape), self.name(kind))

    def windows(self, x: str, name: str, *, pool: bool = False, padding: Padding = Padding.ZERO) -> tuple[str, int]:
        """Windows of random geometry; also returns how many positions each has."""
        kernel, strides, dilations, before, after = [], [], [], [], []
        for n in self.shape(x)[:-1]:
            size = min(n, self.pick(1, 2, 2, 3, 3) if pool else self.pick(1, 2, 3, 3, 4, 5))
            dilation = 1 if pool else self.pick(1, 1, 2, 3)
            dilation = dilation if dilation * (size - 1) < n else 1
            reach = dilation * (size - 1)
            draw = int(self.generator.integers(0, reach + 1))
            first, last = self.pick((0, 0), (reach // 2, reach - reach // 2), (draw, reach // 2))
            kernel.append(size)
            strides.append(self.pick(1, 2, 2, 3) if pool else self.pick(1, 1, 2, 3))
            dilations.append(dilation)
            before.append(first)
            after.append(last)
        op = Window(
            x=x,
            kernel=tuple(kernel),
            strides=tuple(strides),
            dilations=tuple(dilations),
            before=tuple(before),
            after=tuple(after),
            padding=padding,
        )
        return self.builder.add(op, f"{name}.window", name), int(np.prod(kernel))

    def linear(self, x: str, name: str, outputs: int, *, bits: int = 6) -> str:
        """Scales by output and by input, half of the time."""
        half, kind = 1 << (bits - 1), self.builder.types[x]
        n_in = kind.shape[-1]
        weight = self.generator.integers(1 - half, half, (n_in, outputs))
        bias = IntArray.of(self.generator.integers(-8 * half, 8 * half, outputs))
        op = Linear(x=x, weight=IntArray.of(weight), bias=bias, weight_frac=bits - 1)
        if self.pick(True, False):
            scales = tuple(int(k) for k in self.generator.integers(bits - 3, bits + 1, outputs))
            inputs = tuple(4 - frac for frac in kind.range.fracs(kind.size)[:n_in])
            op = replace(op, weight_frac=scales, input_frac=self.pick(inputs, inputs, 0))
        return self.builder.add(op, name)

    def target(self, x: str, out: Range) -> Range:
        """Let results of several fracs keep them, half of the time."""
        kind = self.builder.types[x]
        if isinstance(kind.range.frac, int) or self.pick(True, False):
            return out
        shift = kind.range.max_frac - out.max_frac
        return Range(out.lo, out.hi, tuple(frac - shift for frac in kind.range.fracs(kind.size)))

    def any_conv(self, x: str) -> str:
        name = self.name("conv")
        windows, _ = self.windows(x, name)
        return self.requantized(self.linear(windows, name, self.pick(1, 2, 3), bits=self.pick(2, 4, 6)), name)

    def depthwise(self, x: str) -> str:
        name, channels = self.name("depthwise"), self.shape(x)[-1]
        windows, positions = self.windows(x, name)
        weight = np.kron(self.generator.integers(-15, 16, (positions, 1)), np.eye(channels, dtype=np.int64))
        op = Linear(x=windows, weight=IntArray.of(weight), bias=IntArray.of(np.arange(channels)), weight_frac=4)
        return self.requantized(self.builder.add(op, name), name)

    def pool(self, x: str) -> str:
        name, channels, most = self.name("pool"), self.shape(x)[-1], self.pick(True, False)
        windows, positions = self.windows(x, name, pool=True, padding=Padding.LOWEST if most else Padding.ZERO)
        shape = (*self.shape(windows)[:-1], positions, channels)
        apart = self.reshape(windows, f"{name}.apart", shape)
        kind = ReduceKind.MAX if most else ReduceKind.SUM
        found = self.builder.add(Reduce(x=apart, axes=(len(shape) - 2,), kind=kind), name)
        if most:
            return found
        share = self.pick((), (*shape[:-2], 1))  # one factor, or one for each pixel: padding not counted
        factor = Constant(values=IntArray.of(self.generator.integers(20, 60, share)), frac=8)
        scaled = Multiply(x=found, y=self.builder.add(factor, f"{name}.share"))
        return self.requantized(self.builder.add(scaled, f"{name}.mean"), name)

    def pad(self, x: str) -> str:
        ends = [(self.pick(0, 1, 2), self.pick(0, 1, 2)) for _ in self.shape(x)[:-1]]
        return self.moved((x,), "pad", np.pad(self.indices(x), [*ends, (0, 0)], constant_values=-1))

    def crop(self, x: str) -> str:
        cut = tuple(slice(self.pick(0, 1) if n > 2 else 0, n - (n > 3)) for n in self.shape(x)[:-1])
        return self.moved((x,), "crop", self.indices(x)[cut])

    def larger(self, x: str) -> str:
        """Nearest upsampling, or a transposed convolution: zeros between, then windows."""
        if self.builder.types[x].size > LARGE // 4:
            return self.crop(x)
        index = self.indices(x)
        if self.pick(True, False):
            for axis in range(index.ndim - 1):
                index = np.repeat(index, self.pick(1, 2), axis=axis)
            return self.moved((x,), "upsample", index)
        spread = np.full((*(2 * n - 1 for n in index.shape[:-1]), index.shape[-1]), -1)
        spread[(slice(None, None, 2),) * (index.ndim - 1)] = index
        return self.conv(self.moved((x,), "zeros", spread), self.name("transposed"), 2, kernel=2)

    def skip(self, x: str) -> str:
        name, y = self.name("skip"), self.conv(x, self.name("branch"), self.shape(x)[-1])
        ways: tuple[Op, ...] = (Add(x=x, y=y), Add(x=y, y=x, subtract=True), Multiply(x=y, y=x))
        joined = self.pick(*ways)
        return self.requantized(self.builder.add(joined, name), name, relu=self.pick(True, False))

    def excite(self, x: str) -> str:
        """Every channel times a factor made of all of the image."""
        name = self.name("excite")
        factors = self.dense(self.global_pool(x, f"{name}.pool"), f"{name}.dense", self.shape(x)[-1])
        return self.requantized(self.builder.add(Multiply(x=x, y=factors), f"{name}.scaled"), name)

    def table(self, x: str) -> str:
        x = self.requantized(x, self.name("narrow"), bits=5, relu=False, one_frac=True)
        bounds = self.builder.types[x].range
        entries = self.generator.integers(-20, 30, bounds.highest - bounds.lowest + 1)
        return self.builder.add(Lookup(x=x, table=IntArray.of(entries), frac=4), self.name("table"))

    def softmax(self, x: str) -> str:
        name, shape = self.name("softmax"), (*self.shape(x)[:-1], 1)
        most = self.builder.add(Reduce(x=x, axes=(len(shape) - 1,), kind=ReduceKind.MAX), f"{name}.most")
        below = Add(x=x, y=self.reshape(most, f"{name}.wide", shape), subtract=True)
        powers = self.table(self.builder.add(below, f"{name}.below"))
        total = self.builder.add(Reduce(x=powers, axes=(len(shape) - 1,)), f"{name}.total")
        inverse = self.table(self.reshape(total, f"{name}.totals", shape))
        return self.requantized(self.builder.add(Multiply(x=powers, y=inverse), f"{name}.shares"), name)

    def joined(self, x: str) -> str:
        kernel = self.pick(1, 3)
        y = self.conv(x, self.name("side"), self.shape(x)[-1], kernel=kernel, pad=kernel // 2)
        parts = [self.indices(x), self.indices(y) + self.builder.types[x].size]
        return self.moved((x, y), "join", np.concatenate(parts, axis=self.pick(*range(parts[0].ndim))))

    def turned(self, x: str) -> str:
        index = self.indices(x)
        if self.pick(True, False):
            return self.moved((x,), "permute", index.transpose(self.generator.permutation(index.ndim)))
        return self.moved((x,), "rows", index.reshape(index.shape[0], -1))

    def rowwise(self, x: str) -> str:
        return self.dense(x, self.name("rowwise"), self.pick(1, 2, 4))

    def layer(self, x: str) -> str:
        more: tuple[Callable[[str], str], ...] = (self.any_conv, self.skip, self.excite, self.table, self.softmax)
        more += (self.joined, self.pad, self.larger, self.rowwise, self.turned, self.any_conv)
        less: tuple[Callable[[str], str], ...] = (self.pool, self.any_conv, self.depthwise, self.crop)
        return self.pick(*less, *(more if self.builder.types[x].size <= LARGE else ()))(x)


def random_network(seed: int, *, size: int = 12) -> Graph:
    """One to three inputs, one to three layers on each, dense layers; sometimes an image as an output."""
    net = RandomNet(seed)
    heads, outputs = [], []
    for number in range(net.pick(1, 1, 2, 3)):
        if number and net.pick(True, False):
            heads.append(net.dense(net.input(f"x{number}", (5,)), f"vector{number}", 3))
            continue
        most = size if number == 0 else size // 2 + 1
        shape = tuple(int(n) for n in net.generator.integers(4, most + 1, net.pick(1, 2, 2)))
        x = net.input(f"x{number}", (*shape, net.pick(1, 2, 3)), bits=net.pick(2, 4, 6))
        for _ in range(net.pick(1, 2, 3)):
            x = net.layer(x)
        if net.pick(False, False, True):
            outputs.append(x)
        flat = net.reshape(x, f"flat{number}", (net.builder.types[x].size,))
        heads.append(net.dense(flat, f"head{number}", 3))
    y = heads[0]
    for number, head in enumerate(heads[1:]):
        y = net.concat(y, head, f"all{number}")
    return net.finish(net.linear(y, "last", 2), *outputs)


def random_setting(seed: int) -> tuple[int, str, PlanOptions]:
    """Return II, system and options."""
    net = RandomNet(seed)
    system = net.pick(*SYSTEMS)
    options = PlanOptions(
        fold=net.pick(*Fold),
        inputs=net.pick(InputForm.AUTO, *InputForm),
        outputs=net.pick(*OutputForm),
        fpgas=net.pick(None, *range(1, SYSTEMS[system] + 1)),
    )
    return net.pick(*INTERVALS), system, options
