"""The HLS C++ of one FPGA, compiled with g++ against the vendor's integer types, as a function of integer codes.

The types are the ap_types headers that the hls4ml package installs; they are found there and never copied.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from metronn.errors import ModelError, ToolError
from metronn.ir.arrays import Array, object_array

WORD_BITS = 64
BASE_FLAGS = ("-std=c++14", "-Wno-unknown-pragmas", "-Wno-unused-label")
"""The pragmas and the loops' labels are for the HLS compiler."""

STRICT_FLAGS = ("-Wall", "-Wextra", "-Werror")
"""How the tests compile the library and what is generated; a user's newer g++ may know warnings that we do not."""

CHUNK_EVENTS = 256


def ap_types_directory() -> Path:
    """Return the folder of ap_int.h inside the installed hls4ml. Raises ToolError when there is none."""
    spec = importlib.util.find_spec("hls4ml")
    if spec is None or spec.origin is None:
        raise ToolError("HLS simulation needs the ap_types headers of hls4ml, which is missing; pip install hls4ml")
    folder = Path(spec.origin).parent / "templates" / "vivado" / "ap_types"
    if not (folder / "ap_int.h").is_file():
        raise ToolError("HLS simulation: hls4ml is installed without templates/vivado/ap_types/ap_int.h; reinstall it")
    return folder


def compiler() -> str:
    """Return the path of g++, or of what CXX names. Raises ToolError when there is none."""
    wanted = os.environ.get("CXX", "g++")
    found = shutil.which(wanted)
    if found is None:
        raise ToolError(f"HLS simulation needs {wanted}, which is not on PATH; install it or set CXX")
    return found


def compile_flags(*include: Path, strict: bool = False) -> list[str]:
    """Return the flags for one translation unit; the vendor's headers are system headers."""
    warnings = STRICT_FLAGS if strict else ()
    return [*warnings, *BASE_FLAGS, *(f"-I{folder}" for folder in include), "-isystem", str(ap_types_directory())]


def run_compiler(arguments: Sequence[str], what: str) -> None:
    """Run the compiler. Raises ToolError with the end of its messages when it fails."""
    try:
        done = subprocess.run([compiler(), *arguments], capture_output=True, text=True, check=False)
    except OSError as error:
        raise ToolError(f"{what}: the compiler cannot be run: {error}") from error
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if "error" in line][:10] or done.stderr.splitlines()[-10:]
        raise ToolError(f"{what}: g++ failed with status {done.returncode}:\n  " + "\n  ".join(errors))


@dataclass(frozen=True, slots=True, kw_only=True)
class HlsPort:
    """A port of the compiled top; codes are `words` 64-bit words each, lowest first."""

    name: str
    shape: tuple[int, ...]
    width_bits: int
    signed: bool
    words: int

    @property
    def size(self) -> int:
        """Elements of one event."""
        return int(np.prod(self.shape, dtype=np.int64))


@dataclass(frozen=True, slots=True, kw_only=True)
class HlsSimulation:
    """A compiled HLS project. `run` maps codes of the inputs to codes of the outputs."""

    library: Path
    top: str
    inputs: tuple[HlsPort, ...]
    outputs: tuple[HlsPort, ...]

    @staticmethod
    def build(
        project: Mapping[str, str | bytes] | Path, folder: Path, *, optimize: str = "-O1", strict: bool = False
    ) -> HlsSimulation:
        """Compile a project, given as `emit_hls` returns it or as a folder that holds it, into `folder`.

        `strict` makes every warning an error. Raises ToolError when g++ or the ap_types headers are missing or the
        compilation fails, ModelError when the project has no interface.json.
        """
        folder.mkdir(parents=True, exist_ok=True)
        if isinstance(project, Path):
            source = project
        else:
            source = folder
            write_files(project, folder)
        top = str(_interface(source)["top"])
        library = folder / f"lib{top}.so"
        run_compiler(
            [
                *compile_flags(source, strict=strict), optimize, "-shared", "-fPIC",
                str(source / f"{top}.cpp"), str(source / "bridge.cpp"), "-o", str(library),
            ],
            f"HLS project {top}",
        )  # fmt: skip
        return HlsSimulation.load(source, library)

    @staticmethod
    def load(source: Path, library: Path) -> HlsSimulation:
        """Describe a library that is already compiled from the project in folder `source`.

        Raises ModelError when the folder has no interface.json.
        """
        described = _interface(source)
        return HlsSimulation(
            library=library,
            top=str(described["top"]),
            inputs=tuple(_port(entry) for entry in described["inputs"]),
            outputs=tuple(_port(entry) for entry in described["outputs"]),
        )

    def run(self, inputs: Mapping[str, Array], *, threads: int | None = None) -> dict[str, Array]:
        """Run codes of shape (events, *shape) through the top; return codes by output name, int64 or object.

        Events are independent, so they are spread over `threads` threads (all cores when None). A code that does not
        fit its port's width is rejected with ModelError, as are missing inputs and wrong shapes.
        """
        packed = [self._packed(port, inputs) for port in self.inputs]
        counts = {len(words) for words in packed}
        if len(counts) != 1:
            raise ModelError(f"HLS simulation of {self.top}: inputs have different event counts: {sorted(counts)}")
        events = counts.pop()
        results = [np.zeros((events, port.size * port.words), dtype=np.int64) for port in self.outputs]
        entry = getattr(ctypes.CDLL(str(self.library)), f"{self.top}_run")
        entry.argtypes = [ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p]
        entry.restype = None

        def run_chunk(first: int) -> None:
            count = min(CHUNK_EVENTS, events - first)
            source, target = (_pointers(arrays, first) for arrays in (packed, results))
            entry(count, ctypes.byref(source), ctypes.byref(target))

        with ThreadPoolExecutor(max_workers=threads or os.cpu_count()) as pool:
            list(pool.map(run_chunk, range(0, events, CHUNK_EVENTS)))
        return {port.name: _unpacked(port, words) for port, words in zip(self.outputs, results, strict=True)}

    def _packed(self, port: HlsPort, inputs: Mapping[str, Array]) -> npt.NDArray[np.int64]:
        where = f"HLS simulation of {self.top}, input {port.name}"
        if port.name not in inputs:
            raise ModelError(f"{where}: no data; found {', '.join(sorted(inputs)) or 'nothing'}")
        codes = np.asarray(inputs[port.name])
        if codes.shape[1:] != port.shape or codes.ndim != len(port.shape) + 1:
            raise ModelError(f"{where}: shape per event is {codes.shape[1:]}, allowed is {port.shape}")
        if codes.dtype.kind not in "iuO":
            raise ModelError(f"{where}: codes are {codes.dtype}, allowed are integers")
        lowest = -(1 << (port.width_bits - 1)) if port.signed else 0
        highest = lowest + (1 << port.width_bits) - 1
        if codes.size and (codes.min() < lowest or codes.max() > highest):
            raise ModelError(f"{where}: codes go from {codes.min()} to {codes.max()}, allowed is {lowest} to {highest}")
        flat = codes.reshape(len(codes), port.size)
        if port.words == 1:
            return np.ascontiguousarray(flat.astype(np.int64))
        words = np.empty((len(codes), port.size, port.words), dtype=np.int64)
        wide = flat.astype(object)
        for word in range(port.words):
            low = (wide >> (WORD_BITS * word)) & (2**WORD_BITS - 1)
            words[:, :, word] = low.astype(np.uint64).astype(np.int64)
        return words.reshape(len(codes), -1)


def _interface(source: Path) -> dict[str, Any]:
    interface = source / "interface.json"
    if not interface.is_file():
        raise ModelError(f"HLS simulation: {source} has no interface.json; it is not an emitted HLS project")
    described: dict[str, Any] = json.loads(interface.read_text(encoding="utf-8"))
    return described


def _port(entry: Mapping[str, Any]) -> HlsPort:
    return HlsPort(
        name=str(entry["name"]),
        shape=tuple(int(n) for n in entry["shape"]),
        width_bits=int(entry["width_bits"]),
        signed=bool(entry["signed"]),
        words=int(entry["words_per_element"]),
    )


def _pointers(arrays: Sequence[npt.NDArray[np.int64]], first: int) -> ctypes.Array[ctypes.c_void_p]:
    """Addresses of the words of event `first` in each array."""
    return (ctypes.c_void_p * max(1, len(arrays)))(*(a.ctypes.data + first * a.strides[0] for a in arrays))


def _unpacked(port: HlsPort, words: npt.NDArray[np.int64]) -> Array:
    shape = (len(words), *port.shape)
    if port.words == 1:
        return words.reshape(shape)
    limbs = words.reshape(len(words), port.size, port.words)
    value = limbs[:, :, -1].astype(object)
    for word in range(port.words - 2, -1, -1):
        value = (value << WORD_BITS) | limbs[:, :, word].astype(np.uint64).astype(object)
    return object_array((int(v) for v in value.ravel()), shape)


def write_files(files: Mapping[str, str | bytes], folder: Path) -> None:
    """Write files by relative path below `folder`; a file that already holds the same bytes is left alone."""
    for path, content in files.items():
        target = folder / path
        data = content.encode("utf-8") if isinstance(content, str) else content
        if not target.is_file() or target.read_bytes() != data:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
