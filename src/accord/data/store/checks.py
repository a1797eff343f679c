"""What was found in all rows of a store, so that the second start need not look at them again."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from accord.environment.digests import text_digest
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
        key = text_digest(json.dumps(depends, sort_keys=True, default=str))
        file = self.folder / f"{name}-{key[:16]}.json"
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
            record = json.loads(file.read_text(encoding="utf-8"))
            if record["digest"] == text_digest(json.dumps(record["findings"])):
                return [Finding(**each) for each in record["findings"]]
        found = make()
        with contextlib.suppress(OSError, ValueError, TypeError):  # it is made again next time
            kept = [asdict(each) for each in found]
            record = {"digest": text_digest(json.dumps(kept)), "findings": kept}
            self.folder.mkdir(exist_ok=True)
            staging = file.with_suffix(".staging")
            staging.write_text(json.dumps(record), encoding="utf-8")
            staging.replace(file)
        return found
