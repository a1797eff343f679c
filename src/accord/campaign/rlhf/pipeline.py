"""`accord rlhf`: supervised tuning ▸ reward model ▸ policy gradient, and a DPO run on the same
pairs beside it.

    DIR/sft · DIR/reward_model · DIR/ppo · DIR/dpo    ordinary runs; `accord resume`, `report` and
                                                      `export` take them
    DIR/measured/MODEL/held_out_*.jsonl               each model's answers to the same held-out
                                                      prompts
    DIR/seed-1/…                                      the same again with the next seed
    DIR/plan.json · DIR/log.jsonl · DIR/rlhf.json

Source: Ouyang et al. 2022, arXiv:2203.02155, §3.1; Rafailov et al. 2023, arXiv:2305.18290, for the
parts that DPO leaves out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from accord.assess.opened import OpenModel, open_model, open_start_of, still_inside
from accord.campaign.folder import CampaignFolder, campaign_lock
from accord.campaign.plan import require_same_plan
from accord.campaign.rlhf import measured, proxy, verdict
from accord.campaign.rlhf.cost import cost, in_memory, ways
from accord.campaign.rlhf.measured import Questions
from accord.campaign.rlhf.phases import DPO, PHASES, PPO, REWARD_MODEL, SFT, Recipe
from accord.campaign.rlhf.prompts import naming_of, require_plain, write_prompts
from accord.campaign.rlhf.terms import fingerprints
from accord.campaign.stages import (
    TrainOrResume,
    make_once,
    merge_stage,
    train_or_resume,
    train_stage,
)
from accord.config.schema import Config
from accord.data.containers import locate
from accord.data.order import draw_rows
from accord.data.prompts import read_prompts
from accord.data.tokenizer_digest import tokenizer_digest
from accord.distributed.device import take_device
from accord.distributed.world import World, join_world
from accord.evaluate.probe import KLReference
from accord.forward.choose import Forward
from accord.models import fingerprint
from accord.rewards.load import load_rewards, permitted_weak
from accord.runs.display import Display
from accord.runs.files import write_json
from accord.runs.folder import RunFolder
from accord.runs.identity import trajectory
from accord.runs.ranks import display_for_rank, require_fit
from accord.types import UsageError

RECORD, MEASURED, START = "rlhf.json", "measured", "start"
MOST_SEEDS = 1_000


@dataclass(frozen=True)
class Terms:
    """Options of the command, beside the recipe."""

    output: str
    against: str | None = None  # "dpo" or None
    seeds: int = 1

    def check(self) -> None:
        """Check the ranges of the options.

        Raises:
          UsageError: a value out of its range.
        """
        if self.against not in (None, DPO):
            raise UsageError(f"--against {self.against}: expected dpo.")
        if not 1 <= self.seeds <= MOST_SEEDS:
            raise UsageError(f"--seeds {self.seeds}: expected 1 to {MOST_SEEDS:,}.")


def rlhf(
    recipe: Recipe,
    terms: Terms,
    display: Display,
    command: Sequence[str] = (),
    carry: TrainOrResume = train_or_resume,
) -> dict:
    """Run all phases that are not over yet. Return the content of rlhf.json.

    Args:
      carry: trains or resumes one run.

    Raises:
      AccordError: of the class of its cause. Finished work is kept, and the same command resumes.
    """
    with join_world() as world:
        display = display_for_rank(display, world)
        recipe, configs = world.agree(lambda: _checked(recipe, terms, world))
        first = recipe.first()
        world.agree(lambda: take_device(world, first.model.device))
        with campaign_lock(terms.output, display, tuple(command)) as desk:
            world.on_first(lambda: require_same_plan(desk.folder, _plan(recipe, first, configs)))
            return _carried_out(desk, recipe, terms, carry)


def _checked(recipe: Recipe, terms: Terms, world: World) -> tuple[Recipe, dict[str, Config]]:
    """Check the options; return the recipe with its hub names pinned, and the config of each
    phase.
    """
    terms.check()
    recipe = recipe.pinned()
    first = recipe.first()
    configs = {
        phase: recipe.config(phase, Path(), first.train.seed)
        for phase in PHASES
        if not (phase == SFT and recipe.skip_sft)
    }
    if recipe.gold is not None:
        # report a missing reward now
        options, allow = configs[PPO].rollout_settings.gold_options, configs[PPO].allow
        load_rewards([recipe.gold], permitted_weak([recipe.gold], options, allow))
    require_plain(configs[PPO].data)
    for config in configs.values():
        require_fit(config, world)
    return recipe, configs


def _carried_out(desk: CampaignFolder, recipe: Recipe, terms: Terms, carry: TrainOrResume) -> dict:
    """Train and measure every seed; write and return the record."""
    lines = []
    first_seed = recipe.first().train.seed
    for number in range(terms.seeds):
        folder = desk.folder / f"seed-{number}" if number else desk.folder
        line = SeedPipeline(desk, recipe, folder, first_seed + number, terms.against, carry)
        line.train()
        line.measure()
        lines.append(line)

    def recorded() -> dict:
        seeds = [line.record() for line in lines]
        record = {
            "kind": "rlhf",
            "command": list(desk.command),
            "skip_sft": recipe.skip_sft,
            "gold": recipe.gold,
            "against": terms.against,
            "seeds": seeds,
            "ways": ways(seeds),
            **verdict.over_seeds([line.folder / MEASURED for line in lines], lines[0].models),
        }
        write_json(desk.folder / RECORD, record)
        return record

    return desk.world.on_first(recorded)


@dataclass
class SeedPipeline:
    """All phases of one seed."""

    desk: CampaignFolder
    recipe: Recipe
    folder: Path
    seed: int
    against: str | None
    carry: TrainOrResume

    @property
    def phases(self) -> list[str]:
        """The phases, in their order."""
        return [
            *([] if self.recipe.skip_sft else [SFT]),
            REWARD_MODEL,
            PPO,
            *([DPO] if self.against else []),
        ]

    @property
    def models(self) -> list[str]:
        """The policies that answer, the first one first."""
        return [START, *(phase for phase in self.phases if phase != REWARD_MODEL)]

    def config(self, phase: str) -> Config:
        return self.recipe.config(phase, self.folder, self.seed)

    def stage(self, phase: str) -> str:
        """Return the log's name for a phase of this seed."""
        return phase if self.folder == self.desk.folder else f"{self.folder.name}/{phase}"

    def train(self) -> None:
        """Train every phase that is not over yet. Merge adapters into the models that later phases
        load.
        """
        for phase in self.phases:
            train_stage(self.desk, self.stage(phase), self.config(phase), self.carry)
            if phase in (SFT, REWARD_MODEL):
                merge_stage(self.desk, f"{self.stage(phase)}/merge", self.folder / phase)

    # ------------------------------------------------------------ what came of it

    def measure(self) -> None:
        """Let every policy answer the same held-out prompts, and score the answers by the learned
        reward and by the gold one.
        """
        questions, ppo = self._questions(), self.config(PPO)
        for model in self.models:
            folder, name = self.folder / MEASURED / model, f"measured/{self.stage(model)}"
            answers = measured.answer(
                self.desk, name, folder, partial(self._opened, model), questions, {"model": model}
            )
            drawn = ppo.rollout_settings
            judged = [(measured.SCORED, drawn.rewards, drawn.reward_options)]
            if self.recipe.gold is not None:
                judged.append((measured.GOLD, [self.recipe.gold], drawn.gold_options))
            for output, rewards, options in judged:
                permitted = permitted_weak(rewards, options, ppo.allow)
                measured.score(self.desk, name, answers, output, rewards, permitted)

    def _questions(self) -> Questions:
        """Choose the same prompts and draws for all seeds, so that differences are paired."""
        first, ppo, file = (
            self.recipe.first(),
            self.config(PPO),
            self.desk.folder / "held_out.jsonl",
        )
        read = read_prompts(ppo.data.held_out_file, replace(naming_of(ppo.data), lenient=True))
        chosen = draw_rows(len(read.prompts), first.evaluate.rows, first.train.seed)
        make_once(
            self.desk,
            "held-out prompts",
            file,
            lambda: write_prompts(file, ppo.data.held_out_file, read, chosen),
        )
        return Questions(
            file,
            ppo.rollout_settings.num_generations_eval,
            ppo.rollout_settings.max_new_tokens,
            first.train.seed,
        )

    def _opened(self, model: str) -> tuple[OpenModel, KLReference | None]:
        """Open a policy, and the model that its KL is measured to: the tuned model, or the recipe's
        if tuning is skipped.
        """
        if model == START:
            opened = open_start_of(self.recipe.first())
            return opened, (
                None if self.recipe.skip_sft else _beside(open_model(str(self.folder / SFT)))
            )
        opened = open_model(str(self.folder / model))
        if model == SFT:
            return opened, None
        if still_inside(opened.model, opened.config):
            return opened, KLReference(
                Forward(opened.model, "padded", "", 0.0), opened.model.as_reference
            )
        return opened, _beside(open_start_of(opened.config))

    def record(self) -> dict:
        """Collect the figures of this seed."""
        costs = {
            phase: cost(self.desk, self.recipe, phase, self.config(phase), self.stage(phase))
            for phase in self.phases
        }
        for phase in (PPO, DPO):
            if phase in self.phases:
                config = self.config(phase)
                costs[phase]["models"] = in_memory(open_model(str(config.run_folder)), config)
        return {
            "seed": self.seed,
            "phases": {
                phase: {**costs[phase], "held_out": self._evaluated(phase)} for phase in self.phases
            },
            "models": {
                model: measured.figures(
                    self.folder / MEASURED / model, self.folder / MEASURED / START
                )
                for model in self.models
            },
            "curve": proxy.curve(self.folder / PPO),
            "hacking": proxy.is_hacked(self.folder / PPO),
        }

    def _evaluated(self, phase: str) -> dict:
        """Return the last held-out metrics of a phase's own run."""
        lines = [
            line
            for line in RunFolder(self.folder / phase).metrics()
            if any(name.startswith("eval_") for name in line)
        ]
        return (
            {name: value for name, value in lines[-1].items() if "eval_" in name} if lines else {}
        )


def _beside(other: OpenModel) -> KLReference:
    """Return a second model in memory to measure KL to."""
    return KLReference(Forward(other.model, "padded", "", 0.0), nullcontext)


def _plan(recipe: Recipe, first: Config, configs: dict[str, Config]) -> dict:
    """Collect everything that all phases depend on. The number of seeds and the DPO run are left
    out, so that they can be added later.
    """
    opened = open_start_of(first)
    files: dict[str, str] = {}
    for phase, config in configs.items():
        for side in ("train", "held_out"):
            with locate(getattr(config.data, side)) as source:
                files[f"{phase}: data.{side}"] = source.digest()
    return {
        "model": fingerprint.weights(opened.model.network),
        "tokenizer": tokenizer_digest(opened.model.tokenizer),
        "--skip-sft": recipe.skip_sft,
        "--gold": recipe.gold,
        **fingerprints([recipe.gold] if recipe.gold else []),
        **files,
        **{
            f"{phase}: {path}": value
            for phase, config in configs.items()
            for path, value in json.loads(json.dumps(trajectory(config))).items()
        },
    }
