"""Runs the rungs of the verification on a build folder: each compares all bits of all outputs with the rung before."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from metronn.cache import scratch_base
from metronn.emit.tops import top_name
from metronn.emulate.native.compiler import compiler as native_compiler
from metronn.emulate.native.emulator import NativeEmulator
from metronn.emulate.numpy import emulate
from metronn.errors import ModelError, ToolError
from metronn.ir.arrays import Array, exact_array
from metronn.ir.graph import Graph
from metronn.ir.text import TextError, from_text
from metronn.ir.types import width_bits
from metronn.plan.design import Design, FpgaDesign
from metronn.plan.serialize import PlanFormatError, design_from_json
from metronn.plan.subgraph import entering_values, leaving_values, subgraph
from metronn.plan.verify import violations
from metronn.verify import simulator
from metronn.verify.hls import HlsSimulation, ap_types_directory
from metronn.verify.hls import compiler as hls_compiler
from metronn.verify.static import static_verdicts
from metronn.verify.verdict import Status, Verdict

RUNGS = (2, 3, 4, 5, 6)
Log = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Build:
    """A build folder that has been read: its network, its design, its events."""

    folder: Path
    graph: Graph
    design: Design
    events: Mapping[str, Array]


def read_build(folder: Path) -> Build:
    """Read a build folder. Raises ModelError when it is none, or its files are damaged."""
    try:
        graph = from_text((folder / "graph.txt").read_text())
        design = design_from_json((folder / "plan.json").read_text(), graph)
        with np.load(folder / "vectors" / "events.npz") as data:
            events = {name: exact_array(_integers(data[name])) for name in data.files}
    except FileNotFoundError as error:
        raise ModelError(f"{folder}: no build of metronn, {error.filename} is missing") from error
    except (TextError, PlanFormatError, OSError, ValueError, UnicodeDecodeError) as error:
        raise ModelError(f"{folder}: the build is damaged: {error}\n  Compile it again.") from error
    found = violations(design)
    if found:
        raise ModelError(f"{folder}/plan.json breaks the rules of a plan:\n  " + "\n  ".join(found))
    return Build(folder=folder, graph=graph, design=design, events=events)


def _integers(array: Array) -> Array:
    if array.dtype.kind == "U":
        return np.array([int(text) for text in array.ravel()], dtype=object).reshape(array.shape)
    return array


def verify_build(
    folder: Path, *, rungs: Sequence[int] | None = None, full: bool = False, log: Log = lambda _: None
) -> tuple[Verdict, ...]:
    """Run rungs 2 to 6 (or those asked for) and return their verdicts. A rung whose tool is missing is not run.

    `full`: rung 6 synthesises every kernel, however long that takes.
    """
    build = read_build(folder)
    wanted = RUNGS if rungs is None else tuple(rung for rung in RUNGS if rung in rungs)
    verdicts: list[Verdict] = []
    with tempfile.TemporaryDirectory(prefix="metronn-", dir=scratch_base()) as name:
        scratch = Path(name)
        expected = emulate(build.graph, build.events) if {2, 3} & set(wanted) else {}
        if 2 in wanted:
            log("rung 2: compiled emulator")
            verdicts.append(_attempt(2, "compiled emulator", native_compiler, lambda: _emulator(build, expected)))
        if 3 in wanted:
            log("rung 3: HLS C++ with g++ and the ap_types headers")
            verdicts.append(_attempt(3, "HLS C++", _hls_tools, lambda: _hls(build, expected, scratch)))
        verdicts += _rtl(build, wanted, scratch, log)
    if 6 in wanted:
        verdicts += static_verdicts(folder, build.design, full=full, log=log)
    return tuple(verdicts)


def _attempt(rung: int, name: str, need: Callable[[], object], action: Callable[[], Verdict]) -> Verdict:
    """Run a rung. Where `need` raises ToolError a tool is missing: not run. A tool that rejects the design: failed."""
    try:
        need()
    except ToolError as error:
        return Verdict(rung=rung, name=name, status=Status.NOT_RUN, first=error.message)
    try:
        return action()
    except ToolError as error:
        return Verdict(rung=rung, name=name, status=Status.FAIL, first=error.message)


def _hls_tools() -> None:
    """Raise ToolError when g++ or the ap_types headers are missing."""
    hls_compiler()
    ap_types_directory()


def _rtl_tools() -> None:
    """Raise ToolError when cocotb, Verilator or what it needs is missing."""
    reason = simulator.missing("verilator")
    if reason:
        raise ToolError(reason)


def compare(rung: int, name: str, graph: Graph, found: Mapping[str, Array], expected: Mapping[str, Array]) -> Verdict:
    """Compare integer codes of all outputs; the verdict names the first op, layer, event and element that differ."""
    events = bits = mismatches = 0
    first = ""
    for output in graph.outputs:
        node = graph.by_name[output.value]
        want, have = expected[output.name], found[output.name]
        events = max(events, len(want))
        flat_want, flat_have = want.reshape(len(want), -1), have.reshape(len(have), -1)
        if flat_want.shape != flat_have.shape:
            raise AssertionError(f"{output.name}: {flat_have.shape} results for {flat_want.shape} expected")
        los, his = node.type.range.los(node.type.size), node.type.range.his(node.type.size)
        bits += len(want) * sum(width_bits(lo, hi) for lo, hi in zip(los, his, strict=True))
        for event, element in np.argwhere(flat_want != flat_have):
            a, b = int(flat_have[event, element]), int(flat_want[event, element])
            mismatches += max(1, bin((a ^ b) & ((1 << width_bits(los[element], his[element])) - 1)).count("1"))
            first = first or (
                f"{output.name} (layer {node.source}): event {event}, element {element} is {a}, expected {b}"
            )
    status = Status.PASS if mismatches == 0 else Status.FAIL
    return Verdict(rung=rung, name=name, status=status, events=events, bits=bits, mismatches=mismatches, first=first)


def _emulator(build: Build, expected: Mapping[str, Array]) -> Verdict:
    native = NativeEmulator.build(build.graph)
    return compare(2, "compiled emulator", build.graph, native.run(build.events), expected)


def _hls(build: Build, expected: Mapping[str, Array], scratch: Path) -> Verdict:
    """Run the FPGAs' C++ one after the other, each on what the one before put out."""
    folders = [build.folder / "hls" / top_name(fpga.name) for fpga in build.design.fpgas]

    def compiled(index: int) -> HlsSimulation:
        return HlsSimulation.build(folders[index], scratch / f"hls{index}")

    with ThreadPoolExecutor(max_workers=2) as pool:
        simulations = list(pool.map(compiled, range(len(folders))))
    values: dict[str, Array] = dict(build.events)
    for fpga, simulation in zip(build.design.fpgas, simulations, strict=True):
        inputs = {name: values[name] for name in entering_values(build.design, fpga)}
        values = simulation.run(inputs)
    first = _first_wrong_fpga(build, simulations) if not _equal(values, expected) else ""
    verdict = compare(3, "HLS C++", build.graph, values, expected)
    return replace(verdict, first=f"{first}; {verdict.first}") if first else verdict


def _equal(found: Mapping[str, Array], expected: Mapping[str, Array]) -> bool:
    return all(np.array_equal(found[name], expected[name]) for name in expected)


def _first_wrong_fpga(build: Build, simulations: Sequence[HlsSimulation]) -> str:
    """Name the first FPGA whose C++ differs from its part of the graph, on the values the graph gives it."""
    values: dict[str, Array] = dict(build.events)
    for fpga, simulation in zip(build.design.fpgas, simulations, strict=True):
        inputs = {name: values[name] for name in entering_values(build.design, fpga)}
        right = emulate(subgraph(build.design, fpga), inputs)
        found = simulation.run(inputs)
        wrong = [name for name in right if not np.array_equal(right[name], found[name])]
        if wrong:
            return f"{fpga.name} differs first, in {', '.join(wrong)}"
        values = {value: right[name] for name, value in leaving_values(build.design, fpga)}
    return ""


def _rtl(build: Build, wanted: Sequence[int], scratch: Path, log: Log) -> list[Verdict]:
    """Rung 4 for every FPGA and rung 5 for the system, two at a time."""
    tasks: list[tuple[int, str, str]] = []
    if 4 in wanted:
        tasks += [(4, f"RTL of {fpga.name}", top_name(fpga.name)) for fpga in build.design.fpgas]
    if 5 in wanted:
        tasks.append((5, "RTL of the system", "system"))
    if not tasks:
        return []
    log("rungs 4 and 5: RTL of each FPGA and of the system under cocotb and Verilator")

    def run(task: tuple[int, str, str]) -> Verdict:
        rung, name, top = task
        verdict = _attempt(rung, name, _rtl_tools, lambda: simulate(build, rung, name, top, scratch / top))
        log(f"rung {rung}: {name}: {verdict.status.value}")
        return verdict

    with ThreadPoolExecutor(max_workers=2) as pool:
        largest_first = sorted(tasks, key=lambda task: -task[0])
        done = dict(zip(largest_first, pool.map(run, largest_first), strict=True))
    return [done[task] for task in tasks]


def rtl_sources(build: Build, fpgas: Sequence[FpgaDesign]) -> list[Path]:
    """Return the SystemVerilog files of some FPGAs: library first, kernels, tops."""
    rtl = build.folder / "rtl"
    files = [build.folder / "sim" / "lint.vlt", *sorted((rtl / "library").glob("*.sv"))]
    for fpga in fpgas:
        files += sorted((rtl / top_name(fpga.name)).glob("*.sv"))
    return files


def simulate(build: Build, rung: int, name: str, top: str, directory: Path) -> Verdict:
    """Build one top (`system` or the top of an FPGA), run its cocotb tests; the counts come from the bench."""
    description = json.loads((build.folder / "sim" / "design.json").read_text())
    module = description["modules"][top]
    if top == "system":
        files = rtl_sources(build, build.design.fpgas)
        files += [build.folder / "rtl" / "mnn_link_model.sv", build.folder / "rtl" / f"{module}.sv"]
    else:
        files = rtl_sources(build, [fpga for fpga in build.design.fpgas if top_name(fpga.name) == top])
    linked = len(build.design.fpgas) > 1
    parameters = {"OrbitCycles": int(description["simulated_orbit_cycles"])} if linked else {}
    simulation = simulator.build(simulator="verilator", files=files, top=module, parameters=parameters)
    directory.mkdir(parents=True, exist_ok=True)
    # A search path cannot hold a colon, which that of the build may have.
    products = shutil.ignore_patterns("sim_build", "__pycache__", "*.npz")
    for part in ("sim", "vectors"):
        shutil.copytree(build.folder / part, directory / part, dirs_exist_ok=True, ignore=products)
    result = directory / "result.jsonl"
    result.unlink(missing_ok=True)
    cases = simulator.run(
        simulation,
        module=f"test_{top}",
        module_path=(directory / "sim").resolve(),
        directory=directory,
        environment={"METRONN_RESULT": str(result.resolve())},
    )
    return _verdict(rung, name, cases, result)


def _verdict(rung: int, name: str, cases: Sequence[simulator.TestCase], result: Path) -> Verdict:
    failures = [case for case in cases if case.failure]
    records = [json.loads(line) for line in result.read_text().splitlines()] if result.exists() else []
    if not records:
        said = failures[0].failure if failures else "the tests left no result"
        return Verdict(rung=rung, name=name, status=Status.FAIL, first=said[:2000])
    main = records[0]
    wrong = sum(record["mismatches"] for record in records)
    first = next((record["first"] for record in records if record["first"]), "")
    if failures and not first:
        first = f"{failures[0].name}: {failures[0].failure[:2000]}"
    return Verdict(
        rung=rung,
        name=name,
        status=Status.FAIL if failures or wrong else Status.PASS,
        events=sum(record["events"] for record in records),
        bits=sum(record["bits"] for record in records),
        mismatches=wrong,
        cycles_promised=main["cycles_promised"],
        cycles_observed_min=main["cycles_observed_min"],
        cycles_observed_max=main["cycles_observed_max"],
        first=first,
    )
