"""The source of a run that learns from its own answers, batch by batch.

    prompts ─▶ K answers ─▶ rewards ─▶ groups or pairs

A batch is drawn by the policy as it stands, used for `rollouts.num_iterations` updates, and written
to rollouts/ before the first of them; with `rollouts.ahead` it is drawn some batches before its
turn (`Schedule`), and a server draws it while the policy trains: `settle` takes it in, by the
weights that drew it, so that its numbers are those of a batch that was waited for. A run that was
killed and is resumed reads it there: nothing is drawn, or paid for, twice. It names the weights
that drew it, so that a batch of other weights is not mistaken for this policy's.

In a world of several processes each rank draws, scores and measures the answers to its block of a
batch's prompts; then all ranks have all answers, and make the same groups of them. The first rank
alone writes and reads the batches.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from accord.config.schema import Config
from accord.data.order import Order
from accord.data.store.checks import Checks
from accord.data.token_digest import prompts_digest
from accord.distributed.world import ALONE, World
from accord.engine.batch_source import Evaluation, EvaluationContext
from accord.engine.micro_budget import within_memory
from accord.engine.step import UpdateContext
from accord.errors import plural
from accord.forward.shares import shares
from accord.objectives import BoundObjective
from accord.rewards.reward import Weighted, identity_of
from accord.rollouts.batches import RolloutBatch, build_batch, group_by_prompt, nothing_to_train_on
from accord.rollouts.dynamic_sampling import further_prompts, replace_flat
from accord.rollouts.estimates import CarryOver
from accord.rollouts.evaluation import evaluate_answers
from accord.rollouts.files import BatchFiles, content_of, difference
from accord.rollouts.measuring import assign_rewards, kl_reference, measure_logps
from accord.rollouts.mismatch import Mismatch
from accord.rollouts.overlong import Overlong
from accord.rollouts.pairing import Pairing
from accord.rollouts.prompts import PromptSet
from accord.rollouts.record import Answer, Segment, restored
from accord.rollouts.schedule import Schedule
from accord.runs.display import Display
from accord.runs.judging_costs import JudgingCosts
from accord.runs.signals import Stop
from accord.sampling.sampler import Sampler
from accord.types import Refused, Tree, Turn

ATTEMPTS = 3  # draws of a batch with nothing to train on, before that is an error
PIECE = 8  # prompts answered between two checks for a stop


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
    batches: int | None = None  # of the whole run; None: nobody knows
    _now: int = 0  # the update that is made next
    _begun: dict[int, int] = field(default_factory=dict)  # batch under way -> the update then
    _made: dict[int, RolloutBatch] = field(default_factory=dict)
    _carried: dict[int, CarryOver] = field(default_factory=dict)

    def __post_init__(self) -> None:
        settings = self.config.rollout_settings
        self.judging = JudgingCosts(
            self.folder,
            {"reward": self.reward} | ({"gold": self.gold} if self.gold is not None else {}),
        )
        self.mismatch = Mismatch.of(settings, self.learner.forward.bounds.mean)
        self.schedule = Schedule(settings.ahead, settings.num_iterations)
        self.files = BatchFiles(self.folder, self.display)
        self.overlong = Overlong.of(settings)
        self.pairing = Pairing(settings.pairing, settings.margin, self.config.train.seed)
        self.prompts.of_tree = self.prompt_of

    @property
    def world(self) -> World:
        """Return the processes that share the answers of a batch."""
        return self.learner.world

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
        """Return the trees that update `update` trains on; draw what is due before it."""
        if update != self._now:
            self.settle()
        number, self._now = self.schedule.batch_of(update), update
        due = self.schedule.due(update, self.batches)
        made = self.drawn_batch(number, fresh=number in due)
        for later in due:
            if later not in self._begun and not self._begin(later):
                self.drawn_batch(later, fresh=True)
        self.schedule.require_young(number, update, made.updates)
        self._made = {n: each for n, each in self._made.items() if n >= number}
        return made.trees

    def expected(self, update: int) -> list[Tree]:
        """Return the same as `batch`: answers have no order but that of their batch."""
        return self.batch(update)

    def largest(self, updates: int) -> list[list[Tree]]:
        """Return a batch of the greatest possible length."""
        settings = self.config.rollout_settings
        k = settings.num_generations if self.learner.kind == "rollouts" else 2
        longest, answer = self.prompts.longest(self.order.batch_size), settings.max_new_tokens
        return [[Tree(ids, (ids[-1:] * answer,) * k, row) for row, ids in enumerate(longest)]]

    def most_often(self, update: int) -> None:
        """Return None: a batch may hold several pairs of a prompt."""

    def begins_round(self, update: int) -> bool:
        """Return True: a batch that is used twice has the same answers twice."""
        return True

    def is_fresh(self, update: int) -> bool:
        """Tell whether the policy before this update is the one that drew its batch."""
        return self.drawn_batch(self.schedule.batch_of(update)).updates == update

    def metrics(self, update: int) -> dict[str, float]:
        """Return the metrics of an update's batch of answers."""
        made = self.drawn_batch(self.schedule.batch_of(update))
        return {**made.figures, "rollouts/staleness": update - made.updates}

    def files_of(self, rows: Sequence[int]) -> None:
        return None  # prompts are of one file

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        self.settle()  # the server has one policy at a time
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
        return {
            "train_data": self.prompts.dataset.digest,
            "held_out_data": self.held_out.dataset.digest if self.held_out is not None else None,
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
        count = len(self.held_out) if self.held_out is not None else 0
        return min(count, self.config.evaluate.rows or count)

    def shown(self, count: int) -> list[Tree]:
        """Return the first answers that the policy gave."""
        return self.batch(0)[:count]

    def conversations(self, count: int) -> list[tuple[int, ...]]:
        return self.prompts.trees[:count]

    # ------------------------------------------------------------ batches of answers

    @property
    def judged_by(self) -> str:
        """Name the rewards: reward models by their weights' fingerprint, functions by their files.
        Other ones under the same name make another run.
        """
        return identity_of(self.reward, self.gold)

    def drawn_batch(self, number: int, fresh: bool = False) -> RolloutBatch:
        """Return batch `number`; draw it now if it was not drawn before.

        Args:
          fresh: the policy as it stands must be the one that draws the batch, as at its time.

        Raises:
          Refused: the batch has nothing to train on, after several draws; or the sampler is too far
            from the trainer.
        """
        if number not in self._made:
            found = self.world.on_first(lambda: self._recorded(number, fresh))
            if found is None and not fresh:
                self.display.line(
                    f"! batch {number} of answers is gone, as are the weights that drew it; drawn"
                    f" again by those after {plural(self._now, 'update')}"
                )
            made = (
                self._of(restored(found["answers"]), number, len(found["dropped"]))
                if found is not None
                else self._draw(number)
            )
            self.mismatch.require_near(number, made.figures)
            self._made[number], self._carried[number] = made, made.carried
        return self._made[number]

    def prompt_of(self, row: int) -> int:
        """Return the prompt that a tree answers, by the tree's number."""
        number = row // self.width
        tree = next(t for t in self.drawn_batch(number).trees if t.row == row)
        return self.prompts.trees.index(tree.prompt)

    # ------------------------------------------------------------ drawing

    def _begin(self, number: int) -> bool:
        """Have a batch drawn while the policy trains; False: nothing is begun, draw it now."""
        reference = self.learner.reference
        if number in self._made or (reference is not None and reference.moves):
            return False  # a reference that moves will be another one
        if self.world.on_first(lambda: self._recorded(number, True)) is not None:
            return False
        settings, k = self.config.rollout_settings, self.config.rollout_settings.num_generations
        self._poll()
        begun = self.sampler.begin(
            [self.prompts.trees[int(n)] for n in self.order.batch(number) for _ in range(k)],
            max_new_tokens=settings.max_new_tokens,
            temperature=settings.temperature,
            seed=self.config.train.seed,
            first_row=k * self.order.batch_size * number,
        )
        if begun:
            self._begun[number] = self._now
        return begun

    def settle(self) -> None:
        """Take in what a server draws while the policy trains: scored, measured and written, all by
        the weights that drew it. A signal waits for that: what is drawn is not paid for twice.
        """
        if not self._begun:
            return
        begun, self._begun = self._begun, {}
        now, stop, self.stop = self._now, self.stop, Stop()
        try:
            with self.sampler.as_begun():
                for number, self._now in begun.items():
                    self.drawn_batch(number, fresh=True)
        finally:
            self._now, self.stop = now, stop

    def close(self) -> None:
        self.sampler.close()

    def _draw(self, number: int) -> RolloutBatch:
        for attempt in range(ATTEMPTS):
            answers, dropped = self._answered(number, attempt)
            out = self._of(answers, number, len(dropped))
            if out.trees:
                record = {"attempt": attempt, "dropped": dropped}
                record |= content_of(answers, self.prompts, out)
                self.world.on_first(partial(self.files.write, number, record))
                return out
            self.display.line(
                f"! batch {number} of answers gives nothing to train on ({out.words}); drawn again"
            )
        raise nothing_to_train_on(number, ATTEMPTS, answers, out)

    def _answered(self, number: int, attempt: int) -> tuple[list[Answer], list[dict]]:
        """Draw the answers of one batch, with rewards and log-probs; the answers to one prompt are
        next to each other. Also return what was drawn and is not trained on.
        """
        batch = [int(i) for i in self.order.batch(number)]
        draw = partial(self._rewarded, number, attempt)
        groups, dropped = replace_flat(
            draw(batch, 0),
            further_prompts(len(self.prompts), batch, self.config.train.seed, number),
            draw,
            self.config.rollout_settings.dynamic_sampling,
        )

        def measured(own: range) -> list[dict]:
            answers = [answer for i in own for answer in groups[i]]
            self.measure(answers, self.prompts)
            return [answer.as_dict() for answer in answers]

        return restored(self.world.share_out(len(groups), measured)), dropped

    def _rewarded(
        self, number: int, attempt: int, asked: Sequence[int], round_: int
    ) -> list[list[Answer]]:
        """Draw answers to some prompts for one batch, with rewards, grouped by prompt. Each rank
        draws and scores its own; all receive all.
        """
        settings, policy = self.config.rollout_settings, self.sampler.policy_version()
        k = settings.num_generations
        # other draws for each attempt and each round of it
        seed = self.config.train.seed + 7919 * attempt + 104_729 * round_
        self.display.doing(f"drawing {plural(len(asked) * k, 'answer')}")

        start = k * self.order.batch_size * number
        answers = self.draw_together(self.prompts, asked, k, seed, start, settings.temperature)
        for answer in answers:
            answer.policy, answer.updates = policy, self._now
        groups = group_by_prompt(answers)

        def rewarded(own: range) -> list[dict]:
            scored = [answer for i in own for answer in groups[i]]
            assign_rewards(self.reward, self.prompts, scored)
            self.judging.write(self.world)
            self.stop.poll()
            return [answer.as_dict() for answer in scored]

        return group_by_prompt(restored(self.world.share_out(len(groups), rewarded)))

    def draw_together(
        self,
        prompts: PromptSet,
        numbers: Sequence[int],
        k: int,
        seed: int,
        first: int,
        temperature: float = 1.0,
    ) -> list[Answer]:
        """Draw as `draw`, once for all ranks: each draws to its own prompts, or one server draws
        for all of them. Every rank receives every answer.
        """
        if self.sampler.joint:
            answers = self.draw(prompts, numbers, k, seed, first, temperature)
        else:

            def own_answers(own: range) -> list[dict]:
                mine, begin = [numbers[i] for i in own], first + own.start * k
                drawn = self.draw(prompts, mine, k, seed, begin, temperature)
                return [answer.as_dict() for answer in drawn]

            answers = restored(self.world.share_out(len(numbers), own_answers))
        self.sampler.rest()
        return answers

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
            self._poll()
            asked = [n for n in numbers[start : start + PIECE] for _ in range(k)]
            found = self.sampler.sample(
                [prompts.trees[n] for n in asked],
                max_new_tokens=settings.max_new_tokens,
                temperature=temperature,
                seed=seed,
                first_row=first + start * k,
            )
            out += [
                Answer(n, s.text, (Segment("policy", s.tokens, s.logps),), s.ended)
                for n, s in zip(asked, found, strict=True)
            ]
        return out

    def _poll(self) -> None:
        if self.sampler.joint:  # no rank leaves alone what all do together
            self.world.agree(self.stop.poll)
        else:
            self.stop.poll()

    def measure(self, answers: Sequence[Answer], prompts: PromptSet) -> None:
        """Compute the log-probs of the answers' tokens under the policy and the reference, by the
        path that trains.
        """
        groups = group_by_prompt(answers)
        trees = [
            self.overlong.tree(prompts.trees[group[0].prompt], group, i)
            for i, group in enumerate(groups)
        ]
        start = kl_reference(self.learner)
        learner = self.learner

        def measure_all() -> None:
            for pack in shares(trees, learner.micro_tokens, ALONE)[0]:
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
            self.mismatch,
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
            found = self.world.on_first(partial(self.files.load, number - 1))
            if found is None:
                raise Refused(
                    f"{self.files.path(number - 1)} is missing or damaged, and batch {number} of"
                    " answers hangs on it. Start a new run."
                )
            self._carried[number - 1] = CarryOver(**found["carried"])
        return self._carried[number - 1]

    def _recorded(self, number: int, fresh: bool) -> dict | None:
        """Read a batch that this run drew before; if it must be fresh, only one
        drawn by this very policy.
        """
        found = self.files.load(number)
        if found is None:
            return None
        other = difference(found, self.prompts, self.sampler.policy_version() if fresh else None)
        if other:
            self.display.line(f"! batch {number} of answers {other}; drawn again")
        return None if other else found
