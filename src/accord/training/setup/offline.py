"""From a config to a run that is ready to train: everything that can be refused is refused here.

    objective ─▶ model ─▶ rows ─▶ trees ─▶ forward path ─▶ reference ─▶ proofs of step 0

A resumed run goes the same way and loads its checkpoint afterwards, so that its reference is made
from the initial weights again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from accord.config.schema import Config
from accord.data.content import content_findings
from accord.data.order import Order
from accord.data.rows import Rows
from accord.data.templates import Template
from accord.distributed.world import ALONE, World
from accord.engine.memory import fit_into_memory
from accord.engine.moving_reference import require_movement
from accord.engine.optimizer import Optimizer
from accord.engine.step import UpdateContext, make_batch
from accord.forward.choose import Forward, choose, looks_nearby
from accord.forward.sharded import choose_parallel, shard
from accord.models import fingerprint
from accord.models.language import LanguageModel
from accord.models.model_checks import model_findings
from accord.models.trainable import make_trainable, with_objective_head
from accord.objectives import BoundObjective
from accord.objectives.configured import resolve_objective
from accord.runs.display import Display
from accord.runs.folder import RunFolder
from accord.runs.identity import require_one_run
from accord.runs.ranks import shares_of
from accord.runs.signals import Stop
from accord.training.prepared import PreparedRun
from accord.training.setup.common import (
    NEIGHBOURS,
    load_model,
    measure_ties,
    positions_of,
    prove_rows,
    require_accepted,
    stop_ids,
    suggested_rate,
    template_of,
)
from accord.training.setup.references import cached_reference, choose_reference, live_reference
from accord.training.setup.reward_models import padding_findings, require_whole, take_margins
from accord.training.setup.rows import (
    held_out_of,
    load_held_out,
    load_rows,
    near_overlap,
    overlap,
    row_findings,
)
from accord.training.setup.sample_prompts import SamplePrompt, choose_sample_prompts
from accord.types import DataError, Finding, Refused, Tree, UsageError
from accord.verify.independent import order_finding
from accord.verify.preflight import probe

SHARDED = Finding(
    "running",
    "note",
    "weights are sharded: proofs by the bare network, checks of weights, reference and path while"
    " training, and samples are off",
)


def prepare(
    config: Config,
    display: Display,
    stop: Stop,
    *,
    folder: RunFolder | None = None,
    account_rows: bool = True,
    dry_run: bool = False,
    world: World = ALONE,
) -> PreparedRun:
    """Load, check and prove everything; a dry run leaves out the pass that fills the reference
    cache.

    Args:
      folder: where the run's own copy of cached reference log-probs lies.
      account_rows: write there what became of the rows, before anything is refused.
      world: the ranks that train; each loads, checks and proves for itself, and they must come to
        the same.

    Raises:
      UsageError, DataError, Refused: in words, with the remedy.
    """
    if config.rollouts is not None:
        from accord.training.setup.rollouts import prepare_rollouts  # built of what stands below

        return prepare_rollouts(
            config,
            display,
            stop,
            folder=folder if account_rows else None,
            records=folder,
            dry_run=dry_run,
            world=world,
        )
    objective = resolve_objective(config)
    model = load_model(config, display, stop, world)
    template, rows, held_out_rows = _read(
        config, objective, model, display, folder if account_rows else None
    )
    found = _checked(config, objective, template, rows, held_out_rows, model)
    stop.poll()
    model = with_objective_head(model, objective, config)
    found += padding_findings(model, rows)
    weights = make_trainable(config, model)
    display.phase("forward", "comparing the forward path with the model's own log-probs")
    forward = choose(model, _telling(model, rows.trees), config.model.forward)
    order, steps = plan_order(config, rows.trees)
    kind, why = choose_reference(
        config.reference,
        objective,
        adapters=model.peft is not None,
        repeats=steps > order.batches_per_epoch,
        incoming=config.model.adapter is not None,
    )
    sharded = choose_parallel(config.train.parallel, world, adapters=model.peft is not None)
    require_whole(objective, sharded)
    require_movement(config.moving, steps, sharded=sharded)
    found.append(Finding("reference", "ok", why))
    learner = _learner(config, objective, forward, kind, world, sharded)
    world = learner.world
    found += [SHARDED] if sharded else []
    peak = config.train.learning_rate or suggested_rate(objective, model)
    ready = PreparedRun(
        config,
        model,
        template,
        rows,
        held_out_rows,
        held_out_of(config, held_out_rows, objective),
        order,
        steps,
        peak,
        learner,
        Optimizer(model.trainable(), config.train, peak, steps),
        kind,
        weights,
        fingerprint.tokenizer(model.tokenizer),
        found,
    )
    ready.asked = _asked(ready)
    world.agree(stop.poll)
    ready.findings += shares_of(ready)
    _require_batches(ready)
    _prove(ready, display)
    if kind == "cached" and not dry_run:
        _fill_reference(ready, display, stop, folder)
    _measure_ties(ready)
    ready.learner = replace(ready.learner, micro_tokens=fit_into_memory(ready))
    require_accepted(ready.findings, Refused)
    require_one_run(world, ready.identity())
    return ready


def _fill_reference(
    ready: PreparedRun, display: Display, stop: Stop, folder: RunFolder | None
) -> None:
    """The pass that fills the reference cache, of which the run keeps a copy of its own."""
    own = folder.reference if folder is not None else None
    ready.learner = replace(ready.learner, reference=cached_reference(ready, display, stop, own))


def _read(
    config: Config,
    objective: BoundObjective,
    model: LanguageModel,
    display: Display,
    folder: RunFolder | None,
) -> tuple[Template, Rows, Rows | None]:
    """The template, the training rows and the held-out rows; what became of them goes into
    `folder`, where there is one.
    """
    template = template_of(config, model)
    rows = load_rows(config, config.data.train, objective.rows, template, display)
    held_out_rows = load_held_out(config, objective, template, display)
    if folder is not None:
        write_account(folder, rows, held_out_rows)
    return template, rows, held_out_rows


def _asked(ready: PreparedRun) -> list[SamplePrompt]:
    """What samples answer: token by token, by the first rank, which needs the weights whole; a
    reward model answers nothing.
    """
    learner = ready.learner
    if learner.world.sharded or learner.objective.needs != "logps":
        return []
    return choose_sample_prompts(
        ready.config, ready.template, ready.held_out_rows, positions_of(ready.model)
    )


def _learner(
    config: Config,
    objective: BoundObjective,
    forward: Forward,
    kind: str,
    world: World,
    sharded: bool,
) -> UpdateContext:
    """What every update goes through; a frozen copy is taken of the whole weights, before they are
    sharded.
    """
    reference = live_reference(kind, forward, config.moving)
    if sharded:
        forward, world = shard(forward, world)
        reference = reference if kind == "frozen" else live_reference(kind, forward)
    return UpdateContext(
        forward, objective, reference, config.train.micro_tokens, config.train.seed, world
    )


def _telling(model: LanguageModel, trees: Sequence[Tree]) -> list[Tree]:
    """Rows that a forward path is tried on; the longest too where attention looks at a window
    alone.
    """
    shown = probe(trees[:64])
    return [*shown, max(trees, key=lambda tree: tree.tokens)] if looks_nearby(model) else shown


def _require_batches(ready: PreparedRun) -> None:
    """Make every batch whose rows depend on each other: one of a single prompt would stop the run
    in its middle.
    """
    if ready.learner.objective.context is not None:
        for index in range(ready.steps):
            make_batch(ready.learner, index, ready.batch_trees(index))


def _measure_ties(ready: PreparedRun) -> None:
    """The width of a tie, on the run's first rows."""
    batches = (ready.batch_trees(index) for index in range(min(ready.steps, NEIGHBOURS)))
    first = list({tree.row: tree for trees in batches for tree in trees}.values())[:NEIGHBOURS]
    measure_ties(ready, first)


def plan_order(config: Config, trees: Sequence[Tree]) -> tuple[Order, int]:
    """The order of the rows, and how many updates to make."""
    train = config.train
    if train.pair_labels:
        require_pairs_of_labels(trees, train.batch_size)
        order = Order(len(trees), min(train.batch_size, len(trees)), train.seed, unit=2)
    else:
        labels = {tree.desirable for tree in trees}
        strata = tuple(int(bool(tree.desirable)) for tree in trees) if len(labels) > 1 else None
        order = Order(len(trees), min(train.batch_size, len(trees)), train.seed, strata)
    steps = train.steps or max(1, round((train.epochs or 1) * order.batches_per_epoch))
    return order, steps


def require_pairs_of_labels(trees: Sequence[Tree], batch_size: int) -> None:
    """
    Raises:
      UsageError: train.pair_labels, where the rows are not the two labels of each pair, or a batch
        would split one.
    """
    # not strict: a row left over is refused below, with words
    twos = list(zip(trees[::2], trees[1::2], strict=False))
    whole = all(
        good.desirable and bad.desirable is False and good.prompt == bad.prompt
        for good, bad in twos
    )
    if len(trees) % 2 or not whole or batch_size % 2:
        raise UsageError(
            "train.pair_labels keeps the two labels of a pair in one batch: it needs an objective"
            " of labels, a file of pairs of which both answers are usable, and an even"
            " train.batch_size. Leave it out (--set train.pair_labels=false)."
        )


def write_account(folder: RunFolder, rows: Rows, held_out: Rows | None) -> None:
    """data.json and rejected.jsonl: what came in, what was used, and every row that was not."""
    sides = {"train": rows} | ({"held_out": held_out} if held_out is not None else {})
    folder.write_data({name: side.record() for name, side in sides.items()})
    folder.write_rejected(
        [
            r
            for side in sides.values()
            for r in (*side.dataset.ledger.rejected, *side.encoding.unfit)
        ]
    )


def _checked(
    config: Config,
    objective: BoundObjective,
    template: Template,
    rows: Rows,
    held_out: Rows | None,
    model: LanguageModel,
) -> list[Finding]:
    """What the checks on both files say; refuses what is unfit."""
    found = row_findings(config, rows, template, "training rows", stop_ids(model))
    found += content_findings([rows.encoding.examples[tree.row] for tree in rows.trees])
    if held_out is not None:
        found += row_findings(config, held_out, template, "held-out rows", stop_ids(model))
        found += [overlap(config, rows, held_out), near_overlap(rows, held_out)]
    found += model_findings(model, [*rows.trees, *(held_out.trees if held_out is not None else ())])
    found += _label_findings(objective, rows)
    for name, side in {"training rows": rows, "held-out rows": held_out}.items():
        found += take_margins(side, objective, name) if side is not None else []
    unfit = any(
        f.refused
        for f in found
        if f.check in ("data.ledger", "data.leak", "data.labels", "data.margin")
    )
    # all that is wrong, at once: the first may only be a consequence
    require_accepted(found, DataError if unfit else Refused)
    return found


def _label_findings(objective: BoundObjective, rows: Rows) -> list[Finding]:
    """Labels all alike teach nothing but drift; and the balance that KTO's weights should answer
    to.
    """
    if objective.rows != "labelled":
        return []
    good = sum(bool(tree.desirable) for tree in rows.trees)
    bad = len(rows.trees) - good
    evidence = {"desirable": good, "undesirable": bad}
    if not good or not bad:
        says = (
            f"all {len(rows.trees):,} labels are {'desirable' if good else 'undesirable'}: there is"
            " nothing to compare"
        )
        return [
            Finding(
                "data.labels",
                "refused",
                says,
                evidence,
                "add rows of the other label, or train with sft",
            )
        ]
    weights = objective.options
    ratio = (
        weights.get("desirable_weight", 1.0) * good / (weights.get("undesirable_weight", 1.0) * bad)
    )
    says = f"{good:,} desirable and {bad:,} undesirable rows; weighted ratio {ratio:.2f}"
    if 0.99 <= ratio <= 1.51:
        return [Finding("data.labels", "ok", says + ", within the paper's 1 to 1.5", evidence)]
    remedy = (
        f"--set objective.desirable_weight={bad / good:.3g}"
        if good < bad
        else f"--set objective.undesirable_weight={good / bad:.3g}"
    )
    return [
        Finding("data.labels", "note", says + "; the KTO paper advises 1 to 1.5", evidence, remedy)
    ]


def _prove(ready: PreparedRun, display: Display) -> None:
    """The proofs on rows of the first batch, the shortest of them: proofs hold whole logits, and
    take turns.
    """
    rows = ready.file_rows.trees
    prove_rows(ready, [*ready.batch_trees(0), *rows[:64]], display)
    ready.findings.append(order := order_finding(ready.order, rows))
    require_accepted([order], Refused)
