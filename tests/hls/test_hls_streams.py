"""Streamed designs in HLS against the NumPy emulator: every kernel on streams, every way to bring pixels."""

from __future__ import annotations

from pathlib import Path

import pytest
from hls_flows import build_flows, flow_with
from hls_projects import assert_equal
from native_graphs import collected, random_codes
from stream_graphs import stream_networks


@pytest.mark.slow
@pytest.mark.usefixtures("hls_compiler")
@pytest.mark.parametrize("part", range(3))
def test_random_streams_equal_numpy(tmp_path: Path, part: int) -> None:
    """Windows, products, poolings, joins, moves and reductions in random kernels over random rasters."""
    found = collected(stream_networks(), 36)[part * 12 : part * 12 + 12]
    flows = [
        flow_with(graph, seed, max(2, *(layout.span for layout in inputs.values())), inputs)
        for graph, inputs, seed in found
    ]
    for number, (simulation, flow) in enumerate(zip(build_flows(flows, tmp_path), flows, strict=True)):
        assert_equal(simulation, flow.graph, random_codes(flow.graph, 12, number))
