"""The simulation of the processes of an emitted project: what is emitted keeps its II, and short queues are named."""

from __future__ import annotations

import json
import re

import pytest
from hls_projects import project_of, two_layers
from test_hls_planned import network

from metronn.emit.hls.flow import flow_of
from metronn.emit.hls.project import emit_hls, template_directory
from metronn.plan.hardware.system import load_system
from metronn.plan.layout import Layout
from metronn.plan.options import PlanOptions
from metronn.plan.planner import plan
from metronn.plan.serialize import encode_layout
from metronn.plan.subgraph import subgraph
from metronn.verify.hls_beats import SETTLED_EVENTS, Process, beat_problems, processes, settled, simulate
from metronn.verify.hls_source import Source, read_source
from metronn.verify.hls_static import check_project

JOINED = """
struct all_process {
  static const int beats = 4;
  static const int interval = 1;
};
struct join_process {
  static const int steps = 4;
  static const int streams = 2;
  static bool takes(int p, int step) { return p == 0 ? true : (step == 0); }
  static bool leaves(int) { return true; }
};
void top(metronn::stream<x_beats_t> &x, metronn::stream<x_beats_t> &z) {
#pragma HLS DATAFLOW
  metronn::stream<x_beats_t> short_queue("short_queue");
#pragma HLS STREAM variable = short_queue depth = DEPTH
  metronn::stream<x_beats_t> long_queue("long_queue");
#pragma HLS STREAM variable = long_queue depth = 2
  metronn::fork_beats<4>(x, short_queue, long_queue);

  // all in one beat; starts in cycle 1, 5 cycles
  metronn::stream<x_beats_t> all_queue("all_queue");
#pragma HLS STREAM variable = all_queue depth = 2
  metronn::gather_beats<all_process>(long_queue, all_queue);

  // starts with what was gathered; starts in cycle 6, 1 cycles
  metronn::reorder_beats<join_process>(z, short_queue, all_queue);
}
"""


def joined(depth: int) -> Source:
    """Return a project in which a stream meets what all its beats made: the first beat waits for the last one."""
    library = {f"metronn/{path.name}": path.read_text() for path in (template_directory() / "metronn").glob("*.hpp")}
    port = {"port": "x", "beats": encode_layout(Layout.rows(4, 1))}
    interface = json.dumps({"inputs": [port], "expected": {"ii_cycles": 9}})
    return read_source({**library, "top.cpp": JOINED.replace("DEPTH", str(depth)), "interface.json": interface})


def test_a_deadlock_is_found_and_named() -> None:
    source = joined(2)
    (found,) = beat_problems(source, source.functions["top"], 9)
    assert found == ("top.cpp: deadlock: queue short_queue is full with 2 beats and fork_beats of x waits for it")
    enough = joined(16)
    assert list(beat_problems(enough, enough.functions["top"], 9)) == []


def test_processes_are_read_with_their_beats() -> None:
    """Iterations, and those that read and write, as the library has them."""
    graph, flow = two_layers()
    files = {path: str(text) for path, text in emit_hls(graph, project_of(graph, "muon"), flow).items()}
    source = read_source(files)
    first, second = processes(source, source.functions["muon"])
    assert (first.iterations, second.iterations) == (2, 2)
    assert first.reads == {"hits": frozenset({0})}
    assert first.writes == {"dense_1_out_beats_queue": frozenset({0, 1})}
    assert second.reads == first.writes
    assert second.writes == {"pt": frozenset({1})}
    assert first.latency == flow.kernels[0].latency_cycles


def test_a_slow_process_keeps_the_others_back() -> None:
    """A reader that stops for ten cycles an event needs as many beats in its queue, where its writer never stops."""
    every = frozenset(range(20))
    writer = Process("writer", 20, 1, 1, writes={"queue": every})
    reader = Process("reader", 30, 1, 1, reads={"queue": every})
    assert simulate([writer, reader], {"queue": 2}, frozenset(), {}).interval == 30
    writer = Process("writer", 20, 1, 1, reads={"x": every}, writes={"queue": every})
    reader = Process("reader", 30, 1, 1, reads={"queue": every})
    inputs = {"x": [32 * event + beat for event in range(6) for beat in range(20)]}
    assert simulate([writer, reader], {"queue": 2}, frozenset(), inputs).interval == 32


def test_what_waits_once_costs_no_interval() -> None:
    """The padding of three windows lets an event wait, and what has no cycle to spare behind each passes that on."""
    chain = []
    for k in range(0, 6, 2):
        window = Process(f"window{k}", 10, 3, 1, reads={f"q{k}": frozenset(range(8))})
        window.writes = {f"q{k + 1}": frozenset(range(2, 10))}
        every = Process(f"map{k}", 8, 4, 1, reads={f"q{k + 1}": frozenset(range(8))})
        every.writes = {f"q{k + 2}": frozenset(range(8))}
        chain += [window, every]
    inputs = {"q0": [32 * event + 4 * beat for event in range(SETTLED_EVENTS) for beat in range(8)]}
    depths = {f"q{k}": 20 for k in range(1, 6)}
    assert simulate(chain, depths, frozenset(), inputs).interval > 32
    assert settled(chain, depths, frozenset(), inputs, 32).interval == 32
    chain[3].interval = 5
    assert settled(chain, depths, frozenset(), inputs, 32).interval == 40


@pytest.mark.slow
@pytest.mark.parametrize(("ii", "queue"), [(8, "conv1_out_beats_2_queue_3"), (200, "conv1_windows_beats_queue")])
def test_planned_networks_keep_their_interval(ii: int, queue: str) -> None:
    """A skip that is too short, and a writer whose event ends faster than its reader goes on."""
    graph = network(ii)
    fpgas = 2 if ii == 200 else 1
    system = load_system("two-apx" if ii == 200 else "one-large-virtual").with_overrides(ii=ii)
    design = plan(graph, system, PlanOptions(fpgas=fpgas))
    part = subgraph(design, design.fpgas[0])
    made = emit_hls(part, project_of(part, "muon", ii), flow_of(design, design.fpgas[0]))
    files = {path: str(text) for path, text in made.items()}
    assert check_project(files) == []
    text, count = re.subn(rf"(STREAM variable = {queue} depth =) \d+", r"\1 2", files["muon.cpp"])
    assert count == 1
    (found,) = check_project({**files, "muon.cpp": text})
    assert f"queue {queue} with 2 beats is too short: an event every" in found
