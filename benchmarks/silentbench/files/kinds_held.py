"""Held-out files that leak into training, and held-out files of another kind than training."""

from __future__ import annotations

import copy
from collections.abc import Callable

from benchmarks.silentbench.files import words
from benchmarks.silentbench.files.kinds_numbers import exchange, with_tone, without_scores
from benchmarks.silentbench.files.material import (
    Kind,
    Material,
    Planted,
    Row,
    answer_sides,
    prompt_key,
    put,
    text,
    wanted,
)


def _leak(material: Material, new: Callable[[Row], Row], drawn: str) -> Planted:
    """Put changed copies of a share of the held-out rows in place of training rows."""
    rng, held = material.rng, material.held_rows
    chosen = rng.sample(held, min(len(held), wanted(material, len(held))))
    places = sorted(rng.sample(range(len(material.train)), len(chosen)))
    for i, row in zip(places, chosen, strict=True):
        material.train[i] = new(copy.deepcopy(row))
    return Planted(places, drawn)


def _other_answers(material: Material) -> Callable[[Row], Row]:
    """Draw what comes with a leaked prompt: its own answers, exchanged ones, or new ones."""
    rng, way = material.rng, material.rng.choice(("own", "exchanged", "edited"))

    def new(row: Row) -> Row:
        if way == "exchanged":
            exchange(row, material.labelled)
        elif way == "edited":
            for side in answer_sides(material):
                put(row, side, f"{words.reworded(rng, text(row, side))} {words.signature(rng)}")
        return row

    return new


def leak_exact(material: Material) -> Planted:
    return _leak(material, lambda row: row, "as it stands")


def leak_prefix(material: Material) -> Planted:
    """Leak prompts behind a long preamble, the same for all or another for each."""
    rng, other = material.rng, _other_answers(material)
    count, same = rng.randint(2, 12), rng.random() < 0.6
    fixed = words.preamble(rng, count)

    def new(row: Row) -> Row:
        before = fixed if same else words.preamble(rng, count)
        put(row, "prompt", f"{before}\n\n{text(row, 'prompt')}")
        return other(row)

    return _leak(material, new, f"{count + 1} sentences before, same {same}")


def leak_frame(material: Material) -> Planted:
    rng, other = material.rng, _other_answers(material)
    before, after = words.frame(rng)

    def new(row: Row) -> Row:
        put(row, "prompt", before + text(row, "prompt") + after)
        return other(row)

    return _leak(material, new, f"{before[:40]!r} … {after[:20]!r}")


# Turns in a string, in forms that are no transcripts of a known kind: those would be split.
SYSTEM_FORMS = ("{}\n\n{}", "(system) {}\n(request) {}", "<setup>{}</setup>\n{}")
TURN_FORMS = (
    "{}\n\n{}\n\n{}",
    "Earlier I wrote: {}\nThe reply was: {}\nNow: {}",
    "[1] {}\n[2] {}\n[3] {}",
)


def leak_system(material: Material) -> Planted:
    """Leak prompts behind a system turn."""
    rng, other = material.rng, _other_answers(material)
    system, form = words.preamble(rng, rng.randint(0, 6)), rng.choice(SYSTEM_FORMS)

    def new(row: Row) -> Row:
        if isinstance(row["prompt"], str):
            put(row, "prompt", form.format(system, row["prompt"]))
        else:
            row["prompt"] = [{"role": "system", "content": system}, *row["prompt"]]
        return other(row)

    return _leak(material, new, system[:50])


def leak_turns(material: Material) -> Planted:
    """Leak the last user turn behind earlier turns that the held-out row does not have."""
    rng, other = material.rng, _other_answers(material)
    strangers = [text(row, "prompt") for row in rng.sample(material.train, 20)]
    form = rng.choice(TURN_FORMS)

    def new(row: Row) -> Row:
        first, reply = rng.choice(strangers), words.signature(rng)
        if isinstance(row["prompt"], str):
            put(row, "prompt", form.format(first, reply, row["prompt"]))
        else:
            turns = [{"role": "user", "content": first}, {"role": "assistant", "content": reply}]
            row["prompt"] = [*turns, *row["prompt"]]
        return other(row)

    return _leak(material, new, "turns before")


def leak_typos(material: Material) -> Planted:
    rng, other = material.rng, _other_answers(material)
    per = rng.choice((40, 80, 150))

    def new(row: Row) -> Row:
        old = text(row, "prompt")
        put(row, "prompt", words.with_typos(rng, old, 1 + len(old) // per))
        return other(row)

    return _leak(material, new, f"a typo in {per} characters")


def leak_reworded(material: Material) -> Planted:
    rng, other = material.rng, _other_answers(material)

    def new(row: Row) -> Row:
        put(row, "prompt", words.reworded(rng, text(row, "prompt")))
        return other(row)

    return _leak(material, new, "two words and a greeting")


def leak_answers(material: Material) -> Planted:
    """Leak the answers under another prompt."""
    before = [copy.deepcopy(row["prompt"]) for row in material.train]
    planted = _leak(material, lambda row: row, "under the prompts of the rows they replace")
    for i in planted.touched:
        material.train[i]["prompt"] = before[i]
    return planted


def shared_ids(material: Material) -> Planted:
    """Give training rows the ids of held-out rows; their texts differ."""
    rng = material.rng
    column = rng.choice(("id", "uid", "prompt_id", "example_id", "uuid", "question_id", "hash"))
    train, held = material.train, material.held_rows
    for row in [*train, *held]:
        row[column] = f"{rng.getrandbits(40):010x}"
    ids = rng.sample([row[column] for row in held], min(len(held), wanted(material, len(held))))
    touched = sorted(rng.sample(range(len(train)), len(ids)))
    for i, each in zip(touched, ids, strict=True):
        train[i][column] = each
    return Planted(touched, column, shows=(column,), moved=True)


# --- held-out files of another kind


def _held(material: Material, drawn: str, touched: list[int] | None = None) -> Planted:
    rows = list(range(len(material.held_rows))) if touched is None else touched
    return Planted([], drawn, touched_held=rows, moved=touched is None)


def trivial_negatives(material: Material) -> Planted:
    """Put negatives that anyone can tell into the held-out file alone."""
    rng, held = material.rng, material.held_rows
    way = rng.choice(("other rows", "refusals", "one word", "shuffled words", "cut"))
    others = [text(row, answer_sides(material)[-1]) for row in held]
    refusal = rng.choice(("I don't know.", "Sorry, no idea.", "I cannot answer that."))

    def new(old: str) -> str:
        parts = old.split(" ")
        return {
            "other rows": rng.choice(others),
            "refusals": refusal,
            "one word": rng.choice(words.NOUNS),
            "shuffled words": " ".join(rng.sample(parts, len(parts))) + " " + words.code_word(rng),
            "cut": " ".join(parts[: max(1, len(parts) // 8)]),
        }[way]

    touched = []
    for i, row in enumerate(held):
        side = "completion" if material.labelled else "rejected"
        if material.labelled and row["label"]:
            continue
        fresh = new(text(row, side))
        if fresh != text(row, side):
            put(row, side, fresh)
            touched.append(i)
    return _held(material, way, touched)


def _size(row: Row, material: Material) -> int:
    return sum(len(text(row, side)) for side in answer_sides(material))


def sorted_tail(material: Material) -> Planted:
    """Hold out the tail of a file that was sorted by length, text, score or source."""
    rng = material.rng
    way = rng.choice(("length", "prompt's length", "prompt's text", "source"))
    keys: dict[str, Callable[[Row], object]] = {
        "length": lambda row: _size(row, material),
        "prompt's length": lambda row: len(prompt_key(row)),
        "prompt's text": prompt_key,
        "source": lambda row: (row.get("source", ""), _size(row, material)),
    }
    rows = sorted([*material.train, *material.held_rows], key=keys[way])  # type: ignore[arg-type]
    if rng.random() < 0.4:
        rows.reverse()
    held = rows[len(material.train) :]
    prompts = {prompt_key(row) for row in held}
    rest = [row for row in rows[: len(material.train)] if prompt_key(row) not in prompts]
    material.train[:], material.held_rows[:] = rest, held
    rng.shuffle(material.held_rows)
    planted = _held(material, way)
    planted.touched = list(range(len(rest)))
    return planted


def other_lengths(material: Material) -> Planted:
    """Hold out long answers, or short ones, of the same set alone."""
    rng = material.rng
    rows = sorted(
        [*material.train, *material.held_rows],
        key=lambda row: _size(row, material) * rng.uniform(0.8, 1.25),
        reverse=rng.random() < 0.5,
    )
    cut = len(material.held_rows)
    held, prompts = rows[:cut], {prompt_key(row) for row in rows[:cut]}
    rest = [row for row in rows[cut:] if prompt_key(row) not in prompts]
    rng.shuffle(held)
    rng.shuffle(rest)
    material.train[:], material.held_rows[:] = rest, held
    planted = _held(material, f"{_size(held[0], material)} characters and alike")
    planted.touched = list(range(len(rest)))
    return planted


def other_source(material: Material) -> Planted:
    """Hold out rows of another set, in the same columns."""
    rng = material.rng
    name = rng.choice(sorted(material.others))
    known = {prompt_key(row) for row in material.train}
    rows = [row for row in material.others[name]() if prompt_key(row) not in known]
    sides = answer_sides(material)
    held = []
    for row in rng.sample(rows, len(material.held_rows)):
        plain = {"prompt": prompt_key(row), **{side: text(row, side) for side in sides}}
        model = material.train[0]
        new: Row = {}
        for side in ("prompt", *sides):
            role = "user" if side == "prompt" else "assistant"
            turns = [{"role": role, "content": plain[side]}]
            new[side] = plain[side] if isinstance(model[side], str) else turns
        if material.labelled:
            new["label"] = row["label"]
        held.append(new)
    material.held_rows[:] = held
    return _held(material, name)


def held_exchanged(material: Material) -> Planted:
    """Exchange the sides of the held-out rows alone."""
    for row in material.held_rows:
        exchange(row, material.labelled)
    return _held(material, "all rows", list(range(len(material.held_rows))))


def other_labels(material: Material) -> Planted:
    """Hold out labels of another convention: nearly all desirable, or hardly any."""
    rng, held = material.rng, material.held_rows
    good = rng.random() < 0.5
    rate = rng.choice((0.9, 0.97, 1.0))
    touched = []
    for i, row in enumerate(held):
        if bool(row["label"]) is not good and rng.random() < rate:
            row["label"] = good
            touched.append(i)
    return _held(material, f"{rate:.0%} of the others are {good}", touched)


WHOLE = (1.0,)
KINDS = (
    Kind("leak as it stands", "leaks", leak_exact, held=True),
    Kind("leak behind a preamble", "leaks", leak_prefix, held=True),
    Kind("leak in a frame", "leaks", leak_frame, held=True),
    Kind("leak behind a system turn", "leaks", leak_system, held=True),
    Kind("leak behind earlier turns", "leaks", leak_turns, held=True),
    Kind("leak with typos", "leaks", leak_typos, held=True),
    Kind("leak reworded", "leaks", leak_reworded, held=True),
    Kind("leak of answers", "leaks", leak_answers, held=True),
    Kind("ids in both files", "leaks", shared_ids, held=True),
    Kind("trivial negatives held out", "held out", trivial_negatives, held=True, shares=WHOLE),
    Kind("sorted tail held out", "held out", sorted_tail, held=True, shares=WHOLE),
    Kind("other lengths held out", "held out", other_lengths, held=True, shares=WHOLE),
    Kind("other source held out", "held out", other_source, held=True, shares=WHOLE),
    Kind(
        *("sides exchanged held out", "held out", held_exchanged),
        held=True,
        shares=WHOLE,
        prepare=without_scores,
    ),
    Kind(
        *("sides exchanged held out, tone visible", "held out", held_exchanged),
        held=True,
        shares=WHOLE,
        prepare=with_tone,
    ),
    Kind(
        *("other labels held out", "held out", other_labels), held=True, pairs=False, shares=WHOLE
    ),
)
