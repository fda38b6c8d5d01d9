"""A whole link (mnn_link_bench). What the receiver does not mark is right, to the bit and to the cycle."""

import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.handle import HierarchyObject
from cocotb.triggers import FallingEdge

FRAME_WORDS = int(os.environ["PARAMETER_FRAMEWORDS"])
LANES = int(os.environ["PARAMETER_LANES"])
EVENT_CYCLES = int(os.environ["PARAMETER_EVENTCYCLES"])
ORBIT_CYCLES = int(os.environ["PARAMETER_ORBITCYCLES"])
ORBIT_OFFSET = int(os.environ["PARAMETER_ORBITOFFSET"])
RAW_MIN = int(os.environ["PARAMETER_RAWMIN"])
RAW_MAX = int(os.environ["PARAMETER_RAWMAX"])
MARGIN = int(os.environ["PARAMETER_MARGIN"])
SENDER_CYCLES, RECEIVER_CYCLES = 3, 5
LATENCY = SENDER_CYCLES + RAW_MAX + MARGIN + RECEIVER_CYCLES
VERDICT = FRAME_WORDS + 2
LANE_BITS = 66
START, VALID, MARKER = 63, 64, 65
WORD_BITS = 63
TAIL_MASK, WORD_MASK = (1 << 23) - 1, (1 << 63) - 1


class Bench:
    """Drives and records one mnn_link_bench, cycle by cycle."""

    def __init__(self, dut: HierarchyObject, seed: int) -> None:
        """Attach to `dut`; all randomness comes from `seed`."""
        self.dut = dut
        self.random = random.Random(seed)
        self.cycle = 0
        self.sent: dict[int, tuple[list[list[int]], bool]] = {}  # by start cycle: words[word][lane], upstream error
        self.words: dict[int, list[int]] = {}  # word_o by cycle
        self.starts: list[int] = []
        self.verdicts: dict[int, bool] = {}  # error by start cycle
        self.sidebands: dict[int, int] = {}  # lane_o of the sender
        self.aligned: dict[int, bool] = {}
        self.zeros: list[int] = []  # cycles of the sender's orbit zero
        self.frame: list[list[int]] = []
        self.frame_error = False
        self.next_start = 0
        self.traffic = "none"
        self.error_rate = 0.0
        self.flips: dict[int, int] = {}  # by cycle: mask on the words that enter the lanes
        self.raw = [RAW_MIN] * LANES
        self.slip = 0
        self.dead = 0
        self.clear = 0

    async def start(self) -> None:
        """Start the clock."""
        cocotb.start_soon(Clock(self.dut.clk_i, 10, unit="ns").start())
        inputs = "rst tx_bc0 rx_bc0 start error word raw_latency slip flip dead clear"
        for name in inputs.split():
            getattr(self.dut, f"{name}_i").value = 0
        await FallingEdge(self.dut.clk_i)

    def pack(self, values: list[int], width: int) -> int:
        """Concatenate `values`, the first lowest."""
        return sum(value << (i * width) for i, value in enumerate(values))

    async def step(self, *, reset: int = 0, tx_bc0: int = 0, rx_bc0: int = 0) -> None:
        """Drive the inputs of one cycle, record the outputs of the same cycle, go to the next."""
        dut = self.dut
        dut.rst_i.value = reset
        dut.tx_bc0_i.value = tx_bc0
        dut.rx_bc0_i.value = rx_bc0
        free = not self.frame and not reset and self.cycle >= self.next_start
        starts = free and self.random.random() < {"none": 0, "gaps": 0.4, "full": 1}[self.traffic]
        if starts:
            self.frame = [[self.random.getrandbits(WORD_BITS) for _ in range(LANES)] for _ in range(FRAME_WORDS)]
            self.frame_error = self.random.random() < self.error_rate
            self.sent[self.cycle] = (list(self.frame), self.frame_error)
            self.next_start = self.cycle + EVENT_CYCLES
        error = self.random.getrandbits(1)  # counts only with the last word
        if self.frame:
            words = self.frame.pop(0)
            if not self.frame:
                error = int(self.frame_error)
        else:
            words = [self.random.getrandbits(WORD_BITS) for _ in range(LANES)]
        dut.start_i.value = int(starts)
        dut.error_i.value = error
        dut.word_i.value = self.pack(words, WORD_BITS)
        dut.raw_latency_i.value = self.pack(self.raw, (31).bit_length())
        dut.slip_i.value = self.slip
        dut.flip_i.value = self.flips.get(self.cycle, 0)
        dut.dead_i.value = self.dead
        dut.clear_i.value = self.clear
        self.slip = 0
        self.clear = 0
        if not reset:
            if int(dut.tx_zero_o.value):
                self.zeros.append(self.cycle)
            self.aligned[self.cycle] = bool(int(dut.aligned_o.value))
            if int(dut.start_o.value):
                apart = self.cycle - self.starts[-1] if self.starts else EVENT_CYCLES
                assert apart >= EVENT_CYCLES, f"cycle {self.cycle}: a start {apart} cycles after the last one"
                self.starts.append(self.cycle)
            if self.starts and self.cycle - self.starts[-1] < FRAME_WORDS:
                word = int(dut.word_o.value)
                self.words[self.cycle] = [(word >> (WORD_BITS * lane)) & WORD_MASK for lane in range(LANES)]
            done, flagged = int(dut.done_o.value), int(dut.error_o.value)
            assert done == (self.cycle - VERDICT in self.starts[-VERDICT - 2 :]), f"done_o={done} in cycle {self.cycle}"
            assert done or not flagged, f"error_o without done_o in cycle {self.cycle}"
            if done:
                self.verdicts[self.cycle - VERDICT] = bool(flagged)
        await FallingEdge(dut.clk_i)
        self.cycle += 1

    async def run(self, cycles: int) -> None:
        """Let `cycles` go by."""
        for _ in range(cycles):
            await self.step()

    async def reset(self) -> None:
        """Reset with the raw latencies of `raw`, forget what was seen, and give both sides their place in the orbit."""
        self.frame = []
        traffic, self.traffic = self.traffic, "none"
        self.starts.clear()
        for _ in range(3):
            await self.step(reset=1)
        for record in (self.sent, self.words, self.verdicts, self.aligned, self.flips):
            record.clear()
        self.zeros.clear()
        self.starts.clear()
        self.next_start = 0
        self.traffic = traffic
        for i in range(ORBIT_OFFSET + 1):
            await self.step(rx_bc0=int(i == 0), tx_bc0=int(i == ORBIT_OFFSET))

    async def drain(self) -> None:
        """Stop the traffic and wait until all verdicts are out."""
        self.traffic = "none"
        await self.run(LATENCY + VERDICT + EVENT_CYCLES + FRAME_WORDS + 2)

    def random_raw(self) -> list[int]:
        """Draw a raw latency for each lane."""
        return [self.random.randint(RAW_MIN, RAW_MAX + MARGIN) for _ in range(LANES)]

    def check_unmarked(self) -> None:
        """Every event without an error was sent exactly LATENCY cycles before, and holds every payload bit."""
        for start in self.starts:
            if self.verdicts[start]:
                continue
            assert start - LATENCY in self.sent, f"the unmarked event of cycle {start} was never sent"
            words, upstream = self.sent[start - LATENCY]
            assert not upstream
            for i, sent in enumerate(words):
                mask = TAIL_MASK if i == FRAME_WORDS - 1 else WORD_MASK
                received = self.words[start + i]
                assert [w & mask for w in received] == [w & mask for w in sent], f"event of cycle {start}, word {i}"

    def check_clean(self, first: int, marked: frozenset[int] | set[int] = frozenset()) -> int:
        """Check that events sent from `first` on come out at their cycle, marked if flagged upstream or in `marked`."""
        self.check_unmarked()
        events = [cycle for cycle in self.sent if cycle >= first]
        for cycle in events:
            assert cycle + LATENCY in self.verdicts, f"the event of cycle {cycle} did not come out at its cycle"
            expected = self.sent[cycle][1] or cycle in marked
            assert self.verdicts[cycle + LATENCY] == expected, f"event of cycle {cycle}: marked={not expected}"
        return len(events)


def orbit_of(bench: Bench, cycle: int) -> int:
    """Return the sender's orbit zero at or before `cycle`."""
    return max(zero for zero in bench.zeros if zero <= cycle)


@cocotb.test()
async def constant_latency(dut: HierarchyObject) -> None:
    """Raw latencies redrawn at every reset: same bits, order, cycle; upstream errors pass, nothing else is marked."""
    bench = Bench(dut, 1)
    await bench.start()
    events = 0
    for trial in range(8):
        extremes = {0: [RAW_MIN] * LANES, 1: [RAW_MAX + MARGIN] * LANES}
        bench.raw = extremes.get(trial) or bench.random_raw()
        bench.traffic = "full" if trial % 2 else "gaps"
        bench.error_rate = 0.2
        await bench.reset()
        await bench.run(3 * ORBIT_CYCLES)
        await bench.drain()
        first = bench.zeros[0]
        assert not any(bench.aligned[c] for c in bench.aligned if c < first + LATENCY - 1)
        assert all(bench.aligned[c] for c in bench.aligned if c >= first + LATENCY)
        assert all(start >= first + LATENCY for start in bench.starts), "an event came out before the alignment"
        events += bench.check_clean(first)
        assert len(bench.starts) == len([c for c in bench.sent if c >= first])
        assert int(dut.crc_errors_o.value) == 0
        assert int(dut.alignment_losses_o.value) == 0
    assert events > 8 * ORBIT_CYCLES // EVENT_CYCLES
    assert any(upstream for _, upstream in bench.sent.values())


@cocotb.test()
async def nothing_before_alignment(dut: HierarchyObject) -> None:
    """Without an orbit signal, and with a raw latency out of bounds, nothing comes out and nothing is aligned."""
    bench = Bench(dut, 2)
    await bench.start()
    bench.traffic = "full"
    await bench.step(reset=1)
    await bench.run(3 * ORBIT_CYCLES)
    assert not bench.starts
    assert not any(bench.aligned.values())
    bench.raw = [RAW_MAX + MARGIN + 1] * LANES
    await bench.reset()
    await bench.run(3 * ORBIT_CYCLES)
    assert not bench.starts
    assert not any(bench.aligned.values())


@cocotb.test()
async def single_bit_errors(dut: HierarchyObject) -> None:
    """One inverted bit anywhere in a frame: that event is marked, at its cycle, and counted; the others are not.

    But for the two bits that say where the only lane's frame begins: `lost_beginning`.
    """
    bench = Bench(dut, 3)
    await bench.start()
    for traffic in ("full", "gaps"):
        words, lanes = range(FRAME_WORDS), range(LANES)
        positions = [(w, lane, bit) for w in words for lane in lanes for bit in range(MARKER)]
        bench.random.shuffle(positions)
        positions = positions[:120] + [(w, lane, bit) for w in words for lane in lanes for bit in (VALID, START)]
        if LANES == 1:
            positions = [(w, lane, bit) for w, lane, bit in positions if w or bit not in (VALID, START)]
        bench.raw = bench.random_raw()
        bench.traffic = traffic
        await bench.reset()
        await bench.run(ORBIT_CYCLES)
        damaged: set[int] = set()
        while positions:
            last_sent = max(bench.sent)
            await bench.step()
            if max(bench.sent) == last_sent or len(bench.sent) % 4:
                continue
            # A frame has just begun on word_i; its words enter the lanes SENDER_CYCLES later.
            start = max(bench.sent)
            w, lane, bit = positions.pop()
            bench.flips[start + SENDER_CYCLES + w] = 1 << (LANE_BITS * lane + bit)
            damaged.add(start)
        await bench.drain()
        marked = {s - LATENCY for s in bench.starts if bench.verdicts[s]}
        assert marked == damaged
        bench.check_clean(bench.zeros[0], marked)
        assert int(dut.crc_errors_o.value) == len(marked)
        assert int(dut.alignment_losses_o.value) == 0
        bench.clear = 1
        await bench.run(2)
        assert int(dut.crc_errors_o.value) == 0


@cocotb.test()
async def lost_beginning(dut: HierarchyObject) -> None:
    """No lane says where a frame begins: the event does not come out, at no cycle; the next one is marked."""
    bench = Bench(dut, 13)
    await bench.start()
    for traffic in ("full", "gaps"):
        bench.raw = bench.random_raw()
        bench.traffic = traffic
        await bench.reset()
        await bench.run(ORBIT_CYCLES)
        lost: set[int] = set()
        while len(lost) < 12:
            last_sent = max(bench.sent)
            await bench.step()
            if max(bench.sent) == last_sent or len(bench.sent) % 5:
                continue
            start = max(bench.sent)
            bits = [bench.random.choice((VALID, START)) for _ in range(LANES)]
            bench.flips[start + SENDER_CYCLES] = sum(1 << (LANE_BITS * lane + bit) for lane, bit in enumerate(bits))
            lost.add(start)
        await bench.run(6 * EVENT_CYCLES)
        await bench.drain()
        sent = sorted(bench.sent)
        following = {sent[sent.index(start) + 1] for start in lost}
        assert {start - LATENCY for start in bench.starts} >= set(sent) - lost - {c for c in sent if c < bench.zeros[0]}
        assert not {start - LATENCY for start in bench.starts} & lost
        for start in lost:
            del bench.sent[start]
        bench.check_clean(bench.zeros[0], following)


@cocotb.test()
async def idle_bit_errors(dut: HierarchyObject) -> None:
    """Valid bits inverted between frames are counted and start nothing; an event of two wrong bits is marked."""
    bench = Bench(dut, 4)
    await bench.start()
    await bench.reset()
    await bench.run(ORBIT_CYCLES)
    counted = 0
    for lane in range(LANES):
        for bits in ((VALID,), (START,), (VALID, START)):
            events = len(bench.starts)
            bench.flips[bench.cycle] = sum(1 << (LANE_BITS * lane + bit) for bit in bits)
            await bench.run(LATENCY + 3 * EVENT_CYCLES + VERDICT)
            counted += VALID in bits
            assert int(dut.crc_errors_o.value) == counted
            assert len(bench.starts) == events + (len(bits) == 2)
    assert all(bench.verdicts.values())


@cocotb.test(skip=EVENT_CYCLES == 1)
async def valid_before_an_event(dut: HierarchyObject) -> None:
    """A wrong valid bit up to EVENT_CYCLES before a run of frames: it is counted, and no event takes notice."""
    bench = Bench(dut, 14)
    await bench.start()
    for before in range(1, EVENT_CYCLES + 1):
        bench.raw = bench.random_raw()
        bench.traffic = "full"
        await bench.reset()
        await bench.run(ORBIT_CYCLES)
        bench.traffic = "none"
        await bench.run(2 * EVENT_CYCLES)
        bench.flips[bench.cycle + SENDER_CYCLES] = 1 << (LANE_BITS * bench.random.randrange(LANES) + VALID)
        await bench.run(before)
        bench.traffic = "full"
        await bench.run(6 * EVENT_CYCLES)
        await bench.drain()
        bench.check_clean(bench.zeros[0])
        assert int(dut.crc_errors_o.value) == 1


@cocotb.test(skip=EVENT_CYCLES == 1)
async def false_start_before_an_event(dut: HierarchyObject) -> None:
    """A start where nothing is, up to EVENT_CYCLES before a frame: a marked event, not the true one; then all right."""
    bench = Bench(dut, 12)
    await bench.start()
    for before in range(1, EVENT_CYCLES + 1):
        bench.raw = bench.random_raw()
        bench.traffic = "full"
        await bench.reset()
        await bench.run(ORBIT_CYCLES)
        bench.traffic = "none"
        await bench.run(2 * EVENT_CYCLES)
        false = bench.cycle
        bench.flips[false + SENDER_CYCLES] = (1 << VALID | 1 << START) << (LANE_BITS * bench.random.randrange(LANES))
        await bench.run(before)
        bench.traffic = "full"
        await bench.run(6 * EVENT_CYCLES)
        await bench.drain()
        bench.check_unmarked()
        assert bench.verdicts[false + LATENCY]
        true = [cycle for cycle in bench.sent if cycle > false]
        assert true[0] == false + before
        came = {start - LATENCY for start in bench.starts}
        assert (true[0] in came) == (before == EVENT_CYCLES)
        assert set(true[1:]) <= came
        assert not any(bench.verdicts[cycle + LATENCY] for cycle in true[1:])
        assert int(dut.alignment_losses_o.value) == 0


@cocotb.test()
async def marker_bit_errors(dut: HierarchyObject) -> None:
    """Lost and false markers: the events are marked until the next good one."""
    bench = Bench(dut, 5)
    await bench.start()
    cases = {"lost": 0, "false": ORBIT_CYCLES // 2, "false in the window": -1, "false after the true one": 1}
    for case, delay in cases.items():
        for lane in range(LANES):
            bench.raw = bench.random_raw()
            bench.traffic = "full"
            await bench.reset()
            await bench.run(2 * ORBIT_CYCLES + ORBIT_CYCLES // 2)
            zero = orbit_of(bench, bench.cycle) + ORBIT_CYCLES
            at = zero + delay
            bench.flips[at + SENDER_CYCLES] = 1 << (LANE_BITS * lane + MARKER)
            await bench.run(4 * ORBIT_CYCLES)
            await bench.drain()
            bench.check_unmarked()
            marked = {s - LATENCY for s in bench.starts if bench.verdicts[s]}
            assert marked, case
            assert min(marked) >= at - LATENCY - EVENT_CYCLES
            assert max(marked) <= zero + 2 * ORBIT_CYCLES
            assert {c for c in bench.sent if zero + 2 * ORBIT_CYCLES < c} <= {s - LATENCY for s in bench.starts}
            assert int(dut.alignment_losses_o.value) >= 1
            assert bench.aligned[bench.cycle - 1]
            if case == "lost":
                lost = {c for c in bench.sent if zero <= c and c + FRAME_WORDS <= zero + ORBIT_CYCLES}
                assert lost <= marked


@cocotb.test()
async def dead_lane(dut: HierarchyObject) -> None:
    """With a lane dead every event still comes out at its cycle, marked; the link heals at the next marker."""
    bench = Bench(dut, 6)
    await bench.start()
    for lane in range(LANES):
        bench.raw = bench.random_raw()
        bench.traffic = "gaps"
        await bench.reset()
        await bench.run(2 * ORBIT_CYCLES)
        died = bench.cycle
        bench.dead = 1 << lane
        await bench.run(3 * ORBIT_CYCLES)
        assert int(dut.alignment_losses_o.value) == 1
        bench.dead = 0
        alive = bench.cycle
        await bench.run(3 * ORBIT_CYCLES)
        await bench.drain()
        bench.check_unmarked()
        marked = {s - LATENCY for s in bench.starts if bench.verdicts[s]}
        if LANES > 1:
            assert {c for c in bench.sent if died <= c < alive - LATENCY - FRAME_WORDS} <= marked
        healed = min(zero for zero in bench.zeros if zero >= alive)
        settled = {c for c in bench.sent if c >= healed + 2 * EVENT_CYCLES}
        assert settled
        assert not settled & marked
        assert settled <= {s - LATENCY for s in bench.starts}
        assert int(dut.alignment_losses_o.value) == 1
        assert bench.aligned[bench.cycle - 1]


@cocotb.test()
async def lost_event(dut: HierarchyObject) -> None:
    """An event that vanishes whole cannot come out; the next one is marked, the ones after it are not."""
    bench = Bench(dut, 10)
    await bench.start()
    for raw in (RAW_MIN, RAW_MAX):
        bench.raw = [raw] * LANES
        bench.traffic = "full"
        await bench.reset()
        await bench.run(2 * ORBIT_CYCLES)
        while (bench.next_start + FRAME_WORDS - bench.zeros[0]) % ORBIT_CYCLES <= FRAME_WORDS:
            await bench.step()  # that frame would carry the marker
        lost = bench.next_start
        while bench.cycle < lost + SENDER_CYCLES + raw:
            await bench.step()
        bench.dead = (1 << LANES) - 1
        await bench.run(FRAME_WORDS)
        bench.dead = 0
        await bench.run(ORBIT_CYCLES)
        await bench.drain()
        del bench.sent[lost]
        following = min(cycle for cycle in bench.sent if cycle > lost)
        bench.check_clean(bench.zeros[0], {following})
        assert lost + LATENCY not in bench.verdicts
        assert int(dut.crc_errors_o.value) == 1
        assert int(dut.alignment_losses_o.value) == 0


@cocotb.test()
async def slip(dut: HierarchyObject) -> None:
    """Raw latency that jumps while the lane runs: events marked until the next marker, then the old latency again."""
    bench = Bench(dut, 7)
    await bench.start()
    trials = 0
    for trial in range(10 * LANES):
        lane = trial % LANES
        bench.raw = bench.random_raw()
        bench.traffic = "gaps" if trial % 3 else "full"
        await bench.reset()
        await bench.run(2 * ORBIT_CYCLES + bench.random.randrange(ORBIT_CYCLES))
        before = bench.raw[lane]
        while bench.raw[lane] == before:
            bench.raw[lane] = bench.random.randint(RAW_MIN, RAW_MAX + MARGIN)
        slipped = bench.cycle
        bench.slip = 1 << lane
        await bench.run(3 * ORBIT_CYCLES)
        await bench.drain()
        bench.check_unmarked()
        marked = {s - LATENCY for s in bench.starts if bench.verdicts[s]}
        healed = min(zero for zero in bench.zeros if zero >= slipped)
        # The receiver cannot know which lane is right: an event may start with the wrong one.
        jump = abs(bench.raw[lane] - before)
        in_flight = any(0 < slipped - zero <= SENDER_CYCLES + 1 + max(before, bench.raw[lane]) for zero in bench.zeros)
        wrong = [c for c in bench.sent if slipped <= c and c + FRAME_WORDS <= healed - jump]
        if wrong and not in_flight:  # a marker on its way may re-align the lane at once
            assert all(any(abs(c - m) <= jump + EVENT_CYCLES for m in marked) for c in wrong), "an event was lost"
            near = [m for m in marked if wrong[0] - jump <= m <= wrong[-1] + jump + EVENT_CYCLES]
            assert LANES > 1 or len(near) >= len(wrong) - 1, f"{len(wrong)} events became {len(near)}"
            trials += len(wrong)
        settled = {c for c in bench.sent if c >= healed + 2 * EVENT_CYCLES}
        assert settled
        assert not settled & marked
        assert settled <= {s - LATENCY for s in bench.starts}
        assert int(dut.alignment_losses_o.value) == 1
        assert bench.aligned[bench.cycle - 1]
    assert trials > 20


@cocotb.test(skip=LANES > 1 or EVENT_CYCLES < FRAME_WORDS + 2)
async def early_start(dut: HierarchyObject) -> None:
    """Idle words skipped by a slip: an event too early after the last one is dropped, and no other."""
    bench = Bench(dut, 11)
    await bench.start()
    bench.raw = [RAW_MAX]
    bench.traffic = "full"
    await bench.reset()
    await bench.run(ORBIT_CYCLES + ORBIT_CYCLES // 3)
    before = bench.next_start
    while bench.cycle < before + SENDER_CYCLES + RAW_MAX + FRAME_WORDS:
        await bench.step()
    bench.raw = [RAW_MAX - 2]
    bench.slip = 1
    await bench.run(3 * ORBIT_CYCLES)
    await bench.drain()
    bench.check_unmarked()
    healed = min(zero for zero in bench.zeros if zero > before)
    events = [c for c in bench.sent if before < c <= healed - FRAME_WORDS - 2]
    marked = [s for s in bench.starts if bench.verdicts[s] and before < s - LATENCY <= events[-1]]
    assert not bench.verdicts[before + LATENCY]
    assert len(marked) >= len(events) - 1 > 3


@cocotb.test()
async def orbit_jump(dut: HierarchyObject) -> None:
    """Receiver's orbit counter restarted half an orbit off: alignment lost, all marked, until it is put right."""
    bench = Bench(dut, 8)
    await bench.start()
    bench.raw = bench.random_raw()
    bench.traffic = "full"
    await bench.reset()
    await bench.run(ORBIT_CYCLES)
    while bench.cycle % ORBIT_CYCLES != (bench.zeros[0] - ORBIT_OFFSET + ORBIT_CYCLES // 2) % ORBIT_CYCLES:
        await bench.step()
    jumped = bench.cycle
    await bench.step(rx_bc0=1)
    await bench.run(2 * ORBIT_CYCLES)
    assert not bench.aligned[bench.cycle - 1]
    assert 1 <= int(dut.alignment_losses_o.value) <= LANES  # each lane as its marker comes
    while bench.cycle % ORBIT_CYCLES != (bench.zeros[0] - ORBIT_OFFSET - 1) % ORBIT_CYCLES:
        await bench.step()
    righted = bench.cycle
    await bench.step(rx_bc0=1)
    await bench.run(2 * ORBIT_CYCLES)
    await bench.drain()
    bench.check_unmarked()
    marked = {s - LATENCY for s in bench.starts if bench.verdicts[s]}
    # The word that the receiver takes for the marker's is released at the release cycle of the jumped orbit.
    wrong = jumped + 2 + (LATENCY + ORBIT_OFFSET) % ORBIT_CYCLES - LATENCY
    assert {c for c in bench.sent if wrong <= c < righted - LATENCY - FRAME_WORDS} <= marked
    assert bench.check_clean(righted + ORBIT_CYCLES + 2 * EVENT_CYCLES) > 5
    assert bench.aligned[bench.cycle - 1]


@cocotb.test()
async def chaos(dut: HierarchyObject) -> None:
    """Random damage of every kind at once: what is not marked is right. Afterwards the link is as good as new."""
    bench = Bench(dut, 9)
    await bench.start()
    for trial in range(6):
        bench.raw = bench.random_raw()
        bench.traffic = "gaps" if trial % 2 else "full"
        await bench.reset()
        await bench.run(ORBIT_CYCLES)
        for _ in range(6 * ORBIT_CYCLES):
            if bench.random.random() < 0.04:
                mask = 0
                for _ in range(bench.random.choice((1, 1, 2, 3, 40))):
                    lane = bench.random.randrange(LANES)
                    bit = bench.random.choice((VALID, START, MARKER, bench.random.randrange(64)))
                    mask |= 1 << (LANE_BITS * lane + bit)
                bench.flips[bench.cycle] = mask
            if bench.random.random() < 0.005:
                bench.raw = bench.random_raw()
                bench.slip = bench.random.getrandbits(LANES)
            if bench.random.random() < 0.01:
                bench.dead = bench.random.getrandbits(LANES)
            if bench.random.random() < 0.05:
                bench.dead = 0
            await bench.step()
        bench.dead = 0
        bench.slip = (1 << LANES) - 1
        quiet = bench.cycle
        await bench.run(5 * ORBIT_CYCLES)
        await bench.drain()
        bench.check_unmarked()
        assert any(bench.verdicts.values())
        assert bench.check_clean(quiet + 3 * ORBIT_CYCLES) > 5
