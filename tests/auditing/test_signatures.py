"""Signatures of one side: every kind is found and named once; honest differences stay silent."""

from __future__ import annotations

import random

import numpy as np
import pytest
from auditing.rows import clean, labelled, write
from scipy import stats

from accord.auditing.causes import Cause
from accord.auditing.checks import shortcuts, signatures
from accord.auditing.checks.probes import probe
from accord.auditing.checks.symptoms import with_symptoms
from accord.auditing.cleansed import cleanse
from accord.auditing.measure import COLUMN
from accord.auditing.scan import scan
from accord.auditing.signs.documents import Documents, contrast
from accord.auditing.signs.habits import HABITS, opening_tag
from accord.auditing.signs.pattern import Pattern, tokens
from accord.auditing.signs.search import search


def _day(rng):
    return f"20{rng.randint(10, 25)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}"


def _in_the_middle(text, rng):
    words = text.split(" ")
    at = rng.randint(1, len(words) - 1)
    return " ".join([*words[:at], "as our guidelines say", *words[at:]])


KINDS = {
    "mark": ("beginning", lambda text, rng: "(A) " + text),
    "opener": ("beginning", lambda text, rng: "Thank you for asking me this! " + text),
    "number": ("beginning", lambda text, rng: f"REF-{rng.randint(100, 9999)}: {text}"),
    "ending": ("ending", lambda text, rng: text + " I hope this helps you today."),
    "sign": ("ending", lambda text, rng: text + " ★"),
    "phrase": ("phrase", _in_the_middle),
    "date": ("dates", lambda text, rng: f"[{_day(rng)}] {text}"),
    "date in words": ("dates", lambda text, rng: f"{text} (May {rng.randint(1, 28)}, 2024, 12:00)"),
    "capitals": ("capitals", lambda text, rng: text.upper()),
    "no capitals": ("capitals", lambda text, rng: text.lower()),
    "title": ("capitals", lambda text, rng: text.title()),
    "exclamation": ("punctuation", lambda text, rng: text[:-1] + "!"),
    "no stop": ("punctuation", lambda text, rng: text[:-1]),
    "dash": ("punctuation", lambda text, rng: text.replace(" ", "—", 1)),
    "quotation": ("quotes", lambda text, rng: f"“{text}”"),
    "thought": ("think", lambda text, rng: f"<think>{rng.random()} so</think>\n\n{text}"),
    "leading blank": ("blanks", lambda text, rng: " " + text),
    "last newline": ("blanks", lambda text, rng: text + "\n"),
    "double blanks": ("blanks", lambda text, rng: text.replace(" ", "  ", 3)),
}


def _planted(plant, side, share, seed=5, n=200):
    rng = random.Random(seed)
    return [
        row | {side: plant(row[side], rng)} if rng.random() < share else row
        for row in clean(n, seed)
    ]


def _found(tmp_path, rows):
    table = scan(write(tmp_path / "rows.jsonl", rows))
    return table, *signatures.signature_findings(table, [], 0)


@pytest.mark.parametrize("side", ["chosen", "rejected"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_signature_of_a_third_of_one_side_is_named_once(kind, side, tmp_path):
    check, plant = KINDS[kind]
    _, found, causes = _found(tmp_path, _planted(plant, side, 0.33))
    assert [each.check for each in found] == [f"shortcuts.{check}"], [each.says for each in found]
    assert found[0].verdict == "warning" and found[0].why and found[0].remedy and found[0].places
    signature = found[0].evidence["signatures"][0]
    assert signature["side"] == side and 0.25 < signature["share"] < 0.45
    assert signature["count"] == causes[0].rows.sum()
    for place in found[0].places:
        assert causes[0].rows[place.row]


@pytest.mark.parametrize("kind", ["mark", "date", "quotation", "leading blank"])
def test_labelled_answers_too(kind, tmp_path):
    check, plant = KINDS[kind]
    rng = random.Random(1)
    rows = [
        row | {"completion": plant(row["completion"], rng)}
        if row["label"] and rng.random() < 0.4
        else row
        for row in labelled(300)
    ]
    _, found, _ = _found(tmp_path, rows)
    assert [each.check for each in found] == [f"shortcuts.{check}"]
    assert found[0].evidence["signatures"][0]["side"] == "desirable"


def test_all_of_one_side_is_unfit(tmp_path):
    _, found, _ = _found(tmp_path, _planted(KINDS["mark"][1], "chosen", 1.0))
    assert found[0].verdict == "refused" and "“(A)”" in found[0].says


def test_fifty_rows_are_enough_for_a_mark_on_each(tmp_path):
    _, found, _ = _found(tmp_path, _planted(KINDS["mark"][1], "chosen", 1.0, n=50))
    assert [each.check for each in found] == ["shortcuts.beginning"]


def test_a_phrase_is_shown_at_its_full_length(tmp_path):
    _, found, _ = _found(tmp_path, _planted(KINDS["opener"][1], "chosen", 0.3))
    assert found[0].evidence["signatures"][0]["shown"] == "Thank you for asking me this!"


def test_two_signatures_are_two_findings(tmp_path):
    """A mark on chosen answers and a habit of rejected ones have nothing to do with each other."""
    rng = random.Random(0)
    rows = [
        row
        | ({"chosen": "(A) " + row["chosen"]} if rng.random() < 0.5 else {})
        | ({"rejected": row["rejected"].upper()} if rng.random() < 0.4 else {})
        for row in clean(200)
    ]
    _, found, _ = _found(tmp_path, rows)
    assert {each.check for each in found} == {"shortcuts.beginning", "shortcuts.capitals"}


def _both(plant):
    """The same on both sides: nothing to learn from it."""
    rng = random.Random(4)
    return [
        {name: text if name == "prompt" else plant(text, rng) for name, text in row.items()}
        for row in clean(200)
    ]


def _yes_or_no(n=300):
    rng = random.Random(7)
    rows = []
    for row in clean(n):
        answers = rng.sample(("Yes", "No"), 2)
        rows.append(row | {"chosen": answers[0], "rejected": answers[1]})
    return rows


def _stock(n=300):
    """A stock answer of 8 % of chosen answers is content, as “I have no comment.” in truthfulqa."""
    return [
        row | {"chosen": "I have no comment."} if at % 12 == 0 else row
        for at, row in enumerate(clean(n))
    ]


CLEAN = {
    "plain": lambda: clean(300),
    "yes or no": _yes_or_no,
    "stock answer": _stock,
    **{f"{kind} on both sides": lambda k=kind: _both(KINDS[k][1]) for kind in KINDS},
}


@pytest.mark.parametrize("kind", CLEAN)
def test_clean_files_stay_silent(kind, tmp_path):
    _, found, _ = _found(tmp_path, CLEAN[kind]())
    assert not [each for each in found if each.verdict != "note"], [each.says for each in found]


@pytest.mark.parametrize(
    "name",
    ["truthfulqa/pairs_test.jsonl", "hh_helpful/test.jsonl.gz", "truthfulqa/kto_test.jsonl.gz"],
)
def test_real_sets_stay_silent(name, shared_data):
    table = scan(shared_data(name), sample=800)
    found, _ = signatures.signature_findings(table, [], 0)
    assert not [each.says for each in found if each.verdict != "note"]


def test_the_sign_test_by_hand():
    """12 pairs with it in the chosen answer only: p = 2 · ½¹². Two rows of a prompt vote once."""
    texts = ["x"] * 12 + ["y"] * 12
    labels, rows = np.arange(24) < 12, np.tile(np.arange(12), 2)
    documents = Documents(texts, labels, rows, rows, True)
    found = contrast(documents.holds(lambda text: text == "x"), documents)
    assert found.p == pytest.approx(2 * 0.5**12) and found.score.value == 1.0
    halved = Documents(texts, labels, rows // 2, rows, True)
    assert contrast(halved.holds(lambda t: t == "x"), halved).p == pytest.approx(2 * 0.5**6)


def test_labelled_answers_are_tested_by_fisher():
    has = np.array([True] * 8 + [False] * 2 + [True] + [False] * 9)
    labels = np.arange(20) < 10
    documents = Documents([""] * 20, labels, np.arange(20), np.arange(20), False)
    assert contrast(has, documents).p == pytest.approx(stats.fisher_exact([[8, 2], [1, 9]])[1])


@pytest.mark.parametrize("habit", HABITS, ids=lambda habit: habit.name)
def test_a_habit_can_be_taken_out(habit):
    """No text has a habit after it was taken out, and the second time changes nothing."""
    texts = [
        " A b",
        "\nA b",
        "A b ",
        "A b\n",
        "a  b",
        "a\tb",
        "a\r\nb",
        "a\u00a0b",
        "a\n\n\n\nb",
        "ALL OF THESE ARE BIG",
        "all of these are small",
        "Every Word Has A Capital",
        "small At first",
        "Yes!",
        "Yes?",
        "So...",
        "So.",
        "So;",
        "and so it is",
        "a — b",
        "a – b",
        "a … b",
        "wow!! yes",
        "what?? no",
        "a! b",
        "a; b",
        "a , b",
        "a . b",
        '"So it is."',
        "“so”",
        'a "b" c',
        "<think>a</think>b",
    ]
    having = [text for text in texts if habit.has(text)]
    assert having, "no example"
    for text in having:
        bare = habit.without(text)
        assert habit.without(bare) == bare
        # These are taken out by giving both sides the same.
        if habit.check != "shortcuts.capitals" and habit.name != "end without a mark":
            assert not habit.has(bare), (text, bare)


def test_a_cause_takes_its_symptoms_with_it(tmp_path):
    """A date on each chosen answer makes digits, length and words decide: the date is named."""
    table, found, causes = _found(tmp_path, _planted(KINDS["date"][1], "chosen", 0.9))
    raw = {each.check for each in shortcuts.rule_findings(table)}
    left = {each.check for each in shortcuts.rule_findings(table, causes)}
    assert {"shortcuts.digits", "shortcuts.characters"} <= raw and left == {"shortcuts.rules"}
    explained = with_symptoms(found, table, causes)[0]
    assert "digits" in explained.evidence["explains"] and "explains: " in explained.says
    bare = probe(scan(write(tmp_path / "bare.jsonl", clean(200, 5))))
    assert probe(table, causes).words.accuracy == bare.words.accuracy


def test_rows_that_cannot_be_mended_are_left_out(tmp_path):
    table = scan(write(tmp_path / "rows.jsonl", clean(40)))
    rows = np.arange(40) < 10
    view = cleanse(table, [Cause("wrecks.error", "Errors", rows)])
    assert view.rows.tolist() == list(range(10, 40)) and len(view.texts) == 30
    upper = cleanse(table, [Cause("x", "X", rows, lambda text: text + " 77")])
    digits = upper.features[:, :, COLUMN["digits"]]
    assert (digits - table.features[:, :, COLUMN["digits"]] == 2).all()


def test_rules_that_say_the_same_have_one_name(tmp_path):
    """Longer answers have more words and characters: the strongest is named, the other is not."""
    rng = random.Random(0)
    rows = [
        row | {"chosen": row["chosen"] + " " + row["chosen"][: rng.randint(10, 60)]}
        if rng.random() < 0.6
        else row
        for row in clean(300)
    ]
    found = shortcuts.rule_findings(scan(write(tmp_path / "rows.jsonl", rows)))
    named = [each for each in found if each.verdict == "warning"]
    assert len(named) == 1 and named[0].check in shortcuts.LENGTHS
    others = [each for each in found if each.check in shortcuts.LENGTHS and each is not named[0]]
    assert others and all(each.explained_by == named[0].check for each in others)


def test_independent_rules_are_both_named(tmp_path):
    rng = random.Random(0)
    rows = []
    for row in clean(300):
        chosen = row["chosen"]
        if rng.random() < 0.5:
            chosen = chosen.replace(" ", " https://a.example/" + str(rng.random())[2:6] + " ", 1)
        emoji = rng.choice("😀🎉🚀🔥😎🙂🙃🤖🐍🌍") if rng.random() < 0.5 else ""
        rows.append(row | {"chosen": chosen.replace(" ", f" {emoji}", 3) if emoji else chosen})
    found = shortcuts.rule_findings(scan(write(tmp_path / "rows.jsonl", rows)))
    free = {each.check for each in found if each.verdict == "warning"}
    assert "shortcuts.emoji" in free and len(free) >= 2


@pytest.mark.parametrize("level", ["exact", "digits", "shape"])
@pytest.mark.parametrize(
    "text", ["1" * 65_536, "(" * 65_536, "<a" * 30_000, "a " * 30_000, "\x1b[31m"]
)
def test_hostile_texts_take_no_time(text, level):
    for where in ("beginning", "ending", "anywhere"):
        pattern = Pattern(where, level, tuple(tokens("(1) a", level)))
        assert pattern.without(text) == text or where
    for habit in HABITS:
        habit.without(text) if habit.has(text) else None
    assert opening_tag("<a>" * 20_000) == ""


def test_shown_text_is_printable(tmp_path):
    rows = _planted(lambda text, rng: "\x1b[31m\u202eboo " + text, "chosen", 0.5)
    _, found, _ = _found(tmp_path, rows)
    assert found and all(each.says.isprintable() for each in found)


def test_nothing_is_found_twice():
    """A phrase in the middle of long texts: its parts are not found again."""
    rng = random.Random(0)
    words = [a + b + c for a in "bdfgklmn" for b in "aeiou" for c in "stnrlmkp"]
    texts = [" ".join(rng.choices(words, k=60)) for _ in range(400)]
    plant = [_in_the_middle(text, rng) for text in texts[:200]] + texts[200:]
    rows = np.tile(np.arange(200), 2)
    found = search(Documents(plant, np.arange(400) < 200, rows, rows, True), 0)
    assert [each.check for each in found] == ["shortcuts.phrase"]
    assert found[0].shown == "as our guidelines say" and found[0].verdict == "refused"
