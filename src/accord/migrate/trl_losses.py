"""The losses of TRL's DPO and CPO trainers, and what they are here. Axolotl trains through them.

Read in the sources of trl 1.16.0 (dpo_trainer.py, experimental/cpo/cpo_trainer.py), and of 1.9.0,
which Axolotl 0.19.0 takes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
SMOOTHED = ("robust", "exo_pair")  # the others do not look at label_smoothing

# f_divergence_type -> f_dpo's divergence
DIVERGENCES = {"forward_kl": "forward_kl", "js_divergence": "js", "alpha_divergence": "alpha"}

NLL = (
    "{tool} averages the NLL over the chosen tokens of each micro-batch, accord each row's over its"
    " own tokens: the same for answers of one length"
)
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


def one_loss(tool: str, losses: Any, weights: Any) -> tuple[str, float | None]:
    """Read a list of losses and their weights: one loss, or DPO with an NLL term.

    Returns:
      the loss, and the weight of the NLL term; None where there is none.

    Raises:
      UsageError: several losses that are no objective here, or weights that are not one for each.
    """
    if not isinstance(losses, list):
        return str(losses), None
    if weights is not None and (not isinstance(weights, list) or len(weights) != len(losses)):
        raise UsageError(
            f"loss_weights = {weights!r:.60}: {tool} wants a number for each of {losses!r:.60}."
        )
    scales = [number(one) for one in weights] if weights else [1.0] * len(losses)
    by_loss: dict[str, float] = dict(zip(map(str, losses), scales, strict=True))
    if len(losses) == 1 and scales == [1.0]:
        return str(losses[0]), None
    if len(losses) == 2 and set(by_loss) == {"sigmoid", "sft"} and by_loss["sigmoid"] == 1:
        return "sigmoid", by_loss["sft"]
    raise no_such_loss(tool, _several(losses, weights))


def _several(losses: Sequence, weights: Sequence | None) -> str:
    weighed = f" with loss_weights {weights}" if weights else ""
    return f"{', '.join(map(str, losses))}{weighed}"


def of_dpo_trainer(tool: str, losses: Any, weights: Any) -> tuple[str, Found]:
    """Find what DPOTrainer's losses are here: the first of them, and the objective of all.

    Raises:
      UsageError: accord has no such objective.
    """
    loss, nll = one_loss(tool, losses, weights)
    if loss not in DPO_LOSSES:
        raise no_such_loss(tool, loss)
    name = DPO_LOSSES[loss]
    return loss, with_nll(tool, loss, nll) if nll else Found(name, {}, NOTES.get(name, ""))


def smoothing_options(
    reading: Reading, key: str, smoothing: float, loss: str, where: str
) -> dict[str, tuple[str, float]]:
    """Map the label smoothing of DPOTrainer's losses, of which two look at it; say what became of
    it.
    """
    if loss not in SMOOTHED:
        common.ignored_smoothing(reading, key, smoothing, where, DPO_LOSSES[loss])
        return {}
    if loss == "exo_pair" and not smoothing:
        reading.say(
            "to do", key, "TRL refuses exo_pair without one; here the paper's stands, 0.001"
        )
        return {}
    return {"label_smoothing": (key, smoothing)}


def with_nll(tool: str, loss: str, alpha: float) -> Found:
    """Find DPO with α times the NLL of the chosen answer.

    Raises:
      UsageError: the loss is another than DPO's, which has no such term here.
    """
    if loss != "sigmoid":
        raise no_such_loss(tool, f"{loss} with an NLL term")
    return Found("rpo", {"alpha": alpha}, NLL.format(tool=tool))


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
