"""Rows of a file as trees, with both accounts: of the rows, and of what became tokens."""

from __future__ import annotations

from dataclasses import dataclass

from accord.data.read import Dataset
from accord.data.token_digest import trees_digest
from accord.data.trees import Encoding
from accord.types import Tree


@dataclass
class Rows:
    """The rows of a file as trees, with both accounts: of the rows, and of what became tokens."""

    dataset: Dataset
    encoding: Encoding

    @property
    def trees(self) -> list[Tree]:
        return self.encoding.trees

    def record(self) -> dict:
        """Return the account for data.json."""
        return {
            "path": self.dataset.path,
            "sha256": self.dataset.digest,
            "formats": dict(self.dataset.formats),
            "ledger": self.dataset.ledger.as_dict(),
            "tokens": self.encoding.as_dict() | {"sha256": trees_digest(self.trees)},
        }

    def origin(self, tree: Tree) -> str:
        """Return file:line of a tree."""
        return str(self.encoding.examples[tree.row].origin)
