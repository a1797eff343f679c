"""A run and its progress: the state that the loop, the guard and the checkpoints share."""

from __future__ import annotations

from dataclasses import dataclass, field

from accord.evaluate.intervals import Estimate
from accord.runs.display import Display
from accord.runs.folder import RunFolder
from accord.runs.identity import trajectory
from accord.runs.progress import Progress
from accord.runs.signals import Stop
from accord.runs.trackers import Trackers
from accord.training.prepared import PreparedRun
from accord.training.red_flags import Monitor
from accord.verify.invariants import RecordChecks, choose_checks


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
        """Tell whether the held-out rows, if any, are still to be evaluated at this step."""
        step = self.progress.step
        if not self.ready.source.evaluates or self.progress.evaluated == step:
            return False
        return step == 0 or self.due(self.ready.config.evaluate.every)

    @property
    def sampling_due(self) -> bool:
        """Tell whether the fixed prompts, if any, are still to be answered at this step."""
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
