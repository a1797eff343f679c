"""Export of trained models, in a layout that transformers and PEFT load; every save is read back
and compared.

A save that computes something else than what was trained (tied embeddings lost, a resized
vocabulary, a merge that rounds) is found here, not by a user of the model.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor

from accord.errors import first_line
from accord.models.embedded import without_progress_bars
from accord.models.language import CRITIC, TRAINED, LanguageModel
from accord.types import CheckpointError

# Root mean square difference of the logits, relative to their spread, that reading back may make:
# the same weights in the same dtype through the same kernels. Measured: 0.
READ_BACK = 1e-3
# A merge rounds the sum to the base's dtype. It may lose this share of what the adapter does to the
# logits.
MERGE_LOSS = 0.5


def save(model: LanguageModel, folder: Path, masters: Mapping[str, Tensor]) -> None:
    """Save adapters (as float32 masters) or full weights (in the network's dtype), with tokenizer
    and chat template.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with without_progress_bars():
        if model.peft is not None:
            trained = {
                name: m.detach() for name, m in masters.items() if not name.startswith(CRITIC)
            }
            state = {**model.peft.state_dict(), **trained}
            model.peft.save_pretrained(str(folder), state_dict=state, selected_adapters=[TRAINED])
            _name_base(folder, model)
        else:
            model.network.save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)


def read_back(model: LanguageModel, folder: Path, probe: Sequence[Sequence[int]]) -> float:
    """Load `folder` as a stranger would and compare logits on token rows `probe`.

    Returns:
      root mean square difference of the logits, as a share of their standard deviation.

    Raises:
      CheckpointError: it does not load, or computes something else than the model in memory.
    """
    try:
        saved = load_saved(folder, model, model.dtype)
    except Exception as error:  # whatever transformers or PEFT raise: the save is not usable
        raise CheckpointError(
            f"{folder} was saved but does not load again: {first_line(error)}"
        ) from error
    trained, loaded = logits(model.network, probe), logits(saved, probe)
    apart = (
        rms(trained - loaded) / trained.std().item()
        if trained.shape == loaded.shape
        else float("inf")
    )
    if not apart <= READ_BACK:
        raise CheckpointError(
            f"{folder} was saved, but computes other logits than the trained model (apart by"
            f" {apart:.3g} of their spread, allowed {READ_BACK:g}). Do not use it; the checkpoints"
            " hold the trained weights."
        )
    return apart


def load_saved(folder: Path, like: LanguageModel, dtype: torch.dtype):
    """Load the saved network by the public interfaces of transformers and PEFT, on the base of
    `like`.
    """
    import transformers

    auto = getattr(transformers, like.auto)
    with without_progress_bars():
        options = {
            "dtype": dtype,
            "use_safetensors": True,
            "trust_remote_code": False,
            **like.load_options,
        }
        if (folder / "adapter_config.json").exists():
            base = auto.from_pretrained(like.folder, **options)
            # In the network's own dtype: PEFT would otherwise compute float32 adapters on a bf16
            # base, with other rounding.
            return (
                PeftModel.from_pretrained(base, folder, autocast_adapter_dtype=False)
                .eval()
                .to(like.device)
            )
        return auto.from_pretrained(folder, **options).eval().to(like.device)


def merge(
    model: LanguageModel, folder: Path, probe: Sequence[Sequence[int]], dtype: torch.dtype
) -> float:
    """Write the base with its adapters merged into it, as one model in `dtype`.

    The sum is made in float32 and rounded once. The merged model is read back and compared, in
    float32, with the unmerged one: where the update is smaller than the dtype's rounding of the
    weights, a merge silently undoes the training (PEFT #2018).

    Returns:
      root mean square change of the logits, as a share of what the adapter does to them.

    Raises:
      CheckpointError: the merge lost more than half of it.
    """
    assert model.peft is not None, "without adapters there is nothing to merge"
    with without_progress_bars():
        peft = copy.deepcopy(model.peft).float()
        trained = logits(peft, probe)
        with peft.disable_adapter():
            untrained = logits(peft, probe)
        merged = peft.merge_and_unload(safe_merge=True, adapter_names=[TRAINED]).to(dtype)
        folder.mkdir(parents=True, exist_ok=True)
        merged.save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)
    lost = rms(logits(load_saved(folder, model, torch.float32), probe) - trained) / max(
        rms(trained - untrained), 1e-30
    )
    if not lost <= MERGE_LOSS:
        raise CheckpointError(
            f"{folder}: merged into {str(dtype).removeprefix('torch.')}, the model loses {lost:.0%}"
            f" of what the adapter does (allowed {MERGE_LOSS:.0%}).\nIts update is smaller than"
            " that dtype's rounding. Merge into float32 (--dtype float32), or use the adapter as"
            " it is."
        )
    return lost


@torch.no_grad()
def logits(network, probe: Sequence[Sequence[int]]) -> Tensor:
    """Compute all logits of some token rows, one row after the other, float32."""
    rows = (torch.tensor([list(row)], device=network.device) for row in probe)
    found = (network(input_ids=ids, use_cache=False).logits for ids in rows)
    return torch.cat([one.float().flatten() for one in found])


def rms(values: Tensor) -> float:
    """Compute the root mean square; infinite where something is not finite."""
    mean = values.square().mean().sqrt().item()
    return mean if mean == mean else float("inf")


def _name_base(folder: Path, model: LanguageModel) -> None:
    """Name the folder that the base was loaded from: PEFT looks for it."""
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    config["base_model_name_or_path"] = str(model.folder)
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
