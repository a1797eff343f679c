"""Read comparison.json and frontier.json of earlier versions in today's form."""

from __future__ import annotations

from collections.abc import Mapping

# Figures that a record lacked before sessions were logged; None means not recorded.
UNRECORDED = (
    "total_cpu_seconds",
    "sessions",
    "sessions_killed",
    "preparing_seconds",
    "cell_cpu_seconds",
    "other_cell_seconds",
)


def current(record: Mapping) -> dict:
    """Fill in the figures that an earlier version did not record. They are None if they cannot be
    known any more.

    Args:
      record: the content of a comparison.json or a frontier.json; not changed.
    """
    cost = {**dict.fromkeys(UNRECORDED), **record["cost"]}
    # Single runs are the cells' own seconds. What they would cost without a shared cache needs the
    # seconds of each reference pass, which early records lack.
    cost.setdefault(
        "single_runs",
        {
            "seconds": cost["cell_seconds"],
            "seconds_without_cache": None,
            "reference_rows_more": cost["reference_rows"]["needed"]
            - cost["reference_rows"]["computed"],
        },
    )
    return {"search": None, "trials": None, "budget": None, **record, "cost": cost}
