"""Faults in code and state: one function replaced, as the bug that it imitates; in TRL at the
analogous place.
"""

from benchmarks.silentbench.in_code import (
    networks,
    objective,
    orders,
    quantised,
    records,
    references,
    rows,
    unlisted,
    updates,
)

PARTS = (objective, rows, references, networks, quantised, updates, orders, records, unlisted)
CODE = tuple(fault for part in PARTS for fault in part.FAULTS)
