"""The objective that a config names."""

from __future__ import annotations

from accord.config.schema import Config
from accord.objectives.objective import BoundObjective
from accord.objectives.policy_table import POLICY_OBJECTIVES, require_source
from accord.objectives.table import resolve


def resolve_objective(config: Config) -> BoundObjective:
    """Resolve the objective that a config names, with its options checked."""
    options = {key: value for key, value in config.objective.items() if key != "name"}
    sampled = config.rollouts is not None
    if config.rollouts is not None and "max_tokens" in getattr(
        POLICY_OBJECTIVES.get(config.objective["name"]), "kinds", ()
    ):
        options.setdefault("max_tokens", config.rollouts.max_new_tokens)
    objective = resolve(config.objective["name"], options, frozenset(config.allow))
    require_source(objective.rows, objective.name, sampled)
    return objective
