"""Frames of streams: every bit once and in time, what waits is kept long enough, and both ends stay small."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hand_designs import chain, framed, inputs_graph
from hypothesis import given
from hypothesis import strategies as st

from metronn.emit.rtl.event_line import event_line
from metronn.emit.rtl.frame import emit_frame_in, emit_frame_out
from metronn.events.verification import verification_events
from metronn.plan.compact import decode_ints, encode_ints
from metronn.plan.design import Design, Frame, Signal
from metronn.plan.frames.paths import Path, Storage, receiver_paths, ring_block, sender_paths
from metronn.plan.frames.pieces import TAIL_BITS, WORD_BITS
from metronn.plan.kernels.spec import FoldInputs, Streamed, WindowBuffer
from metronn.plan.layout import Layout
from metronn.plan.serialize import decode_layout, design_from_json, design_to_json, encode_layout
from metronn.plan.verify import violations
from random_tests import examples


def signals_of(layouts: Sequence[tuple[int, Layout]], first: Sequence[int]) -> list[Signal]:
    return [
        Signal(name=f"v{k}", value=f"v{k}", layout=layout, first_cycle=cycle)
        for k, ((_, layout), cycle) in enumerate(zip(layouts, first, strict=True))
    ]


@st.composite
def layouts(draw: st.DrawFn, ii: int) -> Layout:
    """A layout that takes at most `ii` cycles: evenly spaced beats, or beats with any gaps."""
    beats = draw(st.integers(1, ii))
    width = draw(st.integers(1, 6))
    if draw(st.booleans()):
        return Layout.rows(beats * width, width, draw(st.integers(1, max(1, (ii - 1) // max(1, beats - 1)))))
    later = draw(st.lists(st.integers(1, max(1, ii - 1)), unique=True, max_size=beats - 1)) if ii > 1 else []
    cycles = (0, *sorted(later))
    return Layout(Layout.rows(len(cycles) * width, width).beats, cycles)


def keeps(path: Path, starts: Sequence[int]) -> bool:
    """Whether the storage of a path still has every beat of every event in the cycle in which it leaves."""
    came = {start + a: (event, k) for event, start in enumerate(starts) for k, a in enumerate(path.arrive)}
    left = {start + b: (event, k) for event, start in enumerate(starts) for k, b in enumerate(path.leave)}
    register: tuple[int, int] | None = None
    ring: deque[tuple[int, int]] = deque()
    ahead = 1 + ring_block(path.width, path.depth)  # from the read to the output register
    shown: list[tuple[int, int] | None] = [None] * ahead
    for cycle in range(max(left) + 1):
        have = {Storage.WIRE: came.get(cycle), Storage.REGISTER: register, Storage.RING: shown[0]}[path.storage]
        if cycle in left and have != left[cycle]:
            return False
        taken = ring[0] if cycle + ahead in left and ring else None
        if cycle in came:
            register = came[cycle]
            ring.append(came[cycle])
        if path.storage is Storage.RING and len(ring) > path.depth:
            return False
        if path.storage is Storage.RING and cycle + ahead in left:
            shown.append(taken)
            ring.popleft()
        else:
            shown.append(shown[-1])
        shown.pop(0)
    return True


def check(frame: Frame, signals: Sequence[Signal], ii: int, gaps: Sequence[int]) -> None:
    """Bits are sent once, after they are there, and arrive before they are used; what waits is kept."""
    used: set[tuple[int, int, int]] = set()
    by_value = {signal.value: signal for signal in signals}
    fields = {field.value: field for field in frame.fields}
    for s in frame.segments:
        room = WORD_BITS - (TAIL_BITS if s.word == frame.words - 1 else 0)
        assert 0 <= s.word < frame.words
        assert s.bit + s.width <= room
        cycle = by_value[s.value].layout.cycles[s.beat]
        assert by_value[s.value].first_cycle + cycle <= frame.send_cycle + s.word
        assert fields[s.value].target_first_cycle + cycle >= s.word
        places = {(s.word, s.lane, bit) for bit in range(s.bit, s.bit + s.width)}
        assert not places & used
        used |= places
    starts = [0]
    for gap in gaps:
        starts.append(starts[-1] + ii + gap)
    both = (*sender_paths(frame, {signal.name: signal for signal in signals}), *receiver_paths(frame))
    for path in both:
        waits = max(b - a for a, b in zip(path.arrive, path.leave, strict=True))
        assert waits <= ii or path.storage is Storage.RING or len(path.arrive) == 1
        if waits <= ii:
            assert keeps(path, starts), path


@examples(60)
@given(data=st.data())
def test_streams_of_any_kind_cross(data: st.DataObject) -> None:
    ii = data.draw(st.integers(1, 90))
    some = [(data.draw(st.integers(1, 12)), data.draw(layouts(ii))) for _ in range(data.draw(st.integers(1, 3)))]
    signals = signals_of(some, [data.draw(st.integers(0, 30)) for _ in some])
    flag = data.draw(st.integers(0, 2 * ii))
    frame = framed(inputs_graph(some), signals, ii, data.draw(st.integers(1, 6)), flag)
    if frame is None:
        return
    assert sum(s.width for s in frame.segments) == sum(bits * layout.size for bits, layout in some)
    assert frame.words <= ii
    assert frame.send_cycle + frame.words - 1 >= flag
    check(frame, signals, ii, data.draw(st.lists(st.integers(0, 5), min_size=2, max_size=4)))


LARGE = [
    ("80 beats of 640 bits, II 100, 12 lanes", [(8, Layout.rows(6400, 80))], 100, 12, 0),
    ("80 beats of 640 bits, II 80, 12 lanes", [(8, Layout.rows(6400, 80))], 80, 12, 6),
    ("80 beats of 640 bits, II 100, 9 lanes", [(8, Layout.rows(6400, 80))], 100, 9, 11),
    ("400 beats of 64 bits, II 1600", [(8, Layout.rows(3200, 8, 4))], 1600, 16, 0),
    ("a beat every cycle, II 1600", [(8, Layout.rows(12800, 8))], 1600, 16, 0),
    ("a beat every cycle, II 1600, 2 lanes", [(8, Layout.rows(12800, 8))], 1600, 2, 2),
    ("80 beats of 640 bits over 4 lanes", [(8, Layout.rows(6400, 80, 20))], 1600, 4, 2),
]


@pytest.mark.parametrize(("name", "some", "ii", "lanes", "late"), LARGE, ids=[case[0] for case in LARGE])
def test_large_streams_cross_as_they_come(
    name: str, some: list[tuple[int, Layout]], ii: int, lanes: int, late: int
) -> None:
    signals = signals_of(some, [3])
    before = time.process_time()
    frame = framed(inputs_graph(some), signals, ii, lanes)
    assert time.process_time() - before < 2, name
    assert frame is not None
    assert frame.send_cycle + frame.fields[0].target_first_cycle == 3 + late
    check(frame, signals, ii, (0, 3, 0))


@pytest.mark.parametrize(("name", "some", "ii", "lanes", "late"), LARGE, ids=[case[0] for case in LARGE])
def test_the_ends_of_large_streams_are_small(
    name: str, some: list[tuple[int, Layout]], ii: int, lanes: int, late: int
) -> None:
    design = chain(some, ii, (0,), 2)
    first, second = design.fpgas
    assert first.sends is not None
    sender, receiver = emit_frame_out(design, first, first.sends), emit_frame_in(design, second, first.sends)
    assert len(sender.splitlines()) < 120
    assert len(receiver.splitlines()) < 120
    assert violations(design) == ()


def test_a_stream_that_waits_for_another_is_kept_in_a_memory() -> None:
    some = [(8, Layout.rows(1600, 1)), (8, Layout.rows(1600, 1))]
    signals = signals_of(some, [0, 500])
    frame = framed(inputs_graph(some), signals, 1600, 16)
    assert frame is not None
    rings = [path for path in sender_paths(frame, {s.name: s for s in signals}) if path.storage is Storage.RING]
    assert [(path.width, path.depth) for path in rings] == [(8, 500)]
    assert all(path.storage is Storage.WIRE for path in receiver_paths(frame))
    check(frame, signals, 1600, (0, 1))


def test_pulses_far_away_come_from_counters_or_shift_registers() -> None:
    line = event_line("event", "go", [0, 3, 5, 40, 1000, 4600], 900)
    text = "\n".join(line.lines)
    assert [text.count(f".Cycles({n})") for n in (35, 900, 60, 700)] == [1, 5, 1, 0]
    assert line.at[5] == "event_0[5]"
    assert line.at[40] == "event_40[0]"
    short = event_line("event", "go", [0, 200], 1)
    assert ".Cycles(200)" in "\n".join(short.lines)
    assert "mnn_pulse_delay" not in "\n".join(event_line("event", "go", list(range(0, 160, 8)), 9).lines)


def test_tools_may_copy_pulses_with_many_loads() -> None:
    lines = event_line("event", "go", [0, 3, 40], 9).lines
    registers = [line for line in lines if line.strip().endswith("_q;") and "logic" in line]
    assert registers
    assert all("(* max_fanout = 64 *)" in line for line in registers)


# What the check of a design says about streams


def small() -> list[tuple[int, Layout]]:
    return [(7, Layout.rows(40, 1)), (9, Layout.rows(36, 3, 3)), (5, Layout.parallel(30))]


def test_streams_over_three_fpgas_are_sound_and_keep_their_plan() -> None:
    design = chain(small(), 40, (0, 300, 0), 3)
    assert violations(design) == ()
    assert design.input_cycles == 40
    assert {name: signal.layout.span for name, signal in design.inputs.items()} == {"v0": 40, "v1": 34, "v2": 1}
    text = design_to_json(design)
    assert design_from_json(text, design.graph) == design
    assert len(text) < 64_000


def first_signal(design: Design, **changes: object) -> Design:
    first = design.fpgas[0]
    changed = replace(first.signals[0], **changes)  # type: ignore[arg-type]
    return replace(design, fpgas=(replace(first, signals=(changed, *first.signals[1:])), *design.fpgas[1:]))


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda d: first_signal(d, first_cycle=1), "input v0: is there in cycle 1, inputs come in cycle 0"),
        (lambda d: first_signal(d, layout=Layout.rows(39, 1)), "its beats carry 39 elements, not each of the 40 once"),
        (lambda d: first_signal(d, layout=Layout.rows(40, 1, 2)), "takes 79 cycles an event, the II is 40"),
        (lambda d: first_signal(d, first_cycle=-1), "is there in cycle -1, before the event"),
        (lambda d: first_signal(d, value="v1"), "input v0: comes in as 0 signals, exactly 1 is needed"),
        (lambda d: replace(d, ii_cycles=33), "takes 40 cycles an event, the II is 33"),
    ],
)
def test_the_check_knows_streams(damage: Callable[[Design], Design], words: str) -> None:
    found = violations(damage(chain(small(), 40, (0, 300, 0), 2)))
    assert any(words in line for line in found), found


def test_nested_kernels_come_back_from_a_plan() -> None:
    design = chain(small()[:1], 40, (3,), 1)
    fpga = design.fpgas[0]
    fold = FoldInputs(linear="a", epilogue=("b",), layout=Layout.rows(4, 2))
    specs = (
        Streamed(inner=fold, layouts=(Layout.rows(40, 2, 2),)),
        WindowBuffer(node="w", layouts=(Layout.rows(40, 1),), output=Layout.rows(36, 9, 3), offset=4),
    )
    kernels = tuple(replace(fpga.kernels[0], spec=spec) for spec in specs)
    changed = replace(design, fpgas=(replace(fpga, kernels=kernels),))
    assert design_from_json(design_to_json(changed), design.graph) == changed


LAYOUTS = [
    Layout.parallel(5),
    Layout.rows(103, 10),
    Layout.rows(3200, 8, 4),
    Layout(tuple((k, k + 64) for k in range(64)), tuple(40 * row + column for row in range(8) for column in range(8))),
    Layout(((0, 1, 2), (4, 3)), (0, 7)),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=[layout.describe() for layout in LAYOUTS])
def test_layouts_are_short_in_a_plan_and_come_back(layout: Layout) -> None:
    text = json.dumps(encode_layout(layout))
    assert len(text) < 250
    assert decode_layout(json.loads(text)) == layout


@examples(60)
@given(st.lists(st.tuples(st.lists(st.integers(-9, 9), max_size=12), st.integers(1, 9), st.integers(0, 3)), max_size=5))
def test_integers_come_back_from_a_plan(parts: list[tuple[list[int], int, int]]) -> None:
    values = [value + step * k for part, copies, step in parts for k in range(copies) for value in part]
    assert decode_ints(json.loads(json.dumps(encode_ints(values)))) == tuple(values)


@pytest.mark.parametrize(("most", "expected"), [(None, (36, 200, 50)), (125, (36, 39, 50)), (12, (4, 2, 6))])
def test_events_of_a_long_interval_are_bounded(most: int | None, expected: tuple[int, int, int]) -> None:
    graph = inputs_graph(small())
    real = {node.name: np.zeros((50, *node.type.shape), dtype=np.int64) for node in graph.inputs}
    events, counts = verification_events(graph, real, 2000, most)
    assert (counts.corner, counts.random, counts.real) == expected
    assert all(len(codes) == counts.total <= (most or 10**6) for codes in events.values())
