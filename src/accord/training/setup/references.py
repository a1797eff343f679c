"""The choice of a run's reference, and the pass that caches its log-probs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from accord.config.schema import MovingConfig
from accord.engine.batch_source import BatchSource
from accord.engine.moving_reference import Moving
from accord.engine.step import UpdateContext, make_batch
from accord.forward.choose import Forward
from accord.forward.reference import AdaptersOff, Base, Cached, Frozen, Reference
from accord.objectives import BoundObjective
from accord.runs.display import Display
from accord.runs.files import writing
from accord.runs.signals import Stop
from accord.types import Finding, Tree, UsageError


def choose_reference(
    wanted: str, objective: BoundObjective, *, adapters: bool, repeats: bool, incoming: bool = False
) -> tuple[str, str]:
    """Choose the kind of reference; return it and one line on why.

    Args:
      wanted: what the config says.
      adapters: whether adapters train, so that the base is still there.
      repeats: whether rows come more than once.
      incoming: whether training goes on from an adapter.

    Raises:
      UsageError: a combination that makes no sense.
    """
    if not objective.reference:
        if wanted not in ("auto", "none"):
            raise UsageError(
                f"reference = {wanted}, but {objective.name} uses none. Leave it at auto."
            )
        return "none", f"reference: none; {objective.name} does not use one"
    if wanted == "none":
        raise UsageError(
            f"reference = none, but {objective.name} is measured against one. Leave it at auto."
        )
    if wanted == "adapter_off" and not adapters:
        raise UsageError(
            "reference = adapter_off needs adapters, and all weights train. Use cached or frozen."
        )
    if wanted == "base":
        return _base(adapters, incoming)
    if wanted == "moving":
        copied = (
            "a second adapter, mixed factor by factor" if adapters else "a second model in memory"
        )
        return wanted, f"reference: moving, as configured; {copied}; its log-probs are never kept"
    if wanted != "auto":
        return wanted, f"reference: {wanted}, as configured"
    if not adapters:
        return (
            "cached",
            (
                "reference: the initial weights, their log-probs cached before training (no second"
                " model in memory)"
            ),
        )
    if repeats:
        return (
            "cached",
            (
                "reference: the model without its adapters, log-probs cached since rows come more"
                " than once"
            ),
        )
    return (
        "adapter_off",
        "reference: the model without its adapters (or with the adapter it started from)",
    )


def _base(adapters: bool, incoming: bool) -> tuple[str, str]:
    if not adapters:
        raise UsageError(
            "reference = base is the model without its adapters, and all weights train. Use cached"
            " or frozen."
        )
    if not incoming:
        return (
            "adapter_off",
            "reference: base, which is the model without its adapters, since none is gone on from",
        )
    return (
        "base",
        (
            "reference: base, the model without any adapter, as configured; the adapter that"
            " training goes on from has left it already, so margins do not begin at 0"
        ),
    )


def live_reference(
    kind: str, forward: Forward, moving: MovingConfig | None = None
) -> Reference | None:
    """Make a reference that computes. For a cache: the one that fills it."""
    if kind == "none":
        return None
    if kind == "moving":
        assert moving is not None, "a config whose reference moves says how"
        return Moving.of(forward, moving)
    if kind == "base":
        return Base(forward)
    if forward.model.has_adapters and kind in ("adapter_off", "cached"):
        return AdaptersOff(forward)
    if kind == "cached":
        # the policy itself: only until the first update, which is when the cache is filled
        return Frozen(forward)
    return Frozen.copy_of(forward)


def cached_reference(
    learner: UpdateContext,
    key: str,
    needed: Sequence[Tree],
    display: Display,
    stop: Stop,
    *,
    seed: int,
    own: Path | None = None,
) -> tuple[Cached, Finding]:
    """Open the cache of this reference and fill it for the rows that the run will see.

    Eight of them are recomputed; the finding reports the result.

    Args:
      key: stands for everything that the numbers depend on, see `full_key`.
      needed: every tree whose log-probs the run will ask for.
      seed: which rows are recomputed.
      own: the run's own copy of its part of the cache; written if there is none.
    """
    live = learner.reference
    assert live is not None, "a cache is filled from a reference that computes"
    cache = Cached.under(key, learner.forward.model.device)
    for problem in cache.load() if learner.world.first else ():
        display.line(f"reference cache: {problem}")
    if own is not None and learner.world.first and own.exists() and (problem := cache.recall(own)):
        display.line(
            f"! {own.name}: {problem}; taken from the cache or computed again, which may round"
            " otherwise"
        )

    def progress(done: int, total: int) -> None:
        stop.poll()
        display.progress("reference", done, total)

    display.phase("reference", "log-probs of the reference")
    computed = cache.fill(live, needed, 2 * learner.micro_tokens, progress, learner.world)
    if own is not None:
        learner.world.on_first(lambda: _keep(cache, own, needed))
    if cache.unkept:
        display.line(
            f"! reference cache: {cache.unkept}; its log-probs are kept for this run alone"
        )
    finding = cache.recheck(live, needed, seed, learner.forward.bounds.answer)
    says = f"{finding.says}; {computed:,} of {len(needed):,} computed now, the others were on disk"
    evidence = {**finding.evidence, "computed": computed, "needed": len(needed)}
    return cache, replace(finding, says=says, evidence=evidence)


def _keep(cache: Cached, own: Path, trees: Sequence[Tree]) -> None:
    with writing(own.parent):
        cache.keep(own, trees)


def needed_trees(learner: UpdateContext, source: BatchSource, steps: int) -> list[Tree]:
    """Return every tree whose reference log-probs the run will ask for, each once."""
    wanted: dict[tuple, Tree] = {}
    # mismatched rows differ from epoch to epoch
    coupled = learner.objective.context is not None
    updates = range(steps if coupled else min(steps, source.order.batches_of_all_rows))
    batches = [make_batch(learner, index, source.batch(index)) for index in updates]
    held_out = source.reference_trees(learner.objective)
    for tree in (*(t for batch in batches for t in (*batch.trees, *batch.mismatched)), *held_out):
        wanted.setdefault((tree.prompt, tree.completions), tree)
    return list(wanted.values())
