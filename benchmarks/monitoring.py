"""What watching costs an update: the extra figures, the line for the rules, and all rules.

    python benchmarks/monitoring.py RUN

RUN is a recorded run of pairs. Its own lines are replayed; a batch's records are made up of its own
size. The share is of the median update in its timings.jsonl. Samples and evaluations are not in it:
they come when asked for.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from statistics import median

import torch

from accord.evaluate.displacement import decompose
from accord.evaluate.records import Records
from accord.monitor.history import Facts, History
from accord.monitor.watch import look
from accord.objectives.configured import resolve_objective
from accord.runs.folder import RunFolder
from accord.types import Tree

NAMES = (
    "rewards/chosen",
    "rewards/rejected",
    "diag/log_ratio/chosen",
    "diag/log_ratio/rejected",
    "tokens/chosen",
    "tokens/rejected",
    "loss",
)


def main() -> None:
    folder = RunFolder(Path(sys.argv[1]))
    config = folder.config()
    objective = resolve_objective(config)
    trees = [Tree((1,), ((2,), (3,)), row) for row in range(config.train.batch_size)]
    records = Records()
    records.add(trees, **{name: torch.rand(len(trees)) + 1 for name in NAMES})
    lines = [line for line in folder.metrics() if "loss" in line]
    facts = Facts(
        objective.name,
        objective.options,
        1000,
        16_000,
        len(trees),
        1000,
        1e-4,
        1e-4,
        objective.at_reference,
    )
    history, figures, rules = History(facts), [], []
    for step in range(1, 1001):  # a long run, so that what grows with its length shows
        began = time.perf_counter()
        decompose(records, objective, 1e-4)
        then = time.perf_counter()
        history.add({**lines[step % len(lines)], "step": step})
        history.add({"step": step, "seconds": 1.0, "tokens_per_second": 100.0, "rss": 1e9})
        look(history, ())
        figures.append(then - began)
        rules.append(time.perf_counter() - then)
    update = median(line["seconds"] for line in folder.lines("timings.jsonl"))
    cost = median(figures) + median(rules[-200:])
    print(
        f"figures {1000 * median(figures):.2f} ms, rules {1000 * median(rules[-200:]):.2f} ms at"
        f" step 1,000; update {1000 * update:,.0f} ms: {cost / update:.3%}"
    )


if __name__ == "__main__":
    main()
