"""What the tests of training share: short runs of the two-layer model, and its pieces without a run
around them.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import accord
from accord.config.build import build
from accord.runs.display import SilentDisplay
from accord.runs.signals import Stop
from accord.training import loop
from accord.training.file_source import FileSource
from accord.training.prepared import PreparedRun
from accord.training.setup.prepare import prepare

DEFAULTS = {"method": "dpo", "steps": 4, "batch_size": 4, "dtype": "float32", "learning_rate": 1e-3}
# What a run does beside training, which few tests of training look at: long answers to the sample
# prompts take a third of a short run with held-out rows, the audit's classifiers an eighth. A test
# that looks at them says so in its `set`.
LITTLE_BESIDE = {"monitor.sample_tokens": 6, "monitor.audit_rows": 0}
AUDITED = {"monitor.audit_rows": 2000}


def run(folder, data, output, **changes):
    """A few steps on the tiny model, with LITTLE_BESIDE; `changes` as for accord.train."""
    changes["set"] = LITTLE_BESIDE | changes.get("set", {})
    return accord.train(model=str(folder), data=data, output=str(output), **DEFAULTS | changes)


def ready_for(folder, data, *, assignments=(), allow=(), **changes) -> PreparedRun:
    """A run prepared and proved, nothing written but the reference cache."""
    config = build(
        model=str(folder), data=data, assignments=assignments, allow=allow, **DEFAULTS | changes
    )
    return prepare(config, SilentDisplay(), Stop())


def json_lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def metrics(result_or_path) -> list[dict]:
    """The training lines of metrics.jsonl."""
    path = Path(getattr(result_or_path, "folder", result_or_path))
    return [line for line in json_lines(path / "metrics.jsonl") if "loss" in line]


@contextmanager
def stopped_after(monkeypatch, updates: int):
    """Inside, a run is asked to stop as soon as it has made so many updates, as by a signal."""
    with monkeypatch.context() as patch:
        update = loop.make_update

        def stopping(run):
            update(run)
            if run.progress.step == updates:
                run.stop.signal = 15

        patch.setattr(loop, "make_update", stopping)
        yield


def labelled_rows(pairs: list[dict]) -> list[dict]:
    """Every pair as two labelled rows."""
    return [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for row in pairs
        for side in ("chosen", "rejected")
    ]


def plan_held_out_losses(monkeypatch, losses: dict[int, float]) -> None:
    """Let a run believe these held-out losses by step, whatever its processor computes.

    Which step of a real run is best hangs on rounding; what follows from it must not.
    """
    evaluate = FileSource.evaluate

    def planned(source, context):
        found = evaluate(source, context)
        return replace(found, metrics=found.metrics | {"eval_loss": losses[context.step]})

    monkeypatch.setattr(FileSource, "evaluate", planned)
