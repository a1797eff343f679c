"""A trial of saving before anything is trained: the model as it stands is written by the code that
will write it at the end, and read back tensor by tensor.

What cannot be saved (generation settings that transformers refuses, weights that share memory, a
class that does not load its own files) fails here after seconds, not after the last update.

Adapters: a few MB are written and read. All weights: they are written once and loaded once, in the
network's dtype and on the CPU. That is less than one checkpoint, which holds float32 masters and
moments, and the load needs the memory that reading back at the end needs as well.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from peft import PeftConfig
from safetensors.torch import load_file
from torch import Tensor

from accord.errors import first_line
from accord.models import export
from accord.models.base import CONFIG
from accord.models.embedded import without_progress_bars
from accord.models.language import CRITIC, TRAINED, LanguageModel
from accord.models.provenance import Provenance
from accord.types import CheckpointError, Refused


def try_saving(
    model: LanguageModel,
    folder: Path,
    masters: Mapping[str, Tensor],
    made: Provenance = export.UNKNOWN,
) -> None:
    """Save the model into an empty folder and read it back; the caller deletes the folder.

    Args:
      made: what is known of it already; of a sharded base its digest.

    Raises:
      Refused: it cannot be saved, or what was written is not the model.
      OSError: the folder cannot be written.
    """
    try:
        export.save(model, folder, masters, made)
        if model.has_adapters:
            problems = adapter_problems(folder, masters)
        else:
            problems = _whole(model, folder)
    except (OSError, CheckpointError):
        raise
    # whatever transformers, PEFT or safetensors raise for a model that they cannot write or read
    except Exception as error:
        problems = [first_line(error)]
    if problems:
        more = f" ({len(problems)} in all)" if len(problems) > 1 else ""
        raise Refused(
            f"{model.source} cannot be saved, tried before the first update with the code that"
            f" saves it after the last: {problems[0]}{more}.\n{_remedy(model)}"
        )


def _remedy(model: LanguageModel) -> str:
    if model.has_adapters:
        return (
            "Nothing was trained. Name other modules (--set 'model.lora.targets=[q_proj, v_proj]'),"
            " or train all weights (--all-weights)."
        )
    return (
        "Nothing was trained. Load the model with transformers, save it with save_pretrained, and"
        " name that folder as the model: what stands in the way is said there in full. Or train"
        " adapters: leave out --all-weights."
    )


def adapter_problems(folder: Path, masters: Mapping[str, Tensor]) -> list[str]:
    """List what differs between the adapter in memory and its file."""
    stored = load_file(folder / "adapter_model.safetensors")
    trained = {name: m for name, m in masters.items() if not name.startswith(CRITIC)}
    wanted = {_stored_name(name, stored): m.detach().cpu() for name, m in trained.items()}
    config = PeftConfig.from_pretrained(str(folder))
    problems = _differences(wanted, stored)
    if not config.base_model_name_or_path:
        problems.append(f"{CONFIG} does not name the base")
    return problems


def _stored_name(name: str, stored: Collection[str]) -> str:
    """Return the name that PEFT gives a tensor of the trained adapter in its file. DoRA's
    magnitudes have lost their ".weight" there.
    """
    kept = name.replace(f".modules_to_save.{TRAINED}.", ".")
    kept = kept.replace(f".{TRAINED}.", ".").removesuffix(f".{TRAINED}")
    return kept if kept in stored else kept.removesuffix(".weight")


def _whole(model: LanguageModel, folder: Path) -> list[str]:
    """List what differs between the network in memory and the one that loads from its files."""
    import transformers

    with without_progress_bars():
        loaded, info = getattr(transformers, model.auto).from_pretrained(
            folder,
            dtype=model.dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
            **model.load_options,
        )
    strays = [
        f"{kind.replace('_', ' ')} when it is loaded again, such as {sorted(map(str, keys))[0]}"
        for kind, keys in info.items()
        if keys and kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
    ]
    here = {name: tensor.detach().cpu() for name, tensor in model.network.state_dict().items()}
    return strays + _differences(here, loaded.state_dict())


def _differences(wanted: Mapping[str, Tensor], stored: Mapping[str, Tensor]) -> list[str]:
    """List the tensors that are not what they were."""
    problems = [f"{name} is not in the files" for name in wanted if name not in stored]
    for name, tensor in wanted.items():
        if name in stored and not _same(tensor, stored[name]):
            problems.append(f"{name} is read back with other values")
    return problems


def _same(one: Tensor, other: Tensor) -> bool:
    return (
        one.shape == other.shape
        and one.dtype == other.dtype
        and torch.equal(one.nan_to_num(), other.nan_to_num())
    )
