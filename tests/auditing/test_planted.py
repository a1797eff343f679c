"""Each finding has a file that must raise it; the clean file must raise none of them."""

from __future__ import annotations

import csv
import random
from pathlib import Path
from types import SimpleNamespace

import pytest
from auditing.rows import (
    BAD,
    FILL,
    GOOD,
    clean,
    flipped,
    labelled,
    scored,
    sentence,
    slipped,
    write,
)

from accord.auditing.advise import choose_method
from accord.auditing.findings import AuditFinding
from accord.auditing.run import audit
from accord.auditing.thresholds import limit
from accord.errors import UsageError
from accord.objectives import OBJECTIVES, resolve
from accord.objectives.labelled import BALANCE


def _empty(rows):
    return [row | {"chosen": "  "} if i % 50 == 0 else row for i, row in enumerate(rows)]


def _broken(rows):
    return [*rows, '{"prompt": "half a row', '{"prompt": 3}']


def _same_folded(rows):
    return [
        row | {"rejected": row["chosen"].upper() + "  "} if i % 20 == 0 else row
        for i, row in enumerate(rows)
    ]


def _near_identical(rows):
    long = [
        row | {"chosen": row["chosen"] * 6, "rejected": row["chosen"] * 6 + " ok"}
        for row in rows[:60]
    ]
    return long + rows[60:]


def _near_copies(rows):
    return (
        rows
        + [
            {k: v + "!" if k == "chosen" else v for k, v in row.items()}
            | {"chosen": 3 * row["chosen"] + "!", "rejected": 3 * row["rejected"]}
            for row in rows[:40]
        ]
        + [
            row | {"chosen": 3 * row["chosen"], "rejected": 3 * row["rejected"]}
            for row in rows[:40]
        ]
    )


def _opposed(rows):
    return rows + [
        {"prompt": r["prompt"], "chosen": r["rejected"], "rejected": r["chosen"]} for r in rows[:8]
    ]


def _cycles(rows):
    third = [row["chosen"].replace(".", " indeed.") for row in rows[:5]]
    more = [
        {"prompt": r["prompt"], "chosen": r["rejected"], "rejected": t}
        for r, t in zip(rows[:5], third, strict=True)
    ]
    return (
        rows
        + more
        + [
            {"prompt": r["prompt"], "chosen": t, "rejected": r["chosen"]}
            for r, t in zip(rows[:5], third, strict=True)
        ]
    )


def _one_prompt(rows):
    return [
        row | {"prompt": "What is the best way to cross the old bridge?"} if i < 120 else row
        for i, row in enumerate(rows)
    ]


def _near_prompts(rows):
    base = (
        "Summarise the following report about the harbour, the market and the castle in three"
        " sentences, please, for the council"
    )
    return [row | {"prompt": slipped(base, i)} if i < 60 else row for i, row in enumerate(rows)]


def _foreign(rows):
    english = "What is the best way to get to the old bridge for it is not on this map"
    german = (
        "Das ist nicht der Weg und die Brücke ist auch nicht auf der Karte, es wird nicht mit dem"
        " Bus sein."
    )
    own = "It is not on this map and the way to the bridge is for you to find with it."
    return [
        (
            row
            | {
                "prompt": f"{english} {i}",
                "chosen": german + row["chosen"],
                "rejected": own + row["rejected"],
            }
            if i < 40
            else row
        )
        for i, row in enumerate(rows)
    ]


def _longer(rows):
    rng = random.Random(2)
    return [
        (
            row | {"chosen": row["chosen"] + " " + sentence(rng, GOOD, 8)}
            if rng.random() < 0.6
            else row
        )
        for row in rows
    ]


def _bullets(rows):
    """Lists behind a first word: one that opened the answer would be a signature."""
    return [
        row | {"chosen": row["chosen"].replace(" ", "\n- ", 4)} if i % 2 else row
        for i, row in enumerate(rows)
    ]


def _refusals(rows):
    """Refusals in many words: one sentence in all of them would be a signature."""
    rng = random.Random(3)

    def refusal():
        no = rng.choice(("I cannot", "I can't", "I am unable to", "I won't", "I will not"))
        return f"{no} {rng.choice(('help', 'speak', 'write', 'judge'))} of {rng.choice(FILL)}"

    return [
        row | {"rejected": f"{refusal()}, {row['rejected']}"} if rng.random() < 0.12 else row
        for row in rows
    ]


def _models(rows):
    return [
        row
        | {
            "chosen_model": "large" if i % 10 else "small",
            "rejected_model": "small" if i % 10 else "large",
        }
        for i, row in enumerate(rows)
    ]


def _sources(rows):
    return [
        row | {"source": "a" if row["label"] != (i % 10 == 0) else "b"}
        for i, row in enumerate(rows)
    ]


def _conflicts(rows):
    return [
        (
            r | {"score_chosen": r["score_rejected"], "score_rejected": r["score_chosen"]}
            if i % 4 == 0
            else r
        )
        for i, r in enumerate(rows)
    ]


def _swapped(rows):
    return [
        r | {"score_chosen": r["score_rejected"], "score_rejected": r["score_chosen"]} for r in rows
    ]


def _near_ties(rows):
    return [
        r | {"score_chosen": r["score_rejected"] + 0.25} if i % 5 == 0 else r
        for i, r in enumerate(rows)
    ]


def _both_bad(rows):
    return [
        r | {"score_chosen": 2, "score_rejected": 1} if i % 5 == 0 else r
        for i, r in enumerate(rows)
    ]


def _spike(rows):
    return [
        (
            r | {"score_rejected": 1}
            if i % 10 == 0
            else r | {"score_rejected": 2}
            if i % 100 == 1
            else r
        )
        for i, r in enumerate(rows)
    ]


def _votes(rows):
    return [
        r | {"votes_chosen": 1 if i % 20 == 0 else 5, "votes_rejected": 4 if i % 20 == 0 else 0}
        for i, r in enumerate(rows)
    ]


def _context(rows):
    """Give half of the rows material that no format reads."""
    return [
        row | ({"context": f"the passage of row {n}"} if n % 2 else {})
        for n, row in enumerate(rows)
    ]


def _mixed_kinds(rows):
    return rows + [{"prompt": "What is this?", "completion": "A bridge.", "label": True}] * 3


def _long(rows):
    return [
        row | {"prompt": row["prompt"] + " and so on and on" * 400} if i % 10 == 0 else row
        for i, row in enumerate(rows)
    ]


def _repeats(rows):
    return rows + rows[:30]


# finding -> (rows to start from, what plants the fault, verdicts that it may have)
PLANTED = {
    "integrity.ledger": (clean, _empty, {"warning"}),
    "columns.unread": (clean, _context, {"refused"}),
    "integrity.kind": (clean, _mixed_kinds, {"warning"}),
    "integrity.duplicates": (clean, _repeats, {"warning"}),
    "integrity.near_duplicates": (clean, _near_copies, {"warning"}),
    "integrity.contradictions": (clean, _opposed, {"warning"}),
    "integrity.cycles": (clean, _cycles, {"warning"}),
    "integrity.same_answers": (clean, _same_folded, {"warning"}),
    "integrity.language": (clean, _foreign, {"warning"}),
    "hardness.near_identical": (clean, _near_identical, {"note"}),
    "diversity.repeated_prompts": (clean, _one_prompt, {"warning"}),
    "diversity.near_prompts": (clean, _near_prompts, {"note"}),
    "shortcuts.characters": (clean, _longer, {"note"}),  # explained by shortcuts.length
    "shortcuts.length": (clean, _longer, {"warning"}),
    "shortcuts.list_items": (clean, _bullets, {"warning"}),
    "shortcuts.refusal": (clean, _refusals, {"note"}),
    "shortcuts.column_model": (clean, _models, {"warning"}),
    "shortcuts.column_source": (labelled, _sources, {"warning"}),
    "labels.noise": (lambda: clean(mixed=0.0), lambda rows: flipped(rows, 0.25), {"warning"}),
    "labels.declared": (
        clean,
        lambda rows: [r | {"noise": {"selected": i % 5 == 0}} for i, r in enumerate(rows)],
        {"warning"},
    ),
    "labels.scores": (scored, _conflicts, {"warning"}),
    "labels.near_ties": (scored, _near_ties, {"warning"}),
    "labels.both_bad": (scored, _both_bad, {"note"}),
    "labels.score_spike": (scored, _spike, {"warning"}),
    "labels.votes": (clean, _votes, {"warning"}),
    "kto.balance": (
        labelled,
        lambda rows: [r for i, r in enumerate(rows) if not r["label"] or i % 4 == 0],
        {"note"},
    ),
    "lengths.characters": (clean, _long, {"note"}),
}


@pytest.mark.parametrize("check", PLANTED)
def test_a_planted_fault_is_found(check, tmp_path):
    start, plant, verdicts = PLANTED[check]
    found = audit(write(tmp_path / "data.jsonl", plant(start()))).find(check)
    assert found is not None and found.verdict in verdicts, found
    assert found.why and found.remedy and found.harm > 0, (
        "a finding says why it matters and what to do"
    )
    if check not in (
        "integrity.kind",
        "diversity.near_prompts",
        "shortcuts.length",
        "kto.balance",
        "lengths.characters",
    ):
        assert found.places and all(f"{tmp_path}/data.jsonl:" in place.at for place in found.places)


@pytest.mark.parametrize("start", [clean, labelled, scored], ids=lambda start: start.__name__)
def test_a_clean_file_raises_nothing_but_its_size(start, tmp_path):
    found = audit(write(tmp_path / "data.jsonl", start()))
    said = ("shortcuts.ngrams", "integrity.use")  # notes: what a probe reads, what labels are for
    raised = [each.check for each in found.raised if each.check not in said]
    assert raised == ["diversity.size"], [(each.check, each.says) for each in found.raised]
    assert found.always("shortcuts.ngrams").verdict == "note"
    assert found.verdict == "fit" and found.judged.size == "small"


def test_swapped_columns_make_a_file_unfit(tmp_path):
    found = audit(write(tmp_path / "data.jsonl", _swapped(scored())))
    assert found.verdict == "unfit" and found.findings[0].check == "labels.scores"
    assert (
        found.findings[0].evidence["swapped"] and "exchange the columns" in found.findings[0].remedy
    )


def test_broken_lines_are_named(tmp_path):
    found = audit(write(tmp_path / "data.jsonl", _broken(clean()))).find("integrity.ledger")
    assert found.evidence["rejected"] == 2 and {
        place.at.rsplit(":", 1)[1] for place in found.places
    } == {"401", "402"}


def test_one_label_only_is_unfit(tmp_path):
    found = audit(write(tmp_path / "data.jsonl", [row | {"label": True} for row in labelled()]))
    assert found.verdict == "unfit" and found.findings[0].check == "kto.balance"


def test_enough_rows_raise_nothing(tmp_path):
    found = audit(write(tmp_path / "data.jsonl", clean(3_000)))
    assert found.verdict == "fit"
    assert [each.check for each in found.raised] == ["shortcuts.ngrams"]


def test_words_of_a_finding_name_what_is_there(tmp_path):
    """Rows that are named hold the fault: the two sides of a contradiction stand side by side, with
    their texts.
    """
    rows = _opposed(clean())
    found = audit(write(tmp_path / "data.jsonl", rows)).find("integrity.contradictions")
    assert found.evidence["count"] == 16
    lines = [int(place.at.rsplit(":", 1)[1]) for place in found.places]
    assert all(line <= 8 or line > 400 for line in lines)
    assert rows[lines[0] - 1]["prompt"][:40] in found.places[0].excerpt
    assert {*GOOD} & {*found.places[0].excerpt.split()} or {*BAD} & {
        *found.places[0].excerpt.split()
    }


def test_every_check_has_a_name_of_its_own(tmp_path):
    """`find` and the JSON's readers go by it."""
    for start in (scored, labelled):
        found = audit(
            write(
                tmp_path / f"{start.__name__}.jsonl",
                _longer(start()) if start is scored else start(),
            )
        )
        names = [finding.check for finding in found.findings]
        assert len(names) == len(set(names))


def test_a_cycle_is_no_contradiction_and_a_contradiction_no_cycle(tmp_path):
    for plant, counts in ((_cycles, (0, 15)), (_opposed, (16, 0))):
        found = audit(write(tmp_path / "data.jsonl", plant(clean())))
        checks = ("integrity.contradictions", "integrity.cycles")
        assert tuple(found.find(check).evidence["count"] for check in checks) == counts


def test_near_copies_with_the_other_label_are_no_copies(tmp_path):
    """They are what a contradiction looks like; dropping one silently would choose between them."""
    rows = [row | {"completion": 6 * row["completion"]} for row in labelled(100)]
    other = [
        row | {"completion": row["completion"] + " ok", "label": not row["label"]}
        for row in rows[:10]
    ]
    same = [row | {"completion": row["completion"] + " ok"} for row in rows[10:15]]
    found = audit(write(tmp_path / "data.jsonl", rows + other + same)).find(
        "integrity.near_duplicates"
    )
    assert found.evidence["count"] == 5


def test_labels_that_are_nearly_all_good_are_no_shortcut(tmp_path):
    """Nine of ten labels are good, at random: a plain accuracy of .9 would be the class balance,
    and no length decides.
    """
    rng = random.Random(5)
    rows = [
        {
            "prompt": f"ask {i} {rng.getrandbits(40):x}",
            "completion": sentence(rng, GOOD, rng.randint(5, 30)),
            "label": rng.random() < 0.9,
        }
        for i in range(400)
    ]
    found = {
        finding.check: finding for finding in audit(write(tmp_path / "rows.jsonl", rows)).findings
    }
    for check in ("shortcuts.length", "shortcuts.ngrams"):
        value = found[check].evidence["accuracy"]
        assert value["low"] < 0.5 < value["high"], check
        assert "area under the curve" in found[check].says
    assert (
        found["shortcuts.length"].verdict == "ok"
        and found["shortcuts.length"].evidence["share_of_signal"] is None
    )


def test_scores_of_a_csv_are_read(tmp_path):
    """The same exchanged columns are unfit in either container."""
    rows = [
        row | {"score_chosen": row["score_rejected"], "score_rejected": row["score_chosen"]}
        for row in scored(60)
    ]
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    for file in (write(tmp_path / "rows.jsonl", rows), str(tmp_path / "rows.csv")):
        found = {finding.check: finding for finding in audit(file).findings}
        assert (
            found["labels.scores"].verdict == "refused"
            and found["labels.scores"].evidence["swapped"]
        ), file


def test_a_method_that_would_fit_too_is_not_said_to_be_unfit():
    """Noise comes first; length and alike answers have their reasons all the same."""
    known = {
        "labels.declared": {"estimate": {"low": 0.18, "value": 0.2}},
        "shortcuts.length": {"accuracy": {"value": 0.8}},
        "hardness.near_identical": {"share": 0.3},
    }
    findings = {check: AuditFinding(check, "note", "", known[check]) for check in known}
    seen = SimpleNamespace(
        scan=type("Scan", (), {"kind": "pairs", "__len__": lambda self: 5_000})(),
        findings=list(findings.values()),
        find=findings.get,
    )
    chosen, others = choose_method(seen)
    assert chosen.method == "cdpo"
    assert all(
        "would fit as well" in others[name] and "reason for cdpo comes first" in others[name]
        for name in ("simpo", "ipo")
    )
    assert "under" not in others["simpo"] and "would fit" not in others["kto"]


def test_the_balance_of_labels_is_bounded_once():
    """[1, 3/2], Ethayarajh et al. 2024, version 5: for the objective, the audit and its advice."""
    assert BALANCE == (1.0, 1.5) == (limit("kto_low"), limit("kto_high"))
    assert "in [1, 1.5]" in OBJECTIVES["kto"].function.__doc__
    with pytest.raises(UsageError, match="between 1 and 1.5"):
        resolve("kto", {"desirable_weight": 0})
    root = Path(__file__).parents[2]
    for file in [root / "PAPERS.md", *(root / "src/accord/objectives").glob("*.py")]:
        assert "[1, 4/3]" not in file.read_text().replace("versions said [1, 4/3]", "")
