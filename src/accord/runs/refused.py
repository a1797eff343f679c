"""The reason why a run made no update, as its folder keeps it."""

from __future__ import annotations

from pathlib import Path

from accord.runs.files import REFUSED


def why_without_updates(run: Path) -> str | None:
    """Say why a run that was refused or stopped before its first update has no weights and no
    figures, and what to type; None where its folder has no such reason.
    """
    file = run / REFUSED
    if not file.is_file():
        return None
    try:
        why = file.read_text(encoding="utf-8").strip().partition("\n")[0]
    except (OSError, ValueError):
        why = "the reason cannot be read."
    return (
        f"{run}: this run ended before its first update, so it has no weights and no figures:"
        f" {why}\nThe whole reason is in {file}. Once it is mended: accord resume {run}"
    )
