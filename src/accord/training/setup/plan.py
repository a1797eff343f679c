"""The plan of a run on rows: their order, and how many updates are made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from accord.config.schema import Config
from accord.data.order import Order, Part
from accord.data.tree_table import Trees
from accord.errors import plural
from accord.types import Finding, UsageError

MOST_ROWS = 1_000_000_000  # of an epoch: 8 bytes each while it is planned


def plan_order(config: Config, trees: Trees, files: Sequence[int] = ()) -> tuple[Order, int]:
    """Plan the order of the rows, and how many updates to make.

    Args:
      files: the trees of each file, where `trees` are those of several.
    """
    train = config.train
    parts = plan_parts(config, files or [len(trees)])
    unit, strata = (2 if train.pair_labels else 1), None
    if train.pair_labels:
        require_pairs_of_labels(trees, train.batch_size, files)
    elif len(np.unique(trees.labels)) > 1:
        strata = (trees.labels == 1).astype(np.int8).tobytes()
    whole = Order(len(trees), train.batch_size, train.seed, strata, unit, parts)
    if whole.rows_per_epoch > MOST_ROWS:
        raise UsageError(
            f"data.train: an epoch of {whole.rows_per_epoch:,} rows is over the {MOST_ROWS:,} that"
            " can be planned. Give the files smaller weights."
        )
    order = replace(whole, batch_size=min(train.batch_size, whole.rows_per_epoch))
    steps = train.steps or max(1, round((train.epochs or 1) * order.batches_per_epoch))
    return order, steps


def plan_parts(config: Config, files: Sequence[int]) -> tuple[Part, ...]:
    """Return how often an epoch takes the rows of each file; nothing where it takes each row once,
    of one file.
    """
    weights = [each.weight for each in config.data.train_files]
    if weights in ([], [1.0]):
        return ()
    return tuple(Part(*each) for each in zip(files, weights, strict=True))


def mix_findings(config: Config, order: Order) -> list[Finding]:
    """Say what an epoch takes of each of several files; nothing of one file."""
    if not order.parts:
        return []
    taken = [part.taken(order.unit) * order.unit for part in order.parts]
    files, each = [], []
    for file, part, count in zip(config.data.train_files, order.parts, taken, strict=True):
        share = count / sum(taken)
        each.append(
            f"{count:,} of {file.path} ({plural(part.rows, 'row')}, weight {file.weight:g},"
            f" {share:.1%} of an epoch)"
        )
        files.append(
            {"path": file.path, "weight": file.weight, "rows": part.rows, "per_epoch": count}
        )
    says = f"each epoch takes {plural(sum(taken), 'row')}: {', '.join(each)}"
    return [Finding("data.mix", "note", says, {"files": files})]


def require_pairs_of_labels(trees: Trees, batch_size: int, files: Sequence[int] = ()) -> None:
    """Check that train.pair_labels can hold.

    Raises:
      UsageError: train.pair_labels is set, but the rows are not the two labels of each pair, or a
        batch would split one.
    """
    odd = len(trees) % 2 or batch_size % 2 or any(count % 2 for count in files)
    good, bad = slice(None, None, 2), slice(1, None, 2)
    whole = not odd and bool(
        (trees.labels[good] == 1).all()
        and (trees.labels[bad] == 0).all()
        and (trees.prompt_hashes[good] == trees.prompt_hashes[bad]).all()
    )
    if not whole:
        raise UsageError(
            "train.pair_labels keeps the two labels of a pair in one batch: it needs an objective"
            " of labels, a file of pairs of which both answers are usable, and an even"
            " train.batch_size. Leave it out (--set train.pair_labels=false)."
        )
