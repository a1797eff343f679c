"""SilentBench's part on files: what it plants, that seeds decide everything, and its rule."""

from __future__ import annotations

import copy
import random
import sys
from pathlib import Path

import pytest
from conftest import assert_no_faults

sys.path.insert(0, str(Path(__file__).parents[2]))

from accord.auditing.findings import AuditFinding, Place
from benchmarks.silentbench.files import bases, clean, trial, words
from benchmarks.silentbench.files.__main__ import former
from benchmarks.silentbench.files.material import (
    Inert,
    Kind,
    Material,
    Planted,
    change,
    prompt_key,
    text,
)
from benchmarks.silentbench.files.rule import RULES, SHOWS, Rule, is_accusation, judge
from benchmarks.silentbench.files.table import counts, table


def pair(i: int, rng) -> dict:
    """A pair of a few sentences: capitals, stops and commas to be changed."""
    prompt = f"{words.lead(rng)} What about the {rng.choice(words.NOUNS)}, number {i}?"
    good, bad = (f"{words.signature(rng)} It's fine, says {i}. Yes." for _ in range(2))
    return {"prompt": prompt, "chosen": f"{good} {i * 7}.", "rejected": f"{bad} {i * 11}."}


@pytest.fixture
def small(monkeypatch):
    """Stand in for the real sets: two small sets of pairs and two of labelled rows."""

    def rows(data, base):
        rng = random.Random(base.name)
        made = [pair(i, rng) for i in range(420)]
        if not base.labelled:
            return tuple(made)
        return tuple(
            {
                "prompt": row["prompt"],
                "completion": row["chosen" if i % 3 else "rejected"],
                "label": bool(i % 3),
            }
            for i, row in enumerate(made)
        )

    monkeypatch.setattr(bases, "all_rows", rows)
    bases.drawn.cache_clear()
    yield Path("nowhere")
    bases.drawn.cache_clear()


def of_seed(seed: int) -> list[trial.Draw]:
    """One draw of pairs and one of labelled rows for each kind."""
    found = []
    for kind in trial.KINDS:
        share = 0.3 if 0.3 in kind.shares else kind.shares[0]
        if kind.pairs:
            found.append(trial.Draw(kind.name, "truthfulqa", seed, share))
        if kind.labelled:
            found.append(trial.Draw(kind.name, "truthfulqa_kto", seed, share))
    return found


def files(material: Material) -> tuple:
    return material.train, material.held


def test_every_kind_has_a_rule_and_every_rule_a_kind():
    assert set(RULES) == set(trial.BY_KIND)
    assert len(trial.KINDS) == len(trial.BY_KIND) >= 48


def test_every_kind_changes_exactly_the_rows_that_it_says(small):
    def faults(draw):
        sound, spoiled, planted = trial.planted(small, draw)
        if planted.added:
            rest = [row for i, row in enumerate(spoiled.train) if i not in set(planted.added)]
            return [] if rest == sound.train else ["the other rows are not what they were"]
        if planted.moved:
            return [] if files(sound) != files(spoiled) else ["nothing changed"]
        pairs = zip(sound.train, spoiled.train, strict=True)
        changed = [i for i, (before, after) in enumerate(pairs) if before != after]
        held = zip(sound.held_rows, spoiled.held_rows, strict=True)
        changed_held = [i for i, (before, after) in enumerate(held) if before != after]
        if changed != planted.touched or changed_held != planted.touched_held:
            return [f"{len(changed)} rows changed, {len(planted.touched)} are said to be"]
        return [] if changed or changed_held else ["nothing changed"]

    assert_no_faults(of_seed(1) + of_seed(2), faults)


def test_a_share_is_the_share_of_rows(small):
    """Wrecks and shortcuts touch the rows of one side: all of the pairs, or the labelled rows with
    that label.
    """

    def faults(draw):
        _, spoiled, planted = trial.planted(small, draw)
        rows = len(spoiled.train)
        least = 0.2 if spoiled.labelled else 0.6  # one label's rows; rows that can be changed
        touched = len(planted.touched)
        return [] if least * 0.3 * rows <= touched <= 0.35 * rows else [f"{touched} of {rows}"]

    some = [d for d in of_seed(3) if trial.BY_KIND[d.kind].item in ("wrecks", "shortcuts")]
    some = [d for d in some if d.share == 0.3 and d.kind != "column tells the label"]
    assert_no_faults(some, faults)


def test_a_seed_decides_and_another_seed_differs(small):
    def faults(draw):
        first, again = trial.planted(small, draw)[1], trial.planted(small, draw)[1]
        other = trial.planted(small, trial.Draw(draw.kind, draw.base, 78, draw.share))[1]
        found = [] if files(first) == files(again) else ["the same seed gives other rows"]
        return found + ([] if files(first) != files(other) else ["another seed gives the same"])

    assert_no_faults(of_seed(77), faults)


def test_the_rows_of_a_draw_are_never_changed(small):
    material = bases.drawn(small, bases.BASES[0], 5)
    rows = copy.deepcopy(material.train)
    for draw in of_seed(5):
        if draw.base == "truthfulqa":
            trial.planted(small, draw)
    assert material.train == rows  # one cached draw serves all kinds


def test_training_and_held_out_rows_share_no_prompt(small):
    for seed in range(4):
        material = bases.drawn(small, bases.BASES[0], seed)
        train = {prompt_key(row) for row in material.train}
        assert not train & {prompt_key(row) for row in material.held_rows}
        assert len(material.train) >= bases.FEWEST and len(material.held_rows) >= 60


def test_every_share_meets_every_set():
    draws = [d for d in trial.draws(range(100, 110)) if d.kind == "sentinel"]
    pairs = [d for d in draws if not d.base.endswith("kto")]
    assert len(pairs) == 40
    for share in (1.0, 0.3, 0.1, 0.03):
        assert sum(d.share == share for d in pairs) == 10
        assert {d.base for d in pairs if d.share == share} == {base.name for base in bases.PAIRS}


def test_what_cannot_be_planted_is_inert(small):
    material = bases.drawn(small, bases.BASES[0], 1).copied(random.Random(0), 0.3)
    with pytest.raises(Inert, match="0 of"):
        change(material, "chosen", lambda old: old)


# --- the rule


def finding(check, verdict="warning", says="", **more) -> AuditFinding:
    return AuditFinding(check, verdict, says, **more)


RULE = Rule({"shortcuts.phrase": SHOWS, "wrecks.cut": "", "labels.numbers_*": SHOWS}, ("marks.*",))
PLANTED = Planted([1], "", shows=("I hope the warm shelf is clearer now!",))


def word(*after, before=(), planted=PLANTED) -> str:
    return judge(RULE, planted, before, after).word


def test_a_finding_must_show_the_phrase():
    assert word(finding("shortcuts.phrase", says="“I hope the warm shelf is cl…”")) == "named"
    assert word(finding("shortcuts.phrase", says="… shelf is clearer now!")) == "named"
    assert word(finding("shortcuts.phrase", says="“the warm shelf is”")) == "named"
    assert word(finding("shortcuts.phrase", says="“the warm shelf”")) == "other cause"
    assert word(finding("shortcuts.phrase", says="one side says “I hope”")) == "other cause"
    excerpt = Place("f:1", "", excerpt="I hope the warm shelf is clearer now!")
    assert word(finding("shortcuts.phrase", places=(excerpt,))) == "other cause"
    detail = Place("f:1", "I hope the warm shelf is clearer now!")
    assert word(finding("shortcuts.phrase", places=(detail,))) == "named"


def test_a_column_may_stand_in_the_checks_name():
    planted = Planted([1], "", shows=("rm_margin",))
    assert word(finding("labels.numbers_rm_margin"), planted=planted) == "named"
    assert word(finding("labels.numbers_other"), planted=planted) == "other cause"


def test_short_marks_are_shown_as_they_are():
    for mark, says, right in (
        ("(A)", "answers begin with “(A)”", True),
        ("(A)", "A warning", False),
        ("\u00a0", "answers begin with “\\xa0”", True),
        ("1200", "cut at 1,200 characters", True),
        ("120", "cut at 1,200 characters", False),
    ):
        found = word(
            finding("shortcuts.phrase", says=says), planted=Planted([1], "", shows=(mark,))
        )
        assert (found == "named") is right, (mark, says)


def test_what_the_sound_rows_raise_does_not_count():
    cut = finding("wrecks.cut", evidence={"share": 0.05})
    assert word(cut) == "named"
    assert word(cut, before=[cut]) == "missed"
    assert word(cut, before=[finding("wrecks.cut", "ok")]) == "named"
    assert word(cut, before=[finding("wrecks.cut", "note")]) == "named"
    assert word(cut, before=[finding("wrecks.cut", "refused")]) == "missed"
    assert word(finding("wrecks.cut", evidence={"share": 0.1}), before=[cut]) == "named"
    assert word(finding("wrecks.cut", evidence={"share": 0.09}), before=[cut]) == "missed"


def test_words_of_a_verdict():
    assert word() == "missed"
    assert word(finding("x.y", "note")) == "missed"
    assert word(finding("x.y")) == "other cause"
    assert word(finding("x.y", aspect="size")) == "missed"
    assert word(finding("marks.ends")) == "missed"  # rightly said beside, but it names nothing
    verdict = judge(RULE, PLANTED, [], [finding("wrecks.cut", "note"), finding("x.y")])
    assert (verdict.word, verdict.loud, verdict.beside) == ("named", False, ("x.y",))
    symptom = finding("x.y", explained_by="wrecks.cut")
    assert judge(RULE, PLANTED, [], [finding("wrecks.cut"), symptom]).beside == ()
    extra = Planted([1], "", extra=("x.*",))
    assert judge(RULE, extra, [], [finding("x.y")]).word == "named"


def test_a_file_that_cannot_be_read_is_a_finding(tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_text('{"prompt": "a", "chosen": "", "rejected": ""}\n')
    assert [(f.check, f.verdict) for f in trial.audit_file(file)] == [("read", "refused")]


def test_the_table_counts(tmp_path):
    case = {"kind": "sentinel", "item": "wrecks", "base": "truthfulqa", "seed": 1, "share": 0.3}
    case |= {"verdict": "named", "loud": True, "beside": [], "says": "", "check": "c"}
    other = {**case, "verdict": "other cause", "says": "digits"}
    small_share = {**case, "share": 0.1, "verdict": "missed"}
    record = {"cases": [case, other, small_share, {**case, "verdict": "inert"}]}
    alarm = {"check": "x.y", "verdict": "warning", "says": "bad"}
    record["clean"] = [
        {"kind": "SQL", "seed": 1, "size": 80, "alarms": []},
        {"kind": "code", "seed": 1, "size": 80, "alarms": [alarm]},
    ]
    found = counts(record)
    assert found["headline"]["in all"] == 2 and found["headline"]["named"] == 1
    assert found["shares"]["10%"]["missed"] == 1 and found["bench"]["inert"] == 1
    assert found["clean"]["false alarms"] == 1 and found["clean"]["share"]["value"] == 0.5
    shown = table(record, every=True)
    assert "50% (1%–99%) named of 2" in shown and "clean, code 1: x.y: bad" in shown
    assert former(tmp_path / "none.json") == {"cases": [], "clean": []}


# --- clean files

SYNTHETIC = [kind for kind in clean.KINDS if not kind.startswith(("real", "grade"))]


def test_clean_files_are_decided_by_their_seed(monkeypatch):
    monkeypatch.setattr(clean, "SIZES", (60,))

    def faults(kind):
        first, again = (clean.rows_of(Path("nowhere"), kind, 4) for _ in range(2))
        other = clean.rows_of(Path("nowhere"), kind, 5)
        found = [] if first == again else ["the same seed gives other rows"]
        found += [] if first != other else ["another seed gives the same rows"]
        rows, held = first
        found += (
            [] if 30 <= len(rows) <= 80 or kind == "honest duplicates" else [f"{len(rows)} rows"]
        )
        shared = {prompt_key(row) for row in rows} & {prompt_key(row) for row in held or ()}
        return found + (["a prompt stands in both files"] if shared else [])

    assert len(SYNTHETIC) >= 40
    assert_no_faults(SYNTHETIC, faults)


def test_clean_pairs_differ_and_length_does_not_tell():
    """The chosen answer is the longer one in 35 to 65 % of the pairs that differ in length."""

    def faults(kind):
        rows, _ = clean.rows_of(Path("nowhere"), kind, 11)
        sizes = [(len(text(r, "chosen")), len(text(r, "rejected"))) for r in rows if "chosen" in r]
        equal = [r for r in rows if "chosen" in r and r["chosen"] == r["rejected"]]
        longer = [a > b for a, b in sizes if a != b]
        found = [f"{len(equal)} pairs are equal"] if equal else []
        if len(longer) > 60 and not 0.35 <= sum(longer) / len(longer) <= 0.65:
            found.append(f"the longer one wins {sum(longer)} of {len(longer)}")
        return found

    assert_no_faults(SYNTHETIC, faults)


def test_only_accusations_of_quality_are_false_alarms():
    assert is_accusation(finding("x.y")) and is_accusation(finding("x.y", "refused"))
    assert not is_accusation(finding("x.y", "note"))
    assert not is_accusation(finding("x.y", aspect="size"))


def test_a_kind_says_where_it_can_be_planted():
    kind = trial.BY_KIND["other labels held out"]
    assert isinstance(kind, Kind) and not kind.pairs and kind.held
    assert {d.base for d in trial.draws([1, 2], kind.name)} == {
        base.name for base in bases.LABELLED
    }
