"""A run that learns from its own answers, shared by several processes: the answers, rewards and
updates of one, each answer judged once, and what one rank fails at told by all.
"""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from online.stand_in import standing_in
from safetensors.torch import load_file
from training.helpers import metrics, run
from training.worlds import GONE, in_world, rank, train

import accord
from accord.assess.opened import ADAPTER, WHOLE
from accord.distributed.world import join_world
from accord.rewards.placed import OnFirst
from accord.rewards.reward import Rewards
from accord.rewards.trust import Trust
from accord.rollouts import source
from accord.training.setup import rollouts as online
from accord.types import Turn, UsageError

ROLLED = {
    "rollouts.rewards": ["length=-0.1"],
    "rollouts.num_generations": 3,
    "rollouts.max_new_tokens": 6,
    "monitor.samples": 0,
    "checkpoint.every": 1,
    "checkpoint.keep": 9,
}
DRAWN_AGAIN = {"evaluate.every": 2, "rollouts.gold": ["length"], "rollouts.dynamic_sampling": 1}
TWICE_AND_AHEAD = {"objective.kl_target": 2.0, "rollouts.num_iterations": 2, "rollouts.ahead": 1}
# what trains, and the worlds that must take the same updates
RUNS = {
    "grpo": ({"method": "grpo", "set": DRAWN_AGAIN}, (2, 4)),
    "ppo": ({"method": "ppo", "set": TWICE_AND_AHEAD}, (2,)),
    "rloo-all-weights": ({"method": "rloo", "lora": False}, (2,)),
    "reinforce-idle": ({"method": "reinforce", "batch_size": 2}, (3,)),
    "dpo": ({"method": "dpo", "batch_size": 5}, (2,)),
}


@pytest.fixture(scope="module")
def prompts(tmp_path_factory):
    """Files of prompts: to train on, and held out."""
    folder = tmp_path_factory.mktemp("prompts")
    for name, numbers in (("train", range(10)), ("held", range(50, 53))):
        rows = [{"prompt": f"say something about the cat number {n}"} for n in numbers]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def changed(prompts, changes: dict) -> dict:
    own = {"steps": 3, "held_out": str(prompts / "held.jsonl"), **changes}
    return own | {"set": ROLLED | changes.get("set", {})}


def batches(folder: Path) -> list[dict]:
    return [
        json.loads(file.read_text().splitlines()[1])
        for file in sorted((folder / "rollouts").glob("*.json"))
    ]


def same_answers(one: Path, other: Path) -> None:
    """Tokens, texts and rewards to the byte; log-probs but for rounding."""
    assert len(batches(one)) == len(batches(other)) > 0
    for batch, theirs in zip(batches(one), batches(other), strict=True):
        assert batch["at"] == theirs["at"]
        for answer, their in zip(batch["answers"], theirs["answers"], strict=True):
            for name in ("prompt", "text", "ended", "updates", "reward", "failure", "parts"):
                assert answer[name] == their[name], name
            drawn, theirs_drawn = (
                [(s["author"], s["tokens"]) for s in each["segments"]] for each in (answer, their)
            )
            assert drawn == theirs_drawn
            for name in ("logps", "reference", "expected"):
                assert answer[name] == pytest.approx(their[name], abs=1e-5), name


def same_updates(one: Path, other: Path) -> None:
    """AdamW's moments after each update to 1e-5 of a tensor's largest, their squares to 2e-5
    (measured, in nine runs: 2.1e-6 and 4.3e-6); each weight to what the moments leave open, and to
    1e-6 wherever no gradient cancels; what was saved is the weights.

    Where a gradient all but cancels, AdamW divides rounding by rounding: one weight of 512 was
    2.2e-6 apart on a processor with AMX. A weight in a hundred may be one of these.
    """
    moved, theirs_moved, cancels, former = {}, {}, {}, {}
    for step, _ in enumerate(metrics(one), 1):
        mine, theirs = (
            load_file(run / f"checkpoints/step-{step:06d}/tensors.safetensors")
            for run in (one, other)
        )
        assert mine.keys() == theirs.keys()
        for name in mine:
            if not name.startswith("master/"):
                rounding = 2e-5 if name.startswith("exp_avg_sq/") else 1e-5
                furthest = (theirs[name].double() - mine[name].double()).abs().max()
                assert furthest <= rounding * mine[name].abs().max(), (step, name)
        rates = [metrics(run)[step - 1]["learning_rate"] for run in (one, other)]
        assert rates[0] == rates[1]
        for name in [name for name in mine if name.startswith("master/")]:
            for held, total in ((mine, moved), (theirs, theirs_moved)):
                total[name] = total.get(name, 0) + rates[0] * direction(held, name, step)
            mean = mine[name.replace("master", "exp_avg")]
            gradient = (mean - 0.9 * former.get(name, 0)).abs()
            former[name] = mean
            nothing = (gradient > 0) & (gradient < 1e-4 * gradient.max())
            cancels[name] = cancels.get(name, False) | nothing
    rounded = 2**-23 * len(metrics(one))  # a weight of 1 may be rounded otherwise in each update
    for name, total in moved.items():
        left_open = (total - theirs_moved[name]).abs() + rounded
        found = (mine[name].double() - theirs[name].double()).abs()
        assert (found <= left_open).all(), name
        assert (found[~cancels[name]] < 1e-6).all(), name
        assert (found >= 1e-6).sum() <= 0.01 * found.numel(), name
    for folder, held in ((one, mine), (other, theirs)):
        files = (f for kind in (ADAPTER, WHOLE) for f in folder.glob(f"{kind}/*.safetensors"))
        saved = load_file(next(files))
        whole = {name.removeprefix("master/").replace(".default", ""): name for name in moved}
        assert saved.keys() == {name for name in whole if not name.startswith("critic")}
        for name in saved:
            assert torch.equal(saved[name], held[whole[name]]), name


def direction(held: dict, name: str, step: int) -> torch.Tensor:
    """What AdamW's update `step` takes off a weight, a unit of learning rate."""
    mean, square = (
        held[name.replace("master", moment)].double() / (1 - decay**step)
        for moment, decay in (("exp_avg", 0.9), ("exp_avg_sq", 0.999))
    )
    return mean / (square.sqrt() + 1e-8)


@pytest.mark.parametrize("changes, sizes", RUNS.values(), ids=RUNS)
def test_no_world_changes_a_run(changes, sizes, tiny_folder, prompts, tmp_path):
    data, changes = str(prompts / "train.jsonl"), changed(prompts, changes)
    alone = run(tiny_folder, data, tmp_path / "alone", **changes)
    for size in sizes:
        output = tmp_path / f"{size}"
        ranks = in_world(
            size, tmp_path / f"ranks-{size}", train, tiny_folder, data, output, changes
        )
        assert all(isinstance(rank, dict) and "saved" in rank for rank in ranks), ranks
        same_answers(tmp_path / "alone", output)
        same_updates(tmp_path / "alone", output)
        for mine, theirs in zip(metrics(output), metrics(alone), strict=True):
            assert mine.keys() == theirs.keys()
            for name in mine:
                assert mine[name] == pytest.approx(theirs[name], rel=1e-3, abs=1e-4), name
        lines = [
            (each / "answers.jsonl").read_text().splitlines() for each in (output, alone.folder)
        ]
        assert [json.loads(x)["text"] for x in lines[0]] == [
            json.loads(x)["text"] for x in lines[1]
        ]


def test_one_server_draws_for_all_ranks(tiny_folder, prompts, tmp_path):
    with standing_in(tiny_folder) as server:
        asked = {"rollouts.sampler": {"server": server.address, "workers": 4}}
        own = changed(prompts, {"method": "grpo", "steps": 2, "set": asked})
        data = str(prompts / "train.jsonl")
        run(tiny_folder, data, tmp_path / "alone", **own)
        drawn = len(server.requests)
        in_world(2, tmp_path / "ranks", train, tiny_folder, data, tmp_path / "two", own)
        assert len(server.requests) == 2 * drawn, "each answer is asked for once"
    same_answers(tmp_path / "alone", tmp_path / "two")
    same_updates(tmp_path / "alone", tmp_path / "two")


# ---------------------------------------------------------------- rewards

COUNTED = """
import os, time

def each(prompts, answers, *, path, late=-1):
    with open(path, "a") as file:
        file.write("x\\n" * len(answers))
    if int(os.environ.get("RANK", 0)) == late:
        time.sleep(60)
    return [float(len(answer)) for answer in answers]
"""


@pytest.fixture
def counted(tmp_path, monkeypatch):
    """A reward that notes every answer that it is asked for, and may hang on one rank: its
    options, and the file.
    """
    (tmp_path / "counted.py").write_text(COUNTED)
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "asked"
    return {
        "rollouts.rewards": ["counted:each"],
        "rollouts.reward_options": {"counted:each": {"path": str(file), "timeout": 0.3}},
    }, file


def test_each_answer_is_judged_once(counted, tiny_folder, prompts, tmp_path):
    options, file = counted
    own = changed(prompts, {"set": options})
    data = str(prompts / "train.jsonl")
    in_world(3, tmp_path / "ranks", train, tiny_folder, data, tmp_path / "run", own)
    answers = sum(len(batch["answers"]) for batch in batches(tmp_path / "run"))
    held_out = (tmp_path / "run/answers.jsonl").read_text().splitlines()
    assert len(file.read_text().splitlines()) == answers + len(held_out) == 10 * 3 + 2 * 3 * 2


def test_a_reward_that_hangs_on_one_rank(counted, tiny_folder, prompts, tmp_path):
    """Its answers have no reward, and after three such calls every rank ends in the words of the
    one whose reward it is.
    """
    options, _ = counted
    options["rollouts.reward_options"]["counted:each"]["late"] = 1
    own = changed(prompts, {"steps": 9, "held_out": None, "set": options})
    data = str(prompts / "train.jsonl")
    told = in_world(2, tmp_path / "ranks", train, tiny_folder, data, tmp_path / "run", own)
    assert all(each["code"] == 2 and each["on_all_ranks"] for each in told), told
    assert "ran out of time on every answer of 3 calls in a row" in told[1]["says"]
    assert "rank 1 of 2" in told[0]["says"] and "counted:each.timeout=" in told[0]["says"]
    (first, *_) = batches(tmp_path / "run")
    # three prompts: one of the first rank, two of the other
    assert [a["failure"] for a in first["answers"]] == [""] * 3 + [
        "counted:each: timed out"
    ] * 3 + ["counted:each: not asked, after others ran out of time"] * 3


class Scored:
    """A stand-in for a reward model: the length of an answer, and what it was asked."""

    name, trust, fingerprint = "model", Trust("", "known"), "f"

    def __init__(self):
        self.asked = []

    def __call__(self, prompts, answers, rows):
        self.asked.append([prompt[0].content for prompt in prompts])
        return Rewards.of([len(answer) or None for answer in answers])


def placed() -> list:
    """What a model of the first rank gives to the answers of each rank; the second has none."""
    with join_world() as world:
        reward = OnFirst.of(world, Scored)
        own = {0: ["a", ""], 1: [], 2: ["abc"]}[world.rank]
        found = reward([(Turn("user", f"{world.rank}"),)] * len(own), own, [{}] * len(own))
        asked = reward.held.asked if reward.held is not None else None
        return [str(found.values.tolist()), dict(found.failures), reward.trust.says, asked]


def test_a_model_of_the_first_rank_scores_for_all(tmp_path):
    told = in_world(3, tmp_path, placed)
    assert told == [
        ["[1.0, nan]", {"1": "no finite number"}, "known", [["0", "0", "2"]]],
        ["[]", {}, "known", None],
        ["[3.0]", {}, "known", None],
    ]


# ---------------------------------------------------------------- what ends


def ending(tiny_folder, data, output, changes, how: int) -> dict:
    """A run in which rank 1 gets a signal while the third batch is scored."""
    measure = source.assign_rewards

    def told(reward, prompts, answers):
        if output.joinpath("rollouts/000001.json").exists() and rank() == 1:
            os.kill(os.getpid(), how)
        measure(reward, prompts, answers)

    source.assign_rewards = told
    return train(tiny_folder, data, output, changes)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=["told", "killed"])
def test_a_rank_that_ends_while_it_scores(how, tiny_folder, prompts, tmp_path, monkeypatch):
    """Both end with 75, the step before is saved, and one process goes on to what an uninterrupted
    run gives: written batches are read, not drawn again.
    """
    data, own = str(prompts / "train.jsonl"), changed(prompts, {"held_out": None})
    left, gone = in_world(
        2, tmp_path / "ranks", ending, tiny_folder, data, tmp_path / "run", own, how
    )
    assert left["code"] == 75 and "Saved" in left["says"], left
    assert gone == GONE if how == signal.SIGKILL else gone["code"] == 75
    before = {file.name: file.read_bytes() for file in (tmp_path / "run/rollouts").iterdir()}
    assert sorted(before) == ["000000.json", "000001.json"]
    accord.resume(str(tmp_path / "run"))
    run(tiny_folder, data, tmp_path / "straight", **own)
    same_answers(tmp_path / "run", tmp_path / "straight")
    same_updates(tmp_path / "straight", tmp_path / "run")
    for name, content in before.items():
        assert (tmp_path / "run/rollouts" / name).read_bytes() == content


def ending_as_it_draws(tiny_folder, data, output, changes) -> dict:
    """A run in which rank 1 gets a signal before the third batch is drawn for all by a server."""
    draw = source.RolloutSource.draw

    def told(self, *arguments):
        if output.joinpath("rollouts/000001.json").exists() and rank() == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return draw(self, *arguments)

    source.RolloutSource.draw = told
    return train(tiny_folder, data, output, changes)


def test_a_signal_on_one_rank_ends_all_where_a_server_draws(tiny_folder, prompts, tmp_path):
    """No rank leaves alone what all do together: the other would take it for lost."""
    with standing_in(tiny_folder) as server:
        asked = {"rollouts.sampler": {"server": server.address, "workers": 4}}
        own = changed(prompts, {"set": asked, "held_out": None})
        data = str(prompts / "train.jsonl")
        told = in_world(
            2, tmp_path / "ranks", ending_as_it_draws, tiny_folder, data, tmp_path / "run", own
        )
    assert [each["code"] for each in told] == [75, 75]
    assert told[0]["says"].startswith("rank 1 of 2") and "stopped by SIGTERM" in told[0]["says"]
    assert told[0]["says"].endswith(told[1]["says"]), "all save together, and name one checkpoint"


def other_prompts(who: int) -> None:
    """Rank 1 finds another file under the name."""
    if who == 1:
        load = online.load_prompts

        def cut(*arguments):
            found = load(*arguments)
            return replace(found, dataset=replace(found.dataset, digest="other"))

        online.load_prompts = cut


def test_what_does_not_fit_a_world(counted, tiny_folder, prompts, tmp_path):
    """It is said before an answer is paid for."""
    options, file = counted
    data, own = str(prompts / "train.jsonl"), changed(prompts, {"set": options})
    told = in_world(
        2, tmp_path / "a", train, tiny_folder, data, tmp_path / "run", own, other_prompts
    )
    assert "rank 1 of 2" in told[0]["says"] and "the training data" in told[0]["says"], told
    assert not file.exists()
    own["set"] |= {"train.parallel": "sharded"}
    told = in_world(2, tmp_path / "b", train, tiny_folder, data, tmp_path / "parts", own)
    assert all(each["code"] == 2 for each in told)
    assert "train.parallel" in told[0]["says"] and "takes every process" in told[0]["says"]
    with pytest.raises(UsageError, match="reward_models = first does nothing in one process"):
        run(
            tiny_folder,
            data,
            tmp_path / "one",
            **changed(prompts, {"set": {"rollouts.reward_models": "first"}}),
        )
