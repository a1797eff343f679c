"""Open the RUN|MODEL of a command: the trained weights of a run with its own settings, a model, or
an adapter.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from peft import set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file

from accord.assess.bound import (
    other_template,
    other_than_recorded,
    own_tokenizer,
    template_of_record,
)
from accord.assess.soundness import Soundness, soundness
from accord.config.schema import Config, make_config
from accord.data.templates import Template, template_of
from accord.environment.hub.names import is_hub
from accord.errors import first_line
from accord.models import provenance
from accord.models.base import base_named_by, require_same_base
from accord.models.hub import local_folder, pinned_model
from accord.models.language import TRAINED, LanguageModel
from accord.models.load import load
from accord.models.lora import forget_reference_adapter, load_adapter
from accord.models.trainable import make_trainable
from accord.objectives.configured import resolve_objective
from accord.rewards.trust import how_to_score
from accord.runs import checkpoint
from accord.runs.export import load_checkpointed, require_base
from accord.runs.folder import RunFolder
from accord.runs.made_by import config_with_base
from accord.types import CheckpointError, UsageError

ADAPTER, WHOLE = "adapter", "final"  # folders of a finished run's weights


@dataclass
class OpenModel:
    """A model to measure. If it has adapters, the model without them (or with those that it started
    from) is still inside.
    """

    name: str  # as the user named it
    model: LanguageModel
    template: Template
    config: Config  # the run's own; the defaults for a bare model
    run: RunFolder | None
    weights: str  # one line: which weights these are
    # what is not as it was when the model was made, in words
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    other_text: bool = False  # a warning says that tokenizer or template are not those of training

    def learn(self, more: Soundness) -> None:
        """Add what its rows or prompts have shown of the model."""
        self.warnings += more.warnings
        self.notes += more.notes

    @property
    def limit(self) -> int | None:
        """The number of positions that the model has."""
        return self.model.positions


def open_model(
    name: str,
    *,
    dtype: str | None = None,
    template: str | None = None,
    checkpoint: str | None = None,
) -> OpenModel:
    """Open the weights that `name` stands for.

    Args:
      name: a run's folder, a model's, an adapter's, "smollm2", or a hub name.
      dtype, template: instead of a run's own settings, or of "auto".
      checkpoint: "best" or "latest" of a run, instead of its final weights.

    Raises:
      UsageError, CheckpointError, Refused: nothing usable there.
    """
    name = pinned_model(name)
    path = local_folder(name)
    if checkpoint not in (None, "best", "latest"):
        raise UsageError(f"--checkpoint {checkpoint}: expected latest or best.")
    if (path / "config.yaml").is_file():
        return _run(name, RunFolder.open(name), dtype, template, checkpoint)
    if checkpoint is not None:
        raise UsageError(
            f"--checkpoint {checkpoint} is about a run's folder, and {name} is none. Leave it out."
        )
    own = str(path) if is_hub(name) else name
    chosen, said = template_of_record(own, template)
    # raw text that training was permitted needs no second permission
    allow = ["raw_text"] if template is None and chosen == "raw" else []
    config = make_config({"model": {"name": name}, "data": {"train": "-"}, "allow": allow})
    if (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
        model, weights = _adapter(path, dtype, hub=is_hub(name)), "an adapter on its base"
        differs = own_tokenizer(model, path)
    else:
        model, weights = load(name, dtype=dtype or "auto"), "the model as it stands"
        differs = other_than_recorded(model, own)
    made = _template(model, chosen, config)
    sound = soundness(model)
    other = (*differs, *said)
    told = (*sound.warnings, *other)
    return OpenModel(name, model, made, config, None, weights, told, sound.notes, bool(other))


def open_start_of(config: Config) -> OpenModel:
    """Open the model that a recipe starts from, with its adapter if it names one.

    Raises:
      UsageError: nothing usable there.
    """
    model = _base(config, None)
    if config.model.adapter is not None:
        load_adapter(model, config.model.adapter)
    return OpenModel(
        config.model.name,
        model,
        _template(model, config.data.template, config),
        config,
        None,
        "the model as it stands",
    )


def still_inside(model: LanguageModel, config: Config) -> bool:
    """Tell whether switching off the trained adapter gives back the model that the run started
    from.

    It does not if all weights trained, nor if `reference: base` dropped the adapter that the model
    came with.
    """
    return model.has_adapters and not (
        config.reference == "base" and config.model.adapter is not None
    )


def _run(
    name: str, folder: RunFolder, dtype: str | None, template: str | None, which: str | None = None
) -> OpenModel:
    config = folder.config()
    differs: tuple[str, ...] = ()
    if resolve_objective(config).needs == "scores":
        raise UsageError(
            f"{name} trained a reward model, which gives scores and no answers.\n"
            f"{how_to_score(folder.path)}"
        )
    if which is not None:
        if which == "best" and checkpoint.pointed_checkpoint(folder.checkpoints, "BEST") is None:
            raise UsageError(
                f"--checkpoint best: {name} has no best checkpoint. A run marks one where it has"
                " held-out rows. Leave the option out for its final weights."
            )
        model, _, saved = load_checkpointed(folder, which, dtype)
        weights = f"the run's {which} checkpoint, step {saved.step}"
    elif (folder.path / WHOLE).is_dir():
        model = load(
            str(folder.path / WHOLE), dtype=dtype or config.model.dtype, device=config.model.device
        )
        weights = "the run's final weights"
    elif (folder.path / ADAPTER).is_dir():
        config = config_with_base(folder)
        model = _base(config, dtype)
        _require_same_base(folder, config, model.dtype, make_trainable(config, model))
        provenance.require_as_saved(folder.path / ADAPTER)
        if provenance.read(folder.path / ADAPTER) is not None:  # runs of accord 0.1 have none
            require_same_base(model, folder.path / ADAPTER)
        _take(model, folder.path / ADAPTER)
        differs = own_tokenizer(model, folder.path / ADAPTER)
        weights = "the run's final adapter"
    else:
        model, _, saved = load_checkpointed(folder, "latest", dtype)
        weights = f"step {saved.step} of a run that has not finished"
    sound = soundness(model)
    other = (*differs, *other_template(name, template, config.data.template))
    return OpenModel(
        name,
        model,
        _template(model, template or config.data.template, config),
        config,
        folder,
        weights,
        (*sound.warnings, *other),
        sound.notes,
        bool(other),
    )


def _require_same_base(folder: RunFolder, config: Config, dtype: torch.dtype, now: str) -> None:
    """Refuse a base model with other weights than the run was trained on.

    A fingerprint belongs to one dtype. The dtype that `auto` or --dtype gives here may differ from
    the one that the run was trained in, so both are tried.

    Raises:
      Refused: the base model has other weights than when the run was trained, in either dtype.
    """
    saved = next(checkpoint.verified_checkpoints(folder.checkpoints, []), None)
    if saved is not None and now != saved.state["identity"]["initial_weights"]:
        other = "float32" if dtype == torch.bfloat16 else "bfloat16"
        require_base(folder, make_trainable(config, _base(config, other)), saved)


def _base(config: Config, dtype: str | None) -> LanguageModel:
    spec = config.model
    return load(
        spec.name,
        dtype=dtype or spec.dtype,
        device=spec.device,
        hub="hub" in config.allow,
        quantize=spec.quantize,
    )


def _take(model: LanguageModel, folder: Path) -> None:
    """Load a saved adapter's weights into the adapter that trains. Its counterpart or the base
    stays the reference.
    """
    try:
        found = set_peft_model_state_dict(
            model.peft, load_file(folder / "adapter_model.safetensors"), TRAINED
        )
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"{folder}: the adapter cannot be read: {first_line(error)}"
        ) from error
    # peft makes the type of its result within the function, where mypy cannot read its fields
    unexpected: list[str] = found.unexpected_keys  # type: ignore[attr-defined]
    if unexpected:
        raise CheckpointError(
            f"{folder}: {len(unexpected)} tensors have no place, such as {unexpected[0]}."
        )


def _adapter(folder: Path, dtype: str | None, *, hub: bool) -> LanguageModel:
    """Load an adapter on the base that it names. The base alone is its reference."""
    record = provenance.read(folder)
    quantize = record.quantize_settings if record is not None else None
    model = load(base_named_by(folder, hub=hub), dtype=dtype or "auto", quantize=quantize)
    load_adapter(model, str(folder))
    forget_reference_adapter(model)
    return model


def _template(model: LanguageModel, wanted: str, config: Config) -> Template:
    """Return the template; raw text if a base model has none, since nothing is trained here."""
    if wanted == "auto" and not model.tokenizer.chat_template:
        wanted = "raw"
    return template_of(config, model.tokenizer, model.stop_ids, wanted)
