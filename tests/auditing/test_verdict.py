"""The verdict: the rule by hand, and one voice of audit, page, advice and run."""

from __future__ import annotations

import itertools
import json
import random

import pytest
from auditing.rows import clean, flipped, labelled, scored, write

from accord.auditing.advise import advise
from accord.auditing.findings import AuditFinding, grade
from accord.auditing.machine import Machine
from accord.auditing.recipe import lines as advice_lines
from accord.auditing.run import audit, audit_dataset
from accord.auditing.run_rows import (
    CONTENT,
    ELSEWHERE,
    OTHER,
    audit_findings,
    check_of,
    content_findings,
    summary,
)
from accord.auditing.verdict import RULE, judge, judge_record, size_word
from accord.data.read import read
from accord.pages.audit import render

MACHINE = Machine("cpu", 8.0, 10**6, 64, 4, 1e4)


def finding(check, verdict, harm=0.0, **more):
    return AuditFinding(check, verdict, f"{check} says", title=check.upper(), harm=harm, **more)


def judged(*findings, rows=5_000):
    return judge(findings, "folder/data.jsonl", rows, "pairs")


def checks(causes):
    return [cause.finding.check for cause in causes]


# ---------------------------------------------------------------- the rule


ORDER = ("ok", "note", "warning", "refused")


@pytest.mark.parametrize("verdicts", itertools.product(ORDER, repeat=2))
def test_the_worst_finding_of_quality_decides(verdicts):
    """An oracle of its own: the place in a list of words."""
    worst = max(map(ORDER.index, verdicts))
    found = judged(*(finding(f"a.{at}", each) for at, each in enumerate(verdicts)))
    assert found.word == ("fit", "fit", "fit with care", "unfit")[worst]
    assert len(found.passed) == verdicts.count("ok")
    assert len(found.causes) == sum(each in ("warning", "refused") for each in verdicts)


@pytest.mark.parametrize("verdict", ["note", "warning", "refused"])
def test_the_amount_never_decides(verdict):
    found = judged(finding("diversity.size", verdict, aspect="size"), rows=420)
    assert (found.word, found.size) == ("fit", "small") and not found.causes and not found.notes
    assert found.headline == "FIT, small: data.jsonl, 420 pairs"
    assert [each.check for each in found.sizes] == ["diversity.size"]


@pytest.mark.parametrize(
    ("rows", "word"),
    [(1, "very small"), (199, "very small"), (200, "small"), (2_999, "small"), (3_000, "")],
)
def test_words_for_the_amount(rows, word):
    assert size_word(rows) == word == judged(rows=rows).size


def test_a_symptom_stands_under_its_cause_and_lends_it_its_weight():
    found = judged(
        finding("shortcuts.digits", "refused", 0.9, explained_by="shortcuts.dates"),
        finding("shortcuts.dates", "warning", 0.2),
        finding("labels.noise", "warning", 0.3),
    )
    assert checks(found.causes) == ["shortcuts.dates", "labels.noise"] and found.word == "unfit"
    assert [each.check for each in found.causes[0].symptoms] == ["shortcuts.digits"]
    assert found.headline.endswith("(SHORTCUTS.DATES; LABELS.NOISE)")


def test_a_symptom_without_its_cause_stands_for_itself():
    found = judged(
        finding("a.symptom", "warning", explained_by="a.cause"), finding("a.cause", "ok")
    )
    assert checks(found.causes) == ["a.symptom"] and found.word == "fit with care"


def test_chains_and_circles_of_symptoms():
    chain = judged(
        finding("a.1", "warning"),
        finding("a.2", "warning", explained_by="a.1"),
        finding("a.3", "note", explained_by="a.2"),
    )
    assert [each.check for each in chain.causes[0].symptoms] == ["a.2", "a.3"]
    circle = judged(
        finding("a.1", "warning", explained_by="a.2"),
        finding("a.2", "warning", explained_by="a.1"),
        finding("a.3", "warning", explained_by="a.3"),
    )
    assert checks(circle.causes) == ["a.1", "a.2", "a.3"]


def test_nothing_is_lost_and_nothing_is_said_twice():
    """1,000 random lists of findings: each stands in exactly one place, causes by rank and harm."""
    rng = random.Random(1)
    names = [f"a.{at}" for at in range(6)]
    for _ in range(1_000):
        every = [
            finding(
                name,
                rng.choice(("ok", "note", "warning", "refused")),
                rng.random(),
                explained_by=rng.choice(("", "", *names)),
                aspect=rng.choice(("quality", "quality", "size")),
            )
            for name in names
        ]
        found = judged(*every)
        told = [*found.causes, *found.notes]
        placed = [each.check for cause in told for each in (cause.finding, *cause.symptoms)]
        placed += [each.check for each in (*found.sizes, *found.passed)]
        assert sorted(placed) == names
        keys = [(cause.rank, -cause.harm) for cause in told]
        assert keys == sorted(keys)
        quality = [each.verdict for each in every if each.aspect == "quality"]
        assert (found.word == "unfit") == ("refused" in quality)
        assert (found.word == "fit") == (not {"refused", "warning"} & set(quality))


def test_a_headline_names_three_causes():
    found = judged(*(finding(f"a.{at}", "warning", 1 - at / 10) for at in range(5)), rows=1)
    assert found.headline == (
        "FIT WITH CARE, very small: data.jsonl, 1 pair (A.0; A.1; A.2; and 2 more)"
    )


def test_one_or_two_rows_are_no_warning():
    """One row of 50 is 2 %."""
    assert [grade(rows / 50, 0.01, 0.03, rows=rows) for rows in (0, 1, 2, 3)] == [
        "ok",
        "note",
        "note",
        "refused",
    ]
    assert grade(0.02, 0.01) == "warning" and grade(0.02, 0.01, 0.02) == "refused"


# ---------------------------------------------------------------- properties of sound files


def many_a_prompt(seed):
    """Eight pairs a prompt."""
    rows = clean(400, seed)
    return [row | {"prompt": rows[at // 8]["prompt"]} for at, row in enumerate(rows)]


def one_form(seed):
    """Prompts that fill in one form: nearly all are near copies of each other."""
    frame = "Here is a long form that every one of these prompts fills in, with a single number: "
    return [row | {"prompt": f"{frame}{at}"} for at, row in enumerate(clean(400, seed))]


def few_bad(seed):
    """Labels as a thumbs-up button gives them: 3 % bad."""
    return labelled(400, good=0.97, seed=seed)


def annotated_twice(seed):
    """Ten of 400 pairs stand there twice, one pair the other way round."""
    rows = clean(400, seed)
    turned = rows[-1] | {"chosen": rows[-1]["rejected"], "rejected": rows[-1]["chosen"]}
    return [*rows, *rows[:10], turned]


def low_scores(seed):
    """A judge that gives 1 to 4 of 10."""
    rows = clean(400, seed)
    return [row | {"score_chosen": 2 + at % 3, "score_rejected": 1} for at, row in enumerate(rows)]


def one_mark(seed):
    """One answer of 60 holds an end token, which is 1.7 % of its side."""
    rows = clean(60, seed)
    rows[7] = rows[7] | {"rejected": rows[7]["rejected"] + "</s>"}
    return rows


SOUND = (many_a_prompt, one_form, few_bad, annotated_twice, low_scores, one_mark)


@pytest.mark.parametrize("make", SOUND, ids=lambda make: make.__name__)
@pytest.mark.parametrize("seed", [11])
def test_a_property_of_a_sound_file_is_no_fault(make, seed, tmp_path):
    found = audit(write(tmp_path / "data.jsonl", make(seed)))
    assert found.verdict == "fit", [(each.finding.says) for each in found.judged.causes]
    assert found.judged.size
    assert found.judged.notes or make is annotated_twice


@pytest.mark.parametrize("rows", [50, 120, 420])
@pytest.mark.parametrize("seed", [21, 22])
def test_a_small_clean_file_is_fit(rows, seed, tmp_path):
    found = audit(write(tmp_path / "data.jsonl", clean(rows, seed)))
    assert found.verdict == "fit", [each.finding.says for each in found.judged.causes]


@pytest.mark.parametrize(("every", "verdict"), [(4, "warning"), (7, "note"), (100, "ok")])
def test_one_prompt_in_a_fifth_of_the_file_is_a_fault(every, verdict, tmp_path):
    """100, 58 and 4 of 400 rows have one prompt."""
    rows = clean(400)
    rows = [row | {"prompt": "This"} if at % every == 0 else row for at, row in enumerate(rows)]
    found = audit(write(tmp_path / "data.jsonl", rows), sample=1)
    finding = found.always("diversity.repeated_prompts")
    assert finding.verdict == verdict
    assert ("max-per-prompt" in finding.command) == (verdict == "warning")


# ---------------------------------------------------------------- one voice


def spoilt(seed: int) -> list[dict]:
    """A clean file with some faults, drawn by the seed, each in a random share of the rows."""
    rng = random.Random(seed)
    rows = scored(rng.choice((150, 300)), seed=seed) if rng.random() < 0.5 else clean(250, seed)
    if rng.random() < 0.3:
        rows = flipped(rows, rng.random() * 0.4, seed)
    if rng.random() < 0.5:
        share = rng.random()
        rows = [
            row | {"chosen": row["chosen"] + " and so on" * 5} if rng.random() < share else row
            for row in rows
        ]
    if rng.random() < 0.4:
        rows += rows[: rng.randint(1, len(rows))]
    if rng.random() < 0.4:
        rows += [
            row | {"chosen": row["rejected"], "rejected": row["chosen"]}
            for row in rows[: rng.randint(1, 60)]
        ]
    if rng.random() < 0.3:
        rows = [row | {"rejected": "<|im_end|>"} if rng.random() < 0.1 else row for row in rows]
    if rng.random() < 0.3:
        rows.append({"prompt": "without answers"})
    return rows


def held_out_of(seed: int, rows: list[dict]) -> list[dict]:
    """Rows of the same kind, some of them trained on."""
    rng = random.Random(seed)
    whole = [row for row in rows if "chosen" in row]
    return clean(60, seed + 500) + whole[: rng.choice((0, 3, 30))]


@pytest.mark.parametrize("seed", range(31, 39))
def test_audit_page_advice_and_run_agree(seed, tmp_path):
    """The same verdict, the same causes, the same numbers, of the same file."""
    rows = spoilt(seed)
    file = write(tmp_path / "data.jsonl", rows)
    held_out = write(tmp_path / "held_out.jsonl", held_out_of(seed, rows)) if seed % 2 else None
    by_command = audit(file, held_out=held_out)
    held = None if held_out is None else read(held_out, "pairs")
    in_run = audit_dataset(read(file, "pairs"), "pairs", held_out=held)
    one, other = by_command.judged, in_run.judged
    assert one.headline == other.headline and one.words == other.words
    assert [
        (each.check, each.verdict, each.says, each.evidence) for each in by_command.findings
    ] == [(each.check, each.verdict, each.says, each.evidence) for each in in_run.findings]

    # the run: its summary has the headline, and each finding stands in a check with its verdict
    assert summary(in_run).says == one.headline
    told = {each.check: each for each in content_findings(in_run)}
    for each in by_command.raised:
        name = check_of(each.check)
        if name is None:
            assert each.check.startswith(tuple(ELSEWHERE))
        else:
            assert told[name].evidence["audit"][each.check] == each.verdict
            assert told[name].verdict != "ok"
    for each in by_command.judged.causes:
        if (name := check_of(each.finding.check)) is not None:
            assert told[name].verdict == "warning"

    # the record that the report shows
    record = json.loads(json.dumps(in_run.as_dict()))
    again = judge_record(record)
    assert again.headline == record["headline"] == one.headline
    assert (
        checks(again.causes) == checks(one.causes) == [each["check"] for each in record["causes"]]
    )

    # the advice
    advice = advise(by_command, MACHINE, model="m", data=file, held_out=held_out)
    assert advice.headline == advice_lines(advice)[0] == one.headline
    assert advice.ready == (one.word != "unfit") and len(advice.first) == len(one.causes)
    for step, cause in zip(advice.first, one.causes, strict=True):
        assert cause.finding.says in step

    # the page
    page = render(by_command)
    assert page.index('class="verdict') < page.index("<h1>") < page.index("<h2>")
    assert all(each in page for each in RULE.values())


def test_every_check_of_the_audit_has_a_place_in_a_run():
    """A check that nobody has thought of lands in OTHER."""
    assert check_of("wrecks.sentinel") == "data.wrecks" and check_of("new.check") == OTHER
    assert check_of("leakage.contained") == check_of("held_out.kind") == "data.held_out"
    assert check_of("integrity.belonging") == check_of("integrity.ids") == "data.belonging"
    assert check_of("labels.numbers_margin") == "data.scores"
    assert check_of("shortcuts.ngrams") == "data.shortcut" and check_of("marks.ends") is None
    prefixes = [each for names in CONTENT.values() for each in names]
    assert len(prefixes) == len(set(prefixes))


def test_a_run_says_all_that_the_audit_says_of_its_two_files(tmp_path):
    """Half of the held-out rows are trained on."""
    rows = clean(200)
    one = read(write(tmp_path / "train.jsonl", rows), "pairs")
    two = read(write(tmp_path / "held.jsonl", rows[:50] + clean(50, 7)), "pairs")
    found = {each.check: each for each in audit_findings(one, "pairs", 100, tmp_path, held_out=two)}
    assert found["data.held_out"].verdict == "warning"
    assert "50 of 100 held-out rows" in found["data.held_out"].says
    assert found["data.audit"].says.startswith("FIT WITH CARE, small: train.jsonl, 200 pairs (")
    kept = json.loads((tmp_path / "audit.json").read_text())
    assert kept["held_out"] == str(tmp_path / "held.jsonl")
    assert "data.held_out" not in {
        each.check for each in audit_findings(one, "pairs", 100, held_out=None)
    }


def test_held_out_rows_of_another_kind_have_their_prompts_compared(tmp_path):
    """Labels are trained on; pairs are held out, ten of whose prompts are trained on."""
    rows = labelled(100)
    pairs = [row | {"prompt": rows[at]["prompt"]} for at, row in enumerate(clean(10, 9))]
    one = read(write(tmp_path / "train.jsonl", rows), "labelled")
    two = read(write(tmp_path / "held.jsonl", pairs + clean(30, 8)), "pairs")
    found = audit_dataset(one, "labelled", 0, held_out=two)
    assert found.always("leakage.exact").evidence["count"] == 10


# ---------------------------------------------------------------- advice


def test_advice_names_faults_with_their_commands_and_the_amount_apart(tmp_path):
    rows = scored(150)
    turned = [
        row | {"score_chosen": row["score_rejected"], "score_rejected": row["score_chosen"]}
        for row in rows
    ]
    file = write(tmp_path / "data.jsonl", turned)
    advice = advise(audit(file), MACHINE, model="m", data=file, held_out=None)
    told = "\n".join(advice_lines(advice))
    assert not advice.ready and "Mend this first:\n  ✗ Scores against labels: " in told
    assert "--columns" in advice.first[0] and file in advice.first[0]
    assert "Amount: 150 pairs, very small: under 200" in told
    assert advice.method == "dpo", "exchanged sides are no noise that smoothing answers"


def test_advice_does_not_answer_a_symptom(tmp_path):
    """Length that decides because a phrase was added calls for the phrase to go, not for simpo."""
    more = [row["rejected"] for row in clean(300, seed=9)]
    rows = [
        row | {"chosen": f"{row['chosen']} {text}"}
        for row, text in zip(clean(300), more, strict=True)
    ]
    found = audit(write(tmp_path / "data.jsonl", rows))
    ask = lambda: advise(found, MACHINE, model="m", data="d", held_out=None).method  # noqa: E731
    assert ask() == "simpo"
    found.findings = [
        finding("shortcuts.phrase", "warning"),
        *(
            AuditFinding(**{**vars(each), "explained_by": "shortcuts.phrase"})
            if each.check == "shortcuts.length"
            else each
            for each in found.findings
        ),
    ]
    assert ask() == "dpo"
