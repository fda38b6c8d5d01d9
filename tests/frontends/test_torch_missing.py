"""Without the extra, a `.pt2` is refused with what to install; other files are told apart before PyTorch is needed."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import pytest

from metronn.errors import ModelError, ToolError
from metronn.frontends import load_model


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("m/archive_format", "pt2")
    (tmp_path / "m.pt2").write_bytes(content.getvalue())
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ToolError, match=r"m.pt2: reading it needs torch, .*; install metronn\[torch\]") as raised:
        load_model(tmp_path / "m.pt2")
    assert raised.value.exit_code == 3


def test_another_file_is_no_exported_program(tmp_path: Path) -> None:
    (tmp_path / "m.pt2").write_bytes(b"some text")
    with pytest.raises(ModelError, match=r"m.pt2: not a PyTorch exported program \(a zip file inside\)"):
        load_model(tmp_path / "m.pt2")
