"""The table of objectives: a new method is a function and a row here.

The trainer asks a row what it needs (`reference`, `rows`, `denominator`, …) and never which method
it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from accord.objectives import closed_forms
from accord.objectives.custom import load_custom
from accord.objectives.labelled import NO_REWARDS, after_bco, bco, bco_shift, kto, kto_baseline
from accord.objectives.mixture import is_mixture, mixture
from accord.objectives.objective import BoundObjective, Objective, Running
from accord.objectives.options import nearest
from accord.objectives.pair_table import PAIRS_WITH_REFERENCE
from accord.objectives.pairs import beta_log_ratio
from accord.objectives.policy_table import POLICY_OBJECTIVES
from accord.objectives.reference_free import (
    alphapo,
    alphapo_reward,
    cpo,
    cpo_reward,
    orpo,
    orpo_reward,
    simper,
    simper_reward,
    simpo,
    simpo_margin,
    simpo_options,
    simpo_reward,
)
from accord.objectives.reward import bradley_terry, score
from accord.objectives.supervised import mean_log_prob, sft
from accord.types import Logps, UsageError


def resolve(
    name: str, kwargs: Mapping[str, object] | None = None, allow: frozenset[str] = frozenset()
) -> BoundObjective:
    """Return the objective of that name, with its keywords checked and its defaults filled in.

    Args:
      name: a name in `OBJECTIVES` or `POLICY_OBJECTIVES`, "module:function" for one of your own
        (see `accord.objectives.custom`), or a mixture such as "dpo+0.1*sft" (see
        `accord.objectives.mixture`).
      kwargs: the objective's own keyword arguments.
      allow: names of `PERMISSIONS`, for what would otherwise be refused.

    Raises:
      UsageError: a method or keyword is unknown (the message names the nearest), or a value is
        out of bounds.
    """
    if not isinstance(name, str):
        raise UsageError(
            f"objective.name must be a word such as 'dpo', got {name!r}. Known:"
            f" {', '.join(OBJECTIVES)}."
        )
    objective = mixture(name, _find) if is_mixture(name) else _find(name)
    return objective.bind(kwargs or {}, allow)


def _find(name: str) -> Objective:
    """Find the objective of a name that is no mixture's."""
    known = OBJECTIVES | POLICY_OBJECTIVES
    objective = load_custom(name) if ":" in name else known.get(name)
    if objective is None:
        meant = nearest(name, known, _also_called(known))
        raise UsageError(
            f"there is no objective {name!r}"
            + (f"; did you mean {meant!r}?" if meant else ".")
            + f" Known: {', '.join(known)}. One of your own is 'module:function'."
        )
    return objective


def other_methods_option(name: str, row: Objective) -> str | None:
    """Say that an option which a method does not take is one of others; None where it is not."""
    takers = [each.name for each in (OBJECTIVES | POLICY_OBJECTIVES).values() if name in each.kinds]
    if not takers or name in row.kinds:
        return None
    return (
        f"{row.name} does not know the keyword {name!r}, which {' and '.join(takers)}"
        f" {'takes' if len(takers) == 1 else 'take'}. {row.name} accepts:"
        f" {', '.join(row.kinds) or 'no keyword at all'}."
    )


def _also_called(known: Mapping[str, Objective]) -> dict[str, str]:
    """Map other tools' names to ours."""
    return {other: name for name, row in known.items() for other in row.also_called}


# ---------------------------------------------------------------- lines at the start of a run


def _simpo_convention(options: dict) -> str:
    gamma = simpo_margin(**options)
    beta = options["beta"]
    return (
        f"log-probs are means over answer tokens, beta = {beta:g}, effective margin gamma ="
        f" {gamma:g}, gamma / beta = {gamma / beta:g}; no NLL term, no reference"
    )


def _alphapo_convention(options: dict) -> str:
    bent = f"bent by alpha = {options['alpha']:g}" if options["alpha"] else "not bent (alpha = 0)"
    return (
        f"log-probs are means over answer tokens, {bent}, beta = {options['beta']:g}, margin gamma"
        f" = {options['gamma']:g}; no NLL term, no reference"
    )


def _simper_convention(options: dict) -> str:
    return "inverse perplexities (e to the mean over answer tokens); no beta, no reference"


def _orpo_convention(options: dict) -> str:
    return (
        "log-probs are means over answer tokens, NLL of the chosen answer (no prompt tokens) + "
        f"lambda = {options['weight']:g} times the odds-ratio term; no reference"
    )


def _cpo_convention(options: dict) -> str:
    nll = {"token_mean": "mean over its tokens", "sequence_sum": "sum over its tokens"}[
        options["nll_normalize"]
    ]
    return (
        f"log-probs are sums over answer tokens, beta = {options['beta']:g} per nat, + alpha ="
        f" {options['alpha']:g} times the NLL of the chosen answer ({nll}); no reference"
    )


def _kto_convention(options: dict) -> str:
    return (
        f"log-ratios are sums over answer tokens, beta = {options['beta']:g} per nat; baseline z0"
        " from answers to other prompts over the whole batch, at least 0; weights good"
        f" {options['desirable_weight']:g}, bad {options['undesirable_weight']:g}"
    )


def _bco_convention(options: dict) -> str:
    return (
        f"log-ratios are sums over answer tokens, beta = {options['beta']:g} per nat; reward shift"
        " delta half way between the mean rewards of good and of bad answers, over all updates"
        " before; no weights for other prompts (UDM)"
    )


def _sft_convention(options: dict) -> str:
    return (
        "NLL of answer tokens (no prompt tokens), divided by the answer tokens of the whole batch"
    )


def _bradley_terry_convention(options: dict) -> str:
    centred = (
        f", + {options['centering']:g} times the square of their sum"
        if options["centering"]
        else ", not centred"
    )
    rows = (
        "less each row's margin where there is one"
        if options["margin"] == "column"
        else "margins ignored"
    )
    return (
        "scores are read at an answer's last token, its end token included; their difference,"
        f" {rows}{centred}"
    )


# ---------------------------------------------------------------- the rows of the table


def _kto_at_reference(options: dict) -> float | None:
    """Return λ/2 if both labels weigh alike: z0 is exactly 0 there. Otherwise the loss depends on
    the mix of labels.
    """
    good, bad = options["desirable_weight"], options["undesirable_weight"]
    return good / 2 if good == bad else None


def _kto_context(policy: Logps, reference: Logps) -> dict[str, Tensor]:
    return {"z0": kto_baseline(policy, reference)}


# Learning rates: the papers' values for all weights, adapted to LoRA (about ten times) and to small
# batches.
_ROWS = (
    *PAIRS_WITH_REFERENCE,
    Objective(
        "simpo",
        simpo,
        rows="pairs",
        reference=False,
        reward=simpo_reward,
        convention=_simpo_convention,
        learning_rate=4e-4,
        source="Meng et al. 2024, arXiv:2405.14734, Eq. 6",
        when="there is no room for a reference, or length is exploited",
        complete=simpo_options,
        closed_form=closed_forms.simpo,
    ),
    Objective(
        "alphapo",
        alphapo,
        rows="pairs",
        reference=False,
        reward=alphapo_reward,
        convention=_alphapo_convention,
        learning_rate=2e-4,
        source="Gupta et al. 2025, arXiv:2501.03884",
        when="as simpo, with improbable answers weighed more",
        closed_form=closed_forms.alphapo,
    ),
    Objective(
        "simper",
        simper,
        rows="pairs",
        reference=False,
        reward=simper_reward,
        convention=_simper_convention,
        learning_rate=2e-4,
        source="Xiao et al. 2025, arXiv:2502.00883",
        when="as simpo, with nothing to set",
        closed_form=closed_forms.simper,
    ),
    Objective(
        "orpo",
        orpo,
        rows="pairs",
        reference=False,
        reward=orpo_reward,
        convention=_orpo_convention,
        learning_rate=2e-4,
        source="Hong et al. 2024, arXiv:2403.07691, Eqs. 6 and 7",
        when="no SFT yet: imitation and preference in one phase",
        closed_form=closed_forms.orpo,
    ),
    Objective(
        "cpo",
        cpo,
        rows="pairs",
        reference=False,
        reward=cpo_reward,
        convention=_cpo_convention,
        learning_rate=1e-4,
        source="Xu et al. 2024, arXiv:2401.08417, Eq. 3",
        when="no reference, and the chosen answers are worth imitating",
        closed_form=closed_forms.cpo,
    ),
    Objective(
        "kto",
        kto,
        rows="labelled",
        reference=True,
        reward=beta_log_ratio,
        convention=_kto_convention,
        learning_rate=4e-4,
        source="Ethayarajh et al. 2024, arXiv:2402.01306, Eq. 8",
        when="answers marked good or bad, not paired",
        at_reference=_kto_at_reference,
        couples_batch=True,
        context=_kto_context,
        closed_form=closed_forms.kto,
        also_called=("kto_pair",),
        batch_size=32,
        batch_reason="KTO needs both labels in a batch: 8 to 128",
    ),
    Objective(
        "bco",
        bco,
        rows="labelled",
        reference=True,
        reward=beta_log_ratio,
        convention=_bco_convention,
        learning_rate=4e-4,
        source="Jung et al. 2024, arXiv:2404.04656",
        when="as kto, as a classifier: an answer that is told wrongly keeps its slope",
        # before the first update, where the shift is 0
        at_reference=lambda options: math.log(2),
        running=Running(NO_REWARDS, bco_shift, after_bco),
        closed_form=closed_forms.bco,
        also_called=("bce", "binary_classifier"),
        batch_size=32,
        batch_reason="a classifier needs both labels in a batch, as KTO does",
    ),
    Objective(
        "sft",
        sft,
        rows="demonstrations",
        reference=False,
        reward=mean_log_prob,
        convention=_sft_convention,
        learning_rate=2e-4,
        source="Ouyang et al. 2022, arXiv:2203.02155, §3.5",
        when="answers to imitate: the baseline, and the phase before preferences",
        denominator="tokens",
        closed_form=closed_forms.sft,
        also_called=("nll", "supervised"),
    ),
    Objective(
        "bradley_terry",
        bradley_terry,
        rows="pairs",
        reference=False,
        reward=score,
        convention=_bradley_terry_convention,
        learning_rate=2e-4,
        source="Ouyang et al. 2022, arXiv:2203.02155, Eq. 1",
        when="a reward model: scores for policy gradients, for choosing, for filtering",
        needs="scores",
        margins=True,
        closed_form=closed_forms.bradley_terry,
        also_called=("reward", "reward_model", "rm"),
    ),
)

OBJECTIVES: dict[str, Objective] = {row.name: row for row in _ROWS}
