"""A stranger's objective, named in recipes of the tests as training.mine:squared."""


def squared(policy, reference, *, beta: float = 0.1):
    """(βh - 1)²."""
    h = (policy.chosen.sum - reference.chosen.sum) - (policy.rejected.sum - reference.rejected.sum)
    return (beta * h - 1) ** 2
