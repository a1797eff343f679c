"""Files with a planted fault, and a clean one: rows that no check of the audit may object to."""

from __future__ import annotations

import json
import random

NOUNS = (
    "river castle engine garden market violin comet bridge harbour forest ladder candle tunnel"
    " orchard glacier".split()
)
VERBS = "repair paint measure explain describe visit protect clean photograph design".split()
# Words of the same lengths on both sides: the clean file must not have a length rule.
GOOD = "precise careful verified sound reliable accurate tested correct".split()
BAD = "muddled guessed careless shaky mistaken confused sloppy dubious".split()
FILL = (
    "stone water metal paper light sound paint glass wood cloth sand smoke rain frost salt amber"
    " copper linen".split()
)


# Share of the three words that come from the other side's list: words alone then decide nine in
# ten pairs. Were it 0, they would decide all of them, which is a fault.
MIXED = 0.25


def sentence(rng: random.Random, words: list[str], length: int, mixed: float = MIXED) -> str:
    picked = [rng.choice(FILL) for _ in range(length)]
    other = BAD if words is GOOD else GOOD
    for at in rng.sample(range(length), 3):
        picked[at] = rng.choice(other if rng.random() < mixed else words)
    return " ".join(picked).capitalize() + "."


def clean(n: int = 400, seed: int = 0, mixed: float = MIXED) -> list[dict]:
    """Distinct prompts; the chosen answer has good words, both have the same number of words."""
    rng = random.Random(seed)
    rows = []
    for _ in range(n):
        length = rng.randint(10, 20)
        prompt = (
            f"{rng.choice(VERBS).capitalize()} {rng.choice(NOUNS)} {rng.getrandbits(40):x} near the"
            f" {rng.choice(NOUNS)} {rng.getrandbits(40):x}"
        )
        rows.append(
            {
                "prompt": prompt,
                "chosen": sentence(rng, GOOD, length, mixed),
                "rejected": sentence(rng, BAD, length, mixed),
            }
        )
    return rows


def labelled(n: int = 400, good: float = 0.55, seed: int = 0, mixed: float = MIXED) -> list[dict]:
    """One answer a prompt, with its label."""
    rng = random.Random(seed)
    rows = []
    for row in clean(n, seed, mixed):
        label = rng.random() < good
        rows.append(
            {
                "prompt": row["prompt"],
                "completion": row["chosen" if label else "rejected"],
                "label": label,
            }
        )
    return rows


def scored(n: int = 400, seed: int = 0) -> list[dict]:
    """Clean pairs with scores from 5 to 9, the chosen one always at least 1 ahead."""
    rng = random.Random(seed)
    out = []
    for row in clean(n, seed):
        low = rng.choice((5, 6, 7))
        out.append(row | {"score_chosen": low + rng.choice((1, 2)), "score_rejected": low})
    return out


def flipped(rows: list[dict], share: float, seed: int = 1) -> list[dict]:
    """The rows with this share of them turned round."""
    rng = random.Random(seed)
    turned = lambda row: row | {"chosen": row["rejected"], "rejected": row["chosen"]}  # noqa: E731
    return [turned(row) if rng.random() < share else row for row in rows]


def slipped(text: str, number: int) -> str:
    """The text with one slip of the pen, in another of its first 40 letters for each number."""
    at = 1 + number % 40
    return text[:at] + text[at] + text[at:] if number < 40 else text[:at] + text[at + 1 :]


def write(path, rows: list) -> str:
    """A JSONL file; a row that is text already stands as it is."""
    lines = (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False) for row in rows)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return str(path)
