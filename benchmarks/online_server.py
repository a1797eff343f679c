"""GRPO with answers of a vLLM server and with those of the local decoder: do rewards rise alike,
how far apart are the log-probs, and how many answers a second does each draw?

    make vllm
    accord serve-policy smollm2 --max-model-len 512 --dtype float32 --gpu-share 0.3 --start
    python benchmarks/online_server.py --server http://127.0.0.1:8000 --output online

One run each, the same prompts, seed and updates; the reward is a sentiment's (vader). A curve's
intervals are over prompts, with the answers to one prompt kept together. Writes
benchmarks/results/online_server.json.
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from pathlib import Path

import accord
from accord.evaluate.intervals import bootstrap_mean
from accord.rollouts.source import RolloutSource

RESULTS = Path(__file__).parent / "results/online_server.json"
PLACES = "museum library market station beach garden theatre hotel bakery bridge".split()
TIMES = "this morning", "last night"
FIELDS = {
    "rollouts.rewards": ["vader"],
    "rollouts.num_generations": 4,
    "rollouts.max_new_tokens": 24,
    "monitor.samples": 0,
    "evaluate.every": 0,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", required=True)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--updates", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, required=True, help="a new folder, for the runs")
    options = parser.parse_args()
    options.output.mkdir(parents=True)
    prompts = options.output / "prompts.txt"
    prompts.write_text(
        "".join(f"How was the {place} {when}?\n" for place in PLACES for when in TIMES)
    )
    samplers = {"local": None, "server": {"server": options.server, "timeout": 600.0}}
    runs = {
        name: measure(options, name, FIELDS | {"rollouts.sampler": sampler})
        for name, sampler in samplers.items()
    }
    found = {"machine": platform.processor() or platform.machine(), "updates": options.updates}
    RESULTS.write_text(json.dumps(found | {"runs": runs}, indent=1) + "\n")
    print(json.dumps(found | {"runs": runs}, indent=1))


def measure(options: argparse.Namespace, name: str, fields: dict) -> dict:
    """Train once; return the reward of each batch, the gap, and the answers a second."""
    drawn = {"answers": 0, "seconds": 0.0}
    draw = RolloutSource.draw

    def timed(source, *arguments, **keywords):
        start = time.perf_counter()
        answers = draw(source, *arguments, **keywords)
        drawn["seconds"] += time.perf_counter() - start
        drawn["answers"] += len(answers)
        return answers

    RolloutSource.draw = timed  # type: ignore[method-assign]
    try:
        result = accord.train(
            model=options.model,
            data=str(options.output / "prompts.txt"),
            output=str(options.output / name),
            method="grpo",
            steps=options.updates,
            batch_size=4,
            seed=options.seed,
            learning_rate=2e-4,
            set=fields,
        )
    finally:
        RolloutSource.draw = draw  # type: ignore[method-assign]
    folder = Path(result.folder)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    gaps = [line["rollouts/sampler_gap"] for line in lines if "rollouts/sampler_gap" in line]
    return {
        "rewards": [reward_of(file) for file in sorted((folder / "rollouts").glob("*.json"))],
        "gap": {"mean": sum(gaps) / len(gaps), "worst": max(gaps)},
        "answers_a_second": drawn["answers"] / drawn["seconds"],
    }


def reward_of(file: Path) -> dict:
    """Return the mean reward of a batch of answers, with its interval."""
    answers = json.loads(file.read_text().splitlines()[1])["answers"]
    known = [a for a in answers if a["reward"] is not None]
    found = bootstrap_mean([a["reward"] for a in known], clusters=[a["prompt"] for a in known])
    return {"mean": found.value, "low": found.low, "high": found.high}


if __name__ == "__main__":
    main()
