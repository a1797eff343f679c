"""A world in which dpo loses its chosen answer: the playground's preset Displacement (presets.js),
worked out by each objective's closed form, and judged by the flag's own rule.

One prompt and five answers of ten tokens; the policy is log-linear in two features. The chosen
answer and the rejected one look alike, and the third looks more chosen than the chosen (Razin et
al. 2024, arXiv:2410.08847, in miniature).
"""

from __future__ import annotations

import torch

from accord.monitor.history import Facts, History
from accord.monitor.watch import rule_of
from accord.objectives import resolve
from accord.objectives.closed_forms import Answer, Row

FEATURES = ((1, 0.3), (1, 0), (0.2, 1), (-0.6, 0.4), (0, -0.8))
REFERENCE = (0.35, 0.35, 0.1, 0.1, 0.1)  # probabilities; the first answer is chosen over the second
TOKENS = 10  # of every answer
BETA, RATE, UPDATES = 0.5, 0.5, 2000  # gradient descent


def trained(
    method: str, *, beta: float = BETA, rate: float = RATE, updates: int = UPDATES
) -> dict[str, float | int | None]:
    """Train the world's policy from its reference.

    Returns:
      flag: the update after which `chosen-falling` is raised, None if it never is. chosen and
      rejected: by how many nats the answers moved, the start to the end. lowest: of the chosen one,
      at any update. probability: of the chosen answer at the end.
    """
    features = torch.tensor(FEATURES, dtype=torch.float64)
    reference = torch.tensor(REFERENCE, dtype=torch.float64).log()
    weights = torch.zeros(2, dtype=torch.float64)
    objective = resolve(method, {"beta": beta})
    rule = rule_of("flag.chosen-falling")
    facts = Facts(method, objective.options, updates, 1, 1, 1, rate)
    history, flag, lowest = History(facts), None, 0.0
    for update in range(1, updates + 1):
        policy = torch.log_softmax(reference + features @ weights, 0)
        history.add({"step": update, **_figures((policy - reference).tolist())})
        if flag is None and rule.finding(history) is not None:
            flag = update
        answers = tuple(Answer(policy[i].item(), reference[i].item(), TOKENS) for i in (0, 1))
        _, slopes = objective.closed_form(Row("", answers), objective.options, 0.0)
        lean = features[:2] - policy.exp() @ features  # d log π of the two answers by the weights
        weights = weights - rate * torch.tensor(slopes, dtype=torch.float64) @ lean
        lowest = min(lowest, (policy - reference)[0].item())
    policy = torch.log_softmax(reference + features @ weights, 0)
    chosen, rejected, *_ = (policy - reference).tolist()
    return {
        "flag": flag,
        "chosen": chosen,
        "rejected": rejected,
        "lowest": min(lowest, chosen),
        "probability": policy[0].exp().item(),
    }


def _figures(moved: list[float]) -> dict[str, float]:
    """Name what a run of one row records, after the update in which the answers stand here."""
    return {
        "diag/log_ratio_token/chosen": moved[0] / TOKENS,
        "diag/log_ratio_token/rejected": moved[1] / TOKENS,
        "diag/chosen_down": float(moved[0] < 0),
    }
