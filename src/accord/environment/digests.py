"""sha256 of files and texts, in hexadecimal: what records and caches name them by."""

from __future__ import annotations

import hashlib
from pathlib import Path


def file_digest(file: str | Path) -> str:
    """Hash the bytes of a file.

    Raises:
      OSError: it cannot be read.
    """
    with open(file, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def text_digest(text: str) -> str:
    """Hash a text, as UTF-8."""
    return hashlib.sha256(text.encode()).hexdigest()
