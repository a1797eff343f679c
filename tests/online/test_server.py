"""Runs whose answers a server draws: versions that are who they say, faults that are named, nothing
lost.
"""

import shutil
from collections import Counter
from pathlib import Path
from threading import Event

import httpx
import pytest
import torch
from online.stand_in import NAME, standing_in
from training.helpers import json_lines, ready_for, run

from accord.environment import web
from accord.sampling import explanations
from accord.sampling.background import Background
from accord.sampling.server_client import ServerClient
from accord.sampling.server_protocol import Served
from accord.types import Refused, UsageError

SMALL = {
    "rollouts.rewards": ["length"],
    "rollouts.num_generations": 2,
    "rollouts.max_new_tokens": 5,
    "monitor.samples": 0,
}


@pytest.fixture(scope="module")
def server(tiny_folder):
    with standing_in(tiny_folder) as state:
        yield state


def settings(server, **more):
    limits = {"attempts": 3, "timeout": 30.0, "workers": 4}
    fields = {"server": server.address} | limits | more
    return SMALL | {"rollouts.sampler": fields, "rollouts.max_gap": 0.02}


def trained(tiny_folder, prompts, output, fields, **changes):
    few = {"method": "grpo", "steps": 2, "batch_size": 2, "set": fields}
    return run(tiny_folder, str(prompts), output, **few | changes)


# ---------------------------------------------------------------- whole runs


def test_versions_are_published_probed_and_removed(tiny_folder, prompts, server, tmp_path):
    """Each update has a version of its own; the server keeps one at a time, and so does the disk.
    What the tokens are worth is the trainer's own number.
    """
    before = len(server.events)
    trained(tiny_folder, prompts, tmp_path / "run", settings(server))
    lines = json_lines(tmp_path / "run/sampler.jsonl")
    names = [line["version"] for line in lines]
    assert names[0] == NAME and all(
        n.startswith(f"policy@{i}-") for i, n in enumerate(names[1:], 1)
    )
    assert all(line["gap"] < 1e-5 and not line["cause"] for line in lines)
    # the trial (1), the first policy (2) and the one after an update (3)
    assert len(names) == 4 and lines[-1]["weighed"]["stale version"]["left"] > 1e-3
    loads = [e for e in server.events[before:] if e.startswith("load")]
    assert loads == [f"load {name}" for name in names[1:]]
    assert set(server.adapters) == {names[-1]}
    assert [p.name for p in (tmp_path / "run/policy").iterdir()] == [names[-1]]
    sent = [body for body in server.requests if body["model"] == names[-1]]
    assert len({body["seed"] for body in sent}) == len(sent), "each answer has a seed of its own"


def test_whole_weights_go_by_a_folder(tiny_folder, prompts, server, tmp_path):
    before = len(server.events)
    fields = settings(server) | {"model.lora": None}
    trained(tiny_folder, prompts, tmp_path / "run", fields)
    lines = json_lines(tmp_path / "run/sampler.jsonl")
    assert len(lines) == 3 and all(line["gap"] < 1e-5 for line in lines)
    assert server.events[before:] == ["/pause", "reload_weights", "/resume"] * 3
    assert server.version.startswith("policy@3-")
    server.restart()


# ---------------------------------------------------------------- faults


@pytest.fixture(scope="module")
def shared(tiny_folder, prompts, server):
    """A prepared run's sampler, whose server has had no fault; no time is waited."""
    sampler = ready_for(
        tiny_folder, str(prompts), method="grpo", batch_size=2, assignments=_assigned(server)
    ).source.sampler
    sampler.client.wait = lambda seconds: None
    return sampler


def _assigned(server):
    return [f"{k}={v}".replace("'", "") for k, v in settings(server).items()]


@pytest.fixture
def sampler(shared, server):
    """The same sampler, with the weights of a policy that has learned; faults end with the test."""
    masters = shared.sync.masters
    own = {name: m.detach().clone() for name, m in masters.items()}
    learn(shared, 0.05, seed=7)
    shared.sample(shared.probes[:1], max_new_tokens=2)
    learn(shared, 0.05)
    yield shared
    server.faults, server.left = set(), Counter()
    server.restart()
    with torch.no_grad():
        for name, value in own.items():
            masters[name].copy_(value)
    shared._published = ""


def learn(sampler, size, seed=1):
    """Move the policy, as an update does."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for master in sampler.sync.masters.values():
            master.add_(torch.randn(master.shape, generator=generator) * size)


def draw(sampler, count=4):
    return sampler.sample([sampler.probes[i % 3] for i in range(count)], max_new_tokens=4, seed=3)


def refusal(function, *arguments) -> str:
    with pytest.raises((Refused, UsageError)) as error:
        function(*arguments)
    assert len(str(error.value)) < 2_000
    return str(error.value)


# fault -> the name that the probe gives it, and what stands beside the name
NAMED = {
    "stale": ("stale version", "1.00 ± 0.00 of the way"),
    "adapter off": ("adapter not applied", "--enable-lora"),
    "temperature": ("log-probs at another temperature", "logits divided by 2,"),
    "top-p": ("log-probs after top-p", "together hold 0.8"),
    "top-k": ("log-probs after top-k", "the likeliest 20 tokens"),
    "cut": ("cut prompts", "the last 3 tokens"),
    "first token": ("other template", "one more first token (BOS)"),
    "template": ("other template", "inside the server's own chat template"),
    "bfloat16": ("other dtype", "--dtype float32"),
}


@pytest.mark.parametrize("fault", NAMED)
def test_the_cause_of_a_gap_is_named(fault, sampler, server, monkeypatch):
    """By numbers alone: the server says that all is well, and shows the prompt that was sent."""
    server.faults = {fault}
    if fault == "bfloat16":  # the tiny model's rounding is small: so must the bound be
        monkeypatch.setattr(sampler, "max_gap", 1e-3)
    said = refusal(draw, sampler)
    name, beside = NAMED[fault]
    assert said.startswith(f"{name}: ") and beside in said, said


def test_a_correction_weighs_another_dtype_and_no_other_policy(sampler, server, monkeypatch):
    monkeypatch.setattr(sampler, "corrected", True)
    monkeypatch.setattr(sampler, "max_gap", 1e-3)
    told = []
    monkeypatch.setattr(sampler, "tell", told.append)
    server.faults = {"bfloat16"}
    assert len(draw(sampler)) == 4 and "rollouts.correction weighs it" in told[-1]
    server.faults = {"stale"}
    learn(sampler, 0.3, seed=3)
    assert refusal(draw, sampler).startswith("stale version: ")


def test_a_version_one_update_old_is_seen_within_the_bound(sampler, server):
    """What one update moves is less than the bound; the gap's direction tells."""
    draw(sampler)
    learn(sampler, 0.0003, seed=2)
    server.faults = {"stale"}
    said = refusal(draw, sampler)
    assert said.startswith("stale version: ") and " within 0.0" in said


def test_a_version_that_comes_late_is_published_once_more(sampler, server):
    server.left["stale"] = 6  # the first probe's six answers
    assert len(draw(sampler)) == 4


@pytest.mark.parametrize("cut", [True, False])
def test_a_prompt_that_the_server_shows_to_be_another(cut, sampler, server):
    server.faults = {"cut" if cut else "first token", "shown"}
    assert refusal(draw, sampler).startswith("cut prompt: " if cut else "another prompt: ")


def test_another_base_is_found_by_leaving_the_adapter_out(sampler, server):
    server.serve_other()
    said = refusal(draw, sampler)
    assert said.startswith("other base: without any adapter") and "accord serve-policy" in said


@pytest.mark.parametrize(
    "fault, name",
    [
        ("temperature", "log-probs at another temperature: "),
        ("adapter off", "adapter not applied: "),
        ("tokenizer", "other tokenizer: "),
        ("dropped", "adapter dropped: "),
        ("no ids", "The server at"),
    ],
)
def test_before_the_first_update(fault, name, sampler, server):
    server.faults = {fault}
    assert refusal(sampler.prove).startswith(name)


def test_another_base_before_the_first_update(sampler, server):
    server.serve_other()
    assert refusal(sampler.prove).startswith("other base: ")


# ---------------------------------------------------------------- what passes


@pytest.mark.parametrize(
    "fault",
    [
        *("garbage", "nan", "no choices", "busy", "killed", "raced", "no ids"),
        *("abort", "empty", "outside", "uneven", "likely", "longer"),
    ],
)
def test_what_passes_changes_no_answer(fault, sampler, server):
    """An answer depends on its seed, and not on how often it was asked for."""
    clean = draw(sampler)
    retries = sampler.client.counts["retries"]
    server.left[fault] = 2
    assert draw(sampler) == clean and sampler.client.counts["retries"] > retries


def test_a_slow_answer_is_asked_for_again(sampler, monkeypatch):
    """The wait itself is the judges' (tests/evaluate/judges): the same code."""
    clean, once, left = draw(sampler), web._once, [1, 1]

    def slow(*arguments):
        if left:
            left.pop()
            raise httpx.ReadTimeout("slow")
        return once(*arguments)

    monkeypatch.setattr(web, "_once", slow)
    assert draw(sampler) == clean and not left
    left[:] = [1] * 100
    assert "3 attempts: timeout" in refusal(draw, sampler)


def test_a_server_that_is_slow(sampler, server, monkeypatch):
    """By the clock: an answer that comes too late is not waited for, and is the same later."""
    clean = draw(sampler, 1)
    monkeypatch.setattr(sampler.client.client, "timeout", httpx.Timeout(2.0))
    server.left["slow"] = 1
    retries = sampler.client.counts["retries"]
    assert draw(sampler, 1) == clean and sampler.client.counts["retries"] > retries
    server.slow.set()


def test_a_server_that_sleeps(sampler, server, monkeypatch):
    """It may sleep when a run begins, since the run before was killed; what fails is told."""
    monkeypatch.setattr(sampler, "settings", replace_fields(sampler.settings, sleep=True))
    monkeypatch.setattr(sampler, "_asleep", False)
    sampler.__post_init__()
    server.asleep = True
    clean = draw(sampler)
    sampler.rest()
    assert server.asleep and draw(sampler) == clean and not server.asleep
    server.faults = {"/sle"}
    assert "/sleep?level=1 in 3 attempts: status 500" in refusal(sampler.rest)
    server.faults = set()
    sampler.rest()
    server.faults = {"/wak"}
    assert "/wake_up in 3 attempts: status 500" in refusal(draw, sampler)
    server.faults = set()
    assert draw(sampler) == clean


def replace_fields(settings, **changes):
    return settings.model_copy(update=changes)


def test_whole_weights_that_are_lost_take_what_was_begun_with_them(sampler, monkeypatch):
    """A server that began anew draws by its base, under the same name: an answer that was asked for
    early is not used in a later piece of the batch, when the version is back.
    """
    monkeypatch.setattr(sampler.sync, "kind", "weights")
    monkeypatch.setattr(type(sampler.sync), "present", lambda self, seen=[0, 1, 1]: seen.pop(0))
    early = {("v", n): object() for n in range(3)}
    monkeypatch.setattr(sampler, "_begun", early)
    monkeypatch.setattr(sampler, "_draw", lambda name, draws: ["by these weights"])
    monkeypatch.setattr(sampler, "_require_fine", lambda verdict: None)
    monkeypatch.setattr(sampler, "_probe", lambda *_: None)
    assert sampler._draw_by_this_version([]) == ["by these weights"] and not early
    sampler._restored = False


def test_another_runs_adapters_are_left_alone(sampler):
    """Its folder may begin with the same letters."""
    unloaded, sync = [], sampler.sync
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sync, "seen_as", "/common/policy")
        patch.setattr(sync, "folder", Path("/nowhere"))
        patch.setattr(sync.client, "unload_adapter", unloaded.append)
        sync.sweep(
            {
                f"policy@{n}": Served(f"policy@{n}", NAME, f"/common/{folder}/policy@{n}", None)
                for n, folder in enumerate(("policy", "policy-b"))
            }
        )
    assert unloaded == ["policy@0"]


def test_files_that_another_run_removed(sampler, server):
    """Both have one folder: the message says so."""
    draw(sampler)
    shutil.rmtree(sampler.sync.folder / sampler.sync.version)
    server.restart()
    assert "is gone. Does another run use this folder?" in refusal(draw, sampler, 5)


def test_no_exit_waits_for_a_request():
    """A thread that stands in a request is a daemon; what waits is cancelled."""
    gate, pool = Event(), Background(1)
    under_way, waiting = pool.submit(gate.wait, 60), pool.submit(gate.wait, 60)
    failing = Background(1)
    with pytest.raises(ZeroDivisionError):
        failing.submit(lambda: 1 / 0).result(60)
    pool.close()
    assert waiting.cancelled() and all(thread.daemon for thread in pool._threads)
    gate.set()
    assert under_way.result(60)


def test_a_server_that_restarts_gets_the_version_back(sampler, server):
    """In the middle of a batch. The same answers come, by the same version, which is probed."""
    clean, name, before = draw(sampler), sampler.sync.name, sampler.sync.reloads
    server.left["restarted"] = 1
    assert draw(sampler) == clean
    assert sampler.sync.reloads == before + 1 and sampler.sync.name == name
    assert server.requests[-1]["model"] == name


@pytest.mark.parametrize(
    "fault, words",
    [
        ("raced", "version raced: "),
        ("garbage", "no JSON"),
        ("nan", "log-probs that are none"),
        ("no choices", "0 choices in place of 1"),
        ("busy", "status 429"),
        ("killed", "no connection"),
        ("no ids", "exact token ids"),
        ("abort", "an end ('abort')"),
        ("empty", "an answer without tokens"),
    ],
)
def test_what_does_not_pass_ends_in_words(fault, words, sampler, server):
    draw(sampler)
    server.faults = {fault}
    assert words in refusal(draw, sampler)


# ---------------------------------------------------------------- settings, before anything


@pytest.mark.parametrize(
    "more, words",
    [
        ({"server": "http://127.0.0.1:9"}, "accord serve-policy"),
        ({"server": "ftp://x"}, "rollouts.sampler.server: expected an address"),
        ({"model": "other"}, "serves tiny. Another model may be behind this address"),
        ({"sync": "weights"}, "trains adapters: set rollouts.sampler.sync to adapter"),
        ({"seen_as": "/x"}, "seen_as is another path"),
        ({"server": "http://127.0.0.1:9/#v1"}, "a fragment"),
        ({"server": "http://xn--:9"}, "Expected an address such as"),
    ],
)
def test_a_wrong_setting(more, words, tiny_folder, prompts, server, monkeypatch):
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    fields = settings(server)
    fields["rollouts.sampler"] |= more
    assigned = [f"{k}={v}".replace("'", "") for k, v in fields.items()]
    with pytest.raises(UsageError, match=words):
        ready_for(tiny_folder, str(prompts), method="grpo", assignments=assigned)


@pytest.mark.parametrize("key", ["schlüssel", "two words", "abc\n"])
def test_a_key_that_no_request_can_hold(key, server, sampler, monkeypatch):
    monkeypatch.setenv("ACCORD_SAMPLER_KEY", key)
    said = refusal(ServerClient, sampler.settings)
    assert said.startswith("ACCORD_SAMPLER_KEY: ") and key not in said


@pytest.mark.parametrize(
    "status, headers, words",
    [
        (307, {"location": "https://there/"}, "it sends to https://there/"),
        (404, {}, "refuses /v1/models (404): <html>"),
        (204, {}, "refuses /v1/models (204)"),
    ],
)
def test_an_address_of_something_else(status, headers, words, sampler):
    """What answers is no server of models: the message names the setting and the command."""
    answer = httpx.Response(status, headers=headers)
    said = refusal(sampler.client._refused, "/v1/models", answer, b"<html>")
    assert words in said and "rollouts.sampler.server" in said


def test_a_server_without_adapters_or_room(sampler, server):
    server.lora = False
    try:
        assert "--enable-lora" in refusal(draw, sampler)
    finally:
        server.lora = True
    said = refusal(lambda: sampler.sample(sampler.probes[:1], max_new_tokens=120))
    assert "takes 128 tokens" in said and "--max-model-len" in said


def test_each_cause_has_a_fault_that_is_named_by_it():
    """A row of the table without a test would be a cause that nobody has seen."""
    tested = {"former_version", "adapter_off", "other_temperature", "cut_prompt", "other_template"}
    assert {cause.__name__ for cause in explanations.CAUSES} == tested | {"other_dtype"}
