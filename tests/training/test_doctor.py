"""The doctor: healthy here, and a part that is broken is named."""

import itertools
import json
from dataclasses import replace

import pytest
import torch
from typer.testing import CliRunner

from accord.cli.app import app
from accord.engine import step
from accord.engine.optimizer import Optimizer
from accord.environment import settings
from accord.environment import versions as tested
from accord.forward import head
from accord.models import export, reward
from accord.runs import checkpoint
from accord.sampling import decoding, local, trials
from accord.types import Finding, LossOutput
from accord.verify import doctor, doctor_libraries, rollout_proofs
from accord.verify.doctor import run_checks

PARTS = (
    "libraries",
    "objectives",
    "prove_step0",
    "draw_answers",
    "gradient",
    "rewarding",
    "read_back",
    "repeatable",
    "save_checkpoint",
)


@pytest.fixture
def only(monkeypatch):
    """Examine these parts alone, on one patient and one architecture: enough to see what broke."""

    def choose(*parts):
        assert set(parts) <= set(PARTS)
        monkeypatch.setattr(doctor, "PATIENTS", doctor.PATIENTS[:1])
        monkeypatch.setattr(doctor, "DRAWN", doctor.DRAWN[:1])
        for part in set(PARTS) - set(parts):
            monkeypatch.setattr(doctor, part, lambda *given: Finding("", "ok", "left out"))

    return choose


def failed(report) -> dict[str, str]:
    return {finding.check: finding.says for finding in report.findings if finding.refused}


def test_healthy_in_both_precisions():
    report = run_checks("cpu")
    assert failed(report) == {} and report.healthy and report.verdict.startswith("healthy")
    names = {finding.check for finding in report.findings}
    for patient in doctor.PATIENTS:
        assert {
            f"{patient.family}, {patient.objective} ({dtype})" for dtype in ("float32", "bfloat16")
        } <= names
    others = ["policy gradient", "reward model", "saved", "repeatable", "checkpoint"]
    others += [f"{family}, K = {k}" for family in doctor.DRAWN for k in (1, 2)]
    for part in others:
        assert {f"{part} ({dtype})" for dtype in ("float32", "bfloat16")} <= names
    assert {finding.verdict for finding in report.findings[2:]} == {
        "ok"
    }  # none "left out", no warning
    assert (
        report.machine["device"] == "cpu"
        and report.machine["packages"]["torch"]
        and report.machine["memory_gb"] > 0
    )


def test_names_a_wrong_objective(only, monkeypatch):
    only("objectives")
    monkeypatch.setattr(
        doctor, "row_losses", lambda *given: LossOutput(-step.row_losses(*given).losses)
    )
    report = run_checks("cpu", "float32")
    assert (
        "sign flipped" in failed(report)["objectives"]
        and "objectives" in report.verdict
        and not report.healthy
    )


def test_names_a_wrong_gradient(only, monkeypatch):
    """A head whose backward pass loses half of what flows through it; its forward pass is right."""
    only("prove_step0")
    right = head.token_logps
    halved = lambda hidden, *rest, **asked: right(  # noqa: E731
        0.5 * hidden + 0.5 * hidden.detach(), *rest, **asked
    )
    monkeypatch.setattr("accord.forward.logps.token_logps", halved)
    said = failed(run_checks("cpu", "float32"))
    assert (
        "step0.gradient" in said["llama, dpo (float32)"]
        and "0.5 times" in said["llama, dpo (float32)"]
    )


def test_names_a_checkpoint_that_comes_back_otherwise(only, monkeypatch):
    only("save_checkpoint", "prove_step0")
    right = checkpoint.load

    def load(folder):
        saved = right(folder)
        return replace(
            saved, tensors={name: tensor + 1e-6 for name, tensor in saved.tensors.items()}
        )

    monkeypatch.setattr(checkpoint, "load", load)
    assert set(failed(run_checks("cpu", "float32"))) == {"checkpoint (float32)"}


def test_names_what_is_not_repeatable(only, monkeypatch):
    only("repeatable")
    right, seen = doctor._update, itertools.count(1)

    def update(learner, optimizer, number):
        right(learner, optimizer, number)
        with torch.no_grad():
            next(iter(optimizer.masters.masters.values())).add_(1e-3 * next(seen))

    monkeypatch.setattr(doctor, "_update", update)
    assert "repeatable (float32)" in failed(run_checks("cpu", "float32"))


def test_the_command(only, monkeypatch):
    only("objectives", "libraries")
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


# ---------------------------------------------------------------- what no run's proofs touch


def broken(*given, **named):
    raise NotImplementedError("'DynamicLayer' object has no attribute 'dtype'")


def unfit(*check) -> str:
    """What the command says on such a machine."""
    done = CliRunner().invoke(app, ["doctor", "--device", "cpu", "--dtype", "float32"])
    assert done.exit_code == 4 and isinstance(done.exception, SystemExit), done.output
    assert "Traceback" not in done.output
    assert all(f"✗ {name} (float32)" in done.stdout for name in check), done.stdout
    return done.stderr


def test_unfit_where_answers_cannot_be_drawn(only, monkeypatch):
    """Whatever it is that is raised: one finding, and the others are made."""
    only("draw_answers", "gradient", "repeatable")
    monkeypatch.setattr(trials.TriedRows, "step", broken)
    said = unfit("llama, K = 1", "llama, K = 2", "policy gradient")
    assert "no attribute 'dtype'" in said and "repeatable" not in said


def shifted(self, tokens):
    """A step of `decoding.Shared` one position too far."""
    self.lengths = self.lengths + 1
    return SHARED_STEP(self, tokens)


SHARED_STEP = decoding.Shared.step


def test_unfit_where_shared_prompts_alone_are_wrong(only, monkeypatch):
    """Other numbers, and the sampler does not notice: K = 1 shares no prompt and is well."""
    only("draw_answers")
    monkeypatch.setattr(decoding.Shared, "step", shifted)
    monkeypatch.setattr(decoding, "_require_same", lambda *given: None)
    monkeypatch.setattr(trials.TriedRows, "_tried", lambda self, logits: logits)
    said = unfit("llama, K = 2")
    assert "is not what the model says" in said and "K = 1" not in said


@pytest.mark.parametrize("step", [broken, shifted], ids=["crashes", "other numbers"])
def test_a_fast_way_that_gives_up_is_a_warning_with_its_cause(step, only, monkeypatch):
    """The answers are right, by the plain way; the report says so, and by what cause."""
    only("draw_answers")
    monkeypatch.setattr(settings, "_warned", set())
    monkeypatch.setattr(decoding.Shared, "step", step)
    report = run_checks("cpu", "float32")
    assert report.healthy and "1 with a warning" in report.verdict
    (warned,) = [finding for finding in report.findings if finding.verdict == "warning"]
    assert warned.check == "llama, K = 2 (float32)" and "drawn by the plain way" in warned.says
    assert ("DynamicLayer" if step is broken else "first logits differ") in warned.says


def test_unfit_where_an_answer_hangs_on_its_neighbours(only, monkeypatch):
    """Row i takes the randomness of its place in the batch, not its own."""
    only("draw_answers")
    right = local._answer_batch

    def turned(model, prompts, answers, noise, pick, ends):
        right(model, prompts, answers, noise.roll(1, 0), pick, ends)

    monkeypatch.setattr(local, "_answer_batch", turned)
    assert "others when they are drawn alone" in unfit("llama, K = 1", "llama, K = 2")


def test_unfit_where_a_policy_gradient_is_wrong(only, monkeypatch):
    only("gradient")
    right = rollout_proofs.sampled_losses
    flipped = lambda *given: -right(*given)  # noqa: E731
    monkeypatch.setattr(rollout_proofs, "sampled_losses", flipped)
    assert "is not the formula" in unfit("policy gradient")


def test_unfit_where_an_update_moves_nothing(only, monkeypatch):
    only("gradient")
    monkeypatch.setattr(Optimizer, "update", lambda *given: 0.0)
    assert "no weight moved" in unfit("policy gradient")


def test_unfit_where_an_update_is_not_finite(only, monkeypatch):
    only("gradient")

    def update(self, step, norm):
        with torch.no_grad():
            next(iter(self.masters.masters.values())).fill_(float("nan"))

    monkeypatch.setattr(Optimizer, "update", update)
    assert "not finite" in unfit("policy gradient")


def test_unfit_where_a_reward_model_comes_back_otherwise(only, monkeypatch):
    only("rewarding")
    right = reward.load_reward_model

    def load(*given, **named):
        model = right(*given, **named)
        with torch.no_grad():
            model.network.score.weight.mul_(1.1)
        return model

    monkeypatch.setattr("accord.verify.doctor_saved.load_reward_model", load)
    assert "other scores than in memory" in unfit("reward model")


def test_unfit_where_a_model_comes_back_otherwise(only, monkeypatch):
    """Adapters that are saved without what they learned."""
    only("read_back")
    right = export.save
    monkeypatch.setattr(
        export,
        "save",
        lambda model, folder, masters: right(
            model, folder, {name: tensor * 2 for name, tensor in masters.items()}
        ),
    )
    assert "computes other logits" in unfit("saved")


def test_a_failure_in_a_precision_that_no_run_takes_is_a_warning(only, monkeypatch):
    only("draw_answers")
    monkeypatch.setattr(doctor, "pick_dtype", lambda *given: torch.float32)
    right = doctor.draw_answers

    def answered(family, k, device, dtype):
        return broken() if dtype == torch.bfloat16 else right(family, k, device, dtype)

    monkeypatch.setattr(doctor, "draw_answers", answered)
    report = run_checks("cpu")
    assert report.healthy and "2 with a warning" in report.verdict
    monkeypatch.setattr(doctor, "pick_dtype", lambda *given: torch.bfloat16)
    assert not run_checks("cpu").healthy  # runs take it


# ---------------------------------------------------------------- versions


@pytest.fixture
def versions(monkeypatch):
    """Two packages: what is installed, tested and allowed."""

    def given(have, known, allowed):
        monkeypatch.setattr(tested, "installed_versions", lambda names: have)
        monkeypatch.setattr(tested, "tested_versions", lambda: known)
        monkeypatch.setattr(tested, "required_bounds", lambda: allowed)
        return doctor_libraries.libraries()

    return given


BOUNDS = {"torch": ">=2.11,<3", "peft": ">=0.18,<1"}


def test_the_tested_versions_pass(versions):
    """What a builder appends to a version does not count."""
    known = {"torch": "2.13.0", "peft": "0.21.2"}
    assert versions(known | {"torch": "2.13.0+cpu"}, known, BOUNDS).verdict == "ok"


@pytest.mark.parametrize("version", ["2.14.1", "2.12.0", "2.15.0.dev1"])
def test_another_version_is_a_note_with_the_command(version, versions):
    known = {"torch": "2.13.0", "peft": "0.21.2"}
    found = versions(known | {"torch": version}, known, BOUNDS)
    assert found.verdict == "note" and f"torch {version} (tested 2.13.0)" in found.says
    assert found.remedy.endswith("pip install torch==2.13.0") and "peft" not in found.says


@pytest.mark.parametrize("version", ["2.10.1", "3.0.0"])
def test_a_version_out_of_bounds_is_refused_with_the_command(version, versions):
    known = {"torch": "2.13.0", "peft": "0.21.2"}
    found = versions(known | {"torch": version}, known, BOUNDS)
    assert found.refused and f"torch {version} (allowed >=2.11,<3)" in found.says
    assert found.remedy.endswith("pip install torch==2.13.0")


def test_a_package_that_does_not_work_is_refused(monkeypatch):
    right = doctor_libraries.importlib.import_module

    def load(name):
        if name == "sklearn":
            raise OSError("libgomp.so.1: cannot open shared object file")
        return right(name)

    monkeypatch.setattr(doctor_libraries.importlib, "import_module", load)
    found = doctor_libraries.libraries()
    assert found.refused and "scikit-learn cannot be used: OSError: libgomp" in found.says
    assert "--force-reinstall --no-deps scikit-learn==" in found.remedy


def test_not_installed_as_a_package_is_a_note(versions):
    found = versions({"torch": "2.13.0"}, {"torch": "2.13.0"}, {})
    assert found.verdict == "note" and "not installed as a package" in found.says
