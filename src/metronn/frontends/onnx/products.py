"""ONNX operators that multiply matrices: MatMul, Gemm, Einsum.

A constant factor gives a matrix (`RealLinear`); two computed factors give products and a sum.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from string import ascii_letters

import numpy as np

from metronn.frontends.common.builder import LayerBuilder, LayerProblem
from metronn.frontends.onnx.context import BatchProblem, Constant, Layer, NodeContext
from metronn.frontends.onnx.grids import column_steps
from metronn.ir.ops import ReduceKind
from metronn.model.graph import Floats

LARGEST_PRODUCT = 2**24
"""Products of a multiplication of two computed tensors."""

Factor = str | Floats
"""A computed value, or a constant without batch axis."""


def _shape(builder: LayerBuilder, factor: Factor) -> tuple[int, ...]:
    return builder.shape(factor) if isinstance(factor, str) else factor.shape


def contract(
    builder: LayerBuilder,
    terms: tuple[str, str],
    factors: tuple[Factor, Factor],
    result: str,
    steps: Floats | None = None,
) -> str:
    """Return the sum of products of two tensors whose axes bear letters, as `numpy.einsum` of two operands.

    No letter may be twice in a term; at least one factor is computed. `steps` are those of the constant factor.
    """
    sizes: dict[str, int] = {}
    for term, factor in zip(terms, factors, strict=True):
        for letter, size in zip(term, _shape(builder, factor), strict=True):
            if sizes.setdefault(letter, size) != size and 1 not in (size, sizes[letter]):
                raise LayerProblem(f"axes of size {sizes[letter]} and {size} are multiplied")
            sizes[letter] = max(size, sizes[letter])
    (left, right), (x, w) = terms, factors
    if not isinstance(x, str):
        (left, right), (x, w) = (right, left), (w, x)
    if not isinstance(x, str):
        raise AssertionError("a product of two constants")
    summed = "".join(letter for letter in sizes if letter not in result)
    shared = [letter for letter in left if letter in right and letter in result]
    alone = [letter for letter in summed if letter not in left or letter not in right]
    if not isinstance(w, str) and not shared and not alone:
        return _linear(builder, (left, right), (x, w, steps), result, summed)
    if math.prod(sizes.values()) > LARGEST_PRODUCT:
        raise LayerProblem(f"{math.prod(sizes.values())} products; up to {LARGEST_PRODUCT} are allowed")
    order = result + summed
    other = builder.constant(w, "factor") if not isinstance(w, str) else w
    product = builder.times(_aligned(builder, left, x, order), _aligned(builder, right, other, order))
    axes = range(len(result), len(order))
    y = builder.reduced(product, axes, ReduceKind.SUM, keep=False) if summed else product
    full = tuple(sizes[letter] for letter in result)
    return y if builder.shape(y) == full else builder.reshape(y, full)


def _linear(
    builder: LayerBuilder, terms: tuple[str, str], factors: tuple[str, Floats, Floats | None], result: str, summed: str
) -> str:
    (left, right), (x, w, steps) = terms, factors
    kept, added = [a for a in left if a not in summed], [a for a in right if a not in summed]
    inner = [a for a in left if a in summed]
    x = builder.transpose(x, [left.index(a) for a in (*kept, *inner)])
    rows = math.prod(builder.shape(x)[len(kept) :])
    x = builder.reshape(x, [*builder.shape(x)[: len(kept)], rows])
    order = [right.index(a) for a in (*inner, *added)]
    ordered = w.transpose(order)
    grid = None if steps is None else steps.transpose(order).reshape(rows, -1)
    matrix = ordered.reshape(rows, -1)
    y = builder.linear(x, matrix, step=column_steps(matrix, grid))
    y = builder.reshape(y, [*builder.shape(y)[:-1], *ordered.shape[len(inner) :]])
    made = [*kept, *added]
    return builder.transpose(y, [made.index(a) for a in result])


def _aligned(builder: LayerBuilder, term: str, x: str, order: str) -> str:
    """Return x with its axes in the given order, size 1 for letters it has not."""
    present = [letter for letter in order if letter in term]
    x = builder.transpose(x, [term.index(letter) for letter in present])
    sizes = dict(zip(present, builder.shape(x), strict=True))
    return builder.reshape(x, [sizes.get(letter, 1) for letter in order])


def _factor(c: NodeContext, position: int, rank: int) -> Factor:
    """Return an operand; a constant with as many axes as the batch's tensors loses the batch axis."""
    operand = c.given(position)
    if isinstance(operand, str):
        return operand
    return _without_batch(c, c.floats(position), rank, operand.name)


def _without_batch(c: NodeContext, values: Floats, rank: int, name: str) -> Floats:
    return c.without_batch(values, rank, name) if values.ndim > 2 else values


def _factor_steps(c: NodeContext, rank: int) -> Floats | None:
    """Return the steps of the constant factor, as `_factor` returns its values."""
    for operand in (c.given(0), c.given(1)):
        if isinstance(operand, Constant) and operand.step is not None:
            return _without_batch(c, operand.step, rank, operand.name)
    return None


def matmul_node(c: NodeContext) -> str:
    """Return the product of the first two operands of a node."""
    left, right = c.given(0), c.given(1)
    ranks = (c.rank(0), c.rank(1))
    if c.lead:
        if isinstance(left, str) and isinstance(right, str) and (ranks[0] != ranks[1] or ranks[0] < 3):
            raise BatchProblem(f"a product of computed tensors with {ranks[0]} and {ranks[1]} axes mixes events")
        if isinstance(left, Constant) and ranks[1] < 3:
            raise BatchProblem("constant @ x with a batch axis on the second last axis of x mixes events")
        if isinstance(left, str) and isinstance(right, Constant) and right.values.ndim > max(2, ranks[0]):
            raise LayerProblem(f"weights {right.name} have more axes ({right.values.ndim}) than the events of a batch")
    factors = _factor(c, 0, max(ranks)), _factor(c, 1, max(ranks))
    return matmul(c.builder, *factors, _factor_steps(c, max(ranks)))


def matmul(builder: LayerBuilder, left: Factor, right: Factor, steps: Floats | None = None) -> str:
    """Return the matrix product of two tensors, broadcast and with vectors as in `numpy.matmul`.

    `steps` are those of the constant factor.
    """
    shapes = (_shape(builder, left), _shape(builder, right))
    if not all(shapes):
        raise LayerProblem("a matrix product of a single number")
    inner, rows, columns, stack = "k", "m", "n", ascii_letters[14:].replace("k", "").replace("m", "").replace("n", "")
    depth = max(len(shape) - 2 for shape in shapes)
    letters = stack[: max(depth, 0)]
    first = inner if len(shapes[0]) == 1 else letters[depth - (len(shapes[0]) - 2) :] + rows + inner
    second = inner if len(shapes[1]) == 1 else letters[depth - (len(shapes[1]) - 2) :] + inner + columns
    result = letters + (rows if len(shapes[0]) > 1 else "") + (columns if len(shapes[1]) > 1 else "")
    if shapes[0][-1] != shapes[1][-2 if len(shapes[1]) > 1 else 0]:
        raise LayerProblem(f"a product of shapes {shapes[0]} and {shapes[1]}")
    return contract(builder, (first, second), (left, right), result, steps)


def _gemm_steps(c: NodeContext, alpha: float, *, transposed: bool) -> Floats | None:
    """Return the steps of the columns of the weights of Gemm."""
    values, steps = c.floats(1) * alpha, c.steps(1)
    if steps is None or alpha == 0:
        return None
    grid = steps * abs(alpha)
    return column_steps(values.T, grid.T) if transposed else column_steps(values, grid)


def gemm_node(c: NodeContext) -> str:
    """Return alpha * A B + beta * C, with A and B transposed where the node says so."""
    builder = c.builder
    trans_a, trans_b = bool(c.attribute("transA", 0)), bool(c.attribute("transB", 0))
    if c.lead:
        if isinstance(c.given(0), Constant):
            raise LayerProblem("the batch must be on axis 0 of the first input, which is constant here")
        if trans_a:
            raise BatchProblem("transA moves the batch axis 0; events must stay independent")
        if isinstance(c.given(1), str):
            raise BatchProblem("a product of two computed tensors with two axes mixes events")
    if c.rank(0) != 2:
        raise LayerProblem(f"the first input has {c.rank(0)} axes, 2 are allowed")
    if c.rank(1) != 2:
        shape = c.constant(1).values.shape
        raise LayerProblem(f"weights {c.constant(1).name} of shape {shape}; 2 axes are allowed")
    factors: list[Factor] = [x if isinstance(x, str) else c.floats(k) for k, x in enumerate((c.given(0), c.given(1)))]
    alpha, beta, addend = float(c.attribute("alpha", 1.0)), float(c.attribute("beta", 1.0)), c.operand(2)
    x, w = factors
    if isinstance(x, str) and not isinstance(w, str):
        weight, grid = (w.T if trans_b else w) * alpha, _gemm_steps(c, alpha, transposed=trans_b)
        data = builder.transpose(x, [1, 0]) if trans_a else x
        bias = None
        if isinstance(addend, Constant) and (c.floats(2).ndim < 2 or c.floats(2).shape[0] == 1):
            bias = c.floats(2).reshape(c.floats(2).shape[-1:] or ()) * beta
            if bias.size not in (1, weight.shape[1]):
                shape = c.floats(2).shape
                raise LayerProblem(f"bias {addend.name} of shape {shape} does not fit {weight.shape[1]} outputs")
            return builder.linear(data, weight, np.broadcast_to(bias, weight.shape[1:]), grid)
        y = builder.linear(data, weight, step=grid)
    else:
        first, second = "km" if trans_a else "mk", "nk" if trans_b else "kn"
        y = builder.scaled(contract(builder, (first, second), (x, w), "mn"), alpha)
    if addend is None or beta == 0:
        return y
    if isinstance(addend, Constant) and c.lead and c.floats(2).ndim > 1:
        raise LayerProblem(f"bias {addend.name} of shape {c.floats(2).shape} has one entry per event of a batch")
    return builder.plus(y, builder.scaled(c.event(2, 2), beta))


def _einsum(c: NodeContext) -> str:
    builder = c.builder
    terms, result = _equation(str(c.attribute("equation")), [c.rank(k) for k in range(len(c.operands))])
    if c.lead:
        batch = {term[:1] for term, x in zip(terms, c.operands, strict=True) if isinstance(x, str)}
        letter = batch.pop()
        fixed = [term for term, x in zip(terms, c.operands, strict=True) if not isinstance(x, str)]
        moved = [term for term, x in zip(terms, c.operands, strict=True) if isinstance(x, str)]
        if batch or not result.startswith(letter) or any(letter in term for term in fixed):
            raise BatchProblem(f"equation {c.attribute('equation')}: the batch axis 0 must stay in front")
        if any(letter in term[1:] for term in moved):
            raise LayerProblem(f"equation {c.attribute('equation')}: mixes the elements of different events")
        terms, result = [term.replace(letter, "") for term in terms], result.replace(letter, "")
    factors: list[Factor] = [x if isinstance(x, str) else c.floats(k) for k, x in enumerate(c.operands)]
    terms, factors = map(
        list, zip(*(_diagonal(builder, t, x) for t, x in zip(terms, factors, strict=True)), strict=True)
    )
    while len(factors) > 1:
        later = result + "".join(terms[2:])
        kept = "".join(dict.fromkeys(letter for letter in terms[0] + terms[1] if letter in later))
        if len(factors) == 2:
            kept = result
        if isinstance(factors[0], str) or isinstance(factors[1], str):
            joined: Factor = contract(builder, (terms[0], terms[1]), (factors[0], factors[1]), kept)
        else:
            joined = np.einsum(f"{terms[0]},{terms[1]}->{kept}", factors[0], factors[1])
        terms[:2], factors[:2] = [kept], [joined]
    term, x = terms[0], factors[0]
    if not isinstance(x, str):
        raise AssertionError("an Einsum of constants is computed before")
    gone = [axis for axis, letter in enumerate(term) if letter not in result]
    if gone:
        x = builder.reduced(x, gone, ReduceKind.SUM, keep=False)
        term = "".join(letter for letter in term if letter in result)
    return builder.transpose(x, [term.index(letter) for letter in result])


def _equation(equation: str, ranks: list[int]) -> tuple[list[str], str]:
    """Return the terms and the result of an equation, with letters in place of dots, and the result spelled out."""
    text = equation.replace(" ", "")
    sides = text.split("->")
    terms = sides[0].split(",")
    if len(terms) != len(ranks):
        raise LayerProblem(f"equation {equation} has {len(terms)} terms for {len(ranks)} inputs")
    free = [letter for letter in ascii_letters if letter not in text]
    longest = max((rank - len(t) + 3 for t, rank in zip(terms, ranks, strict=True) if "..." in t), default=0)
    dots = "".join(free[:longest])
    spelled = []
    for term, rank in zip(terms, ranks, strict=True):
        count = rank - len(term) + 3 if "..." in term else 0
        spelled.append(term.replace("...", dots[len(dots) - count :]))
        if len(spelled[-1]) != rank:
            raise LayerProblem(f"equation {equation}: term {term} for a tensor with {rank} axes")
    if len(sides) == 2:
        return spelled, sides[1].replace("...", dots)
    letters = "".join(spelled)
    return spelled, dots + "".join(sorted(a for a in set(letters) if letters.count(a) == 1 and a not in dots))


def _diagonal(builder: LayerBuilder, term: str, x: Factor) -> tuple[str, Factor]:
    """Take the diagonal of axes with the same letter."""
    once = "".join(dict.fromkeys(term))
    if once == term:
        return term, x
    index = np.einsum(
        f"{term}->{once}", builder.indices(x) if isinstance(x, str) else np.arange(x.size).reshape(x.shape)
    )
    return once, builder.rewire([x], index, "diagonal") if isinstance(x, str) else x.ravel()[index]


PRODUCTS: Mapping[str, Layer] = {"Einsum": _einsum, "Gemm": gemm_node, "MatMul": matmul_node}
"""The operators of this file."""
