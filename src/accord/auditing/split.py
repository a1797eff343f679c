"""`accord split`: split a file by prompt into train and held-out. Near copies of a prompt are
always on the same side.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from accord.auditing.scan import Scan, scan_source
from accord.data.containers import locate
from accord.data.naming import PLAIN, Naming
from accord.data.rows import reading_record
from accord.data.write import write_lines
from accord.types import CheckpointError, DataError, UsageError


def held_out_rows(scan: Scan, share: float, seed: int) -> np.ndarray:
    """Mark the rows to hold out, [N] bool: whole clusters of prompts, drawn by the seed, until the
    share is reached.

    A cluster that would exceed the share is skipped, so that one large prompt cannot become the
    held-out set.
    """
    _, cluster, sizes = np.unique(scan.groups, return_inverse=True, return_counts=True)
    wanted, taken = share * len(scan), 0
    chosen = np.zeros(len(sizes), bool)
    for each in np.random.Generator(np.random.Philox(key=[seed, 8])).permutation(len(sizes)):
        if taken + sizes[each] <= max(1.0, wanted):
            chosen[each] = True
            taken += sizes[each]
    return chosen[cluster]


def split(
    data: str | Path,
    output: str | Path,
    *,
    share: float = 0.1,
    seed: int = 0,
    naming: Naming = PLAIN,
) -> dict:
    """Write output/train.jsonl, output/held_out.jsonl and output/split.json.

    Args:
      share: share of the rows to hold out, above 0 and below 1.
      naming: renamed and ignored columns. Rows are written as they stand, with all their columns.

    Returns:
      The account: rows in = train + held out + unusable; and how the file was read, in lines.

    Raises:
      UsageError: a share outside (0, 1), or the folder exists.
      DataError: all prompts are near copies of each other, so that none can be held out.
    """
    if not 0 < share < 1:
        raise UsageError(f"--share {share}: expected a share above 0 and below 1, such as 0.1.")
    folder = Path(output)
    if folder.exists():
        raise UsageError(f"{folder}: this folder exists already. Name another.")
    with locate(data) as source:
        scan = scan_source(source, naming=naming, sample=0)
        held = held_out_rows(scan, share, seed)
        if not held.any() or held.all():
            raise DataError(
                f"{scan.name}: its prompts form {len(np.unique(scan.groups)):,} cluster(s) of near"
                f" copies, too few to hold out {share:.0%}."
            )
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise CheckpointError(f"{folder}: cannot be made: {error.strerror}.") from error
        lines = {"held_out": set(scan.lines[held].tolist())}
        lines["train"] = set(scan.lines[~held].tolist()) - lines["held_out"]
        written = {
            name: write_lines(folder / f"{name}.jsonl", source, lines[name])
            for name in ("train", "held_out")
        }
    account = {
        "data": scan.name,
        "sha256": scan.digest,
        "rows": scan.ledger.rows,
        **written,
        "unusable": scan.ledger.rows - sum(written.values()),
        "seed": seed,
        "share": share,
        "prompts": len(np.unique(scan.questions)),
        "clusters": len(np.unique(scan.groups)),
        "held_out_clusters": len(np.unique(scan.groups[held])),
        "formats": dict(scan.formats),
        "columns": reading_record(scan.ledger)["columns"],
        "message_keys": reading_record(scan.ledger)["message_keys"],
    }
    (folder / "split.json").write_text(json.dumps(account, indent=1) + "\n", encoding="utf-8")
    return account | {"reading": [line.strip() for line in scan.ledger.reading_lines()]}
