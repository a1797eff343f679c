"""A number that is not finite stops the run before the weights are touched, and says which rows it
came from.
"""

import json

import pytest
import torch
from safetensors.torch import load_file
from training.helpers import metrics, run, stopped_after

from accord.engine import step
from accord.training import loop
from accord.types import Diverged, Interrupted, LossOutput


def bad_loss(monkeypatch, at, value):
    """One row's loss becomes `value` in update `at`."""
    calls = {"update": -1}
    update, lose = loop.make_update, step.row_losses

    def counting(run):
        calls["update"] = run.progress.step
        update(run)

    def losing(*args):
        output = lose(*args)
        if calls["update"] == at:
            output = LossOutput(
                output.losses * torch.tensor([1.0] * (len(output.losses) - 1) + [value])
            )
        return output

    (
        monkeypatch.setattr(loop, "make_update", counting),
        monkeypatch.setattr(step, "row_losses", losing),
    )


def bad_gradient(monkeypatch, at, value):
    """A gradient becomes `value` in update `at`, though every loss is finite."""
    update = loop.make_update

    def spoiling(run):
        masters = run.ready.optimizer.masters
        if run.progress.step == at:
            collect = masters.accumulate_grads

            def spoil():
                collect()
                next(iter(masters.gradients().values())).view(-1)[0] = value

            monkeypatch.setattr(masters, "accumulate_grads", spoil)
        update(run)

    monkeypatch.setattr(loop, "make_update", spoiling)


@pytest.mark.parametrize("spoil", [bad_loss, bad_gradient])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_stops_with_the_last_good_weights(
    spoil, value, tiny_folder, pairs_file, tmp_path, monkeypatch
):
    good = tmp_path / "good"
    with stopped_after(monkeypatch, 2), pytest.raises(Interrupted):
        run(tiny_folder, pairs_file, good)
    spoil(monkeypatch, 2, value)
    with pytest.raises(Diverged) as error:
        run(tiny_folder, pairs_file, tmp_path / "run")
    assert error.value.code == 5
    saved = load_file(tmp_path / "run/checkpoints/step-000002/tensors.safetensors")
    expected = load_file(good / "checkpoints/step-000002/tensors.safetensors")
    assert all(torch.equal(tensor, saved[name]) for name, tensor in expected.items())
    record = json.loads((tmp_path / "run/diverged.json").read_text())
    assert record["step"] == 2 and len(record["rows"]) == 4
    assert all(row["at"].startswith(f"{pairs_file}:") for row in record["rows"])
    assert record["rows"][0]["at"] in str(error.value) and "learning_rate" in str(error.value)
    column = record["statistics"]["loss"]
    assert column["finite"] == (3 if spoil is bad_loss else 4) and column["of"] == 4
    assert [line["step"] for line in metrics(tmp_path / "run")] == [1, 2]
    assert not (tmp_path / "run/adapter").exists()
