"""mnn_link_elastic: the wait of a lane, set by its markers."""

import os
import random

import cocotb
from cocotb.clock import Clock
from cocotb.handle import HierarchyObject
from cocotb.triggers import FallingEdge, Timer

BUFFER_WORDS = int(os.environ["PARAMETER_BUFFERWORDS"])
ORBIT_CYCLES = BUFFER_WORDS + 20
MARKER = 1 << 65
LEAST = 5  # cycles from a marker on lane_i to its release
MOST = LEAST + BUFFER_WORDS - 1


class Lane:
    """Feeds one buffer and keeps what came in and what went out, by cycle."""

    def __init__(self, dut: HierarchyObject) -> None:
        """Attach to `dut`."""
        self.dut = dut
        self.random = random.Random(BUFFER_WORDS)
        self.cycle = 0
        self.entered: dict[int, int] = {}
        self.word = dut.word_o.value  # in the last cycle; undefined before the first marker

    async def step(self, *, marker: bool = False, reset: bool = False) -> None:
        """Go one cycle on; a word read two cycles before the end of an orbit is released at cycle 0 of the next."""
        dut = self.dut
        to_release = -self.cycle % ORBIT_CYCLES
        word = self.random.getrandbits(65) | (MARKER if marker else 0)
        self.entered[self.cycle] = word & (MARKER - 1)
        dut.rst_i.value = int(reset)
        dut.lane_i.value = word
        dut.read_address_i.value = (self.cycle + 5) % BUFFER_WORDS  # of the next cycle
        dut.marker_address_i.value = (self.cycle + to_release - 2 + 4) % BUFFER_WORDS
        dut.window_i.value = int(LEAST <= to_release + 1 <= MOST)
        dut.window_end_i.value = int(to_release + 1 == LEAST)
        await Timer(1, "ns")
        self.word = dut.word_o.value
        await FallingEdge(dut.clk_i)
        self.cycle += 1

    async def orbit(self, *markers: int) -> list[int]:
        """Go one orbit on, with markers at these distances before its end; return good_o cycle by cycle."""
        good = []
        for _ in range(ORBIT_CYCLES):
            good.append(int(self.dut.good_o.value))
            await self.step(marker=(-self.cycle % ORBIT_CYCLES) in markers)
        return good


@cocotb.test()
async def alignment(dut: HierarchyObject) -> None:
    """Every distance in the window aligns; markers outside, doubled, missing or moved lose the alignment."""
    cocotb.start_soon(Clock(dut.clk_i, 10, unit="ns").start())
    lane = Lane(dut)

    async def fresh(*markers: int) -> None:
        while lane.cycle % ORBIT_CYCLES:
            await lane.step(reset=True)
        await lane.step(reset=True)
        while lane.cycle % ORBIT_CYCLES:
            await lane.step(marker=(-lane.cycle % ORBIT_CYCLES) in markers)

    for distance in range(LEAST, MOST + 1):
        await fresh(distance)
        assert int(dut.trained_o.value) == 1
        assert await lane.orbit(distance) == [1] * ORBIT_CYCLES
    for distance in (LEAST - 1, MOST + 1, MOST + 9):
        await fresh(distance)
        assert await lane.orbit(distance) == [0] * ORBIT_CYCLES
        assert int(dut.trained_o.value) == 0
    await fresh(6)
    for markers in ((), (7,), (6, 5), (6, MOST + 7)):
        good = await lane.orbit(*markers)
        assert good[0] == 1
        assert 0 in good, f"markers {markers}"
        again = await lane.orbit(6)
        assert again[-1] == 1
        assert await lane.orbit(6) == [1] * ORBIT_CYCLES


@cocotb.test()
async def words(dut: HierarchyObject) -> None:
    """After a marker at distance d, each word is read d - 2 cycles after it entered."""
    cocotb.start_soon(Clock(dut.clk_i, 10, unit="ns").start())
    lane = Lane(dut)
    for distance in range(LEAST, MOST + 1):
        for _ in range(3):
            await lane.step(reset=True)
        while lane.cycle % ORBIT_CYCLES:
            await lane.step()
        await lane.orbit(distance)
        for _ in range(ORBIT_CYCLES):
            await lane.step(marker=(-lane.cycle % ORBIT_CYCLES) == distance)
            assert int(lane.word) == lane.entered[lane.cycle - 1 - (distance - 2)]
