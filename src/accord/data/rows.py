"""Rows of a file as trees, with both accounts: of the rows, and of what became tokens."""

from __future__ import annotations

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

    @property
    def trees(self) -> Trees:
        return self.encoding.trees

    def record(self) -> dict:
        """Return the account for data.json."""
        return {
            "path": self.dataset.path,
            "sha256": self.dataset.digest,
            "formats": dict(self.dataset.formats),
            **reading_record(self.dataset.ledger),
            "tokens": self.encoding.as_dict() | {"sha256": trees_digest(self.trees)},
        }

    def origin(self, tree: Tree) -> str:
        """Return file:line of a tree."""
        return str(self.encoding.examples[tree.row].origin)
