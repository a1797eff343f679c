"""Binary Classifier Optimization: its numbers by hand, its shift, and TRL's own code beside it."""

import math
from types import SimpleNamespace

import pytest
import torch
from objectives.rows import Case, labelled
from torch.testing import assert_close

from accord.objectives import bco, resolve
from accord.objectives.labelled import NO_REWARDS, after_bco, bco_shift
from accord.types import UsageError
from accord.verify.certificate import certify

NAN = math.nan


def test_by_hand():
    """β r - δ = ½ · 3 - 1 = ½: a good answer costs log(1 + e^-½), a bad one log(1 + e^½)."""
    rows = labelled([-5.0, -5.0], [True, False], [3, 30])
    against = labelled([-8.0, -8.0], [True, False], [3, 30])
    output = bco(rows, against, delta=torch.tensor(1.0), beta=0.5)
    assert output.losses.tolist() == pytest.approx(
        [math.log1p(math.exp(-0.5)), math.log1p(math.exp(0.5))]
    )
    assert output.metrics["delta"].tolist() == [1.0, 1.0]


def test_a_wrong_answer_keeps_its_slope():
    """A bad answer 100 nats up pulls with all of β; under KTO its slope is gone, with β e^-100."""
    at = torch.tensor([100.0], requires_grad=True)
    rows = labelled(at, [False]), labelled([0.0], [False])
    loss = bco(*rows, delta=torch.tensor(0.0), beta=1.0).losses.sum()
    assert torch.autograd.grad(loss, at)[0].item() == pytest.approx(1.0)


def test_the_shift_moves_the_reward_and_not_the_log_ratio():
    """δ stands outside β, KTO's z0 inside."""
    policy, reference = labelled([-1.0, -4.0], [True, False]), labelled([-3.0, -1.0], [True, False])
    moved = labelled([-1.0 - 2.0, -4.0 - 2.0], [True, False])
    assert_close(
        bco(policy, reference, delta=torch.tensor(0.5), beta=0.25).losses,
        bco(moved, reference, delta=torch.tensor(0.0), beta=0.25).losses,
    )


# ------------------------------------------------------------------ the shift


def columns(good=(), bad=()):
    """The columns of the records of labelled rows."""
    return {
        "rewards/chosen": torch.tensor([*good, *[NAN] * len(bad)], dtype=torch.float64),
        "rewards/rejected": torch.tensor([*[NAN] * len(good), *bad], dtype=torch.float64),
    }


def shift_after(*updates):
    state = NO_REWARDS
    for good, bad in updates:
        state = after_bco(state, columns(good, bad))
    return bco_shift(state)["delta"].item()


def test_the_shift_is_half_way_between_the_labels():
    """Three good answers of mean 2 and one bad one of -4: half way is -1, the mean of all rows .5.
    Rows of all updates count alike.
    """
    assert shift_after() == 0.0
    assert shift_after(((1.0, 2.0, 3.0), (-4.0,))) == -1.0
    assert shift_after(((1.0,), ()), ((2.0, 3.0), (-4.0,))) == -1.0
    assert shift_after(((0.0,), (0.0,)), ((3.0,), (-5.0, -4.0))) == (1.5 - 3.0) / 2


def test_a_label_that_has_not_come_has_no_say():
    assert shift_after(((1.0, 2.0), ())) == 1.5
    assert shift_after(((), (-3.0,))) == -3.0


def test_order_and_cut_of_the_rows_change_no_bit():
    """Also of rewards whose sum depends on its order in float64."""
    good = [1e16, 3.14159, -1e16, 1e-9] * 5
    table = columns(good, [0.1] * 10)
    turned = {name: column.flip(0) for name, column in table.items()}
    assert after_bco(NO_REWARDS, table) == after_bco(NO_REWARDS, turned)


def test_the_state_before_is_left_as_it_was():
    before = dict(NO_REWARDS)
    after_bco(NO_REWARDS, columns((1.0,), (2.0,)))
    assert before == NO_REWARDS


# ------------------------------------------------------------------ what is proved and refused


def test_a_step_without_the_shift_is_refused():
    """Before the first update the shift is 0: only the other states of the certificate show it."""
    bound = resolve("bco")

    def without(policy, reference, context):
        return bound.losses(policy, reference, delta=torch.tensor(0.0)).losses

    found = certify(bound, without)
    assert found.verdict == "refused" and "bco has" in found.says


def test_a_step_with_the_shift_of_another_sign_is_refused():
    bound = resolve("bco")
    found = certify(bound, lambda p, r, c: bound.losses(p, r, delta=-c["delta"]).losses)
    assert found.verdict == "refused"


@pytest.mark.parametrize("name", ["bco+0.1*kto", "0.5*bco+sft"])
def test_it_is_not_mixed(name):
    with pytest.raises(UsageError, match="not mixed|different rows"):
        resolve(name)


def test_a_mixture_keeps_nothing():
    with pytest.raises(UsageError, match="keeps nothing from update to update"):
        resolve("dpo+bco")


# ------------------------------------------------------------------ TRL beside it


def rewards_of(case):
    """The case as TRL takes it: log-probs of good and of bad answers, under both models."""
    good = case.desirable
    return [side[0][rows] for side in (case.policy, case.reference) for rows in (good, ~good)]


def ours(case, delta, beta):
    losses = case.losses(z0=torch.tensor(delta))
    return torch.cat([losses[case.desirable], losses[~case.desirable]])


@pytest.mark.parametrize("delta", [0.0, 0.75, -3.5])
def test_trl_s_pairs_of_the_same_answers(delta):
    """`bco_pair` of TRL 1.16 has no shift: it is the sum of a pair's two losses at δ = 0. A shift
    of the reference by δ / β is one of the reward by δ.
    """
    pytest.importorskip("trl", minversion="1.16", reason="its losses are those of 1.16")
    from objectives import trl_code
    from objectives.test_beside_trl import ROWS

    for row in ROWS:
        moved = (*row[:2], *(one + delta / 0.1 for one in row[2:4]), *row[4:])
        loss, slopes = trl_code.dpo_trainer({"loss_types": ["bco_pair"]}, [moved])
        at = torch.tensor(row[:2], requires_grad=True)
        sides = [True, False]
        policy, known = labelled(at, sides), labelled(torch.tensor(row[2:4]), sides)
        mine = bco(policy, known, delta=torch.tensor(delta), beta=0.1).losses.sum()
        assert loss == pytest.approx(mine.item(), rel=2e-5, abs=2e-6)
        wanted = torch.autograd.grad(mine, at)[0].tolist()
        assert slopes == pytest.approx(wanted, rel=2e-5, abs=2e-6)


@pytest.mark.parametrize("mean", [0.0, 0.75, -3.5])
@pytest.mark.parametrize("beta", [0.1, 0.4])
def test_trl_s_trainer_of_labels(mean, beta):
    """Its loss for given rewards and shift is ours. The shift itself differs: TRL's is the mean of
    all rows up to and with the micro-batch.
    """
    trainers = pytest.importorskip(
        "trl.experimental.bco.bco_trainer", reason="TRL had it up to 1.12", exc_type=ImportError
    )
    case = Case("bco", {"beta": beta}, dtype=torch.float32)
    running = trainers.RunningMoments(SimpleNamespace(use_distributed=False), mean=mean)
    trainer = SimpleNamespace(beta=beta, running=running, match_underlying_distribution=False)
    given = rewards_of(case)
    losses, good, bad, delta = trainers.BCOTrainer.bco_loss(
        trainer, *given, None, None, do_train=False
    )
    assert losses.dtype == torch.float32 and delta.item() == mean
    assert_close(losses, ours(case, mean, beta), rtol=2e-5, atol=2e-6)
    _, _, _, theirs = trainers.BCOTrainer.bco_loss(trainer, *given, None, None)
    assert theirs.item() == pytest.approx(torch.cat([good, bad]).mean().item(), rel=1e-5)
