"""Arguments of the wrong kind: taken where they mean one thing, else refused in words, before any
file is read or written. Never a bare TypeError.
"""

from __future__ import annotations

import inspect

import numpy as np
import pandas as pd
import pytest
from api.test_public import FUNCTIONS
from conftest import pair_rows

import accord
from accord.api.arguments import KINDS, checked, plain
from accord.api.guard import python_words
from accord.api.training import config_of

ROWS = pair_rows(4)


def made(**keywords):
    with python_words():
        return config_of(None, {"data": "x.jsonl"} | keywords, "train")


def test_numbers_of_numpy_are_numbers():
    config = made(
        steps=np.int64(3),
        batch_size=np.int32(2),
        seed=np.uint8(1),
        learning_rate=np.float64(0.5),
        beta=np.float32(0.25),
        set={"train.betas": np.array([0.5, 0.75]), "train.max_grad_norm": np.float64(2)},
    )
    assert (config.train.steps, config.train.batch_size, config.train.seed) == (3, 2, 1)
    assert config.train.betas == (0.5, 0.75) and config.train.max_grad_norm == 2
    assert config.objective["beta"] == 0.25 and config.train.learning_rate == 0.5
    assert plain({"a": (np.bool_(True), range(2))}) == {"a": [True, [0, 1]]}


def test_one_text_is_a_list_of_one(tmp_path):
    one = accord.audit(pair_rows(12), drop="cycles", fix=tmp_path / "a.jsonl")
    two = accord.audit(pair_rows(12), drop=["cycles"], fix=tmp_path / "b.jsonl")
    assert one.as_dict()["rows"] == two.as_dict()["rows"]
    assert made(allow="hub", ignore_columns="notes") == made(
        allow=["hub"], ignore_columns=["notes"]
    )


def test_a_rank_is_adapters_of_it():
    assert made(lora=8) == made(lora={"rank": 8}) != made()
    assert made(lora=8, set={"model.lora.alpha": 4.0}).model.lora.alpha == 4.0
    assert made(lora=True, set={"model.lora.rank": 4}).model.lora.rank == 4
    assert made(lora=False).model.lora is None


def test_weights_of_rewards_are_kept_with_their_signs():
    given = checked(accord.score, {"reward": {"length": -1, "vader": np.float64(0.5)}})
    assert given["reward"] == ("length=-1", "vader=0.5")


def test_prompts_are_texts_conversations_or_a_column(tmp_path):
    from accord.data.memory import rows_of

    turns = [{"role": "user", "content": "hi"}]
    assert [*rows_of(["a", turns], "prompts")] == [{"prompt": "a"}, {"prompt": turns}]
    assert [*rows_of(pd.Series(["a"]), "prompts")] == [{"prompt": "a"}]


TABLE = pd.DataFrame(ROWS)


@pytest.mark.parametrize(
    "call, says",
    [
        (lambda: accord.score(ROWS, "o.jsonl", lambda *a: 1), "reward='my_module:function'"),
        (
            lambda: accord.score(ROWS, "o.jsonl", {"length": "x"}),
            r"reward\['length'\]: expected a n",
        ),
        (lambda: accord.evaluate("m", judge=len), "judge='my_module:len'"),
        (lambda: made(method=len), "method='my_module:len'"),
        (lambda: accord.audit(TABLE["prompt"]), "a Series, which is one column"),
        (lambda: accord.train(ROWS), r"accord.train\(data=…\)"),
        (lambda: accord.dry_run(TABLE), r"accord.dry_run\(data=…\)"),
        (lambda: accord.train("no.jsonl"), "no such recipe"),
        (lambda: accord.train({"data": {"train": ROWS}}), "Rows go into data=…"),
        (lambda: accord.train({"data": ROWS}), "Rows go into data=…"),
        (lambda: accord.train({"model": object()}, data="x"), "goes into model=…"),
        (lambda: made(set="train.warmup=0.2"), r"here set=\{\"train.warmup\": 0.2\}"),
        (lambda: made(set=["train.warmup=.2"]), r"here set=\{\"train.warmup\": 0.2\}"),
        (lambda: made(set=3), "set: expected a dict, such as"),
        (lambda: made(lora=0), "lora: expected True, False"),
        (lambda: made(steps="3"), "steps: expected a whole number, such as steps=10; got '3'"),
        (lambda: made(beta=float("nan")), "beta = nan is no finite number"),
        (lambda: made(data=[]), "data: an empty list"),
        (lambda: accord.generate("m", []), "prompts: an empty list"),
        (lambda: accord.generate("m", ["a"], prompt="a"), "prompts and prompt are both given"),
        (lambda: accord.generate("m"), "Give prompts=…"),
        (lambda: accord.generate("m", [{"role": "user", "content": "a"}]), "is one message"),
        (lambda: accord.generate("m", [3]), "row 1 is of the type int"),
        (lambda: accord.sample("m", "Why?", "a.jsonl"), r"no file. Prompts themselves are a list"),
        (lambda: accord.convert(ROWS), "missing a required argument: 'to'"),
        (lambda: accord.resume(3), "run: expected a path, or a run's result; got 3"),
        (lambda: accord.report([]), "give a run"),
        (lambda: accord.report([3]), "runs: expected a path"),
        (
            lambda: accord.sweep(set={}, data=ROWS, held_out=ROWS),
            "Nothing to vary. .* such as set=",
        ),
        (
            lambda: accord.sweep(set={"train.betas": [[0.5, 0.5]]}, data=ROWS, held_out=ROWS),
            "which is several",
        ),
        (
            lambda: accord.compare(methods="dpo,ipo", data=ROWS),
            r"held_out=\"FILE\".\nNone at hand\? .*accord.split\(data\)",
        ),
        (
            lambda: accord.compare(
                methods=["dpo", "ipp"], data=ROWS, held_out=ROWS, model="m", output="c"
            ),
            "did you mean 'ipo'",
        ),
        (
            lambda: accord.compare(methods="dpo", data=ROWS, held_out=ROWS, page="p.txt"),
            r"page=\"p.txt\": expected a name that ends in .html",
        ),
        (lambda: accord.audit(ROWS, drop=["cycle"], fix="f.jsonl"), "did you mean cycles"),
        (lambda: accord.audit(ROWS, mend="htm", fix="f.jsonl"), "did you mean html"),
        (lambda: made(allow="hbu"), r"did you mean hub\? Known: hub, "),
        (lambda: made(held_out="x", hold_out=0.1), 'held_out="x" and hold_out=0.1 both say'),
        (lambda: accord.dry_run({"model": "m"}, data="x"), r"such as \{\"name\": \"m\"\}; got 'm'"),
        (lambda: made(bata=0.2), "did you mean 'beta'"),
        (lambda: made(lr=1e-3), "here it is learning_rate="),
        (lambda: made(warmup_steps=3), r"TRL's name; here it is set=\{'train.warmup'"),
        (lambda: made(cutoff_len=64), "LLaMA-Factory's name; here it is max_tokens="),
        (
            lambda: made(gamma=1.0),
            "'gamma', which simpo and alphapo and ppo take. dpo accepts: beta, ",
        ),
    ],
)
def test_a_slip_is_answered_in_words(call, says, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(accord.AccordError, match=says) as failed:
        call()
    assert "--" not in str(failed.value) and "instance of" not in str(failed.value)


def test_a_file_of_rows_as_a_recipe_names_data(tmp_path):
    rows = tmp_path / "pairs.jsonl"
    rows.write_text('{"prompt": "a"}\n{"prompt": "b"}\n')
    with pytest.raises(accord.AccordError, match=r"is given with data=\"\S+pairs.jsonl\""):
        accord.train(rows)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_no_argument_of_another_kind_is_a_bare_error(name, tmp_path, monkeypatch):
    """An object that is nothing of all this, for each parameter of each function."""
    monkeypatch.chdir(tmp_path)
    function = getattr(accord, name)
    parameters = inspect.signature(function).parameters.values()
    needed = {
        each.name: {"train.warmup": [0.1]} if each.name == "set" else "x"
        for each in parameters
        if each.default is each.empty
        and each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    }
    for each in parameters:
        if str(each.annotation).removesuffix(" | None") in KINDS:
            with pytest.raises(accord.AccordError, match=rf"{each.name}\b.*expected"):
                function(**(needed | {each.name: object()}))
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize(
    "keywords, names",
    [
        ({"steps": 3, "set": {"train.steps": 2}}, ("steps", "train.steps")),
        ({"beta": 0.3, "set": {"objective.beta": 0.2}}, ("beta", "objective.beta")),
        ({"method": "ipo", "set": {"objective": {"name": "dpo"}}}, ("method", "objective.name")),
        ({"lora": {"rank": 8}, "set": {"model.lora.rank": 4}}, ("lora", "model.lora.rank")),
        ({"steps": 3, "set": {"train": {"warmup": 0.2}}}, ("steps", "train.steps")),
        ({"set": {"train.warmup": 0.1, "train": {}}}, ("train.warmup", "train.warmup")),
    ],
)
def test_a_setting_is_given_once(keywords, names):
    with pytest.raises(accord.AccordError, match="both give") as failed:
        made(**keywords)
    assert all(name in str(failed.value) for name in names) and "--" not in str(failed.value)


def test_the_same_value_twice_does_no_harm_and_steps_lose_no_epochs():
    assert made(steps=3, set={"train.steps": 3}).train.steps == 3
    with pytest.raises(accord.AccordError, match="steps=3 and epochs=1 both say"):
        made(steps=3, set={"train.epochs": 1})
    assert (
        config_of({"train": {"epochs": 1}}, {"data": "x", "steps": 3}, "train").train.epochs is None
    )
