"""Trust in a reward model: the accuracy that its own run measured on held-out pairs.

A reward model that ranks held-out pairs no better than a coin gives every later figure, and is
never seen in one.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from accord.models import provenance
from accord.types import Refused, UsageError

ACCURACY, LOW, HIGH = (
    "eval_rewards/accuracies",
    "diag/eval_accuracy_low",
    "diag/eval_accuracy_high",
)
# checks of a run that find held-out rows among the rows that were trained on
LEAKS = ("data.leak", "data.near_leak", "data.near_rows", "data.seen_before")
# why a reward model is not to be trusted, and what to do
_INVERTED = (
    "it prefers the rejected answers (labels or sides exchanged?)",
    "More pairs would not help: the sides of its training rows are exchanged against those of the"
    " held-out ones. Compare a row of each file; where the training file has them exchanged, train"
    " it again with --columns chosen=rejected,rejected=chosen.",
)
_COIN = (
    "it is not known to rank answers better than a coin",
    "Train it on more pairs, or measure it on more held-out ones (the interval narrows).",
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
    low, high = _number(line.get(LOW)), _number(line.get(HIGH))
    of = f"at step {line['step']:,} of {run}"
    known = low is not None and high is not None
    between = f"{low:.3f} to {high:.3f}" if known else "interval not recorded"
    says = f"held-out accuracy {line[ACCURACY]:.3f} ({between}) {of}"
    if trained := _trained_on(run):
        says += f"; that accuracy was measured on rows that were trained on: {trained}"
    if low is None or high is None:
        return Trust("!", f"how far this accuracy can be believed is not known: {says}")
    if low > 0.5:
        return Trust("!" if trained else "·", says)
    why, remedy = _INVERTED if high < 0.5 else _COIN
    if not allow_weak:
        raise Refused(
            f"{folder}: {why}: {says}.\n{remedy} If you mean it: --allow weak_reward in a run;"
            f" elsewhere its option: --set {folder}.allow_weak=true (of --judge: --judge-set, of"
            " --scorer: --scorer-set)."
        )
    return Trust("!", f"{why}: {says}; permitted")


def require_scorer(name: str) -> None:
    """Refuse a run's folder or an adapter in place of a reward model, and say how one is made.

    Raises:
      UsageError: with the commands that work.
    """
    path = Path(name).expanduser()
    if (path / "config.json").is_file():
        return
    if (path / "adapter_config.json").is_file():
        run = run_of(path)
        if run is not None:
            raise UsageError(f"{name} holds an adapter, not a reward model.\n{how_to_score(run)}")
        raise UsageError(
            f"{name} holds an adapter, not a reward model, and the run that trained it is not at"
            " hand.\nMerge it into its base with the tool that made it (of peft:"
            " merge_and_unload, then save_pretrained), and name that folder: --reward DIR"
        )
    if (path / "config.yaml").is_file():
        raise UsageError(f"{name} is a run, not a reward model.\n{how_to_score(path)}")


def how_to_score(run: Path) -> str:
    """Give the commands that score answers with the reward model that a run trained."""
    if (run / "final" / "config.json").is_file():
        return f"Name the weights that it trained: accord score ANSWERS --reward {run / 'final'}"
    merged = f"{run}-merged"
    return (
        f"Merge what it trained into one model: accord export {run} --merge --output {merged}\n"
        f"and name that as the reward: accord score ANSWERS --reward {merged}"
    )


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
        if isinstance(line, dict) and line.get("step") and _number(line.get(ACCURACY)) is not None:
            return line
    return None


def _number(value: object) -> float | None:
    """Return a finite number of a JSON line, written as 1 or as 1.0; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return float(value) if math.isfinite(value) else None


def _trained_on(run: Path | None) -> str:
    """Return what the run itself found of held-out rows among those that it trained on."""
    try:
        assert run is not None, "it has a recorded accuracy"
        found = json.loads((run / "preflight.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    return "; ".join(
        str(each.get("says", each["check"]))
        for each in (found if isinstance(found, list) else [])
        if isinstance(each, dict) and each.get("check") in LEAKS and each.get("verdict") != "ok"
    )
