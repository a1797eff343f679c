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
    what = f"{run.objective.name} on {run.config.data.train.rsplit('/', 1)[-1]}"
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
    since = f" (from {before:.3f})" if before is not None else ""
    if low is None or high is None:
        return f"{what}: held-out accuracy {now:.3f}{since}; no interval of it is known."
    sure = (
        "better than chance"
        if low > 0.5
        else "worse than chance"
        if high < 0.5
        else "indistinguishable from chance"
    )
    when = (
        ""
        if run.measured == run.ended
        else f" at step {run.measured}, the last that was evaluated of {run.ended}"
    )
    return (
        f"{what}: held-out accuracy {now:.3f}{since}{when}, 95 % interval {low:.3f} to {high:.3f}:"
        f" {sure}."
    )


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
    return f"held-out reward {now:.3f} (from {before:.3f}){_changed(run)}.{said}"


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
    return f", on the same prompts {format_interval(gain)} more, 95 % interval: {sure}"


def cost(run: Recorded) -> str:
    parts = []
    if (own := run.at(run.measured, "eval_kl")) is not None:
        parts.append(f"{own:.3g} nats an answer of KL to the reference, on held-out prompts")
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
    lengths = run.sampled.points("diag/samples_tokens")
    if len(lengths) > 1:
        parts.append(f"its answers have {lengths[-1][1]:.0f} tokens, {lengths[0][1]:.0f} before")
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
