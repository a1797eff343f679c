"""Evaluation disturbs nothing, asks the reference once, and says what the records say."""

import random
from dataclasses import replace

import pytest
import torch
from forward.tiny import tiny, tokens

from accord.distributed.world import World
from accord.evaluate.held_out import HeldOut, evaluate, metrics, pair_accuracy
from accord.forward.choose import choose
from accord.forward.reference import AdaptersOff
from accord.models.lora import add_lora
from accord.objectives import resolve
from accord.types import Tree


def pair_trees(n=7):
    rng = random.Random(0)
    return [
        Tree(tokens(rng, 3 + row % 4), (tokens(rng, 2 + row % 5), tokens(rng, 1 + row % 3)), row)
        for row in range(n)
    ]


def label_trees(n=8):
    return [
        replace(t, completions=t.completions[:1], desirable=t.row % 3 != 0) for t in pair_trees(n)
    ]


def held_out(trees, kind="pairs", budget=25):
    return HeldOut(trees, kind, [tree.row for tree in trees], budget)


@pytest.fixture
def trained():
    """A policy that has left its reference, and that reference."""
    model = tiny()
    add_lora(model, rank=2, alpha=4.0, targets="attention", dropout=0.5, dora=False, seed=0)
    with torch.no_grad():
        for parameter in model.trainable().values():
            parameter.normal_(std=0.2)
    forward = choose(model, pair_trees())
    return forward, AdaptersOff(forward)


class Counted:
    """A reference that counts the trees it is asked for."""

    def __init__(self, reference):
        self.reference, self.name, self.moves, self.asked = reference, "counted", False, 0

    def logps(self, trees):
        self.asked += len(trees)
        return self.reference.logps(trees)


class TwoRanks(World):
    """Both ranks of a world of two, one after the other in this process."""

    def gather_or_raise(self, work):
        return [object.__setattr__(self, "rank", rank) or work() for rank in range(2)]


@pytest.mark.parametrize("name, kind", [("dpo", "pairs"), ("kto", "labelled")])
def test_the_rows_of_two_ranks_come_back_in_their_order(trained, name, kind):
    """Whole groups are dealt by size, so not in their order; every row has the very figures that it
    has in a world of one.
    """
    forward, reference = trained
    rows, objective = (pair_trees(11) if kind == "pairs" else label_trees(11)), resolve(name, {})
    assert len(held_out(rows, kind).groups(rows)) > 3
    alone = evaluate(held_out(rows, kind), forward, objective, reference)
    both = evaluate(held_out(rows, kind), forward, objective, reference, world=TwoRanks(0, 2))
    for column in ("loss", "logps/chosen", "rewards/chosen", "tokens/chosen"):
        assert torch.equal(both[column].nan_to_num(), alone[column].nan_to_num()), column


@pytest.mark.parametrize(
    "name, kind", [("dpo", "pairs"), ("kto", "labelled"), ("simpo", "pairs"), ("sft", "pairs")]
)
def test_evaluation_disturbs_nothing(trained, name, kind):
    """Weights, gradients, random state, gradient flags, training mode: to the last bit."""
    forward, reference = trained
    model, objective = forward.model, resolve(name, {})
    trees = pair_trees() if kind == "pairs" else label_trees()
    forward(trees).values.sum().backward()
    random.seed(1), torch.manual_seed(1)

    def state():
        parameters = list(model.root.named_parameters())
        return (
            {name: p.detach().clone() for name, p in parameters},
            {name: p.grad.clone() for name, p in parameters if p.grad is not None},
            {"rng": torch.get_rng_state()},
            {name: torch.tensor([p.requires_grad]) for name, p in parameters},
            {name: torch.tensor([m.training]) for name, m in model.network.named_modules()},
        )

    before, plain = state(), random.getstate()
    records = evaluate(
        held_out(trees, kind), forward, objective, reference if objective.reference else None
    )
    for was, now in zip(before, state(), strict=True):
        assert was.keys() == now.keys() and all(torch.equal(was[key], now[key]) for key in was)
    assert before[1] and random.getstate() == plain and torch.is_grad_enabled()
    assert len(records) == len(trees) and records.row == [tree.row for tree in trees]


def test_the_reference_is_asked_once(trained):
    forward, reference = trained
    counted, rows = Counted(reference), held_out(pair_trees())
    first = evaluate(rows, forward, resolve("dpo", {}), counted)
    assert counted.asked == 7 and len(rows.groups(rows.trees)) > 1
    with torch.no_grad():
        for parameter in forward.model.trainable().values():
            parameter.mul_(1.1)
    second = evaluate(rows, forward, resolve("dpo", {}), counted)
    assert counted.asked == 7 and not torch.equal(first["loss"], second["loss"])
    for side in ("chosen", "rejected"):
        moved = second[f"logps/{side}"] - first[f"logps/{side}"]
        torch.testing.assert_close(
            second[f"diag/log_ratio/{side}"] - first[f"diag/log_ratio/{side}"], moved
        )


def test_a_reference_that_moves_is_asked_each_time(trained):
    forward, reference = trained
    counted, rows, objective = Counted(reference), held_out(pair_trees()), resolve("dpo", {})
    counted.moves = True
    for times in (1, 2):
        evaluate(rows, forward, objective, counted)
        assert counted.asked == times * len(rows.trees)


def test_metrics_do_not_depend_on_the_packs(trained):
    forward, reference = trained
    objective, found = resolve("dpo", {}), []
    for budget in (1, 25, 10_000):
        rows = held_out(pair_trees(), budget=budget)
        found.append(metrics(evaluate(rows, forward, objective, reference), rows, objective, 0.0))
    for other in found[1:]:
        assert other.keys() == found[0].keys() and all(k.startswith("eval_") for k in other)
        assert all(other[k] == pytest.approx(found[0][k], rel=1e-4, abs=1e-5) for k in other)
    assert found[0]["eval_rewards/accuracies"] not in (0.0, 1.0)


def test_losses_are_the_objectives_own(trained):
    forward, reference = trained
    records = evaluate(held_out(pair_trees()), forward, resolve("dpo", {"beta": 0.3}), reference)
    h = records["diag/log_ratio/chosen"] - records["diag/log_ratio/rejected"]
    torch.testing.assert_close(
        records["loss"], torch.log1p(torch.exp(-0.3 * h)), atol=1e-4, rtol=1e-4
    )


def test_kto_takes_its_baseline_from_all_held_out_rows(trained):
    """Also where micro-batches hold one row each, none of which could have a baseline."""
    forward, reference = trained
    objective, losses = resolve("kto", {}), []
    for budget in (1, 10_000):
        counted, rows = Counted(reference), held_out(label_trees(), "labelled", budget)
        losses.append(evaluate(rows, forward, objective, counted)["loss"])
        asked = counted.asked
        assert asked == len(rows.all_trees(objective)) > 8
        evaluate(rows, forward, objective, counted)
        assert counted.asked == asked
    torch.testing.assert_close(losses[0], losses[1], atol=1e-4, rtol=1e-4)


def test_rows_of_another_kind_have_rewards_but_no_loss(trained):
    forward, reference = trained
    rows = held_out(pair_trees())
    objective = resolve("kto", {})
    records = evaluate(rows, forward, objective, reference)
    found = metrics(records, rows, objective, 0.0)
    assert "loss" not in records and "eval_loss" not in found and "eval_rewards/accuracies" in found
    assert rows.all_trees(objective) == list(rows.trees)


def test_polling_between_micro_batches(trained):
    """SIGTERM must not wait for the end of an evaluation."""
    forward, reference = trained
    polls = []
    rows = held_out(pair_trees(), budget=1)
    evaluate(rows, forward, resolve("dpo", {}), reference, lambda: polls.append(1))
    assert len(polls) >= 2 * 7


# ---------------------------------------------------------------- reductions


def test_labelled_metrics_have_the_area(trained):
    forward, reference = trained
    rows, objective = held_out(label_trees(), "labelled"), resolve("kto", {})
    records = evaluate(rows, forward, objective, reference)
    found = metrics(records, rows, objective, 0.0)
    reward = torch.where(
        records["rewards/chosen"].isnan(), records["rewards/rejected"], records["rewards/chosen"]
    )
    good = torch.tensor([tree.desirable for tree in rows.trees])
    won = [float(a > b) for a in reward[good] for b in reward[~good]]
    assert (
        found["diag/eval_auc"] == pytest.approx(sum(won) / len(won))
        and "eval_rewards/accuracies" not in found
    )
    # nothing to rank above anything
    alike = [replace(tree, desirable=True) for tree in label_trees()]
    rows = held_out(alike, "labelled")
    assert "diag/eval_auc" not in metrics(
        evaluate(rows, forward, resolve("kto", {}), reference), rows, resolve("kto", {}), 0.0
    )
    assert pair_accuracy(records, rows, 0.0) is None


def test_pair_accuracy_counts_prompts(trained):
    """Ten copies of a prompt's rows are not ten times the evidence."""
    forward, reference = trained
    own = HeldOut(pair_trees(), "pairs", list(range(7)), 100)
    shared = HeldOut(pair_trees(), "pairs", [0, 0, 0, 1, 1, 1, 1], 100)
    objective = resolve("dpo", {})
    records = evaluate(own, forward, objective, reference)
    one, other = pair_accuracy(records, own, 0.0), pair_accuracy(records, shared, 0.0)
    margins = records["rewards/chosen"] - records["rewards/rejected"]
    assert (
        one.value == other.value == pytest.approx((margins > 0).double().mean().item())
        and one.n == 7
    )
    assert other.high - other.low > one.high - one.low
    assert pair_accuracy(records, own, 100.0).value == 0.5
