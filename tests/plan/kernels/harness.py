"""Run a bench of kernels under a simulator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from metronn.verify.kernel_bench import TOP, Case, write_bench
from metronn.verify.simulator import Simulation, build, lint, run
from simulators import need

FIRMWARE = Path(__file__).resolve().parents[3] / "firmware"
LIBRARY = ("mnn_replica.sv", "mnn_crossing.sv")
"""What kernels instantiate."""


def check_cases(cases: Sequence[Case], simulator: str, directory: Path, *, seed: int = 1, lints: bool = False) -> int:
    """Every case gives the emulator's bits in the promised cycles; return how many bits were compared.

    `lints`: Verilator finds nothing to say about any of the kernels at -Wall either.
    """
    need(simulator)
    bench = write_bench(cases, directory, seed=seed, libraries=[FIRMWARE / "rtl" / name for name in LIBRARY])
    if lints:
        need("verilator")
        said = lint([FIRMWARE / "lint.vlt", *bench.files], TOP)
        assert not said, said[:4000]
    files = [*bench.files]
    if simulator == "verilator":
        files.insert(0, FIRMWARE / "lint.vlt")
    simulation = build(simulator=simulator, files=files, top=TOP)
    check_stimulus(simulation, bench.stimulus, directory / "run")
    return bench.bits_checked


def check_stimulus(simulation: Simulation, stimulus: Path, directory: Path) -> None:
    """In every cycle of a stimulus the promised bits of each case are there."""
    results = run(
        simulation,
        module="tb_kernel",
        module_path=Path(__file__).resolve().parent,
        directory=directory,
        environment={"METRONN_STIMULUS": str(stimulus)},
    )
    failures = [case.failure for case in results if case.failure]
    assert not failures, "\n".join(failures)
