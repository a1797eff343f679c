"""Near copies without frames, leaks behind other text, ids, splits and two files."""

from __future__ import annotations

import json
import random
from importlib.resources import files

import numpy as np
import pytest
from auditing.rows import clean, labelled, slipped, write

from accord.auditing import minhash
from accord.auditing.checks.integrity import near_duplicate_rows
from accord.auditing.checks.leakage import Compared, find_leaks
from accord.auditing.otherwise import ask_otherwise
from accord.auditing.prompts import content_words, near_prompts, others_in, prompt_arrays
from accord.auditing.run import audit, beside
from accord.auditing.scan import scan
from accord.auditing.split import cut, held_out_rows, split
from accord.data.read import read
from accord.types import DataError, Turn

SYSTEM = (
    "You are a careful assistant of a small library. Answer in full sentences, name your sources,"
    " and say so when you do not know. Never speak of other readers."
)
THINGS = "window ladder candle bridge harbour orchard glacier violin comet tunnel".split()


def questions(n: int, seed: int = 0) -> list[str]:
    """Different questions of nine words, without a word that most have."""
    rng = random.Random(seed)
    words = [
        "".join(rng.choice("bdfgklmnprst") + rng.choice("aeiou") for _ in range(3))
        for _ in range(400)
    ]
    return [
        f"How does {' '.join(rng.sample(words, 3))} change the {' '.join(rng.sample(words, 3))}?"
        for _ in range(n)
    ]


def clusters(prompts: list[str]) -> np.ndarray:
    arrays = prompt_arrays([(Turn("user", text),) for text in prompts])
    return near_prompts(arrays["questions"], arrays["prompt_signs"], arrays["cores"])


def hashed(text: bytes, width: int) -> set[int]:
    """The oracle: the polynomial of each run of bytes, term by term, then the mixing steps."""
    base, mix, bits = 0x9E3779B97F4A7C15, 0xD6E8FEB86659FD93, 2**64 - 1
    out = set()
    for at in range(len(text) - width + 1):
        value = 0
        for byte in text[at : at + width]:
            value = (value * base + byte) & bits
        value ^= value >> 32
        value = value * mix & bits
        value ^= value >> 29
        out.add(value * mix & bits)
    return out


@pytest.mark.parametrize("width", [1, 2, 3, 5, 6, 8])
def test_shingles_against_their_definition(width):
    texts = [b"a question of bytes", b"another, longer one"]
    grams, owner, start = minhash.shingles(texts, width)
    for number, text in enumerate(texts):
        assert set(grams[owner == number].tolist()) == hashed(text, width)
    assert start[owner == 1][0] == len(texts[0])


@pytest.mark.parametrize("frame", ["{}", SYSTEM + "\n\n{}", "### Instruction:\n{}\n\n" + SYSTEM])
def test_a_frame_makes_no_clusters(frame):
    assert len(set(clusters([frame.format(text) for text in questions(300)]))) == 300


@pytest.mark.parametrize("frame", ["{}", SYSTEM + "\n\n{}"])
def test_slips_are_found_behind_a_frame(frame):
    asked = questions(300)
    both = asked + [slipped(text, 7 + i % 30) for i, text in enumerate(asked[:60])]
    found = clusters([frame.format(text) for text in both])
    assert (found[:60] == found[300:]).mean() > 0.85


def test_a_form_with_one_word_in_it_makes_no_clusters():
    form = "Translate the following word into French and give one example of its use: {}"
    words = [f"{a}{b}" for a in THINGS for b in THINGS]
    assert len(set(clusters([form.format(word) for word in words]))) == len(words)


def test_sixty_slips_of_one_question_are_one():
    base = "Summarise the report about the harbour and the castle for the council of the town"
    found = clusters([slipped(base, i) for i in range(60)] + questions(400))
    assert np.bincount(found).max() > 50


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("what is the capital of france", "what is the capital of spain", False),
        ("what is the capital of france", "please tell me the captial of france", True),
        ("how many legs does a spider have", "how many legs has a spider", True),
        ("convert 12 miles to metres", "convert 13 miles to metres", False),
        ("what is 2 + 3", "what is 2 - 3", False),
        ("does paris lie west of berlin", "does berlin lie west of paris", False),
        ("我怎么学习中文", "我怎么学习英文", False),
    ],
)
def test_words_decide_short_questions(one, two, same):
    found = others_in(content_words(one.encode()), content_words(two.encode()))
    assert (found is not None and found <= 0.12) == same


def rows_of(tmp_path, rows, name):
    return read(write(tmp_path / name, rows), "pairs").examples


def leak_rows(n=200, seed=0):
    long = " and it goes on with many further words about the matter at hand in some detail"
    return [
        {"prompt": q, "chosen": r["chosen"] + long, "rejected": r["rejected"] + long}
        for q, r in zip(questions(n, seed), clean(n, seed), strict=True)
    ]


def _system(row, i):
    return [
        {"role": "system", "content": f"Persona {i}: {THINGS[i % 10]}."},
        {"role": "user", "content": row["prompt"]},
    ]


def _turns(row, i):
    return [
        {"role": "user", "content": f"Hello, number {i}!"},
        {"role": "assistant", "content": "Good day."},
        {"role": "user", "content": row["prompt"]},
    ]


BEHIND = {
    "system": _system,
    "turns": _turns,
    "prefix": lambda row, i: f"My {THINGS[i % 10]} of {i} years asks this. {row['prompt']}",
    "examples": lambda row, i: f"Q: what of {i}?\nA: {i + 1}\n\nQ: {row['prompt']}\nA:",
}


@pytest.mark.parametrize("kind", BEHIND)
def test_the_last_turn_is_found_behind_other_text(kind, tmp_path):
    rows = leak_rows()
    other = {"chosen": "Quite another answer.", "rejected": "And another one."}
    train = rows[:150] + [
        row | other | {"prompt": BEHIND[kind](row, i)} for i, row in enumerate(rows[150:180])
    ]
    found = find_leaks(
        Compared.of_examples(rows_of(tmp_path, train, "a.jsonl")),
        Compared.of_examples(rows_of(tmp_path, rows[150:], "b.jsonl")),
    )
    hit = found.near | found.contained
    assert hit[:30].mean() > 0.95 and not found.any[30:].any() and not found.exact.any()


def test_generic_turns_are_no_leak(tmp_path):
    def talk(i, last):
        return [
            {"role": "user", "content": questions(400)[i]},
            {"role": "assistant", "content": "Well."},
            {"role": "user", "content": last},
        ]

    lasts = ["Yes, please go on.", "continue", "Summarise the text above in three plain sentences."]
    rows = [r | {"prompt": talk(i, lasts[i % 3])} for i, r in enumerate(leak_rows(80))]
    ours, theirs = rows_of(tmp_path, rows[:50], "a.jsonl"), rows_of(tmp_path, rows[50:], "b.jsonl")
    found = find_leaks(Compared.of_examples(ours), Compared.of_examples(theirs))
    assert not (found.contained | found.near).any()


def test_answers_are_found_under_other_prompts(tmp_path):
    rows = leak_rows()
    moved = [row | {"prompt": q} for row, q in zip(rows[150:170], questions(20, 9), strict=True)]
    found = audit(
        write(tmp_path / "a.jsonl", rows[:150] + moved),
        held_out=write(tmp_path / "b.jsonl", rows[150:]),
    ).always("leakage.answers")
    assert found.verdict == "warning" and found.evidence["count"] == 20


def test_a_canned_answer_is_no_leak(tmp_path):
    same = {"chosen": "I am sorry, but I cannot help with that. " * 3, "rejected": "Sure! " * 20}
    rows = [row | same for row in leak_rows(80)]
    found = find_leaks(
        Compared.of_examples(rows_of(tmp_path, rows[:50], "a.jsonl")),
        Compared.of_examples(rows_of(tmp_path, rows[50:], "b.jsonl")),
    )
    assert not found.answers.any()


FORM = "Please call send mail with to {}, urgent {}"


@pytest.mark.parametrize(
    ("one", "two", "other"),
    [
        ("pack the bag for 12 people", "pack the bag for 13 people", True),
        ("what fell in march of that year", "what fell in april of that year", True),
        ("send the long letter to Pia at once", "send the long letter to Hana at once", True),
        ("any news of the parcel for Ben", "any news of the parcel for Wen", True),
        ("send the letter, urgent true", "send the letter, urgent false", True),
        (
            "how does the bridge carry heavy lorries in hard winters and hot summers",
            "how does the old brigde carry heavy lorries in hard winters and hot summers",
            False,
        ),
        (
            "how does the bridge carry heavy lorries in hard winters and hot summers",
            "please say how does the bridge carry heavy lorries in hard winters and hot summers",
            False,
        ),
        (
            "how does the bridge carry heavy lorries in hard winters, hot summers and big storms",
            "how does the bridge carry heavy trucks in hard winters, hot summers and big storms",
            False,
        ),
        ("poem, garden, amber, 3 lines", "poem, ladder, amber, 3 lines", True),
        ("", "", False),
    ],
)
def test_questions_that_differ_in_one_word(one, two, other):
    said = [one.encode(), two.encode()]
    assert ask_otherwise(said, np.array([[0, 1]])).tolist() == [other]


def test_a_word_that_a_form_is_filled_in_with():
    """The words of the form are many: one other word is few of them, but stands in a slot."""
    form = "please write for me one short warm friendly letter which thanks my old {} teacher now"
    words = "piano history swimming dancing latin".split()
    said = [form.format(word).encode() for word in words]
    pair = np.array([[0, 1]])
    assert ask_otherwise(said, pair).all() and not ask_otherwise(said[:2], pair).any()


def test_a_form_is_no_near_duplicate(tmp_path):
    """Sound rows that differ in a name stay; a slip in a prompt and another blank do not."""
    names = "Pia Hana Ben Wen Rosa Sven Uma Kofi Farah Emil Ada Viktor".split()
    rows = [
        {
            "prompt": FORM.format(name, urgent),
            "chosen": f'{{"to": "{name}", "urgent": {urgent}}}',
            "rejected": f'{{"to": "{name}", "urgent": "maybe"}}',
        }
        for name in names
        for urgent in ("true", "false")
    ]
    fine = scan(write(tmp_path / "a.jsonl", rows + leak_rows(60)))
    assert not near_duplicate_rows(fine).any()
    base = leak_rows(60)
    copies = [r | {"prompt": slipped(r["prompt"], 9), "chosen": r["chosen"] + " "} for r in base]
    found = near_duplicate_rows(scan(write(tmp_path / "b.jsonl", base + copies)))
    assert found[60:].mean() > 0.8 and not found[:60].any()


def test_another_question_beside_a_shared_sentence(tmp_path):
    """Half of the rows ask about another sign, behind a sentence that a trained row has too."""
    ends = [f"I met it in the {a} of a {b} last week." for a in THINGS for b in THINGS[:4]]
    signs = questions(80)
    ours = [r | {"prompt": f"{signs[i]} {ends[i]}"} for i, r in enumerate(clean(40))]
    theirs = [r | {"prompt": f"{signs[i + 40]} {ends[i]}"} for i, r in enumerate(clean(40, 1))]
    theirs += [r | {"prompt": f"{signs[i]} It is odd."} for i, r in enumerate(clean(10, 2))]
    found = find_leaks(
        Compared.of_examples(rows_of(tmp_path, ours, "a.jsonl")),
        Compared.of_examples(rows_of(tmp_path, theirs, "b.jsonl")),
    )
    assert not found.any[:40].any() and (found.near | found.contained)[40:].all()


def test_one_leak_is_one_finding(tmp_path):
    rows = leak_rows()
    slips = [r | {"prompt": slipped(r["prompt"], 9)} for r in rows[:12]]
    found = audit(
        write(tmp_path / "a.jsonl", rows[:150]),
        held_out=write(tmp_path / "b.jsonl", slips + rows[150:]),
    )
    near, answers = (found.always(f"leakage.{name}") for name in ("near", "answers"))
    assert near.verdict == "warning" and near.evidence["count"] >= 10
    if near.evidence["count"] == 12:
        assert answers.verdict == "note" and answers.explained_by == "leakage.near"


def test_two_rows_that_leak_are_a_note(tmp_path):
    rows = leak_rows()
    verdicts = [
        audit(
            write(tmp_path / "a.jsonl", rows[:150]),
            held_out=write(tmp_path / "b.jsonl", rows[:n] + rows[150:]),
        )
        .always("leakage.exact")
        .verdict
        for n in (0, 2, 3)
    ]
    assert verdicts == ["ok", "note", "warning"]


# ---------------------------------------------------------------- ids


def test_ids_twice_in_a_file(tmp_path):
    rows = [row | {"id": f"row-{i * 37 % 1009:04d}"} for i, row in enumerate(clean(200))]
    fine = scan(write(tmp_path / "a.jsonl", rows))
    for row in rows[:10]:
        row["id"] = rows[-1]["id"]
    twice = audit(write(tmp_path / "b.jsonl", rows)).always("integrity.ids")
    from accord.auditing.checks.ids import id_findings

    assert [f.verdict for f in id_findings(fine)] == ["ok"]
    assert twice.verdict == "warning" and twice.evidence["count"] == 11


def test_an_id_of_the_prompt_or_of_a_user_is_no_fault(tmp_path):
    from accord.auditing.checks.ids import id_findings

    asked = questions(50)
    rows = [
        row | {"prompt_id": f"p{i // 4}", "user_id": f"u{i % 9}", "prompt": asked[i // 4]}
        for i, row in enumerate(clean(200))
    ]
    assert all(f.verdict == "ok" for f in id_findings(scan(write(tmp_path / "a.jsonl", rows))))


@pytest.mark.parametrize(("anew", "verdicts"), [(False, ["warning"]), (True, [])])
def test_ids_in_both_files(anew, verdicts, tmp_path):
    """A row's own id leaks; a numbering that begins anew in each file does not."""
    from accord.auditing.checks.ids import shared_ids

    rows = clean(200)
    names = [f"k{i * 7919 % 100_003}" for i in range(200)]
    ours = [r | {"id": i if anew else names[i]} for i, r in enumerate(rows[:150])]
    theirs = [r | {"id": i if anew else names[i + 140]} for i, r in enumerate(rows[150:])]
    pair = scan(write(tmp_path / "a.jsonl", ours)), scan(write(tmp_path / "b.jsonl", theirs))
    assert [f.verdict for f in shared_ids(*pair)] == verdicts


# ---------------------------------------------------------------- split


def test_a_file_of_one_cluster_is_refused(tmp_path):
    base = "Summarise the report about the harbour and the castle for the council of the town"
    rows = [r | {"prompt": slipped(base, i % 5)} for i, r in enumerate(clean(80))]
    with pytest.raises(DataError, match="near copies of one prompt"):
        split(write(tmp_path / "data.jsonl", rows + clean(20, 5)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_shared_system_turn_is_split_like_any_file(tmp_path):
    rows = [row | {"prompt": f"{SYSTEM}\n\n{row['prompt']}"} for row in fresh(200)]
    account = split(write(tmp_path / "data.jsonl", rows), tmp_path / "out")
    assert account["held_out"] == 20 and account["clusters"] == 200


def _forms(rng):
    names = "Pia Hana Ben Rosa Sven Uma Kofi Farah Emil Ada Viktor Wen".split()
    start = rng.choice(["Please call", "I want", "Use"])
    return f"{start} send mail with to {rng.choice(names)}, urgent {rng.choice(['true', 'false'])}"


def _behind(rng):
    text = " ".join(rng.choice(THINGS) for _ in range(60))
    return f"Use the context.\n{text}\nQuestion: what of the {rng.choice(THINGS)}?"


def _lines(rng):
    return f"poem, {rng.choice(THINGS)}, {rng.choice(THINGS)}, {rng.randrange(2, 9)} lines"


@pytest.mark.parametrize("make", [_forms, _behind, _lines])
@pytest.mark.parametrize("seed", range(3))
def test_no_row_of_a_split_leaks_in_its_files(make, seed, tmp_path):
    """The promise: what a split has written, an audit of the two files calls clean."""
    from accord.auditing.checks.leakage import leakage

    rng = random.Random(seed)
    prompts = [make(rng) for _ in range(90)] + questions(90, seed)
    rows = [r | {"prompt": q} for r, q in zip(clean(180, seed), prompts, strict=True)]
    rng.shuffle(rows)
    account = split(write(tmp_path / "data.jsonl", rows), tmp_path / "out", share=0.2, seed=seed)
    pair = [scan(tmp_path / "out" / f"{name}.jsonl") for name in ("train", "held_out")]
    assert all(f.evidence["count"] == 0 for f in leakage(*pair) if f.check.startswith("leakage"))
    assert account["train"] + account["held_out"] == 180 and account["held_out"] >= 18


@pytest.mark.parametrize("seed", range(5))
def test_the_draw_keeps_shares(seed, tmp_path):
    """Sources of 70, 20 and 10 % and labels of 55 %: each held-out share is within one row of a
    stratum's rounding.
    """
    rows = labelled(400, seed=seed)
    for i, row in enumerate(rows):
        row["source"] = "aaaaaaabbc"[i % 10]
    table = scan(write(tmp_path / "data.jsonl", rows))
    held = held_out_rows(table, 0.1, seed)
    codes, names = table.columns["source"]
    assert held.sum() == 40
    for value, share in zip("abc", (28, 8, 4), strict=True):
        assert abs((codes[held] == names.index(value)).sum() - share) <= 1
    assert abs(table.desirable[held].mean() - table.desirable.mean()) < 0.06


# ---------------------------------------------------------------- two files


def two(tmp_path, ours, theirs):
    found = beside(
        scan(write(tmp_path / "a.jsonl", ours)), scan(write(tmp_path / "b.jsonl", theirs))
    )
    return {f.check for f in found if f.verdict in ("warning", "refused")}


def fresh(n=500, seed=3):
    return [r | {"prompt": q} for r, q in zip(clean(n, seed), questions(n, seed), strict=True)]


OTHER = {
    "held_out.lengths": lambda rows: [
        r | {side: (r[side] + " ") * 3 for side in ("chosen", "rejected")} for r in rows
    ],
    "held_out.exchanged": lambda rows: [
        r | {"chosen": r["rejected"], "rejected": r["chosen"]} for r in rows
    ],
    "held_out.kind": lambda rows: [
        r
        | {
            "prompt": [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": r["prompt"]},
            ]
        }
        for r in rows
    ],
    "held_out.trivial": lambda rows: [
        r | {"rejected": "N/A" if i % 3 == 0 else r["rejected"]} for i, r in enumerate(rows)
    ],
}


@pytest.mark.parametrize("check", OTHER)
def test_held_out_rows_of_another_kind(check, tmp_path):
    rows = fresh()
    assert check in two(tmp_path, rows[:400], OTHER[check](rows[400:]))


@pytest.mark.parametrize("seed", range(4))
def test_a_random_split_is_silent(seed, tmp_path):
    rows = [r | {"source": "ab"[i % 2]} for i, r in enumerate(fresh(seed=seed))]
    random.Random(seed).shuffle(rows)
    assert not two(tmp_path, rows[:400], rows[400:])


def test_a_sorted_tail(tmp_path):
    rows = sorted(fresh(), key=lambda r: len(r["chosen"]))
    assert "held_out.order" in two(tmp_path, rows[:400], rows[400:])


def test_sources_that_are_not_trained_on(tmp_path):
    rows = [r | {"source": "abc"[i % 3]} for i, r in enumerate(fresh())]
    others = [r | {"source": "c" if i % 2 else "a"} for i, r in enumerate(rows[400:])]
    assert "held_out.sources" in two(tmp_path, rows[:400], others)


def test_a_column_of_ids_is_no_source(tmp_path):
    rows = [r | {"source": f"row {i * 7919 % 1009}"} for i, r in enumerate(fresh())]
    assert "held_out.sources" not in two(tmp_path, rows[:400], rows[400:])


def test_labels_of_another_convention(tmp_path):
    rows = [r | {"prompt": q} for r, q in zip(labelled(500), questions(500), strict=True)]
    turned = [r | {"label": not r["label"]} for r in rows[400:]]
    assert "held_out.labels" in two(tmp_path, rows[:400], turned)
    assert not two(tmp_path, rows[:400], rows[400:])


def test_hostile_texts(tmp_path):
    """Long runs, NUL, a lone surrogate, no word at all, an id of 10,000 letters."""
    rows = leak_rows(40)
    texts = ["(" * 70_000, "\0" * 50, "\ud800 x", "!!! ???", "a " * 40_000, "\u200b" * 30]
    for row, text in zip(rows, texts, strict=False):  # fewer texts than rows
        row["prompt"] = text + str(len(text))
        row["id"] = "9" * 10_000
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    table = scan(file)
    assert len(table) >= 38 and len(np.unique(table.groups)) > 30
    assert beside(table, table)


def test_topics_that_a_split_keeps_whole_are_no_other_kind(tmp_path):
    """Six ways to ask of each thing: in the held-out part alone, a topic's prompts look unlike."""
    folder = tmp_path / "split"
    cut(files("accord.demo") / "train.jsonl", folder, share=0.1)
    found = audit(folder / "train.jsonl", held_out=folder / "held_out.jsonl")
    assert [f.says for f in found.raised if f.check.startswith("held_out")] == []
