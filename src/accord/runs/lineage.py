"""The runs that a model came out of: its own, that of the model which that one started from, and so
on.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from accord.errors import AccordError
from accord.models import provenance
from accord.runs.files import read_json
from accord.runs.folder import RunFolder

DEPTH = 8  # runs in a row: sft, dpo, and rounds of it


def lineage(name: str | None) -> Iterator[RunFolder]:
    """Yield the runs that made a model, the newest first; none for a model of another tool.

    Args:
      name: a run's folder, its weights, an export of it, or a model's name.
    """
    waiting: list[str | None] = [name]
    seen: set[Path] = set()
    while waiting and len(seen) < DEPTH:
        folder = run_of(waiting.pop(0))
        if folder is None or folder.path.resolve() in seen:
            continue
        seen.add(folder.path.resolve())
        yield folder
        try:
            model = folder.config().model
        except AccordError:  # of another version: what it started from stays unknown
            continue
        waiting += [model.adapter, model.name]


def run_of(name: str | None) -> RunFolder | None:
    """Return the run that a folder is, lies in, or was exported from; None where there is none."""
    if name is None:
        return None
    path = Path(name).expanduser()
    for folder in (path, path.resolve().parent):
        if path.is_dir() and (folder / "config.yaml").is_file():
            return RunFolder(folder)
    record = recorded(path)
    if record is None or not record.run:
        return None
    made = RunFolder(Path(record.run))
    # a folder of that name may be another run by now
    same = trained_file(made) == record.train_data
    return made if (made.path / "config.yaml").is_file() and same else None


def recorded(path: Path) -> provenance.Provenance | None:
    """Return the record beside some weights, if there is one."""
    return provenance.read(path) if path.is_dir() else None


def trained_file(folder: RunFolder) -> str | None:
    """Return the sha256 of the file that a run was trained on."""
    return _digest_of(folder, "train")


def held_out_file(folder: RunFolder) -> str | None:
    """Return the sha256 of the file that a run was evaluated on."""
    return _digest_of(folder, "held_out")


def held_out_tokens(folder: RunFolder) -> str | None:
    """Return the sha256 of the tokens that a run was evaluated on."""
    tokens = _record_of(folder, "held_out").get("tokens")
    return tokens.get("sha256") if isinstance(tokens, dict) else None


def _digest_of(folder: RunFolder, side: str) -> str | None:
    return _record_of(folder, side).get("sha256")


def _record_of(folder: RunFolder, side: str) -> dict:
    record = read_json(folder.path / "data.json", {}).get(side)
    return record if isinstance(record, dict) else {}
