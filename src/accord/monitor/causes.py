"""Flags that name a cause: a wrong setting, a wrong reference, an update that is too large or none
at all.

They come first: once a cause is reported, its symptoms (accuracy, margins, log-probs) are not.
"""

from __future__ import annotations

from accord.monitor.history import History
from accord.monitor.rule import Evidence, Rule
from accord.monitor.settings import NAMES

# too many epochs: later drift has this cause
MEMORY = ("memorised", "held-out-turned")
# the causes of nearly every symptom
ROOTS = (*NAMES, "wrong-reference", "beta-too-low", "z0-clamped", "runaway")


def _wrong_reference(h: History) -> Evidence | None:
    """Compare policy and reference at the first line, measured before the first update.

    They are one model there. A loss may enlarge rounding (dpop's penalty makes 2.20 of .69 where
    answers are .015 nats a token apart in bfloat16), so log-ratios of that size excuse it.
    """
    first, expected = h.training.first("loss", 1), h.facts.at_reference
    if (
        not first
        or expected is None
        or h.step > 1
        or abs(first[0] - expected) <= max(0.05 * abs(expected), 0.01)
    ):
        return None
    apart = h.training.first("diag/drift", 1)
    if apart and apart[0] <= h.facts.rounding:
        return None
    return {"loss": first[0], "expected": expected, "margin": _first(h, "rewards/margins")}


def _first(h: History, name: str) -> float:
    return next(iter(h.training.first(name, 1)), 0.0)


def _spikes(h: History) -> Evidence | None:
    """Find a gradient of ten times the usual, and of more than is ever applied.

    A small gradient may double without harm.
    """
    typical, now = h.typical("grad_norm"), h.training.last("grad_norm", 1)
    if not typical or not now or now[0] <= max(10 * typical, h.facts.clip or 0.0):
        return None
    return {"norm": now[0], "typical": typical, "ratio": now[0] / typical}


def _runaway(h: History) -> Evidence | None:
    """Find a mean loss that is worse than doing nothing, long after the start.

    It also finds answers that are all but forgotten.
    """
    loss, drift = h.recent("loss"), h.recent("diag/drift")
    start = h.facts.at_reference if h.facts.at_reference is not None else h.early("loss")
    if loss is None or not start or h.step < 2 * h.window:
        return None
    # the loss of a policy gradient: its level means nothing
    surrogate = h.facts.sampled and h.facts.at_reference is None
    worse = loss > 1.5 * start if start > 0 and not surrogate else False
    forgotten = drift is not None and drift > 3.0
    return (
        {"loss": loss, "start": start, "drift": drift or 0.0, "lower": h.facts.learning_rate / 10}
        if worse or forgotten
        else None
    )


def _beta_too_low(h: History) -> Evidence | None:
    """Find answers that have moved while β makes the margin seem flat.

    The loss then asks for more without end.
    """
    beta, drift, margin = (
        h.facts.options.get("beta"),
        h.recent("diag/drift"),
        h.recent("rewards/margins"),
    )
    if (
        not isinstance(beta, float)
        or beta >= 0.01
        or drift is None
        or margin is None
        or not h.past(0.5)
    ):
        return None
    return (
        {"beta": beta, "drift": drift, "margin": margin} if drift > 0.1 and margin < 0.25 else None
    )


def _noise_floor(h: History) -> Evidence | None:
    ties = h.recent("diag/ties")
    if ties is None or ties <= 0.5 or not h.past(0.3):
        return None
    return {"ties": ties, "floor": h.facts.tie_width, "higher": 10 * h.facts.learning_rate}


def _z0_clamped(h: History) -> Evidence | None:
    """Find a KL of KTO (its z0) that is 0.

    It is 0 at the start by definition; later it is 0 only where the estimate is negative.
    """
    recent = h.training.last("kl", max(10, h.window))
    if len(recent) < max(10, h.window) or not h.past(0.2):
        return None
    share = sum(value <= 0 for value in recent) / len(recent)
    return {"share": share, "chosen": h.recent("rewards/chosen") or 0.0} if share >= 0.9 else None


def _odds_saturated(h: History) -> Evidence | None:
    term = h.recent("log_odds_ratio")
    if term is None or term <= -0.01 or not h.past(0.2):
        return None
    return {
        "term": -term,
        "weight": h.facts.options.get("weight", 0.0),
        "nll": h.recent("nll_loss") or 0.0,
    }


def _margin_unreachable(h: History) -> Evidence | None:
    """Find a margin that will not be half of γ at the end, at the pace of the run so far."""
    gamma, margin, gained = _gamma(h), h.recent("rewards/margins"), h.gained("rewards/margins")
    if not gamma or margin is None or gained is None or not h.past(0.5):
        return None
    per_step = gained / (h.step - h.window)
    end = margin + per_step * (h.facts.steps - h.step)
    return {"gamma": gamma, "margin": margin, "end": end} if end < 0.5 * gamma else None


def _gamma(h: History) -> float | None:
    """Return the margin that SimPO asks for; no other objective has one."""
    if "gamma_beta_ratio" not in h.facts.options:
        return None
    gamma, ratio, beta = map(h.facts.number, ("gamma", "gamma_beta_ratio", "beta"))
    return gamma or (ratio or 0.0) * (beta or 0.0)


CAUSES = (
    Rule(
        "wrong-reference",
        _wrong_reference,
        says=(
            "the loss before the first update is {loss:.4g}; with policy = reference it is"
            " {expected:.4g} (margin {margin:.3g})"
        ),
        means=(
            "The reference is not the model that training started from, or its log-probs are stale"
            " or misaligned. Every margin is then off by a constant, and the run learns that"
            " constant."
        ),
        remedy=(
            "Stop. Delete the reference cache (~/.cache/accord/reference) and train again with"
            " reference: adapter_off or frozen."
        ),
        source="TRL #885, #2423, #6443; alignment-handbook; LLaMA-Factory #8974",
    ),
    Rule(
        "beta-too-low",
        _beta_too_low,
        says=(
            "answers moved by {drift:.2f} nats a token, and with beta {beta:g} the margin is only"
            " {margin:.4f}"
        ),
        means=(
            "Next to nothing holds the policy near its reference: it gives up general abilities for"
            " a margin that beta hides."
        ),
        remedy="--set objective.beta=0.1 (0.01 to 0.05 is aggressive already)",
        source=(
            "Rafailov et al. 2023, arXiv:2305.18290, §6: reward against KL over beta;"
            " EngineersOfAI, DPO lesson: beta too low"
        ),
        adapt="best",
    ),
    Rule(
        "z0-clamped",
        _z0_clamped,
        says=(
            "KTO's baseline z0 was 0 in {share:.0%} of the recent updates (mean reward of good"
            " answers {chosen:.3f})"
        ),
        means=(
            "The estimate of the KL is negative, so it is clamped: the policy makes all answers"
            " less likely, the good ones too."
        ),
        remedy=(
            "Balance the labels: objective.desirable_weight so that weight × count of good is 1 to"
            " 1.5 of that of bad; or a larger train.batch_size, which estimates z0 better."
        ),
        source="Ethayarajh et al. 2024, arXiv:2402.01306, §4.1 and its advice on imbalance",
        unless=(*NAMES, "wrong-reference", "beta-too-low"),
    ),
    Rule(
        "runaway",
        _runaway,
        says=(
            "loss {loss:.3g} after {step} updates, {start:.3g} at the start; answers moved by"
            " {drift:.2f} nats a token"
        ),
        means=(
            "The updates are too large: the policy is pushed past what the preferences ask and"
            " loses the language with it."
        ),
        remedy="--learning-rate {lower:g}",
        source=(
            "TRL's DPO guide (learning rates 10 to 100 times below SFT's); arXiv:2305.18290,"
            " appendix B"
        ),
        unless=(*NAMES, "wrong-reference", "beta-too-low", "z0-clamped", *MEMORY),
        adapt="best",
    ),
    Rule(
        "gradient-spike",
        _spikes,
        says="gradient norm {norm:.3g}, {ratio:.0f} times the usual {typical:.3g}",
        means=(
            "A batch unlike the others, or numbers about to break. Clipping bounds the update; its"
            " direction is that batch's."
        ),
        remedy="Look at the rows of this batch; lower the learning rate if it happens again.",
        source=(
            "Chowdhery et al. 2022, arXiv:2204.02311, §5.1: loss spikes come from a batch and a"
            " state together"
        ),
        unless=ROOTS,
        adapt="slower",
    ),
    Rule(
        "noise-floor",
        _noise_floor,
        says="{ties:.0%} of the margins are no larger than the machine's rounding ({floor:.1e})",
        means=(
            "The weights hardly move, or move without effect: what looks like an accuracy is"
            " rounding."
        ),
        remedy="--learning-rate {higher:g}; --set model.dtype=float32 lowers the floor",
        source=(
            "bfloat16 keeps 8 bits: a sum near -350 nats is rounded to 2 nats; TRL #878, torchtune"
            " #2254"
        ),
        unless=ROOTS,
    ),
    Rule(
        "odds-saturated",
        _odds_saturated,
        says="the odds-ratio term is {term:.2g}; the NLL is {nll:.3g}",
        means=(
            "Chosen answers have all the odds already: the preference term has no gradient left,"
            " and the run is plain imitation."
        ),
        remedy=(
            "Fewer epochs, or harder rejected answers. A larger objective.weight does not bring the"
            " gradient back."
        ),
        source="Hong et al. 2024, arXiv:2403.07691, §4.3: the gradient's first factor goes to 0",
        unless=ROOTS,
    ),
    Rule(
        "margin-unreachable",
        _margin_unreachable,
        says=(
            "the margin is {margin:.3f} and would be {end:.3f} at the end; gamma asks for {gamma:g}"
        ),
        means=(
            "The loss goes on pushing all rows at full strength, also those that are ranked right:"
            " it cannot tell done from undone."
        ),
        remedy="--set objective.gamma_beta_ratio=0.2, or a higher learning rate, or more updates",
        source="Meng et al. 2024, arXiv:2405.14734, §4.4: too large a gamma hurts",
        unless=(*ROOTS, "noise-floor"),
    ),
)
