"""Flags that name a setting: its value is far from any that is used, and the figures show what that
does.

They come before all others, since the symptoms (a loss that rises, margins that stay, ties) have
many causes, and a figure alone cannot tell them apart. A value alone raises none of them, but for
two whose effect is arithmetic: β, which multiplies what the loss sees, and a clip so small that
AdamW's ε takes over.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import fmean

from accord.monitor.history import History
from accord.monitor.rule import Evidence, Rule

NAMES = (
    "beta-too-high",
    "clip-too-low",
    "adapter-scale-high",
    "adapter-scale-low",
    "rate-too-high",
    "rate-too-low",
    "no-gradient",
)
# The largest β that is used, five times over and more. Sums of log-ratios: papers 0.01 to 0.5;
# one that multiplies a mean (SimPO, AlphaPO, length-normalised DPO): 2 to 10; IPO's asks for a
# margin of 1/(2β) nats a token.
SUMS, MEANS, IPO = 3.0, 60.0, 5.0
OF_MEANS = 1.0  # a default of β from here on multiplies a mean: of sums all are under 0.5
# Adapters are scaled by alpha / rank: 1 or 2 as a rule, 1/4 to 64 in what is published.
SCALES = (0.02, 100.0)
# Times the learning rate that the objective suggests for this model.
RATES = (0.005, 20.0)
STILL = 1e-4  # nats a token: no answer has moved
AWAY = 1.0  # nats a token: answers are another model's


def _few(h: History) -> int:
    """Return how many lines "recently" means here: a window, or a third of a shorter run."""
    return min(h.window, max(2, math.ceil(h.facts.steps / 3)))


def _recent(h: History, name: str) -> float | None:
    """Return the mean of the newest lines, once there are enough of them."""
    if h.step < _few(h):
        return None
    values = h.training.last(name, _few(h))
    return fmean(values) if values else None


def _drift(h: History) -> float | None:
    """Return by how many nats a token answers have moved: in training, or held out where training
    has no reference.
    """
    drift = _recent(h, "diag/drift")
    if drift is not None or h.held_out.ends("diag/eval_drift") is None:
        return drift
    return h.tested("diag/eval_drift", 0.0)


def _held_out_loss(h: History) -> tuple[float, float] | None:
    """Return the held-out loss before training and now."""
    ends = h.held_out.ends("eval_loss")
    if ends is None or ends.second is None:
        return None
    losses = h.held_out.columns["eval_loss"]
    return losses[ends.first], losses[ends.newest]


def _shown(h: History) -> str:
    """Say in figures how far the policy has gone."""
    drift, loss, held = _drift(h), _recent(h, "loss"), _held_out_loss(h)
    said = [f"answers moved by {drift:.2g} nats a token"] if drift is not None else []
    said += [f"loss {loss:.4g}"] if loss is not None else []
    said += [f"held-out loss {held[0]:.4g} before, {held[1]:.4g} now"] if held is not None else []
    return "; ".join(said) or f"after {h.step} updates"


def _still(h: History) -> bool:
    """Tell whether nothing has moved."""
    if h.step < max(_few(h), 0.3 * h.facts.steps):
        return False
    drift, held, ties = _drift(h), _held_out_loss(h), _recent(h, "diag/ties")
    if drift is not None:
        return drift < STILL or (ties is not None and ties > 0.9)
    if held is not None:
        return abs(held[1] - held[0]) <= 1e-4 * max(abs(held[0]), 1e-3)
    kl = _recent(h, "rollouts/kl")
    return kl is not None and abs(kl) < STILL


def _gone(h: History) -> bool:
    """Tell whether the policy has been thrown out of what it could say."""
    drift, loss, held = _drift(h), _recent(h, "loss"), _held_out_loss(h)
    start = h.facts.at_reference or next(iter(h.training.first("loss", 1)), None)
    worse = start is not None and start > 0 and loss is not None and loss > 1.5 * start
    lost = held is not None and held[0] > 0 and held[1] > 1.5 * held[0]
    kl = _recent(h, "rollouts/kl")
    return bool(
        (worse and not h.facts.sampled)
        or lost
        or (drift is not None and drift > AWAY)
        or (kl is not None and abs(kl) > 30)
    )


def _most(h: History) -> tuple[float, str, float] | None:
    """Return the largest β that is used with this objective, what β does there, and a usual one."""
    options, usual = h.facts.options, h.facts.usual_beta
    if h.facts.sampled and "kl" in options:
        return SUMS, "the KL term outweighs every reward", 0.04
    if usual is not None and usual >= OF_MEANS:
        return MEANS, "a margin of a hundredth of a nat a token is already the whole loss", usual
    if options.get("normalize") == "token_mean":
        return IPO, "the loss asks for a margin of only 1/(2β) nats a token", 0.1
    if "beta" in options:
        return SUMS, "a margin of a fraction of a nat already saturates or dominates the loss", 0.1
    return None


def _beta_too_high(h: History) -> Evidence | None:
    beta, most = h.facts.number("beta"), _most(h)
    if beta is None or most is None or beta <= most[0] or h.step < _few(h):
        return None
    limit, why, usual = most
    margin = _recent(h, "rewards/margins")
    said = f"; the margin is {margin:.3g}" if margin is not None else ""
    return {"beta": beta, "most": limit, "why": why, "usual": usual, "shown": _shown(h) + said}


def _clip_too_low(h: History) -> Evidence | None:
    """Find a clip under which a weight's gradient is smaller than AdamW's ε."""
    clip, weights, norm = h.facts.clip, h.facts.weights, _recent(h, "grad_norm")
    epsilon = h.facts.epsilon
    if clip is None or epsilon is None or not weights or norm is None or norm <= 10 * clip:
        return None
    each = clip / math.sqrt(weights)  # root of the mean square of what is left of the gradient
    share = each / (each + epsilon)
    if share >= 0.2:
        return None
    return {"clip": clip, "norm": norm, "each": each, "share": share, "shown": _shown(h)}


def _scale_high(h: History) -> Evidence | None:
    scale = h.facts.adapter_scale
    if scale is None or scale <= SCALES[1] or h.step < _few(h) or not _gone(h):
        return None
    return {"scale": scale, "shown": _shown(h)}


def _scale_low(h: History) -> Evidence | None:
    scale = h.facts.adapter_scale
    if scale is None or scale >= SCALES[0] or not _still(h):
        return None
    return {"scale": scale, "shown": _shown(h)}


def _rate(h: History) -> float | None:
    """Return the learning rate as a multiple of the suggested one."""
    usual = h.facts.usual_rate
    return h.facts.learning_rate / usual if usual else None


def _rate_high(h: History) -> Evidence | None:
    times = _rate(h)
    if times is None or times <= RATES[1] or h.step < _few(h) or not _gone(h):
        return None
    return _of_rate(h, times)


def _rate_low(h: History) -> Evidence | None:
    times = _rate(h)
    return _of_rate(h, times) if times is not None and times < RATES[0] and _still(h) else None


def _of_rate(h: History, times: float) -> Evidence:
    usual = h.facts.usual_rate
    return {
        "rate": h.facts.learning_rate,
        "usual": usual,
        "times": f"{times:,.0f} times" if times > 1 else f"1/{1 / times:,.0f} of",
        "shown": _shown(h),
    }


def _no_gradient(h: History) -> Evidence | None:
    """Find gradients of 0 alone, and why they are."""
    norms = h.training.last("grad_norm", _few(h))
    if h.step < _few(h) or not norms or any(norms):
        return None
    why, remedy = why_no_gradient(
        {name: column[-1] for name, column in h.training.columns.items()}, h.facts.options
    )
    return {"updates": len(norms), "why": why, "fix": remedy}


def why_no_gradient(figures: Mapping[str, float], options: Mapping[str, object]) -> tuple[str, str]:
    """Say why the gradient of an update with these figures is 0, and what to do."""
    alike = figures.get("rollouts/flat_groups", 0.0) >= 1.0
    if alike or figures.get("rollouts/reward_std") == 0.0:
        return (
            "all answers to a prompt got the same reward (mean"
            f" {figures.get('rollouts/reward', math.nan):.4g}), so that none is better than"
            " another",
            "look at the reward (the values are in rollouts/*.json): is it finer than all or"
            " nothing, and does it read these answers? Else --set rollouts.num_generations=8, or"
            " other prompts",
        )
    margin, loss = figures.get("rewards/margins"), figures.get("loss")
    if loss == 0 or figures.get("diag/saturated") == 1.0:
        beta = options.get("beta")
        said = f" (margin {margin:.4g})" if margin is not None else ""
        return (
            f"every row's loss is flat{said}: the rows are won beyond what the loss asks for",
            "a lower objective.beta"
            + (f" than {beta:g}" if isinstance(beta, float) else "")
            + ", fewer epochs, or harder rows",
        )
    return (
        "the loss does not reach a weight that trains: what is adapted has no part in the answers'"
        " log-probs",
        "look at model.lora.targets (accord train --dry-run says what trains), or train all"
        " weights: --set model.lora=null",
    )


# Extreme settings have no paper: what is usual is said by these.
_LORA = "Hu et al. 2021, arXiv:2106.09685, §4.1: alpha / rank scales the update"
_BETA = "Rafailov et al. 2023, arXiv:2305.18290, §6; Meng et al. 2024, arXiv:2405.14734, §4"
_ADAM = "Kingma and Ba 2014, arXiv:1412.6980, algorithm 1: ε in the divisor"

SETTINGS = (
    Rule(
        "no-gradient",
        _no_gradient,
        says="the gradient of the last {updates} updates is 0: {why}",
        means="Nothing is learned from such updates: the weights stay what they are.",
        remedy="{fix}",
        source="Yu et al. 2025, arXiv:2503.14476, §3.2 (equal rewards)",
    ),
    Rule(
        "clip-too-low",
        _clip_too_low,
        says=(
            "train.max_grad_norm is {clip:g}, and gradients have norm {norm:.3g}: {each:.1e} is"
            " left for a weight, of which AdamW's ε (1e-8) keeps {share:.2g} ({shown})"
        ),
        means="The clip, not the learning rate, says how far the weights move: hardly at all.",
        remedy="--set train.max_grad_norm=1 (null never clips)",
        source=_ADAM,
    ),
    Rule(
        "beta-too-high",
        _beta_too_high,
        says="objective.beta is {beta:g}, and no more than {most:g} is used: {why} ({shown})",
        means=(
            "β multiplies what the loss sees of the policy. So large, it decides the run, not the"
            " preferences."
        ),
        remedy="--set objective.beta={usual:g}",
        source=_BETA,
    ),
    Rule(
        "adapter-scale-high",
        _scale_high,
        says="model.lora.alpha / rank is {scale:,.4g}, and 1 or 2 is usual: {shown}",
        means="Each step of the adapters is as many times too large: the model is thrown off.",
        remedy="--set model.lora.alpha=32 (with rank 16; twice the rank is usual)",
        source=_LORA,
        adapt="best",
    ),
    Rule(
        "adapter-scale-low",
        _scale_low,
        says="model.lora.alpha / rank is {scale:.2g}, and 1 or 2 is usual: {shown}",
        means="What the adapters learn is scaled down to nothing: the model stays what it was.",
        remedy="--set model.lora.alpha=32 (with rank 16; twice the rank is usual)",
        source=_LORA,
    ),
    Rule(
        "rate-too-high",
        _rate_high,
        says=(
            "train.learning_rate is {rate:g}, {times} the {usual:.2g} that suits this objective and"
            " model: {shown}"
        ),
        means="The updates are too large: the policy loses the language with what it is pushed to.",
        remedy="--learning-rate {usual:.2g}",
        source=(
            "TRL's DPO guide (learning rates 10 to 100 times below SFT's); arXiv:2305.18290,"
            " appendix B"
        ),
        adapt="best",
    ),
    Rule(
        "rate-too-low",
        _rate_low,
        says=(
            "train.learning_rate is {rate:g}, {times} the {usual:.2g} that suits this objective and"
            " model: {shown}"
        ),
        means="The weights hardly move: what changes in the figures is rounding.",
        remedy="--learning-rate {usual:.2g}",
        source="Kingma and Ba 2014, arXiv:1412.6980, §2.1: a step is at most the learning rate",
    ),
)
