"""One update by the tree path against the same by another: the padded oracle, or the tree path with
nothing shared between rows.

    python benchmarks/paths.py --data DIR

Each path runs in a fresh process, one after the other, `repeats` updates on the same batch; the
first is left out. The losses must agree, or nothing is reported. Results:
benchmarks/results/paths.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

RESULTS = Path(__file__).parent / "results"
CASES = {
    "truthfulqa, 16 pairs": ("truthfulqa/pairs_train.jsonl", 16, 512, ("oracle", "apart")),
    "hh_helpful multi-turn, 8 pairs, at most 512 tokens": (
        "hh_helpful/train.jsonl.gz",
        8,
        512,
        ("oracle",),
    ),
    "permissive_mix, 16 pairs, at most 512 tokens": (
        "permissive_mix/train.jsonl.gz",
        16,
        512,
        ("apart",),
    ),
}
BUDGET = 4096  # tokens of a micro-batch
READ = 400  # rows of a file to choose from


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--only", choices=["oracle", "apart"], help="compare with this path alone")
    parser.add_argument("--one", nargs=2, metavar=("PATH", "CASE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(*options.one, options.data, options.repeats)))
        return
    file = RESULTS / "paths.json"
    results = json.loads(file.read_text()) if file.exists() else {}
    for case, (*_, others) in CASES.items():
        for other in others if options.only is None else {options.only} & set(others):
            results[f"{case}: tree, {other}"] = compared(case, other, options)
            file.write_text(json.dumps(results, indent=1) + "\n")


def compared(case: str, other: str, options: argparse.Namespace) -> dict:
    """Both paths, one after the other. Raises SystemExit when their losses differ."""
    found = {path: in_fresh_process(path, case, options) for path in ("tree", other)}
    gap = abs(found["tree"]["loss"] - found[other]["loss"])
    if gap > 0.02:  # bfloat16: the losses of a batch agree to about 0.005
        raise SystemExit(
            f"{case}: tree and {other} disagree, losses {gap} apart; no speed is reported"
        )
    ratios = {
        "speed": found[other]["median_seconds"] / found["tree"]["median_seconds"],
        "memory": found["tree"]["peak_gb"] / found[other]["peak_gb"],
        "tokens": found["tree"]["computed_tokens"] / found[other]["computed_tokens"],
    }
    print(case, other, json.dumps(ratios), flush=True)
    return {**found, "losses_apart": gap, "ratios": ratios}


def in_fresh_process(path: str, case: str, options: argparse.Namespace) -> dict:
    command = [
        sys.executable,
        __file__,
        "--data",
        str(options.data),
        "--repeats",
        str(options.repeats),
    ]
    output = subprocess.run(
        [*command, "--one", path, case], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    return json.loads(output.splitlines()[-1])


def measure(path: str, case: str, data: Path, repeats: int) -> dict:
    """Updates of LoRA DPO in bfloat16 by one path."""
    from accord.environment.settings import apply_env_defaults

    apply_env_defaults()
    import psutil

    from accord.config.schema import TrainConfig
    from accord.data.read import read
    from accord.data.templates import make_template
    from accord.data.trees import Limits, encode
    from accord.distributed.world import ALONE
    from accord.engine.micro_budget import MicroBudget
    from accord.engine.optimizer import Optimizer
    from accord.engine.step import Batch, UpdateContext, accumulate
    from accord.forward import logps
    from accord.forward.choose import Forward, choose
    from accord.forward.layout import pack
    from accord.forward.reference import AdaptersOff
    from accord.forward.shares import shares
    from accord.models.load import load
    from accord.models.lora import add_lora
    from accord.objectives import resolve

    file, rows, limit, _ = CASES[case]
    model = load("smollm2")
    trees = encode(
        read(data / file, "pairs", max_rows=READ).examples,
        make_template(model.tokenizer, "auto"),
        Limits(limit),
    ).trees
    trees = sorted(trees, key=lambda tree: (tree.row * 7919) % READ)[:rows]  # the same each time
    add_lora(model, rank=16, alpha=32, targets="attention", dropout=0.0, dora=False, seed=0)
    choose(model, trees[:2])
    if path == "apart":  # a pair's answers still share their prompt
        logps.pack = partial(pack, share=0)
    forward = Forward(model, "oracle" if path == "oracle" else "tree", "", 0.0)
    learner = UpdateContext(forward, resolve("dpo"), AdaptersOff(forward), MicroBudget(BUDGET), 0)
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
    groups = shares(trees, BUDGET, ALONE)[0]
    computed = sum(logps.pack(group).tokens for group in groups)
    return {
        "median_seconds": timed[len(timed) // 2],
        "fastest": timed[0],
        "slowest": timed[-1],
        "peak_gb": peak[0] / 1e9,
        "computed_tokens": computed,
        "loss": losses[-1],
        "repeats": len(timed),
    }


if __name__ == "__main__":
    main()
