"""`accord iterate`: rounds of sample ▸ score ▸ pair ▸ train, each round with the policy that the last one left.

    DIR/round-1/{prompts, answers, scored, pairs}.jsonl · run/ (an ordinary run) · held_out_*.jsonl
    DIR/start/held_out_*.jsonl · DIR/held_out.jsonl · DIR/plan.json · DIR/rounds.json

Sources: iterative DPO as in Xu et al. 2023, arXiv:2312.16682, and Dong et al. 2024, arXiv:2405.07863 (RLHFlow), whose reference
stays the first model; Yuan et al. 2024, arXiv:2401.10020, take the last round's.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from accord.assess.generation import Sampling
from accord.assess.opened import ADAPTER, Opened, open_model, open_start
from accord.assess.rollouts import pair_file, sample_opened, score_file
from accord.config import Config, LoraConfig, MovingConfig, make_config
from accord.data.prompts import Questions as Prompts
from accord.data.prompts import read_prompts
from accord.evaluate.probe import Start
from accord.models import fingerprint
from accord.online.pairing import Pairing
from accord.online.rewards.load import load_rewards
from accord.rlhf import measured
from accord.rlhf.folder import PLAN, Desk, hold_to, planned, working
from accord.rlhf.measured import Questions
from accord.rlhf.prompts import require_apart, require_plain, slice_of, write_prompts
from accord.rlhf.stages import CarryOut, carry_out, fingerprint_of, once, saved, trained
from accord.training.display import Display
from accord.training.files import write_json
from accord.training.folder import RunFolder
from accord.training.prepare import resolve_objective, trajectory
from accord.training.rows import drawn
from accord.types import DataError, UsageError

ROUNDS = "rounds.json"
REFERENCES = ("last", "first", "moving")
EACH = "prompts per round"  # of the plan
MOST = 10_000_000
CUT = 0.05  # share of answers cut at the limit that is said


@dataclass(frozen=True)
class Terms:
    """What an iteration was asked to do, beside its recipe."""

    output: str
    rounds: int = 3
    prompts: int | None = None  # of each round; None deals all of them out over the rounds
    reference: str = "last"  # last round's policy, the first model, or one that moves

    def check(self, base: Config) -> None:
        """
        Raises:
          UsageError: numbers out of range, or a recipe that these rounds could not follow.
        """
        for flag, value in {"--rounds": self.rounds, "--prompts-per-round": self.prompts}.items():
            if value is not None and not 1 <= value <= MOST:
                raise UsageError(f"{flag} {value}: expected 1 to {MOST:,}.")
        require_plain(base.data)
        _require_rollouts(base)
        _require_reference(base, self.reference)


def iterate(base: Config, terms: Terms, display: Display, command: Sequence[str] = (), carry: CarryOut = carry_out) -> dict:
    """Some rounds, or those of them that are not over yet; returns what rounds.json holds.

    Args:
      carry: trains one run, or goes on with it.

    Raises:
      AccordError: of the class that its cause has; what is finished stays, and the same command goes on.
    """
    terms.check(base)
    read, held_out = read_prompts(base.data.train), read_prompts(base.data.held_out)
    require_apart(read, held_out, base.allow)
    for specs, options in ((base.rollouts.rewards, base.rollouts.reward_options), (base.rollouts.gold, {})):
        if specs:
            load_rewards(specs, options)  # one that is missing is said now
    with working(terms.output, display, tuple(command)) as desk:
        size = _size(desk.folder, terms, len(read.prompts))
        hold_to(desk.folder, _plan(base, terms, read, held_out, size))
        work = Rounds(desk, base, terms, read, held_out, size, carry)
        record = work.measure(0)
        for number in range(1, terms.rounds + 1):
            work.train(number)
            record = work.measure(number)
        return record


@dataclass
class Rounds:
    """The rounds of one folder."""

    desk: Desk
    base: Config
    terms: Terms
    read: Prompts
    held_out: Prompts
    size: int
    carry: CarryOut

    def folder(self, number: int) -> Path:
        """Of a round; of the first model for 0."""
        return self.desk.folder / (f"round-{number}" if number else "start")

    def train(self, number: int) -> None:
        """Sample, score, pair and train, each where it is not over yet."""
        folder, name, rollouts = self.folder(number), f"round-{number}", self.base.rollouts
        answers, scored, pairs = (folder / f"{what}.jsonl" for what in ("answers", "scored", "pairs"))
        prompts = self._prompts(number)
        once(self.desk, f"{name}/sample", answers, lambda: self._sample(number, prompts, answers))
        self._say_cut(number)
        once(self.desk, f"{name}/score", scored, lambda: score_file(
            str(answers), str(scored), rollouts.rewards, rollouts.reward_options, self.desk.say,
        ))  # fmt: skip
        pairing = Pairing(rollouts.pairing, rollouts.margin, self._seed(number))
        once(self.desk, f"{name}/pair", pairs, lambda: pair_file(str(scored), str(pairs), pairing, self.desk.say))
        if not lines_of(pairs):
            raise DataError(
                f"{pairs}: no two answers to a prompt differ in reward by more than {rollouts.margin:g}, so there is nothing to train on.\n"
                "Another --output with: --set rollouts.k=8, a higher rollouts.temperature, a smaller rollouts.margin, or another reward."
            )
        trained(self.desk, f"{name}/train", self.config(number), self.carry)

    def _sample(self, number: int, prompts: Path, answers: Path) -> None:
        rollouts = self.base.rollouts
        sampling = Sampling(rollouts.k, rollouts.max_new_tokens, rollouts.temperature, 1.0, self._seed(number))
        done = sample_opened(
            self.policy(number - 1), read_prompts(str(prompts)), str(prompts), str(answers), sampling, say=self.desk.say,
            about=self._about(number),
        )  # fmt: skip
        for reason, count in done["left_out"].items():
            self.desk.say(f"! round {number}: {count:,} prompts left out: {reason}")

    def _say_cut(self, number: int) -> None:
        """Answers that the limit cut: a pair of texts ends in an end token all the same."""
        cut = 1 - self._ended(number)
        if cut > CUT:
            self.desk.say(
                f"! round {number}: {cut:.0%} of the answers were cut at {self.base.rollouts.max_new_tokens} tokens; training puts an end token "
                "behind them, and the policy learns to stop there. Longer ones: --set rollouts.max_new_tokens=…"
            )

    def _ended(self, number: int) -> float:
        """Share of a round's answers that the model ended itself."""
        with (self.folder(number) / "answers.jsonl").open(encoding="utf-8") as file:
            ended = [one for line in file for one in json.loads(line)["ended"]]
        return sum(ended) / len(ended)

    def _prompts(self, number: int) -> Path:
        chosen = slice_of(len(self.read.prompts), self.size, number, self.base.train.seed)
        if number * self.size > len(self.read.prompts):
            self.desk.say(f"! round {number}: all {len(self.read.prompts):,} prompts were answered before; some come again")
        file = self.folder(number) / "prompts.jsonl"
        return once(self.desk, f"round-{number}/prompts", file, lambda: write_prompts(file, self.base.data.train, self.read, chosen))

    def policy(self, number: int) -> Opened:
        """What round `number` left; the first model for 0."""
        return open_model(str(self.folder(number) / "run")) if number else open_start(self.base)

    def config(self, number: int) -> Config:
        """Of the round's run: the recipe's, on the round's pairs, from where the last round ended."""
        raw = self.base.model_dump(mode="json")
        folder, train = self.folder(number), self.base.train
        raw |= {"rollouts": None, "output": str(folder / "run")}
        raw["data"] |= {"train": str(folder / "pairs.jsonl"), "held_out": None}
        raw["train"] |= {"epochs": float(self.base.rollouts.passes) if train.steps is None else None}
        raw |= {"reference": _kind(self.base, self.terms.reference)}
        if self.terms.reference == "moving":
            raw["moving"] = (self.base.moving or MovingConfig()).model_dump(mode="json")
        if number > 1:
            before = saved(self.folder(number - 1) / "run")
            raw["model"] |= (
                {"adapter": str(before), "lora": LoraConfig().model_dump(mode="json")} if before.name == ADAPTER else {"name": str(before)}
            )
        return make_config(raw)

    def _seed(self, number: int) -> int:
        """Another one for each round, so that no two draw alike; 0 is that of the held-out prompts."""
        return int(np.random.SeedSequence([self.base.train.seed, number]).generate_state(1)[0])

    def _about(self, number: int) -> dict:
        return {"round": number, "plan": plan_of(self.desk.folder)}

    # ------------------------------------------------------------ what came of it

    def measure(self, number: int) -> dict:
        """A round's model on the held-out prompts; the record of all rounds so far, which is written."""
        folder, name = self.folder(number), f"round-{number}" if number else "start"
        questions = self._questions()
        answers = measured.answer(self.desk, name, folder, lambda: self._opened(number), questions, self._about(number))
        rollouts = self.base.rollouts
        measured.score(self.desk, name, answers, measured.SCORED, rollouts.rewards, rollouts.reward_options)
        if rollouts.gold:
            measured.score(self.desk, name, answers, measured.GOLD, rollouts.gold, {})
        record = {
            "kind": "iterate", "command": list(self.desk.command), "plan": plan_of(self.desk.folder),
            "objective": self.base.objective, "rewards": rollouts.rewards, "gold": rollouts.gold, "reference": self.terms.reference,
            "rounds": [self._record(n) for n in range(number + 1)],
        }  # fmt: skip
        write_json(self.desk.folder / ROUNDS, record)
        return record

    def _opened(self, number: int) -> tuple[Opened, Start | None]:
        opened = self.policy(number)
        return opened, measured.start_of(opened, self.base) if number else None

    def _questions(self) -> Questions:
        rollouts, file = self.base.rollouts, self.desk.folder / "held_out.jsonl"
        chosen = drawn(len(self.held_out.prompts), self.base.evaluate.rows, self.base.train.seed)
        once(self.desk, "held-out prompts", file, lambda: write_prompts(file, self.base.data.held_out, self.held_out, chosen))
        return Questions(file, rollouts.held_out_k, rollouts.max_new_tokens, self._seed(0))

    def _record(self, number: int) -> dict:
        folder = self.folder(number)
        out = {"round": number, "held_out": measured.figures(folder, self.folder(0))}
        if number == 0:
            return out
        lines = [line for line in RunFolder(folder / "run").metrics() if "loss" in line]
        return out | {
            "prompts": lines_of(folder / "answers.jsonl"), "ended": self._ended(number),
            "left_out": lines_of(folder / "prompts.jsonl") - lines_of(folder / "answers.jsonl"), "pairs": lines_of(folder / "pairs.jsonl"), "updates": len(lines),
            "train": {name: lines[-1].get(name) for name in ("loss", "rewards/margins", "rewards/accuracies")} if lines else {},
            **self.desk.spent(f"round-{number}/"),
        }  # fmt: skip


def lines_of(file: Path) -> int:
    """How many lines a file has."""
    with file.open("rb") as stream:
        return sum(1 for _ in stream)


def plan_of(folder: Path) -> str:
    """sha256 of the plan: what every answer's provenance names."""
    return hashlib.sha256((folder / PLAN).read_bytes()).hexdigest()


# ---------------------------------------------------------------- what can be asked, and what must stay the same


def _require_rollouts(base: Config) -> None:
    rollouts, objective = base.rollouts, resolve_objective(base)
    if rollouts is None:
        raise UsageError("Rounds need to know how answers are rewarded: a section in the recipe such as rollouts: {rewards: [vader], k: 4}.")
    if objective.rows != "pairs" or objective.needs != "logps":
        raise UsageError(f"objective = {objective.name}: a round trains a policy on pairs of its own answers. Take dpo, ipo, simpo, orpo, …")
    if base.train.epochs is not None:
        raise UsageError("train.epochs: over a round's pairs that is rollouts.passes. Leave it out.")
    if base.train.steps is not None and rollouts.passes != 1:
        raise UsageError("train.steps says how long a round trains, so rollouts.passes would do nothing. Leave one out.")


def _require_reference(base: Config, wanted: str) -> None:
    if wanted not in REFERENCES:
        raise UsageError(f"--reference {wanted}: expected {', '.join(REFERENCES)}.")
    if not resolve_objective(base).reference:
        if wanted != "last":
            raise UsageError(f"--reference {wanted}: {base.objective['name']} uses no reference. Leave it out.")
    elif wanted == "last" and base.reference in ("moving", "base"):
        raise UsageError(f"reference = {base.reference} in the recipe: say it as --reference {'moving' if base.reference == 'moving' else 'first'}.")
    elif wanted == "first" and base.reference not in ("auto", "base"):
        raise UsageError(f"--reference first, and reference = {base.reference} in the recipe. Leave the latter at auto.")
    elif wanted == "moving" and base.reference not in ("auto", "moving"):
        raise UsageError(f"--reference moving, and reference = {base.reference} in the recipe. Leave the latter at auto.")
    if wanted == "first" and base.model.lora is None:
        raise UsageError("--reference first is the model without its adapters, and all weights train. Train adapters, or take last.")
    if wanted == "first" and base.model.adapter is not None:
        raise UsageError(
            "--reference first would be the base without model.adapter, and not the model that the rounds begin with.\n"
            "Merge the adapter first: accord export RUN --merge, and name what it writes as model.name."
        )


def _kind(base: Config, wanted: str) -> str:
    """What a round's run calls its reference."""
    return {"last": base.reference, "first": "base", "moving": "moving"}[wanted]


def _size(folder: Path, terms: Terms, total: int) -> int:
    """Prompts of a round: as asked, as the folder was begun with, or all dealt out over the rounds.

    Raises:
      UsageError: more than there are.
    """
    size = terms.prompts or planned(folder).get(EACH) or max(1, total // terms.rounds)
    if size > total:
        raise UsageError(f"--prompts-per-round {size}: there are {total:,} different prompts, and none comes twice in a round.")
    return size


def _plan(base: Config, terms: Terms, read: Prompts, held_out: Prompts, size: int) -> dict:
    """What every round hangs on. How many rounds is not among it: further ones are welcome."""
    opened = open_start(base)
    folders = [name for name in map(_reward_name, base.rollouts.rewards) if Path(name).expanduser().is_dir()]
    return {
        "model": fingerprint.weights(opened.model.network), "tokenizer": fingerprint.tokenizer(opened.model.tokenizer),
        "prompts": read.digest, "held-out prompts": held_out.digest,
        **{f"reward model {name}": fingerprint_of(Path(name).expanduser()) for name in folders},
        EACH: size, "--reference": terms.reference,
        **json.loads(json.dumps(trajectory(base))),
    }  # fmt: skip


def _reward_name(spec: str) -> str:
    name, sign, _ = spec.rpartition("=")
    return name if sign else spec
