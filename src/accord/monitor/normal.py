"""Notes on what looks alarming and is not, given once; and on what concerns the machine, not the
model.
"""

from __future__ import annotations

import itertools
from statistics import median

from accord.monitor.causes import ROOTS
from accord.monitor.history import History
from accord.monitor.rule import Evidence, Rule

LOOKED_AT = 32  # lines of each quarter of a run, however long it is
SEEN = 0.005  # a reward nearer to 0 shows as 0.00: nobody is alarmed


def _chosen_reward_negative(h: History) -> Evidence | None:
    """Find a chosen reward a little below 0 with a margin that grows: most healthy runs look like
    this.
    """
    reward, gained = h.recent("rewards/chosen"), h.gained("rewards/margins")
    token = h.recent("diag/log_ratio_token/chosen")
    if (
        reward is None
        or gained is None
        or token is None
        or reward > -SEEN
        or token >= 0
        or gained <= 0.03
    ):
        return None
    return {"reward": reward, "gained": gained, "token": token}


def _large_first_loss(h: History) -> Evidence | None:
    expected, first = h.facts.at_reference, h.training.first("loss", 1)
    if not first or expected is None or expected <= 2 or abs(first[0] - expected) > 0.05 * expected:
        return None
    return {"loss": first[0], "expected": expected}


def _negative_loss(h: History) -> Evidence | None:
    loss = h.recent("loss")
    # a policy gradient's is about 0
    return {"loss": loss} if loss is not None and loss < 0 and not h.facts.sampled else None


def _slower(h: History) -> Evidence | None:
    """Find that the last 20 updates ran at a third of the pace of updates 3 to 22."""
    speeds = h.timings.first("tokens_per_second", 22)[2:]
    now = h.timings.last("tokens_per_second", 20)
    if len(speeds) < 20 or len(h.timings) < 60 or median(now) > median(speeds) / 3:
        return None
    return {"now": median(now), "then": median(speeds)}


def _memory(h: History) -> Evidence | None:
    """Find resident memory that rose in each quarter of the run since its first, by half and a
    gigabyte in all.
    """
    lines = len(h.timings)
    if lines < 100:
        return None
    cuts = [quarter * lines // 4 for quarter in range(5)]
    known = [h.timings.spread("rss", *ends, LOOKED_AT) for ends in itertools.pairwise(cuts)]
    if not all(known):
        return None
    quarters = [median(values) for values in known]
    rises = all(b > a * 1.02 for a, b in itertools.pairwise(quarters))
    grown = quarters[3] - quarters[0]
    if not rises or grown < 1e9 or quarters[3] < 1.5 * quarters[0]:
        return None
    return {"now": quarters[3] / 1e9, "then": quarters[0] / 1e9}


NORMAL = (
    Rule(
        "chosen-reward-negative",
        _chosen_reward_negative,
        says=(
            "the chosen reward is negative ({reward:+.3f}); the margin grew by {gained:.3f}: this"
            " alone is normal"
        ),
        means=(
            "A reward is beta times a log-ratio: it says that chosen answers are a little less"
            " likely than under the reference ({token:+.3f} nats a token), not that they are bad."
            " What counts is the margin, and that the fall stays small."
        ),
        remedy="Nothing to do. accord flags chosen-falling where the fall is large.",
        source="Pal et al. 2024, arXiv:2402.13228, §3; Rafailov et al. 2024, arXiv:2404.12358, §5",
        verdict="note",
        unless=(*ROOTS, "chosen-falling"),
    ),
    Rule(
        "large-first-loss",
        _large_first_loss,
        says=(
            "the first loss is {loss:.4g}: this is normal, it is {expected:.4g} where policy ="
            " reference"
        ),
        means=(
            "A squared distance to a margin or log-ratio of 1/(2 beta) is large at the start, as"
            " ipo's, sppo_hard's and cal_dpo's are; it says nothing about the model."
        ),
        remedy="Nothing to do.",
        source="Azar et al. 2023, arXiv:2310.12036, Eq. 17",
        verdict="note",
    ),
    Rule(
        "negative-loss",
        _negative_loss,
        says="the loss is {loss:.3f}: a loss below 0 is normal for this objective",
        means=(
            "Robust DPO subtracts what flipped labels would add; its expectation is DPO's loss,"
            " single rows can be below 0."
        ),
        remedy="Nothing to do.",
        source="Chowdhury et al. 2024, arXiv:2403.00409",
        verdict="note",
    ),
    Rule(
        "slower",
        _slower,
        says="{now:,.0f} tokens a second in the last 20 updates, {then:,.0f} at the start",
        means="The machine, not the model: another process, heat, or swapping.",
        remedy="See what else runs on this machine.",
        source="timings.jsonl",
        verdict="note",
    ),
    Rule(
        "memory-creep",
        _memory,
        says=(
            "the process holds {now:.1f} GB, {then:.1f} GB in the first quarter of the run, and"
            " grows"
        ),
        means="Something is kept from step to step.",
        remedy="Stop, and go on with accord resume RUN: a new process starts small.",
        source="timings.jsonl",
        verdict="note",
    ),
)
