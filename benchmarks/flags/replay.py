"""Today's rules over a run that was recorded: they see its figures alone, so nothing needs to be
trained again.
"""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

from accord.data.order import Order
from accord.monitor.history import Facts, History
from accord.monitor.watch import look
from accord.objectives.configured import resolve_objective
from accord.runs.folder import RunFolder
from accord.types import Finding


def replay(run: Path) -> list[tuple[int, Finding]]:
    """(step, flag) in the order in which the run would say them."""
    folder = RunFolder(run)
    history, said, found = History(facts(folder)), set(), []
    timings = {line["step"]: line for line in folder.appended("timings.jsonl")}
    for step, lines in groupby(folder.appended("metrics.jsonl"), key=lambda line: line["step"]):
        for line in (*lines, *([timings[step]] if step in timings else [])):
            history.add(line)
        new = look(history, said)
        said |= {finding.check for finding in new}
        found += [(step, finding) for finding in new]
    return found


def facts(folder: RunFolder) -> Facts:
    """What a run knew of itself before its first update, from its files."""
    config = folder.config()
    objective = resolve_objective(config)
    rows = json.loads((folder.path / "data.json").read_text())["train"]["tokens"]["trees"]
    order = Order(rows, min(config.train.batch_size, rows), config.train.seed)
    steps = config.train.steps or max(
        1, round((config.train.epochs or 1) * order.batches_per_epoch)
    )
    preflight = {f["check"]: f for f in json.loads((folder.path / "preflight.json").read_text())}
    width = preflight["step0.noise_floor"]["evidence"]["reward_margin"]
    shape = json.loads((Path(config.model.name) / "config.json").read_text())
    lora = config.model.lora
    usual = objective.suggested_rate(shape["hidden_size"], adapters=lora is not None)
    return Facts(
        objective.name,
        objective.options,
        steps,
        rows,
        order.batch_size,
        order.batches_per_epoch,
        config.train.learning_rate or usual,
        width,
        objective.at_reference,
        config.train.max_grad_norm,
        adapter_scale=lora.alpha / lora.rank if lora is not None else None,
        usual_rate=usual,
        usual_beta=objective.schema.get("beta", {}).get("default"),
    )
