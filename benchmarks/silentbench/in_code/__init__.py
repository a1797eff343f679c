"""Faults in code and state: one function replaced, as the bug that it imitates; in TRL at the
analogous place.
"""

from benchmarks.silentbench.in_code import (
    networks,
    objective,
    orders,
    records,
    references,
    rows,
    unlisted,
    updates,
)

CODE = tuple(
    fault
    for part in (objective, rows, references, networks, updates, orders, records, unlisted)
    for fault in part.FAULTS
)
