"""Rows of log-probs for the tests of objectives, and one way to call any objective on them."""

import torch
from oracles.objectives import EXPECTED

from accord.objectives import kto_baseline, resolve
from accord.types import DemonstrationLogps, LabelledLogps, Logps, PairLogps, PairScores, Scores

torch.set_num_threads(1)

# Each objective with its defaults and with every option moved: what the battery runs over.
VARIANTS = [(name, options) for name, known in EXPECTED.items() for options in ({}, *known.moved)]


def label(variant):
    name, options = variant
    return "-".join([name, *(f"{key}={value}" for key, value in options.items())])


def logps(sums, counts=None, dtype=torch.float64):
    sums = sums if isinstance(sums, torch.Tensor) else torch.tensor(sums, dtype=dtype)
    return Logps(
        sums, torch.ones(len(sums), dtype=torch.long) if counts is None else torch.as_tensor(counts)
    )


def pairs(chosen, rejected, chosen_counts=None, rejected_counts=None, dtype=torch.float64):
    return PairLogps(logps(chosen, chosen_counts, dtype), logps(rejected, rejected_counts, dtype))


def labelled(sums, desirable, counts=None):
    return LabelledLogps(logps(sums, counts), torch.tensor(desirable))


# nats, the collision entropy of each prediction
COLLISION = 0.25


def first_share(count, shared):
    """The share of a sum in its first tokens, where the first token has half of it and the others
    are alike (see `tokens` in test_battery.py).
    """
    after = (shared - 1).double() / (count - 1).clamp(min=1)
    return torch.where(count == 1, 1.0, 0.5 + 0.5 * after)


def build(kind, sums, counts, desirable, margin=0.0):
    """Rows of a kind from sums [2, B] and counts [2, B]; kinds of one answer take the first of the
    two.
    """
    if kind == "scores":
        first, second = (Scores(one, count) for one, count in zip(sums, counts, strict=True))
    elif kind == "pairs" and len(sums[0]) == len(sums[1]):
        shared = torch.minimum(counts[0], counts[1])
        first, second = (
            Logps(one, n, one * first_share(n, shared).to(one), (n * COLLISION).to(one.detach()))
            for one, n in zip(sums, counts, strict=True)
        )
    else:
        first, second = (Logps(one, count) for one, count in zip(sums, counts, strict=True))
    if kind == "scores":
        return PairScores(first, second, margin * torch.ones_like(second.sum))
    if kind == "pairs":
        return PairLogps(first, second, margin * torch.ones_like(second.sum))
    return LabelledLogps(first, desirable) if kind == "labelled" else DemonstrationLogps(first)


def beside(bound, value):
    """The keyword that is neither an option nor a row's, KTO's baseline or BCO's shift, with this
    value; none for most.
    """
    if bound.running is not None:
        return {"delta": value}
    return {"z0": value} if bound.context else {}


class Case:
    """Ordinary random log-probs of B rows, and an objective to run on them."""

    def __init__(self, name, options=None, rows=6, seed=0, dtype=torch.float64):
        generator = torch.Generator().manual_seed(seed)
        self.bound = resolve(name, options or {})
        self.kind = "scores" if self.bound.needs == "scores" else self.bound.rows
        self.margin = torch.arange(rows, dtype=dtype) / 4
        self.counts = torch.randint(1, 12, (2, rows), generator=generator)
        per_token = -0.1 - 2 * torch.rand((2, rows), generator=generator, dtype=torch.float64)
        self.policy = (per_token * self.counts).to(dtype)  # [2, B]
        self.reference = self.policy + torch.randn(
            (2, rows), generator=generator, dtype=torch.float64
        ).to(dtype)
        self.desirable = torch.arange(rows) % 2 == 0
        self.z0 = torch.tensor(0.3, dtype=dtype)

    def losses(
        self, policy=None, reference=None, counts=None, desirable=None, z0=None, margin=None
    ):
        """Per-row losses, with any of the inputs replaced."""
        counts = self.counts if counts is None else counts
        desirable = self.desirable if desirable is None else desirable
        margin = self.margin if margin is None else margin
        policy = build(
            self.kind, self.policy if policy is None else policy, counts, desirable, margin
        )
        against = build(
            self.kind, self.reference if reference is None else reference, counts, desirable
        )
        context = beside(self.bound, self.z0 if z0 is None else z0)
        return self.bound.losses(
            policy, against if self.bound.reference else None, **context
        ).losses

    def take(self, which):
        """Losses of those rows alone."""
        return self.losses(
            self.policy[:, which],
            self.reference[:, which],
            self.counts[:, which],
            self.desirable[which],
            margin=self.margin[which],
        )


def baseline(case, policy, reference):
    return kto_baseline(Logps(policy, case.counts[0]), Logps(reference, case.counts[0]))
