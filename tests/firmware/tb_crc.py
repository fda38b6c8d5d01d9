"""mnn_crc32 against zlib and against a bitwise model."""

import random
import zlib

import cocotb
from cocotb.handle import HierarchyObject
from cocotb.triggers import Timer


def bitwise(state: int, word: int) -> int:
    """Shift the 64 bits of `word` into the CRC `state`, lowest first."""
    for i in range(64):
        feedback = (state ^ (word >> i)) & 1
        state = (state >> 1) ^ (0xEDB88320 if feedback else 0)
    return state


async def step(dut: HierarchyObject, state: int, word: int) -> int:
    """Return what the module makes of `state` and `word`."""
    dut.state_i.value = state
    dut.data_i.value = word
    await Timer(1, "ns")
    return int(dut.state_o.value)


@cocotb.test()
async def one_step(dut: HierarchyObject) -> None:
    """Every single bit of word and state, and random pairs, equal the bitwise model."""
    random.seed(1)
    pairs = [(0, 1 << i) for i in range(64)] + [(1 << i, 0) for i in range(32)]
    pairs += [(random.getrandbits(32), random.getrandbits(64)) for _ in range(500)]
    for state, word in pairs:
        assert await step(dut, state, word) == bitwise(state, word)


@cocotb.test()
async def frames(dut: HierarchyObject) -> None:
    """Whole messages equal zlib.crc32, seeded too."""
    random.seed(2)
    for length in range(1, 20):
        words = [random.getrandbits(64) for _ in range(length)]
        for seed in (0, 1, 0xFFFF, random.getrandbits(16)):
            state = 0xFFFFFFFF ^ seed
            for word in words:
                state = await step(dut, state, word)
            message = b"".join(word.to_bytes(8, "little") for word in words)
            assert state ^ 0xFFFFFFFF == zlib.crc32(message, seed)
