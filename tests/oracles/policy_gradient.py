"""Advantages and KL terms once more, in numpy loops, from their papers."""

import numpy as np


def gae(rewards, values, counts, gamma, lam, after):
    """Schulman et al. 2015, Eq. 11 and 16: A_t = Σ_l (γλ)^l δ_{t+l}, by the double sum."""
    out, start = [], 0
    for n, count in enumerate(counts):
        r, v = rewards[start : start + count], [*values[start : start + count], after[n]]
        delta = [r[t] + gamma * v[t + 1] - v[t] for t in range(count)]
        out += [
            sum((gamma * lam) ** (k - t) * delta[k] for k in range(t, count)) for t in range(count)
        ]
        start += count
    return np.array(out)


def whiten(values):
    mean = sum(values) / len(values)
    variance = sum((v - mean) ** 2 for v in values) / (len(values) - 1)
    return np.array([(v - mean) / np.sqrt(variance) for v in values])


def kl(kind, policy, reference):
    """Of single tokens, from probabilities. Schulman 2020: r = ref / π; -log r, (log r)²/2, (r - 1)
    - log r.
    """
    r = np.exp(reference) / np.exp(policy)
    return {"k1": -np.log(r), "k2": np.log(r) ** 2 / 2, "k3": (r - 1) - np.log(r)}[kind]


def surrogate(policy, old, advantages, low, high):
    """Schulman et al. 2017, Eq. 7, a token at a time; negated."""
    out = []
    for p, o, a in zip(policy, old, advantages, strict=True):
        ratio = np.exp(p) / np.exp(o)
        out.append(-min(ratio * a, min(max(ratio, 1 - low), 1 + high) * a))
    return np.array(out)
