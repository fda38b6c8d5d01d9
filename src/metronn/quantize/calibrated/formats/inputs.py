"""The format of an input of floats: as the options say, else from the calibration events, per feature if need be."""

from __future__ import annotations

from metronn.ir.types import Range
from metronn.model.graph import Floats, RealInput
from metronn.quantize.calibrated.formats.per_channel import automatic_input, covering_input
from metronn.quantize.options import InputOptions, QuantizeOptions
from metronn.quantize.widths import INPUT_BITS


def index_range(op: RealInput) -> Range | None:
    """Return the range of an input that chooses entries of tables, up to the last one; None for other inputs."""
    return None if op.indices is None else Range(0, op.indices - 1, 0)


def input_range(name: str, shape: tuple[int, ...], values: Floats, options: QuantizeOptions) -> Range:
    """Return the range of an input: as the options say, else the exact grid of its values, else 16 bits for twice them.

    `values` are those of the calibration events, (events, *shape). Where features reach differently far, along the last
    or the first axis, each gets its own step; bits alone, without `frac`, are bits of each feature.
    """
    chosen = options.inputs.get(name)
    if chosen is None and isinstance(options.input, InputOptions):
        chosen = options.input
    if chosen is None:
        return automatic_input(shape, values, INPUT_BITS)
    if chosen.frac is None:
        return covering_input(shape, values, chosen.bits)
    return Range.fixed(chosen.bits, chosen.frac, signed=bool(values.min() < 0))
