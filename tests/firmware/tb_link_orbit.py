"""mnn_link_orbit: counting, restarting, silence before the first bc0."""

import os

import cocotb
from cocotb.clock import Clock
from cocotb.handle import HierarchyObject
from cocotb.triggers import FallingEdge

ORBIT_CYCLES = int(os.environ["PARAMETER_ORBITCYCLES"])


@cocotb.test()
async def counts(dut: HierarchyObject) -> None:
    """Zero comes in the cycle after bc0 and every OrbitCycles from there, never before the first bc0."""
    cocotb.start_soon(Clock(dut.clk_i, 10, unit="ns").start())
    dut.rst_i.value = 1
    dut.bc0_i.value = 0
    await FallingEdge(dut.clk_i)
    dut.rst_i.value = 0
    for n in range(2 * ORBIT_CYCLES + 1):
        await FallingEdge(dut.clk_i)
        assert int(dut.zero_o.value) == 0
        assert int(dut.synced_o.value) == 0
        assert int(dut.cycle_o.value) == (n + 1) % ORBIT_CYCLES
    for pause in (3 * ORBIT_CYCLES + 2, ORBIT_CYCLES, ORBIT_CYCLES - 1, 1, 2 * ORBIT_CYCLES + 1):
        dut.bc0_i.value = 1
        for n in range(pause):
            await FallingEdge(dut.clk_i)
            dut.bc0_i.value = 0
            assert int(dut.synced_o.value) == 1
            assert int(dut.cycle_o.value) == n % ORBIT_CYCLES
            assert int(dut.zero_o.value) == int(n % ORBIT_CYCLES == 0)
