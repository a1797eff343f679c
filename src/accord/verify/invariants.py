"""Checks that must hold while training, whatever the method: on samples at every update, on probe
rows now and then. The tables of `running.py` list them; this module keeps what they compare with.

They cost the indexing of a few numbers per tensor in the first updates and every tenth, and then
also a forward pass over two short rows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor

from accord.engine.moving_reference import Moving
from accord.engine.optimizer import Optimizer
from accord.engine.step import Batch
from accord.evaluate.records import Records
from accord.forward.layout import micro_batches
from accord.forward.rounding import Bounds, allowed_mean
from accord.monitor.settings import why_no_gradient
from accord.objectives.hints import for_parts
from accord.runs.ranks import of_all_ranks
from accord.sampling.sampler import Sample
from accord.types import Finding, Logps, Tree
from accord.verify.checks import (
    AT_START,
    BASELINE,
    FIXED,
    KEEPS,
    MOVING,
    ROLLOUTS,
    ROWS,
    WHOLE,
    C,
    Check,
)
from accord.verify.independent import distance, sums_by_definition
from accord.verify.record_checks import RecordChecks
from accord.verify.row_checks import baseline_of, untouched
from accord.verify.weight_probes import (
    FOLLOWED,
    Arrivals,
    ReferenceProbe,
    UpdateProbe,
    at,
    broken,
    spread,
    still,
)

if TYPE_CHECKING:
    from accord.training.prepared import PreparedRun

EVERY = 10  # updates between two checks of the probe rows
# nats per token: the same rows, weights and shapes give the same bits on a CPU, and nearly so on a
# GPU
DRIFT = 1e-5
# nats per token: a cache rounds differently from a whole pass
DRAWN = {torch.float64: 1e-5, torch.float32: 1e-3, torch.bfloat16: 0.3}


# ---------------------------------------------------------------- the checks of a run


@dataclass
class InvariantChecks(RecordChecks):
    """The checks that need whole weights, with everything kept from the start of this process to
    compare with.
    """

    ready: PreparedRun
    first: int  # updates made when the checks began
    weights: UpdateProbe = field(init=False)
    arrivals: Arrivals = field(init=False)
    follower: ReferenceProbe | None = None  # of a moving reference
    still: dict[str, Tensor] = field(init=False)  # name -> coordinates of frozen parameters
    probe: list[Tree] = field(init=False)
    known: Logps | None = None  # the reference's log-probs of the probe rows
    seen: Counter[int] = field(default_factory=Counter)  # rows of this epoch
    kept: dict[str, float] = field(init=False)  # what the objective should have kept
    _before: dict[str, Tensor] = field(default_factory=dict)
    _saved: bool = False

    def __post_init__(self) -> None:
        ready = self.ready
        self.weights, self.arrivals = UpdateProbe(ready, self.first), Arrivals(ready)
        reference = ready.learner.reference
        if isinstance(reference, Moving):  # only this one has a rule to check
            self.follower = ReferenceProbe(reference, ready.optimizer.masters)
        self.still, self.kept = dict(still(ready)), dict(ready.learner.running)
        self.probe = sorted(
            ready.batch_trees(self.first if self.first < ready.steps else 0), key=lambda t: t.tokens
        )[:2]
        if reference is not None and not reference.moves:
            self.known = ready.learner.reference_logps(self.probe)

    @property
    def offers(self) -> frozenset[str]:
        learner = self.ready.learner
        found = {WHOLE, ROLLOUTS if learner.kind == "rollouts" else ROWS}
        if self.known is not None:
            found.add(FIXED)
        if self.follower is not None:
            found.add(MOVING)
        if learner.reference is not None and learner.reference.starts_as_policy:
            found.add(AT_START)
        if learner.objective.context is not None:
            found.add(BASELINE)
        if learner.objective.running is not None:
            found.add(KEEPS)
        return frozenset(found)

    def _run(self, table: Iterable[Check[C]], about: C) -> list[Finding]:
        return of_all_ranks(self.ready.world, super()._run(table, about))

    @property
    def _bounds(self) -> Bounds:
        """Return the differences that rounding may account for, as measured when the path was
        chosen.
        """
        return self.ready.learner.forward.bounds

    def following(self, update: int) -> bool:
        """Tell whether single weights are followed through this update, counted from 0."""
        return update - self.first < FOLLOWED

    def before_gradient(self) -> None:
        self.arrivals.begin()

    def before_update(self, batch: Batch, records: Records, norm: float) -> list[Finding]:
        if self.ready.source.begins_round(batch.index):
            self.seen = Counter()
        found = super().before_update(batch, records, norm)
        self.seen.update(tree.row for tree in batch.trees)
        if (rule := self.ready.learner.objective.running) is not None:
            self.kept = rule.after(self.kept, records.tensors())
        return found

    # ------------------------------------------------------------ before an update

    def arrived(self, update: int) -> list[Finding]:
        """Compare the masters' gradients with those of the backward passes."""
        # not always: on a GPU it waits for each tensor
        return self.arrivals.check() if self.following(update) or update % EVERY == 0 else []

    def keeps(self, update: int) -> list[Finding]:
        """Compare what the objective keeps with the rows of all updates since this process began,
        counted here.
        """
        if self.ready.learner.running == self.kept:
            return []
        return [
            broken(
                "kept",
                f"before update {update} the objective keeps {self.ready.learner.running}; the rows"
                f" so far give {self.kept}",
            )
        ]

    def first_batch(self, batch: Batch, records: Records) -> list[Finding]:
        if batch.index or _drops(self.ready):
            return []
        return untouched(batch.trees, records, self._bounds, "in the first batch")

    def foresee(self, update: int, norm: float) -> list[Finding]:
        """Move the followed weights as the optimizer should; check that the norm for clipping is
        the gradient's.
        """
        if not self.following(update):
            return []
        if low := self.weights.too_low():
            return low
        self._before = self.weights.values()
        wanted = self.weights.foresee(update)
        if math.isclose(norm, wanted, rel_tol=1e-3, abs_tol=1e-12):
            return []
        return [
            broken(
                "update",
                f"the gradient's norm is {wanted:.6g}; the run takes it for {norm:.6g}, and clips"
                " by that",
            )
        ]

    def baseline(self, batch: Batch, records: Records) -> list[Finding]:
        """Compute the baseline of a coupled objective again from its mismatched rows: in the second
        update, since in the first it is 0 in any case, and now and then.
        """
        learner, step = self.ready.learner, batch.index
        context = learner.objective.context
        due = step - self.first == 1 or step % (10 * EVERY) == EVERY
        assert context is not None, "only where the batch has a baseline"
        if not batch.mismatched or not due:
            return []
        groups = [
            [batch.mismatched[i] for i in group]
            for group in micro_batches(batch.mismatched, learner.micro_tokens)
        ]
        policy = Logps.join([learner.forward.token_logps(group).reduce() for group in groups])
        wanted = context(policy, Logps.join([learner.reference_logps(group) for group in groups]))
        # rounding in other micro-batches
        nats = self._bounds.mean * policy.count.double().mean().item()
        gap = abs(baseline_of(records) - next(iter(wanted.values())).item())
        if gap <= nats:
            return []
        says = (
            f"the baseline of update {step} is {baseline_of(records):.4g} nats; its mismatched rows"
            f" give {gap:.2g} more or less"
        )
        return [
            broken(
                "baseline",
                says,
                "it is of other rows, or of other weights than those of this update",
            )
        ]

    def ratios_are_one(self, batch: Batch, records: Records) -> list[Finding]:
        """Check that every ratio is 1 in the first update of a batch of answers, which the policy
        itself drew.
        """
        if not self.ready.source.is_fresh(batch.index) or _drops(self.ready):
            return []
        gap = (records["sum/ratio_gap"].sum() / records["tokens"].sum()).item()
        if gap <= self._bounds.answer:
            return []
        says = (
            f"update {batch.index}: the policy is {gap:.3g} nats a token from the one that drew its"
            " answers, before it has moved"
        )
        return [broken("on_policy", says, "stale answers, or log-probs of other tokens")]

    # ------------------------------------------------------------ after an update

    def followed(self, step: int) -> list[Finding]:
        return self.weights.verify(self._before, step) if self.following(step - 1) else []

    def moving_reference(self, step: int) -> list[Finding]:
        assert self.follower is not None, "only where the reference moves"
        return self.follower.check(step)

    def moved(self, step: int, metrics: dict) -> list[Finding]:
        due = step == min(self.first + FOLLOWED, self.ready.steps)
        objective = self.ready.learner.objective
        why, fix = why_no_gradient(metrics, objective.judge.options)
        return self.weights.moved(why, for_parts(fix, objective)) if due else []

    def _looks(self, step: int) -> bool:
        """Tell whether the probe rows and the frozen parameters are checked now."""
        return step - self.first in (1, 2) or step % EVERY == 0

    def frozen(self, step: int) -> list[Finding]:
        if not self._looks(step):
            return []
        for name, now in still(self.ready):
            if not torch.equal(now, self.still[name]):
                return [
                    broken(
                        "frozen",
                        f"{name} does not train, and has changed: the reference changes with it",
                        tensor=name,
                    )
                ]
        return []

    def reference_stays(self, step: int) -> list[Finding]:
        assert self.known is not None, "only where the reference stays"
        if not self._looks(step):
            return []
        drift = distance(self.ready.learner.reference_logps(self.probe), self.known).max().item()
        if drift <= DRIFT:
            return []
        says = (
            f"after {step} updates the reference's log-probs of fixed rows have moved by"
            f" {drift:.3g} nats a token: it must not move"
        )
        return [
            broken(
                "reference",
                says,
                "something that trains is part of the reference, or its log-probs are mixed up",
                nats=drift,
            )
        ]

    def path(self, step: int) -> list[Finding]:
        if not self._looks(step) or (step > 10 * EVERY and step % (10 * EVERY)):
            return []
        forward = self.ready.learner.forward
        wanted = sums_by_definition(forward.model, self.probe)
        gap = distance(forward(self.probe).reduce(), wanted)
        if gap.mean().item() <= allowed_mean(forward.model, self.probe, wanted):
            return []
        says = (
            f"after {step} updates the forward path differs from the bare network by"
            f" {gap.mean():.3g} {forward.model.unit}"
        )
        return [
            broken(
                "path",
                says,
                "the path skips or doubles what was trained, drops units, or mixes rows; try"
                " model.forward=padded",
            )
        ]

    # ------------------------------------------------------------ samples, evaluations, checkpoints

    def drawn(self, prompts: Sequence[Sequence[int]], samples: Sequence[Sample]) -> list[Finding]:
        """Check that two samples have, under the policy in the bare network, the log-prob that they
        were drawn with.
        """
        model = self.ready.model
        trees = [
            Tree(tuple(prompt), (said.tokens,), row)
            for row, (prompt, said) in enumerate(zip(prompts, samples, strict=True))
            if said.tokens
        ][:2]
        if not trees:
            return []
        sums = sums_by_definition(model, trees)
        drawn = torch.tensor([samples[tree.row].logprob for tree in trees], device=sums.sum.device)
        gap = distance(Logps(drawn, sums.count), sums).mean().item()
        most = 3 * DRAWN[model.dtype]
        if gap <= min(max(DRAWN[model.dtype], allowed_mean(model, trees, sums)), most):
            return []
        says = (
            f"samples were drawn at log-probs that the policy does not give them: {gap:.3g}"
            f" {model.unit} apart"
        )
        return [
            broken("samples", says, "the sampler skips what was trained, or computes another model")
        ]

    def undisturbed(self, before: Mapping[str, object]) -> list[Finding]:
        """Report what an evaluation changed."""
        found = []
        for name, was in before.items():
            now = self._state_of(name)
            same = (
                torch.equal(was, now)
                if isinstance(was, Tensor) and isinstance(now, Tensor)
                else was == now
            )
            if not same:
                says = f"evaluating changed {name}: it must leave the run as it was"
                found.append(broken("evaluation", says))
        return found

    def state(self) -> dict[str, object]:
        return {
            name: self._state_of(name)
            for name in (
                "the random state",
                "the modules' modes",
                "what trains",
                "gradients",
                "weights",
            )
        }

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
        values = [
            *self.weights.values().values(),
            *_moments(optimizer),
            *(v for _, v in still(self.ready)),
        ]
        return torch.cat(values)

    def first_held_out(
        self, held_out: Sequence[Tree], records: Records, step: int
    ) -> list[Finding]:
        return [] if step else untouched(held_out, records, self._bounds, "on the held-out rows")

    def written(self, path: Path, tensors: Mapping[str, Tensor]) -> list[Finding]:
        """Read the first checkpoint of this process back: every tensor of the run's state, bit for
        bit.
        """
        if self._saved:
            return []
        self._saved = True
        return checkpoint_findings(path / "tensors.safetensors", tensors)


def choose_checks(ready: PreparedRun, step: int) -> RecordChecks:
    """Choose the checks of a run that starts or continues at some step."""
    return InvariantChecks(ready, step)


def checkpoint_findings(file: Path, held: Mapping[str, Tensor]) -> list[Finding]:
    """Compare a checkpoint on disk with the state in memory."""
    written = load_file(file)
    differs = [
        name
        for name in held
        if name not in written or not torch.equal(written[name], held[name].cpu())
    ]
    if not differs:
        return []
    says = (
        f"{file.parent.name} does not hold the state in memory: {len(differs)} tensors differ or"
        f" are missing, such as {differs[0]}"
    )
    return [
        broken(
            "checkpoint",
            says,
            "a resumed run would go on from something else; report this",
            tensors=differs[:10],
        )
    ]


def _drops(ready: PreparedRun) -> bool:
    """Tell whether adapters drop units while training: log-ratios of the first batch are not 0
    then.
    """
    return ready.config.model.lora is not None and ready.config.model.lora.dropout > 0


def _moments(optimizer: Optimizer) -> Iterator[Tensor]:
    for master in optimizer.inner.state:
        for tensor in optimizer.state_of(master).values():
            yield at(tensor, spread(tensor))
