"""Runs that lie where somebody looked for one: in a folder of runs, or around a file of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from accord.environment.nearest import did_you_mean

CONFIG = "config.yaml"
FIGURES = "metrics.jsonl"  # a run that was refused, or has only begun, has none


def runs_in(folder: str | Path) -> list[Path]:
    """List the runs that lie directly in a folder; none if it cannot be read."""
    try:
        found = sorted(file.parent for file in Path(folder).expanduser().glob(f"*/{FIGURES}"))
        return [run for run in found if (run / CONFIG).is_file()]
    except (OSError, ValueError):
        return []


def newest(runs: Sequence[Path]) -> Path:
    """Return the run that was written to last."""
    return max(runs, key=lambda run: (run / FIGURES).stat().st_mtime)


def why_no_run(path: str) -> str:
    """Say what lies where a run was expected, and where the run may be."""
    place = Path(path).expanduser()
    said = f"{path}: no run here (no {CONFIG}). Expected the folder that accord train wrote."
    if not place.exists():
        return f"{said}{did_you_mean(path)}"
    above = next((one for one in place.parents if (one / CONFIG).is_file()), None)
    if above is not None:
        return f"{said} This lies inside a run: {above}"
    if found := runs_in(place):
        return f"{said} It holds {len(found):,} of them; the newest: {newest(found)}"
    if place.is_file():
        return f"{said} This is a file."
    if (place / "config.json").is_file() or (place / "adapter_config.json").is_file():
        return (
            f"{said} This is a model's folder: accord eval, accord generate and accord sample take"
            " it as it is."
        )
    return said
