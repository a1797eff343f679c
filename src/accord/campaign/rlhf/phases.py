"""The recipe of `accord rlhf`: shared sections for all phases, and one section of its own for each
phase.

    model, data, train, evaluate, checkpoint, monitor, allow    shared
    sft, reward_model, ppo, dpo                                 any field of an ordinary recipe, on
                                                                top of what is shared

`data.train` and `data.held_out` are pairs. The supervised phase imitates their chosen answers, or
`data.sft`; the policy gradient answers their prompts, or `data.prompts`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from accord.config.build import build
from accord.config.recipe_paths import name_hubs, resolve_paths
from accord.config.schema import Config, load_recipe, parse_assignment
from accord.objectives import POLICY_OBJECTIVES
from accord.objectives.configured import resolve_objective
from accord.objectives.policy_table import BoundPolicy
from accord.runs.hub_names import pin
from accord.types import UsageError

SFT, REWARD_MODEL, PPO, DPO = PHASES = ("sft", "reward_model", "ppo", "dpo")
METHODS = {SFT: "sft", REWARD_MODEL: "bradley_terry", PPO: "ppo", DPO: "dpo"}
MERGED = "merged"  # beside a run: its adapter in its base
# sections with hyper-parameters
TUNED = ("objective", "reference", "moving", "train", "rollouts", "model.lora")
# fields of rollouts for the judging of answers, and their number
JUDGED = (
    "rewards",
    "reward_options",
    "reward_models",
    "gold",
    "gold_options",
    "num_generations_eval",
)
# fields of rollouts that ppo refuses
OF_PAIRS = ("pairing", "margin", "temperature", "dynamic_sampling")
NOT_TUNED = (
    "objective.name",
    *(f"rollouts.{name}" for name in JUDGED),
    "train.seed",
    "train.parallel",
    "train.recompute",
    "train.micro_tokens",
)


@dataclass(frozen=True)
class Recipe:
    """The recipe as it was written, not yet resolved."""

    shared: Mapping[str, Any]
    own: Mapping[str, Mapping[str, Any]]  # phase -> its section
    allow: tuple[str, ...]
    skip_sft: bool
    gold: str | None

    @classmethod
    def read(
        cls,
        recipe: str,
        assignments: Iterable[str],
        allow: Sequence[str],
        *,
        skip_sft: bool,
        gold: str | None,
    ) -> Recipe:
        """Read a recipe.

        Raises:
          UsageError: unreadable, or a section where it does not belong.
        """
        raw = load_recipe(recipe)
        later = [parse_assignment(assignment) for assignment in assignments]
        given = {".".join(path) for path, _ in later}
        resolve_paths(raw, recipe, given=given, parts=PHASES)
        for path, value in later:
            _put(raw, path, value)
        own = {phase: raw.pop(phase, None) or {} for phase in PHASES}
        if wrong := next(
            (phase for phase, section in own.items() if not isinstance(section, dict)), None
        ):
            raise UsageError(
                f"{wrong}: expected a section with keys of an ordinary recipe, such as {wrong}:"
                " {train: {steps: 100}}."
            )
        for where, section in {
            "": raw,
            **{f"{phase}: ": section for phase, section in own.items()},
        }.items():
            for name in ("model", "data", "train", "rollouts"):
                if section.get(name) is not None and not isinstance(section[name], dict):
                    raise UsageError(
                        f"{where}{name}: expected a section with keys, got {section[name]!r:.60}."
                    )
        for name in ("objective", "rollouts", "output", "reference", "moving"):
            if name in raw:
                raise UsageError(
                    f"{name}: say it in the section of its phase ({', '.join(PHASES)}): the phases"
                    " do not share it."
                )
        if skip_sft and own[SFT]:
            raise UsageError("--skip-sft, and a section sft: it would do nothing. Leave one out.")
        return cls(raw, own, tuple(allow), skip_sft, gold)

    def pinned(self) -> Recipe:
        """Return the recipe with the commits that its hub names stand for now.

        Raises:
          AccordError: a name stands for nothing, in words.
        """
        raw = copy.deepcopy({**self.shared, **self.own})
        if "hub" in self.allow or "hub" in (raw.get("allow") or ()):
            name_hubs(raw, parts=PHASES)
        pin(raw, PHASES)
        own = {phase: raw.pop(phase) for phase in PHASES}
        return replace(self, shared=raw, own=own)

    def config(self, phase: str, folder: Path, seed: int) -> Config:
        """Build the config of one phase's run under `folder`.

        Raises:
          UsageError: an error in the recipe, naming the phase.
        """
        raw = merge(copy.deepcopy(dict(self.shared)), {"objective": {"name": METHODS[phase]}})
        self._begin(phase, folder, raw)
        raw = merge(raw, copy.deepcopy(dict(self.own[phase])))
        if "gold" in (raw.get("rollouts") or {}):
            raise UsageError(
                f"{phase}: rollouts.gold: what the learned reward stands for is one thing for all"
                " phases. Say it as --gold."
            )
        raw = merge(raw, {"output": str(folder / phase), "train": {"seed": seed}})
        self._data(phase, raw)
        if phase == PPO:
            raw["rollouts"] = (
                {"rewards": [str(self.reward(folder))]}
                | ({"gold": [self.gold]} if self.gold else {})
                | (raw.get("rollouts") or {})
            )
        try:
            config = build(raw, allow=self.allow)
            _require(phase, config)
        except UsageError as error:
            raise UsageError(f"{phase}: {error}") from error
        return config

    def first(self) -> Config:
        """Build a config of the model that the first phase starts from."""
        raw = copy.deepcopy(dict(self.shared))
        self._data(DPO, raw)
        return build(raw, allow=self.allow)

    def reward(self, folder: Path) -> Path:
        """Return the future folder of the reward model."""
        return self._whole(REWARD_MODEL, folder)

    def before(self, folder: Path) -> Path | None:
        """Return the run that policies start from; None if they start from the recipe's model."""
        return None if self.skip_sft else folder / SFT

    def options(self, phase: str) -> list[str]:
        """List the hyper-parameters that the recipe sets for a phase, by path."""
        raw = merge(copy.deepcopy(dict(self.shared)), copy.deepcopy(dict(self.own[phase])))
        return sorted(
            path for path in _leaves(raw) if _under(path, TUNED) and not _under(path, NOT_TUNED)
        )

    # ------------------------------------------------------------ one phase

    def _begin(self, phase: str, folder: Path, raw: dict) -> None:
        """Set the weights that a phase begins with: the tuned model's for all but the first.

        A reward model takes them merged into a whole model. A policy continues from the adapter,
        whose frozen copy is then the reference.
        """
        if phase == SFT or self.skip_sft:
            return
        model = raw["model"] = dict(raw.get("model") or {})
        model.pop("adapter", None)
        if not self._adapters(SFT) or phase == REWARD_MODEL:
            model["name"] = str(self._whole(SFT, folder))
            return
        if "lora" in (self.own[phase].get("model") or {}):
            raise UsageError(
                f"{phase}: model.lora: the policy goes on from the adapter of {SFT}, which brings"
                " its own. Set it there."
            )
        model.pop("lora", None)
        model["adapter"] = str(folder / SFT / "adapter")

    def _whole(self, phase: str, folder: Path) -> Path:
        return folder / phase / (MERGED if self._adapters(phase) else "final")

    def _adapters(self, phase: str) -> bool:
        model = merge(
            copy.deepcopy(dict(self.shared.get("model") or {})),
            copy.deepcopy(dict(self.own[phase].get("model") or {})),
        )
        return model.get("lora", {}) not in (None, False)

    def _data(self, phase: str, raw: dict) -> None:
        """Set the file that a phase reads."""
        data = raw.get("data")
        if not isinstance(data, dict):
            return
        files = {SFT: data.pop("sft", None), PPO: data.pop("prompts", None)}
        if files.get(phase) is not None and "train" not in (self.own[phase].get("data") or {}):
            data["train"] = files[phase]


def _require(phase: str, config: Config) -> None:
    """Require a config that fits its phase.

    Raises:
      UsageError: a method of another phase, or data that several phases cannot read.
    """
    name, objective = config.objective["name"], resolve_objective(config)
    right = {
        SFT: objective.rows == "demonstrations",
        REWARD_MODEL: objective.needs == "scores",
        PPO: name in POLICY_OBJECTIVES,
        DPO: objective.rows in ("pairs", "labelled") and objective.needs == "logps",
    }
    if not right[phase]:
        raise UsageError(f"objective = {name}: this phase is one of {METHODS[phase]} and its kin.")
    if phase != PPO and config.rollouts is not None:
        raise UsageError("rollouts: this phase learns from a file. Leave it out.")
    config.data.require_one_file(f"phase {phase}")
    if "-" in (config.data.train, config.data.held_out):
        raise UsageError("several phases read the rows: give a file in place of standard input.")
    if config.data.held_out is None:
        raise UsageError(
            "phases are measured on rows that none trains on: --set data.held_out=FILE."
        )


def merge(one: dict, other: Mapping[str, Any]) -> dict:
    """Merge the values of `other` into `one`, section by section."""
    for name, value in other.items():
        if isinstance(value, dict) and isinstance(one.get(name), dict):
            merge(one[name], value)
        else:
            one[name] = value
    return one


def knobs(config: Config) -> list[str]:
    """List all hyper-parameters of a phase's method, set or not: those of its objective and of its
    rollouts.
    """
    objective = resolve_objective(config)
    names = [f"objective.{name}" for name in objective.options]
    if config.rollouts is not None:
        others = JUDGED + (OF_PAIRS if isinstance(objective, BoundPolicy) else ())
        names += [
            f"rollouts.{name}" for name in type(config.rollouts).model_fields if name not in others
        ]
    return names


def _under(path: str, sections: Sequence[str]) -> bool:
    return any(path == name or path.startswith(name + ".") for name in sections)


def _leaves(node: object, path: str = "") -> list[str]:
    if not isinstance(node, dict):
        return [path]
    return [
        leaf
        for name, child in node.items()
        for leaf in _leaves(child, f"{path}.{name}".lstrip("."))
    ]


def _put(raw: dict, path: Sequence[str], value: Any) -> None:
    node = raw
    for part in path[:-1]:
        if node.get(part) is not None and not isinstance(node[part], dict):
            raise UsageError(f"{part}: expected a section with keys; got {node[part]!r:.60}.")
        node[part] = dict(node.get(part) or {})
        node = node[part]
    node[path[-1]] = value
