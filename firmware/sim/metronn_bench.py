"""cocotb bench of the FPGAs and of the system: every beat's value and cycle, link words included.

Needs cocotb and a simulator, nothing else. `design.json` says what stands where, `../vectors/*.txt` hold stimulus and
expectation, one event a line. Set METRONN_RESULT to a file name to get counts as JSON.
"""

from __future__ import annotations

import json
import os
import random
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cocotb.triggers import Timer

HERE = Path(__file__).resolve().parent
SENDER_CYCLES = 2
VALID, START, LAST, MARKER = 1 << 64, 1 << 65, 1 << 66, 1 << 67
LANE_MASK = (1 << 68) - 1
DATA_MASK = (1 << 64) - 1


def load_design() -> dict[str, Any]:
    """Return design.json."""
    return json.loads((HERE / "design.json").read_text())


def load_vectors(name: str) -> list[list[int]]:
    """Return the hexadecimal numbers of a vector file, line by line."""
    lines = (HERE.parent / "vectors" / name).read_text().splitlines()
    return [[int(word, 16) for word in line.split()] for line in lines]


@dataclass
class Score:
    """Counts of what was compared and of what differed."""

    events: int = 0
    bits: int = 0
    mismatches: int = 0
    promised: int = 0
    observed: list[int] = field(default_factory=list)
    first: str = ""

    def differ(self, where: str, found: int, expected: int, bits: int) -> None:
        """Compare `bits` bits; count those that differ and keep the first difference."""
        self.bits += bits
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
    for _ in range(events):
        if left == 0:
            gaps, left = not gaps if starts else False, chance.randint(8, 60)
        starts.append(cycle)
        cycle += ii + (chance.choice((0, 1, 2, 3, ii, 5 * ii)) if gaps else 0)
        left -= 1
    return starts


class FrameCoder:
    """What a link sender makes of the payload words of an event (docs/links.md), written from the format alone."""

    def __init__(self, lanes: int, words: int) -> None:
        """Start with event number 0."""
        self.lanes, self.words, self.sequence = lanes, words, 0

    def encode(self, payload: list[int], stamp: int, marked: bool = False) -> list[list[int]]:
        """Return [word][lane] of 68-bit lane words for one event, markers not set."""
        frame = [[0] * self.lanes for _ in range(self.words)]
        for lane in range(self.lanes):
            data = [(word >> (64 * lane)) & DATA_MASK for word in payload]
            data[-1] &= (1 << 24) - 1
            data[-1] |= int(marked) << 24 | (self.sequence % 128) << 25
            crc = zlib.crc32(b"".join(word.to_bytes(8, "little") for word in data), stamp & 0xFFFF)
            data[-1] |= crc << 32
            for word, value in enumerate(data):
                side = VALID | (START if word == 0 else 0) | (LAST if word == self.words - 1 else 0)
                frame[word][lane] = value | side
        self.sequence += 1
        return frame


class Clock:
    """Steps the clock by hand: inputs of a cycle are driven while it is low, outputs are read before it rises."""

    def __init__(self, dut: Any) -> None:
        """Drive the clock low."""
        self.dut = dut
        dut.clk_i.value = 0

    async def settle(self) -> None:
        """Let the inputs of this cycle reach the outputs."""
        await Timer(1, "ns")

    async def edge(self) -> None:
        """End the cycle."""
        self.dut.clk_i.value = 1
        await Timer(1, "ns")
        self.dut.clk_i.value = 0


def outputs_expected(record: dict[str, Any], starts: list[int], rows: list[list[int]]) -> dict[int, list[tuple]]:
    """Return by cycle what must be on the outputs: (port, mask, value, event)."""
    expected: dict[int, list[tuple]] = {}
    for event, start in enumerate(starts):
        column = 0
        for output in record["outputs"]:
            for beat, mask in enumerate(output["masks"]):
                cycle = start + output["first_cycle"] + beat
                value = rows[event][column]
                expected.setdefault(cycle, []).append((output["port"], int(mask, 16), value, event))
                column += 1
    return expected


async def check_fpga(dut: Any, name: str) -> None:
    """Run one FPGA by itself: its inputs or received words from vectors, its outputs or sent words against vectors."""
    design = load_design()
    record = next(fpga for fpga in design["fpgas"] if fpga["name"] == name)
    inputs, rows = load_vectors(f"{name}_in.txt"), load_vectors(f"{name}_out.txt")
    chance = random.Random(name)
    clock, score = Clock(dut), Score(promised=record["promised_cycle"])
    receives, sends = record["receives"], record["sends"]
    orbit = design["simulated_orbit_cycles"]
    lead = (receives["latency_cycles"] if receives else 0) + 20
    starts = event_starts(len(inputs), design["ii_cycles"], lead + 4, chance)
    stop = starts[-1] + record["last_cycle"] + 12
    drive = _drive_words(record, receives, inputs, starts, orbit, chance, stop) if receives else {}
    begin = {start: event for event, start in enumerate(starts)}
    expected = outputs_expected(record, starts, rows) if record["outputs"] else {}
    watch = _Sent(sends, starts, rows, orbit, score) if sends else None
    valid_at = {start + record["valid_cycle"]: event for event, start in enumerate(starts)} if record["outputs"] else {}
    await _reset(dut, clock, record)
    for cycle in range(stop):
        if receives or sends:
            dut.bc0_i.value = int(cycle == 0)
        if receives:
            dut.lane_i.value = drive.get(cycle, 0)
        else:
            event = begin.get(cycle)
            dut.valid_i.value = int(event is not None)
            for column, port in enumerate(record["inputs"]):
                handle = getattr(dut, port["port"])
                handle.value = inputs[event][column] if event is not None else chance.getrandbits(port["width"])
        await clock.settle()
        if watch:
            watch.see(cycle, int(dut.lane_o.value))
        if record["outputs"]:
            _check_outputs(dut, cycle, expected, valid_at, starts, record, score, errors=set())
        await clock.edge()
    score.events = len(starts)
    if watch:
        watch.finish()
    score.save()


def _check_outputs(
    dut: Any,
    cycle: int,
    expected: dict[int, list[tuple]],
    valid_at: dict[int, int],
    starts: list[int],
    record: dict[str, Any],
    score: Score,
    errors: set[int],
) -> None:
    """Compare valid_o, error_o and every output beat that is due."""
    valid = int(dut.valid_o.value)
    due = valid_at.get(cycle)
    if valid != int(due is not None):
        score.fault(
            f"cycle {cycle}: valid_o is {valid}, {'event ' + str(due) if due is not None else 'nothing'} is due"
        )
    if due is not None and valid:
        score.observed.append(cycle - starts[due] + record["promised_cycle"] - record["valid_cycle"])
        marked = int(dut.error_o.value)
        if marked != int(due in errors):
            score.fault(f"cycle {cycle}: error_o is {marked} for event {due}")
    for port, mask, value, event in expected.get(cycle, ()):
        found = int(getattr(dut, port).value) & mask
        score.differ(f"event {event}, {port}, cycle {cycle - starts[event]}", found, value, mask.bit_count())


async def _reset(dut: Any, clock: Clock, record: dict[str, Any]) -> None:
    """Hold the reset for three cycles with quiet inputs."""
    dut.rst_i.value = 1
    for port in record["quiet"]:
        getattr(dut, port).value = 0
    for _ in range(3):
        await clock.settle()
        await clock.edge()
    dut.rst_i.value = 0


def _drive_words(
    record: dict[str, Any],
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
            drive[arrival] = drive.get(arrival, 0) | value << (68 * lane)
    del record
    return drive


class _Sent:
    """Compares everything an FPGA sends with the frames the events must become."""

    def __init__(
        self, sends: dict[str, Any], starts: list[int], rows: list[list[int]], orbit: int, score: Score
    ) -> None:
        """Work out every lane word that must appear, by cycle."""
        self.score, self.sends, self.starts = score, sends, starts
        coder = FrameCoder(sends["lanes"], sends["words"])
        self.expected: dict[int, tuple[int, int]] = {}
        for event, start in enumerate(starts):
            first = start + sends["send_cycle"]
            for word, values in enumerate(coder.encode(rows[event], (first - 1) % orbit)):
                whole = sum(value << (68 * lane) for lane, value in enumerate(values))
                self.expected[first + word + SENDER_CYCLES] = (whole, event)
        self.markers = sum(MARKER << (68 * lane) for lane in range(sends["lanes"]))
        self.valids = sum((VALID | START | LAST) << (68 * lane) for lane in range(sends["lanes"]))
        self.orbit = orbit

    def see(self, cycle: int, found: int) -> None:
        """Compare one cycle."""
        due = self.expected.get(cycle)
        marker = self.markers if cycle > SENDER_CYCLES and (cycle - SENDER_CYCLES - 1) % self.orbit == 0 else 0
        if due is None:
            idle = found & (self.valids | self.markers)
            if idle != marker:
                self.score.fault(f"cycle {cycle}: side bits {idle:#x} between frames, expected {marker:#x}")
            return
        value, event = due
        bits = 68 * self.sends["lanes"]
        self.score.differ(f"event {event}, lane words, cycle {cycle - self.starts[event]}", found, value | marker, bits)
        if found & LAST and found & VALID:
            self.score.observed.append(cycle - self.starts[event])

    def finish(self) -> None:
        """Every event must have been seen."""
        if len(self.score.observed) != len(self.starts):
            self.score.fault(f"{len(self.score.observed)} frames were sent for {len(self.starts)} events")


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
        self.clock = Clock(dut)
        self.links = self.design["links"]

    async def reset(self) -> None:
        """Reset everything and draw a raw latency within its bounds for every lane."""
        for link in self.links:
            value = 0
            for lane in range(link["lanes"]):
                raw = self.chance.randint(link["raw_min"], link["raw_max"])
                value |= raw << (link["latency_bits"] * lane)
            getattr(self.dut, f"raw_latency_{link['link']}_i").value = value
        await _reset(self.dut, self.clock, self.record)

    async def run(self, score: Score, events: range, faults: dict[int, tuple[str, int]] | None = None) -> list[int]:
        """Send events and compare. `faults` maps a cycle to (port, value) driven for that cycle.

        Without faults every event must be right, unmarked and on time. With faults an event may be marked; one that
        is not marked must be right. Returns the events that came out marked.
        """
        dut, design, faults = self.dut, self.design, faults or {}
        ready = sum(link["latency_cycles"] for link in self.links) + 10
        starts = event_starts(len(events), design["ii_cycles"], ready, self.chance)
        begin = {start: event for event, start in zip(events, starts, strict=True)}
        due = {start + self.record["valid_cycle"]: k for k, start in enumerate(starts)}
        rows = [self.rows[event] for event in events]
        expected = outputs_expected(self.record, starts, rows)
        marked: set[int] = set()
        stop = starts[-1] + self.record["last_cycle"] + 4
        ports = {port for port, _ in faults.values()}
        for cycle in range(stop):
            dut.bc0_i.value = int(cycle == 0)
            event = begin.get(cycle)
            dut.valid_i.value = int(event is not None)
            for column, port in enumerate(self.first["inputs"]):
                busy = self.inputs[event][column] if event is not None else self.chance.getrandbits(port["width"])
                getattr(dut, port["port"]).value = busy
            for port in ports:
                getattr(dut, port).value = faults[cycle][1] if faults.get(cycle, ("", 0))[0] == port else 0
            await self.clock.settle()
            if not faults:
                _check_outputs(dut, cycle, expected, due, starts, self.record, score, marked)
            else:
                self._check_marked(cycle, expected, due, starts, score, marked)
            await self.clock.edge()
        score.events += len(events)
        if not faults:
            for link in self.links:
                if int(getattr(dut, f"aligned_{link['link']}_o").value) != 1:
                    score.fault(f"link {link['link']} is not aligned at the end")
                if int(getattr(dut, f"crc_errors_{link['link']}_o").value) != 0:
                    score.fault(f"link {link['link']} counted errors without a fault")
        return sorted(marked)

    def _check_marked(
        self,
        cycle: int,
        expected: dict[int, list[tuple]],
        due: dict[int, int],
        starts: list[int],
        score: Score,
        marked: set[int],
    ) -> None:
        """With faults about: an answer is marked, or it is right and on time."""
        valid, error = int(self.dut.valid_o.value), int(self.dut.error_o.value)
        event = due.get(cycle)
        if valid and event is None and not error:
            score.fault(f"cycle {cycle}: an unmarked answer that nothing is due for")
        if event is not None:
            if not valid or error:
                marked.add(event)
            else:
                score.observed.append(
                    cycle - starts[event] + self.record["promised_cycle"] - self.record["valid_cycle"]
                )
        for port, mask, value, event in expected.get(cycle, ()):
            if event not in marked:
                found = int(getattr(self.dut, port).value) & mask
                score.differ(f"event {event}, {port}, unmarked", found, value, mask.bit_count())


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
    """Single wrong bits on the links: every event is marked or right, and at least one is marked."""
    bench = SystemBench(dut, "damage")
    score = Score(promised=bench.record["promised_cycle"])
    count = min(64, len(bench.inputs))
    total = 0
    for link in bench.links:
        await bench.reset()
        first = link["latency_cycles"] + 60
        faults = {}
        for k in range(8):
            lane = bench.chance.randrange(link["lanes"])
            bit = bench.chance.randrange(64)
            faults[first + 23 * k] = (f"flip_{link['link']}_i", 1 << (68 * lane + bit))
        marked = await bench.run(score, range(count), faults)
        total += len(marked)
        if len(marked) == count:
            score.fault(f"link {link['link']}: every event is marked after eight wrong bits")
    if bench.links and total == 0:
        score.fault("wrong bits were sent and no event was marked")
    score.save()
