"""Options of the rounds: their ranges, the combinations that make no sense, and the settings that
must stay the same between sessions.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accord.assess.opened import open_start_of
from accord.campaign.plan import read_plan
from accord.campaign.rlhf.prompts import require_plain
from accord.campaign.stages import fingerprint_of
from accord.config.schema import Config
from accord.data.prompts import Questions
from accord.data.tokenizer_digest import tokenizer_digest
from accord.models import fingerprint
from accord.objectives.configured import resolve_objective
from accord.rewards.load import parse_weighted
from accord.runs.identity import trajectory
from accord.types import UsageError

REFERENCES = ("last", "first", "moving")
EACH = "prompts per round"  # key of the plan
MOST = 10_000_000
# fields of rollouts for runs that learn while they draw
ONLINE = (
    *("dynamic_sampling", "overlong", "overlong_buffer"),
    *("ahead", "max_gap", "correction", "correction_clip", "correction_low"),
)


@dataclass(frozen=True)
class Terms:
    """Options of an iteration, beside its recipe."""

    output: str
    rounds: int = 3
    prompts: int | None = None  # per round; None divides all of them among the rounds
    reference: str = "last"  # last round's policy, the first model, or one that moves

    def check(self, base: Config) -> None:
        """Check the options against the recipe.

        Raises:
          UsageError: numbers out of range, or a recipe that these rounds could not follow.
        """
        for flag, value in {"--rounds": self.rounds, "--prompts-per-round": self.prompts}.items():
            if value is not None and not 1 <= value <= MOST:
                raise UsageError(f"{flag} {value}: expected 1 to {MOST:,}.")
        require_plain(base.data)
        _require_rollouts(base)
        _require_reference(base, self.reference)


def _require_rollouts(base: Config) -> None:
    rollouts, objective = base.rollouts, resolve_objective(base)
    if rollouts is None:
        raise UsageError(
            "Rounds need to know how answers are rewarded: a section in the recipe such as"
            " rollouts: {rewards: [vader], num_generations: 4}."
        )
    if rollouts.reward_models != "auto":
        raise UsageError(
            f"rollouts.reward_models = {rollouts.reward_models}: in rounds each process has a copy."
            " Leave it out."
        )
    if objective.rows != "pairs" or objective.needs != "logps":
        raise UsageError(
            f"objective = {objective.name}: a round trains a policy on pairs of its own answers."
            " Take dpo, ipo, simpo, orpo, …"
        )
    for name in ONLINE:
        if getattr(rollouts, name) != type(rollouts).model_fields[name].default:
            raise UsageError(
                f"rollouts.{name} is of runs that learn while they draw; a round draws its answers"
                " first, and it would do nothing. Leave it out."
            )
    if base.train.epochs is not None:
        raise UsageError(
            "train.epochs: over a round's pairs that is rollouts.num_iterations. Leave it out."
        )
    if base.train.steps is not None and rollouts.num_iterations != 1:
        raise UsageError(
            "train.steps says how long a round trains, so rollouts.num_iterations would do"
            " nothing. Leave one out."
        )


def _require_reference(base: Config, wanted: str) -> None:
    if wanted not in REFERENCES:
        raise UsageError(f"--reference {wanted}: expected {', '.join(REFERENCES)}.")
    if not resolve_objective(base).reference:
        if wanted != "last":
            raise UsageError(
                f"--reference {wanted}: {base.objective['name']} uses no reference. Leave it out."
            )
    elif wanted == "last" and base.reference in ("moving", "base"):
        raise UsageError(
            f"reference = {base.reference} in the recipe: say it as --reference"
            f" {'moving' if base.reference == 'moving' else 'first'}."
        )
    elif wanted == "first" and base.reference not in ("auto", "base"):
        raise UsageError(
            f"--reference first, and reference = {base.reference} in the recipe. Leave the latter"
            " at auto."
        )
    elif wanted == "moving" and base.reference not in ("auto", "moving"):
        raise UsageError(
            f"--reference moving, and reference = {base.reference} in the recipe. Leave the latter"
            " at auto."
        )
    if wanted == "first" and base.model.lora is None:
        raise UsageError(
            "--reference first is the model without its adapters, and all weights train. Train"
            " adapters, or take last."
        )
    if wanted == "first" and base.model.adapter is not None:
        raise UsageError(
            "--reference first would be the base without model.adapter, and not the model that the"
            " rounds begin with.\nMerge the adapter first: accord export RUN --merge, and name what"
            " it writes as model.name."
        )


def kind_of(base: Config, wanted: str) -> str:
    """Return the kind of reference of a round's run."""
    return {"last": base.reference, "first": "base", "moving": "moving"}[wanted]


def size_of(folder: Path, terms: Terms, total: int) -> int:
    """Choose the number of prompts of a round: the option, else the number in the folder's plan,
    else an equal share for each round.

    Raises:
      UsageError: more than there are.
    """
    size = terms.prompts or read_plan(folder).get(EACH) or max(1, total // terms.rounds)
    if size > total:
        raise UsageError(
            f"--prompts-per-round {size}: there are {total:,} different prompts, and none comes"
            " twice in a round."
        )
    return size


def plan_for(base: Config, terms: Terms, read: Questions, held_out: Questions, size: int) -> dict:
    """Collect everything that all rounds depend on. The number of rounds is left out, so that
    further ones can be added.
    """
    opened = open_start_of(base)
    return {
        "model": fingerprint.weights(opened.model.network),
        "tokenizer": tokenizer_digest(opened.model.tokenizer),
        "prompts": read.digest,
        "held-out prompts": held_out.digest,
        **fingerprints([*base.rollout_settings.rewards, *base.rollout_settings.gold]),
        EACH: size,
        "--reference": terms.reference,
        **json.loads(json.dumps(trajectory(base))),
    }


def fingerprints(rewards: Sequence[str]) -> dict[str, str]:
    """Compute the fingerprints of the reward models among some rewards. Another model under the
    same name would be another judge.
    """
    folders = [Path(name).expanduser() for name, _ in map(parse_weighted, rewards)]
    return {
        f"reward model {folder}": fingerprint_of(folder) for folder in folders if folder.is_dir()
    }
