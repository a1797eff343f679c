"""A run that learns from its own answers, shared by several processes: the same answers, rewards and
updates as of one, each answer judged once, and what one rank fails at told by all.
"""

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file
from training.helpers import metrics, run
from training.worlds import in_world, train

ROLLED = {
    "rollouts.rewards": ["length=-0.1"],
    "rollouts.num_generations": 3,
    "rollouts.max_new_tokens": 6,
    "monitor.samples": 0,
}
# what trains, and the worlds that must take the same updates
RUNS = {
    "grpo": ({"method": "grpo", "set": {"evaluate.every": 2, "rollouts.gold": ["length"]}}, (2, 4)),
    "ppo": (
        {"method": "ppo", "set": {"objective.kl_target": 2.0, "rollouts.num_iterations": 2}},
        (2,),
    ),
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
            for name in ("prompt", "text", "tokens", "ended", "reward", "failure", "parts"):
                assert answer[name] == their[name], name
            for name in ("logps", "reference", "expected"):
                assert answer[name] == pytest.approx(their[name], abs=1e-5), name


def apart(one: str, other: str) -> float:
    tensors, others = (load_file(next(Path(each).glob("*.safetensors"))) for each in (one, other))
    assert tensors.keys() == others.keys()
    return max((tensors[name] - others[name]).abs().max().item() for name in tensors)


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
        assert apart(ranks[0]["saved"], str(alone.saved)) < 1e-6
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
