"""Adam that holds zeros, and moves widths at a rate of their own."""

from __future__ import annotations

from collections.abc import Sequence

from metronn.train.backend import Backend, KerasObject


def make_optimizer(
    backend: Backend, masked: Sequence[KerasObject], fast: Sequence[KerasObject], factor: float
) -> KerasObject:
    """Return Adam with a mask for each of `masked`, that moves the variables of `fast` at `factor` times the rate.

    The masks are variables of the optimizer, all ones at first: `mask_of(variable)`. After every step the variable is
    multiplied by its mask. They are state and not constants, because a compiled step keeps its constants.

    A step of Adam is about as long as the rate, whatever the gradient: fit for weights of around 0.1, and much too
    short for widths, which have to move by whole bits.
    """
    base = backend.keras.optimizers.Adam
    with_mask, with_factor = {id(v) for v in masked}, {id(v) for v in fast}

    class MaskedAdam(base):  # type: ignore[misc, valid-type]
        """Adam with masks and two rates."""

        def build(self, variables: Sequence[KerasObject]) -> None:
            """Make the state, masks last."""
            if self.built:
                return
            super().build(variables)
            self.masks = {}
            for variable in variables:
                if id(variable) in with_mask:
                    self.masks[id(variable)] = self.add_variable_from_reference(
                        variable, name="mask", initializer="ones"
                    )

        def mask_of(self, variable: KerasObject) -> KerasObject:
            """Return the mask of a variable."""
            return self.masks[id(variable)]

        def update_step(self, gradient: KerasObject, variable: KerasObject, learning_rate: KerasObject) -> None:
            """Move one variable."""
            rate = learning_rate * factor if id(variable) in with_factor else learning_rate
            super().update_step(gradient, variable, rate)
            mask = self.masks.get(id(variable))
            if mask is not None:
                variable.assign(variable.value * mask.value)

    return MaskedAdam(1e-3)
