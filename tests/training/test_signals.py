"""SIGTERM and SIGINT in every phase: exit 75 with words, at most one step lost, and the same bytes
after a resume.
"""

import os
import signal

import pytest
from conftest import pair_rows, write_rows
from training.helpers import json_lines, run
from training.test_resume import same

import accord
from accord.data.store import encode as stored
from accord.distributed.world import World
from accord.evaluate import held_out
from accord.forward.reference import Cached
from accord.models import export
from accord.runs import checkpoint
from accord.runs.folder import RunFolder
from accord.runs.signals import Stop, stop_on_signals
from accord.training import loop
from accord.training.run import _restartable
from accord.training.setup import common, offline
from accord.types import CheckpointError, Interrupted

# Phase -> (what is called in it, its name, the call at which the signal comes)
PHASES = {
    "loading": (common, "load", 1),
    "tokenising": (stored, "encode", 1),
    "tokenising held-out rows": (stored, "encode", 2),
    "forward path": (offline, "choose", 1),
    "reference pass": (Cached, "_write", 1),
    "proofs": (common, "prove", 1),
    "first evaluation": (held_out, "evaluate", 1),
    "training": (loop, "accumulate", 1),
    "training, later": (loop, "accumulate", 4),
    "evaluation": (held_out, "evaluate", 2),
    "saving": (checkpoint, "save_file", 1),
    "saving the last": (checkpoint, "save_file", 2),
    "writing the model": (export, "save", 1),
    "reading it back": (export, "read_back", 1),
}
KEYWORDS = {"reference": "cached", "set": {"evaluate.every": 2, "checkpoint.every": 3}}


def signalled(patch, owner, name, at, number, times=1):
    """The function as it is; at its call number `at` the process is signalled first."""
    right, calls = getattr(owner, name), []

    def wrapped(*args, **kwargs):
        calls.append(1)
        for _ in range(times if len(calls) == at else 0):
            os.kill(os.getpid(), number)
        return right(*args, **kwargs)

    patch.setattr(owner, name, wrapped)


@pytest.fixture(scope="module")
def straight(tiny_folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("straight")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("accord.forward.reference.cache_root", lambda: root / "cache")
        return _straight(root, tiny_folder)


def _straight(root, tiny_folder):
    data, held = (
        write_rows(root / "d.jsonl", pair_rows(12)),
        write_rows(root / "h.jsonl", pair_rows(4, start=50)),
    )
    return run(tiny_folder, data, root / "run", held_out=held, **KEYWORDS).folder, data, held


# Each phase under one of the signals, in turn: a phase sees that one came, not which. Both where
# the signal is raised at once, and where it waits.
SIGNALS = {
    (phase, number)
    for at, phase in enumerate(PHASES)
    for number in (signal.SIGTERM, signal.SIGINT)
    if (at % 2 == 0) == (number is signal.SIGTERM) or phase in ("loading", "training")
}


@pytest.mark.parametrize(
    "phase, number",
    sorted(SIGNALS, key=str),
    ids=[f"{phase}-{number.name}" for phase, number in sorted(SIGNALS, key=str)],
)
def test_every_phase(phase, number, straight, tiny_folder, tmp_path, monkeypatch):
    folder, data, held = straight
    # a pass of its own
    monkeypatch.setattr("accord.forward.reference.cache_root", lambda: tmp_path / "cache")
    with (
        monkeypatch.context() as patch,
        pytest.raises(Interrupted, match=f"{number.name}.*accord.resume") as stopped,
    ):
        signalled(patch, *PHASES[phase], number)
        run(tiny_folder, data, tmp_path / "run", held_out=held, **KEYWORDS)
    assert stopped.value.code == 75 and "Traceback" not in str(stopped.value)
    trained = (
        [line["step"] for line in json_lines(tmp_path / "run/metrics.jsonl") if "loss" in line]
        if _began(tmp_path)
        else []
    )
    if trained:
        assert checkpoint.load(tmp_path / "run/checkpoints").step == trained[-1], (
            "every update that was made is kept"
        )
    accord.resume(str(tmp_path / "run"))
    same(folder, tmp_path / "run")
    assert not (tmp_path / "run/refused.txt").exists()


def _began(root):
    return (root / "run/metrics.jsonl").exists()


def test_the_second_signal_ends_the_process(straight, tiny_folder, tmp_path, monkeypatch):
    """At once, in the middle of a write; a resume goes on all the same."""
    folder, data, held = straight
    monkeypatch.setattr("accord.forward.reference.cache_root", lambda: tmp_path / "cache")

    class Ended(BaseException):
        pass

    def ended(code):
        raise Ended(code)

    with monkeypatch.context() as patch, pytest.raises(Ended, match="130"):
        patch.setattr(os, "_exit", ended)
        signalled(patch, *PHASES["saving"], signal.SIGINT, times=2)
        run(tiny_folder, data, tmp_path / "run", held_out=held, **KEYWORDS)
    accord.resume(str(tmp_path / "run"))
    same(folder, tmp_path / "run")


def test_one_stop_for_the_command_line_and_the_run():
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals() as outer, stop_on_signals() as inner, inner.at_safe_points():
        assert inner is outer
        os.kill(os.getpid(), signal.SIGTERM)  # waits
        with pytest.raises(Interrupted, match="SIGTERM"):
            inner.poll()
    assert signal.getsignal(signal.SIGTERM) == before


def test_at_once_and_back():
    """A signal that waited is raised on the way in; Ctrl-C without our handler stays what it is."""
    stop = Stop()
    with pytest.raises(KeyboardInterrupt), stop.at_once():
        raise KeyboardInterrupt
    stop.signal = signal.SIGINT
    with pytest.raises(Interrupted, match="SIGINT"), stop.at_once():
        raise AssertionError("not reached")


def test_two_processes_on_one_run(tmp_path):
    with (
        RunFolder(tmp_path).alone(),
        pytest.raises(CheckpointError, match="another process is training here"),
        RunFolder(tmp_path).alone(),
    ):
        pass
    with RunFolder(tmp_path).alone():
        pass


def test_among_ranks_it_waits_for_a_poll(tmp_path):
    """Whoever left an exchange in its middle would leave the others waiting."""
    reached = []
    with (
        stop_on_signals() as stop,
        pytest.raises(Interrupted, match="SIGTERM. Nothing is lost. Go on with"),
        _restartable(stop, RunFolder(tmp_path), World(0, 2)),
    ):
        os.kill(os.getpid(), signal.SIGTERM)
        reached.append("the end of the exchange")
        stop.poll()
    assert reached
