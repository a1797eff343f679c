"""A run that is being written, or was killed: read as it grows, and shown for what it is."""

import fcntl
import json
import math
import os
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient

from accord.pages import live, watch
from accord.pages.live import GrowingTables, is_held, state_of


def make_run(folder, method="dpo", rollouts=None):
    folder.mkdir(parents=True)
    config = {"data": {"train": "pairs.jsonl"}, "objective": {"name": method}}
    config |= {"rollouts": rollouts} if rollouts is not None else {}
    (folder / "config.yaml").write_text(json.dumps(config))
    return folder


def write(folder, *lines, mode="a"):
    with (folder / "metrics.jsonl").open(mode) as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))


def loss(step, value=0.6, **more):
    return {"step": step, "loss": value, "learning_rate": 1e-5, **more}


@pytest.fixture
def folder(tmp_path):
    return make_run(tmp_path / "run")


def client(root):
    return TestClient(watch.create_app(root, 7373), base_url="http://127.0.0.1:7373")


def shown(root, name):
    return client(root).get("/api/run", params={"name": name}).json()


# ---------------------------------------------------------------- what is drawn


def test_a_loss_of_250_among_5000_updates_is_sent(folder):
    write(folder, *(loss(step, 250.0 if step == 2_345 else 0.6) for step in range(1, 5_001)))
    got = shown(folder.parent, "run")
    curve = got["curves"]["training"]["loss"]
    assert [2_345, 250.0] in curve and len(curve) <= watch.POINTS
    assert len(got["trends"]["training"]["loss"]) <= watch.POINTS
    assert got["trends"]["held_out"] == {}


def test_a_figure_that_is_not_finite_is_sent_as_null(folder):
    write(folder, loss(1), loss(2, math.nan), loss(3, math.inf), loss(4))
    curve = shown(folder.parent, "run")["curves"]["training"]["loss"]
    assert curve == [[1, 0.6], [2, None], [3, None], [4, 0.6]]


def test_a_learning_rate_that_the_run_chose_is_said(folder):
    write(folder, loss(1), loss(2, learning_rate=2e-5))
    config = shown(folder.parent, "run")["config"]
    assert config["train.learning_rate"] == "2e-05" and "None" not in config.values()


def test_the_kl_of_its_own_answers_is_not_kto_s_z0(tmp_path):
    """Two held-out figures are called eval_kl; the page asks whose run it is."""
    kto = make_run(tmp_path / "kto", "kto")
    own = make_run(tmp_path / "grpo", "grpo", {"rewards": ["length"]})
    for one in (kto, own):
        write(one, loss(1), {"step": 1, "eval_kl": 0.5})
    assert (shown(tmp_path, "kto")["own"], shown(tmp_path, "grpo")["own"]) == (False, True)
    script = (Path(watch.__file__).parent / "watch.js").read_text()
    assert '(name === "rollouts/kl") === run.own' in script


# ---------------------------------------------------------------- whether it runs


def test_a_killed_run_is_not_shown_as_one_that_runs(folder):
    write(folder, loss(1))

    def state():
        (line,) = client(folder.parent).get("/api/runs").json()
        return line["state"], line["step"]

    assert state() == ("stopped", 1)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # as training holds it
        assert state() == ("running", 1)
    finally:
        os.close(handle)
    assert state() == ("stopped", 1)
    (folder / "README.md").write_text("card")
    assert state() == ("finished", 1)


def test_where_the_system_tells_no_locks_a_run_that_was_silent_for_long_is_stopped(
    folder, monkeypatch, tmp_path
):
    monkeypatch.setattr(live, "LOCKS", tmp_path / "none")
    write(folder, loss(1))
    assert is_held(folder) is None and state_of(folder) == "running"
    os.utime(folder / "metrics.jsonl", (0, 0))
    assert state_of(folder) == "stopped"


def test_a_run_that_was_refused_says_so(folder):
    (folder / "refused.txt").write_text("data.ledger: no rows\n")
    (line,) = client(folder.parent).get("/api/runs").json()
    assert line["state"] == "refused" and "no figures yet" in line["says"]


# ---------------------------------------------------------------- reading what is new


def test_only_what_was_added_is_parsed(folder, monkeypatch):
    """Each look at a run of n updates read all n of them: n² in all."""
    parsed = []
    real = live.parsed
    monkeypatch.setattr(live, "parsed", lambda line: parsed.append(line) or real(line))
    tables = GrowingTables(folder / "metrics.jsonl")
    tables.refresh()
    for step in range(1, 51):
        write(folder, loss(step), {"step": step, "eval_loss": 1.0})
        tables.refresh()
    assert len(parsed) == 100 == tables.lines
    assert len(tables.table("training")) == len(tables.table("held_out")) == 50


def test_half_a_line_waits_for_its_other_half(folder):
    tables = GrowingTables(folder / "metrics.jsonl")
    whole = json.dumps(loss(2)) + "\n"
    write(folder, loss(1))
    with (folder / "metrics.jsonl").open("a") as file:
        file.write(whole[:7])
        file.flush()
        tables.refresh()
        assert list(tables.table("training").steps) == [1]
        file.write(whole[7:])
    tables.refresh()
    assert list(tables.table("training").steps) == [1, 2]


def test_a_resume_that_cut_the_file_back_is_read_anew(folder):
    """Also where the file has grown beyond its former length by then."""
    write(folder, *(loss(step, 0.1 * step) for step in range(1, 9)))
    tables = GrowingTables(folder / "metrics.jsonl")
    tables.refresh()
    write(folder, *(loss(step, 0.2 * step) for step in range(1, 13)), mode="w")
    tables.refresh()
    assert tables.table("training").points("loss")[-1] == (12, pytest.approx(2.4))
    assert len(tables.table("training")) == 12
    (folder / "metrics.jsonl").unlink()
    tables.refresh()
    assert tables.lines == 0


def test_a_run_that_a_signal_stopped_in_its_preparations_was_not_refused(folder):
    file = folder / live.REFUSED
    file.write_text("stopped by SIGTERM.\n")
    assert state_of(folder) == "stopped"
    file.write_text("2 of 4 training rows are longer than the model's positions\n")
    assert state_of(folder) == "refused"


@pytest.mark.parametrize("text", ["garbage", "[1]", "a: {", "\0"])
def test_a_run_whose_recipe_is_none_is_answered_in_words(text, folder):
    (folder / "config.yaml").write_text(text)
    got = client(folder.parent).get("/api/run", params={"name": "run"})
    (line,) = client(folder.parent).get("/api/runs").json()
    assert got.status_code == 422 and got.json()["detail"] == line["says"]
