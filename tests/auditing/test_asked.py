"""What prompts ask for is content; where prompts tell which labels contradict, that is no noise."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest
from auditing.rows import clean, flipped, write

from accord.auditing.checks.labels import noise_once
from accord.auditing.checks.noise import accounted_for, follows_prompts
from accord.auditing.checks.probes import probe
from accord.auditing.findings import AuditFinding
from accord.auditing.measure import names_language
from accord.auditing.run import audit
from accord.auditing.scan import scan
from accord.auditing.signs.asked import FEWEST, asked_for, prompt_words

WORDS = "lamp river stone cloud paper garden".split()


def _shouted(rows: list[dict], asked: bool, share: float = 0.2, seed: int = 3) -> list[dict]:
    """A share of the chosen answers in capitals, under prompts that ask for it or do not."""
    rng = random.Random(seed)
    out = []
    for row in rows:
        if rng.random() < share:
            prompt = f"{row['prompt']}; write it in capital letters" if asked else row["prompt"]
            row = row | {"prompt": prompt, "chosen": row["chosen"].upper()}
        out.append(row)
    return out


@pytest.mark.parametrize("asked", [True, False])
def test_capitals_are_a_mark_only_where_no_prompt_asks_for_them(asked, tmp_path):
    found = audit(write(tmp_path / "data.jsonl", _shouted(clean(300), asked)))
    finding = found.always("shortcuts.capitals")
    assert finding.verdict == ("note" if asked else "warning")
    assert ("their prompts ask for it" in finding.says) == asked


def test_the_word_that_asks_by_hand():
    """A word of nine in ten marked prompts and of one in ten others, by hand; not of fewer."""
    prompts = [prompt_words("say it loudly now")] * 9 + [prompt_words("say it now")]
    others = [prompt_words("say it")] * 18 + [prompt_words("loudly")] * 2
    marked = np.arange(30) < 10
    assert asked_for([*prompts, *others], marked) in {"now", "it loudly", "loudly now", "it now"}
    assert "loudly" in prompt_words("Say it LOUDLY") and "it loudly" in prompt_words("it loudly")
    quiet = [prompt_words("say it loudly")] * 8 + [prompt_words("say it")] * 22  # 8 of 10 hold it
    assert asked_for(quiet, marked) == ""
    assert asked_for([*prompts, *others], np.arange(30) < FEWEST - 1) == ""
    assert asked_for([*prompts, *others], np.ones(30, bool)) == ""


def test_languages_that_prompts_name():
    assert names_language("Write it in French, please") and names_language("Translate this")
    assert names_language("请用中文回答") and not names_language(
        "What did Frenchman Bay look like?"
    )
    assert names_language("x" * 9_000 + " in Polish") and not names_language("polishing a table")


def _calls(n: int, seed: int) -> list[dict]:
    """One of two functions fits each prompt; seven in ten prompts want the first."""
    rng = random.Random(seed)
    rows = []
    for number in range(n):
        first = rng.random() < 0.7
        word = "weather" if first else "train"
        prompt = f"The {word} of {rng.choice(WORDS)} {rng.choice(WORDS)} {number}?"
        texts = [f"call get_{name} {rng.choice(WORDS)}" for name in ("weather", "train")]
        chosen, rejected = texts if first else texts[::-1]
        rows.append({"prompt": prompt, "chosen": chosen, "rejected": rejected})
    return rows


def test_prompts_that_want_different_things_are_no_noise(tmp_path):
    """A classifier of answers is right in seven of ten and sure: random flips would look so too."""
    table = scan(write(tmp_path / "data.jsonl", _calls(600, 1)))
    probes = probe(table)
    told = follows_prompts(table, probes.words, accounted_for(table, (), probes.words.rows))
    assert told.low > 0.9
    finding = audit(tmp_path / "data.jsonl").always("labels.noise")
    assert finding.verdict == "note"


def test_random_flips_do_not_follow_prompts(tmp_path):
    rows = flipped(clean(800, seed=5, mixed=0.0), 0.25)
    table = scan(write(tmp_path / "data.jsonl", rows))
    probes = probe(table)
    told = follows_prompts(table, probes.words, accounted_for(table, (), probes.words.rows))
    assert told.low < 0.5 < told.high
    assert audit(tmp_path / "data.jsonl").always("labels.noise").verdict == "warning"


def test_noise_is_a_symptom_of_a_part_that_is_named():
    noise = AuditFinding("labels.noise", "warning", "30 %", {}, "smooth", command="--method cdpo")
    part = AuditFinding("labels.exchanged", "warning", "rows 1 to 90", {})
    told = noise_once([noise, part])[0]
    assert told.explained_by == "labels.exchanged" and not told.command and not told.remedy
    scores = AuditFinding("labels.scores", "warning", "", {"part": {"rows": 9}, "swapped": False})
    assert noise_once([noise, scores])[0].explained_by == "labels.scores"
    for other in (replace(part, verdict="note"), replace(scores, evidence={"part": None})):
        assert noise_once([noise, other])[0] == noise
