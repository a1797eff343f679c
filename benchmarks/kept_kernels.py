"""What oneDNN's and torch's caches of kernels take in a run: as many as the libraries keep by
default, against as many as accord has them keep.

    python benchmarks/kept_kernels.py --data DIR [--updates 24] [--turns 1] [--kernels 1024 64]

DPO with LoRA on SmolLM2-135M in bfloat16, TruthfulQA's pairs, 16 an update; a fresh process each,
in turns. The adapters must be the same to the byte. Without bfloat16 of its own the processor asks
oneDNN for little, and the difference is small. Results: benchmarks/results/kept_kernels.json.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import machines

HERE = Path(__file__).parent
RESULT = HERE / "results/kept_kernels.json"
DEFAULT = 1024  # of both libraries
RECIPE = """\
model: {{name: smollm2, dtype: bfloat16, lora: {{rank: 16, alpha: 32}}}}
data: {{train: {data}/truthfulqa/pairs_train.jsonl, held_out: {data}/truthfulqa/pairs_test.jsonl}}
train: {{batch_size: 16, steps: {updates}, seed: 0}}
evaluate: {{every: 0, rows: 16}}
checkpoint: {{every: 0}}
monitor: {{samples: 0}}
"""


def trained(recipe: Path, output: Path, kernels: int) -> dict:
    """Train in a process of its own; gigabytes after some updates, seconds, and the adapter."""
    names = ("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "LRU_CACHE_CAPACITY")
    subprocess.run(
        [sys.executable, "-m", "accord", "train", str(recipe), "--output", str(output)],
        check=True,
        stdout=subprocess.DEVNULL,
        env=os.environ | dict.fromkeys(names, str(kernels)),
    )
    lines = [json.loads(line) for line in (output / "timings.jsonl").read_text().splitlines()]
    return {
        "kernels": kernels,
        "resident_gb": [line["rss"] / 1e9 for line in lines],
        "seconds_an_update": statistics.median(line["seconds"] for line in lines[1:]),
        "adapter": (output / "adapter/adapter_model.safetensors").read_bytes(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--updates", type=int, default=24)
    parser.add_argument("--turns", type=int, default=1)
    parser.add_argument("--kernels", type=int, nargs="+", default=[DEFAULT, 64])
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        recipe = Path(folder) / "recipe.yaml"
        recipe.write_text(
            RECIPE.format(data=options.data.resolve(), updates=options.updates), encoding="utf-8"
        )
        runs = [
            trained(recipe, Path(folder) / f"{turn}-{kernels}", kernels)
            for turn in range(options.turns)
            for kernels in options.kernels
        ]
    same = len({run.pop("adapter") for run in runs}) == 1
    result = {
        "runs": runs,
        "same_adapter": same,
        "updates": options.updates,
        "machine": machines.processor(),
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    for run in runs:
        resident = f"{run['resident_gb'][0]:.2f} to {run['resident_gb'][-1]:.2f} GB"
        print(
            f"{run['kernels']:5d} kernels: {resident}, {run['seconds_an_update']:.2f} s an update"
        )
    if not same:
        raise SystemExit("the adapters are not the same")


if __name__ == "__main__":
    main()
