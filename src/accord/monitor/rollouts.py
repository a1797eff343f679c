"""Flags of runs that learn from their own answers: missing rewards, equal rewards, reward hacking,
and a policy that drifts off.
"""

from __future__ import annotations

from statistics import fmean

from accord.monitor.history import History
from accord.monitor.rule import Evidence, Rule
from accord.monitor.settings import NAMES

# nats an answer: beyond it a policy shares hardly an answer with what it started from
KL_FAR = 30.0
PLAYED = (
    "eval_reward",
    "eval_gold",
    "eval_kl",
    "diag/eval_reward_low",
    "diag/eval_reward_high",
    "diag/eval_gold_low",
    "diag/eval_gold_high",
)
KL_SOME = 1.0  # nats an answer that a falling gold judgement must have cost, to be laid to training


def _missing(h: History) -> Evidence | None:
    share = h.recent("rollouts/missing")
    return {"share": share} if share is not None and share > 0.2 else None


def _alike(h: History) -> Evidence | None:
    """Find that most prompts' answers all have one reward: there is nothing to compare."""
    share = h.recent("rollouts/flat_groups")
    if share is None:
        paired = h.recent("rollouts/paired_prompts")
        share = 1 - paired if paired is not None else None
    return {"share": share} if share is not None and share > 0.7 else None


def _kl_far(h: History) -> Evidence | None:
    kl = h.recent("rollouts/kl")
    return (
        {"kl": kl, "reward": h.recent("rollouts/reward") or 0.0}
        if kl is not None and kl > KL_FAR
        else None
    )


def _played_to(h: History) -> Evidence | None:
    """Find a reward that rises beyond its interval while the gold judgement falls beyond its
    own.
    """
    ends, columns = [h.held_out.ends(name) for name in PLAYED], h.held_out.columns
    if any(one is None or one.second is None for one in ends):
        return None
    reward, gold = ends[0], ends[1]
    assert reward is not None and gold is not None, "looked at above"
    first, now, best = reward.first, reward.newest, gold.most
    low, high, gold_low, gold_high = (columns[name] for name in PLAYED[3:])
    rises, falls = low[now] > high[first], gold_high[now] < gold_low[best]
    if not rises or not falls or columns["eval_kl"][now] < KL_SOME:
        return None
    return {
        "reward": columns["eval_reward"][now],
        "before": columns["eval_reward"][first],
        "gold": columns["eval_gold"][now],
        "best": columns["eval_gold"][best],
        "best_step": h.held_out.steps[best],
        "kl": columns["eval_kl"][now],
    }


def _entropy_gone(h: History) -> Evidence | None:
    """Find answers that have become nearly certain, so that K of them are K times the same."""
    now, early = h.recent("entropy"), h.early("entropy")
    if "rollouts/kl" not in h.training or now is None or early is None or now > 0.1 * early:
        return None
    return {"now": now, "early": early}


def _clipped(h: History) -> Evidence | None:
    """Find that most tokens are outside the clip: passes over old answers that teach little."""
    values = h.training.last("policy/clip_ratio", h.window)
    share = fmean(values) if values else 0.0
    return {"share": share} if share > 0.4 else None


ROLLOUTS: tuple[Rule, ...] = (
    Rule(
        "rewards-missing",
        _missing,
        "{share:.0%} of the recent answers have no reward",
        "they are left out, so the policy learns from those alone that the reward could judge",
        "the reasons are in rollouts/*.json (failure): mend the reward, raise its timeout, or"
        " shorten the answers",
        "Rewards of NaN or 0 for what failed are what other trainers go on with in silence",
    ),
    Rule(
        "rewards-alike",
        _alike,
        "of {share:.0%} of the recent prompts all answers have the same reward",
        "what is compared within a prompt learns nothing from them",
        "draw more answers (--set rollouts.num_generations=8) or other prompts in their place"
        " (--set rollouts.dynamic_sampling=2), take prompts that are neither too easy nor too hard,"
        " or a finer reward",
        "Yu et al. 2025, arXiv:2503.14476, §3.2 (dynamic sampling)",
        unless=("no-gradient",),
    ),
    Rule(
        "kl-far",
        _kl_far,
        "the policy is {kl:.1f} nats an answer from its reference (reward {reward:.3f})",
        "it shares hardly an answer with the model that it started from: what the reward does not"
        " ask for is lost",
        "raise objective.beta (or --set objective.kl_target=10 with ppo), or lower"
        " train.learning_rate",
        "Gao et al. 2022, arXiv:2210.10760",
        unless=NAMES,
        adapt="slower",
    ),
    Rule(
        "reward-hacked",
        _played_to,
        "held-out reward rose from {before:.3f} to {reward:.3f}, the gold judgement fell to"
        " {gold:.3f} from {best:.3f} at step {best_step}",
        "the policy has learned to game the reward, not to do what it stands for ({kl:.1f}"
        " nats from the reference)",
        "take the checkpoint of step {best_step}, raise the KL weight, or a better reward",
        "Gao et al. 2022, arXiv:2210.10760; Rafailov et al. 2024, arXiv:2406.02900",
        adapt="best",
    ),
    Rule(
        "entropy-gone",
        _entropy_gone,
        "entropy is {now:.3f} nats a token, a tenth of what it was ({early:.3f})",
        "answers to a prompt are nearly alike: there is little left to explore",
        "raise objective.beta, lower train.learning_rate, or stop here",
        "Yu et al. 2025, arXiv:2503.14476, §3.1",
        unless=(*NAMES, "kl-far"),
    ),
    Rule(
        "far-off-policy",
        _clipped,
        "{share:.0%} of the tokens are outside the clip",
        "later passes over a batch of answers teach little: the policy has left the one that drew"
        " them",
        "--set rollouts.num_iterations=1, or lower train.learning_rate",
        "Schulman et al. 2017, arXiv:1707.06347",
        unless=NAMES,
        adapt="slower",
    ),
)
