"""10,000 random rows through every pair of formats, and through every container: nothing may come
back changed.

    python benchmarks/round_trips.py --rows 10000           # results in
                                                            # benchmarks/results/round_trips.json

Rows hold emoji, right-to-left text, control characters, line separators, quotes, markup and format
markers. Each format is written, read back, written as each other format and read back again; a row
that a format cannot hold must be refused, and then counts as refused. Containers: JSONL, a JSON
array, CSV, Parquet and an Arrow stream of the same rows.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import random
import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pyarrow
from pyarrow import ipc, parquet

from accord.data.convert import WRITERS, to_format
from accord.data.formats import as_kind, recognise
from accord.data.read import read
from accord.types import DataError, Example, Origin, Pair, Turn

RESULTS = Path(__file__).parent / "results"
PIECES = [
    "👩‍👩‍👧",
    "🇺🇳",
    "😀",
    "שלום עולם",
    "مرحبا بالعالم",
    "\u202eabc\u202c",
    "\u200f",
    "e\u0301",
    "\ufeff",
    "\u2028",
    "\u2029",
    "\x85",
    "\x1b[31m",
    "\x07",
    "\x0b",
    "\x1f",
    "\x7f",
    "\r",
    "\r\n",
    "\n",
    "\n\n",
    "\t",
    '"',
    "'",
    '""',
    ",",
    ";",
    "\\",
    "\\n",
    "\\u0041",
    "{}",
    "[{",
    "[1]",
    "null",
    "NaN",
    "Human:",
    "\n\nHuman:",
    "\n\nAssistant: b",
    "<|im_end|>",
    "{{ x }}",
    "漢字",
    "٣",
    "ﬁ",
    "\U0010ffff",
    "a",
    "word",
    " ",
    "  ",
    "1e5",
    "#",
    "true",
]


def text(rng: random.Random) -> str:
    """A few pieces; never blank, since no format holds an answer of blanks."""
    made = "".join(rng.choice(PIECES) for _ in range(rng.randint(1, 7)))
    return made if made.strip() else made + "x"


def random_pair(rng: random.Random, line: int) -> Pair:
    """A pair with one to five turns, sometimes a system turn, sometimes other columns."""
    said = [
        Turn(("user", "assistant")[at % 2], text(rng)) for at in range(rng.choice([1, 1, 1, 3, 5]))
    ]
    system = [Turn("system", text(rng))] if rng.random() < 0.3 else []
    chosen, rejected = text(rng), text(rng)
    rejected = rejected if rejected.strip() != chosen.strip() else rejected + "!"
    extra = {"source": text(rng)} if rng.random() < 0.3 else {}
    return Pair((*system, *said), chosen, rejected, Origin("random.jsonl", line), extra)


def meaning(example: Example) -> tuple:
    return example.prompt, example.completions, getattr(example, "desirable", None)


def unharmed(found: list[Example], expected: list[Example]) -> bool:
    """The same examples; a format may add columns of its own (ranks, scores, ids), and lose or
    change none.
    """
    return list(map(meaning, found)) == list(map(meaning, expected)) and all(
        one.extra.items() >= other.extra.items() for one, other in zip(found, expected, strict=True)
    )


def through_formats(pair: Pair, first: str) -> dict[str, str]:
    """The pair as `first`, read back, then as each other format: "equal", "refused", or "CHANGED",
    by the other's name.
    """
    middle = _written(first, [pair])
    return {second: _through(pair, first, middle, second) for a, second in ROUTES if a == first}


def _through(pair: Pair, first: str, middle: list[Example] | None, second: str) -> str:
    found = _written(second, middle) if middle is not None else None
    if found is None:
        return "refused"
    kinds = WRITERS[first].kind, WRITERS[second].kind
    expected = [twice for once in as_kind(pair, kinds[0]) for twice in as_kind(once, kinds[1])]
    return "equal" if unharmed(found, expected) else "CHANGED"


def _written(name: str, examples: list[Example]) -> list[Example] | None:
    """The examples written in a format and read back; None where it refuses one of them."""
    try:
        return [
            one for row in to_format(examples, name) for one in _understood(row, WRITERS[name].kind)
        ]
    except DataError:
        return None


def _understood(row: dict, kind: str) -> list[Example]:
    """A row as a file would give it back: through JSON's text."""
    columns = json.loads(json.dumps(row, ensure_ascii=False))
    found, seen = recognise(columns)
    return [
        one
        for made in found.examples(seen, Origin("back.jsonl", 1), columns)
        for one in as_kind(made, kind)
    ]


# Which formats can become which: labels and demonstrations are never made into pairs.
# hold scores of both answers, which these rows have not
SCORED = ("ultrafeedback", "argilla", "webgpt")
LOWER = {
    "pairs": ("pairs", "labelled", "demonstrations"),
    "labelled": ("labelled",),
    "demonstrations": ("demonstrations",),
}
HELD = [name for name in WRITERS if name not in SCORED]
ROUTES = [(a, b) for a in HELD for b in HELD if WRITERS[b].kind in LOWER[WRITERS[a].kind]]


# ---------------------------------------------------------------- containers


def as_lines(rows: list[dict]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def as_array(rows: list[dict]) -> bytes:
    return json.dumps(rows, ensure_ascii=False, indent=1).encode()


def as_csv(rows: list[dict]) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(rows[0]), quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(
        {k: json.dumps(v) if isinstance(v, list) else v for k, v in row.items()} for row in rows
    )
    return out.getvalue().encode()


def as_parquet(rows: list[dict]) -> bytes:
    sink = pyarrow.BufferOutputStream()
    parquet.write_table(pyarrow.Table.from_pylist(rows), sink)
    return sink.getvalue().to_pybytes()


def as_arrow(rows: list[dict]) -> bytes:
    sink, table = pyarrow.BufferOutputStream(), pyarrow.Table.from_pylist(rows)
    with ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


CONTAINERS = {
    "JSONL": as_lines,
    "JSON array": as_array,
    "CSV": as_csv,
    "Parquet": as_parquet,
    "Arrow": as_arrow,
}


def through_container(pairs: list[Pair], name: str) -> str:
    """All pairs as conversational rows in one file of this kind."""
    plain = [Pair(pair.prompt, pair.chosen, pair.rejected, pair.origin) for pair in pairs]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / ("data.csv" if name == "CSV" else "data")
        path.write_bytes(CONTAINERS[name](list(to_format(plain, "trl-conversational"))))
        dataset = read(path)
    same = list(map(meaning, dataset.examples)) == list(map(meaning, plain))
    return "equal" if same and not dataset.ledger.rejected else "CHANGED"


def tried(pairs: Iterable[Pair]) -> tuple[dict, dict]:
    """Outcomes by route between formats, and by container."""
    pairs = list(pairs)
    routes = {f"{a} → {b}": Counter() for a, b in ROUTES}
    for pair in pairs:
        for first in HELD:
            for second, outcome in through_formats(pair, first).items():
                routes[f"{first} → {second}"][outcome] += 1
    return {name: dict(found) for name, found in routes.items()}, {
        name: through_container(pairs, name) for name in CONTAINERS
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    routes, containers = tried(random_pair(rng, line) for line in range(1, options.rows + 1))
    record = {
        "rows": options.rows,
        "seed": options.seed,
        "routes": routes,
        "containers": containers,
    }
    (RESULTS / "round_trips.json").write_text(
        json.dumps(record, indent=1, ensure_ascii=False) + "\n"
    )
    changed = [name for name, found in routes.items() if "CHANGED" in found] + [
        n for n, found in containers.items() if found != "equal"
    ]
    print(
        f"{options.rows:,} rows, {len(routes)} routes, {len(containers)} containers; changed:"
        f" {changed or 'none'}"
    )
    raise SystemExit(bool(changed))


if __name__ == "__main__":
    main()
