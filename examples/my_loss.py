"""An objective of your own: log-probs in, one loss a row out."""

import torch.nn.functional as F

from accord.types import PairLogps


def focal(policy: PairLogps, reference: PairLogps, *, beta: float = 0.1, focus: float = 1.0):
    """DPO's loss, weighted by how far a pair is from right: (1 − σ(βh))^focus."""
    chosen = policy.chosen.sum - reference.chosen.sum  # [B] nats
    rejected = policy.rejected.sum - reference.rejected.sum
    scaled = beta * (chosen - rejected)
    weight = (-scaled).sigmoid() ** focus
    return -weight * F.logsigmoid(scaled)  # [B]: no mean, the step owns the denominator
