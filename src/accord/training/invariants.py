"""What must hold while training, whatever the method: checked on samples at every update, on probe rows now and then.

    batch       the rows of the update are the order's, each once an epoch, each answer token counted
    baseline    KTO's rests on answers to other prompts
    metrics     what is reported of a batch is what its rows give
    objective   every row's loss is its closed form at the row's own log-probs
    first       nothing has moved yet: log-ratios are 0 on the whole first batch, and on the held-out rows
    update      sampled weights go where AdamW, written out, takes them; the network holds the masters rounded
    moved       after ten updates, nearly every weight that had a gradient is somewhere else
    frozen      weights that do not train are bit for bit what they were
    reference   the reference's log-probs of fixed rows stay
    path        the forward path still computes what the bare network computes, adapters on
    evaluation  leaves weights, moments, gradients, modes and random state as they were
    checkpoint  what was written is what is in memory

Cost: some indexing of a few numbers a tensor in the first updates, and a forward pass over two short rows every tenth.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor

from accord.evaluate.records import Records
from accord.forward.choose import MEAN_TOKEN, WORST_TOKEN
from accord.objectives import BoundObjective
from accord.objectives.closed_forms import CLOSED_FORMS, Answer, Row
from accord.training.independent import close, distance, sums_by_definition
from accord.training.moving import Moving
from accord.training.optim import MOMENTS, Optimizer, schedule
from accord.training.step import Batch
from accord.types import Finding, Logps, Tree

if TYPE_CHECKING:
    from accord.training.prepare import Ready

COORDINATES = 8  # weights a tensor that are followed
FOLLOWED = 10  # updates after the start of a process in which they are
EVERY = 10  # updates between two looks at the probe rows
FIXED = ("frozen", "adapter_off", "cached")  # references that stay where they are
MOVED = 0.5  # share of the followed weights with a gradient that ten updates must have moved
DRIFT = 1e-5  # nats a token: the same rows, weights and shapes give the same bits on a CPU, and nearly so on a GPU
ADAM_EPSILON = 1e-8
LOSS = 1e-3  # relative, absolute under 1: float32 log-probs of hundreds of nats


def broken(check: str, says: str, remedy: str = "", **evidence: object) -> Finding:
    return Finding(f"running.{check}", "refused", says, evidence, remedy or "this is a fault of the program: report it with events.jsonl")


# ---------------------------------------------------------------- pure checks


def bookkeeping(batch: Batch, records: Records, expected: Sequence[int], seen: set[int]) -> list[Finding]:
    """The rows that gave the gradient are those that the order names, each once in this epoch, and all their tokens."""
    rows = [tree.row for tree in batch.trees]
    if rows != list(expected):
        return [broken("batch", f"update {batch.index} was given other rows than its order names", given=rows[:8], named=list(expected)[:8])]
    if records.row != rows:
        return [broken("batch", f"update {batch.index} computed {len(records.row)} of its {len(rows)} rows, or in another order")]
    if again := seen.intersection(rows):
        return [broken("batch", f"row {min(again)} comes a second time in this epoch (update {batch.index})", rows=sorted(again)[:8])]
    tokens = [sum(map(len, tree.completions)) for tree in batch.trees]
    if records["tokens"].tolist() != tokens:
        return [broken("batch", f"update {batch.index} scored {int(records['tokens'].sum())} answer tokens; its rows have {sum(tokens)}")]
    own = {(tree.prompt, completion) for tree in batch.trees for completion in tree.completions}
    matched = sum((tree.prompt, tree.completions[0]) in own for tree in batch.mismatched)
    varied = len({completion for _, completion in own}) > len(own) / 2  # where all say "yes", a match is chance
    if matched and matched == len(batch.mismatched) and varied:
        says = f"all {matched} rows behind the baseline answer their own prompt: it estimates something else then"
        return [broken("baseline", says)]
    return []


def metrics_as_recorded(metrics: dict, records: Records, tie_width: float) -> list[Finding]:
    """Margins, and the share of pairs whose chosen answer has the higher reward, counted once more in plain Python."""
    if "rewards/accuracies" not in metrics:
        return []
    margins = (records["rewards/chosen"] - records["rewards/rejected"]).tolist()
    if any(map(math.isnan, margins)):
        return []
    wins = sum(0.5 if abs(margin) <= tie_width else float(margin > 0) for margin in margins)
    counted = {"rewards/accuracies": wins / len(margins), "rewards/margins": sum(margins) / len(margins)}
    for name, value in counted.items():
        if not math.isclose(metrics[name], value, rel_tol=1e-6, abs_tol=1e-6):
            return [broken("metrics", f"{name} is reported as {metrics[name]:.6g}; the rows of the batch give {value:.6g}")]
    return []


def losses_as_closed(objective: BoundObjective, trees: Sequence[Tree], records: Records) -> list[Finding]:
    """Each row's loss against the closed form at the log-probs that were recorded beside it."""
    form = CLOSED_FORMS.get(objective.name)
    if form is None or "loss" not in records:
        return []
    for row, tree, loss in zip(_numbers(trees, records), trees, records["loss"].tolist(), strict=True):
        wanted, _ = form(row, objective.options, _baseline(records))
        if not abs(loss - wanted) <= LOSS * max(1.0, abs(wanted)):
            says = f"row {tree.row} has the loss {loss:.6g}; {objective.name} of its own log-probs is {wanted:.6g}"
            return [broken("objective", says, "the loss that runs is not the one configured, or changes on the way", row=tree.row)]
    return []


def _baseline(records: Records) -> float:
    return records["extra/kl"][0].item() if "extra/kl" in records else 0.0


def _numbers(trees: Sequence[Tree], records: Records) -> Iterator[Row]:
    """Each row of the records as the closed forms take it."""
    sides = ("chosen", "rejected")
    what = "logps" if "logps/chosen" in records else "rewards"  # of a reward model, the reward is what was computed
    policy = [records[f"{what}/{side}"].tolist() for side in sides]
    ratio = [records[f"diag/log_ratio/{side}"].tolist() if f"diag/log_ratio/{side}" in records else None for side in sides]
    for number, tree in enumerate(trees):
        at = (0, 1) if len(tree.completions) == 2 else (int(tree.desirable is False),)
        answers = []
        for side, completion in zip(at, tree.completions):
            value = policy[side][number]
            answers.append(Answer(value, value - (ratio[side][number] if ratio[side] else 0.0), len(completion)))
        yield Row(f"row {tree.row}", tuple(answers), tree.desirable, tree.margin)


def untouched(trees: Sequence[Tree], records: Records, dtype: torch.dtype, where: str) -> list[Finding]:
    """Before the first update policy and reference are one: log-ratios are 0 up to rounding."""
    ratios = [
        abs(answer.ratio) / answer.count
        for row in _numbers(trees, records) if "diag/log_ratio/chosen" in records for answer in row.answers
    ]  # fmt: skip
    if not ratios or close(torch.tensor(ratios), dtype):
        return []
    says = (
        f"policy and reference differ by up to {max(ratios):.3g} nats a token {where}, before anything has moved "
        f"(mean {sum(ratios) / len(ratios):.2g}, allowed {MEAN_TOKEN[dtype]:g} and {WORST_TOKEN[dtype]:g})"
    )
    return [broken("first", says, "the reference's log-probs are of other rows, other tokens or other weights: stale or misaligned")]


# ---------------------------------------------------------------- weights that are followed


@dataclass
class Followed:
    """A few coordinates of one master: where it is, and what AdamW remembers of it, in float64."""

    index: Tensor  # [COORDINATES] into the flattened tensor
    start: Tensor
    value: Tensor
    mean: Tensor
    square: Tensor
    decay: float
    had_gradient: Tensor  # bool: whether there was ever a gradient


class AdamWritten:
    """AdamW as the paper writes it, on a few coordinates of every tensor (Loshchilov & Hutter 2019, Algorithm 2)."""

    def __init__(self, ready: Ready, updates: int):
        config = ready.config.train
        self.config, self.updates, self.optimizer = config, updates, ready.optimizer
        planned = schedule(config.schedule, ready.peak, ready.steps, config.warmup)
        self.rate = lambda step: planned(step) * ready.optimizer.scale  # halved where --on-flag adapt says so
        self.followed = {
            name: _follow(master, ready.optimizer.adamw.state.get(master), config.weight_decay if master.dim() >= 2 else 0.0)
            for name, master in ready.optimizer.masters.masters.items()
        }

    def too_low(self) -> list[Finding]:
        """Masters that cannot hold small updates: asked first, since whatever is computed with them is astray for that reason."""
        for name, master in self.optimizer.masters.masters.items():
            if torch.finfo(master.dtype).eps > torch.finfo(torch.float32).eps:
                says = f"{name} is trained in {master.dtype}, whose rounding swallows small updates: a master is kept in float32"
                return [broken("update", says, tensor=name)]
        return []

    def foresee(self, step: int) -> float:
        """Take the gradients as they stand before the update, and move the followed values. Returns the gradients' norm."""
        gradients = self.optimizer.masters.gradients()
        norm = math.sqrt(sum(g.double().norm().item() ** 2 for g in gradients.values()))
        clip = self.config.clip
        scale = min(1.0, clip / (norm + 1e-6)) if clip is not None else 1.0
        self.updates += 1
        for name, followed in self.followed.items():
            if name in gradients:
                self._move(followed, scale * _at(gradients[name], followed.index), self.rate(step))
        return norm

    def _move(self, f: Followed, gradient: Tensor, rate: float) -> None:
        first, second = self.config.betas
        f.mean = first * f.mean + (1 - first) * gradient
        f.square = second * f.square + (1 - second) * gradient.square()
        size = (f.square / (1 - second**self.updates)).sqrt() + ADAM_EPSILON
        f.value = f.value * (1 - rate * f.decay) - rate * (f.mean / (1 - first**self.updates)) / size
        f.had_gradient |= gradient != 0

    def verify(self, before: dict[str, Tensor], step: int) -> list[Finding]:
        """Where the masters are after the update, and what the network holds of them."""
        for name, f in self.followed.items():
            master = self.optimizer.masters.masters[name]
            now = _at(master, f.index)
            travel = (f.value - before[name]).abs()
            allowed = 0.01 * travel + 4 * torch.finfo(torch.float32).eps * f.value.abs() + 1e-12
            if not bool(((now - f.value).abs() <= allowed).all()):
                return [_astray(name, master, now, before[name], f.value, step)]
            held = _at(self.optimizer.masters.working[name], f.index)
            if not torch.equal(held, now.to(self.optimizer.masters.working[name].dtype).double()):
                says = f"after update {step} the network does not hold {name} as its master has it: the update did not reach it"
                return [broken("update", says)]
            f.value = now  # rounding must not add up over the updates
        return []

    def values(self) -> dict[str, Tensor]:
        masters = self.optimizer.masters.masters
        return {name: _at(masters[name], f.index) for name, f in self.followed.items()}

    def moved(self) -> list[Finding]:
        """The share of followed weights that are somewhere else than at the start, of those that had a gradient."""
        moved = total = 0
        for name, now in self.values().items():
            f = self.followed[name]
            moved += int(((now != f.start) & f.had_gradient).sum())
            total += int(f.had_gradient.sum())
        if not total:
            return [Finding("running.moved", "warning", "no gradient reached any weight that trains, in ten updates", {},
                            "every row's loss is flat: look at the margins, β and the labels")]  # fmt: skip
        share = moved / total
        if share >= MOVED:
            return []
        says = f"only {share:.1%} of the weights with a gradient moved in {FOLLOWED} updates: smaller than float32 can hold"
        return [Finding("running.moved", "warning", says, {"share": share}, "raise train.learning_rate")]


def _at(tensor: Tensor, index: Tensor) -> Tensor:
    """Some coordinates, float64 on the CPU."""
    return tensor.detach().reshape(-1)[index].double().cpu()


def _spread(tensor: Tensor) -> Tensor:
    """Indices of a few coordinates, from the first to the last."""
    count = min(COORDINATES, tensor.numel())  # in whole numbers: float32 cannot count to the size of a large embedding
    return torch.arange(count, device=tensor.device) * (tensor.numel() - 1) // max(count - 1, 1)


def _follow(master: Tensor, state: dict[str, Tensor] | None, decay: float) -> Followed:
    index = _spread(master)
    value = _at(master, index)
    mean, square = (_at(state[key], index) if state else torch.zeros_like(value) for key in MOMENTS)
    return Followed(index, value, value.clone(), mean, square, decay, torch.zeros(len(index), dtype=torch.bool))


def _astray(name: str, master: Tensor, now: Tensor, before: Tensor, wanted: Tensor, step: int) -> Finding:
    """In words, how a tensor did not go where AdamW takes it."""
    due, done = (wanted - before), (now - before)
    still = (done == 0) & (due != 0)
    evidence = {"tensor": name, "due": due.tolist(), "done": done.tolist()}
    if still.all() or (still.any() and master.dtype != torch.float32):
        why = f"it is kept in {master.dtype}, whose rounding swallows the update" if master.dtype != torch.float32 else "the optimizer leaves it out, or its rate is 0"
        return broken("update", f"{name} did not move in update {step}: {why}", **evidence)
    factor = (done @ due / (due @ due)).item() if due.any() else math.inf
    says = f"{name} did not go where AdamW takes it in update {step}: it went {factor:.3g} times as far along that way"
    return broken("update", says, "gradient, clipping, learning rate, decay or moments are not what the config says", **evidence)


# ---------------------------------------------------------------- the watch over a run


@dataclass
class Watch:
    """Everything that is remembered from the start of this process, to compare with."""

    ready: Ready
    first: int  # updates made when the watch began
    adam: AdamWritten = field(init=False)
    still: dict[str, Tensor] = field(init=False)  # name -> coordinates of what does not train
    probe: list[Tree] = field(init=False)
    known: Logps | None = None  # the reference's log-probs of the probe rows
    seen: set[int] = field(default_factory=set)  # rows of this epoch
    _before: dict[str, Tensor] = field(default_factory=dict)
    _saved: bool = False

    def __post_init__(self) -> None:
        ready = self.ready
        self.adam = AdamWritten(ready, self.first)
        self.still = {name: values for name, values in _still(ready)}
        self.probe = sorted(ready.batch_trees(self.first if self.first < ready.steps else 0), key=lambda t: t.tokens)[:2]
        if ready.reference_kind in FIXED:
            self.known = ready.learner.reference.logps(self.probe)

    def following(self, update: int) -> bool:
        """Whether single weights are followed through this update, counted from 0."""
        return update - self.first < FOLLOWED

    def before_update(self, batch: Batch, records: Records, norm: float) -> list[Finding]:
        """The batch and its losses; called with the gradient complete and no weight moved."""
        ready, step = self.ready, batch.index
        if ready.source is not None or step % ready.order.batches_per_epoch == 0:
            self.seen = set()
        own = ready.source is not None  # answers have no order but that of their batch
        expected = [tree.row for tree in (ready.batch_trees(step) if own else map(ready.rows.trees.__getitem__, ready.order.batch(step)))]
        found = bookkeeping(batch, records, expected, self.seen) or losses_as_closed(ready.learner.objective, batch.trees, records)
        self.seen.update(tree.row for tree in batch.trees)
        if ready.learner.kind == "rollouts":
            found += self._unmoved(batch, records)
        elif step == 0 and not found and self.known is not None and not _drops(ready):
            found = untouched(batch.trees, records, ready.model.dtype, "in the first batch")
        if not self.following(step):
            return found
        if low := self.adam.too_low():
            return [*found, *low]
        self._before = self.adam.values()
        wanted = self.adam.foresee(step)
        if not math.isclose(norm, wanted, rel_tol=1e-3, abs_tol=1e-12):
            found.append(broken("update", f"the gradient's norm is {wanted:.6g}; the run takes it for {norm:.6g}, and clips by that"))
        return found

    def _unmoved(self, batch: Batch, records: Records) -> list[Finding]:
        """In the first update of a batch of answers the policy is the one that drew them: every ratio is 1."""
        if not self.ready.source.fresh(batch.index) or _drops(self.ready):
            return []
        gap = (records["sum/ratio_gap"].sum() / records["answers"].sum()).item()
        if gap <= MEAN_TOKEN[self.ready.model.dtype]:
            return []
        says = f"update {batch.index}: the policy is {gap:.3g} nats a token from the one that drew its answers, before it has moved"
        return [broken("on_policy", says, "stale answers, or log-probs of other tokens")]

    def after_update(self, step: int) -> list[Finding]:
        """Weights, frozen weights and the probe rows; `step` updates have been made."""
        found = self.adam.verify(self._before, step) if self.following(step - 1) else []
        if step == min(self.first + FOLLOWED, self.ready.steps):
            found += self.adam.moved()
        if step - self.first in (1, 2) or step % EVERY == 0:
            found += self._frozen() + self._reference(step) + self._path(step)
        return found

    def _frozen(self) -> list[Finding]:
        for name, now in _still(self.ready):
            if not torch.equal(now, self.still[name]):
                return [broken("frozen", f"{name} does not train, and has changed: the reference changes with it", tensor=name)]
        return []

    @torch.no_grad()
    def _reference(self, step: int) -> list[Finding]:
        if self.known is None:
            return []
        drift = distance(self.ready.learner.reference.logps(self.probe), self.known).max().item()
        if drift <= DRIFT:
            return []
        says = f"after {step} updates the reference's log-probs of fixed rows have moved by {drift:.3g} nats a token: it must not move"
        return [broken("reference", says, "something that trains is part of the reference, or its log-probs are mixed up", nats=drift)]

    @torch.no_grad()
    def _path(self, step: int) -> list[Finding]:
        if step > 10 * EVERY and step % (10 * EVERY):
            return []
        forward = self.ready.learner.forward
        gap = distance(forward(self.probe).reduce(), sums_by_definition(forward.model, self.probe))
        if gap.mean().item() <= MEAN_TOKEN[forward.model.dtype] * 2:
            return []
        says = f"after {step} updates the forward path differs from the bare network by {gap.mean():.3g} {forward.model.unit}"
        return [broken("path", says, "the path skips or doubles what was trained, drops units, or mixes rows; try model.forward=padded")]

    @contextmanager
    def evaluation(self, findings: list[Finding]) -> Iterator[None]:
        """Around an evaluation: adds to `findings` what it disturbed."""
        before = self._state()
        yield
        for name, was in before.items():
            now = self._state_of(name)
            if not (torch.equal(was, now) if isinstance(was, Tensor) else was == now):
                findings.append(broken("evaluation", f"evaluating changed {name}: it must leave the run as it was"))

    def _state(self) -> dict[str, object]:
        return {name: self._state_of(name) for name in ("the random state", "the modules' modes", "what trains", "gradients", "weights")}

    def _state_of(self, name: str) -> object:
        network, optimizer = self.ready.model.network, self.ready.optimizer
        if name == "the random state":
            return torch.get_rng_state()
        if name == "the modules' modes":
            return [module.training for module in network.modules()]
        if name == "what trains":
            return [p.requires_grad for p in network.parameters()]
        if name == "gradients":
            return sorted(optimizer.masters.gradients())
        values = [*self.adam.values().values(), *_moments(optimizer), *(v for _, v in _still(self.ready))]
        return torch.cat(values)

    def evaluated(self, records: Records, step: int) -> list[Finding]:
        """Before the first update, the held-out rows too have log-ratios of 0."""
        if step or self.known is None:
            return []
        return untouched(self.ready.held_out.trees, records, self.ready.model.dtype, "on the held-out rows")

    def saved(self, path: str | Path) -> list[Finding]:
        """The first checkpoint of this process, read back: every tensor of the run's state, bit for bit."""
        if self._saved:
            return []
        self._saved = True
        return checkpoint_findings(Path(path) / "tensors.safetensors", self.ready.state())


class Blind:
    """No watch: where weights are sharded no rank holds what the checks compare."""

    def before_update(self, batch: Batch, records: Records, norm: float) -> list[Finding]:
        return []

    def after_update(self, step: int) -> list[Finding]:
        return []

    @contextmanager
    def evaluation(self, findings: list[Finding]) -> Iterator[None]:
        yield

    def evaluated(self, records: Records, step: int) -> list[Finding]:
        return []

    def saved(self, path: str | Path) -> list[Finding]:
        return []


def checkpoint_findings(file: Path, held: Mapping[str, Tensor]) -> list[Finding]:
    """What is on disk against what is in memory."""
    written = load_file(file)
    differs = [name for name in held if name not in written or not torch.equal(written[name], held[name].cpu())]
    if not differs:
        return []
    says = f"{file.parent.name} does not hold the state in memory: {len(differs)} tensors differ or are missing, such as {differs[0]}"
    return [broken("checkpoint", says, "a resumed run would go on from something else; report this", tensors=differs[:10])]


def _drops(ready: Ready) -> bool:
    """Whether adapters drop units while training: log-ratios of the first batch are not 0 then."""
    return ready.config.model.lora is not None and ready.config.model.lora.dropout > 0


def _still(ready: Ready) -> Iterator[tuple[str, Tensor]]:
    """A few coordinates of every parameter that neither trains nor follows what does."""
    reference = ready.learner.reference
    following = reference.copy.working.values() if isinstance(reference, Moving) else ()
    moves = {id(p) for p in (*ready.optimizer.masters.working.values(), *following)}
    for name, parameter in ready.model.root.named_parameters():
        if id(parameter) not in moves and parameter.numel():
            yield name, _at(parameter, _spread(parameter))


def _moments(optimizer: Optimizer) -> Iterator[Tensor]:
    for state in optimizer.adamw.state.values():
        yield from (_at(state[key], _spread(state[key])) for key in MOMENTS)
