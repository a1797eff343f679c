"""A reward model whose own held-out accuracy is not above one half is no reward, unless it is
permitted.
"""

import json
import shutil

import pytest
from conftest import pair_rows, write_rows
from safetensors.torch import load_file, save_file
from training.helpers import run

from accord.assess.opened import open_model
from accord.assess.rollouts import score_file
from accord.rewards.load import load_rewards, permitted_weak
from accord.rewards.trust import ACCURACY, HIGH, LOW, require_scorer, require_trust
from accord.types import Refused, UsageError


@pytest.fixture(scope="module")
def reward_model(tiny_folder, tmp_path_factory):
    """A reward model of one update: no better than a coin on 8 held-out pairs."""
    folder = tmp_path_factory.mktemp("rewards")
    data = write_rows(folder / "train.jsonl", pair_rows(16))
    held = write_rows(folder / "held.jsonl", pair_rows(8, start=100))
    made = run(
        tiny_folder, data, folder / "rm", held_out=held, steps=1, method="bradley_terry", lora=False
    )
    return made.saved


def recorded(folder, value, low, high):
    """A run that recorded this accuracy."""
    (folder / "final").mkdir(parents=True)
    (folder / "config.yaml").write_text("", "utf-8")
    line = {"step": 3, ACCURACY: value, LOW: low, HIGH: high}
    lines = [{"step": 0, ACCURACY: 0.1}, line, {"step": 4, "loss": 1.0}]
    text = "".join(json.dumps(each) + "\n" for each in lines) + '{"step": 5, "eval_'
    (folder / "metrics.jsonl").write_text(text, "utf-8")
    return str(folder / "final")


def test_refused_with_its_figures_or_permitted(reward_model, tmp_path):
    name = str(reward_model)
    with pytest.raises(Refused, match=r"held-out accuracy 0\.\d+ \(.* to .*\) at step 1 of"):
        load_rewards([name])
    with pytest.raises(UsageError, match=r"allow_weak = 'yes': expected"):
        load_rewards([name], {name: {"allow_weak": "yes"}})
    answers = write_rows(tmp_path / "a.jsonl", [{"prompt": "q", "completions": ["one", "two"]}])
    said = []
    done = score_file(
        answers, str(tmp_path / "s.jsonl"), [name], {name: {"allow_weak": True}}, said.append
    )
    assert done["rewarded"] == 2 and said[0].startswith("! ") and "permitted" in said[0]
    assert "held-out accuracy" in done["reward_models"][0]


def test_what_is_known(tmp_path):
    good = require_trust(recorded(tmp_path / "good", 0.8, 0.7, 0.9), False)
    assert good.mark == "·" and "0.800 (0.700 to 0.900) at step 3" in good.says
    with pytest.raises(Refused, match="not known to rank answers better than a coin"):
        require_trust(recorded(tmp_path / "coin", 0.6, 0.5, 0.7), False)
    inverted = recorded(tmp_path / "inverted", 0.2, 0.1, 0.3)
    with pytest.raises(Refused, match=r"(?s)prefers the rejected.*chosen=rejected,rejected=cho"):
        require_trust(inverted, False)
    assert require_trust(inverted, True).mark == "!"
    (tmp_path / "bare").mkdir()
    unknown = require_trust(str(tmp_path / "bare"), False)
    assert unknown.mark == "!" and "no held-out accuracy" in unknown.says


def test_an_accuracy_without_an_interval_is_not_trusted(tmp_path):
    """An accuracy of 1 is written as an integer by some; no interval is made up for it."""
    for number, ends in enumerate([(None, None), ("0.9", 1), (0.9, True)]):
        found = require_trust(recorded(tmp_path / str(number), 1, *ends), False)
        assert found.mark == "!" and "1.000 (interval not recorded) at step 3" in found.says
    assert require_trust(recorded(tmp_path / "whole", 1, 0.9, 1), False).mark == "·"


@pytest.mark.parametrize("check", ["data.leak", "data.near_rows"])
def test_an_accuracy_on_rows_that_were_trained_on_is_marked(check, tmp_path):
    folder = recorded(tmp_path / "run", 0.9, 0.8, 1.0)
    finding = {"check": check, "verdict": "ok", "says": "4 of 8 held-out rows"}
    file = tmp_path / "run/preflight.json"
    file.write_text(json.dumps([finding]))
    assert require_trust(folder, False).mark == "·"
    file.write_text(json.dumps([finding | {"verdict": "warning"}]))
    found = require_trust(folder, False)
    assert found.mark == "!" and "on rows that were trained on: 4 of 8 held-out rows" in found.says
    file.write_text("garbage")
    assert require_trust(folder, False).mark == "·"


def test_an_adapter_or_a_run_is_told_how_it_becomes_a_reward(reward_model, tmp_path):
    run = tmp_path / "rm"
    (run / "adapter").mkdir(parents=True)
    (run / "config.yaml").write_text("")
    (run / "adapter/adapter_config.json").write_text("{}")
    for name in (run, run / "adapter"):
        with pytest.raises(UsageError) as refused:
            load_rewards([str(name)])
        says = str(refused.value)
        assert f"accord export {run} --merge --output {run}-merged" in says
        assert f"--reward {run}-merged" in says and "model.adapter" not in says
    (run / "config.yaml").unlink()
    with pytest.raises(UsageError, match="Merge it into its base with the tool"):
        require_scorer(str(run / "adapter"))
    with pytest.raises(UsageError, match=f"--reward {reward_model}"):
        load_rewards([str(reward_model.parent)])
    with pytest.raises(UsageError, match=f"--reward {reward_model}"):
        open_model(str(reward_model.parent))


def test_the_permission_of_a_run(tmp_path):
    specs = [str(tmp_path), "length=0.5"]
    assert permitted_weak(specs, {}, []) == {}
    assert permitted_weak(specs, {}, ["weak_reward"]) == {str(tmp_path): {"allow_weak": True}}


def test_another_template_of_a_reward_model_is_said(reward_model, tmp_path):
    folder = shutil.copytree(reward_model, tmp_path / "copy")
    file = folder / "chat_template.jinja"
    file.write_text(file.read_text("utf-8").replace("<|im_start|>", "<|im_start|> "), "utf-8")
    reward = load_rewards([str(folder)], {str(folder): {"allow_weak": True}})
    ((mark, says),) = reward.notes
    assert mark == "!" and "is not the one that it was saved with" in says


def test_a_broken_reward_model_is_refused(reward_model, tmp_path):
    folder = shutil.copytree(reward_model, tmp_path / "copy")
    file = folder / "model.safetensors"
    tensors = load_file(file)
    tensors["score.weight"][0, 0] = float("nan")
    save_file(tensors, file, {"format": "pt"})
    with pytest.raises(Refused, match=r"was changed \(NaN or infinite weights in model"):
        load_rewards([str(folder)], {str(folder): {"allow_weak": True}})
    (folder / "accord.json").unlink()
    with pytest.raises(
        Refused, match=r"(?s)hold NaN or infinite weights.*scores would mean nothing"
    ):
        load_rewards([str(folder)], {str(folder): {"allow_weak": True}})
