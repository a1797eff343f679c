"""Encoding of examples as trees, under a length limit: examples in = trees + unfit by reason,
always.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from accord.data.chat_template import variables
from accord.data.endings import was_cut
from accord.data.ledger import Rejection, excerpt, printable
from accord.data.templates import Encoded, Template
from accord.data.tokenizer_text import Unfit
from accord.errors import plural
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
class Changed:
    """A kind of change that a template or tokenizer made to rows that are used all the same."""

    mild: bool
    rows: int = 0
    first: list[dict] = field(default_factory=list)  # places and details of the first three


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
    # side -> answers that had been cut when they were drawn: they are trained on without an end
    drawn_cut: Counter = field(default_factory=Counter)
    rows_drawn_cut: set[int] = field(default_factory=set)
    tokens_cut: int = 0  # prompt and answer tokens that were dropped
    ends: Counter = field(default_factory=Counter)  # side -> answers whose last token ends them
    answers: Counter = field(default_factory=Counter)  # side -> answers
    changed: dict[str, Changed] = field(default_factory=dict)  # cause -> rows in which it happened
    shapes: list[int] = field(default_factory=list)  # of each tree, the number of its shape
    # row -> the example without its oldest turns, where they were cut
    shortened: dict[int, Example] = field(default_factory=dict)

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
            "changed": {cause: found.rows for cause, found in self.changed.items()},
            "shapes": len(set(self.shapes)),
        } | ({"drawn_cut": dict(self.drawn_cut)} if self.drawn_cut else {})


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
            tree, encoded = _fitted(example, row, template, limits, out)
            tree = _as_drawn(tree, example, template, out)
        except Unfit as problem:
            shown = excerpt(
                {"prompt": example.prompt[-1].content, "answer": example.completions[0]}
            )
            out.unfit.append(
                Rejection(example.origin, problem.reason, printable(problem.detail), shown)
            )
            continue
        out.trees.append(tree)
        out.shapes.append(encoded.shape)
        _record_changes(out, example, encoded)
        for side, completion in zip(_sides(example), tree.completions, strict=True):
            out.answers[side] += 1
            out.ends[side] += completion[-1] in template.end_ids
        if row % 256 == 0:
            progress(row, len(examples))
    assert len(out.trees) + len(out.unfit) == len(examples), "the account does not balance"
    return out


def _fitted(
    example: Example, row: int, template: Template, limits: Limits, out: Encoding
) -> tuple[Tree, Encoded]:
    """Return the tree of one example within the limit, cut where that is allowed, and how it was
    encoded.
    """
    encoded = template.encoded(example, row)
    tree = encoded.tree
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
        encoded = template.encoded(example, row)
        tree = encoded.tree
        longest = _longest(tree)
    if longest > limits.max_tokens and limits.long_answers == "cut":
        tree = _cut_answers(tree, example, limits.max_tokens, out)
    if _longest(tree) > limits.max_tokens:
        raise Unfit(TOO_LONG, f"{plural(whole, 'token')}, limit {limits.max_tokens:,}")
    if dropped:
        out.turns_cut[row] = dropped
        out.rows_cut.add(row)
        out.tokens_cut += whole - longest
        out.shortened[row] = example
    return tree, encoded


def _record_changes(out: Encoding, example: Example, encoded: Encoded) -> None:
    for cause in dict.fromkeys(change.cause for change in encoded.changes):
        change = next(each for each in encoded.changes if each.cause == cause)
        found = out.changed.setdefault(cause, Changed(change.mild))
        found.rows += 1
        if len(found.first) < 3:
            found.first.append({"at": str(example.origin), "detail": change.detail})


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
            TOO_LONG,
            f"the prompt alone has {plural(len(tree.prompt), 'token')}, limit {max_tokens:,}",
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


def _as_drawn(tree: Tree, example: Example, template: Template, out: Encoding) -> Tree:
    """Take the end token from answers that had been cut when they were drawn."""
    cut = was_cut(example)
    if not any(cut):
        return tree
    drawn = tuple(
        ids[:-1] if gone and ids[-1] in template.end_ids else ids
        for gone, ids in zip(cut, tree.completions, strict=True)
    )
    if len(drawn) == 2 and drawn[0] == drawn[1]:
        raise Unfit("chosen and rejected are the same tokens", "one of them was cut when drawn")
    out.rows_drawn_cut.add(tree.row)
    out.drawn_cut.update(side for side, gone in zip(_sides(example), cut, strict=True) if gone)
    return replace(tree, completions=drawn)


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
        finding = _row_finding(encoding, check, reason, max_unfit)
        if check == "data.template_prefix" and finding.refused:
            remedy = (
                "give a template that writes the prompt alike with an answer behind it:"
                f" --set data.template=FILE.jinja, or {finding.remedy}"
            )
            finding = replace(finding, remedy=remedy)
        out.append(finding)
    others = [reason for reason in reasons if reason not in known and reason != TOO_LONG]
    for reason in others:
        changes_text = reason.startswith(CHANGES)
        finding = _row_finding(
            encoding, "data.template_text" if changes_text else "data.other", reason, max_unfit
        )
        remedy = change_remedy(reason, template) if changes_text and finding.refused else ""
        out.append(replace(finding, remedy=remedy or finding.remedy))
    out += _changed_findings(encoding, any(map(_changes, others)))
    out.append(_end_finding(encoding))
    share = encoding.length_share
    says = (
        f"{reasons[TOO_LONG]:,} of {n:,} rows too long and left out,"
        f" {plural(len(encoding.turns_cut), 'prompt')} cut at turns,"
        f" {plural(sum(encoding.answers_cut.values()), 'answer')} cut;"
        f" {plural(encoding.tokens_cut, 'token')} dropped"
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


# beginnings of the reasons for which a row's text is not what its tokens say
CHANGES = ("the template ", "the tokenizer ", "the generation prompt ")


def _changes(reason: str) -> bool:
    return (
        reason.startswith(CHANGES)
        and reason != "the template renders the prompt otherwise in context"
    )


def change_remedy(reason: str, template: Template) -> str:
    """Return what to do about a template that changes the text of rows."""
    permit = "or permit it: --allow template_changes_text"
    if "think" in reason and "enable_thinking" in variables(template.tokenizer):
        on = "false" if "empty think block" in reason else "true"
        return (
            f"say which answers these are: --set data.chat_template_kwargs.enable_thinking={on},"
            f" {permit}"
        )
    if reason.startswith("the tokenizer"):
        return f"use the tokenizer that the model was trained with, {permit}"
    return f"give a template that keeps the text: --set data.template=FILE.jinja, {permit}"


def _changed_findings(encoding: Encoding, refused: bool) -> list[Finding]:
    """Report what template and tokenizer changed in rows that are used."""
    n = len(encoding.trees)
    if not encoding.changed:
        if refused:
            return []
        shapes = len(set(encoding.shapes))
        says = (
            f"all {n:,} rows, of {shapes:,} {'shape' if shapes == 1 else 'shapes'}: every turn"
            " stands verbatim and in order, and what is scored is the answer"
        )
        return [Finding("data.template_text", "ok", says)]
    out = []
    for cause, found in encoding.changed.items():
        says = f"{found.rows:,} of {n:,} rows ({found.rows / n:.2%}): {cause}"
        says += f" ({found.first[0]['detail']})"
        evidence = {"share": found.rows / n, "first": found.first}
        means = "the model sees the same at inference" if found.mild else "permitted by --allow"
        out.append(Finding("data.template_text", "warning", says, evidence, means=means))
    return out


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
        inputs = example.inputs
        try:
            text = template.prompt_text(example.prompt, inputs)
        except Unfit:
            continue
        ours, messages = template.encode(text), template.messages(example.prompt)
        options = template.given(inputs)
        rendered = template.tokenizer.apply_chat_template(
            messages, tokenize=True, add_generation_prompt=True, **options
        )
        theirs = list(rendered["input_ids"] if isinstance(rendered, Mapping) else rendered)
        if theirs != ours:
            where = {"at": str(example.origin), "inference": theirs[:12], "training": ours[:12]}
            return Finding(
                "data.template", "refused", "prompts are tokenised otherwise at inference", where
            )
        plain = template.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=False, **options
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
    if drawn := sum(encoding.drawn_cut.values()):
        says += f"; {drawn:,} had been cut when they were drawn, and get no end token"
        remedy = "draw longer answers, so that they end: accord sample --max-new-tokens N"
    return Finding(
        "data.end", "warning" if uneven or few else "ok", says, {"shares": shares}, remedy
    )
