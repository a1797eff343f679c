"""Bad input by the thousand: real rows and recipes of every format, broken in structure first and
in bytes after.

A case is a pure function of (loader, seed, index), so that a finding is reproduced by its two
numbers. `DATA_LOADERS` give the bytes of a data file; `recipe` and `template` give text.
"""

from __future__ import annotations

import copy
import csv
import gzip
import io
import json
import random
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pyarrow
import yaml
import zstandard
from pyarrow import ipc, parquet

ROOT = Path(__file__).parents[1]
USER, SAID = (
    {"role": "user", "content": "Capital of France?"},
    {"role": "assistant", "content": "Paris."},
)
WRONG = {"role": "assistant", "content": "Lyon."}
HH = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Capital?\n\nAssistant:"

# One row of every format that accord knows, as public files have them.
ROWS = [
    {"prompt": "Capital of France?", "chosen": "Paris.", "rejected": "Lyon."},
    {
        "prompt": [USER],
        "chosen": [SAID],
        "rejected": [WRONG],
        "score_chosen": 8.5,
        "score_rejected": 2,
    },
    {"prompt": HH, "chosen": " Paris.", "rejected": " Lyon."},
    {"chosen": f"{HH} Paris.", "rejected": f"{HH} Lyon."},
    {"chosen": [USER, SAID], "rejected": [USER, WRONG]},
    {
        "instruction": "Capital?",
        "input": "of France",
        "chosen": "Paris.",
        "rejected": "Lyon.",
        "history": [["Hi", "Hello."]],
    },
    {"instruction": "Capital?", "output": ["Paris.", "Lyon."]},
    {
        "conversations": [{"from": "human", "value": "Capital?"}],
        "chosen": {"from": "gpt", "value": "Paris."},
        "rejected": {"from": "gpt", "value": "Lyon."},
    },
    {
        "conversations": [
            {"from": "human", "value": "Capital?"},
            {"from": "gpt", "value": "Paris."},
        ],
        "kto_tag": True,
    },
    {"input": {"messages": [USER]}, "preferred_output": [SAID], "non_preferred_output": [WRONG]},
    {"messages": [USER, SAID], "rejected_response": "Lyon."},
    {"prompt": "Capital?", "responses": ["Paris.", "Lyon.", "Nice."], "scores": [3, 2, 1]},
    {
        "prompt": "Capital?",
        "answers": [{"text": "Paris.", "rank": 1}, {"text": "Lyon.", "rank": 2}],
    },
    {"history": "Capital?", "human_ref_A": "Paris.", "human_ref_B": "Lyon.", "labels": 1},
    {"prompt": "Capital?", "response_0": "Lyon.", "response_1": "Paris.", "better_response_id": 1},
    {
        "question": {"full_text": "Capital?"},
        "answer_0": "Paris.",
        "answer_1": "Lyon.",
        "score_0": 0.5,
        "score_1": -0.5,
    },
    {"context": [USER], "response1": "Paris.", "response2": "Lyon.", "overall_preference": -2},
    {"prompt": "Capital?", "completion": "Paris.", "label": True},
    {"prompt": "Capital?", "completion": "Paris."},
    {"instruction": "Capital?", "input": "", "output": "Paris."},
    {"messages": [USER, SAID], "label": 0},
    {"system": "Be brief.", "question": "Capital?", "chosen": "Paris.", "rejected": "Lyon."},
]
COLUMNS = sorted(
    {name for row in ROWS for name in row}
    | {"role", "content", "from", "value", "text", "type", "tools", "images"}
)
KINDS = ("pairs", "labelled", "demonstrations")

TEXTS = [
    "",
    " ",
    "\n",
    "\0",
    "a\0b",
    "\ud800",
    "\udcff",
    "\u202eabc",
    "\ufeff",
    "👩‍👩‍👧",
    "שלום",
    "é",
    "a\u2028b",
    "\x1b[31m",
    "\x85",
    HH,
    "\n\nHuman:",
    "\n\nAssistant:",
    "Human: a",
    "<extra_id_1>User\nx",
    "<|im_end|>",
    "true",
    "false",
    "1",
    "0",
    "nan",
    "1e999",
    "-1",
    "٣",
    "a" * 5_000,
    "[{",
    "[1, 2]",
    '[{"role": "user", "content": "x"}]',
    "[{'role': 'user'}]",
    '"',
    ",",
    "\r",
]
LEAVES = [
    None,
    True,
    False,
    0,
    1,
    -1,
    2,
    0.5,
    1e308,
    -0.0,
    2**31,
    2**63,
    2**64,
    -(2**63) - 1,
    10**400,
    float("nan"),
    float("inf"),
    [],
    {},
    [[]],
    [None],
    [{}],
    {"": ""},
    USER,
    [USER],
    [SAID],
    {"role": "user"},
    {"type": "text", "text": "x"},
    {"type": "image_url", "image_url": {}},
    [{"type": "text", "text": "part"}],
    {"role": ["user"], "content": "x"},
]
# What JSON writers refuse to write stands in the text as a mark, and is put there afterwards.
MARKS = {
    "@deep@": lambda rng: (lambda n: "[" * n + "]" * n)(
        rng.choice([3, 60, 400, 900, 1_100, 30_000])
    ),
    "@deep-objects@": lambda rng: (lambda n: '{"a":' * n + "1" + "}" * n)(
        rng.choice([60, 900, 1_100, 20_000])
    ),
    "@digits@": lambda rng: "9" * rng.choice([40, 4_299, 4_301, 50_000]),
    "@exponent@": lambda rng: rng.choice(
        ["1e999", "-1E+400", "1e-400", "0.1e1e1", "01", "+1", "0x1F", "Infinity", "-Infinity"]
    ),
}
BYTES = [
    b"\0",
    b"\xff",
    b"\xfe\xff",
    b"\xef\xbb\xbf",
    b"\xed\xa0\x80",
    b"\xc3",
    b"\xf4\x90\x80\x80",
    b"\x1a",
    b"\n",
    b"\r\n",
    b"\r",
    b"\t",
    b'"',
    b"'",
    b"\\",
    b"\\u",
    b"\\ud800",
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b"[]",
    b"{}",
    b"null",
    b"NaN",
    b"-",
    b"1e5",
    b"[" * 2_000,
    b'{"a":' * 1_100,
    b",,,,",
    b'""',
    b'"a": 1, "a": 2',
    b"PAR1",
    b"ARROW1",
    b"\xff\xff\xff\xff",
    b"\x1f\x8b\x08",
    b"\x28\xb5\x2f\xfd",
    b"\x00\x00\x00\x80",
    b"\xff\xff\xff\x7f",
    b"\x80" * 9,
    b" " * 300,
    b"9" * 5_000,
]


def demo_rows() -> list[dict]:
    """Rows that real models wrote: those that accord ships."""
    lines = (ROOT / "src/accord/demo/train.jsonl").read_text("utf-8").splitlines()[:40]
    return [json.loads(line) for line in lines]


REAL = demo_rows()


# ---------------------------------------------------------------- structure


def broken_rows(rng: random.Random) -> list:
    """One to six rows, each from another format or all of one, some of them broken in their
    structure.
    """
    source = rng.choice([ROWS, REAL, [rng.choice(ROWS)]])
    rows = [json.loads(json.dumps(rng.choice(source))) for _ in range(rng.randint(1, 6))]
    for at in range(len(rows)):
        for _ in range(rng.choice([0, 0, 1, 1, 2, 4])):
            rows[at] = broken(rng, rows[at])
    return rows


def broken(rng: random.Random, value: object) -> object:
    """The value with one node of it replaced, removed, moved, renamed, repeated or nested."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        return _broken_object(rng, dict(value))
    if isinstance(value, list) and value and rng.random() < 0.7:
        return _broken_list(rng, list(value))
    return anything(rng, value)


def _broken_object(rng: random.Random, value: dict) -> dict:
    key, act = rng.choice(list(value)), rng.random()
    if act < 0.6:
        value[key] = broken(rng, value[key])
    elif act < 0.7:
        del value[key]
    elif act < 0.8:
        value[rng.choice(COLUMNS)] = value.pop(key)
    elif act < 0.9:
        value[rng.choice(COLUMNS)] = anything(rng, value[key])
    else:
        value[rng.choice(TEXTS)] = value[key]
    return value


def _broken_list(rng: random.Random, value: list) -> list:
    at, act = rng.randrange(len(value)), rng.random()
    if act < 0.6:
        value[at] = broken(rng, value[at])
    elif act < 0.75:
        del value[at]
    elif act < 0.9:
        value.insert(at, rng.choice([*LEAVES, value[at]]))
    else:
        value *= rng.choice([2, 50])
    return value


def anything(rng: random.Random, value: object) -> object:
    act = rng.random()
    if act < 0.35:
        return rng.choice(LEAVES)
    if act < 0.7:
        return rng.choice(TEXTS)
    if act < 0.8:
        return rng.choice(list(MARKS))
    if act < 0.9:
        return [value]
    return f"{value}"[:200] + rng.choice(TEXTS)


# ---------------------------------------------------------------- bytes


def damaged(rng: random.Random, data: bytes, most: int = 4) -> bytes:
    """The bytes with a few of them flipped, cut, repeated, moved or overwritten by what parsers
    stumble over.
    """
    out = bytearray(data)
    for _ in range(rng.randint(1, most)):
        at = rng.randrange(len(out) + 1)
        end = min(len(out), at + rng.choice([1, 1, 2, 4, 16, 200]))
        act = rng.randrange(7)
        if act == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif act == 1:
            out[at:at] = rng.choice(BYTES)
        elif act == 2:
            out[at:end] = rng.choice(BYTES)
        elif act == 3:
            del out[at:end]
        elif act == 4:
            out[at:at] = out[at:end] * rng.choice([1, 3, 40])
        elif act == 5:
            del out[at:]
        else:
            out[at:end] = rng.randbytes(end - at)
    return bytes(out)


# ---------------------------------------------------------------- containers


def _marked(rng: random.Random, text: str) -> bytes:
    for mark, make in MARKS.items():
        if mark in text:
            text = text.replace(f'"{mark}"', make(rng)).replace(mark, "x")
    return text.encode("utf-8", rng.choice(["surrogatepass", "replace"]))


def _json(rng: random.Random, value: object, indent: int | None = None) -> bytes:
    return _marked(rng, json.dumps(value, ensure_ascii=rng.random() < 0.5, indent=indent))


def lines(rng: random.Random, rows: list) -> bytes:
    return rng.choice([b"\n", b"\n", b"\r\n", b"\n\n"]).join(_json(rng, row) for row in rows)


def array(rng: random.Random, rows: list) -> bytes:
    return _json(rng, rows, rng.choice([None, 1]))


def one_object(rng: random.Random, rows: list) -> bytes:
    """Columns of lists, an object around the rows, or the first row alone."""
    tables = [row for row in rows if isinstance(row, dict)] or [{}]
    columns = {name: [row.get(name) for row in tables] for name in tables[0]}
    return _json(rng, rng.choice([columns, {"data": rows}, rows[0]]), rng.choice([None, 1]))


def table(rng: random.Random, rows: list) -> bytes:
    """CSV or TSV."""
    out = io.StringIO(newline="")
    names = list(
        dict.fromkeys(str(name) for row in rows if isinstance(row, dict) for name in row)
    ) or ["prompt"]
    writer = csv.writer(out, delimiter=rng.choice(",,\t;"), escapechar="\\")
    writer.writerow(names)
    for row in rows:
        cells = [row.get(name, "") for name in names] if isinstance(row, dict) else [row]
        writer.writerow(
            json.dumps(cell) if isinstance(cell, (dict, list)) else str(cell)[:20_000]
            for cell in cells
        )
    return _marked(rng, out.getvalue())


def arrow_table(rng: random.Random, rows: list) -> pyarrow.Table:
    """A table of whatever Arrow takes of the rows,
    some of its columns of types that JSON has not.
    """
    rows = [row for row in rows if isinstance(row, dict)] or [dict(ROWS[0])]
    names = list(dict.fromkeys(name for row in rows for name in row))
    names = [name for name in names if name.isprintable() or rng.random() < 0.3]
    columns = {}
    for name in names:
        cells = [row.get(name) for row in rows]
        try:
            name.encode()
            columns[name] = (
                _odd_column(rng, len(cells)) if rng.random() < 0.06 else pyarrow.array(cells)
            )
        except UnicodeEncodeError:
            continue
        except (pyarrow.ArrowException, TypeError, ValueError, OverflowError):
            columns[name] = pyarrow.array([json.dumps(cell)[:5_000] for cell in cells])
    return pyarrow.table(columns or {"prompt": ["x"]})


def _odd_column(rng: random.Random, n: int) -> pyarrow.Array:
    bad = pyarrow.array([b"\xff\xfe"] * n, pyarrow.binary())
    makers = [
        # text that is no UTF-8
        lambda: pyarrow.Array.from_buffers(pyarrow.string(), n, bad.buffers()),
        lambda: pyarrow.array([b"Paris."] * n, pyarrow.binary()),
        lambda: pyarrow.array([2**62] * n, pyarrow.timestamp("s")),
        lambda: pyarrow.array([-(2**40)] * n, pyarrow.timestamp("us", tz="Nowhere/None")),
        lambda: pyarrow.array([2**60] * n, pyarrow.duration("s")),
        lambda: pyarrow.array([10**5] * n, pyarrow.date32()),
        lambda: pyarrow.array([2**31 - 1] * n, pyarrow.date32()),
        lambda: pyarrow.array([[("a", 1)]] * n, pyarrow.map_(pyarrow.string(), pyarrow.int64())),
        lambda: pyarrow.array(["a"] * n).dictionary_encode(),
        lambda: pyarrow.array([float("nan")] * n),
        lambda: pyarrow.nulls(n),
        lambda: pyarrow.array([[{"role": b"user", "content": b"x"}]] * n),
    ]
    return rng.choice(makers)()


def parquet_file(rng: random.Random, rows: list) -> bytes:
    sink = pyarrow.BufferOutputStream()
    packing = rng.choice(["none", "snappy", "gzip", "zstd"])
    try:
        parquet.write_table(
            arrow_table(rng, rows), sink, row_group_size=rng.choice([1, 100]), compression=packing
        )
    except (pyarrow.ArrowException, TypeError, ValueError):  # types that Parquet has not
        return b"PAR1" + rng.randbytes(60) + b"PAR1"
    return sink.getvalue().to_pybytes()


def arrow_file(rng: random.Random, rows: list) -> bytes:
    return _arrow(ipc.new_file, arrow_table(rng, rows))


def arrow_stream(rng: random.Random, rows: list) -> bytes:
    return _arrow(ipc.new_stream, arrow_table(rng, rows))


def _arrow(new: Callable, content: pyarrow.Table) -> bytes:
    sink = pyarrow.BufferOutputStream()
    with new(sink, content.schema) as writer:
        writer.write_table(content, max_chunksize=2)
    return sink.getvalue().to_pybytes()


TEXTUAL = (lines, lines, array, one_object, table)
DATA_LOADERS: dict[str, tuple[Callable, ...]] = {
    "jsonl": (lines,),
    "json array": (array,),
    "json object": (one_object,),
    "csv": (table,),
    "gzip": TEXTUAL,
    "zstd": TEXTUAL,
    "standard input": TEXTUAL,
    "parquet": (parquet_file,),
    "arrow file": (arrow_file,),
    "arrow stream": (arrow_stream,),
    "saved dataset": (arrow_stream,),
}


def packed(rng: random.Random, loader: str, data: bytes) -> bytes:
    """The bytes in gzip or zstd where the loader is of that kind: once, in two parts, or packed
    again.
    """
    if loader not in ("gzip", "zstd"):
        return data
    pack = gzip.compress if loader == "gzip" else zstandard.compress
    cut = rng.randrange(len(data) + 1)
    return rng.choice(
        [
            pack(data),
            pack(data[:cut]) + pack(data[cut:]),
            pack(gzip.compress(data)),
            pack(pack(pack(data))),
        ]
    )


def data_case(loader: str, rng: random.Random) -> tuple[bytes, str]:
    """The bytes of a bad file and its suffix, which sometimes lies."""
    data = rng.choice(DATA_LOADERS[loader])(rng, broken_rows(rng))
    data = damaged(rng, data) if rng.random() < 0.4 else data
    data = packed(rng, loader, data)
    data = damaged(rng, data) if rng.random() < 0.35 else data
    return data, rng.choice(["", ".jsonl", ".csv", ".tsv.gz", ".json"])


# ---------------------------------------------------------------- recipes and templates

YAML = [
    "&a ",
    "*a",
    "<<: *a",
    "!!binary ",
    "!!set ",
    "!!omap ",
    "!!python/object/apply:os.getcwd []",
    "!!timestamp ",
    "? ",
    "- ",
    "|\n ",
    "> ",
    "---\n",
    "...\n",
    "%TAG ! x\n",
    "%YAML 9.9\n",
    "\t",
    "{",
    "}",
    "[",
    "]",
    ": ",
    ", ",
    "#",
    "'",
    '"',
    "~",
    ".nan",
    ".inf",
    "1e-4",
    "0o17",
    "0b1",
    "1:30",
    "2020-99-99",
    "2020-01-01",
    "=",
    "@",
    "`",
    "\u2028",
    "\x85",
    "\0",
    "[" * 600,
    "9" * 5_000,
    "yes",
    "Null",
]
OVERRIDES = [
    "objective.beta=0.2",
    "train.steps=3",
    "train.steps=@",
    "model.lora=false",
    "model.lora.rank=8",
    "objective=ipo",
    "x",
    "=1",
    "a.b.c=[",
    "train.=1",
    ".train=1",
    "data.columns={prompt: question}",
    "allow=hub",
    "allow=[raw_text, 7]",
    "train.betas=[0.9, 0.95]",
    "objective.name=kto",
    "objective.desirable_weight=1e400",
    "output=",
    "model=7",
    "train=null",
    "data.train=[a]",
    "evaluate.rows=0",
    "allow={a: b}",
    "objective.beta=" + "9" * 400,
]


@cache
def recipes() -> list[dict]:
    """Good ones: every field there is, and those that accord ships."""
    from accord.config.schema import Config, dump

    shipped = [
        file.read_text("utf-8") for file in sorted((ROOT / "src/accord/recipes").glob("*.yaml"))
    ]
    return [
        yaml.safe_load(text) for text in (dump(Config(data={"train": "pairs.jsonl"})), *shipped)
    ]


def recipe_case(rng: random.Random) -> tuple[bytes, list[str]]:
    """The text of a bad recipe, and assignments to make on top of it."""
    value = copy.deepcopy(rng.choice(recipes()))
    for _ in range(rng.choice([0, 1, 1, 2, 4])):
        value = broken(rng, value)
    try:
        text = yaml.dump(
            value,
            Dumper=yaml.CSafeDumper,
            allow_unicode=True,
            default_flow_style=rng.choice([None, True, False]),
        )
    except (yaml.YAMLError, RecursionError, ValueError):
        text = json.dumps(value)
    data = _marked(rng, text)
    if rng.random() < 0.5:
        at = rng.randrange(len(data) + 1)
        data = data[:at] + rng.choice(YAML).encode() + data[at:]
    data = damaged(rng, data, 2) if rng.random() < 0.3 else data
    overrides = [
        rng.choice(OVERRIDES).replace("@", str(rng.choice(LEAVES))[:300])
        for _ in range(rng.choice([0, 0, 1, 2]))
    ]
    return data, overrides


TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}system:none<end>{% endif %}{% for m in messages %}{{"
    " m['role'] }}:{{ m['content'] }}<end>{% endfor %}{% if add_generation_prompt %}assistant:{%"
    " endif %}"
)
JINJA = [
    "{%",
    "%}",
    "{{",
    "}}",
    "{#",
    "#}",
    "{% if %}",
    "{% endif %}",
    "{% for x in y %}",
    "{% endfor %}",
    "{{ 1 / 0 }}",
    "{{ messages[99] }}",
    "{{ raise_exception('no') }}",
    "{{ raise_exception('') }}",
    "{{ x.y.z }}",
    "{{ ''.__class__.__mro__ }}",
    "{% include 'x' %}",
    "{% import 'x' as y %}",
    "{{ messages.append(1) }}",
    "{{ range(10**12)|list }}",
    "{% set messages = [] %}",
    "{{ m.content|tojson }}",
    "{{ bos_token }}",
    "{% generation %}",
    "{{ 'a' * 1000 }}",
    "<s>",
    "</s>",
    "<end>",
    "{{ 9**9**3 }}",
    "{{ m['content']|upper }}",
    "{{ strftime_now('%Y') }}",
    "{{ '%d'|format('a') }}",
]


def template_case(rng: random.Random) -> bytes:
    """The text of a bad chat template."""
    text = TEMPLATE
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(text) + 1)
        end = at if rng.random() < 0.6 else min(len(text), at + rng.choice([1, 5, 20]))
        text = text[:at] + rng.choice([*JINJA, ""]) + text[end:]
    data = text.encode()
    return damaged(rng, data, 2) if rng.random() < 0.3 else data
