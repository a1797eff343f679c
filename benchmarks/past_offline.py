"""Reward against KL of methods with and without answers of their own: SmolLM2-135M, VADER's sentiment as the known reward.

    python benchmarks/past_offline.py --work DIR [--seeds 2] [--methods dpo online_dpo grpo ppo]

Each method is one `accord train`; DIR keeps the runs, and the command goes on where it was cut off. Offline DPO learns from the demo's
pairs of the model's own answers; the others from the same prompts, 32 batches of 8 prompts with 4 answers each, rewarded as they come. All
are measured alike afterwards: 2 answers of 40 tokens to each of 64 held-out prompts, the same draws for each. Results:
results/past_offline.json.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from accord.compare.contenders import Cell
from accord.compare.frontier import steps_of
from accord.compare.measure import Bench, Measured, Questions
from accord.config import make_config
from accord.evaluate.crossed import crossed_mean
from accord.training.display import Display
from accord.training.folder import RunFolder
from accord.training.run import resume, start

DEMO = Path(__file__).parents[1] / "src/accord/demo"
RESULT = Path(__file__).parent / "results/past_offline.json"
KEPT, POINTS = 4, 1  # checkpoints along each run, and how many of them are measured, the last one its end
BATCHES, PROMPTS, K = 32, 8, 4
OWN = {"rewards": ["vader"], "k": K, "max_new_tokens": 40}
ONLINE = {"batch_size": PROMPTS, "steps": BATCHES, "learning_rate": 3e-4, "schedule": "constant"}
METHODS = {
    "dpo": {"objective": {"name": "dpo"}, "train": {"epochs": 1.5}, "rollouts": None},
    "online_dpo": {"objective": {"name": "dpo"}, "train": ONLINE},
    "grpo": {"objective": {"name": "grpo"}, "train": ONLINE},
    "rloo": {"objective": {"name": "rloo"}, "train": ONLINE},
    "ppo": {"objective": {"name": "ppo"}, "train": {**ONLINE, "steps": 2 * BATCHES}, "rollouts": {**OWN, "passes": 2}},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", required=True, type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--runs", nargs="*", default=[], metavar="NAME=DIR", help="further finished runs to measure, of this same model")
    options = parser.parse_args()
    cells = {name: [trained(name, seed, options.work) for seed in range(options.seeds)] for name in options.methods}
    for given in options.runs:
        name, _, folder = given.partition("=")
        cells.setdefault(name, []).append(Cell(name, len(cells.get(name, [])), RunFolder.open(folder).config()))
    RESULT.write_text(json.dumps(measured(cells, options.work), indent=1) + "\n")


def trained(name: str, seed: int, work: Path) -> Cell:
    """The finished run of a method with a seed."""
    folder, recipe = work / f"{name}-seed{seed}", METHODS[name]
    own = recipe.get("rollouts", OWN)
    config = make_config({
        "model": {"name": "smollm2"}, "data": {"train": str(DEMO / "train.jsonl")}, "objective": recipe["objective"], "rollouts": own,
        "train": {"seed": seed, **recipe["train"]}, "checkpoint": {"every": recipe["train"].get("steps", 32) // KEPT, "keep": 9},
        "monitor": {"samples": 0, "audit_rows": 0}, "output": str(folder),
    })  # fmt: skip
    if not (folder / "adapter").exists():
        began = time.monotonic()
        resume(str(folder), Display()) if (folder / "config.yaml").exists() else start(config, Display())
        with (work / "seconds.jsonl").open("a") as file:
            file.write(json.dumps({"run": folder.name, "seconds": time.monotonic() - began}) + "\n")
    return Cell(name, seed, config)


def measured(cells: dict[str, list[Cell]], work: Path) -> dict:
    """Reward and KL of every run at several steps, with intervals over prompts and seeds."""
    asked = Questions(None, str(DEMO / "sample_prompts.txt"), 64, 2, 40, "vader")
    base = next(iter(cells.values()))[0].config
    bench = Bench(work, base, asked, Display())
    first = bench.start(next(iter(cells.values()))[0])
    points = []
    for name, own in cells.items():
        for steps in zip(*(kept(cell) for cell in own)):
            points.append(point(name, steps, [bench.of(cell, step) for cell, step in zip(own, steps)], first))
    return {"asked": asked.identity(), "start": vars_of(crossed_mean([first.score], first.prompt)), "points": points, "seconds": seconds(work)}


def kept(cell: Cell) -> list[int]:
    """The steps of a run's checkpoints, as many as are looked at, to its end."""
    steps = sorted(int(folder.name.removeprefix("step-")) for folder in (cell.path / "checkpoints").glob("step-*"))
    return [steps[step - 1] for step in steps_of(len(steps), min(POINTS, len(steps)))]


def point(name: str, steps: tuple[int, ...], seen: list[Measured], first: Measured) -> dict:
    return {
        "method": name, "steps": list(steps), "tokens": [sum(m.tokens) / len(m.tokens) for m in seen],
        "kl": vars_of(crossed_mean([m.kl for m in seen], first.prompt)), "reward": vars_of(crossed_mean([m.score for m in seen], first.prompt)),
        "by_seed": [{"reward": sum(m.score) / len(m.score), "kl": sum(m.kl) / len(m.kl)} for m in seen],
    }  # fmt: skip


def vars_of(estimate) -> dict:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def seconds(work: Path) -> dict[str, float]:
    """Of each run, all its sessions together."""
    found: dict[str, float] = {}
    file = work / "seconds.jsonl"
    for line in file.read_text().splitlines() if file.is_file() else ():
        entry = json.loads(line)
        found[entry["run"]] = found.get(entry["run"], 0.0) + entry["seconds"]
    return found


if __name__ == "__main__":
    main()
