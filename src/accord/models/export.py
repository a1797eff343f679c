"""Saving what was trained, in a layout that transformers and PEFT load; every save is read back and compared.

A save that computes something else than what was trained (tied embeddings lost, a resized vocabulary, a merge that
rounds) is found here, not by a user of the model.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor

from accord.models.embedded import quiet
from accord.models.language import TRAINED, LanguageModel
from accord.types import CheckpointError

# Largest difference of a logit, relative to the spread of the logits, that reading back may make.
READ_BACK = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.05}


def save(model: LanguageModel, folder: Path, masters: Mapping[str, Tensor]) -> None:
    """Adapters (as float32 masters) or full weights (in the network's dtype), with tokenizer and chat template."""
    folder.mkdir(parents=True, exist_ok=True)
    with quiet():
        if model.peft is not None:
            state = {**model.peft.state_dict(), **{name: m.detach() for name, m in masters.items()}}
            model.peft.save_pretrained(folder, state_dict=state, selected_adapters=[TRAINED])
            _name_base(folder, model)
        else:
            model.network.save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)


def read_back(model: LanguageModel, folder: Path, probe: Sequence[Sequence[int]]) -> float:
    """Load `folder` as a stranger would and compare logits on token rows `probe`.

    Returns:
      largest difference of a logit, as a share of the logits' standard deviation.

    Raises:
      CheckpointError: it does not load, or computes something else than the model in memory.
    """
    try:
        saved = load_saved(folder, model)
    except Exception as error:  # whatever transformers or PEFT raise: the save is not usable
        raise CheckpointError(f"{folder} was saved but does not load again: {str(error).splitlines()[0]}") from error
    worst = logits_apart(model.network, saved, probe)
    if not worst <= READ_BACK[model.dtype]:
        raise CheckpointError(
            f"{folder} was saved, but computes other logits than the trained model (apart by {worst:.3g} of their "
            f"spread, allowed {READ_BACK[model.dtype]:g}). Do not use it; the checkpoints hold the trained weights."
        )
    return worst


def load_saved(folder: Path, like: LanguageModel):
    """The saved network, loaded by the public interfaces of transformers and PEFT, in the dtype of `like`."""
    from transformers import AutoModelForCausalLM

    with quiet():
        options = {"dtype": like.dtype, "use_safetensors": True, "trust_remote_code": False}
        if (folder / "adapter_config.json").exists():
            base = AutoModelForCausalLM.from_pretrained(like.folder, **options)
            return PeftModel.from_pretrained(base, folder).eval().to(like.device)
        return AutoModelForCausalLM.from_pretrained(folder, **options).eval().to(like.device)


@torch.no_grad()
def logits_apart(one, other, probe: Sequence[Sequence[int]]) -> float:
    """Largest |difference| of the logits of two networks, over their standard deviation; NaN counts as infinite."""
    worst = 0.0
    for row in probe:
        ids = torch.tensor([list(row)], device=one.device)
        a, b = one(input_ids=ids).logits.float(), other(input_ids=ids).logits.float()
        if a.shape != b.shape:
            return float("inf")
        gap = ((a - b).abs().max() / a.std()).item()
        worst = max(worst, gap if gap == gap else float("inf"))
    return worst


def merge(model: LanguageModel, folder: Path, probe: Sequence[Sequence[int]]) -> float:
    """Write the base with its adapters merged into it, as one model in the base's dtype.

    The sum is made in float32: adding a bf16 update to a bf16 weight would lose its small parts twice. Returns the
    difference of the logits between merged and unmerged, as `read_back` does; raises as it does.
    """
    with quiet():
        peft = copy.deepcopy(model.peft).float()
        merged = peft.merge_and_unload(safe_merge=True, adapter_names=[TRAINED]).to(model.dtype)
        folder.mkdir(parents=True, exist_ok=True)
        merged.save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)
    return read_back(model, folder, probe)


def _name_base(folder: Path, model: LanguageModel) -> None:
    """Name the folder that the base was loaded from: that is what PEFT looks for."""
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    config["base_model_name_or_path"] = str(model.folder)
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
