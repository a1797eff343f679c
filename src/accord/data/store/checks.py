"""Findings on all rows of a store, kept so that the second start need not look at them again."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accord.environment.digests import file_digest, text_digest
from accord.environment.own_code import own_code
from accord.types import Finding


class Checks:
    """Findings on the rows of one store.

    Args:
      folder: where they are kept; None keeps nothing, as the rows of a small file are looked at
        again in a second.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder

    def remember(self, name: str, depends: Any, make: Callable[[], list[Finding]]) -> list[Finding]:
        """Return findings that were made before, or make them.

        Args:
          depends: all that they depend on beside the rows, as JSON.
        """
        if self.folder is None:
            return make()
        file = self.folder / f"{name}-{_key(depends)}.json"
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            record = json.loads(file.read_text(encoding="utf-8"))
            if record["digest"] == text_digest(json.dumps(record["findings"])):
                return [Finding(**each) for each in record["findings"]]
        found = make()
        with contextlib.suppress(OSError, ValueError, TypeError):  # it is made again next time
            kept = [asdict(each) for each in found]
            record = {"digest": text_digest(json.dumps(kept)), "findings": kept}
            self.folder.mkdir(parents=True, exist_ok=True)
            staging = file.with_suffix(".staging")
            staging.write_text(json.dumps(record), encoding="utf-8")
            staging.replace(file)
        return found

    def keep(self, name: str, depends: Any, file: Path) -> None:
        """Keep a copy of a file that was made of all rows."""
        if self.folder is not None:
            with contextlib.suppress(OSError):
                self.folder.mkdir(parents=True, exist_ok=True)
                staging = self.folder / f"{name}-{_key(depends)}.staging"
                shutil.copyfile(file, staging)
                digest = text_digest(file_digest(staging) + name)
                staging.replace(self.folder / f"{name}-{_key(depends)}-{digest[:16]}")

    def kept(self, name: str, depends: Any) -> Path | None:
        """Return the copy that was kept, if it is whole."""
        if self.folder is None:
            return None
        for file in self.folder.glob(f"{name}-{_key(depends)}-*"):
            with contextlib.suppress(OSError):
                if file.name.endswith(text_digest(file_digest(file) + name)[:16]):
                    return file
        return None


def _key(depends: Any) -> str:
    """Return the name of what depends on these values, and on accord's own code."""
    return text_digest(json.dumps([own_code(), depends], sort_keys=True, default=str))[:16]
