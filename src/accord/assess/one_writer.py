"""A file of lines that several processes make together and the first one writes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from accord.data.growing_file import GrowingFile
from accord.distributed.world import World


@dataclass
class SharedFile:
    """A `GrowingFile` of the first process, whose lines all processes count."""

    world: World
    done: int
    part: Path  # its name while it grows
    file: GrowingFile | None  # on the first rank

    @classmethod
    def begin(cls, world: World, path: str, provenance: Mapping, piece: int = 1) -> SharedFile:
        """Begin the file, or go on with it; see `GrowingFile`.

        Raises:
          UsageError: it cannot be gone on with; on every rank.
        """
        opened: list[GrowingFile] = []

        def begin() -> list:
            opened.append(GrowingFile(path, dict(provenance), piece))
            return [opened[0].done, str(opened[0].part)]

        done, part = world.on_first(begin)
        return cls(world, done, Path(part), opened[0] if opened else None)

    def add(self, rows: list[dict]) -> None:
        """Write some lines, which all ranks have, and flush them to the disk."""

        def write() -> None:
            assert self.file is not None, "the first rank has the file"
            self.file.add(rows)

        self.world.on_first(write)
        self.done += len(rows)

    def finish(self) -> None:
        """Give the file its name."""
        if self.file is not None:
            self.file.finish()
