"""The first rows of a split of a hub: its shards are fetched one after the other, as many as these
rows need, and the rest never.

How many rows a shard has is known once it is here: a Parquet file says it, others are read. What
was counted is written down, so that the next command knows which shards it needs.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from accord.data.streams import count_rows
from accord.environment.hub import store
from accord.environment.hub.client import Listing
from accord.environment.hub.names import HubName
from accord.environment.own_code import own_code
from accord.errors import plural
from accord.types import DataError


@dataclass(frozen=True)
class FirstRows:
    """The shards that hold the first rows of a split."""

    files: list[str]
    rows: int  # so many are read of them
    note: str  # what was not looked at


def fetch_first(
    name: HubName, listing: Listing, files: Sequence[str], gap: DataError | None
) -> FirstRows:
    """Fetch the shards that the first rows of a split need.

    Args:
      name: pinned; it says how many rows are wanted.
      files: the split's, in order, up to the first that is missing.
      gap: the error that one is missing, if so.

    Raises:
      AccordError: a shard cannot be fetched. CheckpointError: the disk has no room for it.
      DataError: the rows reach a shard that is missing; a shard is damaged.
    """
    wanted, rows = name.first or 0, 0
    counts, progress = _Counts(listing.name), _Progress(name, listing, files)
    for number, file in enumerate(files, 1):
        progress.before(file, rows)
        root = store.fetch(listing, [file], name, quietly=True, instead=_fewer(name, rows))
        found, whole = counts.of(file, root / file, wanted - rows)
        rows += found
        if rows >= wanted:
            unread = [f"further rows of {file}"] if not whole or rows > wanted else []
            if left := len(files) - number:
                unread.append(plural(left, "further file"))
            if gap is not None:
                unread.append("shards behind one that is missing")
            return FirstRows(list(files[:number]), wanted, _note(wanted, unread))
    if gap is not None:
        raise DataError(f"{gap} The shards in front of it hold {plural(rows, 'row')}.") from gap
    return FirstRows(
        list(files), rows, f"all {plural(rows, 'row')} are read: there are no {wanted:,}"
    )


def _fewer(name: HubName, rows: int) -> str:
    """Say which rows can be read without another shard."""
    if not rows:
        return "Or name a smaller file of it behind #."
    return f"Or take fewer rows; those of the shards that are here: {replace(name, first=rows)}"


def _note(wanted: int, unread: Sequence[str]) -> str:
    """Say what is not looked at."""
    told = f"not looked at: {', '.join(unread)}" if unread else "there are no others"
    return f"the first {plural(wanted, 'row')} of the split are read; {told}"


class _Counts:
    """The numbers of rows that the shards of a commit have, as far as they were counted."""

    WHAT = "rows"

    def __init__(self, name: HubName) -> None:
        self.name, self.code = name, own_code("data")
        noted = store.noted(name, self.WHAT, self.code)
        self.known: dict[str, list] = {
            path: found
            for path, found in noted.items()
            if isinstance(found, list) and list(map(type, found)) == [int, bool]
        }

    def of(self, path: str, file: Path, most: int) -> tuple[int, bool]:
        """Count the rows of a shard; where it is read for that, no further than `most`.

        Returns:
          the rows that were counted, and whether they are all.
        """
        count, whole = self.known.get(path, (0, False))
        if not whole and count < most:
            try:
                count, whole = count_rows(file, path, most)
            except DataError as error:
                named = str(error).startswith(path)
                raise DataError(
                    f"{self.name.whole}#{'' if named else f'{path}: '}{error}"
                ) from None
            self.known[path] = [count, whole]
            store.note(self.name, self.WHAT, self.code, self.known)
        return count, whole


class _Progress:
    """Says how far the fetching is: once when it begins, then every ten seconds."""

    def __init__(self, name: HubName, listing: Listing, files: Sequence[str]) -> None:
        self.name, self.listing, self.files = name, listing, files
        self.said = 0.0

    def before(self, file: str, rows: int) -> None:
        """Say what there is to say before a shard is fetched."""
        if not store.missing(self.listing, [file]):
            return
        if not self.said:
            size = store.size_in_words(sum(self.listing.files[each].size for each in self.files))
            store.say(
                f"{self.name}: fetching shards one after the other until they hold so many rows;"
                f" the whole split is {plural(len(self.files), 'file')}, {size}"
            )
        elif time.monotonic() - self.said >= store.EVERY:
            store.say(f"{rows:,} of {self.name.first:,} rows are here; fetching {file}")
        else:
            return
        self.said = time.monotonic()
