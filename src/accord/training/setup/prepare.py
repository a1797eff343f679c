"""The choice of a run's set-up: rows of a file, or answers of its own."""

from __future__ import annotations

from accord.config.schema import Config
from accord.distributed.world import ALONE, World
from accord.engine.optimizers import optimizer_of
from accord.models.load import pick_device
from accord.runs.display import Display
from accord.runs.folder import RunFolder
from accord.runs.signals import Stop
from accord.training.prepared import PreparedRun
from accord.training.setup.offline import prepare_offline
from accord.training.setup.rollouts import prepare_rollouts
from accord.types import UsageError


def prepare(
    config: Config,
    display: Display,
    stop: Stop,
    *,
    folder: RunFolder | None = None,
    account_rows: bool = True,
    dry_run: bool = False,
    world: World = ALONE,
) -> PreparedRun:
    """Load, check and prove everything that a run needs.

    Args:
      folder: the place of the run's own records: reference log-probs, batches of answers.
      account_rows: write there what became of the rows, before any refusal.
      dry_run: skip what only training needs; write nothing.
      world: the ranks that train; each loads, checks and proves by itself, and all must agree.

    Raises:
      UsageError, DataError, Refused: in words, with the remedy.
    """
    require_optimizer(config)
    set_up = prepare_offline if config.rollouts is None else prepare_rollouts
    return set_up(
        config,
        display,
        stop,
        folder=folder,
        account_rows=account_rows,
        dry_run=dry_run,
        world=world,
    )


def require_optimizer(config: Config) -> None:
    """Refuse an optimizer that does not run here, before anything is loaded for it.

    Raises:
      UsageError: it is not for this device, its library is missing or does not work, or weights
        are to be shared out that it needs whole; with the command that helps.
    """
    row = optimizer_of(config.train)
    cut = config.train.parallel == "sharded" and config.model.lora is None  # adapters stay whole
    if cut and row.whole_tensors:
        raise UsageError(
            f"train.optimizer = {row.name} needs each weight's whole tensor, and train.parallel ="
            " sharded gives a process a part of it. Hold the weights whole (--set"
            " train.parallel=replicated), or --set train.optimizer=adamw"
        )
    if (problem := row.problem(pick_device(config.model.device))) is not None:
        raise UsageError(problem)
