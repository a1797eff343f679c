"""The losses that TRL has too, in float32, from the same log-probs: TRL's own code is run on them.

Where the two differ a test says how, and PAPERS.md why.
"""

import inspect
import re
from dataclasses import replace

import pytest
import torch
from objectives import trl_code
from objectives.rows import logps, pairs

from accord.migrate.trl_losses import DPO_LOSSES, of_dpo_trainer
from accord.objectives import resolve
from accord.types import LabelledLogps, PairScores, Scores

pytest.importorskip("trl", minversion="1.16", reason="its losses are those of 1.16")

# (S_w, S_l, S_ref_w, S_ref_l, n_w, n_l) of rows, in nats and tokens
ROWS = (
    (-12.0, -11.0, -12.5, -10.0, 4, 5),
    (-7.5, -9.0, -7.0, -9.5, 2, 3),
    (-20.0, -26.0, -22.0, -25.0, 7, 6),
    (-95.0, -60.0, -70.0, -80.0, 30, 21),
)
ALIKE = tuple((*row[:4], 6, row[5]) for row in ROWS)  # chosen answers of one length
GROUPS = (slice(0, 2), slice(2, 4))  # micro-batches

# TRL's settings of DPOTrainer -> ours
SAME = {
    "sigmoid": ({"loss_types": ["sigmoid"]}, ("dpo", {})),
    "hinge": ({"loss_types": ["hinge"], "beta": 0.4}, ("hinge", {"beta": 0.4})),
    "ipo": ({"loss_types": ["ipo"]}, ("ipo", {})),
    "robust": (
        {"loss_types": ["robust"], "label_smoothing": 0.2},
        ("robust", {"label_smoothing": 0.2}),
    ),
    "exo_pair": ({"loss_types": ["exo_pair"], "label_smoothing": 1e-3}, ("exo", {})),
    "nca_pair": ({"loss_types": ["nca_pair"]}, ("nca", {})),
    "sppo_hard": ({"loss_types": ["sppo_hard"]}, ("sppo_hard", {})),
    "apo_zero": ({"loss_types": ["apo_zero"]}, ("apo_zero", {})),
    "apo_down": ({"loss_types": ["apo_down"]}, ("apo_down", {})),
    "sigmoid_norm": ({"loss_types": ["sigmoid_norm"], "beta": 5.0}, ("dpo_norm", {"beta": 5.0})),
    "forward_kl": ({"f_divergence_type": "forward_kl"}, ("f_dpo", {"divergence": "forward_kl"})),
    "js": ({"f_divergence_type": "js_divergence"}, ("f_dpo", {"divergence": "js"})),
    "alpha": (
        {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.7},
        ("f_dpo", {"divergence": "alpha", "alpha": 0.3}),
    ),
    "ld_alpha": ({"ld_alpha": 0.3}, ("ld_dpo", {"alpha": 0.3})),
    "ld_alpha of 0": ({"ld_alpha": 0.0, "beta": 0.4}, ("ld_dpo", {"alpha": 0.0, "beta": 0.4})),
    "use_weighting": ({"use_weighting": True}, ("wpo", {})),
    "use_weighting of ipo": ({"use_weighting": True, "loss_types": ["ipo"]}, ("wpo*ipo", {})),
    "both": ({"use_weighting": True, "ld_alpha": 0.3}, ("wpo*ld_dpo", {"alpha": 0.3})),
    "with an NLL term": (
        {"loss_types": ["sigmoid", "sft"], "loss_weights": [1.0, 0.5]},
        ("rpo", {"alpha": 0.5}),
    ),
}
# lists of losses and weights -> ours; beta and label_smoothing are one for the whole list there
MIXED = {
    "sigmoid, 0.5 sft": ((["sigmoid", "sft"], [1.0, 0.5]), ("dpo+0.5*sft", {})),
    "sigmoid, ipo": ((["sigmoid", "ipo"], [1.0, 1.0]), ("dpo+ipo", {})),
    "ipo, 0.3 sft": ((["ipo", "sft"], [1.0, 0.3]), ("ipo+0.3*sft", {})),
    "apo_zero, 0.2 hinge": ((["apo_zero", "hinge"], [1.0, 0.2]), ("apo_zero+0.2*hinge", {})),
    "2 sft, 0.7 sigmoid_norm, apo_down": (
        (["sft", "sigmoid_norm", "apo_down"], [2.0, 0.7, 1.0]),
        ("2*sft+0.7*dpo_norm+apo_down", {"dpo_norm": {"beta": 0.1}}),
    ),
    "nca_pair, 0.1 exo_pair, 0.2 robust": (
        (["nca_pair", "exo_pair", "robust"], [1.0, 0.1, 0.2], {"label_smoothing": 0.2}),
        (
            "nca+0.1*exo+0.2*robust",
            {"exo": {"label_smoothing": 0.2}, "robust": {"label_smoothing": 0.2}},
        ),
    ),
    "sppo_hard, sigmoid": (
        (["sppo_hard", "sigmoid"], [1.0, 1.0], {"beta": 0.3}),
        ("sppo_hard+dpo", {"sppo_hard": {"beta": 0.3}, "dpo": {"beta": 0.3}}),
    ),
    "sppo_hard, sigmoid of a beta of 1": (
        (["sppo_hard", "sigmoid"], [1.0, 1.0], {"beta": 1.0}),
        ("cal_dpo", {"beta": 1.0}),
    ),
}


def by_trl_mix(listed, rows):
    losses, weights, *more = listed
    settings = {"loss_types": losses, "loss_weights": weights} | (more[0] if more else {})
    return trl_code.dpo_trainer(settings, rows)


def by_accord(name, options, rows, parts=None):
    """The loss of a batch and its gradient, in the micro-batches `parts`, or in one."""
    sums, counts = trl_code.sums_and_counts(rows)
    bound = resolve(name, options)
    given = bound.of_batch([row[4:] for row in rows])
    size, total = len(rows), 0.0
    columns = [torch.tensor(one) for one in zip(*rows, strict=True)]
    for part in parts or [slice(0, size)]:
        lengths = counts[:size][part], counts[size:][part]
        policy = with_columns(pairs(sums[:size][part], sums[size:][part], *lengths))
        against = columns[2][part], columns[3][part]
        reference = with_columns(pairs(*against, *lengths)) if bound.reference else None
        total = total + bound.losses(policy, reference, **given).losses.sum() / size
    return total.item(), torch.autograd.grad(total, sums)[0].tolist()


def with_columns(rows):
    """Add what ld_dpo and wpo read, for answers whose tokens are all alike."""
    shared = torch.minimum(rows.chosen.count, rows.rejected.count)
    chosen, rejected = (
        replace(
            one,
            shared=one.sum * (shared / one.count),
            collision=(trl_code.COLLISION * one.count).to(one.sum.dtype),
        )
        for one in (rows.chosen, rows.rejected)
    )
    return replace(rows, chosen=chosen, rejected=rejected)


def assert_same(theirs, ours, rel=2e-5):
    for found, expected in zip(theirs, ours, strict=True):
        assert found == pytest.approx(expected, rel=rel, abs=2e-6)


def by_micro_batches(run, groups=GROUPS):
    """TRL's loss of ROWS in micro-batches of one size, of which its trainer takes the mean."""
    loss, slopes, size = 0.0, [0.0] * (2 * len(ROWS)), len(ROWS)
    for group in groups:
        part, along = run(ROWS[group])
        share = 1 / len(groups)
        loss += share * part
        for side in (0, size):
            at = slice(side + group.start, side + group.stop)
            slopes[at] = [share * slope for slope in along[: len(ROWS[group])]]
            along = along[len(ROWS[group]) :]
    return loss, slopes


# ---------------------------------------------------------------- DPOTrainer


@pytest.mark.parametrize("setting", SAME)
def test_the_same_loss_and_gradient(setting):
    settings, ours = SAME[setting]
    for row in ROWS:
        assert_same(trl_code.dpo_trainer(settings, [row]), by_accord(*ours, [row]))


def test_no_loss_of_theirs_is_left_out():
    """bco_pair may come; the others depend on which rows stand together, or on a found formula."""
    from trl.trainer.dpo_trainer import DPOTrainer

    refusal = inspect.getsource(DPOTrainer._compute_loss).partition("Unknown loss type")[2]
    theirs = set(re.findall(r"'(\w+)'", refusal.partition("]")[0]))
    assert {"sigmoid", "sft", "discopop"} <= theirs
    assert theirs - {*DPO_LOSSES, "sft", "bco_pair"} == {"aot", "aot_unpaired", "discopop"}
    assert set(DPO_LOSSES) - {"bco_pair"} <= set(SAME)


def test_sigmoid_does_not_look_at_label_smoothing():
    """What cdpo is here is their aot of a micro-batch of one row, where nothing is sorted."""
    smoothed = {"label_smoothing": 0.2}
    for row in ROWS:
        assert trl_code.dpo_trainer(smoothed, [row]) == trl_code.dpo_trainer({}, [row])
        theirs = trl_code.dpo_trainer(smoothed | {"loss_types": ["aot"]}, [row])
        assert_same(theirs, by_accord("cdpo", smoothed, [row]))


def test_an_answer_that_fell_far_has_no_gradient_there():
    """200 nats under the reference with α = .7 of ours: TRL cuts the exponent at 80 and pulls the
    answer with exactly 0; ours pulls it, by the tangent at 30.
    """
    settings = {"f_divergence_type": "alpha_divergence", "f_alpha_divergence_coef": 0.3}
    row = (-300.0, -11.0, -100.0, -10.0, 40, 5)
    assert trl_code.dpo_trainer(settings, [row])[1][0] == 0
    assert by_accord("f_dpo", {"divergence": "alpha", "alpha": 0.7}, [row])[1][0] < -1e10


# ---------------------------------------------------------------- its lists of losses


@pytest.mark.parametrize("mix", MIXED)
def test_a_list_of_losses_is_the_mixture_of_the_whole_batch(mix):
    """Four rows of unlike lengths in one micro-batch; ours in two is the same as well. So is what
    `accord import` makes of the list.
    """
    theirs, ours = MIXED[mix]
    assert "cal_dpo" in ours or of_dpo_trainer("TRL", *theirs[:2])[1].name == ours[0]
    expected = by_trl_mix(theirs, ROWS)
    assert_same(expected, by_accord(*ours, ROWS))
    assert_same(expected, by_accord(*ours, ROWS, GROUPS))


@pytest.mark.parametrize("mix", MIXED)
def test_their_sft_part_alone_depends_on_the_split(mix):
    """TRL divides it by the chosen tokens of a micro-batch, and micro-batches by their number: a
    token of two short answers weighs more than one of two long ones. Ours divides by the whole
    batch's, which explains all that differs.
    """
    theirs, ours = MIXED[mix]
    loss, slopes = by_micro_batches(lambda rows: by_trl_mix(theirs, rows))
    expected, wanted = by_accord(*ours, ROWS, GROUPS)
    weight = dict(zip(*theirs[:2], strict=True)).get("sft", 0.0)
    tokens = sum(row[4] for row in ROWS)
    for group in GROUPS:
        own = sum(row[4] for row in ROWS[group])
        more = 1 / len(GROUPS) / own - 1 / tokens  # weight of one of its tokens
        for index in range(len(ROWS))[group]:
            expected -= weight * more * ROWS[index][0]
            wanted[index] -= weight * more
    assert_same((loss, slopes), (expected, wanted))
    assert not weight or abs(loss - by_accord(*ours, ROWS)[0]) > 0.005


def test_answers_of_one_length_are_the_same_in_any_split():
    theirs, ours = MIXED["sigmoid, 0.5 sft"]
    whole = by_trl_mix(theirs, ALIKE)
    assert_same(whole, by_accord(*ours, ALIKE))
    apart = [by_trl_mix(theirs, [row])[0] for row in ALIKE]
    assert sum(apart) / len(apart) == pytest.approx(whole[0], rel=2e-5)


def test_rpo_is_their_nll_term_row_by_row():
    """Of a micro-batch of several rows it is the mean of what TRL gives each alone, which is not
    what TRL gives all.
    """
    settings, ours = SAME["with an NLL term"]
    each = [slice(index, index + 1) for index in range(len(ROWS))]
    alone = by_micro_batches(lambda rows: trl_code.dpo_trainer(settings, rows), each)
    assert_same(alone, by_accord(*ours, ROWS))
    assert abs(trl_code.dpo_trainer(settings, ROWS)[0] - alone[0]) > 0.005


# ---------------------------------------------------------------- CPOTrainer and ORPOTrainer


def test_cpo_and_its_nll_by_micro_batch():
    """Row by row the same; of several rows TRL's NLL is one mean over all their tokens."""
    for row in ROWS:
        assert_same(trl_code.cpo_trainer({}, [row]), by_accord("cpo", {}, [row]))
    theirs = trl_code.cpo_trainer({}, ROWS)
    assert abs(theirs[0] - by_accord("cpo", {}, ROWS)[0]) > 0.05
    assert_same(theirs, by_accord("cpo+sft", {"alpha": 0.0}, ROWS))


def test_simpo_is_without_the_nll_that_they_add():
    """Theirs adds cpo_alpha = 1 times the NLL unless told otherwise; ours has none."""
    settings = {"loss_type": "simpo", "beta": 2.0, "simpo_gamma": 1.0}
    theirs = trl_code.cpo_trainer(settings | {"cpo_alpha": 0.0}, ROWS)
    assert_same(theirs, by_accord("simpo", {"gamma": 1.0}, ROWS))
    assert_same(trl_code.cpo_trainer(settings, ROWS), by_accord("simpo+sft", {"gamma": 1.0}, ROWS))


def test_alphapo_is_what_they_call_alpha():
    settings = {"loss_type": "simpo", "beta": 2.5, "simpo_gamma": 0.25, "alpha": 0.25}
    theirs = trl_code.cpo_trainer(settings | {"cpo_alpha": 0.0}, ROWS)
    assert_same(theirs, by_accord("alphapo", {}, ROWS))
    far = (-900.0, -11.0, 0.0, 0.0, 4, 5)  # a probability of 0 in float32, to the power -.25
    assert not torch.tensor(trl_code.cpo_trainer(settings, [far])[1]).isfinite().all()
    assert torch.tensor(by_accord("alphapo", {}, [far])[1]).isfinite().all()


def test_orpo_without_the_prompt_in_its_nll():
    """A prompt of one token, which nothing predicts, leaves the same; of a longer one TRL's NLL is
    the mean over prompt and answer, so that an answer token weighs less.
    """
    settings, ours = {"beta": 0.3}, ("orpo", {"weight": 0.3})
    for row in ROWS:
        alone = trl_code.orpo_trainer(settings, [row], prompt=1)
        assert_same(alone, by_accord(*ours, [row]))
        mean, more = row[0] / row[4], trl_code.PROMPT - 1
        nll = -(row[0] + more * trl_code.PROMPT_NATS) / (row[4] + more)
        longer = trl_code.orpo_trainer(settings, [row])
        assert longer[0] - alone[0] == pytest.approx(nll + mean, rel=2e-5, abs=2e-6)
        weighs_less = 1 / row[4] - 1 / (row[4] + more)
        assert longer[1][0] - alone[1][0] == pytest.approx(weighs_less, rel=2e-4)
        assert longer[1][1] == pytest.approx(alone[1][1], rel=2e-5)


# ---------------------------------------------------------------- KTOTrainer and RewardTrainer

DRIFT = [3.0, -1.0, 0.5, 2.0, 1.0, -0.5, 4.0, 0.0]  # of answers to other prompts


def kto_here(rows, drift, options):
    sums, counts = trl_code.sums_and_counts(rows)
    against = torch.tensor([row[2] for row in rows] + [row[3] for row in rows])
    desirable = torch.tensor([True] * len(rows) + [False] * len(rows))
    losses = resolve("kto", options).losses(
        LabelledLogps(logps(sums, counts), desirable),
        LabelledLogps(logps(against, counts), desirable),
        z0=torch.tensor(drift).mean().clamp(min=0),
    )
    loss = losses.losses.mean()
    return loss.item(), torch.autograd.grad(loss, sums)[0].tolist()


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_kto_of_one_baseline(sign):
    """Also with one that would be negative, which both take for 0."""
    options = {"desirable_weight": 1.2, "undesirable_weight": 0.7}
    drift = [sign * one for one in DRIFT]
    assert_same(trl_code.kto_trainer(options, ROWS, drift), kto_here(ROWS, drift, options))


def test_their_kto_baseline_is_a_micro_batch_s():
    """One row against its own two gains is not what it is against the whole batch's eight."""
    options, own = {"undesirable_weight": 0.5}, [9.0, 1.0]
    theirs = trl_code.kto_trainer(options, ROWS[:1], own)
    assert_same(theirs, kto_here(ROWS[:1], own, options))
    assert abs(theirs[0] - kto_here(ROWS[:1], DRIFT, options)[0]) > 0.01


def test_apo_zero_of_a_pair_is_twice_their_unpaired_mean():
    for row in ROWS:
        loss, slopes = trl_code.kto_trainer({"loss_type": "apo_zero_unpaired"}, [row], [0.0, 0.0])
        assert_same((2 * loss, [2 * slope for slope in slopes]), by_accord("apo_zero", {}, [row]))


@pytest.mark.parametrize("margins", [None, [0.5, 0.0, 2.0]])
@pytest.mark.parametrize("centering", [None, 0.01])
def test_bradley_terry(margins, centering):
    scores = [1.5, -0.5, 2.0, 0.5, -2.5, 3.0]  # chosen, then rejected
    options = {"centering": centering or 0.0, "margin": "column" if margins else "none"}
    leaf, ones = torch.tensor(scores, requires_grad=True), torch.ones(3, dtype=torch.long)
    given = torch.tensor(margins or [0.0] * 3)
    rows = PairScores(Scores(leaf[:3], ones), Scores(leaf[3:], ones), given)
    loss = resolve("bradley_terry", options).losses(rows).losses.mean()
    ours = loss.item(), torch.autograd.grad(loss, leaf)[0].tolist()
    assert_same(trl_code.reward_trainer(scores, margins, centering), ours)
