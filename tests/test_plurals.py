"""One row is 1 row: a count before a plural goes through `plural`, in the whole source."""

import re
from pathlib import Path

from conftest import assert_no_faults

SOURCE = Path(__file__).parents[1] / "src/accord"
COUNTED = re.compile(r"\{[^{}]+:,\} ([a-z]+s)\b")
# no plurals; units that stand beside limits, which are never 1
OTHERS = {"is", "as", "was", "has", "less", "bytes", "positions", "characters", "columns"}
# "3 of 200 rows" and "all 200 rows" name a whole; a limit ("over 1,024 tokens") is never 1
BEFORE = re.compile(
    r"(\bof|\ball|\bof the|each of|every of|than|under|over|limit of|behind|\bto|first|within|"
    r"instead of|micro-batches of|[Nn]one of|\bthe|row \(|model's|\+|into|\bits( \{first\})?)\s*$"
)
# constants, and counts that are at least two where the line is printed
AT_LEAST_TWO = {
    "auditing/checks/labels.py",  # limits of the noise estimate; spikes of scores
    "auditing/checks/diversity.py",  # prompts, where there are fewer than rows
}


def faults(file: Path) -> list[str]:
    return [] if str(file.relative_to(SOURCE)) in AT_LEAST_TWO else wrong(file.read_text())


def wrong(source: str) -> list[str]:
    text = re.sub(r'"\n\s+f?"', "", source)
    return [
        f"{found.group(0)} (write it with accord.errors.plural)"
        for found in COUNTED.finditer(text)
        if found.group(1) not in OTHERS
        and not BEFORE.search(text[max(0, found.start() - 40) : found.start()])
    ]


def test_counts_go_through_plural():
    assert_no_faults(sorted(SOURCE.rglob("*.py")), faults, lambda file: str(file))


def test_a_wrong_plural_is_found():
    text = 'f"{len(rows):,} rows read"\nf"3 of {n:,} rows"\nf"{plural(n, \'row\')}"\n'
    assert len(wrong(text)) == 1
