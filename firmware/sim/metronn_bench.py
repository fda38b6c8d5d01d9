"""cocotb bench of the FPGAs and of the system: every beat's value and cycle, link words included.

Needs cocotb and a simulator, nothing else. `design.json` says what stands where, `../vectors/*.txt` hold stimulus and
expectation, one event a line. Set METRONN_RESULT to a file name to get counts as JSON.

The simulator makes the clock; Python acts only in cycles in which something is driven or compared.
"""

from __future__ import annotations

import json
import os
import random
import zlib
from bisect import bisect_right
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ReadOnly, Timer, ValueChange
from cocotb.utils import get_sim_time

HERE = Path(__file__).resolve().parent
SENDER_CYCLES = 3
PERIOD_NS = 2
LANE_BITS = 66
START, VALID, MARKER = 1 << 63, 1 << 64, 1 << 65
WORD_BITS = 63
WORD_MASK, LAST_WORD_MASK = (1 << 63) - 1, (1 << 23) - 1


def load_design() -> dict[str, Any]:
    """Return design.json."""
    return json.loads((HERE / "design.json").read_text())


def load_vectors(name: str) -> list[list[int]]:
    """Return the hexadecimal numbers of a vector file, line by line."""
    lines = (HERE.parent / "vectors" / name).read_text().splitlines()
    return [[int(word, 16) for word in line.split()] for line in lines]


def integers(record: Any) -> list[int]:
    """Return a sequence of design.json: a list, {start, count, step}, {repeat, step, of} or {parts}."""
    if isinstance(record, list):
        return record
    if "parts" in record:
        return [value for part in record["parts"] for value in integers(part)]
    if "repeat" in record:
        one = integers(record["of"])
        return [k * record["step"] + value for k in range(record["repeat"]) for value in one]
    return [record["start"] + k * record["step"] for k in range(record["count"])]


@dataclass
class Score:
    """Counts of what was compared and of what differed."""

    events: int = 0
    bits: int = 0
    mismatches: int = 0
    promised: int = 0
    observed: list[int] = field(default_factory=list)
    first: str = ""

    def differ(self, where: str, found: int | None, expected: int, bits: int) -> None:
        """Compare `bits` bits; count those that differ and keep the first difference. None: bits are unknown."""
        self.bits += bits
        if found is None:
            self.mismatches += bits
            self.first = self.first or f"{where}: found unknown bits, expected {expected:#x}"
            return
        wrong = (found ^ expected).bit_count()
        if wrong:
            self.mismatches += wrong
            self.first = self.first or f"{where}: found {found:#x}, expected {expected:#x}"

    def fault(self, text: str) -> None:
        """Count something that is wrong by itself."""
        self.mismatches += 1
        self.first = self.first or text

    def save(self) -> None:
        """Write the counts where METRONN_RESULT says, then fail the test when something differed."""
        name = os.environ.get("METRONN_RESULT")
        if name:
            record = {
                "events": self.events,
                "bits": self.bits,
                "mismatches": self.mismatches,
                "cycles_promised": self.promised,
                "cycles_observed_min": min(self.observed, default=None),
                "cycles_observed_max": max(self.observed, default=None),
                "first": self.first,
            }
            with open(name, "a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")
        assert self.mismatches == 0, f"{self.mismatches} differences; {self.first}"
        assert self.events > 0, "no event was compared"


def event_starts(events: int, ii: int, first: int, chance: random.Random) -> list[int]:
    """Return start cycles: runs of back-to-back events and runs with random gaps."""
    starts, cycle, gaps, left = [], first, False, 0
    longest = min(ii, 64)
    for _ in range(events):
        if left == 0:
            gaps, left = not gaps if starts else False, chance.randint(8, 60)
        starts.append(cycle)
        cycle += ii + (chance.choice((0, 1, 2, 3, longest, 5 * longest)) if gaps else 0)
        left -= 1
    return starts


class FrameCoder:
    """What a link sender makes of the payload words of an event (docs/links.md), written from the format alone."""

    def __init__(self, lanes: int, words: int) -> None:
        """Start with event number 0."""
        self.lanes, self.words, self.sequence = lanes, words, 0

    def encode(self, payload: list[int], stamp: int, marked: bool = False) -> list[list[int]]:
        """Return [word][lane] of lane words for one event, markers not set."""
        frame = [[0] * self.lanes for _ in range(self.words)]
        for lane in range(self.lanes):
            data = [(word >> (WORD_BITS * lane)) & WORD_MASK for word in payload]
            data[-1] &= LAST_WORD_MASK
            data[-1] |= int(marked) << 23 | (self.sequence % 128) << 56
            data[0] |= START
            crc = zlib.crc32(b"".join(word.to_bytes(8, "little") for word in data), stamp & 0xFFFF)
            data[-1] |= crc << 24
            for word, value in enumerate(data):
                frame[word][lane] = value | VALID
        self.sequence += 1
        return frame


def value_of(handle: Any) -> int | None:
    """Return a signal's bits, or None when some are unknown."""
    try:
        return int(handle.value)
    except ValueError:
        return None


class Watch:
    """Every value a signal takes, by cycle."""

    def __init__(self, bench: Bench, handle: Any) -> None:
        """Start with the value of now."""
        self.bench, self.handle = bench, handle
        self.cycles: list[int] = [bench.cycle()]
        self.values: list[int | None] = [value_of(handle)]
        self.task = cocotb.start_soon(self._record())

    async def _record(self) -> None:
        while True:
            await ValueChange(self.handle)
            self.cycles.append(self.bench.cycle())
            self.values.append(value_of(self.handle))

    def at(self, cycle: int) -> int | None:
        """Return the value at the end of a cycle."""
        return self.values[bisect_right(self.cycles, cycle) - 1]

    def runs(self, stop: int) -> list[tuple[int, int, int | None]]:
        """Return (first cycle, cycle after the last, value) of all times in which the value stays, up to `stop`."""
        ends = [*self.cycles[1:], stop]
        runs = zip(self.cycles, ends, self.values, strict=True)
        return [(a, min(b, stop), value) for a, b, value in runs if a < min(b, stop)]


class Bench:
    """One design under test: cycle c of a run lasts from base + 2 c ns; the clock rises in its middle."""

    def __init__(self, dut: Any) -> None:
        """Nothing moves before `reset`."""
        self.dut, self.base, self.clock = dut, 0, None
        self.drives: dict[int, list[tuple[Any, int]]] = {}
        self.due: dict[int, list[tuple[str, int, int, int]]] = {}
        self.seen: list[tuple[int, str, int | None, int, int, int]] = []

    def cycle(self) -> int:
        """Return the number of the cycle whose values are on the wires."""
        return (int(get_sim_time("ns")) - self.base + 1) // PERIOD_NS

    async def until(self, cycle: int) -> None:
        """Wait for the beginning of a cycle."""
        wait = self.base + PERIOD_NS * cycle - int(get_sim_time("ns"))
        if wait > 0:
            await Timer(wait, "ns")

    async def reset(self, quiet: list[str], settings: dict[str, int] | None = None) -> None:
        """Hold the reset for three cycles with quiet inputs; the cycle after it is cycle 0 of a new run.

        `settings` are driven from the beginning of the reset on.
        """
        if self.clock is None:
            self.clock = Clock(self.dut.clk_i, PERIOD_NS, unit="ns")
            self.clock.start(start_high=False)
            self.base = int(get_sim_time("ns"))
        else:
            await self.until(self.cycle() + 1)
        self.dut.rst_i.value = 1
        for port, value in {**dict.fromkeys(quiet, 0), **(settings or {})}.items():
            getattr(self.dut, port).value = value
        now = self.cycle()
        await self.until(now + 3)
        self.base += PERIOD_NS * (now + 3)
        self.dut.rst_i.value = 0
        self.drives, self.due, self.seen = {}, {}, []

    def drive(self, port: str, values: dict[int, int], idle: random.Random | None = None, width: int = 1) -> None:
        """Drive a port with values by cycle. Between them it is 0, or what `idle` draws, new after every value."""
        handle = getattr(self.dut, port)
        for cycle in {0, *(cycle + 1 for cycle in values)} - values.keys():
            between = 0 if idle is None else idle.getrandbits(width)
            self.drives.setdefault(cycle, []).append((handle, between))
        for cycle, value in values.items():
            self.drives.setdefault(cycle, []).append((handle, value))

    def expect(self, record: dict[str, Any], starts: list[int], rows: list[list[int]]) -> None:
        """Keep what must be on the outputs, by cycle."""
        column = 0
        for output in record["outputs"]:
            beats = zip(integers(output["cycles"]), integers(output["bits"]), strict=True)
            for beat, (cycle, bits) in enumerate(beats, column):
                column = beat + 1
                for event, start in enumerate(starts):
                    due = self.due.setdefault(start + output["first_cycle"] + cycle, [])
                    due.append((output["port"], bits, rows[event][beat], event))

    async def run(self, stop: int) -> None:
        """Drive and look, cycle by cycle where there is something to do; from `stop` on nothing more."""
        for cycle in sorted(self.drives.keys() | self.due.keys()):
            if cycle >= stop:
                break
            await self.until(cycle)
            for handle, value in self.drives.get(cycle, ()):
                handle.value = value
            due = self.due.get(cycle)
            if due:
                await ReadOnly()
                for port, bits, value, event in due:
                    found = value_of(getattr(self.dut, port))
                    self.seen.append((cycle, port, found, bits, value, event))
        await self.until(stop)

    def drive_inputs(
        self, inputs: list[dict[str, Any]], starts: list[int], rows: list[list[int]], chance: random.Random
    ) -> None:
        """Drive the beats of all inputs; the rest of the time there is anything on them."""
        self.drive("valid_i", dict.fromkeys(starts, 1))
        column = 0
        for port in inputs:
            cycles = integers(port["cycles"])
            values = {
                start + cycle: rows[event][column + beat] | chance.getrandbits(port["width"]) >> bits << bits
                for event, start in enumerate(starts)
                for beat, (cycle, bits) in enumerate(zip(cycles, integers(port["bits"]), strict=True))
            }
            self.drive(port["port"], values, chance, port["width"])
            column += len(cycles)

    def compare(self, score: Score, starts: list[int], marked: set[int] | None = None) -> None:
        """Compare what was seen on the outputs; what is wrong with a marked event does not count."""
        for cycle, port, found, bits, value, event in self.seen:
            if event not in (marked or ()):
                mask = (1 << bits) - 1
                where = f"event {event}, {port}, cycle {cycle - starts[event]}"
                score.differ(where, None if found is None else found & mask, value, bits)


def compare_valid(
    score: Score, record: dict[str, Any], starts: list[int], stop: int, valid: Watch, error: Watch
) -> None:
    """Without faults every event leaves in its cycle, unmarked, and nothing else does."""
    due = {start + record["valid_cycle"]: event for event, start in enumerate(starts)}
    found = {cycle for a, b, value in valid.runs(stop) if value != 0 for cycle in range(a, b)}
    for cycle in sorted(found - due.keys()):
        score.fault(f"cycle {cycle}: valid_o is {valid.at(cycle)}, nothing is due")
    for cycle, event in due.items():
        if cycle not in found:
            score.fault(f"cycle {cycle}: valid_o is 0, event {event} is due")
            continue
        score.observed.append(cycle - starts[event] + record["promised_cycle"] - record["valid_cycle"])
        if error.at(cycle) != 0:
            score.fault(f"cycle {cycle}: error_o is {error.at(cycle)} for event {event}")


async def check_fpga(dut: Any, name: str) -> None:
    """Run one FPGA by itself: its inputs or received words from vectors, its outputs or sent words against vectors."""
    design = load_design()
    record = next(fpga for fpga in design["fpgas"] if fpga["name"] == name)
    inputs, rows = load_vectors(f"{name}_in.txt"), load_vectors(f"{name}_out.txt")
    chance = random.Random(name)
    bench, score = Bench(dut), Score(promised=record["promised_cycle"])
    receives, sends = record["receives"], record["sends"]
    orbit = design["simulated_orbit_cycles"]
    lead = (receives["latency_cycles"] if receives else 0) + 20
    starts = event_starts(len(inputs), design["ii_cycles"], lead + 4, chance)
    stop = starts[-1] + record["last_cycle"] + 12
    await bench.reset(record["quiet"])
    if receives or sends:
        bench.drive("bc0_i", {0: 1})
    if receives:
        bench.drive("lane_i", _arriving_words(receives, inputs, starts, orbit, chance, stop))
    else:
        bench.drive_inputs(record["inputs"], starts, inputs, chance)
    if record["outputs"]:
        bench.expect(record, starts, rows)
        valid, error = Watch(bench, dut.valid_o), Watch(bench, dut.error_o)
    sent = Watch(bench, dut.lane_o) if sends else None
    await bench.run(stop)
    score.events = len(starts)
    if record["outputs"]:
        compare_valid(score, record, starts, stop, valid, error)
        bench.compare(score, starts)
    if sent is not None:
        compare_sent(score, sends, starts, rows, orbit, sent, stop)
    score.save()


def _arriving_words(
    receives: dict[str, Any],
    payload: list[list[int]],
    starts: list[int],
    orbit: int,
    chance: random.Random,
    stop: int,
) -> dict[int, int]:
    """Return by cycle what arrives on all lanes when an event's word 0 is to leave the receiver at its start."""
    coder = FrameCoder(receives["lanes"], receives["words"])
    raw = [chance.randint(receives["raw_min"], receives["raw_max"]) for _ in range(receives["lanes"])]
    lanes: list[dict[int, int]] = [{} for _ in raw]
    for event, start in enumerate(starts):
        sent = start - receives["latency_cycles"]
        words = coder.encode(payload[event], (sent - 1) % orbit)
        for word, values in enumerate(words):
            for lane, value in enumerate(values):
                lanes[lane][sent + word] = value
    drive: dict[int, int] = {}
    for lane, latency in enumerate(raw):
        for cycle in range(1, stop, orbit):  # bc0_i in cycle 0: the orbit counter is 0 in cycle 1
            lanes[lane][cycle] = lanes[lane].get(cycle, 0) | MARKER
        for cycle, value in lanes[lane].items():
            arrival = cycle + SENDER_CYCLES + latency
            drive[arrival] = drive.get(arrival, 0) | value << (LANE_BITS * lane)
    return {cycle: value for cycle, value in drive.items() if cycle < stop}


def compare_sent(
    score: Score,
    sends: dict[str, Any],
    starts: list[int],
    rows: list[list[int]],
    orbit: int,
    sent: Watch,
    stop: int,
) -> None:
    """Compare everything an FPGA sent with the frames the events must become, and look for what must not be there."""
    lanes = sends["lanes"]
    coder = FrameCoder(lanes, sends["words"])
    expected: dict[int, tuple[int, int, bool]] = {}
    for event, start in enumerate(starts):
        first = start + sends["send_cycle"]
        for word, values in enumerate(coder.encode(rows[event], (first - 1) % orbit)):
            whole = sum(value << (LANE_BITS * lane) for lane, value in enumerate(values))
            expected[first + word + SENDER_CYCLES] = (whole, event, word == sends["words"] - 1)
    markers = sum(MARKER << (LANE_BITS * lane) for lane in range(lanes))
    side = sum((VALID | MARKER) << (LANE_BITS * lane) for lane in range(lanes))
    seen = 0
    for first, after, found in sent.runs(stop):
        for cycle in range(first, after):
            marker = markers if cycle > SENDER_CYCLES and (cycle - SENDER_CYCLES - 1) % orbit == 0 else 0
            due = expected.get(cycle)
            if due is None:
                if found is None or found & side != marker:
                    score.fault(f"cycle {cycle}: side bits between frames are wrong, expected {marker:#x}")
                continue
            value, event, last = due
            score.differ(
                f"event {event}, lane words, cycle {cycle - starts[event]}", found, value | marker, LANE_BITS * lanes
            )
            if last and found is not None and found & VALID:
                score.observed.append(cycle - starts[event])
                seen += 1
    if seen != len(starts):
        score.fault(f"{seen} frames were sent for {len(starts)} events")


@dataclass(frozen=True)
class Fault:
    """A wrong bit in a word of an event's frame on a link."""

    link: int
    event: int
    word: int
    lane: int
    bit: int


@dataclass
class Schedule:
    """What a run with faults does, made at random: starts, some too early, wrong bits on the links, and what they hit.

    `kept` are the starts that are let through: at least the II after the one before. `hurt` holds the numbers of kept
    events that may be marked, or missing; all others have to be right, unmarked and on time.
    """

    design: dict[str, Any]
    chance: random.Random
    starts: list[int] = field(default_factory=list)
    kept: list[int] = field(default_factory=list)
    flips: dict[int, dict[int, int]] = field(default_factory=dict)  # by link, by cycle: mask
    hits: list[tuple[int, int]] = field(default_factory=list)  # (first, last) starts that a wrong bit may reach
    hurt: set[int] = field(default_factory=set)

    def start(self, cycle: int) -> None:
        """Add a start, later than all before."""
        self.starts.append(cycle)
        if not self.kept or cycle >= self.kept[-1] + self.design["ii_cycles"]:
            self.kept.append(cycle)

    def calm(self, events: int) -> None:
        """Add events back to back and with gaps."""
        ii = self.design["ii_cycles"]
        for _ in range(events):
            gap = self.chance.choice((0, 0, 0, 1, 2, self.chance.randrange(2 * ii + 8)))
            self.start(self.kept[-1] + ii + gap)

    def early(self) -> None:
        """Add starts that come too early; their inputs take the place of those of the event they hit."""
        ii = self.design["ii_cycles"]
        base = self.kept[-1]
        reach = min(ii - 1, self.chance.choice((3, ii)))
        for after in sorted({self.chance.randint(1, reach) for _ in range(self.chance.choice((1, 1, 1, 2, 4)))}):
            self.start(base + after)
            if after <= self.design["system"]["last_input_cycle"]:
                self.hurt.add(len(self.kept) - 1)
                if self.design["system"]["valid_cycle"] == 0:  # its mark is still up when the next answer begins
                    self.hurt.add(len(self.kept))
        self.start(base + ii + self.chance.choice((0, 0, 1, self.chance.randrange(ii))))

    def damage(self) -> None:
        """Add an event and wrong bits in its frame on a link, or between frames up to the II before it and after."""
        ii, chance = self.design["ii_cycles"], self.chance
        link = chance.choice(self.design["links"])
        offset = chance.choice(
            (chance.randint(-ii - 2, ii + 2), -chance.randint(1, min(ii, 24)), chance.randrange(link["words"]))
        )
        self.start(self.kept[-1] + ii + chance.choice((0, 1, max(0, -offset), chance.randrange(2 * ii + 8))))
        flips = self.flips.setdefault(link["link"], {})
        bit = chance.choice((START, VALID, START | VALID, MARKER, 1 << chance.randrange(64), 0))
        first = self.kept[-1] + link["sent_cycle"] + offset
        last = first
        if bit:
            flips[first] = flips.get(first, 0) ^ bit << LANE_BITS * chance.randrange(link["lanes"])
        else:
            for _ in range(chance.randint(2, 6)):
                last = first + chance.randrange(ii + link["words"])
                wrong = chance.choice((START, VALID, START | VALID, 1 << chance.randrange(64)))
                flips[last] = flips.get(last, 0) ^ wrong << LANE_BITS * chance.randrange(link["lanes"])
            last = first + ii + link["words"]
        realigned = 2 * self.design["simulated_orbit_cycles"] + 2 * link["raw_max"] if bit == MARKER else 0
        early = ii + link["words"] + (2 * link["raw_max"] if bit == MARKER else 0)
        self.hits.append((first - link["sent_cycle"] - early, last - link["sent_cycle"] + ii + realigned))
        if bit == MARKER:  # some events, then none until the next markers have passed
            self.calm(3)
            self.start(self.kept[-1] + realigned)

    def close(self) -> None:
        """Find the events that the wrong bits may reach, and two after them: sequence numbers may have jumped."""
        for first, last in self.hits:
            reached = range(bisect_right(self.kept, first - 1), bisect_right(self.kept, last) + 2)
            self.hurt.update(reached)


def schedule(design: dict[str, Any], chance: random.Random, faults: int, first: int) -> Schedule:
    """Return a run of so many faults whose first event starts in cycle `first`."""
    made = Schedule(design, chance)
    made.start(first)
    kinds = [made.early] if design["ii_cycles"] > 1 else []
    kinds += [made.damage, made.damage] if design["links"] else []
    for _ in range(faults):
        made.calm(chance.randint(2, 5))
        chance.choice(kinds)()
    made.calm(5)
    made.close()
    return made


class SystemBench:
    """The whole system: links with raw latencies drawn at every reset, faults on request."""

    def __init__(self, dut: Any, seed: str) -> None:
        """Load design and vectors."""
        self.dut, self.design = dut, load_design()
        self.record = self.design["system"]
        self.first, self.last = self.design["fpgas"][0], self.design["fpgas"][-1]
        self.inputs = load_vectors(f"{self.first['name']}_in.txt")
        self.rows = load_vectors(f"{self.last['name']}_out.txt")
        self.chance = random.Random(seed)
        self.bench = Bench(dut)
        self.links = self.design["links"]

    async def reset(self) -> None:
        """Reset everything and draw a raw latency within its bounds for every lane."""
        latencies = {}
        for link in self.links:
            value = 0
            for lane in range(link["lanes"]):
                raw = self.chance.randint(link["raw_min"], link["raw_max"])
                value |= raw << (link["latency_bits"] * lane)
            latencies[f"raw_latency_{link['link']}_i"] = value
        await self.bench.reset(self.record["quiet"], latencies)

    async def run(self, score: Score, events: range, faults: list[Fault] | None = None) -> list[int]:
        """Send events and compare.

        Without faults every event must be right, unmarked and on time. With faults an event may be marked; one that
        is not marked must be right. Returns the events that came out marked.
        """
        dut, bench, record = self.dut, self.bench, self.record
        ready = sum(link["latency_cycles"] for link in self.links) + 10
        starts = event_starts(len(events), self.design["ii_cycles"], ready, self.chance)
        rows = [self.rows[event] for event in events]
        stop = starts[-1] + record["last_cycle"] + 4
        bench.drive("bc0_i", {0: 1})
        bench.drive_inputs(self.first["inputs"], starts, [self.inputs[event] for event in events], self.chance)
        for link in self.links if faults else ():
            port = f"flip_{link['link']}_i"
            hits = {
                starts[fault.event] + link["sent_cycle"] + fault.word: 1 << (LANE_BITS * fault.lane + fault.bit)
                for fault in faults or ()
                if fault.link == link["link"]
            }
            bench.drive(port, hits)
        bench.expect(record, starts, rows)
        valid, error = Watch(bench, dut.valid_o), Watch(bench, dut.error_o)
        await bench.run(stop)
        for watch in (valid, error):
            watch.task.cancel()
        score.events += len(events)
        if faults:
            return self._compare_marked(score, starts, stop, valid, error)
        compare_valid(score, record, starts, stop, valid, error)
        bench.compare(score, starts)
        for link in self.links:
            if int(getattr(dut, f"aligned_{link['link']}_o").value) != 1:
                score.fault(f"link {link['link']} is not aligned at the end")
            if int(getattr(dut, f"crc_errors_{link['link']}_o").value) != 0:
                score.fault(f"link {link['link']} counted errors without a fault")
        return []

    async def run_schedule(self, score: Score, plan: Schedule, stop: int) -> dict[str, int]:
        """Run a schedule up to cycle `stop` and compare: an event is right and on time, or marked, or hit and missing.

        Returns how many events were compared, right, marked and missing, and how many answers were for no event.
        """
        dut, bench, record = self.dut, self.bench, self.record
        picked = {start: self.chance.randrange(len(self.inputs)) for start in plan.starts}
        bench.drive("bc0_i", {0: 1})
        bench.drive_inputs(
            self.first["inputs"], plan.starts, [self.inputs[picked[start]] for start in plan.starts], self.chance
        )
        for link, hits in plan.flips.items():
            bench.drive(f"flip_{link}_i", hits)
        bench.expect(record, plan.kept, [self.rows[picked[start]] for start in plan.kept])
        valid, error = Watch(bench, dut.valid_o), Watch(bench, dut.error_o)
        await bench.run(stop)
        for watch in (valid, error):
            watch.task.cancel()
        due = {start + record["valid_cycle"]: event for event, start in enumerate(plan.kept)}
        found = {cycle for a, b, value in valid.runs(stop) if value != 0 for cycle in range(a, b)}
        counts = dict.fromkeys(("events", "right", "marked", "missing", "extra"), 0)
        for cycle in sorted(found - due.keys()):
            counts["extra"] += 1
            if error.at(cycle) != 1:
                score.fault(f"cycle {cycle}: an unmarked answer that nothing is due for")
        skipped = set()
        for cycle, event in due.items():
            until = plan.kept[event] + record["marked_until"]
            if until >= stop:
                skipped.add(event)
                continue
            counts["events"] += 1
            marked = any(error.at(at) != 0 for at in range(cycle, until + 1))
            kind = "missing" if cycle not in found else "marked" if marked else "right"
            counts[kind] += 1
            if kind == "right":
                score.observed.append(cycle - plan.kept[event] + record["promised_cycle"] - record["valid_cycle"])
                continue
            skipped.add(event)
            if event not in plan.hurt:
                score.fault(f"event {event} of {len(due)}, cycle {cycle}: {kind}, but no fault was near")
        bench.compare(score, plan.kept, skipped)
        score.events += counts["events"]
        early = len([start for start in plan.starts if start < stop]) - len([s for s in plan.kept if s < stop])
        if int(dut.early_starts_o.value) != early:
            score.fault(f"early_starts_o is {int(dut.early_starts_o.value)} after {early} starts too early")
        return counts

    def _compare_marked(self, score: Score, starts: list[int], stop: int, valid: Watch, error: Watch) -> list[int]:
        """With faults about: an answer is marked, or it is right and on time."""
        record = self.record
        due = {start + record["valid_cycle"]: event for event, start in enumerate(starts)}
        found = {cycle for a, b, value in valid.runs(stop) if value != 0 for cycle in range(a, b)}
        for cycle in sorted(found - due.keys()):
            if error.at(cycle) != 1:
                score.fault(f"cycle {cycle}: an unmarked answer that nothing is due for")
        marked = set()
        for cycle, event in due.items():
            if cycle not in found or error.at(cycle) != 0:
                marked.add(event)
            else:
                score.observed.append(cycle - starts[event] + record["promised_cycle"] - record["valid_cycle"])
        self.bench.compare(score, starts, marked)
        return sorted(marked)


async def check_system(dut: Any) -> None:
    """All events, in several runs with a reset before each and new raw latencies."""
    bench = SystemBench(dut, "system")
    score = Score(promised=bench.record["promised_cycle"])
    events = len(bench.inputs)
    runs = min(4, events)
    for run in range(runs):
        await bench.reset()
        await bench.run(score, range(run * events // runs, (run + 1) * events // runs))
    score.save()


async def check_damage(dut: Any) -> None:
    """Single wrong bits in frames: those events are marked, the others are marked or right, and not all are marked."""
    bench = SystemBench(dut, "damage")
    score = Score(promised=bench.record["promised_cycle"])
    count = min(64, len(bench.inputs), max(12, 20_000 // bench.design["ii_cycles"]))
    for link in bench.links:
        await bench.reset()
        chance = bench.chance
        hit = range(count // 16, count, max(2, count // 8))
        faults = [
            Fault(
                link["link"], k, chance.randrange(link["words"]), chance.randrange(link["lanes"]), chance.randrange(64)
            )
            for k in hit
        ]
        marked = await bench.run(score, range(count), faults)
        for event in sorted(set(hit) - set(marked)):
            score.fault(f"link {link['link']}: event {event} was damaged and is not marked")
        if len(marked) == count:
            score.fault(f"link {link['link']}: every event is marked after {len(faults)} wrong bits")
    score.save()


async def check_faults(dut: Any) -> None:
    """Starts too early, wrong bits of every kind, resets: an answer is right and on time, or marked; so are all later.

    METRONN_FAULTS is the number of faults, METRONN_SEED another draw of them.
    """
    bench = SystemBench(dut, f"faults{os.environ.get('METRONN_SEED', '')}")
    score = Score(promised=bench.record["promised_cycle"])
    ii = bench.design["ii_cycles"]
    faults = int(os.environ.get("METRONN_FAULTS", max(3, min(24, 1000 // ii))))
    if ii == 1 and not bench.links:
        raise AssertionError("a system without links that takes an event every cycle has no faults to test")
    total: dict[str, int] = {}
    while faults > 0:
        now = min(faults, bench.chance.choice((2, 4, 8, 16)))
        faults -= now
        await bench.reset()
        ready = sum(link["latency_cycles"] for link in bench.links) + 10
        plan = schedule(bench.design, bench.chance, now, ready)
        stop = plan.kept[-1] + bench.record["last_cycle"] + 4
        if bench.chance.random() < 0.25:  # the next reset comes while events are on their way
            stop = bench.chance.randint(plan.kept[len(plan.kept) // 2], stop)
        for kind, count in (await bench.run_schedule(score, plan, stop)).items():
            total[kind] = total.get(kind, 0) + count
    dut._log.info("faults: %s", json.dumps(total))
    score.save()
