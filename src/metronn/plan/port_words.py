"""Words at the edge of a system: inputs that come, and answers that leave, as 64-bit words (docs/words.md).

They are packed as frames of links are, into words that carry nothing but data.
"""

from __future__ import annotations

from collections.abc import Mapping

from metronn.errors import ModelError
from metronn.ir.graph import Graph
from metronn.plan.design import FrameField, PortFrame, Signal
from metronn.plan.frames.packing import FramePlan, plan_frame
from metronn.plan.frames.pieces import pieces_of
from metronn.plan.frames.signals import PORT_CYCLES, PORT_WORDS
from metronn.plan.layout import Layout
from metronn.plan.options import PlanOptions


def check_lanes(graph: Graph, layouts: Mapping[str, Layout], ii_cycles: int, options: PlanOptions) -> None:
    """Raise ModelError that names every edge whose lanes do not carry an event within the II, and how many would.

    `layouts`: those in which the inputs come.
    """
    results = dict.fromkeys(output.value for output in graph.outputs)
    sides = (
        ("input", options.input_lanes, sum(piece.bits for piece in pieces_of(graph, _at_once(layouts)))),
        ("output", options.output_lanes, sum(graph.type_of(value).total_bits for value in results)),
    )
    problems = [
        too_few_lanes(side, lanes, bits, ii_cycles)
        for side, lanes, bits in sides
        if lanes is not None and bits > PORT_WORDS.room_bits(lanes, ii_cycles)
    ]
    if problems:
        raise ModelError("\n".join(problems))


def too_few_lanes(side: str, lanes: int, bits: int, ii_cycles: int) -> str:
    """Return the message for lanes that do not carry the bits of an event; `side` is input or output."""
    least_lanes = -(-bits // PORT_WORDS.room_bits(1, ii_cycles))
    least_ii = -(-bits // PORT_WORDS.room_bits(lanes, 1))
    carry = "1 lane of 64-bit words carries" if lanes == 1 else f"{lanes} lanes of 64-bit words carry"
    return (
        f"plan.{side}_lanes is {lanes}: an event has {bits:,} bits of {side}s, {carry} "
        f"{PORT_WORDS.room_bits(lanes, ii_cycles):,} in the II of {ii_cycles}.\n"
        f"  Set plan.{side}_lanes to {least_lanes} or more, or raise the II to {least_ii} or more."
    )


def _at_once(layouts: Mapping[str, Layout]) -> list[Signal]:
    return [Signal(name=name, value=name, layout=layout, first_cycle=0) for name, layout in layouts.items()]


def arrival(graph: Graph, layouts: Mapping[str, Layout], ii_cycles: int, lanes: int) -> FramePlan:
    """Return the words that inputs come as: packed in the order of their beats, all first beats together."""
    plan = plan_frame(graph, _at_once(layouts), ii_cycles, lanes, form=PORT_WORDS)
    assert plan is not None, "lanes are checked before"
    return plan


def entering_frame(plan: FramePlan, targets: Mapping[str, str], layouts: Mapping[str, Layout]) -> PortFrame:
    """Return the frame of the first FPGA; `targets`: the signal of each input, by its name."""
    fields = tuple(
        FrameField(
            value=name, source=name, target=target, layout=layouts[name], target_first_cycle=plan.first_cycles[name]
        )
        for name, target in targets.items()
    )
    return _frame(plan, fields)


def leaving_frame(plan: FramePlan, signals: Mapping[str, Signal]) -> PortFrame:
    """Return the frame of the last FPGA; `signals`: what is packed, by the value that it carries."""
    fields = tuple(
        FrameField(
            value=value,
            source=signal.name,
            target=value,
            layout=signal.layout,
            target_first_cycle=plan.first_cycles[value],
        )
        for value, signal in signals.items()
    )
    return _frame(plan, fields)


def _frame(plan: FramePlan, fields: tuple[FrameField, ...]) -> PortFrame:
    return PortFrame(
        lanes=plan.lanes, words=plan.words, send_cycle=plan.send_cycle, fields=fields, segments=plan.segments
    )


def departure_cycles(graph: Graph, value: str, layout: Layout, ii_cycles: int, lanes: int) -> int | None:
    """Cycles from the first beat of a result to its last word, when it has the lanes to itself; None: does not fit."""
    plan = plan_frame(graph, _at_once({value: layout}), ii_cycles, lanes, form=PORT_WORDS)
    return None if plan is None else plan.send_cycle + plan.words - 1 + PORT_CYCLES
