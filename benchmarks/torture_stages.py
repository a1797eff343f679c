"""Kill `accord iterate` and `accord rlhf` before any file operation: does the same command end as
if nothing had happened?

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python benchmarks/torture_stages.py [iterate] [rlhf]
    [--every 1] [--from 0]

Each life is killed (SIGKILL) at one boundary, run again with the same command until it ends, and
its folder is compared byte for byte with that of an uninterrupted one: prompts, answers, scores,
pairs, checkpoints, weights, metrics, held-out answers. Of the records, all but times and memory.
Counts go to benchmarks/results/torture_stages.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

# a fork is sound while there is one thread
os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
sys.path.insert(0, str(Path(__file__).parent))

from torture import warm_up
from torturing import child, world
from torturing.compare import differences

RESULTS = Path(__file__).parent / "results/torture_stages.json"
RECORDS = {"iterate": "rounds.json", "rlhf": "rlhf.json"}
OF_THE_PROCESS = ("log.jsonl", *RECORDS.values())
VOLATILE = {
    "seconds",
    "sessions",
    "killed",
    "update_seconds",
    "resident_peak",
    "resident_before",
    "gpu_peak",
    "command",
}
TRAIN = {"steps": 2, "batch_size": 4, "learning_rate": 0.003}
ROLLOUTS = {"num_generations": 2, "max_new_tokens": 4, "num_generations_eval": 1}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commands", nargs="*", choices=list(RECORDS), default=list(RECORDS))
    parser.add_argument("--every", type=int, default=1, help="kill at every n-th boundary only")
    parser.add_argument(
        "--from", type=int, default=0, dest="first", help="the first boundary to kill at"
    )
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args()
    warm_up()
    results, wrong = {}, 0
    # where a flush to the disk costs nothing
    memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    with tempfile.TemporaryDirectory(prefix="torture-", dir=memory) as folder:
        root = Path(folder)
        child.apart(lambda: world.build(root / "world"))
        for command in options.commands:
            results[command] = tortured(command, root, options)
            wrong += len(results[command]["wrong"])
            print(command, json.dumps(results[command], indent=1), flush=True)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=1) + "\n")
    sys.exit(bool(wrong))


def tortured(command: str, root: Path, options: argparse.Namespace) -> dict:
    """All lives of one command; each lies at the same place, since records name the folders that
    they hang on.
    """
    trial, straight = root / "life", root / f"{command}-straight"
    arguments = line(command, root, trial / "out")
    outcome = child.accord(arguments, trial)
    assert outcome.code == 0, outcome.said
    trial.rename(straight)
    counts, wrong = Counter(), []
    for at in range(options.first, outcome.boundaries, options.every):
        killed = child.accord(arguments, trial, fault=child.Fault("kill", at))
        counts["killed"] += killed.killed
        again = child.accord(arguments, trial)
        problems = (
            [again.said[-2000:]] if again.code else apart(command, straight / "out", trial / "out")
        )
        wrong += [{"boundary": at, "problems": problems[:6]}] if problems else []
        counts["lives"] += 1
        shutil.rmtree(trial)
    return {"boundaries": outcome.boundaries, "every": options.every, **counts, "wrong": wrong}


def line(command: str, root: Path, output: Path) -> list[str]:
    """The command line, its recipe written."""
    made = root / "world"
    recipe = {
        "model": {"name": str(made / "model"), "dtype": "float32", "device": "cpu"},
        "train": TRAIN,
        "data": {"train": str(made / "train.jsonl"), "held_out": str(made / "held_out.jsonl")},
        "checkpoint": {"every": 1, "keep": 1},
        "monitor": {"samples": 0, "audit_rows": 0},
        "evaluate": {"rows": 3},
    }
    if command == "iterate":
        recipe["rollouts"] = {"rewards": ["length"], **ROLLOUTS}
        flags = ["--rounds", "2", "--prompts-per-round", "9"]
    else:
        recipe["ppo"] = {"rollouts": ROLLOUTS}
        flags = ["--against", "dpo", "--gold", "length"]
    file = root / f"{command}.json"
    file.write_text(json.dumps(recipe))
    return [command, str(file), *flags, "--output", str(output)]


def apart(command: str, one: Path, other: Path) -> list[str]:
    """Files that differ, and records that differ in more than times and memory."""
    found = [problem for problem in differences(one, other) if not problem.endswith(OF_THE_PROCESS)]
    records = [
        steady(json.loads((folder / RECORDS[command]).read_text())) for folder in (one, other)
    ]
    return found + ([f"another {RECORDS[command]}"] if records[0] != records[1] else [])


def steady(node: object) -> object:
    """A record without what two runs of one command may have otherwise."""
    if isinstance(node, dict):
        return {name: steady(value) for name, value in node.items() if name not in VOLATILE}
    return [steady(value) for value in node] if isinstance(node, list) else node


if __name__ == "__main__":
    main()
