"""Terminal lines of an evaluation."""

from __future__ import annotations

from collections.abc import Iterator

from accord.errors import plural
from accord.evaluate.intervals import format_interval
from accord.rewards.judges.asking import NOT_ASKED


def lines(found: dict) -> Iterator[str]:
    """List the results, most important first."""
    if "binding" in found:
        yield from _binding(found["binding"])
    if "pairs" in found:
        yield from _pairs(found["pairs"], found["source"])
    if "labelled" in found:
        yield from _labelled(found["labelled"])
    if "answers" in found:
        yield from _answers(found["answers"])
    if "win_rate" in found:
        yield from _win_rate(found["win_rate"])
    if "perplexity" in found:
        yield from _perplexity(found["perplexity"])


def _binding(bound: dict) -> Iterator[str]:
    """Say what does not belong together, before any figure; or that no row was trained on."""
    yield from (f"! {warning}" for warning in bound["warnings"])
    yield from (f"  {note}" for note in bound["notes"])
    if not bound["trained_on"]["total"]:
        yield f"  {bound['says']}"


def interval(e: dict, unit: str = "") -> str:
    return f"{format_interval(e)}{' ' + unit if unit else ''}"


def _pairs(pairs: dict, source: dict) -> Iterator[str]:
    if source["reference"] is None and source["objective"]["name"] == "sft":
        yield (
            "no reference: pairs are ranked by the model's own log-prob a token, which is no"
            " implicit reward"
        )
    yield f"  accuracy            {interval(pairs['accuracy'])}, n = {pairs['accuracy']['n']:,}"
    yield (
        f"    wins, ties, losses  {pairs['wins']:,}, {pairs['ties']:,}, {pairs['losses']:,}   (a"
        f" tie: within {pairs['tie_width']:.1e}, which rounding makes up)"
    )
    yield f"    {_power(pairs)}"
    yield f"  margin              {interval(pairs['margin'])}"
    logprob = pairs["logprob"]
    yield (
        f"  accuracy of log-probs alone: sum {interval(logprob['sum'])}, mean a token"
        f" {interval(logprob['token_mean'])}"
    )
    if "calibration" in pairs:
        yield from _calibration(pairs["calibration"], source["objective"]["name"])
    yield from ["  slices (accuracy)"] if pairs["slices"] else []
    yield from (f"    {s['slice']:<36}{interval(s)}, n = {s['n']:,}" for s in pairs["slices"])


def _calibration(found: dict, objective: str) -> Iterator[str]:
    yield (
        f"  calibration of σ(margin)   ({objective}; a probability only as far as the objective is"
        " Bradley and Terry's)"
    )
    yield (
        f"    expected error      {interval(found['ece'])}, debiased {found['ece_debiased']:.3f};"
        f" perfect confidences would show {found['ece_of_chance']:.3f} on so few pairs"
    )
    yield f"    Brier               {interval(found['brier'])}; .25 knows nothing"
    if found["slope"] is not None:
        # an end that is not known decides nothing
        claims = (
            "claims too much"
            if _below(found["slope"]["high"], 1)
            else "claims too little"
            if _below(1, found["slope"]["low"])
            else "fits, within a quarter"
            if _within(found["slope"], 0.8, 1.25)
            else "1 is possible, and so is much else: too few pairs to tell"
        )
        yield f"    slope               {interval(found['slope'])}: {claims}"
    for one in found["bins"]:
        pairs = plural(one["pairs"], "pair")
        yield f"      says {one['confidence']:.2f}, is {one['right']:.2f}   {pairs}"


def _below(one: float | None, other: float | None) -> bool:
    return one is not None and other is not None and one < other


def _within(found: dict, low: float, high: float) -> bool:
    """Tell whether the whole interval is known, and lies inside these limits."""
    ends = found["low"], found["high"]
    return all(end is not None and low <= end <= high for end in ends)


def _labelled(found: dict) -> Iterator[str]:
    if "auc" in found:
        yield (
            f"  a good answer above a bad one  {interval(found['auc'])}, n = {found['auc']['n']:,}"
        )
    else:
        yield "  all labels are alike: nothing can be ranked"


def _answers(found: dict) -> Iterator[str]:
    if not found["prompts"]:
        yield f"  {found['says']}"
        return
    yield f"  {found['prompts']:,} fresh answers of at most {found['max_new_tokens']} tokens"
    if "kl" in found:
        yield f"    KL to {found['kl_to']}: {interval(found['kl'], 'nats an answer')}"
    yield (
        f"    tokens an answer    {interval(found['tokens'])}; {found['ended']:.0%} ended by the"
        f" model, {found['repeated']:.1%} repeated"
    )
    if "tokens_difference" in found:
        yield (
            f"    longer by           {interval(found['tokens_difference'], 'tokens')} than the"
            " reference's"
        )


def _win_rate(found: dict) -> Iterator[str]:
    yield f"  win rate against {found['against']}, by {found['judge']}"
    if "failed" in found:
        yield f"    none of {found['contests']:,} contests has a verdict: see below"
        return
    yield (
        f"    as judged           {interval(found['rate'])}; {found['wins']:,} won,"
        f" {found['ties']:,} tied, {found['losses']:,} lost"
    )
    yield f"    length-controlled   {interval(found['length_controlled'])}; {_lengths(found)}"
    if found["failures"]:
        said = "; ".join(f"{count:,} {reason}" for reason, count in found["failures"].items())
        yield (
            f"    {found['contests'] - found['judged']:,} of {found['contests']:,} contests have no"
            f" verdict and are left out: {said}"
        )
        if any(reason.startswith(NOT_ASKED) for reason in found["failures"]):
            yield (
                "    ! the judge failed in the middle: the win rate is of the first contests alone."
                " The same command asks for the rest"
            )
    account = found["account"]
    yield from (f'      it replied: "{said}"' for said in account.get("unread", ()))
    if "swapped_inconsistent_share" in account:
        yield (
            f"    {account['swapped_inconsistent_share']:.0%} of the contests are decided by the"
            " order alone, and count as ties"
        )
        yield (
            f"    cost: {plural(account['requests'], 'request')}"
            f" ({plural(account['cached'], 'answer')} from the"
            f" disk), {account['prompt_tokens']:,} + {account['completion_tokens']:,} tokens"
        )


def _lengths(found: dict) -> str:
    """Say how often its answers are longer; `longer` counts those of one length as half."""
    alike = found["same_length"]
    if alike == 1:
        return "both answers are as long as each other in every contest"
    equal = f", {alike:.0%} as long as the other" if alike else ""
    return f"{found['longer'] - alike / 2:.0%} of its answers are longer{equal}"


def _power(pairs: dict) -> str:
    """Say which difference of two models' accuracies the rows can show."""
    apart, alike = pairs["smallest_difference"], pairs["smallest_difference_alike"]
    if apart is None and alike is None:
        return "these rows are too few to show any difference between two models (power .8)"
    if apart is None:
        return (
            "these rows can show no difference between two models that err independently, and one"
            f" of {alike:.3f} where they correlate by .5 (power .8)"
        )
    return (
        f"these rows can show a difference of {apart:.3f} between two models that err"
        f" independently, {alike:.3f} where they correlate by .5 (power .8)"
    )


def _perplexity(found: dict) -> Iterator[str]:
    yield (
        f"  perplexity of {plural(found['file_texts'], 'text')},"
        f" {plural(found['tokens'], 'token')}:"
        f" {interval(found['perplexity'])}"
    )
    if "reference" in found:
        yield (
            f"    {found['against']}: {interval(found['reference']['perplexity'])}; "
            f"forgotten: {interval(found['nats_a_token_more'], 'nats a token')}"
        )
