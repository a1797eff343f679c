"""accord rlhf: three ordinary runs in one command, measured beside DPO; a death anywhere costs
nothing.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import pair_rows, write_rows
from rlhf.helpers import again, contents, die, log, steady
from training.helpers import json_lines
from typer.testing import CliRunner

from accord.campaign import stages
from accord.campaign.rlhf import measured, pipeline, proxy, verdict
from accord.campaign.rlhf.phases import PPO, Recipe
from accord.campaign.rlhf.pipeline import Terms, rlhf
from accord.cli.app import app
from accord.models import merge
from accord.pages.rlhf_lines import rlhf_lines
from accord.rewards.model import ModelReward
from accord.runs.display import SilentDisplay
from accord.runs.folder import RunFolder
from accord.training import loop, run
from accord.types import Refused, Turn, UsageError

SILENT = SilentDisplay()


@pytest.fixture(scope="module")
def recipe(tiny_folder, tmp_path_factory):
    """Path of a recipe with one or two updates a phase."""
    folder = tmp_path_factory.mktemp("recipe")
    raw = {
        "model": {"name": str(tiny_folder), "dtype": "float32"},
        "train": {"batch_size": 4, "steps": 2, "learning_rate": 3e-3},
        "data": {
            "train": write_rows(folder / "pairs.jsonl", pair_rows(12)),
            "held_out": write_rows(folder / "held.jsonl", pair_rows(3, start=100)),
        },
        "allow": ["weak_reward"],  # 3 held-out pairs show nothing
        "checkpoint": {"every": 1},
        "monitor": {"samples": 0, "audit_rows": 0},
        "evaluate": {"every": 1},
        "ppo": {
            "objective": {"beta": 0.1},
            "rollouts": {"num_generations": 2, "max_new_tokens": 5},
        },
    }
    (folder / "recipe.json").write_text(json.dumps(raw))
    return str(folder / "recipe.json")


def read(recipe, *assignments, skip_sft=False, gold="length"):
    return Recipe.read(recipe, assignments, (), skip_sft=skip_sft, gold=gold)


def stubbed(config, display, command):
    """Phases as they are, but for the policy gradient: it leaves the run that it began from under
    its name.
    """
    if config.objective["name"] != "ppo":
        return stages.train_or_resume(config, display, command)
    staging = Path(config.output).with_name("copy")
    shutil.rmtree(staging, ignore_errors=True)
    shutil.copytree(
        Path(config.model.adapter).parent, staging, ignore=shutil.ignore_patterns("merged")
    )
    return staging.rename(config.output)


# ---------------------------------------------------------------- all of it


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory):
    """(folder, record) of all phases, by the command line."""
    folder = tmp_path_factory.mktemp("whole") / "out"
    done = CliRunner().invoke(
        app,
        ["rlhf", recipe, "--against", "dpo", "--gold", "length", "--output", str(folder), "--json"],
    )
    assert done.exit_code == 0, done.output
    return folder, json.loads(done.stdout.strip().splitlines()[-1])["result"]


def test_three_ordinary_runs_and_dpo_beside_them(whole):
    folder, record = whole
    assert json.loads((folder / "rlhf.json").read_text()) == record
    for phase in ("sft", "reward_model", "ppo", "dpo"):
        config = RunFolder.open(str(folder / phase)).config()
        assert record["seeds"][0]["phases"][phase]["updates"] == config.train.steps == 2
    phases = record["seeds"][0]["phases"]
    assert (
        "eval_rewards/accuracies" in phases["reward_model"]["held_out"]
        and "eval_gold" in phases["ppo"]["held_out"]
    )
    assert [point["step"] for point in record["seeds"][0]["curve"]] == [0, 1, 2]


def test_the_learned_reward_is_the_trained_models(whole):
    """The scores of the files against the merged reward model, asked apart; and the policy
    gradient's rewards are its.
    """
    folder, _ = whole
    reward = ModelReward(str(folder / "reward_model/merged"), allow_weak=True)
    for line in json_lines(folder / "measured/dpo/held_out_scored.jsonl")[:2]:
        asked = [(Turn("user", line["prompt"]),)] * len(line["completions"])
        assert reward(
            asked, line["completions"], [{}] * len(asked)
        ).values.tolist() == pytest.approx(line["rewards"], abs=1e-4)
    answer = json_lines(folder / "ppo/answers.jsonl")[0]
    prompt = json_lines(folder / "held_out.jsonl")[answer["prompt"]]["prompt"]
    assert reward(
        [(Turn("user", prompt),)], [answer["text"]], [{}]
    ).values.tolist() == pytest.approx([answer["reward"]], abs=1e-4)


def test_kl_is_to_the_tuned_model(whole):
    table = whole[1]["table"]
    assert table["sft"]["kl"]["value"] == 0
    assert all(table[model]["kl"]["value"] > 0 for model in ("start", "ppo", "dpo"))


def test_what_is_in_memory_and_what_was_set(whole):
    """PPO holds a reward model and a value head beside the policy; DPO the policy alone, its
    reference an adapter.
    """
    record = whole[1]
    ppo, dpo = (record["seeds"][0]["phases"][phase] for phase in ("ppo", "dpo"))
    assert (
        set(ppo["models"]["roles"]) == {"policy", "reference", "value head", "reward model"}
        and ppo["models"]["networks"] == 2
    )
    assert set(dpo["models"]["roles"]) == {"policy", "reference"} and dpo["models"]["networks"] == 1
    assert ppo["models"]["roles"]["value head"] == 4 * 33
    assert 0 < dpo["models"]["roles"]["reference"] < dpo["models"]["roles"]["policy"] / 2
    assert {"objective.beta", "rollouts.num_generations"} <= set(
        ppo["hyper_parameters"]["set"]
    ) - set(dpo["hyper_parameters"]["set"])
    ways = record["ways"]
    assert (
        ways["rlhf"]["phases"],
        ways["dpo"]["phases"],
        ways["rlhf"]["networks"],
        ways["dpo"]["networks"],
    ) == (2, 1, 2, 1)
    assert ways["rlhf"]["model_bytes"] == ppo["models"]["bytes"] > dpo["models"]["bytes"]
    said = "\n".join(rlhf_lines(record))
    assert "ppo - dpo" in said and "one seed" in said and "whole networks in memory" in said


# ---------------------------------------------------------------- a death anywhere

# Where one life after the other ends: (module, function, which call of it in that life).
DEATHS = {
    "between updates of the tuning": (loop, "make_update", 2),
    "saved, its card not written": (run, "model_card", 1),
    "merging": (stages, "export_run", 1),
    "merged, not in place": (merge, "_read_back", 1),
    "in the reward model": (loop, "make_update", 1),
    "at the policy gradient": (shutil, "copytree", 1),
    "while answers are measured": (measured, "score_file", 2),
    "nothing but the record is missing": (pipeline, "write_json", 1),
}


@pytest.fixture(scope="module")
def straight(recipe, tmp_path_factory):
    """(folder, record) with a stub in the policy gradient's place."""
    folder = tmp_path_factory.mktemp("straight") / "out"
    return folder, rlhf(
        read(recipe, "ppo.rollouts.num_generations_eval=1"),
        Terms(str(folder)),
        SILENT,
        carry=stubbed,
    )


def test_deaths_cost_nothing(straight, recipe, monkeypatch):
    """Everything is there to the byte in the end, and nothing that was over is begun again."""
    folder, asked = straight[0], read(recipe, "ppo.rollouts.num_generations_eval=1")

    def work():
        return rlhf(asked, Terms(str(folder)), SILENT, carry=stubbed)

    with again(folder) as aside:
        for place, (module, name, call) in DEATHS.items():
            die(monkeypatch, place, module, name, call, work)
        assert steady(work()) == steady(straight[1])
        assert contents(folder) == contents(aside)
        over = [stage for stage, what in log(folder) if what == "ended"]
        assert len(over) == len(set(over))


def test_run_again_it_does_nothing_and_another_recipe_is_refused(straight, recipe):
    folder, record = straight
    before = contents(folder), log(folder)
    gone = lambda *_: pytest.fail("a phase was run again")  # noqa: E731
    again = rlhf(
        read(recipe, "ppo.rollouts.num_generations_eval=1"), Terms(str(folder)), SILENT, carry=gone
    )
    assert steady(again) == steady(record) and (contents(folder), log(folder)) == before
    with pytest.raises(Refused, match="reward_model: train.steps: then 2, now 7"):
        rlhf(
            read(recipe, "ppo.rollouts.num_generations_eval=1", "reward_model.train.steps=7"),
            Terms(str(folder)),
            SILENT,
            carry=gone,
        )
    with pytest.raises(Refused, match="--gold: then length, now None"):
        rlhf(
            read(recipe, "ppo.rollouts.num_generations_eval=1", gold=None),
            Terms(str(folder)),
            SILENT,
            carry=gone,
        )


@pytest.mark.parametrize(
    "terms, words", [({"against": "ipo"}, "expected dpo"), ({"seeds": 0}, "--seeds 0")]
)
def test_terms(recipe, terms, words, tmp_path):
    with pytest.raises(UsageError, match=words):
        rlhf(read(recipe), Terms(str(tmp_path / "out"), **terms), SILENT)


# ---------------------------------------------------------------- what follows from the numbers


def answers(folder, reward, gold):
    """Two evaluations of eight prompts: by how much each reward moves, with a little noise."""
    noise = np.linspace(-0.1, 0.1, 8)
    rows = [
        {
            "step": step,
            "prompt": i,
            "reward": i + step * (reward + noise[i]),
            "gold": -i + step * (gold + noise[-i]),
        }
        for step in (0, 1)
        for i in range(8)
    ]
    folder.mkdir(exist_ok=True)
    write_rows(folder / "answers.jsonl", rows)
    return folder


@pytest.mark.parametrize(
    "reward, gold, word",
    [(1, -1, "hacked"), (1, 1, "agree"), (1, 0, "unsure"), (0, -1, "no gain"), (-1, 1, "no gain")],
)
def test_a_reward_that_is_played_to(reward, gold, word, tmp_path):
    found = proxy.is_hacked(answers(tmp_path / "run", reward, gold))
    assert found["verdict"] == word and found["gold_gained"]["value"] == pytest.approx(
        gold, abs=0.2
    )


@pytest.mark.parametrize("fall, word", [(0.5, "hacked"), (0.02, "agree")])
def test_gold_that_falls_from_its_best(fall, word, tmp_path):
    """Still above where it began, and past its best: only by more than the luck of the best is it
    called so.
    """
    noise = np.linspace(-0.1, 0.1, 8)
    gold = {0: 0.0, 8: 1.0, 16: 1.0 - fall}
    write_rows(
        tmp_path / "answers.jsonl",
        [
            {
                "step": step,
                "prompt": i,
                "reward": i + step * (1 + noise[i]),
                "gold": i + level + noise[(i + step // 8) % 8],
            }
            for step, level in gold.items()
            for i in range(8)
        ],
    )
    found = proxy.is_hacked(tmp_path)
    assert (
        found["verdict"] == word
        and found["best_step"] == 8
        and found["gold_since_best"]["value"] == pytest.approx(-fall, abs=1e-9)
    )
    assert ("since step 8, by 0.500" in found["says"]) == (word == "hacked")


def test_without_a_gold_reward_nothing_is_said(tmp_path):
    write_rows(
        tmp_path / "answers.jsonl", [{"step": step, "prompt": 0, "reward": 1.0} for step in (0, 1)]
    )
    assert proxy.is_hacked(tmp_path) is None


def test_over_seeds(tmp_path):
    """Means over prompts and seeds; the difference is paired. Two seeds that disagree make an
    interval that holds 0.
    """
    for seed, lift in ((0, 2.0), (1, 0.0)):
        for model, gain in (("start", 0.0), ("ppo", lift), ("dpo", 0.0)):
            rows = [
                {
                    "completions": ["a"],
                    "rewards": [i + gain],
                    "kl": [gain],
                    "tokens": [3],
                    "ended": [True],
                }
                for i in range(6)
            ]
            (tmp_path / f"{seed}/{model}").mkdir(parents=True)
            write_rows(tmp_path / f"{seed}/{model}/held_out_scored.jsonl", rows)
    found = verdict.over_seeds([tmp_path / "0", tmp_path / "1"], ["start", "ppo", "dpo"])
    assert (
        found["table"]["ppo"]["learned"]["value"] == pytest.approx(3.5)
        and "gold" not in found["table"]["ppo"]
    )
    apart = found["rlhf_minus_dpo"]["learned"]
    assert (
        apart["value"] == pytest.approx(1.0)
        and (apart["low"], apart["high"], apart["p"]) == (None, None, None)
        and len(apart["seeds"]) == 2
    )


def test_two_seeds_lie_beside_each_other(recipe, tmp_path, monkeypatch):
    """The first seed's phases lie in the folder itself, so that further seeds are welcome."""
    trained = []
    monkeypatch.setattr(
        pipeline.SeedPipeline,
        "train",
        lambda self: trained.append(
            (self.stage(PPO), self.config(PPO).train.seed, self.config(PPO).output)
        ),
    )
    monkeypatch.setattr(pipeline.SeedPipeline, "measure", lambda self: None)
    monkeypatch.setattr(pipeline.SeedPipeline, "record", lambda self: {"phases": {}})
    monkeypatch.setattr(verdict, "over_seeds", lambda *_: {})
    rlhf(read(recipe), Terms(str(tmp_path / "out"), seeds=2), SILENT)
    out = (tmp_path / "out").resolve()
    assert trained == [("ppo", 0, str(out / "ppo")), ("seed-1/ppo", 1, str(out / "seed-1/ppo"))]
