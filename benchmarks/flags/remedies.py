"""Do the remedies that `chosen-falling` names hold the chosen answer? In a world small enough to
work out, and in runs of the gallery's model.

    python benchmarks/flags/remedies.py --data DIR [--work DIR] [--only RUNS]

Each remedy is applied as the flag words it, alone: the same start, rows, order and number of
updates as the dpo run that raised it, every other option at its default. "A higher beta" is five
times the default, "a lower learning rate" a quarter. What holds nothing is published as well.

The world is the playground's preset Displacement (world.py). The runs are of the gallery's case
"nearly identical pairs" (cases.py), as it stands there; its seeds 0 to 3 were looked at when the
rule was made, so these are of seed SEED, each run once, whatever comes out.

Runs are kept in --work; one that lies there is not made again, but read anew. Results:
benchmarks/results/remedies.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from cases import CASES, Case
from making import make
from replay import replay
from tiny import make_base
from world import BETA, RATE, trained

from accord.objectives import resolve

RESULTS = Path(__file__).parents[1] / "results" / "remedies.json"
CASE = "nearly identical pairs"
SEED = 4
HIGHER_BETA, LOWER_RATE = 5, 0.25  # times what dpo had
# name -> the method, its beta as a multiple of the default, the learning rate likewise
RUNS = {
    "dpo": ("dpo", 1, 1),
    "ipo": ("ipo", 1, 1),
    "a higher beta": ("dpo", HIGHER_BETA, 1),
    "a lower learning rate": ("dpo", 1, LOWER_RATE),
    **{name: (name, 1, 1) for name in ("rpo", "dpop", "apo_zero", "nca", "sppo_hard", "cal_dpo")},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--work", type=Path, help="where the base model and the runs are kept")
    parser.add_argument("--only", default=",".join(RUNS), help="runs by name, separated by commas")
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    found = {**known, "preset": {name: in_world(*run) for name, run in RUNS.items()}}
    publish(found)
    rows, held_out = (pairs(options.data, part) for part in ("train", "test"))
    base = work / "base/final"
    if not base.is_dir():
        base = make_base(rows, work)
    runs = known.get("runs", {})
    for name in (name for name in RUNS if name in options.only.split(",")):
        folder = work / "runs" / f"{name}, seed {SEED}"
        if not (folder / "README.md").is_file():  # written last
            shutil.rmtree(folder, ignore_errors=True)
            make(case_of(name), SEED, rows, held_out, base, folder)
        runs[name] = measured(folder)
        print(name, runs[name], flush=True)
        ordered = {name: runs[name] for name in RUNS if name in runs}
        publish({**found, "case": CASE, "seed": SEED, "runs": ordered})


def publish(found: dict) -> None:
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def pairs(data: Path, part: str) -> list[dict]:
    lines = (data / f"truthfulqa/pairs_{part}.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def in_world(method: str, beta: float, rate: float) -> dict:
    """Train the world's policy; a multiple of beta is of the preset's."""
    return trained(method, beta=beta * BETA, rate=rate * RATE)


def case_of(name: str) -> Case:
    """Return the gallery's case with one remedy."""
    method, beta, rate = RUNS[name]
    case = next(case for case in CASES if case.name == CASE)
    settings = dict(case.settings, method=method)
    settings["learning_rate"] *= rate
    if beta != 1:
        settings["beta"] = beta * resolve(method).options["beta"]
    return replace(case, settings=settings)


def measured(run: Path) -> dict:
    """Read what a run recorded: its flags, and the held-out rows at its end."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if "eval_rewards/accuracies" in line][-1]
    flags = replay(run)
    return {
        "flag": next((step for step, f in flags if f.check == "flag.chosen-falling"), None),
        "also": [f.check.removeprefix("flag.") for _, f in flags if f.verdict == "warning"],
        "updates": last["step"],
        "chosen": last["diag/eval_log_ratio/chosen"],
        "rejected": last["diag/eval_log_ratio/rejected"],
        "down": last["diag/eval_chosen_down"],
        "accuracy": last["eval_rewards/accuracies"],
    }


if __name__ == "__main__":
    main()
