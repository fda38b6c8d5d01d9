"""Rung 3 tells what static checks of the HLS object to, beside a verdict about the integers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import metronn
from metronn.verify.run import verify_build
from small_network import write_network


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::metronn.MetronnWarning")
def test_a_missing_rewind_is_told_and_right_integers_pass(tmp_path: Path) -> None:
    x = np.random.default_rng(1).integers(-128, 128, (60, 6)) / 64
    network = write_network(tmp_path / "small.onnx", inputs=6, hidden=40, outputs=12)
    build = metronn.compile(
        network, calibrate=x, system="one-pynq-z2", ii=24, plan={"layers": {"*": {"reuse": 24}}},
        output=tmp_path / "build", verify=False, check=False,
    )  # fmt: skip
    (verdict,) = verify_build(build.folder, rungs=[3])
    assert (verdict.status, verdict.first) == (metronn.Status.PASS, "")
    (header,) = build.folder.glob("hls/*/metronn/dense_stream.hpp")
    text = header.read_text()
    assert " rewind" in text
    header.write_text(text.replace(" rewind", ""))
    (verdict,) = verify_build(build.folder, rungs=[3])
    assert verdict.status is metronn.Status.PASS
    assert "the integers are right, but static checks expect trouble in Vitis HLS: fpga0/" in verdict.first
