"""Encoding of examples as trees, under a length limit: examples in = trees + unfit by reason,
always.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from accord.data.ledger import Rejection, excerpt, printable
from accord.data.templates import Template, Unfit
from accord.types import Example, Finding, Pair, Tree

TOO_LONG = "too long"


@dataclass(frozen=True)
class Limits:
    """Length limits, and what to do with rows that are too long. Answers are never cut unless asked
    for.
    """

    max_tokens: int
    long_prompts: str = "cut"  # or "reject"
    long_answers: str = "reject"  # or "cut"


@dataclass
class Encoding:
    """The trees of a dataset, and what became of the examples that gave none."""

    trees: list[Tree] = field(default_factory=list)  # tree.row is the index into `examples`
    examples: Sequence[Example] = ()
    unfit: list[Rejection] = field(default_factory=list)
    turns_cut: Counter = field(default_factory=Counter)  # row -> turns dropped from its prompt
    # "chosen", "rejected", "completion" -> answers cut
    answers_cut: Counter = field(default_factory=Counter)
    rows_cut: set[int] = field(default_factory=set)  # rows whose prompt or answers were cut
    tokens_cut: int = 0  # prompt and answer tokens that were dropped
    ends: Counter = field(default_factory=Counter)  # side -> answers whose last token ends them
    answers: Counter = field(default_factory=Counter)  # side -> answers

    @property
    def reasons(self) -> Counter:
        return Counter(rejection.reason for rejection in self.unfit)

    @property
    def length_share(self) -> float:
        """Return the share of examples lost or cut for their length."""
        return (self.reasons[TOO_LONG] + len(self.rows_cut)) / max(1, len(self.examples))

    def as_dict(self) -> dict:
        """Return the account for a run's records."""
        lengths = sorted(tree.tokens for tree in self.trees)
        return {
            "examples": len(self.examples),
            "trees": len(self.trees),
            "unfit": dict(self.reasons.most_common()),
            "prompts_cut": len(self.turns_cut),
            "answers_cut": dict(self.answers_cut),
            "tokens_cut": self.tokens_cut,
            "unique_tokens": sum(lengths),
            "longest_tree": lengths[-1] if lengths else 0,
            "median_tree": lengths[len(lengths) // 2] if lengths else 0,
        }


def encode(
    examples: Sequence[Example],
    template: Template,
    limits: Limits,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Encoding:
    """Encode every example as a tree, or count it with the reason why not."""
    out = Encoding(examples=examples)
    for row, example in enumerate(examples):
        try:
            tree = _fitted(example, row, template, limits, out)
        except Unfit as problem:
            shown = excerpt(
                {"prompt": example.prompt[-1].content, "answer": example.completions[0]}
            )
            out.unfit.append(
                Rejection(example.origin, problem.reason, printable(problem.detail), shown)
            )
            continue
        out.trees.append(tree)
        for side, completion in zip(_sides(example), tree.completions, strict=True):
            out.answers[side] += 1
            out.ends[side] += completion[-1] in template.end_ids
        if row % 256 == 0:
            progress(row, len(examples))
    assert len(out.trees) + len(out.unfit) == len(examples), "the account does not balance"
    return out


def _fitted(example: Example, row: int, template: Template, limits: Limits, out: Encoding) -> Tree:
    """Return the tree of one example within the limit, cut where that is allowed."""
    tree = template.tree(example, row)
    longest = _longest(tree)
    whole = longest
    dropped = 0
    while (
        longest > limits.max_tokens
        and limits.long_prompts == "cut"
        and (shorter := _without_oldest(example))
    ):
        dropped += len(example.prompt) - len(shorter.prompt)
        example = shorter
        tree = template.tree(example, row)
        longest = _longest(tree)
    if longest > limits.max_tokens and limits.long_answers == "cut":
        tree = _cut_answers(tree, example, limits.max_tokens, out)
    if _longest(tree) > limits.max_tokens:
        raise Unfit(TOO_LONG, f"{whole:,} tokens, limit {limits.max_tokens:,}")
    if dropped:
        out.turns_cut[row] = dropped
        out.rows_cut.add(row)
        out.tokens_cut += whole - longest
    return tree


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


def _cut_answers(tree: Tree, example: Example, max_tokens: int, out: Encoding) -> Tree:
    room = max_tokens - len(tree.prompt)
    if room < 1:
        raise Unfit(
            TOO_LONG, f"the prompt alone has {len(tree.prompt):,} tokens, limit {max_tokens:,}"
        )
    cut = tuple(completion[:room] for completion in tree.completions)
    if len(cut) == 2 and cut[0] == cut[1]:
        raise Unfit(
            "chosen and rejected are the same tokens", f"after cutting to {max_tokens:,} tokens"
        )
    out.rows_cut.add(tree.row)
    for side, before, after in zip(_sides(example), tree.completions, cut, strict=True):
        out.answers_cut[side] += len(after) < len(before)
        out.tokens_cut += len(before) - len(after)
    return replace(tree, completions=cut)


def _sides(example: Example) -> tuple[str, ...]:
    return ("chosen", "rejected") if isinstance(example, Pair) else ("completion",)


# --------------------------------------------------------------- what the checks on every row found


def findings(
    encoding: Encoding, template: Template, max_unfit: float, max_too_long: float
) -> list[Finding]:
    """Report one finding per check, over all rows: whether training may go on, and why not."""
    reasons, n = encoding.reasons, max(1, len(encoding.examples))
    out = [_template_finding(template, encoding.examples)]
    known = {
        "the last prompt token and the first answer token merge": "data.boundary",
        "the template renders the prompt otherwise in context": "data.template_prefix",
        "two BOS tokens": "data.bos",
        "a special token stands in the text": "data.special_tokens",
        "chosen and rejected are the same tokens": "data.identical_tokens",
    }
    for reason, check in known.items():
        out.append(_row_finding(encoding, check, reason, max_unfit))
    out += [
        _row_finding(encoding, "data.other", r, max_unfit)
        for r in reasons
        if r not in known and r != TOO_LONG
    ]
    out.append(_end_finding(encoding))
    share = encoding.length_share
    says = (
        f"{reasons[TOO_LONG]:,} of {n:,} rows too long and left out, {len(encoding.turns_cut):,}"
        f" prompts cut at turns, {sum(encoding.answers_cut.values()):,} answers cut;"
        f" {encoding.tokens_cut:,} tokens dropped"
    )
    verdict = "refused" if share > max_too_long else "ok" if share == 0 else "note"
    remedy = (
        "raise data.max_tokens, or accept it with --set data.max_too_long=SHARE"
        if verdict == "refused"
        else ""
    )
    out.append(
        Finding("data.length", verdict, says, {"share": share, **encoding.as_dict()}, remedy)
    )
    return out


def _row_finding(encoding: Encoding, check: str, reason: str, allowed: float) -> Finding:
    rows = [r for r in encoding.unfit if r.reason == reason]
    if not rows:
        return Finding(check, "ok", f"no row: {reason}")
    share = len(rows) / len(encoding.examples)
    says = f"{len(rows):,} of {len(encoding.examples):,} rows ({share:.2%}): {reason}"
    evidence = {
        "share": share,
        "first": [{"at": str(r.origin), "detail": r.says} for r in rows[:3]],
    }
    if share > allowed:
        return Finding(
            check,
            "refused",
            says,
            evidence,
            "mend the rows, or accept it: --set data.max_rejected=SHARE",
        )
    return Finding(check, "note", says + "; left out", evidence)


def _template_finding(template: Template, examples: Sequence[Example]) -> Finding:
    """Check that the prompt, rendered and tokenised in one go as `generate` callers do, equals
    ours.

    Its end must invite an answer.
    """
    if template.kind == "raw":
        return Finding(
            "data.template",
            "note",
            "raw text: prompt and answer as they stand, EOS added behind the answer",
        )
    for example in examples[:8]:
        if example.prompt[-1].role == "assistant":
            continue
        try:
            text, ours = template.prompt_text(example.prompt), template.prompt_ids(example.prompt)
        except Unfit:
            continue
        messages = [{"role": t.role, "content": t.content} for t in example.prompt]
        rendered = template.tokenizer.apply_chat_template(
            messages, tokenize=True, add_generation_prompt=True
        )
        theirs = list(rendered["input_ids"] if isinstance(rendered, Mapping) else rendered)
        if theirs != ours:
            where = {"at": str(example.origin), "inference": theirs[:12], "training": ours[:12]}
            return Finding(
                "data.template", "refused", "prompts are tokenised otherwise at inference", where
            )
        plain = template.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=False
        )
        if text == plain:
            says = (
                "the chat template adds no generation prompt: the model would not know that it is"
                " its turn"
            )
            return Finding("data.template", "warning", says, {"at": str(example.origin)})
    return Finding(
        "data.template",
        "ok",
        "the model's own chat template; prompts as at inference, generation prompt last",
    )


def _end_finding(encoding: Encoding) -> Finding:
    shares = {side: encoding.ends[side] / count for side, count in encoding.answers.items()}
    says = "answers that end in an end token: " + ", ".join(
        f"{side} {share:.1%}" for side, share in shares.items()
    )
    uneven = bool(shares) and max(shares.values()) - min(shares.values()) > 0.05
    few = bool(shares) and min(shares.values()) < 0.95
    remedy = (
        "one side is cut more often: the model would learn to end, or not to; raise data.max_tokens"
        if uneven
        else ""
    )
    if few and not uneven:
        remedy = (
            "the model would not learn to end an answer: raise data.max_tokens, or mend the"
            " template's end of turn"
        )
    return Finding(
        "data.end", "warning" if uneven or few else "ok", says, {"shares": shares}, remedy
    )
