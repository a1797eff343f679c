"""The files of a run's batches of answers: one for each, rollouts/N.json, sealed by a hash."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accord.environment.digests import text_digest
from accord.rollouts.batches import RolloutBatch
from accord.rollouts.prompts import PromptSet
from accord.rollouts.record import Answer
from accord.runs.display import Display
from accord.runs.files import write_text, writing
from accord.types import Refused

FOLDER = "rollouts"
FORMAT = 2  # 1 had the sampler's log-prob of a whole answer alone, and no segments


@dataclass(frozen=True)
class BatchFiles:
    """The batches of a run on disk; without a folder there are none."""

    folder: Path | None  # the run's
    display: Display

    def path(self, number: int) -> Path:
        assert self.folder is not None, "without a folder no batch is written or looked for"
        return self.folder / FOLDER / f"{number:06}.json"

    def write(self, number: int, content: dict) -> None:
        """Write a batch, whole or not at all."""
        if self.folder is None:
            return
        with writing(self.folder):
            (self.folder / FOLDER).mkdir(exist_ok=True)
        body = json.dumps({"format": FORMAT, "batch": number, **content}, ensure_ascii=True)
        seal = json.dumps({"sha256": text_digest(body)})
        write_text(self.path(number), f"{seal}\n{body}\n")

    def load(self, number: int) -> dict | None:
        """Load a batch, if it is complete.

        Raises:
          Refused: another version of accord wrote it.
        """
        if self.folder is None or not (file := self.path(number)).is_file():
            return None
        try:
            seal, body = file.read_text(encoding="utf-8").splitlines()
            whole = json.loads(seal)["sha256"] == text_digest(body)
            found = json.loads(body) if whole else None
        except (ValueError, KeyError, TypeError, OSError):
            found = None
        if found is None:
            self.display.line(f"! {file} is damaged and is passed over")
        elif (written := found.get("format", 1)) != FORMAT:
            raise Refused(
                f"{file} is a batch of answers in format {written}; this accord reads format"
                f" {FORMAT}. Go on with the version of accord that began this run"
                " (environment.json names it), or start a new run."
            )
        return found


def content_of(answers: Sequence[Answer], prompts: PromptSet, out: RolloutBatch) -> dict:
    """Return the record of a batch of answers, and of what was made of them."""
    asked = dict.fromkeys(a.prompt for a in answers)
    return {
        "carried": out.carried.as_dict(),
        "figures": out.figures,
        "not_trained_on": dict(out.reasons),
        "prompts": {str(n): list(prompts.trees[n]) for n in asked},
        "at": [str(prompts.question(a.prompt).origin) for a in answers],
        "answers": [a.as_dict() for a in answers],
    }


def difference(found: dict, prompts: PromptSet, policy: str | None) -> str:
    """Say in what a recorded batch is another than the one looked for; nothing, if it is not.

    Args:
      policy: the weights that must have drawn it; None if any may have.
    """
    asked = {int(n): tuple(ids) for n, ids in found["prompts"].items()}
    if any(prompts.trees[n] != ids for n, ids in asked.items()):
        return "has other prompts"
    answers = [Answer.from_dict(answer) for answer in found["answers"]]
    if policy is not None and any(answer.policy != policy for answer in answers):
        return "was drawn by other weights than these"
    return ""
