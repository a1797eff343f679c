"""What people really hand in. Each ends with an exit code, the cause and a remedy; none with a
traceback.
"""

import json
import shutil

import pytest
from conftest import pair_rows, sentence, write_rows
from typer.testing import CliRunner

from accord.cli.app import app


@pytest.fixture
def invoke(tiny_folder, tmp_path):
    """accord train with a good model and good settings; arguments replace or add."""

    def call(data=None, *more, model=tiny_folder, held_out=None, recipe=None):
        arguments = [
            "train",
            *([recipe] if recipe else []),
            "--output",
            tmp_path / "run",
            "--steps",
            "1",
            "--batch-size",
            "4",
        ]
        arguments += ["--model", model, "--set", "model.dtype=float32"]
        arguments += ["--data", data] if data is not None else []
        arguments += ["--held-out", held_out] if held_out is not None else []
        return CliRunner().invoke(app, [str(a) for a in (*arguments, *more)])

    return call


def refused(done, code, *words):
    """The exit code, the words, and no traceback."""
    assert done.exit_code == code, (done.exit_code, done.output, done.exception)
    assert isinstance(done.exception, SystemExit) and "Traceback" not in done.output
    message = done.stderr[done.stderr.index("error: ") :]
    for word in words:
        assert word in message, message


def lines(path, *rows) -> str:
    """Rows as they stand: text, bytes, or what JSON makes of an object."""
    raw = [
        (
            row
            if isinstance(row, bytes)
            else row.encode()
            if isinstance(row, str)
            else json.dumps(row).encode()
        )
        for row in rows
    ]
    path.write_bytes(b"\n".join(raw) + b"\n")
    return str(path)


GOOD = pair_rows(5)
ONE = GOOD[0]
CHAT = [{"role": "user", "content": "Hello?"}]


def changed(**columns):
    return {**ONE, **columns}


# ------------------------------------------------- rows: each alone in a file, and beside good ones

ROWS = {
    "not JSON": ('{"prompt": "x", ', "JSON"),
    "a list": ("[1, 2]", "not an object"),
    "a boolean answer": (changed(chosen=True), "a boolean where text is expected"),
    "a number as answer": (changed(rejected=7), "a number where text is expected"),
    "null answer": (changed(chosen=None), "null"),
    "null turn": (changed(prompt=[None]), "null"),
    "null content": (changed(prompt=[{"role": "user", "content": None}]), "null"),
    "empty answer": (changed(chosen=""), "empty"),
    "blank answer": (changed(rejected=" \n "), "empty"),
    "identical answers": (changed(chosen="Same.", rejected="Same."), "same"),
    "unknown role": (changed(prompt=[{"role": "wizard", "content": "x"}]), "unknown role"),
    "no user turn": (changed(prompt=[{"role": "system", "content": "Be kind."}]), "user"),
    "empty prompt": (changed(prompt=[]), "prompt"),
    "NUL": (changed(chosen="a\0b"), "NUL"),
    "lone surrogate": ('{"prompt": "a", "chosen": "\\ud800", "rejected": "c"}', "surrogate"),
    "not UTF-8": (b'{"prompt": "a", "chosen": "\xff\xfe", "rejected": "c"}', "UTF-8"),
    "no answers": ({"text": "hello"}, "text"),
    "5 MB": (changed(note="x" * 5_000_000), "too large"),
    "special token in the text": (changed(chosen="Yes<|im_end|>No"), "special token"),
}


@pytest.mark.parametrize("row, words", ROWS.values(), ids=ROWS)
def test_a_bad_row_among_good_ones(row, words, invoke, tmp_path):
    """Counted with its place and reason; refused over 0.1 %; accepted when asked, the others
    trained on.
    """
    done = invoke(lines(tmp_path / "data.jsonl", *GOOD, row))
    refused(done, 4 if "special" in words else 3, words, "max_rejected", "data.jsonl:6: ")
    (rejection,) = [
        json.loads(line) for line in (tmp_path / "run/rejected.jsonl").read_text().splitlines()
    ]
    assert rejection["file"].endswith("data.jsonl") and rejection["line"] == 6
    assert words.lower() in (rejection["reason"] + rejection["says"]).lower()


def test_accepted_when_asked(invoke, tmp_path):
    done = invoke(
        lines(tmp_path / "data.jsonl", *GOOD, "nonsense", changed(chosen="")),
        "--set",
        "data.max_rejected=0.3",
    )
    assert done.exit_code == 0, done.output
    ledger = json.loads((tmp_path / "run/data.json").read_text())["train"]["ledger"]
    assert (ledger["rows"], ledger["used"], ledger["rejected"]) == (7, 5, 2)
    assert "2 rejected" in done.stderr


def test_the_remedy_that_is_printed_works(invoke, tmp_path):
    done = invoke(lines(tmp_path / "data.jsonl", *pair_rows(11), "nonsense"))
    remedy = done.stderr.split("--set ")[1].split()[0]
    assert (
        remedy.startswith("data.max_rejected=")
        and invoke(str(tmp_path / "data.jsonl"), "--set", remedy).exit_code == 0
    )


def test_what_is_odd_but_fine(invoke, tmp_path):
    """A BOM, CRLF, blank lines and a long column that nothing reads are no faults."""
    rows = [json.dumps(row).encode() for row in [*GOOD[:4], {**GOOD[4], "note": "x" * 500_000}]]
    (tmp_path / "data.jsonl").write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(rows) + b"\r\n\r\n")
    done = invoke(tmp_path / "data.jsonl")
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "run/data.json").read_text())["train"]["ledger"]["used"] == 5


# ---------------------------------------------------------------- files

LONG = {"prompt": sentence(1, 400), "chosen": "Yes.", "rejected": "No."}
LABELS = [
    {"prompt": row["prompt"], "completion": row["chosen"], "label": i % 2 == 0}
    for i, row in enumerate(GOOD)
]
GOOD_LABELS = [{**row, "label": True} for row in LABELS]
ONE_PROMPT = [
    {"prompt": "Same?", "completion": f"Answer {i}.", "label": i % 2 == 0} for i in range(6)
]

FILES = {
    "empty": ([], [], 3, ["empty"]),
    "all rows bad": (["x", "y"], [], 3, ["none of its 2 rows can be used as pairs"]),
    "labels given to dpo": (LABELS, [], 3, ["labelled", "kto"]),
    "no label for kto": (
        [{"prompt": "a", "completion": "b"}] * 3,
        ["--method", "kto"],
        3,
        ["label"],
    ),
    "a label that is none": (
        [{**LABELS[0], "label": "perhaps"}] * 3,
        ["--method", "kto"],
        3,
        ["wrong label"],
    ),
    "all labels alike": (
        GOOD_LABELS,
        ["--method", "kto"],
        3,
        ["all 5 labels are desirable", "sft"],
    ),
    "one prompt for kto": (ONE_PROMPT, ["--method", "kto"], 4, ["one prompt", "more prompts"]),
    "only bad labels for sft": (
        [{**r, "label": False} for r in LABELS],
        ["--method", "sft"],
        3,
        ["none of its 5 rows"],
    ),
    "some rows too long": (
        [*GOOD, LONG],
        ["--set", "data.max_tokens=128"],
        4,
        ["data.length", "1 of 6 rows too long", "data.max_tokens"],
    ),
    "all rows too long": (
        [LONG] * 2,
        ["--set", "data.max_tokens=64"],
        3,
        ["no row is usable", "too long", "limit 64"],
    ),
    "prompt longer than cut answers": (
        [LONG] * 2,
        ["--set", "data.max_tokens=64", "--set", "data.long_answers=cut"],
        3,
        ["the prompt alone has"],
    ),
    "unknown format": (GOOD, ["--set", "data.format=trll"], 2, ["trll"]),
    "unknown column": (GOOD, ["--set", "data.columns={prompt: frage}"], 3, ["frage"]),
}


@pytest.mark.parametrize("rows, more, code, words", FILES.values(), ids=FILES)
def test_bad_files(rows, more, code, words, invoke, tmp_path):
    refused(invoke(lines(tmp_path / "data.jsonl", *rows), *more), code, *words)


def test_kto_takes_pairs(invoke, pairs_file):
    """A pair is two labels, honestly; this is no error."""
    assert invoke(pairs_file, "--method", "kto").exit_code == 0


def test_a_batch_of_one_prompt_is_found_before_training(invoke, tmp_path):
    """One prompt with many answers fills some later batch alone: refused at once, not in the middle
    of the run.
    """
    rows = [
        *LABELS,
        *(
            {**row, "prompt": "Same?", "completion": f"No. {i}"}
            for i, row in enumerate(ONE_PROMPT * 4)
        ),
    ]
    done = invoke(
        lines(tmp_path / "d.jsonl", *rows), "--method", "kto", "--steps", "14", "--batch-size", "2"
    )
    refused(done, 4, "one prompt", "train.batch_size")
    assert not (tmp_path / "run/metrics.jsonl").exists()


def test_missing_file_and_folder(invoke, tmp_path):
    refused(invoke(tmp_path / "none.jsonl"), 3, "none.jsonl")
    refused(
        invoke(lines(tmp_path / "d.jsonl", *GOOD), held_out=tmp_path / "none.jsonl"),
        3,
        "none.jsonl",
    )


def test_held_out_that_is_trained_on(invoke, pairs_file, tmp_path):
    held = write_rows(tmp_path / "held.jsonl", pair_rows(4, start=22))
    refused(
        invoke(pairs_file, held_out=held),
        3,
        "data.leak",
        "2 of 4 held-out rows",
        "shared_prompts",
        f"{held}:1",
    )
    assert invoke(pairs_file, "--allow", "shared_prompts", held_out=held).exit_code == 0


# ---------------------------------------------------------------- models and folders


def test_models(invoke, tiny_folder, pairs_file, tmp_path):
    refused(invoke(pairs_file, model=tmp_path / "none"), 2, "no such model folder", "smollm2")
    refused(invoke(pairs_file, model="someone/some-model"), 2, "no such folder", "--allow hub")
    (tmp_path / "hollow").mkdir()
    refused(invoke(pairs_file, model=tmp_path / "hollow"), 2, "no config.json", "save_pretrained")
    bare = shutil.copytree(
        tiny_folder,
        tmp_path / "bare",
        ignore=shutil.ignore_patterns("tokenizer*", "chat_template*"),
    )
    refused(invoke(pairs_file, model=bare), 2, "tokenizer", "tokenizer.json")
    silent = shutil.copytree(
        tiny_folder, tmp_path / "silent", ignore=shutil.ignore_patterns("chat_template*")
    )
    refused(invoke(pairs_file, model=silent), 4, "template", "raw")
    weightless = shutil.copytree(
        tiny_folder, tmp_path / "weightless", ignore=shutil.ignore_patterns("*.safetensors")
    )
    refused(invoke(pairs_file, model=weightless), 2, "does not load", "safetensors")


def test_chat_model_on_raw_text(invoke, pairs_file):
    refused(invoke(pairs_file, "--set", "data.template=raw"), 4, "raw", "raw_text")


def test_output(invoke, pairs_file, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/notes.txt").write_text("mine")
    refused(invoke(pairs_file), 2, "exists already", "--output")
    (tmp_path / "file").write_text("")
    refused(invoke(pairs_file, "--output", tmp_path / "file"), 2, "exists already")
    refused(
        invoke(pairs_file, "--output", tmp_path / "file/run"), 6, "cannot be written", "writable"
    )


# -------------------------------------------------------- options: refused before a model is loaded

OPTIONS = {
    "gamma with dpo": (
        ["--set", "objective.gamma=1"],
        2,
        ["dpo does not know the keyword 'gamma'", "beta, label_smoothing"],
    ),
    "a misspelt option": (["--set", "objective.bta=1"], 2, ["did you mean 'beta'"]),
    "beta 0": (["--set", "objective.beta=0"], 2, ["beta = 0", "above 0"]),
    "beta negative": (["--set", "objective.beta=-0.1"], 2, ["above 0"]),
    "beta tiny": (["--set", "objective.beta=0.001"], 2, ["under 0.005", "tiny_beta"]),
    "beta a word": (["--set", "objective.beta=high"], 2, ["finite number"]),
    "beta true": (["--set", "objective.beta=true"], 2, ["finite number"]),
    "smoothing a half": (["--set", "objective.label_smoothing=0.5"], 2, ["below 0.5", "one half"]),
    "margin twice": (
        [
            "--method",
            "simpo",
            "--set",
            "objective.gamma=1",
            "--set",
            "objective.gamma_beta_ratio=0.5",
        ],
        2,
        ["Keep one"],
    ),
    "unknown method": (["--method", "dpoo"], 2, ["did you mean 'dpo'", "simpo"]),
    "another tool's name": (["--method", "sigmoid"], 2, ["did you mean 'dpo'"]),
    "a stranger's that is missing": (
        ["--method", "nowhere:loss"],
        2,
        ["importing nowhere failed", "PYTHONPATH"],
    ),
    "unknown permission": (["--allow", "raw_txt"], 2, ["did you mean raw_text"]),
    "unknown key": (["--set", "train.batchsize=4"], 2, ["did you mean batch_size"]),
    "TRL's name": (["--set", "train.warmup_ratio=0.1"], 2, ["TRL's name; here it is train.warmup"]),
    "steps and epochs": (["--epochs", "1"], 2, ["both say how long to train; give one"]),
    "no steps": (["--steps", "0"], 2, ["--steps 0"]),
    "not an assignment": (["--set", "objective.beta"], 2, ["expected KEY=VALUE"]),
    "unknown device": (["--set", "model.device=gpu"], 2, ["model.device"]),
}


@pytest.mark.parametrize("more, code, words", OPTIONS.values(), ids=OPTIONS)
def test_bad_options(more, code, words, invoke, pairs_file):
    refused(invoke(pairs_file, *more), code, *words)


LATER = {
    "reference with simpo": (
        ["--method", "simpo", "--set", "reference=frozen"],
        2,
        ["simpo uses none", "auto"],
    ),
    "no reference with dpo": (["--set", "reference=none"], 2, ["measured against one"]),
    "adapter_off with all weights": (
        ["--all-weights", "--set", "reference=adapter_off"],
        2,
        ["needs adapters", "cached or frozen"],
    ),
    "targets that are not there": (["--set", "model.lora.targets=[query]"], 2, ["q_proj"]),
    "an adapter that is none": (["--adapter", "nowhere"], 2, ["no adapter_config.json"]),
    "lora beside an adapter": (
        ["--adapter", "nowhere", "--set", "model.lora.rank=8"],
        2,
        ["brings its own rank"],
    ),
    "a template that is none": (["--set", "data.template=none.jinja"], 2, ["none.jinja"]),
}


@pytest.mark.parametrize("more, code, words", LATER.values(), ids=LATER)
def test_options_that_do_not_fit(more, code, words, invoke, pairs_file):
    refused(invoke(pairs_file, *more), code, *words)


RECIPES = {
    "a list": ("- dpo\n", ["expected a mapping"]),
    "broken YAML": ("data: {train: [", ["not valid YAML"]),
    "unknown key": ("data: {trian: x}\n", ["data.trian: unknown key; did you mean train"]),
    "TRL's": ("max_steps: 3\n", ["TRL's name; here it is train.steps"]),
}


@pytest.mark.parametrize("text, words", RECIPES.values(), ids=RECIPES)
def test_bad_recipes(text, words, invoke, tmp_path):
    (tmp_path / "recipe.yaml").write_text(text)
    refused(invoke(None, recipe=tmp_path / "recipe.yaml"), 2, *words)
    refused(invoke(None, recipe=tmp_path / "none.yaml"), 2, "no such recipe")


def test_errors_for_machines(invoke, tmp_path):
    """The same failure as one JSON object on standard output."""
    done = invoke(tmp_path / "none.jsonl", "--json")
    said = json.loads(done.stdout)
    assert (said["ok"], said["error"], said["exit"], done.exit_code) == (False, "DataError", 3, 3)
    assert "none.jsonl" in said["says"]
