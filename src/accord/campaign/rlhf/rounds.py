"""`accord iterate`: rounds of sample ▸ score ▸ pair ▸ train, each with the policy of the round
before.

    DIR/round-1/{prompts, answers, scored, pairs}.jsonl · run/ (an ordinary run) · held_out_*.jsonl
    DIR/start/held_out_*.jsonl · DIR/held_out.jsonl · DIR/plan.json · DIR/rounds.json

Sources: iterative DPO as in Xu et al. 2023, arXiv:2312.16682, and Dong et al. 2024,
arXiv:2405.07863 (RLHFlow), whose reference stays the first model; Yuan et al. 2024,
arXiv:2401.10020, take the last round's.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from accord.assess.generation import Sampling
from accord.assess.opened import ADAPTER, OpenModel, open_model, open_start_of
from accord.assess.rollouts import pair_file, sample_opened, score_file
from accord.campaign.folder import CampaignFolder, campaign_lock
from accord.campaign.plan import plan_hash, require_same_plan
from accord.campaign.rlhf import measured
from accord.campaign.rlhf.measured import Questions
from accord.campaign.rlhf.prompts import naming_of, require_apart, slice_of, write_prompts
from accord.campaign.rlhf.terms import Terms, kind_of, plan_for, size_of
from accord.campaign.stages import TrainOrResume, make_once, model_of, train_or_resume, train_stage
from accord.config.schema import Config, LoraConfig, MovingConfig, make_config
from accord.data.order import draw_rows
from accord.data.prompts import Questions as Prompts
from accord.data.prompts import read_prompts
from accord.distributed.device import take_device
from accord.distributed.world import join_world
from accord.errors import plural
from accord.evaluate.probe import KLReference
from accord.rewards.load import load_rewards, permitted_weak
from accord.rollouts.pairing import Pairing
from accord.runs.display import Display
from accord.runs.files import write_json
from accord.runs.folder import RunFolder
from accord.runs.hub_names import pinned_alike
from accord.runs.ranks import display_for_rank, require_fit
from accord.types import DataError

ROUNDS = "rounds.json"
CUT = 0.05  # share of answers cut at the limit above which there is a warning


def iterate(
    base: Config,
    terms: Terms,
    display: Display,
    command: Sequence[str] = (),
    carry: TrainOrResume = train_or_resume,
) -> dict:
    """Run all rounds that are not over yet. Return the content of rounds.json.

    Args:
      carry: trains or resumes one run.

    Raises:
      AccordError: of the class of its cause. Finished work is kept, and the same command resumes.
    """
    with join_world() as world:
        display = display_for_rank(display, world)
        base = pinned_alike(base, world)
        world.agree(lambda: require_fit(base, world))
        read, held_out = world.agree(lambda: _checked(base, terms, display))
        world.agree(lambda: take_device(world, base.model.device))
        with campaign_lock(terms.output, display, tuple(command)) as desk:

            def planned() -> int:
                size = size_of(desk.folder, terms, len(read.prompts))
                require_same_plan(desk.folder, plan_for(base, terms, read, held_out, size))
                return size

            work = Rounds(desk, base, terms, read, held_out, world.on_first(planned), carry)
            record = work.measure(0)
            for number in range(1, terms.rounds + 1):
                work.train(number)
                record = work.measure(number)
            return record


def _checked(base: Config, terms: Terms, display: Display) -> tuple[Prompts, Prompts]:
    """Check the recipe, and read its prompts: those to train on, and those held out."""
    terms.check(base)
    named = naming_of(base.data)
    read = read_prompts(base.data.train, named)
    held_out = read_prompts(base.data.held_out_file, replace(named, lenient=True))
    for each in (read, held_out):
        for line in each.ledger.lines():
            display.line(line)
    require_apart(read, held_out, base.allow)
    for specs, options in (
        (base.rollout_settings.rewards, base.rollout_settings.reward_options),
        (base.rollout_settings.gold, base.rollout_settings.gold_options),
    ):
        if specs:
            load_rewards(
                specs, permitted_weak(specs, options, base.allow)
            )  # report a missing reward now
    return read, held_out


@dataclass
class Rounds:
    """The rounds of one folder."""

    desk: CampaignFolder
    base: Config
    terms: Terms
    read: Prompts
    held_out: Prompts
    size: int
    carry: TrainOrResume

    def folder(self, number: int) -> Path:
        """Return the folder of a round; that of the first model for 0."""
        return self.desk.folder / (f"round-{number}" if number else "start")

    def train(self, number: int) -> None:
        """Sample, score, pair and train; skip each step that is over."""
        folder, name, rollouts = self.folder(number), f"round-{number}", self.base.rollout_settings
        answers, scored, pairs = (
            folder / f"{what}.jsonl" for what in ("answers", "scored", "pairs")
        )
        prompts = self._prompts(number)
        make_once(
            self.desk,
            f"{name}/sample",
            answers,
            lambda: self._sample(number, prompts, answers),
            together=True,
        )
        self._say_cut(number)
        make_once(
            self.desk,
            f"{name}/score",
            scored,
            lambda: score_file(
                str(answers),
                str(scored),
                rollouts.rewards,
                permitted_weak(rollouts.rewards, rollouts.reward_options, self.base.allow),
                self.desk.say,
                world=self.desk.world,
                poll=self.desk.stop.poll,
            ),
            together=True,
        )
        pairing = Pairing(rollouts.pairing, rollouts.margin, self._seed(number))
        make_once(
            self.desk,
            f"{name}/pair",
            pairs,
            # a file without pairs is said below, with the recipe's own keys
            lambda: pair_file(str(scored), str(pairs), pairing, self.desk.say, may_be_empty=True),
        )
        if not lines_of(pairs):
            raise DataError(
                f"{pairs}: no two answers to a prompt differ in reward by more than"
                f" {rollouts.margin:g}, so there is nothing to train on.\nAnother --output with:"
                " --set rollouts.num_generations=8, a higher rollouts.temperature, a"
                " smaller rollouts.margin, or another reward."
            )
        train_stage(self.desk, f"{name}/train", self.config(number), self.carry)

    def _sample(self, number: int, prompts: Path, answers: Path) -> None:
        rollouts = self.base.rollout_settings
        sampling = Sampling(
            rollouts.num_generations,
            rollouts.max_new_tokens,
            rollouts.temperature,
            1.0,
            self._seed(number),
        )
        done = sample_opened(
            self.policy(number - 1),
            read_prompts(str(prompts)),
            str(prompts),
            str(answers),
            sampling,
            say=self.desk.say,
            about=self._about(number),
            world=self.desk.world,
            poll=self.desk.stop.poll,
        )
        for reason, count in done["left_out"].items():
            self.desk.say(f"! round {number}: {plural(count, 'prompt')} left out: {reason}")

    def _say_cut(self, number: int) -> None:
        """Warn about answers that the limit cut: they are trained on without an end token."""
        cut = 1 - self._ended(number)
        if cut > CUT:
            self.desk.say(
                f"! round {number}: {cut:.0%} of the answers were cut at"
                f" {self.base.rollout_settings.max_new_tokens} tokens; they get no end token, so"
                " the policy does not learn from them where to end. Longer ones: --set"
                " rollouts.max_new_tokens=…"
            )

    def _ended(self, number: int) -> float:
        """Return the share of a round's answers that the model ended itself."""
        with (self.folder(number) / "answers.jsonl").open(encoding="utf-8") as file:
            ended = [one for line in file for one in json.loads(line)["ended"]]
        return sum(ended) / len(ended)

    def _prompts(self, number: int) -> Path:
        chosen = slice_of(len(self.read.prompts), self.size, number, self.base.train.seed)
        if number * self.size > len(self.read.prompts):
            self.desk.say(
                f"! round {number}: all {len(self.read.prompts):,} prompts were answered before;"
                " some come again"
            )
        file = self.folder(number) / "prompts.jsonl"
        return make_once(
            self.desk,
            f"round-{number}/prompts",
            file,
            lambda: write_prompts(file, self.base.data.train, self.read, chosen),
        )

    def policy(self, number: int) -> OpenModel:
        """Open the model of round `number`; the first model for 0."""
        return open_model(str(self.folder(number) / "run")) if number else open_start_of(self.base)

    def config(self, number: int) -> Config:
        """Build the config of the round's run: the recipe on the round's pairs, starting from the
        model of the last round.
        """
        raw = self.base.model_dump(mode="json")
        folder, train = self.folder(number), self.base.train
        raw |= {"rollouts": None, "output": str(folder / "run")}
        raw["data"] |= {"train": str(folder / "pairs.jsonl"), "held_out": None}
        raw["data"] |= {"columns": {}, "ignore_columns": ()}  # of the prompts' file, not of ours
        raw["train"] |= {
            "epochs": float(self.base.rollout_settings.num_iterations)
            if train.steps is None
            else None
        }
        raw |= {"reference": kind_of(self.base, self.terms.reference)}
        if self.terms.reference == "moving":
            raw["moving"] = (self.base.moving or MovingConfig()).model_dump(mode="json")
        if number > 1:
            before = model_of(self.folder(number - 1) / "run")
            raw["model"] |= (
                {"adapter": str(before), "lora": LoraConfig().model_dump(mode="json")}
                if before.name == ADAPTER
                else {"name": str(before)}
            )
        return make_config(raw)

    def _seed(self, number: int) -> int:
        """Return a seed for each round, so that no two draw alike. The held-out prompts use that of
        round 0.
        """
        return int(np.random.SeedSequence([self.base.train.seed, number]).generate_state(1)[0])

    def _about(self, number: int) -> dict:
        return {"round": number, "plan": plan_hash(self.desk.folder)}

    # ------------------------------------------------------------ what came of it

    def measure(self, number: int) -> dict:
        """Measure a round's model on the held-out prompts. Write and return the record of all
        rounds so far.
        """
        folder, name = self.folder(number), f"round-{number}" if number else "start"
        questions = self._questions()
        answers = measured.answer(
            self.desk, name, folder, lambda: self._opened(number), questions, self._about(number)
        )
        rollouts = self.base.rollout_settings
        judged = [(measured.SCORED, rollouts.rewards, rollouts.reward_options)]
        if rollouts.gold:
            judged.append((measured.GOLD, rollouts.gold, rollouts.gold_options))
        for output, rewards, options in judged:
            permitted = permitted_weak(rewards, options, self.base.allow)
            measured.score(self.desk, name, answers, output, rewards, permitted)
        return self.desk.world.on_first(lambda: self._recorded(number))

    def _recorded(self, number: int) -> dict:
        """Write and return the record of all rounds so far."""
        rollouts = self.base.rollout_settings
        record = {
            "kind": "iterate",
            "command": list(self.desk.command),
            "plan": plan_hash(self.desk.folder),
            "objective": self.base.objective,
            "rewards": rollouts.rewards,
            "gold": rollouts.gold,
            "reference": self.terms.reference,
            "rounds": [self._record(n) for n in range(number + 1)],
        }
        write_json(self.desk.folder / ROUNDS, record)
        return record

    def _opened(self, number: int) -> tuple[OpenModel, KLReference | None]:
        opened = self.policy(number)
        return opened, measured.kl_start(opened, self.base) if number else None

    def _questions(self) -> Questions:
        rollouts, file = self.base.rollout_settings, self.desk.folder / "held_out.jsonl"
        chosen = draw_rows(
            len(self.held_out.prompts), self.base.evaluate.rows, self.base.train.seed
        )
        make_once(
            self.desk,
            "held-out prompts",
            file,
            lambda: write_prompts(file, self.base.data.held_out_file, self.held_out, chosen),
        )
        return Questions(
            file, rollouts.num_generations_eval, rollouts.max_new_tokens, self._seed(0)
        )

    def _record(self, number: int) -> dict:
        folder = self.folder(number)
        out = {"round": number, "held_out": measured.figures(folder, self.folder(0))}
        if number == 0:
            return out
        lines = [line for line in RunFolder(folder / "run").metrics() if "loss" in line]
        return out | {
            "prompts": lines_of(folder / "answers.jsonl"),
            "pairs": lines_of(folder / "pairs.jsonl"),
            "updates": len(lines),
            "left_out": lines_of(folder / "prompts.jsonl") - lines_of(folder / "answers.jsonl"),
            "ended": self._ended(number),
            "train": (
                {
                    name: lines[-1].get(name)
                    for name in ("loss", "rewards/margins", "rewards/accuracies")
                }
                if lines
                else {}
            ),
            **self.desk.spent(f"round-{number}/"),
        }


def lines_of(file: Path) -> int:
    """Count the lines of a file."""
    with file.open("rb") as stream:
        return sum(1 for _ in stream)
