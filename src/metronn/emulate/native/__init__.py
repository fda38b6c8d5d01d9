"""The compiled emulator: C++17 generated from an integer graph, bit-equal to the NumPy emulator."""

from metronn.emulate.native.emulator import NativeEmulator
from metronn.emulate.native.generate import generate, write_files

__all__ = ["NativeEmulator", "generate", "write_files"]
