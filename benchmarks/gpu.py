"""Everything that a first run on a GPU needs, in one command of at most ten minutes.

    python benchmarks/gpu.py --all                      # one GPU; TRL's side where it is installed
    python benchmarks/gpu.py --all --minutes 30         # the same with more time for each stage
    python benchmarks/gpu.py --only "paths,lora 1b"     # some stages, by how their names begin
    python benchmarks/gpu.py --all --tiny --device cpu  # the same flow in minutes, to check itself
    python benchmarks/gpu.py --show FILE                # what a result says, in lines

Stages, each a process of its own with a share of the time: the machine and the rate at which it
multiplies matrices; the tests that need a GPU; the choice of the forward path, every path against
the oracle in float32, and its time; DPO with LoRA and of all weights on a 1B shape, LoRA, all
weights and QLoRA on an 8B shape, each by accord and by TRL's DPOTrainer; K = 8 answers to a prompt
by accord's sampler and by transformers. Weights are random and made on the device, rows are random
token ids in the shapes of multi-turn preferences: no network, no files.

A stage that fails or runs out of time is recorded with its last lines, one that cannot run here
with the reason, and the others go on. Results are written after every stage:
benchmarks/results/gpu.json. Before any speed is compared both sides must have reported the same
losses and log-probs in float32. The count of operations behind the shares of the device's rate is
derived in gpu_stages/shapes.py. Ends with 1 if a stage failed or ran out of time.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from pathlib import Path

from gpu_stages import report, running, tasks
from gpu_stages.plan import STAGES, Stage

RESULT = Path(__file__).parent / "results/gpu.json"
MINUTES = 10
# Seconds of them for this process itself, its start and its end: whoever ends the command after ten
# minutes ends nothing that is still going on.
OWN = 25


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--all", action="store_true", help="run every stage")
    which.add_argument("--only", help="stages, by the beginnings of their names, with commas")
    which.add_argument("--show", type=Path, help="print what a result file holds")
    which.add_argument("--stage", help=argparse.SUPPRESS)  # one stage, in this process
    # of several GPUs the first, for both sides: CUDA_VISIBLE_DEVICES says which that is
    parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
    parser.add_argument("--tiny", action="store_true", help="tiny models and short rows")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="for everything together")
    parser.add_argument("--output", type=Path, default=RESULT)
    options = parser.parse_args()
    if options.stage:
        tasks.run(options.stage)
    elif options.show:
        print(report.table(json.loads(options.show.read_text("utf-8"))))
    else:
        sys.exit(measure(options, STAGES if options.all else chosen(options.only)))


def chosen(names: str) -> tuple[Stage, ...]:
    """Find the stages that are named; the first always runs.

    Raises:
      SystemExit: a name that no stage begins with.
    """
    wanted = [name.strip() for name in names.split(",")]
    for name in wanted:
        if not name or not any(stage.name.startswith(name) for stage in STAGES):
            known = "; ".join(stage.name for stage in STAGES)
            raise SystemExit(f"--only: no stage's name begins with {name!r}. They are: {known}")
    return tuple(s for s in STAGES if s is STAGES[0] or s.name.startswith(tuple(wanted)))


def measure(options: argparse.Namespace, stages: tuple[Stage, ...]) -> int:
    """Run the stages, and write what came of them; return the exit code."""
    seconds = 60 * options.minutes - OWN
    if seconds <= 0:
        raise SystemExit(f"--minutes {options.minutes:g}: {OWN} s of it are this command's own.")
    results = {"tiny": options.tiny, "minutes": options.minutes, "stages": {}, "compared": {}}

    def write(records: dict[str, dict]) -> None:
        results["stages"], results["compared"] = records, report.comparisons(records)
        staging = options.output.with_suffix(".part")
        staging.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
        os.replace(staging, options.output)

    def say(name: str, record: dict) -> None:
        print(report.line(name, record), flush=True)

    options.output.parent.mkdir(parents=True, exist_ok=True)
    # whoever ends this ends the stage too, and what it found is written
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    given = {"device": options.device, "tiny": options.tiny}
    records = running.run_all(stages, given, seconds, write, say)
    print(f"\n{report.table(results)}\n\n{options.output}")
    return int(any(record["state"] not in ("done", "skipped") for record in records.values()))


if __name__ == "__main__":
    main()
