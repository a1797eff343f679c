"""The choice of weights to train: low-rank adapters, or all of them; and a starting adapter whose
frozen copy is the reference.
"""

from __future__ import annotations

import copy
import re
import warnings
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model

from accord.environment.hub.names import is_hub
from accord.errors import AccordWarning, first_line
from accord.models import fingerprint, provenance
from accord.models.adapter_config import read_config
from accord.models.base import require_same_base
from accord.models.families import outside_language
from accord.models.hub import local_folder
from accord.models.language import REFERENCE, TRAINED, LanguageModel
from accord.models.parts import local
from accord.models.target_check import check_targets
from accord.models.targets import attention_names, left_out, linear_names
from accord.types import UsageError

WHOLE = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by bytes


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
    named, possible = str(targets), linear_names(model.network)
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
        # a string is a regular expression, and may be a broken one
        except (ValueError, re.error) as error:
            raise UsageError(
                f"model.lora.targets = {named}: {first_line(error)}\n"
                f"Modules that can take an adapter: {', '.join(possible)}."
            ) from error
    if targets != "all-linear":  # PEFT's own word: every linear module but the head
        check_targets(model.network, targets, named, possible)
    model.network.eval()


def load_adapter(model: LanguageModel, folder: str) -> None:
    """Continue training an adapter that exists already. Its frozen copy stays inside as the
    reference.

    Otherwise the reference would be the *base*, which the adapter has left: a failure that three
    tools had.

    Raises:
      UsageError: no adapter that accord computes is there, or it does not fit.
      Refused: the model is not the base that it was trained on.
    """
    path = local_folder(folder)
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
    config = read_config(path, folder)
    require_same_base(model, path if is_hub(folder) else folder)
    before = _sums(model.network)
    try:
        strays = _put_in(model, path, config)
    # its settings are foreign: a word for the rank raises TypeError
    except Exception as error:
        raise UsageError(
            f"model.adapter = {folder} does not fit {model.source}: {_first_cause(error)}"
        ) from error
    if strays:
        raise UsageError(f"model.adapter = {folder} does not fit {model.source}: {strays}")
    _require_finite(model, folder)
    _warn_of_idle_targets(model, config, folder)
    provenance.require_as_saved(path)
    after = _sums(model.network)
    if changed := [name for name in before if before[name] != after.get(name)]:
        raise UsageError(
            f"model.adapter = {folder} changes the weights of {model.source} itself when it is"
            f" loaded: {len(changed)} tensors, such as {changed[0]}. Without the adapter the model"
            " would not be its base, and so the reference would be wrong.\nMerge the adapter into"
            " its base with the tool that made it, and name the merged model."
        )
    assert model.peft is not None
    model.peft.set_adapter(TRAINED)
    model.network.eval()


def _first_cause(error: Exception) -> str:
    """Return the first line that says something: torch's own begins with a heading."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    heading = bool(lines) and lines[0].startswith("Error(s) in loading state_dict")
    return lines[1] if heading and len(lines) > 1 else first_line(error)


def _warn_of_idle_targets(model: LanguageModel, config: LoraConfig, folder: str) -> None:
    """Warn of names in an adapter's settings that no module has: it may be another model's."""
    targets = config.target_modules
    if targets is None or isinstance(targets, str):
        return
    paths = [path for path, _ in model.network.named_modules()]
    idle = [n for n in sorted(targets) if not any(p == n or p.endswith(f".{n}") for p in paths)]
    if idle:
        warnings.warn(
            f"model.adapter = {folder}: no module of {model.source} is called {' or '.join(idle)},"
            " which its target_modules name; those parts have no adapter",
            AccordWarning,
            stacklevel=3,
        )


def _require_finite(model: LanguageModel, folder: str) -> None:
    """Refuse an adapter with weights that are NaN or infinite."""
    bad = [name for name, p in model.trainable().items() if not bool(torch.isfinite(p).all())]
    if bad:
        raise UsageError(
            f"model.adapter = {folder}: {len(bad)} of its tensors hold NaN or infinite weights,"
            f" such as {_plain(bad[0])}.\nThe file is damaged: load another copy."
        )


def _plain(name: str) -> str:
    """Return a tensor's name as the adapter's file has it."""
    return name.replace(f".{TRAINED}", "").replace(f".{REFERENCE}", "")


def _put_in(model: LanguageModel, path: Path, config: LoraConfig) -> str:
    """Load an adapter twice: the one that trains, and its frozen copy.

    Returns:
      in words which tensors of its file have no place, or which places have no tensor: PEFT warns,
      and goes on with fresh weights. Empty if all is well.
    """
    model.peft = PeftModel.from_pretrained(
        model.network,
        str(path),
        adapter_name=TRAINED,
        is_trainable=True,
        autocast_adapter_dtype=False,
        config=copy.deepcopy(config),
    )
    # PEFT would read the copy's settings from the file, and begin as they say
    config.inference_mode = True
    model.peft.add_adapter(REFERENCE, config, autocast_adapter_dtype=False)
    found = model.peft.load_adapter(
        str(path), adapter_name=REFERENCE, is_trainable=False, autocast_adapter_dtype=False
    )
    if found.unexpected_keys:
        return (
            f"{len(found.unexpected_keys)} of its tensors have no counterpart, such as"
            f" {_plain(found.unexpected_keys[0])}. Name the base that it was trained on."
        )
    if found.missing_keys:
        return (
            f"its file lacks {len(found.missing_keys)} tensors that its adapter_config.json asks"
            f" for, such as {_plain(found.missing_keys[0])}: it is incomplete, or the base has more"
            " layers than the one that it was trained on. Copy it again, or name its own base."
        )
    return ""


@torch.no_grad()
def _sums(network: torch.nn.Module) -> dict[str, int]:
    """Add up the bits of every weight of the base, by its name there: the sum changes with any one
    weight.
    """
    sums = {}
    for name, tensor in network.state_dict().items():
        if base := fingerprint.name_in_base(name):
            own = local(tensor.detach()).contiguous()  # any change shows on the rank that holds it
            flat = own.reshape(-1).view(WHOLE[tensor.element_size()])
            sums[base] = int(flat.sum(dtype=torch.int64))
    return sums


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
