"""The record that connects a run with the model it was trained on and the one that it saved."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accord.config.schema import Config
from accord.environment.hub.names import is_hub
from accord.models import provenance
from accord.models.embedded import EMBEDDED_NAME
from accord.models.provenance import Provenance
from accord.runs.folder import RunFolder
from accord.types import UsageError


def made_by(config: Config, identity: Mapping[str, Any], run: Path) -> Provenance:
    """Record what a run trained on, from its settings and its identity (`PreparedRun.identity`, or
    that of a checkpoint).
    """
    return Provenance(
        template=config.data.template,
        method=config.objective["name"],
        train_data=identity.get("train_data") or "",
        train_tokens=identity.get("train_tokens") or "",
        held_out_data=identity.get("held_out_data") or "",
        held_out_tokens=identity.get("held_out_tokens") or "",
        run=os.path.abspath(run),
    )


def config_with_base(folder: RunFolder) -> Config:
    """Return a run's settings with its base where it lies. A relative path is one of the directory
    in which the run was begun; the saved adapter has it whole.

    Raises:
      UsageError: the base is not there any more.
    """
    config = folder.config()
    name = config.model.name
    if name == EMBEDDED_NAME or is_hub(name) or "hub" in config.allow:
        return config
    if Path(name).expanduser().is_dir():
        return config
    record = provenance.read(folder.path / "adapter")
    if record is not None and record.base and Path(record.base).is_dir():
        found = config.model.model_copy(update={"name": record.base})
        return config.model_copy(update={"model": found})
    raise UsageError(
        f"{folder.path} was trained on {name}, and no such folder is there now, seen from here.\n"
        f"Put the model back, or write where it lies under model.name in"
        f" {folder.path / 'config.yaml'}. Its weights are compared with those that the run was"
        " trained on."
    )
