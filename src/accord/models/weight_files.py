"""The headers of a folder's safetensors files: which tensors they hold, without reading one.

A header is a few kilobytes of JSON in front of the numbers, so this costs nothing, and names what
transformers would report as a traceback, a warning or not at all: a missing shard, a pointer in
place of a file, a file that was cut off.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from accord.types import UsageError

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
LFS = b"version https://git-lfs"  # the first words of a Git LFS pointer
LARGEST_HEADER = 100_000_000  # bytes; safetensors' own limit


@dataclass(frozen=True)
class Stored:
    """One tensor of a file, as its header describes it."""

    file: Path
    dtype: str  # as safetensors writes it: "F32", "BF16", "F8_E4M3", …
    shape: tuple[int, ...]


def stored_tensors(folder: Path, name: str) -> dict[str, Stored]:
    """Read the headers of the files that transformers would load: name of a tensor -> header.

    Raises:
      UsageError: a file is missing, a pointer, or cut off.
    """
    found: dict[str, Stored] = {}
    for file in _files(folder, name):
        found |= _header(file, name)
    return found


def _files(folder: Path, name: str) -> list[Path]:
    if (folder / SINGLE).is_file():
        if (folder / INDEX).is_file():
            raise UsageError(
                f"{name} holds two sets of weights: {SINGLE}, and the files that {INDEX} names."
                f" transformers would take {SINGLE} without a word.\nDelete the set that is not"
                " this model's."
            )
        return [folder / SINGLE]
    if not (folder / INDEX).is_file():
        return sorted(folder.glob("*.safetensors"))
    require_no_pointer(folder / INDEX, name)
    try:
        places = json.loads((folder / INDEX).read_text("utf-8"))["weight_map"]
        shards = sorted({folder / str(shard) for shard in places.values()})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{name}: the model does not load. {INDEX} cannot be read.\nExpected a JSON object"
            " whose weight_map names the file of every tensor; copy the folder again."
        ) from error
    if missing := [shard.name for shard in shards if not shard.is_file()]:
        raise UsageError(
            f"{name}: {len(missing):,} of the {len(shards):,} files of its weights are missing:"
            f" {', '.join(missing[:3])}{', …' if len(missing) > 3 else ''} ({INDEX} names them).\n"
            "The download or the copy is not complete: fetch the missing files."
        )
    return shards


def require_no_pointer(file: Path, name: str) -> None:
    """
    Raises:
      UsageError: the file is a Git LFS pointer.
    """
    with file.open("rb") as opened:
        start = opened.read(len(LFS))
    if start == LFS:
        raise UsageError(
            f"{name}: {file.name} is a pointer of Git LFS, not the file itself: the repository was"
            f" cloned without its large files.\nFetch them: git -C {file.parent} lfs pull"
        )


def _header(file: Path, name: str) -> dict[str, Stored]:
    require_no_pointer(file, name)
    try:
        with file.open("rb") as opened:
            size = int.from_bytes(opened.read(8), "little")
            if size > LARGEST_HEADER:
                raise ValueError("no header of safetensors")
            header = json.loads(opened.read(size))
        tensors = {
            key: Stored(file, value["dtype"], tuple(value["shape"]))
            for key, value in header.items()
            if key != "__metadata__"
        }
        end = max(value["data_offsets"][1] for value in header.values() if "dtype" in value)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(
            f"{name}: the model does not load. {file.name} is no whole safetensors file.\nCopy it"
            " again, or save the model again with save_pretrained."
        ) from error
    if (held := file.stat().st_size) < 8 + size + end:
        raise UsageError(
            f"{name}: the model does not load. {file.name} is cut off: it has {held:,} of"
            f" {8 + size + end:,} bytes.\nThe download or the copy is not complete: fetch it again."
        )
    return tensors
