"""Run every command line of README.md and docs/ as it is written, under bash and under zsh.

    python benchmarks/readme_commands.py                      # a table: command, bash, zsh, seconds
    python benchmarks/readme_commands.py --only docs/start.md --shells bash
    python benchmarks/readme_commands.py --list               # what is run, and what is not and why

Each document gets a fresh copy of the tree for each shell, with small files under the names that
its commands use; its commands run there in order, as a reader would type them. The embedded model
is a two-layer one with the same tokenizer, laid into a cache under the embedded model's own key,
and the shipped recipes take two updates: the command lines stay as they are. What cannot run here
stands in NOT_RUN with the reason, and is parsed all the same. A server is started, and stopped by a
signal.

The commands are also read without running them (tests/docs/test_commands.py), which is quick.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path
from threading import Lock

import yaml

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = ["README.md", "examples/README.md", "CONTRIBUTING.md", "docs"]
SHELLS = {"bash": ["bash", "--noprofile", "--norc", "-c"], "zsh": ["zsh", "-f", "-c"]}
BLOCK = re.compile(r"^```(bash|sh|zsh|shell|console)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
LIMIT = 1_800  # seconds of a command
ONE_PORT = Lock()
ADDRESS = "http://127.0.0.1"  # what a server says once it serves

# Commands that this script does not run, by pattern: the reason. They are parsed all the same.
NOT_RUN = {
    "make *": "sets up an environment from the package index or takes the whole suite: run by hand",
    "source .venv/bin/activate": "the environment of `make setup`; here it is the one at work",
    "pip install *": "the package index",
    "sudo apt-get install *": "packages of the machine",
    "accord *hub:*": "the hub",
    "hf download *": "the hub",
    "pipx install *": "the package index",
    "uv tool install *": "the package index",
    "python3 -m venv *": "an environment of its own, made by hand",
    "docker *": "no machine here runs Docker",
    "torchrun --standalone --nproc-per-node 8 *": "eight GPUs",
    "torchrun --standalone --nproc-per-node 4 *": "goes on with a run of eight GPUs",
    "torchrun --nnodes *": "two machines",
    "accord eval * --judge http://127.0.0.1:8000/v1 *": "an endpoint on port 8000 and its model",
    "lm_eval *": "a package that is no dependency, and a folder of tasks",
    "inspect eval *": "a package that is no dependency",
    "jupyter *": "a package that is no dependency; the tests run the cells",
    "python -m pytest *": "the suite itself",
}
# What a page takes for granted, as start.md leaves it.
FIRST_RUN = "accord train --data pairs.jsonl --held-out test.jsonl --output runs/first"
BEFORE = {"docs/chat.md": FIRST_RUN, "docs/elsewhere.md": FIRST_RUN, "docs/measure.md": FIRST_RUN}
SERVERS = ("accord watch *",)  # run until they are stopped
# What the exit code may be: an audit may find a few made-up rows unfit, and so may advice. Two
# updates of a two-layer model are smaller than the rounding of bfloat16, where a machine has it.
CODES = {"accord audit *": {0, 3}, "accord advise *": {0, 3}, "accord export * --merge *": {0, 6}}


@dataclass(frozen=True)
class Command:
    """One command line of a document."""

    document: str
    text: str  # as written, with its continued lines

    @property
    def flat(self) -> str:
        """The command on one line, for tables and patterns."""
        return " ".join(self.text.replace("\\\n", " ").split())

    def reason(self) -> str | None:
        """Why it is not run here."""
        return next((why for like, why in NOT_RUN.items() if fnmatch(self.flat, like)), None)


# ---------------------------------------------------------------- reading


def documents() -> dict[str, str]:
    """Read README and the pages."""
    found = {}
    for name in DOCUMENTS:
        path = ROOT / name
        files = sorted(path.rglob("*.md")) if path.is_dir() else [path] * path.exists()
        for file in files:
            found[str(file.relative_to(ROOT))] = file.read_text(encoding="utf-8")
    return found


def blocks(text: str) -> list[str]:
    """Find every block of a shell's commands."""
    return [found[2] for found in BLOCK.finditer(text)]


def is_script(block: str) -> bool:
    """Tell a file that is shown from commands that are typed."""
    return block.startswith("#!")


def commands() -> list[Command]:
    """List every command of every document, in order; scripts that are shown are none."""
    return [
        Command(name, line)
        for name, text in documents().items()
        for block in blocks(text)
        if not is_script(block)
        for line in lines_of(block)
    ]


def lines_of(block: str) -> Iterator[str]:
    """Split a block into commands; a line that ends in a backslash goes on."""
    held = ""
    for line in block.splitlines():
        held += line
        if line.endswith("\\"):
            held += "\n"
            continue
        if held.strip():
            yield held
        held = ""
    assert not held, f"a command has no end: {held}"


# ---------------------------------------------------------------- the folder that commands run in

WORDS = ("the", "cat", "sat", "on", "a", "mat", "and", "saw", "one", "red", "bird", "near", "two")


def sentence(seed: int, length: int) -> str:
    """Make a few words, other ones for other seeds."""
    return " ".join(WORDS[(seed * 7 + i * (seed % 5 + 1)) % len(WORDS)] for i in range(length))


def pairs(start: int, count: int) -> list[dict]:
    """Make distinct prompts with answers of different lengths."""
    return [
        {
            "prompt": f"Question {i}: {sentence(i, 4)}?",
            "chosen": f"Yes, {sentence(i, 3 + i % 5)}.",
            "rejected": f"No {sentence(i + 3, 2 + i % 3)}!",
        }
        for i in range(start, start + count)
    ]


def jsonl(rows: list[dict]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def files() -> dict[str, str]:
    """Make every file that commands name, by its name."""
    train, test = pairs(0, 40), pairs(100, 16)
    labels = [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for row in train
        for side in ("chosen", "rejected")
    ]
    asked = [
        {"prompt": f"What is {i} and {i}?", "answer": str(2 * i), "constraints": [NO_COMMA]}
        for i in range(16)
    ]
    named = [
        {
            "question": row["prompt"],
            "good": row["chosen"],
            "bad": row["rejected"],
            "notes": "An annotator wrote a few words on this row.",
        }
        for row in train
    ]
    data = {"train": "pairs.jsonl", "held_out": "test.jsonl"}
    small = {"batch_size": 8, "steps": 2}
    recipe = {"model": {"name": "smollm2"}, "data": data, "objective": {"name": "dpo"}}
    recipe["train"] = small
    own = {"data": {"train": "prompts.jsonl", "held_out": "others.jsonl"}}
    # of a model that says nothing, answers differ in their number of words and hardly in sentiment
    own["rollouts"] = {
        "num_generations": 4,
        "max_new_tokens": 16,
        "rewards": ["length"],
        "num_generations_eval": 1,
    }
    trl = {"loss_type": "sigmoid", "beta": 0.1, "use_peft": True, "model_name_or_path": "smollm2"}
    trl |= {"dataset_name": "pairs.jsonl", "max_steps": 2, "trainer": "dpo", "bf16": False}
    axolotl = {"rl": "dpo", "base_model": "smollm2", "adapter": "lora", "micro_batch_size": 8}
    axolotl["datasets"] = [{"path": "pairs.jsonl"}]
    return {
        "pairs.jsonl": jsonl(train),
        "test.jsonl": jsonl(test),
        "labels.jsonl": jsonl(labels),
        "answers.jsonl": jsonl(named),
        "prompts.jsonl": jsonl(asked),
        "others.jsonl": jsonl([{"prompt": f"Name a thing of {i}."} for i in range(8)]),
        "prompts.txt": "".join(f"Tell me of {word}.\n" for word in WORDS[:4]),
        "texts.txt": "".join(sentence(i, 12) + "\n" for i in range(8)),
        "axolotl.yaml": yaml.safe_dump(axolotl),
        "dpo.yaml": yaml.safe_dump(trl),
        "arguments.txt": "trl dpo --loss_type sigmoid --beta 0.1 --dataset_name pairs.jsonl",
        "recipe.yaml": yaml.safe_dump(recipe),
        "iterate.yaml": yaml.safe_dump(recipe | own),
        "rlhf.yaml": shortened(shown("reward_model:")),
        "truthfulqa/pairs_train.jsonl": jsonl(train),
        "truthfulqa/pairs_test.jsonl": jsonl(test),
        "truthfulqa/kto_train.jsonl": jsonl(labels),
        "rlvr/train.jsonl": jsonl(asked),
        "rlvr/held_out.jsonl": jsonl(asked[:8]),
    }


def shown(words: str) -> str:
    """Find the recipe in docs/rlhf.md that has these words."""
    text = (ROOT / "docs/rlhf.md").read_text(encoding="utf-8")
    return next(one for one in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if words in one)


NO_COMMA = {"instruction_id": "punctuation:no_comma", "kwargs": {}}


def fresh(folder: Path, document: str, model: Path) -> None:
    """Copy the tree as git sees it, and lay the small files into it.

    A file that the document's own commands write first is not laid there: a reader would not have
    it either.
    """
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("tests/", "benchmarks/results/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    written = set()
    for command in commands():
        if command.document == document:
            words = shlex.split(command.flat)
            written |= {
                value
                for flag, value in pairwise(words)
                if flag in ("--output", "--recipe", "--fix", "--page")
            }
    for name, text in files().items():
        if name not in written:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
            if name.startswith(("truthfulqa/", "rlvr/")):
                with gzip.open(folder / f"{name}.gz", "wt", encoding="utf-8") as file:
                    file.write(text)
    for name in ("MODEL", "BASE"):
        shutil.copytree(model, folder / name)
    for recipe in (folder / "src/accord/recipes").glob("*.yaml"):
        recipe.write_text(shortened(recipe.read_text(encoding="utf-8")), encoding="utf-8")


def shortened(recipe: str) -> str:
    """Give a recipe two updates and short answers."""
    recipe = re.sub(r"\b(steps|epochs): [\d.]+", "steps: 2", recipe)
    recipe = re.sub(r"max_new_tokens: \d+", "max_new_tokens: 6", recipe)
    return re.sub(r"batch_size: \d+", "batch_size: 8", recipe)


def tiny_cache(cache: Path) -> Path:
    """Lay a two-layer model into the cache as the embedded one; its folder."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from accord.models import embedded

    tokenizer = AutoTokenizer.from_pretrained(embedded.embedded_folder())
    source = embedded._gguf_file()
    with source.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    folder = cache / f"smollm2-135m-instruct-{digest[:16]}-v{embedded.CONVERSION}"
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        initializer_range=0.2,
    )
    LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    embedded._record(folder, digest)
    return folder


# ---------------------------------------------------------------- running


# A program that writes down its name and arguments, and does nothing else.
STUB = """#!/bin/sh
{ printf '%s\\0' "${0##*/}" "$@"; printf '\\036'; } >> "$HEARD"
"""


def arguments(typed: list[Command], shell: str, folder: Path) -> list[list[list[str]]]:
    """Have a shell read each command as it is written, with a program of every name that only
    writes down its arguments; per command, what was started.

    So a whole document is read by a shell in a moment: whatever it would have expanded, dropped or
    refused shows in what arrives.
    """
    programs = folder / "bin"
    programs.mkdir(parents=True, exist_ok=True)
    for name in {shlex.split(command.flat)[0] for command in typed} - {"source"}:
        (programs / name).write_text(STUB)
        (programs / name).chmod(0o755)
    (folder / ".venv/bin").mkdir(parents=True, exist_ok=True)
    (folder / ".venv/bin/activate").write_text("")
    found = []
    for command in typed:
        heard = folder / "heard"
        heard.write_text("")
        done = subprocess.run(
            [shutil.which(shell), *SHELLS[shell][1:], command.text],
            cwd=folder,
            env={"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "HEARD": str(heard)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{shell}: {command.flat}: {done.stderr}"
        started = heard.read_text().split("\x1e")[:-1]
        found.append([words.split("\0")[:-1] for words in started])
    return found


@dataclass(frozen=True)
class Outcome:
    """What became of one command under one shell."""

    says: str  # ok, or what went wrong
    seconds: float
    output: str = ""


def run(command: Command, shell: str, folder: Path, environment: dict[str, str]) -> Outcome:
    """Run a command as it is written, in a folder. A server is stopped once it names its
    address.
    """
    serves = any(fnmatch(command.flat, like) for like in SERVERS)
    if serves:  # one at a time: they take the same port
        with ONE_PORT:
            return watched(command, shell, folder, environment, serves)
    return watched(command, shell, folder, environment, serves)


def watched(
    command: Command, shell: str, folder: Path, environment: dict[str, str], serves: bool
) -> Outcome:
    """Run a command and look at what it says until it ends, or is stopped."""
    began, served = time.monotonic(), False
    with tempfile.TemporaryFile("w+", encoding="utf-8") as heard:
        process = subprocess.Popen(
            [*SHELLS[shell], command.text],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=heard,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        while process.poll() is None and time.monotonic() - began < LIMIT:
            time.sleep(0.2)
            heard.seek(0)
            if serves and not served and ADDRESS in heard.read():
                served = True
                time.sleep(2)
                os.killpg(process.pid, signal.SIGINT)
        seconds, code = time.monotonic() - began, process.poll()
        if code is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        heard.seek(0)
        output = heard.read()
    allowed = next((codes for like, codes in CODES.items() if fnmatch(command.flat, like)), {0})
    if code is None:
        return Outcome("too long", seconds, output)
    if "Traceback" in output:
        return Outcome("traceback", seconds, output)
    if served if serves else code in allowed:
        return Outcome("ok", seconds, output)
    return Outcome(f"exit {code}", seconds, output)


def tried(
    document: str, shell: str, work: Path, cache: Path, model: Path
) -> dict[Command, Outcome]:
    """Run a document's commands, in order, in one fresh copy."""
    folder = work / shell / document.replace("/", "-")
    folder.mkdir(parents=True)
    fresh(folder, document, model)
    own_cache = folder / ".cache"
    shutil.copytree(cache, own_cache)
    environment = os.environ | {
        "ACCORD_CACHE": str(own_cache),
        "ACCORD_EXAMPLE_STEPS": "2",
        "PYTHONPATH": os.pathsep.join(
            [str(folder / "src"), *filter(None, [os.environ.get("PYTHONPATH")])]
        ),
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "HF_HUB_OFFLINE": "1",
        "GOMP_SPINCOUNT": "3000",
        "BROWSER": "true",  # the playground opens one
    }
    found = {}
    if document in BEFORE:
        before = run(Command(document, BEFORE[document]), shell, folder, environment)
        assert before.says == "ok", before.output
    for command in commands():
        if command.document == document and command.reason() is None and command not in found:
            found[command] = run(command, shell, folder, environment)
            said = found[command]
            print(f"{shell:<5} {said.says:<12} {said.seconds:6.1f} s  {command.flat}", flush=True)
            if said.says != "ok":
                print("    " + "\n    ".join(said.output.splitlines()[-12:]), flush=True)
    return found


def table(found: dict[str, dict[Command, Outcome]]) -> str:
    """Show each command with what became of it under each shell."""
    lines = ["| document | command | bash | zsh | seconds |", "|---|---|---|---|---|"]
    for command in dict.fromkeys(commands()):
        cells = [found.get(shell, {}).get(command) for shell in SHELLS]
        if (why := command.reason()) is not None:
            says, seconds = [f"not run: {why}", ""], "–"
        else:
            says = [cell.says if cell else "–" for cell in cells]
            seconds = " · ".join(f"{cell.seconds:.0f}" for cell in cells if cell) or "–"
        shown = command.flat.replace("|", "\\|")
        lines.append(f"| {command.document} | `{shown}` | {says[0]} | {says[1]} | {seconds} |")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", action="append", help="a document; may be repeated")
    parser.add_argument("--shells", nargs="+", choices=list(SHELLS), default=list(SHELLS))
    parser.add_argument("--list", action="store_true", help="run nothing")
    parser.add_argument("--work", help="a folder to keep what was run in")
    options = parser.parse_args()
    if options.list:
        print(table({}))
        return 0
    missing = [shell for shell in options.shells if shutil.which(shell) is None]
    for shell in missing:
        print(f"{shell} is not installed: its column stays empty")
    shells = [shell for shell in options.shells if shell not in missing]
    chosen = list(dict.fromkeys(command.document for command in commands()))
    chosen = [name for name in chosen if not options.only or name in options.only]
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(options.work or scratch).resolve()
        model = tiny_cache(work / "cache")

        def all_of(shell: str) -> dict[Command, Outcome]:
            return {
                command: outcome
                for name in chosen
                for command, outcome in tried(name, shell, work, work / "cache", model).items()
            }

        with ThreadPoolExecutor(len(shells)) as pool:
            found = dict(zip(shells, pool.map(all_of, shells), strict=True))
    print(f"\n{table(found)}")
    failed = [
        f"{shell}: {command.flat}: {outcome.says}"
        for shell, outcomes in found.items()
        for command, outcome in outcomes.items()
        if outcome.says != "ok"
    ]
    print(f"\n{sum(map(len, found.values()))} runs, {len(failed)} failed", *failed, sep="\n  ")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
