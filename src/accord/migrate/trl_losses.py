"""The losses of TRL's DPO and CPO trainers, and what they are here. Axolotl trains through them.

Read in the sources of trl 1.16.0 (dpo_trainer.py, experimental/cpo/cpo_trainer.py), and of 1.9.0,
which Axolotl 0.19.0 takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from accord.config.objective_list import split_terms, written
from accord.errors import UsageError
from accord.migrate import common
from accord.migrate.reading import Reading, no_such_loss, number

# loss_type of DPOTrainer -> objective
DPO_LOSSES = {
    "sigmoid": "dpo",
    "hinge": "hinge",
    "ipo": "ipo",
    "robust": "robust",
    "exo_pair": "exo",
    "nca_pair": "nca",
    "sppo_hard": "sppo_hard",
    "apo_zero": "apo_zero",
    "apo_down": "apo_down",
    "sigmoid_norm": "dpo_norm",
}
# losses that look like one of ours -> why they are not
NOT_OURS = {
    "bco_pair": (
        "TRL 1.16's bco_pair compares each answer of a pair with a reward of 0, without BCO's"
        " shift; accord's bco has the shift, and takes pairs as labelled answers: --method bco."
    )
}
SMOOTHED = ("robust", "exo_pair")  # the others do not look at label_smoothing

# f_divergence_type -> f_dpo's divergence
DIVERGENCES = {"forward_kl": "forward_kl", "js_divergence": "js", "alpha_divergence": "alpha"}

NLL = (
    "{tool} averages the NLL over the chosen tokens of each micro-batch, accord each row's over its"
    " own tokens: the same for answers of one length"
)
MIXED_NLL = (
    "{tool} averages the NLL over the chosen tokens of each micro-batch, accord over those of the"
    " whole batch: the same where a batch is one micro-batch"
)
WPO = (
    "the product of both weights is not cut off: TRL up to 0.28 cut it at 1, from 0.29 on it does"
    " not"
)
LD = "the tokens past the shorter answer's length weigh alpha, in policy and reference, in both"
NOTES = {
    "ipo": "TRL divides log-ratios by the answers' lengths, as accord's normalize: token_mean does",
    "dpo_norm": "TRL's default of beta is 0.1, made for sums; of means it is about 5",
    "exo": "label_smoothing is EXO's ε in both",
    "forward_kl": "TRL's rewards are beta times the log-ratio, accord's on the divergence's scale",
    "alpha": (
        "TRL's coefficient is the exponent plus 1: accord's alpha is 1 less it. TRL cuts the"
        " exponent off at 80, where the gradient is 0; accord goes on by the tangent from 30"
    ),
}


@dataclass(frozen=True)
class Found:
    """An objective, with its options in numbers or words, and what differs."""

    name: str
    options: Mapping[str, float | str]
    note: str = ""
    # of a mixture: loss_type -> objective, of each part that has options
    parts: Mapping[str, str] = field(default_factory=dict)

    def of_each(self, options: dict[str, tuple[str, Any]]) -> dict[str, tuple[str, Any]]:
        """Return options that the tool gives to every loss, by their paths under `objective`."""
        if not self.parts:
            return options
        return {
            f"{part}.{option}": value
            for part in self.parts.values()
            for option, value in options.items()
        }

    def path(self, loss: str, option: str) -> str:
        """Return the path of an option of one of the losses."""
        return f"{self.parts[loss]}.{option}" if self.parts else option


def weighed_losses(tool: str, losses: Any, weights: Any) -> dict[str, float]:
    """Read a list of losses and their weights, or the name of one.

    Raises:
      UsageError: a loss is there twice, weights are not one for each, or not above 0.
    """
    losses = losses if isinstance(losses, list) else [losses]
    if weights is not None and (not isinstance(weights, list) or len(weights) != len(losses)):
        raise UsageError(
            f"loss_weights = {weights!r:.60}: {tool} wants a number for each of {losses!r:.60}."
        )
    scales = [number(one) for one in weights] if weights else [1.0] * len(losses)
    by_loss: dict[str, float] = dict(zip(map(str, losses), scales, strict=True))
    alone = len(losses) == 1 and scales != [1.0]
    if not losses or alone or len(by_loss) < len(losses) or not all(s > 0 for s in scales):
        raise no_such_loss(tool, _several(losses, weights))
    return by_loss


def _several(losses: Sequence, weights: Sequence | None) -> str:
    weighed = f" with loss_weights {weights}" if weights else ""
    return f"{', '.join(map(str, losses))}{weighed}"


def of_dpo_trainer(tool: str, losses: Any, weights: Any) -> tuple[tuple[str, ...], Found]:
    """Find what DPOTrainer's losses are here: their names, and the objective of all.

    Raises:
      UsageError: accord has no such objective.
    """
    by_loss = weighed_losses(tool, losses, weights)
    names = tuple(by_loss)
    parts = {loss: DPO_LOSSES[loss] for loss in names if loss in DPO_LOSSES}
    if len(names) == 1 and parts:
        name = parts[names[0]]
        return names, Found(name, {}, NOTES.get(name, ""))
    if strange := [loss for loss in names if loss not in {*DPO_LOSSES, "sft"}]:
        raise no_such_loss(tool, strange[0], NOT_OURS.get(strange[0], ""))
    if not parts:
        raise no_such_loss(tool, "sft, which its own trainer has")
    terms = (
        ("" if weight == 1 else f"{written(weight)}*") + parts.get(loss, loss)
        for loss, weight in by_loss.items()
    )
    notes = [NOTES[part] for part in parts.values() if part in NOTES]
    if "sft" in names:
        notes.insert(0, MIXED_NLL.format(tool=tool))
    return names, Found("+".join(terms), {}, "; ".join(notes), parts)


def weighed_by_policy(tool: str, found: Found) -> Found:
    """Find what WPO's weights make of an objective.

    Raises:
      UsageError: an NLL term is weighed too, or not: accord weighs pairs.
    """
    if found.name == "rpo" or "sft" in found.name:
        raise no_such_loss(tool, f"{found.name} with WPO's weights")
    terms = (term.rpartition("*") for term in split_terms(found.name))
    name = "+".join(f"{weight}{star}wpo*{part}" for weight, star, part in terms)
    note = "; ".join(filter(None, (found.note, WPO)))
    return replace(found, name="wpo" if name == "wpo*dpo" else name, note=note)


def smoothing_options(
    reading: Reading, key: str, smoothing: float, losses: Sequence[str], found: Found, where: str
) -> dict[str, tuple[str, float]]:
    """Map the label smoothing of DPOTrainer's losses, of which two look at it; say what became of
    it.
    """
    smoothed = [loss for loss in losses if loss in SMOOTHED]
    if not smoothed:
        name = found.name if found.parts else DPO_LOSSES[losses[0]]
        common.ignored_smoothing(reading, key, smoothing, where, name)
        return {}
    options = {}
    for loss in smoothed:
        if loss == "exo_pair" and not smoothing:
            reading.say(
                "to do", key, "TRL refuses exo_pair without one; here the paper's stands, 0.001"
            )
        else:
            options[found.path(loss, "label_smoothing")] = (key, smoothing)
    return options


def with_nll(tool: str, loss: str, alpha: float) -> Found:
    """Find DPO with α times the NLL of the chosen answer.

    Raises:
      UsageError: the loss is another than DPO's, which has no such term here.
    """
    if loss != "sigmoid":
        raise no_such_loss(tool, f"{loss} with an NLL term")
    return Found("rpo", {"alpha": alpha}, NLL.format(tool=tool))


def with_rest_weighed(loss: str, found: Found, alpha: float) -> Found:
    """Find DPO with the tokens past the shorter answer's length weighed by α.

    Raises:
      UsageError: the loss is another than DPO's, which weighs no tokens here.
    """
    if loss != "sigmoid" or found.name != "dpo" or not 0 <= alpha <= 1:
        raise no_such_loss("TRL", f"{found.name} with ld_alpha {alpha:g}")
    return Found("ld_dpo", {"alpha": alpha}, LD)


def with_divergence(loss: str, divergence: str, coefficient: float) -> Found:
    """Find DPO under another divergence than reverse KL.

    Raises:
      UsageError: the loss is another than DPO's, or the coefficient has no equivalent.
    """
    name = DIVERGENCES.get(divergence)
    if loss != "sigmoid" or name is None:
        raise no_such_loss("TRL", f"{loss} with f_divergence_type {divergence}")
    if name != "alpha":
        return Found("f_dpo", {"divergence": name}, NOTES["forward_kl"])
    if coefficient == 1:
        return Found("dpo", {}, "of order 1 - 1 = 0 the divergence is reverse KL")
    if coefficient == 0:
        return Found("f_dpo", {"divergence": "forward_kl"}, NOTES["forward_kl"])
    if not 0 < coefficient < 1:
        raise no_such_loss("TRL", f"f_alpha_divergence_coef {coefficient:g}")
    return Found("f_dpo", {"divergence": "alpha", "alpha": 1 - coefficient}, NOTES["alpha"])
