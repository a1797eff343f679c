"""What must hold while training: pure checks by hand, and runs in which one thing goes wrong after
step 0.
"""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import pair_rows, write_rows
from training.helpers import json_lines, labelled_rows, run

from accord.data.order import Order
from accord.engine import optimizer, step
from accord.engine.step import Batch
from accord.evaluate.records import Records
from accord.forward.reference import Frozen
from accord.objectives import resolve
from accord.runs import checkpoint
from accord.training import file_source, loop
from accord.training.setup import offline
from accord.types import Finding, LossOutput, PairLogps, Refused, Tree
from accord.verify import independent
from accord.verify.independent import order_finding
from accord.verify.row_checks import bookkeeping, losses_as_closed, metrics_as_recorded

# ---------------------------------------------------------------- pure checks


def trees(n: int = 4, desirable=None) -> list[Tree]:
    return [
        Tree((1, 2, row + 3), ((4, row + 50, 2), (row + 60, 2)), row, desirable) for row in range(n)
    ]


def records(batch, policy=((-3.0, -2.0),), known=((-3.5, -1.0),), loss=None) -> Records:
    out, n = Records(), len(batch)
    column = lambda value: torch.full((n,), float(value))  # noqa: E731
    (good, bad), (ref_good, ref_bad) = policy[0], known[0]
    out.add(
        batch,
        **{
            "logps/chosen": column(good),
            "logps/rejected": column(bad),
            "diag/log_ratio/chosen": column(good - ref_good),
            "diag/log_ratio/rejected": column(bad - ref_bad),
            "rewards/chosen": column(0.2),
            "rewards/rejected": column(0.1),
            "tokens": column(5),
            "loss": column(
                loss
                if loss is not None
                else -torch.nn.functional.logsigmoid(torch.tensor(0.15)).item()
            ),
        },
    )
    return out


def test_bookkeeping():
    """Δ of the batch, the records and the epoch: each disagreement has its own words."""
    batch = Batch(0, trees())
    assert bookkeeping(batch, records(batch.trees), trees(), Counter()) == []
    assert (
        "other rows"
        in bookkeeping(
            batch, records(batch.trees), [*trees()[:3], replace(trees()[3], row=9)], Counter()
        )[0].says
    )
    swapped = [
        replace(tree, completions=tree.completions[::-1]) if tree.row == 2 else tree
        for tree in trees()
    ]
    assert (
        "sides changed: row 2"
        in bookkeeping(Batch(0, swapped), records(swapped), trees(), Counter())[0].says
    )
    assert (
        "3 of its 4 rows"
        in bookkeeping(batch, records(batch.trees[:3]), trees(), Counter())[0].says
    )
    assert (
        "row 2 comes a second time"
        in bookkeeping(batch, records(batch.trees), trees(), Counter({2: 1, 7: 1}))[0].says
    )
    longer = [replace(t, completions=((4, 5, 5, 2), (6, 2))) for t in batch.trees]
    assert "scored 20" in bookkeeping(Batch(0, longer), records(longer), longer, Counter())[0].says
    matched = Batch(
        0, batch.trees, [replace(batch.trees[0], completions=batch.trees[0].completions[:1])]
    )
    assert "own prompt" in bookkeeping(matched, records(batch.trees), trees(), Counter())[0].says


def test_losses_as_closed():
    """h = (-3 + 3.5) - (-2 + 1) = 1.5, β = 0.1: the loss is log(1 + e^-0.15)."""
    dpo = resolve("dpo", {"beta": 0.1})
    assert losses_as_closed(dpo, trees(), records(trees())) == []
    assert (
        "row 0 has the loss 0.7"
        in losses_as_closed(dpo, trees(), records(trees(), loss=0.7))[0].says
    )
    assert losses_as_closed(resolve("dpo", {"beta": 0.2}), trees(), records(trees()))


def test_metrics_as_recorded():
    right = {"rewards/accuracies": 1.0, "rewards/margins": 0.1}
    assert metrics_as_recorded(right, records(trees()), 0.0) == []
    # all ties
    assert metrics_as_recorded(right | {"rewards/accuracies": 0.5}, records(trees()), 0.2) == []
    assert (
        "accuracies"
        in metrics_as_recorded(right | {"rewards/accuracies": 0.0}, records(trees()), 0.0)[0].says
    )
    assert (
        "margins"
        in metrics_as_recorded(right | {"rewards/margins": 0.2}, records(trees()), 0.0)[0].says
    )


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda index, rows: rows, "each of 24 rows"),
        (lambda index, rows: list(range(index * 4, index * 4 + 4)), "not shuffled"),
        (lambda index, rows: [5, *rows[1:]], "more than once"),
        (lambda index, rows: [row for row in rows if row != 3], "never come"),
        (lambda index, rows: torch.randperm(24)[:4].tolist(), "asked twice"),
    ],
    ids=["right", "sorted", "doubled", "lost", "impure"],
)
def test_order(change, says, monkeypatch):
    right = Order.batch
    monkeypatch.setattr(
        Order, "batch", lambda self, index: change(index, right(self, index).tolist())
    )
    finding = order_finding(Order(24, 4, 0), np.full(24, -1))
    assert says in finding.says and finding.refused == (says != "each of 24 rows")


def test_order_without_both_labels():
    labels = np.arange(24) % 2
    assert order_finding(Order(24, 1, 0), labels).verdict == "warning"
    strata = labels.astype(np.int8).tobytes()
    assert order_finding(Order(24, 4, 0, strata), labels).verdict == "ok"


# ---------------------------------------------------------------- before the first update


def refused(tiny_folder, data, output, **changes) -> str:
    with pytest.raises(Refused) as error:
        run(tiny_folder, data, output, **changes)
    return str(error.value)


def test_swapped_sides_are_seen_in_the_gradient(tiny_folder, pairs_file, tmp_path, monkeypatch):
    for module in (step, independent):
        right = module.as_rows
        monkeypatch.setattr(
            module,
            "as_rows",
            lambda *given, right=right: PairLogps(
                *(lambda p: (p.rejected, p.chosen))(right(*given))
            ),
        )
    assert "chosen and rejected are swapped" in refused(tiny_folder, pairs_file, tmp_path / "run")


def test_a_reference_that_is_the_policy(tiny_folder, pairs_file, tmp_path, monkeypatch):
    monkeypatch.setattr(Frozen, "copy_of", staticmethod(lambda policy: Frozen(policy)))
    said = refused(tiny_folder, pairs_file, tmp_path / "run", reference="frozen", lora=False)
    assert "step0.moved" in said and "the reference moves too" in said


def test_a_wrong_denominator(tiny_folder, pairs_file, tmp_path, monkeypatch):
    right = step.denominator
    monkeypatch.setattr(step, "denominator", lambda *given: right(*given) / 4)
    assert "it is 4 times the right one" in refused(tiny_folder, pairs_file, tmp_path / "run")


def test_nan_that_is_replaced(tiny_folder, pairs_file, tmp_path, monkeypatch):
    right = step.row_losses
    monkeypatch.setattr(
        independent, "row_losses", lambda *given: LossOutput(torch.nan_to_num(right(*given).losses))
    )
    assert "NaN gives a finite loss" in refused(tiny_folder, pairs_file, tmp_path / "run")


def test_a_path_without_gradient_is_no_traceback(tiny_folder, pairs_file, tmp_path, monkeypatch):
    from accord.forward import logps

    right = logps.TokenLogps.reduce
    monkeypatch.setattr(logps.TokenLogps, "reduce", lambda self: right(self).detach())
    assert "carry no gradient" in refused(tiny_folder, pairs_file, tmp_path / "run")


# ---------------------------------------------------------------- while training


def after(monkeypatch, updates: int, act) -> None:
    """`act(run)` just before an update, once so many were made."""
    right = loop.make_update

    def update(running):
        if running.progress.step == updates:
            act(running)
        right(running)

    monkeypatch.setattr(loop, "make_update", update)


def scale_embedding(running):
    with torch.no_grad():
        running.ready.model.network.get_input_embeddings().weight.mul_(1.01)


def drop_moments(running):
    running.ready.optimizer.inner.state.clear()


def triple_rate(running):
    right = running.ready.optimizer.rate
    running.ready.optimizer.rate = lambda number: 3 * right(number)


@pytest.mark.parametrize(
    ("act", "check", "says"),
    [
        (scale_embedding, "running.frozen", "has changed"),
        (drop_moments, "running.update", "moments"),
        (triple_rate, "running.update", "3 times as far"),
    ],
)
def test_what_goes_wrong_later(act, check, says, tiny_folder, pairs_file, tmp_path, monkeypatch):
    after(monkeypatch, 1 if act is scale_embedding else 2, act)
    said = refused(tiny_folder, pairs_file, tmp_path / "run")
    assert check in said and says in said
    events = json_lines(tmp_path / "run/events.jsonl")
    assert (check, "refused") in {(event["check"], event["verdict"]) for event in events}


def test_a_cache_that_was_never_filled(tiny_folder, pairs_file, tmp_path, monkeypatch):
    monkeypatch.setattr(
        offline,
        "cached_reference",
        lambda learner, *_, **__: (learner.reference, Finding("reference", "ok", "never filled")),
    )
    said = refused(tiny_folder, pairs_file, tmp_path / "run", reference="cached", lora=False)
    assert "running.reference" in said and "must not move" in said


def test_masters_in_low_precision(tiny_folder, pairs_file, tmp_path, monkeypatch):
    right = optimizer.Masters.__init__

    def init(self, trainable):
        right(self, trainable)
        self.masters = dict(trainable)

    monkeypatch.setattr(optimizer.Masters, "__init__", init)
    said = refused(
        tiny_folder, pairs_file, tmp_path / "run", dtype="bfloat16", learning_rate=1e-6, lora=False
    )
    assert "rounding swallows" in said


def test_updates_that_do_not_reach_the_network(tiny_folder, pairs_file, tmp_path, monkeypatch):
    monkeypatch.setattr(optimizer.Masters, "write_back", lambda self: None)
    assert "did not reach it" in refused(
        tiny_folder, pairs_file, tmp_path / "run", dtype="bfloat16"
    )


@pytest.mark.parametrize(
    ("act", "says"),
    [
        (lambda forward: torch.rand(1), "random state"),
        (lambda forward: forward.model.network.train(), "modes"),
        (lambda forward: next(iter(forward.model.trainable().values())).data.add_(1e-3), "weights"),
    ],
)
def test_an_evaluation_that_disturbs(
    act, says, tiny_folder, pairs_file, held_out_file, tmp_path, monkeypatch
):
    right = file_source.held.evaluate
    monkeypatch.setattr(
        file_source.held,
        "evaluate",
        lambda held_out, forward, *rest: (act(forward), right(held_out, forward, *rest))[1],
    )
    assert (
        "evaluating changed"
        in (said := refused(tiny_folder, pairs_file, tmp_path / "run", held_out=held_out_file))
        and says in said
    )


def test_a_checkpoint_that_lacks_a_tensor(tiny_folder, pairs_file, tmp_path, monkeypatch):
    right = checkpoint.save_file
    monkeypatch.setattr(
        checkpoint, "save_file", lambda tensors, file: right(dict(list(tensors.items())[1:]), file)
    )
    assert "does not hold the state in memory" in refused(tiny_folder, pairs_file, tmp_path / "run")


@pytest.mark.parametrize(
    "changes",
    [
        {"method": "dpo", "steps": 12},
        {"method": "kto", "dtype": "bfloat16", "steps": 12},
        {"method": "simpo", "lora": False, "steps": 12},
    ],
)
def test_a_clean_run_raises_nothing(changes, tiny_folder, tmp_path):
    """Past the followed updates and the second look at the probe rows."""
    rows = labelled_rows(pair_rows(24)) if changes["method"] == "kto" else pair_rows(24)
    result = run(
        tiny_folder, write_rows(tmp_path / "rows.jsonl", rows), tmp_path / "run", **changes
    )
    assert result.steps == 12 and not (tmp_path / "run/events.jsonl").exists()


@pytest.mark.parametrize("size", [1, 5, 8, 1000, 28_311_552])
def test_followed_coordinates_lie_inside_any_tensor(size):
    """float32 rounds 28,311,551 up: the last weight of SmolLM2's embedding would lie behind its
    end.
    """
    from accord.verify.weight_probes import COORDINATES, spread

    index = spread(torch.empty(1).expand(size)).tolist()
    assert index == sorted(set(index)) and len(index) == min(COORDINATES, size)
    assert index[0] == 0 and index[-1] == size - 1
