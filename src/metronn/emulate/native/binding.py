"""The Python binding that is generated beside a compiled emulator: ctypes and NumPy, nothing of metronn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from metronn.emulate.native.ports import Port

_TEMPLATE = '''# {banner}
"""The network {name} as the firmware computes it, bit for bit. Needs NumPy and lib{name}.so (`make`) beside it."""

import ctypes
from pathlib import Path

import numpy as np

# name, the model's own name, shape of an event, 64-bit words of a code, lowest code, highest code, fraction bits (one,
# or one per element)
INPUTS = (
{inputs})
OUTPUTS = (
{outputs})

_library = ctypes.CDLL(str(Path(__file__).resolve().parent / "lib{name}.so"))
_run = _library.{symbol}
_run.restype = ctypes.c_int
_run.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_void_p]


def _to_words(name, shape, words, codes):
    codes = np.asarray(codes)
    if codes.dtype.kind not in "iuO":
        raise TypeError(f"input {{name}}: codes are {{codes.dtype}}, allowed are integers")
    if codes.shape[1:] != shape:
        raise ValueError(f"input {{name}}: shape per event is {{codes.shape[1:]}}, allowed is {{shape}}")
    if codes.dtype != object and codes.dtype != np.uint64:
        codes = codes.astype(np.int64)
        if words == 1:
            return np.ascontiguousarray(codes)
    data = b"".join(int(code).to_bytes(8 * words, "little", signed=True) for code in codes.ravel())
    return np.frombuffer(data, dtype="<i8")


def _from_words(shape, words, data, events):
    if words == 1:
        return data.reshape(events, *shape)
    raw, step = data.tobytes(), 8 * words
    codes = np.empty(len(raw) // step, dtype=object)
    codes[:] = [int.from_bytes(raw[i : i + step], "little", signed=True) for i in range(0, len(raw), step)]
    return codes.reshape(events, *shape)


def run(inputs, threads=0):
    """Integer codes of the outputs by name, from integer codes of shape (events, *shape) by input name.

    Names are the model's own, or those of the firmware; outputs are there under both.

    `threads` 0 means one per core. Raises KeyError, TypeError, ValueError or OverflowError for bad codes.
    """
    given = [inputs[own] if own in inputs else inputs[name] for name, own, *_ in INPUTS]
    data = [_to_words(own, shape, words, codes) for (_, own, shape, words, *_), codes in zip(INPUTS, given)]
    counts = {{len(codes) for codes in given}}
    if len(counts) != 1:
        raise ValueError(f"the inputs have different numbers of events: {{sorted(counts)}}")
    events = counts.pop()
    sizes = [events * int(np.prod(shape, dtype=np.int64)) * words for _, _, shape, words, *_ in OUTPUTS]
    results = [np.empty(size, dtype=np.int64) for size in sizes]
    bad = (ctypes.c_uint64 * 3)()
    code = _run(
        (ctypes.c_void_p * len(data))(*(array.ctypes.data for array in data)),
        (ctypes.c_void_p * len(results))(*(array.ctypes.data for array in results)),
        events,
        threads,
        bad,
    )
    if code == 1:
        name = INPUTS[bad[1]][1]
        raise ValueError(f"input {{name}}: event {{bad[0]}}, element {{bad[2]}} is outside its promised range")
    if code != 0:
        raise MemoryError("the emulator ran out of memory")
    codes = [
        _from_words(shape, words, result, events) for (_, _, shape, words, *_), result in zip(OUTPUTS, results)
    ]
    found = {{name: array for (name, *_), array in zip(OUTPUTS, codes)}}
    found.update({{own: array for (_, own, *_), array in zip(OUTPUTS, codes)}})
    return found
'''


def binding_source(name: str, banner: str, symbol: str, inputs: Sequence[Port], outputs: Sequence[Port]) -> str:
    """Source of `<name>.py`."""
    return _TEMPLATE.format(banner=banner, name=name, symbol=symbol, inputs=_entries(inputs), outputs=_entries(outputs))


def _entries(ports: Sequence[Port]) -> str:
    return "".join(
        f"    ({port.name!r}, {port.shown!r}, {port.type.shape!r}, {port.code.words}, {port.type.range.lo!r}, "
        f"{port.type.range.hi!r}, {port.type.range.frac!r}),\n"
        for port in ports
    )
