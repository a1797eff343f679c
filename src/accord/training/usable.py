"""Quick checks of what a run needs, before a model is loaded: its files, its model's folder, its
method.
"""

from __future__ import annotations

from accord.config.schema import Config
from accord.data.containers import is_there, require_there
from accord.data.naming import Naming
from accord.data.read import require_rows
from accord.models.load import require_model
from accord.objectives.configured import resolve_objective
from accord.runs.folder import RunFolder
from accord.training.setup.hold_out import parts_exist
from accord.types import CheckpointError


def require_usable(config: Config) -> None:
    """Check what is quick to check of a new run, before it has a folder and a model is loaded: a
    slip of the pen leaves nothing behind.

    Raises:
      UsageError: no such objective, option of one, or model.
      DataError: a file is not there, or none of its rows is of a kind that the objective takes.
    """
    objective = resolve_objective(config)
    data = config.data
    for path in (*data.train_paths, *data.held_out_paths):
        require_there(path)
    require_model(config.model.name, hub="hub" in config.allow)
    if config.rollouts is not None or data.train == "-":
        return
    for each in data.train_files:
        naming = Naming(each.columns, each.ignore_columns, format=data.format)
        require_rows(each.path, objective.rows, naming)
    if not data.train_files:
        naming = Naming(data.columns, data.ignore_columns, format=data.format)
        require_rows(data.train, objective.rows, naming)


def require_data(config: Config, folder: RunFolder) -> None:
    """Check that the run's files are still there.

    Raises:
      CheckpointError: a file that the run was trained or evaluated on is not there any more.
    """
    data = config.data
    named = [("train", path) for path in data.train_paths]
    named += [("held_out", path) for path in data.held_out_paths]
    if data.hold_out is not None and parts_exist(config):
        named = []  # both parts lie in the run's folder
    for name, path in named:
        if path != "-" and not is_there(path):
            raise CheckpointError(
                f"{path}: no such file, and {folder.path} cannot go on without it. Its checkpoints"
                f" are intact.\nPut the file back, or write where it lies now under data.{name} in"
                f" {folder.path / 'config.yaml'}."
            )
