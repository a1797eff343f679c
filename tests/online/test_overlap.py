"""Answers that a server draws while the policy trains: the run is the one that waits for them."""

import pytest
from online.stand_in import standing_in
from online.test_server import SMALL
from training.helpers import json_lines, run, stopped_after
from training.test_resume import same

import accord
from accord.rollouts.source import RolloutSource
from accord.sampling.server_sampler import ServerSampler
from accord.training import loop
from accord.types import Interrupted, UsageError

AHEAD = {"rollouts.ahead": 1, "rollouts.max_gap": 0.02, "checkpoint.every": 0, "evaluate.every": 0}


@pytest.fixture(scope="module")
def standing(tiny_folder):
    with standing_in(tiny_folder) as state:
        yield state


@pytest.fixture
def server(standing):
    standing.requests.clear()
    standing.restart()
    return standing


def trained(tiny_folder, prompts, output, server, method="grpo", more=None, attempts=3, **changes):
    limits = {"attempts": attempts, "timeout": 60.0, "workers": 4}
    fields = SMALL | AHEAD | {"rollouts.sampler": {"server": server.address} | limits}
    few = {"method": method, "steps": 4, "batch_size": 2, "set": fields | (more or {})}
    return run(tiny_folder, str(prompts), output, **few | changes)


def recorded(folder) -> list[dict]:
    return [json_lines(file)[1] for file in sorted((folder / "rollouts").iterdir())]


def waited_for(*given):
    """The run whose server draws only while it is waited for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ServerSampler, "begin", lambda *_, **__: False)
        trained(*given)


@pytest.fixture(scope="module")
def straight(tiny_folder, prompts, standing, tmp_path_factory):
    """The run of grpo that waits, and how many answers it asked for."""
    folder = tmp_path_factory.mktemp("straight") / "run"
    waited_for(tiny_folder, prompts, folder, standing)
    return folder, len(standing.requests)


def alike(one, other):
    assert recorded(one) == recorded(other)
    same(one, other)


@pytest.mark.parametrize(
    "method, more",
    [
        ("grpo", {"rollouts.ahead": 2, "rollouts.num_iterations": 2}),
        ("ppo", {"rollouts.num_iterations": 2}),
        ("dpo", {}),
    ],
)
def test_a_run_is_the_one_that_waits(method, more, tiny_folder, prompts, server, tmp_path):
    """Answers, rewards, log-probs, the value head's too, and weights; each answer is asked for
    once.
    """
    given = (tiny_folder, prompts)
    waited_for(*given, tmp_path / "waited", server, method, more)
    asked = len(server.requests)
    server.restart()
    trained(*given, tmp_path / "run", server, method, more)
    assert len(server.requests) == 2 * asked
    alike(tmp_path / "waited", tmp_path / "run")


def test_the_policy_trains_meanwhile(straight, tiny_folder, prompts, server, tmp_path, monkeypatch):
    """The server holds each batch that was begun until an update is made; it would never come."""
    begin, update, begun = ServerSampler.begin, loop.make_update, []

    def held(self, asked, **options):
        begun.append(len(asked))
        found = begin(self, [], **options)  # the policy goes there; nothing is asked for yet
        server.gate.clear()
        return begin(self, asked, **options) and found

    def released(run):
        update(run)
        server.gate.set()

    monkeypatch.setattr(ServerSampler, "begin", held)
    monkeypatch.setattr(loop, "make_update", released)
    trained(tiny_folder, prompts, tmp_path / "run", server)
    assert begun == [4, 4, 4]  # of four batches, all but the first
    ages = [{a["updates"] for a in batch["answers"]} for batch in recorded(tmp_path / "run")]
    assert ages == [{0}, {0}, {1}, {2}]
    alike(straight[0], tmp_path / "run")


def test_a_stopped_run_takes_in_what_was_begun(
    straight, tiny_folder, prompts, server, tmp_path, monkeypatch
):
    """A signal in an update: the answers under way are written, and not asked for again."""
    with stopped_after(monkeypatch, 2), pytest.raises(Interrupted):
        trained(tiny_folder, prompts, tmp_path / "run", server)
    assert len(recorded(tmp_path / "run")) == 3
    drawn = sum(body["max_tokens"] == 5 for body in server.requests)  # others are probes
    accord.resume(str(tmp_path / "run"))
    alike(straight[0], tmp_path / "run")
    assert (drawn, sum(body["max_tokens"] == 5 for body in server.requests)) == (12, 16)


def test_a_server_that_begins_anew_meanwhile(
    straight, tiny_folder, prompts, server, tmp_path, monkeypatch
):
    """Its adapters are gone: the version is brought back, and draws what it was to draw."""
    begin, begun = ServerSampler.begin, []

    def restarting(self, asked, **options):
        begun.append(True)
        found = begin(self, [], **options)
        if len(begun) == 2:
            server.left["restarted"] = 1
        return begin(self, asked, **options) and found

    monkeypatch.setattr(ServerSampler, "begin", restarting)
    trained(tiny_folder, prompts, tmp_path / "run", server)
    alike(straight[0], tmp_path / "run")


def test_a_server_that_dies_meanwhile(tiny_folder, prompts, server, tmp_path, monkeypatch):
    """The run ends in words, and goes on from its checkpoint when a server is there."""
    update = loop.make_update

    def dying(run):
        update(run)
        if run.progress.step == 2:
            server.faults.add("killed")

    fields = {"checkpoint.every": 1}
    monkeypatch.setattr(loop, "make_update", dying)
    with pytest.raises(UsageError, match=r"(?s)gave no answer to .*Nothing is lost"):
        trained(tiny_folder, prompts, tmp_path / "run", server, more=fields, attempts=1)
    server.faults.clear()
    monkeypatch.setattr(loop, "make_update", update)
    with standing_in(tiny_folder) as elsewhere:  # the same model at another address
        settings = tmp_path / "run/config.yaml"
        settings.write_text(settings.read_text().replace(server.address, elsewhere.address))
        accord.resume(str(tmp_path / "run"))
    assert len(recorded(tmp_path / "run")) == 4


@pytest.mark.parametrize(
    "changes",
    [{"rollouts.sampler.sleep": True}, {"reference": "moving", "moving.every": 1}],
    ids=["a server that sleeps", "a reference that moves"],
)
def test_what_cannot_be_drawn_meanwhile_is_waited_for(
    changes, tiny_folder, prompts, server, tmp_path, monkeypatch
):
    begun = []
    note = RolloutSource._begin
    monkeypatch.setattr(
        RolloutSource, "_begin", lambda self, n: begun.append(note(self, n)) or begun[-1]
    )
    trained(tiny_folder, prompts, tmp_path / "run", server, more=changes, steps=3)
    assert begun and not any(begun) and len(recorded(tmp_path / "run")) == 3
