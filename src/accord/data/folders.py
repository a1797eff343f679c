"""Folders of data files: saved by `datasets`, laid out as on a hub, or a pattern of names."""

from __future__ import annotations

import glob
import json
import os
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from accord.data.shards import data_files, describe, natural, one_data_set, siblings
from accord.errors import plural
from accord.types import DataError

FILES = 100_000  # a folder of more is no data set
# Files that a folder of save_pretrained holds, and a folder of data never.
OF_MODELS = (
    "tokenizer.json",
    "tokenizer_config.json",
    "generation_config.json",
    "model.safetensors",
    "adapter_config.json",
)
CARD_BYTES = 1 << 20  # of README.md and dataset_info.json


@dataclass(frozen=True)
class Parts:
    """The files that a name stands for, in order."""

    files: list[Path]
    names: list[str]  # of the files, as the digest and messages name them
    notes: list[str] = field(default_factory=list)
    partial: str = ""  # a note that the files are a part of a data set
    rows: int | None = None  # so many rows of them, from the first file on; None: all
    # column -> its type as `datasets` describes it, where the folder says so
    features: Mapping[str, Any] = field(default_factory=dict)


def parts_of(path: Path) -> Parts:
    """List the files of a data set: a file, a folder or a pattern.

    Raises:
      DataError: there is none, or there are several data sets.
    """
    _refuse_model(path)
    if path.is_dir():
        return _folder(path)
    if path.is_file() or not glob.has_magic(str(path)):
        return Parts([path], [path.name], partial=_shard_note(path))
    return _pattern(str(path))


def _refuse_model(path: Path) -> None:
    """Refuse a model's folder, and the files of one that are JSON.

    Raises:
      DataError: it is one.
    """
    folder, known = (path, False) if path.is_dir() else (path.parent, path.name in OF_MODELS)
    if path.is_file() and not known:
        return
    if any((folder / name).is_file() for name in OF_MODELS):
        kind = "this is a model's folder" if path.is_dir() else "this file belongs to a model"
        raise DataError(
            f"{path}: {kind}, and no preferences. A model is given with --model {folder}; name a"
            " file of preferences as the data."
        )


def _shard_note(path: Path) -> str:
    if "of" not in path.name.lower():
        return ""
    try:
        return siblings(path.name, os.listdir(path.parent))
    except OSError:  # the folder may be entered and not listed
        return siblings(path.name, [])


def _pattern(text: str) -> Parts:
    found = sorted(filter(os.path.isfile, glob.iglob(text, recursive=True)), key=natural)
    if not found:
        raise DataError(f"{text}: no file matches this pattern.")
    if len(found) > FILES:
        raise DataError(f"{text}: over {FILES:,} files match this pattern.")
    base = os.path.commonpath([os.path.dirname(name) or "." for name in found])
    relative = {Path(os.path.relpath(name, base)).as_posix(): name for name in found}
    _, other = data_files(list(relative))
    beside = _beside(list(relative), base)
    names = _one(text, list(relative), base, chosen=True, beside=beside)
    if not names:
        raise DataError(
            f"{text}: none of the {len(found):,} files that match is a data file by its name"
            f" ({', '.join(other[:6]) or 'README and its like'})."
        )
    return Parts(
        [Path(relative[name]) for name in names],
        names,
        _account(names, other),
        _subset_note(names, beside),
    )


def _beside(chosen: list[str], base: str) -> list[str]:
    """List the files in the folders of chosen files that were not chosen."""
    found = []
    for folder in {os.path.dirname(name) for name in chosen}:
        try:
            inside = os.listdir(os.path.join(base, folder))
        except OSError:  # the folder may be entered and not listed
            continue
        found += [os.path.join(folder, name) for name in inside[:FILES]]
    return sorted(set(found) - set(chosen))


def _subset_note(names: list[str], beside: list[str]) -> str:
    """Say that a pattern leaves out shards of a set that it begins."""
    files = [file for file in map(describe, names) if file.of is not None]
    sets = {(file.base, file.of, file.container) for file in files}
    left = [each for each in map(describe, beside) if (each.base, each.of, each.container) in sets]
    if not left:
        return ""
    return (
        f"{len(files):,} of {len(files) + len(left):,} shards are read; {left[0].name} is not, for"
        " one"
    )


def _one(shown: str, names: list[str], base: str | Path, **options: Any) -> list[str]:
    try:
        return one_data_set(names, lambda name: shlex.quote(os.path.join(base, name)), **options)
    except DataError as error:
        raise DataError(f"{shown}: {error}") from error


def _account(names: list[str], other: list[str]) -> list[str]:
    """Say which files were read, and which were not."""
    if len(names) == 1:
        notes = [f"read from {names[0]}, the only data file there"]
    else:
        notes = [f"read from {plural(len(names), 'file')}, {names[0]} to {names[-1]}"]
    if other:
        more = ", …" if len(other) > 6 else ""
        notes.append(f"not read, since the name is no data file's: {', '.join(other[:6])}{more}")
    return notes


def _folder(folder: Path) -> Parts:
    """List the files of a folder."""
    if (folder / "dataset_dict.json").is_file():
        return _folder(_only_split(folder))
    if (folder / "state.json").is_file():
        return _saved(folder)
    names = _walk(folder)
    card = card_of(folder)
    chosen, notes = _configured(folder, names, card)
    _, other = data_files(names)
    if chosen is None:
        chosen = _one(str(folder), names, folder)
    if not chosen:
        inside = ", ".join(sorted(entry.name for entry in folder.iterdir())[:6]) or "nothing"
        raise DataError(
            f"{folder}: this folder is no dataset: it has no data file (JSONL, JSON, CSV, Parquet,"
            f" Arrow) and no state.json of save_to_disk; it holds {inside}. Name a data file."
        )
    return Parts(
        [folder / name for name in chosen],
        chosen,
        [*notes, *_account(chosen, other)],
        features=card_features(card),
    )


def _walk(folder: Path) -> list[str]:
    """List the files below a folder, with slashes. Links to folders are not followed."""
    found: list[str] = []
    for where, folders, files in os.walk(folder):
        folders[:] = sorted(each for each in folders if not each.startswith((".", "__")))
        base = Path(where).relative_to(folder).as_posix()
        found += [name if base == "." else f"{base}/{name}" for name in sorted(files)]
        if len(found) > FILES:
            raise DataError(
                f"{folder}: it holds over {FILES:,} files. Name the data files by a pattern, such"
                f" as '{folder}/*.jsonl'."
            )
    return found


# ---------------------------------------------------------------- a data set's card


def card_of(folder: Path) -> Mapping[str, Any]:
    """Read the head of README.md, which a hub reads too."""
    file = folder / "README.md"
    try:
        with open(file, encoding="utf-8", errors="replace") as stream:
            text = stream.read(CARD_BYTES)
    except OSError:
        return {}
    head = re.match(r"---\r?\n(.*?)\r?\n---", text, re.DOTALL)
    if head is None:
        return {}
    if re.search(r"[&*]\w+[ \t]*$", head[1], re.MULTILINE):
        return {}  # aliases of YAML, which can stand for more than a memory holds
    try:
        value = yaml.safe_load(head[1])
    except (yaml.YAMLError, RecursionError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def _configured(
    folder: Path, names: list[str], card: Mapping[str, Any]
) -> tuple[list[str] | None, list[str]]:
    """Return the files of the only split that README.md lists under `configs`, and notes; None
    where it lists none.

    Raises:
      DataError: it lists several splits or configurations, or no file that is there.
    """
    listed = list(listed_splits(card))
    if not listed:
        return None, []
    found = []
    for config, split, patterns in listed:
        files = [name for name in names if any(fits_pattern(name, pattern) for pattern in patterns)]
        if files:
            found.append((f"{config}/{split}", patterns, sorted(set(files), key=natural)))
    if not found:
        raise DataError(
            f"{folder}: README.md lists data files under `configs` and none of them is there"
            f" ({listed[0][2][0]!r:.100}). Fetch them, or name a file."
        )
    if len(found) > 1:
        lines = [
            f"{folder}: its README.md lists {len(found)} splits or configurations, and rows of"
            " several are not joined. Name one:"
        ]
        for label, patterns, files in found[:8]:
            text = files[0] if len(files) == 1 else patterns[0]
            lines.append(
                f"  {shlex.quote(str(folder / text))}    ({label}, {len(files):,} file(s))"
            )
        raise DataError("\n".join(lines))
    label, _, files = found[0]
    kept = _one(str(folder), files, folder, chosen=True)
    return kept, [f"README.md names these files as {label}"]


def listed_splits(card: Mapping[str, Any]):
    """Yield (configuration, split, patterns) of a card."""
    configs = card.get("configs")
    for config in configs if isinstance(configs, list) else []:
        if not isinstance(config, dict) or "data_files" not in config:
            continue
        files, name = config["data_files"], str(config.get("config_name", "default"))
        if isinstance(files, dict):
            files = [{"split": split, "path": paths} for split, paths in files.items()]
        for entry in files if isinstance(files, list) else [files]:
            split = entry.get("split", "train") if isinstance(entry, dict) else "train"
            paths = entry.get("path") if isinstance(entry, dict) else entry
            paths = [str(path) for path in (paths if isinstance(paths, list) else [paths]) if path]
            if paths:
                yield name, str(split), paths


def fits_pattern(name: str, pattern: str) -> bool:
    """Match as the hub does: ** crosses folders, * does not."""
    rule = re.escape(pattern.removeprefix("./")).replace(r"\*\*/", "(?:[^/]+/)*")
    rule = rule.replace(r"\*\*", ".*").replace(r"\*", "[^/]*").replace(r"\?", "[^/]")
    return re.fullmatch(rule, name) is not None


def card_features(card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns that a card says are class labels, as `datasets` describes them."""
    info = card.get("dataset_info")
    if isinstance(info, list) and len(info) == 1:
        info = info[0]
    listed = info.get("features") if isinstance(info, dict) else None
    found = {}
    for each in listed if isinstance(listed, list) else []:
        kind = each.get("dtype") if isinstance(each, dict) else None
        names = kind.get("class_label", {}).get("names") if isinstance(kind, dict) else None
        if isinstance(names, dict) and all(str(key).isdigit() for key in names):
            names = [names[key] for key in sorted(names, key=lambda key: int(str(key)))]
        if isinstance(names, list):
            found[str(each.get("name"))] = {"_type": "ClassLabel", "names": list(map(str, names))}
    return found


# ---------------------------------------------------------------- folders of save_to_disk


def _saved(folder: Path) -> Parts:
    """List the Arrow files of a dataset that `save_to_disk` wrote, in order."""
    state = folder / "state.json"
    try:
        recorded = json.loads(state.read_text("utf-8"))
        files = [folder / Path(each["filename"]).name for each in recorded["_data_files"]]
        indices = recorded.get("_indices_data_files") or recorded.get("_indices_files")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{state}: not readable as the state of a saved dataset. Save it again."
        ) from error
    if indices:
        raise DataError(
            f"{folder}: an old release of datasets saved a selection of its rows beside them."
            " Load it there and save it again after dataset.flatten_indices()."
        )
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise DataError(
            f"{folder}: {missing[0]} is missing, which state.json names. Copy the whole folder"
            " again."
        )
    return Parts(files, [file.name for file in files], features=_info_features(folder))


def _info_features(folder: Path) -> Mapping[str, Any]:
    try:
        with open(folder / "dataset_info.json", encoding="utf-8") as stream:
            features = json.loads(stream.read(CARD_BYTES)).get("features")
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}
    return features if isinstance(features, dict) else {}


def _only_split(folder: Path) -> Path:
    splits = [entry for entry in sorted(folder.iterdir()) if (entry / "state.json").is_file()]
    if len(splits) != 1:
        found = ", ".join(str(split) for split in splits) or "none"
        raise DataError(f"{folder}: a dataset of {len(splits)} splits; name one of them: {found}.")
    return splits[0]
