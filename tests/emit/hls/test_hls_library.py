"""The HLS library by itself: every header alone, and many cases of every template in one translation unit."""

from __future__ import annotations

import ctypes
from pathlib import Path

import pytest

from metronn.emit.hls.project import template_directory
from metronn.ir.infer import overflowed, round_shift
from metronn.ir.ops import Overflow, Rounding
from metronn.verify.hls import compile_flags, run_compiler

HEADERS = sorted(path.name for path in (template_directory() / "metronn").glob("*.hpp"))
CASES = Path(__file__).parent / "library_cases.cpp"


@pytest.mark.slow
@pytest.mark.usefixtures("hls_compiler")
@pytest.mark.parametrize("header", HEADERS)
def test_header_compiles_alone(tmp_path: Path, header: str) -> None:
    """Each header includes all it needs, twice does no harm, and nothing warns."""
    unit = tmp_path / "alone.cpp"
    unit.write_text(f'#include "metronn/{header}"\n#include "metronn/{header}"\n')
    run_compiler([*compile_flags(template_directory(), strict=True), "-fsyntax-only", str(unit)], header)


@pytest.mark.slow
@pytest.mark.usefixtures("hls_compiler")
@pytest.mark.parametrize("standard", ["c++17", "c++20"])
def test_newer_standards(standard: str) -> None:
    """The library and its cases compile without warnings under later standards too."""
    flags = [*compile_flags(template_directory(), strict=True), f"-std={standard}", "-fsyntax-only"]
    run_compiler([*flags, str(CASES)], standard)


@pytest.mark.parametrize("header", HEADERS)
def test_header_form(header: str) -> None:
    """A header says what it is first, has a guard of its own name, and labels every loop that has a pragma."""
    text = (template_directory() / "metronn" / header).read_text(encoding="utf-8")
    assert text.startswith("// ")
    macro = f"METRONN_{Path(header).stem.upper()}_HPP"
    assert f"#ifndef {macro}\n#define {macro}\n" in text
    lines = text.splitlines()
    for number, line in enumerate(lines[:-1]):
        if line.lstrip().startswith("for (") and lines[number + 1].startswith("#pragma HLS"):
            assert lines[number - 1].strip().rstrip(":").isidentifier(), f"{header}:{number + 1}: the loop has no label"
    assert max(len(line) for line in lines) <= 120


@pytest.fixture(scope="module")
def library_cases(hls_compiler: None, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """Compile the cases of library_cases.cpp once."""
    library = tmp_path_factory.mktemp("library") / "cases.so"
    flags = [*compile_flags(template_directory(), strict=True), "-O0", "-shared", "-fPIC"]
    run_compiler([*flags, str(CASES), "-o", str(library)], CASES.name)
    return ctypes.CDLL(str(library))


CASE_NAMES = (
    "dense", "large_dense", "wide_dense", "reduce", "elementwise", "wires", "tables", "words", "stream_maps",
    "stream_words", "stream_dense", "stream_reduce", "reorder", "windows",
)  # fmt: skip


@pytest.mark.parametrize("case", CASE_NAMES)
def test_case(library_cases: ctypes.CDLL, case: str) -> None:
    """Each case returns the line of the first check that fails, or 0."""
    line = getattr(library_cases, f"case_{case}")()
    assert line == 0, f"{CASES.name}:{line} does not hold"


@pytest.mark.parametrize("overflow", list(Overflow))
@pytest.mark.parametrize("rounding", list(Rounding))
def test_requantize(library_cases: ctypes.CDLL, rounding: Rounding, overflow: Overflow) -> None:
    """All 12-bit codes at several shifts, against the scalar definition of the IR."""
    entry = library_cases.requantize_code
    entry.argtypes = [ctypes.c_int] * 6
    lo, hi = (-15, 15) if overflow is Overflow.SAT_SYM else (-16, 15)
    modes = list(Rounding).index(rounding), list(Overflow).index(overflow)
    for shift in (-2, 0, 1, 2, 5, 11, 14):
        for code in range(-2048, 2048, 1 if shift < 3 else 3):
            expected = overflowed(round_shift(code, shift, rounding), lo, hi, overflow)
            assert entry(*modes, code, shift, lo, hi) == expected, (code, shift)
