"""Marks of other models in a whole file: the shares by side, the verdicts, and what is shown."""

from __future__ import annotations

import json
import random

import pytest
from auditing.rows import labelled, write
from data.about_marks import row_about_marks
from data.rendered import STYLES, conversation, plain_row

from accord.auditing.checks.marks import WORDS
from accord.auditing.findings import FEW_ROWS
from accord.auditing.run import audit
from accord.auditing.tables.marks import BITS, MarkTable
from accord.auditing.thresholds import limit
from accord.data.foreign_marks import KINDS
from accord.errors import UsageError
from accord.types import Demonstration, Origin, Turn

ROWS = 200
SHARES = (0.01, 0.2, 1.0)


def marks(found) -> dict[str, object]:
    return {each.check: each for each in found.findings if each.check.startswith("marks.")}


def rendered(name: str, share: float, sides: tuple[str, ...], seed: int = 0) -> list[dict]:
    """Rows of which a share is rendered by one template, at these sides."""
    rng = random.Random(f"{name}{share}{sides}{seed}")
    rows = [plain_row(rng) for _ in range(ROWS)]
    style = STYLES[name]
    for row in rng.sample(rows, round(share * ROWS)):
        for side in sides:
            if side == "prompt":
                row[side] = style.prompt(conversation(rng)[-1:])
            else:
                row[side] += style.end
    return rows


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize(
    "name",
    ["chatml", "llama 2", "llama 3", "zephyr", "alpaca, preamble", "vicuna", "deepseek", "unknown"],
)
def test_rendered_prompts_are_found_at_any_share(name, share, tmp_path):
    found = marks(audit(write(tmp_path / "a.jsonl", rendered(name, share, ("prompt",))), sample=0))
    assert list(found) == ["marks.frames"]
    finding = found["marks.frames"]
    assert finding.evidence["shares"] == {"prompts": share, "chosen": 0, "rejected": 0}
    assert all(family.startswith(STYLES[name].family) for family in finding.evidence["families"])
    assert finding.verdict == ("refused" if share >= 0.05 else "warning")
    assert len(finding.places) == (2 if share == 0.01 else 3)


@pytest.mark.parametrize("share", SHARES)
@pytest.mark.parametrize("sides", [("chosen",), ("rejected",), ("chosen", "rejected")])
def test_end_tokens_are_counted_by_side(sides, share, tmp_path):
    rows = rendered("chatml", share, sides)
    found = marks(audit(write(tmp_path / "a.jsonl", rows), sample=0))["marks.ends"]
    expected = {side: share * (side in sides) for side in ("prompts", "chosen", "rejected")}
    assert found.evidence["shares"] == expected
    assert found.evidence["gap"] == (share if len(sides) == 1 else 0)
    one_sided = len(sides) == 1 and share >= limit("marks_gap")
    assert ("shortcut" in found.why) == one_sided == found.title.endswith(", on one side")
    few = share * ROWS < FEW_ROWS
    assert found.verdict == ("note" if few else "refused" if share > 0.01 else "warning")


def test_no_row_and_no_mark_is_one_line_that_is_ok(tmp_path):
    rng = random.Random(0)
    file = write(tmp_path / "a.jsonl", [plain_row(rng) for _ in range(ROWS)])
    found = marks(audit(file, sample=0))
    assert [(each.check, each.verdict) for each in found.values()] == [("marks.none", "ok")]


def test_a_file_about_marks_is_silent(tmp_path):
    rng = random.Random(1)
    file = write(tmp_path / "a.jsonl", [row_about_marks(rng) for _ in range(400)])
    assert list(marks(audit(file, sample=0))) == ["marks.none"]


def test_two_rows_make_no_file_unfit(tmp_path):
    """Two of ten are 20 %, and may be two quotations."""
    rng = random.Random(2)
    rows = [plain_row(rng) for _ in range(10)]
    for count, verdict in ((2, "note"), (3, "refused")):
        for row in rows[:count]:
            row["chosen"] = row["chosen"].removesuffix("</s>") + "</s>"
        found = audit(write(tmp_path / f"{count}.jsonl", rows), sample=0)
        assert marks(found)["marks.ends"].verdict == verdict


def test_labelled_answers_are_counted_by_label(tmp_path):
    rows = labelled(200)
    for row in rows:
        row["completion"] += "</s>" * row["label"]
    good = sum(row["label"] for row in rows)
    finding = marks(audit(write(tmp_path / "a.jsonl", rows), sample=0))["marks.ends"]
    assert finding.evidence["shares"] == {"prompts": 0, "desirable": 1, "undesirable": 0}
    assert (
        finding.evidence["gap"] == 1 and f"{good:,} of {good:,} desirable (100 %)" in finding.says
    )


def test_each_kind_of_fault_has_a_finding_with_its_remedy(tmp_path):
    rng = random.Random(3)
    rows = [plain_row(rng) for _ in range(110)]
    for row in rows[:20]:
        row["prompt"] = f"<|user|>\n{row['prompt']}\n<|assistant|>\n"
    for row in rows[20:40]:
        row["chosen"] += "</s>"
    for row in rows[40:60]:
        row["chosen"] += "\n\nHuman: And then?"
    for row in rows[60:80]:
        row["rejected"] = f"{row['prompt']} {row['rejected']}"
    for row in rows[80:100]:
        row["prompt"] += f"\nAnswer: {row['chosen']}"
    found = marks(audit(write(tmp_path / "a.jsonl", rows), sample=0))
    assert {*found} == {words.check for words in WORDS.values()}
    for finding in found.values():
        assert finding.evidence["rows"] == 20 and finding.remedy and finding.why
        assert finding.command == "--fix OUT --drop marks" and len(finding.places) == 3
    assert found["marks.repeated_prompt"].evidence["shares"]["rejected"] == 20 / 110
    assert found["marks.next_turn"].places[0].at.endswith("a.jsonl:41")
    assert found["marks.next_turn"].places[0].detail.endswith("⏎ Human: And then?")


def test_places_are_safe_to_print(tmp_path):
    rows = [
        {"prompt": f"Is it {i}?", "chosen": f"\x1b[31mYes\u202e {i}.</s>", "rejected": f"No {i}!"}
        for i in range(30)
    ]
    places = marks(audit(write(tmp_path / "a.jsonl", rows), sample=0))["marks.ends"].places
    assert places and all(place.detail.isprintable() for place in places)


def test_marked_rows_can_be_left_out(tmp_path):
    rows = rendered("zephyr", 0.2, ("prompt", "rejected"))
    file = write(tmp_path / "a.jsonl", rows)
    from accord.auditing.fix import Options

    out = tmp_path / "clean.jsonl"
    found = audit(file, sample=0, fix_to=out, options=Options(drop=("marks",)))
    assert found.cleaned.removed == {"marks of another model, or a repeated text": ROWS // 5}
    kept = [json.loads(line) for line in out.read_text().splitlines()]
    assert kept == [row for row in rows if "<|" not in row["prompt"]]
    assert list(marks(audit(out, sample=0))) == ["marks.none"]
    with pytest.raises(UsageError, match="no rule"):
        audit(file, fix_to=tmp_path / "b.jsonl", options=Options(drop=("mark",)))


def test_the_command_is_left_out_where_nothing_would_be_left(tmp_path):
    found = audit(write(tmp_path / "a.jsonl", rendered("zephyr", 1.0, ("prompt",))), sample=0)
    assert marks(found)["marks.frames"].command == ""


def test_a_table_of_rows_without_a_pair(tmp_path):
    turns, here = (Turn("user", "Is it so?"),), Origin("a", 1)
    table = MarkTable.of(
        [Demonstration(turns, "Yes.</s>", here), Demonstration(turns, "Yes.", here)]
    )
    assert table.sides("end") == {"prompts": (0, 2), "answers": (1, 2)}
    assert table.marked.tolist() == [True, False] and len(BITS) == len(KINDS)


REAL = (
    "hh_harmless/transcripts.jsonl.gz",
    "hh_helpful/train.jsonl.gz",
    "hh_helpful/test.jsonl.gz",
    "truthfulqa/pairs_train.jsonl",
    "truthfulqa/kto_train.jsonl.gz",
    "ultrafeedback_small/pairs_train.jsonl.gz",
    "gsm8k/train.jsonl.gz",
    "permissive_mix/train.jsonl.gz",
    "permissive_mix/kto_train.jsonl.gz",
)


@pytest.mark.parametrize("name", REAL)
def test_no_published_set_is_refused_and_its_faults_are_found(name, shared_data):
    """The rates that the thresholds rest on are at most a tenth of them."""
    from accord.auditing.checks.marks import mark_findings
    from accord.data.containers import locate
    from accord.data.read import stream

    with locate(shared_data(name)) as source:
        table = MarkTable.of(stream(source))
    found = mark_findings(table, str)
    for finding in found:
        assert finding.verdict in ("ok", "note", "warning"), finding.says
        assert finding.evidence.get("share", 0.0) < limit("marks_unfit") / 10, finding.says
    if name.startswith("ultrafeedback"):
        # real: another model's end token, with the next question behind it
        assert next(f for f in found if f.check == "marks.ends").evidence["rows"] == 4
