"""Sentences on signatures and rules are true of the file as it stands, whatever was taken out."""

from __future__ import annotations

import random

import numpy as np
import pytest
from auditing.rows import clean, labelled, write

from accord.auditing.causes import Cause
from accord.auditing.checks import shortcuts, signatures
from accord.auditing.checks.rule_names import rule_name, rule_title
from accord.auditing.measure import COLUMN, FEATURES
from accord.auditing.run import audit
from accord.auditing.scan import scan
from accord.auditing.signs.pattern import is_stamp, kind, mapped, tokens

STAR = Cause("x", "X", np.ones(200, bool), lambda text: text.removesuffix(" ★"))


def _planted(chosen=lambda text, rng: text, rejected=lambda text, rng: text, seed=3, n=200):
    rng = random.Random(seed)
    return [
        row | {"chosen": chosen(row["chosen"], rng), "rejected": rejected(row["rejected"], rng)}
        for row in clean(n, seed)
    ]


def _scan(tmp_path, rows):
    return scan(write(tmp_path / "rows.jsonl", rows))


def _some(plant, share=0.5):
    return lambda text, rng: plant(text, rng) if rng.random() < share else text


# Something behind or before the end that the other side has: what is left when it is taken out
# looks like a signature, and no answer of the file has it.
HIDDEN = {
    "stops behind stars": (lambda t, rng: t + " ★", lambda t, rng: t[:-1] + "!"),
    "stops behind stars of half": (_some(lambda t, rng: t + " ★"), lambda t, rng: t[:-1] + "!"),
    "marks behind numbers": (lambda t, rng: t, lambda t, rng: f"{t[:-1]}! [{rng.randint(1, 99)}]"),
    "words behind a date": (
        lambda t, rng: f"[2024-05-{rng.randint(10, 28)}] What a question. {t}",
        lambda t, rng: t[:-1] + "!",
    ),
    "two ends": (
        _some(lambda t, rng: t + " I hope this helps ☺"),
        _some(lambda t, rng: t[:-1] + " – so " + rng.choice(("(a)", "(b)"))),
    ),
}
ENDS = {
    "end with a full stop": ".",
    "end with an exclamation mark": "!",
    "begin with a small letter": None,
}


def _holds(signature: dict, check: str, text: str) -> bool | None:
    """Tell whether a text has a signature, by plain search; None where that cannot tell."""
    if signature["habit"]:
        end = ENDS.get(signature["habit"])
        return None if end is None else text.rstrip().endswith(end)
    if signature["kind"]:
        return None
    if check == "shortcuts.beginning":
        return text.startswith(signature["shown"])
    return (
        text.rstrip().endswith(signature["shown"])
        if check == "shortcuts.ending"
        else (signature["shown"] in text)
    )


@pytest.mark.parametrize("hidden", HIDDEN)
def test_every_count_is_of_the_file(hidden, tmp_path):
    rows = _planted(*HIDDEN[hidden])
    found, _ = signatures.signature_findings(_scan(tmp_path, rows), [], 0)
    assert found, "nothing is found"
    other = {"chosen": "rejected", "rejected": "chosen"}
    counted = 0
    for finding in found:
        for each in finding.evidence["signatures"]:
            holds = [
                [_holds(each, finding.check, row[side]) for row in rows]
                for side in (each["side"], other[each["side"]])
            ]
            if holds[0][0] is not None:
                counted += 1
                assert [sum(side) for side in holds] == [each["count"], each["other_count"]], each
            assert f"{each['count']:,} {each['side']} answers" in finding.says
    assert counted


def test_an_end_that_no_answer_has_is_not_said(tmp_path):
    rows = _planted(*HIDDEN["stops behind stars"])
    found, _ = signatures.signature_findings(_scan(tmp_path, rows), [], 0)
    says = " ".join(each.says for each in found)
    assert "full stop" not in says and "200 chosen answers (100 %)" in says
    assert "200 rejected answers (100 %) end with an exclamation mark" in says


def test_the_texts_without_another_cause_are_not_the_file(tmp_path):
    """A cause that is known hides the stops of one side; without it they are exclusive."""
    rows = _planted(lambda t, rng: t + " ★", lambda t, rng: t[:-1] + " ★")
    table = _scan(tmp_path, rows)
    assert signatures.signature_findings(table, [STAR], 0) == ([], [])
    rows = _planted(lambda t, rng: t, lambda t, rng: t[:-1])
    found, _ = signatures.signature_findings(_scan(tmp_path, rows), [STAR], 0)
    assert [each.check for each in found] == ["shortcuts.punctuation"]


def test_rows_with_errors_count_as_well(tmp_path):
    """A cause leaves 50 rows out of the search; the mark that they have too is counted there."""
    table = _scan(tmp_path, _planted(lambda t, rng: "(A) " + t))
    gone = Cause("wrecks.error", "Errors", np.arange(200) < 50)
    found, causes = signatures.signature_findings(table, [gone], 0)
    assert found[0].evidence["signatures"][0]["count"] == 200 == causes[0].rows.sum()


def test_labelled_answers_too(tmp_path):
    rows = [
        row | {"completion": row["completion"] + " ★" if row["label"] else row["completion"][:-1]}
        for row in labelled(200)
    ]
    found, _ = signatures.signature_findings(_scan(tmp_path, rows), [], 0)
    assert found and "full stop" not in " ".join(each.says for each in found)


def test_a_rule_holds_on_the_file_and_without_the_causes(tmp_path):
    rows = _planted(lambda t, rng: t + " ★", lambda t, rng: t[:-1])
    table = _scan(tmp_path, rows)
    hidden = shortcuts.cleansed_rules(table, shortcuts.cleanse(table, [STAR]))
    assert hidden[COLUMN["complete ending"]]["score"].value == 1.0  # and no pair differs in it
    checks = {each.check for each in shortcuts.rule_findings(table, [STAR])}
    assert "shortcuts.complete_ending" not in checks
    assert "shortcuts.non-ASCII" not in checks  # true of the file, but only by the star


def test_a_rule_says_the_counts_of_the_file(tmp_path):
    """Half of the pairs differ in digits in the file, all without the cause: half is said."""
    hide = lambda text: text.removesuffix(" x") + " 7" * text.endswith(" x")  # noqa: E731
    rows = [
        row | {"chosen": row["chosen"] + (" x", " 7")[at % 2], "rejected": row["rejected"] + " y"}
        for at, row in enumerate(clean(200))
    ]
    cause = Cause("x", "X", np.ones(200, bool), hide)
    found = {each.check: each for each in shortcuts.rule_findings(_scan(tmp_path, rows), [cause])}[
        "shortcuts.digits"
    ]
    assert "“more digits” is right in 75 %" in found.says and "100 pairs that differ" in found.says
    assert found.evidence["score"]["value"] == 0.75 and found.verdict == "warning"
    assert found.evidence["without_causes"]["value"] == 1.0 and found.harm == 0.5


def test_an_example_is_no_quotation_of_all(tmp_path):
    rows = _planted(lambda t, rng: f"{t} [{rng.randint(1, 99)}]")
    found, _ = signatures.signature_findings(_scan(tmp_path, rows), [], 0)
    assert "end with a number, such as “[" in found[0].says
    same = _planted(lambda t, rng: f"{t} [9]")
    found, _ = signatures.signature_findings(_scan(tmp_path, same), [], 0)
    assert "200 chosen answers (100 %) end with “[9]”" in found[0].says


def test_the_commonest_example_is_shown(tmp_path):
    rows = _planted(lambda t, rng: f"{t} [{rng.choice((4, 5, 7, 7, 7, 7))}]")
    found, _ = signatures.signature_findings(_scan(tmp_path, rows), [], 0)
    assert "such as “[7]”" in found[0].says


def test_codes_are_no_stamps(tmp_path):
    plant = lambda t, rng: f"{rng.getrandbits(60) | 1 << 60:x}a {rng.random():.3f}b {t}"  # noqa: E731
    found, _ = signatures.signature_findings(_scan(tmp_path, _planted(plant)), [], 0)
    assert "shortcuts.dates" not in [each.check for each in found]
    assert "a code of letters and digits, such as “" in found[0].says


@pytest.mark.parametrize(
    ("token", "level"),
    [
        ("7", "0"),
        ("2024", "0"),
        ("12th", "0"),
        ("5pm", "0"),
        ("01T12", "0"),
        ("00Z", "0"),
        ("20240101T120000Z", "0"),
        ("30s", "0"),
        ("4a901487", "a0"),
        ("U3VyZSwg", "a0"),
        ("2C", "a0"),
        ("v2", "a0"),
        ("May", "Month"),
        ("word", "word"),
    ],
)
def test_numbers_and_codes(token, level):
    assert mapped(token, "digits") == level


@pytest.mark.parametrize(
    ("text", "stamp"),
    [
        ("[2024-04-24 18:55:40]", True),
        ("2024-01-01T12:00:00Z", True),
        ("1.2.2024", True),
        ("May 3", True),
        ("12:30:01", True),
        ("[1][2][3]", False),
        ("1 2 3 4", False),
        ("%20%28%29-20-30-40", False),
        ("May", False),
        ("3 - 4", False),
        ("10:30", False),
    ],
)
def test_dates_have_their_marks(text, stamp):
    found = tokens(text, "digits")
    assert is_stamp(found) is stamp
    assert (kind(found, "digits") == "a date or a stamp") is stamp


def test_url_encoding_is_no_date(tmp_path):
    plant = lambda t, rng: t.replace(" ", "%20").replace(".", f"%{rng.randint(20, 29)}%20%28")  # noqa: E731
    found, _ = signatures.signature_findings(_scan(tmp_path, _planted(plant)), [], 0)
    assert found and "shortcuts.dates" not in [each.check for each in found]


@pytest.mark.parametrize("side", ["chosen", "rejected"])
@pytest.mark.parametrize("mark", ["</s>", "<|im_end|>"])
def test_end_tokens_are_named_by_marks_alone(mark, side, tmp_path):
    rows = _planted(**{side: _some(lambda t, rng: t + mark)})
    table = _scan(tmp_path, rows)
    found, causes = signatures.signature_findings(table, [], 0)
    assert not found and [each.check for each in causes] == ["marks.ends"]
    assert causes[0].without("So it is." + mark) == "So it is."
    raised = {
        each.check for each in audit(tmp_path / "rows.jsonl").raised if each.verdict != "note"
    }
    assert raised == {"marks.ends"}


def test_end_tokens_of_labelled_answers(tmp_path):
    rows = [
        row if row["label"] else row | {"completion": row["completion"] + "</s>"}
        for row in labelled(200)
    ]
    found, causes = signatures.signature_findings(_scan(tmp_path, rows), [], 0)
    assert not found and [each.check for each in causes] == ["marks.ends"]


def test_a_tag_at_an_end_is_no_block(tmp_path):
    rows = _planted(lambda t, rng: t + " <sep>")
    found, _ = signatures.signature_findings(_scan(tmp_path, rows), [], 0)
    assert [each.check for each in found] == ["shortcuts.ending"]


def test_none_and_one_and_many(tmp_path):
    for others, says in (
        (0, "none of the rejected ones"),
        (1, "1 rejected one ("),
        (2, "2 rejected ones ("),
    ):
        rows = [
            row
            | {"chosen": "(A) " + row["chosen"]}
            | ({"rejected": "(A) " + row["rejected"]} if at < others else {})
            for at, row in enumerate(clean(200))
        ]
        found, _ = signatures.signature_findings(_scan(tmp_path, rows), [], 0)
        assert f", and {says}" in found[0].says


def test_each_clause_is_said_once(tmp_path):
    found, _ = signatures.signature_findings(
        _scan(tmp_path, _planted(lambda t, rng: f"['{t} it''s']")), [], 0
    )
    for each in found:
        clauses = each.says.split("; ")
        assert len(set(clauses)) == len(clauses)


def test_rules_have_readable_names():
    for feature in FEATURES:
        names = [rule_name(feature, direction) for direction in ("more", "less")]
        assert len(set(names)) == 2
        assert feature == "bold" or not any(name.startswith("less ") for name in names)
        assert "in the" not in rule_title(feature)
    assert rule_name("digits", "less") == "fewer digits"
    assert rule_name("complete ending", "less") == "an incomplete ending"
    assert rule_name("in the prompt's language", "more") == "the language of the prompt"


@pytest.mark.parametrize(
    ("count", "says"),
    [
        (0, "no chosen answer is in another language than its prompt"),
        (1, "1 chosen answer (0.5 %) is in another language than its prompt, the rejected one in"),
        (2, "2 chosen answers (1 %) are in another language than their prompt, the rejected ones"),
    ],
)
def test_answers_in_another_language(count, says, tmp_path):
    rows = [
        {
            "prompt": f"What is the best of all the things {at} that you have in the house?",
            "chosen": "Das ist nicht die Frage, die ich mit dir und den anderen habe."
            if at < count
            else f"It is the one {at} that you have in the garden of the house.",
            "rejected": f"It is not the {at} that you have in the garden of the house.",
        }
        for at in range(200)
    ]
    assert shortcuts.language_finding(_scan(tmp_path, rows)).says.startswith(says)


def test_a_symptom_has_one_cause(tmp_path):
    table = _scan(tmp_path, _planted(lambda t, rng: t + " and so it is 7."))
    rule = next(e for e in shortcuts.rule_findings(table) if e.check == "shortcuts.words")
    twice = shortcuts.explained(shortcuts.explained(rule, "shortcuts.digits"), "shortcuts.length")
    assert twice.says.count("explained by") == 1 and twice.says.endswith("by shortcuts.length")
