"""Flags on the outcomes of training: the margins, the held-out rows, the answers themselves."""

from __future__ import annotations

import math

from accord.monitor.causes import MEMORY, ROOTS
from accord.monitor.falls import against_a_fall
from accord.monitor.history import History
from accord.monitor.rule import Evidence, Rule

STUCK = ("accuracy-stuck", "noise-floor", "margin-unreachable")
# Signs that are the wrong way round: whatever else is seen follows from it.
BACKWARDS = ("sides-exchanged", "trained-backwards")
# what is measured on held-out rows, its figure, and its interval's
HELD_OUT_SHARES = (
    ("accuracy", "eval_rewards/accuracies", "diag/eval_accuracy"),
    ("AUC (a good answer over a bad one)", "diag/eval_auc", "diag/eval_auc"),
)
# Share of samples that must be longer than before: of 8 prompts all, or all but a tie. Three in
# four come about by chance in one run out of seven, and did so in two healthy ones out of three
# (benchmarks/flags).
NEARLY_ALL = 0.9


def _chosen_falling(h: History) -> Evidence | None:
    """Find chosen answers that lose probability on most rows while the margin still grows."""
    names = ("log_ratio_token/chosen", "log_ratio_token/rejected", "chosen_down")
    chosen, rejected, share = (h.recent(f"diag/{name}") for name in names)
    # no reference while training: held-out rows against their own log-probs of step 0
    if chosen is None:
        chosen, rejected, share = (
            next(iter(h.held_out.last(f"diag/eval_{name}", 1)), None) for name in names
        )
    if chosen is None or rejected is None or share is None or not h.past(0.2):
        return None
    falling = chosen < -0.25 and share > 0.75 and rejected < chosen
    if not falling:
        return None
    return {"chosen": chosen, "rejected": rejected, "share": share, "mend": against_a_fall(h)}


def _accuracy_stuck(h: History) -> Evidence | None:
    """Find that half the run is done, and the accuracy of the last half of the rows is that of a
    coin.
    """
    if not h.past(0.5) or h.step < 10 or h.facts.sampled:
        return None
    lines, mean = h.training.mean_of_last("rewards/accuracies", max(h.window, h.step // 2))
    rows = lines * h.facts.batch_size
    if rows < 100 or abs(mean - 0.5) >= 1.64 * math.sqrt(0.25 / rows):
        return None
    low = h.held_out.last("diag/eval_accuracy_low", 1)
    if low and low[0] > 0.5:
        return None  # the held-out rows know better
    held = h.held_out.last("eval_rewards/accuracies", 1)
    return {"accuracy": mean, "rows": rows, "held_out": f"; held-out {held[0]:.3f}" if held else ""}


def _exchanged(h: History) -> Evidence | None:
    """Find held-out rows that are ranked the wrong way round: the interval of their accuracy, or
    of their AUC, lies wholly under one half, and training brought it there.
    """
    for what, name, ends in HELD_OUT_SHARES:
        now, low, high = (h.tested(n, 0.2) for n in (name, f"{ends}_low", f"{ends}_high"))
        if now is None or low is None or high is None or high >= 0.5:
            continue
        before = h.held_out.first(name, 1)[0]
        training = h.recent("rewards/accuracies")
        learned = training is not None and training > 0.6
        # without a reference rows may begin there, and rise
        if now < before - 0.01 or (learned and now < before + 0.05):
            seen = f"; training accuracy {training:.3f}" if training is not None else ""
            return {
                "what": what,
                "value": now,
                "low": low,
                "high": high,
                "before": before,
                "training": seen,
            }
    return None


def _trained_backwards(h: History) -> Evidence | None:
    """Find training rows that their own loss ranks the wrong way round."""
    if not h.past(0.5) or h.step < 10 or h.facts.sampled:
        return None
    lines, mean = h.training.mean_of_last("rewards/accuracies", max(h.window, h.step // 2))
    rows, early = lines * h.facts.batch_size, h.early("rewards/accuracies")
    if rows < 100 or early is None or mean > 0.5 - 2.58 * math.sqrt(0.25 / rows):
        return None
    # without a reference rows may be ranked so from the start
    from_half = h.facts.at_reference is not None and mean < 0.4
    return (
        {"accuracy": mean, "rows": rows, "before": early}
        if from_half or mean < early - 0.1
        else None
    )


def _margin_flat(h: History) -> Evidence | None:
    """Find a margin that does not grow.

    Held-out margins count where there are any, since a batch's is mostly noise; else the last half
    is compared with the first window.
    """
    if h.facts.sampled:
        return None
    gained: float | None
    held = h.held_out.ends("eval_rewards/margins")
    if (
        held is not None
        and held.second is not None
        and (h.tested("eval_rewards/margins", 0.5) is not None)
    ):
        margins = h.held_out.columns["eval_rewards/margins"]
        gained = margins[held.newest] - margins[held.first]
    else:
        lines, half = h.training.mean_of_last("rewards/margins", h.step // 2)
        early = h.early("rewards/margins")
        gained = half - early if lines and early is not None and held is None else None
    if gained is None or not h.past(0.75) or gained > 0.03:
        return None
    return {
        "gained": gained,
        "where": "held-out" if held else "training",
        "accuracy": h.recent("rewards/accuracies") or 0.0,
        "higher": 3 * h.facts.learning_rate,
    }


def _memorised(h: History) -> Evidence | None:
    """Find that every training row is ranked right and costs nothing."""
    loss, accuracy, start = h.recent("loss"), h.recent("rewards/accuracies"), h.facts.at_reference
    if (
        loss is None
        or accuracy is None
        or not start
        or not (accuracy > 0.99 and loss < 0.05 * start)
    ):
        return None
    held = h.held_out.last("eval_rewards/accuracies", 1)
    return {
        "accuracy": accuracy,
        "loss": loss,
        "epochs": h.step / h.facts.batches_per_epoch,
        "held_out": f"; held-out accuracy {held[0]:.3f}" if held else "",
    }


def _held_out_turned(h: History) -> Evidence | None:
    """Find a held-out loss above its best at two evaluations in a row, while the training loss went
    down.
    """
    ends, recent, early = h.held_out.ends("eval_loss"), h.recent("loss"), h.early("loss")
    if ends is None or ends.second is None or ends.second == ends.first:
        return None
    if recent is None or early is None or recent >= early:
        return None
    best_step, best = h.held_out.point("eval_loss", ends.least)
    newest = [h.held_out.point("eval_loss", index) for index in (ends.second, ends.newest)]
    margin = 0.05 * abs(best) + 0.01
    if not all(value > best + margin and step > best_step for step, value in newest):
        return None
    return {"best": best, "best_step": best_step, "now": newest[-1][1], "training": recent}


def _nothing_generalises(h: History) -> Evidence | None:
    """Find training rows that are learned while held-out rows are not: the interval of their
    accuracy holds one half.
    """
    low, high = (h.tested(f"diag/eval_accuracy_{end}", 0.4) for end in ("low", "high"))
    accuracy, held = h.recent("rewards/accuracies"), h.tested("eval_rewards/accuracies", 0.4)
    if (
        accuracy is None
        or held is None
        or low is None
        or not h.past(0.5)
        or not (accuracy > 0.75 and low <= 0.5 and held < 0.55)
    ):
        return None
    return {"accuracy": accuracy, "held_out": held, "low": low, "high": high}


def _length_only(h: History) -> Evidence | None:
    """Find a policy that came to prefer the longer (or the shorter) answers."""
    correlation, accuracy = (
        h.tested(name, 0.2) for name in ("diag/eval_length_correlation", "eval_rewards/accuracies")
    )
    if correlation is None or not h.past(0.3) or abs(correlation) < 0.75:
        return None
    return {
        "correlation": correlation,
        "side": "longer" if correlation > 0 else "shorter",
        "accuracy": accuracy or 0.5,
    }


def _saturated(h: History) -> Evidence | None:
    share = h.recent("diag/saturated")
    return (
        {"share": share} if share is not None and share > 0.9 and h.step >= 2 * h.window else None
    )


# ------------------------------------------------------------ samples, each against those of step 0


def _samples(h: History, name: str) -> tuple[float, float] | None:
    """Return (before, now) of one figure of the samples."""
    ends = h.samples.ends(f"diag/samples_{name}")
    if ends is None or ends.second is None:
        return None
    values = h.samples.columns[f"diag/samples_{name}"]
    return values[ends.first], values[ends.newest]


def _length_drift(h: History) -> Evidence | None:
    found, longer = _samples(h, "tokens"), h.samples.last("diag/samples_longer", 1)
    if found is None or not longer or found[0] <= 0:
        return None
    ratio = found[1] / found[0]
    if not (
        (ratio > 1.5 and longer[0] >= NEARLY_ALL)
        or (ratio < 1 / 1.5 and longer[0] <= 1 - NEARLY_ALL)
    ):
        return None
    return {"before": found[0], "now": found[1], "ratio": ratio}


def _repetition(h: History) -> Evidence | None:
    found = _samples(h, "repeated")
    return (
        {"before": found[0], "now": found[1]}
        if found and found[1] > 0.3 and found[1] > found[0] + 0.2
        else None
    )


def _empty(h: History) -> Evidence | None:
    found = _samples(h, "empty")
    return (
        {"before": found[0], "now": found[1]}
        if found and found[1] >= 0.5 and found[0] < 0.25
        else None
    )


def _never_ending(h: History) -> Evidence | None:
    found = _samples(h, "ended")
    return (
        {"before": found[0], "now": found[1]}
        if found and found[0] >= 0.5 and found[1] <= 0.1
        else None
    )


def _collapsed(h: History) -> Evidence | None:
    entropy, top = _samples(h, "entropy"), _samples(h, "top1")
    if not entropy or not top or not (top[1] > 0.95 and entropy[1] < 0.25 * entropy[0]):
        return None
    return {"before": entropy[0], "now": entropy[1], "top": top[1]}


OUTCOMES = (
    Rule(
        "sides-exchanged",
        _exchanged,
        says=(
            "held-out {what} is {value:.3f} ({low:.3f} to {high:.3f}), wholly under"
            " one half (before training {before:.3f}{training})"
        ),
        means=(
            "The sides of these rows are exchanged against those of the training rows, or their"
            " labels are inverted: what training teaches is the opposite of what they ask. Noise"
            " would be at one half."
        ),
        remedy=(
            "Compare a row of each file: which side is the better answer? If one file has them"
            " exchanged, name its columns the other way round: --columns"
            " chosen=rejected,rejected=chosen, or invert the labels"
        ),
        source="an interval of 95 % that chance leaves on this side once in forty files",
        unless=ROOTS,
    ),
    Rule(
        "trained-backwards",
        _trained_backwards,
        says=(
            "accuracy is {accuracy:.3f} over the last {rows:,} training rows, under one half beyond"
            " chance ({before:.3f} in the first updates)"
        ),
        means=(
            "The loss makes the rejected answers of its own rows likelier: its sides are exchanged,"
            " or its sign is."
        ),
        remedy="Look at the objective's signs (an own objective: h is chosen less rejected)",
        source="an accuracy of one half with so many rows has this value once in two hundred runs",
        unless=ROOTS,
    ),
    Rule(
        "held-out-turned",
        _held_out_turned,
        says=(
            "held-out loss {now:.4f}, above its best {best:.4f} of step {best_step}; training loss"
            " {training:.4f} and falling"
        ),
        means="From step {best_step} on the run learns its training rows, not the preference.",
        remedy="accord export RUN --checkpoint best (step {best_step}); fewer epochs, or more rows",
        source=(
            "EngineersOfAI, DPO lesson: with a few hundred pairs DPO overfits; Azar et al. 2023,"
            " arXiv:2310.12036, §4.2"
        ),
        unless=(*ROOTS, *BACKWARDS),
        adapt="best",
    ),
    Rule(
        "memorised",
        _memorised,
        says=(
            "accuracy {accuracy:.3f} and loss {loss:.4f} on training rows after {epochs:.1f}"
            " epochs{held_out}"
        ),
        means=(
            "Every pair is ranked right and costs nothing: what goes on from here is drift, or"
            " learning by heart."
        ),
        remedy="Fewer epochs, --method ipo or cdpo (both stop at a finite margin), or more data",
        source="EngineersOfAI, DPO lesson, red flag 4; Azar et al. 2023, arXiv:2310.12036, §4.2",
        unless=(*ROOTS, *BACKWARDS),
        adapt="best",
    ),
    Rule(
        "nothing-generalises",
        _nothing_generalises,
        says=(
            "training accuracy {accuracy:.3f}, held-out {held_out:.3f} ({low:.3f} to {high:.3f}):"
            " no better than chance"
        ),
        means=(
            "The rows can be learned by heart but have no preference in common: noisy or shuffled"
            " labels, or far too few rows."
        ),
        remedy="Look at the labels; --method cdpo or robust where some are flipped",
        source="Chowdhury et al. 2024, arXiv:2403.00409; Mitchell 2023, ericmitchell.ai/cdpo.pdf",
        unless=(*ROOTS, *BACKWARDS, *MEMORY),
        adapt="best",
    ),
    Rule(
        "accuracy-stuck",
        _accuracy_stuck,
        says=(
            "accuracy {accuracy:.3f} over the last {rows:,} training rows{held_out}: what a coin"
            " gives"
        ),
        means=(
            "No preference is being learned: the labels contradict each other, the answers are all"
            " but the same, or nothing moves."
        ),
        remedy="Look at the labels and at near-equal pairs; then raise the learning rate",
        source="EngineersOfAI, DPO lesson, red flag 2",
        unless=(*ROOTS, *BACKWARDS, "noise-floor"),
    ),
    Rule(
        "margin-flat",
        _margin_flat,
        says=(
            "the {where} margin has changed by {gained:+.4f} since the start of the run (training"
            " accuracy {accuracy:.3f})"
        ),
        means="The model does not come to distinguish chosen from rejected.",
        remedy="--learning-rate {higher:g}; if it stays flat, look at the labels",
        source="EngineersOfAI, DPO lesson, red flag 3",
        unless=(*ROOTS, *BACKWARDS, *STUCK, *MEMORY, "nothing-generalises"),
    ),
    Rule(
        "length-only",
        _length_only,
        says=(
            "held-out margins go with length: rank correlation {correlation:+.2f} with how much"
            " longer the chosen answer is"
        ),
        means=(
            "What was learned is that the {side} answer wins (held-out accuracy {accuracy:.3f}): a"
            " shortcut."
        ),
        remedy=(
            "--method simpo (means instead of sums), or balance the lengths of chosen and rejected"
        ),
        source="Meng et al. 2024, arXiv:2405.14734, §4.2; Park et al. 2024, arXiv:2403.19159",
        unless=(*ROOTS, *BACKWARDS, *MEMORY, "nothing-generalises"),
    ),
    Rule(
        "chosen-falling",
        _chosen_falling,
        says=(
            "chosen answers moved by {chosen:+.2f} nats a token, down on {share:.0%} of the rows;"
            " rejected {rejected:+.2f}"
        ),
        means=(
            "The margin grows only because rejected answers fall faster: the model comes to say"
            " neither. Where the probability goes instead is not in the data."
        ),
        remedy="{mend}; drop pairs whose answers are nearly the same",
        shown=(
            "of pairs with a reference a loss that pulls the chosen answer by itself (rpo, dpop,"
            " apo_zero, nca, sppo_hard, cal_dpo); a run of one of these is told what in it pulls"
            " harder. A higher beta or a lower learning rate slows the fall; without a reference"
            " --method ipo. Drop pairs whose answers are nearly the same"
        ),
        source=(
            "Pal et al. 2024, arXiv:2402.13228; Razin et al. 2024, arXiv:2410.08847; EngineersOfAI,"
            " DPO lesson, red flag 1"
        ),
        unless=(*ROOTS, *BACKWARDS),
    ),
    Rule(
        "saturated",
        _saturated,
        says="{share:.0%} of the recent rows have under 1 % of their first loss left",
        means=(
            "Those rows give no gradient any more: the run is done, or is driven by the few rows"
            " that are left."
        ),
        remedy="Stop here, or add harder pairs",
        source="Azar et al. 2023, arXiv:2310.12036, §4.2",
        verdict="note",
        unless=(*ROOTS, *MEMORY),
    ),
    Rule(
        "length-drift",
        _length_drift,
        says="samples have {now:.1f} tokens, {before:.1f} before training ({ratio:.2f} times)",
        means="Length is being rewarded, or the model no longer knows when to end.",
        remedy="--method simpo, or balance lengths in the data; compare quality at equal length",
        source="Park et al. 2024, arXiv:2403.19159; Singhal et al. 2023, arXiv:2310.03716",
        # displaced answers have any length
        unless=("length-only", "chosen-falling", *ROOTS, *MEMORY, "nothing-generalises"),
    ),
    Rule(
        "repetition",
        _repetition,
        says="{now:.0%} of the samples' 4-grams are repetitions, {before:.0%} before training",
        means="The model degenerates: it says the same again and again.",
        remedy="accord export RUN --checkpoint best; a lower learning rate, a higher beta",
        source=(
            "Holtzman et al. 2020, arXiv:1904.09751, §5; Welleck et al. 2019, arXiv:1908.04319"
            " (seq-rep-4)"
        ),
        unless=ROOTS,
        adapt="best",
    ),
    Rule(
        "empty-answers",
        _empty,
        says="{now:.0%} of the samples are empty, {before:.0%} before training",
        means="Ending at once has become the likeliest answer.",
        remedy="Look for empty or very short chosen answers; a lower learning rate",
        source="Park et al. 2024, arXiv:2403.19159",
        unless=ROOTS,
        adapt="best",
    ),
    Rule(
        "never-ending",
        _never_ending,
        says="{now:.0%} of the samples end by themselves, {before:.0%} before training",
        means=(
            "The end token has lost its probability: chosen answers without one, or all log-probs"
            " falling together."
        ),
        remedy="See data.end in preflight.json; train on answers that end",
        source="TRL #1623, #3091",
        unless=ROOTS,
        adapt="best",
    ),
    Rule(
        "collapsed",
        _collapsed,
        says=(
            "the entropy of samples is {now:.3f} nats a token, {before:.3f} before; the likeliest"
            " token has {top:.1%}"
        ),
        means="Nearly all probability sits on one token at a time: the model has one answer left.",
        remedy="A higher beta, a lower learning rate, fewer epochs",
        source="Kirk et al. 2023, arXiv:2310.06452",
        unless=ROOTS,
        adapt="best",
    ),
)
