"""Trackers of your choice that receive a run's figures.

A tracker that fails is dropped with a warning; the run goes on. Each is a thin extra:
`monitor.trackers` names it, its package must be installed, its own environment variables say where
the figures go. Without it, nothing leaves the run's folder.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from accord.environment.installing import install_line
from accord.errors import first_line, shorten
from accord.types import UsageError

PROJECT = "accord"
SAID = 240  # characters of a tracker's error that are shown
Log = Callable[[Mapping[str, float], int], None]  # (figures, step)
Close = Callable[[], None]
Start = Callable[[Any, Path, dict], tuple[Log, Close]]  # (module, run, settings)


def _trackio(module, run: Path, settings: dict) -> tuple[Log, Close]:
    module.init(project=PROJECT, name=run.name, config=settings)
    return lambda figures, step: module.log(dict(figures), step=step), module.finish


def _wandb(module, run: Path, settings: dict) -> tuple[Log, Close]:
    module.init(project=PROJECT, name=run.name, config=settings, dir=str(run))
    return lambda figures, step: module.log(dict(figures), step=step), module.finish


def _tensorboard(module, run: Path, settings: dict) -> tuple[Log, Close]:
    writer = module.SummaryWriter(str(run / "tensorboard"))

    def log(figures: Mapping[str, float], step: int) -> None:
        for name, value in figures.items():
            writer.add_scalar(name, value, step)

    return log, writer.close


def _mlflow(module, run: Path, settings: dict) -> tuple[Log, Close]:
    module.set_experiment(PROJECT)
    module.start_run(run_name=run.name)
    module.log_params(settings)
    return lambda figures, step: module.log_metrics(dict(figures), step=step), module.end_run


# name -> (module, how to start it)
TRACKERS: dict[str, tuple[str, Start]] = {
    "trackio": ("trackio", _trackio),
    "wandb": ("wandb", _wandb),
    "tensorboard": ("torch.utils.tensorboard", _tensorboard),
    "mlflow": ("mlflow", _mlflow),
}


class Trackers:
    """The trackers of one run; those that failed are no longer among them."""

    def __init__(self, names: Sequence[str], run: Path, settings: dict, say: Callable[[str], None]):
        self.say = say
        self.active: dict[str, tuple[Log, Close]] = {}
        for name in names:
            start = TRACKERS[name][1]
            self._guarded(name, partial(self._start, name, start, run, settings))

    def _start(self, name: str, start: Start, run: Path, settings: dict) -> None:
        self.active[name] = start(load(name), run, settings)

    def log(self, line: Mapping[str, float]) -> None:
        """Send one line of metrics.jsonl to the trackers."""
        figures = {
            name: value
            for name, value in line.items()
            if name != "step" and isinstance(value, (int, float))
        }
        for name, (log, _) in list(self.active.items()):
            self._guarded(name, partial(log, figures, int(line["step"])))

    def close(self) -> None:
        for name, (_, close) in list(self.active.items()):
            self._guarded(name, close)

    def _guarded(self, name: str, work: Callable[[], object]) -> None:
        try:
            work()
        # whatever a tracker's package raises must not end the run
        except Exception as error:
            self.active.pop(name, None)
            words = shorten(first_line(error, None), SAID)
            self.say(
                f"! {name}: {type(error).__name__}: {words.rstrip('.')}. The run goes on"
                " without it."
            )


def load(name: str):
    """Import the package of a tracker.

    Raises:
      UsageError: it is not installed.
    """
    module = TRACKERS[name][0]
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise UsageError(
            f"monitor.trackers names {name}, and it is not installed: {install_line(name)}"
        ) from error


def require(names: Sequence[str]) -> None:
    """Check, before anything is trained, that every tracker that was asked for can be loaded.

    Raises:
      UsageError: one that cannot.
    """
    for name in names:
        load(name)
