"""Options of training: the `[finetune]` and `[prune]` tables of metronn.toml."""

from __future__ import annotations

import enum
from typing import Annotated, Any

from pydantic import Strict

from metronn.toml_tables import Flag, Table, Text, key, number, whole

LARGEST_BATCH = 8192
Epochs = Annotated[int, whole(1, 100_000)]
Rate = Annotated[float, number(1e-9, 10)]


class Loss(enum.Enum):
    """What training makes small."""

    AUTO = "auto"
    """The loss the file was compiled with where it fits the labels, else by the labels."""
    CATEGORICAL = "categorical"
    """Cross entropy of classes: class numbers, or a column for each class."""
    BINARY = "binary"
    """Cross entropy of yes and no."""
    REGRESSION = "regression"
    """Mean squared difference to the labels."""
    TEACHER = "teacher"
    """Difference to the answers of the network as it was before; needs no labels."""


class Widths(enum.Enum):
    """What has a width of its own."""

    WEIGHT = "weight"
    """Every weight and every element of a vector; of an image, every channel."""
    CHANNEL = "channel"
    """The weights of an output; every channel."""
    LAYER = "layer"
    """All weights of a layer; all values."""


class Method(enum.Enum):
    """What the weights that go have little of."""

    MAGNITUDE = "magnitude"
    """Magnitude: the smallest of every layer go, the same share of each."""
    SENSITIVITY = "sensitivity"
    """Magnitude within a layer; how many of which layer, so that the loss rises least: measured layer by layer."""


class Structure(enum.Enum):
    """Which weights go together."""

    NONE = "none"
    """Each by itself."""
    FOLD = "fold"
    """Those that share a multiplier at the II of the system."""


class TrainingOptions(Table):
    """What both ways of training take; None leaves `tolerance` and `metric` to `[quantize]`."""

    data: Text | None = key(
        None,
        "events with labels: `.npz`, `.npy`, `.h5` or `.root` (`file.root:tree`)",
        shown="`data.calibrate`",
        flag=Flag(metavar="FILE", help="Events with labels: .npz, .npy, .h5 or .root (file.root:tree)."),
    )
    validation: Text | None = key(
        None,
        "events to judge with",
        shown="a share of the data",
        flag=Flag(metavar="FILE", help="Events to judge with; else a share of the data."),
    )
    validation_share: Annotated[float, number(0.01, 0.9)] = key(
        0.2,
        "share of the data to judge with, where there is no `validation`",
        flag=Flag(metavar="F", help="Share of the data to judge with."),
    )
    reference: Text | None = key(
        None,
        "network whose metric must hold, and whose answers teach",
        shown="the network as it is",
        flag=Flag(metavar="MODEL", help="Network whose metric must hold; else MODEL as it is."),
    )
    loss: Loss = key(
        Loss.AUTO,
        f"what training makes small: {', '.join(f'`{one.value}`' for one in Loss)}; `auto` by file and labels",
        flag=Flag(help="What training makes small; auto: by file and labels."),
    )
    metric: Text | None = key(
        None,
        "`auto`, `accuracy`, `auc`, `none` or `file.py:function`",
        shown="`quantize.metric`",
        flag=Flag(metavar="NAME", help="auto, accuracy, auc, none or file.py:function."),
    )
    tolerance: Annotated[float, number(0, 1e6)] | None = key(
        None,
        "relative loss of the metric that is accepted",
        shown="`quantize.tolerance`",
        flag=Flag(metavar="F", help="Relative loss of the metric that is accepted."),
    )
    batch: Annotated[int, whole(1, LARGEST_BATCH)] = key(
        1024, "events per step", flag=Flag(metavar="N", help="Events per step.")
    )
    seed: Annotated[int, whole(0, 2**32 - 1)] = key(
        1, "start of all random numbers", flag=Flag(metavar="N", help="Start of all random numbers.")
    )
    checkpoint_every: Epochs = key(
        5, "epochs between two checkpoints", flag=Flag(metavar="N", help="Epochs between two checkpoints.")
    )

    def record(self) -> dict[str, Any]:
        """Return, as JSON values, what a run that goes on must have in common with its checkpoint."""
        elsewhere = {"data", "validation", "validation_share", "reference", "loss", "metric"}
        return self.model_dump(mode="json", exclude=elsewhere)


class FinetuneOptions(TrainingOptions):
    """How to train with quantizers whose widths are learned."""

    epochs: Epochs = key(30, "passes over the data", flag=Flag(metavar="N", help="Passes over the data."))
    rate: Rate = key(1e-3, "learning rate", flag=Flag(metavar="F", help="Learning rate."))
    width_rate: Annotated[float, number(0, 1e4)] = key(
        20.0,
        "learning rate of widths, in units of `rate`",
        flag=Flag(metavar="F", help="Learning rate of widths, in units of --rate."),
    )
    target_cost: Annotated[float, number(0, 1e15)] | None = key(
        None,
        "LUT-equivalents (EBOPs without a system) to come below, instead of the tolerance",
        flag=Flag(metavar="F", help="LUT-equivalents to come below, instead of tolerance."),
    )
    price: Annotated[float, number(0, 1e15)] | None = key(
        None,
        "first price of a LUT-equivalent in the loss",
        shown="5 % of the loss",
        flag=Flag(metavar="F", help="First price of a LUT-equivalent in the loss."),
    )
    patience: Annotated[int, whole(0, 100_000)] = key(
        0,
        "training ends after so many epochs without a better network; 0: never",
        flag=Flag(metavar="N", help="End after so many epochs without a better network; 0: never."),
    )
    weight_bits: Annotated[int, whole(2, 16)] = key(
        8, "bits of weights at the start", flag=Flag(metavar="N", help="Bits of weights at the start.")
    )
    activation_bits: Annotated[int, whole(2, 20)] = key(
        10, "bits of activations at the start", flag=Flag(metavar="N", help="Bits of activations at the start.")
    )
    input_bits: Annotated[int, whole(2, 24)] | None = key(
        None,
        "bits of inputs",
        shown="the data's grid, up to 16 bits",
        flag=Flag(metavar="N", help="Bits of inputs; else the data's grid."),
    )
    widths: Widths | None = key(
        None,
        "what has a width of its own: `weight`, `channel` or `layer`",
        shown="`weight` at II 1, else `layer`",
        flag=Flag(help="What has a width of its own; else weight at II 1, layer above."),
    )
    saturate: Annotated[bool, Strict()] = key(
        False,
        "activations saturate; else they wrap, with as many integer bits as the training events need",
        flag=Flag(name="--saturate", help="Activations saturate; else they wrap."),
    )
    keep_zeros: Annotated[bool, Strict()] = key(
        True,
        "weights that are zero stay zero",
        flag=Flag(name="--keep-zeros/--free-zeros", help="Weights that are zero stay zero."),
    )


class PruneOptions(TrainingOptions):
    """How to set weights to zero; with a `sparsity` and no `tolerance`, any loss is accepted."""

    sparsity: Annotated[float, number(0, 0.999)] | None = key(
        None,
        "share of the weights that become zero",
        shown="as many as the tolerance allows",
        flag=Flag(metavar="F", help="Share of the weights that become zero."),
    )
    method: Method = key(
        Method.SENSITIVITY,
        "what tells the weights that go: `magnitude`, the same share of each layer, or `sensitivity`, so that the loss "
        "rises least",
        flag=Flag(help="What tells the weights that go."),
    )
    structure: Structure = key(
        Structure.NONE,
        "`fold`: weights that share a multiplier at the II go together; `none`: each by itself",
        flag=Flag(help="fold: weights that share a multiplier at the II go together."),
    )
    keep: tuple[Text, ...] = key(
        (),
        "layers that are left alone; `*` matches",
        flag=Flag(metavar="LAYER", help="Layer to leave alone; * matches; repeatable."),
    )
    epochs: Annotated[int, whole(0, 100_000)] = key(
        10, "passes over the data; 0: no training", flag=Flag(metavar="N", help="Passes over the data; 0: no training.")
    )
    rate: Rate = key(5e-4, "learning rate", flag=Flag(metavar="F", help="Learning rate."))
