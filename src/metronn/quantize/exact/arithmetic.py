"""Sums, products, extrema and reductions of exact values."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import partial
from typing import assert_never

import numpy as np

from metronn.ir.ops import (
    Add,
    Extremum,
    ExtremumKind,
    Movement,
    Multiply,
    Overflow,
    Reduce,
    ReduceKind,
)
from metronn.model.graph import Floats, RealGraph, RealLinear, RealNode, RealQuantize
from metronn.quantize.calibrated.emitter import Emitter
from metronn.quantize.exact.chains import ONE, Affine, Chain, Chains, power_of_two
from metronn.quantize.exact.emission import Emission, object_fractions
from metronn.quantize.exact.forms import Form, Second, together
from metronn.quantize.exact.operands import Operands
from metronn.quantize.exact.scales import Scales


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """Adds the ops of arithmetic; `extrema` are left to the quantizers that read them, their operands kept."""

    graph: RealGraph
    operands: Operands
    scales: Scales
    extrema: dict[str, tuple[Extremum, Form, Form]] = field(default_factory=dict)

    @property
    def emission(self) -> Emission:
        """What adds ops."""
        return self.scales.emission

    @property
    def emitter(self) -> Emitter:
        """What the ops are added to."""
        return self.emission.emitter

    def binary(self, node: RealNode, op: Add | Multiply | Extremum) -> Form:
        """Return an op of two values, or of a value and constants."""
        if op.y in self.operands.constants:
            return self._with_constant(node, op, op.x, self.operands.constants[op.y], first=True)
        if op.x in self.operands.constants:
            return self._with_constant(node, op, op.y, self.operands.constants[op.x], first=False)
        x, y = self.operands.read(op.x, node), self.operands.read(op.y, node)
        match op:
            case Multiply():
                x, y = self.scales.numbers.settled(x, node), self.scales.numbers.settled(y, node)
                value = self.emitter.add(replace(op, x=x.value, y=y.value), node.name, node.source)
                return Form(value, x.chains.paired(y.chains, _product), together(x.inexact, y.inexact))
            case Add():
                pending = self._pending_sum(x, y, op, node)
                if pending is not None:
                    return pending
                x, y = self.scales.common(x, y, node)
                value = self.emitter.add(replace(op, x=x.value, y=y.value), node.name, node.source)
            case Extremum():
                if self._left_to_quantizers(x, y, node):
                    self.extrema[node.name] = (op, x, y)
                    return replace(x, inexact=together(x.inexact, y.inexact))
                x, y = self.scales.common(x, y, node)
                value = self._extremum(x, y, op.kind, node)
        return Form(value, x.chains.broadcast(node.shape), together(x.inexact, y.inexact))

    def _pending_sum(self, x: Form, y: Form, op: Add, node: RealNode) -> Form | None:
        """Leave the sum of two values of unlike scales to the quantizer behind, where there is one."""
        x, y = self.scales.numbers.settled(x, node), self.scales.numbers.settled(y, node)
        mine = np.broadcast_to(x.chains.fractions(), node.shape)
        its = np.broadcast_to(y.chains.fractions(), node.shape)
        ratios = np.asarray(its / mine, dtype=object).reshape(node.shape)
        if all(power_of_two(ratio) is not None for ratio in set(ratios.ravel().tolist())):
            return None
        x, y = self.emission.broadcast(x, node.shape, node), self.emission.broadcast(y, node.shape, node)
        second = Second(y.value, np.asarray(-ratios if op.subtract else ratios, dtype=object))
        return Form(x.value, x.chains, together(x.inexact, y.inexact), second)

    def _left_to_quantizers(self, x: Form, y: Form, node: RealNode) -> bool:
        """Whether an extremum of values of unlike scales is made of what the quantizers behind make of both.

        Rounding and saturation are monotone: q(max(x, y)) = max(q(x), q(y)).
        """
        users = [self.graph.by_name[user].op for user in self.graph.uses[node.name]]
        monotone = (Overflow.SAT, Overflow.SAT_SYM)
        if not users or not all(isinstance(op, RealQuantize) and op.overflow in monotone for op in users):
            return False
        if any(value == node.name for _, value in self.graph.outputs):
            return False
        if not x.chains.pure or not y.chains.pure:
            return True
        mine = np.broadcast_to(x.chains.fractions(), node.shape)
        its = np.broadcast_to(y.chains.fractions(), node.shape)
        return any(b == 0 or power_of_two(a / b) is None for a, b in zip(mine.ravel(), its.ravel(), strict=True))

    def _extremum(self, x: Form, y: Form, kind: ExtremumKind, node: RealNode) -> str:
        """Return the larger or smaller of two values of one scale, which may be negative."""
        signs = {factor > 0 for factor in x.chains.fractions().ravel().tolist()}
        if signs == {False}:
            kind = ExtremumKind.MIN if kind is ExtremumKind.MAX else ExtremumKind.MAX
        return self.emitter.add(Extremum(x=x.value, y=y.value, kind=kind), node.name, node.source)

    def _with_constant(
        self, node: RealNode, op: Add | Multiply | Extremum, x: str, constant: Floats, *, first: bool
    ) -> Form:
        form = self.operands.forms[x]
        if form.chains.shape != node.shape:
            form = self.emission.broadcast(self.operands.read(x, node), node.shape, node)
        chains = form.chains.with_constants(constant, partial(_applied, op, first=first))
        changed = replace(form, chains=chains)
        pending = form.second is not None or chains.pure or any(kind.calls for kind in chains.kinds)
        if pending or self.emission.settles(changed) or not self._matrix_behind(node.name):
            return changed
        # Multiplied out here, where it has fewest elements, not once for each matrix and window behind.
        return self.emission.multiplied(changed, node) or changed

    def _matrix_behind(self, name: str) -> bool:
        """Whether a matrix reads a value, at most moved in between."""
        for user in map(self.graph.by_name.__getitem__, self.graph.uses[name]):
            if isinstance(user.op, RealLinear):
                return True
            if isinstance(user.op, Movement) and self._matrix_behind(user.name):
                return True
        return False

    def reduce(self, node: RealNode, op: Reduce) -> Form:
        """Return a reduction."""
        form = self.operands.read(op.x, node)
        alike = self._alike(form, op.axes)
        if alike and op.kind is ReduceKind.SUM and all(_is_line(kind) for kind in form.chains.kinds):
            # The sum of scale * x + offset is scale * sum + count * offset.
            count = math.prod(form.chains.shape[axis] for axis in op.axes)
            one = form.chains.index[tuple(0 if a in op.axes else slice(None) for a in range(form.chains.index.ndim))]
            chains = Chains(form.chains.kinds, np.asarray(one)).every(
                lambda chain: Chain(Affine(chain.affine.scale, chain.affine.offset * count))
            )
            summed = replace(op, x=form.value)
            return Form(self.emitter.add(summed, node.name, node.source), chains, form.inexact)
        if not alike or op.kind is ReduceKind.SUM or not all(kind.pure for kind in form.chains.kinds):
            form = self.scales.same_scale(self.scales.numbers.settled(form, node), node, op.axes)
        kind = op.kind
        first = form.chains.index[tuple(0 if a in op.axes else slice(None) for a in range(form.chains.index.ndim))]
        if kind is not ReduceKind.SUM:
            signs = {chain.affine.scale > 0 for chain in form.chains.kinds}
            if len(signs) > 1:
                factors = form.chains.fractions().ravel().tolist()
                value = self.emission.rescaled(form, [ONE if f > 0 else -ONE for f in factors], node)
                chains = Chains.scales(
                    object_fractions([abs(f) for f in factors], form.chains.shape), form.chains.shape
                )
                form = replace(form, value=value, chains=chains)
                first = form.chains.index[
                    tuple(0 if a in op.axes else slice(None) for a in range(form.chains.index.ndim))
                ]
            elif signs == {False}:
                kind = ReduceKind.MIN if kind is ReduceKind.MAX else ReduceKind.MAX
        value = self.emitter.add(replace(op, x=form.value, kind=kind), node.name, node.source)
        return Form(value, Chains(form.chains.kinds, np.asarray(first)), form.inexact)

    def _alike(self, form: Form, axes: tuple[int, ...]) -> bool:
        """Whether elements along the axes have the same chain."""
        index = form.chains.index
        first = index[tuple(slice(0, 1) if a in axes else slice(None) for a in range(index.ndim))]
        return bool((index == first).all())


def _is_line(chain: Chain) -> bool:
    return not chain.calls and chain.affine.low is None and chain.affine.high is None


def _applied(op: Add | Multiply | Extremum, affine: Affine, constant: Fraction, *, first: bool) -> Affine:
    """Return what follows from an op with a constant; `first` says that the variable is the first operand."""
    match op:
        case Multiply():
            return affine.times(constant)
        case Extremum():
            return affine.bounded(op.kind, constant)
        case Add():
            if op.subtract:
                return affine.plus(-constant) if first else affine.times(-ONE).plus(constant)
            return affine.plus(constant)
        case _:
            assert_never(op)


def _product(x: Chain, y: Chain) -> Chain:
    return Chain(Affine(x.affine.scale * y.affine.scale))
