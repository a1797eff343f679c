"""The folder in which accord keeps what it made or learnt once."""

from __future__ import annotations

import os
from pathlib import Path


def accord_cache() -> Path:
    """Return `$ACCORD_CACHE`, or `~/.cache/accord`."""
    return Path(os.environ.get("ACCORD_CACHE") or Path.home() / ".cache" / "accord").expanduser()
