#!/usr/bin/env bash
# Two processes share one run, as two GPUs would.
#
# Shows: torchrun starts the processes, accord deals the rows and adds up the gradients; a run of two can go on as one.
# Takes: about 3 minutes (on one machine without GPUs two processes are no faster than one).
# Expect: "done" once: the first process talks for both.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python}
model=${ACCORD_EXAMPLE_MODEL:-smollm2}
output=${ACCORD_EXAMPLE_OUTPUT:-runs/examples}/two-processes-$$

"$python" -m torch.distributed.run --standalone --nproc-per-node 2 -m accord train \
    --model "$model" --data "$here/data/train.jsonl" --steps "${ACCORD_EXAMPLE_STEPS:-20}" --batch-size 8 \
    --set monitor.samples=0 --output "$output"
ls "$output"
