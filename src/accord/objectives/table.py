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
from accord.objectives.labelled import kto, kto_baseline
from accord.objectives.objective import BoundObjective, Objective
from accord.objectives.options import nearest
from accord.objectives.pairs import beta_log_ratio, cdpo, dpo, hinge, ipo, ipo_reward, robust
from accord.objectives.policy_table import POLICY_OBJECTIVES
from accord.objectives.reference_free import (
    cpo,
    cpo_reward,
    orpo,
    orpo_reward,
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
      name: a name in `OBJECTIVES` or `POLICY_OBJECTIVES`, or "module:function" for one of your own
        (see `accord.objectives.custom`).
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
    known = OBJECTIVES | POLICY_OBJECTIVES
    objective = load_custom(name) if ":" in name else known.get(name)
    if objective is None:
        meant = nearest(name, known, _also_called(known))
        raise UsageError(
            f"there is no objective {name!r}"
            + (f"; did you mean {meant!r}?" if meant else ".")
            + f" Known: {', '.join(known)}. One of your own is 'module:function'."
        )
    return objective.bind(kwargs or {}, allow)


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


def _smoothing(options: dict, meaning: str) -> str:
    share = options["label_smoothing"]
    return f", {100 * share:g} % of labels {meaning}" if share else ", labels taken as true"


def _dpo_convention(options: dict) -> str:
    return (
        f"log-ratios are sums over answer tokens, beta = {options['beta']:g} per nat"
        + _smoothing(options, "taken to be flipped")
    )


def _robust_convention(options: dict) -> str:
    return (
        f"log-ratios are sums over answer tokens, beta = {options['beta']:g} per nat"
        + _smoothing(options, "corrected for as flipped, without bias; losses can be negative")
    )


def _ipo_convention(options: dict) -> str:
    target = 1 / (2 * options["beta"])
    if options["normalize"] == "token_mean":
        return (
            "token_mean: log-ratios are means over answer tokens (the authors' practice), so beta"
            f" = {options['beta']:g} aims at a margin of {target:g} nats per token"
        )
    return (
        "sequence_sum: log-ratios are sums over answer tokens (the paper's text), so beta ="
        f" {options['beta']:g} aims at a margin of {target:g} nats per answer; tools that take"
        " means give beta another meaning"
    )


def _hinge_convention(options: dict) -> str:
    beta = options["beta"]
    return (
        f"log-ratios are sums over answer tokens, beta = {beta:g}: no loss once the margin is"
        f" {1 / beta:g} nats"
    )


def _simpo_convention(options: dict) -> str:
    gamma = simpo_margin(**options)
    beta = options["beta"]
    return (
        f"log-probs are means over answer tokens, beta = {beta:g}, effective margin gamma ="
        f" {gamma:g}, gamma / beta = {gamma / beta:g}; no NLL term, no reference"
    )


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


def _ln2(options: dict) -> float:
    return math.log(2)


def _ipo_at_reference(options: dict) -> float:
    return 1 / (4 * options["beta"] ** 2)


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
    Objective(
        "dpo",
        dpo,
        rows="pairs",
        reference=True,
        reward=beta_log_ratio,
        convention=_dpo_convention,
        learning_rate=2e-4,
        source="Rafailov et al. 2023, arXiv:2305.18290, Eq. 7",
        at_reference=_ln2,
        closed_form=closed_forms.dpo,
        also_called=("sigmoid",),
    ),
    Objective(
        "cdpo",
        cdpo,
        rows="pairs",
        reference=True,
        reward=beta_log_ratio,
        convention=_dpo_convention,
        learning_rate=2e-4,
        source="Mitchell 2023, ericmitchell.ai/cdpo.pdf, Eq. 3",
        at_reference=_ln2,
        closed_form=closed_forms.dpo,
        also_called=("conservative_dpo",),
    ),
    Objective(
        "robust",
        robust,
        rows="pairs",
        reference=True,
        reward=beta_log_ratio,
        convention=_robust_convention,
        learning_rate=2e-4,
        source="Chowdhury et al. 2024, arXiv:2403.00409",
        at_reference=_ln2,
        closed_form=closed_forms.robust,
        also_called=("rdpo", "robust_dpo"),
    ),
    Objective(
        "ipo",
        ipo,
        rows="pairs",
        reference=True,
        reward=ipo_reward,
        convention=_ipo_convention,
        learning_rate=2e-4,
        source="Azar et al. 2023, arXiv:2310.12036, Eq. 17",
        at_reference=_ipo_at_reference,
        closed_form=closed_forms.ipo,
    ),
    Objective(
        "hinge",
        hinge,
        rows="pairs",
        reference=True,
        reward=beta_log_ratio,
        convention=_hinge_convention,
        learning_rate=2e-4,
        source="Zhao et al. 2023, arXiv:2305.10425",
        at_reference=lambda options: 1.0,
        closed_form=closed_forms.hinge,
        also_called=("slic",),
    ),
    Objective(
        "simpo",
        simpo,
        rows="pairs",
        reference=False,
        reward=simpo_reward,
        convention=_simpo_convention,
        learning_rate=4e-4,
        source="Meng et al. 2024, arXiv:2405.14734, Eq. 6",
        complete=simpo_options,
        closed_form=closed_forms.simpo,
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
        at_reference=_kto_at_reference,
        couples_batch=True,
        context=_kto_context,
        closed_form=closed_forms.kto,
        also_called=("kto_pair",),
        batch_size=32,
        batch_reason="KTO needs both labels in a batch: 8 to 128",
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
        needs="scores",
        closed_form=closed_forms.bradley_terry,
        also_called=("reward", "reward_model", "rm"),
    ),
)

OBJECTIVES: dict[str, Objective] = {row.name: row for row in _ROWS}
