"""The findings on a file's encoding: the checks on every row, summed up, and whether training may
go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from accord.data.chat_template import variables
from accord.data.templates import Template
from accord.data.tokenizer_text import Unfit
from accord.data.trees import TOO_LONG, Encoding, TokenAccount
from accord.errors import plural
from accord.types import Example, Finding


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
    out.append(_end_finding(encoding.account))
    share = encoding.length_share
    says = (
        f"{reasons[TOO_LONG]:,} of {n:,} rows too long and left out,"
        f" {plural(encoding.account.prompts_cut, 'prompt')} cut at turns,"
        f" {plural(sum(encoding.account.answers_cut.values()), 'answer')} cut;"
        f" {plural(encoding.account.tokens_cut, 'token')} dropped"
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
    n = encoding.account.trees
    if not encoding.account.changed:
        if refused:
            return []
        shapes = len(encoding.account.shapes)
        says = (
            f"all {n:,} rows, of {shapes:,} {'shape' if shapes == 1 else 'shapes'}: every turn"
            " stands verbatim and in order, and what is scored is the answer"
        )
        return [Finding("data.template_text", "ok", says)]
    out = []
    for cause, found in encoding.account.changed.items():
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


def _end_finding(account: TokenAccount) -> Finding:
    shares = {side: account.ends[side] / count for side, count in account.answers.items()}
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
    if drawn := sum(account.drawn_cut.values()):
        says += f"; {drawn:,} had been cut when they were drawn, and get no end token"
        remedy = "draw longer answers, so that they end: accord sample --max-new-tokens N"
    return Finding(
        "data.end", "warning" if uneven or few else "ok", says, {"shares": shares}, remedy
    )
