"""Numbers beside the labels, exchanged sides and flipped labels."""

from __future__ import annotations

import random

from benchmarks.silentbench.files import words
from benchmarks.silentbench.files.material import (
    Kind,
    Material,
    Planted,
    Row,
    answer_sides,
    put,
    stretch,
    text,
    wanted,
)

SCORES = ("score_chosen", "score_rejected", "informative")  # what the sets themselves have


def without_scores(material: Material) -> None:
    """Take the set's own scores out, which would tell the fault by themselves."""
    for row in [*material.train, *(material.held or [])]:
        for name in SCORES:
            row.pop(name, None)


# --- a file in which the better answer can be told from its tone

POLITE = (
    *("Happy to help.", "Good question.", "Let us look at this calmly.", "I checked this twice."),
    *("Please tell me if more detail is useful.", "Here is a careful answer.", "With pleasure."),
)
RUDE = (
    *("Figure it out yourself.", "Whatever.", "Nobody cares.", "This is a stupid thing to ask."),
    *("I can't be bothered.", "Stop wasting time.", "As if that mattered.", "Who knows."),
)


def _tone(rng: random.Random, kind: tuple[str, ...]) -> str:
    extra = rng.choice(words.ADJECTIVES)
    more = f"That is a {extra} matter." if rng.random() < 0.3 else ""
    return f"{rng.choice(kind)} {more}".strip()


def with_tone(material: Material) -> None:
    """Make most rejected answers rude, some chosen ones polite: an honest, visible preference."""
    without_scores(material)
    rng, strength = material.rng, material.rng.choice((0.6, 0.75, 0.9))
    for row in [*material.train, *(material.held or [])]:
        for side in answer_sides(material):
            good = bool(row["label"]) if material.labelled else side == "chosen"
            if rng.random() < (strength / 2 if good else strength):
                tone = _tone(rng, POLITE if good else RUDE)
                old = text(row, side)
                put(row, side, f"{tone} {old}" if rng.random() < 0.5 else f"{old} {tone}")


def exchange(row: Row, labelled: bool) -> None:
    """Exchange the sides of a row; its numbers stay where they are."""
    if labelled:
        row["label"] = not row["label"]
    else:
        row["chosen"], row["rejected"] = row["rejected"], row["chosen"]


def flips(material: Material) -> Planted:
    rows = material.train
    touched = sorted(material.rng.sample(range(len(rows)), wanted(material, len(rows))))
    for i in touched:
        exchange(rows[i], material.labelled)
    return Planted(touched, "at random")


def exchanged(material: Material) -> Planted:
    rows = stretch(material, len(material.train))
    for i in rows:
        exchange(material.train[i], material.labelled)
    return Planted(rows, f"rows {rows[0]} to {rows[-1]}")


# --- numbers

NUMBERS = (
    *("margin", "difference", "delta", "gap", "strength", "score_diff", "net_votes", "logit_diff"),
    *("preference_strength", "reward_gap", "advantage", "agreement", "rm_margin", "human_margin"),
)
GRADES = ("score", "rating", "reward", "votes", "logprob", "grade", "quality", "rm", "likert")


def _value(rng: random.Random, size: float, form: str) -> float | int | str:
    if form == "int":
        return max(1, round(abs(size) * 3)) * (1 if size > 0 else -1)
    return f"{size:.3f}" if form == "string" else round(size, 4)


def with_margin(material: Material) -> None:
    """Add a signed number that says by how much the chosen answer is the better one."""
    without_scores(material)
    rng = material.rng
    name = rng.choice(NUMBERS) if rng.random() < 0.75 else f"{words.code_word(rng)}_margin"
    form, scale = rng.choice(("float", "float", "int", "string")), rng.choice((0.3, 1.0, 8.0))
    material.notes["column"] = name
    for row in material.train:
        row[name] = _value(rng, scale * (0.05 + abs(rng.gauss(0.8, 0.7))), form)


def margin_sign(material: Material) -> Planted:
    """Turn the margin's sign in a share of the rows: the number says the other answer is better."""
    rows, name = material.train, material.notes["column"]
    touched = sorted(material.rng.sample(range(len(rows)), wanted(material, len(rows))))
    for i in touched:
        old = rows[i][name]
        rows[i][name] = f"-{old}" if isinstance(old, str) else -old
    return Planted(touched, name, shows=(name,))


def with_grades(material: Material) -> None:
    """Add a number for each side, or for each labelled answer, that agrees with the label."""
    without_scores(material)
    rng = material.rng
    name = rng.choice(GRADES) if rng.random() < 0.75 else f"{words.code_word(rng)}_score"
    forms = (f"chosen_{name}", f"rejected_{name}"), (f"{name}_chosen", f"{name}_rejected")
    better, worse = rng.choice(forms)
    if rng.random() < 0.2:
        better, worse = f"{name}_w", f"{name}_l"
    nested, whole = rng.random() < 0.2, rng.random() < 0.4
    low, high = rng.choice(((1, 5), (1, 10), (0, 1), (-8, 8), (0, 100)))
    whole = whole and high > 1
    material.notes |= {"column": name, "columns": (better, worse), "nested": nested}
    for row in material.train:
        middle = rng.uniform(low + 0.4 * (high - low), low + 0.6 * (high - low))
        step = (high - low) * (0.1 + 0.3 * rng.random())
        two = [middle + step, middle - step]
        two = [round(each) if whole else round(each, 3) for each in two]
        if material.labelled:
            row[name] = two[0] if row["label"] else two[1]
        elif nested:
            row[name] = {"chosen": two[0], "rejected": two[1]}
        else:
            row[better], row[worse] = two


def carry_numbers(row: Row, material: Material) -> None:
    """Let the numbers of an exchanged row stay with their answers, as where they were computed from
    the texts: they say that the rejected answer is the better one.
    """
    if material.labelled:
        return
    name = material.notes["column"]
    if "columns" not in material.notes:
        old = row[name]
        row[name] = f"-{old}" if isinstance(old, str) else -old
    elif material.notes["nested"]:
        row[name] = {"chosen": row[name]["rejected"], "rejected": row[name]["chosen"]}
    else:
        better, worse = material.notes["columns"]
        row[better], row[worse] = row[worse], row[better]


def grades_against(material: Material) -> Planted:
    """Exchange the sides of a share of the rows; the grades stay with their answers, and contradict
    the label.
    """
    rows, name = material.train, material.notes["column"]
    touched = sorted(material.rng.sample(range(len(rows)), wanted(material, len(rows))))
    for i in touched:
        exchange(rows[i], material.labelled)
        carry_numbers(rows[i], material)
    return Planted(touched, f"{name}, {material.notes['columns'][0]}", shows=(name,))


def stretch_against(material: Material) -> Planted:
    """Exchange the sides of a stretch; the numbers stay with their answers."""
    name = material.notes["column"]
    planted = exchanged(material)
    for i in planted.touched:
        carry_numbers(material.train[i], material)
    planted.shows, planted.drawn = (name,), f"{name}: {planted.drawn}"
    return planted


def with_parts(material: Material) -> None:
    """Add a column that says from which of a few places a row is."""
    with_tone(material)
    rng = material.rng
    name = rng.choice(("source", "subset", "annotator", "batch", "vendor", words.code_word(rng)))
    values = [f"{words.code_word(rng)}{rng.choice(('', '_v2', '-b'))}" for _ in range(3)]
    weights = [rng.uniform(0.6, 1.4) for _ in values]
    material.notes |= {"column": name, "value": rng.choice(values)}
    for row in material.train:
        row[name] = rng.choices(values, weights)[0]


def exchanged_source(material: Material) -> Planted:
    """Exchange the sides of all rows from one place."""
    name, value = material.notes["column"], material.notes["value"]
    touched = [i for i, row in enumerate(material.train) if row[name] == value]
    for i in touched:
        exchange(material.train[i], material.labelled)
    return Planted(touched, f"{name} = {value}", shows=(value,))


KINDS = (
    Kind("margin of the wrong sign", "numbers", margin_sign, labelled=False, prepare=with_margin),
    Kind("grades against labels", "numbers", grades_against, prepare=with_grades),
    Kind(
        *("stretch exchanged beside a margin", "numbers", stretch_against),
        labelled=False,
        shares=(0.5, 0.3, 0.1, 0.03),
        prepare=with_margin,
    ),
    Kind(
        *("stretch exchanged beside grades", "numbers", stretch_against),
        shares=(0.5, 0.3, 0.1, 0.03),
        prepare=with_grades,
    ),
    Kind(
        *("stretch exchanged", "exchanged", exchanged),
        shares=(0.5, 0.3, 0.1),
        prepare=without_scores,
    ),
    Kind(
        *("stretch exchanged, tone visible", "exchanged", exchanged),
        shares=(0.5, 0.3, 0.1, 0.03),
        prepare=with_tone,
    ),
    Kind("one source exchanged", "exchanged", exchanged_source, shares=(0.3,), prepare=with_parts),
    Kind("labels flipped", "noise", flips, shares=(0.4, 0.3, 0.2), prepare=with_tone),
)
