"""The record of what a saved model was made with, as accord.json beside its weights.

An adapter is a difference from one base. On another base of the same shapes it loads without an
error and computes something that nobody trained; so does a model under another tokenizer or another
template. The record lets whoever loads the weights compare.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file

from accord.config.quantize_section import QuantizeConfig
from accord.environment.digests import file_digest, text_digest
from accord.types import Refused, UsageError

NAME = "accord.json"
SETTINGS = ("config.json", "adapter_config.json")
# Fields of those files that may be corrected where a model is moved, and change no number.
PLACES = ("_name_or_path", "base_model_name_or_path", "transformers_version")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """The record of a saved adapter or model. An empty text means that it is not known."""

    base: str = ""  # the model that training began from: an absolute folder, or a name of the hub
    base_weights: str = ""  # its `fingerprint.base_weights`, one for all dtypes; adapters have it
    base_config: dict[str, object] = field(default_factory=dict)  # its `fingerprint.numbers`
    tokenizer: str = ""  # `data.tokenizer_digest`
    template: str = ""  # the name of the template, as `data.template` takes it
    method: str = ""  # the objective
    dtype: str = ""  # the frozen weights were computed in it
    # how the base was quantised while it was trained on, as model.quantize; empty: it was not
    quantize: dict[str, object] = field(default_factory=dict)
    train_data: str = ""  # digest of the file's bytes
    train_tokens: str = ""  # digest of all token ids that were trained on
    held_out_data: str = ""
    held_out_tokens: str = ""
    merged: bool = False  # the adapter is inside the weights already
    # of an adapter of a quantised base: "dequantised" (what was trained) or "original"
    merged_into: str = ""
    run: str = ""  # the run's folder when it was written
    files: dict[str, str] = field(default_factory=dict)  # weights and settings -> their digest
    accord: str = ""  # the version that wrote it

    @property
    def quantize_settings(self) -> QuantizeConfig | None:
        """Return how the base was quantised while it was trained on; None: it was not."""
        return QuantizeConfig.model_validate(self.quantize) if self.quantize else None


def write(folder: Path, record: Provenance) -> None:
    """Write the record beside the weights in `folder`, with digests of what was saved there."""
    record = replace(record, files=_digests(folder))
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


def require_as_saved(folder: str | Path) -> None:
    """Check that weights and settings in a folder are those that its record was written for. A
    folder without a record passes.

    Raises:
      Refused: they were changed since.
    """
    record = read(folder)
    if record is None or not record.files:
        return
    now = _digests(Path(folder).expanduser())
    changed = sorted(name for name in record.files if record.files[name] != now.get(name))
    if changed:
        gone = [name for name in changed if name not in now]
        what = f"{', '.join(changed[:3])} {'is not there' if gone else 'was changed'}"
        if broken := [
            n for n in changed if n in now and not _finite(Path(folder).expanduser() / n)
        ]:
            what += f" (NaN or infinite weights in {broken[0]})"
        raise Refused(
            f"{folder} is not the model that was saved there: {what} since {NAME} was written, so"
            " its numbers are not those of the training that the record tells of.\nPut the files"
            " back, or save the model again (accord export RUN --output DIR). If the change is"
            f" meant, delete {Path(folder) / NAME}."
        )


def _finite(file: Path) -> bool:
    """Tell whether a file of tensors can be read and holds finite numbers alone; true of others."""
    if file.suffix != ".safetensors":
        return True
    try:
        return all(bool(tensor.isfinite().all()) for tensor in load_file(file).values())
    except (OSError, SafetensorError):
        return False


def _digests(folder: Path) -> dict[str, str]:
    """Hash the weights, and the settings without the places that they name."""
    files = [*sorted(folder.glob("*.safetensors")), *(folder / name for name in SETTINGS)]
    return {file.name: _digest(file) for file in files if file.is_file()}


def _digest(file: Path) -> str:
    if file.suffix != ".json":
        return file_digest(file)
    try:
        settings = json.loads(file.read_text("utf-8"))
        kept = {key: value for key, value in settings.items() if key not in PLACES}
    except (OSError, ValueError, AttributeError, RecursionError):
        return file_digest(file)
    return text_digest(json.dumps(kept, sort_keys=True))
