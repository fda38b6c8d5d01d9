"""A simulation of the processes of an emitted HLS project, beat by beat: deadlocks, and queues that cost cycles.

A process starts an iteration when its interval has passed, a beat is there in each queue that the iteration reads, and
each queue that it writes has room by then; what it writes is there a process' latency and a cycle later. Inputs come as
fast as they are read. Latencies are those of the plan. A process is late where the tool's pipeline is `LATE_CYCLES`
longer than the plan's; where ways join, all processes on the others are late while those of one are not, which is when
most beats wait on it. A pipeline that goes on while its output waits holds more beats than are counted here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from metronn.plan.serialize import decode_layout
from metronn.verify.hls_source import Call, Function, Source, calls, evaluate

LATE_CYCLES = 6
"""Cycles by which a process may be later than its kernel in the plan: two for the queue, four of a longer pipeline."""

EVENTS = 6
"""Events that are simulated; the interval is measured from the third to the last."""

SETTLED_EVENTS = 24
"""Events that are simulated where that seems too long: a process that lets an event wait for the one before it does so
for good, and each process behind it sees that an event later. The interval is measured in the last two thirds."""

TOOL_DEPTH = 2
"""Beats of a queue of which nothing is said."""

PLANNED = re.compile(r"; starts in cycle \d+, (\d+) cycles\n(?:(?!; starts in).*\n)*?  metronn::\w+<(\w+)>\(")
WRITTEN = frozenset({"y", "first", "second"})
QUEUE = re.compile(r"metronn::stream<\w+> (\w+)(?:\(\"\w+\"\)|\[\d+\]);")


@dataclass(slots=True)
class Process:
    """What an event is for a process: which iterations read and write a beat of each queue.

    `latency`: cycles from the start of an iteration to its beat.
    """

    name: str
    iterations: int
    interval: int
    latency: int
    reads: dict[str, frozenset[int]] = field(default_factory=dict)
    writes: dict[str, frozenset[int]] = field(default_factory=dict)


class UnknownProcessError(Exception):
    """A process of which nothing is known here."""


def processes(source: Source, top: Function) -> list[Process]:
    """Return the processes of a dataflow region. Raises UnknownProcessError for one of another kind."""
    planned = {struct: int(cycles) for cycles, struct in PLANNED.findall(source.files[top.path])}
    return [_process(source, call, planned) for call in calls(top)]


def _process(source: Source, call: Call, planned: Mapping[str, int]) -> Process:
    struct = call.template[0]
    values = source.constants.get(struct, {})
    iterations, interval, taken, left = _steps(source, call, values)
    name = struct if struct in source.constants else f"{call.function} of {call.arguments[0]}"
    process = Process(name, iterations, interval, planned.get(struct, 1))
    parameters = [*source.functions[call.function].parameters]
    parameters += [parameters[-1]] * (len(call.arguments) - len(parameters))
    number = written = 0
    for argument, parameter in zip(call.arguments, parameters, strict=False):
        if argument in source.stored:
            continue
        if parameter in WRITTEN:
            process.writes[argument] = left[min(written, len(left) - 1)]
            written += 1
        else:
            process.reads[argument] = taken[min(number, len(taken) - 1)]
            number += 1
    return process


def _steps(
    source: Source, call: Call, values: Mapping[str, int]
) -> tuple[int, int, Sequence[frozenset[int]], Sequence[frozenset[int]]]:
    """Return iterations, interval, those that read each input, and those that write each output."""
    kind, beats = call.function, values.get("beats", 1)
    if kind.startswith(("fork_", "copy_", "drain_")):
        beats = int(call.template[0]) if call.template[0].isdigit() else 1
        return beats, 1, [frozenset(range(beats))], [frozenset(range(beats))]
    if kind.startswith("map_"):
        return beats, values.get("interval", 1), [frozenset(range(beats))], [frozenset(range(beats))]
    if kind.startswith(("gather_", "reduce_")):
        return beats, values.get("interval", 1), [frozenset(range(beats))], [frozenset({beats - 1})]
    every = frozenset(range(beats * values.get("groups", 1)))
    if kind == "fold_outputs_beats":
        ends = frozenset(k for k in every if k % beats == beats - 1)
        return len(every), 1, [frozenset(k for k in every if k % beats == 0)], [every if values["parallel"] else ends]
    if kind.startswith("fold_inputs"):
        return len(every), 1, [every], [frozenset(k for k in every if k % beats == beats - 1)]
    if kind in ("window_beats", "line_beats", "column_beats"):
        return _window_steps(kind, values)
    if kind in ("reorder_beats", "remember_beats"):
        steps = range(values["steps"])
        taken = [
            frozenset(k for k in steps if source.value_of(call.template[0], "takes", (stream, k)))
            for stream in range(values["streams"])
        ]
        return len(steps), 1, taken, [frozenset(k for k in steps if source.value_of(call.template[0], "leaves", (k,)))]
    raise UnknownProcessError(kind)


def _window_steps(
    kind: str, v: Mapping[str, int]
) -> tuple[int, int, Sequence[frozenset[int]], Sequence[frozenset[int]]]:
    """Return what `_steps` does, of a window in one process or of one of two."""
    pixels, first = v["frames"] * v["rows"] * v["blocks"] * v["parts"], min(_windows(v))
    if kind == "window_beats":
        return v["steps"], v["interval"], [frozenset(range(pixels))], [frozenset(_windows(v))]
    handed = [range(first, first + v["parts"]), range(first + v["parts"], pixels)]
    if kind == "line_beats":
        return pixels, v["interval"], [frozenset(range(pixels))], [frozenset(steps) for steps in handed]
    taken = [frozenset(step - first for step in steps) for steps in handed]
    return v["steps"] - first, v["interval"], taken, [frozenset(step - first for step in _windows(v))]


def _windows(v: Mapping[str, int]) -> Iterator[int]:
    """Steps in which a window leaves, by the counters of `metronn/window_buffer.hpp`."""
    lines, length = (v["kernel_rows"] - 1) * v["row_dilation"], v["blocks"] * v["parts"]
    for frame in range(v["frames"]):
        for row in range(v["out_rows"]):
            line = frame * v["rows"] + row * v["row_stride"] + lines - v["rows_before"]
            for block in range(v["out_blocks"]):
                first = line * length + (v["first_block"] + block * v["block_step"]) * v["parts"]
                yield from range(first, first + v["parts"])


@dataclass(slots=True)
class Outcome:
    """Cycles between events, and how long each queue kept its writer waiting; or, of a deadlock, who waits for what.

    `waiting`: process, queue, and whether the queue is full (else empty).
    """

    interval: float
    held: dict[str, int]
    waiting: list[tuple[str, str, bool]]


def simulate(
    found: Sequence[Process],
    depths: Mapping[str, int],
    late: frozenset[str],
    inputs: Mapping[str, Sequence[int]],
    events: int = EVENTS,
) -> Outcome:
    """Run all processes, those named in `late` late.

    `inputs`: cycles in which the beats of so many events, or of more, come; outputs always go on.
    """
    written: dict[str, list[int]] = {
        **{queue: [] for queue in depths},
        **{port: [*cycles] for port, cycles in inputs.items()},
    }
    read: dict[str, list[int]] = {queue: [] for queue in written}
    started, last = [0] * len(found), [-1_000_000] * len(found)
    held = dict.fromkeys(depths, 0)
    ends: list[dict[int, int]] = [{} for _ in found]
    waiting: list[tuple[str, str, bool]] = []
    moved = True
    while moved:
        moved, waiting = False, []
        for number, process in enumerate(found):
            latency = process.latency + (LATE_CYCLES if process.name in late else 0)
            while started[number] < events * process.iterations:
                event, step = divmod(started[number], process.iterations)
                time = max(0, last[number] + process.interval)
                empty = full = ""
                for queue, steps in process.reads.items():
                    if step in steps:
                        place = len(read[queue])
                        if place >= len(written[queue]):
                            empty = queue
                            break
                        time = max(time, written[queue][place])
                for queue, steps in process.writes.items():
                    if step in steps and queue in depths and not empty:
                        place = len(written[queue]) - depths[queue]
                        if place >= len(read[queue]):
                            full = queue
                            break
                        room = read[queue][place] + 1 - latency if place >= 0 else 0
                        held[queue] += max(0, room - time)
                        time = max(time, room)
                if empty or full:
                    waiting.append((process.name, empty or full, bool(full)))
                    break
                for queue, steps in process.reads.items():
                    if step in steps:
                        read[queue].append(time)
                for queue, steps in process.writes.items():
                    if step in steps and queue in depths:
                        written[queue].append(time + latency + 1)
                last[number] = time
                ends[number][event] = time
                started[number] += 1
                moved = True
    if waiting:
        return Outcome(float("inf"), held, waiting)
    first, last_event = events // 3, events - 1
    slowest = max((end[last_event] - end[first]) / (last_event - first) for end in ends)
    return Outcome(slowest, held, [])


def settled(
    found: Sequence[Process],
    depths: Mapping[str, int],
    late: frozenset[str],
    inputs: Mapping[str, Sequence[int]],
    interval: int,
) -> Outcome:
    """Run all processes; where the first events take longer than `interval`, measure later ones.

    `inputs`: as in `simulate`, of `SETTLED_EVENTS`.
    """
    outcome = simulate(found, depths, late, inputs)
    if outcome.waiting or outcome.interval <= interval:
        return outcome
    return simulate(found, depths, late, inputs, SETTLED_EVENTS)


def beat_problems(source: Source, top: Function, interval: int) -> Iterator[str]:
    """Return the queues of a dataflow region that are too short for an event every `interval` cycles."""
    try:
        found = processes(source, top)
    except UnknownProcessError as unknown:
        yield f"{top.path}: {unknown} is no process whose beats are known"
        return
    names = QUEUE.findall("\n".join(top.body))
    depths = dict.fromkeys(names, TOOL_DEPTH)
    for pragma in top.pragmas:
        if pragma.name == "STREAM" and "depth" in pragma.options:
            depths[pragma.options["variable"]] = evaluate(pragma.options["depth"], {})
    inputs = _inputs(source, interval)
    told: set[str] = set()
    for late in _lateness(found):
        outcome = settled(found, depths, late, inputs, interval)
        if outcome.waiting:
            full = [(who, queue) for who, queue, is_full in outcome.waiting if is_full]
            for who, queue in full or [(who, queue) for who, queue, _ in outcome.waiting]:
                if queue not in told:
                    told.add(queue)
                    state = f"is full with {depths[queue]} beats" if full else "is empty"
                    yield f"{top.path}: deadlock: queue {queue} {state} and {who} waits for it"
        elif outcome.interval > interval:
            free = settled(found, dict.fromkeys(depths, 1_000_000), late, inputs, interval)
            queue = max(outcome.held, key=lambda name: outcome.held[name], default="")
            if free.interval > interval:
                if "" not in told:
                    told.add("")
                    yield (
                        f"{top.path}: the processes take an event every {free.interval:g} cycles, one comes every "
                        f"{interval}"
                    )
            elif queue not in told:
                told.add(queue)
                yield (
                    f"{top.path}: queue {queue} with {depths[queue]} beats is too short: an event every "
                    f"{outcome.interval:g} cycles, one comes every {interval}"
                )


def _inputs(source: Source, interval: int) -> dict[str, list[int]]:
    """Cycles in which the beats of each input come, event after event."""
    found = {}
    for port in json.loads(source.files["interface.json"])["inputs"]:
        cycles = decode_layout(port["beats"]).cycles
        found[port["port"]] = [event * interval + cycle for event in range(SETTLED_EVENTS) for cycle in cycles]
    return found


def _lateness(found: Sequence[Process]) -> Iterator[frozenset[str]]:
    """Which processes are late: none, all, and where ways join, those of all ways but one."""
    yield frozenset()
    yield frozenset(process.name for process in found)
    maker = {queue: process for process in found for queue in process.writes}

    def behind(queue: str) -> frozenset[str]:
        """Processes that a queue's beats come through."""
        names: set[str] = set()
        waiting = [queue]
        while waiting:
            made = maker.get(waiting.pop())
            if made is not None and made.name not in names:
                names.add(made.name)
                waiting += made.reads
        return frozenset(names)

    seen: set[frozenset[str]] = set()
    for process in found:
        ways = {queue: behind(queue) for queue in process.reads}
        for own in ways if len(ways) > 1 else ():
            late = frozenset().union(*(way for queue, way in ways.items() if queue != own)) - ways[own]
            if late and late not in seen:
                seen.add(late)
                yield late
