"""What docs/python.md shows can be run, in its order."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest

import metronn
from small_network import write_network

PAGE = Path(__file__).resolve().parents[2] / "docs" / "python.md"


@pytest.mark.slow
def test_blocks_of_the_page_run_one_after_the_other(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    x = rng.integers(-128, 128, (300, 6)) / 64
    names = {
        "model": onnx.load(str(write_network(tmp_path / "small.onnx"))),
        "x": x,
        "y": rng.integers(0, 3, 300),
    }
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        exec(block, names)
    build = names["build"]
    assert isinstance(build, metronn.Build) and build.verdicts.passed
    assert names["values"].shape == names["codes"].shape == (300, 3)
    assert names["trace"]["scores"].sqnr_db > 20
