"""The rows of the table for objectives of pairs that are measured against a reference.

A new one is a function (pairs.py, anchored.py, lengths.py, divergences.py or targets.py), its
closed form, and a row here with the line that a run says at its start.
"""

from __future__ import annotations

import math
from functools import partial

from accord.objectives import closed_forms
from accord.objectives.anchored import apo_down, apo_zero, cal_dpo, dpop, nca, rpo, sppo_hard
from accord.objectives.divergences import chipo, chipo_reward, f_dpo, f_dpo_options, f_dpo_reward
from accord.objectives.lengths import dpo_norm, dpo_norm_reward, ld_dpo, ld_dpo_reward, r_dpo
from accord.objectives.objective import Objective
from accord.objectives.pairs import beta_log_ratio, cdpo, dpo, hinge, ipo, ipo_reward, robust
from accord.objectives.targets import dpo_shift, exo, odpo
from accord.objectives.weighting import weighed_form, weighed_in_words, wpo

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


def _sums(options: dict) -> str:
    return f"log-ratios are sums over answer tokens, beta = {options['beta']:g} per nat"


def _rpo_convention(options: dict) -> str:
    return (
        f"{_sums(options)}, + alpha = {options['alpha']:g} times the NLL of the chosen answer (mean"
        " over its own tokens, no prompt tokens)"
    )


def _dpop_convention(options: dict) -> str:
    return (
        f"{_sums(options)}; a chosen answer under the reference takes {options['penalty']:g} times"
        " its fall off the margin"
    )


def _anchored_convention(options: dict) -> str:
    return f"{_sums(options)}; each answer counts by its own log-ratio"


def _down_convention(options: dict) -> str:
    return f"{_sums(options)}; both answers are lowered, the rejected one further"


def _squares_convention(options: dict) -> str:
    target = 1 / (2 * options["beta"])
    return (
        f"log-ratios are sums over answer tokens, beta = {options['beta']:g} aims at {target:g}"
        f" nats for the chosen answer and -{target:g} for the rejected one"
    )


def _cal_convention(options: dict) -> str:
    return f"{_squares_convention(options)}, + DPO's loss at a beta of 1"


def _exo_convention(options: dict) -> str:
    share = options["label_smoothing"]
    rest = math.log1p(-share) - math.log(share)
    return (
        f"{_sums(options)}; {100 * share:g} % of labels taken to be flipped, so it aims at a margin"
        f" of {rest / options['beta']:g} nats"
    )


def _norm_convention(options: dict) -> str:
    return (
        f"log-ratios are means over answer tokens, beta = {options['beta']:g} per nat-per-token; no"
        " target margin"
    )


def _r_convention(options: dict) -> str:
    return f"{_sums(options)}; a token costs alpha = {options['alpha']:g} of the reward"


def _ld_convention(options: dict) -> str:
    return (
        f"{_sums(options)}; tokens past the shorter answer's length weigh alpha ="
        f" {options['alpha']:g}"
    )


def _wpo_convention(options: dict) -> str:
    return weighed_in_words(_dpo_convention(options))


def _f_convention(options: dict) -> str:
    order = f" of order {options['alpha']:g}" if options["divergence"] == "alpha" else ""
    return (
        f"{_sums(options)}, on the scale of the divergence {options['divergence']}{order}; rewards"
        " are on that scale too"
    )


def _chi_convention(options: dict) -> str:
    return (
        f"{_sums(options)}, on the scale of chi-squared and KL; the margin is clipped at"
        f" {2 * options['limit']:g}, and a pair past it has no gradient"
    )


def _shift_convention(options: dict) -> str:
    return f"{_sums(options)}; the rejected answer's log-ratio counts {options['shift']:g} times"


def _offset_convention(options: dict) -> str:
    what = {"log": "the logarithm of the row's margin", "column": "the row's margin"}
    return (
        f"{_sums(options)}; less {options['alpha']:g} times {what[options['margin']]}, 0 where the"
        " file has none"
    )


# ---------------------------------------------------------------- the rows of the table


def _ln2(options: dict) -> float:
    return math.log(2)


def _one(options: dict) -> float:
    return 1.0


def _unfixed(options: dict) -> None:
    return None


def _ipo_at_reference(options: dict) -> float:
    return 1 / (4 * options["beta"] ** 2)


def _squares_at_reference(options: dict) -> float:
    return 1 / (2 * options["beta"] ** 2)


def _exo_at_reference(options: dict) -> float:
    share = options["label_smoothing"]
    return -math.log(4 * share * (1 - share)) / 2


# Rates: measured for dpo. Those of the newer rows are dpo's until they are measured.
_pair = partial(
    Objective,
    rows="pairs",
    reference=True,
    reward=beta_log_ratio,
    learning_rate=2e-4,
    at_reference=_ln2,
)

PAIRS_WITH_REFERENCE = (
    _pair(
        "dpo",
        dpo,
        convention=_dpo_convention,
        source="Rafailov et al. 2023, arXiv:2305.18290, Eq. 7",
        when="the default for pairs, after SFT",
        closed_form=closed_forms.dpo,
        also_called=("sigmoid",),
    ),
    _pair(
        "cdpo",
        cdpo,
        convention=_dpo_convention,
        source="Mitchell 2023, ericmitchell.ai/cdpo.pdf, Eq. 3",
        when="a share of the labels is flipped: it stops at a finite margin",
        closed_form=closed_forms.dpo,
        also_called=("conservative_dpo",),
    ),
    _pair(
        "robust",
        robust,
        convention=_robust_convention,
        source="Chowdhury et al. 2024, arXiv:2403.00409",
        when="a share of the labels is flipped: unbiased, with more variance",
        closed_form=closed_forms.robust,
        also_called=("rdpo", "robust_dpo"),
    ),
    _pair(
        "ipo",
        ipo,
        convention=_ipo_convention,
        source="Azar et al. 2023, arXiv:2310.12036, Eq. 17",
        when="labels are all but certain, and dpo drives the answers apart without end",
        closed_form=closed_forms.ipo,
        reward=ipo_reward,
        at_reference=_ipo_at_reference,
    ),
    _pair(
        "hinge",
        hinge,
        convention=_hinge_convention,
        source="Zhao et al. 2023, arXiv:2305.10425",
        when="a pair that is won by enough should not count any more",
        closed_form=closed_forms.hinge,
        at_reference=_one,
        also_called=("slic",),
    ),
    _pair(
        "rpo",
        rpo,
        convention=_rpo_convention,
        source="Pang et al. 2024, arXiv:2404.19733, Eq. 1",
        when="the chosen log-prob falls, and the chosen answers are worth imitating",
        holds="pulls the chosen answer up by alpha / its tokens, wherever both answers stand",
        closed_form=closed_forms.rpo,
        at_reference=_unfixed,
        also_called=("dpo_nll", "dpo_sft", "irpo"),
    ),
    _pair(
        "dpop",
        dpop,
        convention=_dpop_convention,
        source="Pal et al. 2024, arXiv:2402.13228, Eq. 3",
        when="the chosen log-prob falls: the two answers differ in a few tokens",
        holds=(
            "pulls a chosen answer under the reference at least 1 + penalty times as strongly as"
            " dpo"
        ),
        closed_form=closed_forms.dpop,
        also_called=("dpo_positive", "smaug"),
    ),
    _pair(
        "apo_zero",
        apo_zero,
        convention=_anchored_convention,
        source="D'Oosterlinck et al. 2024, arXiv:2408.06266, Eq. 7",
        when="the chosen answers are better than the model's own",
        holds="raises the chosen answer whatever the rejected one does, less the further it falls",
        closed_form=closed_forms.apo_zero,
        at_reference=_one,
        also_called=("apo",),
    ),
    _pair(
        "apo_down",
        apo_down,
        convention=_down_convention,
        source="D'Oosterlinck et al. 2024, arXiv:2408.06266, Eq. 8",
        when="even the chosen answers are worse than the model's own",
        closed_form=closed_forms.apo_down,
        at_reference=_one,
    ),
    _pair(
        "nca",
        nca,
        convention=_anchored_convention,
        source="Chen et al. 2024, arXiv:2402.05369",
        when="the chosen log-prob should rest a little above the reference's",
        holds=(
            "pulls the chosen answer to ln 2 / beta nats over the reference, whatever the"
            " rejected one does"
        ),
        closed_form=closed_forms.nca,
        at_reference=lambda options: 2 * math.log(2),
        also_called=("nca_pair",),
    ),
    _pair(
        "sppo_hard",
        sppo_hard,
        convention=_squares_convention,
        source="Wu et al. 2024, arXiv:2405.00675, Eq. 4.7",
        when="each answer should come to rest at a log-ratio of its own",
        holds=(
            "pulls the chosen answer to 1 / (2 beta) nats over the reference, the harder the"
            " further it is"
        ),
        closed_form=closed_forms.sppo_hard,
        at_reference=_squares_at_reference,
        also_called=("sppo",),
    ),
    _pair(
        "cal_dpo",
        cal_dpo,
        convention=_cal_convention,
        source="Xiao et al. 2024, arXiv:2412.14516",
        when="as sppo_hard, with dpo's comparison beside it",
        holds=(
            "pulls the chosen answer to 1 / (2 beta) nats over the reference, and compares"
            " as dpo does"
        ),
        closed_form=closed_forms.cal_dpo,
        at_reference=lambda options: math.log(2) + _squares_at_reference(options),
        also_called=("caldpo",),
    ),
    _pair(
        "exo",
        exo,
        convention=_exo_convention,
        source="Ji et al. 2024, arXiv:2402.00856, Eq. 16",
        when="the policy should settle on one kind of answer and give up hopeless pairs",
        closed_form=closed_forms.exo,
        at_reference=_exo_at_reference,
        also_called=("exo_pair",),
    ),
    _pair(
        "dpo_norm",
        dpo_norm,
        convention=_norm_convention,
        source="Lambert et al. 2024, arXiv:2411.15124, §5",
        when="answers differ much in length, and there is a reference",
        closed_form=closed_forms.dpo_norm,
        reward=dpo_norm_reward,
        also_called=("sigmoid_norm", "length_normalized_dpo", "ln_dpo"),
    ),
    _pair(
        "r_dpo",
        r_dpo,
        convention=_r_convention,
        source="Park et al. 2024, arXiv:2403.19159",
        when="longer answers win by their length: a price on each token",
        closed_form=closed_forms.r_dpo,
        at_reference=lambda options: None if options["alpha"] else math.log(2),
    ),
    _pair(
        "ld_dpo",
        ld_dpo,
        convention=_ld_convention,
        source="Liu et al. 2024, arXiv:2409.06411",
        when="longer answers win by their length: tokens past the shorter one weigh less",
        closed_form=closed_forms.ld_dpo,
        reward=ld_dpo_reward,
        columns=frozenset({"shared"}),
        also_called=("lddpo",),
    ),
    _pair(
        "wpo",
        wpo,
        convention=_wpo_convention,
        source="Zhou et al. 2024, arXiv:2406.11827, Eq. 2",
        when="answers of other models: likely ones count more (wpo*ipo weighs ipo)",
        closed_form=weighed_form(closed_forms.dpo),
        columns=frozenset({"collision"}),
        at_reference=lambda options: None,
    ),
    _pair(
        "f_dpo",
        f_dpo,
        convention=_f_convention,
        source="Wang et al. 2023, arXiv:2309.16240",
        when="another divergence from the reference than reverse KL is wanted",
        closed_form=closed_forms.f_dpo,
        reward=f_dpo_reward,
        complete=f_dpo_options,
        also_called=("fdpo", "js_dpo"),
    ),
    _pair(
        "chipo",
        chipo,
        convention=_chi_convention,
        source="Huang et al. 2024, arXiv:2407.13399, Algorithm 1",
        when="few pairs: answers that the reference hardly gives should win nothing",
        closed_form=closed_forms.chipo,
        reward=chipo_reward,
        also_called=("xpo", "chi_po", "chi2_dpo"),
    ),
    _pair(
        "dpo_shift",
        dpo_shift,
        convention=_shift_convention,
        source="Yang et al. 2025, arXiv:2502.07599",
        when="the chosen log-prob falls together with the rejected one",
        closed_form=closed_forms.dpo_shift,
    ),
    _pair(
        "odpo",
        odpo,
        convention=_offset_convention,
        source="Amini et al. 2024, arXiv:2402.10571",
        when="the data says by how much the chosen answer is better (its column margin)",
        closed_form=closed_forms.odpo,
        margins=True,
        at_reference=_unfixed,
        also_called=("dpo_offset",),
    ),
)
