"""The run's part of the record of a saved model: its data, template and method."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accord.config.schema import Config
from accord.models.provenance import Provenance


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
