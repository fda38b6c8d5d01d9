"""The independent check of a design: every rule of place and time, recomputed here, sharing no code with the planner.

Kernel models (latency, layouts, cost) are the definition of the kernels and are used as such; where kernels stand, when
they start and what the links carry is checked bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from metronn.ir.graph import Graph
from metronn.ir.ops import Constant, Input, Linear, operands
from metronn.plan.design import Design, FpgaDesign, Frame, FrameField, PortFrame, Segment
from metronn.plan.hardware.resources import Resources
from metronn.plan.kernels.spec import (
    Crossing,
    FoldInputs,
    FoldOutputs,
    MatvecAdders,
    covered_nodes,
)
from metronn.plan.layout import wire_format

LANE_PAYLOAD_BITS = 63
RESERVED_BITS = 40
LINK_REGISTERS = 8
LINK_MARGIN = 2
LINK_VERDICT = 2
PORT_WORD_BITS = 64
PORT_REGISTERS = 1


def violations(
    design: Design, reuse: Mapping[str, int] | None = None, lanes: tuple[int | None, int | None] | None = None
) -> tuple[str, ...]:
    """Return every broken rule as one line; empty for a sound design.

    `reuse`: by layer, how many times an event each of its multipliers is to be used. `lanes`: on how many lanes inputs
    come and results leave as words at most, None for ports as wide as beats; without it any plan of either is sound.
    """
    found: list[str] = []
    found.extend(_coverage(design))
    for fpga in design.fpgas:
        found.extend(f"{fpga.name}: {line}" for line in _signals(design, fpga))
        found.extend(f"{fpga.name}: {line}" for line in _drivers(design, fpga))
        found.extend(f"{fpga.name}: {line}" for line in _kernels(design, fpga))
        found.extend(f"{fpga.name}: {line}" for line in _regions(design, fpga))
        found.extend(f"{fpga.name}: {line}" for line in _budget(design, fpga))
        found.extend(f"{fpga.name}: {line}" for line in _reuse(design, fpga, reuse or {}))
    found.extend(_links(design))
    found.extend(_outputs(design))
    found.extend(_words(design, lanes))
    return tuple(found)


def _coverage(design: Design) -> Iterator[str]:
    """Every op is made by exactly one kernel, and a kernel's hidden values are read by itself only."""
    graph = design.graph
    makers: dict[str, list[str]] = {}
    for fpga in design.fpgas:
        for kernel in fpga.kernels:
            nodes = covered_nodes(kernel.spec)
            for node in nodes:
                makers.setdefault(node, []).append(f"{fpga.name}.{kernel.name}")
            for hidden in nodes[:-1]:
                outside = [user for user in graph.uses[hidden] if user not in nodes]
                if outside or any(output.value == hidden for output in graph.outputs):
                    readers = ", ".join(outside) or "an output"
                    yield f"{fpga.name}.{kernel.name}: {hidden} is hidden inside but read by {readers}"
            reads = {value for value, _ in design.planned(kernel).inputs}
            for node in nodes:
                for name in operands(graph.by_name[node].op):
                    if name not in nodes and name not in reads and not isinstance(graph.by_name[name].op, Constant):
                        yield f"{fpga.name}.{kernel.name}: {node} reads {name}, which is no input of the kernel"
    needed = _needed(graph)
    for entry in graph.nodes:
        who = makers.get(entry.name, [])
        if isinstance(entry.op, Input | Constant):
            if who:
                yield f"{entry.name}: an input or constant is made by {who}"
        elif entry.name in needed and len(who) != 1:
            yield f"{entry.name}: made by {len(who)} kernels {who}, exactly 1 is needed"


def _needed(graph: Graph) -> set[str]:
    needed = {output.value for output in graph.outputs}
    for node in reversed(graph.nodes):
        if node.name in needed:
            needed.update(operands(node.op))
    return needed


def _signals(design: Design, fpga: FpgaDesign) -> Iterator[str]:
    """Every signal carries each element of its value once, from cycle 0 on, and is done within one II."""
    names = [signal.name for signal in fpga.signals]
    for name in sorted({name for name in names if names.count(name) > 1}):
        yield f"signal {name}: declared {names.count(name)} times"
    for signal in fpga.signals:
        size = design.graph.type_of(signal.value).size
        carried = sorted(element for beat in signal.layout.beats for element in beat)
        if carried != list(range(size)):
            yield f"signal {signal.name}: its beats carry {len(carried)} elements, not each of the {size} once"
        if signal.first_cycle < 0:
            yield f"signal {signal.name}: is there in cycle {signal.first_cycle}, before the event"
        if signal.layout.span > design.ii_cycles:
            yield f"signal {signal.name}: takes {signal.layout.span} cycles an event, the II is {design.ii_cycles}"


def _drivers(design: Design, fpga: FpgaDesign) -> Iterator[str]:
    """Every signal has exactly one driver, which makes its value at its cycle; every input of the graph is there."""
    drivers: dict[str, list[str]] = {name: [] for name in fpga.signal}
    for kernel in fpga.kernels:
        if kernel.output not in drivers:
            yield f"{kernel.name}: makes signal {kernel.output}, which is not declared"
        else:
            drivers[kernel.output].append(kernel.name)
    for field in fpga.receives.fields if fpga.receives else ():
        if field.target not in drivers:
            yield f"received signal {field.target} is not declared"
        else:
            drivers[field.target].append("link")
    for field in fpga.enters.fields if fpga.enters else ():
        if field.target not in drivers:
            yield f"signal {field.target} of words that come in is not declared"
        else:
            drivers[field.target].append("words")
    for node in design.graph.inputs if fpga.index == 0 and fpga.enters is None else ():
        entering = [s for s in fpga.signals if s.value == node.name and not drivers[s.name]]
        if len(entering) != 1:
            yield f"input {node.name}: comes in as {len(entering)} signals, exactly 1 is needed"
        for signal in entering:
            if signal.first_cycle != 0:
                yield f"input {node.name}: is there in cycle {signal.first_cycle}, inputs come in cycle 0"
            drivers[signal.name].append("input")
    for name, who in drivers.items():
        if len(who) != 1:
            yield f"signal {name}: driven by {who}, exactly one driver is needed"


def _kernels(design: Design, fpga: FpgaDesign) -> Iterator[str]:
    """Every kernel gets its inputs in the layout it wants, in the cycle it starts, and is busy at most one II."""
    for kernel in fpga.kernels:
        plan = design.planned(kernel)
        wanted = plan.inputs
        if len(wanted) != len(kernel.inputs):
            yield f"{kernel.name}: {len(kernel.inputs)} inputs, its ops read {len(wanted)}"
            continue
        for (value, layout), name in zip(wanted, kernel.inputs, strict=True):
            signal = fpga.signal.get(name)
            if signal is None:
                yield f"{kernel.name}: reads signal {name}, which is not on this FPGA"
                continue
            if signal.value != value or signal.layout != layout:
                carried = f"{signal.value} in {signal.layout.describe()}"
                yield f"{kernel.name}: {name} carries {carried}, wanted is {value} in {layout.describe()}"
            if signal.first_cycle != kernel.start_cycle:
                there = signal.first_cycle
                yield f"{kernel.name}: starts in cycle {kernel.start_cycle}, {name} is there in cycle {there}"
        out = fpga.signal.get(kernel.output)
        latency = plan.latency_cycles
        if kernel.latency_cycles != latency:
            yield f"{kernel.name}: latency is given as {kernel.latency_cycles}, the kernel has {latency}"
        if out is not None:
            if out.value != plan.result or out.layout != plan.output:
                yield f"{kernel.name}: makes {plan.result}, signal {out.name} is declared for {out.value}"
            if out.first_cycle != kernel.start_cycle + latency:
                made = kernel.start_cycle + latency
                yield f"{kernel.name}: output in cycle {made}, signal {out.name} says {out.first_cycle}"
        busy = plan.cycles_per_event
        if busy > design.ii_cycles:
            yield f"{kernel.name}: busy {busy} cycles an event, the II is {design.ii_cycles}"


def _regions(design: Design, fpga: FpgaDesign) -> Iterator[str]:
    """Everything reads and makes signals of its own region; only crossings join neighbours, within their lines."""
    device = design.system.fpgas[fpga.index].device
    count, asked = device.slr, device.crossing
    region = {signal.name: signal.region for signal in fpga.signals}
    for name, number in region.items():
        if not 0 <= number < count:
            yield f"signal {name}: is in region {number}, the device has {count}"
    load: dict[int, int] = {}
    for kernel in fpga.kernels:
        if kernel.output not in region or any(name not in region for name in kernel.inputs):
            continue  # told elsewhere
        there = region[kernel.output]
        if isinstance(kernel.spec, Crossing):
            here = region[kernel.inputs[0]]
            if abs(there - here) != 1:
                yield f"{kernel.name}: goes from region {here} to {there}, which are no neighbours"
            if kernel.spec.registers != asked.cycles:
                yield f"{kernel.name}: has {kernel.spec.registers} registers, a crossing has {asked.cycles}"
            bits = wire_format(design.graph.type_of(kernel.spec.value), kernel.spec.layout).width
            load[min(here, there)] = load.get(min(here, there), 0) + bits
            continue
        for name in kernel.inputs:
            if region[name] != there:
                yield f"{kernel.name}: is in region {there}, {name} is in region {region[name]}"
    for boundary, bits in sorted(load.items()):
        if asked.lines is not None and bits > asked.lines:
            yield f"{bits} bits cross from region {boundary} to {boundary + 1}, there are {asked.lines} lines"
    for end, frame, names in (
        ("received", fpga.receives, [field.target for field in fpga.receives.fields] if fpga.receives else []),
        ("sent", fpga.sends, [field.source for field in fpga.sends.fields] if fpga.sends else []),
        ("made of words that come in", None, [field.target for field in fpga.enters.fields] if fpga.enters else []),
        ("leaving as words", None, [field.source for field in fpga.leaves.fields] if fpga.leaves else []),
    ):
        regions = sorted({region[name] for name in names if name in region})
        if len(regions) > 1:
            yield f"signals of the regions {regions} are {end}, all of these are in one region"
        if frame is not None and regions:
            rate = design.system.links[frame.link].line_rate_gbps
            groups = design.system.fpgas[fpga.index].board.transceivers
            stated = {group.region for group in groups if group.line_rate_gbps >= rate}
            if len(stated) == 1 and stated.isdisjoint({None, device.region_names[regions[0]]}):
                yield f"signals are {end} in region {regions[0]}, the transceivers are in {stated.pop()}"


def _budget(design: Design, fpga: FpgaDesign) -> Iterator[str]:
    hardware = design.system.fpgas[fpga.index]
    names, budgets = hardware.device.region_names, hardware.region_budgets
    needs = [Resources() for _ in budgets]
    for kernel in fpga.kernels:
        number = next((signal.region for signal in fpga.signals if signal.name == kernel.output), 0)
        if 0 <= number < len(needs):
            needs[number] += design.planned(kernel).resources
    for name, need, budget in zip(names, needs, budgets, strict=True):
        where = f"{name} " if len(budgets) > 1 else ""
        for resource in need.exceeds(budget):
            yield f"{where}needs {need.as_dict()[resource]} {resource}, the budget is {budget.as_dict()[resource]}"


def _reuse(design: Design, fpga: FpgaDesign, reuse: Mapping[str, int]) -> Iterator[str]:
    """No layer has more multipliers than its reuse leaves it; counted from the fields of its kernel."""
    for kernel in fpga.kernels:
        planned = design.planned(kernel)
        spec = planned.part.spec
        if not isinstance(spec, MatvecAdders | FoldOutputs | FoldInputs):
            continue
        node = design.graph.by_name[spec.linear]
        times = reuse.get(node.source)
        if times is None:
            continue
        assert isinstance(node.op, Linear)
        inputs, outputs = node.op.weight.shape
        vectors = 1 if planned.part is planned else -(-node.type.size // outputs // planned.copies)
        share, rest = divmod(times, vectors)
        match spec:
            case MatvecAdders():
                kept = (share, rest) == (1, 0)
            case FoldOutputs():
                kept = (share, rest) == (spec.beats, 0)
            case FoldInputs():
                slots = [sum(slot < len(beat) for beat in spec.layout.beats) for slot in range(inputs)]
                kept = not rest and sum(count > 1 for count in slots) * share < inputs + share
        if not kept:
            yield f"{kernel.name}: {node.source} does not use its multipliers {times} times an event"


def _links(design: Design) -> Iterator[str]:
    """Both ends of a link agree, every bit has its own place, is there when sent and is not used before it arrives."""
    for sender, receiver in zip(design.fpgas, design.fpgas[1:], strict=False):
        frame = sender.sends
        if frame is None or frame != receiver.receives:
            yield f"{sender.name} -> {receiver.name}: the two ends have different frames"
            continue
        name = f"{sender.name} -> {receiver.name}"
        link = design.system.links[frame.link]
        if frame.lanes > link.lanes or frame.words > design.ii_cycles:
            yield f"{name}: {frame.lanes} lanes x {frame.words} words, allowed are {link.lanes} x {design.ii_cycles}"
        latency = link.latency_max_cycles + LINK_REGISTERS + LINK_MARGIN
        if frame.latency_cycles != latency:
            yield f"{name}: latency is given as {frame.latency_cycles} cycles, the link has {latency}"
        if receiver.offset_cycles != sender.offset_cycles + frame.send_cycle + frame.latency_cycles:
            yield f"{name}: {receiver.name} starts in cycle {receiver.offset_cycles}, the first word arrives at another"
        yield from (f"{name}: {line}" for line in _frame(design, sender, receiver, frame))
    if design.fpgas[0].receives is not None or design.fpgas[-1].sends is not None:
        yield "the ends of the chain must not have links"


def _frame(design: Design, sender: FpgaDesign, receiver: FpgaDesign, frame: Frame) -> Iterator[str]:
    """Every bit of every beat is sent once, after it is there, and arrives before it is used."""
    yield from _packed(design, frame, LANE_PAYLOAD_BITS, RESERVED_BITS)
    fields = {field.value: field for field in frame.fields}
    for segment in frame.segments:
        field = fields.get(segment.value)
        if field is not None and 0 <= segment.beat < field.layout.beat_count:
            yield from _in_time_to_leave(design, sender, frame, segment, field)
            yield from _in_time_to_use(design, segment, field)
    flagged = sender.receives.words + LINK_VERDICT if sender.receives else 0
    if frame.send_cycle + frame.words - 1 < flagged:
        leaves = frame.send_cycle + frame.words - 1
        yield f"the last word leaves in cycle {leaves}, before the error flag is known ({flagged})"
    for field in frame.fields:
        if sender.signal[field.source].layout != field.layout or receiver.signal[field.target].layout != field.layout:
            yield f"{field.value}: the layouts on both sides of the link differ"
        if receiver.signal[field.target].first_cycle != field.target_first_cycle:
            yield f"{field.value}: signal {field.target} does not start when the frame says"


def _packed(design: Design, frame: Frame | PortFrame, word_bits: int, reserved: int) -> Iterator[str]:
    """Every bit of every beat has one place in the words, inside them and apart from all others."""
    places: dict[tuple[int, int], list[tuple[int, int]]] = {}
    sent: dict[tuple[str, int], list[tuple[int, int]]] = {}
    fields = {field.value: field for field in frame.fields}
    for segment in frame.segments:
        room = word_bits - (reserved if segment.word == frame.words - 1 else 0)
        inside = (
            0 <= segment.word < frame.words
            and 0 <= segment.lane < frame.lanes
            and 0 <= segment.bit
            and segment.bit + segment.width <= room
        )
        if not inside:
            yield f"segment {segment} lies outside the frame"
        field = fields.get(segment.value)
        if field is None or not 0 <= segment.beat < field.layout.beat_count:
            yield f"segment {segment} carries no field of the frame"
            continue
        places.setdefault((segment.word, segment.lane), []).append((segment.bit, segment.width))
        sent.setdefault((segment.value, segment.beat), []).append((segment.offset, segment.width))
    for (word, lane), runs in places.items():
        for bit in _twice(runs):
            yield f"bit {bit} of word {word} on lane {lane} is used twice"
    for (value, beat), runs in sent.items():
        for bit in _twice(runs):
            yield f"bit {bit} of {value} beat {beat} is sent twice"
    for field in frame.fields:
        wires = wire_format(design.graph.type_of(field.value), field.layout)
        for beat, elements in enumerate(field.layout.beats):
            last = wires.slots[len(elements) - 1]
            missing = _gaps(sent.get((field.value, beat), []), last.offset + last.width)
            if missing:
                yield f"{field.value} beat {beat}: bits {missing} are not sent"


def _in_time_to_leave(
    design: Design, fpga: FpgaDesign, frame: Frame | PortFrame, segment: Segment, field: FrameField
) -> Iterator[str]:
    """The bits are there when their word is made, and wait one II at most."""
    there = fpga.signal[field.source].first_cycle + field.layout.cycles[segment.beat]
    sending = frame.send_cycle + segment.word
    if there > sending:
        yield f"{segment.value} beat {segment.beat} is sent in cycle {sending}, it is there in {there}"
    if sending - there > design.ii_cycles:
        yield f"{segment.value} beat {segment.beat} waits longer than one II and meets the next event"


def _in_time_to_use(design: Design, segment: Segment, field: FrameField) -> Iterator[str]:
    """The bits have come before they are used, and wait one II at most."""
    used = field.target_first_cycle + field.layout.cycles[segment.beat]
    if used - segment.word > design.ii_cycles:
        yield f"{segment.value} beat {segment.beat} is used in cycle {used}, word {segment.word} is gone by then"
    if used < segment.word:
        yield f"{segment.value} beat {segment.beat} is used before word {segment.word} arrives"


def _twice(runs: list[tuple[int, int]]) -> Iterator[int]:
    """First bit of each overlap of runs (start, width)."""
    end = 0
    for start, width in sorted(runs):
        if start < end:
            yield start
        end = max(end, start + width)


def _gaps(runs: list[tuple[int, int]], bits: int) -> list[str]:
    """Bits below `bits` that no run (start, width) holds, as ranges."""
    found, end = [], 0
    for start, width in [*sorted(runs), (bits, 0)]:
        if start > end:
            found.append(f"{end}..{start - 1}")
        end = max(end, start + width)
    return found


def _outputs(design: Design) -> Iterator[str]:
    last = design.fpgas[-1]
    names = {output.name: output.value for output in design.graph.outputs}
    for output in design.outputs:
        signal = last.signal.get(output.signal)
        if signal is None or names.get(output.name) != signal.value:
            yield f"output {output.name}: signal {output.signal} on {last.name} does not carry it"
            continue
        leaves = signal.first_cycle if last.leaves is None else last.leaves.send_cycle + PORT_REGISTERS
        if last.receives is not None and leaves < last.receives.words + LINK_VERDICT:
            known = last.receives.words + LINK_VERDICT
            yield f"output {output.name}: leaves in cycle {leaves}, its error flag is known in {known}"
    if {output.name for output in design.outputs} != set(names):
        yield f"outputs are {sorted(o.name for o in design.outputs)}, the graph has {sorted(names)}"


def _words(design: Design, lanes: tuple[int | None, int | None] | None) -> Iterator[str]:
    """Inputs and results have their own ports, or their words: on lanes that are there, complete, once, and in time."""
    first, last = design.fpgas[0], design.fpgas[-1]
    for fpga in design.fpgas:
        if (fpga.enters and fpga is not first) or (fpga.leaves and fpga is not last):
            yield f"{fpga.name}: words of inputs or results in the middle of the chain"
    planned = tuple(frame.lanes if frame else None for frame in (first.enters, last.leaves))
    asked_in, asked_out = planned if lanes is None else lanes
    inputs = {node.name for node in design.graph.inputs}
    results = {output.value for output in design.graph.outputs}
    for what, frame, asked, wanted in (
        ("inputs", first.enters, asked_in, inputs),
        ("results", last.leaves, asked_out, results),
    ):
        if frame is None or asked is None:
            if frame is not None or asked is not None:
                yield f"{what}: words are planned and not asked for" if frame else f"{what}: words are not planned"
            continue
        if frame.lanes > asked or frame.words > design.ii_cycles:
            allowed = f"{asked} x {design.ii_cycles}"
            yield f"{what}: {frame.lanes} lanes x {frame.words} words, allowed are {allowed}"
        carried = [field.value for field in frame.fields]
        if sorted(carried) != sorted(wanted):
            yield f"{what}: the words carry {carried}, there are {sorted(wanted)}"
            continue
        yield from (f"{what}: {line}" for line in _packed(design, frame, PORT_WORD_BITS, 0))
        fields = {field.value: field for field in frame.fields}
        if frame is last.leaves and not {field.source for field in frame.fields} <= set(last.signal):
            yield f"{what}: the words are made of signals that are not on {last.name}"
            continue
        for segment in frame.segments:
            if segment.value not in fields or not 0 <= segment.beat < fields[segment.value].layout.beat_count:
                continue
            field = fields[segment.value]
            if frame is first.enters:
                yield from (f"{what}: {line}" for line in _in_time_to_use(design, segment, field))
            else:
                yield from (f"{what}: {line}" for line in _in_time_to_leave(design, last, frame, segment, field))
    for field in first.enters.fields if first.enters else ():
        signal = first.signal.get(field.target)
        found = signal and (signal.value, signal.layout, signal.first_cycle)
        if found != (field.value, field.layout, field.target_first_cycle):
            yield f"inputs: signal {field.target} is not what the words make of {field.value}"
    sources = {field.value: (field.source, field.layout) for field in (last.leaves.fields if last.leaves else ())}
    for output in design.outputs if last.leaves else ():
        signal = last.signal.get(output.signal)
        if signal and sources.get(signal.value) != (signal.name, signal.layout):
            yield f"output {output.name}: the words are not made of signal {output.signal}"
