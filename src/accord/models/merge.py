"""One model of a base and its adapter: the sum, in float32, rounded once, read back and compared.

Two things can go wrong without an error. The sum is not what the adapter computes: tied embeddings
of which one is adapted, a bias without a place. Or rounding undoes the training: where the update
is smaller than the dtype's spacing of the weights, the merged model is the base (PEFT #2018).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel

from accord.compat import adapter_layers
from accord.errors import first_line
from accord.models import fingerprint, provenance
from accord.models.embedded import without_progress_bars
from accord.models.export import UNKNOWN, load_dense, load_saved, logits, name_of, record_of, rms
from accord.models.language import TRAINED, LanguageModel
from accord.models.provenance import Provenance
from accord.models.quantized import dequantize, quantized_layers, words
from accord.types import CheckpointError

# The bases of a merge, where the adapter was trained on a quantised one: that one, dense again, or
# the model as it was saved.
INTO = DEQUANTISED, ORIGINAL = ("dequantised", "original")
# Root mean square difference of the logits, relative to their spread, between the sum in float32
# and base and adapter side by side. Measured over the families of the tests: at most 2e-6.
EXACT = 1e-4
# The share of what the adapter does to the logits that rounding to a smaller dtype may change
# before float32 is the default.
ROUNDING = 0.05
# The share that rounding to a dtype that was asked for may change before it is refused.
MERGE_LOSS = 0.5


@dataclass(frozen=True)
class Merged:
    """The result of a merge."""

    dtype: torch.dtype
    lost: float  # change of the logits, as a share of what the adapter does to them
    notes: tuple[str, ...] = ()  # what the user did not ask for


def merge(
    model: LanguageModel,
    folder: Path,
    probe: Sequence[Sequence[int]],
    dtype: torch.dtype | None = None,
    made: Provenance = UNKNOWN,
    into: str | None = None,
) -> Merged:
    """Write the base with its adapters merged into it, as one model.

    Args:
      dtype: None takes the network's own, or float32 where rounding to it would change more than
        `ROUNDING` of what the adapter does.
      into: of a quantised base, one of `INTO`; None takes the first.

    Raises:
      CheckpointError: the adapter has no exact sum with this base; or rounding to the dtype that
        was asked for undoes more than half of it.
    """
    assert model.peft is not None, "without adapters there is nothing to merge"
    peft, notes = _with_dense_base(model, probe, into)
    _require_places(peft, model.source)
    trained = logits(peft, probe)
    with peft.disable_adapter():
        effect = rms(trained - logits(peft, probe))
    notes += [_UNTIED] if _untie(peft) else []
    merged = _sum(peft, folder, probe, trained)
    chosen = dtype or model.dtype
    if dtype is None and chosen != torch.float32:
        rounded = copy.deepcopy(merged).to(chosen).float()
        lost = _share(rms(logits(rounded, probe) - trained), effect)
        if not lost <= ROUNDING:
            notes.append(_in_float32(chosen, lost))
            chosen = torch.float32
    with without_progress_bars():
        folder.mkdir(parents=True, exist_ok=True)
        merged.to(chosen).save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)
    base = "" if model.quantization is None else into or INTO[0]
    record = replace(record_of(model, made), merged=True, dtype=name_of(chosen), merged_into=base)
    provenance.write(folder, record)
    apart = _read_back(model, folder, probe, trained)
    lost = _share(apart, effect)
    _require_kept(folder, chosen, lost, apart / max(trained.std().item(), 1e-30))
    if dtype is not None and lost > ROUNDING:
        notes.append(
            f"{name_of(dtype)}, as asked for, changes {lost:.0%} of what the adapter does;"
            " --dtype float32 keeps it"
        )
    return Merged(chosen, lost, tuple(notes))


def _with_dense_base(
    model: LanguageModel, probe: Sequence[Sequence[int]], into: str | None
) -> tuple[PeftModel, list[str]]:
    """Copy base and adapters in float32, the base dense; say into which base they are merged, if
    there are two.
    """
    peft = copy.deepcopy(model.peft)
    assert peft is not None, "without adapters there is nothing to merge"
    if model.quantization is None:
        return peft.float(), []
    network: Any = peft.get_base_model()
    how = words(model.quantization.settings)
    dequantize(network)
    peft = peft.float()
    if into != ORIGINAL:
        return peft, [
            f"merged into the dequantised base, which the adapter was trained on ({how}): its"
            " weights are dense again, and those of no other model. --merge-into original takes"
            f" {model.source} as it was saved"
        ]
    trained = logits(peft, probe)
    with peft.disable_adapter():
        effect = rms(trained - logits(peft, probe))
    dense = load_dense(model, torch.float32).state_dict()
    for path, _ in quantized_layers(model.network):
        layer = network.get_submodule(path)
        own = dense[fingerprint.name_in_base(f"{path}.weight")]
        layer.weight.data = own.to(model.dtype).to(layer.weight)
    apart = _share(rms(logits(peft, probe) - trained), effect)
    return peft, [
        f"merged into the original base, while the adapter was trained on it {how}: the logits"
        f" differ from the trained model's by {apart:.0%} of what the adapter does. --merge-into"
        " dequantised gives the trained model"
    ]


_UNTIED = (
    "the base uses one tensor as its embedding and as its head, and the adapter changes the two"
    " uses differently: the merged model has two tensors (tie_word_embeddings: false)"
)


def _in_float32(dtype: torch.dtype, lost: float) -> str:
    asked = f". --dtype {name_of(dtype)} writes that all the same" if lost <= MERGE_LOSS else ""
    return (
        f"written in float32: in {name_of(dtype)} rounding would change {lost:.0%} of what the"
        f" adapter does to the logits (more than {ROUNDING:.0%}){asked}"
    )


def _require_places(peft: PeftModel, source: str) -> None:
    """Check that what the adapter adds has a place in the base.

    Raises:
      CheckpointError: it trains biases (lora_bias) of modules that have none.
    """
    for name, module in peft.named_modules():
        without = getattr(getattr(module, "base_layer", None), "bias", None) is None
        if without and getattr(module, "lora_bias", {}).get(TRAINED):
            place = name.removeprefix("base_model.model.")
            raise CheckpointError(
                f"The adapter cannot be merged into {source}: it trains a bias (lora_bias) of"
                f" {place}, which has none in the base, so a merged model of this architecture has"
                " no place for it.\nUse the adapter as it is: leave out --merge."
            )


def _untie(peft: PeftModel) -> bool:
    """Make two tensors of an embedding and a head that share one, if either carries an adapter:
    each use then gets its own sum.
    """
    network: Any = peft.get_base_model()
    ends = [network.get_input_embeddings(), network.get_output_embeddings()]
    if ends[1] is None or not any(layer in ends for layer in adapter_layers(network)):
        return False
    inner, head = (getattr(end, "base_layer", end) for end in ends)
    if inner.weight is not head.weight:
        return False
    head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
    for config in (network.config, network.config.get_text_config()):
        config.tie_word_embeddings = False
    return True


def _sum(peft: PeftModel, folder: Path, probe: Sequence[Sequence[int]], trained: torch.Tensor):
    """Merge in float32 and compare with base and adapter side by side.

    Raises:
      CheckpointError: they differ, or PEFT cannot merge this adapter.
    """
    try:
        merged = peft.merge_and_unload(safe_merge=True, adapter_names=[TRAINED])
    except (ValueError, RuntimeError, NotImplementedError, AttributeError) as error:
        raise CheckpointError(
            f"{folder}: the adapter cannot be merged: {first_line(error)}\nUse it as it is: leave"
            " out --merge."
        ) from error
    off = rms(logits(merged, probe) - trained) / max(trained.std().item(), 1e-30)
    if not off <= EXACT:
        raise CheckpointError(
            f"{folder}: merged in float32, before any rounding, the model computes other logits"
            f" than base and adapter (apart by {off:.3g} of their spread, allowed {EXACT:g}): this"
            " kind of adapter has no exact sum.\nUse it as it is: leave out --merge."
        )
    return merged


def _share(change: float, effect: float) -> float:
    """Return a change as a share of the effect; an adapter without an effect has nothing to
    lose.
    """
    return change / effect if effect > 0 else 0.0


def _read_back(
    model: LanguageModel, folder: Path, probe: Sequence[Sequence[int]], trained: torch.Tensor
) -> float:
    """Load what was written; return how far its logits are from base and adapter side by side.

    Raises:
      CheckpointError: it does not load.
    """
    try:
        saved = load_saved(folder, model, torch.float32)
    except Exception as error:  # whatever transformers raises: the save is not usable
        raise CheckpointError(
            f"{folder} was merged but does not load again: {first_line(error)}"
        ) from error
    return rms(logits(saved, probe) - trained)


def _require_kept(folder: Path, dtype: torch.dtype, lost: float, apart: float) -> None:
    """Check what the files on disk compute.

    Args:
      lost, apart: their difference from base and adapter, as a share of the adapter's effect, and
        of the spread of the logits.

    Raises:
      CheckpointError: float32 differs at all, or a smaller dtype loses more than half of the
        effect.
    """
    if dtype == torch.float32:
        if not apart <= EXACT:
            raise CheckpointError(
                f"{folder}: the sum in memory is right, but the files compute other logits (apart"
                f" by {apart:.3g} of their spread, allowed {EXACT:g}): this architecture is not"
                " saved as it is.\nUse the adapter as it is: leave out --merge."
            )
    elif not lost <= MERGE_LOSS:
        raise CheckpointError(
            f"{folder}: merged into {name_of(dtype)}, the model loses {lost:.0%} of what the"
            f" adapter does (allowed {MERGE_LOSS:.0%}).\nIts update is smaller than that dtype's"
            " rounding. Merge into float32 (--dtype float32), or use the adapter as it is."
        )
