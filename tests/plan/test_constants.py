"""Constants for integrators: three languages say the same, and what they say finds every element in the vectors."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from design_builds import written
from plan_networks import Network, everything, stack
from stream_networks import Net

from metronn.emit.constants import Package, fpga_package, system_package
from metronn.emulate.numpy import emulate
from metronn.ir.graph import Graph
from metronn.ir.ops import Input
from metronn.ir.types import Range
from metronn.plan.design import Design
from metronn.plan.hardware.system import load_system
from metronn.plan.options import OutputForm, PlanOptions
from metronn.plan.planner import plan
from metronn.verify import simulator
from simulators import need

Values = dict[str, int | tuple[int, ...]]


def awkward_names() -> Graph:
    """Return a network whose ports differ for VHDL only by what it does not tell apart."""
    net = Network()
    one, two = net.input("a_b", 3), net.input("A__B", 2, bits=5)
    return net.build(("s", net.linear(one, 2, "l")), ("S", net.linear(two, 1, "m")))


def convolutions(side: int) -> Graph:
    """Return two layers of convolutions on a square image, signed at the end."""
    net = Net(2)
    image = net.conv(net.input("image", (side, side, 2)), "first", 3)
    return net.finish(net.linear(image, "second", 2))


CASES = {
    "two boards": (lambda: stack((6, 9, 9, 4)), "two-serenity", 9, PlanOptions(fpgas=2, outputs=OutputForm.STREAM)),
    "everything": (everything, "one-serenity", 3, PlanOptions()),
    "names": (awkward_names, "one-serenity", 2, PlanOptions()),
    "words": (everything, "one-serenity", 3, PlanOptions(input_lanes=2, output_lanes=1)),
    "words of two boards": (
        lambda: stack((6, 9, 9, 4)),
        "two-serenity",
        9,
        PlanOptions(fpgas=2, input_lanes=1, output_lanes=1),
    ),
    "words of a stream": (lambda: convolutions(6), "one-serenity", 36, PlanOptions(input_lanes=1, output_lanes=1)),
}


def designed(case: str) -> Design:
    graph, system, ii, options = CASES[case]
    return replace(plan(graph(), load_system(system).with_overrides(ii=ii), options), prefix="jets")


def packages(design: Design) -> list[Package]:
    return [*(fpga_package(design, fpga) for fpga in design.fpgas), system_package(design)]


def meant(package: Package) -> Values:
    return {constant.name: constant.value for constant in package.constants}


def printed(text: str) -> Values:
    """Return what a program printed: `NAME: 1 2 3`, or one number."""
    found: Values = {}
    for name, numbers in re.findall(r"^(\w+):((?: -?\d+)+)$", text, re.MULTILINE):
        values = tuple(int(number) for number in numbers.split())
        found[name] = values[0] if name.endswith(("WIDTH", "ELEMENTS", "BEATS")) or len(values) == 1 else values
    return found


def flat(values: Mapping[str, int | tuple[int, ...]]) -> Values:
    """Return values with tensors of one element as their number."""
    return {name: value[0] if isinstance(value, tuple) and len(value) == 1 else value for name, value in values.items()}


def run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def from_c(package: Package, folder: Path, constants: Path) -> Values:
    prefix = package.name.upper().removesuffix("PKG")
    body = []
    for constant in package.constants:
        body.append(f'  std::printf("{constant.name}:");')
        if isinstance(constant.value, int):
            body.append(f'  std::printf(" %d", static_cast<int>({prefix}{constant.name}));')
        else:
            body.append(f'  for (int value : {prefix}{constant.name}) std::printf(" %d", value);')
        body.append('  std::printf("\\n");')
    includes = f'#include <cstdio>\n#include "{package.name}.h"\n#include "{package.name}.h"\n'
    (folder / "show.cpp").write_text(includes + "int main() {\n" + "\n".join(body) + "\n}\n")
    run(["g++", "-Wall", "-Wextra", "-Werror", f"-I{constants}", "show.cpp", "-o", "show"], folder)
    (folder / "plain.c").write_text(f'#include "{package.name}.h"\nint main(void) {{ return 0; }}\n')
    run(["gcc", "-std=c99", "-Wall", "-Werror", "-Wno-unused-variable", f"-I{constants}", "plain.c"], folder)
    return printed(run(["./show"], folder))


def systemverilog_bench(package: Package) -> str:
    """Return a module that prints every constant; each is used where only a constant may be."""
    lines = [f"module show_{package.name};"]
    body = []
    for constant in package.constants:
        if isinstance(constant.value, int):
            lines.append(f"  localparam int {constant.name} = {package.name}::{constant.name};")
            body.append(f'    $display("{constant.name}: %0d", {constant.name});')
            continue
        function, count = f"{package.name}::{constant.name.lower()}", len(constant.value)
        lines.append(f"  localparam int {constant.name}_LAST = {function}({count - 1});")
        body.append(f'    $write("{constant.name}:");')
        body.append(f'    for (int k = 0; k < {count - 1}; k++) $write(" %0d", {function}(k));')
        body.append(f'    $display(" %0d", {constant.name}_LAST);')
    return "\n".join([*lines, "  initial begin", *body, "    $finish;", "  end", "endmodule", ""])


def from_icarus(package: Package, folder: Path, constants: Path) -> Values:
    (folder / "show.sv").write_text(systemverilog_bench(package))
    run(["iverilog", "-g2012", "-o", "show.vvp", str(constants / f"{package.name}.sv"), "show.sv"], folder)
    return printed(run(["vvp", "show.vvp"], folder))


def from_verilator(package: Package, folder: Path, constants: Path) -> Values:
    (folder / "show.sv").write_text(systemverilog_bench(package))
    top = f"show_{package.name}"
    tool = simulator.verilator_directory()
    assert tool is not None
    verilator = [str(tool / "verilator"), "--binary", "--top-module", top, "-o", "show_verilator"]
    command = [*verilator, str(constants / f"{package.name}.sv"), "show.sv"]
    done = subprocess.run(
        command, cwd=folder, env=simulator.tool_environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return printed(run(["./obj_dir/show_verilator"], folder))


def from_ghdl(package: Package, folder: Path, constants: Path) -> Values:
    body = []
    for constant in package.constants:
        body.append(f'    write(text, string\'("{constant.name}:"));')
        if isinstance(constant.value, int):
            body.append(f"    write(text, string'(\" \" & integer'image({constant.name})));")
        else:
            body.append(
                f"    for k in {constant.name}'range loop write(text, string'(\" \" & "
                f"integer'image({constant.name}(k)))); end loop;"
            )
        body.append("    writeline(output, text);")
    bench = [
        f"use std.textio.all; use work.{package.name}.all;", "entity show is end entity;",
        "architecture test of show is begin", "  process", "    variable text : line;", "  begin", *body, "    wait;",
        "  end process;", "end architecture;", "",
    ]  # fmt: skip
    (folder / "show.vhd").write_text("\n".join(bench))
    run(["ghdl", "-a", "--std=93c", str(constants / f"{package.name}.vhd"), "show.vhd"], folder)
    return printed(run(["ghdl", "--elab-run", "--std=93c", "show"], folder))


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_all_languages_say_the_same(case: str, tmp_path: Path) -> None:
    need("icarus")
    need("verilator")
    design = designed(case)
    build = written(design, tmp_path / "build", events=1, rtl_events=1)
    for package in packages(design):
        expected = flat(meant(package))
        assert len(expected) == len(package.constants)
        for read in (from_c, from_icarus):
            folder = tmp_path / package.name / read.__name__
            folder.mkdir(parents=True)
            assert read(package, folder, build / "constants") == expected, read.__name__
    folder = tmp_path / "verilator"
    folder.mkdir()
    package = packages(design)[0]
    assert from_verilator(package, folder, build / "constants") == flat(meant(package))


@pytest.mark.parametrize("case", CASES)
def test_elements_are_where_the_constants_say(case: str, tmp_path: Path) -> None:
    """The vectors of the RTL, read by nothing but the constants, are the codes of the events, and the answers."""
    design = designed(case)
    build = written(design, tmp_path, events=20, rtl_events=20)
    description = json.loads((build / "sim" / "design.json").read_text())
    first, last = fpga_package(design, design.fpgas[0]), fpga_package(design, design.fpgas[-1])
    entering = [node.name for node in design.graph.inputs]
    leaving = [output.name for output in design.outputs]
    folder = build / "vectors"
    codes = read_ports(meant(first), "I", entering, folder / f"{description['fpgas'][0]['name']}_in.txt")
    answers = read_ports(meant(last), "O", leaving, folder / f"{description['fpgas'][-1]['name']}_out.txt")
    shapes = {node.name: node.type.shape for node in design.graph.inputs}
    right = emulate(design.graph, {name: array.reshape(-1, *shapes[name]) for name, array in codes.items()})
    assert {name: array.reshape(len(array), -1).tolist() for name, array in right.items()} == {
        name: array.tolist() for name, array in answers.items()
    }
    assert len({tuple(row) for array in answers.values() for row in array.tolist()}) > 1


def read_ports(values: Values, side: str, names: list[str], file: Path) -> dict[str, np.ndarray]:
    """Return codes [events, elements] of each port in a file of vectors.

    It has a column for each beat, port after port; or, where they are words, one for each word, lane 0 lowest.
    """
    rows = [[int(word, 16) for word in line.split()] for line in file.read_text().splitlines()]
    if f"WORDS_{side}_COUNT" in values:
        assert len(rows[0]) == values[f"WORDS_{side}_COUNT"]
        return read_words(values, side, names, rows)
    words = [name.removesuffix("_WIDTH") for name in values if re.fullmatch(rf"\w+_{side}(_\d+)?_WIDTH", name)]
    found, column = {}, 0
    for name, word in zip(names, words, strict=True):
        cycle, low, bits, signed = (values[f"{word}_{part}"] for part in ("CYCLE", "LOW", "BITS", "SIGNED"))
        assert isinstance(cycle, tuple) and isinstance(low, tuple) and isinstance(bits, tuple)
        assert isinstance(signed, tuple)
        beats = sorted(set(cycle))
        assert len(beats) == values[f"{word}_BEATS"]
        array = np.zeros((len(rows), len(cycle)), dtype=np.int64)
        for event, row in enumerate(rows):
            for k in range(len(cycle)):
                code = row[column + beats.index(cycle[k])] >> low[k] & (1 << bits[k]) - 1
                array[event, k] = code - (1 << bits[k]) if signed[k] and code >> (bits[k] - 1) else code
        found[name] = array
        column += len(beats)
    assert column == len(rows[0])
    return found


def test_the_page_packs_words(tmp_path: Path) -> None:
    """The lines of C in docs/words.md, with the header of a build, make its vectors of its events."""
    page = (Path(__file__).parents[2] / "docs" / "words.md").read_text()
    block = re.search(r"```c\n(.*?)```", page, re.DOTALL)
    assert block is not None
    net = Network()
    x = net.builder.add(Input(shape=(30,), range=Range.fixed(11, 4)), "features")
    options = PlanOptions(input_lanes=2)
    system = load_system("one-serenity").with_overrides(ii=3)
    design = plan(net.build(("y", net.linear(x, 4, "dense"))), system, options)
    build = written(replace(design, prefix="jets"), tmp_path / "build", events=20, rtl_events=20)
    rows = (build / "hls" / "fpga0" / "vectors" / "inputs.txt").read_text().splitlines()
    assert design.fpgas[0].enters is not None
    lanes = design.fpgas[0].enters.lanes
    code = f"""#include <inttypes.h>
#include <stdio.h>
#include "jets_fpga0_pkg.h"
int main(void) {{
  int code[30];
  for (int event = 0; event < {len(rows)}; event++) {{
    for (int k = 0; k < 30; k++) if (scanf("%d", &code[k]) != 1) return 1;
{block[1]}
    for (int word = 0; word < JETS_FPGA0_WORDS_I_COUNT; word++)
      for (int lane = 0; lane < {lanes}; lane++) printf("%" PRIx64 " ", words[word][lane]);
    printf("\\n");
  }}
}}
"""
    (tmp_path / "pack.c").write_text(code)
    flags = ["-std=c99", "-Wall", "-Wno-unused-variable", "-Wno-unused-const-variable", "-Werror"]
    run(["gcc", *flags, f"-I{build / 'constants'}", "pack.c", "-o", "pack"], tmp_path)
    done = subprocess.run(["./pack"], cwd=tmp_path, input="\n".join(rows), capture_output=True, text=True, check=True)
    found = [[int(word, 16) for word in line.split()] for line in done.stdout.splitlines()]
    expected = [
        [int(word, 16) >> 64 * lane & (1 << 64) - 1 for word in line.split() for lane in range(lanes)]
        for line in (build / "vectors" / "fpga0_in.txt").read_text().splitlines()
    ]
    assert found == expected[: len(found)]
    assert len({tuple(row) for row in found}) > 10


def read_words(values: Values, side: str, names: list[str], rows: list[list[int]]) -> dict[str, np.ndarray]:
    """Return codes [events, elements] of each tensor in words, put together of its parts."""
    words = [name.removesuffix("_PARTS") for name in values if re.fullmatch(rf"\w+_{side}(_\d+)?_PARTS", name)]
    found = {}
    taken: set[tuple[int, int, int]] = set()
    for name, word in zip(names, words, strict=True):
        bits, signed = numbers(values, f"{word}_BITS"), numbers(values, f"{word}_SIGNED")
        keys = ("ELEMENT", "LOW", "BITS", "WORD", "LANE", "BIT")
        parts = list(zip(*(numbers(values, f"{word}_PART_{key}") for key in keys), strict=True))
        assert len(parts) == values[f"{word}_PARTS"]
        array = np.zeros((len(rows), len(bits)), dtype=np.int64)
        for element, low, width, column, lane, bit in parts:
            assert bit + width <= 64
            places = {(column, lane, bit + k) for k in range(width)}
            assert not taken & places
            taken |= places
            for event, row in enumerate(rows):
                array[event, element] |= (row[column] >> 64 * lane + bit & (1 << width) - 1) << low
        for k, width in enumerate(bits):
            array[:, k] -= np.where(signed[k] and array[:, k] >> width - 1, 1 << width, 0)
        found[name] = array
    return found


def numbers(values: Values, name: str) -> tuple[int, ...]:
    value = values[name]
    assert isinstance(value, tuple)
    return value


def test_promises_are_those_of_the_manifest(tmp_path: Path) -> None:
    design = designed("two boards")
    build = written(design, tmp_path, events=1, rtl_events=1)
    description = json.loads((build / "sim" / "design.json").read_text())
    system, (one, two) = meant(system_package(design)), [meant(fpga_package(design, fpga)) for fpga in design.fpgas]
    for values in (system, one, two):
        assert values["LATENCY_CYCLES"] == description["system"]["promised_cycle"]
        assert values["II_CYCLES"] == description["ii_cycles"]
    assert two["VALID_CYCLES"] == description["system"]["valid_cycle"]
    assert two["OFFSET_CYCLES"] == design.fpgas[1].offset_cycles
    link = description["links"][0]
    for values, word in ((system, "LINK_0"), (one, "TX"), (two, "RX")):
        assert values[f"{word}_LANES"] == link["lanes"]
        assert values[f"{word}_FRAME_WORDS"] == link["words"]
        assert values[f"{word}_LATENCY_CYCLES"] == link["latency_cycles"]
    rtl = (build / "rtl" / "fpga1" / "jets_fpga1.sv").read_text()
    assert f".BufferWords({two['RX_BUFFER_WORDS']})" in rtl
    assert f".SpreadCycles({two['RX_SPREAD_CYCLES']})" in rtl
    assert f"OrbitCycles = {two['ORBIT_CYCLES']}" in rtl


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_vhdl_says_the_same(case: str, tmp_path: Path) -> None:
    if shutil.which("ghdl") is None:
        pytest.skip("GHDL is not installed (ghdl)")
    design = designed(case)
    build = written(design, tmp_path / "build", events=1, rtl_events=1)
    for package in packages(design):
        folder = tmp_path / package.name
        folder.mkdir()
        assert from_ghdl(package, folder, build / "constants") == flat(meant(package))
