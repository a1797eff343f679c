"""The loop: all of training, in order. Each hard part is behind one of these names."""

from __future__ import annotations

import time
from functools import partial

import psutil
import torch

from accord.compat import is_out_of_memory
from accord.engine import memory
from accord.engine.batch_source import EvaluationContext
from accord.engine.micro_budget import RowTooLarge, within_memory
from accord.engine.rollout_losses import summarise_sampled
from accord.engine.step import Batch, NotFinite, accumulate, make_batch
from accord.errors import plural
from accord.evaluate.by_file import by_file
from accord.evaluate.displacement import decompose
from accord.evaluate.intervals import Estimate, format_interval
from accord.evaluate.probe import KLReference
from accord.evaluate.records import Records, summarise
from accord.objectives.policy_table import BoundPolicy
from accord.rollouts import sample_prompts
from accord.training.events import raise_if_refused
from accord.training.on_flag import apply_on_flag
from accord.training.out_of_memory import out_of_memory, report_shrunk, too_large
from accord.training.prepared import PreparedRun
from accord.training.saving import (
    held_out_score,
    save,
    save_after_lost_rank,
    save_first,
    stop_diverged,
)
from accord.training.state import Run
from accord.types import Finding, Interrupted, PeerLost, Tree


def train(run: Run) -> None:
    """Train from where the run stands to its last step.

    A signal leaves a checkpoint, and so does a number that is not finite.
    """
    run.ready.learner.budget.on_shrink = partial(report_shrunk, run)
    try:
        with run.ready.world.noticing_losses():
            # before the first update; or work that a signal cut off
            if run.evaluation_due or run.sampling_due:
                run_due_tasks(run)
            while not run.finished:
                make_update(run)
                run_due_tasks(run)
    except Interrupted as signal:  # on every rank, or on those that remain
        run.ready.optimizer.masters.zero_grad()
        said = (
            save_after_lost_rank(run)
            if isinstance(signal, PeerLost)
            else f"Saved {save_first(run)}."
        )
        raise signal.with_hint(f"{said} Go on with: accord resume {run.folder.path}") from None
    except RowTooLarge as error:
        raise too_large(run, error) from error
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise out_of_memory(run) from error
    finally:
        run.ready.source.close()
        run.trackers.close()


def run_due_tasks(run: Run) -> None:
    """Do what is due after an update: an evaluation, samples, flags, a checkpoint."""
    if run.evaluation_due:
        evaluate(run)
    if run.sampling_due:
        log_samples(run)
    apply_on_flag(run)
    # these are not the weights that answered
    if run.progress.taken not in (None, run.progress.step) and run.ready.sample_prompts:
        log_samples(run)
    if (
        run.progress.taken is not None
        or run.due(run.ready.config.checkpoint.every)
        or run.progress.best_step == run.progress.step
    ):
        save(run)


def make_update(run: Run) -> None:
    """Make one optimizer step and its line in metrics.jsonl."""
    ready, progress = run.ready, run.progress
    began = time.monotonic()
    batch = make_batch(ready.learner, progress.step, ready.batch_trees(progress.step))
    try:
        records = accumulate_within_memory(run, batch)
        norm = ready.optimizer.grad_norm(ready.world)
        if not torch.isfinite(norm):
            raise NotFinite(
                f"update {progress.step}: the gradient's norm is {norm.item()}.", records
            )
    except NotFinite as error:
        raise stop_diverged(run, error, batch.trees) from error
    raise_if_refused(run, run.watch.before_update(batch, records, norm.item()))
    rate = ready.optimizer.update(progress.step, norm)
    progress.step += 1
    ready.learner.follow(records)
    if ready.learner.reference is not None:
        ready.learner.reference.follow(progress.step, ready.optimizer.masters.masters)
    progress.tokens += sum(tree.tokens for tree in batch.trees)
    metrics = {
        "step": progress.step,
        "epoch": round(progress.step / ready.order.batches_per_epoch, 6),
        "learning_rate": rate,
        "grad_norm": norm.item(),
        "num_tokens": progress.tokens,
        **batch_metrics(ready, records, progress.step - 1),
    }
    run.log("metrics.jsonl", metrics)
    seconds = time.monotonic() - began
    speed = sum(tree.tokens for tree in batch.trees) / seconds
    rss = psutil.Process().memory_info().rss
    timing = {"step": progress.step, "seconds": seconds, "tokens_per_second": speed, "rss": rss}
    run.log("timings.jsonl", timing | memory.gpu_peak(ready.model.device))
    run.spent += seconds
    eta = run.spent / (progress.step - run.first_step) * (run.steps - progress.step)
    run.display.step(progress.step, run.steps, metrics, speed, eta)
    raise_if_refused(run, run.watch.after_update(progress.step, metrics, records, ready.tie_width))


def batch_metrics(ready: PreparedRun, records: Records, update: int) -> dict[str, float]:
    """Summarise an update's rows, and the answers that they come from."""
    objective = ready.learner.objective
    if isinstance(objective, BoundPolicy):
        found = summarise_sampled(records, objective)
    else:
        found = summarise(records, objective, ready.tie_width)
        found |= decompose(records, objective, ready.tie_width)
        files = ready.source.files_of(records.row)
        found |= by_file(records, files, objective, ready.tie_width)
    return found | ready.source.metrics(update)


def accumulate_within_memory(run: Run, batch: Batch) -> Records:
    """Accumulate the batch's gradient.

    If memory runs out, start again in smaller micro-batches: the gradient is the same.

    Raises:
      RowTooLarge: one row at a time is still too much.
    """
    learner, masters = run.ready.learner, run.ready.optimizer.masters

    def work() -> Records:
        run.watch.before_gradient()
        return accumulate(learner, batch, masters, poll=run.stop.poll)

    def shrink() -> None:
        masters.zero_grad()  # it is incomplete
        learner.budget.shrink((*batch.trees, *batch.mismatched), "the update is made again")

    return within_memory(work, shrink, alone=run.ready.world.size == 1)


def evaluate(run: Run) -> None:
    """Compute held-out metrics and write their line in metrics.jsonl."""
    progress = run.progress
    disturbed: list[Finding] = []
    with run.watch.evaluation(disturbed):
        found = run.ready.source.evaluate(evaluation_context(run))
    raise_if_refused(run, disturbed)
    run.accuracy = found.accuracy
    run.log("metrics.jsonl", {"step": progress.step, **found.metrics})
    progress.evaluated = progress.step
    if progress.step == 0:
        progress.before = found.metrics
    run.display.evaluated(progress.step, evaluation_line(found.metrics, run.accuracy))
    value = held_out_score(found.metrics)
    if progress.step and (progress.best is None or value < progress.best):
        progress.best, progress.best_step = value, progress.step


def evaluation_context(run: Run) -> EvaluationContext:
    """Collect what an evaluation at this step needs of the run."""
    ready, step = run.ready, run.progress.step

    def check(trees: list[Tree], records: Records) -> None:
        raise_if_refused(run, run.watch.evaluated(trees, records, step))

    return EvaluationContext(
        step,
        ready.learner,
        ready.tie_width,
        run.folder.path,
        run.display.doing,
        run.stop.poll,
        run.folder.append,
        check,
        partial(raise_if_refused, run),
    )


def log_samples(run: Run) -> None:
    """Answer the fixed prompts.

    The answers go into samples.jsonl, their figures into metrics.jsonl: the first rank's, for all.
    Through sharded weights every rank draws the same answers, since each pass takes them all.
    """
    run.display.doing(f"answering {plural(len(run.ready.sample_prompts), 'prompt')}")
    world = run.ready.world
    if world.sharded:
        world.agree(lambda: answer_sample_prompts(run))
    else:
        world.on_first(lambda: answer_sample_prompts(run))
    run.progress.sampled = run.progress.step


def answer_sample_prompts(run: Run) -> None:
    """Answer every prompt and record it."""
    ready, progress = run.ready, run.progress
    before = [
        line["tokens"] for line in run.folder.appended("samples.jsonl") if line["step"] == 0
    ] or None
    start = KLReference.of(ready.learner.forward, ready.learner.reference)
    samples, metrics = sample_prompts.draw_samples(
        ready.model,
        ready.sample_prompts,
        start,
        ready.config.monitor,
        ready.config.train.seed,
        before,
    )
    for number, (asked, said) in enumerate(zip(ready.sample_prompts, samples, strict=True)):
        run.folder.append(
            "samples.jsonl",
            sample_prompts.sample_record(progress.step, number, asked, said, progress.taken),
        )
    if ready.world.first:
        run.log("metrics.jsonl", {"step": progress.step, **metrics})
    raise_if_refused(run, run.watch.sampled([asked.ids for asked in ready.sample_prompts], samples))


def evaluation_line(metrics: dict, accuracy: Estimate | None) -> str:
    parts = [f"accuracy {accuracy}"] if accuracy is not None else []
    if "eval_reward" in metrics:
        parts.append(
            "reward "
            + format_interval(
                {
                    "value": metrics["eval_reward"],
                    **{end: metrics.get(f"diag/eval_reward_{end}") for end in ("low", "high")},
                }
            )
        )
    names = {
        "eval_gold": "gold",
        "eval_kl": "KL",
        "eval_tokens": "tokens",
        "eval_loss": "loss",
        "eval_rewards/margins": "margin",
        "diag/eval_auc": "AUC",
        "eval_logps/chosen": "chosen",
    }
    return "held-out " + "  ".join(
        parts + [f"{short} {metrics[name]:.3f}" for name, short in names.items() if name in metrics]
    )
