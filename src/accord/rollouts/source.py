"""The source of a run whose answers are its own, batch by batch.

    prompts ─▶ K answers ─▶ rewards ─▶ groups or pairs

A batch is drawn by the policy as it stands, used for `rollouts.num_iterations` updates, and written
to rollouts/ before the first of them. A run that was killed and goes on reads it there: nothing is
drawn, or paid for, twice. It names the weights that drew it, so that a batch of other weights is
not taken for this policy's.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from accord.config.plugins import code_digest
from accord.config.schema import Config
from accord.data.order import Order
from accord.engine.step import UpdateContext
from accord.evaluate.probe import KLReference
from accord.forward.shares import shares
from accord.models import fingerprint
from accord.objectives.policy_table import BoundPolicy
from accord.rewards.reward import Reward, Rewards, Weighted
from accord.rollouts.batches import Answer, RolloutBatch, build_batch, group_by_prompt
from accord.rollouts.estimates import CarryOver
from accord.rollouts.pairing import Pairing
from accord.rollouts.prompts import PromptSet
from accord.runs.display import Display
from accord.runs.files import write_text, writing
from accord.runs.judging_costs import JudgingCosts
from accord.runs.signals import Stop
from accord.sampling.local import sample
from accord.types import Refused, Tree

ATTEMPTS = 3  # draws of a batch that gives nothing to train on, before that is an error
PIECE = 8  # prompts answered between two looks at whether to stop
FOLDER = "rollouts"


@dataclass
class RolloutSource:
    """Batches of answers, one after the other."""

    config: Config
    prompts: PromptSet
    order: Order
    reward: Weighted
    learner: UpdateContext
    masters: Mapping[str, torch.Tensor]  # what trains: whose state a batch is drawn by
    display: Display
    stop: Stop
    folder: Path | None  # the run's; None writes nothing
    held_out: PromptSet | None = None
    gold: Weighted | None = None
    _number: int | None = None
    _made: RolloutBatch | None = None
    _carried: dict[int, CarryOver] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings = self.config.rollout_settings
        self.judging = JudgingCosts(
            self.folder,
            {"reward": self.reward} | ({"gold": self.gold} if self.gold is not None else {}),
        )
        self.pairing = Pairing(settings.pairing, settings.margin, self.config.train.seed)
        self.prompts.of_tree = self.prompt_of

    @property
    def width(self) -> int:
        """Numbers set aside for the trees of a batch."""
        k = self.config.rollout_settings.num_generations
        return self.order.batch_size * max(k * (k - 1) // 2, 1)

    def trees(self, update: int) -> list[Tree]:
        """What update `update` trains on."""
        number = update // self.config.rollout_settings.num_iterations
        return self.batch(number, self.fresh(update)).trees

    def largest(self) -> list[Tree]:
        """A batch as long as one can be."""
        settings = self.config.rollout_settings
        k = settings.num_generations if self.learner.kind == "rollouts" else 2
        longest = sorted(self.prompts.trees, key=len)[-self.order.batch_size :]
        return [
            Tree(ids, (ids[-1:] * settings.max_new_tokens,) * k, row)
            for row, ids in enumerate(longest)
        ]

    @property
    def judged_by(self) -> str:
        """Reward models' weights, by their fingerprint, and functions' files: others under the same
        name are another run.
        """
        parts = [*self.reward.parts, *(self.gold.parts if self.gold is not None else ())]
        models = {
            reward.name: fingerprint.weights(reward.model.network)
            for reward, _ in parts
            if hasattr(reward, "model")
        }
        functions = {
            reward.name: code
            for reward, _ in parts
            if (code := code_digest(reward.name)) is not None
        }
        return json.dumps(models | functions, sort_keys=True)

    def fresh(self, update: int) -> bool:
        """Whether this is the first update of its batch: the policy is the one that drew it."""
        return update % self.config.rollout_settings.num_iterations == 0

    def batch(self, number: int, fresh: bool = False) -> RolloutBatch:
        """Batch `number`, drawn now if it was not before.

        Args:
          fresh: the policy is the one that draws it, as it is before the batch's first update.

        Raises:
          Refused: nothing in it to train on, after several draws.
        """
        if self._made is None or self._number != number:
            self._made, self._number = self._read(number, fresh) or self._drawn(number), number
            self._carried[number] = self._made.carried
        return self._made

    def figures(self, update: int) -> dict[str, float]:
        """What is said of the batch of an update."""
        return self.batch(update // self.config.rollout_settings.num_iterations).figures

    def prompt_of(self, row: int) -> int:
        """The prompt that a tree answers, by the tree's number."""
        number = row // self.width
        tree = next(t for t in self.batch(number).trees if t.row == row)
        return self.prompts.trees.index(tree.prompt)

    # ------------------------------------------------------------ drawing

    def _drawn(self, number: int) -> RolloutBatch:
        for attempt in range(ATTEMPTS):
            answers = self._answered(number, attempt)
            out = self._of(answers, number)
            if out.trees:
                self._write(number, attempt, answers, out)
                return out
            self.display.line(
                f"! batch {number} of answers gives nothing to train on ({_words(out)}); drawn"
                " again"
            )
        lost = {a.failure for a in answers if a.failure}
        raise Refused(
            f"Batch {number} of answers gave nothing to train on in {ATTEMPTS} draws:"
            f" {_words(out)}."
            + (f"\nRewards that failed: {'; '.join(sorted(lost)[:3])}." if lost else "")
            + "\nRewards that differ are needed: draw more answers"
            " (--set rollouts.num_generations=8), take more prompts at a time"
            " (--set train.batch_size=16), or look at the reward."
        )

    def _answered(self, number: int, attempt: int) -> list[Answer]:
        """Answers of one batch with rewards and log-probs; those to one prompt side by side."""
        answers = self._sampled([int(i) for i in self.order.batch(number)], number, attempt)
        assign_rewards(self.reward, self.prompts, answers)
        self.judging.write()
        self.stop.poll()
        self.measure(answers, self.prompts)
        return answers

    def _sampled(self, numbers: Sequence[int], number: int, attempt: int) -> list[Answer]:
        settings, seed = self.config.rollout_settings, self.config.train.seed
        self.display.doing(f"drawing {len(numbers) * settings.num_generations:,} answers")
        return self.draw(
            self.prompts,
            numbers,
            settings.num_generations,
            seed + 7919 * attempt,
            number * self.order.batch_size * settings.num_generations,
            settings.temperature,
        )

    def draw(
        self,
        prompts: PromptSet,
        numbers: Sequence[int],
        k: int,
        seed: int,
        first: int,
        temperature: float = 1.0,
    ) -> list[Answer]:
        """K answers to each of some prompts, by the policy as it stands; answer i draws from (seed,
        first + i).
        """
        settings, model = self.config.rollout_settings, self.learner.forward.model
        out: list[Answer] = []
        for start in range(0, len(numbers), PIECE):
            self.stop.poll()
            asked = [n for n in numbers[start : start + PIECE] for _ in range(k)]
            found = sample(
                model.network,
                model.tokenizer,
                [prompts.trees[n] for n in asked],
                max_new_tokens=settings.max_new_tokens,
                temperature=temperature,
                seed=seed,
                first_row=first + start * k,
            )
            out += [
                Answer(n, s.text, list(s.tokens), s.ended, s.logprob)
                for n, s in zip(asked, found, strict=True)
            ]
        return out

    def measure(self, answers: Sequence[Answer], prompts: PromptSet) -> None:
        """Log-probs of the answers' tokens under the policy and the reference, by the path that
        trains.
        """
        groups = group_by_prompt(answers)
        trees = [
            Tree(prompts.trees[g[0].prompt], tuple(tuple(a.tokens) for a in g), i)
            for i, g in enumerate(groups)
        ]
        start = kl_reference(self.learner)
        for pack in shares(trees, self.learner.micro_tokens, self.learner.world)[0]:
            self.stop.poll()
            own = [a for tree in pack for a in groups[tree.row]]
            _measured(own, pack, self.learner, start)

    # ------------------------------------------------------------ on disk

    def _of(self, answers: Sequence[Answer], number: int) -> RolloutBatch:
        out = build_batch(
            answers,
            self.prompts.trees,
            self.learner.objective,
            self.pairing,
            self._before(number),
            number * self.width,
        )
        # a mean log-ratio of other answers than the policy's own is no KL of it
        if self.config.rollout_settings.temperature != 1:
            del out.figures["rollouts/kl"]
        return out

    def _before(self, number: int) -> CarryOver:
        """What the batch before left."""
        if number == 0:
            return CarryOver()
        if number - 1 not in self._carried:
            found = self._load(number - 1)
            if found is None:
                raise Refused(
                    f"{self._file(number - 1)} is missing or damaged, and batch {number} of answers"
                    " hangs on it. Start a new run."
                )
            self._carried[number - 1] = CarryOver(**found["carried"])
        return self._carried[number - 1]

    def _file(self, number: int) -> Path:
        assert self.folder is not None, "without a folder no batch is written or looked for"
        return self.folder / FOLDER / f"{number:06}.json"

    def _write(
        self, number: int, attempt: int, answers: Sequence[Answer], out: RolloutBatch
    ) -> None:
        if self.folder is None:
            return
        with writing(self.folder):
            (self.folder / FOLDER).mkdir(exist_ok=True)
        content = {
            "batch": number,
            "attempt": attempt,
            "policy": self._policy(),
            "carried": out.carried.as_dict(),
            "figures": out.figures,
            "not_trained_on": dict(out.reasons),
            "at": [str(self.prompts.question(a.prompt).origin) for a in answers],
            "answers": [a.as_dict() for a in answers],
        }
        body = json.dumps(content, ensure_ascii=True)
        write_text(
            self._file(number),
            json.dumps({"sha256": hashlib.sha256(body.encode()).hexdigest()}) + "\n" + body + "\n",
        )

    def _load(self, number: int) -> dict | None:
        """A batch that was written down, if it is whole."""
        if self.folder is None or not (file := self._file(number)).is_file():
            return None
        try:
            seal, body = file.read_text(encoding="utf-8").splitlines()
            whole = json.loads(seal)["sha256"] == hashlib.sha256(body.encode()).hexdigest()
            found = json.loads(body) if whole else None
        except (ValueError, KeyError, TypeError, OSError):
            found = None
        if found is None:
            self.display.line(f"! {file} is damaged and is passed over")
        return found

    def _read(self, number: int, fresh: bool) -> RolloutBatch | None:
        """A batch that this run drew before; where it is to be fresh, by this very policy."""
        found = self._load(number)
        if found is None:
            return None
        if fresh and found["policy"] != self._policy():
            self.display.line(
                f"! batch {number} of answers was drawn by other weights than these; drawn again"
            )
            return None
        return self._of([Answer(**answer) for answer in found["answers"]], number)

    def _policy(self) -> str:
        """Of the weights that draw."""
        digest = hashlib.blake2b(digest_size=16)
        for name in sorted(self.masters):
            digest.update(name.encode() + self.masters[name].detach().cpu().numpy().tobytes())
        return digest.hexdigest()


def kl_reference(learner: UpdateContext) -> KLReference:
    """The reference, token by token."""
    reference = learner.reference
    start = KLReference.of(learner.forward, getattr(reference, "live", reference))
    assert start is not None, "where answers are drawn, the reference is in memory"
    return start


@torch.no_grad()
def _measured(
    own: Sequence[Answer], pack: Sequence[Tree], learner: UpdateContext, start: KLReference
) -> None:
    tokens = learner.forward.token_logps(pack)
    with start.inside():
        known = start.forward(pack).values
    columns = {"logps": tokens.values, "reference": known}
    if isinstance(learner.objective, BoundPolicy) and learner.objective.critic:
        assert tokens.expected is not None, "the model has a value head"
        columns["expected"] = tokens.expected
    sizes = [len(answer.tokens) for answer in own]
    for name, values in columns.items():
        for answer, piece in zip(own, values.float().cpu().split(sizes), strict=True):
            setattr(answer, name, piece.tolist())


def assign_rewards(reward: Reward, prompts: PromptSet, answers: Sequence[Answer]) -> None:
    """Give answers their rewards, or the reason why there is none."""
    found = score_answers(reward, prompts, answers)
    for i, answer in enumerate(answers):
        value = float(found.values[i])
        answer.reward, answer.failure = (
            (None, found.failures[i]) if math.isnan(value) else (value, "")
        )
        answer.parts = {
            name: None if math.isnan(part[i]) else float(part[i])
            for name, part in found.parts.items()
        }


def score_answers(reward: Reward, prompts: PromptSet, answers: Sequence[Answer]) -> Rewards:
    """What a reward says of some answers."""
    asked = [prompts.question(a.prompt).turns for a in answers]
    return reward(asked, [a.text for a in answers], [prompts.row(a.prompt) for a in answers])


def _words(out: RolloutBatch) -> str:
    return (
        "; ".join(f"{count} prompts: {reason}" for reason, count in out.reasons.most_common())
        or "no prompt with answers"
    )
