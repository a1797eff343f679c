"""Trees in tables: token ids side by side in Arrow's memory, and trees made of them when asked for.

A tree of 335 tokens is 11 kB as Python's integers, and 0.7 to 1.4 kB here. A table may lie in
memory or in a file that is mapped into it; a tree of it is the same.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise

import numpy as np
import pyarrow as pa

from accord.data.lazy import Lazy, Places
from accord.types import Tree

UNLABELLED = -1
WIDE = "I"  # 4 bytes an id; where the vocabulary fits, NARROW has 2
NARROW = "H"
MOST_NARROW = 1 << 16
STREAMED = 1024  # trees that are written as numbers at once: 3 MB
TYPES = {WIDE: pa.uint32(), NARROW: pa.uint16()}


class TreeBlock:
    """Trees that are collected, to become a table."""

    def __init__(self, vocabulary: int) -> None:
        self.code = NARROW if vocabulary <= MOST_NARROW else WIDE
        self.ids = array(self.code)  # of the prompts
        self.ends = array("i", [0])
        self.answer_ids = array(self.code)
        self.answer_ends = array("i", [0])
        self.counts = array("i", [0])  # answers up to each tree
        self.rows, self.labels = array("q"), array("b")
        self.hashes, self.shapes = array("Q"), array("q")
        self.cut, self.drawn_cut = array("b"), array("b")
        self.turns_cut = array("i")

    def __len__(self) -> int:
        return len(self.rows)

    def add(
        self, tree: Tree, shape: int, *, turns_cut: int = 0, cut: bool = False, drawn_cut=False
    ) -> None:
        """Add a tree, the number of its shape, and what was cut off it."""
        self.ids.extend(tree.prompt)
        self.ends.append(len(self.ids))
        for completion in tree.completions:
            self.answer_ids.extend(completion)
            self.answer_ends.append(len(self.answer_ids))
        self.counts.append(len(self.answer_ends) - 1)
        self.rows.append(tree.row)
        self.labels.append(UNLABELLED if tree.desirable is None else int(tree.desirable))
        self.hashes.append(prompt_hash(tree.prompt))
        self.shapes.append(shape)
        self.turns_cut.append(turns_cut)
        self.cut.append(cut)
        self.drawn_cut.append(drawn_cut)

    def table(self) -> pa.RecordBatch:
        """Return the trees as one table."""
        of = TYPES[self.code]
        answers = _lists(self.answer_ends, pa.array(np.asarray(self.answer_ids), of))
        columns = {
            "prompt": _lists(self.ends, pa.array(np.asarray(self.ids), of)),
            "completions": _lists(self.counts, answers),
            "row": self.rows,
            "label": self.labels,
            "prompt_hash": self.hashes,
            "shape": self.shapes,
            "turns_cut": self.turns_cut,
            "cut": self.cut,
            "drawn_cut": self.drawn_cut,
        }
        arrays = {
            name: column if isinstance(column, pa.Array) else pa.array(np.asarray(column))
            for name, column in columns.items()
        }
        return pa.RecordBatch.from_arrays(list(arrays.values()), list(arrays))


def _lists(ends: array, values: pa.Array) -> pa.Array:
    return pa.ListArray.from_arrays(pa.array(np.asarray(ends, np.int32)), values)


def prompt_hash(prompt: Sequence[int]) -> int:
    """Hash token ids to 64 bits: the same ids give the same number, on every machine."""
    raw = array("I", prompt).tobytes()
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "little")


class _Columns:
    """The columns of a table as arrays, which are views of its memory.

    Args:
      first: the index of the file's first example among those of all files.
    """

    def __init__(self, table: pa.RecordBatch, first: int = 0) -> None:
        prompts, answers = table.column("prompt"), table.column("completions")
        self.table, self.count, self.first = table, table.num_rows, first
        self.ends = prompts.offsets.to_numpy()
        self.ids = prompts.values.to_numpy()
        self.counts = answers.offsets.to_numpy()
        self.answer_ends = answers.values.offsets.to_numpy()
        self.answer_ids = answers.values.values.to_numpy()

    def of(self, name: str) -> np.ndarray:
        found = self.table.column(name).to_numpy()
        return found + self.first if name == "row" and self.first else found

    def prompt(self, at: int) -> tuple[int, ...]:
        return tuple(self.ids[self.ends[at] : self.ends[at + 1]].tolist())

    def streamed(self, begin: int, end: int, labels: np.ndarray, margins: np.ndarray) -> np.ndarray:
        """Return some trees as one row of little-endian int64: of each its label, the bits of its
        margin, the number of its answers, the length of its prompt and of each answer, and all ids.
        """
        ends, counts = self.ends[begin : end + 1], self.counts[begin : end + 1]
        answer_ends = self.answer_ends[counts]  # where each tree's answers begin and end
        answers, prompt, tokens = np.diff(counts), np.diff(ends), np.diff(answer_ends)
        sizes = 4 + answers + prompt + tokens
        start = np.cumsum(sizes) - sizes
        out = np.empty(int(sizes.sum()), "<i8")
        out[start], out[start + 1] = labels, margins.astype("<f8").view("<i8")
        out[start + 2], out[start + 3] = answers, prompt
        behind = start + 4
        for offsets, lengths, values in (
            (counts, answers, np.diff(self.answer_ends[counts[0] : counts[-1] + 1])),
            (ends, prompt, self.ids[ends[0] : ends[-1]]),
            (answer_ends, tokens, self.answer_ids[answer_ends[0] : answer_ends[-1]]),
        ):
            places = np.arange(offsets[0], offsets[-1])
            out[np.repeat(behind - offsets[:-1], lengths) + places] = values
            behind = behind + lengths
        return out

    def completions(self, at: int) -> tuple[tuple[int, ...], ...]:
        edges = self.answer_ends[self.counts[at] : self.counts[at + 1] + 1].tolist()
        return tuple(tuple(self.answer_ids[a:b].tolist()) for a, b in pairwise(edges))


class Trees(Lazy[Tree]):
    """The trees of tables, one behind the other; made when they are asked for.

    Args:
      margins: by how much each pair's chosen answer should score above the rejected one, [N].
    """

    def __init__(self, tables: Iterable[pa.RecordBatch], margins: np.ndarray | None = None) -> None:
        self._take([_Columns(table) for table in tables], margins)

    def _take(self, tables: list[_Columns], margins: np.ndarray | None) -> None:
        self._tables = tables
        self._places = Places(each.count for each in tables)
        self.margins = margins
        self.digest: str | None = None  # of all trees, where it is known

    @classmethod
    def joined(cls, files: Sequence[Trees], examples: Sequence[int]) -> Trees:
        """Return the trees of several files, one behind the other.

        Args:
          examples: the examples of each file; the rows of later files count on from them.
        """
        firsts = np.cumsum([0, *examples]).tolist()
        made = cls([])
        tables = [
            _Columns(table.table, first + table.first)
            for trees, first in zip(files, firsts[:-1], strict=True)
            for table in trees._tables
        ]
        known = [each.margins for each in files]
        margins = None
        if any(each is not None for each in known):
            margins = np.concatenate(
                [
                    np.zeros(len(trees)) if own is None else own
                    for trees, own in zip(files, known, strict=True)
                ]
            )
        made._take(tables, margins)
        return made

    def __len__(self) -> int:
        return self._places.end

    def made(self, at: int) -> Tree:
        number, place = self._places.part(at)
        return self._tree(self._tables[number], place, at)

    def __iter__(self) -> Iterator[Tree]:
        at = 0
        for table in self._tables:
            for place in range(table.count):
                yield self._tree(table, place, at)
                at += 1

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def _tree(self, table: _Columns, place: int, at: int) -> Tree:
        label = int(self.labels[at])
        return Tree(
            table.prompt(place),
            table.completions(place),
            int(self.rows[at]),
            None if label == UNLABELLED else bool(label),
            0.0 if self.margins is None else float(self.margins[at]),
        )

    def with_margins(self, margins: np.ndarray) -> Trees:
        """Return the same trees with margins, [N]."""
        made = Trees([])
        made._take(self._tables, margins)
        return made

    # ------------------------------------------------------------ columns, [N]

    def column(self, name: str) -> np.ndarray:
        """Return a column of all tables."""
        found = [each.of(name) for each in self._tables]
        return np.concatenate(found) if found else np.empty(0, np.int64)

    @cached_property
    def rows(self) -> np.ndarray:
        """The index of each tree's example, ascending."""
        return self.column("row")

    @cached_property
    def labels(self) -> np.ndarray:
        """1: desirable, 0: undesirable, UNLABELLED: no label."""
        return self.column("label")

    @cached_property
    def prompt_hashes(self) -> np.ndarray:
        """The hash of each prompt's token ids, see `prompt_hash`."""
        return self.column("prompt_hash")

    @cached_property
    def lengths(self) -> np.ndarray:
        """The unique tokens of each tree."""
        return _joined(
            np.diff(each.ends) + np.diff(each.answer_ends[each.counts]) for each in self._tables
        )

    @cached_property
    def longest(self) -> np.ndarray:
        """Tokens of each prompt and of the longest of its answers."""
        return _joined(
            np.diff(each.ends) + np.maximum.reduceat(np.diff(each.answer_ends), each.counts[:-1])
            for each in self._tables
            if each.count
        )

    def streamed(self) -> Iterator[np.ndarray]:
        """Yield all that the trees hold but their rows, as numbers; see `_Columns.streamed`."""
        at = 0
        for table in self._tables:
            for begin in range(0, table.count, STREAMED):
                end = min(table.count, begin + STREAMED)
                here = slice(at + begin, at + end)
                margins = np.zeros(end - begin) if self.margins is None else self.margins[here]
                yield table.streamed(begin, end, self.labels[here], margins)
            at += table.count

    def used_ids(self) -> np.ndarray:
        """Return the token ids that occur, ascending."""
        parts = [ids for table in self._tables for ids in (table.ids, table.answer_ids)]
        largest = max((int(ids.max()) for ids in parts if len(ids)), default=-1)
        seen = np.zeros(largest + 1, bool)  # 330 M ids: 1.1 s, where np.unique took 6.7
        for ids in parts:
            seen[ids] = True
        return np.flatnonzero(seen)

    def spread(self, count: int) -> list[Tree]:
        """Return so many trees, evenly from the first to the last, and the shortest and the
        longest, in order.
        """
        if len(self) <= count:
            return list(self)
        chosen = {round(k * (len(self) - 1) / (count - 1)) for k in range(count)}
        chosen |= {int(self.lengths.argmin()), int(self.lengths.argmax())}
        return [self[at] for at in sorted(chosen)]


def _joined(parts: Iterable[np.ndarray]) -> np.ndarray:
    found = list(parts)
    return np.concatenate(found) if found else np.empty(0, np.int64)


def packed(trees: Iterable[Tree], vocabulary: int = MOST_NARROW + 1) -> Trees:
    """Return trees as a table in memory."""
    if isinstance(trees, Trees):
        return trees
    block = TreeBlock(vocabulary)
    margins = array("d")
    for tree in trees:
        block.add(tree, 0)
        margins.append(tree.margin)
    return Trees([block.table()], np.asarray(margins) if any(margins) else None)
