"""Load a model and its tokenizer from a folder, or from a hub that was asked for: safetensors only,
no remote code.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedTokenizerBase

from accord.compat import cpu_has_bfloat16
from accord.config.quantize_section import QuantizeConfig
from accord.environment.hub.names import PREFIX, may_be_repo
from accord.environment.nearest import did_you_mean, nearest
from accord.errors import first_line
from accord.models import provenance
from accord.models.embedded import EMBEDDED_NAME, embedded_folder, without_progress_bars
from accord.models.folder_kinds import merged_first, require_known_kind, require_language_model
from accord.models.hub import local_folder, pinned_model
from accord.models.language import LanguageModel
from accord.models.lean_layers import make_lean
from accord.models.packing import require_possible
from accord.models.quantized import quantize as quantize_layers
from accord.models.stored_keys import dtype_notes, key_notes
from accord.models.weight_files import Stored
from accord.types import UsageError


def load(
    name: str,
    *,
    dtype: str = "auto",
    device: str = "auto",
    hub: bool = False,
    quantize: QuantizeConfig | None = None,
) -> LanguageModel:
    """Load a causal language model in evaluation mode; nothing trainable is chosen yet.

    Args:
      name: "smollm2" (the embedded model), a folder in save_pretrained layout, or a hub name:
        hub:org/name@revision, or where `hub` is set org/name.
      dtype: "float32", "bfloat16", or "auto": bfloat16 where the machine computes in it, else
        float32.
      device: "cpu", "cuda", … or "auto": the first GPU if there is one.
      quantize: how the frozen weights of linear layers are stored; None: as they are.

    Raises:
      UsageError: no such folder, no tokenizer, no safetensors weights, an architecture that
        generates no text, or one that cannot be quantised here.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    target = pick_device(device)
    if quantize is not None:
        require_possible(quantize.kind, target)
    parts = load_parts(name, AutoModelForCausalLM, AutoTokenizer, pick_dtype(dtype, target), hub)
    quantization = quantize_layers(parts.network, quantize, name) if quantize else None
    network = parts.network.to(target)
    make_lean(network)
    return LanguageModel(
        network,
        parts.tokenizer,
        parts.name,
        parts.folder,
        notes=parts.notes,
        quantization=quantization,
    )


def require_model(name: str, hub: bool = False) -> None:
    """Check that a model's folder is there, and is one that can be loaded, without loading it.

    Raises:
      UsageError: as `load`.
    """
    if name == EMBEDDED_NAME:  # it is made when it is first loaded
        return
    if name.startswith(PREFIX) or (hub and may_be_repo(name)):  # a hub answers when it is fetched
        return
    folder_of(name)


class LoadedParts(NamedTuple):
    """A saved model as it was read."""

    network: Any  # transformers gives `to` no type that a caller could use
    tokenizer: PreTrainedTokenizerBase
    folder: Path
    name: str  # as the user named it; of a hub, with the commit
    notes: tuple[str, ...]  # what a user should know of the files, in words
    stored: Mapping[str, Stored]  # the headers of the files
    unexpected: frozenset[str]  # keys of the files that have no place in the network


def load_parts(
    name: str,
    auto,
    auto_tokenizer,
    dtype: torch.dtype,
    hub: bool = False,
    *,
    reward: bool = False,
    lay: Callable[[Mapping[str, Stored]], dict[str, torch.Tensor]] | None = None,
) -> LoadedParts:
    """Load a saved model by one of transformers' auto classes.

    Args:
      reward: a sequence classifier is wanted, not a language model.
      lay: makes the tensors that are loaded in place of those in the files, whose headers it gets.

    Raises:
      UsageError: as `load`.
    """
    name = _called(name, hub)
    folder = folder_of(name)
    stored = require_language_model(Path(folder), name, reward=reward)
    with without_progress_bars():
        tokenizer = _tokenizer(auto_tokenizer, folder, name)
        given = lay(stored) if lay is not None else None
        network, info = _network(auto, folder, name, dtype, given)
    notes = key_notes(network, info, stored, name, reward=reward)
    provenance.require_as_saved(folder)
    told = (*notes, *dtype_notes(stored, dtype))
    unexpected = frozenset(info["unexpected_keys"])
    return LoadedParts(network, tokenizer, Path(folder), name, told, stored, unexpected)


def _network(
    auto, folder: str, name: str, dtype: torch.dtype, given: dict[str, torch.Tensor] | None = None
):
    options: dict[str, Any] = {
        "dtype": dtype,
        "use_safetensors": True,
        "trust_remote_code": False,
        "output_loading_info": True,
    }
    try:
        if given is None:
            network, info = auto.from_pretrained(folder, **options)
        else:
            network, info = _from_tensors(auto, folder, given, options)
    # sizes of zero, words for numbers, …: a foreign config.json can raise anything
    except Exception as error:
        raise UsageError(
            f"{name}: the model does not load.\n{first_line(error)}\n{_expected(folder)}"
        ) from error
    _readable_settings(Path(folder), name)
    return network, info


def _from_tensors(auto, folder: str, given: dict[str, torch.Tensor], options: dict[str, Any]):
    """Load a model with these tensors in place of those in its files.

    transformers takes tensors without a folder only, so what it reads there is read here.
    """
    from transformers import AutoConfig, GenerationConfig

    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    with torch.device("meta"):
        kind = type(auto.from_config(config, trust_remote_code=False))
    config.name_or_path = folder
    network, info = kind.from_pretrained(None, config=config, state_dict=given, **options)
    network.name_or_path = network.config.name_or_path = folder
    if network.can_generate() and (Path(folder) / "generation_config.json").is_file():
        network.generation_config = GenerationConfig.from_pretrained(folder)
    return network, info


def _readable_settings(folder: Path, name: str) -> None:
    """Refuse generation settings that are broken.

    transformers goes on without them, and so without their stop tokens.
    """
    file = folder / "generation_config.json"
    try:
        found = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise UsageError(
            f"{name}: generation_config.json is not a JSON object; the model's stop tokens would be"
            " lost."
        )


def pick_device(device: str) -> torch.device:
    """Return the device that "auto" means here, or the one that was named."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch asserts that it was built for CUDA
        raise UsageError(
            f"{device!r} is no device of this machine. Expected auto, cpu, cuda or cuda:N."
        ) from error
    return torch.device(device)


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """Choose the dtype that the frozen weights compute in.

    All weights that train have float32 masters in either case.
    """
    if dtype != "auto":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[dtype]
    if device.type == "cuda":
        return (
            torch.bfloat16
            if torch.cuda.is_bf16_supported(including_emulation=False)
            else torch.float32
        )
    return torch.bfloat16 if cpu_has_bfloat16() else torch.float32


def _called(name: str, hub: bool) -> str:
    """Return the name that records have: of a hub, with the commit that it stands for now."""
    if hub and may_be_repo(name) and not Path(name).expanduser().exists():
        name = PREFIX + name
    return pinned_model(name)


def folder_of(name: str) -> str:
    """Return the folder of a model, fetched or converted where that is needed.

    Raises:
      UsageError: as `load`.
    """
    if name == EMBEDDED_NAME:
        return str(embedded_folder())
    path = local_folder(name)
    if path.is_dir():
        if (path / "adapter_config.json").exists() and not (path / "config.json").exists():
            raise UsageError(
                f"{name} holds an adapter, not a model.\n"
                f"Name its base as the model and the adapter beside it: --model {_base_of(path)} "
                f"--set model.adapter={name}{merged_first(path.parent)}"
            )
        require_known_kind(path, name)
        if not (path / "config.json").exists():
            raise UsageError(f"{name}: no config.json in this folder.\n{_expected(name)}")
        return str(path)
    if may_be_repo(name) and not path.exists():
        raise UsageError(
            f"{name}: no such folder. If this is a hub name, say so: {PREFIX}{name}, or --allow hub"
            " where the command has it (it goes to the network)."
        )
    raise UsageError(_no_folder(path, name))


def _no_folder(path: Path, name: str) -> str:
    """Say what a name is that is no model's folder."""
    if path.suffix == ".gguf":
        return (
            f"{name}: a GGUF file, which holds rounded weights that cannot be trained. Use the"
            " model's own folder, in save_pretrained layout (config.json and safetensors)."
        )
    if path.is_file():
        return (
            f"{name}: a file, and a model is a folder in save_pretrained layout, or"
            f" {EMBEDDED_NAME!r}. If it holds preferences: accord train --data {name}"
        )
    mine = f" Did you mean {EMBEDDED_NAME}?" if nearest(name, [EMBEDDED_NAME], 0.7) else ""
    return (
        f"{name}: no such model folder. Use a folder in save_pretrained layout, or"
        f" {EMBEDDED_NAME!r}.{mine or did_you_mean(name)}"
    )


def _base_of(adapter: Path) -> str:
    """Return the base that an adapter says it was trained on; "…" where that cannot be read."""
    try:
        return (
            json.loads((adapter / "adapter_config.json").read_text())["base_model_name_or_path"]
            or "…"
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return "…"


def _tokenizer(auto, folder: str, name: str):
    try:
        tokenizer = auto.from_pretrained(folder, trust_remote_code=False)
    # the files are foreign, and tokenizers raises plain Exception for some of them
    except Exception as error:
        raise UsageError(
            f"{name}: no tokenizer that loads.\n{first_line(error)}\n{_expected(folder)}"
        ) from error
    if len(tokenizer) == 0 or not tokenizer.encode("word", add_special_tokens=False):
        raise UsageError(f"{name}: its tokenizer turns text into nothing.\n{_expected(folder)}")
    if tokenizer.eos_token_id is None:
        raise UsageError(
            f"{name}: its tokenizer names no EOS token; answers could never"
            f" end.\n{_expected(folder)}"
        )
    return tokenizer


def _expected(folder: str) -> str:
    return (
        f"Expected in {folder}: config.json, *.safetensors and the tokenizer's files"
        " (tokenizer.json, tokenizer_config.json), as `save_pretrained` writes them. Pickled"
        " weights (.bin) are not loaded."
    )
