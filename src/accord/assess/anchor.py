"""The model to measure against: the same model without its adapters, the one that a run started
from, or one given by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

from accord.assess.opened import OpenModel
from accord.evaluate.probe import KLReference
from accord.forward.choose import Forward, choose, looks_nearby
from accord.forward.reference import AdaptersOff, Frozen, Reference
from accord.models import fingerprint, provenance
from accord.models.language import LanguageModel
from accord.models.load import load
from accord.runs import checkpoint
from accord.types import Tree, UsageError
from accord.verify.preflight import probe


@dataclass(frozen=True)
class EvalReference:
    """A model to measure against, with a description for people."""

    reference: Reference
    says: str

    def start(self, policy: Forward) -> KLReference:
        """Return the model to compare fresh answers with."""
        if isinstance(self.reference, Frozen):
            return KLReference(self.reference.forward, nullcontext)
        return KLReference(policy, policy.model.as_reference)


def choose_eval_forward(model: LanguageModel, trees: Sequence[Tree], wanted: str) -> Forward:
    """Choose the forward path for these rows: try it on a few of them, as training does."""
    shown = probe(list(trees[:64]))
    if looks_nearby(model):
        shown.append(max(trees, key=lambda tree: tree.tokens))
    return choose(model, shown, wanted)


def choose_eval_reference(
    opened: OpenModel, wanted: str | None, policy: Forward, trees: Sequence[Tree]
) -> EvalReference | None:
    """Choose the model to measure against: the one that `--reference` names, or one that the model
    itself brings. Return None for a bare model.

    Args:
      wanted: a model, "adapter_off", or None.

    Raises:
      UsageError: adapter_off without adapters; a model with another vocabulary.
    """
    if wanted == "adapter_off" and not opened.model.has_adapters:
        raise UsageError(
            f"--reference adapter_off: {opened.name} has no adapters. Name the model: --reference"
            " MODEL."
        )
    if wanted in (None, "adapter_off"):
        if opened.model.has_adapters:
            began = (
                "the adapter it started from"
                if opened.model.has_reference_adapter
                else "the model without its adapters"
            )
            return EvalReference(AdaptersOff(policy), began)
        if opened.run is None:
            return None
        wanted = opened.config.model.name
    other = load(
        wanted,
        dtype=str(opened.model.dtype).removeprefix("torch."),
        device=str(opened.model.device),
    )
    _require_same_tokens(opened, other)
    says = f"{wanted}"
    if _is_no_start_of(opened, other):
        says += f", which is not the reference of {opened.name}: the run started from other weights"
    forward = choose_eval_forward(other, trees, opened.config.model.forward)
    return EvalReference(Frozen(replace(forward, columns=policy.columns)), says)


def _is_no_start_of(opened: OpenModel, other: LanguageModel) -> bool:
    """Tell whether a run is known to have started from other weights."""
    if opened.run is None:
        return False
    record = provenance.read(opened.run.path / opened.model.saved_as)
    if record is not None and record.base_weights:
        # what is named here is loaded as it was saved
        quantised = bool(record.quantize)
        return quantised or record.base_weights != fingerprint.base_weights(other.network)
    saved = next(checkpoint.verified_checkpoints(opened.run.checkpoints, []), None)
    if saved is None or opened.model.dtype != other.dtype:
        return False
    then = saved.state["identity"]["initial_weights"]
    return then != fingerprint.weights(other.network)


def _require_same_tokens(opened: OpenModel, other: LanguageModel) -> None:
    """Require that both models use the same token ids.

    Raises:
      UsageError: token ids mean something else to the other model.
    """
    mine, theirs = opened.model.tokenizer.get_vocab(), other.tokenizer.get_vocab()
    if mine != theirs:
        raise UsageError(
            f"--reference {other.source}: its tokenizer has other tokens than {opened.name}'s"
            f" ({len(theirs):,} and {len(mine):,}), so log-probs of the same ids cannot be"
            " compared.\nTo compare answers instead: --against MODEL --judge …"
        )
