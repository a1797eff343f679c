"""The record of what a saved model was made with, as accord.json beside its weights.

An adapter is a difference from one base. On another base of the same shapes it loads without an
error and computes something that nobody trained; so does a model under another tokenizer or another
template. The record lets whoever loads the weights compare.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from accord.types import UsageError

NAME = "accord.json"


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a saved adapter or model was made with. An empty text means that it is not known."""

    base: str = ""  # the model that training began from: an absolute folder, or a name of the hub
    base_weights: str = ""  # its `fingerprint.base_weights`, one for all dtypes; adapters have it
    base_config: dict[str, object] = field(default_factory=dict)  # its `fingerprint.numbers`
    tokenizer: str = ""  # `fingerprint.tokenizer`
    template: str = ""  # the name of the template, as `data.template` takes it
    method: str = ""  # the objective
    dtype: str = ""  # the frozen weights were computed in it
    train_data: str = ""  # digest of the file's bytes
    train_tokens: str = ""  # digest of all token ids that were trained on
    held_out_data: str = ""
    held_out_tokens: str = ""
    merged: bool = False  # the adapter is inside the weights already
    run: str = ""  # the run's folder when it was written
    accord: str = ""  # the version that wrote it


def write(folder: Path, record: Provenance) -> None:
    """Write the record beside the weights in `folder`."""
    (folder / NAME).write_text(json.dumps(asdict(record), indent=2, sort_keys=True) + "\n", "utf-8")


def read(folder: str | Path) -> Provenance | None:
    """Read the record beside some weights; None where there is none: other tools write none.

    Keys of a later version are left out.

    Raises:
      UsageError: there is one that cannot be read.
    """
    file = Path(folder).expanduser() / NAME
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text("utf-8"))
        known = {f.name for f in fields(Provenance)}
        return Provenance(**{key: value for key, value in found.items() if key in known})
    except (OSError, ValueError, AttributeError, TypeError, RecursionError) as error:
        raise UsageError(
            f"{file} cannot be read: {error}. It says what the model was made with.\nDelete it to"
            " load the weights without that comparison."
        ) from error
