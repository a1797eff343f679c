"""The rows of several files, one file behind the other: row numbers count on from file to file, and
each row still names its own file.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence

from accord.config.mixed_files import JOIN
from accord.data.lazy import Lazy, Places
from accord.data.ledger import Ledger
from accord.data.read import Dataset
from accord.data.rows import Rows
from accord.data.store.checks import Checks
from accord.data.token_digest import trees_digest
from accord.data.tree_table import Trees
from accord.data.trees import Encoding, TokenAccount
from accord.environment.digests import text_digest
from accord.types import Example


class JoinedExamples(Lazy[Example]):
    """The examples of several files, one behind the other."""

    def __init__(self, files: Sequence[Sequence[Example]]) -> None:
        self._files = files
        self._places = Places(map(len, files))

    def __len__(self) -> int:
        return self._places.end

    def made(self, at: int) -> Example:
        number, place = self._places.part(at)
        return self._files[number][place]

    def __iter__(self) -> Iterator[Example]:
        for examples in self._files:
            yield from examples


def joined(files: Sequence[Rows]) -> Rows:
    """Join the rows of several files; those of one file stay as they are."""
    if len(files) == 1:
        return files[0]
    datasets = [each.dataset for each in files]
    digest = text_digest(json.dumps([each.digest for each in datasets]))
    examples = JoinedExamples([each.encoding.examples for each in files])
    trees = Trees.joined([each.trees for each in files], [len(e.encoding.examples) for e in files])
    trees.digest = text_digest(json.dumps([trees_digest(each.trees) for each in files]))
    account = TokenAccount()
    for each in files:
        account.add(each.encoding.account)
    kinds = {each.kind for each in datasets}
    dataset = Dataset(
        JoinedExamples([each.examples for each in datasets]),
        _ledger([each.ledger for each in datasets]),
        sum((each.formats for each in datasets), Counter()),
        kinds.pop() if len(kinds) == 1 else "",
        digest,
        JOIN.join(each.path for each in datasets),
        tuple(each.path for each in datasets),
    )
    return Rows(
        dataset,
        Encoding(trees, examples, account),
        _checks(files, digest + trees.digest),
        tuple(files),
    )


def _ledger(files: Sequence[Ledger]) -> Ledger:
    """Add up the accounts of rows. Columns are of each file, and have no account here."""
    total = Ledger(JOIN.join(each.file for each in files))
    for each in files:
        total.rows += each.rows
        total.used += each.used
        total.examples += each.examples
        total.rejected += each.rejected
        total.notes.update(each.notes)
        total.formats.update(each.formats)
        total.hints |= each.hints
    return total


def _checks(files: Sequence[Rows], digest: str) -> Checks:
    """Return what was found in the rows of all files: kept beside the first large one, if there is
    one.

    Args:
      digest: of the bytes and the tokens of all files.
    """
    kept = next((each.checks.folder for each in files if each.checks.folder is not None), None)
    if kept is None:
        return Checks()
    columns = [each.dataset.ledger.as_dict()["columns"] for each in files]  # as they were named
    return Checks(kept / f"with-{text_digest(json.dumps([digest, columns], default=str))[:32]}")
