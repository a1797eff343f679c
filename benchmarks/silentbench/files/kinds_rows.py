"""Rows that repeat, contradict each other, or hold the answers of other rows."""

from __future__ import annotations

import copy
from collections.abc import Callable

from benchmarks.silentbench.files import words
from benchmarks.silentbench.files.material import (
    FEWEST,
    Inert,
    Kind,
    Material,
    Planted,
    Row,
    answer_sides,
    prompt_key,
    put,
    stretch,
    text,
    wanted,
)


def _add(material: Material, new: Callable[[Row], Row], drawn: str) -> Planted:
    """Add changed copies of a share of the rows, at drawn places behind their originals."""
    rng, rows = material.rng, material.train
    chosen = sorted(rng.sample(range(len(rows)), wanted(material, len(rows))))
    copies = [new(copy.deepcopy(rows[i])) for i in chosen]
    places = sorted((rng.randint(i + 1, len(rows)), n) for n, i in enumerate(chosen))
    mixed: list[Row] = []
    added: list[int] = []
    for i in range(len(rows) + 1):
        while places and places[0][0] == i:
            added.append(len(mixed))
            mixed.append(copies[places.pop(0)[1]])
        mixed += rows[i : i + 1]
    material.train[:] = mixed
    return Planted([], drawn, added=added)


def duplicates(material: Material) -> Planted:
    return _add(material, lambda row: row, "exact copies")


def near_copies(material: Material) -> Planted:
    """Copy rows with typos, other blanks or a word more, as scraping twice does."""
    rng = material.rng
    way = rng.choice(("typos", "blanks", "case", "a word"))

    def changed(old: str) -> str:
        if way == "typos":
            return words.with_typos(rng, old, 1 + len(old) // 120)
        if way == "blanks":
            return old.replace(" ", "  ", 1 + len(old) // 90) + " "
        if way == "case":
            return old[:1].swapcase() + old[1:]
        parts = old.split(" ")
        parts.insert(rng.randint(0, len(parts)), rng.choice(("also", "just", "really", "then")))
        return " ".join(parts)

    def new(row: Row) -> Row:
        for side in ("prompt", *answer_sides(material)):
            put(row, side, changed(text(row, side)))
        return row

    return _add(material, new, way)


def framed_copies(material: Material) -> Planted:
    """Copy rows behind a long preamble or in a frame: the question and the answers are the same."""
    rng = material.rng
    before, after = words.frame(rng)
    long = words.preamble(rng, rng.randint(3, 8)) + "\n\n" if rng.random() < 0.5 else ""

    def new(row: Row) -> Row:
        put(row, "prompt", long + before + text(row, "prompt") + after)
        return row

    return _add(material, new, f"{long[:40]}{before[:40]!r}")


def contradictions(material: Material) -> Planted:
    """Add rows that say the opposite of an earlier one."""

    def new(row: Row) -> Row:
        if material.labelled:
            row["label"] = not row["label"]
        else:
            row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
        return row

    return _add(material, new, "sides exchanged")


def ids_twice(material: Material) -> Planted:
    """Give every row an id, and a share of the rows the id of another one."""
    rng, rows = material.rng, material.train
    column = rng.choice(("id", "uid", "prompt_id", "example_id", "uuid", "row_id", "question_id"))
    hexadecimal = rng.random() < 0.5
    for i, row in enumerate(rows):
        row[column] = f"{rng.getrandbits(48):012x}" if hexadecimal else 1000 + 7 * i
    touched = sorted(rng.sample(range(len(rows)), wanted(material, len(rows)) // 2 + 2))
    rest = [i for i in range(len(rows)) if i not in set(touched)] or touched[:1]
    for i in touched:
        rows[i][column] = rows[rng.choice(rest)][column]
    return Planted(touched, column, shows=(column,), moved=True)


def _sources(material: Material, rows: list[int]) -> list[int]:
    """Draw from which row each of these rows gets its answers."""
    rng = material.rng
    way = rng.choice(("shift", "shift", "reverse", "shuffle"))
    if way == "shift":
        lag = rng.choice((1, 1, 2, 3, -1, -2, 5, 10)) % len(rows) or 1
        return rows[lag:] + rows[:lag]
    if way == "reverse":
        return rows[::-1]
    return rng.sample(rows, len(rows))


def _exchange(material: Material, rows: list[int], sides: tuple[str, ...], drawn: str) -> Planted:
    sources = _sources(material, rows)
    texts = [{side: text(material.train[j], side) for side in sides} for j in sources]
    labels = [material.train[j].get("label") for j in sources]
    touched = []
    for i, new, label in zip(rows, texts, labels, strict=True):
        row = material.train[i]
        if all(new[side] == text(row, side) for side in sides):
            continue
        for side, each in new.items():
            put(row, side, each)
        if material.labelled:
            row["label"] = label  # the label travels with its answer
        touched.append(i)
    if len(touched) < FEWEST:
        raise Inert(f"{len(touched)} rows got other answers")
    return Planted(sorted(touched), drawn)


def shifted_answers(material: Material) -> Planted:
    """Take the answers of a stretch of rows from other rows of it: shifted, reversed, shuffled."""
    rows = stretch(material, len(material.train))
    return _exchange(material, rows, answer_sides(material), f"rows {rows[0]} to {rows[-1]}")


def scattered_joins(material: Material) -> Planted:
    """Join a scattered share of the rows with answers of others."""
    rows = material.rng.sample(range(len(material.train)), wanted(material, len(material.train)))
    return _exchange(material, rows, answer_sides(material), "scattered")


def shifted_side(material: Material) -> Planted:
    """Take one side's answers from other rows of a stretch."""
    side = material.rng.choice(("chosen", "rejected"))
    rows = stretch(material, len(material.train))
    return _exchange(material, rows, (side,), f"{side}: rows {rows[0]} to {rows[-1]}")


def sorted_column(material: Material) -> Planted:
    """Sort the answers and not the prompts."""
    order = sorted(
        range(len(material.train)), key=lambda i: text(material.train[i], answer_sides(material)[0])
    )
    before = copy.deepcopy(material.train)
    touched = []
    for i, j in enumerate(order):
        row = material.train[i]
        for side in answer_sides(material):
            put(row, side, text(before[j], side))
        if material.labelled:
            row["label"] = before[j]["label"]
        if row != before[i]:
            touched.append(i)
    return Planted(touched, "answers sorted by their text")


def one_prompt(material: Material) -> Planted:
    """Give a share of the rows one and the same prompt, as a default value does."""
    rng, rows = material.rng, material.train
    prompt = rng.choice(rows)["prompt"]
    able = [i for i, row in enumerate(rows) if prompt_key(row) != prompt_key({"prompt": prompt})]
    touched = sorted(rng.sample(able, min(len(able), wanted(material, len(rows)))))
    for i in touched:
        rows[i]["prompt"] = copy.deepcopy(prompt)
    return Planted(touched, prompt_key({"prompt": prompt})[:60])


KINDS = (
    Kind("exact copies", "copies", duplicates),
    Kind("near copies", "copies", near_copies),
    Kind("copies in a frame", "copies", framed_copies),
    Kind("contradictions", "copies", contradictions),
    Kind("an id twice", "copies", ids_twice),
    Kind("answers of other rows, a stretch", "belonging", shifted_answers),
    Kind("answers of other rows, scattered", "belonging", scattered_joins),
    Kind("one side of other rows", "belonging", shifted_side, labelled=False),
    Kind("answers sorted", "belonging", sorted_column, shares=(1.0,)),
    Kind("one prompt for many answers", "belonging", one_prompt, shares=(1.0, 0.3, 0.1)),
)
