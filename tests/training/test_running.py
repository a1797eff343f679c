"""What an objective keeps from update to update, in real runs of bco: its shift is of the updates
before, whatever the micro-batches and the ranks, and it is evaluated with, saved and restored.
"""

import math

import pytest
import torch
from conftest import pair_rows, write_rows
from training.helpers import json_lines, labelled_rows, metrics, ready_for, run
from training.test_step import apart, gradients, moved

from accord.engine.gradients import by_closed_form, by_hand, relative
from accord.engine.step import UpdateContext, make_batch, whole_batch_context
from accord.evaluate.held_out import HeldOut, evaluate
from accord.runs import checkpoint
from accord.types import Refused

BCO = {"method": "bco", "batch_size": 8}
STATE = {"good": 6.5, "goods": 4.0, "bad": -2.25, "bads": 9.0}  # δ = (1.625 - .25) / 2 = .6875


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    return write_rows(tmp_path_factory.mktemp("l") / "labels.jsonl", labelled_rows(pair_rows(24)))


@pytest.fixture(scope="module")
def trained(tiny_folder, labels, tmp_path_factory):
    """A run that learns, evaluated and saved on its way."""
    root = tmp_path_factory.mktemp("run")
    held_out = write_rows(root / "held.jsonl", labelled_rows(pair_rows(8, start=100)))
    changes = {"steps": 24, "learning_rate": 4e-3, "held_out": held_out}
    changes["set"] = {"evaluate.every": 6, "checkpoint.every": 6, "checkpoint.keep": 9}
    return run(tiny_folder, labels, root / "out", **BCO | changes).folder


@pytest.fixture(scope="module")
def ready(tiny_folder, labels):
    """A run in its midst: adapters that have moved, and rows that were trained on."""
    found = moved(ready_for(tiny_folder, labels, method="bco", batch_size=7))
    found.learner.running.update(STATE)
    return found


def test_it_learns(trained):
    lines = metrics(trained)
    assert lines[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    margins = [line["rewards/chosen"] - line["rewards/rejected"] for line in lines]
    assert sum(line["loss"] for line in lines[-4:]) / 4 < 0.8 * math.log(2)
    assert margins[0] == pytest.approx(0, abs=1e-5) and min(margins[-4:]) > 0.5


def test_the_shift_is_of_the_updates_before(trained):
    """Computed again from the recorded means: with as many good as bad rows in each batch, the
    means of all rows so far are those of the batches' means.
    """
    lines = metrics(trained)
    for number, line in enumerate(lines):
        before = lines[:number]
        halves = [(one["rewards/chosen"] + one["rewards/rejected"]) / 2 for one in before]
        wanted = sum(halves) / len(halves) if halves else 0.0
        assert line["delta"] == pytest.approx(wanted, rel=1e-6, abs=1e-9)
    assert abs(lines[-1]["delta"]) > 1e-3


def test_held_out_rows_are_shifted_by_what_stands_then(trained):
    """The shift of an evaluation after n updates is that of update n + 1."""
    lines = json_lines(trained / "metrics.jsonl")
    shifts = {line["step"]: line["delta"] for line in lines if "loss" in line}
    held = {line["step"]: line["eval_delta"] for line in lines if "eval_delta" in line}
    assert list(held) == [0, 6, 12, 18, 24] and held[0] == 0
    for step in (6, 12, 18):
        assert held[step] == shifts[step + 1]


def test_the_state_is_in_the_checkpoint(trained):
    """4 numbers in float64: as many rows of each label as updates have had."""
    saved = checkpoint.load(trained / "checkpoints").tensors
    state = {name: saved[f"running/{name}"] for name in STATE}
    assert all(value.dtype == torch.float64 and value.shape == () for value in state.values())
    assert state["goods"].item() == state["bads"].item() == 24 * 4


@pytest.mark.parametrize("micro_tokens", [1, 120])
def test_no_split_changes_shift_or_gradient(micro_tokens, ready):
    """All micro-batches have the shift that stood before the update, and none moves it."""
    whole, records = gradients(ready, 10**9)
    split, again = gradients(ready, micro_tokens)
    assert apart(whole, split) < 2e-6
    for found in (records, again):
        assert found["extra/delta"].unique().tolist() == [0.6875]
    assert dict(ready.learner.running) == STATE


def test_the_gradient_is_the_closed_form_s(ready):
    """At a shift that is not 0, as the first update's is; without it they are apart."""
    learner, masters = ready.learner, ready.optimizer.masters
    batch = make_batch(learner, 1, ready.batch_trees(1))
    assert whole_batch_context(learner, batch)["delta"].item() == 0.6875
    form = learner.objective.closed_form
    wanted = by_closed_form(learner, batch, masters, form)
    masters.zero_grad()
    assert relative(by_hand(learner, batch, masters, whole=True), wanted) < 1e-5
    masters.zero_grad()
    unshifted = by_closed_form(
        learner, batch, masters, lambda row, options, _: form(row, options, 0)
    )
    assert relative(unshifted, wanted) > 1e-2
    masters.zero_grad()


def test_an_update_that_is_not_taken_in_ends_the_run(tiny_folder, labels, tmp_path, monkeypatch):
    """A step that forgets the state, or counts an update twice, would train on unseen."""
    follow = UpdateContext.follow

    def twice(learner, records):
        follow(learner, records)
        follow(learner, records)

    for number, broken in enumerate((lambda *_: None, twice)):
        monkeypatch.setattr(UpdateContext, "follow", broken)
        with pytest.raises(Refused, match="before update 1 the objective keeps"):
            run(tiny_folder, labels, tmp_path / str(number), **BCO)


def test_held_out_rows_have_no_loss_where_the_shift_is_not_known(ready):
    """As of a finished model: it does not say what the shift was when its training ended."""
    learner = ready.learner
    rows = HeldOut(ready.batch_trees(0), "labelled", range(7), budget=512)
    known = evaluate(rows, learner.forward, learner.objective, learner.reference, running=STATE)
    unknown = evaluate(rows, learner.forward, learner.objective, learner.reference)
    assert known["extra/delta"].unique().tolist() == [0.6875] and "loss" in known
    assert "loss" not in unknown and "rewards/chosen" in unknown
