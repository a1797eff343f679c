"""Data sets of a hub: which files of a repository are the split that was asked for.

The repository's card says it under `configs`; where it says nothing, names do, by the same rules
as for folders (`folders.py`, `shards.py`). Only those files are fetched. A loading script is never
run.
"""

from __future__ import annotations

import glob
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import starmap
from pathlib import Path, PurePosixPath

from accord.data.first_rows import fetch_first
from accord.data.folders import Parts, card_features, card_of, fits_pattern, listed_splits
from accord.data.shards import (
    MissingShards,
    container_of,
    data_files,
    natural,
    one_data_set,
    siblings,
)
from accord.environment.hub import store
from accord.environment.hub.client import Listing
from accord.environment.hub.names import DATASET, HubName, parse
from accord.errors import plural
from accord.types import DataError

CARD, DEFAULT = "README.md", "default"
SHOWN = 12  # splits in a message
CONVERTED = "refs/convert/parquet"  # where the hub keeps its own conversion


@dataclass(frozen=True)
class Split:
    """Files that belong together, by the repository's own word."""

    label: str  # split, or configuration/split
    files: list[str]

    @property
    def is_file(self) -> bool:
        """Tell whether one file was named by its path: a shard, if that is asked for."""
        return self.files == [self.label]


@dataclass(frozen=True)
class Fetched:
    """A split on the disk."""

    name: str  # pinned
    folder: Path
    parts: Parts


def pinned_data(text: str) -> str:
    """Return a data set's hub name at the commit that it stands for now.

    Raises:
      AccordError: there is no such data set or split.
    """
    name = parse(text, DATASET)
    listing = store.located(name)
    pinned = name.at(listing.name.revision)
    _asked(pinned, listing)
    return str(pinned)


def fetch_data(text: str) -> Fetched:
    """Fetch the split that a name asks for, if the cache does not have it.

    Raises:
      AccordError: there is no such split, a shard is missing, or it cannot be fetched.
    """
    name = parse(text, DATASET)
    listing = store.located(name)
    pinned = name.at(listing.name.revision)
    split = _asked(pinned, listing)
    if pinned.first is None:
        files, rows, notes = _whole(pinned, split), None, []
        store.fetch(listing, files, pinned, instead=_instead(pinned, split))
    else:
        found = fetch_first(pinned, listing, *_up_to_a_gap(pinned, split))
        files, rows, notes = found.files, found.rows, [found.note]
    root = store.snapshot(listing.name)
    more = f" to {files[-1]}" * (len(files) > 1)
    notes.insert(0, f"{plural(len(files), 'file')} of the hub: {files[0]}{more}")
    parts = Parts(
        [root / file for file in files],
        files,
        notes,
        partial=_partial(split.files, listing),
        rows=rows,
        features=card_features(_card(root, listing)),
    )
    return Fetched(str(pinned), root, parts)


def _instead(name: HubName, split: Split) -> str:
    """Say what else can be read where the disk has no room for a whole split."""
    one = "" if split.is_file else ", or name one file of it behind #"
    return f"Or take its first rows alone, such as {name.whole}#{split.label}[:100000]{one}."


def _up_to_a_gap(name: HubName, split: Split) -> tuple[list[str], DataError | None]:
    """Return the files of a split in order, up to the first shard that is missing, and the error
    that it is; all files and None where none is.
    """
    try:
        return _whole(name, split), None
    except MissingShards as error:
        return list(error.before), error


def _partial(files: Sequence[str], listing: Listing) -> str:
    """Say that a file is one shard of several; "" for a whole set."""
    if len(files) > 1:
        return ""
    path = PurePosixPath(files[0])
    beside = [each.name for p in listing.files if (each := PurePosixPath(p)).parent == path.parent]
    return siblings(path.name, beside)


def _card(root: Path, listing: Listing):
    return card_of(root) if CARD in listing.files else {}


def _splits(name: HubName, listing: Listing) -> list[Split]:
    """List the splits of a repository: what its card lists, or what its names say.

    Raises:
      DataError: it has no data file that accord reads.
    """
    paths = sorted(listing.files, key=natural)
    if CARD in listing.files:
        card = card_of(store.fetch(listing, [CARD], name, quietly=True))
        listed = [
            Split(_label(config, split), [p for p in paths if _fits_any(p, patterns)])
            for config, split, patterns in listed_splits(card)
        ]
        if found := [split for split in listed if split.files]:
            return found
        if listed:
            raise DataError(
                f"{name}: its card lists data files under `configs`, and the repository has none of"
                f" them at this revision. Name one behind #: {name.whole}#FILE"
            )
    files, _ = data_files(paths)
    if not files:
        raise DataError(f"{name}: {_without_data(name, paths)}")
    groups: dict[str, list[str]] = defaultdict(list)
    for file in files:
        # files that name no split are the training split of a hub
        groups["/".join(part for part in file.group if part) or "train"].append(file.name)
    return list(starmap(Split, groups.items()))


def _fits_any(path: str, patterns: Sequence[str]) -> bool:
    return any(fits_pattern(path, pattern) for pattern in patterns)


def _label(config: str, split: str) -> str:
    return split if config == DEFAULT else f"{config}/{split}"


def _without_data(name: HubName, paths: Sequence[str]) -> str:
    """Say what a repository holds in place of data files."""
    scripts = [path for path in paths if path.endswith(".py")]
    if scripts:
        return (
            f"it has a loading script ({scripts[0]}) and no data file. The script would run foreign"
            " code here, and is not run.\nThe hub keeps a conversion of many such sets:"
            f" {name.at(CONVERTED).whole}" + f"#{name.split}" * bool(name.split)
        )
    inside = ", ".join(paths[:6]) or "nothing"
    return (
        f"it has no data file that accord reads (JSONL, JSON, CSV, Parquet, Arrow). It holds"
        f" {inside}."
    )


def _asked(name: HubName, listing: Listing) -> Split:
    """Return the split, or the files, that a name asks for."""
    if name.split in listing.files:
        return Split(name.split, [name.split])
    return _choose(name, _splits(name, listing), listing)


def _choose(name: HubName, splits: Sequence[Split], listing: Listing) -> Split:
    """Return the split that a name asks for; the only one where it asks for none.

    Raises:
      DataError: there is none of that name, or several could be meant; names all.
    """
    wanted = name.split
    if not wanted:
        if len(splits) == 1:
            return splits[0]
        raise DataError(
            f"{name}: it has {plural(len(splits), 'split')}, and rows of several are not joined."
            f" Name one:{_named(name, splits)}"
        )
    for found in (
        [split for split in splits if split.label == wanted],
        [split for split in splits if split.label.rpartition("/")[2] == wanted],
        [split for split in splits if wanted in split.label.split("/")],
    ):
        if len(found) == 1:
            return found[0]
        if found:
            raise DataError(
                f"{name}: {plural(len(found), 'configuration')} have a split {wanted!r}. Name one:"
                f"{_named(name, found)}"
            )
    matched = [path for path in listing.files if fits_pattern(path, wanted) and container_of(path)]
    if glob.has_magic(wanted) and matched:
        return Split(wanted, matched)
    raise DataError(f"{name}: it has no split {wanted!r}. It has:{_named(name, splits)}")


def _named(name: HubName, splits: Sequence[Split]) -> str:
    lines = [
        f"\n  {name.whole}#{split.label}{name.rows}    ({plural(len(split.files), 'file')})"
        for split in splits[:SHOWN]
    ]
    return "".join(lines) + f"\n  … and {len(splits) - SHOWN:,} more" * (len(splits) > SHOWN)


def _whole(name: HubName, split: Split) -> list[str]:
    """Return the files of a split in order.

    Raises:
      DataError: the files are of several kinds. MissingShards: a shard is missing.
    """
    if split.is_file:
        return split.files
    try:
        return one_data_set(
            split.files, lambda path: f"{name.whole}#{path}", chosen=True, lone=True
        )
    except MissingShards as error:
        raise MissingShards(f"{name}: {error}", error.before) from error
    except DataError as error:
        raise DataError(f"{name}: {error}") from error
