"""All of training, in order. What is hard is behind one of these names."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import psutil
import torch
from torch import Tensor

from accord.evaluate import held_out as held
from accord.evaluate.displacement import as_evaluation, decompose, length_correlation, since
from accord.evaluate.probe import Start
from accord.evaluate.records import Records, summarise
from accord.evaluate.scores import reward_model_figures
from accord.evaluate.statistics import Estimate
from accord.training import checkpoint, examples, memory, sampling
from accord.training.display import Display
from accord.training.files import write_json
from accord.training.folder import RunFolder, vars_of
from accord.training.invariants import Blind, Watch, metrics_as_recorded
from accord.training.moving import Moving
from accord.training.prepare import Ready, trajectory
from accord.training.signals import Stop
from accord.training.step import Batch, NotFinite, accumulate, make_batch
from accord.training.trackers import Trackers
from accord.training.watching import Monitor, action, explained
from accord.types import Diverged, Finding, Flagged, Interrupted, PeerLost, Refused, Tree


@dataclass
class Progress:
    """What changes from step to step, beside the weights; saved with each checkpoint."""

    step: int = 0  # updates made
    tokens: int = 0  # unique tokens computed forward and backward
    best: float | None = None  # lowest held-out score so far, see `score`
    best_step: int | None = None
    before: dict = field(default_factory=dict)  # held-out metrics at step 0
    micro_tokens: int | None = None  # after memory ran out: smaller than the plan's
    evaluated: int | None = None  # step of the newest evaluation: a signal may come between an update and its own
    sampled: int | None = None  # step of the newest samples
    rate_scale: float = 1.0  # of the learning rate: halved where --on-flag adapt says so
    taken: int | None = None  # the step whose weights ended the run early, where --on-flag adapt says so

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
    watch: Watch | Blind = field(init=False)  # what must hold while training
    monitor: Monitor = field(init=False)  # what the figures mean
    trackers: Trackers = field(init=False)

    def __post_init__(self) -> None:
        ready, config = self.ready, self.ready.config
        ready.optimizer.scale = self.progress.rate_scale
        self.watch = Blind() if ready.world.lockstep else Watch(ready, self.progress.step)
        self.monitor = Monitor.over(ready, self.folder)
        names = config.monitor.trackers if ready.world.first else ()
        self.trackers = Trackers(names, self.folder.path, trajectory(config), self.display.line)

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

    @property
    def sampling_due(self) -> bool:
        """Whether the fixed prompts, if there are any, are still to be answered at this step."""
        step = self.progress.step
        if not self.ready.asked or self.progress.sampled == step:
            return False
        return step == 0 or self.due(self.ready.config.monitor.sample_every)

    @property
    def finished(self) -> bool:
        return self.progress.step >= self.steps or self.progress.taken is not None

    def log(self, name: str, line: dict) -> None:
        """A line of figures, for the files, the trackers and the rules."""
        self.folder.append(name, line)
        self.trackers.log(line)
        self.monitor.history.add(line)

    def due(self, every: int) -> bool:
        """Whether something that happens every so many steps, and after the last one, happens now."""
        step = self.progress.step
        return step == self.steps or (every > 0 and step % every == 0 and step > 0)


def train(run: Run) -> None:
    """From where the run stands to its last step. A signal leaves a checkpoint; so does a number that is not finite."""
    try:
        if run.evaluation_due or run.sampling_due:  # before the first update; or what a signal cut off
            settle(run)
        while not run.finished:
            update(run)
            settle(run)
    except Interrupted as signal:  # on every rank, or on those that are left
        run.ready.optimizer.masters.forget_gradients()
        said = rescue(run) if isinstance(signal, PeerLost) else f"Saved {save(run)}."
        raise signal.going_on(f"{said} Go on with: accord resume {run.folder.path}") from None
    finally:
        run.trackers.close()


def settle(run: Run) -> None:
    """What is due after an update: an evaluation, samples, what the figures mean, a checkpoint."""
    if run.evaluation_due:
        evaluate(run)
    if run.sampling_due:
        speak(run)
    guard(run)
    if run.progress.taken is not None or run.due(run.ready.config.checkpoint.every) or run.progress.best_step == run.progress.step:
        save(run)


def update(run: Run) -> None:
    """One optimizer step and its line in metrics.jsonl."""
    ready, progress = run.ready, run.progress
    began = time.monotonic()
    batch = make_batch(ready.learner, progress.step, ready.batch_trees(progress.step))
    try:
        records = within_memory(run, batch)
        norm = ready.optimizer.grad_norm(ready.world)
        if not torch.isfinite(norm):
            raise NotFinite(f"update {progress.step}: the gradient's norm is {norm.item()}.", records)
    except NotFinite as error:
        raise diverged(run, error, batch.trees) from error
    hold(run, run.watch.before_update(batch, records, norm.item()))
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
        **decompose(records, ready.learner.objective, ready.tie_width),
    }
    run.log("metrics.jsonl", metrics)
    seconds = time.monotonic() - began
    speed = sum(tree.tokens for tree in batch.trees) / seconds
    rss = psutil.Process().memory_info().rss
    run.log("timings.jsonl", {"step": progress.step, "seconds": seconds, "tokens_per_second": speed, "rss": rss})
    run.spent += seconds
    eta = run.spent / (progress.step - run.first_step) * (run.steps - progress.step)
    run.display.step(progress.step, run.steps, metrics, speed, eta)
    hold(run, metrics_as_recorded(metrics, records, ready.tie_width) + run.watch.after_update(progress.step))


def within_memory(run: Run, batch: Batch) -> Records:
    """The batch's gradient; where memory runs out, in smaller micro-batches, from the start: the same gradient.

    Raises:
      Refused: one row at a time is still too much. A checkpoint of the last good weights is written.
    """
    while True:
        try:
            return accumulate(run.ready.learner, batch, run.ready.optimizer.masters, poll=run.stop.poll)
        except (RuntimeError, MemoryError) as error:
            if not memory.is_out_of_memory(error) or run.ready.world.size > 1:  # the other ranks have gone on
                raise
        shrink(run, batch)  # not in the handler, where the traceback still holds every activation


def shrink(run: Run, batch: Batch) -> None:
    """Forget the half-made gradient and halve the micro-batches."""
    learner = run.ready.learner
    run.ready.optimizer.masters.forget_gradients()
    memory.release()
    lengths = [tree.tokens for tree in (*batch.trees, *batch.mismatched)]
    before = min(learner.micro_tokens, sum(lengths))  # a budget over the whole batch limits nothing
    if before <= max(lengths):
        raise Refused(
            f"Out of memory at update {run.progress.step}, with one row ({max(lengths):,} tokens) at a time. Saved {save(run)}.\n"
            f"Free memory, or write recompute: always under train in {run.folder.path / 'config.yaml'}, and go on with: "
            f"accord resume {run.folder.path}"
        )
    smaller = max(before // 2, max(lengths))
    run.ready.learner = replace(learner, micro_tokens=smaller)
    run.progress.micro_tokens = smaller
    says = f"out of memory; micro-batches of {smaller:,} tokens instead of {before:,}, and the update is made again"
    flag(run, Finding("memory", "warning", says, {"micro_tokens": smaller}, f"--set train.micro_tokens={smaller}"))


def evaluate(run: Run) -> None:
    """Held-out metrics, with their line in metrics.jsonl."""
    ready, progress = run.ready, run.progress
    objective = ready.learner.objective
    disturbed: list[Finding] = []
    with run.watch.evaluation(disturbed):
        records = held.evaluate(
            ready.held_out, ready.learner.forward, objective, ready.learner.reference, run.stop.poll, ready.world
        )
    hold(run, disturbed + run.watch.evaluated(records, progress.step))
    # the first rank's figures for all: what they decide (the best checkpoint) must be decided alike
    metrics = ready.world.on_first(lambda: held_out_metrics(run, records))
    run.accuracy = held.pair_accuracy(records, ready.held_out, ready.tie_width)
    if run.accuracy is not None:
        metrics |= {"diag/eval_accuracy_low": run.accuracy.low, "diag/eval_accuracy_high": run.accuracy.high}
        if (correlation := length_correlation(records)) is not None:
            metrics["diag/eval_length_correlation"] = correlation
    run.log("metrics.jsonl", {"step": progress.step, **metrics})
    progress.evaluated = progress.step
    if progress.step == 0:
        progress.before = metrics
    run.display.evaluated(progress.step, evaluation_line(metrics, run.accuracy))
    value = score(metrics)
    if progress.step and (progress.best is None or value < progress.best):
        progress.best, progress.best_step = value, progress.step


def held_out_metrics(run: Run, records: Records) -> dict:
    """What the held-out records come to; the records themselves go into the run's table of examples."""
    ready, step = run.ready, run.progress.step
    objective = ready.learner.objective
    if objective.needs == "logps":
        since(records, examples.start(run.folder.path) if step else examples.sides(records))
    examples.write(run.folder.path, step, records, ready.held_out, ready.held_out_rows)
    metrics = held.metrics(records, ready.held_out, objective, ready.tie_width)
    more = reward_model_figures(records, ready.tie_width) if objective.needs == "scores" else {}
    return metrics | as_evaluation(decompose(records, objective, ready.tie_width)) | more


def speak(run: Run) -> None:
    """Answers to the fixed prompts, in samples.jsonl, and their figures in metrics.jsonl."""
    ready, progress = run.ready, run.progress
    before = [line["tokens"] for line in run.folder.appended("samples.jsonl") if line["step"] == 0] or None
    start = Start.of(ready.learner.forward, ready.learner.reference)
    samples, metrics = sampling.take(
        ready.model, ready.asked, start, ready.config.monitor, ready.config.train.seed, before
    )
    for number, (asked, answer) in enumerate(zip(ready.asked, samples)):
        run.folder.append("samples.jsonl", sampling.line_of(progress.step, number, asked, answer, progress.taken))
    run.log("metrics.jsonl", {"step": progress.step, **metrics})
    progress.sampled = progress.step


def guard(run: Run) -> None:
    """Say what the figures mean; then do what `--on-flag` asks.

    Raises:
      Flagged: a red flag, and on_flag is stop. The run is saved.
    """
    ready, progress = run.ready, run.progress
    found = noticed(run)
    for finding in found:
        flag(run, finding)
    wanted = action(ready.config.monitor.on_flag, found, can_go_back=progress.best_step is not None)
    if wanted is None:
        return
    what, cause = wanted
    if what == "stop":
        path = save(run)
        raise Flagged(
            f"{cause.check}: {cause.says}\n{cause.means}\nWhat to do: {cause.remedy}\n"
            f"Saved {path}. Go on all the same: accord resume {run.folder.path} (this flag does not stop it again)."
        )
    if what == "slower":
        slow_down(run, cause)
    else:
        go_back(run, cause)


def noticed(run: Run) -> list[Finding]:
    """What the figures mean: of several ranks the first one's, since speed and memory differ from rank to rank."""
    world = run.ready.world
    if world.size == 1:
        return [explained(run.ready, run.progress.step, finding) for finding in run.monitor.look()]
    return [Finding(**finding) for finding in world.on_first(lambda: [vars_of(finding) for finding in run.monitor.look()])]


def slow_down(run: Run, cause: Finding) -> None:
    """Halve the learning rate of every update to come."""
    run.progress.rate_scale *= 0.5
    run.ready.optimizer.scale = run.progress.rate_scale
    says = f"the learning rate is {run.progress.rate_scale:g} times the planned one from here on, since {cause.check} was raised"
    flag(run, Finding("guard.slower", "note", says, {"scale": run.progress.rate_scale, "cause": cause.check}))


def go_back(run: Run, cause: Finding) -> None:
    """End the run with the weights of the best held-out evaluation."""
    progress, best = run.progress, run.progress.best_step
    if best != progress.step:  # otherwise they are the ones at hand
        world = run.ready.world
        tensors = checkpoint.load(run.folder.checkpoints, "best").tensors if world.first else {}
        run.ready.load_state(world.from_first(tensors), best)
    progress.taken = best
    says = f"the run ends with the weights of step {best}, the best on held-out rows, since {cause.check} was raised"
    flag(run, Finding("guard.best", "note", says, {"taken": best, "cause": cause.check}))
    if run.ready.asked and progress.step != best:
        speak(run)


def flag(run: Run, finding: Finding) -> None:
    """Say something that was noticed while training: one line on the display, one in events.jsonl."""
    run.folder.append("events.jsonl", {"step": run.progress.step, **vars_of(finding)})
    run.display.flagged(run.progress.step, finding)


def hold(run: Run, findings: Sequence[Finding]) -> None:
    """Say what an invariant found; stop where one is broken.

    Raises:
      Refused: what the run computes is not what it was asked for. Former checkpoints stay.
    """
    for finding in findings:
        flag(run, finding)
    if broken := [finding for finding in findings if finding.refused]:
        said = "\n".join(f"{finding.check}: {finding.says}\n  what to do: {finding.remedy}" for finding in broken)
        raise Refused(f"Stopped after {run.progress.step} updates, since the result would be silently wrong.\n{said}")


def score(metrics: dict) -> float:
    """What the best checkpoint has least of: held-out loss; where these rows have no loss, minus their accuracy."""
    return metrics["eval_loss"] if "eval_loss" in metrics else -metrics.get("eval_rewards/accuracies", 0.0)


def evaluation_line(metrics: dict, accuracy: Estimate | None) -> str:
    parts = [f"accuracy {accuracy}"] if accuracy is not None else []
    names = {"eval_loss": "loss", "eval_rewards/margins": "margin", "diag/eval_auc": "AUC", "eval_logps/chosen": "chosen"}
    return "held-out " + "  ".join(parts + [f"{short} {metrics[name]:.3f}" for name, short in names.items() if name in metrics])


def rescue(run: Run) -> str:
    """With another rank gone: a checkpoint of this moment, where this rank can write one by itself."""
    world = run.ready.world
    newest = checkpoint.pointed(run.folder.checkpoints, "LATEST")
    if not world.first or world.lockstep:  # the first rank's state is gone, or a part of the weights is
        return f"The newest checkpoint is {newest}." if newest else "No checkpoint had been written."
    run.ready.learner = replace(run.ready.learner, world=world.remains())
    return f"Saved {save(run)}."


def save(run: Run) -> str:
    """A checkpoint of this moment; the best one by held-out score is kept beside the newest."""
    tensors = run.ready.state()
    return run.ready.world.on_first(lambda: write(run, tensors))


def write(run: Run, tensors: Mapping[str, Tensor]) -> str:
    """Write and mark the checkpoint, and let old ones go; its path."""
    ready, progress = run.ready, run.progress
    run.folder.flush()
    state = progress.state(ready.identity(), run.folder.lines)
    path = checkpoint.save(run.folder.checkpoints, progress.step, tensors, state)
    if progress.best_step == progress.step:
        checkpoint.mark_best(run.folder.checkpoints, path)
    checkpoint.prune(run.folder.checkpoints, ready.config.checkpoint.keep)
    hold(run, run.watch.saved(path))
    return str(path)


def diverged(run: Run, error: NotFinite, trees: Sequence[Tree]) -> Diverged:
    """Keep the last good weights, write what is known of the batch, and say so."""
    ready = run.ready
    ready.optimizer.masters.forget_gradients()
    path = save(run)
    rows = [{"at": ready.rows.origin(tree), "row": tree.row, "tokens": tree.tokens} for tree in trees]
    record = {
        "step": run.progress.step, "says": str(error), "rows": rows, "statistics": error.records.statistics(),
        "learning_rate": ready.optimizer.rate(run.progress.step),
    }  # fmt: skip
    ready.world.on_first(lambda: write_json(run.folder.path / "diverged.json", record))
    first = ", ".join(row["at"] for row in rows[:3])
    stopped = Diverged(
        f"{error}\nStopped before the weights were touched; the last good ones are in {path}.\n"
        f"The batch ({len(rows)} rows, first {first}) and its numbers are in {run.folder.path / 'diverged.json'}.\n"
        "Lower train.learning_rate, or look at these rows."
    )
    stopped.everywhere = True  # every rank has the same numbers
    return stopped
