"""The choice of a run's reference, and the pass that caches its log-probs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from accord.config.schema import MovingConfig
from accord.data.lazy import Lazy
from accord.data.order import mismatched_places, with_answer_of
from accord.data.tree_table import Trees, prompt_hash
from accord.engine.moving_reference import Moving
from accord.engine.step import UpdateContext, batch_seed
from accord.forward.choose import Forward
from accord.forward.reference import AdaptersOff, Base, Cached, Frozen, Reference
from accord.forward.reference import key as content_key
from accord.objectives import BoundObjective
from accord.runs.display import Display
from accord.runs.files import writing
from accord.runs.signals import Stop
from accord.training.file_source import FileSource
from accord.types import Finding, Tree, UsageError

OWN = -1  # in the place of a donor: a row has its own answers


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
    shared = "shared" in learner.objective.columns
    cache = Cached.under(key, learner.forward.model.device, shared)
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


class NeededTrees(Lazy[Tree]):
    """Trees whose reference log-probs a run asks for, made when they are asked for: rows of its
    file, rows with the first answer of another, and held-out trees behind them.

    Args:
      own: the place of each row in `trees`, [N].
      donors: the place of the row whose answer it gets, [N]; OWN where it keeps its own.
    """

    def __init__(
        self, trees: Trees, own: np.ndarray, donors: np.ndarray, held_out: Sequence[Tree]
    ) -> None:
        self.trees, self.own, self.donors, self.held_out = trees, own, donors, held_out

    def __len__(self) -> int:
        return len(self.own) + len(self.held_out)

    def made(self, at: int) -> Tree:
        if at >= len(self.own):
            return self.held_out[at - len(self.own)]
        tree, donor = self.trees[self.own[at]], self.donors[at]
        return tree if donor == OWN else with_answer_of(tree, self.trees[donor])

    def once(self) -> NeededTrees:
        """Return each tree once: where it comes first."""
        pairs = self.own * (len(self.trees) + 1) + self.donors
        kept = np.zeros(len(self), bool)
        kept[np.unique(pairs, return_index=True)[1]] = True  # no place twice
        kept[len(self.own) :] = True
        kept[self._repeated(np.flatnonzero(kept))] = False
        rows, behind = kept[: len(self.own)], kept[len(self.own) :]
        held_out = [tree for tree, keep in zip(self.held_out, behind, strict=True) if keep]
        return NeededTrees(self.trees, self.own[rows], self.donors[rows], held_out)

    def _repeated(self, places: np.ndarray) -> list[int]:
        """Return the places of trees that are the same, token by token, as one before. Only trees
        of one prompt are made and compared.
        """
        theirs = np.array([prompt_hash(tree.prompt) for tree in self.held_out], np.uint64)
        hashes = np.concatenate([self.trees.prompt_hashes[self.own].astype(np.uint64), theirs])
        order = places[np.argsort(hashes[places], kind="stable")]
        _, starts, counts = np.unique(hashes[order], return_index=True, return_counts=True)
        several = counts > 1
        found: list[int] = []
        for start, count in zip(starts[several], counts[several], strict=True):
            seen: set[bytes] = set()
            for place in order[start : start + count]:
                tree = self[place]
                content = b"".join(content_key(tree.prompt, each) for each in tree.completions)
                if content in seen:
                    found.append(int(place))
                seen.add(content)
        return found


def needed_trees(learner: UpdateContext, source: FileSource, steps: int) -> NeededTrees:
    """Return every tree whose reference log-probs the run will ask for, each once."""
    # mismatched rows differ from epoch to epoch
    coupled = learner.objective.context is not None
    updates = range(steps if coupled else min(steps, source.order.batches_of_all_rows))
    own, donors = [], []
    for index in updates:
        rows = source.order.batch(index)
        own.append(rows)
        donors.append(np.full(len(rows), OWN))
        if coupled:
            prompts = [tree.prompt for tree in source.batch(index)]
            places = np.array(mismatched_places(prompts, batch_seed(learner, index))).reshape(-1, 2)
            own.append(rows[places[:, 0]])
            donors.append(rows[places[:, 1]])
    held_out = source.reference_trees(learner.objective)
    return NeededTrees(
        source.rows.trees, np.concatenate(own), np.concatenate(donors), held_out
    ).once()
