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


def _pieces(values, counts):
    return np.split(np.asarray(values), np.cumsum(counts)[:-1])


def sequence_surrogate(policy, old, advantages, counts, low, high):
    """Zheng et al. 2025, Eqs. 5 and 7, an answer at a time: the ratio of whole answers to the power
    of one over the length; negated.
    """
    out = []
    for p, o, a in zip(*(_pieces(v, counts) for v in (policy, old, advantages)), strict=True):
        s = (np.prod(np.exp(p)) / np.prod(np.exp(o))) ** (1 / len(p))
        mean = a.sum() / len(a)
        out.append(-min(s * mean, min(max(s, 1 - low), 1 + high) * mean))
    return np.array(out)


def weighed(policy, old, advantages, low, high):
    """MiniMax 2025, Eqs. 4 and 5, a token at a time: weight, advantage, log-prob; negated."""
    return np.array(
        [
            -min(max(np.exp(p) / np.exp(o), 1 - low), 1 + high) * a * p
            for p, o, a in zip(policy, old, advantages, strict=True)
        ]
    )


def rewards_to_come(rewards, logps, reference, counts, beta):
    """Hu et al. 2025, §3: r - β Σ_{i ≥ t} log-ratio_i, by the double sum."""
    out = []
    for r, p, q in zip(rewards, _pieces(logps, counts), _pieces(reference, counts), strict=True):
        out += [r - beta * sum(p[i] - q[i] for i in range(t, len(p))) for t in range(len(p))]
    return np.array(out)
