"""The command line: output for people and machines, exit codes,
and a dry run that writes nothing.
"""

import errno
import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from accord.cli.app import app


def invoke(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture
def flags(tiny_folder, pairs_file):
    return [
        "train",
        "--model",
        tiny_folder,
        "--data",
        pairs_file,
        "--set",
        "model.dtype=float32",
        "--batch-size",
        "4",
        "--steps",
        "1",
    ]


def test_train_for_people(flags, tmp_path):
    done = invoke(*flags, "--output", tmp_path / "run")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith(f"done: {tmp_path / 'run/adapter'}\n")
    assert "step     1/1  loss 0.693" in done.stderr and "checks passed" in done.stderr
    assert "log-ratios are sums over answer tokens, beta = 0.1 per nat" in done.stderr


def test_train_export_and_resume_for_machines(flags, tmp_path):
    """One JSON object, alone on standard output."""
    done = invoke(*flags, "--output", tmp_path / "run", "--json")
    result = json.loads(done.stdout)
    assert result["ok"] and result["result"]["saved"] == str(tmp_path / "run/adapter")
    assert json.loads(invoke("resume", tmp_path / "run", "--json").stdout)["result"]["steps"] == 1
    exported = invoke("export", tmp_path / "run", "--output", tmp_path / "out", "--json")
    assert (
        json.loads(exported.stdout)["result"]["saved"] == str(tmp_path / "out")
        and (tmp_path / "out").is_dir()
    )


def test_dry_run(flags, pairs_file, tmp_path, monkeypatch):
    """Two rows with marks around what is scored, every check, and not one file."""
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    done = invoke(*flags, "--dry-run", "--output", tmp_path / "run", "--set", "reference=cached")
    assert done.exit_code == 0, done.output
    assert sorted(tmp_path.rglob("*")) == before
    assert (
        done.stdout.count("⟦") == done.stdout.count("⟧") == 5 and f"{pairs_file}:1" in done.stdout
    )
    assert (
        "⟦Yes, the cat sat.<|im_end|>⟧" in done.stdout and "<|im_start|>assistant↵" in done.stdout
    )
    for check in (
        "data.ledger",
        "data.boundary",
        "reference",
        "step0.objective",
        "step0.mask",
        "step0.micro_batches",
    ):
        assert f"✓ {check} " in done.stdout, check
    assert (
        "would make 1 update of 4 pairs" in done.stdout
        and "nothing was trained or written" in done.stdout
    )


def test_dry_run_for_machines(flags):
    result = json.loads(invoke(*flags, "--dry-run", "--json").stdout)["result"]
    assert (
        len(result["shown"]) == 2 and result["reference"] == "adapter_off" and result["steps"] == 1
    )
    assert {"step0.reference", "step0.noise_floor"} <= {
        check["check"] for check in result["checks"]
    }


def test_all_weights_and_adapter_do_not_mix(flags, tmp_path):
    first = invoke(*flags, "--output", tmp_path / "run")
    assert first.exit_code == 0
    done = invoke(
        *flags, "--adapter", tmp_path / "run/adapter", "--all-weights", "--output", tmp_path / "two"
    )
    assert done.exit_code == 2 and "train the adapter, or merge it first" in done.stderr


def test_methods():
    done = invoke("methods")
    assert done.exit_code == 0 and "dpo" in done.stdout and "gamma_beta_ratio" in done.stdout
    table = json.loads(invoke("methods", "--json").stdout)["result"]
    assert table["kto"]["rows"] == "labelled" and table["orpo"]["reference"] is False


def test_nothing_to_train_on():
    done = invoke("train")
    assert done.exit_code == 2 and "--data FILE" in done.stderr


def test_disk_full_outside_checkpoints(flags, tmp_path, monkeypatch):
    """An error of the system that nothing else put into words: exit 6, no traceback."""
    from accord.runs import folder

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "config.yaml")

    monkeypatch.setattr(folder, "write_text", full)
    done = invoke(*flags, "--output", tmp_path / "run")
    assert (done.exit_code, done.stderr.splitlines()[-1]) == (
        6,
        "error: config.yaml: No space left on device.",
    )


def test_a_bug_is_called_one(flags, tmp_path, monkeypatch):
    from accord.training import run

    def broken(*args, **kwargs):
        raise ZeroDivisionError

    monkeypatch.setattr(run, "prepare", broken)
    done = invoke(*flags, "--output", tmp_path / "run")
    assert done.exit_code == 1 and "This is a bug of accord" in done.stderr
    assert len(list((tmp_path / "run").glob("bug-*.log"))) == 1


def test_a_real_process(tmp_path):
    """Bad input in a process of its own: words on standard error, JSON on standard output, exit 3,
    no traceback.
    """
    done = subprocess.run(
        [sys.executable, "-m", "accord", "export", str(tmp_path / "none"), "--json"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and "no run here" in done.stderr and "Traceback" not in done.stderr
    said = json.loads(done.stdout)
    assert (said["ok"], said["error"], said["exit"]) == (
        False,
        "UsageError",
        2,
    ) and "no run here" in said["says"]
