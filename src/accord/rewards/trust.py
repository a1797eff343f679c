"""Trust in a reward model: the accuracy that its own run measured on held-out pairs.

A reward model that ranks held-out pairs no better than a coin gives every later figure, and is
never seen in one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from accord.models import provenance
from accord.types import Refused

ACCURACY, LOW, HIGH = (
    "eval_rewards/accuracies",
    "diag/eval_accuracy_low",
    "diag/eval_accuracy_high",
)


@dataclass(frozen=True)
class Trust:
    """The knowledge of a reward model; `mark` is "!" where a person should look at it."""

    mark: str
    says: str


def require_trust(folder: str, allow_weak: bool) -> Trust:
    """Return what a reward model's run recorded of its held-out accuracy.

    Raises:
      Refused: the accuracy's interval does not lie above one half, and that is not permitted.
    """
    run = run_of(Path(folder).expanduser())
    line = _newest(run) if run is not None else None
    if line is None:
        return Trust(
            "!",
            "no held-out accuracy of this reward model is recorded, so whether its scores mean"
            " anything is not known. A run with held-out pairs records one: accord train --method"
            " bradley_terry --held-out FILE",
        )
    low, high = line.get(LOW, line[ACCURACY]), line.get(HIGH, line[ACCURACY])
    says = (
        f"held-out accuracy {line[ACCURACY]:.3f}, 95 % interval {low:.3f} to {high:.3f}, at step"
        f" {line['step']:,} of {run}"
    )
    if low > 0.5:
        return Trust("·", says)
    why = (
        "it prefers the rejected answers (labels or sides exchanged?)"
        if high < 0.5
        else "it is not known to rank answers better than a coin"
    )
    if not allow_weak:
        raise Refused(
            f"{folder}: {why}: {says}.\nTrain it on more pairs, or measure it on more held-out ones"
            " (the interval narrows). If you mean it: --allow weak_reward in a run; elsewhere its"
            f" option: --set {folder}.allow_weak=true (of --judge: --judge-set, of --scorer:"
            " --scorer-set)."
        )
    return Trust("!", f"{why}: {says}; permitted")


def run_of(path: Path) -> Path | None:
    """Return the run that trained the weights in a folder; None if there is none at hand."""
    if (path.resolve().parent / "config.yaml").is_file():
        return path.resolve().parent
    record = provenance.read(path)
    made = Path(record.run) if record is not None and record.run else None
    return made if made is not None and (made / "config.yaml").is_file() else None


def _newest(run: Path) -> dict | None:
    """Return the newest line of a run's figures that has a held-out accuracy."""
    file = run / "metrics.jsonl"
    if not file.is_file():
        return None
    for text in reversed(file.read_text(encoding="utf-8", errors="replace").splitlines()):
        try:
            line = json.loads(text)
        except ValueError:  # a kill left half a line
            continue
        if isinstance(line, dict) and isinstance(line.get(ACCURACY), float) and line.get("step"):
            return line
    return None
