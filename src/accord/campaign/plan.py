"""The plan of a command of several runs: plan.json holds everything that the folder's content
depends on.

A command with another plan is refused with the differences, since it could not continue the work
that is there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from accord.environment.digests import file_digest
from accord.errors import shorten
from accord.runs.files import read_json, write_json
from accord.types import Refused

PLAN = "plan.json"
SHOWN = 6  # differences that are listed
LONGEST = 60  # characters of each of the two values


def read_plan(folder: Path) -> dict:
    """Read the plan of the folder; empty for a new one.

    Raises:
      CheckpointError: it is damaged.
    """
    return read_json(folder / PLAN, {})


def plan_hash(folder: Path) -> str:
    """Hash the plan: every resolved config and the data that they share."""
    return file_digest(folder / PLAN)


def as_written(plan: Mapping[str, object]) -> dict:
    """Bring a plan into the form that it has after reading it back: tuples become lists."""
    return json.loads(json.dumps(plan))


def differences(former: Mapping, fresh: Mapping, prefix: str = "") -> list[str]:
    """List the differences, one per line: the name, the old value, the new value."""
    return [
        f"{prefix}{name}: then {shorten(str(former.get(name)), LONGEST)},"
        f" now {shorten(str(fresh.get(name)), LONGEST)}"
        for name in dict.fromkeys([*former, *fresh])
        if former.get(name) != fresh.get(name)
    ]


def require_no_difference(folder: Path, lines: Sequence[str], why: str) -> None:
    """Refuse a folder whose plan differs.

    Args:
      lines: the differences.
      why: the content of the folder, and the reason why it does not fit.

    Raises:
      Refused: there is a difference.
    """
    if not lines:
        return
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    raise Refused(
        f"{folder} {why}\n"
        + "\n".join(f"  {line}" for line in [*lines[:SHOWN], *more])
        + "\nWrite to another folder (--output DIR), or go back to the recipe and data that it was"
        " begun with."
    )


def require_same_plan(folder: Path, plan: Mapping[str, object]) -> None:
    """Write the plan of a new folder, or compare it with the one that is there.

    Raises:
      Refused: they differ; the message lists the differences, one per line.
    """
    fresh, former = as_written(plan), read_plan(folder)
    if not former:
        write_json(folder / PLAN, fresh)
        return
    why = "was begun with another plan, and this command could not go on with what is in it:"
    require_no_difference(folder, differences(former, fresh), why)
