"""Faults of runs: something changes between a stop and its resume, or after a run's end."""

from __future__ import annotations

import json
import re

from benchmarks.silentbench.lifecycle import in_adapter, in_model
from benchmarks.silentbench.lifecycle import rows as grammar
from benchmarks.silentbench.lifecycle.case import Case
from benchmarks.silentbench.lifecycle.kinds import Kind, folder_digest

METHODS = ("dpo", "ipo", "kto", "simpo", "bradley_terry")
RESUME = ("resume",)
AFTER = ("eval", "generate")


def _training_file(case: Case):
    return case.folder / f"train-{case.method}.jsonl"


def _edit(file, change) -> None:
    rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
    rows = change(rows) or rows
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def edited_data(case: Case) -> str:
    how = case.rng.choice(("reversed", "one letter", "a row less", "a row twice"))
    at = case.rng.randrange(40)

    def change(rows):
        if how == "reversed":
            return rows[::-1]
        if how == "one letter":
            rows[at]["prompt"][-1]["content"] += "?"
        if how == "a row less":
            del rows[at]
        if how == "a row twice":
            rows.insert(at, rows[at])

    _edit(_training_file(case), change)
    return how


def edited_held_out(case: Case) -> str:
    at = case.rng.randrange(12)
    file = case.folder / f"held-{case.method}.jsonl"
    _edit(file, lambda rows: rows[at + 1 :] + rows[:at])
    return f"without row {at}"


def edited_held_out_measured(case: Case) -> str:
    case.own_rows = True
    return edited_held_out(case)


def other_second_held(case: Case) -> str:
    case.second_held = grammar.pairs(case.data_seed + 1, 16, start=2_000)
    return "two runs, two held-out files"


def edited_config(case: Case) -> str:
    file = case.folder / "run" / "config.yaml"
    text = file.read_text(encoding="utf-8")
    how, pattern, to = case.rng.choice(
        (
            ("learning rate", r"learning_rate: .*", "learning_rate: 0.01"),
            ("seed", r"seed: \d+", "seed: 5"),
            ("batch size", r"batch_size: \d+", "batch_size: 4"),
            ("weight decay", r"weight_decay: .*", "weight_decay: 0.3"),
        )
    )
    file.write_text(re.sub(pattern, to, text, count=1), encoding="utf-8")
    return how


def changed_checkpoint(case: Case) -> str:
    """Every checkpoint is changed alike, so that no sound one is left to fall back on."""
    how = case.rng.choice(("one bit", "half of the file", "a file less"))
    for folder in (case.folder / "run" / "checkpoints").glob("step-*"):
        file = max(folder.glob("*.safetensors"), key=lambda f: f.stat().st_size)
        content = bytearray(file.read_bytes())
        if how == "one bit":
            content[-5] ^= 1
            file.write_bytes(bytes(content))
        elif how == "half of the file":
            file.write_bytes(bytes(content[: len(content) // 2]))
        else:
            file.unlink()
    return how


def other_newest(case: Case) -> str:
    """The newest checkpoint holds the tensors of the one before it."""
    folders = sorted((case.folder / "run" / "checkpoints").glob("step-*"))
    for file in folders[0].glob("*.safetensors"):
        (folders[-1] / file.name).write_bytes(file.read_bytes())
    return f"{folders[-1].name} holds {folders[0].name}"


def edited_template(case: Case) -> str:
    file = case.model / "chat_template.jinja"
    text = file.read_text(encoding="utf-8")
    role, other = case.rng.choice((("<|im_start|>", "<|im_start|> "), ("\n", "\n\n")))
    file.write_text(text.replace(role, other), encoding="utf-8")
    return f"{role!r} became {other!r}"


def seen_before(case: Case) -> str:
    """Note what the finished run holds; its resume may change no byte of it."""
    (case.folder / "before.txt").write_text(folder_digest(case.folder / "run"), encoding="utf-8")
    return "a finished run"


def no_byte_changed(case: Case) -> bool:
    before = (case.folder / "before.txt").read_text(encoding="utf-8")
    return folder_digest(case.folder / "run") == before


DATA = (
    r"(data|rows|train\S*|file).*(chang|differ|not the same|other)|(chang|differ).*(data|rows|file)"
)
RUNS = (
    Kind("training rows edited", DATA, edited_data, RESUME, METHODS, between=True),
    Kind(
        "training rows edited, compared",
        DATA,
        edited_data,
        ("compare, again",),
        ("dpo", "simpo"),
        between=True,
    ),
    Kind(
        "runs with other held-out rows, reported",
        r"held.?out[^.\n]*(differ|not the same|other (rows|file|data))"
        r"|(differ\w*|other|another) held",
        other_second_held,
        ("report",),
        ("dpo", "kto"),
    ),
    Kind("held-out rows edited", r"held", edited_held_out, RESUME, ("dpo", "kto"), between=True),
    Kind(
        "held-out rows edited, measured",
        r"held.?out|" + DATA,
        edited_held_out_measured,
        ("eval",),
        ("dpo",),
        between=True,
    ),
    Kind(
        "the run's config edited",
        r"config|learning_rate|seed|batch_size|weight_decay",
        edited_config,
        RESUME,
        ("dpo", "simpo"),
        between=True,
    ),
    Kind(
        "a checkpoint damaged",
        r"damaged|hash|sha256|digest|cannot be read|missing|incomplete|corrupt"
        r"|not what .*(saved|wrote|written)",
        changed_checkpoint,
        RESUME,
        METHODS,
        between=True,
    ),
    Kind(
        "an older checkpoint as the newest",
        r"damaged|hash|sha256|digest|not what .*(saved|wrote|written)|corrupt|differ",
        other_newest,
        RESUME,
        between=True,
    ),
    Kind(
        "the template edited",
        r"template|tokens?\b",
        edited_template,
        (*RESUME, *AFTER),
        ("dpo", "kto"),
        between=True,
    ),
    Kind(
        "the tokenizer edited",
        r"tokenizer|token ids|tokens?\b",
        in_model.permuted_tokenizer,
        (*RESUME, *AFTER, "export"),
        ("dpo", "simpo"),
        between=True,
    ),
    Kind(
        "the base edited",
        in_adapter.OWN_BASE + r"|base|model'?s? weights",
        in_adapter.edited_base,
        (*RESUME, *AFTER, "compare, again"),
        METHODS[:4],
        between=True,
    ),
    Kind(
        "the base's rope edited",
        in_adapter.OWN_BASE + r"|rope",
        in_adapter.other_rope,
        (*RESUME, *AFTER),
        between=True,
    ),
    Kind(
        "a finished run resumed",
        r"finished|nothing (is )?(left )?to do|already|complete",
        seen_before,
        ("resume, finished",),
        ("dpo", "kto", "grpo"),
        between=True,
        handled=no_byte_changed,
    ),
)
