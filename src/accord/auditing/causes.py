"""Causes: what a finding takes out of the texts, so that its symptoms are not told as faults of
their own.

A file whose chosen answers all begin with a date is also a file in which digits decide, longer
answers win and a classifier of words is always right. Those rules are scored on texts from which
the causes that have been named are taken out; a rule that then falls to chance is a symptom.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Cause:
    """Rows and texts that one finding explains."""

    check: str  # of the finding
    title: str  # of the finding, to be named beside a symptom
    rows: np.ndarray  # [N] bool: the rows of the scan that it touches
    # Returns an answer without it. None: nothing can be taken out, and the rows are left out.
    without: Callable[[str], str] | None = None
