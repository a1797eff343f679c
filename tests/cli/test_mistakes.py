"""Forty mistakes that people make, and the words that each is answered with.

Each answer has the exit code of its kind, no traceback, and what to type. The command that mends it
is taken out of the answer where there is one: it must parse, and some of them are run dry.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer
from conftest import pair_rows, write_rows
from typer.testing import CliRunner

from accord.cli.app import app

GROUP = typer.main.get_command(app)
TINY = "--model tiny --set model.dtype=float32 --batch-size 4 --steps 2"


@dataclass(frozen=True)
class Mistake:
    """A line that is typed, the exit code, and what the answer must hold."""

    typed: str
    code: int
    says: tuple[str, ...]
    fix: str | None = None  # a whole command that stands in the answer
    dry: bool = False  # run it: it needs no more than the tiny model's settings


def mistake(typed: str, code: int, *says: str, fix: str | None = None, dry: bool = False):
    return Mistake(typed, code, says, fix, dry)


MISTAKES = [
    # words and their spelling
    mistake("trian pairs.jsonl", 2, "no such command", fix="accord train"),
    mistake("evaluate runs/a", 2, fix="accord eval runs/first"),
    mistake("dpo --data pairs.jsonl", 2, fix="accord train --method dpo --data pairs.jsonl"),
    mistake(
        "pairs.jsonl", 2, "a command comes first", fix="accord train --data pairs.jsonl", dry=True
    ),
    mistake("--data pairs.jsonl", 2, "come behind the command", "accord train --data"),
    mistake("train --bta 0.3", 2, "no such option", "Did you mean --beta?"),
    mistake("train pairs.jsonl --gamma 1", 2, "an option of simpo", "--set objective.gamma=VALUE"),
    mistake(
        "train pairs.jsonl --steps 3 --set train.steps=2",
        2,
        "--steps and --set train.steps=2 both give train.steps",
    ),
    mistake("train pairs.jsonl --set train.seed=1 --set train.seed=2", 2, "both give train.seed"),
    mistake("train pairs.jsonl --beta nan", 2, "beta = nan is no finite number"),
    mistake("compare recipe.yaml --methods dpo,ipo --page p.txt", 2, "ends in .html"),
    mistake("train --judge vader", 2, "It is one of accord eval"),
    mistake("compare recipe.yaml --beta 0.3", 2, "TRL's name", "objective.beta"),
    mistake("train pairs.jsonl --steps ten", 2, "--steps ten: expected a whole number"),
    mistake("train pairs.jsonl --lr fast", 2, "fast: expected a number"),
    mistake("train pairs.jsonl --steps -5", 2, "--steps -5: expected 1 or more."),
    mistake("train pairs.jsonl --set train.steps=0", 2, "train.steps: expected 1 or more; got 0."),
    mistake("train pairs.jsonl --hold-out 10", 2, "expected less than 1: 10 % is 0.1"),
    mistake("train pairs.jsonl --hold-out 10%", 2, "a number, such as --hold-out 0.1."),
    mistake("train pairs.jsonl --on-flag warm", 2, "--on-flag warm: expected warn, stop or adapt"),
    mistake("train pairs.jsonl --set objective.beta=", 2, "no value stands behind the ="),
    mistake(
        "train pairs.jsonl --hold-out 0.1 --held-out test.jsonl",
        2,
        "--held-out test.jsonl and --hold-out 0.1 both say what to evaluate on; give one.",
    ),
    mistake("train pairs.jsonl --steps 3 --epochs 2", 2, "--steps 3 and --epochs 2 both say"),
    # help, and words without their option
    mistake("help train", 2, "accord train --help"),
    mistake("audit help", 2, "accord audit --help"),
    mistake("train --hlep", 2, "Did you mean --help?"),
    mistake("-V", 2, "Did you mean accord --version?"),
    mistake("completion", 2, "accord --install-completion"),
    mistake("train dpo pairs.jsonl", 2, fix="accord train pairs.jsonl --method dpo"),
    mistake("train KTO", 2, fix="accord train --method kto --data FILE"),
    mistake("audit pairs.jsonl tiny", 2, fix="accord audit pairs.jsonl --model tiny"),
    mistake("audit pairs.jsonl test.jsonl prompts.jsonl", 2, fix="accord audit '*.jsonl'"),
    mistake("train pairs.jsonl --output", 2, "--output: a value must follow"),
    mistake("audit", 2, "DATA is missing", fix="accord audit pairs.jsonl --held-out test.jsonl"),
    mistake("convert pairs.jsonl --output o.jsonl", 2, "--to is missing", "trl-unpaired"),
    mistake("convert pairs.jsonl --to opnai --output o.jsonl", 2, "Known:", "openai"),
    mistake("sweep recipe.yaml", 2, "--set is missing", "log:LOW..HIGH"),
    mistake("watch --port 99999", 2, "--port 99999: expected 65535 or less"),
    # settings
    mistake("train pairs.jsonl --method dop", 2, "did you mean 'dpo'?"),
    mistake("train prompts.jsonl --method GRPO", 2, "--set 'rollouts.rewards=[vader]'"),
    mistake("train pairs.jsonl --method orpo --beta 0.3", 2, "It accepts: weight"),
    mistake(
        "train pairs.jsonl --set objective.beta 0.3", 2, "Did you mean --set objective.beta=0.3?"
    ),
    mistake(
        "train --data pairs.jsonl --set objective.beta 0.3",
        2,
        "without a blank",
        "objective.beta=0.2",
    ),
    mistake(
        "compare recipe.yaml --methods dpo --set objective.beta 0.3",
        2,
        "Did you mean --set objective.beta=0.3?",
    ),
    mistake("train pairs.jsonl --set rollouts.rewards=[vader", 2, "'rollouts.rewards=[a,b]'"),
    mistake("train pairs.jsonl --set batch_size=4", 2, "did you mean train.batch_size?"),
    mistake("train pairs.jsonl --set beta=0.3", 2, "here it is objective.beta"),
    mistake("train pairs.jsonl --set model.device=gpu", 2, "expected cpu, cuda, cuda:1"),
    mistake("train pairs.jsonl --allow everything", 2, "'everything' is no permission. Known:"),
    mistake("audit pairs.jsonl --columns prompt:question", 2, "Expected such as --columns prompt="),
    # flags of other tools
    mistake(
        "train --dataset_name pairs.jsonl --per_device_train_batch_size 2"
        " --gradient_accumulation_steps 2 --bf16",
        2,
        "2 × accumulated 2",
        "--bf16: leave it out",
        fix="accord train --data pairs.jsonl --batch-size 4",
        dry=True,
    ),
    mistake(
        "train pairs.jsonl --max_length 512",
        2,
        "accord drops its oldest turns",
        fix="accord train pairs.jsonl --set data.max_tokens=512",
    ),
    mistake("train --dataset_name trl-lib/pairs", 2, "hub:NAME#SPLIT"),
    # files and folders
    mistake(f"train {TINY} --data pair.jsonl", 3, "no such file", "Did you mean pairs.jsonl?"),
    # the file is looked for before the model, which is not there either
    mistake("train --model nowhere --data pair.jsonl", 3, "Did you mean pairs.jsonl?"),
    mistake("train pair.jsonl", 2, "no such file of preferences", "Did you mean pairs.jsonl?"),
    mistake(f"train {TINY} --data pairs.jsonl --held-out tst.jsonl", 3, "Did you mean test.jsonl?"),
    mistake("train recipe.yml", 2, "no such recipe", "Did you mean recipe.yaml?"),
    mistake("train pairs.jsonl --data test.jsonl", 2, "both are data", "--held-out"),
    mistake("train pairs.jsonl test.jsonl", 2, "one too many", "--held-out test.jsonl"),
    mistake("train tiny", 2, "a model's folder", "accord train --model tiny --data FILE"),
    mistake("compare pairs.jsonl --methods dpo", 2, "names its data", "train: pairs.jsonl"),
    mistake(f"train {TINY} --data image.png", 3, "it is an image"),
    mistake(f"train {TINY} --data paper.pdf", 3, "it is a PDF"),
    mistake(f"train {TINY} --data nothing.zip", 3, "the zip archive is empty"),
    mistake(f"train {TINY} --data empty.jsonl", 3, "the file is empty"),
    mistake(f"train {TINY} --data tiny/tokenizer.json", 3, "belongs to a model", "--model tiny"),
    mistake(f"train {TINY} --data tiny", 3, "a model's folder", "name a file of preferences"),
    mistake("audit nothing", 3, "it has no data file"),
    mistake(f"train {TINY} --data prompts.jsonl", 3, "prompts without answers", "accord sample"),
    mistake("audit api.jsonl", 3, "the log of an API", "--method sft"),
    mistake(
        f"train {TINY} --data pairs.jsonl --held-out pairs.jsonl --output leak",
        3,
        "24 of 24 held-out rows",
        "split by prompt",
    ),
    mistake("train pairs.jsonl --model pairs.jsonl", 2, "a model is a folder", "--data pairs"),
    mistake("train pairs.jsonl --model model.gguf", 2, "a GGUF file", "safetensors"),
    mistake(
        "train pairs.jsonl --model adapter",
        2,
        "an adapter, not a model",
        "--set model.adapter=adapter",
    ),
    mistake("audit pairs.jsonl --model smolm2", 2, "Did you mean smollm2?"),
    mistake("train sft.jsonl", 3, "none of its 3 rows can be used as pairs", "--method sft"),
    mistake("train pairs.jsonl --model smolm2", 2, "Did you mean smollm2?"),
    mistake("train pairs.jsonl --model tny", 2, "Did you mean tiny?"),
    mistake("advise pairs.jsonl --model meta/llama", 2, "--allow hub"),
    # outputs
    mistake(f"train {TINY} --data pairs.jsonl --output tiny", 2, "a folder that is no run"),
    mistake(f"train {TINY} --data pairs.jsonl --output pairs.jsonl", 2, "is a file"),
    mistake(
        f"train {TINY} --data pairs.jsonl --output /proc/none/run",
        6,
        "cannot be written",
        "--output DIR",
    ),
    mistake("split pairs.jsonl --output tiny", 2, "exists already. Name another"),
    mistake("split pairs.jsonl --share 20", 2, "above 0 and below 1, such as 0.1"),
    mistake("convert pairs.jsonl --to openai --output test.jsonl", 2, "is not overwritten"),
    # runs and answers
    mistake("resume pairs.jsonl", 2, "no run here", "This is a file"),
    mistake("resume tiny", 2, "no run here", "accord eval"),
    mistake("report", 2, "runs/ has none", fix="accord train --data FILE --held-out FILE"),
    mistake("export nowhere", 2, "no run here"),
    mistake("eval tiny", 2, "Give one: --data FILE"),
    mistake("generate tiny", 2, "--prompts FILE or --prompt TEXT"),
    mistake("serve-policy tiny --start --python nowhere/bin", 2, "nowhere/bin has no vLLM"),
    mistake("serve-policy nowhere", 2, "nowhere"),
    mistake("sample tiny --prompts promts.jsonl --output o.jsonl", 3, "mean prompts.jsonl?"),
    mistake("score pairs.jsonl --reward vader --output o.jsonl", 3, "as accord sample writes them"),
    mistake("score empty.jsonl --reward length --output o.jsonl", 3, "the file is empty"),
    mistake("score answers.jsonl --reward lenght --output o.jsonl", 2, "Did you mean length?"),
    mistake("pair answers.jsonl --output o.jsonl", 3, "no `rewards`", "accord score"),
    mistake("pair ties.jsonl --output o.jsonl", 3, "no pair comes of 1 prompts", "No file was"),
    mistake("import pairs.jsonl", 2, "YAML file"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory, tiny_folder):
    """A folder with what people have lying around."""
    folder = tmp_path_factory.mktemp("mistakes")
    write_rows(folder / "pairs.jsonl", pair_rows(24))
    write_rows(folder / "test.jsonl", pair_rows(8, start=100))
    write_rows(folder / "prompts.jsonl", [{"prompt": row["prompt"]} for row in pair_rows(8)])
    answers = {"prompt": "Why?", "completions": ["Because.", "No."]}
    write_rows(folder / "answers.jsonl", [answers])
    write_rows(folder / "ties.jsonl", [answers | {"rewards": [0.5, 0.5]}])
    said = {"choices": [{"message": {"role": "assistant", "content": "Hi"}}], "model": "gpt"}
    write_rows(folder / "api.jsonl", [said])
    told = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in pair_rows(3)]
    write_rows(folder / "sft.jsonl", told)
    (folder / "empty.jsonl").touch()
    (folder / "image.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(200))
    (folder / "paper.pdf").write_bytes(b"%PDF-1.4\n%\xe2\xe3\n1 0 obj\n")
    zipfile.ZipFile(folder / "nothing.zip", "w").close()
    (folder / "model.gguf").write_bytes(b"GGUF\x03\0\0\0" + bytes(100))
    (folder / "nothing").mkdir()
    (folder / "tiny").symlink_to(tiny_folder)
    (folder / "adapter").mkdir()
    (folder / "adapter/adapter_config.json").write_text('{"base_model_name_or_path": "tiny"}')
    recipe = {"model": {"name": "tiny"}, "data": {"train": "pairs.jsonl", "held_out": "test.jsonl"}}
    (folder / "recipe.yaml").write_text(json.dumps(recipe))
    return folder


def answer(line: str) -> tuple[int, str]:
    """Type a line; return the exit code and what stands on standard error."""
    done = CliRunner().invoke(app, shlex.split(line))
    assert isinstance(done.exception, SystemExit | None), done.exception
    assert "Traceback" not in done.output
    return done.exit_code, done.stderr


def parse(line: str) -> None:
    _, name, *words = shlex.split(line)
    GROUP.commands[name].make_context(name, words)  # type: ignore[attr-defined]


@pytest.mark.parametrize("case", MISTAKES, ids=lambda case: case.typed[:60])
def test_a_mistake_is_answered(case, place, monkeypatch):
    monkeypatch.chdir(place)
    code, said = answer(case.typed)
    assert code == case.code and "error: " in said, said
    for words in (*case.says, *filter(None, [case.fix])):
        assert words in said, said
    if case.fix and case.fix != "accord train":
        parse(case.fix)
    if case.dry:
        code, said = answer(f"{case.fix} {TINY} --dry-run".removeprefix("accord "))
        assert code == 0, said


@pytest.mark.parametrize(
    "typed",
    [
        "train pairs.jsonl --method dp",
        "train pairs.jsonl --beta -1",
        "train pairs.jsonl --set objective.bta=0.2",
        "train pairs.jsonl --model gpt2",
        "train sft.jsonl",
    ],
)
def test_a_slip_of_the_pen_leaves_nothing_behind(typed, place, tmp_path, monkeypatch):
    """No folder, and no warning in front of the one line that matters."""
    for file in place.glob("*.jsonl"):
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    code, said = answer(typed)
    assert code in (2, 3) and said.startswith("error: "), said
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_names_the_file_and_not_a_folder_that_is_gone(place, monkeypatch):
    monkeypatch.chdir(place)
    typed = f"train pairs.jsonl {TINY} --hold-out 0.1 --dry-run"
    done = CliRunner().invoke(app, typed.split())
    assert done.exit_code == 0 and "accord-" not in done.output, done.output
    assert "pairs.jsonl (its training part):1" in done.output
    assert "reading pairs.jsonl (its held-out part)" in done.stderr


@pytest.mark.parametrize("name, method", [("sft.jsonl", "sft"), ("kto.jsonl", "kto")])
def test_an_audit_says_what_rows_that_are_no_pairs_are_for(name, method, place, monkeypatch):
    monkeypatch.chdir(place)
    said = [{"prompt": f"p {i}?", "completion": "a b", "label": i % 2 == 0} for i in range(4)]
    write_rows(place / "kto.jsonl", said)
    done = CliRunner().invoke(app, ["audit", name])
    assert f"accord train {name} --method {method}" in done.stdout, done.output


def test_there_are_forty():
    assert len(MISTAKES) >= 40 and len({case.typed for case in MISTAKES}) == len(MISTAKES)


def test_a_mistake_in_a_script_is_answered_in_json(place, monkeypatch):
    monkeypatch.chdir(place)
    done = CliRunner().invoke(app, ["trian", "--json"])
    said = json.loads(done.stdout)
    assert (said["ok"], said["exit"]) == (False, 2) and "accord train" in said["says"]


@pytest.fixture(scope="module")
def stopped(place):
    """A run that Ctrl-C stopped in its middle, and what it said."""
    write_rows(place / "many.jsonl", pair_rows(60, start=1000))
    typed = f"train many.jsonl {TINY} --steps 90 --held-out test.jsonl --output stopped"
    command = [sys.executable, "-m", "accord", *typed.split()]
    path = [str(Path(__file__).parents[2] / "src"), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(path)}
    with subprocess.Popen(command, cwd=place, stderr=subprocess.PIPE, text=True, env=env) as run:
        figures, until = place / "stopped/metrics.jsonl", time.monotonic() + 600
        while run.poll() is None and time.monotonic() < until:
            if figures.exists() and figures.read_text().count("\n") > 2:
                break
            time.sleep(0.05)
        run.send_signal(signal.SIGINT)
        _, said = run.communicate(timeout=120)
    assert run.returncode == 75, said
    return said


def test_what_was_interrupted_goes_on(stopped):
    assert "\nstopped by SIGINT." in stopped and "accord resume stopped" in stopped
    assert "Traceback" not in stopped


@pytest.mark.parametrize(
    "typed, code, words",
    [
        ("eval stopped --samples 2 --max-new-tokens 4", 0, ""),
        ("export stopped --output half", 0, ""),
        ("train stopped", 2, "accord resume stopped"),
        ("train pairs.jsonl --model stopped", 2, "is not finished"),
        (f"train pairs.jsonl {TINY} --output stopped", 2, "accord resume stopped"),
        ("resume .", 2, "the newest: stopped"),
        ("resume stopped/checkpoints", 2, "inside a run: stopped"),
    ],
)
def test_an_unfinished_run(typed, code, words, stopped, place, monkeypatch):
    """It can be looked at as far as it came, and says so; nothing takes it for something else."""
    monkeypatch.chdir(place)
    done = CliRunner().invoke(app, shlex.split(typed))
    assert done.exit_code == code and words in done.stderr, done.output
    if code == 0:
        assert "step" in done.output, "how far the run came is said"
