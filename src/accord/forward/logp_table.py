"""The table of a cached reference: log-probs by the 16 bytes that stand for a completion.

An entry takes 28 bytes, in arrays that are sorted by key; a dict of the same takes ten times that,
and a million pairs have two million entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

BYTES = 16  # of a key
COLUMNS = ("keys", "sums", "counts")  # of a table as tensors, on disk and between ranks
Entry = tuple[float, int]  # sum of log-probs in nats, and how many tokens
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]  # keys [n, 16] uint8, sums [n], counts [n]


class LogpTable(Mapping[bytes, Entry]):
    """Sums of log-probs and counts of tokens by key. A later entry of a key takes the place of an
    earlier one.
    """

    def __init__(self) -> None:
        # each key as two numbers, big-endian, so that they sort as the bytes do
        self._high, self._low = np.empty(0, np.uint64), np.empty(0, np.uint64)
        self._sums, self._counts = np.empty(0, np.float64), np.empty(0, np.int32)
        self._new: list[Arrays] = []  # entries that are not sorted in yet

    # ------------------------------------------------------------ many entries at once

    def put(self, table: Mapping[str, Tensor]) -> None:
        """Take the entries of a table: keys [n, 16], sums [n] and counts [n]."""
        keys, sums, counts = (table[name].numpy() for name in COLUMNS)
        self._new.append((keys, sums, counts))

    def update(self, entries: Mapping[bytes, Entry]) -> None:
        """Take the entries of a mapping."""
        self.put(as_table(entries))

    def __ior__(self, entries: Mapping[bytes, Entry]) -> LogpTable:
        self.update(entries)
        return self

    def __setitem__(self, key: bytes, value: Entry) -> None:
        self.update({key: value})

    def has(self, keys: np.ndarray) -> np.ndarray:
        """Tell of each key, [n, 16] uint8, whether it is there, [n] bool."""
        return self._places(keys) >= 0

    def entries(self, keys: np.ndarray) -> dict[str, Tensor]:
        """Return the entries of keys, [n, 16] uint8, in their order, as tensors.

        Raises:
          KeyError: one is not there.
        """
        places = self._places(keys)
        if (places < 0).any():
            raise KeyError(keys[int(np.argmax(places < 0))].tobytes())
        return as_tensors(keys, self._sums[places], self._counts[places])

    def tensors(self) -> dict[str, Tensor]:
        """Return all entries as tensors."""
        self._sort_in()
        keys = np.stack([self._high, self._low], 1).astype(">u8").view(np.uint8)
        return as_tensors(keys.reshape(-1, BYTES), self._sums, self._counts)

    def _places(self, keys: np.ndarray) -> np.ndarray:
        """Return where keys stand, -1 for those that do not, [n]."""
        self._sort_in()
        high, low = _halves(keys)
        places = np.searchsorted(self._high, high)
        found = np.full(len(places), -1)
        open_ = np.arange(len(places))
        while len(open_):  # a second time for keys whose first half another has too
            open_ = open_[places[open_] < len(self._high)]
            open_ = open_[self._high[places[open_]] == high[open_]]
            same = self._low[places[open_]] == low[open_]
            found[open_[same]] = places[open_[same]]
            open_ = open_[~same]
            places[open_] += 1
        return found

    def _sort_in(self) -> None:
        if not self._new:
            return
        keys, sums, counts = (np.concatenate(each) for each in zip(*self._new, strict=True))
        self._new = []
        high, low = _halves(keys)
        high, low = np.concatenate([self._high, high]), np.concatenate([self._low, low])
        sums, counts = np.concatenate([self._sums, sums]), np.concatenate([self._counts, counts])
        order = np.lexsort((low, high))  # stable: of one key the newest entry comes last
        high, low = high[order], low[order]
        last = np.ones(len(order), bool)
        last[:-1] = (high[1:] != high[:-1]) | (low[1:] != low[:-1])
        self._high, self._low = high[last], low[last]
        self._sums, self._counts = sums[order][last], counts[order][last].astype(np.int32)

    # ------------------------------------------------------------ one entry

    def __getitem__(self, key: bytes) -> Entry:
        place = int(self._places(as_keys([key]))[0])
        if place < 0:
            raise KeyError(key)
        return float(self._sums[place]), int(self._counts[place])

    def __iter__(self) -> Iterator[bytes]:
        for key in self.tensors()["keys"].numpy():
            yield key.tobytes()

    def __len__(self) -> int:
        self._sort_in()
        return len(self._high)


def as_keys(keys: Iterable[bytes]) -> np.ndarray:
    """Return keys side by side, [n, 16] uint8."""
    return np.frombuffer(bytearray().join(keys), np.uint8).reshape(-1, BYTES)


def as_table(entries: Mapping[bytes, Entry]) -> dict[str, Tensor]:
    """Return entries as tensors, for a file or another rank: keys [n, 16], sums [n] and counts
    [n].
    """
    sums, counts = zip(*entries.values(), strict=True) if entries else ((), ())
    return as_tensors(as_keys(entries), np.array(sums, np.float64), np.array(counts, np.int32))


def as_tensors(keys: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> dict[str, Tensor]:
    """Return columns as tensors."""
    columns = keys, sums.astype(np.float64, copy=False), counts.astype(np.int32, copy=False)
    return {
        name: torch.from_numpy(np.ascontiguousarray(column))
        for name, column in zip(COLUMNS, columns, strict=True)
    }


def as_entries(table: Mapping[str, Tensor]) -> dict[bytes, Entry]:
    """Return the entries that a table was made from."""
    columns = (table[name].numpy() for name in COLUMNS)
    return {row.tobytes(): (float(s), int(n)) for row, s, n in zip(*columns, strict=True)}


def first_of_each(keys: np.ndarray) -> np.ndarray:
    """Return the keys, [n, 16] uint8, each once: where it comes first."""
    places = np.unique(np.stack(_halves(keys), 1), axis=0, return_index=True)[1]
    return keys[np.sort(places)]


def _halves(keys: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both halves of keys, [n, 16] uint8, as numbers."""
    pairs = np.ascontiguousarray(keys).view(">u8").astype(np.uint64)
    return pairs[:, 0], pairs[:, 1]
