"""The audit of a run's own training rows: preflight.json agrees with `accord audit`, and the report
shows it.
"""

import json

import numpy as np
import pytest
from conftest import pair_rows, write_rows
from training.helpers import AUDITED, run

from accord.auditing.findings import AuditFinding, by_severity
from accord.auditing.run import audit, audit_dataset
from accord.auditing.run_rows import check_of, content_findings
from accord.data.read import read
from accord.pages.run import render
from accord.runs.recorded import Recorded

QUIET = AUDITED | {"monitor.samples": 0}
WORDS = "river stone cloud paper winter garden letter window music bridge market candle".split()


def twice(rows):
    """Every prompt asked twice, the second time with its answers turned round."""
    return rows + [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]


# ---------------------------------------------------------------- preflight and audit agree


def generated(seed: int, rows: int) -> list[dict]:
    """Pairs without a fault: different prompts, answers of like length, neither side longer."""
    draw = np.random.default_rng(seed)

    def text(words: int) -> str:
        return " ".join(draw.choice(WORDS, words)) + f" {draw.integers(10**9)}."

    return [
        {"prompt": f"{i}: {text(8)}", "chosen": text(12), "rejected": text(12)} for i in range(rows)
    ]


def some(seed: int, rows: list[dict], share: float) -> list[int]:
    count = max(1, round(share * len(rows)))
    return np.random.default_rng(seed + 1).permutation(len(rows))[:count].tolist()


def contradict(seed: int, rows: list[dict], share: float) -> list[dict]:
    return rows + twice(rows)[len(rows) :][: max(1, round(share * len(rows)))]


def repeat(seed: int, rows: list[dict], share: float) -> list[dict]:
    return rows + [rows[i] for i in some(seed, rows, share)]


def lengthen(seed: int, rows: list[dict], share: float) -> list[dict]:
    for i in some(seed, rows, share):
        rows[i]["chosen"] += " and more of this" * 3
    return rows


def refuse(seed: int, rows: list[dict], share: float) -> list[dict]:
    for i in some(seed, rows, share):
        rows[i]["rejected"] = "I cannot help with that, sorry about it, not today, number 5."
    return rows


def ask_once(seed: int, rows: list[dict], share: float) -> list[dict]:
    for i in some(seed, rows, share):
        rows[i]["prompt"] = "Always this?"
    return rows


def score(seed: int, rows: list[dict], share: float) -> list[dict]:
    for row in rows:
        row |= {"score_chosen": 4.0, "score_rejected": 2.0}
    for i in some(seed, rows, share):
        rows[i]["score_chosen"] = 1.0
    return rows


def tie(seed: int, rows: list[dict], share: float) -> list[dict]:
    for row in score(seed, rows, 0.001):
        row["score_rejected"] += 2.0 * (int(row["prompt"].split(":")[0]) < share * len(rows))
    return rows


# the audit's findings that need classifiers of texts
CLASSIFIED = ("shortcuts.length", "shortcuts.ngrams", "labels.noise")
FAULTS = (contradict, repeat, lengthen, refuse, ask_once, score, tie)
OF_TEXTS = (lengthen, refuse)  # what classifiers see; of the others they are asked at one share
# under and over most limits: an audit of 300 rows takes a second, and there are three a share
SHARES = (0.02, 0.7)


def preflight(file: str, sample: int = 0) -> dict[str, str]:
    """Give the verdict of each of preflight's checks on what the rows say."""
    found = audit_dataset(read(file, "pairs"), "pairs", sample)
    return {each.check: each.verdict for each in content_findings(found)}


def of_audit(findings: list[AuditFinding]) -> dict[str, str]:
    """Give the verdict that preflight must have by the audit's findings: that of the worst."""
    found: dict[str, list[AuditFinding]] = {}
    for each in findings:
        found.setdefault(check_of(each.check) or "", []).append(each)
    found.pop("", None)
    worst = {name: by_severity(each)[0].verdict for name, each in found.items()}
    return {name: "warning" if each == "refused" else each for name, each in worst.items()}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_preflight_and_audit_never_contradict_each_other(fault, tmp_path):
    """Files of 300 rows with one kind of fault in a growing share of them.

    The classifiers are in both verdicts, or in none.
    """
    for seed, share in enumerate(SHARES):
        file = write_rows(tmp_path / f"{seed}.jsonl", fault(seed, generated(seed, 300), share))
        whole = audit(file).findings
        if share == SHARES[-1] or fault in OF_TEXTS:
            assert preflight(file, sample=2000) == of_audit(whole)
        rules = [each for each in whole if each.check not in CLASSIFIED]
        told, expected = preflight(file, sample=0), of_audit(rules)
        for each in (told, expected):  # a rule may be the symptom of what only texts show
            each.pop("data.shortcut", None)
        assert told == expected


@pytest.mark.parametrize(
    ("fault", "share", "check"),
    [
        (contradict, 0.02, "data.contradictions"),
        (repeat, 0.12, "data.repeats"),
        (ask_once, 0.8, "data.prompts"),
        (lengthen, 0.9, "data.shortcut"),
        (refuse, 0.9, "data.shortcut"),
        (score, 0.3, "data.scores"),
        (tie, 0.5, "data.scores"),
    ],
)
def test_each_fault_is_raised_by_its_own_check(fault, share, check, tmp_path):
    clean = preflight(write_rows(tmp_path / "clean.jsonl", generated(0, 400)))
    found = preflight(write_rows(tmp_path / "f.jsonl", fault(0, generated(0, 400), share)))
    assert "warning" not in clean.values() and "data.scores" not in clean
    assert found[check] == "warning"


def test_every_row_is_looked_at_and_only_classifiers_see_a_sample(tmp_path):
    """One contradiction in 3,000 rows is found and shown, although 100 texts are read."""
    rows = contradict(0, generated(0, 3000), 1 / 3000)
    dataset = read(str(write_rows(tmp_path / "pairs.jsonl", rows)), "pairs")
    found = audit_dataset(dataset, "pairs", 100)
    opposed = found.always("integrity.contradictions")
    assert opposed.evidence["count"] == 2 and rows[-1]["prompt"] in opposed.places[0].excerpt
    assert len(found.scan) == 3001 and found.as_dict()["sample"] == 100


def test_the_ledger_is_that_of_the_whole_file(tmp_path):
    rows = [*twice(pair_rows(60)), {"prompt": "alone"}]
    found = audit_dataset(read(str(write_rows(tmp_path / "pairs.jsonl", rows))), "pairs")
    opposed = found.always("integrity.contradictions")
    assert found.verdict == "unfit" and opposed.evidence["share"] == 1.0
    assert "Question" in opposed.places[0].excerpt
    assert found.as_dict()["rows"] == 121 and len(found.scan) == 120


# ---------------------------------------------------------------- a run keeps it


def test_it_is_kept_said_and_shown(tiny_folder, tmp_path):
    data = write_rows(tmp_path / "pairs.jsonl", twice(pair_rows(20)))
    folder = run(
        tiny_folder, data, tmp_path / "run", steps=1, set=QUIET | {"monitor.audit_rows": 9}
    ).folder
    kept = json.loads((folder / "audit.json").read_text())
    assert (kept["verdict"], kept["sample"], kept["of"]) == ("unfit", 9, 40)
    checks = {f["check"]: f for f in json.loads((folder / "preflight.json").read_text())}
    said = checks["data.audit"]
    opposed = checks["data.contradictions"]
    assert opposed["verdict"] == "warning" and opposed["says"].startswith("40 of 40 pairs")
    assert opposed["evidence"]["audit"]["integrity.contradictions"] == "refused"
    assert said["verdict"] == "warning" and said["remedy"] == f"accord audit {data}"
    assert said["says"].startswith("UNFIT, very small: pairs.jsonl, 40 pairs (Contradictory pairs")
    assert said["says"] == kept["headline"]
    page = render([Recorded.open(str(folder))])
    assert (
        f"<h3>Audit: {kept['headline']}</h3>" in page
        and "All 40 training rows; its classifiers read 9 of them." in page
        and f"accord audit {data} --fix cleaned.jsonl" in page
    )


def test_none_was_wanted(tiny_folder, pairs_file, tmp_path):
    folder = run(
        tiny_folder, pairs_file, tmp_path / "run", steps=1, set=QUIET | {"monitor.audit_rows": 0}
    ).folder
    assert not (folder / "audit.json").exists() and "No audit was kept" in render(
        [Recorded.open(str(folder))]
    )
    checks = (folder / "preflight.json").read_text()
    assert "data.audit" not in checks and "data.contradictions" in checks


def test_no_rows_are_read_of_two_files(tmp_path):
    """With `monitor.audit_rows=0` the comparison with the held-out file ended in an error."""

    def labels(count, start):
        return [
            {"prompt": row["prompt"], "completion": row["chosen"], "label": bool(number % 2)}
            for number, row in enumerate(pair_rows(count, start))
        ]

    for rows, kind in ((pair_rows, "pairs"), (labels, "labelled")):
        files = (write_rows(tmp_path / f"{start}.jsonl", rows(60, start)) for start in (0, 100))
        train, held_out = (read(file, kind) for file in files)
        found = audit_dataset(train, train.kind, 0, held_out=held_out).findings
        assert any(each.check.startswith("held_out") for each in found)


def test_a_file_of_one_row(tiny_folder, tmp_path):
    """Nothing can be fitted on it; it is audited all the same."""
    data = write_rows(tmp_path / "pairs.jsonl", pair_rows(1))
    folder = run(tiny_folder, data, tmp_path / "run", steps=1, batch_size=1, set=QUIET).folder
    assert json.loads((folder / "audit.json").read_text())["examples"] == 1
