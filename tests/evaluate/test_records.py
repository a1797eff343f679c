"""One table, reduced once: however rows were cut into micro-batches, and with ties as halves."""

import math

import pytest
import torch

from accord.evaluate.records import Records, record, summarise, wins
from accord.forward.logps import TokenLogps
from accord.forward.rows import as_rows
from accord.objectives import resolve
from accord.types import Logps, LossOutput, Tree


def pairs(lengths):
    """Pairs whose answers have the given lengths."""
    return [
        Tree((1,), ((5,) * chosen, (6,) * rejected), row)
        for row, (chosen, rejected) in enumerate(lengths)
    ]


def scored(trees, seed=0):
    """Per-token numbers of each tree that depend on its row alone."""
    values, entropy, owner, count = [], [], [], []
    for tree in trees:
        generator = torch.Generator().manual_seed(seed + tree.row)
        for completion in tree.completions:
            values.append(-torch.rand(len(completion), generator=generator))
            entropy.append(torch.rand(len(completion), generator=generator))
            owner += [len(count)] * len(completion)
            count.append(len(completion))
    return TokenLogps(
        torch.cat(values), torch.cat(entropy), torch.tensor(owner), torch.tensor(count)
    )


def filled(trees, groups, objective, kind="pairs"):
    records = Records()
    for group in groups:
        chosen = [trees[i] for i in group]
        tokens, against = scored(chosen), scored(chosen, seed=50).reduce()
        reference = against if objective.reference else None
        rows = as_rows(kind, chosen, tokens.reduce())
        output = objective.losses(
            rows, as_rows(kind, chosen, against) if objective.reference else None
        )
        record(records, objective, chosen, tokens, reference, output)
    return records


@pytest.mark.parametrize("name", ["dpo", "ipo", "simpo", "orpo"])
def test_unequal_micro_batches_reduce_to_the_same_metrics(name):
    """A mean of means would weigh the row that was alone three times."""
    trees, objective = pairs([(2, 7), (5, 1), (3, 3), (11, 2)]), resolve(name, {})
    whole = summarise(filled(trees, [[0, 1, 2, 3]], objective), objective)
    split = summarise(filled(trees, [[0, 1, 2], [3]], objective), objective)
    assert split.keys() == whole.keys()
    for key in whole:
        assert split[key] == pytest.approx(whole[key], rel=1e-6), key


def test_metrics_by_hand():
    """Two pairs under DPO, β = 0.1, against a reference of −1 nat a token."""
    objective = resolve("dpo", {"beta": 0.1})
    trees = pairs([(1, 2), (3, 1)])
    tokens = TokenLogps(
        torch.tensor([-2.0, -1.0, -1.0, -0.5, -0.5, -1.0, -4.0]),
        torch.tensor([1.0, 1, 1, 2, 2, 2, 5]),
        torch.tensor([0, 1, 1, 2, 2, 2, 3]),
        torch.tensor([1, 2, 3, 1]),
    )
    reference = Logps(torch.tensor([-1.0, -2.0, -3.0, -1.0]), tokens.count)
    output = objective.losses(
        as_rows("pairs", trees, tokens.reduce()), as_rows("pairs", trees, reference)
    )
    records = Records()
    record(records, objective, trees, tokens, reference, output)
    # log-ratios: −1, 0 | 1, −3
    found = summarise(records, objective)
    assert found["logps/chosen"] == pytest.approx((-2 - 2) / 2) and found[
        "logps/rejected"
    ] == pytest.approx((-2 - 4) / 2)
    assert found["rewards/chosen"] == pytest.approx(0, abs=1e-9) and found[
        "rewards/rejected"
    ] == pytest.approx(-0.15)
    assert (
        found["rewards/margins"] == pytest.approx((-0.1 + 0.4) / 2)
        and found["rewards/accuracies"] == 0.5
    )
    losses = [math.log(1 + math.exp(0.1)), math.log(1 + math.exp(-0.4))]
    assert found["loss"] == pytest.approx(sum(losses) / 2)
    assert found["entropy"] == pytest.approx(14 / 7)  # a mean over tokens, not over answers
    assert records["diag/log_ratio/chosen"].tolist() == [-1, 1] and records["tokens"].tolist() == [
        3,
        4,
    ]
    assert records["diag/log_ratio/rejected"].tolist() == [0, -3]


def test_token_weighted_objectives_divide_by_tokens():
    trees, objective = [Tree((1,), ((5,) * n,), n) for n in (1, 9)], resolve("sft", {})
    records = filled(trees, [[0], [1]], objective, "demonstrations")
    wanted = -sum(scored([tree]).values.sum().item() for tree in trees) / 10
    assert summarise(records, objective)["loss"] == pytest.approx(wanted, rel=1e-6)


def test_ties_are_half_a_win():
    margins = torch.tensor([0.0, 1e-9, -1e-9, 0.3, -0.3], dtype=torch.float64)
    assert wins(margins).tolist() == [0.5, 1, 0, 1, 0]
    assert wins(margins, 1e-6).tolist() == [0.5, 0.5, 0.5, 1, 0]
    assert wins(margins, 0.3).tolist() == [0.5] * 5


def test_before_training_every_margin_is_a_tie():
    """Policy = reference: accuracy .5, where counting ties as losses says 0."""
    objective, trees = resolve("dpo", {}), pairs([(2, 3), (4, 1)])
    tokens, records = scored(trees), Records()
    record(records, objective, trees, tokens, tokens.reduce(), None)
    found = summarise(records, objective)
    assert (
        found["rewards/accuracies"] == 0.5
        and found["rewards/margins"] == 0.0
        and "loss" not in found
    )


def labelled(desirable):
    return [Tree((1,), ((5, 6),), row, value) for row, value in enumerate(desirable)]


def test_labelled_rows_have_one_side_and_no_margin():
    objective, trees = resolve("dpo", {}), labelled([True, False, True])
    tokens, records = scored(trees), Records()
    record(records, objective, trees, tokens, scored(trees, 50).reduce(), None)
    for name in ("logps", "rewards", "diag/log_ratio"):
        assert records[f"{name}/chosen"].isnan().tolist() == [False, True, False]
        assert records[f"{name}/rejected"].isnan().tolist() == [True, False, True]
    sums, found = tokens.reduce().sum, summarise(records, objective)
    assert found["logps/chosen"] == pytest.approx((sums[0] + sums[2]).item() / 2)
    assert found["logps/rejected"] == pytest.approx(sums[1].item())
    assert "rewards/accuracies" not in found and "rewards/margins" not in found


def test_demonstrations_count_as_good():
    objective, trees = resolve("sft", {}), labelled([None, None])
    found = summarise(filled(trees, [[0, 1]], objective, "demonstrations"), objective)
    assert "logps/chosen" in found and "logps/rejected" not in found


def test_columns_are_float64_and_in_order():
    records = Records()
    records.add(pairs([(1, 1)] * 2), x=torch.tensor([1.0, 2.0]))
    records.add([Tree((1,), ((2,),), 9)], x=torch.tensor([3.0], requires_grad=True))
    assert records["x"].tolist() == [1, 2, 3] and records["x"].dtype == torch.float64
    assert records.row == [0, 1, 9] and len(records) == 3 and "x" in records and "y" not in records
    assert not records["x"].requires_grad
    with pytest.raises(AssertionError):
        records.add(pairs([(1, 1)]), x=torch.tensor([1.0, 2.0]))


def test_statistics_of_a_batch_that_went_wrong():
    records = Records()
    records.add(pairs([(1, 1)] * 4), loss=torch.tensor([1.0, float("nan"), -2.0, float("inf")]))
    records.add(pairs([(1, 1)] * 4), gone=torch.full((4,), float("nan")))
    found = records.statistics()
    assert found["loss"] == {"finite": 2, "of": 4, "min": -2, "max": 1}
    assert found["gone"] == {"finite": 0, "of": 4}


def test_a_table_travels_and_comes_back():
    """From one rank to all: rows and every column; a rank without rows sends nothing at all."""
    records = filled(pairs([(2, 3), (1, 4)]), [[0], [1]], resolve("dpo", {}))
    there = Records.of(records.tensors())
    assert (
        there.row == records.row == [0, 1]
        and there.names() == records.names()
        and "row" not in there
    )
    assert all(torch.equal(there[name], records[name]) for name in records.names())
    assert Records().tensors() == {} and len(Records()) == 0


def test_lengths_by_side_and_what_an_objective_adds():
    """Answers of 2 and 3 tokens, of 1 and 4; a figure of the objective's own is the rows' mean,
    under its own name.
    """
    trees, objective = pairs([(2, 3), (1, 4)]), resolve("dpo", {})
    tokens = scored(trees)
    output = LossOutput(torch.tensor([1.0, 2.0]), {"odds": torch.tensor([0.25, 0.5])})
    records = Records()
    record(records, objective, trees, tokens, tokens.reduce(), output)
    assert records["tokens/chosen"].tolist() == [2, 1] and records["tokens/rejected"].tolist() == [
        3,
        4,
    ]
    assert records["tokens"].tolist() == [5, 5] and records["extra/odds"].tolist() == [0.25, 0.5]
    assert records["entropy_sum"].tolist() == pytest.approx(
        [piece.sum().item() for piece in tokens.entropy.split([5, 5])]
    )
    found = summarise(records, objective)
    assert found["odds"] == 0.375 and found["loss"] == 1.5 and "extra/odds" not in found
    without = Records()
    record(without, resolve("simpo", {}), trees, tokens, None, None)
    assert not any(name.startswith("diag/log_ratio") for name in without.names())


def test_a_tie_is_no_wider_than_asked():
    records = Records()
    column = lambda *values: torch.tensor(values)  # noqa: E731
    records.add(
        pairs([(1, 1)] * 2),
        **{
            "rewards/chosen": column(0.25, 1.0),
            "rewards/rejected": column(0.0, 2.0),
            "logps/chosen": column(-1.0, -1.0),
            "logps/rejected": column(-1.0, -1.0),
            "entropy_sum": column(1.0, 2.0),
            "tokens": column(2.0, 4.0),
        },
    )
    objective = resolve("dpo", {})
    assert summarise(records, objective)["rewards/accuracies"] == 0.5
    assert summarise(records, objective, 0.25)["rewards/accuracies"] == 0.25
    assert (
        summarise(records, objective, 0.25)["entropy"] == 0.5
        and summarise(records, objective)["rewards/margins"] == -0.375
    )
