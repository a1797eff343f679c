"""Slices of held-out rows whose figures are shown apart: by length, by which answer is longer, by
turns, by source, by file.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa

FEWEST = 10  # rows of a slice that is shown
MOST_SOURCES = 8
FILE = "file"


def parts(table: pa.Table) -> list[tuple[str, np.ndarray]]:
    """Return (name, mask [N]) of each slice of a table of records, all rows first; slices of few
    rows are left out.
    """
    tokens, turns = np.array(table["tokens"]), np.array(table["turns"])
    longer = np.array(table["tokens/chosen"]) - np.array(table["tokens/rejected"])
    low, high = np.quantile(tokens, (1 / 3, 2 / 3))
    found = [
        ("all rows", np.ones(len(tokens), bool)),
        (f"answers together up to {low:.0f} tokens", tokens <= low),
        (f"{low:.0f} to {high:.0f} tokens", (tokens > low) & (tokens <= high)),
        (f"over {high:.0f} tokens", tokens > high),
        ("chosen is longer", longer > 0),
        ("chosen is shorter", longer < 0),
        ("equally long", longer == 0),
    ]
    if len(set(turns)) > 1:
        found += [("one question", turns == 1), ("several turns", turns > 1)]
    sources = table["source"].to_pylist()
    names = sorted({s for s in sources if s is not None}, key=lambda s: (-sources.count(s), s))[
        :MOST_SOURCES
    ]
    found += [(f"source {name}", np.array([s == name for s in sources])) for name in names]
    if FILE in table.column_names:  # rows of several files
        files = table[FILE].to_pylist()
        found += [
            (f"file {name}", np.array([f == name for f in files])) for name in sorted({*files})
        ]
    return [(name, mask) for name, mask in found if mask.sum() >= FEWEST]
