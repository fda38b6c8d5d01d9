"""The compiled emulator as an object: build it from a graph, run arrays of codes through it."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from metronn.cache import discard, kind_directory
from metronn.emulate.native.compiler import FLAGS, cached_library
from metronn.emulate.native.generate import generate, graph_symbol, run_symbol, write_files
from metronn.emulate.native.ports import Port, input_ports, output_ports
from metronn.emulate.numpy import checked_input, constant_values
from metronn.errors import ModelError, ToolError
from metronn.ir.arrays import Array, as_dtype_for, object_array
from metronn.ir.graph import Graph, Node
from metronn.ir.text import graph_hash

_BAD_CODE = 1


@dataclass(frozen=True, slots=True, eq=False)
class NativeEmulator:
    """A graph compiled to machine code. `run` does what `emulate.numpy.emulate` does, on all cores."""

    graph: Graph
    library: Path
    function: Any
    constant_outputs: frozenset[str]

    @staticmethod
    def build(
        graph: Graph,
        directory: Path | None = None,
        cache: Path | None = None,
        name: str = "network",
        flags: Sequence[str] = FLAGS,
    ) -> NativeEmulator:
        """Compile a graph, or take the library from the cache when the same one was compiled before.

        The cache is `cache`, by default the user's. With `directory` the sources and `lib<name>.so` are written there
        too. Raises ToolError when the compiler is missing or fails.
        """
        library = f"lib{name}.so"
        files = generate(graph, name)
        sources, where = (f"{name}_emulator.cpp",), cache or kind_directory("native")
        path = cached_library(files, sources, library, where, flags)
        try:
            emulator = NativeEmulator.load(graph, path, name)
        except ToolError:  # whole, but of no use here, as after a change of the system's libraries: made anew, once
            discard(path.parent)
            path = cached_library(files, sources, library, where, flags)
            emulator = NativeEmulator.load(graph, path, name)
        if directory is not None:
            write_files(files, directory)
            shutil.copyfile(path, directory / library)
        return emulator

    @staticmethod
    def load(graph: Graph, library: Path, name: str = "network") -> NativeEmulator:
        """Open a library compiled from the sources that `generate(graph, name)` gives.

        Raises ToolError when it cannot be opened or comes from another graph. The system opens a path once in a
        process: a library replaced at the same path is not seen, which shows as another graph.
        """
        try:
            opened = ctypes.CDLL(str(library))
            function, about = opened[run_symbol(name)], opened[graph_symbol(name)]
        except (OSError, AttributeError) as error:
            raise ToolError(f"compiled emulator: {library} cannot be used: {error}") from error
        about.restype = ctypes.c_char_p
        found, wanted = about().decode(), graph_hash(graph)
        if found != wanted:
            raise ToolError(f"compiled emulator: {library} is of graph {found}, wanted is {wanted}; build it again")
        function.restype = ctypes.c_int
        function.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_void_p]
        constant = constant_values(graph)
        outputs = frozenset(output.name for output in graph.outputs if output.value in constant)
        return NativeEmulator(graph, library, function, outputs)

    def run(self, inputs: Mapping[str, Array], threads: int | None = None) -> dict[str, Array]:
        """Run integer codes of shape (events, *shape), by input name; returns the codes of each output by name.

        `threads` None means one per core. Raises ModelError when an input is missing, has another shape or number
        of events than the others, or a code outside its promised range.
        """
        arrays = {node.name: self._shaped(node, inputs) for node in self.graph.inputs}
        counts = {name: array.shape[0] for name, array in arrays.items()}
        events = next(iter(counts.values()))
        if any(count != events for count in counts.values()):
            raise ModelError(f"the inputs have different numbers of events: {counts}")
        given = [_to_words(port, arrays[port.name]) for port in input_ports(self.graph)]
        ports = output_ports(self.graph)
        results = [np.empty((events, port.type.size, port.code.words), dtype=np.int64) for port in ports]
        bad = (ctypes.c_uint64 * 3)()
        code = self.function(_pointers(given), _pointers(results), events, threads or 0, bad)
        if code == _BAD_CODE:
            for node in self.graph.inputs:
                checked_input(node, arrays[node.name])
        if code:
            raise ToolError(f"compiled emulator: {self.library} failed with status {code} on {events} events")
        return {
            port.name: _from_words(port, result[:1] if port.name in self.constant_outputs else result)
            for port, result in zip(ports, results, strict=True)
        }

    def _shaped(self, node: Node, inputs: Mapping[str, Array]) -> Array:
        """Return the codes of an input after checking what the library cannot: presence, kind, shape, 64 bits."""
        if node.name not in inputs:
            raise ModelError(f"input {node.name}: no data; found {', '.join(sorted(inputs)) or 'nothing'}")
        codes = np.asarray(inputs[node.name])
        if codes.dtype.kind not in "iu" or codes.dtype == np.uint64 or codes.shape[1:] != node.type.shape:
            return checked_input(node, codes)
        return codes


def _pointers(arrays: Sequence[Array]) -> ctypes.Array[ctypes.c_void_p]:
    return (ctypes.c_void_p * len(arrays))(*(array.ctypes.data for array in arrays))


def _to_words(port: Port, codes: Array) -> Array:
    """Codes as a contiguous array of 64-bit words, [event][element][word]."""
    if port.code.words == 1:
        return np.ascontiguousarray(codes, dtype=np.int64)
    size = 8 * port.code.words
    data = b"".join(int(code).to_bytes(size, "little", signed=True) for code in codes.ravel())
    return np.frombuffer(data, dtype="<i8")


def _from_words(port: Port, words: Array) -> Array:
    """Codes of an output in the dtype the NumPy emulator uses for its range."""
    shape = (words.shape[0], *port.type.shape)
    if port.code.words == 1:
        codes = words.reshape(shape)
    else:
        data, size = words.tobytes(), 8 * port.code.words
        starts = range(0, len(data), size)
        codes = object_array((int.from_bytes(data[at : at + size], "little", signed=True) for at in starts), shape)
    return as_dtype_for(codes, port.type.range.lowest, port.type.range.highest)
