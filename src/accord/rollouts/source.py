"""The source of a run that learns from its own answers, batch by batch.

    prompts ─▶ K answers ─▶ rewards ─▶ groups or pairs

A batch is drawn by the policy as it stands, used for `rollouts.num_iterations` updates, and written
to rollouts/ before the first of them. A run that was killed and is resumed reads it there: nothing
is drawn, or paid for, twice. It names the weights that drew it, so that a batch of other weights
is not mistaken for this policy's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from accord.config.plugins import code_digest
from accord.config.schema import Config
from accord.data.order import Order
from accord.data.store.checks import Checks
from accord.data.token_digest import prompts_digest
from accord.engine.batch_source import Evaluation, EvaluationContext
from accord.engine.micro_budget import within_memory
from accord.engine.step import UpdateContext
from accord.environment.digests import text_digest
from accord.errors import plural
from accord.forward.shares import shares
from accord.models import fingerprint
from accord.objectives import BoundObjective
from accord.rewards.reward import Weighted
from accord.rollouts.batches import Answer, RolloutBatch, build_batch, group_by_prompt
from accord.rollouts.dynamic_sampling import further_prompts, replace_flat
from accord.rollouts.estimates import CarryOver
from accord.rollouts.evaluation import evaluate_answers
from accord.rollouts.measuring import assign_rewards, kl_reference, measure_logps
from accord.rollouts.overlong import Overlong
from accord.rollouts.pairing import Pairing
from accord.rollouts.prompts import PromptSet
from accord.runs.display import Display
from accord.runs.files import write_text, writing
from accord.runs.judging_costs import JudgingCosts
from accord.runs.signals import Stop
from accord.sampling.sampler import Sampler
from accord.types import Refused, Tree, Turn

ATTEMPTS = 3  # draws of a batch with nothing to train on, before that is an error
PIECE = 8  # prompts answered between two checks for a stop
FOLDER = "rollouts"


@dataclass
class RolloutSource:
    """The source of batches of answers, one after the other."""

    config: Config
    prompts: PromptSet
    order: Order
    reward: Weighted
    gold: Weighted | None
    learner: UpdateContext
    sampler: Sampler  # draws the answers, by the policy as it stands
    display: Display
    stop: Stop
    folder: Path | None  # the run's folder; with None nothing is written
    held_out: PromptSet | None = None
    _number: int | None = None
    _made: RolloutBatch | None = None
    _carried: dict[int, CarryOver] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings = self.config.rollout_settings
        self.judging = JudgingCosts(
            self.folder,
            {"reward": self.reward} | ({"gold": self.gold} if self.gold is not None else {}),
        )
        self.overlong = Overlong.of(settings)
        self.pairing = Pairing(settings.pairing, settings.margin, self.config.train.seed)
        self.prompts.of_tree = self.prompt_of

    @property
    def width(self) -> int:
        """Return how many numbers are reserved for the trees of a batch."""
        k = self.config.rollout_settings.num_generations
        return self.order.batch_size * max(k * (k - 1) // 2, 1)

    # ------------------------------------------------------------ as a batch source

    draws = True

    @property
    def size(self) -> int:
        return len(self.prompts)

    @property
    def evaluates(self) -> bool:
        return self.held_out is not None

    def batch(self, update: int) -> list[Tree]:
        """Return the trees that update `update` trains on."""
        return self.drawn_batch(self._number_of(update), self.is_fresh(update)).trees

    def expected(self, update: int) -> list[Tree]:
        """Return the same as `batch`: answers have no order but that of their batch."""
        return self.batch(update)

    def largest(self, updates: int) -> list[list[Tree]]:
        """Return a batch of the greatest possible length."""
        settings = self.config.rollout_settings
        k = settings.num_generations if self.learner.kind == "rollouts" else 2
        longest = sorted(self.prompts.trees, key=len)[-self.order.batch_size :]
        answer = settings.max_new_tokens
        return [[Tree(ids, (ids[-1:] * answer,) * k, row) for row, ids in enumerate(longest)]]

    def most_often(self, update: int) -> None:
        """Return None: a batch may hold several pairs of a prompt."""

    def begins_round(self, update: int) -> bool:
        """Return True: a batch that is used twice has the same answers twice."""
        return True

    def is_fresh(self, update: int) -> bool:
        """Tell whether this is the first update of its batch, so that the policy is the one that
        drew it.
        """
        return update % self.config.rollout_settings.num_iterations == 0

    def metrics(self, update: int) -> dict[str, float]:
        """Return the metrics of an update's batch of answers."""
        return self.drawn_batch(self._number_of(update)).figures

    def files_of(self, rows: Sequence[int]) -> None:
        return None  # prompts are of one file

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        return evaluate_answers(self, context)

    def reference_trees(self, objective: BoundObjective) -> list[Tree]:
        return []

    def held_out_pairs(self) -> None:
        return None

    @property
    def checks(self) -> Checks:
        return Checks()

    def trained_texts(self) -> Iterator[tuple[Sequence[Turn], Sequence[str]]]:
        for question in self.prompts.asked.questions:
            yield question.turns, ()

    def dataset(self) -> None:
        return None

    def held_out_dataset(self) -> None:
        return None

    def pairs_before(self, step: int, count: int) -> list[Tree]:
        return []

    @cached_property
    def token_digests(self) -> dict[str, str | None]:
        """The digests of the prompts' token ids, by their keys in `identity`."""
        held_out = self.held_out
        return {
            "train_tokens": prompts_digest(self.prompts.trees),
            "held_out_tokens": prompts_digest(held_out.trees) if held_out is not None else None,
        }

    def identity(self) -> dict:
        held_out = self.held_out.dataset.digest if self.held_out is not None else None
        return {
            "train_data": self.prompts.dataset.digest,
            "held_out_data": held_out,
            **self.token_digests,
            "trees": self.size,
            "order": self.order.digest,
            "rewards": self.judged_by,
        }

    def describe(self, rows: str) -> str:
        answers = self.config.rollout_settings.num_generations
        return f"{plural(self.size, 'prompt')}, {answers} answers each"

    def origin(self, tree: Tree) -> str:
        return self.prompts.origin(tree)

    def accounts(self) -> dict[str, dict]:
        return {"train": self.prompts.record()} | (
            {"held_out": self.held_out.record()} if self.held_out is not None else {}
        )

    def evaluated_rows(self) -> int:
        if self.held_out is None:
            return 0
        return min(len(self.held_out), self.config.evaluate.rows or len(self.held_out))

    def shown(self, count: int) -> list[Tree]:
        """Return the first answers that the policy gave."""
        return self.batch(0)[:count]

    def conversations(self, count: int) -> list[tuple[int, ...]]:
        return self.prompts.trees[:count]

    def _number_of(self, update: int) -> int:
        return update // self.config.rollout_settings.num_iterations

    # ------------------------------------------------------------ batches of answers

    @property
    def judged_by(self) -> str:
        """Name the rewards: reward models by their weights' fingerprint, functions by their files.
        Other ones under the same name make another run.
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

    def drawn_batch(self, number: int, fresh: bool = False) -> RolloutBatch:
        """Return batch `number`; draw it now if it was not drawn before.

        Args:
          fresh: the policy as it stands must be the one that draws the batch, as before its first
            update.

        Raises:
          Refused: the batch has nothing to train on, after several draws.
        """
        if self._made is None or self._number != number:
            self._made, self._number = self._read(number, fresh) or self._draw(number), number
            self._carried[number] = self._made.carried
        return self._made

    def prompt_of(self, row: int) -> int:
        """Return the prompt that a tree answers, by the tree's number."""
        number = row // self.width
        tree = next(t for t in self.drawn_batch(number).trees if t.row == row)
        return self.prompts.trees.index(tree.prompt)

    # ------------------------------------------------------------ drawing

    def _draw(self, number: int) -> RolloutBatch:
        for attempt in range(ATTEMPTS):
            answers, dropped = self._answered(number, attempt)
            out = self._of(answers, number, len(dropped))
            if out.trees:
                self._write(number, attempt, answers, dropped, out)
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

    def _answered(self, number: int, attempt: int) -> tuple[list[Answer], list[dict]]:
        """Draw the answers of one batch, with rewards and log-probs; the answers to one prompt are
        next to each other. Also return what was drawn and is not trained on.
        """
        settings, seed = self.config.rollout_settings, self.config.train.seed
        batch = [int(i) for i in self.order.batch(number)]

        def rewarded(prompts: Sequence[int], round_: int) -> list[list[Answer]]:
            answers = self._sampled(prompts, number, attempt, round_)
            assign_rewards(self.reward, self.prompts, answers)
            self.judging.write()
            self.stop.poll()
            return group_by_prompt(answers)

        groups, dropped = replace_flat(
            rewarded(batch, 0),
            further_prompts(len(self.prompts), batch, seed, number),
            rewarded,
            settings.dynamic_sampling,
        )
        answers = [answer for group in groups for answer in group]
        self.measure(answers, self.prompts)
        return answers, dropped

    def _sampled(
        self, numbers: Sequence[int], number: int, attempt: int, round_: int
    ) -> list[Answer]:
        settings, seed = self.config.rollout_settings, self.config.train.seed
        self.display.doing(f"drawing {plural(len(numbers) * settings.num_generations, 'answer')}")
        return self.draw(
            self.prompts,
            numbers,
            settings.num_generations,
            # other draws for each attempt and each round of it
            seed + 7919 * attempt + 104_729 * round_,
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
        """Draw K answers to each of some prompts by the policy as it stands; answer i draws from
        (seed, first + i).
        """
        settings = self.config.rollout_settings
        out: list[Answer] = []
        for start in range(0, len(numbers), PIECE):
            self.stop.poll()
            asked = [n for n in numbers[start : start + PIECE] for _ in range(k)]
            found = self.sampler.sample(
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
        """Compute the log-probs of the answers' tokens under the policy and the reference, by the
        path that trains.
        """
        groups = group_by_prompt(answers)
        trees = [
            Tree(
                prompts.trees[g[0].prompt],
                tuple(self.overlong.measured(a.tokens, a.ended) for a in g),
                i,
            )
            for i, g in enumerate(groups)
        ]
        start = kl_reference(self.learner)
        learner = self.learner

        def measure_all() -> None:
            for pack in shares(trees, learner.micro_tokens, learner.world)[0]:
                self.stop.poll()
                own = [a for tree in pack for a in groups[tree.row]]
                measure_logps(own, pack, learner, start)

        shrink = partial(learner.budget.shrink, trees, "the answers are measured again")
        within_memory(measure_all, shrink, alone=learner.world.size == 1)

    # ------------------------------------------------------------ on disk

    def _of(self, answers: Sequence[Answer], number: int, dropped: int) -> RolloutBatch:
        out = build_batch(
            answers,
            self.prompts.trees,
            self.learner.objective,
            self.pairing,
            self._before(number),
            number * self.width,
            self.overlong,
        )
        if self.config.rollout_settings.dynamic_sampling:
            out.figures["rollouts/redrawn"] = dropped / len(group_by_prompt(answers))
        # at another temperature the answers are not the policy's own, and their log-ratio is no KL
        if self.config.rollout_settings.temperature != 1:
            del out.figures["rollouts/kl"]
        return out

    def _before(self, number: int) -> CarryOver:
        """Return what the batch before handed on."""
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
        self,
        number: int,
        attempt: int,
        answers: Sequence[Answer],
        dropped: list[dict],
        out: RolloutBatch,
    ) -> None:
        if self.folder is None:
            return
        with writing(self.folder):
            (self.folder / FOLDER).mkdir(exist_ok=True)
        content = {
            "batch": number,
            "attempt": attempt,
            "policy": self.sampler.policy_version(),
            "carried": out.carried.as_dict(),
            "figures": out.figures,
            "not_trained_on": dict(out.reasons),
            "dropped": dropped,
            "at": [str(self.prompts.question(a.prompt).origin) for a in answers],
            "answers": [a.as_dict() for a in answers],
        }
        body = json.dumps(content, ensure_ascii=True)
        write_text(
            self._file(number), json.dumps({"sha256": text_digest(body)}) + "\n" + body + "\n"
        )

    def _load(self, number: int) -> dict | None:
        """Load a batch from disk, if it is complete."""
        if self.folder is None or not (file := self._file(number)).is_file():
            return None
        try:
            seal, body = file.read_text(encoding="utf-8").splitlines()
            whole = json.loads(seal)["sha256"] == text_digest(body)
            found = json.loads(body) if whole else None
        except (ValueError, KeyError, TypeError, OSError):
            found = None
        if found is None:
            self.display.line(f"! {file} is damaged and is passed over")
        return found

    def _read(self, number: int, fresh: bool) -> RolloutBatch | None:
        """Read a batch that this run drew before; if it must be fresh, only one drawn by this very
        policy.
        """
        found = self._load(number)
        if found is None:
            return None
        if fresh and found["policy"] != self.sampler.policy_version():
            self.display.line(
                f"! batch {number} of answers was drawn by other weights than these; drawn again"
            )
            return None
        answers = [Answer(**answer) for answer in found["answers"]]
        return self._of(answers, number, len(found.get("dropped", ())))


def _words(out: RolloutBatch) -> str:
    return (
        "; ".join(f"{count} prompts: {reason}" for reason, count in out.reasons.most_common())
        or "no prompt with answers"
    )
