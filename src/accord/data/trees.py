"""Encoding of examples as trees, under a length limit: examples in = trees + unfit by reason,
always.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from accord.data.altered_text import Change
from accord.data.endings import was_cut
from accord.data.ledger import Rejection, excerpt, printable
from accord.data.templates import Encoded, Template, Written
from accord.data.token_batches import TokenIds, Tokenizing, tokenised
from accord.data.tokenizer_text import Unfit
from accord.data.tree_table import TreeBlock, Trees
from accord.errors import plural
from accord.types import Example, Pair, Tree

TOO_LONG = "too long"
# Rows that are tokenised whole as well, to compare with what was put together of parts: the first
# ones, and then one in so many.
COMPARED, EACH = 64, 499


@dataclass(frozen=True)
class Limits:
    """Length limits, and what to do with rows that are too long. Answers are never cut unless asked
    for.
    """

    max_tokens: int
    long_prompts: str = "cut"  # or "reject"
    long_answers: str = "reject"  # or "cut"


@dataclass
class Changed:
    """A kind of change that a template or tokenizer made to rows that are used all the same."""

    mild: bool
    rows: int = 0
    first: list[dict] = field(default_factory=list)  # places and details of the first three


@dataclass(frozen=True, slots=True)
class Fitted:
    """An example as a tree within the limits, and what was changed in it or cut off."""

    tree: Tree
    shape: int
    changes: tuple[Change, ...] = ()
    turns_cut: int = 0
    answers_cut: tuple[bool, ...] = ()
    tokens_cut: int = 0
    drawn_cut: tuple[bool, ...] = ()  # answers that had been cut when they were drawn

    @property
    def cut(self) -> bool:
        return bool(self.turns_cut) or any(self.answers_cut)


@dataclass
class TokenAccount:
    """The account of examples on their way to trees; accounts of parts of a file add up."""

    examples: int = 0
    trees: int = 0
    unfit: list[Rejection] = field(default_factory=list)
    prompts_cut: int = 0
    # "chosen", "rejected", "completion" -> answers cut
    answers_cut: Counter = field(default_factory=Counter)
    cut: int = 0  # rows whose prompt or answers were cut
    # side -> answers that had been cut when they were drawn: they are trained on without an end
    drawn_cut: Counter = field(default_factory=Counter)
    tokens_cut: int = 0  # prompt and answer tokens that were dropped
    ends: Counter = field(default_factory=Counter)  # side -> answers whose last token ends them
    answers: Counter = field(default_factory=Counter)  # side -> answers
    end_tokens: Counter = field(default_factory=Counter)  # id -> answers that end in it
    tokens: int = 0  # prompt and answers, unique in each tree
    unknown: int = 0  # of these, tokens that stand for text which the tokenizer does not know
    changed: dict[str, Changed] = field(default_factory=dict)  # cause -> rows in which it happened
    shapes: set[int] = field(default_factory=set)  # their numbers, see fidelity.py

    def use(self, example: Example, fitted: Fitted, template: Template) -> None:
        """Count an example that became a tree."""
        tree, sides = fitted.tree, _sides(example)
        self.examples += 1
        self.trees += 1
        self.shapes.add(fitted.shape)
        self.prompts_cut += bool(fitted.turns_cut)
        self.cut += fitted.cut
        self.tokens_cut += fitted.tokens_cut
        if fitted.answers_cut:
            self.answers_cut.update(dict(zip(sides, fitted.answers_cut, strict=True)))
        if fitted.drawn_cut:
            both = zip(sides, fitted.drawn_cut, strict=True)
            self.drawn_cut.update(side for side, cut in both if cut)
        for side, completion in zip(sides, tree.completions, strict=True):
            self.answers[side] += 1
            if completion[-1] in template.end_ids:
                self.ends[side] += 1
                self.end_tokens[completion[-1]] += 1
        self.tokens += tree.tokens
        unknown = template.tokenizer.unk_token_id
        if unknown is not None:
            self.unknown += sum(ids.count(unknown) for ids in (tree.prompt, *tree.completions))
        for cause in dict.fromkeys(change.cause for change in fitted.changes):
            change = next(each for each in fitted.changes if each.cause == cause)
            found = self.changed.setdefault(cause, Changed(change.mild))
            found.rows += 1
            if len(found.first) < 3:
                found.first.append({"at": str(example.origin), "detail": change.detail})

    def reject(self, example: Example, problem: Unfit) -> None:
        """Count an example that cannot be used."""
        self.examples += 1
        shown = excerpt({"prompt": example.prompt[-1].content, "answer": example.completions[0]})
        self.unfit.append(
            Rejection(example.origin, problem.reason, printable(problem.detail), shown)
        )

    def add(self, later: TokenAccount) -> None:
        """Add the account of a later part."""
        for name in ("examples", "trees", "prompts_cut", "cut", "tokens_cut", "tokens", "unknown"):
            setattr(self, name, getattr(self, name) + getattr(later, name))
        for name in ("answers_cut", "drawn_cut", "ends", "answers", "end_tokens"):
            getattr(self, name).update(getattr(later, name))
        self.unfit += later.unfit
        self.shapes |= later.shapes
        for cause, more in later.changed.items():
            found = self.changed.setdefault(cause, Changed(more.mild))
            found.rows += more.rows
            found.first += more.first[: max(0, 3 - len(found.first))]


@dataclass
class Encoding:
    """The trees of a dataset, and what became of the examples that gave none."""

    trees: Trees = field(default_factory=lambda: Trees([]))  # tree.row is the index into `examples`
    examples: Sequence[Example] = ()
    account: TokenAccount = field(default_factory=TokenAccount)

    @property
    def unfit(self) -> list[Rejection]:
        return self.account.unfit

    @cached_property
    def reasons(self) -> Counter:
        return Counter(rejection.reason for rejection in self.unfit)

    @property
    def length_share(self) -> float:
        """Return the share of examples lost or cut for their length."""
        return (self.reasons[TOO_LONG] + self.account.cut) / max(1, len(self.examples))

    @cached_property
    def shapes(self):
        """The number of each tree's shape, [N]."""
        return self.trees.column("shape")

    @cached_property
    def rows_cut(self) -> frozenset[int]:
        """The rows whose prompt or answers were cut."""
        return frozenset(self.trees.rows[self.trees.column("cut") != 0].tolist())

    @cached_property
    def rows_drawn_cut(self) -> frozenset[int]:
        """The rows of which an answer had been cut when it was drawn."""
        return frozenset(self.trees.rows[self.trees.column("drawn_cut") != 0].tolist())

    @cached_property
    def turns_cut(self) -> dict[int, int]:
        """The rows whose oldest turns were dropped, and how many of them."""
        turns = self.trees.column("turns_cut")
        cut = turns != 0
        return dict(zip(self.trees.rows[cut].tolist(), turns[cut].tolist(), strict=True))

    def as_encoded(self, row: int) -> Example:
        """Return an example as it became a tree: without the turns that were cut."""
        example = self.examples[row]
        left = len(example.prompt) - self.turns_cut.get(row, 0)
        while len(example.prompt) > left:
            shorter = _without_oldest(example)
            assert shorter is not None, "the same turns were cut before"
            example = shorter
        return example

    def as_dict(self) -> dict:
        """Return the account for a run's records."""
        account, lengths = self.account, np.sort(self.trees.lengths)
        return {
            "examples": len(self.examples),
            "trees": len(self.trees),
            "unfit": dict(self.reasons.most_common()),
            "prompts_cut": account.prompts_cut,
            "answers_cut": dict(account.answers_cut),
            "tokens_cut": account.tokens_cut,
            "unique_tokens": int(lengths.sum()),
            "longest_tree": int(lengths[-1]) if len(lengths) else 0,
            "median_tree": int(lengths[len(lengths) // 2]) if len(lengths) else 0,
            "changed": {cause: found.rows for cause, found in account.changed.items()},
            "shapes": len(account.shapes),
        } | ({"drawn_cut": dict(account.drawn_cut)} if account.drawn_cut else {})


def encode(
    examples: Sequence[Example],
    template: Template,
    limits: Limits,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Encoding:
    """Encode every example as a tree, or count it with the reason why not."""
    for whole in (False, True):
        account, block = TokenAccount(), TreeBlock(len(template.tokenizer))
        try:
            for row, example, found in encoded(enumerate(examples), template, limits, whole):
                collect(account, block, example, found, template)
                if row % 256 == 0:
                    progress(row, len(examples))
        except Seam:
            continue
        break
    assert account.examples == len(examples), "the account does not balance"
    return Encoding(Trees([block.table()]), examples, account)


def collect(
    account: TokenAccount,
    block: TreeBlock,
    example: Example,
    found: Fitted | Unfit,
    template: Template,
) -> None:
    """Put what became of one example into the account and the block."""
    if isinstance(found, Unfit):
        account.reject(example, found)
        return
    account.use(example, found, template)
    block.add(
        found.tree,
        found.shape,
        turns_cut=found.turns_cut,
        cut=found.cut,
        drawn_cut=any(found.drawn_cut),
    )


class Seam(Exception):
    """The error of a tokenizer whose tokens depend on what stands before its own: rows have to be
    tokenised whole.
    """


def encoded(
    rows: Iterable[tuple[int, Example]], template: Template, limits: Limits, whole: bool = False
) -> Iterator[tuple[int, Example, Fitted | Unfit]]:
    """Yield what becomes of each example, in order: a tree within the limits, or the reason why
    not.

    Args:
      rows: numbers of examples, and the examples.
      whole: tokenise every text from its beginning.

    Raises:
      Seam: not `whole`, and that makes a difference.
    """
    tokenizing = Tokenizing(template, whole)
    problems: dict[int, Unfit] = {}

    def write(numbered: tuple[int, Example]) -> Written | None:
        row, example = numbered
        try:
            return template.write(example)
        except Unfit as problem:
            problems[row] = problem
            return None

    for done, ((row, example), written, ids) in enumerate(tokenised(rows, write, tokenizing)):
        if written is None or ids is None:
            yield row, example, problems.pop(row)
            continue
        sampled = done < COMPARED or done % EACH == 0
        if sampled and tokenizing.seams is not None and tokenizing.differs(written, ids):
            raise Seam
        try:
            yield row, example, _fitted(example, row, template, limits, written, ids)
        except Unfit as problem:
            yield row, example, problem


def _fitted(
    example: Example, row: int, template: Template, limits: Limits, written: Written, ids: TokenIds
) -> Fitted:
    """Return the tree of one example within the limit, cut where that is allowed."""
    made = template.encoded_as(example, row, written, ids.prompt, ids.conversations)
    whole = _longest(made.tree)
    found, shorter = _shortened(example, made, row, template, limits)
    tree, longest = found.tree, _longest(found.tree)
    answers_cut: tuple[bool, ...] = ()
    tokens_cut = whole - longest if shorter is not example else 0
    if longest > limits.max_tokens and limits.long_answers == "cut":
        cut = _cut_answers(tree, limits.max_tokens)
        both = list(zip(tree.completions, cut.completions, strict=True))
        answers_cut = tuple(len(after) < len(before) for before, after in both)
        tokens_cut += sum(len(before) - len(after) for before, after in both)
        tree = cut
    if _longest(tree) > limits.max_tokens:
        raise Unfit(TOO_LONG, f"{plural(whole, 'token')}, limit {limits.max_tokens:,}")
    tree, drawn_cut = _as_drawn(tree, shorter, template)
    turns_cut = len(example.prompt) - len(shorter.prompt)
    return Fitted(tree, found.shape, found.changes, turns_cut, answers_cut, tokens_cut, drawn_cut)


def _shortened(
    example: Example, made: Encoded, row: int, template: Template, limits: Limits
) -> tuple[Encoded, Example]:
    """Leave out the oldest turns until the example is within the limit, where that is allowed."""
    while (
        _longest(made.tree) > limits.max_tokens
        and limits.long_prompts == "cut"
        and (shorter := _without_oldest(example))
    ):
        example = shorter
        made = template.encoded(example, row)
    return made, example


def _longest(tree: Tree) -> int:
    return len(tree.prompt) + max(map(len, tree.completions))


def _without_oldest(example: Example) -> Example | None:
    """Return the example without its oldest exchange; None when only the system turn and the last
    turn are left.
    """
    turns = example.prompt
    head = 1 if turns[0].role == "system" else 0
    starts = [i for i in range(head + 1, len(turns)) if turns[i].role == "user"]
    if not starts:
        return None
    return replace(example, prompt=(*turns[:head], *turns[starts[0] :]))


def _cut_answers(tree: Tree, max_tokens: int) -> Tree:
    room = max_tokens - len(tree.prompt)
    if room < 1:
        raise Unfit(
            TOO_LONG,
            f"the prompt alone has {plural(len(tree.prompt), 'token')}, limit {max_tokens:,}",
        )
    cut = tuple(completion[:room] for completion in tree.completions)
    if len(cut) == 2 and cut[0] == cut[1]:
        raise Unfit(
            "chosen and rejected are the same tokens", f"after cutting to {max_tokens:,} tokens"
        )
    return replace(tree, completions=cut)


def _as_drawn(tree: Tree, example: Example, template: Template) -> tuple[Tree, tuple[bool, ...]]:
    """Take the end token from answers that had been cut when they were drawn."""
    cut = was_cut(example)
    if not any(cut):
        return tree, ()
    drawn = tuple(
        ids[:-1] if gone and ids[-1] in template.end_ids else ids
        for gone, ids in zip(cut, tree.completions, strict=True)
    )
    if len(drawn) == 2 and drawn[0] == drawn[1]:
        raise Unfit("chosen and rejected are the same tokens", "one of them was cut when drawn")
    return replace(tree, completions=drawn), tuple(map(bool, cut))


def _sides(example: Example) -> tuple[str, ...]:
    return ("chosen", "rejected") if isinstance(example, Pair) else ("completion",)
