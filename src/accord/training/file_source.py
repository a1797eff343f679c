"""Batches of a file's rows, and the evaluation of held-out rows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice

import numpy as np

from accord.data.example_table import Picked
from accord.data.order import Order
from accord.data.read import Dataset
from accord.data.rows import Rows
from accord.data.store.checks import Checks
from accord.data.token_digest import trees_digest
from accord.engine.batch_source import Evaluation, EvaluationContext
from accord.engine.micro_budget import MicroBudget, within_memory
from accord.evaluate import held_out as held
from accord.evaluate.by_file import file_numbers
from accord.evaluate.displacement import as_evaluation, decompose, length_correlation, since
from accord.evaluate.held_out import HeldOut
from accord.evaluate.records import Records
from accord.evaluate.scores import reward_model_figures
from accord.objectives import BoundObjective
from accord.runs import held_out_rows
from accord.types import Pair, Tree, Turn
from accord.verify.row_checks import metrics_as_recorded

LARGEST = 64  # batches that the run's memory is estimated on, if there are more


@dataclass(frozen=True)
class FileSource:
    """The rows of a file in the order of (seed, epoch, index), and the held-out rows beside them.

    See `BatchSource` for what its methods promise.
    """

    rows: Rows
    order: Order
    held_out_rows: Rows | None = None
    held_out: HeldOut | None = None  # the held-out rows that are evaluated

    draws = False

    @property
    def size(self) -> int:
        return len(self.rows.trees)

    @property
    def evaluates(self) -> bool:
        return self.held_out is not None

    def batch(self, update: int) -> list[Tree]:
        return [self.rows.trees[row] for row in self.order.batch(update)]

    def expected(self, update: int) -> list[Tree]:
        trees = self.rows.trees
        return [trees[row] for row in self.order.batch(update)]

    def largest(self, updates: int) -> list[list[Tree]]:
        count = min(updates, self.order.batches_of_all_rows)
        if count <= LARGEST:
            return [self.batch(i) for i in range(count)]
        lengths = self.rows.trees.lengths
        sizes = [lengths[self.order.batch(i)] for i in range(count)]
        by_tokens = np.argsort([-int(each.sum()) for each in sizes], kind="stable")
        by_longest = np.argsort([-int(each.max()) for each in sizes], kind="stable")
        half = LARGEST // 2
        chosen = {*by_tokens[:half].tolist(), *by_longest[:half].tolist()}
        return [self.batch(i) for i in sorted(chosen)]

    def most_often(self, update: int) -> list[int]:
        return self.order.most_often(update).tolist()

    def begins_round(self, update: int) -> bool:
        return update % self.order.batches_per_epoch == 0

    def is_fresh(self, update: int) -> bool:
        return False

    def metrics(self, update: int) -> dict[str, float]:
        return {}

    def files_of(self, rows: Sequence[int]) -> np.ndarray | None:
        sizes = [len(each.encoding.examples) for each in self.rows.files]
        return file_numbers(rows, sizes) if sizes else None

    def reference_trees(self, objective: BoundObjective) -> list[Tree]:
        return [] if self.held_out is None else list(self.held_out.all_trees(objective))

    def held_out_pairs(self) -> tuple[list[Tree], list[Pair]] | None:
        if self.held_out is None or self.held_out_rows is None or self.held_out.kind != "pairs":
            return None
        examples = self.held_out_rows.encoding.examples
        pairs = [examples[tree.row] for tree in self.held_out.trees]
        return list(self.held_out.trees), [pair for pair in pairs if isinstance(pair, Pair)]

    def trained_texts(self) -> Iterator[tuple[Sequence[Turn], Sequence[str]]]:
        examples = self.rows.encoding.examples
        for example in Picked(examples, self.rows.trees.rows):
            yield example.prompt, example.completions

    @property
    def checks(self) -> Checks:
        return self.rows.checks

    def dataset(self) -> Dataset:
        return self.rows.dataset

    def held_out_dataset(self) -> Dataset | None:
        return None if self.held_out_rows is None else self.held_out_rows.dataset

    def pairs_before(self, step: int, count: int) -> list[Tree]:
        trees: list[Tree] = []
        for update in range(step - 1, -1, -1):
            trees += self.batch(update)
            if len(trees) >= count:
                break
        return [tree for tree in trees[:count] if len(tree.completions) == 2]

    @cached_property
    def token_digests(self) -> dict[str, str | None]:
        """The digests of all token ids, by their keys in `identity`: it is asked for at each
        checkpoint.
        """
        held_out = self.held_out_rows
        return {
            "train_tokens": trees_digest(self.rows.trees),
            "held_out_tokens": trees_digest(held_out.trees) if held_out is not None else None,
        }

    def identity(self) -> dict:
        held_out = self.held_out_rows
        return {
            "train_data": self.rows.dataset.digest,
            "held_out_data": held_out.dataset.digest if held_out is not None else None,
            **self.token_digests,
            "trees": self.size,
            "order": self.order.digest,
            "rewards": None,
        }

    def describe(self, rows: str) -> str:
        return f"{self.size:,} {rows}"

    def origin(self, tree: Tree) -> str:
        return self.rows.origin(tree)

    def accounts(self) -> dict[str, dict]:
        held_out = self.held_out_rows
        return {"train": self.rows.record()} | (
            {"held_out": held_out.record()} if held_out is not None else {}
        )

    def evaluated_rows(self) -> int:
        return 0 if self.held_out is None else len(self.held_out.trees)

    def shown(self, count: int) -> list[Tree]:
        return self.rows.trees[:count]

    def conversations(self, count: int) -> list[tuple[int, ...]]:
        whole = (
            (*tree.prompt, *completion)
            for tree in self.rows.trees
            for completion in tree.completions
        )
        return list(islice(whole, count))

    def settle(self) -> None:
        """Do nothing: all rows are there."""

    def close(self) -> None:
        """Do nothing: nothing is under way."""

    # ------------------------------------------------------------ evaluation

    def evaluate(self, context: EvaluationContext) -> Evaluation:
        """Compute metrics of the held-out rows; their records go into the run's table of
        examples.
        """
        held_out, learner, width = self.held_out, context.learner, context.tie_width
        assert held_out is not None, "an evaluation needs held-out rows"
        context.doing(f"evaluating {len(held_out.trees):,} held-out rows")
        records = within_memory(
            lambda: held.evaluate(
                held_out,
                learner.forward,
                learner.objective,
                learner.reference,
                context.poll,
                learner.world,
                learner.running,
            ),
            partial(self._shrink, context),
            alone=learner.world.size == 1,
        )
        context.check(list(held_out.trees), records)
        # the first rank's figures for all: they decide which checkpoint is best
        metrics = learner.world.on_first(lambda: self._metrics(context, held_out, records))
        plain = {name.removeprefix("eval_"): value for name, value in metrics.items()}
        context.report(metrics_as_recorded(plain, records, width))
        accuracy = held.pair_accuracy(records, held_out, width)
        if accuracy is not None:
            metrics |= {
                "diag/eval_accuracy_low": accuracy.low,
                "diag/eval_accuracy_high": accuracy.high,
            }
            if (correlation := length_correlation(records)) is not None:
                metrics["diag/eval_length_correlation"] = correlation
        return Evaluation(metrics, accuracy)

    def _shrink(self, context: EvaluationContext) -> None:
        """Halve the packs of held-out rows.

        The reference is computed again: policy and reference must use the same packs.
        """
        held_out = self.held_out
        assert held_out is not None, "an evaluation needs held-out rows"
        say = context.learner.budget.on_shrink
        # packs are twice a micro-batch, and the report names train.micro_tokens
        smaller = MicroBudget(
            held_out.budget, lambda before, now, again: say(before // 2, now // 2, again)
        )
        smaller.shrink(held_out.trees, "the held-out rows are evaluated again")
        held_out.budget = smaller.tokens
        held_out.forget_reference()

    def _metrics(self, context: EvaluationContext, held_out: HeldOut, records: Records) -> dict:
        objective, width = context.learner.objective, context.tie_width
        if objective.answers:
            first = held_out_rows.start(context.folder) if context.step else None
            since(records, first if first is not None else held_out_rows.sides(records))
        assert self.held_out_rows is not None, "what is evaluated stands in a file"
        held_out_rows.write(context.folder, context.step, records, held_out, self.held_out_rows)
        metrics = held.metrics(records, held_out, objective, width)
        more = {} if objective.answers else reward_model_figures(records, width)
        return metrics | as_evaluation(decompose(records, objective, width)) | more
