"""The choice of weights to train: low-rank adapters, or all of them; and a starting adapter whose
frozen copy is the reference.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from peft import LoraConfig, PeftConfig, PeftModel, get_peft_model

from accord.errors import first_line
from accord.models.families import outside_language
from accord.models.language import REFERENCE, TRAINED, LanguageModel
from accord.models.targets import attention_names, left_out, linear_names
from accord.types import UsageError


def train_all_weights(model: LanguageModel) -> None:
    """Make every parameter train that text reaches: a vision tower stays as it is."""
    model.network.requires_grad_(True)
    model.outside = outside_language(model.network)
    for part in model.outside:
        model.network.get_submodule(part).requires_grad_(False)


def add_lora(
    model: LanguageModel,
    *,
    rank: int,
    alpha: float,
    targets: list[str] | str,
    dropout: float,
    dora: bool,
    seed: int,
) -> None:
    """Put fresh adapters on the named modules ("attention", "all-linear" or a list of names);
    freeze the base.

    The adapters are drawn from `seed` alone and have the base's dtype; their float32 masters live
    in the optimizer.
    """
    if targets == "attention":
        targets = attention_names(model.network)
    model.outside = outside_language(model.network)
    model.all_linear = targets == "all-linear"
    config = LoraConfig(
        r=rank,
        # PEFT declares an int; it only divides alpha by the rank
        lora_alpha=alpha,  # type: ignore[arg-type]
        target_modules=targets,
        exclude_modules=left_out(model, targets),
        lora_dropout=dropout,
        use_dora=dora,
        task_type=model.task,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        try:
            model.peft = get_peft_model(model.network, config, autocast_adapter_dtype=False)
        except ValueError as error:
            raise UsageError(
                f"model.lora.targets = {targets}: {first_line(error)}\n"
                f"Modules that can take an adapter: {', '.join(linear_names(model.network))}."
            ) from error
    model.network.eval()


def load_adapter(model: LanguageModel, folder: str) -> None:
    """Continue training an adapter that exists already. Its frozen copy stays inside as the
    reference.

    Otherwise the reference would be the *base*, which the adapter has left: a failure that three
    tools had.
    """
    path = Path(folder).expanduser()
    if not (path / "adapter_config.json").exists():
        raise UsageError(
            f"model.adapter = {folder}: no adapter_config.json there. Expected a PEFT adapter's"
            " folder."
        )
    if not (path / "adapter_model.safetensors").exists():
        raise UsageError(
            f"model.adapter = {folder}: no adapter_model.safetensors there (pickled adapters are"
            " refused)."
        )
    _only_low_rank(path, folder)
    try:
        model.peft = PeftModel.from_pretrained(
            model.network,
            str(path),
            adapter_name=TRAINED,
            is_trainable=True,
            autocast_adapter_dtype=False,
        )
        found = model.peft.load_adapter(
            str(path), adapter_name=REFERENCE, is_trainable=False, autocast_adapter_dtype=False
        )
    # its settings are foreign: a word for the rank raises TypeError
    except Exception as error:
        said = first_line(error)
        raise UsageError(f"model.adapter = {folder} does not fit {model.source}: {said}") from error
    # PEFT warns, and goes on with fresh weights
    if strays := [*found.missing_keys, *found.unexpected_keys]:
        raise UsageError(
            f"model.adapter = {folder} does not fit {model.source}: {len(strays)} of its tensors"
            f" have no counterpart, such as {strays[0]}. Name the base that it was trained on."
        )
    model.peft.set_adapter(TRAINED)
    model.network.eval()


def add_reference_adapter(model: LanguageModel) -> None:
    """Add a second adapter, equal to the one that trains, that does not train: a moving reference
    is made of it.
    """
    assert model.peft is not None, "a moving reference needs an adapter that trains"
    trained = model.trainable()
    with torch.random.fork_rng():  # its first values are drawn, and then replaced
        model.peft.add_adapter(
            REFERENCE, copy.deepcopy(model.peft.peft_config[TRAINED]), autocast_adapter_dtype=False
        )
    for name, counterpart in model.reference_parameters(trained).items():
        counterpart.requires_grad_(False).copy_(trained[name].detach())
    model.network.eval()


def forget_reference_adapter(model: LanguageModel) -> None:
    """Remove the frozen copy of an incoming adapter.

    `as_reference` is then the base, without any adapter.
    """
    assert model.peft is not None, "no adapter, and so none to take out"
    model.peft.delete_adapter(REFERENCE)


def _only_low_rank(path: Path, folder: str) -> None:
    """Refuse adapters that train more than low-rank updates.

    Weights that they train beside them have no frozen copy.
    """
    try:
        config = PeftConfig.from_pretrained(str(path))
    except Exception as error:  # as above
        first = first_line(error)
        raise UsageError(
            f"model.adapter = {folder}: adapter_config.json cannot be read: {first}"
        ) from error
    if config.peft_type != "LORA":
        raise UsageError(
            f"model.adapter = {folder} is a {config.peft_type} adapter; only LoRA adapters can be"
            " trained further."
        )
    beside = [
        name
        for name in ("modules_to_save", "trainable_token_indices")
        if getattr(config, name, None)
    ]
    if config.bias != "none":
        beside.append(f"bias={config.bias}")
    if beside:
        raise UsageError(
            f"model.adapter = {folder} trains whole modules beside its low-rank updates"
            f" ({', '.join(beside)}), and the reference would move with them.\nMerge the adapter"
            " into its base, and train the merged model."
        )
