"""Export of trained models, in a layout that transformers and PEFT load; every save is read back
and compared.

A save that computes something else than what was trained (tied embeddings lost, a resized
vocabulary) is found here, not by a user of the model.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor

import accord
from accord.data.tokenizer_digest import tokenizer_digest
from accord.environment.hub.names import MODEL, is_hub, parse
from accord.errors import first_line
from accord.models import fingerprint, provenance
from accord.models.base import CONFIG, NAMES_BASE, base_of, base_weights
from accord.models.embedded import without_progress_bars
from accord.models.language import CRITIC, TRAINED, LanguageModel
from accord.models.provenance import Provenance
from accord.models.quantized import quantize
from accord.types import CheckpointError

# Root mean square difference of the logits, relative to their spread, that reading back may make:
# the same weights in the same dtype through the same kernels. Measured: 0.
READ_BACK = 1e-3
UNKNOWN = Provenance()


def save(
    model: LanguageModel,
    folder: Path,
    masters: Mapping[str, Tensor],
    made: Provenance = UNKNOWN,
    *,
    card: bool = False,
) -> None:
    """Save adapters (as float32 masters) or full weights (in the network's dtype), with tokenizer,
    chat template, and the record of what they were made with.

    Args:
      made: what the caller knows of it; what the model itself shows is added.
      card: let PEFT write its own model card, where no other is written in its place.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with without_progress_bars():
        if model.peft is not None:
            state = adapter_state(model, masters)
            # the base's embeddings are the base's, also where they carry an adapter
            with nullcontext() if card else _without_card(model.peft):
                model.peft.save_pretrained(
                    str(folder),
                    state_dict=state,
                    selected_adapters=[TRAINED],
                    save_embedding_layers=False,
                )
            _name_base(folder, model)
        else:
            model.network.save_pretrained(folder)
        model.tokenizer.save_pretrained(folder)
    provenance.write(folder, record_of(model, made))


@contextmanager
def _without_card(peft: PeftModel) -> Iterator[None]:
    """Keep PEFT from writing a model card of its own: compiling its template takes five times as
    long as the rest of a small adapter's save (.16 of .19 s).
    """
    vars(peft)["create_or_update_model_card"] = lambda folder: None
    try:
        yield
    finally:
        del vars(peft)["create_or_update_model_card"]


def adapter_state(model: LanguageModel, masters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that a save of adapters takes: what trains as its masters have it."""
    assert model.peft is not None, "without adapters all weights are saved"
    trained = {name: m.detach() for name, m in masters.items() if not name.startswith(CRITIC)}
    return {**model.peft.state_dict(), **trained}


def record_of(model: LanguageModel, made: Provenance = UNKNOWN) -> Provenance:
    """Add to a record what the model itself shows: its base, tokenizer and dtype."""
    if model.quantization is not None:
        made = replace(made, quantize=model.quantization.settings.model_dump(mode="json"))
    return replace(
        made if made.base_weights else with_base(model, made),
        base=base_of(model),
        tokenizer=tokenizer_digest(model.tokenizer),
        dtype=name_of(model.dtype),
        accord=accord.__version__,
    )


def with_base(model: LanguageModel, made: Provenance = UNKNOWN) -> Provenance:
    """Add what the base under adapters is; nothing without adapters. Of a sharded base all ranks
    must ask.
    """
    if model.peft is None:
        return made
    config = fingerprint.numbers(model.network)
    return replace(made, base_weights=base_weights(model), base_config=config)


def name_of(dtype: torch.dtype) -> str:
    """Return the name of a dtype, as options take it."""
    return str(dtype).removeprefix("torch.")


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
    `like`; a quantised one is quantised again.
    """
    if not (folder / CONFIG).exists():
        return _load(folder, like, dtype).eval().to(like.device)
    base = load_dense(like, dtype)
    if like.quantization is not None:
        quantize(base, like.quantization.settings, like.source)
    with without_progress_bars():
        # In the network's own dtype: PEFT would otherwise compute float32 adapters on a bf16 base,
        # with other rounding.
        saved = PeftModel.from_pretrained(base, folder, autocast_adapter_dtype=False)
    return saved.eval().to(like.device)


def load_dense(like: LanguageModel, dtype: torch.dtype):
    """Load the network that `like` was made from as it was saved, onto the CPU."""
    return _load(like.folder, like, dtype)


def _load(folder: Path, like: LanguageModel, dtype: torch.dtype):
    import transformers

    with without_progress_bars():
        return getattr(transformers, like.auto).from_pretrained(
            folder, dtype=dtype, use_safetensors=True, trust_remote_code=False, **like.load_options
        )


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
    """Name the folder that the base was loaded from, by its whole path: PEFT looks for it. A base
    of a hub is named as PEFT names one, with its commit.
    """
    file = folder / CONFIG
    config = json.loads(file.read_text("utf-8"))
    base = base_of(model)
    if is_hub(base):
        name = parse(base, MODEL)
        config |= {NAMES_BASE: name.repo, "revision": name.revision}
    else:
        config[NAMES_BASE] = base
    file.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", "utf-8")
