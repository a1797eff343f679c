"""Every check of the program, in the order of the moments at which they are made."""

from __future__ import annotations

from typing import Any

from accord.verify import doctor
from accord.verify.checks import Check
from accord.verify.running import RUNNING
from accord.verify.step0 import STEP0


def every_check() -> tuple[Check[Any], ...]:
    """Return the rows of all tables."""
    return (*STEP0, *RUNNING, *doctor.once(), *doctor.of_models(), *doctor.of_files())
