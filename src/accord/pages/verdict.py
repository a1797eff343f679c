"""A run in three sentences: did it learn, what did it cost, what should one look at?"""

from __future__ import annotations

from accord.campaign.rlhf.proxy import paired_gain
from accord.evaluate.intervals import format_interval
from accord.evaluate.probe import kl_against
from accord.pages.words import short
from accord.runs.recorded import Recorded


def verdict(run: Recorded) -> list[str]:
    """Write three sentences from recorded figures. They say so if something was not measured."""
    return [what_was_learned(run), cost(run), what_was_looked_at(run)]


def what_was_learned(run: Recorded) -> str:
    what = f"{run.objective.name} on {run.config.data.name}"
    if run.config.rollouts is not None:
        return f"{what}: {what_was_rewarded(run)}"
    now, before = (run.at(step, "eval_rewards/accuracies") for step in (run.measured, 0))
    if now is None:
        return (
            f"{what}: no held-out pairs were evaluated, so nothing is known of how this model"
            " generalises."
        )
    low, high = (
        run.at(run.measured, "diag/eval_accuracy_low"),
        run.at(run.measured, "diag/eval_accuracy_high"),
    )
    since = f", {before:.3f} before training" if before is not None else ""
    shown = format_interval({"value": now, "low": low, "high": high})
    if low is None or high is None:
        return f"{what}: held-out accuracy {shown}{since}."
    sure = (
        "better than chance"
        if low > 0.5
        else "wholly under one half: sides exchanged or labels inverted, not noise"
        if high < 0.5
        else "indistinguishable from chance"
    )
    when = (
        ""
        if run.measured == run.ended
        else f" at step {run.measured}, the last that was evaluated of {run.ended}"
    )
    return f"{what}: held-out accuracy {shown}{when}{since}: {sure}."


def what_was_rewarded(run: Recorded) -> str:
    """Say whether the reward of held-out answers rose, prompt by prompt, and whether the gold
    judgement agrees.
    """
    now, before = (run.at(step, "eval_reward") for step in (run.measured, 0))
    if now is None or before is None:
        return (
            "no held-out prompts were answered, so nothing is known of how this policy generalises."
        )
    first, last = (run.at(step, "eval_gold") for step in (0, run.measured))
    said = (
        f" The gold judgement went from {first:.3f} to {last:.3f}."
        if first is not None and last is not None
        else ""
    )
    return f"held-out reward {now:.3f}, {before:.3f} before training{_changed(run)}.{said}"


def _changed(run: Recorded) -> str:
    """Say how the reward changed on the same prompts, with the same randomness."""
    then, now = (
        [line for line in run.lines("answers.jsonl") if line["step"] == step]
        for step in (0, run.measured)
    )
    gain = paired_gain(then, now, "reward") if len(then) == len(now) else None
    if gain is None or gain["low"] is None or gain["high"] is None:
        return "; whether it rose is not known: too few prompts, or answers that are all alike"
    sure = (
        "it rose" if gain["low"] > 0 else "it fell" if gain["high"] < 0 else "no change is certain"
    )
    return f"; on the same prompts {format_interval(gain)} more: {sure}"


def cost(run: Recorded) -> str:
    return _own_cost(run) if run.answers_itself else _cost_of_rows(run)


def _own_cost(run: Recorded) -> str:
    """Say what a run that draws its own answers cost: on its held-out prompts, by their answers,
    and not once more by the few sample prompts.
    """
    parts = []
    if (kl := run.at(run.measured, "eval_kl")) is not None:
        parts.append(f"{kl:.3g} nats an answer of KL to the reference, on held-out prompts")
    tokens, before = (run.at(step, "eval_tokens") for step in (run.measured, 0))
    if tokens is not None:
        limit = run.config.rollout_settings.max_new_tokens
        now, then = (run.at(step, "eval_ended") for step in (run.measured, 0))
        parts.append(f"its answers {lengths_in_words((before, then), (tokens, now), limit)}")
    if not parts:
        return "What it cost was not measured: no held-out prompts."
    return "What it cost: " + "; ".join(parts) + "."


def lengths_in_words(
    before: tuple[float | None, float | None], now: tuple[float, float | None], limit: int
) -> str:
    """Say how long answers were and are. An answer that was cut has the limit's length, not its
    own, so the limit is named.

    Args:
      before, now: mean tokens, and the share of answers that ended by themselves.
      limit: tokens at which answers are cut.
    """
    (tokens, ended), (then, then_ended) = now, before
    if _all_cut(ended) and _all_cut(then_ended):
        return f"are {_length(tokens, ended, limit)}, as before"
    was = f", {_length(then, then_ended, limit)} before" if then is not None else ""
    return f"{'are' if _all_cut(ended) else 'have'} {_length(tokens, ended, limit)}{was}"


def _all_cut(ended: float | None) -> bool:
    return ended == 0


def _length(tokens: float, ended: float | None, limit: int) -> str:
    if _all_cut(ended):
        return f"all cut at {limit} tokens, the limit"
    cut = f" ({1 - ended:.0%} cut at {limit}, the limit)" if ended is not None and ended < 1 else ""
    return f"{tokens:.0f} tokens{cut}"


def _cost_of_rows(run: Recorded) -> str:
    parts = []
    if (kl := run.sampled.points("diag/samples_kl")) and kl[-1][0]:
        parts.append(
            f"it is {kl[-1][1]:.3g} nats an answer away from"
            f" {kl_against(run.config.reference)} (KL on fresh samples)"
        )
    if (chosen := run.at(run.measured, "diag/eval_log_ratio_token/chosen")) is not None:
        since = f", against {kl_against('moving')}" if run.config.reference == "moving" else ""
        parts.append(
            f"chosen answers {'gained' if chosen >= 0 else 'lost'} {abs(chosen):.2f} nats a"
            f" token{since}"
        )
    lengths, ended = (run.sampled.points(f"diag/samples_{name}") for name in ("tokens", "ended"))
    if len(lengths) > 1:
        shares = dict(ended)
        before, now = ((tokens, shares.get(step)) for step, tokens in (lengths[0], lengths[-1]))
        words = lengths_in_words(before, now, run.config.monitor.sample_tokens)
        parts.append(f"its answers {words}")
    return (
        ("What it cost: " + "; ".join(parts) + ".")
        if parts
        else "What it cost was not measured: no samples, no held-out pairs."
    )


def what_was_looked_at(run: Recorded) -> str:
    warnings = [event for event in run.events if event["verdict"] == "warning"]
    if not warnings:
        return "No red flag was raised."
    names = ", ".join(short(event["check"]) for event in warnings)
    first = warnings[0]
    count = "One red flag was" if len(warnings) == 1 else f"{len(warnings)} red flags were"
    return f"{count} raised: {names}. First to do: {first['remedy'].rstrip('.')}."
