"""One update by the tree path against one by the padded oracle path: same rows, same model, one run.

    python benchmarks/paths.py --data DIR

Each path runs in a fresh process, one after the other, `repeats` updates on the same batch; the first is left out. The
losses must agree, or nothing is reported. Results: benchmarks/results/paths.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
CASES = {
    "truthfulqa, 16 pairs": ("truthfulqa/pairs_train.jsonl", 16, 512),
    "hh_helpful multi-turn, 8 pairs, at most 512 tokens": ("hh_helpful/train.jsonl.gz", 8, 512),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--one", nargs=2, metavar=("PATH", "CASE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one, options.data, options.repeats)))
        return
    results = {}
    for case in CASES:
        found = {path: in_fresh_process(path, case, options) for path in ("tree", "oracle")}
        gap = abs(found["tree"]["loss"] - found["oracle"]["loss"])
        if gap > 0.02:  # bfloat16: the losses of a batch agree to about 0.005
            raise SystemExit(f"{case}: the paths disagree, losses {gap} apart; no speed is reported")
        ratios = {
            "speed": found["oracle"]["median_seconds"] / found["tree"]["median_seconds"],
            "memory": found["tree"]["peak_gb"] / found["oracle"]["peak_gb"],
        }
        results[case] = {**found, "losses_apart": gap, "ratios": ratios}
        print(case, json.dumps(ratios), flush=True)
    (RESULTS / "paths.json").write_text(json.dumps(results, indent=1) + "\n")


def in_fresh_process(path: str, case: str, options: argparse.Namespace) -> dict:
    command = [sys.executable, __file__, "--data", str(options.data), "--repeats", str(options.repeats)]
    output = subprocess.run([*command, "--one", path, case], stdout=subprocess.PIPE, text=True, check=True).stdout
    return json.loads(output.splitlines()[-1])


def measure(path: str, case: str, data: Path, repeats: int) -> dict:
    """Updates of LoRA DPO in bfloat16 by one path."""
    from accord.environment import settle

    settle()
    import psutil

    from accord.config import TrainConfig
    from accord.data.read import read
    from accord.data.templates import make_template
    from accord.data.trees import Limits, encode
    from accord.forward.choose import Forward, choose
    from accord.forward.reference import AdaptersOff
    from accord.models.load import load
    from accord.models.lora import add_lora
    from accord.objectives import resolve
    from accord.training.optim import Optimizer
    from accord.training.step import Batch, Learner, accumulate

    file, rows, limit = CASES[case]
    model = load("smollm2")
    trees = encode(read(data / file, "pairs", max_rows=400).examples, make_template(model.tokenizer, "auto"), Limits(limit)).trees
    trees = sorted(trees, key=lambda tree: (tree.row * 7919) % 400)[:rows]  # some of the first 400, the same each time
    add_lora(model, rank=16, alpha=32, targets="attention", dropout=0.0, dora=False, seed=0)
    choose(model, trees[:2])
    forward = Forward(model, path, "", 0.0)
    learner = Learner(forward, resolve("dpo"), AdaptersOff(forward), 4096, 0)
    optimizer = Optimizer(model.trainable(), TrainConfig(warmup=0), 1e-4, repeats)
    peak, process, running = [0], psutil.Process(), [True]

    def watch() -> None:
        while running[0]:
            peak[0] = max(peak[0], process.memory_info().rss)
            time.sleep(0.02)

    threading.Thread(target=watch, daemon=True).start()
    seconds, losses = [], []
    for step in range(repeats):
        began = time.perf_counter()
        records = accumulate(learner, Batch(step, trees), optimizer.masters)
        optimizer.update(step, optimizer.grad_norm())
        seconds.append(time.perf_counter() - began)
        losses.append(records["loss"].mean().item())
    running[0] = False
    timed = sorted(seconds[1:])
    unique = sum(tree.tokens for tree in trees)
    return {
        "median_seconds": timed[len(timed) // 2], "fastest": timed[0], "slowest": timed[-1],
        "peak_gb": peak[0] / 1e9, "unique_tokens": unique, "loss": losses[-1], "repeats": len(timed),
    }  # fmt: skip


if __name__ == "__main__":
    main()
