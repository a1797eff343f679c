"""Answers that are drawn before their turn, by an older policy: which weights drew what, and that a
killed run goes on to the bit without drawing anything twice.
"""

import json

import pytest
from training.helpers import json_lines, metrics
from training.test_resume import same
from training.test_rollouts import prompts, refused, rolled  # noqa: F401

import accord
from accord.rollouts import source
from accord.rollouts.files import BatchFiles
from accord.rollouts.schedule import Schedule
from accord.types import Refused

AHEAD = {"rollouts.ahead": 1, "checkpoint.every": 1, "monitor.samples": 0, "evaluate.every": 0}


def recorded(folder) -> list[dict]:
    files = sorted((folder / "rollouts").iterdir())
    return [json.loads(file.read_text().splitlines()[1]) for file in files]


@pytest.fixture(scope="module")
def straight(tiny_folder, prompts, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("ahead") / "straight"
    rolled(tiny_folder, prompts, folder, set={**AHEAD})
    return folder


def test_the_schedule():
    plan = Schedule(ahead=2, num_iterations=3)
    assert [list(plan.due(update, 5)) for update in range(12)] == [
        *([0, 1, 2], [], []),
        *([3], [], []),
        *([4], [], []),
        *([], [], []),
    ]
    # by the weights that batch n - 2 begins with: at most 3 · 3 - 1 updates ago
    drawn = {n: update for update in range(12) for n in plan.due(update, None)}
    ages = [update - drawn[plan.batch_of(update)] for update in range(12)]
    assert ages == [0, 1, 2, 3, 4, 5, 6, 7, 8, 6, 7, 8] and plan.max_staleness == 8
    assert [list(Schedule(0, 2).due(update, 3)) for update in range(4)] == [[0], [], [1], []]
    plan.require_young(3, 9, 1)
    for drawn_at in (0, 10):
        with pytest.raises(Refused, match=f"drawn after {drawn_at} updates, and update 9"):
            plan.require_young(3, 9, drawn_at)


def test_each_batch_names_the_weights_that_drew_it(straight):
    batches = recorded(straight)
    assert [{a["updates"] for a in b["answers"]} for b in batches] == [{0}, {0}, {1}, {2}]
    policies = [{a["policy"] for a in b["answers"]} for b in batches]
    assert policies[0] == policies[1] and len(set.union(*policies)) == 3
    lines = metrics(straight)
    assert [line["rollouts/staleness"] for line in lines] == [0, 1, 1, 1]
    # ratios are to the policy that drew: 1 but for rounding only where nothing has moved
    gaps = [line["policy/ratio_gap"] for line in lines]
    assert gaps[0] < 1e-5 < 1e-4 < min(gaps[1:])


class Killed(BaseException):
    """What no code expects."""


@pytest.mark.parametrize("number, written", [(1, True), (2, False), (2, True), (3, True)])
def test_a_killed_run_goes_on(
    number,
    written,
    straight,
    tiny_folder,
    prompts,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    """Killed before and after a batch that is drawn ahead is on disk. What is there is read."""
    folder, write, sampled = tmp_path / "run", BatchFiles.write, []

    def killing(self, which, content):
        if which == number and not written:
            raise Killed
        write(self, which, content)
        if which == number:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(BatchFiles, "write", killing)
        with pytest.raises(Killed):
            rolled(tiny_folder, prompts, folder, set={**AHEAD})
    draw = source.RolloutSource._answered
    monkeypatch.setattr(
        source.RolloutSource,
        "_answered",
        lambda self, n, *rest: sampled.append(n) or draw(self, n, *rest),
    )
    accord.resume(str(folder))
    assert sampled == [n for n in range(4) if n > number or (n == number and not written)]
    same(straight, folder)
    assert recorded(folder) == recorded(straight)


def test_a_batch_that_is_gone_is_drawn_again_and_says_so(
    straight,
    tiny_folder,
    prompts,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    folder, write = tmp_path / "run", BatchFiles.write

    def killing(self, which, content):
        write(self, which, content)
        if which == 3:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(BatchFiles, "write", killing)
        with pytest.raises(Killed):
            rolled(tiny_folder, prompts, folder, set={**AHEAD})
    (folder / "rollouts/000002.json").unlink()
    with pytest.warns(UserWarning, match="batch 2 of answers is gone, .* after 2 updates"):
        accord.resume(str(folder))
    assert [line["rollouts/staleness"] for line in metrics(folder)] == [0, 1, 0, 1]


@pytest.mark.parametrize("method, passes", [("ppo", 2), ("dpo", 1)])
def test_other_methods_learn_from_older_answers(
    method,
    passes,
    tiny_folder,
    prompts,  # noqa: F811
    tmp_path,
):
    fields = {**AHEAD, "rollouts.num_iterations": passes, "rollouts.ahead": 1}
    folder = rolled(tiny_folder, prompts, tmp_path / "run", method, set=fields).folder
    ages = [line["rollouts/staleness"] for line in metrics(folder)]
    assert ages == ([0, 1, 2, 3] if passes == 2 else [0, 1, 1, 1])
    assert len(recorded(folder)) == 4 // passes


@pytest.mark.parametrize("name", ["tis", "icepop", "mask"])
def test_a_corrected_run_by_its_own_sampler_weighs_nothing(name, tiny_folder, prompts, tmp_path):  # noqa: F811
    fields = {"rollouts.correction": name, "monitor.samples": 0, "evaluate.every": 0}
    folder = rolled(tiny_folder, prompts, tmp_path / "run", steps=1, set=fields).folder
    (line,) = metrics(folder)
    assert line["rollouts/correction_weight"] == pytest.approx(1, abs=1e-4)
    assert line["rollouts/correction_cut"] == 0 and line["rollouts/sampler_gap_worst"] < 1e-3


BAD = {
    "older answers without ratios": ("rloo", {"rollouts.ahead": 1}, "off-policy"),
    "weights of pairs": ("dpo", {"rollouts.correction": "tis"}, "no meaning"),
    "a bound of nothing": ("grpo", {"rollouts.correction_clip": 3.0}, "it would bound nothing"),
    "a lower bound of tis": (
        "grpo",
        {"rollouts.correction": "tis", "rollouts.correction_low": 0.5},
        "no lower bound",
    ),
    "a clip below 1": (
        "grpo",
        {"rollouts.correction": "tis", "rollouts.correction_clip": 0.5},
        "rollouts.correction_clip",
    ),
}


@pytest.mark.parametrize("method, fields, words", BAD.values(), ids=BAD)
def test_what_would_do_nothing_is_refused(method, fields, words, tiny_folder, prompts, tmp_path):  # noqa: F811
    assert words in refused(tiny_folder, prompts, tmp_path, method=method, set=fields)


@pytest.mark.parametrize("apart, correction", [(-0.5, "none"), (-0.5, "tis")])
def test_a_sampler_that_is_far_from_the_trainer(
    apart,
    correction,
    tiny_folder,
    prompts,  # noqa: F811
    tmp_path,
    monkeypatch,
):
    """Refused in words, with the file left to look at; or weighed, and it says by how much."""
    sample = source.RolloutSource.draw

    def elsewhere(self, *given, **options):
        found = sample(self, *given, **options)
        for answer in found:
            (own,) = answer.segments
            moved = tuple(value - apart for value in own.sampled)
            answer.segments = (source.Segment("policy", own.tokens, moved),)
        return found

    monkeypatch.setattr(source.RolloutSource, "draw", elsewhere)
    fields = {"rollouts.correction": correction, "monitor.samples": 0, "evaluate.every": 0}
    if correction == "none":
        said = refused(tiny_folder, prompts, tmp_path, set=fields)
        assert "Batch 0 of answers: the sampler's log-probs are 0.5 nats" in said
        return
    folder = rolled(tiny_folder, prompts, tmp_path / "run", steps=1, set=fields).folder
    (line,) = [one for one in json_lines(folder / "metrics.jsonl") if "loss" in one]
    assert line["rollouts/correction_weight"] == pytest.approx(0.6065, rel=1e-3)
