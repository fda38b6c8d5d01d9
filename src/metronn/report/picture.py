"""Pictures of the user's own in a report, such as an example's physics plots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from metronn.errors import ModelError

KINDS = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg", ".svg": "image/svg+xml"}
SIGNATURES = {".png": b"\x89PNG\r\n\x1a\n", ".jpg": b"\xff\xd8", ".jpeg": b"\xff\xd8"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture file: its name, its content, and its media type."""

    file: str
    content: bytes
    media: str

    @property
    def title(self) -> str:
        """The file's name as words."""
        return Path(self.file).stem.replace("_", " ")


def read_pictures(paths: Sequence[Path]) -> tuple[Picture, ...]:
    """Read picture files. Raises ModelError listing all that are missing or no pictures."""
    found, problems = [], []
    for path in paths:
        suffix = path.suffix.lower()
        if suffix not in KINDS:
            problems.append(f"picture {path}: the suffix is {suffix or 'missing'}, allowed are {', '.join(KINDS)}")
            continue
        try:
            content = path.read_bytes()
        except OSError as error:
            problems.append(f"picture {path}: cannot be read: {error.strerror}")
            continue
        if not content.startswith(SIGNATURES.get(suffix, b"")) or not content:
            problems.append(f"picture {path}: its content is not that of a {suffix} file")
            continue
        found.append(Picture(file=path.name, content=content, media=KINDS[suffix]))
    if problems:
        raise ModelError("\n".join(problems))
    return tuple(found)


def read_build_pictures(folder: Path) -> tuple[Picture, ...]:
    """Read the pictures kept in a build."""
    kept = folder / "report"
    return read_pictures(sorted(path for path in kept.glob("*") if path.suffix.lower() in KINDS))
