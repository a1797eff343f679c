"""Wrecks of every kind are named by side, clean files in which they could be seen stay silent, and
--fix drops or mends them with an account.
"""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from auditing.rows import write
from auditing.wrecked import CLEAN, WRECKS, clean_file, pairs, prose, wreck

from accord.auditing.checks.cuts import _tail, find_cuts
from accord.auditing.checks.wrecks import NAMES, wreck_findings
from accord.auditing.fix import Options, fix
from accord.auditing.mend import NAMES as MENDS
from accord.auditing.mend import mend_everywhere
from accord.auditing.run import audit
from accord.auditing.scan import scan
from accord.auditing.tables.wrecks import WreckTable, edges, look
from accord.auditing.wrecks.context import Asked
from accord.auditing.wrecks.kinds import KINDS, find_wrecks, mend_text
from accord.data.containers import locate
from accord.errors import UsageError
from accord.types import Origin, Pair, Turn

NOTHING = Asked("Tell me of the river.")


def findings(tmp_path, rows: list[dict]) -> dict[str, object]:
    found, _ = wreck_findings(scan(write(tmp_path / "a.jsonl", rows)))
    return {each.check.removeprefix("wrecks."): each for each in found}


def kinds_of(text: str, asked: Asked = NOTHING) -> dict[str, bool]:
    return {name: hit.sure for name, hit in find_wrecks(text, asked)}


# ---------------------------------------------------------------- files with wrecks


@pytest.mark.parametrize("share", [0.1, 0.3])
@pytest.mark.parametrize("name", list(WRECKS))
def test_every_kind_is_named_by_side(name, share, tmp_path):
    rows = pairs(120)
    found = findings(tmp_path, wreck(rows, name, share, ("rejected",)))
    assert found[name].verdict in ("warning", "refused")
    count, shares = found[name].evidence["rows"], found[name].evidence["shares"]
    assert 0.7 * share * 120 <= count <= 120 * share + 4
    assert shares["chosen"] <= 0.02 < shares["rejected"] and shares["prompts"] == 0
    assert found[name].title.endswith("on one side") and "shortcut" in found[name].why
    loud = {each for each, finding in found.items() if finding.verdict != "note"}
    assert loud == {name}, "one cause, one name"
    assert found[name].places and all(place.at and place.detail for place in found[name].places)


@pytest.mark.parametrize("name", list(WRECKS))
def test_most_of_a_side_is_unfit_or_a_warning(name, tmp_path):
    rows = wreck(pairs(60), name, 1.0, ("chosen",))
    verdict = findings(tmp_path, rows)[name].verdict
    parts = "html escaped watermark homoglyphs cut invisible json mojibake loop damaged".split()
    assert verdict == "refused" or (name in parts and verdict == "warning")


def test_labelled_rows(tmp_path):
    rows = [
        {"prompt": row["prompt"], "completion": row["chosen"], "label": at % 2 == 0}
        for at, row in enumerate(pairs(100))
    ]
    for row in rows[1:60:2]:
        row["completion"] = "None"
    found = findings(tmp_path, rows)["sentinel"]
    assert found.evidence["shares"] == {"prompts": 0.0, "desirable": 0.0, "undesirable": 0.6}


def test_a_few_are_a_note_and_none_is_one_line(tmp_path):
    rows = pairs(200)
    rows[3]["chosen"] = "nan"
    found = findings(tmp_path, rows)
    assert {name: each.verdict for name, each in found.items()} == {"sentinel": "note"}
    assert found["sentinel"].places[0].at.endswith("a.jsonl:4")
    clean = findings(tmp_path, pairs(60))
    assert {name: each.verdict for name, each in clean.items()} == {"none": "ok"}


def test_a_weak_sign_counts_only_where_it_is_repeated(tmp_path):
    rows = pairs(100)
    for row in rows[:2]:
        row["chosen"] = "None"
    assert "sentinel" not in findings(tmp_path, rows)
    rows[2]["chosen"] = "None"
    assert findings(tmp_path, rows)["sentinel"].evidence["rows"] == 3


def test_repetition_is_over_different_prompts(tmp_path):
    rows = pairs(100)
    for at, row in enumerate(rows[:6]):
        row |= {"chosen": "None", "prompt": rows[0]["prompt"], "rejected": f"Answer {at} it is."}
    assert "sentinel" not in findings(tmp_path, rows)


@pytest.mark.parametrize("name", list(CLEAN))
def test_clean_files_are_silent(name, tmp_path):
    """Not even a note, but for kinds whose texts quote what they are about."""
    found = findings(tmp_path, clean_file(name, seed=11))
    assert not [each for each in found.values() if each.verdict in ("warning", "refused")]


def test_the_audit_and_the_causes_carry_it(tmp_path):
    rows = wreck(pairs(80), "html", 0.5, ("chosen",))
    file = scan(write(tmp_path / "a.jsonl", rows))
    found, causes = wreck_findings(file)
    cause = next(each for each in causes if each.check == "wrecks.html")
    assert cause.rows.sum() == found[0].evidence["rows"] == 40 and cause.without is not None
    assert cause.without("I don&#39;t know.") == "I don't know."
    assert audit(tmp_path / "a.jsonl").find("wrecks.html").verdict == "warning"


# ---------------------------------------------------------------- single texts


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("NaN", "sentinel"),
        ("<NA>", "sentinel"),
        ("Answer: null", "sentinel"),
        ("\\N", "sentinel"),
        ("Error: 503", "error"),
        ("openai.RateLimitError: Rate limit reached", "error"),
        ('{"error": {"code": 500}}', "error"),
        ("HTTP/1.1 404 Not Found", "error"),
        ("[Content filtered]", "moderation"),
        ("[removed by moderator]", "moderation"),
        ("{{answer}}", "placeholder"),
        ("Write your answer here.", "placeholder"),
        ("\u200b\u200b \u2060", "blank"),
        ("It is\u200b here.", "invisible"),
        ("I don&#39;t &amp; won&#39;t.", "html"),
        ("<p>So be it.</p>", "html"),
        ("It is a cafÃ©.", "mojibake"),
        ("I donâ€™t.", "mojibake"),
        ("lost \ufffd here", "mojibake"),
        ("РџСЂРёРІРµС‚, РјРёСЂ", "mojibake"),
        ("It‚Äôs", "mojibake"),
        ("One line.\\nAnother line.\\n\\nThird.", "escaped"),
        ("He is na\\u00efve.", "escaped"),
        ('{"answer": "It is so."}', "json"),
        ('"A \\"word\\" of it."', "json"),
        ("The pаssword is оpen.", "homoglyphs"),
        ("So" + "\U000e0041\U000e0042\U000e0043\U000e0044" + " it is.", "watermark"),
    ],
)
def test_a_sure_sign(text, name):
    assert kinds_of(text).get(name) is True


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("None", "Which of these apply? Say None if none does."),
        ("NULL", "What does SELECT NULLIF(1, 1) return?"),
        ("I'm sorry, but I can't help with that.", "Help me to steal."),
        ("The mistake is that nan is not equal to itself.", "Why is nan != nan?"),
        ("Use \\nabla and \\neq, \\nu.", "Which signs?"),
        ("نمی\u200cشود", "چرا؟"),
        ("👩‍🚀 ❤️", "An emoji?"),
        ("क्\u200dष", "?"),
        ("C'est «\u00a0à\u00a0» Noël, CAFÉ”, É…", "?"),
        ("R&D at AT&T; it is 3 < 5 > 2.", "?"),
        ("C:\\new\\table is a folder.", "Where is it?"),
        ("[1, 2, 3]", "List three numbers."),
        ("https://example.com/a_b/{id}", "Which address?"),
        ("The set {x_n} converges.", "Which set?"),
    ],
)
def test_what_is_no_wreck(text, prompt):
    assert not any(kinds_of(text, Asked(prompt)).values())


@pytest.mark.parametrize(
    ("text", "prompt"),
    [
        ("&lt;b&gt;it &amp; so&lt;/b&gt;", "Escape this for HTML: <b>it & so</b>"),
        ("&lt;i&gt;", "Which escapes does XML need?"),
        ('"object"', "What is typeof null?"),
        ("`KeyError: 'a'` means that the key is missing.", "I get \"KeyError: 'a'\", why?"),
        (
            "Traceback (most recent call last):\n  ...\nKeyError: 'a'\n\n"
            "It has no such key at all.",
            "Why does my program end with an exception?",
        ),
        ("2024-01-01 ERROR timeout after retry", "INFO done\n2024-01-01 ERROR timeout after retry"),
        ("The server is down or overloaded.", "What is Error 503?"),
    ],
)
def test_what_is_asked_for_is_no_sign(text, prompt):
    assert not {"html", "json", "error"} & set(kinds_of(text, Asked(prompt)))


def test_escapes_and_errors_that_nobody_asked_for_stay_signs():
    assert kinds_of("I don&#39;t.", Asked("Is it so &amp; so?"))["html"] is True
    assert kinds_of("HTTP 429 Too Many Requests", Asked("Give this in English: Hallo."))
    assert kinds_of("Error code: 429\n\nPlease try again later.", Asked("Hello?"))["error"] is True
    assert kinds_of("Internal error", Asked("Translate: 内部错误")) == {"error": False}


def test_what_counts_on_one_side_counts_on_the_other(tmp_path):
    rows = pairs(100)
    for at, row in enumerate(rows[:10]):
        row["chosen" if at < 2 else "rejected"] = "None"
    assert findings(tmp_path, rows)["sentinel"].evidence["shares"]["chosen"] == 0.02


def test_as_many_words_as_were_asked_for_are_no_cut(tmp_path):
    rows = pairs(100)
    for row in rows:
        row["chosen"] = " ".join((row["chosen"] + " " + row["rejected"]).split()[:9])
    assert findings(tmp_path, rows)["cut"].verdict == "warning"
    for row in rows:
        row["prompt"] = "The next 9 words: " + row["prompt"]
    assert "cut" not in findings(tmp_path, rows)


def test_a_usual_length_of_labels_without_full_stops_is_no_pile(tmp_path):
    rng = random.Random(3)
    words = prose(rng, 60).replace(".", "").lower().split()
    line = lambda: " ".join(rng.choices(words, k=rng.choice((5, 6, 7, 7, 8, 8, 8, 9))))  # noqa: E731
    rows = [{"prompt": f"poem {at}", "chosen": line(), "rejected": line()} for at in range(200)]
    found = findings(tmp_path, rows)
    assert "cut" not in found or found["cut"].verdict == "note"


def test_ends_by_hand():
    assert edges("It is the")[0] == 1 and edges("It is so.")[0] == 0
    assert edges("and so it")[0] == 3, "it begins with a small letter"
    assert edges("It is th...")[0] == 5 and edges("It is so [truncated]")[0] & 8
    assert edges("x The")[1] == edges("x the")[1] != edges("x then")[1]
    assert edges("") == (0, 0)
    for text in ("It is B", "in New York, NY", "number 7f3c", "see https://a.b/c_syndrome"):
        assert edges(text)[1] == 0, "no word of a sentence"


def test_the_bound_of_a_pile_holds():
    """Chernoff's bound lies above the Poisson tail, summed term by term."""
    for mean, count in ((0.5, 5), (2.0, 8), (10.0, 30)):
        term, below = np.exp(-mean), 0.0
        for k in range(count):
            below += term
            term *= mean / (k + 1)
        assert 1 - below <= _tail(count, mean) < 1


@pytest.mark.parametrize("unit", ["characters", "words"])
def test_a_pile_names_its_length(unit, tmp_path):
    rows = pairs(100)
    for row in rows[:40]:
        text = row["chosen"] + " " + prose(random.Random(len(row["chosen"])), 3)
        row["chosen"] = text[:90] if unit == "characters" else " ".join(text.split()[:17])
    cuts = find_cuts(scan(write(tmp_path / "a.jsonl", rows)))
    assert {(column, each) for column, each, *_ in cuts.piles} >= {(1, unit)}
    assert max(cuts.piles, key=lambda pile: pile[3])[2] in (90, 17)


def test_hostile_texts_take_no_time():
    """A megabyte of each sign, in a few seconds for all: no pattern backtracks."""
    for piece in (
        "&",
        "&amp;",
        "<p",
        "{{a",
        "\\n",
        "\\",
        "[",
        "Ã",
        "\u200b",
        "а",
        "'",
        '"',
        "{",
        "Error ",
    ):
        text = piece * (1_000_000 // len(piece))
        WreckTable().add(look(Pair((Turn("user", text),), text, text + "!", Origin("a", 1))))
        for name in KINDS:
            mend_text(text[:100_000], name, NOTHING)


# ---------------------------------------------------------------- mends


@pytest.mark.parametrize("name", [n for n in MENDS if n != "trim"])
def test_mending_twice_is_mending_once_and_clean_text_stays(name):
    rng = random.Random(5)
    for _ in range(60):
        text = prose(rng, 3)
        assert mend_text(text, name, NOTHING) == text
        broken = WRECKS[name](rng, text)
        mended = mend_text(broken, name, NOTHING)
        assert mended != broken and mend_text(mended, name, NOTHING) == mended
        assert name not in kinds_of(mended) or "\ufffd" in mended, "lost characters stay lost"


@pytest.mark.parametrize("name", list(CLEAN))
def test_no_mend_changes_a_clean_file(name):
    for row in clean_file(name, 40, seed=12):
        asked = Asked(row["prompt"])
        assert mend_everywhere(row["chosen"], MENDS[:-1], asked, True) == row["chosen"]


@pytest.mark.parametrize(
    ("name", "broken", "mended"),
    [
        ("html", "I don&#39;t &amp; won&#39;t.", "I don't & won't."),
        ("html", "<p>One.</p><p>Two.<br>Three.</p>", "One.\n\nTwo.\nThree."),
        ("html", "It is &amp;lt; it.", "It is < it."),
        ("mojibake", "Itâ€™s a cafÃ©", "It’s a café"),
        ("mojibake", "ItÃ¢â‚¬â„¢s", "It’s"),
        (
            "escaped",
            'One.\\n\\nTwo: \\"so\\" na\\u00efve \\ud83d\\ude00.',
            'One.\n\nTwo: "so" naïve 😀.',
        ),
        ("json", '{"answer": "It is so."}', "It is so."),
        ("json", '["{\\"text\\": \\"So.\\"}"]', "So."),
        ("json", '{"id": 3, "response": "So.", "finish_reason": "stop"}', "So."),
        ("json", "b'It\\xe2\\x80\\x99s so.'", "It’s so."),
        ("json", "['It is so.']", "It is so."),
        (
            "invisible",
            "It is $\x08oxed{3}$, \x0crac{1}{2} and \x07lpha.",
            "It is $\\boxed{3}$, \\frac{1}{2} and \\alpha.",
        ),
        ("watermark", "A\xa0b,\xa0c.\xa0Then\xa03\xa0d", "A b, c. Then 3 d"),
        ("invisible", "It\u200b is\ufeff.", "It is."),
        ("homoglyphs", "The pаssword", "The password"),
        ("watermark", "A\u2004b\u2004cd\u2004e\u2004f", "A b cd e f"),
    ],
)
def test_mends_by_hand(name, broken, mended):
    assert mend_text(broken, name, NOTHING) == mended


def cleaned(tmp_path, rows, **options):
    path = write(tmp_path / "data.jsonl", rows)
    with locate(path) as source:
        account = fix(scan(path), source, tmp_path / "out.jsonl", Options(**options))
    return account, [json.loads(line) for line in (tmp_path / "out.jsonl").open(encoding="utf-8")]


def test_mended_rows_are_written_and_listed(tmp_path):
    rows = pairs(40)
    rows[1]["chosen"] = "I don&#39;t know."
    rows[2]["rejected"] = "Itâ€™s so &amp; so."
    rows[3]["chosen"] = " It is so. "
    rows[4] = {
        "prompt": [{"role": "user", "content": "Is it so &amp; so?"}],
        "chosen": [{"role": "assistant", "content": "Yes &amp; no."}],
        "rejected": [{"role": "assistant", "content": "No."}],
        "note": "R&amp;D",
    }
    account, written = cleaned(tmp_path, rows, mend=("html", "mojibake"))
    assert written[1]["chosen"] == "I don't know." and written[2]["rejected"] == "It’s so & so."
    assert written[3] == rows[3], "trim was not asked for"
    assert written[4]["chosen"][0]["content"] == "Yes & no." and written[4]["note"] == "R&amp;D"
    assert [row for at, row in enumerate(written) if at not in (1, 2, 4)] == rows[:1] + [
        row for at, row in enumerate(rows) if at > 2 and at != 4
    ]
    assert account.mended.rows == 3 and account.mended.by_rule == {"html": 3, "mojibake": 1}
    listed = [json.loads(line) for line in (tmp_path / "out.mended.jsonl").open(encoding="utf-8")]
    assert [(each["line"], each["side"], each["rules"]) for each in listed] == [
        (2, "chosen", ["html"]),
        (3, "rejected", ["mojibake", "html"]),
        (5, "user", ["html"]),
        (5, "chosen", ["html"]),
    ]
    assert account.rows == account.written + sum(account.removed.values())
    assert any("--mend html" in line for line in account.lines())


def test_blanks_around_answers(tmp_path):
    rows = pairs(20)
    rows[3]["chosen"] = "\n It is so. "
    account, written = cleaned(tmp_path, rows, mend=("trim",))
    assert written[3]["chosen"] == "It is so." and account.mended.by_rule == {"trim": 1}


def test_blanks_that_nearly_all_answers_have_stay(tmp_path):
    rows = [
        {"prompt": f"Text {at}\nIntent:", "chosen": f" refund {at}", "rejected": f" other {at}"}
        for at in range(20)
    ]
    rows[3]["chosen"] = " refund \n"
    _, written = cleaned(tmp_path, rows, mend=("trim",))
    assert written[3]["chosen"] == " refund" and written[4] == rows[4]


def test_a_row_that_would_be_read_otherwise_stays(tmp_path):
    """Mending "\\u2029" of one answer would leave nothing: the row stays, and nothing is lost."""
    rows = pairs(20)
    rows[3]["chosen"] = "\u200b\u200b"
    _, written = cleaned(tmp_path, rows, mend=("invisible",))
    assert written == rows


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("json", "cut")])
def test_each_kind_can_be_dropped(name, tmp_path):
    rows = wreck(pairs(60), name, 0.2, ("rejected",))
    account, written = cleaned(tmp_path, rows, drop=(name,), keep=("duplicates",))
    wrecked = sum(row != old for row, old in zip(rows, pairs(60), strict=True))
    assert sum(account.removed.values()) == wrecked == 12 and len(written) == 48


def test_all_wrecks_without_a_mend_are_dropped_by_one_name(tmp_path):
    rows = wreck(wreck(pairs(60), "sentinel", 0.2, ("rejected",)), "html", 0.2, ("chosen",))
    account, _ = cleaned(tmp_path, rows, drop=("wrecks",))
    assert account.removed == {"no text any more, and nothing to mend": 12}


def test_an_unknown_mend_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"no --mend is called 'htm'.*Known: json, mojibake"):
        cleaned(tmp_path, pairs(20), mend=("htm",))
    with pytest.raises(UsageError, match="are options of --fix"):
        audit(write(tmp_path / "b.jsonl", pairs(20)), options=Options(mend=("html",)))


# ---------------------------------------------------------------- what a stranger found


def test_loops_by_hand():
    sentence = "It is the river that I love."
    assert kinds_of("Well. " + f"{sentence} " * 4) == {"loop": True}
    assert not kinds_of("Well. " + f"{sentence} " * 3), "three times may be a figure"
    assert kinds_of("So. " + "the " * 20) == {"loop": True} and not kinds_of("So. " + "the " * 9)
    assert kinds_of(f"{prose(random.Random(3), 12)} {sentence * 12}") == {"loop": True}
    assert not kinds_of(f"{sentence} " * 9, Asked("Repeat a sentence nine times."))
    assert not kinds_of("```\n" + "print it now\n" * 9 + "```")
    assert kinds_of("我喜欢这条河流，它很美丽也很长。" * 6) == {"loop": True}


def test_damage_by_hand():
    assert kinds_of("I don?t know.") == {"damaged": True} and not kinds_of("Do you?T is so.")
    assert kinds_of("An exam-\nple of a gar-\nden.") == {"damaged": True}
    assert not kinds_of("A well-\nknown river."), "one may be meant"
    assert kinds_of("So it is.Then it was a river.After that it went.") == {"damaged": True}
    assert not kinds_of("I don?t know.", Asked("Write a Python function."))


def test_an_api_s_json_is_no_moderation_notice():
    text = '{"id": 1, "response": "The river was blocked by a filter.", "finish_reason": "stop"}'
    assert kinds_of(text) == {"json": True}
    cut = '{"response": "", "finish_reason": "content_filter"}'
    assert kinds_of(cut)["moderation"]
    assert "moderation" not in kinds_of("As a responsible AI assistant, I like rivers.")


def test_notices_in_other_languages_count_where_they_are_repeated(tmp_path):
    rows = pairs(100)
    for row in rows[:8]:
        row["chosen"] = "Die Antwort wurde aus Sicherheitsgründen entfernt."
    assert findings(tmp_path, rows)["moderation"].evidence["rows"] == 8


def test_answers_that_say_nothing_are_shown_each(tmp_path):
    rows = pairs(100)
    for at, row in enumerate(rows[:12]):
        row["rejected"] = ["-", "...", "OK", "?"][at % 4]
    found = findings(tmp_path, rows)["sentinel"]
    assert found.evidence["rows"] == 12
    assert all(f'"{piece}"' in found.says for piece in ("-", "...", "OK"))


@pytest.mark.parametrize(("one", "two", "alone"), [(36, 30, False), (36, 18, True)])
def test_both_sides_nearly_alike_give_no_label_away(one, two, alone, tmp_path):
    rows = pairs(100)
    for row in rows[:one]:
        row["chosen"] += " I don&#39;t know."
    for row in rows[:two]:
        row["rejected"] += " I don&#39;t know."
    found = findings(tmp_path, rows)["html"]
    assert found.verdict == "warning" and ("gives the label away" in found.says) is alone


def test_a_mend_is_offered_for_the_rows_that_it_mends(tmp_path):
    rows = pairs(60)
    for row in rows[:10]:
        row["chosen"] = f"I don\ufffdt know. {row['chosen']}"
    found = findings(tmp_path, rows)["mojibake"]
    assert found.command == "--fix OUT --drop mojibake" and "mends none" in found.remedy
    for row in rows[10:13]:
        row["chosen"] = f"It is a cafÃ©. {row['chosen']}"
    found = findings(tmp_path, rows)["mojibake"]
    assert found.command == "--fix OUT --mend mojibake" and "mends 3 of 13 rows" in found.remedy


def test_names_under_letters_are_no_cuts():
    for text in ("So.\n\nBest regards,\nLi Wei", "So.\n\n— Kate, Support Team", "So.\nThe Team"):
        assert edges(text)[0] & 1 == 0
    for text in ("So.\nthe te", "- One\n- Par", "It is.\n\nThen the riv", "Li Wei"):
        assert edges(text)[0] & 1 == 1


# ---------------------------------------------------------------- real sets


def test_real_sets_have_a_few_and_raise_no_warning(shared_data):
    found, _ = wreck_findings(scan(shared_data("ultrafeedback_small/pairs_train.jsonl.gz")))
    assert {each.verdict for each in found} == {"note"}
    assert "wrecks.invisible" in {each.check for each in found}
