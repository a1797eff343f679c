"""All of training, in order. What is hard is behind one of these names."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import psutil
import torch

from accord.evaluate import held_out as held
from accord.evaluate.records import summarise
from accord.evaluate.statistics import Estimate
from accord.training import checkpoint
from accord.training.display import Display
from accord.training.files import write_json
from accord.training.folder import RunFolder, vars_of
from accord.training.moving import Moving
from accord.training.prepare import Ready
from accord.training.signals import Stop
from accord.training.step import NotFinite, accumulate, make_batch
from accord.types import Diverged, Finding, Interrupted, Tree


@dataclass
class Progress:
    """What changes from step to step, beside the weights; saved with each checkpoint."""

    step: int = 0  # updates made
    tokens: int = 0  # unique tokens computed forward and backward
    best: float | None = None  # lowest held-out score so far, see `score`
    best_step: int | None = None
    before: dict = field(default_factory=dict)  # held-out metrics at step 0
    evaluated: int | None = None  # step of the newest evaluation: a signal may come between an update and its own

    def state(self, identity: dict, lines: Mapping[str, int]) -> dict:
        """For a checkpoint: `identity` is what must be the same to go on, `lines` how long the records were."""
        return {"progress": vars(self), "identity": identity, "lines": dict(lines)}


@dataclass
class Run:
    """A prepared run, its folder, and where it stands."""

    ready: Ready
    folder: RunFolder
    display: Display
    stop: Stop
    progress: Progress = field(default_factory=Progress)
    accuracy: Estimate | None = None  # of the newest evaluation
    first_step: int = 0  # where this process began
    spent: float = 0.0  # seconds on updates since then

    @property
    def steps(self) -> int:
        return self.ready.steps

    @property
    def evaluation_due(self) -> bool:
        """Whether the held-out rows, if there are any, are still to be evaluated at this step."""
        step = self.progress.step
        if self.ready.held_out is None or self.progress.evaluated == step:
            return False
        return step == 0 or self.due(self.ready.config.evaluate.every)

    def due(self, every: int) -> bool:
        """Whether something that happens every so many steps, and after the last one, happens now."""
        step = self.progress.step
        return step == self.steps or (every > 0 and step % every == 0 and step > 0)


def train(run: Run) -> None:
    """From where the run stands to its last step. A signal leaves a checkpoint; so does a number that is not finite."""
    try:
        if run.evaluation_due:  # before the first update; or the one that a signal cut off
            settle(run)
        while run.progress.step < run.steps:
            run.stop.poll()
            update(run)
            settle(run)
    except Interrupted as signal:
        run.ready.optimizer.masters.forget_gradients()
        path = save(run)
        raise Interrupted(f"{signal} Saved {path}. Go on with: accord resume {run.folder.path}") from None


def settle(run: Run) -> None:
    """What is due after an update: an evaluation, a checkpoint."""
    if run.evaluation_due:
        evaluate(run)
    if run.due(run.ready.config.checkpoint.every) or run.progress.best_step == run.progress.step:
        save(run)


def update(run: Run) -> None:
    """One optimizer step and its line in metrics.jsonl."""
    ready, progress = run.ready, run.progress
    began = time.monotonic()
    batch = make_batch(ready.learner, progress.step, ready.batch_trees(progress.step))
    try:
        records = accumulate(ready.learner, batch, ready.optimizer.masters, poll=run.stop.poll)
        norm = ready.optimizer.grad_norm()
        if not torch.isfinite(norm):
            raise NotFinite(f"update {progress.step}: the gradient's norm is {norm.item()}.", records)
    except NotFinite as error:
        raise diverged(run, error, batch.trees) from error
    rate = ready.optimizer.update(progress.step, norm)
    progress.step += 1
    if isinstance(ready.learner.reference, Moving):
        ready.learner.reference.follow(progress.step, ready.optimizer.masters.masters)
    progress.tokens += sum(tree.tokens for tree in batch.trees)
    metrics = {
        "step": progress.step,
        "epoch": round(progress.step / ready.order.batches_per_epoch, 6),
        "learning_rate": rate,
        "grad_norm": norm.item(),
        "num_tokens": progress.tokens,
        **summarise(records, ready.learner.objective, ready.tie_width),
    }
    run.folder.append("metrics.jsonl", metrics)
    seconds = time.monotonic() - began
    speed = sum(tree.tokens for tree in batch.trees) / seconds
    memory = psutil.Process().memory_info().rss
    run.folder.append("timings.jsonl", {"step": progress.step, "seconds": seconds, "tokens_per_second": speed, "rss": memory})
    run.spent += seconds
    eta = run.spent / (progress.step - run.first_step) * (run.steps - progress.step)
    run.display.step(progress.step, run.steps, metrics, speed, eta)


def evaluate(run: Run) -> None:
    """Held-out metrics, with their line in metrics.jsonl."""
    ready, progress = run.ready, run.progress
    objective = ready.learner.objective
    records = held.evaluate(ready.held_out, ready.learner.forward, objective, ready.learner.reference, run.stop.poll)
    metrics = held.metrics(records, ready.held_out, objective, ready.tie_width)
    run.accuracy = held.pair_accuracy(records, ready.held_out, ready.tie_width)
    if run.accuracy is not None:
        metrics |= {"diag/eval_accuracy_low": run.accuracy.low, "diag/eval_accuracy_high": run.accuracy.high}
    run.folder.append("metrics.jsonl", {"step": progress.step, **metrics})
    progress.evaluated = progress.step
    if progress.step == 0:
        progress.before = metrics
    run.display.evaluated(progress.step, evaluation_line(metrics, run.accuracy))
    value = score(metrics)
    if progress.step and (progress.best is None or value < progress.best):
        progress.best, progress.best_step = value, progress.step


def flag(run: Run, finding: Finding) -> None:
    """Say something that was noticed while training: one line on the display, one in events.jsonl."""
    run.folder.append("events.jsonl", {"step": run.progress.step, **vars_of(finding)})
    remedy = f"\n    what to do: {finding.remedy}" if finding.remedy else ""
    run.display.line(f"! step {run.progress.step}  {finding.check}: {finding.says}{remedy}")


def score(metrics: dict) -> float:
    """What the best checkpoint has least of: held-out loss; where these rows have no loss, minus their accuracy."""
    return metrics["eval_loss"] if "eval_loss" in metrics else -metrics.get("eval_rewards/accuracies", 0.0)


def evaluation_line(metrics: dict, accuracy: Estimate | None) -> str:
    parts = [f"accuracy {accuracy}"] if accuracy is not None else []
    names = {"eval_loss": "loss", "eval_rewards/margins": "margin", "diag/eval_auc": "AUC", "eval_logps/chosen": "chosen"}
    return "held-out " + "  ".join(parts + [f"{short} {metrics[name]:.3f}" for name, short in names.items() if name in metrics])


def save(run: Run) -> str:
    """A checkpoint of this moment; the best one by held-out score is kept beside the newest."""
    ready, progress = run.ready, run.progress
    run.folder.flush()
    path = checkpoint.save(
        run.folder.checkpoints, progress.step, ready.state(), progress.state(ready.identity(), run.folder.lines)
    )
    if progress.best_step == progress.step:
        checkpoint.mark_best(run.folder.checkpoints, path)
    checkpoint.prune(run.folder.checkpoints, ready.config.checkpoint.keep)
    return str(path)


def diverged(run: Run, error: NotFinite, trees: Sequence[Tree]) -> Diverged:
    """Keep the last good weights, write what is known of the batch, and say so."""
    ready = run.ready
    ready.optimizer.masters.forget_gradients()
    path = save(run)
    rows = [{"at": ready.rows.origin(tree), "row": tree.row, "tokens": tree.tokens} for tree in trees]
    write_json(run.folder.path / "diverged.json", {
        "step": run.progress.step, "says": str(error), "rows": rows, "statistics": error.records.statistics(),
        "learning_rate": ready.optimizer.rate(run.progress.step),
    })  # fmt: skip
    first = ", ".join(row["at"] for row in rows[:3])
    return Diverged(
        f"{error}\nStopped before the weights were touched; the last good ones are in {path}.\n"
        f"The batch ({len(rows)} rows, first {first}) and its numbers are in {run.folder.path / 'diverged.json'}.\n"
        "Lower train.learning_rate, or look at these rows."
    )
