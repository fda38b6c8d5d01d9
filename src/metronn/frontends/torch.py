"""PyTorch to RealGraph: an exported program or a module, through PyTorch's own ONNX exporter.

PyTorch and onnxscript are the extra `metronn[torch]`; nothing else imports them.
"""

from __future__ import annotations

import importlib
import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from metronn.errors import ModelError, ToolError
from metronn.frontends.common.files import FileKind, expect
from metronn.frontends.onnx.read import load_onnx
from metronn.ir.arrays import Array
from metronn.model.graph import RealGraph


def load_torch_program(path: Path, content: bytes) -> RealGraph:
    """Read what `torch.export.save` wrote; axis 0 of every input is the batch.

    Raises ToolError without PyTorch and onnxscript, ModelError for anything else as `load_model` says.
    """
    expect(path, content, FileKind.ZIP, "a PyTorch exported program")
    torch = _torch(str(path))
    try:
        program = torch.export.load(io.BytesIO(content))
    except (RuntimeError, ValueError, KeyError, TypeError, OSError, AssertionError) as error:
        raise ModelError(
            f"{path}: not an exported program, or damaged: {_first_line(error)}; write it with torch.export.save"
        ) from None
    return _read(torch, str(path), program)


def from_module(module: Any, example_inputs: tuple[Any, ...], *, name: str = "module") -> RealGraph:  # noqa: ANN401
    """Read a `torch.nn.Module` in evaluation mode.

    `example_inputs` are tensors as the module's `forward` takes them, of at least two events each, so that the
    exporter sees axis 0 as one of any size. Raises ToolError without PyTorch and onnxscript, ModelError when the
    module is in training mode, cannot be exported or has layers that are not supported.
    """
    return _read(_torch(name), name, _exported(module, example_inputs, name))


def export_module(module: Any, examples: Sequence[Array], *, name: str = "module") -> Any:  # noqa: ANN401
    """Return the exported program of a module, whatever its mode, as it is in evaluation.

    `examples` are arrays as `from_module` wants tensors. Errors are those of `from_module`.
    """
    torch = _torch(name)
    training = module.training
    try:
        return _exported(module.eval(), tuple(torch.from_numpy(array) for array in examples), name)
    finally:
        module.train(training)


def save_program(program: Any, path: Path) -> None:  # noqa: ANN401 - an exported program
    """Write an exported program as `load_torch_program` reads it."""
    _torch(str(path)).export.save(program, path)


def _exported(module: Any, example_inputs: tuple[Any, ...], name: str) -> Any:  # noqa: ANN401 - PyTorch's types
    torch = _torch(name)
    if module.training:
        raise ModelError(f"{name}: the module is in training mode; call module.eval() before")
    for position, tensor in enumerate(example_inputs):
        if tensor.ndim < 2 or tensor.shape[0] < 2:
            raise ModelError(
                f"{name}: example input {position} has shape {tuple(tensor.shape)}; axis 0 must be a batch of at least "
                "2 events, with at least one axis more"
            )
    batch = tuple({0: torch.export.Dim.AUTO} for _ in example_inputs)
    try:
        return torch.export.export(module, example_inputs, dynamic_shapes=batch)
    except (RuntimeError, ValueError, TypeError, NotImplementedError, AssertionError) as error:
        raise ModelError(f"{name}: torch.export cannot export the module: {_first_line(error)}") from None


def _torch(where: str) -> Any:  # noqa: ANN401 - a module
    try:
        torch = importlib.import_module("torch")
        importlib.import_module("onnxscript")
        importlib.import_module("torch.onnx")
    except ImportError as error:
        missing = error.name or "torch"
        raise ToolError(
            f"{where}: reading it needs {missing}, which is not installed; install metronn[torch]"
        ) from error
    return torch


def _read(torch: Any, where: str, program: Any) -> RealGraph:  # noqa: ANN401 - PyTorch's types
    try:
        exported = torch.onnx.export(program, dynamo=True, verbose=False)
    except torch.onnx.OnnxExporterError as error:
        raise ModelError(f"{where}: PyTorch cannot export the program to ONNX: {exporter_reason(str(error))}") from None
    return load_onnx(Path(where), exported.model_proto.SerializeToString())


def exporter_reason(text: str) -> str:
    """Return why PyTorch's exporter failed, from its message: the innermost error, and the operator it was at.

    The message begins with advice; behind "## Exception summary" stand the errors, each `<class '...'>: text`, the
    innermost first.
    """
    plain = re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", text)
    advice, _, summary = plain.partition("## Exception summary")
    reasons = re.findall(r"^<class '[^']*'>: *(.+)$", summary, flags=re.MULTILINE)
    if not reasons:
        return (advice.strip().splitlines() or ["no reason given"])[0]
    at = re.search(r"Error when translating node %(\w+)", summary)
    reason = reasons[0].removesuffix(" See the stack trace for more information.")
    return reason if at is None or at[1] in reason else f"{at[1]}: {reason}"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
