"""The doctor's examinations of models that are saved and loaded: adapters, whole models, and reward
models.
"""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from transformers import PreTrainedModel

from accord.engine.optimizer import Optimizer
from accord.engine.step import UpdateContext, accumulate, make_batch
from accord.forward.scores import oracle_scores
from accord.models import export
from accord.models.load import load
from accord.models.lora import add_lora, train_all_weights
from accord.models.reward import load_reward_model, with_score_head
from accord.objectives import resolve
from accord.types import Finding, Tree
from accord.verify import tiny
from accord.verify.step0 import prove

REPORT = "report this with your versions"


def save_and_read_back(
    network: PreTrainedModel,
    trees: list[Tree],
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
) -> Finding:
    """Save adapters and a whole model after an update; load them with transformers and PEFT."""
    made = tiny.model_of(network, device, dtype)
    base = folder / "base"
    export.save(made, base, {})
    apart = {}
    for name in ("LoRA", "all weights"):
        model = load(str(base), dtype=str(dtype).removeprefix("torch."), device=str(device))
        if name == "LoRA":
            add_lora(model, rank=4, alpha=8, targets="attention", dropout=0.0, dora=False, seed=0)
        else:
            train_all_weights(model)
        learner, optimizer = tiny.learner_of(model, resolve("dpo"), trees)
        _update(learner, optimizer, trees)
        target = folder / name.replace(" ", "-")
        export.save(model, target, optimizer.masters.masters)
        probe = [(*tree.prompt, *tree.completions[0]) for tree in trees]
        apart[name] = export.read_back(model, target, probe)
    said = ", ".join(f"{name} {gap:.1e}" for name, gap in apart.items())
    says = f"saved and loaded by transformers and PEFT: logits apart by {said} of their spread"
    return Finding("", "ok", says, apart)


def reward_model(
    network: PreTrainedModel,
    trees: list[Tree],
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
) -> Finding:
    """Make the proofs of a run and one update with a reward model; save it, and check that it loads
    with the same scores.
    """
    model = with_score_head(tiny.model_of(network, device, dtype), 0)
    train_all_weights(model)
    learner, optimizer = tiny.learner_of(model, resolve("bradley_terry"), trees)
    found = prove(learner, optimizer, trees, exact=True)
    if bad := [finding for finding in found if finding.refused]:
        says = "; ".join(f"{finding.check}: {finding.says}" for finding in bad)
        return Finding("", "refused", says, {f.check: f.evidence for f in bad}, bad[0].remedy)
    _update(learner, optimizer, trees)
    export.save(model, folder, optimizer.masters.masters)
    again = load_reward_model(
        str(folder), dtype=str(dtype).removeprefix("torch."), device=str(device)
    )
    # A loaded weight lies at a multiple of 8 bytes as in the file, torch's own at a multiple of 64.
    # Some kernels then add in another order: 1.5e-7 of the spread in float32, with the same
    # weights.
    again.network = copy.deepcopy(again.network)
    with torch.no_grad():
        here, there = (oracle_scores(m, trees).values for m in (model, again))
    gap = export.rms(here - there) / max(here.std().item(), 1e-30)
    says = (
        f"{len(found)} proofs hold; saved and read back, scores apart by {gap:.1e} of their spread"
    )
    if not gap <= export.READ_BACK:
        says = f"saved, it gives other scores than in memory: apart by {gap:.3g} of their spread"
        return Finding("", "refused", says, {"apart": gap}, REPORT)
    return Finding("", "ok", says, {finding.check: finding.evidence for finding in found})


def _update(learner: UpdateContext, optimizer: Optimizer, trees: list[Tree]) -> None:
    accumulate(learner, make_batch(learner, 0, trees), optimizer.masters)
    optimizer.update(0, optimizer.grad_norm())
