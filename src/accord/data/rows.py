"""Rows of a file as trees, with both accounts: of the rows, and of what became tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from accord.data.ledger import Ledger
from accord.data.read import Dataset
from accord.data.store.checks import Checks
from accord.data.token_digest import trees_digest
from accord.data.tree_table import Trees
from accord.data.trees import Encoding
from accord.types import Tree


def reading_record(ledger: Ledger) -> dict:
    """Return the accounts of a file's columns, keys of messages and rows, for records."""
    account = ledger.as_dict()
    columns, keys = account.pop("columns"), account.pop("message_keys")
    return {"columns": columns, "message_keys": keys, "ledger": account}


@dataclass
class Rows:
    """The rows of a file as trees, with both accounts: of the rows, and of what became tokens."""

    dataset: Dataset
    encoding: Encoding
    checks: Checks = field(default_factory=Checks)  # what was found in all rows
    files: tuple[Rows, ...] = ()  # those of each file, where several were joined

    @property
    def trees(self) -> Trees:
        return self.encoding.trees

    @property
    def each(self) -> tuple[Rows, ...]:
        """The rows of each file; of one file, these."""
        return self.files or (self,)

    def record(self) -> dict:
        """Return the account for data.json."""
        files = {"files": [one.record() for one in self.files]} if self.files else {}
        return files | {
            "path": self.dataset.path,
            "sha256": self.dataset.digest,
            "formats": dict(self.dataset.formats),
            **reading_record(self.dataset.ledger),
            "tokens": self.encoding.as_dict() | {"sha256": trees_digest(self.trees)},
        }

    def origin(self, tree: Tree) -> str:
        """Return file:line of a tree."""
        return str(self.encoding.examples[tree.row].origin)


def named(files: Sequence[Rows], side: str) -> list[tuple[str, Rows]]:
    """Return the rows of each file with words for them.

    Args:
      side: words for the rows of all files, such as "training rows".
    """
    if len(files) == 1:
        return [(side, files[0])]
    return [(f"{side} of {one.dataset.path}", one) for one in files]
