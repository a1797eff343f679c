"""What the table says of each policy gradient is so: its divisor, its slope at ratio 1, where its
slope vanishes; and its numbers by hand, and TRL's where TRL has the method.
"""

import math
from collections import defaultdict
from types import SimpleNamespace

import pytest
import torch
from objectives.test_policy_gradient import COUNT, OPTIONS, losses, rollouts

from accord.objectives import POLICY_OBJECTIVES, resolve
from accord.objectives.policy_facts import FACTS
from accord.objectives.policy_gradient import Rollouts
from accord.types import LossOutput, UsageError
from accord.verify.rollout_proofs import certify_policy

LENGTH = 4


def slopes(name, ratios, advantage, **options):
    """The slope of an answer's loss in each of its tokens' log-probs."""
    logps = torch.tensor([math.log(r) for r in ratios], dtype=torch.float64).requires_grad_()
    given = Rollouts(
        logps,
        torch.zeros_like(logps),
        torch.full_like(logps, advantage),
        torch.tensor([len(ratios)]),
    )
    return torch.autograd.grad(losses(name, given, **options).sum(), logps)[0]


def test_every_method_has_its_facts():
    assert list(FACTS) == sorted(FACTS, key=list(POLICY_OBJECTIVES).index)
    assert set(FACTS) == set(POLICY_OBJECTIVES)


@pytest.mark.parametrize("name", POLICY_OBJECTIVES)
@pytest.mark.parametrize("advantage", [1.5, -0.5])
def test_the_slope_at_ratio_one(name, advantage):
    scale = {"−A": 1.0, "−A / |y|": 1 / LENGTH, "−A / max_tokens": 1 / 7}[FACTS[name].at_one]
    got = slopes(name, [1.0] * LENGTH, advantage)
    assert got.tolist() == pytest.approx([-advantage * scale] * LENGTH)


@pytest.mark.parametrize("name", POLICY_OBJECTIVES)
@pytest.mark.parametrize("advantage, outside, inside", [(1.0, 9.0, 0.1), (-1.0, 0.1, 9.0)])
def test_where_the_slope_vanishes(name, advantage, outside, inside):
    """One token beyond the clip on the side of its advantage, one far on the other side."""
    where = FACTS[name].vanishes
    got = slopes(name, [outside, 1.0, 1.0], advantage)
    if where == "nowhere":
        assert got.all()
    elif where.startswith("all tokens"):
        assert not got.any()
    else:
        assert got[0] == 0 and got[1:].all()
    assert slopes(name, [inside, 1.0, 1.0], advantage).all()


# ---------------------------------------------------------------- by hand


def test_gspo_by_hand():
    """Ratios 2 and ½ make s = 1: the clip that would bind on each token binds on none. Ratios 2 and
    1 make s = √2; at A = 1 the loss is held at 1 + ε', at A = -1 its slope is s/2 for each token.
    """
    assert slopes("gspo", [2, 0.5], 1.0).tolist() == pytest.approx([-0.5, -0.5])
    assert slopes("gspo", [2, 1], 1.0).tolist() == [0, 0]
    assert slopes("gspo", [2, 1], -1.0).tolist() == pytest.approx([math.sqrt(2) / 2] * 2)
    held = Rollouts(
        torch.tensor([math.log(2), 0.0]), torch.zeros(2), torch.ones(2), torch.tensor([2])
    )
    output = POLICY_OBJECTIVES["gspo"].function(held)
    assert output.losses.item() == pytest.approx(-1.0004)
    assert output.metrics["clip_ratio"].tolist() == [1]


def test_cispo_by_hand():
    """Weights 2, 5 (of 9) and 1/10: log-probs are log 2, log 9, log ⅒."""
    got = slopes("cispo", [2, 9, 0.1], 1.5)
    assert got.tolist() == pytest.approx([-3, -7.5, -0.15])
    assert slopes("cispo", [2, 9, 0.1], 1.5, clip=0.5).tolist() == pytest.approx([-3, -7.5, -0.75])
    given = Rollouts(
        torch.tensor([2.0, 9.0, 0.1]).log(), torch.zeros(3), torch.ones(3), torch.tensor([3])
    )
    output = POLICY_OBJECTIVES["cispo"].function(given)
    wanted = -(2 * math.log(2) + 5 * math.log(9) + 0.1 * math.log(0.1))
    assert output.losses.item() == pytest.approx(wanted)
    assert output.metrics["clip_ratio"].item() == pytest.approx(1 / 3)


def test_gspo_with_one_advantage_an_answer_is_gspo_token():
    """Zheng et al. 2025, Eqs. 13 and 14: s_t = sg[s] π_t / sg[π_t], of each token."""
    given = rollouts(apart=1e-4)
    answers = torch.tensor([1.0, -2.0, 0.5, -0.25], dtype=torch.float64)
    advantages = torch.repeat_interleave(answers, COUNT)
    logps = given.logps.clone().requires_grad_()
    ours = losses("gspo", Rollouts(logps, given.old, advantages, COUNT))
    wanted = torch.autograd.grad(ours.sum(), logps)[0]
    other = given.logps.clone().requires_grad_()
    means = torch.stack([p.mean() for p in (other - given.old).split(COUNT.tolist())])
    fixed = torch.repeat_interleave(means.exp(), COUNT).detach()
    of_tokens = fixed * (other - other.detach()).exp()
    held = of_tokens.clamp(1 - 3e-4, 1 + 4e-4)
    tokens = torch.maximum(-advantages * of_tokens, -advantages * held)
    theirs = torch.stack([p.mean() for p in tokens.split(COUNT.tolist())])
    torch.testing.assert_close(theirs, ours)
    torch.testing.assert_close(torch.autograd.grad(theirs.sum(), other)[0], wanted)


# ---------------------------------------------------------------- entropy


@pytest.mark.parametrize("name", POLICY_OBJECTIVES)
def test_an_entropy_bonus_is_a_mean_of_tokens(name):
    """Over the batch's tokens where the method divides by them, else over each answer's."""
    given = rollouts()
    entropy = torch.linspace(0.5, 2.5, int(COUNT.sum()), dtype=torch.float64).requires_grad_()
    with_it = Rollouts(given.logps, given.old, given.advantages, COUNT, entropy=entropy)
    objective = resolve(name, OPTIONS.get(name, {}) | {"entropy": 0.25})
    found = objective.losses(with_it).losses
    plain = losses(name, given)
    sums = torch.stack([piece.sum() for piece in entropy.split(COUNT.tolist())])
    of_rows = sums if objective.denominator == "tokens" else sums / COUNT
    torch.testing.assert_close(found, plain - 0.25 * of_rows)
    slope = torch.autograd.grad(found.sum(), entropy)[0]
    divisor = 1 if objective.denominator == "tokens" else torch.repeat_interleave(COUNT, COUNT)
    torch.testing.assert_close(slope, torch.full_like(entropy, -0.25) / divisor)


@pytest.mark.parametrize("options", [{}, {"entropy": 0.1}, {"beta": 0.2, "kl_correction": "ratio"}])
@pytest.mark.parametrize("name", ["gspo", "cispo", "reinforce_plus_plus_baseline", "dr_grpo"])
def test_the_certificate_knows_every_term(name, options):
    assert certify_policy(resolve(name, OPTIONS.get(name, {}) | options)).verdict == "ok"


def test_the_certificate_sees_a_bonus_that_is_left_out(monkeypatch):
    objective = resolve("grpo", {"entropy": 0.1})
    plain = type(objective).losses

    def without(self, policy, *rest, **more):
        found, nothing = plain(self, policy, *rest, **more), policy.means(policy.entropy)
        return LossOutput(found.losses + 0.1 * nothing.detach(), found.metrics)

    monkeypatch.setattr(type(objective), "losses", without)
    assert certify_policy(objective).verdict == "refused"


def test_a_correction_of_no_kl_term_is_refused():
    with pytest.raises(UsageError, match="kl_correction = ratio, and beta = 0"):
        resolve("gspo", {"kl_correction": "ratio"})


# ---------------------------------------------------------------- TRL

# ours -> TRL's settings; TRL's denominators are over the rows or tokens of its one batch
TRL = {
    "grpo": {"loss_type": "grpo", "epsilon_high": 0.2},
    "dr_grpo": {"loss_type": "dr_grpo", "epsilon_high": 0.2},
    "dapo": {"loss_type": "dapo", "epsilon_high": 0.28},
    "reinforce_plus_plus": {"loss_type": "bnpo", "epsilon_high": 0.2},
    "reinforce_plus_plus_baseline": {"loss_type": "bnpo", "epsilon_high": 0.2},
    "gspo": {
        "loss_type": "grpo",
        "importance_sampling_level": "sequence",
        "epsilon": 3e-4,
        "epsilon_high": 4e-4,
    },
    "cispo": {"loss_type": "cispo", "epsilon_high": 5.0},
}


def by_trl(given, advantages, *, beta=0.0, corrected=False, entropy=0.0, **settings):
    """TRL's own `_compute_loss`, of padded rows, with log-probs and entropies as they are given."""
    trainer = pytest.importorskip("trl.trainer.grpo_trainer").GRPOTrainer
    width, rows = int(COUNT.max()), len(COUNT)
    mask = torch.arange(width)[None, :] < COUNT[:, None]

    def padded(values):
        out = torch.zeros(rows, width, dtype=values.dtype)
        return out.masked_scatter(mask, values)

    one = SimpleNamespace(
        accelerator=SimpleNamespace(
            num_processes=1, sync_gradients=True, gather=lambda x: x, reduce=lambda x, reduction: x
        ),
        model=SimpleNamespace(training=True),
        args=SimpleNamespace(use_bias_correction_kl=corrected, delta=None, steps_per_generation=1),
        _metrics={"train": defaultdict(list)},
        _get_per_token_logps_and_entropies=lambda *rest, **more: (
            padded(given.logps),
            padded(given.entropy if given.entropy is not None else torch.ones_like(given.old)),
            None,
        ),
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        importance_sampling_level=settings.get("importance_sampling_level", "token"),
        beta=beta,
        loss_type=settings["loss_type"],
        epsilon_low=settings.get("epsilon", 0.2),
        epsilon_high=settings["epsilon_high"],
        use_vllm=False,
        current_gradient_accumulation_steps=1,
        max_completion_length=7,
        _entropy_bonus_enabled=entropy != 0,
        entropy_coef=entropy,
        use_adaptive_entropy=False,
    )
    inputs = {
        "prompt_ids": torch.zeros(rows, 1, dtype=torch.long),
        "prompt_mask": torch.ones(rows, 1, dtype=torch.long),
        "completion_ids": torch.zeros(rows, width, dtype=torch.long),
        "completion_mask": mask.long(),
        "advantages": advantages,
        "old_per_token_logps": padded(given.old),
        "num_items_in_batch": COUNT.sum(),
    }
    if given.reference is not None:
        inputs["ref_per_token_logps"] = padded(given.reference)
    return trainer._compute_loss(one, one.model, inputs)


@pytest.mark.parametrize("extra", ["plain", "kl", "corrected", "entropy"])
@pytest.mark.parametrize("apart", [1e-4, 0.3, 2.0])
@pytest.mark.parametrize("name", TRL)
def test_value_and_gradient_are_trl_s(name, apart, extra):
    """Also far from the policy that sampled, with the KL term, with TRL's correction of it, and
    with an entropy bonus where both take its mean over the batch's tokens.
    """
    method, with_kl = POLICY_OBJECTIVES[name], extra in ("kl", "corrected")
    if with_kl and "kl" not in method.function.kinds:
        pytest.skip(f"{name} has no KL term in the loss")
    if extra == "entropy" and method.denominator == "rows":
        pytest.skip("TRL's bonus is a mean over tokens; ours is one over answers here")
    given = rollouts(apart=apart, reference=with_kl)
    advantages = torch.tensor([1.0, -0.5, 0.25, -2.0], dtype=torch.float64)
    options = {"beta": 0.3, "kl": "k3"} if with_kl else {}
    options |= {"kl_correction": "ratio"} if extra == "corrected" else {}
    options |= {"entropy": 0.2} if extra == "entropy" else {}
    results = []
    for theirs in (False, True):
        logps = given.logps.clone().requires_grad_()
        entropy = torch.linspace(0.5, 2, len(logps), dtype=torch.float64).requires_grad_()
        own = Rollouts(
            logps,
            given.old,
            torch.repeat_interleave(advantages, COUNT),
            COUNT,
            given.reference,
            entropy if extra == "entropy" else None,
        )
        if theirs:
            weight = {"beta": 0.3, "corrected": extra == "corrected"} if with_kl else {}
            bonus = options.get("entropy", 0.0)
            loss = by_trl(own, advantages, entropy=bonus, **weight, **TRL[name])
        else:
            total = len(COUNT) if method.denominator == "rows" else int(COUNT.sum())
            objective = resolve(name, OPTIONS.get(name, {}) | options)
            loss = objective.losses(own).losses.sum() / total
        slopes_ = torch.autograd.grad(loss, (logps, entropy), allow_unused=True)
        results.append([loss, *(s for s in slopes_ if s is not None)])
    for ours, trl in zip(*results, strict=True):
        torch.testing.assert_close(ours, trl, rtol=1e-6, atol=1e-9)
