"""SilentBench's lifecycle part: faults drawn from a seed, each at a step of a model's life.

    python -m benchmarks.silentbench.lifecycle --seed 100 --cases 200 --sound 100

Named: a message says the cause, by a pattern that was written before any run. Wrong cause: an alarm
says something else. Missed: not a word. Handled: the outcome was measured to be right. A run that
is stopped goes on where it was. Results: benchmarks/results/silentbench_lifecycle.json, and the
table on standard output.
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import argparse
import json
import tempfile
from pathlib import Path

import torch

from accord.environment.versions import installed_versions
from accord.models.embedded import without_progress_bars
from benchmarks.silentbench.lifecycle.generator import Lab, draws, sound_cases
from benchmarks.silentbench.lifecycle.models import FAMILIES, trained_model
from benchmarks.silentbench.lifecycle.table import counts, table

RESULTS = Path(__file__).parents[2] / "results" / "silentbench_lifecycle.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--cases", type=int, default=200, help="faults")
    parser.add_argument("--sound", type=int, default=100, help="sound cases")
    parser.add_argument("--only", default="", help="kinds whose name holds this")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument(
        "--models",
        type=Path,
        default=Path(tempfile.gettempdir()) / "silentbench-models",
        help="where the trained tiny models are kept",
    )
    asked = parser.parse_args()
    torch.set_num_threads(1)
    asked.output.parent.mkdir(parents=True, exist_ok=True)
    record = former(asked.output)
    with tempfile.TemporaryDirectory() as work, without_progress_bars():
        for family in FAMILIES:
            trained_model(asked.models, family)
        lab = Lab(Path(work), asked.models)
        _faults(lab, asked, record)
        done = {c["number"] for c in record["sound"] if c["seed"] == asked.seed}
        for case in sound_cases(lab, asked.seed, asked.sound, done):
            record["sound"].append(case)
            _write(asked.output, record)
            words = f"sound {case['number']} {case['method']} {case['family']} {case['last']}"
            print(f"{words}: {case['alarms'] or 'silent'} ({case['seconds']} s)", flush=True)
    print(table(record))


def _faults(lab: Lab, asked: argparse.Namespace, record: dict) -> None:
    done = {(c["seed"], c["number"]) for c in record["cases"]}
    for draw in draws(asked.seed, asked.cases):
        if (draw.seed, draw.number) in done or asked.only not in draw.kind:
            continue
        case = lab.do(draw)
        record["twins"] |= {key: twin["alarms"] for key, twin in lab.twins.items()}
        record["cases"].append(case)
        _write(asked.output, record)
        words = f"{draw.number} {draw.kind} | {draw.place} | {draw.method} | {draw.family}"
        print(f"{words} | {case['drawn']}: {case['verdict']} ({case['seconds']} s)", flush=True)


def former(file: Path) -> dict:
    """The results of an earlier run of the same command, which goes on behind them."""
    if not file.exists():
        return {"cases": [], "sound": [], "twins": {}}
    record = json.loads(file.read_text(encoding="utf-8"))
    return {key: record[key] for key in ("cases", "sound", "twins")}


def _write(file: Path, record: dict) -> None:
    versions = installed_versions(("torch", "transformers", "peft"))
    whole = {"versions": versions, "counts": counts(record), **record}
    file.write_text(json.dumps(whole, indent=1, default=str) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
