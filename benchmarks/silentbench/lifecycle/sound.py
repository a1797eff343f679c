"""Sound cases drawn from many settings. Rule, written before any run: whatever alarm one of them
gets (a warning, a refusal, a crash, an exit code that is not 0) is a false alarm.
"""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks.machines import available
from benchmarks.silentbench.lifecycle import places
from benchmarks.silentbench.lifecycle import rows as grammar
from benchmarks.silentbench.lifecycle.case import LABELS, PROMPTS, Case
from benchmarks.silentbench.lifecycle.models import FAMILIES
from benchmarks.silentbench.lifecycle.said import CRASH, Step
from benchmarks.silentbench.world import message, text

# A line with ! that accuses nothing: it says in which dtype a merge was written, and must be there.
ASKED_FOR = re.compile(r"^\s*! written in float32: in bfloat16 rounding would change")
ROOT = Path(__file__).resolve().parents[3]
METHODS = (
    *("dpo", "ipo", "kto", "simpo", "orpo", "bradley_terry", "cdpo", "robust", "hinge", "cpo"),
    *("grpo", "rloo"),
)
BETAS = {
    "dpo": (0.05, 0.1, 0.3),
    "ipo": (0.05, 0.1, 0.3),
    "kto": (0.05, 0.1, 0.3),
    "simpo": (2.0, 2.5, 10.0),
}
REFERENCED = ("dpo", "ipo", "cdpo", "robust", "hinge", "kto")


def draw(seed: int, number: int) -> tuple[dict, list[str], dict[str, str]]:
    """Draw what a sound case is: fields of `Case`, its last command, the processor's settings."""
    rng = random.Random(f"sound-{seed}-{number}")
    method = METHODS[number % len(METHODS)]
    family = rng.choice(FAMILIES)
    whole = rng.random() < 0.25 and method not in PROMPTS
    settings: dict = {
        "model.dtype": rng.choice(("float32", "float32", "bfloat16")),
        "train.micro_tokens": rng.choice((128, 512, 2048)),
        "train.schedule": rng.choice(("linear", "cosine", "constant")),
        "train.warmup": rng.choice((0.0, 0.1, 0.5, 2.0)),
        "train.weight_decay": rng.choice((0.0, 0.01, 0.1)),
        "train.max_grad_norm": rng.choice((0.5, 1.0, 10.0)),
        "train.seed": rng.randrange(100),
        "evaluate.every": rng.choice((0, 3)),
    }
    if method in BETAS:
        settings["objective.beta"] = rng.choice(BETAS[method])
    settings |= _weights(rng, method, whole)
    words = ["--all-weights"] if whole else []
    words += ["--learning-rate", rng.choice(("1e-5", "1e-4") if whole else ("1e-4", "1e-3"))]
    words += ["--batch-size", rng.choice(("4", "7", "16"))]
    last = rng.choice(("none", "eval", "export", "generate", "resume, finished"))
    fields = {"method": method, "family": family, "settings": settings, "words": words}
    environment = list(available().items())
    name, values = environment[number // 3 % len(environment)] if number % 3 == 0 else ("", {})
    if values.get("ATEN_CPU_CAPABILITY") in ("default", "avx2"):
        # torch 2.13's own attention of 64 or more bfloat16 positions fails there, on a processor
        # with AVX-512: "pack_vnni2 is only supported when avx512 is supported"
        settings["model.dtype"] = "float32"
    return fields, [last, rng.choice(SHAPES), name], values


def _weights(rng: random.Random, method: str, whole: bool) -> dict:
    """Settings of adapters and of the reference."""
    found: dict = {}
    if not whole:
        found["model.lora.rank"] = rng.choice((4, 16, 32))
        found["model.lora.targets"] = rng.choice(("attention", "all-linear"))
        found["model.lora.dropout"] = rng.choice((0.0, 0.0, 0.05))
        found["model.lora.dora"] = rng.random() < 0.15
    if method in REFERENCED:
        kinds = (
            ("auto", "frozen", "cached") if whole else ("auto", "frozen", "adapter_off", "cached")
        )
        found["reference"] = rng.choice(kinds)
    return found


def as_strings(rows: list[dict]) -> list[dict]:
    return [{c: text(row, c) for c in ("prompt", "chosen", "rejected")} for row in rows]


def with_system(rows: list[dict]) -> list[dict]:
    system = message("system", "You answer briefly.")
    return [{**row, "prompt": [system, *row["prompt"]]} for row in rows]


def dialogues(rows: list[dict]) -> list[dict]:
    before = [message("user", "Hello."), message("assistant", "Hello. Ask away.")]
    return [{**row, "prompt": [*before, *row["prompt"]]} for row in rows]


def plain(rows: list[dict]) -> list[dict]:
    return rows


ROW_SHAPES: dict[str, Callable[[list[dict]], list[dict]]] = {
    "messages": plain,
    "strings": as_strings,
    "system": with_system,
    "dialogues": dialogues,
}
SHAPES = tuple(ROW_SHAPES)


def make(folder: Path, models: Path, seed: int, number: int) -> tuple[Case, dict]:
    """Make a sound case, and what is to be done with it."""
    fields, (last, shape, machine), environment = draw(seed, number)
    if shape == "strings" and fields["method"] in (*LABELS, *PROMPTS):
        shape = "messages"  # text beside messages is another case than settings
    rng = random.Random(f"rows-{seed}-{number}")
    case = Case(folder, models, rng, **fields)
    change = ROW_SHAPES[shape]
    n = rng.choice((32, 48, 70))
    case.rows = change(grammar.pairs(case.data_seed, n))
    case.held = change(grammar.pairs(case.data_seed, 16, start=1_000))
    return case, {"last": last, "shape": shape, "machine": machine, "environment": environment}


def run(case: Case, about: dict) -> list[str]:
    """Do a sound case; what is returned are its false alarms."""
    with case.stack:
        if about["machine"]:
            case.said.append(_elsewhere(case, about["environment"]))
        else:
            places.train(case)
            last = about["last"]
            if last != "none" and case.said[-1].code == 0 and _can(case, last):
                places.PLACES[last].last(case)
    return [alarm for step in case.said for alarm in alarms_of(step)]


def _can(case: Case, last: str) -> bool:
    """A reward model gives no answers and is not measured by `eval`; a run of its own answers is
    measured by its rewards; of whole weights there is nothing to merge.
    """
    if case.method == "bradley_terry" and last in ("generate", "export", "eval"):
        return False
    if last == "export":
        return "--all-weights" not in case.words
    return last != "eval" or case.method not in PROMPTS


def alarms_of(step: Step) -> list[str]:
    """List what a sound case should not have been told."""
    found = [alarm for alarm in step.alarms if not ASKED_FOR.search(alarm)]
    found += [step.crash] if step.crash else []
    if not found and step.code != 0:
        found = [f"{step.words[0]}: exit code {step.code}: {step.output[-300:]}"]
    return found


def _elsewhere(case: Case, environment: dict[str, str]) -> Step:
    """Train in a process of its own, in which the processor's libraries take other kernels."""
    words = case.train_words(case.folder / "run")
    env = os.environ | {"OMP_NUM_THREADS": "2"} | environment
    env |= {"PYTHONPATH": str(ROOT / "src"), "ACCORD_DEBUG": "0", "COLUMNS": "400"}
    env["ACCORD_CACHE"] = str(case.folder / "cache")
    done = subprocess.run(
        [sys.executable, "-m", "accord", *words],
        env=env,
        cwd=case.folder,
        text=True,
        capture_output=True,
        timeout=600,
    )
    output = done.stdout + done.stderr
    crash = output[-600:] if done.returncode == 1 or CRASH.search(output) else ""
    return Step(words, done.returncode, output, crash)
