"""Mixtures: the sum of their parts, each over its own denominator of the whole batch."""

from dataclasses import replace

import pytest
import torch
from objectives.rows import pairs
from torch.testing import assert_close

from accord.cli.given import method_name
from accord.config.build import build
from accord.config.objective_list import one_name
from accord.config.schema import make_config
from accord.engine.step import Batch, accumulate
from accord.errors import UsageError
from accord.models.lora import train_all_weights
from accord.objectives import resolve
from accord.objectives.configured import resolve_objective
from accord.types import DemonstrationLogps, Logps, PairLogps
from accord.verify import tiny
from accord.verify.certificate import certify

COUNTS = ((3, 11, 5, 2), (4, 7, 1, 9))  # chosen, rejected
SIZES = list(zip(*COUNTS, strict=True))
MIXES = {
    "dpo+0.1*sft": {"beta": 0.2},
    "0.25*sft + simpo": {},
    "dpo+0.5*ipo+1e-3*sft": {"dpo": {"beta": 0.3}, "ipo": {"normalize": "sequence_sum"}},
    "2*orpo+cpo": {"orpo": {"weight": 0.2}, "beta": 0.05},
    "odpo+sft": {"margin": "column"},
}


def sides(seed=0):
    """Sums [2, B] of policy and reference."""
    generator = torch.Generator().manual_seed(seed)
    policy = -30 * torch.rand((2, 4), generator=generator, dtype=torch.float64)
    return policy, policy + torch.randn((2, 4), generator=generator, dtype=torch.float64)


def rows(sums, at=slice(None)):
    chosen, rejected = (torch.tensor(side)[at] for side in COUNTS)
    made = pairs(sums[0][at], sums[1][at], chosen, rejected)
    return type(made)(made.chosen, made.rejected, torch.arange(4.0, dtype=torch.float64)[at])


def of_batch(bound, policy, reference, groups):
    """The loss of the batch in these micro-batches, and its gradient."""
    leaf = policy.clone().requires_grad_()
    given = bound.of_batch(SIZES)
    losses = [
        bound.losses(rows(leaf, at), rows(reference, at) if bound.reference else None, **given)
        for at in groups
    ]
    loss = torch.cat([one.losses for one in losses]).sum() / 4
    return loss.item(), torch.autograd.grad(loss, leaf)[0]


def apart(bound, weights, policy, reference):
    """The same by hand: each part alone, over its own denominator."""
    leaf, total = policy.clone().requires_grad_(), 0.0
    for part, weight in zip(bound.parts, weights, strict=True):
        if part.name == "sft":
            mean = part.losses(DemonstrationLogps(rows(leaf).chosen)).losses.sum() / sum(COUNTS[0])
        else:
            known = rows(reference) if part.reference else None
            mean = part.losses(rows(leaf), known).losses.mean()
        total = total + weight * mean
    return total.item(), torch.autograd.grad(total, leaf)[0]


@pytest.mark.parametrize(
    "name, weights",
    [*zip(MIXES, ((1, 0.1), (0.25, 1), (1, 0.5, 1e-3), (2, 1), (1, 1)), strict=True)],
)
def test_a_mixture_is_the_sum_of_its_parts_whatever_the_split(name, weights):
    bound = resolve(name, MIXES[name])
    policy, reference = sides()
    expected, slopes = apart(bound, weights, policy, reference)
    whole, uneven = [slice(0, 4)], [slice(0, 1), slice(1, 4)]
    for groups in (whole, uneven):
        loss, got = of_batch(bound, policy, reference, groups)
        assert loss == pytest.approx(expected, rel=1e-12)
        torch.testing.assert_close(got, slopes, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", MIXES)
def test_the_certificate_knows_a_mixture(name):
    bound = resolve(name, MIXES[name])

    def step(policy, reference, context):
        return bound.losses(policy, reference, **context).losses

    found = certify(bound, step)
    assert (found.verdict, found.evidence["against"]) == ("ok", "closed form")


def test_the_certificate_refuses_a_part_alone_and_a_part_over_other_tokens():
    bound, alone = resolve("dpo+0.1*sft"), resolve("dpo")
    lost = certify(bound, lambda policy, reference, context: alone.losses(policy, reference).losses)
    assert lost.verdict == "refused" and lost.evidence["ran"].startswith("dpo with beta = 0.1")

    def of_a_micro_batch(policy, reference, context):
        own = {name: value * 1.01 for name, value in context.items()}
        return bound.losses(policy, reference, **own).losses

    assert certify(bound, of_a_micro_batch).verdict == "refused"


def test_rpo_is_the_mixture_for_answers_of_one_length_only():
    """rpo takes each row's mean over its own tokens, the mixture one mean over all."""
    policy, reference = sides()
    leaf = policy.clone().requires_grad_()
    same = torch.tensor([6] * 4)
    mix, rpo = resolve("dpo+1.0*sft"), resolve("rpo", {"alpha": 1.0})
    for counts, equal in ((same, True), (torch.tensor(COUNTS[0]), False)):
        made = [pairs(*sums, counts, same) for sums in (leaf, reference)]
        given = mix.of_batch([(int(n), 6) for n in counts])
        one = mix.losses(*made, **given).losses.mean().item()
        assert (one == pytest.approx(rpo.losses(*made).losses.mean().item(), rel=1e-12)) is equal


def test_parts_are_metrics_and_their_sum_the_loss():
    bound = resolve("dpo+0.1*sft")
    policy, reference = (rows(side) for side in sides())
    output = bound.losses(policy, reference, **bound.of_batch(SIZES))
    assert set(output.metrics) == {"part/dpo", "part/sft"}
    nats = -policy.chosen.sum.sum() / sum(COUNTS[0])
    assert output.metrics["part/sft"].mean().item() == pytest.approx(nats.item(), rel=1e-12)
    added = output.metrics["part/dpo"] + 0.1 * output.metrics["part/sft"]
    torch.testing.assert_close(output.losses, added, rtol=1e-12, atol=0)


def two_updates(name, trees, by_hand):
    """Train a tiny model twice; return its weights."""
    made = tiny.model_of(tiny.network("llama"), torch.device("cpu"), torch.float64)
    train_all_weights(made)
    learner, optimizer = tiny.learner_of(made, resolve(name), trees)
    assert learner.micro_tokens < sum(tree.tokens for tree in trees)  # several micro-batches
    for step in range(2):
        if not by_hand:
            optimizer.masters.zero_grad()
            accumulate(learner, Batch(step, trees), optimizer.masters)
        else:
            chosen = [tree.only(0) for tree in trees]
            parts = ((1.0, resolve("dpo"), trees), (0.1, resolve("sft"), chosen))
            added = {}
            for weight, part, own in parts:
                optimizer.masters.zero_grad()
                reference = learner.reference if part.reference else None
                alone = replace(learner, objective=part, reference=reference)
                accumulate(alone, Batch(step, own), optimizer.masters)
                for key, master in optimizer.masters.masters.items():
                    added[key] = added.get(key, 0.0) + weight * master.grad.clone()
            for key, master in optimizer.masters.masters.items():
                master.grad = added[key]
        optimizer.update(step, optimizer.grad_norm())
    return {key: value.detach().clone() for key, value in optimizer.masters.masters.items()}


def test_two_updates_are_those_of_the_sum_made_by_hand():
    trees = tiny.some_trees("pairs", 5)
    mixed = two_updates("dpo+0.1*sft", trees, by_hand=False)
    for key, value in two_updates("dpo+0.1*sft", trees, by_hand=True).items():
        torch.testing.assert_close(mixed[key], value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "name, options, why",
    [
        ("dpo+grpo", {}, "grpo is a policy gradient"),
        ("dpo+bradley_terry", {}, "A reward model's objective is not mixed"),
        ("dpo+kto", {}, "depends on a baseline from answers to other prompts"),
        ("dpo+0*sft", {}, "a part of weight 0 trains nothing: leave it out"),
        ("dpo+-1*sft", {}, "a negative one trains away"),
        ("dpo+nan*sft", {}, "no finite number"),
        ("dpo+much*sft", {}, "'much', which is no number"),
        ("dpo+2*dpo", {}, "dpo is there twice"),
        ("wpo*dpo+dpo", {}, "dpo is there twice"),
        ("wpo*dpo+wpo", {}, "wpo is there twice"),
        ("0.5*wpo+wpo*dpo", {}, "dpo is there twice"),
        ("wpo*kto", {}, "kto is no objective of those"),
        ("wpo*sft+dpo", {}, "sft is no objective of those"),
        ("wpo*wpo+sft", {}, "has the weights of wpo already"),
        ("wpo*wpo*dpo", {}, "'wpo*wpo*dpo' is no part"),
        ("2*wpo*ipo", {}, "--method 'wpo*ipo'"),
        ("0.5*dpo", {}, "a mixture has two parts or more"),
        ("dpo+", {}, "'' is no part"),
        ("2*3*dpo+sft", {}, "'2*3*dpo' is no part"),
        ("dpoo+sft", {}, "did you mean 'dpo'"),
        ("dpo+ipo", {"beta": 0.1}, "--set objective.dpo.beta=VALUE and --set objective.ipo.beta"),
        ("dpo+sft", {"gamma": 1}, "no part of it knows the keyword 'gamma'"),
        ("dpo+sft", {"beta": 0.1, "dpo": {"beta": 0.2}}, "beta is given twice"),
        ("dpo+sft", {"dpo": 3}, "expected the options of its part"),
        ("dpo+sft", {"weight": 2}, "a part's weight is written before it"),
        ("0.2*orpo+cpo", {}, "orpo has an option of the name weight as well"),
        ("dpo+sft", {"dpo": {"beta": -1}}, "dpo: beta = -1 is not accepted"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_reason(name, options, why):
    with pytest.raises(UsageError) as caught:
        resolve(name, options)
    assert why in str(caught.value)


OWN = """
from accord.types import LabelledLogps


def pull(policy, *, k=0.1):
    return (k * policy.rejected.sum) ** 2


def other(policy: LabelledLogps):
    return -policy.completion.sum
"""


def test_parts_of_your_own(tmp_path, monkeypatch):
    (tmp_path / "own_part.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    bound = resolve("dpo+0.5*own_part:pull", {"k": 0.2, "beta": 0.3})
    assert bound.options["own_part:pull"] == {"k": 0.2} and bound.closed_form is None
    assert certify(bound, lambda p, r, c: bound.losses(p, r, **c).losses).verdict == "ok"
    with pytest.raises(UsageError, match="train on different rows .dpo takes pairs, own_part:oth"):
        resolve("dpo+own_part:other")


LISTED = [{"name": "dpo", "beta": 0.2}, {"name": "sft", "weight": 0.1}]


def test_a_recipe_lists_the_parts_or_names_the_whole():
    named = {"name": "dpo+0.1*sft", "dpo": {"beta": 0.2}}
    config = make_config({"objective": LISTED, "data": {"train": "x"}})
    assert config.objective == named
    bound = resolve_objective(config)
    # what a run records is what it would resolve again
    assert resolve(bound.name, bound.options).options == bound.options
    assert bound.flat_options == {"dpo.beta": 0.2, "dpo.label_smoothing": 0.0}
    moved = build(
        {"objective": LISTED, "data": {"train": "x"}}, assignments=["objective.dpo.beta=0.4"]
    )
    assert moved.objective["dpo"] == {"beta": 0.4}
    short = build({"data": {"train": "x"}}, method="dpo+0.1*sft", options={"beta": 0.2})
    assert resolve_objective(short).options == bound.options


@pytest.mark.parametrize(
    "listed, why",
    [
        ([], "an empty list"),
        (["dpo", 3], "one entry is 3"),
        (["dpo+sft", "ipo"], "a mixture in a list"),
        (["dpo", {"name": "dpo"}], "listed twice"),
        (["dpo", {"name": "sft", "weight": "much"}], "which is no number"),
    ],
)
def test_a_list_that_is_none_is_refused(listed, why):
    with pytest.raises(UsageError, match=why):
        make_config({"objective": listed, "data": {"train": "x"}})


def test_the_command_line_s_letters():
    assert method_name("DPO+1e-3*SFT") == "dpo+1e-3*sft"
    assert method_name("dr-grpo") == "dr_grpo"
    assert resolve("dpo+1e+3*sft").name == "dpo+1000*sft"


def test_wpo_weighs_any_pair_loss_and_one_part_alone():
    """wpo*dpo is wpo; in a mixture it weighs its own part, whose share the number still is."""
    generator = torch.Generator().manual_seed(3)

    def side(counts):
        counts = torch.tensor(counts)
        sums = -2 * torch.rand(4, generator=generator, dtype=torch.float64) * counts
        return Logps(sums, counts, collision=torch.rand(4, generator=generator) * counts)

    policy, reference = (PairLogps(*(side(counts) for counts in COUNTS)) for _ in range(2))
    answers = (policy.chosen, policy.rejected)
    weight = torch.exp(sum((one.sum + one.collision) / one.count for one in answers))
    losses = {
        name: resolve(name).losses(policy, reference).losses
        for name in ("wpo", "wpo*dpo", "wpo*ipo", "ipo", "dpo", "0.5*wpo*ipo+dpo")
    }
    assert torch.equal(losses["wpo"], losses["wpo*dpo"])
    assert_close(losses["wpo*ipo"], weight * losses["ipo"])
    assert_close(losses["0.5*wpo*ipo+dpo"], 0.5 * weight * losses["ipo"] + losses["dpo"])
    bound = resolve("0.5*wpo*ipo+dpo", {"ipo": {"beta": 0.3}})
    assert bound.name == "0.5*wpo*ipo+dpo" and bound.columns == {"collision"}
    assert bound.at_reference is None and resolve(bound.name, bound.options).options["ipo"]
    with pytest.raises(UsageError, match="collision entropy of every prediction"):
        bare = replace(policy, chosen=replace(policy.chosen, collision=None))
        resolve("wpo").losses(bare, reference)
    with pytest.raises(UsageError, match="without the sum over those before"):
        resolve("ld_dpo").losses(policy, reference)


def test_a_list_may_weigh_a_part_by_the_policy():
    same = {"name": "wpo*ipo", "beta": 0.2}
    for part in ({"name": "wpo*ipo"}, {"name": "ipo", "weight": "wpo"}):
        assert one_name([part | {"beta": 0.2}]) == same
    assert one_name([{"name": "wpo*dpo", "weight": 0.5}, "sft"]) == {"name": "0.5*wpo*dpo+sft"}
    with pytest.raises(ValueError, match="is no number"):
        one_name([{"name": "ipo", "weight": "much"}])
    with pytest.raises(ValueError, match="is a mixture in a list"):
        one_name([{"name": "wpo*ipo+sft"}])


@pytest.mark.parametrize("name", ["wpo*own_part:pull", "own_part:pull+wpo*dpo"])
def test_a_custom_part_beside_weights_is_certified(name, tmp_path, monkeypatch):
    """Finite differences hold the weights, as the gradient does; one that goes through them is
    refused.
    """
    (tmp_path / "own_part.py").write_text(
        "from accord.types import LossOutput\n\n\n"
        "def pull(policy, reference, *, k: float = 0.5):\n"
        "    return LossOutput(k * (reference.chosen.sum.detach() - policy.chosen.sum))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    bound = resolve(name)
    assert certify(bound, lambda p, r, c: bound.losses(p, r, **c).losses).verdict == "ok"

    def through(p, r, c):
        means = p.chosen.mean + p.rejected.mean
        return bound.losses(p, r, **c).losses * torch.exp(means - means.detach())

    assert certify(bound, through).refused
