"""The HLS of a design in which tensors travel in beats: one process per kernel of the plan, queues between them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from metronn.emit.hls.config import Calls, call_files, configs, struct_text
from metronn.emit.hls.files import Beats, TopPort
from metronn.emit.hls.flow import HANDOVER_CYCLES, Flow
from metronn.emit.hls.index import Members
from metronn.emit.hls.names import Names, identifier
from metronn.emit.hls.ops import with_inner
from metronn.emit.hls.process import Process, Processes
from metronn.emit.hls.reorder import element_matrix
from metronn.emit.hls.top import action, call, declaration
from metronn.emit.hls.values import constants_header, guard, type_line
from metronn.ir.ops import Input
from metronn.ir.types import TensorType
from metronn.plan.design import KernelInstance
from metronn.plan.kernels.spec import covered_nodes

QUEUE_BITS = 4096
"""Widest element of a queue that the tool takes."""

SRL_DEPTH = 64
"""Queues of at most so many beats are shift registers in LUTs, as the delays of the plan are."""


@dataclass(frozen=True, slots=True)
class _Reader:
    """One use of a signal: where its queue is kept, and how long a beat may wait there."""

    key: str
    depth: int
    port: str = ""


class StreamDesign:
    """Names, types, processes and queues of one FPGA, and the files that are made of them.

    `interval_cycles`: cycles from one event to the next that the processes allow. It is the II of the plan but where
    padding at the end of an image leaves after its last pixel came, and the image is too small for two processes.
    """

    def __init__(self, name: str, flow: Flow) -> None:
        """Make all processes. Raises ModelError when a value is too wide."""
        self.name, self.flow = name, flow
        self.names = Names([name, f"{name}_run"])
        self._claim()
        maker = Processes(flow, self.names)
        self.processes: list[tuple[KernelInstance, Process]] = []
        for kernel in flow.kernels:
            if not self._is_queue(kernel):
                self.processes.append((kernel, maker.make(kernel)))
        self.readers = self._readers({kernel.name: process for kernel, process in self.processes})
        graph = flow.graph
        signal_of = dict(flow.outputs)
        values = {output: flow.signals[signal].value for output, signal in flow.outputs}
        self.inputs = tuple(
            self._port(self.names[value], value, graph.type_of(value), signal) for value, signal in flow.inputs
        )
        self.outputs = tuple(
            self._port(self.names[f"out:{output}"], output, graph.type_of(values[output]), signal_of[output])
            for output, _ in flow.outputs
        )

    def _claim(self) -> None:
        """Claim ports first, then values, then signals."""
        flow, graph = self.flow, self.flow.graph
        shown = [flow.signals[signal].value for _, signal in flow.outputs]
        for output, signal in flow.outputs:
            port = self.names.claim(f"out:{output}", output)
            value = flow.signals[signal].value
            entering = isinstance(graph.by_name[value].op, Input) or value in dict(flow.inputs)
            if not entering and shown.count(value) == 1 and identifier(value) == port:
                self.names.alias(value, port)
        known = {output.value for output in graph.outputs} & set(shown)
        for value in [*dict(flow.inputs), *(node.name for node in graph.nodes)]:
            if value not in known or value not in self.names:
                self.names.claim(value, value)
        for name, carried in flow.signals.items():
            self.names.claim(f"signal:{name}", f"{self.names[carried.value]}_beats")

    @property
    def headers(self) -> set[str]:
        """Headers of the library that the project includes."""
        found = {stem for _, process in self.processes for stem in process.headers}
        for _, kernel in self._inner().values():
            found |= kernel.unrolled.headers if kernel.unrolled else {kernel.header}
        return {"stream", *found}

    def _inner(self) -> Calls:
        """Calls made for each beat, by C++ name."""
        return with_inner({name: made for _, process in self.processes for name, made in process.inner.items()})

    @property
    def interval_cycles(self) -> int:
        """See the class."""
        calls = [call for _, process in self.processes for call in process.calls]
        return max([self.flow.ii_cycles, *(call.cycles for call in calls)])

    def latency_cycles(self, promised: int) -> int:
        """Cycles from the first beat to the last one: the plan's, and what each queue of the longest chain may add."""
        longest = max((self.flow.processes.get(signal, 0) for _, signal in self.flow.outputs), default=0)
        return promised + self.interval_cycles - self.flow.ii_cycles + HANDOVER_CYCLES * longest

    def _port(self, name: str, key: str, kind: TensorType, signal: str) -> TopPort:
        layout = self.flow.signals[signal].layout
        order = self.names.claim(f"order:{name}", f"{name}_order")
        members = Members(order)
        members.constant("beats", layout.beat_count)
        members.layout(layout)
        members.matrix("element", *element_matrix(layout))
        text = "".join(f"{array}\n" for array in members.stored) + struct_text(order, members.lines)
        origin = self.flow.origin(signal)[0]
        return TopPort(
            name, key, kind, Beats(f"{self.names[f'signal:{origin}']}_t", self._words(origin), layout, order, text)
        )

    def _words(self, origin: str) -> int:
        """Queues that a beat of a signal is spread over."""
        carried = self.flow.signals[origin]
        return _words(carried.layout.slot_count, self.flow.graph.type_of(carried.value).range.width_bits)

    # Queues

    def _readers(self, made: Mapping[str, Process]) -> dict[str, list[_Reader]]:
        """Readers of each signal that is no delay's. `made`: processes by the name of their kernel."""
        flow = self.flow
        makers = {kernel.output: kernel.name for kernel in flow.kernels}
        found: dict[str, list[_Reader]] = {}
        for kernel in flow.kernels:
            if self._is_queue(kernel):
                continue
            for number, signal in enumerate(kernel.inputs):
                origin, waiting = flow.origin(signal)
                # beats wait while the reader reads nothing, or leave faster at the end of the writer's event
                reader, writer = made[kernel.name].calls[0], made.get(makers.get(origin, ""))
                tail = max(reader.tail, writer.tail if writer else 0)
                joins = waiting > 0 or len(kernel.inputs) > 1
                beats = flow.depth(flow.signals[origin].layout, tail, joins=joins) if joins or tail else 2
                depth = max(waiting, beats)
                found.setdefault(origin, []).append(_Reader(f"{kernel.name}:{number}", depth))
        for output, signal in flow.outputs:
            origin, _ = flow.origin(signal)
            found.setdefault(origin, []).append(_Reader(f"out:{output}", 2, self.names[f"out:{output}"]))
        return found

    def _is_queue(self, kernel: KernelInstance) -> bool:
        """Whether the kernel is no process but the length of a queue."""
        return self.flow.origin(kernel.output)[0] != kernel.output

    def _queues(self, origin: str, where: str, channels: dict[str, str]) -> tuple[str, list[str], list[str]]:
        """Return where the producer writes, and the lines before it and behind it. `where`: the port, for an input."""
        readers = self.readers.get(origin, [])
        base = self.names[f"signal:{origin}"]
        beats = self.flow.signals[origin].layout.beat_count
        if not readers:
            target = where or self.names.claim(f"queue:{origin}", f"{base}_unread")
            declared = [] if where else self._queue(origin, target, 2)
            return target, declared, [call(_for_beats("drain", beats), [target])]
        if len(readers) == 1 and not where:
            reader = readers[0]
            target = reader.port or self.names.claim(f"queue:{origin}", f"{base}_queue")
            channels[reader.key] = target
            return target, [] if reader.port else self._queue(origin, target, reader.depth), []
        if len(readers) == 1:
            reader = readers[0]
            channels[reader.key] = where
            after = [call(_for_beats("copy", beats), [where, reader.port])] if reader.port else []
            return where, [], after
        before: list[str] = []
        target = where
        if not target:
            target = self.names.claim(f"queue:{origin}", f"{base}_queue")
            before = self._queue(origin, target, 2)
        after, rest = [], target
        for number, reader in enumerate(readers[:-1]):
            last = number == len(readers) - 2
            ends = [self._end(origin, base, reader, after)]
            if last:
                ends.append(self._end(origin, base, readers[-1], after))
            else:
                more = self.names.claim(f"rest:{origin}:{number}", f"{base}_rest_{number + 1}")
                after += self._queue(origin, more, 2)
                ends.append(more)
            after.append(call(_for_beats("fork", beats), [rest, *ends]))
            rest = ends[1]
            channels[reader.key] = ends[0]
        channels[readers[-1].key] = rest
        return target, before, after

    def _end(self, origin: str, base: str, reader: _Reader, lines: list[str]) -> str:
        if reader.port:
            return reader.port
        name = self.names.claim(f"queue:{origin}:{reader.key}", f"{base}_queue")
        lines += self._queue(origin, name, reader.depth)
        return name

    def _queue(self, origin: str, name: str, depth: int) -> list[str]:
        return _queue_text(name, f"{self.names[f'signal:{origin}']}_t", self._words(origin), depth)

    # Files

    def files(self) -> dict[str, str]:
        """Return top, header, types, configurations and weights, without the lines that begin each file."""
        made = {
            f"{self.name}.hpp": guard(self.name, "top", f'#include "types.hpp"\n\n{self._signature()};\n'),
            f"{self.name}.cpp": self._source(),
            "types.hpp": self._types(),
            "config.hpp": self._configs(),
        }
        made |= call_files(self.name, self._inner())
        for _, process in self.processes:
            if process.members.stored:
                struct = process.struct
                made[f"weights/{struct}.hpp"] = constants_header(self.name, struct, struct, process.members.stored)
        return made

    def _signature(self) -> str:
        parts = []
        for port in [*self.inputs, *self.outputs]:
            assert port.beats is not None
            parts.append(port.beats.parameter(port.name))
        return declaration(f"void {self.name}", parts)

    def _types(self) -> str:
        flow, graph = self.flow, self.flow.graph
        lines: dict[str, str] = {}
        origins = [name for name in flow.signals if flow.origin(name)[0] == name]
        for port in self.inputs + self.outputs:
            lines[port.name] = type_line(port.name, port.type, port.key)
        for value in dict.fromkeys(carried.value for carried in flow.signals.values()):
            name = self.names[value]
            lines.setdefault(name, type_line(name, graph.type_of(value), graph.by_name[value].source))
        inner = [kernel.unrolled.types for _, kernel in self._inner().values() if kernel.unrolled]
        for types in [*(process.types for _, process in self.processes), *inner]:
            for name, line in types.items():
                lines.setdefault(name, line)
        beats = []
        for signal in origins:
            value, layout = flow.signals[signal].value, flow.signals[signal].layout
            name, words = self.names[f"signal:{signal}"], self._words(signal)
            beats.append(_beat_type(name, self.names[value], layout.slot_count, words, layout.describe()))
        for kernel, process in self.processes:
            for handed in process.handed:
                words = _words(handed.slots, handed.width_bits)
                beats.append(_beat_type(handed.name, handed.element, handed.slots, words, f"within {kernel.name}"))
        body = '#include "metronn/platform.hpp"\n#include "metronn/stream.hpp"\n\n'
        body += "// Values are integer codes; a code times the step is the real number.\n"
        return guard(self.name, "types", body + "".join(lines.values()) + "\n" + "".join(beats))

    def _configs(self) -> str:
        stored = [process.struct for _, process in self.processes if process.members.stored]
        return configs(self.name, self._inner(), self.headers, stored)

    def _source(self) -> str:
        lines = [f'#include "{self.name}.hpp"', "", '#include "config.hpp"', ""]
        for _, process in self.processes:
            for one in process.calls:
                lines += [struct_text(one.struct, [*one.members.lines, *one.functions])]
        lines.append(f"{self._signature()} {{")
        for port in self.inputs + self.outputs:
            lines.append(f"#pragma HLS INTERFACE mode = ap_fifo port = {port.name}")
            lines.append(f"#pragma HLS AGGREGATE variable = {port.name} compact = bit")
        lines.append("#pragma HLS DATAFLOW")
        channels: dict[str, str] = {}
        for value, signal in self.flow.inputs:
            _, before, after = self._queues(signal, self.names[value], channels)
            lines += [*before, *after]
        for kernel, process in self.processes:
            lines += ["", *(f"  // {line}" for line in self._comments(kernel, process))]
            target, before, after = self._queues(kernel.output, "", channels)
            sources = [channels[f"{kernel.name}:{number}"] for number in range(len(kernel.inputs))]
            if process.before is not None:
                queues = [handed.name for handed in process.handed]
                for handed in process.handed:
                    words = _words(handed.slots, handed.width_bits)
                    lines += _queue_text(handed.name, f"{handed.name}_t", words, handed.depth)
                lines.append(call(f"metronn::{process.before.function}<{process.before.struct}>", [*sources, *queues]))
                sources = queues
            arguments = [*sources, *process.constants]
            arguments = [target, *arguments] if process.result_first else [*arguments, target]
            lines += [*before, call(f"metronn::{process.function}<{process.struct}>", arguments), *after]
        return "\n".join([*lines, "}"]) + "\n"

    def _comments(self, kernel: KernelInstance, process: Process) -> list[str]:
        graph = self.flow.graph
        layouts = [self.flow.signals[name].layout.describe() for name in (*kernel.inputs, kernel.output)]
        lines = [
            f"{graph.by_name[node].comment}: {action(graph, graph.by_name[node], process.names.get(node, ''))}"
            for node in covered_nodes(kernel.spec)
        ]
        travel = f"{' and '.join(layouts[:-1])} -> {layouts[-1]}"
        where = f"starts in cycle {kernel.start_cycle}, {kernel.latency_cycles} cycles"
        return [*(lines or [f"{self.flow.signals[kernel.output].value}: in other beats"]), f"{travel}; {where}"]


def _for_beats(what: str, beats: int) -> str:
    """Return the library's function for a queue with so many beats an event."""
    return f"metronn::{what}_beat" + (f"s<{beats}>" if beats > 1 else "")


def _words(slots: int, width_bits: int) -> int:
    """Queues that a beat of so many elements is spread over."""
    return -(-slots // max(1, QUEUE_BITS // width_bits))


def _beat_type(name: str, element: str, slots: int, words: int, comment: str) -> str:
    """Define the type of what is in a queue."""
    kind, sizes = ("beat", f"{slots}") if words == 1 else ("part", f"{slots}, {words}")
    return f"typedef metronn::{kind}<{element}_t, {sizes}> {name}_t;  // {comment}\n"


def _queue_text(name: str, kind: str, words: int, depth: int) -> list[str]:
    """Declare a queue of so many beats."""
    declared = f'{name}("{name}")' if words == 1 else f"{name}[{words}]"
    return [
        f"  metronn::stream<{kind}> {declared};",
        f"#pragma HLS STREAM variable = {name} depth = {depth}",
        *([f"#pragma HLS BIND_STORAGE variable = {name} type = fifo impl = srl"] if depth <= SRL_DEPTH else []),
    ]
