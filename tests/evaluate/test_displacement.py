"""The figures that take a margin apart, by hand."""

import math

import pytest
import torch

from accord.evaluate.displacement import (
    as_evaluation,
    decompose,
    length_correlation,
    since,
    spearman,
)
from accord.evaluate.records import Records
from accord.objectives import resolve
from accord.types import Tree

DPO = resolve("dpo", {"beta": 0.1})


def records(**columns) -> Records:
    """Rows with the given columns; "/" is written "__"."""
    made = Records()
    count = len(next(iter(columns.values())))
    made.add(
        [Tree((1,), ((2,), (3,)), row) for row in range(count)],
        **{
            name.replace("__", "/"): torch.tensor(values, dtype=torch.float64)
            for name, values in columns.items()
        },
    )
    return made


def three(**changes) -> Records:
    """Chosen: +1 over 2 tokens, -3 over 4, -5e-4 over 2; rejected -2, -6, -1 over 2, 4, 4."""
    columns = {
        "diag__log_ratio__chosen": [1.0, -3.0, -5e-4],
        "diag__log_ratio__rejected": [-2.0, -6.0, -1.0],
        "tokens__chosen": [2.0, 4.0, 2.0],
        "tokens__rejected": [2.0, 4.0, 4.0],
        "rewards__chosen": [0.1, -0.3, 0.0],
        "rewards__rejected": [-0.2, -0.6, 0.0],
        "loss": [0.5, 0.001, 0.6931],
    }
    return records(**columns | changes)


def test_by_hand():
    found = decompose(three(), DPO, tie_width=1e-3)
    assert found["diag/log_ratio/chosen"] == pytest.approx(-2.0005 / 3) and found[
        "diag/log_ratio/rejected"
    ] == pytest.approx(-3)
    assert found["diag/log_ratio_token/chosen"] == pytest.approx(-2.0005 / 8) and found[
        "diag/log_ratio_token/rejected"
    ] == pytest.approx(-0.9)
    assert found["diag/drift"] == pytest.approx((4.0005 + 9) / 18)
    assert found["diag/chosen_down"] == pytest.approx(1 / 3)  # the third fell by less than rounding
    assert found["diag/ties"] == pytest.approx(1 / 3) and found["diag/saturated"] == pytest.approx(
        1 / 3
    )


def test_a_row_that_lacks_a_side():
    """Labelled rows: each side over the rows that have it; no margin, so no ties."""
    nan = math.nan
    found = decompose(
        three(
            diag__log_ratio__chosen=[1.0, nan, nan],
            tokens__chosen=[2.0, nan, nan],
            rewards__chosen=[0.1, nan, nan],
            diag__log_ratio__rejected=[nan, -6.0, -1.0],
            tokens__rejected=[nan, 4.0, 4.0],
        ),
        DPO,
    )
    assert found["diag/log_ratio_token/chosen"] == 0.5 and found["diag/log_ratio/rejected"] == -3.5
    assert found["diag/drift"] == pytest.approx(8 / 10) and "diag/ties" not in found
    nowhere = [nan] * 3
    bad_alone = decompose(
        three(diag__log_ratio__chosen=nowhere, tokens__chosen=nowhere, rewards__chosen=nowhere), DPO
    )
    assert (
        not {"diag/log_ratio/chosen", "diag/log_ratio_token/chosen", "diag/chosen_down"}
        & bad_alone.keys()
    )
    assert bad_alone["diag/drift"] == pytest.approx(9 / 10)


def test_what_is_not_known_is_left_out():
    """SimPO has no reference and no loss that is fixed at one."""
    found = decompose(
        records(rewards__chosen=[1.0], rewards__rejected=[0.0], loss=[0.1]), resolve("simpo", {})
    )
    assert found == {"diag/ties": 0.0}


def test_since_step_0():
    made = records(logps__chosen=[-3.0, -5.0], logps__rejected=[-1.0, -2.0])
    since(made, {"chosen": torch.tensor([-2.0, -7.0]), "rejected": torch.tensor([-1.0, -1.0])})
    assert made["diag/log_ratio/chosen"].tolist() == [-1.0, 2.0] and made[
        "diag/log_ratio/rejected"
    ].tolist() == [0.0, -1.0]
    # a reference's own figures stay
    since(made, {"chosen": torch.zeros(2), "rejected": torch.zeros(2)})
    assert made["diag/log_ratio/chosen"].tolist() == [-1.0, 2.0]


def test_length_correlation():
    """Margins in the order of the lengths: 1; against it: -1; under 20 rows nothing is said."""
    order = [float(i) for i in range(20)]
    made = {
        "rewards__chosen": [v**3 for v in order],
        "rewards__rejected": [0.0] * 20,
        "tokens__chosen": order,
        "tokens__rejected": [5.0] * 20,
    }
    assert length_correlation(records(**made)) == pytest.approx(1)
    assert length_correlation(records(**made | {"tokens__chosen": order[::-1]})) == pytest.approx(
        -1
    )
    assert (
        length_correlation(records(**{name: values[:19] for name, values in made.items()})) is None
    )
    assert length_correlation(records(**made | {"rewards__chosen": [math.nan] * 20})) is None
    assert spearman(torch.ones(5), torch.arange(5.0)) == 0


def test_names_of_evaluations():
    assert as_evaluation({"diag/drift": 1.0, "diag/log_ratio/chosen": 2.0}) == {
        "diag/eval_drift": 1.0,
        "diag/eval_log_ratio/chosen": 2.0,
    }
