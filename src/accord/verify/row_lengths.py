"""The lengths of a run's rows against the positions of its model, and rows of all lengths together
against each alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch

from accord.config.schema import DataConfig
from accord.data.tree_table import packed
from accord.engine.step import UpdateContext
from accord.errors import plural
from accord.forward.choose import looks_nearby
from accord.forward.regimes import is_long
from accord.forward.rounding import ceiling
from accord.models.causality import with_other_end
from accord.models.language import LanguageModel
from accord.models.positions import boundary, has_table, is_dynamic, limit_of
from accord.types import Finding, Tree
from accord.verify.independent import distance, sums_by_definition

# Tokens of the longest row in the proof: of plain attention, whose numbers know no length, and of
# windows, chunks and longrope, where the longest tells more than it costs: 428 tokens, together and
# alone, took SmolLM2-135M 26 seconds on two busy cores.
PLAIN, SPECIAL = 128, 4096
USUAL = DataConfig.model_fields["max_too_long"].default
LONGER = 4  # times the rounding of short rows that long ones may show
ANSWER = 64  # tokens of the answer of a row that is cut to these


def position_findings(
    model: LanguageModel,
    trees: Sequence[Tree],
    name: str,
    *,
    permitted: bool = False,
    one_pass: bool = False,
) -> list[Finding]:
    """Count the rows that are longer than the model's positions, and those on either side of the
    length at which longrope changes its angles.

    Args:
      name: of the rows, such as "training rows".
      permitted: rows beyond the positions are what the user wants.
      one_pass: short and long rows of a batch cannot be computed apart.
    """
    found = [_beyond(model, trees, name, permitted)]
    most = boundary(model)
    if most is not None:
        found.append(_two_regimes(trees, name, most, one_pass))
    return found


def _beyond(model: LanguageModel, trees: Sequence[Tree], name: str, permitted: bool) -> Finding:
    check, limit = "data.positions", limit_of(model)
    if limit is None:
        return Finding(check, "ok", f"{name}: the model names no limit of its positions")
    lengths = packed(trees).longest
    count, longest = int((lengths > limit).sum()), int(lengths.max())
    evidence = {"limit": limit, "beyond": count, "longest": longest}
    if not count:
        says = f"{name}: the longest has {longest:,} of the model's {limit:,} positions"
        return Finding(check, "ok", says, evidence)
    says = (
        f"{count:,} of {len(lengths):,} {name} are longer than the model's {limit:,} positions (the"
        f" longest has {plural(longest, 'token')})"
    )
    remedy = _leave_out(count, len(lengths), limit)
    if has_table(model):
        says += "; it has no vector for a position behind them"
    elif is_dynamic(model):
        says += "; its rotary angles would then depend on the longest row of each pass"
    elif permitted:
        return Finding(check, "note", f"{says}, as permitted", evidence)
    else:
        says += "; it was never trained there"
        remedy += ", or accept it: --allow beyond_positions"
    return Finding(check, "refused", says, evidence, remedy)


def _leave_out(count: int, rows: int, limit: int) -> str:
    """Return the settings that leave out `count` of `rows`, and permit to lose as many."""
    if count == rows:
        return "shorten the rows, or name a model with more positions"
    share = math.ceil(100 * count / rows) / 100
    lost = f" --set data.max_too_long={share:g}" if share > USUAL else ""
    return f"leave them out: --set data.max_tokens={limit}{lost}"


def _two_regimes(trees: Sequence[Tree], name: str, most: int, one_pass: bool) -> Finding:
    answers = [(tree.prompt, completion) for tree in trees for completion in tree.completions]
    long = sum(is_long(*answer, most) for answer in answers)
    short, evidence = len(answers) - long, {"boundary": most, "long": long}
    both = (
        f"{name}: {plural(short, 'answer ends', 'answers end')} within {most:,} tokens and"
        f" {long:,} behind them, where"
        " longrope takes other angles"
    )
    if not (short and long):
        side = "behind" if long else "within"
        says = f"{name}: all end {side} the {most:,} tokens at which longrope changes its angles"
        return Finding("data.longrope", "ok", says, evidence)
    if one_pass:
        remedy = f"keep one side: --set data.max_tokens={most}"
        return Finding("data.longrope", "refused", f"{both} for a whole pass", evidence, remedy)
    says = f"{both}: they are computed in passes of their own"
    return Finding("data.longrope", "ok", says, evidence)


def growth_finding(
    model: LanguageModel, prompts: Sequence[Sequence[int]], max_new_tokens: int
) -> list[Finding]:
    """Refuse answers that may grow over the length at which longrope changes its angles: they are
    drawn with the angles of their beginning and trained with those of their whole length.
    """
    most = boundary(model)
    if most is None or not prompts:
        return []
    count = sum(len(ids) <= most < len(ids) + max_new_tokens for ids in prompts)
    check, evidence = "data.longrope", {"boundary": most, "crossing": count}
    if not count:
        says = f"no answer of {max_new_tokens:,} tokens crosses the {most:,} tokens of longrope"
        return [Finding(check, "ok", says, evidence)]
    says = (
        f"{count:,} of {len(prompts):,} prompts end within {most:,} tokens, and with"
        f" {max_new_tokens:,} new ones may cross them: longrope takes other angles there"
    )
    remedy = "lower rollouts.max_new_tokens, or leave long prompts out: --set data.max_tokens="
    return [Finding(check, "refused", says, evidence, f"{remedy}{most}")]


def spread_of_lengths(model: LanguageModel, trees: Sequence[Tree]) -> list[Tree]:
    """Choose rows of the shortest, the middle and the longest length; of each its longest answer.

    A row that is longer than what the proof may cost is cut.
    """
    special = looks_nearby(model) or boundary(model) is not None
    most = min(SPECIAL if special else PLAIN, limit_of(model) or SPECIAL)
    order = np.argsort(packed(trees).longest, kind="stable")
    picked = (trees[int(at)] for at in (order[-1], order[len(order) // 2], order[0]))
    chosen = {t.row: Tree(t.prompt, (max(t.completions, key=len),), t.row) for t in picked}
    # halved each time, so that rows that are all cut still differ in length
    return [_cut(tree, max(2, most >> n)) for n, tree in enumerate(chosen.values())][::-1]


def _cut(tree: Tree, most: int) -> Tree:
    """Cut a row with one answer: the prompt first, so that the answer stands far behind."""
    if tree.tokens <= most:
        return tree
    (answer,) = tree.completions
    answer = answer[: max(1, min(ANSWER, most - 1))]
    return Tree(tree.prompt[: most - len(answer)], (answer,), tree.row)


@torch.no_grad()
def causal_path(learner: UpdateContext, trees: Sequence[Tree]) -> Finding:
    """Exchange the later half of a row: the path must give the tokens before it what it gave
    them. The network alone was asked when it was loaded (`model.causal`).
    """
    forward, row = learner.forward, trees[len(trees) // 2]
    ids = [*row.prompt, *row.completions[0]]
    other = with_other_end(forward.model, ids)
    whole = [Tree(tuple(r[:1]), (tuple(r[1:]),), row.row) for r in (ids, other)]
    first, second = (forward.token_logps([tree]).values for tree in whole)
    before = len(ids) // 2 - 1  # tokens in front of the half, without the first
    gap = (first - second)[:before].abs().max().item() if before else 0.0
    evidence = {"nats": gap, "tokens": len(ids)}
    if not gap <= forward.bounds.token:
        says = (
            f"exchanging later tokens of a row of {len(ids):,} moves log-probs of earlier ones by"
            f" up to {gap:.3g} nats: the path looks ahead"
        )
        remedy = "set model.forward=padded; report this"
        return Finding("step0.causal", "refused", says, evidence, remedy)
    says = f"later tokens of a row of {len(ids):,} leave earlier log-probs as they are"
    return Finding("step0.causal", "ok", says, evidence)


@torch.no_grad()
def lengths_finding(learner: UpdateContext, trees: Sequence[Tree]) -> Finding:
    """Compare rows of the run's shortest, middle and longest lengths, computed together, with each
    alone in the bare network.
    """
    model, check = learner.forward.model, "step0.lengths"
    gap = distance(learner.forward(trees).reduce(), sums_by_definition(model, trees))
    sizes = ", ".join(f"{tree.tokens:,}" for tree in trees)
    worst = gap.max().item()
    evidence = {"nats": worst, "tokens": [tree.tokens for tree in trees]}
    # bounds were measured on short rows, and longer ones round more
    allowed = min(LONGER * learner.forward.bounds.answer, ceiling(model.dtype).answer)
    if not worst <= allowed:
        says = (
            f"rows of {sizes} tokens computed together differ from each alone by up to {worst:.3g}"
            f" {model.unit}: a row's numbers depend on the length of its neighbours"
        )
        remedy = "train rows of like length (data.max_tokens), or report this"
        return Finding(check, "refused", says, evidence, remedy)
    says = f"rows of {sizes} tokens together are what each is alone ({worst:.1e} {model.unit})"
    return Finding(check, "ok", says, evidence)
