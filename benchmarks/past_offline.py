"""Reward against KL of methods with and without answers of their own: SmolLM2-135M, VADER's
sentiment as the known reward.

    python benchmarks/past_offline.py --work DIR [--seeds 2] [--methods dpo online_dpo grpo ppo]
    [--points 4]
        [--runs NAME=DIR …] [--rounds DIR …]

Each method is one `accord train`; DIR keeps the runs, and the command goes on where it was cut off.
Offline DPO learns from the demo's pairs of the model's own answers; the others from the same
prompts, 32 batches of 8 prompts with 4 answers each, rewarded as they come. All are measured alike
afterwards, at --points checkpoints: 2 answers of 40 tokens to each of 64 held-out prompts, the same
draws for each. --rounds: finished folders of `accord iterate` with recipes/iterate.yaml, one a
seed, with the figures that they hold: as many answers to the same prompts, other draws. Results:
results/past_offline.json, and the picture results/past_offline.html.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

from accord.campaign.compare.contenders import Cell
from accord.campaign.compare.frontier import steps_of
from accord.campaign.compare.measure import ModelMeasurer, Questions
from accord.campaign.rlhf.measured import SCORED, Scored
from accord.config.schema import make_config
from accord.evaluate.two_way_intervals import crossed_mean
from accord.pages.page import environment
from accord.pages.scatter import Dot, scatter
from accord.runs.display import Display
from accord.runs.folder import RunFolder
from accord.training.run import resume, start

TEMPLATE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Past a file: reward against KL</title>
<style>{% include "style.css.j2" %}</style></head><body><main>
<h1>Past a file: reward against KL</h1>
<p class="soft">SmolLM2-135M, VADER's sentiment as the measure; each dot one checkpoint of one seed,
with 95 % intervals over prompts; the table over prompts and seeds.</p>
<div class="plot">{{ picture }}</div>
<div class="scroll"><table>
<thead><tr><th></th><th>step</th><th>KL, nats an answer</th><th>reward</th>
<th>reward by seed</th></tr></thead><tbody>
<tr><td>start</td><td>0</td><td>0</td><td class="told">{{ start|told }}</td><td></td></tr>
{% for p in points %}<tr><td>{{ p.method }}</td><td>{{ p.steps[0] }}</td>
<td class="told">{{ p.kl|told }}</td><td class="told">{{ p.reward|told }}</td><td class="told">
{% for one in p.by_seed %}{{ "%.3f"|format(one.reward.value) }} at
{{ "%.1f"|format(one.kl.value) }}{{ ", " if not loop.last }}{% endfor %}</td></tr>{% endfor %}
</tbody></table></div></main></body></html>
"""
DEMO = Path(__file__).parents[1] / "src/accord/demo"
RESULT = Path(__file__).parent / "results/past_offline.json"
PAGE = RESULT.with_suffix(".html")
KEPT = 4  # checkpoints along each run
BATCHES, PROMPTS, K = 32, 8, 4
OWN = {"rewards": ["vader"], "num_generations": K, "max_new_tokens": 40}
ONLINE = {"batch_size": PROMPTS, "steps": BATCHES, "learning_rate": 3e-4, "schedule": "constant"}
METHODS = {
    "dpo": {"objective": {"name": "dpo"}, "train": {"epochs": 1.5}, "rollouts": None},
    "online_dpo": {"objective": {"name": "dpo"}, "train": ONLINE},
    "grpo": {"objective": {"name": "grpo"}, "train": ONLINE},
    "rloo": {"objective": {"name": "rloo"}, "train": ONLINE},
    "ppo": {
        "objective": {"name": "ppo"},
        "train": {**ONLINE, "steps": 2 * BATCHES},
        "rollouts": {**OWN, "num_iterations": 2},
    },
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", required=True, type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument(
        "--points",
        type=int,
        default=1,
        help="checkpoints of a run that are measured, the last one its end",
    )
    parser.add_argument(
        "--rounds",
        nargs="*",
        default=[],
        type=Path,
        metavar="DIR",
        help="finished folders of accord iterate, one a seed",
    )
    parser.add_argument(
        "--runs",
        nargs="*",
        default=[],
        metavar="NAME=DIR",
        help="further finished runs to measure, of this same model",
    )
    options = parser.parse_args()
    cells = {
        name: [trained(name, seed, options.work) for seed in range(options.seeds)]
        for name in options.methods
    }
    for given in options.runs:
        name, _, folder = given.partition("=")
        cells.setdefault(name, []).append(
            Cell(name, len(cells.get(name, [])), RunFolder.open(folder).config())
        )
    record = measured(cells, options.work, options.points)
    record["points"] += rounds(options.rounds)
    RESULT.write_text(json.dumps(record, indent=1) + "\n")
    PAGE.write_text(page(record))


def trained(name: str, seed: int, work: Path) -> Cell:
    """The finished run of a method with a seed."""
    folder, recipe = work / f"{name}-seed{seed}", METHODS[name]
    own = recipe.get("rollouts", OWN)
    config = make_config(
        {
            "model": {"name": "smollm2"},
            "data": {"train": str(DEMO / "train.jsonl")},
            "objective": recipe["objective"],
            "rollouts": own,
            "train": {"seed": seed, **recipe["train"]},
            "checkpoint": {"every": recipe["train"].get("steps", 32) // KEPT, "keep": 9},
            "monitor": {"samples": 0, "audit_rows": 0},
            "output": str(folder),
        }
    )
    if not (folder / "adapter").exists():
        began = time.monotonic()
        (
            resume(str(folder), Display())
            if (folder / "config.yaml").exists()
            else start(config, Display())
        )
        with (work / "seconds.jsonl").open("a") as file:
            file.write(json.dumps({"run": folder.name, "seconds": time.monotonic() - began}) + "\n")
    return Cell(name, seed, config)


def measured(cells: dict[str, list[Cell]], work: Path, count: int) -> dict:
    """Reward and KL of every run at several steps, with intervals over prompts and seeds."""
    asked = Questions(None, str(DEMO / "sample_prompts.txt"), 64, 2, 40, "vader")
    base = next(iter(cells.values()))[0].config

    def bench(cell: Cell) -> ModelMeasurer:
        """What is measured is kept by the name of a run's folder, which of runs from elsewhere may
        be anything.
        """
        own = cell.path.parent == work
        return ModelMeasurer(
            work if own else work / "given" / f"{cell.contender}-seed{cell.seed}",
            base,
            asked,
            Display(),
        )

    cell = next(iter(cells.values()))[0]
    first = bench(cell).start(cell)
    points = []
    for name, own in cells.items():
        for steps in zip(*(kept(cell, count) for cell in own), strict=True):
            seen = [bench(cell).of(cell, step) for cell, step in zip(own, steps, strict=True)]
            points.append(
                point(name, steps, [(m.score, m.kl, m.tokens) for m in seen], first.prompt)
            )
    return {
        "asked": asked.identity(),
        "start": vars_of(crossed_mean([first.score], first.prompt)),
        "points": points,
        "seconds": seconds(work),
    }


def kept(cell: Cell, count: int) -> list[int]:
    """The steps of a run's checkpoints, as many as are looked at, to its end."""
    steps = sorted(
        int(folder.name.removeprefix("step-"))
        for folder in (cell.path / "checkpoints").glob("step-*")
    )
    return [steps[step - 1] for step in steps_of(len(steps), min(count, len(steps)))]


def point(
    name: str, steps: Sequence, seen: Sequence[tuple[Sequence[float], ...]], prompt: Sequence[int]
) -> dict:
    """What models of several seeds came to: of each its rewards, KL and tokens, by answer."""

    def estimates(seeds: Sequence[tuple[Sequence[float], ...]]) -> dict:
        return {
            key: vars_of(crossed_mean([one[at] for one in seeds], prompt))
            for at, key in enumerate(("reward", "kl", "tokens"))
        }

    return {
        "method": name,
        "steps": list(steps),
        **estimates(seen),
        "by_seed": [estimates([one]) for one in seen],
    }


def rounds(folders: Sequence[Path]) -> list[dict]:
    """The points of iterative DPO, a round each, of the seeds whose folders are given."""
    found = []
    for name in sorted(path.name for path in folders[0].glob("round-*")) if folders else ():
        seen = [Scored.read(folder / name / SCORED) for folder in folders]
        columns = [(one.reward, one.kl, one.tokens) for one in seen]
        found.append(point("iterative_dpo", [name] * len(seen), columns, seen[0].prompt))
    return found


def page(record: dict) -> str:
    """The picture: a colour a method, a line a seed along its checkpoints, intervals over prompts;
    and the table over seeds.
    """
    methods = list(dict.fromkeys(p["method"] for p in record["points"]))
    dots = [
        Dot(
            f"{p['method']}, seed {seed}, {p['steps'][seed]}",
            one["kl"],
            one["reward"],
            methods.index(p["method"]) + 1,
            line=seed,
        )
        for p in record["points"]
        for seed, one in enumerate(p["by_seed"])
    ]
    picture = scatter(
        "Reward (vader) against KL",
        dots,
        "KL to the start, nats an answer",
        joined=True,
        names=methods,
    )
    return (
        environment()
        .from_string(TEMPLATE)
        .render(picture=picture, points=record["points"], start=record["start"])
    )


def vars_of(estimate) -> dict:
    return estimate.as_dict()


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
