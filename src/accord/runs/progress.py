"""Progress of a run: what changes from step to step beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass
class Progress:
    """The state that changes from step to step, beside the weights; saved with each checkpoint."""

    step: int = 0  # updates made
    tokens: int = 0  # unique tokens computed forward and backward
    best: float | None = None  # lowest held-out score so far, see `score`
    best_step: int | None = None
    before: dict = field(default_factory=dict)  # held-out metrics at step 0
    micro_tokens: int | None = None  # after memory ran out: smaller than the plan's
    # step of the newest evaluation: a signal may come between an update and its own
    evaluated: int | None = None
    sampled: int | None = None  # step of the newest samples
    rate_scale: float = 1.0  # factor of the learning rate: halved by --on-flag adapt
    # the step whose weights ended the run early, where --on-flag adapt says so
    taken: int | None = None

    def state(self, identity: dict, lines: Mapping[str, int]) -> dict:
        """Return the state for a checkpoint.

        `identity` is what must be the same to continue, `lines` how long the records were.
        """
        return {"progress": vars(self), "identity": identity, "lines": dict(lines)}
