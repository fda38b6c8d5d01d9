"""Which Keras layers training understands, and what becomes of each when a float network is quantized."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping

LINEAR = ("Dense", "Conv1D", "Conv2D")
"""Matrices: they become QDense, QConv1D, QConv2D."""

MERGES = {
    "Add": "QAdd",
    "Subtract": "QSubtract",
    "Multiply": "QMultiply",
    "Maximum": "QMaximum",
    "Minimum": "QMinimum",
}
AVERAGES = (
    "AveragePooling1D",
    "AveragePooling2D",
    "GlobalAveragePooling1D",
    "GlobalAveragePooling2D",
)
"""They become the layer of the same name with a Q before it."""

MOVES = (
    "Flatten",
    "Reshape",
    "Permute",
    "Concatenate",
    "ZeroPadding1D",
    "ZeroPadding2D",
    "Cropping1D",
    "Cropping2D",
    "UpSampling1D",
    "UpSampling2D",
    "RepeatVector",
    "MaxPooling1D",
    "MaxPooling2D",
    "GlobalMaxPooling1D",
    "GlobalMaxPooling2D",
    "ReLU",
)
"""They make no value that was not there, or keep its grid: kept as they are."""

TRAINING_ONLY = (
    "Dropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "GaussianNoise",
    "GaussianDropout",
    "ActivityRegularization",
    "Identity",
)
"""Without effect after training: left out."""

TABLES = (
    "tanh",
    "sigmoid",
    "hard_sigmoid",
    "elu",
    "selu",
    "softplus",
    "softsign",
    "silu",
    "gelu",
    "exponential",
    "leaky_relu",
)
"""Activations that become tables inside a network (QUnaryFunctionLUT)."""

AT_THE_END = ("softmax", "sigmoid", "tanh")
"""Activations that stay functions of floats where their result is the network's."""

KEPT = ("linear", "relu", "relu6")
LAYER_ACTIVATIONS = {"ELU": "elu", "LeakyReLU": "leaky_relu", "Softmax": "softmax"}


class Kind(enum.Enum):
    """What becomes of a layer."""

    LINEAR = "linear"
    NORM = "norm"
    ACTIVATION = "activation"
    MERGE = "merge"
    AVERAGE = "average"
    MOVE = "move"
    DROP = "drop"


def kind_of(name: str) -> Kind | None:
    """Return what becomes of a layer by its class name, None where it is not supported."""
    groups: Iterable[tuple[Iterable[str], Kind]] = (
        (LINEAR, Kind.LINEAR),
        (("BatchNormalization",), Kind.NORM),
        (("Activation", *LAYER_ACTIVATIONS), Kind.ACTIVATION),
        (MERGES, Kind.MERGE),
        (AVERAGES, Kind.AVERAGE),
        (MOVES, Kind.MOVE),
        (TRAINING_ONLY, Kind.DROP),
    )
    return next((kind for names, kind in groups if name in names), None)


def supported() -> Mapping[str, Iterable[str]]:
    """Return the supported layers and activations, for messages and documents."""
    return {
        "layers": (
            *LINEAR,
            "BatchNormalization",
            "Activation",
            *LAYER_ACTIVATIONS,
            *MERGES,
            *AVERAGES,
            *MOVES,
            *TRAINING_ONLY,
        ),
        "activations": (*KEPT, *TABLES, "softmax (at the end)"),
    }
