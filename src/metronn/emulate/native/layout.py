"""Where each value of a block lives: offsets in one arena, reused as soon as a value has been read last."""

from __future__ import annotations

from dataclasses import dataclass, field

BLOCK_EVENTS = 64
"""Events of a block; `block_events` in metronn_runtime.hpp."""
ALIGNMENT = 64


@dataclass(slots=True)
class Arena:
    """First-fit allocation of byte ranges that are multiples of the alignment."""

    live: list[tuple[int, int]] = field(default_factory=list)
    size_bytes: int = 0

    def take(self, size_bytes: int) -> int:
        """Reserve a range and return its offset: the lowest gap it fits."""
        size = -(-size_bytes // ALIGNMENT) * ALIGNMENT
        offset = 0
        for start, length in sorted(self.live):
            if start - offset >= size:
                break
            offset = max(offset, start + length)
        self.live.append((offset, size))
        self.size_bytes = max(self.size_bytes, offset + size)
        return offset

    def release(self, offset: int) -> None:
        """Give the range that starts at `offset` back."""
        self.live = [item for item in self.live if item[0] != offset]
