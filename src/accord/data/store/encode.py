"""Rows of a file with their tokens: a small file in memory, a large one from a store on disk that
is made once.

    file ──rows──▶ examples ──CHUNK by CHUNK──▶ NNNNNN.examples ──▶ NNNNNN.trees ──▶ store.json

The store is addressed by all that its tokens depend on (`Wanted.key`), so that one of another file,
tokenizer, template or limit is never found. Its bytes do not depend on how often the work was
interrupted (tests/data/test_store.py).
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from itertools import islice
from pathlib import Path

import pyarrow as pa
import tokenizers
import transformers

from accord.data import example_table
from accord.data.chat_template import asks_for_the_date
from accord.data.containers import MAX_ROW_BYTES, Source, locate
from accord.data.example_table import Examples
from accord.data.naming import Naming
from accord.data.read import Dataset, Reading, Stream, reading_test, require_fit
from accord.data.refusals import refusal
from accord.data.store import folder
from accord.data.store.checks import Checks
from accord.data.store.folder import ACCOUNTS, LAYOUT, Chunk, as_file, mapped
from accord.data.store.records import ledger_of, ledger_record, tokens_of, tokens_record
from accord.data.templates import Template
from accord.data.token_digest import trees_digest
from accord.data.tree_table import TreeBlock, Trees
from accord.data.trees import Encoding, Limits, Seam, TokenAccount, collect, encode, encoded
from accord.environment.digests import text_digest
from accord.environment.own_code import own_code
from accord.errors import plural
from accord.types import DataError, Example

CHUNK = 4_096  # examples of a chunk; a file of fewer is encoded in memory, in seconds
SAID = 20.0  # seconds between two lines on how far it is, where nobody knows of how much

_folders: list[tempfile.TemporaryDirectory] = []  # stores that only this process has

Progress = Callable[[int, int], None]
Say = Callable[[str], None]


@dataclass(frozen=True)
class Wanted:
    """A file, how it is read, and what its tokens depend on.

    Args:
      kind: a key of ROW_KINDS.
      tokenizer: its digest, `data.tokenizer_digest`.
    """

    path: str
    kind: str
    naming: Naming
    template: Template
    limits: Limits
    tokenizer: str
    format: str = "auto"

    @cached_property
    def reading(self) -> Reading:
        return Reading(self.kind, self.format, self.naming)

    def key(self, source: Source, digest: str) -> str:
        """Return the name of the store of a file with this digest."""
        template = self.template
        depends = {
            "layout": LAYOUT,
            "code": own_code("data"),
            "libraries": [transformers.__version__, tokenizers.__version__],
            "data": digest,
            # rows of many files name their own file
            "place": "" if source.path.is_file() else str(source.path.absolute()),
            "kind": self.kind,
            "format": self.format,
            "names": sorted(self.naming.names.items()),
            "ignored": sorted(self.naming.ignored),
            "lenient": self.naming.lenient,
            "tokenizer": self.tokenizer,
            "template": [template.kind, template.permit_changes],
            # the day of a run changes no token of most templates
            "date": template.today if asks_for_the_date(template.tokenizer) else "",
            "options": sorted((name, repr(value)) for name, value in template.options.items()),
            "ends": sorted(template.end_ids),
            "limits": asdict(self.limits),
        }
        return text_digest(json.dumps(depends))[:32]


@dataclass(frozen=True)
class Encoded:
    """A file's rows with their tokens."""

    dataset: Dataset
    encoding: Encoding
    checks: Checks  # what was found in all rows


def encoded_file(wanted: Wanted, progress: Progress, say: Say) -> Encoded:
    """Read and encode a file, or find what was encoded before.

    Raises:
      DataError: as `data.read.read`; or the tokens of a large file can be kept nowhere.
    """
    _ = wanted.reading.formats  # an unknown format is refused before the file is opened
    with locate(wanted.path) as source:
        digest = source.digest()
        place = folder.root() / wanted.key(source, digest)
        found = _opened(place, wanted, source, digest, say)
        if found is None:
            work = _Work(source, digest, wanted, progress, say)
            found = work.in_memory() or _kept(work, place)
        return found


def _kept(work: _Work, place: Path) -> Encoded:
    """Make a store where it belongs, or in a temporary folder if nothing can be written there."""
    try:
        return _made(work, place)
    except OSError as error:
        work.say(
            f"! {place.parent}: tokens cannot be kept there ({error.strerror or error}). They go"
            " into a temporary folder, and are made again next time; ACCORD_CACHE=FOLDER names"
            " another place."
        )
        folder.set_aside(_partial(place))  # it would keep a full disk full
    try:
        _folders.append(tempfile.TemporaryDirectory(prefix="accord-tokens-"))
        return _made(work, Path(_folders[-1].name) / place.name)
    except OSError as error:
        raise DataError(
            f"{work.source.name}: its tokens can be kept nowhere: {error.strerror or error}"
            f" ({place.parent}, and {tempfile.gettempdir()}). Free some space, or name another"
            " folder: ACCORD_CACHE=FOLDER."
        ) from error


def _partial(place: Path) -> Path:
    """Return the folder of a store while it is made."""
    return place.with_suffix(".partial")


def _made(work: _Work, place: Path) -> Encoded:
    with folder.locked(place, work.say):
        found = _opened(place, work.wanted, work.source, work.digest, work.say)
        if found is None:
            work.write(place)
            found = _opened(place, work.wanted, work.source, work.digest, work.say)
            assert found is not None, "a store that was written is there"
        return found


def _opened(place: Path, wanted: Wanted, source: Source, digest: str, say: Say) -> Encoded | None:
    """Open a finished store; None where there is none, or none that is whole."""
    try:
        record = folder.accounts(place)
        if record is None:
            return None
        ledger = ledger_of(record["ledger"], source.name, wanted.naming)
        account = tokens_of(record["tokens"], source.name)
        chunks = [Chunk(place, number) for number in range(record["chunks"])]
        examples = Examples(
            [mapped(each.file("examples")) for each in chunks], wanted.kind, source.name
        )
        trees = Trees([mapped(each.file("trees")) for each in chunks])
    except (ValueError, KeyError, TypeError, OSError, pa.ArrowInvalid) as error:
        say(f"! {place}: {error}: the tokens of {source.name} are made again")
        folder.set_aside(place)
        return None
    trees.digest = record["digest"]
    dataset = Dataset(examples, ledger, ledger.formats, record["kind"], digest, source.name)
    return Encoded(dataset, Encoding(trees, examples, account), Checks(place / "checks"))


class _Work:
    """The reading and encoding of one file."""

    def __init__(
        self, source: Source, digest: str, wanted: Wanted, progress: Progress, say: Say
    ) -> None:
        self.source, self.digest, self.wanted = source, digest, wanted
        self.progress, self.say = progress, say
        self.size = source.path.stat().st_size if source.path.is_file() else 0
        self.said, self.seen, self.seen_bytes = time.monotonic(), 0, 0
        self.begin()

    def begin(self) -> None:
        """Begin to read the file."""
        rows = self.source.rows(MAX_ROW_BYTES)
        self.stream = Stream(self.source, rows, self.wanted.reading)
        self.examples: Iterator[Example] = iter(self.stream)
        self.first: list[Example] | None = None

    def in_memory(self) -> Encoded | None:
        """Return the rows of a small file with their tokens; None for a large one, of which the
        first chunk is read.
        """
        self.first = list(islice(self.examples, CHUNK))
        if len(self.first) == CHUNK:
            return None
        dataset = self._dataset(self.first)
        encoding = encode(self.first, self.wanted.template, self.wanted.limits, self.progress)
        return Encoded(dataset, encoding, Checks(None))

    def _dataset(self, examples: list[Example]) -> Dataset:
        """Refuse what cannot be trained on, once the file was read to its end."""
        dataset = Dataset.of(self.stream, examples, self.digest)
        require_fit(dataset, self.stream, self.wanted.reading)
        return dataset

    # ------------------------------------------------------------ a store

    def write(self, place: Path) -> None:
        """Write the store; go on behind the chunks that are there.

        Raises:
          OSError: it cannot be written.
        """
        partial = _partial(place)
        partial.mkdir(parents=True, exist_ok=True)
        self.say(f"encoding {self.source.name}: its tokens are kept in {place.parent}")
        self._require_readable()
        whole = partial / "whole"  # for whoever goes on, should this process be killed
        if not self._encode(partial, whole=whole.exists()):
            folder.clear(partial)
            whole.touch()
            self.begin()
            self._encode(partial, whole=True)
        partial.rename(place)

    def _require_readable(self) -> None:
        """Read on to the end, and refuse, where the first chunk has content that nothing reads: it
        would be refused after minutes of work.
        """
        if self.first is None:  # a second try, in another folder
            self.begin()
            self.first = list(islice(self.examples, CHUNK))
        if refusal(self.stream.columns, self.source.name, reading_test(self.wanted.reading)):
            for _ in self.examples:
                pass
            self._dataset([])
            self.begin()

    def _encode(self, partial: Path, whole: bool) -> bool:
        """Encode every chunk and write the accounts; return False where rows must be tokenised
        whole.
        """
        if self.first is None:
            self.first = list(islice(self.examples, CHUNK))
        chunks = _Chunks(partial, self.wanted.template)
        rows = self._rows(chunks)
        try:
            for row, example, found in encoded(
                rows, self.wanted.template, self.wanted.limits, whole
            ):
                chunks.collect(row, example, found)
        except Seam:
            return False
        chunks.finish()
        dataset = self._dataset([])
        trees = Trees(
            [mapped(Chunk(partial, number).file("trees")) for number in range(chunks.count)]
        )
        files = {
            file.name: folder.file_digest(file)
            for number in range(chunks.count)
            for suffix in ("examples", "trees")
            if (file := Chunk(partial, number).file(suffix))
        }
        record = {
            "kind": dataset.kind,
            "chunks": chunks.count,
            "digest": trees_digest(trees),
            "ledger": ledger_record(dataset.ledger),
            "tokens": tokens_record(chunks.total()),
            "files": files,
        }
        (partial / ACCOUNTS).write_text(json.dumps(record), encoding="utf-8")
        (partial / "whole").unlink(missing_ok=True)
        return True

    def _rows(self, chunks: _Chunks) -> Iterator[tuple[int, Example]]:
        """Yield the numbered examples of the chunks that are not there yet; write all examples."""
        number, examples, self.first = 0, self.first or [], None
        while examples:
            if not chunks.there(number, examples):
                yield from enumerate(examples, number * CHUNK)
            self.seen += len(examples)
            self.seen_bytes += chunks.bytes
            self._tell()
            number, examples = number + 1, list(islice(self.examples, CHUNK))

    def _tell(self) -> None:
        plain = self.source.path.suffix in (".jsonl", ".ndjson")
        if plain and self.seen_bytes:
            total = max(self.seen, round(self.seen * self.size / self.seen_bytes))
            if self.source.parts is not None and self.source.parts.rows is not None:
                total = min(total, max(self.seen, self.source.parts.rows))
            self.progress(self.seen, total)
        elif time.monotonic() - self.said > SAID:
            self.said = time.monotonic()
            self.say(f"  tokens of {plural(self.seen, 'row')}")


class _Chunks:
    """The chunks of a store while it is written, and their accounts."""

    def __init__(self, partial: Path, template: Template) -> None:
        self.folder, self.template = partial, template
        self.digests: dict[int, str] = {}  # number of a chunk -> digest of its examples
        self.accounts: dict[int, TokenAccount] = {}
        self.count = self.bytes = 0
        self.open: int | None = None
        self._begin(None)

    def _begin(self, number: int | None) -> None:
        self.open = number
        self.account, self.block = TokenAccount(), TreeBlock(len(self.template.tokenizer))

    def there(self, number: int, examples: list[Example]) -> bool:
        """Tell whether a chunk is there already; write its examples if it is not."""
        self.count = number + 1
        raw = as_file(example_table.table(examples))
        self.bytes = raw.size
        self.digests[number] = digest = sha256(raw).hexdigest()
        chunk = Chunk(self.folder, number)
        if record := chunk.record(digest):
            self.accounts[number] = tokens_of(record["tokens"], examples[0].origin.file)
            return True
        chunk.write("examples", raw)
        return False

    def collect(self, row: int, example: Example, found) -> None:
        """Take what became of an example."""
        if row // CHUNK != self.open:
            self.finish()
            self._begin(row // CHUNK)
        collect(self.account, self.block, example, found, self.template)

    def finish(self) -> None:
        """Write the chunk that is open."""
        if self.open is None:
            return
        raw, chunk = as_file(self.block.table()), Chunk(self.folder, self.open)
        chunk.write("trees", raw)
        record = {
            "examples": self.digests[self.open],
            "trees": sha256(raw).hexdigest(),
            "tokens": tokens_record(self.account),
        }
        chunk.write("json", json.dumps(record).encode())
        self.accounts[self.open] = self.account
        self._begin(None)

    def total(self) -> TokenAccount:
        """Return the account of all chunks."""
        total = TokenAccount()
        for number in range(self.count):
            total.add(self.accounts[number])
        return total
