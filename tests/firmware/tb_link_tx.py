"""mnn_link_tx: every bit of every lane word against the frame format, written here a second time."""

import os
import random
import zlib

import cocotb
from cocotb.clock import Clock
from cocotb.handle import HierarchyObject
from cocotb.triggers import FallingEdge

FRAME_WORDS = int(os.environ["PARAMETER_FRAMEWORDS"])
LANES = int(os.environ["PARAMETER_LANES"])
LATENCY = 3


def frame(payload: list[int], stamp: int, sequence: int, error: int) -> list[int]:
    """Return the data words of one lane: the payload with the start flag and the tail put in."""
    words = list(payload)
    words[-1] = (words[-1] & (1 << 23) - 1) | error << 23 | sequence << 56
    words[0] |= 1 << 63
    message = b"".join(word.to_bytes(8, "little") for word in words)
    return [*words[:-1], words[-1] | zlib.crc32(message, stamp) << 24]


@cocotb.test()
async def frames(dut: HierarchyObject) -> None:
    """Frames back to back and with gaps; more than 128 events, an orbit with and without its zero."""
    rng = random.Random(FRAME_WORDS * 10 + LANES)
    cocotb.start_soon(Clock(dut.clk_i, 10, unit="ns").start())
    for name in ("orbit_zero_i", "start_i", "error_i", "word_i"):
        getattr(dut, name).value = 0
    dut.rst_i.value = 1
    for _ in range(3):
        await FallingEdge(dut.clk_i)
    dut.rst_i.value = 0
    expected = [[0] * LANES for _ in range(LATENCY)]
    stamp, sequence, position = 0, -1, FRAME_WORDS
    payload: list[list[int]] = []
    words: list[list[int]] = []
    error = 0
    for cycle in range(200 * FRAME_WORDS):
        zero = int(rng.random() < 0.05)
        stamp = 0 if zero else stamp + 1
        start = 0
        if position >= FRAME_WORDS and rng.random() < 0.8:
            start, position, error = 1, 0, rng.getrandbits(1)
            sequence = (sequence + 1) % 128
            payload = [[rng.getrandbits(63) for _ in range(FRAME_WORDS)] for _ in range(LANES)]
            words = [frame(lane, stamp, sequence, error) for lane in payload]
        side = zero << 1
        row = [side << 64] * LANES
        driven = [rng.getrandbits(63) for _ in range(LANES)]
        flag = rng.getrandbits(1)
        if position < FRAME_WORDS:
            driven = [lane[position] for lane in payload]
            final = int(position == FRAME_WORDS - 1)
            flag = error if final else flag
            side |= 1
            row = [side << 64 | lane[position] for lane in words]
        position += 1
        dut.orbit_zero_i.value = zero
        dut.start_i.value = start
        dut.error_i.value = flag
        dut.word_i.value = sum(word << (63 * lane) for lane, word in enumerate(driven))
        expected.append(row)
        await FallingEdge(dut.clk_i)
        wanted = sum(word << (66 * lane) for lane, word in enumerate(expected[cycle + 1]))
        assert int(dut.lane_o.value) == wanted, f"cycle {cycle}"
    assert sequence != -1
