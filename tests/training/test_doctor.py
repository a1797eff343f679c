"""The doctor: healthy here, and a part that is broken is named."""

import itertools
import json
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from accord.cli import app
from accord.forward import head
from accord.training import checkpoint, doctor, step
from accord.training.doctor import examine
from accord.types import LossOutput


@pytest.fixture
def quick(monkeypatch):
    """One patient is enough to see what is broken."""
    monkeypatch.setattr(doctor, "PATIENTS", doctor.PATIENTS[:1])


def failed(report) -> dict[str, str]:
    return {finding.check: finding.says for finding in report.findings if finding.refused}


def test_healthy_in_both_precisions():
    report = examine("cpu", "bfloat16")
    assert failed(report) == {} and report.healthy and report.verdict.startswith("healthy")
    names = {finding.check for finding in report.findings}
    for patient in doctor.PATIENTS:
        assert {
            f"{patient.family}, {patient.objective} ({dtype})" for dtype in ("float32", "bfloat16")
        } <= names
    assert (
        report.machine["device"] == "cpu"
        and report.machine["packages"]["torch"]
        and report.machine["memory_gb"] > 0
    )


def test_names_a_wrong_objective(quick, monkeypatch):
    monkeypatch.setattr(
        doctor, "row_losses", lambda *given: LossOutput(-step.row_losses(*given).losses)
    )
    report = examine("cpu", "float32")
    assert (
        "sign flipped" in failed(report)["objectives"]
        and "objectives" in report.verdict
        and not report.healthy
    )


def test_names_a_wrong_gradient(quick, monkeypatch):
    """A head whose backward pass loses half of what flows through it; its forward pass is right."""
    right = head.token_logps
    halved = lambda hidden, *rest: right(0.5 * hidden + 0.5 * hidden.detach(), *rest)  # noqa: E731
    monkeypatch.setattr("accord.forward.logps.token_logps", halved)
    said = failed(examine("cpu", "float32"))
    assert (
        "step0.gradient" in said["llama, dpo (float32)"]
        and "0.5 times" in said["llama, dpo (float32)"]
    )


def test_names_a_checkpoint_that_comes_back_otherwise(quick, monkeypatch):
    right = checkpoint.load

    def load(folder):
        saved = right(folder)
        return replace(
            saved, tensors={name: tensor + 1e-6 for name, tensor in saved.tensors.items()}
        )

    monkeypatch.setattr(checkpoint, "load", load)
    assert set(failed(examine("cpu", "float32"))) == {"checkpoint (float32)"}


def test_names_what_is_not_repeatable(quick, monkeypatch):
    right, seen = doctor._update, itertools.count(1)

    def update(learner, optimizer, number):
        right(learner, optimizer, number)
        with torch.no_grad():
            next(iter(optimizer.masters.masters.values())).add_(1e-3 * next(seen))

    monkeypatch.setattr(doctor, "_update", update)
    assert "repeatable (float32)" in failed(examine("cpu", "float32"))


def test_the_command(quick, monkeypatch):
    done = CliRunner().invoke(app, ["doctor", "--device", "cpu", "--dtype", "float32", "--json"])
    result = json.loads(done.stdout.splitlines()[-1])
    assert (
        done.exit_code == 0 and result["ok"] and result["result"]["verdict"].startswith("healthy")
    )
    monkeypatch.setattr(
        doctor, "row_losses", lambda *given: LossOutput(-step.row_losses(*given).losses)
    )
    done = CliRunner().invoke(app, ["doctor", "--device", "cpu", "--dtype", "float32"])
    assert done.exit_code == 4 and "objectives" in done.stderr
