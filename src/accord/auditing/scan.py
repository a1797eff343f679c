"""One pass over a file: keep compact numbers of every row and the texts of a sample.

A pair takes a bounded number of bytes here, whatever its length: hashes, counts, scores, three
MinHash signatures, and the words of a short last turn. Every check afterwards is a few numpy
operations. benchmarks/audit_scale.py measures the memory.

N rows · S sides (2 of a pair, chosen first; 1 of a labelled answer) · F features.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter, deque
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from accord.auditing.blocks import Measured
from accord.auditing.columns import (
    SCORES,
    VOTES,
    Categories,
    declared_flip,
    is_category,
    is_name,
    side_columns,
    side_numbers,
)
from accord.auditing.findings import NOUNS
from accord.auditing.prompts import near_prompts
from accord.auditing.second import Second
from accord.auditing.tables import Tables
from accord.data.containers import Source, locate
from accord.data.ledger import Ledger
from accord.data.naming import PLAIN, Naming
from accord.data.read import Dataset, reread, stream
from accord.types import DataError, Example, FileLine, Labelled, Origin, Pair

BLOCK = 1024  # rows turned into arrays at a time
# Blocks after which a second process measures too. It starts in 1 to 3 s, as long as 5 blocks take.
ALONE = 8
SAMPLE = 10_000  # rows whose texts are kept, for probes and for showing
PEEK = 200  # rows that decide the kind of the file

Progress = Callable[[int], None]


@dataclass(frozen=True)
class Sampled:
    """A row whose texts were kept."""

    row: int
    example: Example


@dataclass
class Scan:
    """The numbers of a file after one pass."""

    name: str
    kind: str  # key of ROW_KINDS
    ledger: Ledger
    formats: Counter
    other_lines: list[int]  # lines of rows of another kind: counted, not checked
    digest: str
    lines: np.ndarray  # [N] int64: the row's line in the file
    prompts: np.ndarray  # [N] uint64: hash of the prompt, turn by turn
    questions: np.ndarray  # [N] uint64: hash of the normalised prompt
    answers: np.ndarray  # [N, S] uint64: hash of each answer
    folded: np.ndarray  # [N, S] uint64: hash of each answer without case and runs of blanks
    prompt_signs: np.ndarray  # [N, BINS] uint16, without what most prompts share
    cores: np.ndarray  # [N] bytes: words of a short prompt that are no frame; see prompts.py
    asked: np.ndarray  # [N] uint64: hash of the last user turn's words; 0 if it is generic
    segments: np.ndarray  # [N, SEGMENTS] uint32: sentences and lines of the last user turn
    segment_lengths: np.ndarray  # [N, SEGMENTS] uint16: their characters
    said: np.ndarray  # [N] bytes: the last user turn, empty where it is long
    last_questions: np.ndarray  # [N, 2] uint64: first and last question of that turn, 0 for none
    answer_signs: np.ndarray  # [N, S, BINS] uint16
    features: np.ndarray  # [N, S, F] float32, see measure.FEATURES
    prompt_characters: np.ndarray  # [N] int64
    turns: np.ndarray  # [N] int32: turns of the prompt
    desirable: np.ndarray  # [N] bool; labelled rows only
    scores: np.ndarray  # [N, 2] float32, NaN where there is none
    votes: np.ndarray  # [N, 2] float32, NaN where there is none
    declared: (
        np.ndarray
    )  # [N] int8: 1 where the row's own columns say that its label was flipped, 0 not, -1 nothing
    sides: dict[str, tuple[np.ndarray, list[str]]]  # column of both sides -> codes [N, 2], names
    columns: dict[str, tuple[np.ndarray, list[str]]]  # column of the row -> codes [N], names
    tables: Tables  # of every row
    sample: list[Sampled] = field(default_factory=list)  # in order of rows
    # of rows from many files: lines before a file -> the file, see types.FileLine
    files: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lines)

    @property
    def naming(self) -> Naming:
        """The renamed and ignored columns that the file was read with."""
        return self.ledger.columns.naming if self.ledger.columns is not None else PLAIN

    @property
    def others(self) -> int:
        """The number of rows of another kind than most."""
        return len(self.other_lines)

    @property
    def paired(self) -> bool:
        return self.kind == "pairs"

    @property
    def noun(self) -> str:
        """The noun for a row."""
        return NOUNS.get(self.kind, "rows")

    def at(self, row: int) -> str:
        """Return the place of a row as file:line."""
        return str(self.origin(self.lines[row]))

    def origin(self, line: int) -> Origin:
        """Return the place that a row's line or number stands for."""
        before = max((each for each in self.files if each < line), default=None)
        if before is None:
            return Origin(self.name, int(line))
        return Origin(self.name, FileLine(int(line), self.files[before], before))

    @cached_property
    def groups(self) -> np.ndarray:
        """The cluster of each row, [N]: rows with equal and near-equal prompts share one. Such rows
        are not independent.
        """
        return near_prompts(self.questions, self.prompt_signs, self.cores)

    @cached_property
    def sample_rows(self) -> np.ndarray:
        return np.array([each.row for each in self.sample], np.int64)

    @property
    def whole(self) -> bool:
        """Tell whether the sample is the whole file."""
        return len(self.sample) == len(self)


def scan(
    path: str | Path,
    *,
    kind: str | None = None,
    sample: int = SAMPLE,
    seed: int = 0,
    progress: Progress = lambda rows: None,
) -> Scan:
    """Read a file once.

    Args:
      kind: a key of ROW_KINDS; None takes the commonest kind of the first rows. Others are counted
        and skipped.
      sample: how many rows to keep the texts of, drawn by the seed.

    Raises:
      DataError: missing, damaged, empty, or without one usable row.
    """
    with locate(path) as source:
        return scan_source(source, kind=kind, sample=sample, seed=seed, progress=progress)


def scan_source(
    source: Source,
    *,
    kind: str | None = None,
    naming: Naming = PLAIN,
    sample: int = SAMPLE,
    seed: int = 0,
    progress: Progress = lambda rows: None,
) -> Scan:
    """Scan a source that is open already; see `scan`."""
    examples = stream(source, naming=naming)
    kept = iter(examples)
    first = list(itertools.islice(kept, PEEK))
    if not first:
        raise DataError(_nothing(examples.ledger))
    kind = kind or examples.kinds.most_common(1)[0][0]
    gather = _Gather(kind, sample, seed)
    with closing(gather.second):
        for example in itertools.chain(first, kept):
            gather.add(example)
            if examples.ledger.rows % BLOCK == 0:
                progress(examples.ledger.rows)
        progress(examples.ledger.rows)
        if not gather.n:
            raise DataError(
                f"{source.name}: none of its {examples.ledger.used:,} usable rows holds {kind}."
            )
        return gather.scan(source.name, examples.ledger, examples.formats, source.digest())


def scan_dataset(dataset: Dataset, kind: str, sample: int = SAMPLE, seed: int = 0) -> Scan:
    """Scan the rows of a file that is in memory already; row i is its example i.

    Args:
      kind: the kind of all its examples, a key of ROW_KINDS.
      sample: how many rows to keep the texts of, drawn by the seed.
    """
    gather = _Gather(kind, sample, seed)
    with closing(gather.second):
        for example in dataset.examples:
            gather.add(example)
        return gather.scan(dataset.path, dataset.ledger, dataset.formats, dataset.digest)


def _nothing(ledger: Ledger) -> str:
    if not ledger.rows:
        return f"{ledger.file}: there are no rows in it."
    reasons = "\n".join(ledger.commonest())
    return f"{ledger.file}: none of its {ledger.rows:,} rows can be used.\n{reasons}"


class _Gather:
    """The rows collected so far, on their way into arrays."""

    def __init__(self, kind: str, sample: int, seed: int) -> None:
        self.kind, self.wanted = kind, sample
        self.rng = np.random.Generator(np.random.Philox(key=[seed, 1]))
        self.n = 0
        self.others: dict[int, None] = {}  # lines, in order
        self.files: dict[int, str] = {}
        self.blocks: list[dict[str, np.ndarray]] = []
        self.pending: list[Example] = []
        self.measuring: deque[list[Example]] = deque()  # blocks without their measurements yet
        self.second = Second(kind, ALONE)
        self.heap: list[tuple[float, int, Example]] = []
        self.sides: dict[str, Categories] = {}
        self.columns: dict[str, Categories] = {}
        self.tables = Tables()

    def add(self, example: Example) -> None:
        line = example.origin.line
        if isinstance(line, FileLine):
            self.files[line.before] = line.file
        if _kind(example) != self.kind:
            self.others[example.origin.line] = None
            return
        self.pending.append(example)
        self.n += 1
        if len(self.pending) == BLOCK:
            self._flush()

    def _flush(self, wait: bool = False) -> None:
        """Have the pending rows measured, and take in what is measured by now."""
        if self.pending:
            self._begin_block()
        for measured in self.second.done(wait):
            self._take_in(self.measuring.popleft(), measured)

    def _begin_block(self) -> None:
        start = self.n - len(self.pending)
        for offset, priority in enumerate(self.rng.random(len(self.pending))):
            self._offer(-priority, start + offset, self.pending[offset])
        self.second.measure(self.pending)
        self.measuring.append(self.pending)
        self.pending = []

    def _take_in(self, examples: list[Example], measured: Measured) -> None:
        for example, looks, hits in zip(examples, measured.wrecks, measured.marks, strict=True):
            self.tables.add(example, looks, hits)
        self.blocks.append(measured.arrays | self._beside(examples))

    def _offer(self, priority: float, row: int, example: Example) -> None:
        """Keep the rows with the smallest draws: every subset of that size is equally likely."""
        if len(self.heap) < self.wanted:
            heapq.heappush(self.heap, (priority, row, replace(example, extra={})))
        elif self.heap and priority > self.heap[0][0]:
            heapq.heapreplace(self.heap, (priority, row, replace(example, extra={})))

    def _beside(self, examples: list[Example]) -> dict[str, np.ndarray]:
        """Return what rows hold beside their texts."""
        extras = [example.extra for example in examples]
        out = {
            "lines": np.array([example.origin.line for example in examples], np.int64),
            "desirable": np.array([getattr(each, "desirable", True) for each in examples], bool),
            "scores": np.array([side_numbers(extra, SCORES) for extra in extras], np.float32),
            "declared": np.array([declared_flip(extra) for extra in extras], np.int8),
            "votes": np.array([side_numbers(extra, VOTES) for extra in extras], np.float32),
        }
        return out | self._categories(examples)

    def _categories(self, examples: list[Example]) -> dict[str, np.ndarray]:
        """Encode categorical columns. A column that a block does not have is filled in `scan`."""
        out: dict[str, np.ndarray] = {}
        for at, example in enumerate(examples):
            for name, one, two in side_columns(example.extra) if self.kind == "pairs" else ():
                if is_category(one) and is_category(two):
                    codes = out.setdefault(
                        f"side:{name}", np.full((len(examples), 2), -1, np.int32)
                    )
                    known = self.sides.setdefault(name, Categories())
                    codes[at] = known.code(one), known.code(two)
            for name, value in example.extra.items():
                if is_category(value) and is_name(name):
                    codes = out.setdefault(f"column:{name}", np.full(len(examples), -1, np.int32))
                    codes[at] = self.columns.setdefault(name, Categories()).code(value)
        return out

    def scan(self, name: str, ledger: Ledger, formats: Counter, digest: str) -> Scan:
        self._flush(wait=True)
        fixed = [key for key in self.blocks[0] if ":" not in key]
        arrays = {key: np.concatenate([block.pop(key) for block in self.blocks]) for key in fixed}
        sample = [
            Sampled(row, example) for _, row, example in sorted(self.heap, key=lambda item: item[1])
        ]
        return Scan(
            name=name,
            kind=self.kind,
            ledger=ledger,
            formats=formats,
            other_lines=list(self.others),
            files=self.files,
            digest=digest,
            **arrays,
            sides=self._joined("side:", self.sides, arrays["lines"], (2,)),
            columns=self._joined("column:", self.columns, arrays["lines"], ()),
            tables=self.tables,
            sample=sample,
        )

    def _joined(
        self, prefix: str, known: dict[str, Categories], lines: np.ndarray, shape: tuple[int, ...]
    ) -> dict:
        """Concatenate columns from blocks, without those that turned out not to be categorical."""
        out = {}
        for name, categories in known.items():
            if categories.given_up or len(categories.codes) < 2:
                continue
            whole = np.full((len(lines), *shape), -1, np.int32)
            for number, block in enumerate(self.blocks):
                part = block.get(prefix + name)
                if part is not None:
                    whole[number * BLOCK : number * BLOCK + len(part)] = part
            out[name] = (whole, categories.names)
        return out


def _kind(example: Example) -> str:
    return (
        "pairs"
        if isinstance(example, Pair)
        else "labelled"
        if isinstance(example, Labelled)
        else "demonstrations"
    )


def recall(
    source: Source, lines: set[int], kind: str, naming: Naming = PLAIN
) -> dict[int, list[Example]]:
    """Read the examples of some lines again; stop after the last."""
    out: dict[int, list[Example]] = {}
    for example in reread(source, lines, naming):
        if _kind(example) == kind:
            out.setdefault(example.origin.line, []).append(example)
    return out
