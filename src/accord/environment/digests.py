"""sha256 of files and texts, in hexadecimal, by which records and caches name them; and records in
the form in which they are compared.
"""

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


def flatten(node: object, path: str = "") -> dict[str, object]:
    """Return the values of nested objects by path ("train.steps")."""
    if not isinstance(node, dict):
        return {path: node}
    return {
        key: value
        for name, child in node.items()
        for key, value in flatten(child, f"{path}.{name}".lstrip(".")).items()
    }
