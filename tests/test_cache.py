"""The cache: damage is found, builders may work beside each other, a cache that cannot be written is gone without."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metronn import cache
from metronn.errors import ModelError, ToolError
from random_tests import examples

CONTENT = {"a.bin": bytes(range(256)) * 8, "sub/b.txt": b"text\n"}


class Maker:
    """Makes an entry of CONTENT and counts how often."""

    def __init__(self) -> None:
        """Nothing was made yet."""
        self.calls = 0

    def __call__(self, folder: Path) -> None:
        """Write the files."""
        self.calls += 1
        for name, content in CONTENT.items():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(content)


def right(folder: Path) -> bool:
    return all((folder / name).read_bytes() == content for name, content in CONTENT.items())


@given(
    name=st.sampled_from([*CONTENT, cache.CONTENTS]),
    damage=st.sampled_from(["empty", "cut", "junk", "flip", "gone", "folder", "{}"]),
    place=st.integers(0, 10_000),
)
@examples(60)
def test_damage_is_found_and_made_anew_once(
    tmp_path_factory: pytest.TempPathFactory, name: str, damage: str, place: int
) -> None:
    where, make = tmp_path_factory.mktemp("cache"), Maker()
    folder = cache.entry(where, "key", make)
    path = folder / name
    content = path.read_bytes()
    at = place % len(content)
    changed = content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
    made = {"empty": b"", "cut": content[:at], "junk": b"junk\n", "flip": changed, "{}": b"{}"}
    path.unlink()
    if damage == "folder":
        path.mkdir()
    elif damage != "gone":
        path.write_bytes(made[damage])
    for _ in range(2):
        assert right(cache.entry(where, "key", make))
    assert make.calls == 2
    assert [item.name for item in where.iterdir()] == ["key"]


def test_builders_beside_each_other(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: cache.entry(tmp_path / "c", "key", Maker()), range(32)))
    assert set(found) == {tmp_path / "c" / "key"}
    assert right(found[0])
    assert [item.name for item in (tmp_path / "c").iterdir()] == ["key"]


@pytest.mark.parametrize("obstacle", ["file", "full"])
def test_a_cache_that_cannot_be_written_is_gone_without(
    tmp_path: Path, obstacle: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache._tell.cache_clear()
    where = tmp_path / "c"
    if obstacle == "file":
        where.write_text("no folder")
    else:

        def full(*_: object, **__: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("shutil.copytree", full)
    for _ in range(2):
        folder = cache.entry(where, "key", Maker())
        assert right(folder)
        assert not folder.is_relative_to(tmp_path)
    assert len(caplog.messages) == 1
    assert f"the cache {where} cannot be written" in caplog.messages[0]
    assert obstacle == "file" or not list(where.iterdir())


def test_what_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "scratch_base", lambda: tmp_path / "scratch")
    with pytest.raises(ToolError, match="temporary files cannot be written: No such file or directory; set TMPDIR"):
        cache.entry(tmp_path / "c", "key", Maker())
    (tmp_path / "scratch").mkdir()

    def interrupted(folder: Path) -> None:
        Maker()(folder)
        raise KeyboardInterrupt

    def full(_: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(KeyboardInterrupt):
        cache.entry(tmp_path / "c", "key", interrupted)
    with pytest.raises(ToolError, match="No space left on device; set TMPDIR"):
        cache.entry(tmp_path / "c", "key", full)
    assert not list((tmp_path / "scratch").iterdir())
    assert not (tmp_path / "c").exists()


def test_the_longest_unused_go_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv(cache.LIMIT_VARIABLE, "8 kB")
    now = time.time()
    for age, name in ((9, "old"), (7, "used"), (6, "older"), (5, "young"), (0, "new")):
        folder = cache.entry(cache.root() / "native", name, Maker())
        os.utime(folder, (now - 3600 * age, now - 3600 * age))
    cache.entry(cache.root() / "native", "used", Maker())  # taken: in use again
    cache.trim()
    assert {entry.folder.name for entry in cache.entries()} == {"used", "young", "new"}
    monkeypatch.setenv(cache.LIMIT_VARIABLE, "0")
    cache.trim()
    assert {entry.folder.name for entry in cache.entries()} == {"used", "new"}
    assert cache.clear() == []
    assert not list(cache.entries())


@pytest.mark.parametrize(
    ("text", "size"), [("", 2_000_000_000), ("500MB", 500_000_000), ("1.5 g", 1_500_000_000), ("7", 7)]
)
def test_the_limit(text: str, size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.LIMIT_VARIABLE, text)
    assert cache.limit_bytes() == size
    monkeypatch.setenv(cache.LIMIT_VARIABLE, "plenty")
    with pytest.raises(ModelError, match="METRONN_CACHE_LIMIT: found 'plenty', allowed is a size such as 500MB"):
        cache.limit_bytes()


def test_temporary_folders_have_paths_that_tools_can_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("with space", "with:colon", "quo'te"):
        (tmp_path / name).mkdir()
        monkeypatch.setattr("tempfile.gettempdir", lambda name=name: str(tmp_path / name))
        assert cache.safe_path(cache.scratch_base())
    monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
    assert cache.scratch_base() == tmp_path


def test_the_verb(tmp_path: Path) -> None:
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    folder = cache.entry(tmp_path / "metronn" / "native", "key", Maker())
    command = [sys.executable, "-m", "metronn", "cache"]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert "native       compiled emulators        1  0.0" in shown
    assert f"{tmp_path}/metronn: 0.0 MB of at most 2,000.0 MB (METRONN_CACHE_LIMIT)" in shown
    subprocess.run([*command, "--clear", "--json"], env=environment, capture_output=True, text=True, check=True)
    assert not folder.exists()
