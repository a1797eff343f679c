"""Trackers get every figure, and none of their failures reaches the run."""

import re
import sys
from types import SimpleNamespace

import pytest
from training.helpers import json_lines, metrics, run

from accord.runs.trackers import TRACKERS
from accord.types import UsageError


class Fake:
    """What the four packages have in common, recording its calls."""

    def __init__(self, broken=()):
        self.calls, self.broken = [], broken

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)

        def call(*args, **keywords):
            self.calls.append((name, args, keywords))
            if name in self.broken:
                raise RuntimeError(f"{name} is down\nsecond line")
            return (
                SimpleNamespace(add_scalar=self.add_scalar, close=self.close)
                if name == "SummaryWriter"
                else None
            )

        return call

    def names(self):
        return [name for name, _, _ in self.calls]


@pytest.fixture
def fake(monkeypatch):
    def put(name, broken=()):
        made = Fake(broken)
        monkeypatch.setitem(sys.modules, TRACKERS[name][0], made)
        return made

    return put


LOGGED = {"trackio": "log", "wandb": "log", "mlflow": "log_metrics"}


@pytest.mark.parametrize("name", LOGGED)
def test_every_line_is_logged(name, fake, tiny_folder, pairs_file, tmp_path):
    tracker = fake(name)
    folder = run(
        tiny_folder, pairs_file, tmp_path / "run", steps=2, set={"monitor.trackers": [name]}
    ).folder
    logged = [
        (args[0], keywords["step"])
        for call, args, keywords in tracker.calls
        if call == LOGGED[name]
    ]
    lines = [{k: v for k, v in line.items() if k != "step"} for line in metrics(folder)]
    assert [figures for figures, _ in logged if "loss" in figures] == lines
    assert [step for _, step in logged] == [1, 1, 2, 2]  # timings are figures too
    assert tracker.names()[-1] in ("finish", "end_run")


def test_tensorboard(fake, tiny_folder, pairs_file, tmp_path):
    tracker = fake("tensorboard")
    folder = run(
        tiny_folder,
        pairs_file,
        tmp_path / "run",
        steps=1,
        set={"monitor.trackers": ["tensorboard"]},
    ).folder
    losses = [args for call, args, _ in tracker.calls if call == "add_scalar" and args[0] == "loss"]
    assert losses == [("loss", metrics(folder)[0]["loss"], 1)] and tracker.names()[-1] == "close"
    assert tracker.calls[0][1] == (str(folder / "tensorboard"),)


@pytest.mark.parametrize("broken", ["init", "log", "finish"])
def test_a_failure_is_said_and_the_run_goes_on(broken, fake, tiny_folder, pairs_file, tmp_path):
    tracker = fake("wandb", {broken})
    said = f"wandb: RuntimeError: {broken} is down. The run goes on without it."
    with pytest.warns(UserWarning, match=re.escape(said)):
        folder = run(
            tiny_folder, pairs_file, tmp_path / "run", steps=2, set={"monitor.trackers": ["wandb"]}
        ).folder
    assert len(metrics(folder)) == 2 and json_lines(folder / "timings.jsonl")
    assert tracker.names().count(broken) == 1  # dropped at the first failure


def test_one_that_is_not_installed_is_said_before_training(
    monkeypatch, tiny_folder, pairs_file, tmp_path
):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(UsageError, match="not installed: .*pip install mlflow"):
        run(tiny_folder, pairs_file, tmp_path / "run", set={"monitor.trackers": ["mlflow"]})


def test_an_unknown_one_is_an_error(tiny_folder, pairs_file, tmp_path):
    with pytest.raises(UsageError, match="monitor.trackers"):
        run(tiny_folder, pairs_file, tmp_path / "run", set={"monitor.trackers": ["aim"]})
