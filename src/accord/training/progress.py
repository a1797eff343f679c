"""A run and its progress: the state that the loop, the guard and the checkpoints share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from accord.evaluate.intervals import Estimate
from accord.runs.display import Display
from accord.runs.folder import RunFolder
from accord.runs.identity import trajectory
from accord.runs.signals import Stop
from accord.runs.trackers import Trackers
from accord.training.prepared import PreparedRun
from accord.training.red_flags import Monitor
from accord.verify.invariants import RecordChecks, choose_checks


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


@dataclass
class Run:
    """A prepared run, its folder, and where it stands."""

    ready: PreparedRun
    folder: RunFolder
    display: Display
    stop: Stop
    progress: Progress = field(default_factory=Progress)
    accuracy: Estimate | None = None  # accuracy at the newest evaluation
    first_step: int = 0  # where this process began
    spent: float = 0.0  # seconds on updates since then
    planned_tokens: int = field(init=False)  # of a micro-batch, when this process began
    watch: RecordChecks = field(init=False)  # what must hold while training
    monitor: Monitor = field(init=False)  # red flags
    trackers: Trackers = field(init=False)

    def __post_init__(self) -> None:
        ready, config = self.ready, self.ready.config
        ready.optimizer.scale = self.progress.rate_scale
        self.planned_tokens = ready.learner.micro_tokens
        self.watch = choose_checks(ready, self.progress.step)
        self.monitor = Monitor.over(ready, self.folder)
        names = config.monitor.trackers if ready.world.first else ()
        self.trackers = Trackers(names, self.folder.path, trajectory(config), self.display.line)

    @property
    def steps(self) -> int:
        return self.ready.steps

    @property
    def evaluation_due(self) -> bool:
        """Tell whether the held-out rows, if there are any, are still to be evaluated at this
        step.
        """
        step = self.progress.step
        if not self.ready.source.evaluates or self.progress.evaluated == step:
            return False
        return step == 0 or self.due(self.ready.config.evaluate.every)

    @property
    def sampling_due(self) -> bool:
        """Tell whether the fixed prompts, if there are any, are still to be answered at this
        step.
        """
        step = self.progress.step
        if not self.ready.sample_prompts or self.progress.sampled == step:
            return False
        return step == 0 or self.due(self.ready.config.monitor.sample_every)

    @property
    def finished(self) -> bool:
        return self.progress.step >= self.steps or self.progress.taken is not None

    def log(self, name: str, line: dict) -> None:
        """Write a line of figures, for the files, the trackers and the rules."""
        self.folder.append(name, line)
        self.trackers.log(line)
        self.monitor.history.add(line)

    def due(self, every: int) -> bool:
        """Tell whether something that happens every so many steps, and after the last one, happens
        now.
        """
        step = self.progress.step
        return step == self.steps or (every > 0 and step % every == 0 and step > 0)
