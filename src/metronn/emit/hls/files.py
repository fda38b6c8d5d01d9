"""The files around the top of an HLS project: Makefile, bridge for emulation, test bench, interface."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from metronn.ir.types import TensorType
from metronn.plan.layout import Layout
from metronn.plan.serialize import encode_layout


@dataclass(frozen=True, slots=True)
class Beats:
    """How a port's tensor travels: the C++ type of what is in a queue, and the number of queues that share a beat.

    `order` is the C++ struct, `order_text` its text, that says the same as `layout`.
    """

    type_name: str
    words: int
    layout: Layout
    order: str
    order_text: str

    def parameter(self, name: str) -> str:
        """Return the port as a parameter of the top."""
        kind = f"metronn::stream<{self.type_name}>"
        return f"{kind} &{name}" if self.words == 1 else f"{kind} (&{name})[{self.words}]"

    def queue(self, name: str) -> str:
        """Return the definition of a queue that the top can be called with."""
        kind = f"metronn::stream<{self.type_name}>"
        return f'{kind} {name}("{name}")' if self.words == 1 else f"{kind} {name}[{self.words}]"


@dataclass(frozen=True, slots=True)
class TopPort:
    """A port of the top: its C++ name, the name users see, and its type. `beats` is set where it is a stream."""

    name: str
    key: str
    type: TensorType
    beats: Beats | None = None

    @property
    def type_name(self) -> str:
        """The C++ type of one element."""
        return f"{self.name}_t"

    @property
    def limbs(self) -> int:
        """64-bit words that hold one element in two's complement."""
        r = self.type.range
        return (r.width_bits + (not r.signed) + 63) // 64

    @property
    def words(self) -> int:
        """64-bit words of one event."""
        return self.type.size * self.limbs


@dataclass(frozen=True, slots=True)
class Timing:
    """What the HLS of an FPGA is expected to reach: cycles between events, and from the first beat to the last."""

    ii_cycles: int
    latency_cycles: int


def interface_json(
    name: str, header: Sequence[str], timing: Timing, inputs: Sequence[TopPort], outputs: Sequence[TopPort]
) -> str:
    """Return the ports in their order, for programs that call the bridge, and the expected cycles."""

    def ports(side: Sequence[TopPort]) -> list[dict[str, object]]:
        return [
            {
                "name": port.key,
                "port": port.name,
                "shape": list(port.type.shape),
                "width_bits": port.type.range.width_bits,
                "signed": port.type.range.signed,
                "words_per_element": port.limbs,
                **({} if port.beats is None else {"beats": encode_layout(port.beats.layout)}),
            }
            for port in side
        ]

    content = {
        "generated": list(header),
        "top": name,
        "expected": {"ii_cycles": timing.ii_cycles, "latency_cycles": timing.latency_cycles},
        "inputs": ports(inputs),
        "outputs": ports(outputs),
    }
    return json.dumps(content, indent=2) + "\n"


BRIDGE_COMMENT = """
// C entry for emulators and test benches: runs the top on `events_` events.
// inputs_[p] and outputs_[p] point to the words of port p, event after event; see metronn/bridge.hpp.
// Names that end in an underscore are never those of a port.
"""


def bridge(name: str, inputs: Sequence[TopPort], outputs: Sequence[TopPort]) -> str:
    """Return the C entry `<name>_run`."""
    lines = ["#include <cstdint>", "", f'#include "{name}.hpp"', '#include "metronn/bridge.hpp"']
    for port in [*inputs, *outputs]:
        if port.beats is not None:
            lines += [
                "",
                f"// which element of {port.key} is in which slot of which beat",
                port.beats.order_text.rstrip("\n"),
            ]
    lines += BRIDGE_COMMENT.rstrip("\n").split("\n")
    lines.append(f'extern "C" void {name}_run(')
    lines.append("    std::int64_t events_, const std::int64_t *const *inputs_, std::int64_t *const *outputs_) {")
    lines += [f"  const std::int64_t *from_{k}_ = inputs_[{k}];  // {p.key}" for k, p in enumerate(inputs)]
    lines += [f"  std::int64_t *to_{k}_ = outputs_[{k}];  // {p.key}" for k, p in enumerate(outputs)]
    lines.append("  for (std::int64_t event_ = 0; event_ < events_; event_++) {")
    for k, port in enumerate(inputs):
        lines.append(f"    {port.type_name} {_flat(port)}[{port.type.size}];")
        lines.append(f"    metronn::read_words<{port.type.size}, {port.limbs}>(from_{k}_, {_flat(port)});")
    lines += [f"    {port.type_name} {_flat(port)}[{port.type.size}];" for port in outputs]
    for port in [*inputs, *outputs]:
        if port.beats is not None:
            lines.append(f"    {port.beats.queue(port.name)};")
    for port in inputs:
        if port.beats is not None:
            lines.append(f"    metronn::send_beats<{port.beats.order}>({_flat(port)}, {port.name});")
    lines.append(f"    {name}({', '.join(port.name for port in [*inputs, *outputs])});")
    for port in outputs:
        if port.beats is not None:
            lines.append(f"    metronn::receive_beats<{port.beats.order}>({port.name}, {_flat(port)});")
    for k, port in enumerate(outputs):
        lines.append(f"    metronn::write_words<{port.type.size}, {port.limbs}>({_flat(port)}, to_{k}_);")
    return "\n".join([*lines, "  }", "}"]) + "\n"


def _flat(port: TopPort) -> str:
    """Name of the array with all elements of a port."""
    return port.name if port.beats is None else f"{port.name}_values"


def testbench(name: str, inputs: Sequence[TopPort], outputs: Sequence[TopPort]) -> str:
    """Return a program that runs text vectors through the top and compares with expected outputs when given."""

    def words(side: Sequence[TopPort]) -> str:
        return ", ".join(str(port.words) for port in side)

    return f"""\
// usage: testbench INPUTS OUTPUTS [EXPECTED]
// Each line of a file is one event: the elements of all ports in order, as decimal integers. An element of more than
// 63 bits takes several 64-bit words, lowest first. Returns 1 when an output differs from EXPECTED, 2 on a bad file.
#include <cstdint>
#include <fstream>
#include <iostream>
#include <vector>

extern "C" void {name}_run(
    std::int64_t events, const std::int64_t *const *inputs, std::int64_t *const *outputs);

static const int input_words[] = {{{words(inputs)}}};
static const int output_words[] = {{{words(outputs)}}};

int main(int argc, char **argv) {{
  if (argc < 3) {{
    std::cerr << "usage: testbench INPUTS OUTPUTS [EXPECTED]\\n";
    return 2;
  }}
  std::ifstream vectors(argv[1]);
  std::ofstream results(argv[2]);
  std::ifstream expected;
  if (argc > 3) expected.open(argv[3]);
  if (!vectors || !results || (argc > 3 && !expected)) {{
    std::cerr << "testbench: cannot open a file\\n";
    return 2;
  }}
  std::vector<std::vector<std::int64_t> > in, out;
  std::vector<const std::int64_t *> in_words;
  std::vector<std::int64_t *> out_words;
  for (int words : input_words) in.push_back(std::vector<std::int64_t>(words));
  for (int words : output_words) out.push_back(std::vector<std::int64_t>(words));
  for (auto &port : in) in_words.push_back(port.data());
  for (auto &port : out) out_words.push_back(port.data());
  long events = 0, mismatches = 0;
  while (vectors >> in[0][0]) {{
    bool first = true;
    for (auto &port : in) {{
      for (auto &word : port) {{
        if (!first) vectors >> word;
        first = false;
      }}
    }}
    if (!vectors) {{
      std::cerr << "testbench: event " << events << " is incomplete\\n";
      return 2;
    }}
    {name}_run(1, in_words.data(), out_words.data());
    const char *gap = "";
    for (auto &port : out) {{
      for (auto &word : port) {{
        results << gap << word;
        gap = " ";
        std::int64_t promised = word;
        if (argc > 3 && !(expected >> promised)) {{
          std::cerr << "testbench: no expected output for event " << events << "\\n";
          return 2;
        }}
        if (promised != word) mismatches++;
      }}
    }}
    results << "\\n";
    events++;
  }}
  std::cout << "testbench: " << events << " events, " << mismatches << " words differ\\n";
  return mismatches == 0 ? 0 : 1;
}}
"""


def makefile(name: str) -> str:
    """Return the Makefile for g++."""
    return f"""\
#
#   make                     build the test bench and lib{name}.so
#   make run                 run vectors/inputs.txt, compare with vectors/expected.txt
#   make AP_TYPES=FOLDER     take ap_int.h from this folder (by default from the hls4ml that python3 finds)

AP_TYPES ?= $(shell python3 -c "import importlib.util as u, pathlib; \\
  print(pathlib.Path(u.find_spec('hls4ml').origin).parent / 'templates' / 'vivado' / 'ap_types')")
CXX ?= g++
# the loops' labels and pragmas are for the HLS compiler
CXXFLAGS ?= -std=c++14 -O2 -Wall -Wextra -Werror -Wno-unknown-pragmas -Wno-unused-label
HEADERS := $(wildcard *.hpp metronn/*.hpp weights/*.hpp)

.PHONY: all run clean
all: testbench lib{name}.so

%.o: %.cpp $(HEADERS)
\t$(CXX) $(CXXFLAGS) -fPIC -I. -isystem $(AP_TYPES) -c $< -o $@

testbench: {name}.o bridge.o testbench.o
\t$(CXX) $^ -o $@

lib{name}.so: {name}.o bridge.o
\t$(CXX) -shared $^ -o $@

run: testbench
\t./testbench vectors/inputs.txt outputs.txt vectors/expected.txt

clean:
\trm -f *.o testbench lib{name}.so outputs.txt
"""
