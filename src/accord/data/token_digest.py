"""The digest of a run's tokens: what the model really sees, whatever it was made from.

Digests of files, of the tokenizer and of the template each name one source of the tokens. This one
names the result, so it also catches a library whose new version tokenizes otherwise, and a
template that prints the date.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence

from accord.data.tree_table import packed
from accord.types import Tree


def trees_digest(trees: Iterable[Tree]) -> str:
    """Hash everything that is trained on: prompts, completions, labels and margins, in order
    (sha256).

    Lengths are hashed in front of the ids, so that no two lists of trees give the same bytes.
    """
    table = packed(trees)
    if table.digest is not None:
        return table.digest
    total = hashlib.sha256()
    for numbers in table.streamed():
        total.update(numbers.tobytes())
    return total.hexdigest()


def prompts_digest(prompts: Iterable[Sequence[int]]) -> str:
    """Hash the token ids of prompts that have no answers yet, in order (sha256)."""
    total = hashlib.sha256()
    for ids in prompts:
        total.update(struct.pack(f"<{1 + len(ids)}q", len(ids), *ids))
    return total.hexdigest()
