"""Without the extra, a `.pt2` is refused with what to install; other files are told apart before PyTorch is needed."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import pytest

from metronn.errors import ModelError, ToolError
from metronn.frontends import load_model
from metronn.frontends.torch import exporter_reason


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


RECORDED = (
    "Failed to convert the exported program to an ONNX model. \x1b[96mThis is step 3/3\x1b[0m of exporting the model "
    "to ONNX. Next steps:\n- If there is a missing ONNX function, implement it and register it to the registry.\n\n"
    "## Exception summary\n\n<class 'AssertionError'>: only 4D query, key, and value are supported\n\u2b06\ufe0f\n"
    "<class 'torch.onnx._internal.exporter._errors.GraphConstructionError'>: Error when calling function 'f'\n"
    "\u2b06\ufe0f\n<class 'torch.onnx._internal.exporter._errors.ConversionError'>: Error when translating node "
    "%scaled_dot_product_attention : [num_users=1] = call_function[target=...]. See the stack trace for more "
    "information.\n\n(Refer to the full stack trace above for more information.)"
)


def test_the_reason_of_the_exporter_is_kept() -> None:
    assert exporter_reason(RECORDED) == "scaled_dot_product_attention: only 4D query, key, and value are supported"
    assert exporter_reason("\x1b[96mNo luck\x1b[0m.\nmore") == "No luck."
    assert exporter_reason("") == "no reason given"
