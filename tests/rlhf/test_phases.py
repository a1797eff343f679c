"""The recipe of accord rlhf: which weights, files and rewards each phase has, and what is refused
before anything runs.
"""

import json
from pathlib import Path

import pytest

from accord.campaign.rlhf.phases import DPO, PHASES, PPO, REWARD_MODEL, SFT, Recipe, knobs
from accord.types import UsageError

BASE = {
    "model": {"name": "m", "lora": {"rank": 4}},
    "data": {"train": "pairs.jsonl", "held_out": "held.jsonl"},
    "train": {"steps": 3},
}
HERE = Path("d")


def recipe(tmp_path, *assignments, skip_sft=False, gold=None, **more) -> Recipe:
    (tmp_path / "r.json").write_text(json.dumps(BASE | more))
    return Recipe.read(str(tmp_path / "r.json"), assignments, (), skip_sft=skip_sft, gold=gold)


def test_each_phase_goes_on_from_the_tuned_model(tmp_path):
    """The policy from the adapter, so that its frozen copy is the reference; the reward model from
    the merged model.
    """
    read = recipe(tmp_path, gold="vader", ppo={"rollouts": {"num_generations": 8}})
    sft, reward, ppo, dpo = (read.config(phase, HERE, 5) for phase in PHASES)
    assert [c.objective["name"] for c in (sft, reward, ppo, dpo)] == [
        "sft",
        "bradley_terry",
        "ppo",
        "dpo",
    ]
    assert [c.output for c in (sft, reward, ppo, dpo)] == [
        "d/sft",
        "d/reward_model",
        "d/ppo",
        "d/dpo",
    ]
    assert (sft.model.name, sft.model.lora.rank) == ("m", 4)
    assert (reward.model.name, reward.model.lora.rank, reward.model.adapter) == (
        "d/sft/merged",
        4,
        None,
    )
    assert ppo.model == dpo.model and (ppo.model.name, ppo.model.adapter) == ("m", "d/sft/adapter")
    assert (ppo.rollouts.rewards, ppo.rollouts.gold, ppo.rollouts.num_generations) == (
        ["d/reward_model/merged"],
        ["vader"],
        8,
    )
    assert {c.train.seed for c in (sft, reward, ppo, dpo)} == {5}


def test_without_the_supervised_phase_and_with_all_weights(tmp_path):
    tuned = recipe(tmp_path, skip_sft=True)
    assert (
        tuned.config(PPO, HERE, 0).model
        == tuned.config(REWARD_MODEL, HERE, 0).model
        == tuned.first().model
    )
    whole = recipe(tmp_path, "model.lora=false")
    assert [whole.config(phase, HERE, 0).model.name for phase in PHASES] == [
        "m",
        "d/sft/final",
        "d/sft/final",
        "d/sft/final",
    ]
    assert whole.config(PPO, HERE, 0).rollouts.rewards == ["d/reward_model/final"]


def test_a_phase_has_its_own_fields_and_files(tmp_path):
    data = BASE["data"] | {"sft": "demos.jsonl", "prompts": "asked.txt"}
    read = recipe(
        tmp_path,
        "ppo.train.steps=9",
        data=data,
        reward_model={"data": {"train": "more.jsonl"}},
        dpo={"objective": "kto"},
    )
    files = ["demos.jsonl", "more.jsonl", "asked.txt", "pairs.jsonl"]
    found = [read.config(phase, HERE, 0).data.train for phase in PHASES]
    assert found == [str(tmp_path / name) for name in files]  # they lie beside the recipe
    assert [read.config(phase, HERE, 0).train.steps for phase in PHASES] == [3, 3, 9, 3]
    assert read.config(DPO, HERE, 0).objective == {"name": "kto"}
    assert (
        recipe(tmp_path, "sft.data.train=own.jsonl", data=data).config(SFT, HERE, 0).data.train
        == "own.jsonl"
    )


def test_hyper_parameters_are_counted_as_they_were_set(tmp_path):
    read = recipe(
        tmp_path,
        train={"steps": 3, "seed": 1},
        ppo={
            "objective": {"name": "ppo", "beta": 0.1},
            "rollouts": {"num_generations": 2, "num_generations_eval": 1},
        },
    )
    assert read.options(PPO) == [
        "model.lora.rank",
        "objective.beta",
        "rollouts.num_generations",
        "train.steps",
    ]
    assert read.options(DPO) == ["model.lora.rank", "train.steps"]
    assert knobs(read.config(DPO, HERE, 0)) == ["objective.beta", "objective.label_smoothing"]
    found = knobs(read.config(PPO, HERE, 0))
    assert {
        "objective.clip",
        "objective.lam",
        "objective.value_weight",
        "rollouts.num_generations",
        "rollouts.num_iterations",
    } <= set(found)
    # what answers are judged by trains nothing, and what is refused for a policy gradient is no
    # choice
    assert not {
        f"rollouts.{name}"
        for name in ("gold", "gold_options", "reward_options", "pairing", "margin", "temperature")
    } & set(found)


@pytest.mark.parametrize(
    "more",
    [
        {"ppo": {"rollouts": "vader"}},
        {"dpo": {"model": "m"}},
        {"sft": {"train": 3}},
        {"data": ["a.jsonl"]},
    ],
    ids=str,
)
def test_a_section_is_one_with_keys(more, tmp_path):
    with pytest.raises(UsageError, match="expected a section with keys"):
        recipe(tmp_path, **more)


def test_there_is_one_gold_reward(tmp_path):
    """Another one in the policy gradient's section would be what hacking is judged by, and not what
    the table shows.
    """
    with pytest.raises(UsageError, match="ppo: rollouts.gold: .* Say it as --gold"):
        recipe(tmp_path, gold="vader", ppo={"rollouts": {"gold": ["length"]}}).config(PPO, HERE, 0)
    options = {"too_long": {"limit": 9}}
    assert (
        recipe(tmp_path, gold="too_long", ppo={"rollouts": {"gold_options": options}})
        .config(PPO, HERE, 0)
        .rollouts.gold_options
        == options
    )


BAD = {
    "an objective for all": (
        {"objective": "dpo"},
        {},
        "objective: say it in the section of its phase",
    ),
    "rollouts for all": (
        {"rollouts": {"num_generations": 2}},
        {},
        "rollouts: say it in the section",
    ),
    "a phase that is a word": ({"ppo": "fast"}, {}, "ppo: expected a section"),
    "a section that does nothing": (
        {"sft": {"train": {"steps": 1}}},
        {"skip_sft": True},
        "--skip-sft, and a section sft",
    ),
    "another method": (
        {"reward_model": {"objective": "dpo"}},
        {},
        "reward_model: objective = dpo: this phase is one of bradley_terry",
    ),
    "a policy gradient as DPO": (
        {"dpo": {"objective": "grpo", "rollouts": {"rewards": ["length"]}}},
        {},
        "dpo: objective = grpo",
    ),
    "rollouts where none are drawn": (
        {"dpo": {"rollouts": {"rewards": ["length"]}}},
        {},
        "dpo: rollouts: this phase learns from a file",
    ),
    "an adapter that brings its own": (
        {"ppo": {"model": {"lora": {"rank": 2}}}},
        {},
        "ppo: model.lora.*Set it there",
    ),
    "an unknown key": (
        {"ppo": {"train": {"stpes": 2}}},
        {},
        "ppo: train.stpes: unknown key; did you mean steps",
    ),
    "nothing to measure on": ({"data": {"train": "p"}}, {}, "data.held_out=FILE"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_makes_no_sense_names_its_phase(case, tmp_path):
    more, flags, words = BAD[case]
    with pytest.raises(UsageError, match=words):
        read = recipe(tmp_path, **more, **flags)
        for phase in PHASES:
            read.config(phase, HERE, 0)
