"""The digest of accord's own code, for what is kept on disk because of what the code does."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parents[1]


@cache
def own_code(room: str = "") -> str:
    """Hash the source of accord, or of one of its rooms: a mended fault changes it, also where the
    version stays (sha256).
    """
    total = hashlib.sha256()
    for file in sorted((PACKAGE / room).rglob("*.py")):
        total.update(f"{file.relative_to(PACKAGE).as_posix()}\0".encode())
        total.update(file.read_bytes())
    return total.hexdigest()
