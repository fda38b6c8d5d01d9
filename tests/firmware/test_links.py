"""Runs of the link testbenches."""

from pathlib import Path

import pytest
from simulate import lint, run_cocotb, sources

LINK = (
    "mnn_crc32",
    "mnn_link_orbit",
    "mnn_link_tx",
    "mnn_link_elastic",
    "mnn_link_rx",
    "mnn_link_model",
    "mnn_link_bench",
    "mnn_replica",
)
BENCHES = {
    "two lanes": {"FrameWords": 3, "Lanes": 2, "EventCycles": 3, "OrbitOffset": 0},
    "one word": {"FrameWords": 1, "Lanes": 1, "EventCycles": 1, "OrbitOffset": 5},
    "one lane": {"FrameWords": 5, "Lanes": 1, "EventCycles": 9, "OrbitOffset": 90},
    "four lanes": {"FrameWords": 9, "Lanes": 4, "EventCycles": 9, "OrbitOffset": 37},
    "one lane without gaps": {"FrameWords": 4, "Lanes": 1, "EventCycles": 4, "OrbitOffset": 3},
}
BOUNDS = {"OrbitCycles": 100, "RawMin": 1, "RawMax": 12, "Margin": 2, "BufferWords": 16}


@pytest.mark.slow
@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
def test_crc(tmp_path: Path, simulator: str) -> None:
    """The parallel CRC is zlib's."""
    files = sources("mnn_crc32")
    run_cocotb(simulator=simulator, files=files, top="mnn_crc32", module="tb_crc", build=tmp_path / "crc")


@pytest.mark.slow
@pytest.mark.parametrize("simulator", ["icarus", "verilator"])
@pytest.mark.parametrize(
    ("top", "parameters", "others"),
    [
        ("mnn_link_orbit", {"OrbitCycles": 37}, ()),
        ("mnn_link_model", {"MaxLatency": 12}, ()),
        ("mnn_link_elastic", {"BufferWords": 8}, ("mnn_replica",)),
        ("mnn_link_tx", {"FrameWords": 1, "Lanes": 2}, ("mnn_crc32", "mnn_replica")),
        ("mnn_link_tx", {"FrameWords": 4, "Lanes": 3}, ("mnn_crc32", "mnn_replica")),
    ],
    ids=["orbit", "model", "elastic", "tx-1-word", "tx-4-words"],
)
def test_module(tmp_path: Path, simulator: str, top: str, parameters: dict[str, int], others: tuple[str, ...]) -> None:
    """Each module of the link by itself."""
    run_cocotb(
        simulator=simulator,
        files=sources(*others, top),
        top=top,
        module=top.replace("mnn_", "tb_"),
        build=tmp_path / "module",
        parameters=parameters,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("simulator", "name"),
    [*(("verilator", name) for name in BENCHES), ("icarus", "one word")],
)
def test_link(tmp_path: Path, simulator: str, name: str) -> None:
    """Sender, lanes, receiver: data, cycles, damage of every kind."""
    run_cocotb(
        simulator=simulator,
        files=sources(*LINK),
        top="mnn_link_bench",
        module="tb_link",
        build=tmp_path / "link",
        parameters={**BENCHES[name], **BOUNDS},
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("top", "parameters"),
    [
        ("mnn_delay", {"Latency": 0}),
        ("mnn_delay", {"Latency": 9}),
        ("mnn_crc32", {}),
        ("mnn_link_orbit", {}),
        ("mnn_link_elastic", {}),
        ("mnn_link_tx", {"FrameWords": 1}),
        ("mnn_link_tx", {"FrameWords": 9, "Lanes": 4}),
        ("mnn_link_rx", {}),
        ("mnn_link_rx", {"FrameWords": 1, "Lanes": 2, "EventCycles": 9}),
        ("mnn_link_rx", {"FrameWords": 9, "Lanes": 4, "EventCycles": 9, "ReleaseCycle": 33}),
        ("mnn_link_model", {}),
        ("mnn_link_bench", {}),
        ("mnn_replica", {}),
    ],
)
def test_lint(top: str, parameters: dict[str, int]) -> None:
    """Clean at -Wall with the waivers of firmware/lint.vlt."""
    assert lint(top, parameters) == ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("top", "parameters", "message"),
    [
        ("mnn_delay", {"Latency": -1}, "Latency=-1, at least 0"),
        ("mnn_link_orbit", {"OrbitCycles": 65537}, "OrbitCycles=65537 is outside 2..65536"),
        ("mnn_link_tx", {"FrameWords": 0}, "FrameWords=0, at least 1 is needed"),
        ("mnn_link_tx", {"Lanes": 0}, "Lanes=0, at least 1 is needed"),
        ("mnn_link_elastic", {"BufferWords": 12}, "BufferWords=12 is not a power of two"),
        ("mnn_link_rx", {"FrameWords": 3, "EventCycles": 2}, "EventCycles=2 is less than FrameWords=3"),
        ("mnn_link_rx", {"OrbitCycles": 36}, "OrbitCycles=36 is not above BufferWords=32 plus 4"),
        ("mnn_link_rx", {"OrbitCycles": 99, "ReleaseCycle": 99}, "ReleaseCycle=99 is outside 0..OrbitCycles-1"),
        ("mnn_replica", {"Width": 0}, "Width=0, at least 1"),
        ("mnn_link_rx", {"SpreadCycles": 32}, "SpreadCycles=32 needs more than BufferWords=32"),
    ],
)
def test_illegal_parameters(top: str, parameters: dict[str, int], message: str) -> None:
    """Illegal parameters fail at elaboration, with the values in the message."""
    assert message in lint(top, parameters)
