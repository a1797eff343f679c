"""The base of every section of a config: frozen, typed, and without unknown keys."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

LARGEST = 2**63 - 1  # the limit of random number generators and file formats
Positive = Annotated[int, Field(strict=True, ge=1, le=LARGEST)]
NotNegative = Annotated[int, Field(strict=True, ge=0, le=LARGEST)]


class Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )


def finite(options: dict) -> dict:
    """Return options of any type, all of whose numbers are finite: JSON has no others, and records
    would show null.
    """
    for name, value in options.items():
        if isinstance(value, dict):
            finite(value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{name} = {value} is no finite number")
    return options
