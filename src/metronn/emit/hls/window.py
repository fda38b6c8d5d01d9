"""A Window over an image in raster order, as `metronn/window_buffer.hpp` does it: in one process or in two."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from metronn.ir.graph import Graph
from metronn.ir.ops import Window
from metronn.ir.windows import window_shape
from metronn.plan.kernels.spec import WindowBuffer
from metronn.plan.kernels.waiting.taps import raster_of, window_output
from metronn.plan.layout import Layout


@dataclass(frozen=True, slots=True)
class WindowForm:
    """The integers of the configuration, by name."""

    values: Mapping[str, int]

    @property
    def steps(self) -> int:
        """Iterations per event."""
        return self.values["steps"]

    @property
    def pixel_steps(self) -> int:
        """Iterations in which a beat is read; padding leaves in those behind them."""
        return self.values["frames"] * self.values["rows"] * self.values["length"]

    @property
    def window_steps(self) -> int:
        """Iterations from the first window to the last."""
        return self.steps - self.values["first_step"]

    @property
    def column_slots(self) -> int:
        """Slots of a beat of pixels above each other."""
        return (self.values["lines"] + 1) * self.values["slots"]

    def is_split(self, ii_cycles: int) -> bool:
        """Whether two processes take an event in the II, and one does not.

        Columns above the padding have to be ones that the second process has read, so they come a row after its first.
        """
        v = self.values
        within = max(self.pixel_steps, self.window_steps) <= ii_cycles < self.steps
        behind = self.pixel_steps - (v["length"] if v["lines"] else 0)
        return within and v["first_step"] <= behind and v["first_step"] + v["parts"] < self.pixel_steps


def window_form(spec: WindowBuffer, graph: Graph) -> WindowForm | None:
    """Return the configuration, or None when the node is no window over an image whose windows leave in raster order.

    None too for three axes and more, parts of unequal channels where it is not the last alone, padding larger than the
    kernel, and a row in one beat that holds more or fewer windows than pixels over the stride.
    """
    op = graph.by_name[spec.node].op
    if not isinstance(op, Window) or len(op.kernel) > 2:
        return None
    shape, layout = graph.type_of(op.x).shape, spec.layouts[0]
    raster, made = raster_of(layout, shape), window_output(op, shape, layout)
    if raster is None or made is None or made[0].beats != spec.output.beats:
        return None
    parts = len(raster.parts)
    channels = [len(part) for _, part in raster.parts]
    if len(set(channels[:-1])) > 1:
        return None
    two = len(op.kernel) == 2
    out = window_shape(op, shape)
    rank = len(op.kernel)
    rows = shape[-3] if two else 1
    stride, before = op.strides[-1], op.before[-1]
    width, blocks = raster.width, raster.blocks
    single = width == 1 and blocks > 1
    out_width = 1 if single else width // stride
    if spec.output.slot_count != out_width * math.prod(op.kernel) * max(channels):
        return None
    newest = (out_width - 1) * stride + (op.kernel[-1] - 1) * op.dilations[-1] - before
    values = {
        "frames": math.prod(shape[: -rank - 1]),
        "rows": rows,
        "columns": shape[-2],
        "width": width,
        "blocks": blocks,
        "parts": parts,
        "channels": channels[0],
        "last_channels": channels[-1],
        "slots": width * max(channels),
        "kernel_rows": op.kernel[0] if two else 1,
        "kernel_columns": op.kernel[-1],
        "row_stride": op.strides[0] if two else 1,
        "column_stride": stride,
        "row_dilation": op.dilations[0] if two else 1,
        "column_dilation": op.dilations[-1],
        "rows_before": op.before[0] if two else 0,
        "columns_before": before,
        "out_rows": out[-3] if two else 1,
        "out_blocks": -(-out[-2] // out_width),
        "out_width": out_width,
        "first_block": 0 if blocks == 1 else newest // width,
        "block_step": stride if single else 1,
    }
    due = _due(values)
    if due[0] < 0 or (np.diff(due) < 1).any() or not _same_order(values, out, layout, spec.output, raster.parts):
        return None
    # a row in one block needs no earlier ones; otherwise from the block with the first pixel to the newest
    reach = 0 if blocks == 1 else values["first_block"] - (-before // width)
    values |= {
        "length": blocks * parts,
        "lines": (values["kernel_rows"] - 1) * values["row_dilation"],
        "kept": reach * parts + 1,
        "first_step": int(due[0]),
    }
    pixels = values["frames"] * values["rows"] * values["length"]
    return WindowForm({**values, "steps": max(pixels, int(due[-1]) + 1)})


def _due(v: Mapping[str, int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Step in which each output beat leaves."""
    reach = (v["kernel_rows"] - 1) * v["row_dilation"] - v["rows_before"]
    row = np.arange(v["out_rows"]) * v["row_stride"] + reach
    row = (np.arange(v["frames"])[:, None] * v["rows"] + row).ravel()
    block = v["first_block"] + np.arange(v["out_blocks"]) * v["block_step"]
    place = (row[:, None] * v["blocks"] + block).ravel()
    return np.asarray((place[:, None] * v["parts"] + np.arange(v["parts"])).ravel())


def _same_order(
    v: Mapping[str, int],
    out: tuple[int, ...],
    layout: Layout,
    output: Layout,
    parts: tuple[tuple[int, tuple[int, ...]], ...],
) -> bool:
    """Whether the beats leave frame by frame, row by row, block by block, part by part."""
    places = np.arange(v["frames"] * v["out_rows"])[:, None] * out[-2] + np.arange(v["out_blocks"]) * v["out_width"]
    firsts = (places.ravel()[:, None] * out[-1] + np.asarray([channels[0] for _, channels in parts])).ravel()
    return bool(np.array_equal(firsts, [beat[0] for beat in output.beats]))
