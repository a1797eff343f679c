"""Do the remedies that `chosen-falling` names hold the chosen answer? In a world small enough to
work out, and in a language model.

    python benchmarks/flags/remedies.py --data DIR [--work DIR] [--pilot] [--times X] [--only RUNS]

Each remedy is applied as the flag words it, alone: the same start, rows, order and number of
updates as the dpo run that raised it, every other option at its default. "A higher beta" is five
times the default, "a lower learning rate" a quarter. What holds nothing is published as well.

The world is the playground's preset Displacement (world.py).

The language model is SmolLM2-135M, with adapters on all linear layers. The case was fixed before
the runs: of truthfulqa (in DIR, see BENCHMARKS.md) the pairs whose two answers have at least half
of their words in common, in order (ALIKE), since answers that look alike are what displaces; two
passes of 16 pairs an update; held-out pairs chosen likewise, measured before and after. The
learning rate is the least of 1, 2 and 4 times the suggested one at which dpo raises the flag on
seed 0 (--pilot publishes nothing); the table is of seed 1, run once.

Runs are kept in --work; one that lies there is not made again, but read anew. Results:
benchmarks/results/remedies.json.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from difflib import SequenceMatcher
from pathlib import Path

from replay import replay
from world import BETA, RATE, trained

import accord
from accord.objectives import resolve

RESULTS = Path(__file__).parents[1] / "results" / "remedies.json"
ALIKE = 0.5  # least share of common words of two answers that are nearly the same
EPOCHS, BATCH = 2, 16
PILOT, SEED = 0, 1
TIMES = (1, 2, 4)  # of the suggested learning rate, in the order in which the pilot tries them
HIGHER_BETA, LOWER_RATE = 5, 0.25  # times what dpo had
# name -> the method, its beta as a multiple of the default, the learning rate likewise
RUNS = {
    "dpo": ("dpo", 1, 1),
    "ipo": ("ipo", 1, 1),
    "a higher beta": ("dpo", HIGHER_BETA, 1),
    "a lower learning rate": ("dpo", 1, LOWER_RATE),
    **{name: (name, 1, 1) for name in ("rpo", "dpop", "apo_zero", "nca", "sppo_hard", "cal_dpo")},
}
FIELDS = {
    "model.lora.targets": "all-linear",
    "evaluate.every": 0,  # before the first update and after the last
    "monitor.samples": 0,
    "checkpoint.every": 0,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--work", type=Path, help="where the runs are kept")
    parser.add_argument("--pilot", action="store_true", help="find the learning rate, and stop")
    parser.add_argument("--times", type=float, default=1.0, help="what --pilot said")
    parser.add_argument("--only", default=",".join(RUNS), help="runs by name, separated by commas")
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp())
    work.mkdir(parents=True, exist_ok=True)
    data = {part: alike(options.data, part, work) for part in ("train", "test")}
    if options.pilot:
        pilot(data, work)
        return
    known = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    found = {**known, "preset": {name: in_world(*run) for name, run in RUNS.items()}}
    publish(found)
    runs = known.get("model", {}).get("runs", {})
    for name in (name for name in RUNS if name in options.only.split(",")):
        runs[name] = measured(name, SEED, options.times, data, work)
        print(name, runs[name], flush=True)
        ordered = {name: runs[name] for name in RUNS if name in runs}
        publish({**found, "model": {**about(data, options.times), "runs": ordered}})


def publish(found: dict) -> None:
    RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def pilot(data: dict[str, Path], work: Path) -> None:
    """Print by what the suggested learning rate is multiplied."""
    for times in TIMES:
        found = measured("dpo", PILOT, times, data, work)
        print(times, found, flush=True)
        if found["flag"] is not None:
            return
    print("the flag was not raised: there is no case")


def in_world(method: str, beta: float, rate: float) -> dict:
    """Train the world's policy; a multiple of beta is of the preset's."""
    return trained(method, beta=beta * BETA, rate=rate * RATE)


def alike(data: Path, part: str, work: Path) -> Path:
    """Write the pairs of truthfulqa whose answers are nearly the same."""
    lines = (data / f"truthfulqa/pairs_{part}.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [row for row in map(json.loads, lines) if common(row) >= ALIKE]
    file = work / f"{part}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


def common(row: dict) -> float:
    """Return the share of the words of both answers that they have in common, in order."""
    words = (row[side].split() for side in ("chosen", "rejected"))
    return SequenceMatcher(None, *words, autojunk=False).ratio()


def about(data: dict[str, Path], times: float) -> dict:
    """Describe what all runs share."""
    rows = {part: len(file.read_text(encoding="utf-8").splitlines()) for part, file in data.items()}
    return {"seed": SEED, "rows": rows, "batch": BATCH, "epochs": EPOCHS, "times": times}


def measured(name: str, seed: int, times: float, data: dict[str, Path], work: Path) -> dict:
    """Make a run, where it does not lie in `work` yet, and read what it recorded."""
    run = work / "runs" / f"{name}, {times:g} times, seed {seed}"
    if not (run / "README.md").is_file():  # written last
        shutil.rmtree(run, ignore_errors=True)
        make(name, seed, times, data, run)
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    last = [line for line in lines if "eval_rewards/accuracies" in line][-1]
    return {
        "flag": next((s for s, f in replay(run) if f.check == "flag.chosen-falling"), None),
        "also": [f.check.removeprefix("flag.") for _, f in replay(run) if f.verdict == "warning"],
        "updates": last["step"],
        "chosen": last["diag/eval_log_ratio/chosen"],
        "rejected": last["diag/eval_log_ratio/rejected"],
        "chosen_token": last["diag/eval_log_ratio_token/chosen"],
        "down": last["diag/eval_chosen_down"],
        "accuracy": last["eval_rewards/accuracies"],
        "interval": [last[f"diag/eval_accuracy_{end}"] for end in ("low", "high")],
    }


def make(name: str, seed: int, times: float, data: dict[str, Path], run: Path) -> None:
    """Train SmolLM2-135M as dpo or with one remedy."""
    method, beta, rate = RUNS[name]
    usual = resolve("dpo").suggested_rate(576, adapters=True)
    more = {} if beta == 1 else {"beta": beta * resolve(method).options["beta"]}
    accord.train(
        model="smollm2",
        data=str(data["train"]),
        held_out=str(data["test"]),
        method=method,
        epochs=EPOCHS,
        batch_size=BATCH,
        learning_rate=times * rate * usual,
        seed=seed,
        output=str(run),
        set=FIELDS,
        **more,
    )


if __name__ == "__main__":
    main()
