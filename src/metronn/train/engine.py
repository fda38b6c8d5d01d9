"""One epoch after another: what a run needs of Keras. Same seed, same machine: same weights."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from metronn.errors import ModelError
from metronn.ir.arrays import Array
from metronn.train.backend import Backend, KerasObject
from metronn.train.graph_walk import one
from metronn.train.networks import WeightMatrix, kernels
from metronn.train.optimizer import make_optimizer
from metronn.train.task import Part, Task

TRACE_BATCH = 2048
SENSITIVITY_EVENTS = 2048
HOLD = 0.7
"""Share of the epochs at full learning rate; then it falls as a cosine, down to a hundredth."""


def learning_rate(rate: float, epoch: int, epochs: int) -> float:
    """Return the rate of an epoch: half in the first, full until `HOLD` of the epochs, then a cosine to 1 %."""
    if epoch == 0 and epochs > 2:
        return rate / 2
    start = math.floor(HOLD * epochs)
    if epoch < start or epochs - start < 2:
        return rate
    return rate * (0.01 + 0.99 * 0.5 * (1.0 + math.cos(math.pi * (epoch - start) / (epochs - 1 - start))))


@dataclass(slots=True)
class Engine:
    """A compiled model with its data.

    `batch`: events per step; the last, smaller batch of an epoch is left out. `width_rate`: learning rate of widths, in
    units of that of weights.
    """

    backend: Backend
    model: KerasObject
    task: Task
    batch: int
    seed: int
    quantized: bool
    width_rate: float = 20.0
    _trace: Callable[..., KerasObject] | None = field(default=None)

    def compile(self) -> None:
        """Give the model a loss and an optimizer."""
        self.batch = min(self.batch, self.task.train.count)
        masked = [kernel.variable for kernel in kernels(self.model)]
        optimizer = make_optimizer(self.backend, masked, width_variables(self.model), self.width_rate)
        self.model.compile(optimizer=optimizer, loss=self.task.loss)
        optimizer.build(self.model.trainable_variables)

    def hold_zeros(self, held: Sequence[tuple[WeightMatrix, Array]]) -> None:
        """Set weights outside the masks (bool, in the shape of the kernel) to zero, and keep them there in training."""
        for kernel, mask in held:
            kernel.variable.assign(kernel.value * mask)
            self.model.optimizer.mask_of(kernel.variable).assign(mask.astype(np.float32))

    def fit(self, epoch: int, rate: float) -> float:
        """Train one epoch, in an order that follows from seed and epoch; returns the mean loss.

        Raises ModelError when the loss is no number any more.
        """
        part = self.task.train
        order = np.random.Generator(np.random.PCG64([self.seed, 2, epoch])).permutation(part.count)
        order = order[: part.count // self.batch * self.batch]
        self.model.optimizer.learning_rate = rate
        history = self.model.fit(
            one([x[order] for x in part.inputs]),
            part.targets[order],
            batch_size=self.batch,
            epochs=1,
            shuffle=False,
            verbose=0,
        )
        loss = float(history.history["loss"][-1])
        if not math.isfinite(loss):
            raise ModelError(f"epoch {epoch + 1}: the loss is {loss}; lower the learning rate (--rate)")
        return loss

    def loss_alone(self, part: Part) -> float:
        """Return the mean loss of the answers, without the resource term, on at most 16,384 events."""
        count = min(part.count, 16384)
        result = self.model.predict(one([x[:count] for x in part.inputs]), batch_size=1024, verbose=0)
        return float(self.task.loss(part.targets[:count], result))

    def measure(self) -> float:
        """Return the metric on the validation events."""
        return self.task.measure(self.model, self.batch)

    def trace(self) -> float:
        """Find the integer bits that the training events need, and the EBOPs; NaN for a network without quantizers."""
        if not self.quantized:
            return math.nan
        tracing = importlib.import_module("hgq.utils.minmax_trace")
        inputs = self.task.train.inputs
        tracing._reset_minmax(self.model)
        run = self._tracer(tracing)
        count = self.task.train.count
        size = min(TRACE_BATCH, count)
        for start in range(0, count, size):
            rows = np.arange(start, start + size) % count
            run(one([x[rows] for x in inputs]))
        return float(sum(int(layer.ebops) for layer in ebops_layers(self.model)))

    def _tracer(self, tracing: KerasObject) -> Callable[[KerasObject], None]:
        flag = tracing.TrainingFlagWrapper("tracing")
        if self.backend.keras.backend.backend() != "jax":
            return lambda batch: self.model(batch, training=flag)
        if self._trace is None:
            jax = importlib.import_module("jax")

            def step(trainable: KerasObject, fixed: KerasObject, batch: KerasObject) -> KerasObject:
                return self.model.stateless_call(trainable, fixed, batch, training=flag)[1]

            self._trace = jax.jit(step)
        traced = self._trace

        def run(batch: KerasObject) -> None:
            trainable = [v.value for v in self.model.trainable_variables]
            fixed = [v.value for v in self.model.non_trainable_variables]
            for variable, value in zip(
                self.model.non_trainable_variables, traced(trainable, fixed, batch), strict=True
            ):
                variable.assign(value)

        return run

    def sensitivity(self, kernels: Sequence[WeightMatrix], masks: Sequence[Sequence[Array]]) -> list[list[float]]:
        """Return how much the loss rises when one kernel alone is masked, for every mask of every kernel.

        Measured on the first training events; the weights are the same afterwards.
        """
        count = min(self.task.train.count, SENSITIVITY_EVENTS)
        batch = one([x[:count] for x in self.task.train.inputs])
        targets = self.task.train.targets[:count]

        def loss() -> float:
            return float(self.task.loss(targets, self.model.predict_on_batch(batch)))

        start = loss()
        rises = []
        for kernel, several in zip(kernels, masks, strict=True):
            value = kernel.value.copy()
            found = []
            for mask in several:
                kernel.variable.assign(value * mask)
                found.append(loss() - start)
            kernel.variable.assign(value)
            rises.append(found)
        return rises


def ebops_layers(model: KerasObject) -> list[KerasObject]:
    """Return the layers that count EBOPs (effective bit operations: bits of the weight times bits of the input)."""
    found = model._flatten_layers(include_self=False)
    return [
        layer for layer in found if getattr(layer, "enable_ebops", False) and getattr(layer, "_ebops", None) is not None
    ]


def width_variables(model: KerasObject) -> list[KerasObject]:
    """Return the trained bits of the quantizers of HGQ2."""
    found = []
    for layer in model._flatten_layers(include_self=False):
        if type(layer).__module__.startswith("hgq.quantizer"):
            found += [v for name in ("_b", "_i", "_f") if (v := getattr(layer, name, None)) is not None and v.trainable]
    return found


def set_beta(model: KerasObject, beta: float) -> None:
    """Give every layer the weight of its EBOPs in the loss."""
    for layer in ebops_layers(model):
        layer._beta.assign(beta)
