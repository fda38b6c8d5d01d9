"""A build whose files were changed is not verified; what its own makefiles leave there is no change."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from command_line import Run
from metronn.emit.manifest import manifest_text
from metronn.flow.integrity import Changes, changes

PICTURE = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def build(metronn: Run, network: Path, events: Path, tmp_path: Path) -> Path:
    """Return a build of two FPGAs that was not verified."""
    folder = tmp_path / "build"
    system = ("--system", "two-serenity", "--fpgas", 2)
    assert metronn("compile", network, "--calibrate", events, *system, "-o", folder, "--no-verify").status == 0
    return folder


def test_every_file_counts(build: Path) -> None:
    """Any file changed by a byte, emptied or removed is named, and only it."""
    manifest = json.loads((build / "manifest.json").read_text())
    assert not changes(build, manifest)
    chance = random.Random(3)
    for name in manifest["files"]:
        path = build / name
        content = path.read_bytes()
        place = chance.randrange(len(content)) if content else 0
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :] if content else b"x")
        assert changes(build, manifest) == Changes(changed=(name,)), name
        path.unlink()
        assert changes(build, manifest) == Changes(missing=(name,)), name
        path.write_bytes(content)
    for name in ("rtl/library/more.sv", "notes.txt", "vectors/x"):
        (build / name).write_text("x")
        assert changes(build, manifest) == Changes(extra=(name,))
        (build / name).unlink()


def test_verify_stops_at_a_changed_build(metronn: Run, build: Path, events: Path, tmp_path: Path) -> None:
    (build / "rtl" / "small_system.sv").write_text("module small_system; endmodule\n")
    (build / "vectors" / "fpga1_out.txt").unlink()
    (build / "rtl" / "fpga0" / "own.sv").write_text("\n")
    before = (build / "manifest.json").read_bytes()
    ran = metronn("verify", build, "--rung", 1)
    assert ran.status == 1
    assert (
        "changed: rtl/small_system.sv; missing: vectors/fpga1_out.txt; not of the build: rtl/fpga0/own.sv\n  A verdict"
    ) in ran.err
    assert (build / "manifest.json").read_bytes() == before
    shown = metronn("report", build)
    assert shown.status == 0
    assert "is not as it was compiled, the verdicts are not about it: changed: rtl/small_system.sv" in shown.err
    page = (build / "report.html").read_text(encoding="utf-8")
    assert "This build is not as it was compiled, the verdicts are not about it: changed: rtl/small_system.sv" in page
    assert metronn("emulate", build, events, "-o", tmp_path / "o.npz", "--numpy").status == 0
    graph = build / "graph.txt"
    graph.write_text(graph.read_text() + "\n")
    for verb in ("emulate", "vectors"):
        ran = metronn(verb, build, events, "-o", tmp_path / "o2.npz", "--numpy")
        assert ran.status == 1
        assert "graph.txt: is not as it was compiled" in ran.err
    assert not (tmp_path / "o2.npz").exists()


def test_a_manifest_without_hashes_is_damaged(metronn: Run, build: Path) -> None:
    manifest = json.loads((build / "manifest.json").read_text())
    del manifest["files"]
    (build / "manifest.json").write_text(manifest_text(manifest))
    ran = metronn("verify", build, "--rung", 1)
    assert ran.status == 2
    assert "manifest.json: holds no hashes of the build's files" in ran.err


@pytest.mark.parametrize(
    ("key", "value"), [("verdicts", 3), ("name", None), ("quantization", {}), ("digest", "0" * 64), ("more", 1)]
)
def test_a_manifest_that_was_changed_is_refused(metronn: Run, build: Path, key: str, value: object) -> None:
    manifest = json.loads((build / "manifest.json").read_text())
    (build / "manifest.json").write_text(json.dumps({**manifest, key: value}))
    for verb in (["verify", build, "--rung", 1], ["report", build]):
        ran = metronn(*verb)
        assert ran.status == 2
        assert ran.out == ""
        assert "manifest.json: is not as metronn wrote it; put it back, or compile again with --force" in ran.err
    (build / "manifest.json").write_text(json.dumps(manifest))
    assert metronn("report", build).status == 0


@pytest.mark.parametrize("name", ["graph.txt", "plan.json"])
def test_no_report_of_another_plan(metronn: Run, build: Path, name: str) -> None:
    (build / name).write_text((build / name).read_text().replace("1", "2"))
    ran = metronn("report", build)
    assert (ran.status, ran.out) == (1, "")
    assert f"{name}: is not as it was compiled" in ran.err


def test_products_and_pictures_are_no_change(metronn: Run, build: Path, tmp_path: Path) -> None:
    for name in (
        "sim/sim_build/icarus/system/results.xml", "sim/__pycache__/run.pyc", "hls/fpga0/testbench",
        "hls/fpga0/project/solution/x", "hls/fpga1/fpga1.o", "emulator/libnetwork.so",
    ):  # fmt: skip
        (build / name).parent.mkdir(parents=True, exist_ok=True)
        (build / name).write_text("x")
    (tmp_path / "roc.png").write_bytes(PICTURE)
    shown = metronn("report", build, "--picture", tmp_path / "roc.png")
    assert "as they were compiled" in shown.out
    assert metronn("verify", build, "--rung", 1).status == 0
